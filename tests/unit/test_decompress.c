// SPDX-License-Identifier: Apache-2.0
#include "base/buffer.h"
#include "oci/layer/decompress.h"

#include <isa-l/crc.h>
#include <isa-l/igzip_lib.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <zstd.h>

#include <cmocka.h>

enum { TEXT_SIZE = 80000 }; // more than two windows of deflate

static char text[TEXT_SIZE];

static int make_text(void **state)
{
	(void)state;
	uint32_t x = 1;
	for (size_t i = 0; i < TEXT_SIZE; i++) {
		x = x * 1664525 + 1013904223;
		// Runs and noise, so that matches, literals and stored blocks all occur.
		text[i] = i % 5000 < 3000 ? (char)('a' + i / 7 % 20) : (char)(x >> 24);
	}
	return 0;
}

static void put_number(struct buffer *b, uint32_t value)
{
	const uint8_t bytes[] = {(uint8_t)value, (uint8_t)(value >> 8), (uint8_t)(value >> 16),
		(uint8_t)(value >> 24)};
	buffer_append(b, bytes, sizeof(bytes));
}

// What a gzip member is made of; zero: nothing special.
struct member {
	uint8_t flags;
	const char *optional; // bytes behind the fixed header
	size_t optional_size;
	uint32_t crc_change, size_change;
};

static void put_member(struct buffer *b, const char *data, size_t size, struct member m)
{
	const uint8_t header[] = {0x1f, 0x8b, 8, m.flags, 1, 2, 3, 4, 0, 3};
	size_t start = b->size;
	buffer_append(b, header, sizeof(header));
	buffer_append(b, m.optional, m.optional_size);
	if (m.flags & 2) {
		uint32_t crc = crc32_gzip_refl(0, (uint8_t *)b->data + start, b->size - start);
		buffer_putc(b, (char)crc);
		buffer_putc(b, (char)(crc >> 8));
	}
	struct isal_zstream s;
	isal_deflate_init(&s);
	s.next_in = (uint8_t *)(uintptr_t)data;
	s.avail_in = (uint32_t)size;
	s.end_of_stream = 1;
	uint32_t room = (uint32_t)size + 1000;
	s.next_out = (uint8_t *)buffer_reserve(b, room);
	s.avail_out = room;
	assert_int_equal(isal_deflate(&s), COMP_OK);
	buffer_commit(b, s.total_out);
	put_number(b, crc32_gzip_refl(0, (uint8_t *)(uintptr_t)data, size) + m.crc_change);
	put_number(b, (uint32_t)size + m.size_change);
}

static void put_frame(struct buffer *b, const char *data, size_t size)
{
	size_t room = ZSTD_compressBound(size);
	ZSTD_CCtx *c = ZSTD_createCCtx();
	ZSTD_CCtx_setParameter(c, ZSTD_c_checksumFlag, 1);
	size_t n = ZSTD_compress2(c, buffer_reserve(b, room), room, data, size);
	ZSTD_freeCCtx(c);
	assert_false(ZSTD_isError(n));
	buffer_commit(b, n);
}

static void gzip_simple(struct buffer *b)
{
	put_member(b, text, TEXT_SIZE, (struct member){0});
}

static void gzip_members(struct buffer *b)
{
	put_member(b, text, 40000, (struct member){0});
	put_member(b, text + 40000, 1, (struct member){0});
	put_member(b, "", 0, (struct member){0});
	put_member(b, text + 40001, TEXT_SIZE - 40001, (struct member){0});
}

// Like stargz: every chunk is a member.
static void gzip_many_members(struct buffer *b)
{
	for (size_t i = 0; i < TEXT_SIZE; i += 100)
		put_member(b, text + i, 100, (struct member){0});
}

static void gzip_full_header(struct buffer *b)
{
	static const char optional[] = "\x05\0extra"
				       "name.tar\0"
				       "a comment";
	put_member(b, text, TEXT_SIZE, (struct member){0x1f, optional, sizeof(optional), 0, 0});
}

static void gzip_empty_extra(struct buffer *b)
{
	put_member(b, text, TEXT_SIZE, (struct member){4, "\0\0", 2, 0, 0});
}

static void gzip_zero_padding(struct buffer *b)
{
	gzip_simple(b);
	for (int i = 0; i < 600; i++)
		buffer_putc(b, 0);
}

static void gzip_padding_then_data(struct buffer *b)
{
	gzip_zero_padding(b);
	buffer_putc(b, 'x');
}

static void gzip_garbage(struct buffer *b)
{
	gzip_simple(b);
	buffer_puts(b, "garbage behind the end");
}

static void gzip_short_garbage(struct buffer *b)
{
	gzip_simple(b);
	buffer_puts(b, "\x1fx");
}

