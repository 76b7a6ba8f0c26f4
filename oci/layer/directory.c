// SPDX-License-Identifier: Apache-2.0
#include "oci/layer/directory.h"

#include "base/arena.h"
#include "base/file.h"
#include "base/memory.h"
#include "base/text.h"
#include "oci/layer/directory_tree.h"
#include "oci/layer/mark.h"

#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

enum { ABSENT_MAX = 4096 }; // searched one by one; a full /dev has some hundreds

// What an entry gets once it is there. The order matters: a change of owner clears the setuid bits,
// and both a change of owner and a write remove security.capability.
struct metadata {
	mode_t mode;
	uint32_t uid, gid;
	int64_t mtime;
	uint32_t mtime_nsec;
	const struct layer_xattr *xattrs;
	size_t xattr_count;
};

struct directory_writer {
	struct layer_sink sink; // first: the functions get the writer back from it
	enum directory_form form;
	struct directory_tree tree;
	// The regular file whose data is arriving.
	int file; // -1: none
	char *file_path;
	uint64_t file_size, file_end; // as announced; behind the last byte written
	struct metadata file_metadata;
	struct arena file_arena; // its attributes
	// Unprivileged: devices that were left out, so that hard links to them are, too.
	const char **absent;
	size_t absent_count, absent_capacity;
};

static struct directory_writer *writer_of(struct layer_sink *s)
{
	return (struct directory_writer *)s;
}

static struct metadata metadata_of(const struct layer_entry *e)
{
	return (struct metadata){
		.mode = e->mode & 07777,
		.uid = e->uid,
		.gid = e->gid,
		.mtime = e->mtime,
		// Numbers behind a second would be commands to utimensat(2).
		.mtime_nsec = e->mtime_nsec < 1000000000 ? e->mtime_nsec : 0,
		.xattrs = e->xattrs,
		.xattr_count = e->xattr_count,
	};
}

// An attribute that this form or this kind of file cannot have is left out, as all unpackers do.
static bool xattr_expected(
	const struct directory_writer *w, const struct layer_xattr *x, mode_t type)
{
	if (starts_with(x->name, "user."))
		return S_ISREG(type) || S_ISDIR(type);
	return w->form == DIRECTORY_PRIVILEGED;
}

static int xattr_failed(const struct layer_xattr *x, struct error *err)
{
	// A file system without attributes holds most images well; only a lost capability changes
	// what a program may do.
	if (errno == ENOTSUP && !streq(x->name, "security.capability"))
		return 0;
	return error_set_errno(err, errno, "set attribute %s", x->name);
}

static int set_xattrs_fd(const struct directory_writer *w, int fd, mode_t type,
	const struct metadata *m, struct error *err)
{
	for (size_t i = 0; i < m->xattr_count; i++) {
		const struct layer_xattr *x = &m->xattrs[i];
		if (xattr_expected(w, x, type) &&
			fsetxattr(fd, x->name, x->value, x->size, 0) < 0 &&
			xattr_failed(x, err) < 0)
			return -1;
	}
	return 0;
}

// Of what cannot be opened: links and devices. There is no setxattrat(2) before Linux 6.13, so the
// folder becomes the current one; nothing else in this process depends on that.
static int set_xattrs_name(const struct directory_writer *w, const struct directory_place *place,
	mode_t type, const struct metadata *m, struct error *err)
{
	if (m->xattr_count && fchdir(place->parent) < 0)
		return error_set_errno(err, errno, "enter the folder");
	for (size_t i = 0; i < m->xattr_count; i++) {
		const struct layer_xattr *x = &m->xattrs[i];
		if (xattr_expected(w, x, type) &&
			lsetxattr(place->name, x->name, x->value, x->size, 0) < 0 &&
			xattr_failed(x, err) < 0)
			return -1;
	}
	return 0;
}

static int set_owner(
	const struct directory_writer *w, int fd, const struct metadata *m, struct error *err)
{
	if (w->form == DIRECTORY_PRIVILEGED && fchown(fd, m->uid, m->gid) < 0)
		return error_set_errno(err, errno, "set the owner %u:%u", m->uid, m->gid);
	return 0;
}

