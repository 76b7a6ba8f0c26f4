// SPDX-License-Identifier: Apache-2.0
//
// One round, in an order in which each step finds what it needs: what was renamed goes aside, what
// has gone is removed (which may make room, and clear names for other kinds), folders are made,
// what went aside comes to its new place, then files and links. Each step is noted when it is done,
// so a kill between two of them loses at most the memory of one, which the next start finds out by
// looking.
#include "agent/data/outputs_confine.h"
#include "agent/data/outputs_sync.h"
#include "base/text.h"

#include <sys/stat.h>
#include <unistd.h>

struct move {
	struct outputs_entry *from, *to;
	struct outputs_content content; // once it is aside
};

struct moves {
	struct move *items;
	size_t count;
};

static void moves_release(struct moves *m)
{
	for (size_t i = 0; i < m->count; i++)
		outputs_content_release(&m->items[i].content);
	free(m->items);
}

static bool is_present(const struct outputs_entry *e)
{
	return e->content.flags & OUTPUTS_PRESENT;
}

// Below a folder that could not be read: nothing is known about it.
static bool is_kept(const struct outputs_sync *s, const struct outputs_entry *e)
{
	cleanup_free char *path = xstrdup(e->path);
	for (char *slash; (slash = strrchr(path, '/')) != NULL;) {
		*slash = '\0';
		const struct outputs_entry *above = outputs_index_find(&s->index, path);
		if (above && above->seen == s->round)
			return above->closed;
	}
	return false;
}

// Its file is not at its path any more; it may be elsewhere.
static bool is_orphan(const struct outputs_sync *s, const struct outputs_entry *e)
{
	if (e->dead || !is_present(e) || e->kind != OUTPUTS_FILE ||
		e->content.flags & OUTPUTS_SUSPECT)
		return false;
	if (e->seen == s->round)
		return e->replaced || e->want != OUTPUTS_FILE;
	return !is_kept(s, e);
}

static int by_inode(const void *a, const void *b)
{
	uint64_t x = (*(struct outputs_entry *const *)a)->content.sent.ino;
	uint64_t y = (*(struct outputs_entry *const *)b)->content.sent.ino;
	return x < y ? -1 : x > y;
}

static void find_moves(struct outputs_sync *s, struct moves *m)
{
	struct outputs_index *x = &s->index;
	cleanup_free struct outputs_entry **orphans = xcalloc(x->count + 1, sizeof(*orphans));
	size_t count = 0;
	for (size_t i = 0; i < x->count; i++)
		if (is_orphan(s, x->entries[i])) {
			x->entries[i]->moved = false;
			orphans[count++] = x->entries[i];
		}
	if (!count)
		return;
	qsort(orphans, count, sizeof(struct outputs_entry *), by_inode);
	m->items = xcalloc(count, sizeof(*m->items));
	for (size_t i = 0; i < s->move_count; i++) {
		struct outputs_entry wanted = {.content.sent = s->moves[i].now}, *key = &wanted;
		struct outputs_entry **found =
			bsearch(&key, orphans, count, sizeof(struct outputs_entry *), by_inode);
		// Moved already: a hard link, two paths have it now.
		if (!found || (*found)->moved ||
			!outputs_same_file(&(*found)->content.sent, &s->moves[i].now))
			continue;
		(*found)->moved = true;
		m->items[m->count++] = (struct move){.from = *found, .to = s->moves[i].entry};
	}
}

static int park(struct outputs_sync *s, struct moves *m, struct error *err)
{
	for (size_t i = 0; i < m->count; i++) {
		struct move *move = &m->items[i];
		if (s->target->ops->park(s->target, move->from->path, i, err) < 0)
			return -1;
		move->content = move->from->content;
		move->from->content = (struct outputs_content){.link = move->content.link};
		move->content.link = NULL;
		char *link = steal(move->from->content.link);
		if (outputs_index_gone(&s->index, move->from, err) < 0)
			return -1;
		move->from->content.link = link; // wanted there now
	}
	return 0;
}

static int unpark(struct outputs_sync *s, struct moves *m, struct error *err)
{
	for (size_t i = 0; i < m->count; i++) {
		struct move *move = &m->items[i];
		struct outputs_entry *e = move->to;
		if (s->target->ops->unpark(s->target, i, e->path, err) < 0)
			return -1;
		outputs_content_release(&e->content);
		e->content = move->content;
		move->content = (struct outputs_content){0};
		e->kind = OUTPUTS_FILE;
		e->replaced = false;
		e->changed = true; // its ctime, at least, and the mode may be another
		if (outputs_index_note(&s->index, e, 0, err) < 0)
			return -1;
	}
	return 0;
}

