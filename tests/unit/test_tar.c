// SPDX-License-Identifier: Apache-2.0
// The tar reader against a sink that writes down what it is told.
#include "base/buffer.h"
#include "base/memory.h"
#include "base/text.h"
#include "oci/layer/tar.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <cmocka.h>

// One tar entry. `pax` holds records "key=value" separated by newlines, written in front of it.
struct item {
	char type; // '0' regular, … ; 'B': `data` is written as it is
	const char *name, *data, *link, *pax;
	int64_t mode, uid, mtime;
	int64_t size; // in the header instead of the data's, if not 0
	bool gnu;
};

static void put_number(char *field, size_t width, int64_t value)
{
	if (value >= 0 && value < INT64_C(1) << 3 * (width - 1)) {
		char text[32];
		snprintf(text, sizeof(text), "%0*llo", (int)width - 1, (long long)value);
		memcpy(field, text, width);
		return;
	}
	for (size_t i = width; i-- > 0; value >>= 8)
		field[i] = (char)(value & 0xff);
	field[0] = (char)(field[0] | 0x80);
}

static void put_field(char *field, size_t width, const char *text)
{
	size_t n = strlen(text);
	memcpy(field, text, n < width ? n : width);
}

static void put_entry(struct buffer *b, const struct item *i, const char *data, size_t size)
{
	char h[512] = {0};
	put_field(h, 100, i->name ? i->name : "");
	put_number(h + 100, 8, i->mode ? i->mode : 0644);
	put_number(h + 108, 8, i->uid);
	put_number(h + 116, 8, 0);
	put_number(h + 124, 12, i->size ? i->size : (int64_t)size);
	put_number(h + 136, 12, i->mtime);
	memset(h + 148, ' ', 8);
	h[156] = i->type;
	put_field(h + 157, 100, i->link ? i->link : "");
	memcpy(h + 257, i->gnu ? "ustar  " : "ustar\00000", 8);
	put_number(h + 329, 8, 5);
	put_number(h + 337, 8, 6);
	unsigned sum = 0;
	for (size_t n = 0; n < sizeof(h); n++)
		sum += (uint8_t)h[n];
	snprintf(h + 148, 8, "%06o", sum);
	buffer_append(b, h, sizeof(h));
	buffer_append(b, data, size);
	static const char zeros[512];
	buffer_append(b, zeros, -size % 512);
}

static void put_pax(struct buffer *b, const char *records)
{
	struct buffer body = {0};
	for (const char *p = records; *p;) {
		size_t n = strcspn(p, "\n"), length = n + 3;
		char digits[24];
		// The length counts its own digits.
		while (snprintf(digits, sizeof(digits), "%zu", length) + n + 2 != length)
			length++;
		buffer_printf(&body, "%zu %.*s\n", length, (int)n, p);
		p += n + (p[n] == '\n');
	}
	put_entry(b, &(struct item){.type = 'x', .name = "PaxHeaders/x"}, body.data, body.size);
	buffer_release(&body);
}

static void put_items(struct buffer *b, const struct item *items)
{
	for (; items->type; items++) {
		if (items->pax)
			put_pax(b, items->pax);
		const char *data = items->data ? items->data : "";
		if (items->type == 'B')
			buffer_append(b, data, strlen(data));
		else
			put_entry(b, items, data, strlen(data));
	}
}

// A stream whose blocks disappear when the next one is asked for.
struct source {
	struct layer_stream stream;
	const char *data;
	size_t size, block_size;
	char *block;
};

static ssize_t source_next(struct layer_stream *s, const void **block, struct error *err)
{
	(void)err;
	struct source *source = (struct source *)s;
	free(source->block);
	size_t n = source->size < source->block_size ? source->size : source->block_size;
	source->block = xmemdup(source->data, n);
	source->data += n;
	source->size -= n;
	*block = source->block;
	return (ssize_t)n;
}

// The sink: a line per call. Data is looked at no earlier than flush(), as a writer that gathers
// does.
struct recorder {
	struct layer_sink sink;
	struct buffer log;
	const char *pending;
	size_t pending_size;
};

static int record_flush(struct layer_sink *s, struct error *err)
{
	(void)err;
	struct recorder *r = (struct recorder *)s;
	if (r->pending_size)
		buffer_append(&r->log, r->pending, r->pending_size);
	r->pending_size = 0;
	return 0;
}

