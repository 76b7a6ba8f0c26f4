// SPDX-License-Identifier: Apache-2.0
//
// outputs_restore(): what an attempt has left becomes what the next begins with. Nothing of either
// runs meanwhile. Owners stay, whoever they are on this node; set-id bits do not.
#include "agent/data/outputs.h"
#include "agent/data/outputs_target.h"
#include "base/file.h"
#include "base/text.h"

#include <dirent.h>
#include <linux/fs.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

enum { STEP = 1 << 30, BUFFER = 1024 * 1024, LINKS_MAX = 1 << 20 };

// Files with several names stay one file: else a job that links one a thousand times would have a
// thousand on the node's disk.
struct linked {
	ino_t ino;
	char *path; // of the copy, below `to`
};

struct restore {
	int to;
	struct linked *slots; // by inode; path NULL: empty
	size_t count, capacity;
	char path[PATH_MAX]; // of the entry at hand
	size_t length;
};

static int copy_tree(struct restore *r, int from, int to, int depth, struct error *err);

static void restore_release(struct restore *r)
{
	for (size_t i = 0; i < r->capacity; i++)
		free(r->slots[i].path);
	free(r->slots);
}

static struct linked *slot_of(const struct restore *r, ino_t ino)
{
	size_t i = (size_t)(ino * 0x9e3779b97f4a7c15ULL >> 20);
	while (r->slots[i % r->capacity].path && r->slots[i % r->capacity].ino != ino)
		i++;
	return &r->slots[i % r->capacity];
}

static void grow(struct restore *r)
{
	struct restore larger = *r;
	larger.capacity = r->capacity ? 2 * r->capacity : 64;
	larger.slots = xcalloc(larger.capacity, sizeof(*larger.slots));
	for (size_t i = 0; i < r->capacity; i++)
		if (r->slots[i].path)
			*slot_of(&larger, r->slots[i].ino) = r->slots[i];
	free(r->slots);
	r->slots = larger.slots;
	r->capacity = larger.capacity;
}

// True: `name` is another name of a file that has been copied.
static bool link_known(const struct restore *r, int to, const char *name, const struct stat *st)
{
	const struct linked *known = st->st_nlink > 1 && r->count ? slot_of(r, st->st_ino) : NULL;
	return known && known->path && linkat(r->to, known->path, to, name, 0) == 0;
}

static void note_link(struct restore *r, const struct stat *st)
{
	if (st->st_nlink < 2 || r->count == LINKS_MAX || !r->length)
		return;
	if (r->capacity < 2 * (r->count + 1))
		grow(r);
	struct linked *slot = slot_of(r, st->st_ino);
	r->count += !slot->path;
	free(slot->path); // it has as many names as it can have
	*slot = (struct linked){st->st_ino, xstrndup(r->path, r->length)};
}

static int set_owner(int dirfd, const char *name, const struct stat *st)
{
	struct stat now;
	int flags = AT_SYMLINK_NOFOLLOW | (*name ? 0 : AT_EMPTY_PATH);
	if (fstatat(dirfd, name, &now, flags) < 0)
		return -1;
	if (now.st_uid == st->st_uid && now.st_gid == st->st_gid)
		return 0;
	// An ordinary user has taken the files back at the end of the attempt.
	return fchownat(dirfd, name, st->st_uid, st->st_gid, flags) < 0 && geteuid() == 0 ? -1 : 0;
}

static int set_attributes(int fd, const struct stat *st)
{
	const struct timespec times[2] = {st->st_atim, st->st_mtim};
	if (set_owner(fd, "", st) < 0 || fchmod(fd, st->st_mode & 01777) < 0)
		return -1;
	return futimens(fd, times);
}

static int copy_by_hand(int from, int to)
{
	cleanup_free char *buffer = xmalloc(BUFFER);
	struct error ignored;
	for (ssize_t n; (n = read(from, buffer, BUFFER)) != 0;)
		if (n < 0 || write_all(to, buffer, (size_t)n, "", &ignored) < 0)
			return -1;
	return 0;
}

// Holes stay holes: what lies between is copied only.
static int copy_data(int from, int to, off_t size)
{
	if (ioctl(to, FICLONE, from) == 0)
		return 0;
	for (off_t at = 0; at < size;) {
		off_t data = lseek(from, at, SEEK_DATA);
		if (data < 0 && errno == ENXIO)
			break;
		off_t hole = data < 0 ? -1 : lseek(from, data, SEEK_HOLE);
		if (hole < 0)
			return -1;
		off_t source = data, target = data;
		while (source < hole) {
			size_t want = hole - source < STEP ? (size_t)(hole - source) : STEP;
			ssize_t n = copy_file_range(from, &source, to, &target, want, 0);
			if (n < 0 && source == data) {
				if (lseek(from, 0, SEEK_SET) < 0 || lseek(to, 0, SEEK_SET) < 0)
					return -1;
				return copy_by_hand(from, to);
			}
			if (n <= 0)
				return -1;
		}
		at = hole;
	}
	return ftruncate(to, size);
}

