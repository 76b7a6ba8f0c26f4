// SPDX-License-Identifier: Apache-2.0
#include "agent/job/snapshot.h"

#include "base/file.h"
#include "base/text.h"

#include <dirent.h>
#include <limits.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

enum { DEPTH_MAX = 100, COPY_STEP = 16 * 1024 * 1024 };

struct snapshot {
	dev_t skip_dev;
	ino_t skip_ino;
	unsigned depth;
};

// A clone where the file system can, else a copy in the kernel.
static int copy_bytes(int from, int to, const char *name, struct error *err)
{
	if (ioctl(to, FICLONE, from) == 0)
		return 0;
	for (;;) {
		ssize_t n = sendfile(to, from, NULL, COPY_STEP);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return error_set_errno(err, errno, "copy %s", name);
		if (n == 0)
			return 0;
	}
}

static int copy_file(int source, int target, const char *name, struct error *err)
{
	struct stat st;
	cleanup_fd int from =
		openat(source, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	if (from < 0 || fstat(from, &st) < 0)
		return error_set_errno(err, errno, "open %s", name);
	if (!S_ISREG(st.st_mode)) // replaced meanwhile
		return 0;
	cleanup_fd int to = openat(target, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (to < 0)
		return error_set_errno(err, errno, "make %s", name);
	if (copy_bytes(from, to, name, err) < 0)
		return -1;
	const struct timespec times[2] = {st.st_atim, st.st_mtim};
	if (fchmod(to, (st.st_mode & 0777) | 0444) < 0 || futimens(to, times) < 0)
		return error_set_errno(err, errno, "set the mode of %s", name);
	return 0;
}

static int copy_link(int source, int target, const char *name, struct error *err)
{
	char text[PATH_MAX];
	ssize_t n = readlinkat(source, name, text, sizeof(text) - 1);
	if (n < 0)
		return error_set_errno(err, errno, "read the link %s", name);
	text[n] = '\0';
	if (symlinkat(text, target, name) < 0)
		return error_set_errno(err, errno, "make the link %s", name);
	return 0;
}

static int copy_tree(struct snapshot *s, int source, int target, struct error *err);

static int copy_folder(
	struct snapshot *s, int source, int target, const char *name, struct error *err)
{
	struct stat st;
	cleanup_fd int from = openat(source, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (from < 0 || fstat(from, &st) < 0)
		return error_set_errno(err, errno, "open %s", name);
	if (st.st_dev == s->skip_dev && st.st_ino == s->skip_ino)
		return 0;
	if (mkdirat(target, name, 0755) < 0)
		return error_set_errno(err, errno, "make %s", name);
	cleanup_fd int to = directory_open(target, name, err);
	if (to < 0)
		return -1;
	if (fchmod(to, (st.st_mode & 0777) | 0755) < 0)
		return error_set_errno(err, errno, "set the mode of %s", name);
	if (++s->depth > DEPTH_MAX)
		return error_set(
			err, ERROR_LIMIT, "%s: more than %d folders deep", name, DEPTH_MAX);
	int rc = copy_tree(s, from, to, err);
	s->depth--;
	return rc < 0 ? error_context(err, "%s", name) : 0;
}

static int copy_entry(
	struct snapshot *s, int source, int target, const char *name, struct error *err)
{
	struct stat st;
	if (fstatat(source, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? 0 : error_set_errno(err, errno, "stat %s", name);
	if (S_ISDIR(st.st_mode))
		return copy_folder(s, source, target, name, err);
	if (S_ISLNK(st.st_mode))
		return copy_link(source, target, name, err);
	if (S_ISREG(st.st_mode))
		return copy_file(source, target, name, err);
	return 0;
}

static void close_folder(DIR **d)
{
	if (*d)
		closedir(*d);
}

static int copy_tree(struct snapshot *s, int source, int target, struct error *err)
{
	cleanup_fd int copy = fcntl(source, F_DUPFD_CLOEXEC, 3);
	__attribute__((cleanup(close_folder))) DIR *d = copy < 0 ? NULL : fdopendir(copy);
	if (!d)
		return error_set_errno(err, errno, "read a folder");
	steal_fd(&copy); // the stream's now
	for (;;) {
		errno = 0;
		struct dirent *e = readdir(d);
		if (!e)
			return errno ? error_set_errno(err, errno, "read a folder") : 0;
		if (streq(e->d_name, ".") || streq(e->d_name, ".."))
			continue;
		if (copy_entry(s, source, target, e->d_name, err) < 0)
			return -1;
	}
}

int snapshot_copy(int source_fd, int target_fd, dev_t skip_dev, ino_t skip_ino, struct error *err)
{
	struct snapshot s = {.skip_dev = skip_dev, .skip_ino = skip_ino};
	return copy_tree(&s, source_fd, target_fd, err);
}