static int record_add(struct layer_sink *s, const struct layer_entry *e, struct error *err)
{
	struct recorder *r = (struct recorder *)s;
	record_flush(s, err);
	buffer_printf(&r->log, "|add %s %o %u:%u %lld.%09u", e->path, (unsigned)e->mode, e->uid,
		e->gid, (long long)e->mtime, e->mtime_nsec);
	if (S_ISREG(e->mode))
		buffer_printf(&r->log, " %llu ", (unsigned long long)e->size);
	if (S_ISCHR(e->mode) || S_ISBLK(e->mode))
		buffer_printf(&r->log, " %u,%u", e->rdev_major, e->rdev_minor);
	if (S_ISLNK(e->mode))
		buffer_printf(&r->log, " -> %s", e->link);
	for (size_t i = 0; i < e->xattr_count; i++)
		buffer_printf(&r->log, "{%s=%.*s}", e->xattrs[i].name, (int)e->xattrs[i].size,
			(const char *)e->xattrs[i].value);
	return 0;
}

static int record_data(
	struct layer_sink *s, uint64_t offset, const void *data, size_t size, struct error *err)
{
	struct recorder *r = (struct recorder *)s;
	record_flush(s, err);
	if (!ends_with(r->log.data, "]") && offset)
		buffer_printf(&r->log, "[@%llu]", (unsigned long long)offset);
	r->pending = data;
	r->pending_size = size;
	return 0;
}

static int record_link(
	struct layer_sink *s, const char *path, const char *target, struct error *err)
{
	record_flush(s, err);
	buffer_printf(&((struct recorder *)s)->log, "|link %s %s", path, target);
	return 0;
}

static int record_whiteout(struct layer_sink *s, const char *path, struct error *err)
{
	record_flush(s, err);
	buffer_printf(&((struct recorder *)s)->log, "|whiteout %s", path);
	return 0;
}

static int record_opaque(struct layer_sink *s, const char *path, struct error *err)
{
	record_flush(s, err);
	buffer_printf(&((struct recorder *)s)->log, "|opaque %s", path);
	return 0;
}

static const struct layer_sink_functions recorder_functions = {
	.add = record_add,
	.data = record_data,
	.link = record_link,
	.whiteout = record_whiteout,
	.opaque = record_opaque,
	.flush = record_flush,
};

static const struct layer_limits small_limits = {
	.entries = 4, .bytes = 64 * 1024, .metadata_bytes = 1};

static int read_tar(const struct buffer *tar, size_t block_size, const struct layer_limits *limits,
	struct buffer *log, uint64_t *entries, struct error *err)
{
	struct source source = {{source_next}, tar->data, tar->size, block_size, NULL};
	struct recorder r = {{&recorder_functions}};
	int result = tar_read(&source.stream, &r.sink, limits, entries, err);
	if (result == 0)
		record_flush(&r.sink, err);
	free(source.block);
	*log = r.log;
	return result;
}

#define LONG_NAME                                                                               \
	"long-long-long-long-long-long-long-long-long-long-long-long-long-long-long-long-long-" \
	"long-"                                                                                 \
	"long-long-long-long-\xff"

struct case_good {
	const char *why;
	struct item items[5];
	const char *expected;
};

