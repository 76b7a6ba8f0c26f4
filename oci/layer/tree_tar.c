// SPDX-License-Identifier: Apache-2.0
#include "oci/layer/tree_tar.h"

#include "base/arena.h"
#include "base/file.h"
#include "base/text.h"
#include "oci/layer/tar_header.h"

#include <dirent.h>
#include <linux/openat2.h>
#include <search.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { PATH_BYTES_MAX = 4096, LINK_BYTES_MAX = 4095 };

struct level { // a folder on the way to the entry
	DIR *stream;
	struct arena arena; // of the names
	const char **names;
	size_t count, next;
	size_t path_size; // of its path in tree_tar.path, with the '/'
};

struct first_name { // of a file that has several
	dev_t device;
	ino_t inode;
	const char *path;
};

struct tree_tar {
	int folder;
	struct layer_limits limits;
	uint64_t entries, bytes, memory;
	struct level levels[TREE_TAR_DEPTH_MAX];
	size_t depth;
	char path[PATH_BYTES_MAX + 2];
	struct buffer head; // what goes out next
	size_t head_at;
	int file; // -1: none is being read
	struct stat file_stat;
	uint64_t file_at;
	void *names; // tsearch(3): struct first_name
	struct arena arena;
	bool begun, ended;
};

static int refuse(const struct tree_tar *t, struct error *err, const char *why)
{
	return error_set(err, ERROR_INVALID, "\"%.150s\": %s", t->path, why);
}

static int fail(const struct tree_tar *t, int sys, struct error *err)
{
	return error_set_errno(err, sys, "read \"%.150s\"", t->path[0] ? t->path : ".");
}

static int open_name(int folder, const char *name, int flags)
{
	const struct open_how how = {
		.flags = (uint64_t)(flags | O_RDONLY | O_NOFOLLOW | O_CLOEXEC),
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV,
	};
	int fd;
	do
		fd = (int)syscall(SYS_openat2, folder, name, &how, sizeof(how));
	while (fd < 0 && (errno == EINTR || errno == EAGAIN));
	return fd;
}

// Memory that grows with the tree.
static int account(struct tree_tar *t, uint64_t bytes, struct error *err)
{
	t->memory += bytes;
	if (t->memory > t->limits.metadata_bytes)
		return error_set(err, ERROR_LIMIT,
			"the names in the tree take more than %llu bytes",
			(unsigned long long)t->limits.metadata_bytes);
	return 0;
}

// ---- folders