static void gzip_second_truncated(struct buffer *b)
{
	gzip_simple(b);
	buffer_puts(b, "\x1f\x8b");
}

static void gzip_wrong_crc(struct buffer *b)
{
	put_member(b, text, TEXT_SIZE, (struct member){.crc_change = 1});
}

static void gzip_wrong_length(struct buffer *b)
{
	put_member(b, text, TEXT_SIZE, (struct member){.size_change = 1});
}

static void gzip_wrong_header_crc(struct buffer *b)
{
	put_member(b, text, 100, (struct member){.flags = 2});
	b->data[10]++;
}

static void gzip_reserved_flag(struct buffer *b)
{
	put_member(b, text, 100, (struct member){.flags = 0x20});
}

static void gzip_other_method(struct buffer *b)
{
	put_member(b, text, 100, (struct member){0});
	b->data[2] = 7;
}

static void gzip_invalid_block(struct buffer *b)
{
	buffer_append(b, "\x1f\x8b\x08\0\0\0\0\0\0\x03\x07", 11);
	buffer_append(b, text, 100);
}

static void gzip_truncated(struct buffer *b)
{
	gzip_simple(b);
	b->size -= 1;
}

static void gzip_truncated_body(struct buffer *b)
{
	gzip_simple(b);
	b->size /= 2;
}

static void gzip_truncated_header(struct buffer *b)
{
	gzip_full_header(b);
	b->size = 20;
}

static void zstd_simple(struct buffer *b)
{
	put_frame(b, text, TEXT_SIZE);
}

static void zstd_frames(struct buffer *b)
{
	buffer_append(b, "\x50\x2a\x4d\x18\x04\0\0\0skip", 12);
	put_frame(b, text, 1000);
	put_frame(b, "", 0);
	buffer_append(b, "\x5f\x2a\x4d\x18\x03\0\0\0yes", 11);
	put_frame(b, text + 1000, TEXT_SIZE - 1000);
}

static void zstd_truncated(struct buffer *b)
{
	zstd_simple(b);
	b->size -= 3;
}

static void zstd_garbage(struct buffer *b)
{
	zstd_simple(b);
	buffer_puts(b, "garbage behind the end");
}

static void zstd_corrupt(struct buffer *b)
{
	zstd_simple(b);
	memset(b->data + 30, 0xff, 100);
}

// A frame of one segment: its window is its declared size, 2^62 bytes.
static void zstd_declared_bomb(struct buffer *b)
{
	buffer_append(b, "\x28\xb5\x2f\xfd\xe0\0\0\0\0\0\0\0\x40\x01\0\0", 16);
}

static void zstd_window_bomb(struct buffer *b)
{
	// Window descriptor 0xff: 2^41 bytes and seven eighths more.
	buffer_append(b, "\x28\xb5\x2f\xfd\x00\xff\x01\0\0", 9);
}

static void plain(struct buffer *b)
{
	buffer_append(b, text, TEXT_SIZE);
}

static void plain_one_byte(struct buffer *b)
{
	buffer_putc(b, 0x1f);
}

static void nothing(struct buffer *b)
{
	(void)b;
}

