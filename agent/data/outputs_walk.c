// SPDX-License-Identifier: Apache-2.0
//
// The run's folders as they are now. The job may change them under our hands: each step is one name
// below a held descriptor, entered by openat2(2) that follows no link and crosses no mount.
#include "agent/data/outputs_sync.h"
#include "base/file.h"
#include "base/text.h"
#include "base/time.h"

#include <dirent.h>
#include <linux/stat.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

static const char *const tops[] = {"outputs", "logs", "user_logs"};

struct walk {
	struct outputs_sync *s;
	char path[OUTPUTS_PATH_MAX + NAME_MAX + 2];
};

void outputs_skip(struct outputs_sync *s, const char *path, const char *reason, bool loss)
{
	if (loss && !s->incomplete) {
		snprintf(s->loss, sizeof(s->loss), "%.200s was not copied: %s", path, reason);
		text_flatten(s->loss);
		s->incomplete = true;
	}
	if (s->skip_count < OUTPUTS_SKIPS_MAX)
		s->skips[s->skip_count] = (struct outputs_skip){xstrdup(path), reason};
	s->skip_count++;
}

void outputs_skips_clear(struct outputs_sync *s)
{
	for (uint64_t i = 0; i < s->skip_count && i < OUTPUTS_SKIPS_MAX; i++)
		free(s->skips[i].path);
	s->skip_count = 0;
	s->incomplete = false;
}

static int64_t ns_of(const struct statx_timestamp *t)
{
	return t->tv_sec * 1000000000 + t->tv_nsec;
}

int outputs_identity_get(int dirfd, const char *name, struct outputs_identity *id, uint64_t *device)
{
	struct statx st;
	int flags = AT_SYMLINK_NOFOLLOW | (*name ? 0 : AT_EMPTY_PATH);
	if (statx(dirfd, name, flags, STATX_BASIC_STATS | STATX_BTIME, &st) < 0)
		return -1;
	*id = (struct outputs_identity){.ino = st.stx_ino,
		.size = st.stx_size,
		.born_ns = st.stx_mask & STATX_BTIME ? ns_of(&st.stx_btime) : 0,
		.mtime_ns = ns_of(&st.stx_mtime),
		.ctime_ns = ns_of(&st.stx_ctime),
		.mode = st.stx_mode};
	if (device)
		*device = makedev(st.stx_dev_major, st.stx_dev_minor);
	return 0;
}

// The same inode, and not another that got its number.
bool outputs_same_file(const struct outputs_identity *a, const struct outputs_identity *b)
{
	return a->ino == b->ino && a->born_ns == b->born_ns &&
	       (a->born_ns || (a->size == b->size && a->mtime_ns == b->mtime_ns));
}

bool outputs_same_state(const struct outputs_identity *a, const struct outputs_identity *b)
{
	return outputs_same_file(a, b) && a->size == b->size && a->mtime_ns == b->mtime_ns &&
	       a->ctime_ns == b->ctime_ns && a->mode == b->mode;
}

// ".." may only lead, and not above the top folder. Folders at the destination are never links, so
// those go up for real; what follows goes down only, or through other links for which the same
// holds.
bool outputs_link_stays_inside(const char *path, const char *text)
{
	size_t depth = 0, up = 0;
	bool down = false;
	for (const char *p = path; *p; p++)
		depth += *p == '/';
	if (!*text || *text == '/' || !depth)
		return false;
	for (const char *p = text; *p;) {
		size_t n = strcspn(p, "/");
		if (n == 2 && memcmp(p, "..", 2) == 0) {
			if (down || ++up >= depth)
				return false;
		} else if (n && !(n == 1 && *p == '.')) {
			down = true;
		}
		p += n + strspn(p + n, "/");
	}
	return true;
}

static void note_move(
	struct outputs_sync *s, struct outputs_entry *e, const struct outputs_identity *now)
{
	if (s->move_count == s->move_capacity) {
		s->move_capacity = s->move_capacity ? 2 * s->move_capacity : 64;
		s->moves = xreallocarray(s->moves, s->move_capacity, sizeof(*s->moves));
	}
	s->moves[s->move_count].entry = e;
	s->moves[s->move_count++].now = *now;
}

static struct outputs_entry *seen(struct walk *w, enum outputs_kind kind)
{
	struct outputs_entry *e = outputs_index_add(&w->s->index, w->path);
	if (!e) {
		outputs_skip(w->s, w->path, "too many files", true);
		return NULL;
	}
	e->seen = w->s->round;
	e->want = kind;
	e->changed = e->replaced = e->closed = false;
	return e;
}

static void see_file(struct walk *w, const struct outputs_identity *now)
{
	struct outputs_entry *e = seen(w, OUTPUTS_FILE);
	if (!e)
		return;
	struct outputs_content *c = &e->content;
	e->size = now->size;
	if (e->kind != OUTPUTS_FILE || !(c->flags & OUTPUTS_PRESENT)) {
		e->changed = true;
		note_move(w->s, e, now);
		return;
	}
	int64_t rest_ms = wall_ms() - now->ctime_ns / 1000000;
	bool due = w->s->at_rest || (rest_ms > OUTPUTS_SETTLE_MS && !w->s->never_settles);
	e->changed = !outputs_same_state(&c->sent, now) || c->flags & OUTPUTS_SUSPECT ||
		     (due && (c->flags & (OUTPUTS_SETTLED | OUTPUTS_WHOLE)) !=
				     (OUTPUTS_SETTLED | OUTPUTS_WHOLE));
	e->replaced = !outputs_same_file(&c->sent, now);
	if (e->replaced)
		note_move(w->s, e, now);
}

