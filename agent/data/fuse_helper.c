// SPDX-License-Identifier: Apache-2.0
#include "agent/data/fuse_helper.h"

#include "base/file.h"
#include "base/text.h"
#include "base/time.h"

#include <poll.h>
#include <sys/mount.h>
#include <unistd.h>

enum { TICK_MS = 20, CUT_MS = 3000 };

bool fuse_is_installed(const char *program)
{
	const char *path = getenv("PATH");
	if (strchr(program, '/'))
		return access(program, X_OK) == 0;
	for (path = path ? path : "/usr/local/bin:/usr/bin:/bin"; *path;) {
		size_t n = strcspn(path, ":");
		cleanup_free char *file = xasprintf("%.*s/%s", (int)n, path, program);
		if (*file == '/' && access(file, X_OK) == 0)
			return true;
		path += n + (path[n] == ':');
	}
	return false;
}

// ---- mount and start

static int mount_device(const struct data_mount *m, int fd, struct error *err)
{
	unsigned long flags = MS_NOSUID | MS_NODEV;
	cleanup_free char *options =
		xasprintf("fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other", fd);
	cleanup_free char *type = xasprintf("fuse.%s", m->program);
	if (m->source->mode != DATA_RW_MOUNT)
		flags |= MS_RDONLY;
	if (mount("stoker", m->path, type, flags, options) < 0)
		return error_set_errno(err, errno, "mount FUSE on %s", m->path);
	return 0;
}

static int start(
	struct data_mount *m, const struct fuse_plan *plan, int image_fd, struct error *err)
{
	cleanup_fd int write_fd = -1, device = -1;
	m->program = m->source->profile ? m->source->profile : plan->program;
	if (helper_log_open(&m->log, &write_fd, err) < 0)
		return -1;
	for (size_t i = 0; i < plan->hidden.count; i++)
		helper_log_hide(&m->log, plan->hidden.items[i]);
	if (plan->takes_fd) {
		device = open("/dev/fuse", O_RDWR | O_CLOEXEC);
		if (device < 0)
			return error_set_errno(err, errno, "open /dev/fuse");
		if (mount_device(m, device, err) < 0)
			return -1;
	}
	struct process_fd fds[4] = {{write_fd, 1}, {write_fd, 2}};
	size_t count = 2;
	if (device >= 0)
		fds[count++] = (struct process_fd){device, FUSE_PLAN_FD};
	if (image_fd >= 0)
		fds[count++] = (struct process_fd){image_fd, FUSE_PLAN_FD + 1};
	const struct process_options options = {
		.file = plan->argv[0],
		.argv = plan->argv,
		.envp = plan->envp,
		.fds = fds,
		.fd_count = count,
		.die_with_parent = true,
		.new_session = true, // a group of its own; no terminal's signals
	};
	return process_start(&options, &m->helper, err);
}

// ---- ready

// Whatever says so itself is told as what it is.
static enum data_failure failure_of(const char *words)
{
	static const struct {
		const char *word;
		enum data_failure failure;
	} known[] = {
		{"NoSuchBucket", DATA_NOT_FOUND},
		{"ucket not found", DATA_NOT_FOUND},
		{"does not exist", DATA_NOT_FOUND},
		{"irectory not found", DATA_NOT_FOUND},
		{"ContainerNotFound", DATA_NOT_FOUND},
		{"AccessDenied", DATA_FORBIDDEN},
		{"Forbidden", DATA_FORBIDDEN},
		{"InvalidAccessKeyId", DATA_AUTHENTICATION},
		{"SignatureDoesNotMatch", DATA_AUTHENTICATION},
		{"invalid credentials", DATA_AUTHENTICATION},
		{"ould not determine how to establish security credentials", DATA_AUTHENTICATION},
		{"onnection refused", DATA_NETWORK},
		{"no such host", DATA_NETWORK},
	};
	for (size_t i = 0; i < array_size(known); i++)
		if (strstr(words, known[i].word))
			return known[i].failure;
	return DATA_HELPER_DIED;
}

static int helper_ended(struct data_mount *m, enum data_failure *failure, struct error *err)
{
	char text[64];
	int status = 0;
	process_wait(&m->helper, &status, err);
	helper_log_read(&m->log);
	helper_log_flush(&m->log);
	const char *last = helper_log_last(&m->log);
	*failure = failure_of(last);
	return error_set(err, ERROR_UNAVAILABLE, "%s %s before anything was mounted%s%s",
		m->program, process_describe_status(status, text), *last ? ": " : "", last);
}

bool fuse_helper_has_ended(struct data_mount *m, int wait_ms)
{
	struct pollfd p[] = {
		{.fd = m->helper.pidfd, .events = POLLIN}, {.fd = m->log.fd, .events = POLLIN}};
	poll(p, 2, wait_ms);
	helper_log_read(&m->log);
	return p[0].revents & POLLIN;
}

static int not_ready(struct data_mount *m, enum data_failure *failure, struct error *err)
{
	const char *last = helper_log_last(&m->log);
	*failure = DATA_TIMEOUT;
	return error_set(err, ERROR_UNAVAILABLE, "%s has mounted nothing in time%s%s", m->program,
		*last ? ": " : "", last);
}

static bool process_ends(const struct process *p, int wait_ms)
{
	struct pollfd wait = {.fd = p->pidfd, .events = POLLIN};
	return poll(&wait, 1, wait_ms) > 0;
}

static int wait_ready(struct data_mount *m, bool mounted, int64_t deadline_ms,
	enum data_failure *failure, struct error *err)
{
	while (!mounted) {
		struct mount_seen seen;
		if (fuse_helper_has_ended(m, TICK_MS))
			return helper_ended(m, failure, err);
		int found = mount_find(m->path, &seen, err);
		if (found < 0)
			return -1;
		mounted = found > 0 && seen.fuse;
		if (!mounted && now_ms() > deadline_ms)
			return not_ready(m, failure, err);
	}
	if (mount_probe(m->path, true, deadline_ms, failure, err) == 0)
		return 0;
	// Cut off in the midst of the look: its end comes a moment later.
	bool cut = *failure == DATA_HELPER_DIED;
	if (fuse_helper_has_ended(m, 0) || (cut && process_ends(&m->helper, CUT_MS)))
		return helper_ended(m, failure, err);
	helper_log_flush(&m->log);
	const char *last = helper_log_last(&m->log);
	return error_context(err, "%s%s%s", m->program, *last ? ": " : "", last);
}

int fuse_helper_run(struct data_mount *m, const struct fuse_plan *plan, int image_fd,
	int64_t deadline_ms, enum data_failure *failure, struct error *err)
{
	*failure = DATA_FAILED;
	if (start(m, plan, image_fd, err) < 0)
		return -1;
	return wait_ready(m, plan->takes_fd, deadline_ms, failure, err);
}
