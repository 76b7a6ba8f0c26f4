// SPDX-License-Identifier: Apache-2.0
//
// An Aho-Corasick automaton: the state is the longest end of the text that is the beginning of a
// form of a secret. As its bytes are those of the form, what is held back need not be stored.
// Nodes have lists of children rather than tables, which would cost a kilobyte for each byte of a
// secret; most have one child. Only at the root, where nearly all bytes pass, there are tables: one
// of first bytes, and one that says from a pair of bytes how far the next secret is at least
// (Wu and Manber's), so that most bytes are never looked at.
#include "agent/supervise/redact.h"

#include "agent/supervise/redact_forms.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

enum { ROOT = 0, PAIRS = 1 << 16, WINDOW_MAX = 32 };

static const char replacement[] = "***";

struct node {
	uint32_t child, sibling; // 0: none
	uint32_t fail;		 // the longest proper end of this node's text that is a node
	uint32_t text;		 // where its text begins in `texts`
	uint32_t depth;		 // and how long it is
	uint32_t match;		 // length of the longest form that its text ends with; 0: none
	unsigned char byte;
};

// A run of bytes that belong to secrets, by place in the stream. `shown`: replaced already.
struct interval {
	uint64_t start, end;
	bool shown;
};

struct redact {
	struct node *nodes;
	size_t node_count, node_capacity;
	char *texts; // all forms, one behind the other
	size_t text_size, text_capacity;
	uint32_t first[256];   // the root's children by byte; 0: none
	size_t window;	       // length of the shortest form, up to WINDOW_MAX
	unsigned char *shifts; // by pair of bytes; NULL: no secrets

	uint32_t state;
	uint64_t position;	  // bytes taken
	struct interval *waiting; // those that end in what is held back, in order
	size_t waiting_count, waiting_first, waiting_capacity;
};

// ---- learning

static void *grow(void *items, size_t *capacity, size_t needed, size_t item_size)
{
	if (needed <= *capacity)
		return items;
	size_t larger = *capacity * 2 < needed ? needed + 64 : *capacity * 2;
	// Not by realloc(3), which may leave secrets in memory that is given back.
	void *copy = xcalloc(larger, item_size);
	if (items) {
		memcpy(copy, items, *capacity * item_size);
		explicit_bzero(items, *capacity * item_size);
	}
	free(items);
	*capacity = larger;
	return copy;
}

static uint32_t find_child(const struct redact *r, uint32_t node, unsigned char byte)
{
	if (node == ROOT)
		return r->first[byte];
	uint32_t child = r->nodes[node].child;
	while (child && r->nodes[child].byte != byte)
		child = r->nodes[child].sibling;
	return child;
}

static uint32_t add_child(struct redact *r, uint32_t parent, unsigned char byte, size_t text)
{
	r->nodes = grow(r->nodes, &r->node_capacity, r->node_count + 1, sizeof(*r->nodes));
	uint32_t child = (uint32_t)r->node_count++;
	r->nodes[child] = (struct node){
		.sibling = r->nodes[parent].child,
		.text = (uint32_t)text,
		.depth = r->nodes[parent].depth + 1,
		.byte = byte,
	};
	r->nodes[parent].child = child;
	if (parent == ROOT)
		r->first[byte] = child;
	return child;
}

static void add_form(void *data, const char *form, size_t size)
{
	struct redact *r = data;
	uint32_t node = ROOT;
	size_t text = r->text_size, nodes = r->node_count;
	r->texts = grow(r->texts, &r->text_capacity, text + size, 1);
	memcpy(r->texts + text, form, size);
	for (size_t i = 0; i < size; i++) {
		uint32_t child = find_child(r, node, (unsigned char)form[i]);
		node = child ? child : add_child(r, node, (unsigned char)form[i], text);
	}
	r->nodes[node].match = (uint32_t)size;
	if (r->node_count > nodes) // else its text is that of others
		r->text_size += size;
	if (size < r->window)
		r->window = size;
}

static uint32_t step(const struct redact *r, uint32_t state, unsigned char byte)
{
	for (;;) {
		uint32_t next = find_child(r, state, byte);
		if (next || state == ROOT)
			return next;
		state = r->nodes[state].fail;
	}
}

// Breadth first, so that the shorter texts are done before they are needed.
static void link_failures(struct redact *r)
{
	cleanup_free uint32_t *queue = xcalloc(r->node_count, sizeof(*queue));
	size_t head = 0, tail = 0;
	for (queue[tail++] = ROOT; head < tail; head++) {
		uint32_t parent = queue[head];
		for (uint32_t c = r->nodes[parent].child; c; c = r->nodes[c].sibling) {
			struct node *n = &r->nodes[c];
			n->fail = parent == ROOT ? ROOT : step(r, r->nodes[parent].fail, n->byte);
			if (!n->match)
				n->match = r->nodes[n->fail].match;
			queue[tail++] = c;
		}
	}
}

static size_t pair_at(const unsigned char *p)
{
	return (size_t)p[0] << 8 | p[1];
}

// Follow every form through its first `window` bytes; paths share their beginnings, so this walks
// the nodes of that depth.
static void fill_shifts(struct redact *r)
{
	r->shifts = xmalloc(PAIRS);
	memset(r->shifts, (int)r->window - 1, PAIRS);
	for (size_t i = 1; i < r->node_count; i++) {
		const struct node *n = &r->nodes[i];
		if (n->depth < 2 || n->depth > r->window)
			continue;
		size_t pair = pair_at((unsigned char *)r->texts + n->text + n->depth - 2);
		if (r->window - n->depth < r->shifts[pair])
			r->shifts[pair] = (unsigned char)(r->window - n->depth);
	}
}

