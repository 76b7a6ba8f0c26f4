// SPDX-License-Identifier: Apache-2.0
#include "oci/layer/gzip.h"

#include <isa-l/crc.h>
#include <isa-l/igzip_lib.h>
#include <stdint.h>
#include <string.h>

enum {
	FLAG_HCRC = 0x02,
	FLAG_EXTRA = 0x04,
	FLAG_NAME = 0x08,
	FLAG_COMMENT = 0x10,
	FLAGS_KNOWN = 0x1f
};

enum gzip_state {
	GZIP_BETWEEN, // before a member: the stream may end here
	GZIP_FIXED,   // the first ten bytes of a header
	GZIP_EXTRA_LENGTH,
	GZIP_EXTRA,
	GZIP_NAME,
	GZIP_COMMENT,
	GZIP_HCRC,
	GZIP_BODY,
	GZIP_PADDING,
};

struct gzip_reader {
	struct inflate_state inflate;
	enum gzip_state state;
	uint64_t consumed; // compressed bytes, for messages
	uint64_t members;  // complete ones
	uint8_t header[10];
	uint32_t header_count; // bytes collected, or left to skip
	uint8_t flags;
	uint32_t header_crc;
};

struct gzip_reader *gzip_reader_new(void)
{
	struct gzip_reader *g = xcalloc(1, sizeof(*g));
	isal_inflate_init(&g->inflate);
	return g;
}

void gzip_reader_free(struct gzip_reader *g)
{
	free(g);
}

static int corrupt(const struct gzip_reader *g, const char *what, struct error *err)
{
	return error_set(err, ERROR_INTEGRITY, "gzip stream is corrupt near byte %llu: %s",
		(unsigned long long)g->consumed, what);
}

// The part of the header behind `state`, or the body.
static enum gzip_state state_after(const struct gzip_reader *g, enum gzip_state state)
{
	if (state < GZIP_EXTRA_LENGTH && g->flags & FLAG_EXTRA)
		return GZIP_EXTRA_LENGTH;
	if (state < GZIP_NAME && g->flags & FLAG_NAME)
		return GZIP_NAME;
	if (state < GZIP_COMMENT && g->flags & FLAG_COMMENT)
		return GZIP_COMMENT;
	if (state < GZIP_HCRC && g->flags & FLAG_HCRC)
		return GZIP_HCRC;
	return GZIP_BODY;
}

static void enter(struct gzip_reader *g, enum gzip_state state)
{
	g->state = state;
	g->header_count = 0;
	if (state != GZIP_BODY)
		return;
	isal_inflate_reset(&g->inflate);
	g->inflate.crc_flag = ISAL_GZIP_NO_HDR_VER;
}

static int fixed_header_done(struct gzip_reader *g, struct error *err)
{
	if (g->header[0] != 0x1f || g->header[1] != 0x8b)
		return error_set(err, ERROR_INTEGRITY,
			"gzip stream is followed by foreign bytes at byte %llu",
			(unsigned long long)g->consumed - sizeof(g->header));
	if (g->header[2] != 8)
		return corrupt(g, "unknown compression method", err);
	if (g->header[3] & ~FLAGS_KNOWN)
		return corrupt(g, "reserved header flags are set", err);
	g->flags = g->header[3];
	enter(g, state_after(g, GZIP_FIXED));
	return 0;
}

