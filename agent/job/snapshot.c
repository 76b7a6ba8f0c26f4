// SPDX-License-Identifier: Apache-2.0
#include "agent/job/snapshot_walk.h"
#include "base/file.h"
#include "base/text.h"

#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

enum { COPY_STEP = 16 * 1024 * 1024, TARGETS_MAX = 128 };

struct snapshot {
	int targets[TARGETS_MAX]; // the folders of the copy that are open, from the root on
	unsigned count;
	uint64_t bytes, files;
};

// A clone where the file system can, else a copy in the kernel.
// `room`: the bytes that it may have, or what is left of that.
static int copy_bytes(int from, int to, const char *name, uint64_t *room, struct error *err)
{
	struct stat st;
	if (fstat(from, &st) == 0 && (uint64_t)st.st_size <= *room &&
		ioctl(to, FICLONE, from) == 0) {
		*room -= (uint64_t)st.st_size;
		return 0;
	}
	for (;;) {
		ssize_t n = sendfile(to, from, NULL, COPY_STEP);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return error_set_errno(err, errno, "copy %s", name);
		if (n == 0)
			return 0;
		if ((uint64_t)n > *room)
			return error_set(err, ERROR_LIMIT,
				"%s: the folder grows while it is copied, over what is allowed",
				name);
		*room -= (uint64_t)n;
	}
}

static int copy_file(int source, int target, const char *name, uint64_t *room, struct error *err)
{
	struct stat st;
	cleanup_fd int from =
		openat(source, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	if (from < 0 || fstat(from, &st) < 0)
		return errno == ENOENT || errno == ELOOP // removed or replaced meanwhile
			       ? 0
			       : error_set_errno(err, errno, "open %s", name);
	if (!S_ISREG(st.st_mode))
		return 0;
	cleanup_fd int to = openat(target, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (to < 0)
		return error_set_errno(err, errno, "make %s", name);
	if (copy_bytes(from, to, name, room, err) < 0)
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

static int copy_folder(
	struct snapshot *s, int target, const char *name, const struct stat *st, struct error *err)
{
	if (mkdirat(target, name, 0755) < 0)
		return error_set_errno(err, errno, "make %s", name);
	cleanup_fd int to = directory_open(target, name, err);
	if (to < 0)
		return -1;
	if (fchmod(to, (st->st_mode & 0777) | 0755) < 0)
		return error_set_errno(err, errno, "set the mode of %s", name);
	if (s->count == TARGETS_MAX)
		return error_set(err, ERROR_LIMIT, "%s: too deep", name);
	s->targets[s->count++] = steal_fd(&to);
	return 0;
}

static int copy_entry(
	struct snapshot_walk *w, int at, const char *name, const struct stat *st, struct error *err)
{
	struct snapshot *s = w->data;
	int target = s->targets[s->count - 1];
	uint64_t room = w->limits->bytes - s->bytes;
	int rc;
	if (S_ISDIR(st->st_mode)) {
		rc = copy_folder(s, target, name, st, err);
	} else if (++s->files > w->limits->files) {
		rc = error_set(err, ERROR_LIMIT, "more than the %llu files that are allowed",
			(unsigned long long)w->limits->files);
	} else if (S_ISLNK(st->st_mode)) {
		rc = copy_link(at, target, name, err);
	} else {
		rc = copy_file(at, target, name, &room, err);
		s->bytes = w->limits->bytes - room;
	}
	return rc < 0 && w->path_length > strlen(name)
		       ? error_context(
				 err, "%.*s", (int)(w->path_length - strlen(name) - 1), w->path)
		       : rc;
}

static void leave_folder(struct snapshot_walk *w)
{
	struct snapshot *s = w->data;
	close(s->targets[--s->count]);
}

int snapshot_copy(
	int source_fd, int target_fd, const struct snapshot_limits *limits, struct error *err)
{
	struct snapshot s = {.targets = {target_fd}, .count = 1};
	struct snapshot_walk w = {
		.limits = limits, .entry = copy_entry, .leave = leave_folder, .data = &s};
	int rc = snapshot_walk(&w, source_fd, err);
	while (s.count > 1)
		close(s.targets[--s.count]);
	return rc;
}
