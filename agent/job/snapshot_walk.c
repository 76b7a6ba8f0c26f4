// SPDX-License-Identifier: Apache-2.0
#include "agent/job/snapshot_walk.h"

#include "base/file.h"
#include "base/text.h"

#include <dirent.h>
#include <unistd.h>

// Steps of matching: less than a second. A usual folder needs some million.
static const uint64_t steps_max = 300 * 1000 * 1000;
enum { DEPTH_MAX = 100 };

static void close_folder(DIR **d)
{
	if (*d)
		closedir(*d);
}

static int enter_name(struct snapshot_walk *w, const char *name, size_t *before, struct error *err)
{
	size_t n = strlen(name), slash = w->path_length != 0;
	*before = w->path_length;
	if (w->path_length + slash + n >= sizeof(w->path))
		return error_set(err, ERROR_LIMIT, "%s/%s: the path is too long", w->path, name);
	if (slash)
		w->path[w->path_length++] = '/';
	memcpy(w->path + w->path_length, name, n + 1);
	w->path_length += n;
	return 0;
}

static void leave_name(struct snapshot_walk *w, size_t before)
{
	w->path_length = before;
	w->path[before] = '\0';
}

static int walk_tree(struct snapshot_walk *w, int folder, struct error *err);

static int walk_folder(
	struct snapshot_walk *w, int at, const char *name, const struct stat *st, struct error *err)
{
	cleanup_fd int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT ? 0 : error_set_errno(err, errno, "open %s", w->path);
	if (++w->depth > DEPTH_MAX)
		return error_set(
			err, ERROR_LIMIT, "%s: more than %d folders deep", w->path, DEPTH_MAX);
	if (w->entry(w, at, name, st, err) < 0 || ignore_enter(w->ignore, fd, w->path, err) < 0 ||
		walk_tree(w, fd, err) < 0)
		return -1;
	ignore_leave(w->ignore);
	w->depth--;
	if (w->leave)
		w->leave(w);
	return 0;
}

static bool is_skipped(const struct snapshot_limits *l, const struct stat *st)
{
	for (size_t i = 0; i < l->skip_file_count; i++)
		if (l->skip_files[i].ino == st->st_ino && l->skip_files[i].dev == st->st_dev)
			return true;
	return false;
}

static int walk_entry(struct snapshot_walk *w, int at, const char *name, struct error *err)
{
	struct stat st;
	if (fstatat(at, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? 0 : error_set_errno(err, errno, "stat %s", w->path);
	bool folder = S_ISDIR(st.st_mode);
	if (!folder && !S_ISLNK(st.st_mode) && !S_ISREG(st.st_mode))
		return 0;
	if (folder && w->limits->skip_ino && st.st_dev == w->limits->skip_dev &&
		st.st_ino == w->limits->skip_ino)
		return 0;
	w->entries++;
	bool out = streq(name, ".git") || is_skipped(w->limits, &st) ||
		   ignore_match(w->ignore, w->path, folder);
	if (ignore_steps(w->ignore) > steps_max)
		return error_set(err, ERROR_LIMIT, "%s has rules that take too long to match",
			ignore_file(w->ignore));
	if (out) {
		if (w->ignored)
			w->ignored(w, w->path, folder);
		return 0;
	}
	return folder ? walk_folder(w, at, name, &st, err) : w->entry(w, at, name, &st, err);
}

static int walk_tree(struct snapshot_walk *w, int folder, struct error *err)
{
	cleanup_fd int copy = openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	__attribute__((cleanup(close_folder))) DIR *d = copy < 0 ? NULL : fdopendir(copy);
	if (!d)
		return error_set_errno(err, errno, "read the folder %s", w->path);
	steal_fd(&copy); // the stream's now
	for (;;) {
		size_t before;
		errno = 0;
		struct dirent *e = readdir(d);
		if (!e)
			return errno ? error_set_errno(err, errno, "read the folder %s", w->path)
				     : 0;
		if (streq(e->d_name, ".") || streq(e->d_name, ".."))
			continue;
		if (enter_name(w, e->d_name, &before, err) < 0 ||
			walk_entry(w, folder, e->d_name, err) < 0)
			return -1;
		leave_name(w, before);
	}
}

int snapshot_walk(struct snapshot_walk *w, int source_fd, struct error *err)
{
	cleanup_ignore struct ignore *ignore = ignore_new();
	w->ignore = ignore;
	w->path[0] = '\0';
	if (ignore_enter(ignore, source_fd, "", err) < 0)
		return -1;
	int rc = walk_tree(w, source_fd, err);
	if (w->found)
		*w->found = ignore_file(ignore);
	return rc;
}
