// SPDX-License-Identifier: Apache-2.0
//
// Files and folders of our own. Everything takes a directory descriptor first (AT_FDCWD where none)
// and opens with O_CLOEXEC. A path that an image, a job or a registry has a say in is reached with
// file_open_beneath() only.
#pragma once

#include "base/buffer.h"
#include "base/error.h"
#include "base/sha256.h"

#include <fcntl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

void close_fdp(int *fd); // closes if >= 0, keeps errno
#define cleanup_fd __attribute__((cleanup(close_fdp)))
// Close all descriptors but 0, 1, 2 and these, which are sorted: in a child that is not to keep
// what is its parent's.
void keep_only_fds(int *kept, size_t count);

// Append the whole file to `b`. A file over `limit` bytes fails with ERROR_LIMIT.
int file_read(int dirfd, const char *path, size_t limit, struct buffer *b, struct error *err);
int file_read_fd(int fd, const char *name, size_t limit, struct buffer *b, struct error *err);

// Make `path` hold exactly these bytes: temporary name beside it, write, fsync, rename, fsync of
// the folder. A crash leaves the old file or the new one.
int file_write_atomic(
	int dirfd, const char *path, const void *data, size_t size, mode_t mode, struct error *err);

// write(2) until everything is out; EINTR is retried. `name` is for the error.
int write_all(int fd, const void *data, size_t size, const char *name, struct error *err);
int pwrite_all(
	int fd, const void *data, size_t size, off_t offset, const char *name, struct error *err);

// mkdir -p; existing folders keep their mode. Missing ones get `mode`.
int directory_make(int dirfd, const char *path, mode_t mode, struct error *err);
// Open a folder of our own, O_PATH not set. Returns the descriptor.
int directory_open(int dirfd, const char *path, struct error *err);
// directory_make() then directory_open().
int directory_ensure(int dirfd, const char *path, mode_t mode, struct error *err);
// rm -rf, never following a symbolic link and never crossing a mount point. Missing is fine. Works
// for trees of any depth with bounded descriptors.
int directory_remove(int dirfd, const char *path, struct error *err);

// openat2(2) with RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS | extra_resolve (RESOLVE_IN_ROOT replaces
// RESOLVE_BENEATH where given). Returns the descriptor.
int file_open_beneath(int dirfd, const char *path, int flags, mode_t mode, uint64_t extra_resolve,
	struct error *err);

// Is there anything of that name, a link included?
bool file_exists(int dirfd, const char *path);
// What others can read is no place for a secret: ERROR_DENIED says what to do, as ssh does of its
// keys. `flags` of fstatat(2). A file that is not there is fine.
int file_check_private(int dirfd, const char *path, int flags, struct error *err);
// Add a file's bytes from `at` up to `end` to a hash. ERROR_INTEGRITY: it has fewer.
int file_hash(
	int fd, const char *name, uint64_t at, uint64_t end, struct sha256 *h, struct error *err);
// SHA-256 of its first `size` bytes, in hexadecimal.
int file_sha256(
	int fd, const char *name, uint64_t size, char hex[SHA256_HEX_SIZE], struct error *err);

// Lock with flock(2). operation as there (LOCK_SH, LOCK_EX, | LOCK_NB). Returns 0, -1, or 1 when
// LOCK_NB was given and somebody else holds it.
int file_lock(int fd, int operation, const char *name, struct error *err);

// a/b, owned by the caller.
char *path_join(const char *a, const char *b);
// The part behind the last '/', inside the argument.
const char *path_base(const char *path);
// The absolute form of `path` against the current folder, without resolving links; owned by the
// caller.
char *path_absolute(const char *path, struct error *err);