static int finish_open_file(struct directory_writer *w, struct error *err)
{
	const struct metadata *m = &w->file_metadata;
	const struct timespec times[2] = {{m->mtime, m->mtime_nsec}, {m->mtime, m->mtime_nsec}};
	// A hole at the end is not passed as data.
	if (w->file_end < w->file_size && ftruncate(w->file, (off_t)w->file_size) < 0)
		return error_set_errno(err, errno, "set the size");
	if (set_owner(w, w->file, m, err) < 0)
		return -1;
	if (fchmod(w->file, m->mode) < 0)
		return error_set_errno(err, errno, "set the mode");
	if (set_xattrs_fd(w, w->file, S_IFREG, m, err) < 0)
		return -1;
	if (futimens(w->file, times) < 0)
		return error_set_errno(err, errno, "set the time");
	return 0;
}

static int finish_file(struct directory_writer *w, struct error *err)
{
	if (w->file < 0)
		return 0;
	int result = finish_open_file(w, err);
	if (result < 0)
		error_context(err, "%s", w->file_path);
	close_fdp(&w->file);
	w->file = -1;
	free(steal(w->file_path));
	arena_release(&w->file_arena);
	return result;
}

// The attributes have to outlive the entry: they are set behind the last byte.
static void keep_xattrs(struct directory_writer *w, struct metadata *m)
{
	if (!m->xattr_count)
		return;
	struct layer_xattr *kept = arena_array(&w->file_arena, struct layer_xattr, m->xattr_count);
	for (size_t i = 0; i < m->xattr_count; i++) {
		const struct layer_xattr *x = &m->xattrs[i];
		kept[i].name = arena_strdup(&w->file_arena, x->name);
		kept[i].value = arena_strndup(&w->file_arena, x->value, x->size);
		kept[i].size = x->size;
	}
	m->xattrs = kept;
}

static int add_file(struct directory_writer *w, const struct layer_entry *e,
	const struct directory_place *place, struct error *err)
{
	const int flags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC;
	int fd = openat(place->parent, place->name, flags, 0600);
	if (fd < 0 && errno == EEXIST) {
		if (directory_tree_clear(&w->tree, place, err) < 0)
			return -1;
		fd = openat(place->parent, place->name, flags, 0600);
	}
	if (fd < 0)
		return error_set_errno(err, errno, "make a file");
	w->file = fd;
	w->file_path = xstrdup(e->path);
	w->file_size = e->size;
	w->file_end = 0;
	w->file_metadata = metadata_of(e);
	keep_xattrs(w, &w->file_metadata);
	return e->size ? 0 : finish_file(w, err);
}

// Attributes of an earlier entry for the same folder; what marks it opaque or with whiteouts stays.
static int drop_xattrs(const struct directory_writer *w, int fd, struct error *err)
{
	char names[64 * 1024]; // XATTR_LIST_MAX
	ssize_t size = flistxattr(fd, names, sizeof(names));
	if (size < 0 && errno != ENOTSUP)
		return error_set_errno(err, errno, "list attributes");
	for (const char *name = names; name < names + size; name += strlen(name) + 1) {
		bool ours = starts_with(name, "user.") || starts_with(name, "trusted.") ||
			    streq(name, "security.capability");
		bool stays =
			streq(name, w->tree.marks->opaque) || streq(name, w->tree.marks->whiteouts);
		if (ours && !stays && fremovexattr(fd, name) < 0)
			return error_set_errno(err, errno, "remove attribute %s", name);
	}
	return 0;
}

static int add_directory(struct directory_writer *w, const struct layer_entry *e,
	const struct directory_place *place, struct error *err)
{
	struct metadata m = metadata_of(e);
	cleanup_fd int fd = -1;
	if (directory_tree_make(&w->tree, place, m.mode, m.mtime, m.mtime_nsec, &fd, err) < 0)
		return -1;
	if (drop_xattrs(w, fd, err) < 0 || set_owner(w, fd, &m, err) < 0)
		return -1;
	return set_xattrs_fd(w, fd, S_IFDIR, &m, err);
}

// A symbolic link, a device or a FIFO: what mknod(2) and symlink(2) make.
static int make_special(const struct layer_entry *e, const struct directory_place *place)
{
	if (S_ISLNK(e->mode))
		return symlinkat(e->link, place->parent, place->name);
	dev_t device = S_ISFIFO(e->mode) ? 0 : makedev(e->rdev_major, e->rdev_minor);
	return mknodat(place->parent, place->name, (e->mode & S_IFMT) | 0600, device);
}