static int copy_file(struct restore *r, int from, int to, const char *name, const struct stat *st,
	struct error *err)
{
	if (link_known(r, to, name, st))
		return 0;
	cleanup_fd int source = outputs_open_beneath(from, name, O_RDONLY | O_NONBLOCK);
	cleanup_fd int target =
		openat(to, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (source < 0 || target < 0 || copy_data(source, target, st->st_size) < 0 ||
		set_attributes(target, st) < 0)
		return error_set_errno(err, errno, "restore '%s'", name);
	note_link(r, st);
	return 0;
}

static int copy_link(int from, int to, const char *name, const struct stat *st, struct error *err)
{
	char text[PATH_MAX];
	ssize_t n = readlinkat(from, name, text, sizeof(text) - 1);
	if (n >= 0)
		text[n] = '\0';
	if (n < 0 || symlinkat(text, to, name) < 0 || set_owner(to, name, st) < 0)
		return error_set_errno(err, errno, "restore the link '%s'", name);
	return 0;
}

static int copy_folder(struct restore *r, int from, int to, const char *name, const struct stat *st,
	int depth, struct error *err)
{
	cleanup_fd int source = outputs_open_beneath(from, name, O_RDONLY | O_DIRECTORY);
	if (source < 0 || mkdirat(to, name, 0700) < 0)
		return error_set_errno(err, errno, "restore the folder '%s'", name);
	cleanup_fd int target = outputs_open_beneath(to, name, O_RDONLY | O_DIRECTORY);
	if (target < 0)
		return error_set_errno(err, errno, "restore the folder '%s'", name);
	if (copy_tree(r, source, target, depth + 1, err) < 0)
		return -1;
	return set_attributes(target, st) < 0
		       ? error_set_errno(err, errno, "restore the folder '%s'", name)
		       : 0;
}

// What has no bytes (sockets, FIFOs, devices) belonged to processes that are gone.
static int copy_entry(
	struct restore *r, int from, int to, const char *name, int depth, struct error *err)
{
	struct stat st;
	if (fstatat(from, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return error_set_errno(err, errno, "restore '%s'", name);
	if (S_ISREG(st.st_mode))
		return copy_file(r, from, to, name, &st, err);
	if (S_ISLNK(st.st_mode))
		return copy_link(from, to, name, &st, err);
	return S_ISDIR(st.st_mode) ? copy_folder(r, from, to, name, &st, depth, err) : 0;
}

// Length 0 is a path that is too long: it is in no table.
static size_t enter_name(struct restore *r, const char *name, int depth)
{
	size_t before = r->length, n = strlen(name), slash = depth ? 1 : 0;
	if ((depth && !before) || before + slash + n >= sizeof(r->path)) {
		r->length = 0;
		return before;
	}
	if (slash)
		r->path[r->length++] = '/';
	memcpy(r->path + r->length, name, n + 1);
	r->length += n;
	return before;
}

static int copy_tree(struct restore *r, int from, int to, int depth, struct error *err)
{
	int copy = fcntl(from, F_DUPFD_CLOEXEC, 3), rc = 0;
	DIR *stream = copy < 0 ? NULL : fdopendir(copy);
	if (!stream) {
		close_fdp(&copy);
		return error_set_errno(err, errno, "read a folder");
	}
	if (depth > OUTPUTS_DEPTH_MAX)
		rc = error_set(
			err, ERROR_LIMIT, "restore: folders lie deeper than %d", OUTPUTS_DEPTH_MAX);
	for (struct dirent *e; rc == 0 && (e = readdir(stream)) != NULL;)
		if (!streq(e->d_name, ".") && !streq(e->d_name, "..")) {
			size_t before = enter_name(r, e->d_name, depth);
			rc = copy_entry(r, from, to, e->d_name, depth, err);
			r->length = before;
		}
	closedir(stream);
	return rc;
}

int outputs_restore(int from_run_fd, int to_run_fd, struct error *err)
{
	struct stat st;
	cleanup_fd int from = outputs_open_beneath(from_run_fd, "outputs", O_RDONLY | O_DIRECTORY);
	if (from < 0 && errno == ENOENT)
		return 0;
	cleanup_fd int to = outputs_open_beneath(to_run_fd, "outputs", O_RDONLY | O_DIRECTORY);
	if (from < 0 || to < 0 || fstat(from, &st) < 0)
		return error_set_errno(err, errno, "restore outputs");
	cleanup_free struct restore *r = xcalloc(1, sizeof(*r));
	r->to = to;
	int rc = copy_tree(r, from, to, 0, err);
	restore_release(r);
	if (rc < 0)
		return error_context(err, "outputs of the last attempt");
	return set_attributes(to, &st) < 0 ? error_set_errno(err, errno, "restore outputs") : 0;
}