static const struct case_good good[] = {
	{"a file and its data", {{'0', "a/b", "hello"}}, "|add a/b 100644 0:0 0.000000000 5 hello"},
	{"leading / and ./ are dropped, doubled slashes joined",
		{{'0', "/a"}, {'0', ".//b//./c"}, {'5', "./", .mode = 0755}},
		"|add a 100644 0:0 0.000000000 0 |add b/c 100644 0:0 0.000000000 0 "
		"|add  40755 0:0 0.000000000"},
	{"every kind",
		{{'5', "d/", .mode = 02755}, {'2', "l", .link = "../x"}, {'3', "c"}, {'6', "p"}},
		"|add d 42755 0:0 0.000000000|add l 120644 0:0 0.000000000 -> ../x"
		"|add c 20644 0:0 0.000000000 5,6|add p 10644 0:0 0.000000000"},
	{"names are bytes: ustar, PAX that is UTF-8, PAX that is not, decomposed accents",
		{{'0', "\xe9\xff"}, {'0', "x", .pax = "path=gr\xc3\xbc\xc3\x9f"},
			{'0', "x", .pax = "path=a\xff\xfe"}, {'0', "x", .pax = "path=e\xcc\x81"}},
		"|add \xe9\xff 100644 0:0 0.000000000 0 "
		"|add gr\xc3\xbc\xc3\x9f 100644 0:0 0.000000000 0 "
		"|add a\xff\xfe 100644 0:0 0.000000000 0 |add e\xcc\x81 100644 0:0 0.000000000 0 "},
	{"link targets are bytes",
		{{'2', "s", .pax = "linkpath=\xc3\xbc\xff"}, {'0', "\xff"},
			{'1', "h", .link = "./\xff"}, {'1', "h2", .pax = "linkpath=\xff"}},
		"|add s 120644 0:0 0.000000000 -> \xc3\xbc\xff|add \xff 100644 0:0 0.000000000 0 "
		"|link h \xff|link h2 \xff"},
	{"GNU long names",
		{{'L', "././@LongLink", LONG_NAME, .gnu = true}, {'0', "x", "1", .gnu = true}},
		"|add " LONG_NAME " 100644 0:0 0.000000000 1 1"},
	{"GNU long link targets",
		{{'K', "././@LongLink", LONG_NAME, .gnu = true},
			{'2', "x", .link = "y", .gnu = true}},
		"|add x 120644 0:0 0.000000000 -> " LONG_NAME},
	{"user and group names that are not UTF-8 do not matter",
		{{'0', "a", .pax = "uname=\xff\ngname=\xc3\xbc"}},
		"|add a 100644 0:0 0.000000000 0 "},
	{"large ids by PAX and base 256",
		{{'0', "a", .pax = "uid=4294967294\ngid=70000"}, {'0', "b", .uid = 3000000}},
		"|add a 100644 4294967294:70000 0.000000000 0 |add b 100644 3000000:0 0.000000000 "
		"0 "},
	{"times: nanoseconds, before 1970, with a fraction",
		{{'0', "a", .pax = "mtime=1700000000.123456789"}, {'0', "b", .mtime = -5},
			{'0', "c", .pax = "mtime=-1.5"}, {'0', "d", .pax = "mtime=-2"}},
		"|add a 100644 0:0 1700000000.123456789 0 |add b 100644 0:0 -5.000000000 0 "
		"|add c 100644 0:0 -2.500000000 0 |add d 100644 0:0 -2.000000000 0 "},
	{"the last attribute of a name counts, an empty one takes it back",
		{{'0', "a", .pax = "SCHILY.xattr.user.a=1\nSCHILY.xattr.user.a=2"},
			{'0', "b", .pax = "SCHILY.xattr.user.a=1\nSCHILY.xattr.user.a="}},
		"|add a 100644 0:0 0.000000000 0 {user.a=2}|add b 100644 0:0 0.000000000 0 "},
	{"base64 attributes of libarchive", {{'0', "a", .pax = "LIBARCHIVE.xattr.user.x=eWVz"}},
		"|add a 100644 0:0 0.000000000 0 {user.x=yes}"},
	{"attributes that would steer overlayfs are dropped",
		{{'5', "a/",
			.pax = "SCHILY.xattr.trusted.overlay.opaque=y\nSCHILY.xattr.user.overlay."
			       "redirect=/"
			       "\nSCHILY.xattr.user.keep=k"}},
		"|add a 40644 0:0 0.000000000{user.keep=k}"},
	{"POSIX.1e texts are ignored", {{'0', "a", .pax = "SCHILY.acl.access=user::rw-,bad bad"}},
		"|add a 100644 0:0 0.000000000 0 "},
	{"whiteouts",
		{{'0', "a/.wh.b"}, {'0', "a/.wh..wh..opq"}, {'0', ".wh..wh..opq"}, {'0', ".wh.x"}},
		"|whiteout a/b|opaque a|opaque |whiteout x"},
	{"aufs bookkeeping is not a whiteout", {{'0', ".wh..wh.aufs"}, {'0', "a"}},
		"|add a 100644 0:0 0.000000000 0 "},
	{"a hard link with a target as an absolute path", {{'0', "a"}, {'1', "b", .link = "/a"}},
		"|add a 100644 0:0 0.000000000 0 |link b a"},
	{"old sparse files of GNU PAX 0.1",
		{{'0', "x", "abcd",
			.pax = "GNU.sparse.name=s\nGNU.sparse.size=10000\nGNU.sparse.numblocks=2\n"
			       "GNU.sparse.map=0,2,5000,2"}},
		"|add s 100644 0:0 0.000000000 10000 ab[@5000]cd"},
};

