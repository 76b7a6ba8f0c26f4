// SPDX-License-Identifier: Apache-2.0
//
// "tmpcopyup": what the image has at the place of a tmpfs is copied into it first. Podman asks for
// that wherever it makes a container's /tmp or /run writable. Nothing runs in the container yet,
// but the image is not trusted: everything goes by descriptor, and links are copied, never
// followed.
#include "base/file.h"
#include "base/text.h"
#include "oci/runtime/container_internal.h"

#include <dirent.h>
#include <limits.h>
#include <stdio.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

enum { COPY_DEPTH_MAX = 64, COPY_ENTRIES_MAX = 100000 };

struct copy {
	const char *target; // for error texts
	size_t entries;
};

static int copy_folder(struct copy *c, int from, int to, int depth, struct error *err);

static int fail(const struct copy *c, const char *name, struct error *err)
{
	return error_set_errno(err, errno, "copy %s of the image's %s", name, c->target);
}

static int copy_bytes(int from, int to, off_t size)
{
	while (size > 0) {
		ssize_t n = sendfile(to, from, NULL, (size_t)size);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return (int)n;
		size -= n;
	}
	return 0;
}

static int copy_file(struct copy *c, int from, int to, const char *name, struct error *err)
{
	struct stat st;
	cleanup_fd int in =
		openat(from, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	cleanup_fd int out =
		openat(to, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (in < 0 || out < 0 || fstat(in, &st) < 0 || copy_bytes(in, out, st.st_size) < 0)
		return fail(c, name, err);
	return 0;
}

static int copy_link(struct copy *c, int from, int to, const char *name, struct error *err)
{
	char text[PATH_MAX];
	ssize_t n = readlinkat(from, name, text, sizeof(text) - 1);
	if (n < 0)
		return fail(c, name, err);
	text[n] = '\0';
	return symlinkat(text, to, name) < 0 ? fail(c, name, err) : 0;
}

static int copy_subfolder(
	struct copy *c, int from, int to, const char *name, int depth, struct error *err)
{
	if (mkdirat(to, name, 0700) < 0)
		return fail(c, name, err);
	cleanup_fd int in = openat(from, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	cleanup_fd int out = openat(to, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (in < 0 || out < 0)
		return fail(c, name, err);
	return copy_folder(c, in, out, depth + 1, err);
}

// Devices and sockets are nothing to copy.
static int copy_entry(
	struct copy *c, int from, int to, const char *name, int depth, struct error *err)
{
	struct stat st;
	int rc = 0;
	if (fstatat(from, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return fail(c, name, err);
	if (++c->entries > COPY_ENTRIES_MAX || depth > COPY_DEPTH_MAX)
		return error_set(err, ERROR_LIMIT,
			"tmpcopyup at %s: more than %d entries, or nested deeper than %d",
			c->target, COPY_ENTRIES_MAX, COPY_DEPTH_MAX);
	if (S_ISDIR(st.st_mode))
		rc = copy_subfolder(c, from, to, name, depth, err);
	else if (S_ISREG(st.st_mode))
		rc = copy_file(c, from, to, name, err);
	else if (S_ISLNK(st.st_mode))
		rc = copy_link(c, from, to, name, err);
	else if (S_ISFIFO(st.st_mode))
		rc = mkfifoat(to, name, 0600) < 0 ? fail(c, name, err) : 0;
	else
		return 0;
	if (rc < 0)
		return -1;
	if (fchownat(to, name, st.st_uid, st.st_gid, AT_SYMLINK_NOFOLLOW) < 0 ||
		(!S_ISLNK(st.st_mode) && fchmodat(to, name, st.st_mode & 07777, 0) < 0))
		return fail(c, name, err);
	const struct timespec times[2] = {st.st_atim, st.st_mtim};
	utimensat(to, name, times, AT_SYMLINK_NOFOLLOW); // of no consequence
	return 0;
}

static int copy_folder(struct copy *c, int from, int to, int depth, struct error *err)
{
	cleanup_fd int own = fcntl(from, F_DUPFD_CLOEXEC, 3);
	DIR *all = own < 0 ? NULL : fdopendir(own);
	int rc = 0;
	if (!all)
		return fail(c, "a folder", err);
	own = -1; // the stream's
	for (const struct dirent *e; rc == 0 && (e = readdir(all)) != NULL;)
		if (!streq(e->d_name, ".") && !streq(e->d_name, ".."))
			rc = copy_entry(c, from, to, e->d_name, depth, err);
	closedir(all);
	return rc;
}

int container_copy_up(int from, int to, const char *target, struct error *err)
{
	struct copy c = {.target = target};
	struct stat st;
	cleanup_fd int in = openat(from, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	cleanup_fd int out = openat(to, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (in < 0 || out < 0 || fstat(in, &st) < 0)
		return fail(&c, "a folder", err);
	if (fchown(out, st.st_uid, st.st_gid) < 0 || fchmod(out, st.st_mode & 07777) < 0)
		return fail(&c, "the owner", err);
	return copy_folder(&c, in, out, 0, err);
}
