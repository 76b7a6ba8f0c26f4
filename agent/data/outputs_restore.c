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

enum { STEP = 1 << 30, BUFFER = 1024 * 1024 };

static int copy_tree(int from, int to, int depth, struct error *err);

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

static int copy_file(int from, int to, const char *name, const struct stat *st, struct error *err)
{
	cleanup_fd int source = outputs_open_beneath(from, name, O_RDONLY | O_NONBLOCK);
	cleanup_fd int target =
		openat(to, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (source < 0 || target < 0 || copy_data(source, target, st->st_size) < 0 ||
		set_attributes(target, st) < 0)
		return error_set_errno(err, errno, "restore '%s'", name);
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

static int copy_folder(
	int from, int to, const char *name, const struct stat *st, int depth, struct error *err)
{
	cleanup_fd int source = outputs_open_beneath(from, name, O_RDONLY | O_DIRECTORY);
	if (source < 0 || mkdirat(to, name, 0700) < 0)
		return error_set_errno(err, errno, "restore the folder '%s'", name);
	cleanup_fd int target = outputs_open_beneath(to, name, O_RDONLY | O_DIRECTORY);
	if (target < 0)
		return error_set_errno(err, errno, "restore the folder '%s'", name);
	if (copy_tree(source, target, depth + 1, err) < 0)
		return -1;
	return set_attributes(target, st) < 0
		       ? error_set_errno(err, errno, "restore the folder '%s'", name)
		       : 0;
}

// What has no bytes (sockets, FIFOs, devices) belonged to processes that are gone.
static int copy_entry(int from, int to, const char *name, int depth, struct error *err)
{
	struct stat st;
	if (fstatat(from, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return error_set_errno(err, errno, "restore '%s'", name);
	if (S_ISREG(st.st_mode))
		return copy_file(from, to, name, &st, err);
	if (S_ISLNK(st.st_mode))
		return copy_link(from, to, name, &st, err);
	return S_ISDIR(st.st_mode) ? copy_folder(from, to, name, &st, depth, err) : 0;
}

static int copy_tree(int from, int to, int depth, struct error *err)
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
		if (!streq(e->d_name, ".") && !streq(e->d_name, ".."))
			rc = copy_entry(from, to, e->d_name, depth, err);
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
	if (copy_tree(from, to, 0, err) < 0)
		return error_context(err, "outputs of the last attempt");
	return set_attributes(to, &st) < 0 ? error_set_errno(err, errno, "restore outputs") : 0;
}
