// SPDX-License-Identifier: Apache-2.0
#include "agent/supervise/redact.h"

#include "base/text.h"
#include "tests/unit/redact_reference.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

enum { SECRETS = 4 };

static size_t make_secrets(const char *const texts[SECRETS], struct redact_secret *secrets)
{
	size_t count = 0;
	for (; count < SECRETS && texts[count]; count++)
		secrets[count] = (struct redact_secret){"S", texts[count], strlen(texts[count])};
	return count;
}

static struct redact *make(const struct redact_secret *secrets, size_t count)
{
	struct error err = {0};
	struct redact *r = redact_new(secrets, count, &err);
	if (!r)
		fail_msg("%s", err.text);
	return r;
}

static const struct {
	const char *secrets[SECRETS], *text, *expected, *why;
} cases[] = {
	{{NULL}, "nothing is secret", "nothing is secret", "no secrets"},
	{{"hunter2"}, "", "", "nothing"},
	{{"hunter2"}, "the password is hunter2.", "the password is ***.", "one"},
	{{"hunter2"}, "hunter2", "***", "all of it"},
	{{"hunter2"}, "hunter2hunter2", "******", "side by side"},
	{{"hunter2"}, "hunter hunter2 hunter", "hunter *** hunter",
		"beginnings only, and at the end"},
	{{"hunter2"}, "hunhunter2", "hun***", "a false beginning"},
	{{"hunter2\n"}, "hunter2 hunter2\n", "*** ***\n", "a file's last line break"},
	{{"abcd", "abcdefgh"}, "abcdefgh abcdefg abcd", "*** ***efg ***", "the longest"},
	{{"abcd", "cdef"}, "abcdef", "***", "overlapping: nothing of either is left"},
	{{"abcd", "cdef"}, "xabcdefx abcd cdef", "x***x *** ***", "both ways"},
	{{"abcde", "bcdefgh", "ghij"}, "abcdefghij", "***", "a chain"},
	{{"abcd", "efgh", "xabcdefghx"}, "abcdefgh xabcdefghx", "****** ***", "one over two"},
	{{"abcd", "efgh", "xabcdefghx"}, "xabcdefghy", "x******y", "which did not come"},
	{{"aaaa"}, "aaaaaaa aaa", "*** aaa", "overlapping itself"},
	{{"line1\nline2"}, "line1\r\nline2 line1\nline2", "*** ***", "as a terminal has it"},
	{{"a b/c+d%"}, "?p=a%20b%2Fc%2Bd%25&q", "?p=***&q", "percent-encoded"},
	{{"a b/c+d%"}, "a%20b/c%2bd%25 a+b%2fc%2bd%25", "*** ***", "in other styles"},
	{{"pass\"word\\\n.x"}, "{\"p\": \"pass\\\"word\\\\\\n.x\"}", "{\"p\": \"***\"}", "in JSON"},
	{{"s3cr3t-password"}, "czNjcjN0LXBhc3N3b3Jk", "***", "base64 at place 0"},
	{{"s3cr3t-password"}, "dXNlcjpzM2NyM3QtcGFzc3dvcmQ=", "dXNlcjp***Q=",
		"base64 of user:secret: the digits that are shared with neighbours stay"},
	{{"s3cr3t-password"}, "YWJjenMzY3IzdC1wYXNzd29yZA==", "YWJjen***A==", "place 1"},
	{{"\x7f\xff\xfe?>?>?~~"}, "f__-Pz4_Pj9-fg", "***g", "the other alphabet"},
};

static void replaces_secrets_at_every_split(void **state)
{
	(void)state;
	for (size_t i = 0; i < array_size(cases); i++) {
		struct redact_secret secrets[SECRETS];
		size_t count = make_secrets(cases[i].secrets, secrets);
		cleanup_redact struct redact *r = make(secrets, count);
		size_t size = strlen(cases[i].text);
		for (size_t cut = 0; cut <= size; cut++) {
			cleanup_buffer struct buffer out = {0};
			redact_feed(r, cases[i].text, cut, &out);
			redact_feed(r, cases[i].text + cut, size - cut, &out);
			redact_finish(r, &out);
			if (!streq(out.data ? out.data : "", cases[i].expected))
				fail_msg("%s (cut at %zu): %s", cases[i].why, cut, out.data);
		}
	}
}

