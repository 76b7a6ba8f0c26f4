// SPDX-License-Identifier: Apache-2.0
#include "agent/data/mount.h"

#include "base/file.h"
#include "base/text.h"
#include "base/time.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { UNMOUNT_MS = 5000, DETACH_MS = 2000, STACKED_MAX = 8, MOUNTINFO_MAX = 64 * 1024 * 1024 };

const struct mount_kind *mount_kind_of(const struct data_source *s)
{
	static const struct mount_kind *const kinds[DATA_KINDS] = {
		[DATA_FUSE] = &mount_fuse,
		[DATA_NFS] = &mount_nfs,
		[DATA_CIFS] = &mount_cifs,
		[DATA_FSIMAGE] = &mount_fsimage,
	};
	bool mounted = s->mode == DATA_RO_MOUNT || s->mode == DATA_RW_MOUNT;
	return mounted ? kinds[s->kind] : NULL;
}

// ---- in a child

int mount_child_start(int (*what)(void *data), void *data, struct process *p, struct error *err)
{
	pid_t pid = fork();
	if (pid < 0)
		return error_set_errno(err, errno, "fork");
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		int sys = what(data);
		_exit(sys > 0 && sys < 256 ? sys : sys != 0);
	}
	*p = (struct process){.pid = pid, .pidfd = (int)syscall(SYS_pidfd_open, pid, 0)};
	if (p->pidfd >= 0)
		return 0;
	error_set_errno(err, errno, "pidfd_open");
	process_release(p);
	return -1;
}

// One that hangs in the kernel is killed and left to whoever reaps: a wait for it could last.
int mount_in_child(int (*what)(void *data), void *data, int64_t deadline_ms,
	enum data_failure *failure, struct error *err)
{
	struct process p;
	int status = 0;
	*failure = DATA_FAILED;
	if (mount_child_start(what, data, &p, err) < 0)
		return -1;
	struct pollfd wait = {.fd = p.pidfd, .events = POLLIN};
	int n;
	do {
		int64_t left = deadline_ms - now_ms();
		n = poll(&wait, 1, left < 0 ? 0 : left > INT32_MAX ? INT32_MAX : (int)left);
	} while (n < 0 && errno == EINTR);
	if (n <= 0)
		kill(p.pid, SIGKILL);
	pid_t done = waitpid(p.pid, &status, n > 0 ? 0 : WNOHANG);
	close_fdp(&p.pidfd);
	if (n <= 0 || done != p.pid) {
		*failure = DATA_STALLED;
		return error_set(err, ERROR_UNAVAILABLE, "it does not answer");
	}
	int sys = WIFEXITED(status) ? WEXITSTATUS(status) : EIO;
	if (!sys)
		return 0;
	*failure = sys == ENOTCONN || sys == ECONNABORTED ? DATA_HELPER_DIED
		   : sys == ENOENT			  ? DATA_NOT_FOUND
		   : sys == EACCES			  ? DATA_FORBIDDEN
		   : sys == ETIMEDOUT			  ? DATA_TIMEOUT
		   : sys == ENOSPC			  ? DATA_NO_SPACE
							  : DATA_FAILED;
	return error_set_errno(err, sys, "it does not work");
}

int mount_look(void *path)
{
	struct statfs fs;
	return statfs(path, &fs) < 0 ? errno : 0;
}

// The folder's entries are asked for by the kernel's own call, since readdir(3) allocates.
static int look_inside(void *path)
{
	char entries[4096];
	int sys = mount_look(path);
	int fd = sys ? -1 : open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return sys ? sys : errno;
	long n = syscall(SYS_getdents64, fd, entries, sizeof(entries));
	return n < 0 && errno != ENOTDIR ? errno : 0;
}

int mount_probe(const char *path, bool entries, int64_t deadline_ms, enum data_failure *failure,
	struct error *err)
{
	return mount_in_child(
		entries ? look_inside : mount_look, (void *)path, deadline_ms, failure, err);
}

// ---- what is mounted

// "\040" and the like.
static void unescape(char *text)
{
	char *out = text;
	for (const char *p = text; *p; p++, out++) {
		bool octal = p[0] == '\\' && p[1] >= '0' && p[1] <= '3' && p[2] >= '0' &&
			     p[2] <= '7' && p[3] >= '0' && p[3] <= '7';
		*out = octal ? (char)((p[1] - '0') * 64 + (p[2] - '0') * 8 + (p[3] - '0')) : *p;
		p += octal ? 3 : 0;
	}
	*out = '\0';
}