static bool is_back(struct outputs_sync *s, const struct outputs_entry *e)
{
	struct outputs_identity now;
	const char *name;
	int at = outputs_parent_open(&s->parent, s->run_fd, e->path, &name);
	if (at < 0 || outputs_identity_get(at, name, &now, NULL) < 0)
		return false;
	// What has taken its name and is not copied leaves nothing of it: a FIFO, a link that leads
	// out.
	return (S_ISREG(now.mode) && e->kind == OUTPUTS_FILE) ||
	       (S_ISDIR(now.mode) && e->kind == OUTPUTS_FOLDER);
}

// Backwards, so that a folder comes after what it holds.
static int remove_gone(struct outputs_sync *s, struct error *err)
{
	for (size_t i = s->index.count; i > 0; i--) {
		struct outputs_entry *e = s->index.entries[i - 1];
		bool gone = e->seen != s->round;
		if (e->dead || (!gone && (!is_present(e) || e->kind == e->want)))
			continue;
		// A folder that is renamed while it is read may hide a name.
		if (gone && is_present(e) && (is_kept(s, e) || is_back(s, e)))
			continue;
		char *link = e->want == OUTPUTS_LINK && !gone ? steal(e->content.link) : NULL;
		if (is_present(e) &&
			(s->target->ops->remove(s->target, e->path, e->kind, err) < 0 ||
				outputs_index_gone(&s->index, e, err) < 0)) {
			free(link);
			return -1;
		}
		e->content.link = link;
		if (gone)
			outputs_index_drop(&s->index, e);
	}
	return 0;
}

static int make_folders(struct outputs_sync *s, struct error *err)
{
	for (size_t i = 0; i < s->index.count; i++) {
		struct outputs_entry *e = s->index.entries[i];
		if (e->dead || e->seen != s->round || e->want != OUTPUTS_FOLDER || !e->changed)
			continue;
		if (s->target->ops->folder(s->target, e->path, e->content.sent.mode, err) < 0)
			return -1;
		e->kind = OUTPUTS_FOLDER;
		e->content.flags = OUTPUTS_PRESENT;
		e->changed = false;
		if (outputs_index_note(&s->index, e, 0, err) < 0)
			return -1;
	}
	return 0;
}

static int make_links(struct outputs_sync *s, struct error *err)
{
	for (size_t i = 0; i < s->index.count; i++) {
		struct outputs_entry *e = s->index.entries[i];
		if (e->dead || e->seen != s->round || e->want != OUTPUTS_LINK || !e->changed)
			continue;
		if (s->target->ops->link(s->target, e->path, e->content.link, err) < 0)
			return -1;
		e->kind = OUTPUTS_LINK;
		e->content.flags = OUTPUTS_PRESENT;
		e->changed = false;
		if (outputs_index_note(&s->index, e, 0, err) < 0)
			return -1;
	}
	return 0;
}

static bool is_to_send(const struct outputs_sync *s, const struct outputs_entry *e)
{
	return !e->dead && e->seen == s->round && e->want == OUTPUTS_FILE && e->changed;
}

static uint64_t bytes_to_send(const struct outputs_entry *e)
{
	uint64_t there = is_present(e) && !e->replaced ? e->content.sent.size : 0;
	return e->size > there ? e->size - there : 0;
}

static void count_all(struct outputs_sync *s)
{
	struct outputs_status *n = &s->status;
	n->files = n->bytes = n->files_left = n->bytes_left = 0;
	s->chunks = 0;
	for (size_t i = 0; i < s->index.count; i++) {
		const struct outputs_entry *e = s->index.entries[i];
		if (!e->dead && e->kind == OUTPUTS_FILE && is_present(e)) {
			n->files++;
			n->bytes += e->content.sent.size;
			s->chunks += e->content.chunk_count;
		}
		if (is_to_send(s, e)) {
			n->files_left++;
			n->bytes_left += bytes_to_send(e);
		}
	}
}

static int send_between(struct outputs_sync *s, uint64_t least, uint64_t most, struct error *err)
{
	for (size_t i = 0; i < s->index.count; i++) {
		struct outputs_entry *e = s->index.entries[i];
		if (!is_to_send(s, e) || e->size < least || e->size > most)
			continue;
		uint64_t bytes = bytes_to_send(e);
		if (outputs_check_deadline(s, err) < 0 || outputs_send(s, e, err) < 0)
			return -1;
		s->status.files_left--;
		s->status.bytes_left -= bytes;
	}
	return 0;
}

