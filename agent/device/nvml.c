// SPDX-License-Identifier: Apache-2.0
//
// The functions and structures are those of nvml.h, API version 12.
#include "agent/device/nvml.h"

#include "base/file.h"
#include "base/time.h"

#include <dlfcn.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

enum { REAP_TRIES = 100, REAP_PAUSE_MS = 2 };
enum { NVML_SUCCESS = 0, NVML_INSUFFICIENT_SIZE = 7, NVML_GPU_IS_LOST = 15 };

typedef void *nvml_device;

struct nvml_process {
	unsigned pid;
	unsigned long long memory;
	unsigned gpu_instance, compute_instance;
};

struct nvml_memory {
	unsigned long long total, free, used;
};

struct nvml {
	int (*init)(void);
	int (*by_uuid)(const char *, nvml_device *);
	int (*count)(unsigned *);
	int (*by_index)(unsigned, nvml_device *);
	int (*minor)(nvml_device, unsigned *);
	int (*processes)(nvml_device, unsigned *, struct nvml_process *);
	int (*memory)(nvml_device, struct nvml_memory *);
	const char *(*describe)(int);
};

// Older drivers have the second name only; both take the same structure.
static const struct {
	size_t offset;
	const char *name, *older;
} functions[] = {
	{offsetof(struct nvml, init), "nvmlInit_v2", NULL},
	{offsetof(struct nvml, by_uuid), "nvmlDeviceGetHandleByUUID", NULL},
	{offsetof(struct nvml, count), "nvmlDeviceGetCount_v2", NULL},
	{offsetof(struct nvml, by_index), "nvmlDeviceGetHandleByIndex_v2", NULL},
	{offsetof(struct nvml, minor), "nvmlDeviceGetMinorNumber", NULL},
	{offsetof(struct nvml, processes), "nvmlDeviceGetComputeRunningProcesses_v3",
		"nvmlDeviceGetComputeRunningProcesses_v2"},
	{offsetof(struct nvml, memory), "nvmlDeviceGetMemoryInfo", NULL},
	{offsetof(struct nvml, describe), "nvmlErrorString", NULL},
};

static bool load(const char *library, struct nvml *nvml)
{
	void *handle = dlopen(library, RTLD_NOW | RTLD_LOCAL);
	for (size_t i = 0; handle && i < sizeof(functions) / sizeof(functions[0]); i++) {
		void *function = dlsym(handle, functions[i].name);
		if (!function && functions[i].older)
			function = dlsym(handle, functions[i].older);
		if (!function)
			return false;
		memcpy((char *)nvml + functions[i].offset, &function, sizeof(function));
	}
	return handle != NULL; // stays loaded: the process ends
}

static int find_device(const struct nvml *n, const char *uuid, int64_t minor, nvml_device *device)
{
	unsigned count = 0, number = 0;
	if (uuid)
		return n->by_uuid(uuid, device);
	int rc = n->count(&count);
	for (unsigned i = 0; rc == NVML_SUCCESS && i < count; i++) {
		// One GPU that is lost does not hide the others.
		if (n->by_index(i, device) == NVML_SUCCESS &&
			n->minor(*device, &number) == NVML_SUCCESS && number == minor)
			return NVML_SUCCESS;
	}
	return -1;
}

static void ask(const char *library, const char *uuid, int64_t minor, struct nvml_answer *a)
{
	struct nvml n = {0};
	struct nvml_process processes[NVML_PROCESSES_MAX] = {0};
	struct nvml_memory memory = {0};
	nvml_device device = NULL;
	unsigned count = NVML_PROCESSES_MAX;
	if (!load(library, &n) || n.init() != NVML_SUCCESS)
		return;
	int rc = find_device(&n, uuid, minor, &device);
	if (rc == NVML_SUCCESS)
		rc = n.processes(device, &count, processes);
	a->lost = rc == NVML_GPU_IS_LOST;
	if (a->lost)
		snprintf(a->problem, sizeof(a->problem), "%s", n.describe(rc));
	a->known = rc == NVML_SUCCESS || rc == NVML_INSUFFICIENT_SIZE || a->lost;
	if (rc == NVML_INSUFFICIENT_SIZE) // more than fit: these tell enough
		count = NVML_PROCESSES_MAX;
	for (unsigned i = 0; a->known && !a->lost && i < count && i < NVML_PROCESSES_MAX; i++)
		a->pids[a->count++] = (pid_t)processes[i].pid;
	if (a->count && n.memory(device, &memory) == NVML_SUCCESS)
		a->memory_used = memory.used;
}

// What the parent holds, locks above all, must not live on in a child that hangs in the driver.
static void child(int fd, pid_t parent, const char *library, const char *uuid, int64_t minor)
{
	struct nvml_answer a = {0};
	struct error ignored;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent || dup2(fd, 3) < 0 || close_range(4, ~0U, 0) < 0)
		_exit(1);
	ask(library, uuid, minor, &a);
	_exit(write_all(3, &a, sizeof(a), "pipe", &ignored) < 0);
}

static bool read_answer(int fd, int timeout_ms, struct nvml_answer *answer, bool *late)
{
	struct nvml_answer a;
	int64_t until = now_ms() + timeout_ms;
	size_t have = 0;
	*late = false;
	while (have < sizeof(a)) {
		struct pollfd p = {.fd = fd, .events = POLLIN};
		int64_t left = until - now_ms();
		int rc = poll(&p, 1, left > 0 ? (int)left : 0);
		if (rc < 0 && errno == EINTR)
			continue;
		*late = rc == 0;
		ssize_t n = rc <= 0 ? -1 : read(fd, (char *)&a + have, sizeof(a) - have);
		if (n < 0 && rc > 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return false;
		have += (size_t)n;
	}
	*answer = a;
	answer->problem[sizeof(answer->problem) - 1] = '\0';
	if (answer->count > NVML_PROCESSES_MAX)
		answer->count = NVML_PROCESSES_MAX;
	return true;
}

int nvml_ask(const char *library, const char *uuid, int64_t minor, int timeout_ms,
	struct nvml_answer *answer, struct error *err)
{
	cleanup_fd int ours = -1;
	cleanup_fd int theirs = -1;
	int fds[2];
	bool late = false;
	if (pipe2(fds, O_CLOEXEC) < 0)
		return error_set_errno(err, errno, "pipe");
	ours = fds[0];
	theirs = fds[1];
	pid_t self = getpid(), pid = fork();
	if (pid < 0)
		return error_set_errno(err, errno, "fork");
	if (pid == 0)
		child(theirs, self, library, uuid, minor);
	close(steal_fd(&theirs));
	*answer = (struct nvml_answer){0};
	if (!read_answer(ours, timeout_ms, answer, &late) && late) {
		*answer = (struct nvml_answer){.known = true, .lost = true};
		snprintf(answer->problem, sizeof(answer->problem), "no answer after %d s",
			(timeout_ms + 999) / 1000);
	}
	kill(pid, SIGKILL);
	// One that hangs in the driver does not die: it is not waited for long.
	for (int i = 0; i < REAP_TRIES && waitpid(pid, NULL, WNOHANG) == 0; i++)
		poll(NULL, 0, REAP_PAUSE_MS);
	return 0;
}
