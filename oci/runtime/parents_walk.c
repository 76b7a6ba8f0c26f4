// SPDX-License-Identifier: Apache-2.0
//
// Layers are a stranger's: everything is opened from a layer's root by openat2(2), with no symbolic
// link followed, and one folder at a time, so that neither depth nor width takes descriptors.
#include "oci/runtime/parents_walk.h"

#include "base/file.h"
#include "base/memory.h"
#include "base/text.h"
#include "oci/layer/mark.h"

#include <dirent.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/xattr.h>

enum { XATTRS_MAX = 64 * 1024 }; // XATTR_LIST_MAX and XATTR_SIZE_MAX (xattr(7))

// A directory of the merged view.
struct node {
	struct node *parent; // NULL: the root
	struct node *next;   // still to be visited
	size_t source;	     // the layer whose attributes it has
	bool written;
	size_t count; // layers whose children show in it, top first
	uint16_t *layers;
	const char *path; // "." for the root
};

struct walk {
	const struct parents_tree *tree;
	struct arena arena;
	size_t memory;
	bool *below; // per layer, its root's mark
	struct node *pending;
	struct layer_sink *sink; // NULL until something is to be written
	struct layer_sink *(*open)(void *data, struct error *err);
	void *data;
};

static bool has_mark(int fd, const struct parents_tree *t, const char *mark)
{
	char name[64], value[2];
	snprintf(name, sizeof(name), "%s%s", t->prefix, mark);
	return fgetxattr(fd, name, value, sizeof(value)) == 1 && value[0] == 'y';
}

// Not what steers overlayfs, nor what the node's own policy labels its files with.
static bool is_copied(const char *name)
{
	return !starts_with(name, "trusted.overlay.") && !starts_with(name, "user.overlay.") &&
	       !streq(name, "security.selinux");
}

// The names of attributes, one after the other; returns their size.
static int list_xattrs(int fd, char names[XATTRS_MAX], size_t *size, struct error *err)
{
	ssize_t n = flistxattr(fd, names, XATTRS_MAX);
	if (n < 0 && errno != ENOTSUP)
		return error_set_errno(err, errno, "list attributes");
	*size = n < 0 ? 0 : (size_t)n;
	return 0;
}

int parents_look(const struct parents_tree *t, size_t layer, const char *path,
	struct parents_directory *d, int *fd, bool *gone, struct error *err)
{
	struct error why;
	struct stat st;
	char names[XATTRS_MAX];
	size_t size = 0;
	cleanup_fd int opened = file_open_beneath(t->roots[layer], path,
		O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC, 0, RESOLVE_NO_SYMLINKS, &why);
	*gone = opened < 0 && why.sys == ENOENT;
	// Without root a folder may be closed to us; overlayfs could not merge it either.
	if (opened < 0 && (*gone || why.sys == ENOTDIR || why.sys == ELOOP || why.sys == EACCES))
		return 0;
	if (opened < 0)
		return *err = why, -1;
	if (fstat(opened, &st) < 0)
		return error_set_errno(err, errno, "%s", path);
	if (list_xattrs(opened, names, &size, err) < 0)
		return error_context(err, "%s", path);
	*d = (struct parents_directory){
		.implicit = has_mark(opened, t, LAYER_MARK_IMPLICIT),
		.opaque = has_mark(opened, t, LAYER_MARK_OPAQUE),
		.below = has_mark(opened, t, LAYER_MARK_BELOW),
		.uid = st.st_uid,
		.gid = st.st_gid,
		.mode = st.st_mode & 07777,
	};
	for (const char *name = names; name < names + size; name += strlen(name) + 1)
		d->xattrs |= is_copied(name);
	*fd = steal_fd(&opened);
	return 1;
}

static void *allocate(struct walk *w, size_t size, struct error *err)
{
	if (size > PARENTS_MEMORY_MAX - w->memory) {
		error_set(err, ERROR_LIMIT,
			"the layers have so many directories in common that their names take more "
			"than %d MiB",
			PARENTS_MEMORY_MAX >> 20);
		return NULL;
	}
	w->memory += size;
	return arena_alloc(&w->arena, size);
}

// ---- writing

