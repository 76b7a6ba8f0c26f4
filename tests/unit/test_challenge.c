// SPDX-License-Identifier: Apache-2.0
#include "oci/registry/challenge.h"

#include "base/memory.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

// Every challenge as "<scheme>|<realm>|<service>|<scope>;".
static void describe(const struct challenges *list, char *text, size_t size)
{
	static const char *const names[] = {"other", "basic", "bearer"};
	size_t used = 0;
	text[0] = '\0';
	for (size_t i = 0; i < list->count && used < size; i++) {
		const struct challenge *c = &list->items[i];
		used += (size_t)snprintf(text + used, size - used, "%s|%s|%s|%s;", names[c->scheme],
			c->realm, c->service, c->scope);
	}
}

static void reads_challenges(void **state)
{
	static const struct {
		const char *input, *expected;
	} cases[] = {
		{"", ""},
		{" , ,", ""},
		{"Basic", "basic|||;"},
		{"BASIC realm=\"a b\"", "basic|a b||;"},
		{"Basic realm=plain", "basic|plain||;"},
		{"Bearer realm=\"https://auth.docker.io/token\",service=\"registry.docker.io\","
		 "scope=\"repository:library/x:pull\"",
			"bearer|https://auth.docker.io/token|registry.docker.io|repository:library/"
			"x:pull;"},
		{"bearer Realm=\"r\" , SERVICE = \"s\" ,error=\"invalid_token\"", "bearer|r|s|;"},
		{"Bearer realm=https://a.b/c?d=e", ""}, // '?' needs quotes
		{"Bearer realm=https://a.b/c=e", "bearer|https://a.b/c=e||;"},
		{"Basic realm=\"a\", Bearer realm=\"b\",scope=\"x,y\"", "basic|a||;bearer|b||x,y;"},
		{"Negotiate, Basic realm=\"a\"", "other|||;basic|a||;"},
		{"Negotiate YWJj==, Basic realm=\"a\"", "other|||;basic|a||;"},
		{"Digest realm=\"a\", nonce=\"b, Basic realm=c\", Basic realm=\"d\"",
			"other|a||;basic|d||;"},
		{"Basic realm=\"a \\\"b\\\" \\\\\"", "basic|a \"b\" \\||;"},
		{"Basic realm=\"\"", "basic|||;"},
		{"Basic charset=\"UTF-8\", realm=\"a\"", "basic|a||;"},
	};
	(void)state;
	for (size_t i = 0; i < array_size(cases); i++) {
		struct challenges list = {0};
		struct error err = {0};
		char text[4096];
		int status = challenge_parse(cases[i].input, &list, &err);
		assert_int_equal(status,
			*cases[i].expected || strspn(cases[i].input, " ,") == strlen(cases[i].input)
				? 0
				: -1);
		describe(&list, text, sizeof(text));
		assert_string_equal(text, cases[i].expected);
	}
}

static void refuses_malformed_headers(void **state)
{
	static const struct {
		const char *input, *expected;
	} cases[] = {
		{"=", "WWW-Authenticate, byte 1: expected a scheme"},
		{"\"Basic\"", "WWW-Authenticate, byte 1: expected a scheme"},
		{"Basic=", "WWW-Authenticate, byte 6: expected a space behind the scheme"},
		{"Basic realm=\"a", "WWW-Authenticate, byte 15: a quoted string has no end"},
		{"Basic realm=\"a\\", "WWW-Authenticate, byte 16: a quoted string has no end"},
		{"Basic realm=\"a\nb\"", "WWW-Authenticate, byte 15: a control character"},
		{"Basic realm=\"a\" service=\"b\"", "WWW-Authenticate, byte 17: expected a comma"},
		{"Basic realm=\"a\", realm=\"b\"",
			"WWW-Authenticate, byte 23: a parameter is given twice"},
	};
	(void)state;
	for (size_t i = 0; i < array_size(cases); i++) {
		struct challenges list = {0};
		struct error err = {0};
		assert_int_equal(challenge_parse(cases[i].input, &list, &err), -1);
		assert_int_equal(err.kind, ERROR_INVALID);
		assert_string_equal(err.text, cases[i].expected);
		assert_int_equal(list.count, 0);
	}
}

static void limits_what_it_keeps(void **state)
{
	struct challenges list = {0};
	struct error err = {0};
	char header[CHALLENGE_BYTES_MAX + 2];
	(void)state;
	memset(header, ',', sizeof(header) - 1);
	header[sizeof(header) - 1] = '\0';
	assert_int_equal(challenge_parse(header, &list, &err), -1);
	assert_int_equal(err.kind, ERROR_LIMIT);
	assert_string_equal(
		err.text, "WWW-Authenticate, byte 1: the header is longer than 8192 bytes");

	snprintf(header, sizeof(header), "Basic realm=\"%0*d\"", CHALLENGE_TEXT_MAX - 1, 0);
	assert_int_equal(challenge_parse(header, &list, &err), 0);
	assert_int_equal(strlen(list.items[0].realm), CHALLENGE_TEXT_MAX - 1);
	snprintf(header, sizeof(header), "Basic realm=\"%0*d\"", CHALLENGE_TEXT_MAX, 0);
	assert_int_equal(challenge_parse(header, &list, &err), -1);
	assert_int_equal(err.kind, ERROR_LIMIT);
	assert_int_equal(list.count, 1);

	for (size_t i = 1; i < CHALLENGE_MAX; i++)
		assert_int_equal(challenge_parse("Basic", &list, &err), 0);
	assert_int_equal(challenge_parse("Basic", &list, &err), -1);
	assert_int_equal(err.kind, ERROR_LIMIT);
	assert_int_equal(list.count, CHALLENGE_MAX);
}

static void collects_over_several_headers(void **state)
{
	struct challenges list = {0};
	struct error err = {0};
	(void)state;
	assert_int_equal(challenge_parse("Basic realm=\"a\"", &list, &err), 0);
	assert_int_equal(challenge_parse("Bearer realm=\"b\"", &list, &err), 0);
	assert_string_equal(challenge_find(&list, CHALLENGE_BEARER)->realm, "b");
	assert_string_equal(challenge_find(&list, CHALLENGE_BASIC)->realm, "a");
	assert_null(challenge_find(&list, CHALLENGE_OTHER));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_challenges),
		cmocka_unit_test(refuses_malformed_headers),
		cmocka_unit_test(limits_what_it_keeps),
		cmocka_unit_test(collects_over_several_headers),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