static const struct {
	const char *why;
	void (*make)(struct buffer *b);
	long size; // of the text that must come out, or -1
	enum error_kind kind;
	const char *error; // part of the text
} cases[] = {
	{"one member", gzip_simple, TEXT_SIZE, 0, NULL},
	{"concatenated members, one of them empty", gzip_members, TEXT_SIZE, 0, NULL},
	{"thousands of members", gzip_many_members, TEXT_SIZE, 0, NULL},
	{"all optional header fields", gzip_full_header, TEXT_SIZE, 0, NULL},
	{"an extra field of no bytes", gzip_empty_extra, TEXT_SIZE, 0, NULL},
	{"gzip(1) tolerates zeros behind the end", gzip_zero_padding, TEXT_SIZE, 0, NULL},
	{"padding is zeros to the end", gzip_padding_then_data, -1, ERROR_INTEGRITY,
		"followed by foreign bytes"},
	{"foreign bytes behind the end", gzip_garbage, -1, ERROR_INTEGRITY,
		"gzip stream is followed by foreign bytes at byte "},
	{"half a magic number is no member", gzip_short_garbage, -1, ERROR_INTEGRITY,
		"followed by foreign bytes"},
	{"a second member cut in its header", gzip_second_truncated, -1, ERROR_INTEGRITY,
		"gzip stream is truncated after "},
	{"CRC", gzip_wrong_crc, -1, ERROR_INTEGRITY,
		"checksum or length of the data does not match"},
	{"length", gzip_wrong_length, -1, ERROR_INTEGRITY,
		"checksum or length of the data does not match"},
	{"header CRC", gzip_wrong_header_crc, -1, ERROR_INTEGRITY,
		"gzip stream is corrupt near byte 11: header checksum does not match"},
	{"reserved flag", gzip_reserved_flag, -1, ERROR_INTEGRITY, "reserved header flags are set"},
	{"method 7", gzip_other_method, -1, ERROR_INTEGRITY, "unknown compression method"},
	{"block type 3", gzip_invalid_block, -1, ERROR_INTEGRITY, "invalid deflate block"},
	{"the last byte is missing", gzip_truncated, -1, ERROR_INTEGRITY,
		"gzip stream is truncated after "},
	{"half is missing", gzip_truncated_body, -1, ERROR_INTEGRITY,
		"gzip stream is truncated after "},
	{"cut in the header", gzip_truncated_header, -1, ERROR_INTEGRITY,
		"gzip stream is truncated after 20 bytes"},
	{"one frame", zstd_simple, TEXT_SIZE, 0, NULL},
	{"frames, skippable frames, an empty frame", zstd_frames, TEXT_SIZE, 0, NULL},
	{"zstd cut short", zstd_truncated, -1, ERROR_INTEGRITY, "zstd stream is truncated after "},
	{"foreign bytes behind zstd", zstd_garbage, -1, ERROR_INTEGRITY,
		"zstd stream is followed by foreign bytes near byte "},
	{"zstd overwritten", zstd_corrupt, -1, ERROR_INTEGRITY,
		"zstd stream is corrupt near byte "},
	{"a frame that declares 4 EiB", zstd_declared_bomb, -1, ERROR_LIMIT,
		"zstd frame asks for a window over 128 MiB"},
	{"a window of terabytes", zstd_window_bomb, -1, ERROR_LIMIT,
		"zstd frame asks for a window over 128 MiB"},
	{"not compressed", plain, TEXT_SIZE, 0, NULL},
	{"too short for any magic number", plain_one_byte, 1, 0, NULL},
	{"nothing at all", nothing, 0, 0, NULL},
};

// Run to the end with input and output in pieces of these sizes.
static int run(const struct buffer *in, size_t in_step, size_t out_step, struct buffer *out,
	struct error *err)
{
	struct decompressor *d = decompressor_new();
	size_t at = 0;
	int done = 0;
	for (int idle = 0; done == 0;) {
		size_t left = in->size - at, n = left < in_step ? left : in_step, used = 0,
		       made = 0;
		// A copy of the exact size, so that AddressSanitizer sees a step too far.
		char *piece = xmemdup(n ? in->data + at : "", n);
		done = decompressor_run(d, piece, n, &used, n == left,
			buffer_reserve(out, out_step), out_step, &made, err);
		free(piece);
		if (done < 0)
			break;
		assert_true(used <= n && made <= out_step);
		idle = used || made ? 0 : idle + 1;
		assert_true(idle < 3);
		at += used;
		buffer_commit(out, made);
	}
	assert_true(done < 0 || at == in->size);
	decompressor_free(d);
	return done;
}

static void check(size_t i, size_t in_step, size_t out_step)
{
	cleanup_buffer struct buffer in = {0}, out = {0};
	struct error err = {0};
	cases[i].make(&in);
	int done = run(&in, in_step, out_step, &out, &err);
	print_message("%s (in %zu, out %zu): %s\n", cases[i].why, in_step, out_step, err.text);
	if (cases[i].size < 0) {
		assert_int_equal(done, -1);
		assert_int_equal(err.kind, cases[i].kind);
		assert_non_null(strstr(err.text, cases[i].error));
		return;
	}
	assert_int_equal(done, 1);
	assert_int_equal(out.size, cases[i].size);
	if (cases[i].size > 1)
		assert_memory_equal(out.data, text, out.size);
}

static void test_whole(void **state)
{
	(void)state;
	for (size_t i = 0; i < array_size(cases); i++)
		check(i, SIZE_MAX, 1 << 20);
}

static void test_small_input(void **state)
{
	(void)state;
	for (size_t i = 0; i < array_size(cases); i++)
		check(i, 7, 1 << 16);
}

static void test_small_output(void **state)
{
	(void)state;
	for (size_t i = 0; i < array_size(cases); i++)
		check(i, 100000, 5003);
}

static void test_odd_pieces(void **state)
{
	(void)state;
	for (size_t i = 0; i < array_size(cases); i++)
		check(i, 101, 1009);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_whole),
		cmocka_unit_test(test_small_input),
		cmocka_unit_test(test_small_output),
		cmocka_unit_test(test_odd_pieces),
	};
	return cmocka_run_group_tests(tests, make_text, NULL);
}
