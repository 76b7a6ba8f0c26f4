// SPDX-License-Identifier: Apache-2.0
//
// A folder as destination. What is under way lies in <run id>/.partial/, on the same file system,
// so that names in the job's folders are only ever whole files, and one folder holds all that a
// kill may leave. A part's name follows from the path, so that the next process finds it.
#include "agent/data/outputs_target.h"
#include "base/file.h"
#include "base/sha256.h"
#include "base/text.h"
#include "base/time.h"

#include <linux/fs.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
	COPY_STEP = 64 * 1024 * 1024,
	COPY_BUFFER = 1024 * 1024,
	FLUSH_STEP = 8 * 1024 * 1024,
	// Of one write(2): for more the kernel takes pages in larger runs (large folios), which it
	// finds only slowly once memory is full of files: 4 MiB at a time took three times as long.
	WRITE_STEP = 128 * 1024,
	HELD = 64 * 1024 * 1024, // to twice of this of a file that is written stays in memory
};

static const char partial[] = ".partial", manifest[] = "manifest.json", attempts[] = "attempts";

struct folder {
	struct outputs_target base;
	char *destination, *run_id;
	int fd, partial_fd; // of the run's folder; -1
	dev_t device;
	ino_t inode;
	bool known;  // device and inode are
	bool marked; // the manifest may be there
	bool no_clone, no_range;
	struct outputs_parent parent;
	// The file that is written.
	int file_fd, old_fd;
	char *path;
	char name[40]; // in .partial; "": in place
	uint64_t end;  // of what was written to it; UINT64_MAX: not known
	// Up to where it was written, the disk was told of, and memory holds nothing any more.
	uint64_t written, flushed, dropped;
};

static struct folder *folder_of(struct outputs_target *t)
{
	return (struct folder *)t; // its first member
}

static int fail(struct folder *f, const char *what, const char *path, struct error *err)
{
	return error_set_errno(
		err, errno, "destination %s: %s %s/%s", f->destination, what, f->run_id, path);
}

static void give_up_file(struct folder *f)
{
	close_fdp(&f->file_fd);
	close_fdp(&f->old_fd);
	f->file_fd = f->old_fd = -1;
	free(f->path);
	f->path = NULL;
	f->written = f->flushed = f->dropped = 0;
}

static void close_all(struct folder *f)
{
	give_up_file(f);
	outputs_parent_close(&f->parent);
	close_fdp(&f->fd);
	close_fdp(&f->partial_fd);
	f->fd = f->partial_fd = -1;
}

// An empty folder in the place of the one we know is a file system that is not mounted any more:
// filling the one below it helps nobody.
static int check_same(struct folder *f, int fd, struct error *err)
{
	struct stat st;
	if (fstat(fd, &st) < 0)
		return fail(f, "look at", "", err);
	if (f->known && (st.st_dev != f->device || st.st_ino != f->inode))
		return error_set(err, ERROR_UNAVAILABLE,
			"destination %s: another folder lies there now; is it still mounted?",
			f->destination);
	f->device = st.st_dev;
	f->inode = st.st_ino;
	f->known = true;
	return 0;
}

