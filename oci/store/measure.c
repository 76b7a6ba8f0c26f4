// SPDX-License-Identifier: Apache-2.0
#include "oci/store/measure.h"

#include "base/file.h"
#include "base/text.h"

#include <dirent.h>
#include <sys/stat.h>
#include <unistd.h>

// A folder still to visit, by its path from the root, so that the descriptors open at a time do not
// grow with the depth of a hostile tree.
struct visit {
	struct visit *next;
	char path[];
};

struct walk {
	int root;
	dev_t dev;
	struct visit *pending;
	uint64_t bytes, content;
	// A file with n names is met n times: it adds an n-th each time, of this unit.
	uint64_t inode_parts;
};

enum { INODE_UNIT = 1 << 20 };
#define CONTENT_MOST (UINT64_C(1) << 60)

static void push(struct walk *w, const char *folder, const char *name)
{
	size_t n = strlen(folder), m = strlen(name);
	struct visit *v = xmalloc(sizeof(*v) + n + m + 2);
	memcpy(v->path, folder, n);
	v->path[n] = '/';
	memcpy(v->path + n + 1, name, m + 1);
	v->next = w->pending;
	w->pending = v;
}

static void count(struct walk *w, const struct stat *st)
{
	uint64_t names = S_ISDIR(st->st_mode) || st->st_nlink < 2 ? 1 : st->st_nlink;
	w->bytes += (uint64_t)st->st_blocks * 512 / names;
	w->inode_parts += INODE_UNIT / names;
	// More than any disk has is enough; some sizes of holes make more than 64 bits.
	uint64_t content = S_ISREG(st->st_mode) ? (uint64_t)st->st_size / names : 0;
	w->content += content < CONTENT_MOST - w->content ? content : CONTENT_MOST - w->content;
}

static int visit_folder(struct walk *w, const char *path, struct error *err)
{
	int fd = file_open_beneath(w->root, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0, 0, err);
	// Gone meanwhile; or deeper than a path can say, which our layers are not.
	if (fd < 0)
		return err->sys == ENOENT || err->sys == ENAMETOOLONG ? 0 : -1;
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
		if (fstatat(fd, e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0 || st.st_dev != w->dev)
			continue;
		count(w, &st);
		if (S_ISDIR(st.st_mode))
			push(w, path, e->d_name);
	}
	int sys = errno;
	closedir(d);
	return sys ? error_set_errno(err, sys, "read folder %s", path) : 0;
}

int measure_tree(int dirfd, const char *path, struct store_size *size, struct error *err)
{
	struct stat st;
	cleanup_fd int root = openat(dirfd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	if (root < 0 || fstat(root, &st) < 0)
		return error_set_errno(err, errno, "measure %s", path);
	struct walk w = {.root = root, .dev = st.st_dev};
	count(&w, &st);
	int status = visit_folder(&w, ".", err);
	while (w.pending) {
		struct visit *v = w.pending;
		w.pending = v->next;
		if (status == 0)
			status = visit_folder(&w, v->path, err);
		free(v);
	}
	if (status == 0)
		*size = (struct store_size){.bytes = w.bytes,
			.content = w.content,
			.inodes = (w.inode_parts + INODE_UNIT / 2) / INODE_UNIT};
	return status;
}
