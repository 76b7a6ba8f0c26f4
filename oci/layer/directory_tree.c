// SPDX-License-Identifier: Apache-2.0
#include "oci/layer/directory_tree.h"

#include "base/file.h"
#include "base/memory.h"
#include "base/text.h"

#include <linux/openat2.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

enum {
	LINKS_MAX = 40,
	RECORD_MEMORY = sizeof(struct directory_record),
	STEP_BYTES = 64, // of a path, that the kernel walks in about the time of one system call
};

void directory_tree_release(struct directory_tree *t)
{
	arena_release(&t->arena);
	free(t->records);
	close_fdp(&t->last);
}

// `*path` may be "": the root.
static int open_beneath(
	const struct directory_tree *t, const char *path, int flags, struct error *err)
{
	return file_open_beneath(
		t->root, path[0] ? path : ".", flags | O_CLOEXEC, 0, RESOLVE_NO_SYMLINKS, err);
}

static int record(struct directory_tree *t, const char *parent, const char *name, mode_t mode,
	int64_t mtime, uint32_t mtime_nsec, struct error *err)
{
	size_t size = strlen(parent) + strlen(name) + 2;
	if (size + RECORD_MEMORY > t->memory_limit - t->memory)
		return error_set(err, ERROR_LIMIT,
			"the names of the layer take more than %llu bytes of memory",
			(unsigned long long)t->memory_limit);
	t->memory += size + RECORD_MEMORY;
	if (t->record_count == t->record_capacity) {
		t->record_capacity = t->record_capacity ? 2 * t->record_capacity : 64;
		t->records = xreallocarray(t->records, t->record_capacity, sizeof(*t->records));
	}
	const char *path = arena_printf(&t->arena, "%s%s%s", parent, parent[0] ? "/" : "", name);
	uint32_t depth = path[0] != '\0';
	for (const char *p = path; *p; p++)
		depth += *p == '/';
	t->records[t->record_count] = (struct directory_record){.path = path,
		.mtime = mtime,
		.mtime_nsec = mtime_nsec,
		.mode = mode,
		.depth = depth,
		.sequence = (uint32_t)t->record_count};
	t->record_count++;
	return 0;
}

// On a file system without attributes layers are put together as if every directory had an entry.
static int set_mark(int fd, const char *name, struct error *err)
{
	if (fsetxattr(fd, name, "y", 1, 0) < 0 && errno != ENOTSUP)
		return error_set_errno(err, errno, "set %s", name);
	return 0;
}

void directory_tree_init(struct directory_tree *t, int root, const struct directory_marks *marks,
	uint64_t memory_limit)
{
	*t = (struct directory_tree){.root = root,
		.marks = marks,
		.memory_limit = memory_limit,
		.steps = {STEPS_FIRST},
		.last = -1};
	// An archive without an entry for the root means the same as one that says nothing of a
	// parent.
	struct error none;
	record(t, "", "", 0755, 0, 0, &none);
	set_mark(root, marks->implicit, &none);
}

static void forget_last(struct directory_tree *t)
{
	close_fdp(&t->last);
	t->last = -1;
}

int directory_tree_set_whiteouts(struct directory_tree *t, int fd, struct error *err)
{
	if (fsetxattr(fd, t->marks->whiteouts, "", 0, 0) < 0 && errno != ENOTSUP)
		return error_set_errno(err, errno, "set %s", t->marks->whiteouts);
	return 0;
}

int directory_tree_set_opaque(struct directory_tree *t, int fd, struct error *err)
{
	if (fsetxattr(fd, t->marks->opaque, "y", 1, 0) < 0)
		return error_set_errno(err, errno, "set %s", t->marks->opaque);
	return 0;
}

int directory_tree_clear(
	struct directory_tree *t, const struct directory_place *place, struct error *err)
{
	if (unlinkat(place->parent, place->name, 0) == 0 || errno == ENOENT)
		return 0;
	if (errno != EISDIR && errno != EPERM)
		return error_set_errno(err, errno, "replace");
	// The place lives in last_resolved, so that only the descriptor may go; the folder it
	// stands for is not below the one removed.
	t->last_path[0] = '\0';
	return directory_remove(place->parent, place->name, err);
}

