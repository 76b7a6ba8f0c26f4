// SPDX-License-Identifier: Apache-2.0
//
// The terminal of a program in a container. Everything goes by descriptor: by name, "/dev/pts/0" or
// "/dev/console" could be a link that the image or an earlier process has put there
// (CVE-2025-52565).
#include "base/file.h"
#include "base/message.h"
#include "base/text.h"
#include "base/weaken.h"
#include "oci/runtime/container_internal.h"

#include <linux/magic.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <termios.h>
#include <unistd.h>

static int open_master(int root_fd, struct error *err)
{
	struct statfs fs;
	cleanup_fd int master = file_open_beneath(root_fd, "/dev/pts/ptmx", O_RDWR | O_NOCTTY, 0,
		RESOLVE_IN_ROOT | RESOLVE_NO_SYMLINKS, err);
	if (master < 0)
		return error_context(err, "terminal");
	if (fstatfs(master, &fs) < 0 || fs.f_type != DEVPTS_SUPER_MAGIC)
		return error_set(err, ERROR_INVALID,
			"terminal: /dev/pts in the container is not a devpts file system");
	return steal_fd(&master);
}

static int open_slave(int master, struct error *err)
{
	int unlocked = 0;
	if (ioctl(master, TIOCSPTLCK, &unlocked) < 0)
		return error_set_errno(err, errno, "unlock the terminal");
	int slave = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (slave < 0)
		return error_set_errno(err, errno, "open the terminal");
	return slave;
}

// /dev/console is the terminal, mounted over an empty file.
static int mount_console(int root_fd, int slave, struct error *err)
{
	static const struct mount_words words = {.set = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC};
	if (weakened("console")) {
		char name[64];
		cleanup_fd int place = openat(root_fd, "dev/console", O_PATH | O_CLOEXEC);
		snprintf(name, sizeof(name), "/proc/self/fd/%d", place);
		return mount("/dev/pts/0", name, NULL, MS_BIND, NULL);
	}
	cleanup_fd int dev = file_open_beneath(root_fd, "/dev", O_PATH | O_DIRECTORY, 0,
		RESOLVE_IN_ROOT | RESOLVE_NO_SYMLINKS, err);
	if (dev < 0)
		return error_context(err, "terminal");
	cleanup_fd int made =
		openat(dev, "console", O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (made < 0 && errno != EEXIST)
		return error_set_errno(err, errno, "make /dev/console");
	struct stat st;
	cleanup_fd int target = openat(dev, "console", O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (target < 0 || fstat(target, &st) < 0)
		return error_set_errno(err, errno, "open /dev/console");
	if (S_ISLNK(st.st_mode) || S_ISDIR(st.st_mode))
		return error_set(err, ERROR_INVALID,
			"/dev/console: the container has a link or a folder there");
	cleanup_fd int tree = container_clone_tree(slave, "", &words, -1, err);
	return tree < 0 ? -1 : container_attach(tree, target, "/dev/console", err);
}

static int send_master(int socket, int master, struct error *err)
{
	static const char name[] = "/dev/ptmx";
	if (socket < 0)
		return error_set(err, ERROR_INVALID, "a terminal needs a console socket");
	return message_send(socket, name, sizeof(name), &master, 1, err);
}

int container_terminal(
	int root_fd, const struct runtime_process *p, int socket, bool console, struct error *err)
{
	struct winsize size = {.ws_row = p->rows, .ws_col = p->columns};
	cleanup_fd int master = open_master(root_fd, err);
	cleanup_fd int slave = master < 0 ? -1 : open_slave(master, err);
	if (slave < 0)
		return -1;
	if (p->rows && ioctl(slave, TIOCSWINSZ, &size) < 0)
		return error_set_errno(err, errno, "size of the terminal");
	if (fchown(slave, p->uid, (gid_t)-1) < 0)
		return error_set_errno(err, errno, "give the terminal to the container's user");
	if ((console && mount_console(root_fd, slave, err) < 0) ||
		send_master(socket, master, err) < 0)
		return -1;
	return steal_fd(&slave);
}