static int folder_open(struct outputs_target *t, struct error *err)
{
	struct folder *f = folder_of(t);
	close_all(f);
	cleanup_fd int top = open(f->destination, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (top < 0)
		return error_set_errno(err, errno, "destination %s", f->destination);
	if (check_same(f, top, err) < 0)
		return -1;
	f->fd = outputs_make_beneath(top, f->run_id);
	return f->fd < 0 ? fail(f, "make", "", err) : 0;
}

static void folder_close(struct outputs_target *t)
{
	close_all(folder_of(t));
}

static void folder_identity(struct outputs_target *t, uint64_t id[2], bool tell)
{
	struct folder *f = folder_of(t);
	if (tell) {
		f->device = (dev_t)id[0];
		f->inode = (ino_t)id[1];
		f->known = true;
	} else {
		id[0] = f->device;
		id[1] = f->inode;
	}
}

static int folder_invalidate(struct outputs_target *t, struct error *err)
{
	struct folder *f = folder_of(t);
	if (f->marked && unlinkat(f->fd, manifest, 0) < 0 && errno != ENOENT)
		return fail(f, "remove", manifest, err);
	f->marked = false;
	return 0;
}

static int folder_archive(struct outputs_target *t, unsigned attempt, struct error *err)
{
	struct folder *f = folder_of(t);
	if (attempt < 2 || outputs_is_archived(f->fd, attempt - 1))
		return 0;
	if (folder_invalidate(t, err) < 0)
		return -1;
	return outputs_archive(f->fd, attempt - 1, err) < 0
		       ? error_context(err, "destination %s", f->destination)
		       : 0;
}

static int begin_change(struct folder *f, struct error *err)
{
	if (folder_invalidate(&f->base, err) < 0)
		return -1;
	if (f->partial_fd < 0)
		f->partial_fd = outputs_make_beneath(f->fd, partial);
	return f->partial_fd < 0 ? fail(f, "make", partial, err) : 0;
}

static mode_t folder_mode(mode_t mode)
{
	return (mode & 0755) | 0700;
}

static mode_t file_mode(mode_t mode)
{
	return (mode & 0755) | 0600;
}

static int folder_list(
	struct outputs_target *t, outputs_found_fn *found, void *data, struct error *err)
{
	static const char *const ours[] = {partial, manifest, attempts, NULL};
	struct folder *f = folder_of(t);
	return outputs_list(f->fd, ours, found, data, err) < 0
		       ? error_context(err, "destination %s", f->destination)
		       : 0;
}

static int folder_folder(struct outputs_target *t, const char *path, mode_t mode, struct error *err)
{
	struct folder *f = folder_of(t);
	const char *name;
	if (begin_change(f, err) < 0)
		return -1;
	int at = outputs_parent_open(&f->parent, f->fd, path, &name);
	if (at < 0 || (mkdirat(at, name, 0700) < 0 && errno != EEXIST))
		return fail(f, "make", path, err);
	cleanup_fd int fd = outputs_open_beneath(at, name, O_RDONLY | O_DIRECTORY);
	if (fd < 0 || fchmod(fd, folder_mode(mode)) < 0)
		return fail(f, "make", path, err);
	return 0;
}

static int folder_link(
	struct outputs_target *t, const char *path, const char *text, struct error *err)
{
	struct folder *f = folder_of(t);
	const char *name;
	if (begin_change(f, err) < 0)
		return -1;
	int at = outputs_parent_open(&f->parent, f->fd, path, &name);
	if (unlinkat(f->partial_fd, "link", 0) < 0 && errno != ENOENT)
		return fail(f, "make", path, err);
	if (at < 0 || symlinkat(text, f->partial_fd, "link") < 0 ||
		renameat(f->partial_fd, "link", at, name) < 0)
		return fail(f, "make", path, err);
	return 0;
}

static int folder_remove(
	struct outputs_target *t, const char *path, enum outputs_kind kind, struct error *err)
{
	struct folder *f = folder_of(t);
	const char *name;
	if (begin_change(f, err) < 0)
		return -1;
	int at = outputs_parent_open(&f->parent, f->fd, path, &name);
	if (at < 0)
		return errno == ENOENT ? 0 : fail(f, "remove", path, err);
	int rc = unlinkat(at, name, kind == OUTPUTS_FOLDER ? AT_REMOVEDIR : 0);
	// Something that is not ours, or too deep to have been listed.
	if (rc < 0 && (errno == ENOTEMPTY || errno == EEXIST || errno == EISDIR))
		rc = directory_remove(at, name, err);
	else if (rc < 0 && errno != ENOENT)
		rc = fail(f, "remove", path, err);
	else
		rc = 0;
	if (kind == OUTPUTS_FOLDER)
		outputs_parent_close(&f->parent);
	return rc;
}

static int folder_park(
	struct outputs_target *t, const char *path, uint64_t number, struct error *err)
{
	struct folder *f = folder_of(t);
	const char *name;
	char parked[32];
	snprintf(parked, sizeof(parked), "moved-%llu", (unsigned long long)number);
	if (begin_change(f, err) < 0)
		return -1;
	int at = outputs_parent_open(&f->parent, f->fd, path, &name);
	if (at < 0 || renameat(at, name, f->partial_fd, parked) < 0)
		return fail(f, "rename", path, err);
	return 0;
}

static int folder_unpark(
	struct outputs_target *t, uint64_t number, const char *path, struct error *err)
{
	struct folder *f = folder_of(t);
	const char *name;
	char parked[32];
	snprintf(parked, sizeof(parked), "moved-%llu", (unsigned long long)number);
	int at = outputs_parent_open(&f->parent, f->fd, path, &name);
	if (at < 0 || renameat(f->partial_fd, parked, at, name) < 0)
		return fail(f, "rename", path, err);
	return 0;
}

static int folder_part(
	struct outputs_target *t, const char *path, bool resume, uint64_t *size, struct error *err)
{
	struct folder *f = folder_of(t);
	uint8_t digest[SHA256_SIZE];
	char hex[SHA256_HEX_SIZE];
	struct stat st;
	give_up_file(f);
	*size = 0;
	if (begin_change(f, err) < 0)
		return -1;
	snprintf(f->name, sizeof(f->name), "file");
	if (resume) {
		sha256_of(path, strlen(path), digest);
		sha256_hex(digest, hex);
		snprintf(f->name, sizeof(f->name), "part-%.32s", hex);
	}
	f->file_fd = openat(f->partial_fd, f->name,
		O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC | (resume ? 0 : O_TRUNC), 0600);
	if (f->file_fd < 0 || (resume && fstat(f->file_fd, &st) < 0))
		return fail(f, "write", path, err);
	*size = resume ? (uint64_t)st.st_size : 0;
	f->end = resume ? UINT64_MAX : 0;
	f->path = xstrdup(path);
	return 0;
}

static int folder_clone(
	struct outputs_target *t, const char *path, int source_fd, struct error *err)
{
	struct folder *f = folder_of(t);
	uint64_t size;
	if (f->no_clone)
		return 0;
	if (folder_part(t, path, true, &size, err) < 0)
		return -1;
	if (size == 0 && ioctl(f->file_fd, FICLONE, source_fd) == 0)
		return 1;
	f->no_clone = size == 0;
	return 0;
}

static int folder_append(struct outputs_target *t, const char *path, struct error *err)
{
	struct folder *f = folder_of(t);
	const char *name;
	give_up_file(f);
	f->name[0] = '\0';
	f->end = UINT64_MAX;
	if (begin_change(f, err) < 0)
		return -1;
	int at = outputs_parent_open(&f->parent, f->fd, path, &name);
	f->file_fd = at < 0 ? -1 : outputs_open_beneath(at, name, O_RDWR);
	if (f->file_fd < 0)
		return fail(f, "append to", path, err);
	f->path = xstrdup(path);
	return 0;
}

static bool is_write_error(int code)
{
	return code == ENOSPC || code == EDQUOT || code == EIO;
}

// The disk begins while we read and hash what follows, so that commit() has less to wait for. What
// it has got is not held in memory, but for the end, which those who follow a file read: it would
// drive the job's own files out, and where a host takes the free memory of its virtual machines
// back, each new page takes longer than all else that is done for it.
static int flush_written(struct folder *f, struct error *err)
{
	const off_t from = (off_t)f->flushed, drop = (off_t)f->dropped;
	const unsigned wait =
		SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER;
	sync_file_range(f->file_fd, from, (off_t)f->written - from, SYNC_FILE_RANGE_WRITE);
	f->flushed = f->written;
	if (f->written - f->dropped < 2 * (uint64_t)HELD)
		return 0;
	f->dropped += HELD;
	if (sync_file_range(f->file_fd, drop, HELD, wait) == 0)
		posix_fadvise(f->file_fd, drop, HELD, POSIX_FADV_DONTNEED);
	else if (is_write_error(errno))
		return fail(f, "write", f->path, err);
	return 0;
}

static int folder_write(
	struct outputs_target *t, const void *data, size_t size, uint64_t offset, struct error *err)
{
	struct folder *f = folder_of(t);
	for (size_t done = 0; done < size; done += WRITE_STEP) {
		size_t n = size - done < WRITE_STEP ? size - done : WRITE_STEP;
		if (pwrite_all(f->file_fd, (const char *)data + done, n, (off_t)(offset + done),
			    f->path, err) < 0)
			return error_context(err, "destination %s", f->destination);
	}
	if (f->end < offset + size)
		f->end = offset + size;
	if (offset < f->written || offset - f->written > HELD) // elsewhere, and not behind a hole
		f->flushed = f->dropped = offset;
	f->written = offset + size;
	return f->written - f->flushed < FLUSH_STEP ? 0 : flush_written(f, err);
}

static int copy_by_hand(struct folder *f, uint64_t offset, uint64_t size, struct error *err)
{
	cleanup_free char *buffer = xmalloc(COPY_BUFFER);
	while (size) {
		size_t want = size < COPY_BUFFER ? (size_t)size : COPY_BUFFER;
		ssize_t n = pread(f->old_fd, buffer, want, (off_t)offset);
		if (n < 0)
			return fail(f, "read", f->path, err);
		if (n == 0)
			return 0;
		if (folder_write(&f->base, buffer, (size_t)n, offset, err) < 0)
			return -1;
		offset += (uint64_t)n;
		size -= (uint64_t)n;
	}
	return 1;
}

static int folder_keep(struct outputs_target *t, uint64_t offset, uint64_t size, struct error *err)
{
	struct folder *f = folder_of(t);
	const char *name;
	if (f->old_fd < 0) {
		int at = outputs_parent_open(&f->parent, f->fd, f->path, &name);
		f->old_fd = at < 0 ? -1 : outputs_open_beneath(at, name, O_RDONLY);
	}
	if (f->old_fd < 0)
		return 0;
	while (size && !f->no_range) {
		off_t from = (off_t)offset, to = from;
		size_t want = size < COPY_STEP ? (size_t)size : COPY_STEP;
		ssize_t n = copy_file_range(f->old_fd, &from, f->file_fd, &to, want, 0);
		if (n < 0 && is_write_error(errno))
			return fail(f, "write", f->path, err);
		if (n == 0)
			return 0;
		f->no_range = n < 0;
		offset += n < 0 ? 0 : (uint64_t)n;
		size -= n < 0 ? 0 : (uint64_t)n;
	}
	return size ? copy_by_hand(f, offset, size, err) : 1;
}

static int set_attributes(int fd, const struct outputs_attributes *a)
{
	const struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, timespec_of_ns(a->mtime_ns)};
	return fchmod(fd, file_mode(a->mode)) < 0 ? -1 : futimens(fd, times);
}