// The attributes, in an arena of the caller's.
static int read_xattrs(int fd, struct arena *a, struct layer_entry *e, struct error *err)
{
	char names[XATTRS_MAX];
	size_t size = 0, count = 0;
	if (list_xattrs(fd, names, &size, err) < 0)
		return -1;
	for (size_t i = 0; i < size; i++)
		count += names[i] == '\0';
	struct layer_xattr *xattrs = arena_array(a, struct layer_xattr, count);
	for (const char *name = names; name < names + size; name += strlen(name) + 1) {
		if (!is_copied(name))
			continue;
		ssize_t n = fgetxattr(fd, name, NULL, 0);
		char *value = n < 0 ? NULL : arena_alloc(a, (size_t)n + 1);
		if (!value || fgetxattr(fd, name, value, (size_t)n) != n)
			return error_set_errno(err, errno, "read attribute %s", name);
		xattrs[e->xattr_count++] = (struct layer_xattr){
			.name = arena_strdup(a, name), .value = value, .size = (size_t)n};
	}
	e->xattrs = xattrs;
	return 0;
}

static int write_node(struct walk *w, const struct node *n, struct error *err)
{
	cleanup_arena struct arena a = {0};
	struct stat st;
	cleanup_fd int fd = file_open_beneath(w->tree->roots[n->source], n->path,
		O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC, 0, RESOLVE_NO_SYMLINKS, err);
	if (fd < 0)
		return -1;
	if (fstat(fd, &st) < 0)
		return error_set_errno(err, errno, "%s", n->path);
	struct layer_entry e = {
		.path = n->parent ? n->path : "",
		.mode = st.st_mode,
		.uid = st.st_uid,
		.gid = st.st_gid,
		.mtime = st.st_mtim.tv_sec,
		.mtime_nsec = (uint32_t)st.st_mtim.tv_nsec,
	};
	if (read_xattrs(fd, &a, &e, err) < 0)
		return error_context(err, "%s", n->path);
	return w->sink->functions->add(w->sink, &e, err);
}

// The way to it first, from the root: turn the chain of parents round, bounded by the path's
// length.
static int write_with_parents(struct walk *w, struct node *n, struct error *err)
{
	if (!w->sink && !(w->sink = w->open(w->data, err)))
		return -1;
	while (!n->written) {
		struct node *top = n;
		while (top->parent && !top->parent->written)
			top = top->parent;
		if (write_node(w, top, err) < 0)
			return -1;
		top->written = true;
	}
	return 0;
}

// ---- walking

// What the layers say of one path, top first.
struct merge {
	size_t top, source; // SIZE_MAX: none
	struct parents_directory top_directory, source_directory;
	size_t count; // layers whose children show
	uint16_t layers[UINT16_MAX];
};

static int merge_path(const struct walk *w, const uint16_t *layers, size_t count, const char *path,
	struct merge *m, struct error *err)
{
	bool closed = false; // what is further down shows no children
	m->top = m->source = SIZE_MAX;
	m->count = 0;
	for (size_t i = 0; i < count && !(closed && m->source != SIZE_MAX); i++) {
		struct parents_directory d;
		cleanup_fd int fd = -1;
		bool gone;
		int found = parents_look(w->tree, layers[i], path, &d, &fd, &gone, err);
		if (found < 0)
			return -1;
		if (!found && gone)
			continue;
		if (!found)
			break; // a whiteout or a file: what is further down does not show
		if (m->top == SIZE_MAX) {
			m->top = layers[i];
			m->top_directory = d;
		}
		if (m->source == SIZE_MAX && !d.implicit) {
			m->source = layers[i];
			m->source_directory = d;
		}
		if (!closed)
			m->layers[m->count++] = layers[i];
		// An opaque whiteout removes what is in the directory, not the directory: where
		// this layer has no entry for it, its attributes still come from below.
		closed |= d.opaque;
	}
	return 0;
}

// Is there anything to be found further down?
static bool is_worth_a_visit(const struct walk *w, const struct merge *m)
{
	for (size_t i = 0; i + 1 < m->count; i++)
		if (w->below[m->layers[i]])
			return true;
	return false;
}

static bool is_wrong(const struct merge *m)
{
	return m->top_directory.implicit && m->source != SIZE_MAX;
}

