// SPDX-License-Identifier: Apache-2.0
// overlayfs by mount(2), for kernels before 6.7. All options must fit into one page, which the
// paths of a few dozen layers exceed; so a child goes to /proc/self/fd, where each folder's name is
// a number. The child also has a mount namespace of its own: a mount needs a place before it can be
// detached, and in there nobody sees it, and nothing stays when we are killed.
#include "base/file.h"
#include "base/message.h"
#include "oci/runtime/overlay.h"

#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { OPTIONS_MAX = 4095 };

static char *option_text(const struct overlay *o)
{
	cleanup_buffer struct buffer b = {0};
	buffer_puts(&b, "redirect_dir=nofollow,metacopy=off,index=off,xino=on");
	if (o->userxattr)
		buffer_puts(&b, ",userxattr");
	if (o->scratch_fd >= 0)
		buffer_printf(&b, ",upperdir=/proc/self/fd/%d/upper,workdir=/proc/self/fd/%d/work",
			o->scratch_fd, o->scratch_fd);
	buffer_puts(&b, ",lowerdir=");
	for (size_t i = 0; i < o->lower_count; i++)
		buffer_printf(&b, "%s%d", i ? ":" : "", o->lower_fds[i]);
	return buffer_steal(&b);
}

struct answer {
	const char *step; // a literal: the child is a fork
	int sys;
};

// A mount of the namespace that was left may not be cloned in the new one (EINVAL, as for anybody
// else's mounts). Its copy here has the same path.
static int reopen(int fd)
{
	char name[32], path[PATH_MAX];
	snprintf(name, sizeof(name), "/proc/self/fd/%d", fd);
	ssize_t n = readlink(name, path, sizeof(path) - 1);
	if (n < 0)
		return -1;
	path[n] = '\0';
	int here = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	if (here < 0 || dup3(here, fd, O_CLOEXEC) < 0)
		return -1;
	close(here);
	return 0;
}

int overlay_reopen(const struct overlay *o)
{
	for (size_t i = 0; i < o->lower_count && !o->detached; i++)
		if (reopen(o->lower_fds[i]) < 0)
			return -1;
	return o->scratch_fd < 0 ? 0 : reopen(o->scratch_fd);
}

static int place(int tree)
{
	char name[16];
	snprintf(name, sizeof(name), "%d", tree);
	if (mkdirat(AT_FDCWD, name, 0700) < 0)
		return -1;
	return move_mount(tree, "", AT_FDCWD, name, MOVE_MOUNT_F_EMPTY_PATH);
}

// Detached mounts get places in here, under the same names: numbers in a folder that we enter.
static int place_all(const struct overlay *o, const char *folder)
{
	if (mount("tmpfs", folder, "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=700") < 0 ||
		chdir(folder) < 0 || mkdir("mounted", 0700) < 0)
		return -1;
	for (size_t i = 0; i < o->lower_count; i++)
		if (place(o->lower_fds[i]) < 0)
			return -1;
	return 0;
}

// In the child: system calls only. Returns the detached mount.
static int mount_there(
	const struct overlay *o, const char *folder, const char *options, struct answer *answer)
{
	answer->step = "unshare the mount namespace";
	if (unshare(CLONE_NEWNS) < 0)
		return -1;
	answer->step = "make mounts private";
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return -1;
	answer->step = "place the folders in a mount namespace";
	if (overlay_reopen(o) < 0 ||
		(o->detached ? place_all(o, folder) : chdir("/proc/self/fd")) < 0)
		return -1;
	const char *target = o->detached ? "mounted" : folder;
	answer->step = "mount";
	if (mount("overlay", target, "overlay", o->scratch_fd < 0 ? MS_RDONLY : 0, options) < 0)
		return -1;
	answer->step = "open_tree";
	return open_tree(AT_FDCWD, target, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
}

static void __attribute__((noreturn))
child(int socket, const struct overlay *o, const char *folder, const char *options)
{
	struct answer answer = {0};
	struct error ignored;
	int fd = mount_there(o, folder, options, &answer);
	answer.sys = fd < 0 ? errno : 0;
	message_send(socket, &answer, sizeof(answer), &fd, fd < 0 ? 0 : 1, &ignored);
	_exit(0);
}

int overlay_mount_old(const struct overlay *o, const char *folder, struct error *err)
{
	cleanup_free char *options = option_text(o);
	cleanup_fd int ours = -1, theirs = -1, mounted = -1;
	int pair[2];
	if (strlen(options) > OPTIONS_MAX)
		return error_set(err, ERROR_LIMIT,
			"overlay: %zu layers are too many for this kernel; Linux 6.7 takes 500",
			o->lower_count);
	if (message_pair(pair, err) < 0)
		return -1;
	ours = pair[0];
	theirs = pair[1];
	pid_t pid = fork();
	if (pid < 0)
		return error_set_errno(err, errno, "fork");
	if (pid == 0)
		child(theirs, o, folder, options);
	close_fdp(&theirs);
	theirs = -1;
	struct answer answer = {0};
	ssize_t n = message_receive(ours, &answer, sizeof(answer), &mounted, 1, false, err);
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		continue;
	if (n < 0)
		return error_context(err, "overlay");
	if (n != sizeof(answer))
		return error_set(
			err, ERROR_SYSTEM, "overlay: the process that mounts it was killed");
	if (mounted < 0)
		return error_set_errno(err, answer.sys, "overlay: %s", answer.step);
	return steal_fd(&mounted);
}