// No fsync(2) for each file: commit() makes all of them durable at once.
static int folder_finish(
	struct outputs_target *t, const struct outputs_attributes *a, struct error *err)
{
	struct folder *f = folder_of(t);
	const char *name;
	if ((f->end != a->size && ftruncate(f->file_fd, (off_t)a->size) < 0) ||
		set_attributes(f->file_fd, a) < 0)
		return fail(f, "finish", f->path, err);
	if (f->name[0]) {
		int at = outputs_parent_open(&f->parent, f->fd, f->path, &name);
		if (at < 0 || renameat(f->partial_fd, f->name, at, name) < 0)
			return fail(f, "rename to", f->path, err);
	}
	give_up_file(f);
	return 0;
}

static int folder_touch(struct outputs_target *t, const char *path,
	const struct outputs_attributes *a, struct error *err)
{
	struct folder *f = folder_of(t);
	const char *name;
	if (begin_change(f, err) < 0)
		return -1;
	int at = outputs_parent_open(&f->parent, f->fd, path, &name);
	cleanup_fd int fd = at < 0 ? -1 : outputs_open_beneath(at, name, O_RDONLY);
	return fd < 0 || set_attributes(fd, a) < 0 ? fail(f, "change", path, err) : 0;
}

static int folder_read(struct outputs_target *t, const char *path, struct error *err)
{
	struct folder *f = folder_of(t);
	const char *name;
	if (!path) {
		int copy = fcntl(f->file_fd, F_DUPFD_CLOEXEC, 3);
		return copy < 0 ? fail(f, "read", f->path, err) : copy;
	}
	int at = outputs_parent_open(&f->parent, f->fd, path, &name);
	int fd = at < 0 ? -1 : outputs_open_beneath(at, name, O_RDONLY);
	return fd < 0 ? fail(f, "read", path, err) : fd;
}

