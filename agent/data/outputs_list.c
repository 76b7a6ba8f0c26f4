// SPDX-License-Identifier: Apache-2.0
//
// What lies in a folder that is a destination. What cannot be read is no answer: what an earlier
// attempt has left there would stay for good.
#include "agent/data/outputs_target.h"
#include "base/file.h"
#include "base/text.h"

#include <dirent.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

struct list {
	const char *const *left_out; // at the top; NULL at the end
	outputs_found_fn *found;
	void *data;
	char path[OUTPUTS_PATH_MAX + NAME_MAX + 2];
};

static int visit(struct list *l, int fd, size_t n, int depth, struct error *err);

static int fail(const struct list *l, struct error *err)
{
	return error_set_errno(err, errno, "read '%s'", l->path);
}

// What has gone meanwhile is not there.
static int visit_entry(struct list *l, int fd, size_t n, int depth, struct error *err)
{
	struct stat st;
	char link[OUTPUTS_PATH_MAX + 1];
	const char *name = l->path + n;
	if (fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? 0 : fail(l, err);
	struct outputs_attributes a = {.size = (uint64_t)st.st_size,
		.mode = st.st_mode & 07777,
		.mtime_ns = st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec};
	if (S_ISLNK(st.st_mode)) {
		ssize_t k = readlinkat(fd, name, link, sizeof(link) - 1);
		link[k < 0 ? 0 : k] = '\0';
		l->found(l->data, l->path, OUTPUTS_LINK, &a, link);
	} else if (S_ISDIR(st.st_mode)) {
		l->found(l->data, l->path, OUTPUTS_FOLDER, &a, NULL);
		cleanup_fd int inner = outputs_open_beneath(fd, name, O_RDONLY | O_DIRECTORY);
		if (inner >= 0)
			return visit(l, inner, strlen(l->path), depth + 1, err);
	} else {
		l->found(l->data, l->path, OUTPUTS_FILE, &a, NULL);
	}
	return 0;
}

static bool is_left_out(const struct list *l, const char *name)
{
	for (const char *const *p = l->left_out; *p; p++)
		if (streq(*p, name))
			return true;
	return false;
}

static int visit_all(struct list *l, DIR *stream, int fd, size_t n, int depth, struct error *err)
{
	bool top = n == 0;
	if (!top)
		l->path[n++] = '/';
	for (;;) {
		errno = 0;
		struct dirent *e = readdir(stream);
		if (!e)
			break;
		size_t k = strlen(e->d_name);
		if (streq(e->d_name, ".") || streq(e->d_name, "..") || n + k > OUTPUTS_PATH_MAX ||
			(top && is_left_out(l, e->d_name)))
			continue;
		memcpy(l->path + n, e->d_name, k + 1);
		if (visit_entry(l, fd, n, depth, err) < 0)
			return -1;
	}
	l->path[top ? 0 : n - 1] = '\0';
	return errno ? fail(l, err) : 0;
}

// What is deeper than we copy is removed with the folder that it lies in.
static int visit(struct list *l, int fd, size_t n, int depth, struct error *err)
{
	if (depth > OUTPUTS_DEPTH_MAX)
		return 0;
	int copy = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	DIR *stream = copy < 0 ? NULL : fdopendir(copy);
	if (!stream) {
		fail(l, err);
		close_fdp(&copy);
		return -1;
	}
	int rc = visit_all(l, stream, fd, n, depth, err);
	closedir(stream);
	return rc;
}

int outputs_list(
	int fd, const char *const *left_out, outputs_found_fn *found, void *data, struct error *err)
{
	struct list l = {.left_out = left_out, .found = found, .data = data};
	return visit(&l, fd, 0, 0, err);
}