static int add_special(struct directory_writer *w, const struct layer_entry *e,
	const struct directory_place *place, struct error *err)
{
	struct metadata m = metadata_of(e);
	int made = make_special(e, place);
	if (made < 0 && errno == EEXIST) {
		if (directory_tree_clear(&w->tree, place, err) < 0)
			return -1;
		made = make_special(e, place);
	}
	if (made < 0)
		return error_set_errno(err, errno, "make it");
	if (w->form == DIRECTORY_PRIVILEGED &&
		fchownat(place->parent, place->name, m.uid, m.gid, AT_SYMLINK_NOFOLLOW) < 0)
		return error_set_errno(err, errno, "set the owner %u:%u", m.uid, m.gid);
	if (!S_ISLNK(e->mode) && fchmodat(place->parent, place->name, m.mode, 0) < 0)
		return error_set_errno(err, errno, "set the mode");
	if (set_xattrs_name(w, place, e->mode, &m, err) < 0)
		return -1;
	const struct timespec times[2] = {{m.mtime, m.mtime_nsec}, {m.mtime, m.mtime_nsec}};
	if (utimensat(place->parent, place->name, times, AT_SYMLINK_NOFOLLOW) < 0)
		return error_set_errno(err, errno, "set the time");
	return 0;
}

// Only root makes devices; a 0:0 character device is a whiteout, which everybody may make.
static bool left_out(const struct directory_writer *w, const struct layer_entry *e)
{
	if (w->form == DIRECTORY_PRIVILEGED)
		return false;
	return S_ISBLK(e->mode) || (S_ISCHR(e->mode) && (e->rdev_major || e->rdev_minor));
}

static int leave_out(struct directory_writer *w, const char *path,
	const struct directory_place *place, struct error *err)
{
	if (directory_tree_clear(&w->tree, place, err) < 0)
		return -1;
	if (w->absent_count == ABSENT_MAX)
		return error_set(err, ERROR_LIMIT, "more than %d devices, which only root can make",
			ABSENT_MAX);
	if (w->absent_count == w->absent_capacity) {
		w->absent_capacity = w->absent_capacity ? 2 * w->absent_capacity : 16;
		w->absent = xreallocarray(w->absent, w->absent_capacity, sizeof(*w->absent));
	}
	w->absent[w->absent_count++] = arena_strdup(&w->tree.arena, path);
	return 0;
}

static int writer_add(struct layer_sink *s, const struct layer_entry *e, struct error *err)
{
	struct directory_writer *w = writer_of(s);
	struct directory_place place;
	if (finish_file(w, err) < 0)
		return -1;
	int result = directory_tree_place(&w->tree, e->path, &place, err);
	if (result == 0 && !place.name[0] && !S_ISDIR(e->mode))
		result = error_set(err, ERROR_INVALID, "the root is not a directory");
	else if (result == 0 && S_ISDIR(e->mode))
		result = add_directory(w, e, &place, err);
	else if (result == 0 && S_ISREG(e->mode))
		result = add_file(w, e, &place, err);
	else if (result == 0 && left_out(w, e))
		result = leave_out(w, e->path, &place, err);
	else if (result == 0)
		result = add_special(w, e, &place, err);
	return result < 0 ? error_context(err, "%s", e->path) : 0;
}

static int writer_data(
	struct layer_sink *s, uint64_t offset, const void *data, size_t size, struct error *err)
{
	struct directory_writer *w = writer_of(s);
	if (w->file < 0 || offset > w->file_size || size > w->file_size - offset)
		return error_set(err, ERROR_INVALID, "data behind the end of a file");
	if (pwrite_all(w->file, data, size, (off_t)offset, w->file_path, err) < 0)
		return -1;
	w->file_end = offset + size;
	return 0;
}

static bool is_absent(const struct directory_writer *w, const char *path)
{
	for (size_t i = 0; i < w->absent_count; i++)
		if (streq(w->absent[i], path))
			return true;
	return false;
}