static int compare_names(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static int list_names(struct tree_tar *t, struct level *l, struct error *err)
{
	size_t capacity = 0;
	for (;;) {
		errno = 0;
		const struct dirent *e = readdir(l->stream);
		if (!e && errno)
			return fail(t, errno, err);
		if (!e)
			break;
		if (streq(e->d_name, ".") || streq(e->d_name, ".."))
			continue;
		if (account(t, strlen(e->d_name) + 2 * sizeof(char *), err) < 0)
			return -1;
		if (l->count == capacity) {
			capacity = capacity ? 2 * capacity : 64;
			l->names = xreallocarray(l->names, capacity, sizeof(*l->names));
		}
		l->names[l->count++] = arena_strdup(&l->arena, e->d_name);
	}
	if (l->count)
		qsort(l->names, l->count, sizeof(*l->names), compare_names);
	return 0;
}

static void leave_folder(struct tree_tar *t)
{
	struct level *l = &t->levels[--t->depth];
	for (size_t i = 0; i < l->count; i++)
		t->memory -= strlen(l->names[i]) + 2 * sizeof(char *);
	if (l->stream)
		closedir(l->stream);
	free(l->names);
	arena_release(&l->arena);
	*l = (struct level){0};
}

// The path is the folder's and ends in '/', but for the root.
static int enter_folder(struct tree_tar *t, int parent, const char *name, struct error *err)
{
	if (t->depth == TREE_TAR_DEPTH_MAX)
		return error_set(err, ERROR_LIMIT, "\"%.150s\": folders in folders, more than %d",
			t->path, TREE_TAR_DEPTH_MAX);
	cleanup_fd int fd = open_name(parent, name, O_DIRECTORY);
	if (fd < 0)
		return errno == EXDEV ? refuse(t, err, "a mount point") : fail(t, errno, err);
	struct level *l = &t->levels[t->depth++];
	l->path_size = strlen(t->path);
	l->stream = fdopendir(fd);
	if (!l->stream)
		return fail(t, errno, err);
	steal_fd(&fd);
	return list_names(t, l, err);
}

// ---- entries

static int compare_first(const void *a, const void *b)
{
	const struct first_name *x = a, *y = b;
	if (x->device != y->device)
		return x->device < y->device ? -1 : 1;
	return x->inode < y->inode ? -1 : x->inode > y->inode;
}

// The path under which the archive has this file already; NULL: this is the first, now remembered.
static int find_first(
	struct tree_tar *t, const struct stat *st, const char **path, struct error *err)
{
	struct first_name key = {.device = st->st_dev, .inode = st->st_ino};
	struct first_name **found = tfind(&key, &t->names, compare_first);
	*path = NULL;
	if (found) {
		*path = (*found)->path;
		return 0;
	}
	if (account(t, strlen(t->path) + sizeof(key) + 4 * sizeof(void *), err) < 0)
		return -1;
	struct first_name *first = arena_new(&t->arena, struct first_name);
	*first = key;
	first->path = arena_strdup(&t->arena, t->path);
	if (!tsearch(first, &t->names, compare_first))
		abort();
	return 0;
}

static int begin_file(
	struct tree_tar *t, int folder, const char *name, const struct stat *st, struct error *err)
{
	struct tar_member m = {.path = t->path, .type = '0', .mtime = TREE_TAR_TIME};
	m.mode = st->st_mode & S_IXUSR ? 0755 : 0644;
	if (st->st_nlink > 1) {
		if (find_first(t, st, &m.link, err) < 0)
			return -1;
		if (m.link) {
			m.type = '1';
			tar_header_append(&t->head, &m);
			return 0;
		}
	}
	// O_NONBLOCK: it may be a FIFO by now.
	cleanup_fd int fd = open_name(folder, name, O_NONBLOCK);
	if (fd < 0)
		return errno == EXDEV ? refuse(t, err, "a mount point") : fail(t, errno, err);
	if (fstat(fd, &t->file_stat) < 0)
		return fail(t, errno, err);
	if (!S_ISREG(t->file_stat.st_mode) || t->file_stat.st_ino != st->st_ino)
		return refuse(t, err, "it was replaced while the tree was read");
	m.size = (uint64_t)t->file_stat.st_size;
	if (m.size > t->limits.bytes - t->bytes)
		return error_set(err, ERROR_LIMIT, "the tree has more than %llu bytes",
			(unsigned long long)t->limits.bytes);
	t->bytes += m.size;
	t->file = steal_fd(&fd);
	t->file_at = 0;
	tar_header_append(&t->head, &m);
	return 0;
}

static int add_link(struct tree_tar *t, int folder, const char *name, struct error *err)
{
	char target[LINK_BYTES_MAX + 1];
	ssize_t n = readlinkat(folder, name, target, sizeof(target));
	if (n < 0)
		return fail(t, errno, err);
	if (n == 0 || n == sizeof(target))
		return refuse(t, err, "a symbolic link with a target that is too long");
	target[n] = '\0';
	const struct tar_member m = {
		.path = t->path, .type = '2', .mode = 0777, .mtime = TREE_TAR_TIME, .link = target};
	tar_header_append(&t->head, &m);
	return 0;
}

static int add_folder(struct tree_tar *t, int parent, const char *name, struct error *err)
{
	size_t n = strlen(t->path);
	t->path[n] = '/';
	t->path[n + 1] = '\0';
	const struct tar_member m = {
		.path = t->path, .type = '5', .mode = 0755, .mtime = TREE_TAR_TIME};
	tar_header_append(&t->head, &m);
	return enter_folder(t, parent, name, err);
}

static int add_entry(struct tree_tar *t, const struct level *l, const char *name, struct error *err)
{
	int folder = dirfd(l->stream);
	struct stat st;
	if (l->path_size + strlen(name) > PATH_BYTES_MAX)
		return error_set(err, ERROR_LIMIT, "\"%.150s…\": a path of more than %d bytes",
			t->path, PATH_BYTES_MAX);
	memcpy(t->path + l->path_size, name, strlen(name) + 1);
	if (starts_with(name, ".wh."))
		return refuse(t, err,
			"in an image's layer a name that begins with \".wh.\" deletes a file");
	if (++t->entries > t->limits.entries)
		return error_set(err, ERROR_LIMIT, "the tree has more than %llu entries",
			(unsigned long long)t->limits.entries);
	if (fstatat(folder, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return fail(t, errno, err);
	switch (st.st_mode & S_IFMT) {
	case S_IFREG:
		return begin_file(t, folder, name, &st, err);
	case S_IFLNK:
		return add_link(t, folder, name, err);
	case S_IFDIR:
		return add_folder(t, folder, name, err);
	case S_IFIFO:
		return refuse(t, err, "a named pipe, which has no place in a layer");
	case S_IFSOCK:
		return refuse(t, err, "a socket, which has no place in a layer");
	default:
		return refuse(t, err, "a device, which has no place in a layer");
	}
}

static int advance(struct tree_tar *t, struct error *err)
{
	if (!t->begun) {
		t->begun = true;
		return enter_folder(t, t->folder, ".", err);
	}
	if (!t->depth) {
		t->ended = true;
		tar_end_append(&t->head);
		return 0;
	}
	struct level *l = &t->levels[t->depth - 1];
	if (l->next == l->count) {
		leave_folder(t);
		return 0;
	}
	return add_entry(t, l, l->names[l->next++], err);
}

// ---- the stream

static int end_file(struct tree_tar *t, struct error *err)
{
	struct stat st;
	if (fstat(t->file, &st) < 0)
		return fail(t, errno, err);
	if (st.st_size != t->file_stat.st_size ||
		st.st_mtim.tv_sec != t->file_stat.st_mtim.tv_sec ||
		st.st_mtim.tv_nsec != t->file_stat.st_mtim.tv_nsec)
		return refuse(t, err, "it changed while it was read");
	close_fdp(&t->file);
	t->file = -1;
	tar_padding_append(&t->head, t->file_at);
	return 0;
}

static ssize_t read_file(struct tree_tar *t, void *buffer, size_t size, struct error *err)
{
	uint64_t left = (uint64_t)t->file_stat.st_size - t->file_at;
	if (!left)
		return end_file(t, err);
	ssize_t n;
	do
		n = pread(t->file, buffer, size < left ? size : left, (off_t)t->file_at);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return fail(t, errno, err);
	if (n == 0)
		return refuse(t, err, "it became shorter while it was read");
	t->file_at += (uint64_t)n;
	return n;
}

static size_t take_head(struct tree_tar *t, void *buffer, size_t size)
{
	size_t n = t->head.size - t->head_at;
	if (n > size)
		n = size;
	memcpy(buffer, t->head.data + t->head_at, n);
	t->head_at += n;
	if (t->head_at == t->head.size) {
		buffer_clear(&t->head);
		t->head_at = 0;
	}
	return n;
}

ssize_t tree_tar_read(void *tree_tar, void *buffer, size_t size, struct error *err)
{
	struct tree_tar *t = tree_tar;
	size_t made = 0;
	while (made < size) {
		char *at = (char *)buffer + made;
		if (t->head.size) {
			made += take_head(t, at, size - made);
		} else if (t->file >= 0) {
			ssize_t n = read_file(t, at, size - made, err);
			if (n < 0)
				return -1;
			made += (size_t)n;
		} else if (t->ended) {
			break;
		} else if (advance(t, err) < 0) {
			return -1;
		}
	}
	return (ssize_t)made;
}

struct tree_tar *tree_tar_new(int folder, const struct layer_limits *limits)
{
	struct tree_tar *t = xcalloc(1, sizeof(*t));
	t->folder = folder;
	t->limits = *limits;
	t->file = -1;
	return t;
}

static void keep(void *first)
{
	(void)first; // in the arena
}

void tree_tar_free(struct tree_tar *t)
{
	if (!t)
		return;
	while (t->depth)
		leave_folder(t);
	tdestroy(t->names, keep);
	arena_release(&t->arena);
	buffer_release(&t->head);
	close_fdp(&t->file);
	free(t);
}
