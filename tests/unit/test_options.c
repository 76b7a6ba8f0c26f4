// SPDX-License-Identifier: Apache-2.0
#include "base/options.h"

#include "base/buffer.h"
#include "base/text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <unistd.h>

#include <cmocka.h>

struct values {
	bool all, verbose;
	const char *name;
	struct option_strings many;
	uint64_t count;
};

enum { ARGUMENTS_MOST = 12 };

// Parse the words (cut at spaces) and write what came out as text.
static int parse(
	const char *words, bool stop, int least, int most, struct buffer *out, struct error *err)
{
	struct values v = {0};
	const struct option options[] = {
		{OPTION_FLAG, 'a', "all", NULL, "", &v.all},
		{OPTION_FLAG, 'v', "verbose", NULL, "", &v.verbose},
		{OPTION_STRING, 'n', "name", "NAME", "", &v.name},
		{OPTION_STRINGS, 'e', "env", "K=V", "", &v.many},
		{OPTION_NUMBER, 'c', "count", "N", "", &v.count},
		{OPTION_END},
	};
	const struct options_usage usage = {
		.verb = "test", .arguments = "FILE", .summary = "", .least = least, .most = most};
	char verb[] = "test", *argv[ARGUMENTS_MOST + 1] = {verb}, **rest;
	cleanup_free char *copy = xstrdup(words);
	int argc = 1, count = 0;
	char *next = copy;
	for (char *word; *words && (word = strsep(&next, " ")) != NULL;) {
		assert_true(argc < ARGUMENTS_MOST);
		argv[argc++] = word;
	}
	int rc = options_parse(options, &usage, stop, argc, argv, &rest, &count, err);
	if (rc == OPTIONS_OK) {
		buffer_printf(out, "%s%s%s", v.all ? "a" : "", v.verbose ? "v" : "",
			v.name ? v.name : "-");
		if (v.count)
			buffer_printf(out, " c:%llu", (unsigned long long)v.count);
		for (size_t i = 0; i < v.many.count; i++)
			buffer_printf(out, " e:%s", v.many.items[i]);
		for (int i = 0; i < count; i++)
			buffer_printf(out, " [%s]", rest[i]);
	}
	option_strings_release(&v.many);
	return rc;
}

static void parses(void **state)
{
	static const struct {
		const char *words;
		bool stop;
		const char *expected, *why;
	} cases[] = {
		{"", false, "-", "nothing"},
		{"x y", false, "- [x] [y]", "positional arguments in order"},
		{"--all x", false, "a- [x]", "a flag"},
		{"x --all", false, "a- [x]", "options may stand behind"},
		{"x --all --", true, "- [x] [--all] [--]", "not where a command follows"},
		{"--all -- --name y", false, "a- [--name] [y]", "-- ends options"},
		{"--all -- x -- y", true, "a- [x] [--] [y]", "the first -- only"},
		{"--name n1 --name=n2", false, "n2", "both forms; the last one wins"},
		{"--name=", false, "", "an empty value is a value"},
		{"--name --all", false, "--all", "a value may look like an option"},
		{"-av -n x", false, "avx", "short flags together"},
		{"-nx -avn y", false, "avy", "a value attached, or behind the flags"},
		{"-e A=1 --env B=2 -eC=3", false, "- e:A=1 e:B=2 e:C=3", "many times"},
		{"-c 18 --count=9", false, "- c:9", "numbers"},
		{"- x", false, "- [-] [x]", "a dash alone is an argument"},
	};

	(void)state;
	for (size_t i = 0; i < array_size(cases); i++) {
		cleanup_buffer struct buffer out = {0};
		struct error err = {0};
		buffer_puts(&out, "");
		if (parse(cases[i].words, cases[i].stop, 0, -1, &out, &err) != OPTIONS_OK)
			fail_msg("%s: %s", cases[i].why, err.text);
		if (!streq(out.data, cases[i].expected))
			fail_msg("%s: \"%s\"", cases[i].why, out.data);
	}
}

static void refuses(void **state)
{
	static const struct {
		const char *words;
		int least, most;
		const char *expected;
	} cases[] = {
		{"--nope", 0, -1, "unknown option --nope; see: stoker test --help"},
		{"--al", 0, -1, "unknown option --al"},
		{"--nope=1", 0, -1, "unknown option --nope"},
		{"-x", 0, -1, "unknown option -x"},
		{"-ax", 0, -1, "unknown option -ax"},
		{"--all=yes", 0, -1, "no value belongs to --all"},
		{"--name", 0, -1, "a value is missing behind --name"},
		{"-n", 0, -1, "a value is missing behind -n"},
		{"--count=-1", 0, -1, "not a number: -1; see: stoker test --help"},
		{"-c 1k", 0, -1, "not a number: 1k"},
		{"", 1, 1, "missing: FILE; see: stoker test --help"},
		{"x y z", 1, 2, "unexpected argument z; see: stoker test --help"},
	};

	(void)state;
	for (size_t i = 0; i < array_size(cases); i++) {
		cleanup_buffer struct buffer out = {0};
		struct error err = {0};
		if (parse(cases[i].words, false, cases[i].least, cases[i].most, &out, &err) != -1)
			fail_msg("accepted %s", cases[i].words);
		assert_int_equal(err.kind, ERROR_INVALID);
		if (!strstr(err.text, cases[i].expected))
			fail_msg("%s: %s", cases[i].words, err.text);
	}
}

// --help wins over what is missing or wrong behind it, and prints every option.
static void helps(void **state)
{
	cleanup_buffer struct buffer out = {0};
	struct error err = {0};
	char text[4096];

	(void)state;
	fflush(stdout);
	FILE *file = tmpfile();
	int saved = dup(STDOUT_FILENO);
	assert_true(file && saved >= 0);
	dup2(fileno(file), STDOUT_FILENO);
	int rc = parse("--help --nope", false, 1, 1, &out, &err);
	fflush(stdout);
	dup2(saved, STDOUT_FILENO);
	close(saved);
	rewind(file);
	size_t n = fread(text, 1, sizeof(text) - 1, file);
	fclose(file);
	text[n] = '\0';
	assert_int_equal(rc, OPTIONS_HELP);
	const char *const expected[] = {"Usage: stoker test [OPTIONS] FILE", "-a, --all",
		"-n, --name NAME", "-e, --env K=V", "--help"};
	for (size_t i = 0; i < array_size(expected); i++)
		if (!strstr(text, expected[i]))
			fail_msg("no \"%s\" in: %s", expected[i], text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(parses),
		cmocka_unit_test(refuses),
		cmocka_unit_test(helps),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