// proc_pid_mountinfo(5): id, parent, major:minor, root, point, options…, "-", type.
bool mount_line_parse(const char *line, const char *path, struct mount_seen *seen)
{
	enum { DEVICE = 2, POINT = 4 };
	const char *fields[POINT + 2] = {line};
	uint64_t minor;
	for (size_t i = 1; i < array_size(fields); i++) {
		const char *space = strchr(fields[i - 1], ' ');
		if (!space)
			return false;
		fields[i] = space + 1;
	}
	const char *colon = strchr(fields[DEVICE], ':');
	if (!colon || colon > fields[DEVICE + 1] ||
		!parse_u64_n(colon + 1, (size_t)(fields[DEVICE + 1] - colon - 2), &minor))
		return false;
	cleanup_free char *point =
		xstrndup(fields[POINT], (size_t)(fields[POINT + 1] - fields[POINT] - 1));
	unescape(point);
	const char *type = strstr(fields[POINT + 1] - 1, " - ");
	if (!streq(point, path) || !type)
		return false;
	size_t n = strcspn(type + 3, " ");
	*seen = (struct mount_seen){.minor = (unsigned)minor,
		.fuse = starts_with(type + 3, "fuse") &&
			(n == 4 || type[3 + 4] == '.')}; // not fuseblk nor fusectl
	return true;
}

int mount_find(const char *path, struct mount_seen *seen, struct error *err)
{
	cleanup_buffer struct buffer text = {0};
	int found = 0;
	if (file_read(AT_FDCWD, "/proc/self/mountinfo", MOUNTINFO_MAX, &text, err) < 0)
		return -1;
	for (char *line = text.data, *next; line && *line; line = next) {
		next = strchr(line, '\n');
		if (next)
			*next++ = '\0';
		found |= mount_line_parse(line, path, seen); // a later one lies above
	}
	return found;
}

// The kernel's list of connections, mounted nowhere: this node may not have it, and need not.
int fuse_abort(unsigned connection, struct error *err)
{
	char name[32];
	cleanup_fd int control = fsopen("fusectl", FSOPEN_CLOEXEC);
	if (control < 0 || fsconfig(control, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
		return error_set_errno(err, errno, "open the control files of FUSE");
	cleanup_fd int folder = fsmount(control, FSMOUNT_CLOEXEC, 0);
	snprintf(name, sizeof(name), "%u/abort", connection);
	cleanup_fd int fd = folder < 0 ? -1 : openat(folder, name, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return error_set_errno(err, errno, "open %s of fusectl", name);
	return write_all(fd, "1", 1, name, err);
}

static int unmount(void *path)
{
	return umount2(path, UMOUNT_NOFOLLOW) < 0 ? errno : 0;
}

// Also the rest of the work that MNT_DETACH leaves, such as writing back, is done by whoever calls.
static int detach(void *path)
{
	umount2(path, MNT_FORCE | UMOUNT_NOFOLLOW);
	return umount2(path, MNT_DETACH | UMOUNT_NOFOLLOW) < 0 ? errno : 0;
}

// An ordinary user's were mounted by fusermount3(1), which alone can undo it.
static void unmount_as_user(const char *path)
{
	cleanup_buffer struct buffer out = {0};
	struct error ignored;
	const char *const argv[] = {"fusermount3", "-u", "-z", "-q", "--", path, NULL};
	process_run(argv, NULL, &out, 4096, UNMOUNT_MS, &ignored);
}

void mount_remove(const char *path, bool abort)
{
	struct mount_seen seen;
	struct error ignored;
	enum data_failure failure;
	for (int i = 0; i < STACKED_MAX && mount_find(path, &seen, &ignored) > 0; i++) {
		if (seen.fuse && abort)
			fuse_abort(seen.minor, &ignored);
		if (mount_in_child(
			    unmount, (void *)path, now_ms() + UNMOUNT_MS, &failure, &ignored) == 0)
			continue;
		if (ignored.sys == EPERM && seen.fuse)
			unmount_as_user(path);
		if (seen.fuse)
			fuse_abort(seen.minor, &ignored);
		mount_in_child(detach, (void *)path, now_ms() + DETACH_MS, &failure, &ignored);
	}
}
