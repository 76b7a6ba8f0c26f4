// SPDX-License-Identifier: Apache-2.0
#include "agent/command/progress.h"

#include "base/memory.h"
#include "base/text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <unistd.h>

#include <cmocka.h>

static struct oci_digest digest(char c)
{
	struct oci_digest d = {.text = "sha256:"};
	memset(d.text + 7, c, 64);
	return d;
}

static void formats_layers(void **state)
{
	static const struct {
		enum pull_phase phase;
		uint64_t size, fetched, consumed;
		int width;
		const char *expected, *why;
	} cases[] = {
		{PULL_WAITING, 1000, 0, 0, 0,
			"  aaaaaaaaaaaa  waiting    [>                       ]      0 B / 1.00 kB",
			"nothing yet"},
		{PULL_FETCHING, 1000000, 500000, 500000, 0,
			"  aaaaaaaaaaaa  pulling    [============>           ]   500 kB / 1.00 MB",
			"half of it"},
		{PULL_FETCHING, 1000000, 1000000, 0, 0,
			"  aaaaaaaaaaaa  pulling    [============>           ]  1.00 MB / 1.00 MB",
			"all here, nothing converted: half"},
		{PULL_DONE, 1000, 1000, 1000, 0,
			"  aaaaaaaaaaaa  done       [========================]  1.00 kB / 1.00 kB",
			"all"},
		{PULL_PRESENT, 1000, 0, 0, 0,
			"  aaaaaaaaaaaa  present    [========================]  1.00 kB / 1.00 kB",
			"was here"},
		{PULL_FETCHING, 0, 0, 0, 0,
			"  aaaaaaaaaaaa  pulling    [========================]      0 B / 0 B",
			"no division by nothing"},
		{PULL_DONE, 1000, 1000, 1000, 20, "  aaaaaaaaaaaa  done", "cut to the terminal"},
	};

	(void)state;
	for (size_t i = 0; i < array_size(cases); i++) {
		char line[160];
		const struct pull_layer_progress layer = {.blob = digest('a'),
			.phase = cases[i].phase,
			.size = cases[i].size,
			.fetched = cases[i].fetched,
			.consumed = cases[i].consumed};
		progress_format_layer(line, sizeof(line), &layer, cases[i].width);
		if (!starts_with(line, cases[i].expected) ||
			(!cases[i].width && !streq(line, cases[i].expected)) ||
			(cases[i].width && strlen(line) != (size_t)cases[i].width))
			fail_msg("%s: \"%s\"", cases[i].why, line);
	}
}

// In a log file each change of phase is one line, and what did not change is none.
static void logs_phases_once(void **state)
{
	struct oci_reference reference;
	struct progress p;
	struct error err;
	struct pull_layer_progress layers[] = {
		{.blob = digest('a'), .phase = PULL_FETCHING, .size = 10},
		{.blob = digest('b'), .phase = PULL_PRESENT, .size = 20},
	};
	char text[4096];

	(void)state;
	assert_int_equal(oci_reference_parse("busybox", &reference, &err), 0);
	FILE *file = tmpfile();
	int saved = dup(STDERR_FILENO);
	assert_true(file && saved >= 0);
	dup2(fileno(file), STDERR_FILENO);
	progress_init(&p, &reference);
	p.terminal = false;
	progress_update(&p, PULL_RESOLVING, NULL, 0);
	progress_update(&p, PULL_FETCHING, layers, 2);
	progress_update(&p, PULL_FETCHING, layers, 2);
	layers[0].phase = PULL_DONE;
	progress_update(&p, PULL_DONE, layers, 2);
	progress_notice(&p, "trying again");
	progress_release(&p);
	dup2(saved, STDERR_FILENO);
	close(saved);
	rewind(file);
	size_t n = fread(text, 1, sizeof(text) - 1, file);
	fclose(file);
	text[n] = '\0';
	assert_string_equal(text, "busybox:latest: 2 layers, 30 B\n"
				  "busybox:latest: layer 1/2 aaaaaaaaaaaa pulling (10 B)\n"
				  "busybox:latest: layer 2/2 bbbbbbbbbbbb present (20 B)\n"
				  "busybox:latest: layer 1/2 aaaaaaaaaaaa done (10 B)\n"
				  "busybox:latest: trying again\n");
}

// A layer that is fetched once more, from nothing, takes bytes back.
static void no_rate_below_nothing(void **state)
{
	struct oci_reference reference;
	struct progress p;
	struct error err;
	const struct pull_layer_progress layer = {.phase = PULL_FETCHING, .size = 10, .fetched = 4};

	(void)state;
	assert_int_equal(oci_reference_parse("busybox", &reference, &err), 0);
	FILE *file = tmpfile();
	int saved = dup(STDERR_FILENO);
	assert_true(file && saved >= 0);
	dup2(fileno(file), STDERR_FILENO);
	progress_init(&p, &reference);
	p.terminal = true;
	p.rate_time = 1; // long ago
	p.rate_bytes = 1000 * 1000;
	progress_update(&p, PULL_FETCHING, &layer, 1);
	progress_release(&p);
	dup2(saved, STDERR_FILENO);
	close(saved);
	fclose(file);
	assert_true(p.rate < 1 && p.rate_bytes == 4);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(formats_layers),
		cmocka_unit_test(logs_phases_once),
		cmocka_unit_test(no_rate_below_nothing),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