// What is held back is the beginning of a secret, is shorter than one, and time does not free it.
static void holds_back_beginnings_only(void **state)
{
	const struct redact_secret secret = {"S", "hunter2", 7};
	cleanup_redact struct redact *r = make(&secret, 1);
	cleanup_buffer struct buffer out = {0};

	(void)state;
	redact_feed(r, "password: ", 10, &out);
	assert_int_equal(redact_held(r), 0);
	assert_string_equal(out.data, "password: ");
	redact_feed(r, "hunter", 6, &out);
	assert_int_equal(redact_held(r), 6);
	redact_feed(r, "", 0, &out);
	assert_string_equal(out.data, "password: ");
	redact_feed(r, "hun", 3, &out);
	assert_int_equal(redact_held(r), 3);
	assert_string_equal(out.data, "password: hunter");
	redact_finish(r, &out);
	assert_string_equal(out.data, "password: hunterhun");
	assert_int_equal(redact_held(r), 0);
	redact_feed(r, "ter2", 4, &out); // another stream
	redact_finish(r, &out);
	assert_string_equal(out.data, "password: hunterhunter2");
}

static void refuses_what_it_cannot_keep(void **state)
{
	static char large[REDACT_SECRETS_BYTES + 1];
	struct error err = {0};

	(void)state;
	assert_null(redact_new(&(struct redact_secret){"PIN", "123\n", 4}, 1, &err));
	assert_int_equal(err.kind, ERROR_INVALID);
	assert_string_equal(
		err.text, "secret PIN: shorter than 4 bytes, so it cannot be kept out of the log");
	assert_null(redact_new(&(struct redact_secret){"KEY", large, sizeof(large)}, 1, &err));
	assert_int_equal(err.kind, ERROR_LIMIT);
	assert_string_equal(
		err.text, "secret KEY: the secrets have more than 32768 bytes together");
}

static uint32_t random_below(uint64_t *seed, uint32_t limit)
{
	*seed = *seed * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(*seed >> 33) % limit;
}

static void fill(uint64_t *seed, char *text, size_t size, uint32_t letters)
{
	for (size_t i = 0; i < size; i++)
		text[i] = (char)('a' + random_below(seed, letters));
}

// Few letters, so that there are many occurrences, overlapping in all ways.
static void agrees_with_the_reference(void **state)
{
	uint64_t seed = 3;
	size_t replaced = 0;

	(void)state;
	for (int round = 0; round < 1500; round++) {
		char keys[SECRETS][16], text[200];
		struct redact_secret secrets[SECRETS];
		size_t count = 1 + random_below(&seed, SECRETS);
		uint32_t letters = 2 + random_below(&seed, 2);
		for (size_t i = 0; i < count; i++) {
			secrets[i] =
				(struct redact_secret){"S", keys[i], 4 + random_below(&seed, 12)};
			fill(&seed, keys[i], secrets[i].size, letters);
		}
		fill(&seed, text, sizeof(text), letters);
		cleanup_redact struct redact *r = make(secrets, count);
		cleanup_buffer struct buffer out = {0}, expected = {0};
		for (size_t at = 0; at < sizeof(text);) {
			size_t n = 1 + random_below(&seed, 40);
			if (n > sizeof(text) - at)
				n = sizeof(text) - at;
			redact_feed(r, text + at, n, &out);
			assert_true(redact_held(r) < 16);
			at += n;
		}
		redact_finish(r, &out);
		redact_reference(secrets, count, text, sizeof(text), &expected);
		assert_string_equal(out.data, expected.data);
		replaced += strchr(out.data, '*') != NULL;
	}
	assert_true(replaced > 500); // or the test compares little
}

static void takes_long_secrets(void **state)
{
	static char secret[16 * 1024], text[3 * sizeof(secret)];
	uint64_t seed = 5;

	(void)state;
	fill(&seed, secret, sizeof(secret), 26);
	memset(text, '.', sizeof(text));
	memcpy(text + 100, secret, sizeof(secret));
	memcpy(text + 20000, secret, sizeof(secret) - 1); // all but one byte
	cleanup_redact struct redact *r =
		make(&(struct redact_secret){"S", secret, sizeof(secret)}, 1);
	cleanup_buffer struct buffer out = {0};
	for (size_t at = 0; at < sizeof(text); at += 512)
		redact_feed(r, text + at, 512, &out);
	redact_finish(r, &out);
	assert_int_equal(out.size, sizeof(text) - sizeof(secret) + 3);
	assert_memory_equal(out.data + 97, "...***...", 9);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(replaces_secrets_at_every_split),
		cmocka_unit_test(holds_back_beginnings_only),
		cmocka_unit_test(refuses_what_it_cannot_keep),
		cmocka_unit_test(agrees_with_the_reference),
		cmocka_unit_test(takes_long_secrets),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
