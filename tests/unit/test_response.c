// SPDX-License-Identifier: Apache-2.0
#include "oci/registry/response.h"

#include "base/memory.h"
#include "base/time.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#define DIGEST "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

// Feed lines as curl does, the line breaks included.
static int feed(struct response *r, const char *text, struct error *err)
{
	while (*text) {
		size_t n = strcspn(text, "\n") + 1;
		if (response_line(r, text, n, err) < 0)
			return -1;
		text += n;
	}
	return 0;
}

static void reads_a_head(void **state)
{
	struct response r = {0};
	struct error err = {0};
	(void)state;
	assert_int_equal(feed(&r,
				 "HTTP/1.1 100 Continue\r\nLocation: /none\r\n\r\n"
				 "HTTP/1.1 206 Partial Content\r\n"
				 "content-type: application/json; charset=utf-8\r\n"
				 "Content-Length:100\r\n"
				 "CONTENT-RANGE: bytes 10-109/5000\r\n"
				 "Docker-Content-Digest: " DIGEST "\r\n"
				 "Retry-After: 7\r\n"
				 "ETag: \"a b\"\r\n"
				 "Last-Modified: Mon, 23 Nov 2026 10:00:00 GMT\r\n"
				 "Location:  https://other/x \r\n"
				 "WWW-Authenticate: Basic realm=\"a\"\r\n"
				 "WWW-Authenticate: Bearer realm=\"b\"\r\n"
				 "\r\n"
				 "Content-Length: 1\r\nHTTP/1.1 500 trailers say nothing\r\n",
				 &err),
		0);
	assert_true(r.complete);
	assert_int_equal(r.status, 206);
	assert_string_equal(r.reason, "Partial Content");
	assert_string_equal(r.media_type, "application/json");
	assert_true(r.has_length);
	assert_int_equal(r.length, 100);
	assert_true(r.has_range);
	assert_int_equal(r.range_start, 10);
	assert_int_equal(r.range_end, 110);
	assert_int_equal(r.range_size, 5000);
	assert_string_equal(r.digest.text, DIGEST);
	assert_int_equal(r.retry_after_ms, 7000);
	assert_string_equal(r.etag, "\"a b\"");
	assert_string_equal(r.last_modified, "Mon, 23 Nov 2026 10:00:00 GMT");
	assert_string_equal(r.location, "https://other/x");
	assert_int_equal(r.challenges.count, 2);
	response_release(&r);
}

static void reads_ranges(void **state)
{
	static const struct {
		const char *input;
		bool valid;
		uint64_t start, end, size;
	} cases[] = {
		{"bytes 0-0/1", true, 0, 1, 1},
		{"Bytes 5-9/*", true, 5, 10, UINT64_MAX},
		{"bytes 5-9/9", false, 0, 0, 0},
		{"bytes 9-5/20", false, 0, 0, 0},
		{"bytes */20", false, 0, 0, 0},
		{"bytes -5-9/20", false, 0, 0, 0},
		{"bytes 0-18446744073709551615/*", false, 0, 0, 0},
		{"bytes 0-99999999999999999999/*", false, 0, 0, 0},
		{"lines 0-5/20", false, 0, 0, 0},
		{"bytes 0-5", false, 0, 0, 0},
	};
	(void)state;
	for (size_t i = 0; i < array_size(cases); i++) {
		struct response r = {0};
		struct error err = {0};
		cleanup_free char *text =
			xasprintf("HTTP/1.1 206\r\nContent-Range: %s\r\n\r\n", cases[i].input);
		assert_int_equal(feed(&r, text, &err), 0);
		if (r.has_range != cases[i].valid)
			fail_msg("%s", cases[i].input);
		if (!r.has_range)
			continue;
		assert_int_equal(r.range_start, cases[i].start);
		assert_int_equal(r.range_end, cases[i].end);
		assert_true(r.range_size == cases[i].size);
	}
}

