// SPDX-License-Identifier: Apache-2.0
// What is being made: entries of tmp/, and how they get their final names.
#include "oci/store/internal.h"

#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

enum { STAGE_TRIES = 100 };

// Open the entry just made. Returns 0 with it in *fd, 1 when a sweep took it before we had the
// lock.
static int claim(struct store *s, const char *name, bool folder, int *fd, struct error *err)
{
	int flags = folder ? O_RDONLY | O_DIRECTORY : O_RDWR;
	int got = store_lock_open(s->tmp_fd, name, flags, LOCK_SH, fd, err);
	if (got < 0)
		return -1;
	return got == STORE_LOCKED ? 0 : 1;
}

int store_temporary(struct store *s, bool folder, int *fd, char name[64], struct error *err)
{
	for (int i = 0; i < STAGE_TRIES; i++) {
		uint64_t random;
		char text[64];
		if (getrandom(&random, sizeof(random), 0) != sizeof(random))
			return error_set_errno(err, errno, "getrandom");
		snprintf(text, sizeof(text), "%ld-%016llx", (long)getpid(),
			(unsigned long long)random);
		int made = folder ? mkdirat(s->tmp_fd, text, 0755)
				  : openat(s->tmp_fd, text, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC,
					    0600);
		if (made < 0 && errno == EEXIST)
			continue;
		if (made < 0)
			return error_set_errno(err, errno, "make a file in %s/tmp", s->state_dir);
		if (!folder)
			close(made);
		int swept = claim(s, text, folder, fd, err);
		if (swept < 0)
			return -1;
		if (swept)
			continue;
		memcpy(name, text, sizeof(text));
		return 0;
	}
	return error_set(err, ERROR_UNAVAILABLE, "make a file in %s/tmp: it vanishes all the time",
		s->state_dir);
}

int store_stage_new(
	struct store *s, enum layer_format format, struct store_stage *stage, struct error *err)
{
	struct store_stage made = {.format = format, .fd = -1};
	if (store_temporary(s, format == LAYER_DIRECTORY, &made.fd, made.name, err) < 0)
		return -1;
	*stage = made;
	return 0;
}

static void stage_forget(struct store_stage *stage)
{
	close(stage->fd);
	*stage = (struct store_stage){.format = stage->format, .fd = -1};
}

void store_stage_drop(struct store *s, struct store_stage *stage)
{
	struct error ignored;
	if (!stage->name[0])
		return;
	// Left behind if this fails (a folder with a mount in it, a broken disk): the sweep tries
	// again.
	directory_remove(s->tmp_fd, stage->name, &ignored);
	stage_forget(stage);
}

// Rename without replacing. Returns 0, 1 when the name is taken, -1 with errno.
static int rename_new(int from_fd, const char *from, int to_fd, const char *to, bool folder)
{
	if (renameat2(from_fd, from, to_fd, to, RENAME_NOREPLACE) == 0)
		return 0;
	if (errno == EEXIST || errno == ENOTEMPTY)
		return 1;
	if (errno != EINVAL && errno != ENOSYS)
		return -1;
	// File systems without RENAME_NOREPLACE. A folder cannot replace one that is not empty
	// anyway, and our layers are never empty names: an empty layer replaced by itself is no
	// loss.
	if (folder)
		return renameat(from_fd, from, to_fd, to) == 0			 ? 0
		       : errno == EEXIST || errno == ENOTEMPTY || errno == EBUSY ? 1
										 : -1;
	if (linkat(from_fd, from, to_fd, to, 0) < 0)
		return errno == EEXIST ? 1 : -1;
	unlinkat(from_fd, from, 0);
	return 0;
}

// A folder that its owner may not write (Fedora's / is 0555) does not move for anybody but root:
// its ".." changes. So it is made writable for the moment.
static int move_stage(struct store *s, const struct store_stage *stage, const char *name)
{
	bool folder = stage->format == LAYER_DIRECTORY;
	int moved = rename_new(s->tmp_fd, stage->name, s->layers_fd, name, folder);
	struct stat st;
	if (moved >= 0 || errno != EACCES || !folder || fstat(stage->fd, &st) < 0)
		return moved;
	if (fchmod(stage->fd, (st.st_mode | 0700) & 07777) < 0)
		return -1;
	moved = rename_new(s->tmp_fd, stage->name, s->layers_fd, name, folder);
	int sys = errno;
	fchmod(stage->fd, st.st_mode & 07777);
	errno = sys;
	return moved;
}

int store_stage_commit(struct store *s, struct store_stage *stage, const struct oci_digest *diff_id,
	struct store_layer *layer, struct error *err)
{
	char name[STORE_NAME_MAX], lock[STORE_NAME_MAX];
	store_layer_name(diff_id, stage->format, name);
	if (stage->format == LAYER_EROFS && fchmod(stage->fd, 0400) < 0)
		return error_set_errno(err, errno, "set the mode of layer %s", name);
	for (int i = 0; i < STAGE_TRIES; i++) {
		int lost = move_stage(s, stage, name);
		if (lost < 0)
			return error_set_errno(err, errno, "move layer %s into the store", name);
		if (fsync(s->layers_fd) < 0)
			return error_set_errno(err, errno, "fsync %s/layers/sha256", s->state_dir);
		int found = store_layer_lease(s, diff_id, stage->format, layer, err);
		if (found < 0)
			return -1;
		// Lost to one that was removed at once: ours takes the name in the next turn. Ours
		// itself cannot be removed while the stage holds its lock.
		if (!found)
			continue;
		if (lost)
			store_stage_drop(s, stage);
		else
			stage_forget(stage);
		// Who waits for this lock finds the layer next.
		snprintf(lock, sizeof(lock), "locks/%s.lock", oci_digest_hex(diff_id));
		unlinkat(s->run_fd, lock, 0);
		return 0;
	}
	return error_set(err, ERROR_UNAVAILABLE, "layer %s: removed as often as it was made", name);
}

int store_file_put(struct store *s, int dirfd, const char *folder, const char *name,
	const void *data, size_t size, struct error *err)
{
	struct store_stage stage = {.fd = -1};
	int status = store_stage_new(s, LAYER_EROFS, &stage, err);
	if (status == 0)
		status = write_all(stage.fd, data, size, name, err);
	if (status == 0 && fsync(stage.fd) < 0)
		status = error_set_errno(err, errno, "fsync %s", name);
	if (status == 0 && renameat(s->tmp_fd, stage.name, dirfd, name) < 0)
		status = error_set_errno(err, errno, "rename %s into %s", name, folder);
	if (status < 0) {
		store_stage_drop(s, &stage);
		return error_context(err, "%s", folder);
	}
	stage_forget(&stage);
	if (fsync(dirfd) < 0)
		return error_set_errno(err, errno, "fsync %s", folder);
	return 0;
}
