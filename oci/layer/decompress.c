// SPDX-License-Identifier: Apache-2.0
#include "oci/layer/decompress.h"

#include "base/memory.h"
#include "oci/layer/gzip.h"

#include <string.h>
#include <zstd.h>
#include <zstd_errors.h>

enum {
	MAGIC_SIZE = 4,
	ZSTD_WINDOW_LOG_MAX = 27
}; // 128 MiB: what zstd --long writes at most by default

enum format { FORMAT_UNKNOWN, FORMAT_PLAIN, FORMAT_GZIP, FORMAT_ZSTD };

struct decompressor {
	enum format format;
	// The first bytes, held back until they tell the format, then fed before everything else.
	uint8_t magic[MAGIC_SIZE];
	size_t magic_size, magic_used;
	struct gzip_reader *gzip;
	ZSTD_DStream *zstd;
	bool zstd_open;	   // inside a frame
	uint64_t consumed; // zstd: compressed bytes, for messages
};

struct decompressor *decompressor_new(void)
{
	struct decompressor *d = xcalloc(1, sizeof(*d));
	// Made before the format is known: the worker that runs this may not be able to start
	// anything later.
	d->gzip = gzip_reader_new();
	d->zstd = ZSTD_createDStream();
	if (!d->zstd || ZSTD_isError(ZSTD_DCtx_setParameter(
				d->zstd, ZSTD_d_windowLogMax, ZSTD_WINDOW_LOG_MAX)))
		abort();
	return d;
}

void decompressor_free(struct decompressor *d)
{
	if (!d)
		return;
	gzip_reader_free(d->gzip);
	ZSTD_freeDStream(d->zstd);
	free(d);
}

static enum format format_of(const uint8_t *magic, size_t size)
{
	if (size >= 2 && magic[0] == 0x1f && magic[1] == 0x8b)
		return FORMAT_GZIP;
	if (size < MAGIC_SIZE)
		return FORMAT_PLAIN;
	uint32_t value = magic[0] | magic[1] << 8 | magic[2] << 16 | (uint32_t)magic[3] << 24;
	if (value == ZSTD_MAGICNUMBER ||
		(value & ZSTD_MAGIC_SKIPPABLE_MASK) == ZSTD_MAGIC_SKIPPABLE_START)
		return FORMAT_ZSTD;
	return FORMAT_PLAIN;
}

static int plain_run(const void *in, size_t in_size, size_t *in_used, bool end, void *out,
	size_t out_size, size_t *out_used)
{
	size_t size = in_size < out_size ? in_size : out_size;
	if (size)
		memcpy(out, in, size);
	*in_used = *out_used = size;
	return end && size == in_size;
}

static int zstd_error(const struct decompressor *d, size_t code, struct error *err)
{
	unsigned long long at = d->consumed;
	switch (ZSTD_getErrorCode(code)) {
	case ZSTD_error_frameParameter_windowTooLarge:
		return error_set(err, ERROR_LIMIT, "zstd frame asks for a window over %d MiB",
			1 << (ZSTD_WINDOW_LOG_MAX - 20));
	case ZSTD_error_memory_allocation:
		return error_set(err, ERROR_LIMIT, "zstd frame asks for more memory than there is");
	case ZSTD_error_prefix_unknown:
		return error_set(err, ERROR_INTEGRITY,
			"zstd stream is followed by foreign bytes near byte %llu", at);
	default:
		return error_set(err, ERROR_INTEGRITY, "zstd stream is corrupt near byte %llu: %s",
			at, ZSTD_getErrorName(code));
	}
}

static int zstd_run(struct decompressor *d, const void *in, size_t in_size, size_t *in_used,
	bool end, void *out, size_t out_size, size_t *out_used, struct error *err)
{
	ZSTD_inBuffer source = {in, in_size, 0};
	ZSTD_outBuffer target = {out, out_size, 0};
	// One call does not always consume all it could; it stops at the end of each frame.
	while (source.pos < source.size || d->zstd_open) {
		size_t before_in = source.pos, before_out = target.pos;
		size_t code = ZSTD_decompressStream(d->zstd, &target, &source);
		d->consumed += source.pos - before_in;
		if (ZSTD_isError(code))
			return zstd_error(d, code, err);
		d->zstd_open = code != 0;
		if (source.pos == before_in && target.pos == before_out)
			break;
	}
	*in_used = source.pos;
	*out_used = target.pos;
	if (!end || source.pos < source.size || (d->zstd_open && target.pos == target.size))
		return 0;
	if (d->zstd_open)
		return error_set(err, ERROR_INTEGRITY, "zstd stream is truncated after %llu bytes",
			(unsigned long long)d->consumed);
	return 1;
}

static int format_run(struct decompressor *d, const void *in, size_t in_size, size_t *in_used,
	bool end, void *out, size_t out_size, size_t *out_used, struct error *err)
{
	switch (d->format) {
	case FORMAT_GZIP:
		return gzip_reader_run(
			d->gzip, in, in_size, in_used, end, out, out_size, out_used, err);
	case FORMAT_ZSTD:
		return zstd_run(d, in, in_size, in_used, end, out, out_size, out_used, err);
	default:
		return plain_run(in, in_size, in_used, end, out, out_size, out_used);
	}
}

int decompressor_run(struct decompressor *d, const void *in, size_t in_size, size_t *in_used,
	bool end, void *out, size_t out_size, size_t *out_used, struct error *err)
{
	const uint8_t *bytes = in ? in : (const uint8_t *)""; // no arithmetic on NULL
	size_t held = 0, made = 0;
	if (d->format == FORMAT_UNKNOWN) {
		while (d->magic_size < MAGIC_SIZE && held < in_size)
			d->magic[d->magic_size++] = bytes[held++];
		if (d->magic_size < MAGIC_SIZE && !end) {
			*in_used = held;
			*out_used = 0;
			return 0;
		}
		d->format = format_of(d->magic, d->magic_size);
	}
	bool rest = held < in_size;
	if (d->magic_used < d->magic_size) {
		size_t used;
		int done = format_run(d, d->magic + d->magic_used, d->magic_size - d->magic_used,
			&used, end && !rest, out, out_size, &made, err);
		if (done < 0)
			return -1;
		d->magic_used += used;
		if (done || d->magic_used < d->magic_size) {
			*in_used = held;
			*out_used = made;
			return done;
		}
	}
	size_t used, more;
	int done = format_run(d, bytes + held, in_size - held, &used, end, (uint8_t *)out + made,
		out_size - made, &more, err);
	if (done < 0)
		return -1;
	*in_used = held + used;
	*out_used = made + more;
	return done;
}
