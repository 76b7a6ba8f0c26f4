// SPDX-License-Identifier: Apache-2.0
#include "oci/store/measure.h"

#include "base/file.h"
#include "base/text.h"

#include <dirent.h>
#include <sys/stat.h>
#include <unistd.h>

// A folder to visit still; held as a chain of names from the root, so that the descriptors open at
// a time do not grow with the depth of a hostile tree.
struct visit {
	struct visit *next;
	char path[]; // relative to the root of the tree
};

static void push(struct visit **pending, const char *folder, const char *name)
{
	size_t n = strlen(folder), m = strlen(name);
	struct visit *v = xmalloc(sizeof(*v) + n + m + 2);
	memcpy(v->path, folder, n);
	v->path[n] = '/';
	memcpy(v->path + n + 1, name, m + 1);
	v->next = *pending;
	*pending = v;
}

// One file's share, in units that a file with several names divides by their number.
static uint64_t share(const struct stat *st)
{
	uint64_t bytes = (uint64_t)st->st_blocks * 512;
	return S_ISDIR(st->st_mode) || st->st_nlink < 2 ? bytes : bytes / st->st_nlink;
}

static int count_folder(int root, const char *path, dev_t dev, struct visit **pending,
	uint64_t *sum, struct error *err)
{
	// Our own folder by our own names; no component is a symbolic link, since d_name was a
	// folder.
	int fd = file_open_beneath(root, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0, 0, err);
	if (fd < 0)
		return err->sys == ENOENT ? 0 : -1;
	DIR *d = fdopendir(fd);
	if (!d) {
		int sys = errno;
		close(fd);
		return error_set_errno(err, sys, "read folder %s", path);
	}
	for (struct dirent *e; (errno = 0, e = readdir(d));) {
		struct stat st;
		if (streq(e->d_name, ".") || streq(e->d_name, ".."))
			continue;
		if (fstatat(fd, e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0 || st.st_dev != dev)
			continue; // gone meanwhile, or another file system
		*sum += share(&st);
		if (S_ISDIR(st.st_mode))
			push(pending, path, e->d_name);
	}
	int sys = errno;
	closedir(d);
	return sys ? error_set_errno(err, sys, "read folder %s", path) : 0;
}

int measure_tree(int dirfd, const char *path, uint64_t *bytes, struct error *err)
{
	struct stat st;
	cleanup_fd int root = openat(dirfd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	if (root < 0 || fstat(root, &st) < 0)
		return error_set_errno(err, errno, "measure %s", path);
	struct visit *pending = NULL;
	uint64_t sum = share(&st);
	int status = count_folder(root, ".", st.st_dev, &pending, &sum, err);
	while (pending) {
		struct visit *v = pending;
		pending = v->next;
		if (status == 0)
			status = count_folder(root, v->path, st.st_dev, &pending, &sum, err);
		free(v);
	}
	if (status == 0)
		*bytes = sum;
	return status;
}