static void see_link(struct walk *w, int dirfd, const char *name)
{
	char text[OUTPUTS_PATH_MAX + 1];
	ssize_t n = readlinkat(dirfd, name, text, sizeof(text));
	if (n < 0)
		return; // gone
	if ((size_t)n == sizeof(text)) {
		outputs_skip(w->s, w->path, "a symbolic link that is too long", true);
		return;
	}
	text[n] = '\0';
	if (!outputs_link_stays_inside(w->path, text)) {
		outputs_skip(w->s, w->path, "a symbolic link that leads out", false);
		return;
	}
	struct outputs_entry *e = seen(w, OUTPUTS_LINK);
	if (!e)
		return;
	struct outputs_content *c = &e->content;
	e->changed = e->kind != OUTPUTS_LINK || !(c->flags & OUTPUTS_PRESENT) || !c->link ||
		     c->flags & OUTPUTS_SUSPECT || !streq(c->link, text);
	if (!e->changed)
		return;
	// What is wanted, until it is made; a file that was there keeps its content for a move.
	if (e->kind == OUTPUTS_LINK)
		c->flags |= OUTPUTS_SUSPECT;
	free(c->link);
	c->link = xstrdup(text);
}

static void see_folder(struct walk *w, const struct outputs_identity *now)
{
	struct outputs_entry *e = seen(w, OUTPUTS_FOLDER);
	if (!e)
		return;
	struct outputs_content *c = &e->content;
	e->changed = e->kind != OUTPUTS_FOLDER || !(c->flags & OUTPUTS_PRESENT) ||
		     ((c->sent.mode ^ now->mode) & 0055) != 0; // the owner's all are set
	if (e->kind != OUTPUTS_FILE || !(c->flags & OUTPUTS_PRESENT))
		c->sent = *now;
}

static void walk_folder(struct walk *w, int fd, size_t n, int depth);

static void enter(struct walk *w, int dirfd, const char *name, size_t n, int depth)
{
	if (depth == OUTPUTS_DEPTH_MAX) {
		outputs_skip(w->s, w->path, "a folder that is too deep", true);
		return;
	}
	cleanup_fd int fd = outputs_open_beneath(dirfd, name, O_RDONLY | O_DIRECTORY);
	if (fd >= 0) {
		walk_folder(w, fd, n, depth + 1);
		return;
	}
	if (errno == ENOENT || errno == ENOTDIR || errno == ELOOP)
		return; // gone, or something else by now
	outputs_skip(w->s, w->path,
		errno == EXDEV ? "another file system" : "a folder that cannot be read", true);
	struct outputs_entry *e = outputs_index_find(&w->s->index, w->path);
	if (e)
		e->closed = true;
}

static void see(struct walk *w, int dirfd, const char *name, size_t n, int depth)
{
	struct outputs_identity now;
	uint64_t device;
	if (outputs_identity_get(dirfd, name, &now, &device) < 0)
		return;
	if (device != w->s->device) {
		outputs_skip(w->s, w->path, "another file system", true);
	} else if (S_ISREG(now.mode)) {
		see_file(w, &now);
	} else if (S_ISLNK(now.mode)) {
		see_link(w, dirfd, name);
	} else if (S_ISDIR(now.mode)) {
		see_folder(w, &now);
		enter(w, dirfd, name, n, depth);
	} else {
		outputs_skip(w->s, w->path,
			S_ISSOCK(now.mode)   ? "a socket"
			: S_ISFIFO(now.mode) ? "a FIFO"
					     : "a device",
			false);
	}
}

// w->path holds the folder's path, n bytes.
static void walk_folder(struct walk *w, int fd, size_t n, int depth)
{
	int copy = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	DIR *stream = copy < 0 ? NULL : fdopendir(copy);
	if (!stream) {
		close_fdp(&copy);
		outputs_skip(w->s, w->path, "a folder that cannot be read", true);
		return;
	}
	w->path[n] = '/';
	for (struct dirent *e; (e = readdir(stream)) != NULL;) {
		size_t k = strlen(e->d_name);
		if (streq(e->d_name, ".") || streq(e->d_name, ".."))
			continue;
		memcpy(w->path + n + 1, e->d_name, k + 1);
		if (n + 1 + k > OUTPUTS_PATH_MAX)
			outputs_skip(w->s, w->path, "a path that is too long", true);
		else
			see(w, fd, e->d_name, n + 1 + k, depth);
	}
	w->path[n] = '\0';
	closedir(stream);
}

int outputs_walk(struct outputs_sync *s, struct error *err)
{
	cleanup_free struct walk *w = xcalloc(1, sizeof(*w));
	struct outputs_identity own;
	w->s = s;
	s->round++;
	s->move_count = 0;
	outputs_parent_close(&s->parent);
	if (outputs_identity_get(s->run_fd, "", &own, &s->device) < 0)
		return error_set_errno(err, errno, "look at the run's folder");
	for (size_t i = 0; i < array_size(tops); i++) {
		snprintf(w->path, sizeof(w->path), "%s", tops[i]);
		see(w, s->run_fd, tops[i], strlen(tops[i]), 0);
	}
	return 0;
}
