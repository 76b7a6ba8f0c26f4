// SPDX-License-Identifier: Apache-2.0
#include "agent/data/outputs_index.h"

#include "base/file.h"
#include "base/text.h"

#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

static const char name[] = "upload.journal", new_name[] = "upload.journal.new";

enum {
	PENDING_MAX = 64 * 1024,
	RECORD_MAX = 256 * 1024 * 1024, // the chunks of a file of 32 TiB
	TIDY_LEAST = 1024 * 1024,
	JOURNAL_MAGIC = 0x314a5453, // "STJ1"
};

struct header {
	uint32_t magic;
	uint32_t crc; // of what follows
	char boot_id[40];
	uint8_t destination[SHA256_SIZE];
	uint64_t identity[2];
	uint64_t has_identity;
};

// Of this machine only: in its byte order, and never moved.
struct record {
	uint32_t size; // of all of it
	uint32_t crc;  // of what follows
	uint32_t path, text;
	uint32_t chunk_first, chunk_count;
	uint32_t kind; // OUTPUTS_ABSENT: removed
	uint32_t flags;
	struct outputs_identity sent;
	uint8_t digest[SHA256_SIZE];
	// path, text, chunks from chunk_first on
};

void outputs_content_release(struct outputs_content *c)
{
	free(c->chunks);
	free(c->link);
	*c = (struct outputs_content){0};
}

// That of gzip and zip.
static uint32_t crc_of(const void *data, size_t size)
{
	static uint32_t table[256];
	for (uint32_t i = 0; !table[255] && i < 256; i++) {
		uint32_t c = i;
		for (int bit = 0; bit < 8; bit++)
			c = c & 1 ? c >> 1 ^ 0xedb88320 : c >> 1;
		table[i] = c;
	}
	uint32_t crc = UINT32_MAX;
	for (const uint8_t *p = data; size; size--)
		crc = table[(crc ^ *p++) & 0xff] ^ crc >> 8;
	return ~crc;
}

static size_t hash_of(const char *path)
{
	uint64_t h = 0xcbf29ce484222325;
	for (; *path; path++)
		h = (h ^ (uint8_t)*path) * 0x100000001b3;
	return (size_t)(h ^ h >> 29);
}

static uint32_t *slot_of(const struct outputs_index *x, const char *path)
{
	size_t i = hash_of(path);
	for (;; i++) {
		uint32_t *slot = &x->slots[i & (x->slot_count - 1)];
		if (!*slot || streq(x->entries[*slot - 1]->path, path))
			return slot;
	}
}

static void rebuild(struct outputs_index *x, size_t slots)
{
	free(x->slots);
	x->slots = xcalloc(slots, sizeof(*x->slots));
	x->slot_count = slots;
	for (size_t i = 0; i < x->count; i++)
		*slot_of(x, x->entries[i]->path) = (uint32_t)i + 1;
}

struct outputs_entry *outputs_index_find(const struct outputs_index *x, const char *path)
{
	uint32_t *slot = x->slot_count ? slot_of(x, path) : NULL;
	struct outputs_entry *e = slot && *slot ? x->entries[*slot - 1] : NULL;
	return e && !e->dead ? e : NULL;
}

struct outputs_entry *outputs_index_add(struct outputs_index *x, const char *path)
{
	if (x->slot_count < 2 * (x->count + 1))
		rebuild(x, x->slot_count ? 2 * x->slot_count : 64);
	uint32_t *slot = slot_of(x, path);
	if (*slot) {
		struct outputs_entry *e = x->entries[*slot - 1];
		x->dead -= e->dead;
		e->dead = false;
		return e;
	}
	size_t size = strlen(path) + 1;
	if (x->count == OUTPUTS_ENTRIES_MAX || size > OUTPUTS_NAMES_MAX - x->names)
		return NULL;
	x->names += size;
	if (x->count == x->capacity) {
		x->capacity = x->capacity ? 2 * x->capacity : 64;
		x->entries = xreallocarray(x->entries, x->capacity, sizeof(*x->entries));
	}
	struct outputs_entry *e = xcalloc(1, sizeof(*e));
	e->path = xstrdup(path);
	x->entries[x->count++] = e;
	*slot = (uint32_t)x->count;
	return e;
}

void outputs_index_drop(struct outputs_index *x, struct outputs_entry *e)
{
	if (e->dead)
		return;
	char *path = steal(e->path);
	outputs_content_release(&e->content);
	*e = (struct outputs_entry){.path = path, .dead = true};
	x->dead++;
}

static size_t chunk_bytes(const struct outputs_content *c, uint32_t first)
{
	return first < c->chunk_count ? (c->chunk_count - first) * (size_t)SHA256_SIZE : 0;
}

static uint64_t record_size(const struct outputs_entry *e)
{
	return sizeof(struct record) + strlen(e->path) + chunk_bytes(&e->content, 0);
}

