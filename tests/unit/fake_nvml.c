// SPDX-License-Identifier: Apache-2.0
//
// As much of libnvidia-ml.so.1 as agent/device/nvml.c asks for. What it says stands in the
// environment: FAKE_NVML is "idle", "busy:PID", "lost", "hang" or "broken". It knows the GPU with
// the UUID "GPU-fake" and one whose node has the minor number 7.
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct process {
	unsigned pid;
	unsigned long long memory;
	unsigned gpu_instance, compute_instance;
};

struct memory {
	unsigned long long total, free, used;
};

int nvmlInit_v2(void);
int nvmlDeviceGetHandleByUUID(const char *uuid, void **device);
int nvmlDeviceGetCount_v2(unsigned *count);
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **device);
int nvmlDeviceGetMinorNumber(void *device, unsigned *minor);
int nvmlDeviceGetComputeRunningProcesses_v2(void *device, unsigned *count, struct process *p);
int nvmlDeviceGetMemoryInfo(void *device, struct memory *memory);
const char *nvmlErrorString(int error);

static char gpu;

static const char *mode(void)
{
	const char *s = getenv("FAKE_NVML");
	return s ? s : "idle";
}

int nvmlInit_v2(void)
{
	while (strcmp(mode(), "hang") == 0)
		pause();
	return strcmp(mode(), "broken") == 0 ? 9 : 0;
}

int nvmlDeviceGetHandleByUUID(const char *uuid, void **device)
{
	*device = &gpu;
	return strcmp(uuid, "GPU-fake") == 0 ? 0 : 6;
}

int nvmlDeviceGetCount_v2(unsigned *count)
{
	*count = 2;
	return 0;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **device)
{
	*device = &gpu;
	return index == 0 ? 15 : 0; // the other GPU is lost
}

int nvmlDeviceGetMinorNumber(void *device, unsigned *minor)
{
	(void)device;
	*minor = 7;
	return 0;
}

int nvmlDeviceGetComputeRunningProcesses_v2(void *device, unsigned *count, struct process *p)
{
	(void)device;
	if (strcmp(mode(), "lost") == 0)
		return 15;
	*count = strncmp(mode(), "busy:", 5) == 0;
	if (*count)
		p[0] = (struct process){.pid = (unsigned)strtoul(mode() + 5, NULL, 10)};
	return 0;
}

int nvmlDeviceGetMemoryInfo(void *device, struct memory *memory)
{
	(void)device;
	memory->used = 12300000000;
	return 0;
}

const char *nvmlErrorString(int error)
{
	return error == 15 ? "GPU is lost" : "unknown";
}