// A file of a terabyte, which may be a hole, does not hold up the logs, nor take all of the time
// that a last round has.
static int send_files(struct outputs_sync *s, struct error *err)
{
	static const uint64_t steps[] = {16ULL << 20, 1ULL << 30, UINT64_MAX};
	uint64_t least = 0;
	for (size_t i = 0; i < array_size(steps); i++) {
		if (send_between(s, least, steps[i], err) < 0)
			return -1;
		least = steps[i] + 1;
	}
	return 0;
}

static int follow(struct outputs_sync *s, struct error *err)
{
	__attribute__((cleanup(moves_release))) struct moves m = {0};
	if (s->move_count)
		find_moves(s, &m);
	if (park(s, &m, err) < 0 || remove_gone(s, err) < 0 || make_folders(s, err) < 0 ||
		unpark(s, &m, err) < 0)
		return -1;
	count_all(s);
	if (send_files(s, err) < 0 || make_links(s, err) < 0)
		return -1;
	return 0;
}

static int prepare(struct outputs_sync *s, struct error *err)
{
	uint64_t id[2];
	if (s->index.has_identity)
		s->target->ops->identity(s->target, s->index.identity, true);
	if (s->target->ops->open(s->target, err) < 0)
		return -1;
	s->target->ops->identity(s->target, id, false);
	if (outputs_index_identify(&s->index, id, err) < 0)
		return -1;
	return s->listed ? 0 : outputs_reconcile(s, err);
}

static int do_round(struct outputs_sync *s, struct error *err)
{
	outputs_act_as(OUTPUTS_NODE);
	int rc = outputs_index_tidy(&s->index, err);
	outputs_act_as(OUTPUTS_OWNER);
	if (rc < 0 || prepare(s, err) < 0 || outputs_walk(s, err) < 0)
		return -1;
	rc = follow(s, err);
	struct error unwritten;
	if (outputs_index_flush(&s->index, &unwritten) < 0 && rc == 0) {
		*err = unwritten;
		rc = -1;
	}
	if (rc == 0 && s->at_rest)
		rc = outputs_manifest_write(s, err);
	return rc;
}

int outputs_round(struct outputs_sync *s, struct error *err)
{
	outputs_skips_clear(s);
	int rc = do_round(s, err);
	outputs_parent_close(&s->parent);
	s->target->ops->close(s->target);
	return rc;
}

static void found(void *data, const char *path, enum outputs_kind kind,
	const struct outputs_attributes *a, const char *link)
{
	struct outputs_sync *s = data;
	struct outputs_entry *e = outputs_index_add(&s->index, path);
	if (!e)
		return;
	struct outputs_content *c = &e->content;
	bool same = is_present(e) && e->kind == kind;
	if (same && kind == OUTPUTS_FILE)
		same = c->sent.size == a->size && c->sent.mtime_ns == a->mtime_ns;
	if (!same) {
		outputs_content_release(c);
		c->sent = (struct outputs_identity){.size = a->size, .mode = a->mode};
		c->flags = OUTPUTS_PRESENT | OUTPUTS_SUSPECT;
		e->kind = kind;
	}
	if (kind == OUTPUTS_LINK) {
		free(c->link);
		c->link = xstrdup(link);
		c->flags = OUTPUTS_PRESENT;
	} else if (kind == OUTPUTS_FOLDER) {
		c->sent.mode = a->mode;
	}
	e->seen = s->round;
}

// What is there and not in the index is suspect, too: of an earlier attempt, or written by a
// process that could not note it any more.
int outputs_reconcile(struct outputs_sync *s, struct error *err)
{
	s->round++;
	// While a job runs, what its last attempt has left is not its result.
	if (s->target->ops->archive(s->target, s->attempt, err) < 0)
		return -1;
	if ((!s->at_rest && s->target->ops->invalidate(s->target, err) < 0) ||
		s->target->ops->list(s->target, found, s, err) < 0)
		return -1;
	for (size_t i = 0; i < s->index.count; i++) {
		struct outputs_entry *e = s->index.entries[i];
		if (e->dead || e->seen == s->round)
			continue;
		if (is_present(e) && outputs_index_gone(&s->index, e, err) < 0)
			return -1;
		outputs_index_drop(&s->index, e);
	}
	s->listed = true;
	return 0;
}
