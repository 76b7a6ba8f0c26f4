// SPDX-License-Identifier: Apache-2.0
#include "agent/supervise/disk_open.h"

#include "base/file.h"

#include <dirent.h>
#include <linux/magic.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

enum { FILES_MAX = 4096, BLOCK = 512 };

struct seen {
	struct {
		dev_t device;
		ino_t inode;
	} files[FILES_MAX];
	size_t count;
	uint64_t bytes;
};

static bool is_new(struct seen *seen, const struct stat *st)
{
	for (size_t i = 0; i < seen->count; i++)
		if (seen->files[i].device == st->st_dev && seen->files[i].inode == st->st_ino)
			return false;
	if (seen->count == FILES_MAX)
		return false;
	seen->files[seen->count].device = st->st_dev;
	seen->files[seen->count++].inode = st->st_ino;
	return true;
}

static void add_file(struct seen *seen, int folder, const char *name)
{
	struct stat st;
	// The kernel's link leads to the file itself, whatever became of its name. Not opened: a
	// FIFO or a device would notice.
	if (fstatat(folder, name, &st, 0) < 0 || !S_ISREG(st.st_mode) || st.st_nlink > 0)
		return;
	cleanup_fd int fd = openat(folder, name, O_PATH | O_CLOEXEC);
	struct statfs fs;
	if (fd < 0 || fstatfs(fd, &fs) < 0 || fs.f_type == TMPFS_MAGIC ||
		fs.f_type == HUGETLBFS_MAGIC || !is_new(seen, &st))
		return;
	seen->bytes += (uint64_t)st.st_blocks * BLOCK;
}

static void add_process(struct seen *seen, pid_t pid)
{
	char path[64];
	snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
	DIR *folder = opendir(path);
	if (!folder)
		return;
	for (struct dirent *e; (e = readdir(folder)) != NULL;)
		if (e->d_name[0] != '.')
			add_file(seen, dirfd(folder), e->d_name);
	closedir(folder);
}

uint64_t disk_open_bytes(const struct cgroup *g)
{
	cleanup_arena struct arena a = {0};
	struct error ignored;
	pid_t *pids;
	size_t count;
	if (!g || cgroup_processes(g, &a, &pids, &count, &ignored) < 0)
		return 0;
	cleanup_free struct seen *seen = xcalloc(1, sizeof(*seen));
	for (size_t i = 0; i < count; i++)
		add_process(seen, pids[i]);
	return seen->bytes;
}
