// SPDX-License-Identifier: Apache-2.0
#include "oci/store/internal.h"

#include <sys/stat.h>
#include <unistd.h>

const struct store_limits store_limits_default = {
	.keep_free_bytes = 1024ull * 1024 * 1024,
	.keep_free_inodes_percent = 5,
};

// layers/ and tmp/ hold set-user-id programs and devices of foreign images, so a folder that was
// made by other hands, or opened by them, is closed again. Not where its owner is another user's
// matter.
static int close_to_others(int fd, const char *path, struct error *err)
{
	struct stat st;
	if (fstat(fd, &st) < 0)
		return error_set_errno(err, errno, "folder %s", path);
	if (!(st.st_mode & 0077) || st.st_uid != geteuid() || fchmod(fd, 0700) == 0 ||
		errno == EROFS)
		return 0;
	return error_set_errno(err, errno, "close folder %s to other users", path);
}

// A folder of ours. On a read-only file system, or for a user who may only look, one that exists is
// enough.
static int open_folder(int dirfd, const char *path, int *fd, struct error *err)
{
	*fd = openat(dirfd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (*fd >= 0)
		return close_to_others(*fd, path, err);
	if (errno != ENOENT)
		return error_set_errno(err, errno, "open folder %s", path);
	*fd = directory_ensure(dirfd, path, 0700, err);
	if (*fd < 0)
		return -1;
	// A new folder's name must survive a power cut, or everything in it would go with it.
	if (fsync(dirfd) < 0 && errno != EINVAL && errno != EROFS)
		return error_set_errno(err, errno, "fsync the folder of %s", path);
	return 0;
}

static int open_root(
	const char *path, const char *what, const char *variable, int *fd, struct error *err)
{
	*fd = directory_ensure(AT_FDCWD, path, 0700, err);
	if (*fd >= 0)
		return 0;
	if (err->kind == ERROR_DENIED)
		return error_set(err, ERROR_DENIED,
			"%s %s: permission denied; run as root or set %s", what, path, variable);
	return error_context(err, "%s %s", what, path);
}

static int open_folders(struct store *s, struct error *err)
{
	if (open_root(s->state_dir, "state directory", "STOKER_STATE_DIR", &s->state_fd, err) < 0 ||
		open_root(s->run_dir, "run directory", "STOKER_RUN_DIR", &s->run_fd, err) < 0)
		return -1;
	const struct {
		int dirfd;
		const char *path;
		int *fd; // NULL: only made
	} folders[] = {
		{s->state_fd, "layers/sha256", &s->layers_fd},
		{s->state_fd, "blobs/sha256", &s->blobs_fd},
		{s->state_fd, "images", &s->images_fd},
		{s->state_fd, "parts", &s->parts_fd},
		{s->state_fd, "tmp", &s->tmp_fd},
		{s->run_fd, "locks", NULL},
		{s->run_fd, "layers", NULL},
		{s->run_fd, "mounts", NULL},
	};
	for (size_t i = 0; i < array_size(folders); i++) {
		cleanup_fd int unused = -1;
		int *fd = folders[i].fd ? folders[i].fd : &unused;
		if (open_folder(folders[i].dirfd, folders[i].path, fd, err) < 0)
			return error_context(err, "%s",
				folders[i].dirfd == s->state_fd ? s->state_dir : s->run_dir);
	}
	return 0;
}

struct store *store_open(const char *state_dir, const char *run_dir,
	const struct store_limits *limits, struct error *err)
{
	cleanup_store struct store *s = xcalloc(1, sizeof(*s));
	s->state_fd = s->layers_fd = s->blobs_fd = s->images_fd = s->parts_fd = s->tmp_fd = -1;
	s->run_fd = s->documents_lock_fd = -1;
	s->limits = limits ? *limits : store_limits_default;
	s->state_dir = path_absolute(state_dir, err);
	if (!s->state_dir)
		return NULL;
	s->run_dir = path_absolute(run_dir, err);
	if (!s->run_dir || open_folders(s, err) < 0)
		return NULL;
	store_sweep(s);
	return steal(s);
}

void store_free(struct store *s)
{
	if (!s)
		return;
	if (s->documents_lock_fd >= 0) {
		// A pull that came to nothing: its documents go, unless an image names them.
		struct error ignored;
		close_fdp(&s->documents_lock_fd);
		s->documents_lock_fd = -1;
		store_documents_prune(s, &ignored);
	}
	const int fds[] = {s->state_fd, s->layers_fd, s->blobs_fd, s->images_fd, s->parts_fd,
		s->tmp_fd, s->run_fd, s->documents_lock_fd};
	for (size_t i = 0; i < array_size(fds); i++)
		if (fds[i] >= 0)
			close(fds[i]);
	free(s->state_dir);
	free(s->run_dir);
	free(s);
}