static void test_good(void **state)
{
	(void)state;
	static const size_t block_sizes[] = {1 << 20, 512, 700};
	for (size_t i = 0; i < array_size(good); i++) {
		cleanup_buffer struct buffer tar = {0};
		put_items(&tar, good[i].items);
		buffer_append(&tar, (char[1024]){0}, 1024);
		for (size_t n = 0; n < array_size(block_sizes); n++) {
			struct error err = {ERROR_NONE};
			cleanup_buffer struct buffer log = {0};
			uint64_t entries;
			if (read_tar(&tar, block_sizes[n], &layer_limits_default, &log, &entries,
				    &err) < 0)
				fail_msg("%s: %s", good[i].why, err.text);
			if (!streq(log.data, good[i].expected))
				fail_msg("%s, blocks of %zu: got %s", good[i].why, block_sizes[n],
					log.data);
		}
	}
}

#define GARBAGE LONG_NAME LONG_NAME LONG_NAME LONG_NAME LONG_NAME LONG_NAME

struct case_bad {
	struct item items[6];
	enum error_kind kind;
	const char *text;
};

static const struct case_bad bad[] = {
	{{{'0', "a/../b"}}, ERROR_INVALID, "entry \"a/../b\" has \"..\" in its path"},
	{{{'0', "/../etc/passwd"}}, ERROR_INVALID,
		"entry \"/../etc/passwd\" has \"..\" in its path"},
	{{{'1', "a", .link = "../b"}}, ERROR_INVALID,
		"entry \"a\": hard link target \"../b\" has \"..\" in its path"},
	{{{'1', "a", .link = "/"}}, ERROR_INVALID, "entry \"a\" is a hard link to a directory"},
	{{{'0', "a"}, {'0', "b", .size = -5}}, ERROR_INVALID,
		"the tar archive is damaged behind entry \"a\": Tar entry has negative size"},
	{{{'0', "a", .size = INT64_C(1) << 60}}, ERROR_LIMIT,
		"entry \"a\" has 1152921504606846976 bytes, over the limit of 65536"},
	{{{'0', "a", .uid = UINT32_MAX}}, ERROR_INVALID,
		"entry \"a\" has the user id 4294967295, which cannot be"},
	{{{'0', "a", .pax = "gid=-2"}}, ERROR_INVALID,
		"entry \"a\" has the group id -2, which cannot be"},
	{{{'0', ".", "x"}}, ERROR_INVALID, "entry \".\" is the root and not a directory"},
	{{{'0', ".wh."}}, ERROR_INVALID, "entry \".wh.\" is a whiteout of no name"},
	{{{'0', "a/.wh..."}}, ERROR_INVALID, "entry \"a/.wh...\" is a whiteout of no name"},
	{{{'2', "a"}}, ERROR_INVALID, "symbolic link \"a\" has no target"},
	{{{'x', "P", "garbage"}, {'0', "a"}}, ERROR_INVALID,
		"entry \"a\" is damaged: Ignoring malformed pax extended attributes"},
	{{{'0', "a", "hello", .size = 5000}}, ERROR_INTEGRITY,
		"the tar stream ends inside entry \"a\""},
	{{{'0', "a"}, {'B', .data = "half a header"}}, ERROR_INTEGRITY,
		"the tar stream ends inside the header behind entry \"a\""},
	{{{'B', .data = "hello"}}, ERROR_INTEGRITY, "the tar stream ends inside its first header"},
	{{{'B', .data = GARBAGE}}, ERROR_INVALID,
		"the layer is not a tar archive, or its first entry is damaged: Damaged tar "
		"archive"},
	{{{'0', "1"}, {'0', "2"}, {'0', "3"}, {'0', "4"}, {'0', "5"}}, ERROR_LIMIT,
		"the layer has more than 4 entries"},
};

