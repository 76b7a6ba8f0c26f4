// SPDX-License-Identifier: Apache-2.0
#include "agent/supervise/disk_walk.h"

#include "base/file.h"
#include "base/text.h"

#include <dirent.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { BLOCK = 512, ENTRIES_MAX = 100 * 1000 * 1000 };

int disk_walk_begin(struct disk_walk *w, int folder_fd, struct error *err)
{
	struct stat st;
	cleanup_fd int fd = openat(folder_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0)
		return error_set_errno(err, errno, "count a job's files");
	w->device = st.st_dev;
	w->bytes = (uint64_t)st.st_blocks * BLOCK;
	w->entries = 0;
	w->at = w->filled = 0;
	w->levels[0] = (struct disk_level){.fd = steal_fd(&fd)};
	w->depth = 1;
	return 0;
}

static void leave(struct disk_walk *w)
{
	close(w->levels[--w->depth].fd);
	w->at = w->filled = 0;
	// The buffer was the lower level's; what it had not counted yet is read again.
	if (w->depth)
		lseek(w->levels[w->depth - 1].fd, w->levels[w->depth - 1].offset, SEEK_SET);
}

static void enter(struct disk_walk *w, int parent, const char *name)
{
	if (w->depth == DISK_WALK_DEPTH)
		return;
	int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0) // gone, or closed to us
		return;
	w->levels[w->depth++] = (struct disk_level){.fd = fd};
	w->at = w->filled = 0;
}

static void count(struct disk_walk *w, const struct dirent64 *e)
{
	struct stat st;
	struct disk_level *level = &w->levels[w->depth - 1];
	level->offset = e->d_off;
	w->entries++;
	if (streq(e->d_name, ".") || streq(e->d_name, ".."))
		return;
	if (fstatat(level->fd, e->d_name, &st, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT) < 0 ||
		st.st_dev != w->device)
		return;
	uint64_t bytes = (uint64_t)st.st_blocks * BLOCK;
	if (S_ISDIR(st.st_mode)) {
		w->bytes += bytes;
		enter(w, level->fd, e->d_name);
	} else {
		w->bytes += bytes / (st.st_nlink ? st.st_nlink : 1);
	}
}

// Returns false at the end of the level's entries.
static bool fill(struct disk_walk *w)
{
	long n = syscall(SYS_getdents64, w->levels[w->depth - 1].fd, w->buffer, sizeof(w->buffer));
	w->at = 0;
	w->filled = n > 0 ? (size_t)n : 0;
	return n > 0;
}

bool disk_walk_step(struct disk_walk *w, unsigned entries)
{
	for (uint64_t end = w->entries + entries; w->depth && w->entries < end;) {
		if (w->at == w->filled && !fill(w)) {
			leave(w);
			continue;
		}
		const struct dirent64 *e = (const void *)(w->buffer + w->at);
		w->at += e->d_reclen;
		count(w, e);
	}
	if (w->entries > ENTRIES_MAX) // made as fast as we count
		disk_walk_end(w);
	return w->depth == 0;
}

void disk_walk_end(struct disk_walk *w)
{
	while (w->depth)
		close(w->levels[--w->depth].fd);
}