static int link_to(struct directory_writer *w, const char *path, int from, const char *from_name,
	struct error *err)
{
	struct directory_place place;
	struct stat st, there;
	if (fstatat(from, from_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return error_set(
			err, ERROR_INVALID, "a hard link to what does not exist in this layer");
	if (S_ISDIR(st.st_mode))
		return error_set(err, ERROR_INVALID, "a hard link to a directory");
	if (directory_tree_place(&w->tree, path, &place, err) < 0)
		return -1;
	if (fstatat(place.parent, place.name, &there, AT_SYMLINK_NOFOLLOW) == 0) {
		if (there.st_dev == st.st_dev && there.st_ino == st.st_ino)
			return 0; // to itself, or a second time
		if (directory_tree_clear(&w->tree, &place, err) < 0)
			return -1;
	}
	if (linkat(from, from_name, place.parent, place.name, 0) < 0)
		return error_set_errno(err, errno, "make a hard link");
	return 0;
}

static int writer_link(
	struct layer_sink *s, const char *path, const char *target, struct error *err)
{
	struct directory_writer *w = writer_of(s);
	struct directory_place place;
	if (finish_file(w, err) < 0)
		return -1;
	if (is_absent(w, target))
		return 0;
	if (directory_tree_place(&w->tree, target, &place, err) < 0)
		return error_context(err, "%s", path);
	cleanup_fd int from = fcntl(place.parent, F_DUPFD_CLOEXEC, 3);
	if (from < 0)
		return error_set_errno(err, errno, "%s", path);
	if (link_to(w, path, from, place.name, err) < 0)
		return error_context(err, "%s -> %s", path, target);
	return 0;
}

static int writer_whiteout(struct layer_sink *s, const char *path, struct error *err)
{
	struct directory_writer *w = writer_of(s);
	struct directory_place place;
	if (finish_file(w, err) < 0 || directory_tree_place(&w->tree, path, &place, err) < 0)
		return -1;
	if (mknodat(place.parent, place.name, S_IFCHR, makedev(0, 0)) == 0)
		return directory_tree_set_whiteouts(&w->tree, place.parent, err);
	if (errno != EEXIST)
		return error_set_errno(err, errno, "%s: make a whiteout", path);
	// A whiteout is about the layers below: what this layer has stays, and of a folder only
	// this layer's part.
	int fd = openat(place.parent, place.name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return 0;
	int result = directory_tree_set_opaque(&w->tree, fd, err);
	close_fdp(&fd);
	return result < 0 ? error_context(err, "%s", path) : 0;
}

static int writer_opaque(struct layer_sink *s, const char *path, struct error *err)
{
	struct directory_writer *w = writer_of(s);
	int fd;
	if (finish_file(w, err) < 0)
		return -1;
	if (directory_tree_open(&w->tree, path, &fd, err) < 0 ||
		directory_tree_set_opaque(&w->tree, fd, err) < 0)
		return error_context(err, "%s", path);
	return 0;
}

static int writer_flush(struct layer_sink *s, struct error *err)
{
	(void)s, (void)err; // data() writes at once: nothing refers to its memory
	return 0;
}

static int writer_finish(struct layer_sink *s, struct error *err)
{
	struct directory_writer *w = writer_of(s);
	if (finish_file(w, err) < 0 || directory_tree_apply(&w->tree, err) < 0)
		return -1;
	if (syncfs(w->tree.root) < 0)
		return error_set_errno(err, errno, "write the layer's files to the disk");
	return 0;
}

static void writer_free(struct layer_sink *s)
{
	struct directory_writer *w = writer_of(s);
	close_fdp(&w->file);
	free(w->file_path);
	arena_release(&w->file_arena);
	free(w->absent);
	directory_tree_release(&w->tree);
	free(w);
}

static const struct layer_sink_functions functions = {
	.add = writer_add,
	.data = writer_data,
	.link = writer_link,
	.whiteout = writer_whiteout,
	.opaque = writer_opaque,
	.flush = writer_flush,
	.finish = writer_finish,
	.free = writer_free,
};

static const struct directory_marks marks[] = {
	[DIRECTORY_PRIVILEGED] = {"trusted." LAYER_MARK_OPAQUE, "trusted." LAYER_MARK_IMPLICIT,
		"trusted." LAYER_MARK_BELOW, "trusted." LAYER_MARK_WHITEOUTS},
	[DIRECTORY_UNPRIVILEGED] = {"user." LAYER_MARK_OPAQUE, "user." LAYER_MARK_IMPLICIT,
		"user." LAYER_MARK_BELOW, "user." LAYER_MARK_WHITEOUTS},
};

struct layer_sink *directory_writer_new(
	int dirfd, enum directory_form form, const struct layer_limits *limits)
{
	struct directory_writer *w = xcalloc(1, sizeof(*w));
	w->sink.functions = &functions;
	w->form = form;
	w->file = -1;
	directory_tree_init(&w->tree, dirfd, &marks[form], limits->metadata_bytes);
	return &w->sink;
}