static size_t without_line_end(const struct redact_secret *s)
{
	const char *data = s->data;
	size_t size = s->size;
	while (size && (data[size - 1] == '\n' || data[size - 1] == '\r'))
		size--;
	return size;
}

struct redact *redact_new(const struct redact_secret *secrets, size_t count, struct error *err)
{
	cleanup_redact struct redact *r = xcalloc(1, sizeof(*r));
	size_t total = 0;
	r->window = WINDOW_MAX;
	r->nodes = grow(NULL, &r->node_capacity, 1, sizeof(*r->nodes));
	r->node_count = 1;
	for (size_t i = 0; i < count; i++) {
		size_t size = without_line_end(&secrets[i]);
		if (size < REDACT_SECRET_MIN) {
			error_set(err, ERROR_INVALID,
				"secret %s: shorter than %d bytes, so it cannot be kept out of the "
				"log",
				secrets[i].name, REDACT_SECRET_MIN);
			return NULL;
		}
		if (size > REDACT_SECRETS_BYTES - total) {
			error_set(err, ERROR_LIMIT,
				"secret %s: the secrets have more than %d bytes together",
				secrets[i].name, REDACT_SECRETS_BYTES);
			return NULL;
		}
		total += size;
		redact_forms(secrets[i].data, size, add_form, r);
	}
	if (count) {
		link_failures(r);
		fill_shifts(r);
	}
	return steal(r);
}

void redact_free(struct redact *r)
{
	if (!r)
		return;
	if (r->texts)
		explicit_bzero(r->texts, r->text_capacity);
	explicit_bzero(r->nodes, r->node_capacity * sizeof(*r->nodes));
	free(r->texts);
	free(r->nodes);
	free(r->shifts);
	free(r->waiting);
	free(r);
}

// ---- the stream

// The form that was found last covers [start, end). Later ones end later, but may begin earlier.
static void cover(struct redact *r, uint64_t start, uint64_t end)
{
	struct interval merged = {start, end, false};
	while (r->waiting_count > r->waiting_first) {
		struct interval *last = &r->waiting[r->waiting_count - 1];
		if (last->end <= start)
			break;
		if (last->start < merged.start)
			merged.start = last->start;
		merged.shown |= last->shown;
		r->waiting_count--;
	}
	if (r->waiting_first == r->waiting_count)
		r->waiting_first = r->waiting_count = 0;
	r->waiting =
		grow(r->waiting, &r->waiting_capacity, r->waiting_count + 1, sizeof(*r->waiting));
	r->waiting[r->waiting_count++] = merged;
}

// The bytes of the stream from `from` on, `text`, are held back no longer.
static void release(
	struct redact *r, uint64_t from, const char *text, size_t size, struct buffer *out)
{
	uint64_t at = from, end = from + size;
	while (at < end) {
		struct interval *first =
			r->waiting_first < r->waiting_count ? &r->waiting[r->waiting_first] : NULL;
		uint64_t plain = first && first->start < end ? first->start : end;
		if (plain > at) {
			buffer_append(out, text + (at - from), plain - at);
			at = plain;
			continue;
		}
		if (!first->shown)
			buffer_puts(out, replacement);
		first->shown = true;
		at = first->end < end ? first->end : end;
		if (first->end <= end)
			r->waiting_first++;
	}
}

// Take one byte.
static void take(struct redact *r, unsigned char byte, struct buffer *out)
{
	const struct node *old = &r->nodes[r->state];
	uint64_t from = r->position - old->depth;
	r->state = step(r, r->state, byte);
	r->position++;
	const struct node *new = &r->nodes[r->state];
	if (new->match)
		cover(r, r->position - new->match, r->position);
	size_t freed = old->depth + 1 - new->depth;
	if (!freed)
		return;
	// What was held back is the old node's text; the byte itself goes only when nothing is held
	// any more.
	bool with_byte = freed > old->depth;
	release(r, from, r->texts + old->text, freed - with_byte, out);
	if (with_byte)
		release(r, r->position - 1, (char *)&byte, 1, out);
}

// At the root nothing is held back: the number of bytes in which no secret can begin.
static size_t skip(const struct redact *r, const unsigned char *data, size_t size)
{
	size_t at = 0, window = r->window;
	const unsigned char *shifts = r->shifts;
	while (at + window <= size) {
		size_t shift = shifts[pair_at(data + at + window - 2)];
		if (!shift && r->first[data[at]])
			return at;
		at += shift ? shift : 1;
	}
	while (at < size && !r->first[data[at]])
		at++;
	return at < size ? at : size;
}

void redact_feed(struct redact *r, const void *data, size_t size, struct buffer *out)
{
	const unsigned char *p = data;
	size_t at = 0;
	if (!r->shifts) {
		buffer_append(out, data, size);
		return;
	}
	while (at < size) {
		if (r->state == ROOT) {
			size_t n = skip(r, p + at, size - at);
			buffer_append(out, p + at, n);
			r->position += n;
			at += n;
		}
		if (at < size)
			take(r, p[at++], out);
	}
}

void redact_finish(struct redact *r, struct buffer *out)
{
	const struct node *n = &r->nodes[r->state];
	if (n->depth)
		release(r, r->position - n->depth, r->texts + n->text, n->depth, out);
	r->state = ROOT;
	r->position = 0;
	r->waiting_first = r->waiting_count = 0;
}

size_t redact_held(const struct redact *r)
{
	return r->nodes[r->state].depth;
}