static void test_bad(void **state)
{
	(void)state;
	for (size_t i = 0; i < array_size(bad); i++) {
		cleanup_buffer struct buffer tar = {0}, log = {0};
		put_items(&tar, bad[i].items);
		struct error err = {ERROR_NONE};
		uint64_t entries = 77;
		if (read_tar(&tar, 4096, &small_limits, &log, &entries, &err) == 0)
			fail_msg("\"%s\" did not fail", bad[i].text);
		assert_string_equal(err.text, bad[i].text);
		assert_int_equal(err.kind, bad[i].kind);
		assert_int_equal(entries, 77); // outputs are not touched
	}
}

static void test_long_names(void **state)
{
	(void)state;
	char pax[6000];
	struct error err = {ERROR_NONE};
	static const struct {
		size_t component, count;
		const char *error;
	} cases[] = {
		{255, 1, NULL},
		{255, 15, NULL},
		{256, 1, "has a name longer than 255 bytes"},
		{250, 20, "is longer than 4096 bytes"},
	};
	for (size_t i = 0; i < array_size(cases); i++) {
		cleanup_buffer struct buffer tar = {0}, log = {0};
		size_t n = (size_t)snprintf(pax, sizeof(pax), "path=");
		for (size_t c = 0; c < cases[i].count; c++) {
			memset(pax + n, 'x', cases[i].component);
			n += cases[i].component;
			pax[n++] = '/';
		}
		pax[n - 1] = '\0';
		put_items(&tar, (struct item[]){{'0', "a", .pax = pax}, {0}});
		uint64_t entries;
		int r = read_tar(&tar, 4096, &layer_limits_default, &log, &entries, &err);
		assert_int_equal(r, cases[i].error ? -1 : 0);
		if (cases[i].error)
			assert_non_null(strstr(err.text, cases[i].error));
	}
}

static void test_ends(void **state)
{
	(void)state;
	static const size_t sizes[] = {0, 512, 1024, 10240};
	struct error err = {ERROR_NONE};
	for (size_t i = 0; i < array_size(sizes); i++) {
		cleanup_buffer struct buffer tar = {0}, log = {0};
		cleanup_free char *zeros = xcalloc(1, 10240);
		buffer_append(&tar, zeros, sizes[i]);
		uint64_t entries = 1;
		assert_int_equal(
			read_tar(&tar, 4096, &layer_limits_default, &log, &entries, &err), 0);
		assert_int_equal(entries, 0);
	}
	// What follows the end is read, counted and ignored.
	cleanup_buffer struct buffer tar = {0}, log = {0}, log2 = {0};
	put_items(&tar, (struct item[]){{'0', "a"}, {0}});
	buffer_append(&tar, (char[1024]){0}, 1024);
	for (int i = 0; i < 5000; i++)
		buffer_puts(&tar, "garbage garbage ");
	uint64_t entries;
	if (read_tar(&tar, 512, &layer_limits_default, &log, &entries, &err) < 0)
		fail_msg("%s", err.text);
	assert_int_equal(entries, 1);
	assert_string_equal(log.data, "|add a 100644 0:0 0.000000000 0 ");
	assert_int_equal(read_tar(&tar, 512, &small_limits, &log2, &entries, &err), -1);
	assert_int_equal(err.kind, ERROR_LIMIT);
	assert_string_equal(err.text, "the uncompressed layer is over the limit of 65536 bytes");
}

static ssize_t broken_next(struct layer_stream *s, const void **block, struct error *err)
{
	(void)s;
	(void)block;
	return error_set(err, ERROR_UNAVAILABLE, "the disk is on fire");
}

static void test_stream_error(void **state)
{
	(void)state;
	struct layer_stream stream = {broken_next};
	struct recorder r = {{&recorder_functions}};
	struct error err = {ERROR_NONE};
	uint64_t entries;
	assert_int_equal(tar_read(&stream, &r.sink, &layer_limits_default, &entries, &err), -1);
	assert_int_equal(err.kind, ERROR_UNAVAILABLE);
	assert_string_equal(err.text, "the disk is on fire");
	buffer_release(&r.log);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_good),
		cmocka_unit_test(test_bad),
		cmocka_unit_test(test_long_names),
		cmocka_unit_test(test_ends),
		cmocka_unit_test(test_stream_error),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