static void append_record(struct outputs_index *x, const struct outputs_entry *e,
	enum outputs_kind kind, uint32_t first)
{
	const struct outputs_content *c = &e->content;
	struct record r;
	memset(&r, 0, sizeof(r));
	size_t at = x->pending.size;
	r.path = (uint32_t)strlen(e->path);
	r.kind = kind;
	if (kind != OUTPUTS_ABSENT) {
		r.text = c->link ? (uint32_t)strlen(c->link) : 0;
		r.flags = c->flags;
		r.sent = c->sent;
		r.chunk_first = first;
		r.chunk_count = c->chunk_count;
		memcpy(r.digest, c->digest, SHA256_SIZE);
	}
	buffer_append(&x->pending, &r, sizeof(r));
	buffer_append(&x->pending, e->path, r.path);
	if (r.text)
		buffer_append(&x->pending, c->link, r.text);
	if (kind != OUTPUTS_ABSENT && chunk_bytes(c, first))
		buffer_append(&x->pending, c->chunks[first], chunk_bytes(c, first));
	r.size = (uint32_t)(x->pending.size - at);
	char *written = x->pending.data + at;
	memcpy(written, &r, sizeof(r));
	const size_t skip = offsetof(struct record, path);
	r.crc = crc_of(written + skip, r.size - skip);
	memcpy(written, &r, sizeof(r));
}

int outputs_index_flush(struct outputs_index *x, struct error *err)
{
	if (!x->pending.size)
		return 0;
	if (pwrite_all(x->journal_fd, x->pending.data, x->pending.size, (off_t)x->journal_size,
		    name, err) < 0)
		return -1;
	x->journal_size += x->pending.size;
	buffer_clear(&x->pending);
	return 0;
}

static int appended(struct outputs_index *x, struct error *err)
{
	return x->pending.size < PENDING_MAX ? 0 : outputs_index_flush(x, err);
}

int outputs_index_note(
	struct outputs_index *x, struct outputs_entry *e, uint32_t first, struct error *err)
{
	append_record(x, e, e->kind, first);
	return appended(x, err);
}

int outputs_index_gone(struct outputs_index *x, struct outputs_entry *e, struct error *err)
{
	append_record(x, e, OUTPUTS_ABSENT, 0);
	outputs_content_release(&e->content);
	e->kind = OUTPUTS_ABSENT;
	return appended(x, err);
}

static uint32_t header_crc(const struct header *h)
{
	const size_t skip = offsetof(struct header, boot_id);
	return crc_of((const char *)h + skip, sizeof(*h) - skip);
}

static void write_header(const struct outputs_index *x, struct header *h)
{
	memset(h, 0, sizeof(*h));
	h->magic = JOURNAL_MAGIC;
	memcpy(h->boot_id, x->boot_id, sizeof(h->boot_id));
	memcpy(h->destination, x->destination, SHA256_SIZE);
	memcpy(h->identity, x->identity, sizeof(h->identity));
	h->has_identity = x->has_identity;
	h->crc = header_crc(h);
}

static void drop_dead(struct outputs_index *x)
{
	size_t kept = 0;
	for (size_t i = 0; i < x->count; i++) {
		struct outputs_entry *e = x->entries[i];
		if (!e->dead) {
			x->entries[kept++] = e;
			continue;
		}
		x->names -= strlen(e->path) + 1;
		free(e->path);
		free(e);
	}
	x->count = kept;
	x->dead = 0;
	rebuild(x, x->slot_count ? x->slot_count : 64);
}

