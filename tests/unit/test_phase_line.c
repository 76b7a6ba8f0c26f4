// SPDX-License-Identifier: Apache-2.0
#include "agent/command/phase_line.h"

#include "base/file.h"
#include "base/memory.h"
#include "base/text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

static void formats(void **state)
{
	static const struct {
		const char *phase, *detail;
		uint64_t first, done, total;
		int64_t ms;
		const char *expected, *why;
	} cases[] = {
		{"resolving", "", 0, 0, 0, 1500, "environment: resolving  1.5 s", "no bytes"},
		{"waiting", "another job builds it", 0, 0, 0, 0,
			"environment: waiting another job builds it  0.0 s", "why"},
		{"downloading", "", 0, 5000, 20000, 2000,
			"environment: downloading  5.00 kB / 20.0 kB  2.50 kB/s  2.0 s",
			"a quarter"},
		{"downloading", "", 0, 5000, 0, 2000,
			"environment: downloading  5.00 kB  2.50 kB/s  2.0 s",
			"of nobody knows what"},
		{"downloading", "", 4000, 5000, 20000, 2000,
			"environment: downloading  5.00 kB / 20.0 kB  500 B/s  2.0 s",
			"what was there is no rate"},
		{"downloading", "", 0, 5000, 20000, 0,
			"environment: downloading  5.00 kB / 20.0 kB  0.0 s", "no time yet"},
	};
	(void)state;
	for (size_t i = 0; i < array_size(cases); i++) {
		struct phase_line p = {.subject = "environment", .first = cases[i].first};
		char line[200];
		snprintf(p.phase, sizeof(p.phase), "%s", cases[i].phase);
		snprintf(p.detail, sizeof(p.detail), "%s", cases[i].detail);
		p.started = 1000;
		phase_line_format(
			&p, cases[i].done, cases[i].total, 1000 + cases[i].ms, line, sizeof(line));
		if (!streq(line, cases[i].expected))
			fail_msg("%s: \"%s\", not \"%s\"", cases[i].why, line, cases[i].expected);
	}
}

static void keeps_to_the_line(void **state)
{
	struct phase_line p = {.subject = "environment"};
	char whole[200];
	(void)state;
	memset(p.detail, 'x', sizeof(p.detail) - 1);
	phase_line_format(&p, 5000, 20000, 2000, whole, sizeof(whole));
	for (int size = 1; size < (int)sizeof(whole); size++) {
		char *line = xmalloc((size_t)size);
		phase_line_format(&p, 5000, 20000, 2000, line, size);
		assert_int_equal(
			line[size - 1 < (int)strlen(whole) ? size - 1 : (int)strlen(whole)], 0);
		assert_memory_equal(line, whole, strlen(line));
		free(line);
	}
}

// What of a log file's lines stands there; standard error is one meanwhile.
static void begin_capture(int *saved, FILE **file)
{
	*file = tmpfile();
	fflush(stderr);
	*saved = dup(STDERR_FILENO);
	dup2(fileno(*file), STDERR_FILENO);
}

static void end_capture(int saved, FILE *file, char *text, size_t size)
{
	fflush(stderr);
	dup2(saved, STDERR_FILENO);
	close(saved);
	rewind(file);
	text[fread(text, 1, size - 1, file)] = '\0';
	fclose(file);
}

static void writes_a_line_for_each_phase(void **state)
{
	struct phase_line p;
	char text[1000];
	int saved;
	FILE *file;
	(void)state;
	begin_capture(&saved, &file);
	phase_line_init(&p, "environment");
	phase_line_begin(&p, "resolving", NULL);
	phase_line_update(&p, 10, 100);
	phase_line_update(&p, 100, 100);
	phase_line_begin(&p, "downloading", "two\x1b[2J\nlines");
	phase_line_notice(&p, "slow\nserver");
	phase_line_end(&p);
	end_capture(saved, file, text, sizeof(text));
	assert_false(p.terminal);
	assert_string_equal(text, "environment: resolving\n"
				  "environment: downloading two?[2J?lines\n"
				  "environment: slow?server\n");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(formats),
		cmocka_unit_test(keeps_to_the_line),
		cmocka_unit_test(writes_a_line_for_each_phase),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