// One byte of a header.
static int header_byte(struct gzip_reader *g, uint8_t byte, struct error *err)
{
	if (g->state != GZIP_HCRC && g->state != GZIP_BETWEEN)
		g->header_crc = crc32_gzip_refl(g->header_crc, &byte, 1);
	switch (g->state) {
	case GZIP_BETWEEN:
		if (byte == 0 && g->members) {
			g->state = GZIP_PADDING;
			return 0;
		}
		enter(g, GZIP_FIXED);
		g->header_crc = 0;
		return header_byte(g, byte, err);
	case GZIP_FIXED:
		g->header[g->header_count++] = byte;
		// Two bytes tell foreign bytes from a member; a stream that ends there is not
		// "truncated".
		if (g->members && g->header_count <= 2 &&
			byte != (g->header_count == 1 ? 0x1f : 0x8b))
			return error_set(err, ERROR_INTEGRITY,
				"gzip stream is followed by foreign bytes at byte %llu",
				(unsigned long long)(g->consumed - (g->header_count - 1)));
		return g->header_count < sizeof(g->header) ? 0 : fixed_header_done(g, err);
	case GZIP_EXTRA_LENGTH:
		g->header[g->header_count++] = byte;
		if (g->header_count < 2)
			return 0;
		uint32_t length = g->header[0] | (uint32_t)g->header[1] << 8;
		enter(g, length ? GZIP_EXTRA : state_after(g, GZIP_EXTRA));
		g->header_count = length;
		return 0;
	case GZIP_EXTRA:
		if (--g->header_count == 0)
			enter(g, state_after(g, GZIP_EXTRA));
		return 0;
	case GZIP_NAME:
	case GZIP_COMMENT:
		if (byte == 0)
			enter(g, state_after(g, g->state));
		return 0;
	case GZIP_HCRC:
		g->header[g->header_count++] = byte;
		if (g->header_count < 2)
			return 0;
		if ((g->header[0] | (uint32_t)g->header[1] << 8) != (g->header_crc & 0xffff))
			return corrupt(g, "header checksum does not match", err);
		enter(g, GZIP_BODY);
		return 0;
	case GZIP_PADDING:
		if (byte != 0)
			return error_set(err, ERROR_INTEGRITY,
				"gzip stream is followed by foreign bytes at byte %llu",
				(unsigned long long)g->consumed);
		return 0;
	default:
		abort();
	}
}

static const char *inflate_error(int code)
{
	switch (code) {
	case ISAL_INVALID_BLOCK:
		return "invalid deflate block";
	case ISAL_INVALID_SYMBOL:
		return "invalid deflate symbol";
	case ISAL_INVALID_LOOKBACK:
		return "a match reaches before the start";
	case ISAL_INCORRECT_CHECKSUM:
		return "checksum or length of the data does not match";
	default:
		return "invalid deflate data";
	}
}

// Returns 0 or -1; `*used` and `*made` advance.
static int body(struct gzip_reader *g, const uint8_t *in, size_t in_size, size_t *used,
	uint8_t *out, size_t out_size, size_t *made, struct error *err)
{
	struct inflate_state *s = &g->inflate;
	// ISA-L counts in 32 bits; a quarter of that is more than any block here.
	uint32_t in_part = in_size > (1u << 30) ? 1u << 30 : (uint32_t)in_size;
	uint32_t out_part = out_size > (1u << 30) ? 1u << 30 : (uint32_t)out_size;
	s->next_in = (uint8_t *)(uintptr_t)in;
	s->avail_in = in_part;
	s->next_out = out;
	s->avail_out = out_part;
	int code = isal_inflate(s);
	*used = in_part - s->avail_in;
	*made = out_part - s->avail_out;
	if (code < 0) {
		g->consumed += *used;
		return corrupt(g, inflate_error(code), err);
	}
	if (s->block_state == ISAL_BLOCK_FINISH) {
		g->members++;
		enter(g, GZIP_BETWEEN);
	}
	return 0;
}

int gzip_reader_run(struct gzip_reader *g, const void *in, size_t in_size, size_t *in_used,
	bool end, void *out, size_t out_size, size_t *out_used, struct error *err)
{
	const uint8_t *bytes = in;
	uint8_t *target = out;
	size_t used = 0, made = 0;
	for (;;) {
		if (g->state != GZIP_BODY) {
			if (used == in_size)
				break;
			if (header_byte(g, bytes[used], err) < 0)
				return -1;
			used++;
			g->consumed++;
			continue;
		}
		size_t part_used, part_made;
		if (body(g, bytes + used, in_size - used, &part_used, target + made,
			    out_size - made, &part_made, err) < 0)
			return -1;
		used += part_used;
		made += part_made;
		g->consumed += part_used;
		if (g->state == GZIP_BODY && (made == out_size || used == in_size))
			break;
		if (part_used == 0 && part_made == 0)
			return corrupt(g, "no progress", err);
	}
	*in_used = used;
	*out_used = made;
	if (!end || used < in_size || (g->state == GZIP_BODY && made == out_size))
		return 0;
	if (g->state != GZIP_BETWEEN && g->state != GZIP_PADDING)
		return error_set(err, ERROR_INTEGRITY, "gzip stream is truncated after %llu bytes",
			(unsigned long long)g->consumed);
	return 1;
}