// The root's time is that of putting layers together for some unpackers, and not worth a layer.
static bool is_root_wrong(const struct merge *m)
{
	const struct parents_directory *t = &m->top_directory, *s = &m->source_directory;
	return is_wrong(m) &&
	       (s->xattrs || s->mode != t->mode || s->uid != t->uid || s->gid != t->gid);
}

static int add_node(struct walk *w, struct node *parent, const char *path, const struct merge *m,
	struct error *err)
{
	bool wrong = parent ? is_wrong(m) : is_root_wrong(m), visit = is_worth_a_visit(w, m);
	if (!wrong && !visit)
		return 0;
	size_t length = strlen(path) + 1, list = m->count * sizeof(uint16_t);
	struct node *n = allocate(w, sizeof(*n) + list + length, err);
	if (!n)
		return -1;
	n->parent = parent;
	n->source = m->source == SIZE_MAX ? m->top : m->source;
	n->count = m->count;
	n->layers = memcpy(n + 1, m->layers, list);
	n->path = memcpy((char *)(n + 1) + list, path, length);
	if (visit) {
		n->next = w->pending;
		w->pending = n;
	}
	return wrong ? write_with_parents(w, n, err) : 0;
}

// A name in the directory `n` of its index-th layer.
static int visit_name(struct walk *w, struct node *n, size_t index, const char *name,
	struct merge *m, struct error *err)
{
	char path[PATH_MAX];
	int length = n->parent ? snprintf(path, sizeof(path), "%s/%s", n->path, name)
			       : snprintf(path, sizeof(path), "%s", name);
	// Deeper than anybody can say in one path.
	if (length >= (int)sizeof(path))
		return 0;
	if (merge_path(w, n->layers, n->count, path, m, err) < 0)
		return -1;
	// Found already in a layer further up, or hidden by one.
	for (size_t i = 0; i < m->count && m->layers[i] != n->layers[index]; i++)
		if (w->below[m->layers[i]])
			return 0;
	return m->count ? add_node(w, n, path, m, err) : 0;
}

static int visit_layer(
	struct walk *w, struct node *n, size_t index, struct merge *m, struct error *err)
{
	int fd = file_open_beneath(w->tree->roots[n->layers[index]], n->path,
		O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC, 0, RESOLVE_NO_SYMLINKS, err);
	if (fd < 0)
		return -1;
	DIR *d = fdopendir(fd);
	if (!d) {
		int sys = errno;
		close_fdp(&fd);
		return error_set_errno(err, sys, "read folder %s", n->path);
	}
	int status = 0;
	struct dirent *e;
	while (status == 0 && (errno = 0, e = readdir(d)))
		if ((e->d_type == DT_DIR || e->d_type == DT_UNKNOWN) && !streq(e->d_name, ".") &&
			!streq(e->d_name, ".."))
			status = visit_name(w, n, index, e->d_name, m, err);
	int sys = status == 0 ? errno : 0;
	closedir(d);
	return sys ? error_set_errno(err, sys, "read folder %s", n->path) : status;
}

static int walk_all(struct walk *w, struct merge *m, struct error *err)
{
	const struct parents_tree *t = w->tree;
	cleanup_free uint16_t *all = xcalloc(t->count, sizeof(*all));
	for (size_t i = 0; i < t->count; i++) {
		struct parents_directory d = {0};
		cleanup_fd int fd = -1;
		bool gone;
		if (parents_look(t, i, ".", &d, &fd, &gone, err) < 0)
			return -1;
		w->below[i] = d.below;
		all[i] = (uint16_t)i;
	}
	if (merge_path(w, all, t->count, ".", m, err) < 0 || add_node(w, NULL, ".", m, err) < 0)
		return -1;
	while (w->pending) {
		struct node *n = w->pending;
		w->pending = n->next;
		for (size_t i = 0; i + 1 < n->count; i++)
			if (w->below[n->layers[i]] && visit_layer(w, n, i, m, err) < 0)
				return -1;
	}
	return 0;
}

int parents_walk(const struct parents_tree *t,
	struct layer_sink *(*open)(void *data, struct error *err), void *data, struct error *err)
{
	struct walk w = {.tree = t, .open = open, .data = data};
	w.below = xcalloc(t->count, sizeof(*w.below));
	struct merge *m = xcalloc(1, sizeof(*m));
	int status = walk_all(&w, m, err);
	free(m);
	free(w.below);
	arena_release(&w.arena);
	return status;
}
