// SPDX-License-Identifier: Apache-2.0
//
// Blobs as files of a folder: DIR/ab/abcdef…; the writer is who holds the file's flock(2), which
// other controllers on the same (or a network's) folder respect too. A file's length is the blob's
// size: a write that was cut off leaves a shorter one.
#include "base/file.h"
#include "controller/files/blobs_internal.h"

#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

struct folder {
	struct blob_store store;
	int fd;
};

// Of a large append: the disk begins with so many bytes while others are still coming, so that its
// end has little to wait for.
enum { DISK_STEP = 8 * 1024 * 1024 };

struct blob_handle {
	int fd;
	uint64_t size, told; // told: the disk has been asked to take so many
	struct folder *folder;
	char name[BLOB_ID_SIZE + 4];
};

static void name_of(const char *id, char name[BLOB_ID_SIZE + 4])
{
	snprintf(name, BLOB_ID_SIZE + 4, "%.2s/%s", id, id);
}

static int open_blob(const struct folder *f, const char *id, int flags)
{
	char name[BLOB_ID_SIZE + 4];
	name_of(id, name);
	return openat(f->fd, name, flags | O_NOFOLLOW | O_CLOEXEC, 0600);
}

static int folder_ping(struct blob_store *s, struct error *err)
{
	struct folder *f = (struct folder *)s;
	if (faccessat(f->fd, ".", W_OK, 0) < 0)
		return error_set_errno(err, errno, "the folder of files");
	return 0;
}

static int folder_size(struct blob_store *s, const char *id, uint64_t *size, struct error *err)
{
	char name[BLOB_ID_SIZE + 4];
	struct stat st;
	name_of(id, name);
	if (fstatat(((struct folder *)s)->fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0)
		*size = (uint64_t)st.st_size;
	else if (errno == ENOENT)
		*size = 0;
	else
		return error_set_errno(err, errno, "files/%s", name);
	return 0;
}

static int open_or_make(struct folder *f, struct blob_handle *h, struct error *err)
{
	h->fd = openat(f->fd, h->name, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
	if (h->fd >= 0)
		return 0;
	char parent[3] = {h->name[0], h->name[1], 0};
	if (errno != ENOENT || directory_make(f->fd, parent, 0700, err) < 0)
		return error_set_errno(err, errno, "files/%s", h->name);
	h->fd = openat(f->fd, h->name, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
	return h->fd < 0 ? error_set_errno(err, errno, "files/%s", h->name) : 0;
}

static int folder_begin(struct blob_store *s, const char *id, struct blob_handle **handle,
	uint64_t *size, struct error *err)
{
	struct folder *f = (struct folder *)s;
	struct stat st;
	struct blob_handle h = {.fd = -1, .folder = f};
	name_of(id, h.name);
	if (open_or_make(f, &h, err) < 0)
		return -1;
	int rc = file_lock(h.fd, LOCK_EX | LOCK_NB, h.name, err);
	if (rc == 0 && fstat(h.fd, &st) < 0)
		rc = error_set_errno(err, errno, "files/%s", h.name);
	if (rc) {
		close(h.fd);
		return rc;
	}
	*size = h.size = h.told = (uint64_t)st.st_size;
	*handle = xmemdup(&h, sizeof(h));
	return 0;
}

static int folder_write(struct blob_handle *h, const void *data, size_t size, struct error *err)
{
	if (pwrite_all(h->fd, data, size, (off_t)h->size, h->name, err) < 0)
		return -1;
	h->size += size;
	if (h->size - h->told >= DISK_STEP) {
		sync_file_range(
			h->fd, (off_t)h->told, (off_t)(h->size - h->told), SYNC_FILE_RANGE_WRITE);
		h->told = h->size;
	}
	return 0;
}

// A name is durable when its folder and that one's are.
static int sync_names(const struct blob_handle *h, struct error *err)
{
	char parent[3] = {h->name[0], h->name[1], 0};
	cleanup_fd int fd = directory_open(h->folder->fd, parent, err);
	if (fd < 0)
		return -1;
	if (fsync(fd) < 0 || fsync(h->folder->fd) < 0)
		return error_set_errno(err, errno, "sync files/%s", parent);
	return 0;
}

static int folder_end(struct blob_handle *h, bool durable, uint64_t *size, struct error *err)
{
	struct stat st;
	int rc = fstat(h->fd, &st) < 0 ? error_set_errno(err, errno, "files/%s", h->name) : 0;
	if (rc == 0 && durable && fdatasync(h->fd) < 0)
		rc = error_set_errno(err, errno, "sync files/%s", h->name);
	if (rc == 0 && durable)
		rc = sync_names(h, err);
	if (rc == 0)
		*size = (uint64_t)st.st_size;
	close(h->fd);
	free(h);
	return rc;
}

static int64_t folder_read(struct blob_store *s, const char *id, uint64_t offset, void *data,
	size_t size, struct error *err)
{
	cleanup_fd int fd = open_blob((struct folder *)s, id, O_RDONLY);
	if (fd < 0)
		return errno == ENOENT ? 0 : error_set_errno(err, errno, "files/%s", id);
	ssize_t got = pread(fd, data, size, (off_t)offset);
	return got < 0 ? error_set_errno(err, errno, "read files/%s", id) : got;
}

static int folder_open(struct blob_store *s, const char *id)
{
	return open_blob((struct folder *)s, id, O_RDONLY);
}

static int folder_sync(struct blob_store *s, const char *id, struct error *err)
{
	struct folder *f = (struct folder *)s;
	struct blob_handle h = {.fd = -1, .folder = f};
	name_of(id, h.name);
	cleanup_fd int fd = open_blob(f, id, O_RDONLY);
	if (fd < 0)
		return errno == ENOENT ? 0 : error_set_errno(err, errno, "files/%s", h.name);
	if (fdatasync(fd) < 0)
		return error_set_errno(err, errno, "sync files/%s", h.name);
	return sync_names(&h, err);
}

static int folder_remove(struct blob_store *s, const char *id, struct error *err)
{
	char name[BLOB_ID_SIZE + 4];
	name_of(id, name);
	if (unlinkat(((struct folder *)s)->fd, name, 0) < 0 && errno != ENOENT)
		return error_set_errno(err, errno, "remove files/%s", name);
	return 0;
}

static void folder_free(struct blob_store *s)
{
	close(((struct folder *)s)->fd);
	free(s);
}

struct blob_store *blob_folder_open(const char *path, struct error *err)
{
	static const struct blob_store_ops ops = {
		.ping = folder_ping,
		.size = folder_size,
		.begin = folder_begin,
		.write = folder_write,
		.end = folder_end,
		.read = folder_read,
		.open = folder_open,
		.sync = folder_sync,
		.remove = folder_remove,
		.free = folder_free,
	};
	int fd = directory_ensure(AT_FDCWD, path, 0700, err);
	if (fd < 0)
		return NULL;
	struct folder *f = xcalloc(1, sizeof(*f));
	*f = (struct folder){.store = {.ops = &ops}, .fd = fd};
	return &f->store;
}