static int write_anew(struct outputs_index *x, struct error *err)
{
	struct header h;
	cleanup_fd int fd = openat(
		x->run_fd, new_name, O_RDWR | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return error_set_errno(err, errno, "make %s", new_name);
	close_fdp(&x->journal_fd);
	x->journal_fd = steal_fd(&fd);
	x->journal_size = 0;
	buffer_clear(&x->pending);
	write_header(x, &h);
	buffer_append(&x->pending, &h, sizeof(h));
	for (size_t i = 0; i < x->count; i++) {
		const struct outputs_entry *e = x->entries[i];
		if (e->dead || !(e->content.flags & OUTPUTS_PRESENT))
			continue;
		append_record(x, e, e->kind, 0);
		if (appended(x, err) < 0)
			return -1;
	}
	if (outputs_index_flush(x, err) < 0)
		return -1;
	x->live_size = x->journal_size;
	if (renameat(x->run_fd, new_name, x->run_fd, name) < 0)
		return error_set_errno(err, errno, "rename %s", new_name);
	return 0;
}

int outputs_index_tidy(struct outputs_index *x, struct error *err)
{
	if (x->dead > 1000 && x->dead > x->count / 2)
		drop_dead(x);
	if (x->journal_size < TIDY_LEAST || x->journal_size < 2 * x->live_size)
		return 0;
	uint64_t live = sizeof(struct header);
	for (size_t i = 0; i < x->count; i++)
		live += x->entries[i]->dead ? 0 : record_size(x->entries[i]);
	x->live_size = live;
	return x->journal_size < 2 * live ? 0 : write_anew(x, err);
}

int outputs_index_identify(struct outputs_index *x, const uint64_t id[2], struct error *err)
{
	struct header h;
	if (x->has_identity && memcmp(x->identity, id, sizeof(x->identity)) == 0)
		return 0;
	memcpy(x->identity, id, sizeof(x->identity));
	x->has_identity = true;
	write_header(x, &h);
	return pwrite_all(x->journal_fd, &h, sizeof(h), 0, name, err);
}

static bool take_record(struct outputs_index *x, const struct record *r, const char *data, bool old)
{
	const char *end = data + (r->size - sizeof(*r));
	uint32_t count = r->chunk_count, first = r->chunk_first;
	if (!r->path || r->path > OUTPUTS_PATH_MAX || r->text > OUTPUTS_PATH_MAX ||
		r->kind > OUTPUTS_LINK || first > count ||
		(size_t)(end - data) != r->path + r->text + (size_t)(count - first) * SHA256_SIZE)
		return false;
	cleanup_free char *path = xstrndup(data, r->path);
	struct outputs_entry *e = outputs_index_add(x, path);
	if (!e)
		return false;
	if (r->kind == OUTPUTS_ABSENT) {
		outputs_index_drop(x, e);
		return true;
	}
	struct outputs_content *c = &e->content;
	if (first > c->chunk_count)
		return false;
	if (!count)
		free(steal(c->chunks));
	else
		c->chunks = xreallocarray(c->chunks, count, SHA256_SIZE);
	if (count > first)
		memcpy(c->chunks[first], data + r->path + r->text,
			(size_t)(count - first) * SHA256_SIZE);
	c->chunk_count = count;
	free(c->link);
	c->link = r->kind == OUTPUTS_LINK ? xstrndup(data + r->path, r->text) : NULL;
	c->sent = r->sent;
	c->flags = r->flags | (old ? OUTPUTS_SUSPECT : 0);
	memcpy(c->digest, r->digest, SHA256_SIZE);
	e->kind = r->kind;
	return true;
}

// Up to the first record that is not whole.
static int replay(struct outputs_index *x, struct error *err)
{
	struct header h, ours;
	struct stat st;
	if (fstat(x->journal_fd, &st) < 0)
		return error_set_errno(err, errno, "read %s", name);
	write_header(x, &ours);
	if (pread(x->journal_fd, &h, sizeof(h), 0) != sizeof(h) || h.magic != JOURNAL_MAGIC ||
		h.crc != header_crc(&h) ||
		memcmp(h.destination, ours.destination, SHA256_SIZE) != 0)
		return 0;
	bool old = memcmp(h.boot_id, x->boot_id, sizeof(h.boot_id)) != 0;
	if (!old && h.has_identity) {
		memcpy(x->identity, h.identity, sizeof(x->identity));
		x->has_identity = true;
	}
	cleanup_buffer struct buffer b = {0};
	for (uint64_t at = sizeof(h);;) {
		struct record r;
		if (pread(x->journal_fd, &r, sizeof(r), (off_t)at) != sizeof(r) ||
			r.size < sizeof(r) || r.size > RECORD_MAX ||
			r.size > (uint64_t)st.st_size - at)
			return 0;
		buffer_clear(&b);
		char *whole = buffer_reserve(&b, r.size);
		const size_t skip = offsetof(struct record, path);
		if (pread(x->journal_fd, whole, r.size, (off_t)at) != (ssize_t)r.size ||
			r.crc != crc_of(whole + skip, r.size - skip) ||
			!take_record(x, &r, whole + sizeof(r), old))
			return 0;
		at += r.size;
	}
}

static void read_boot_id(char id[40])
{
	cleanup_buffer struct buffer b = {0};
	struct error ignored;
	memset(id, 0, 40);
	if (file_read(AT_FDCWD, "/proc/sys/kernel/random/boot_id", 64, &b, &ignored) == 0)
		memcpy(id, b.data, b.size < 36 ? b.size : 36);
}

int outputs_index_open(
	struct outputs_index *x, int run_fd, const char *destination, struct error *err)
{
	*x = (struct outputs_index){.run_fd = run_fd};
	sha256_of(destination, strlen(destination), x->destination);
	read_boot_id(x->boot_id);
	x->journal_fd = openat(run_fd, name, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
	if (x->journal_fd < 0 && errno != ENOENT)
		return error_set_errno(err, errno, "open %s", name);
	if (x->journal_fd >= 0 && replay(x, err) < 0)
		return -1;
	return write_anew(x, err);
}

void outputs_index_release(struct outputs_index *x)
{
	for (size_t i = 0; i < x->count; i++) {
		outputs_content_release(&x->entries[i]->content);
		free(x->entries[i]->path);
		free(x->entries[i]);
	}
	free(x->entries);
	free(x->slots);
	buffer_release(&x->pending);
	if (x->slot_count || x->run_fd)
		close_fdp(&x->journal_fd);
	*x = (struct outputs_index){.journal_fd = -1};
}