int directory_tree_make(struct directory_tree *t, const struct directory_place *place, mode_t mode,
	int64_t mtime, uint32_t mtime_nsec, int *fd, struct error *err)
{
	bool replaces = false;
	struct stat st;
	// The root is there, and so may the folder be; all else makes room.
	if (place->name[0] && mkdirat(place->parent, place->name, 0700) < 0) {
		if (errno != EEXIST)
			return error_set_errno(err, errno, "make a folder");
		if (fstatat(place->parent, place->name, &st, AT_SYMLINK_NOFOLLOW) < 0)
			return error_set_errno(err, errno, "look at what stands there");
		replaces = !S_ISDIR(st.st_mode);
		if (replaces && (directory_tree_clear(t, place, err) < 0))
			return -1;
		if (replaces && mkdirat(place->parent, place->name, 0700) < 0)
			return error_set_errno(err, errno, "make a folder");
	}
	cleanup_fd int opened = openat(place->parent, place->name[0] ? place->name : ".",
		O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (opened < 0)
		return error_set_errno(err, errno, "open a folder");
	// What stood here, a file or a whiteout, had already removed a lower layer's folder of this
	// name; the new one must not bring its children back.
	if (replaces && directory_tree_set_opaque(t, opened, err) < 0)
		return -1;
	if (record(t, place->resolved, place->name, mode, mtime, mtime_nsec, err) < 0)
		return -1;
	*fd = steal_fd(&opened);
	return 0;
}

// A walk along a path. `resolved` is the way so far, without symbolic links.
struct walk {
	char resolved[PATH_MAX];
	size_t length;
	unsigned links;
};

static void step_up(struct walk *w)
{
	while (w->length && w->resolved[w->length - 1] != '/')
		w->length--;
	if (w->length)
		w->length--;
	w->resolved[w->length] = '\0';
}

static int step_down(struct walk *w, const char *name, size_t n, struct error *err)
{
	if (n > NAME_MAX || w->length + n + 2 > sizeof(w->resolved))
		return error_set(err, ERROR_INVALID, "a path on the way is too long");
	if (w->length)
		w->resolved[w->length++] = '/';
	memcpy(w->resolved + w->length, name, n);
	w->length += n;
	w->resolved[w->length] = '\0';
	return 0;
}

// Make the folder that the walk stands on, below its parent. `implicit`: nothing of this layer
// stood there, so a lower layer's attributes are the folder's.
static int make_missing(
	struct directory_tree *t, const struct walk *w, bool implicit, struct error *err)
{
	struct walk up = *w;
	step_up(&up);
	cleanup_fd int parent = open_beneath(t, up.resolved, O_RDONLY | O_DIRECTORY, err);
	if (parent < 0)
		return -1;
	const struct directory_place place = {parent, path_base(w->resolved), up.resolved};
	cleanup_fd int made = -1;
	if (directory_tree_make(t, &place, 0755, 0, 0, &made, err) < 0)
		return -1;
	t->below |= implicit;
	return implicit ? set_mark(made, t->marks->implicit, err) : 0;
}

static int walk_path(struct directory_tree *t, struct walk *w, const char *path, struct error *err);

// Something that is no folder stands where the walk is.
static int step_aside(struct directory_tree *t, struct walk *w, struct error *err)
{
	cleanup_fd int fd = open_beneath(t, w->resolved, O_PATH | O_NOFOLLOW, err);
	if (fd < 0)
		return -1;
	struct stat st;
	if (fstat(fd, &st) < 0)
		return error_set_errno(err, errno, "fstat");
	if (S_ISCHR(st.st_mode) && st.st_rdev == makedev(0, 0))
		return make_missing(t, w, false, err); // a whiteout
	if (!S_ISLNK(st.st_mode))
		return error_set(
			err, ERROR_INVALID, "\"%s\" on the way is not a directory", w->resolved);
	if (++w->links > LINKS_MAX)
		return error_set(err, ERROR_INVALID,
			"\"%s\" on the way leads through too many symbolic links", w->resolved);
	char target[PATH_MAX];
	ssize_t n = readlinkat(fd, "", target, sizeof(target) - 1);
	if (n < 0)
		return error_set_errno(err, errno, "read a symbolic link");
	target[n] = '\0';
	step_up(w);
	if (target[0] == '/')
		w->resolved[w->length = 0] = '\0';
	return walk_path(t, w, target, err);
}

static int walk_path(struct directory_tree *t, struct walk *w, const char *path, struct error *err)
{
	for (const char *name = path; *name;) {
		size_t n = strcspn(name, "/");
		const char *next = name + n + (name[n] == '/');
		bool up = n == 2 && memcmp(name, "..", 2) == 0;
		bool stay = n == 0 || (n == 1 && name[0] == '.');
		// The kernel walks all of the way so far again.
		if (steps_take(&t->steps, 1 + w->length / STEP_BYTES, err) < 0)
			return -1;
		if (up)
			step_up(w);
		else if (!stay && step_down(w, name, n, err) < 0)
			return -1;
		name = next;
		if (up || stay)
			continue;
		struct error why;
		cleanup_fd int fd = open_beneath(t, w->resolved, O_PATH | O_DIRECTORY, &why);
		if (fd >= 0)
			continue;
		int result = 0;
		if (why.sys == ENOENT)
			result = make_missing(t, w, true, err);
		else if (why.sys == ENOTDIR || why.sys == ELOOP)
			result = step_aside(t, w, err);
		else
			result = (*err = why, -1);
		if (result < 0)
			return -1;
	}
	return 0;
}

int directory_tree_open(struct directory_tree *t, const char *path, int *fd, struct error *err)
{
	if (strlen(path) >= PATH_MAX)
		return error_set(err, ERROR_INVALID, "a path is too long");
	if (t->last >= 0 && path[0] && streq(path, t->last_path)) {
		*fd = t->last;
		return 0;
	}
	// Mostly the folder is there and no symbolic link is in the way.
	struct walk w = {.length = strlen(path)};
	memcpy(w.resolved, path, w.length + 1);
	struct error why;
	cleanup_fd int opened = open_beneath(t, path, O_RDONLY | O_DIRECTORY, &why);
	if (opened < 0) {
		w = (struct walk){0};
		steps_grant(&t->steps);
		if (walk_path(t, &w, path, err) < 0)
			return -1;
		opened = open_beneath(t, w.resolved, O_RDONLY | O_DIRECTORY, err);
		if (opened < 0)
			return -1;
	}
	forget_last(t);
	t->last = steal_fd(&opened);
	memcpy(t->last_path, path, strlen(path) + 1);
	memcpy(t->last_resolved, w.resolved, w.length + 1);
	*fd = t->last;
	return 0;
}

int directory_tree_place(struct directory_tree *t, const char *path, struct directory_place *place,
	struct error *err)
{
	char parent[PATH_MAX];
	const char *name = path_base(path);
	size_t n = name > path ? (size_t)(name - path) - 1 : 0;
	if (n >= sizeof(parent))
		return error_set(err, ERROR_INVALID, "a path is too long");
	memcpy(parent, path, n);
	parent[n] = '\0';
	if (directory_tree_open(t, parent, &place->parent, err) < 0)
		return -1;
	place->name = name;
	place->resolved = t->last_resolved;
	return 0;
}

static int deepest_first(const void *a, const void *b)
{
	const struct directory_record *x = a, *y = b;
	if (x->depth != y->depth)
		return x->depth > y->depth ? -1 : 1;
	int by_path = strcmp(x->path, y->path);
	if (by_path)
		return by_path;
	return x->sequence > y->sequence ? -1 : x->sequence < y->sequence;
}

static int apply_record(
	const struct directory_tree *t, const struct directory_record *r, struct error *err)
{
	struct error why;
	cleanup_fd int fd = open_beneath(t, r->path, O_RDONLY | O_DIRECTORY, &why);
	// Replaced by something else meanwhile, or its parent was.
	if (fd < 0 && (why.sys == ENOENT || why.sys == ENOTDIR || why.sys == ELOOP))
		return 0;
	if (fd < 0)
		return *err = why, -1;
	const struct timespec times[2] = {{r->mtime, r->mtime_nsec}, {r->mtime, r->mtime_nsec}};
	if (fchmod(fd, r->mode & 07777) < 0 || futimens(fd, times) < 0)
		return error_set_errno(err, errno, "%s", r->path);
	return 0;
}

int directory_tree_apply(struct directory_tree *t, struct error *err)
{
	forget_last(t);
	if (t->below && set_mark(t->root, t->marks->below, err) < 0)
		return -1;
	if (t->record_count)
		qsort(t->records, t->record_count, sizeof(t->records[0]), deepest_first);
	for (size_t i = 0; i < t->record_count; i++) {
		// Only the newest record of a path: an older one might take our own access away.
		if (i && streq(t->records[i].path, t->records[i - 1].path))
			continue;
		if (apply_record(t, &t->records[i], err) < 0)
			return -1;
	}
	return 0;
}