static void knows_what_was_uploaded(void **state)
{
	static const struct {
		const char *input;
		bool valid;
		uint64_t uploaded;
	} cases[] = {
		{"0-1023", true, 1024},
		{"bytes=0-1023", true, 1024},
		{"0-0", true, 0},
		{"1-5", false, 0},
		{"0-", false, 0},
		{"0-18446744073709551615", false, 0},
		{"", false, 0},
	};
	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct response r = {0};
		struct error err = {0};
		cleanup_free char *text =
			xasprintf("HTTP/1.1 202\r\nRange: %s\r\n\r\n", cases[i].input);
		assert_int_equal(feed(&r, text, &err), 0);
		if (r.has_uploaded != cases[i].valid || r.uploaded != cases[i].uploaded)
			fail_msg("%s", cases[i].input);
		response_release(&r);
	}
}

static int64_t retry_after(const char *value)
{
	struct response r = {0};
	struct error err = {0};
	cleanup_free char *text = xasprintf("HTTP/1.1 429 x\r\nRetry-After: %s\r\n\r\n", value);
	assert_int_equal(feed(&r, text, &err), 0);
	return r.retry_after_ms;
}

static void reads_when_to_come_back(void **state)
{
	char date[64];
	time_t soon = time(NULL) + 60;
	struct tm tm;
	(void)state;
	assert_int_equal(retry_after("0"), 0);
	assert_int_equal(retry_after("3"), 3000);
	assert_int_equal(retry_after("300"), 300000);
	assert_int_equal(retry_after("86400"), 300000);
	assert_int_equal(retry_after("18446744073709551615"), 300000);
	assert_int_equal(retry_after("-1"), -1);
	assert_int_equal(retry_after("soon"), -1);
	assert_int_equal(retry_after("Mon, 23 Nov 2015 10:00:00 GMT"), 0);
	assert_int_equal(retry_after("Mon, 23 Nov 2395 10:00:00 GMT"), 300000);
	assert_int_equal(retry_after("Mon, 23 Nov 2395 10:00:00 GMT and more"), -1);
	assert_true(
		strftime(date, sizeof(date), "%a, %d %b %Y %H:%M:%S GMT", gmtime_r(&soon, &tm)));
	assert_in_range(retry_after(date), 57000, 60000);
}

static void skips_what_it_cannot_read(void **state)
{
	struct response r = {0};
	struct error err = {0};
	(void)state;
	assert_int_equal(feed(&r,
				 "HTTP/1.1 200\r\nno colon here\r\nContent-Length: -5\r\n"
				 "Docker-Content-Digest: md5:abc\r\n"
				 "WWW-Authenticate: Basic realm=\"no end\r\n: empty\r\n\r\n",
				 &err),
		0);
	assert_int_equal(r.status, 200);
	assert_string_equal(r.reason, "");
	assert_false(r.has_length);
	assert_string_equal(r.digest.text, "");
	assert_int_equal(r.challenges.count, 0);
	assert_null(r.location);
}

static void limits_the_head(void **state)
{
	struct response r = {0};
	struct error err = {0};
	int lines = 0;
	(void)state;
	while (lines < 1000 && feed(&r, "HTTP/1.1 100 Continue\r\n\r\n", &err) == 0)
		lines += 2;
	assert_in_range(lines, RESPONSE_LINES_MAX - 2, RESPONSE_LINES_MAX);
	assert_int_equal(err.kind, ERROR_LIMIT);
	assert_string_equal(
		err.text, "the head of the answer is over the limit of 64 KiB and 200 lines");

	r = (struct response){0};
	cleanup_free char *line = xasprintf("X: %0*d\r\n", RESPONSE_BYTES_MAX, 0);
	assert_int_equal(feed(&r, line, &err), -1);
	assert_int_equal(err.kind, ERROR_LIMIT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(knows_what_was_uploaded),
		cmocka_unit_test(reads_a_head),
		cmocka_unit_test(reads_ranges),
		cmocka_unit_test(reads_when_to_come_back),
		cmocka_unit_test(skips_what_it_cannot_read),
		cmocka_unit_test(limits_the_head),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