static int folder_manifest(struct outputs_target *t, struct error *err)
{
	struct folder *f = folder_of(t);
	give_up_file(f);
	if (begin_change(f, err) < 0)
		return -1;
	int fd = openat(f->partial_fd, "manifest",
		O_RDWR | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0644);
	return fd < 0 ? fail(f, "write", manifest, err) : fd;
}

// What is left in .partial goes: nothing is under way any more. The manifest is on the same file
// system as what it names, so one call makes all of it durable.
static int folder_commit(struct outputs_target *t, int manifest_fd, struct error *err)
{
	struct folder *f = folder_of(t);
	if (syncfs(manifest_fd) < 0)
		return fail(f, "write", manifest, err);
	if (renameat(f->partial_fd, "manifest", f->fd, manifest) < 0)
		return fail(f, "rename to", manifest, err);
	f->marked = true;
	close_fdp(&f->partial_fd);
	f->partial_fd = -1;
	if (directory_remove(f->fd, partial, err) < 0)
		return error_context(err, "destination %s", f->destination);
	return fsync(f->fd) < 0 ? fail(f, "write", manifest, err) : 0;
}

static void folder_free(struct outputs_target *t)
{
	struct folder *f = folder_of(t);
	close_all(f);
	free(f->destination);
	free(f->run_id);
	free(f);
}

struct outputs_target *outputs_folder_new(const char *destination, const char *run_id)
{
	static const struct outputs_target_ops ops = {folder_open, folder_close, folder_identity,
		folder_list, folder_archive, folder_invalidate, folder_folder, folder_link,
		folder_remove, folder_park, folder_unpark, folder_part, folder_clone, folder_append,
		folder_write, folder_keep, folder_finish, folder_touch, folder_read,
		folder_manifest, folder_commit, folder_free};
	struct folder *f = xcalloc(1, sizeof(*f));
	*f = (struct folder){.base.ops = &ops,
		.destination = xstrdup(destination),
		.run_id = xstrdup(run_id),
		.fd = -1,
		.partial_fd = -1,
		.marked = true,
		.parent.fd = -1,
		.file_fd = -1,
		.old_fd = -1};
	return &f->base;
}
