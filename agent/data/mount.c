// SPDX-License-Identifier: Apache-2.0
#include "agent/data/mount.h"

#include "base/file.h"
#include "base/text.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

const struct mount_kind *mount_kind_of(const struct data_source *s)
{
	(void)s;
	return NULL;
}

// In the child: 0 or an errno. System calls only; the folder's entries are asked for by the
// kernel's own call, since readdir(3) allocates.
static int look(const char *path)
{
	char entries[4096];
	struct statfs fs;
	if (statfs(path, &fs) < 0)
		return errno;
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return errno;
	long n = syscall(SYS_getdents64, fd, entries, sizeof(entries));
	return n < 0 && errno != ENOTDIR ? errno : 0;
}

// A child that hangs in the kernel is killed and left to whoever reaps; a wait for it could last.
int mount_probe(
	const char *path, int64_t deadline_ms, enum data_failure *failure, struct error *err)
{
	int status;
	pid_t pid = fork();
	if (pid < 0)
		return error_set_errno(err, errno, "fork");
	if (pid == 0)
		_exit(look(path) & 0xFF);
	cleanup_fd int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	int64_t left = deadline_ms - now_ms();
	struct pollfd p = {.fd = pidfd, .events = POLLIN};
	int n = poll(&p, 1, left < 0 ? 0 : left > INT32_MAX ? INT32_MAX : (int)left);
	if (n <= 0)
		kill(pid, SIGKILL);
	pid_t done = waitpid(pid, &status, n > 0 ? 0 : WNOHANG);
	if (n <= 0 || done != pid) {
		*failure = DATA_STALLED;
		return error_set(err, ERROR_UNAVAILABLE, "it does not answer");
	}
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return 0;
	*failure = DATA_HELPER_DIED;
	return error_set_errno(err, WIFEXITED(status) ? WEXITSTATUS(status) : EIO, "look inside");
}

void mount_remove(const char *path)
{
	if (umount2(path, UMOUNT_NOFOLLOW) < 0 && errno != EINVAL && errno != ENOENT) {
		umount2(path, MNT_FORCE | UMOUNT_NOFOLLOW);
		umount2(path, MNT_DETACH | UMOUNT_NOFOLLOW);
	}
}
