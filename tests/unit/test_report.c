// SPDX-License-Identifier: Apache-2.0
#include "agent/link/report.h"

#include "agent/link/link.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static const struct {
	const char *record;
	bool ending;
	const char *expected; // behind the name and the sequence
} cases[] = {
	{"{}", false, "\"state\":\"accepted\"}"},
	{"{\"state\":\"NotStarted\",\"attempt\":1}", false, "\"state\":\"preparing\"}"},
	{"{\"state\":\"Preparing\",\"phases\":[{\"name\":\"pulling\"},{\"name\":\"packages\"}],"
	 "\"environment\":null,\"started\":null}",
		false, "\"state\":\"preparing\",\"phase\":\"packages\"}"},
	// How far a phase is stands there as long as it goes on.
	{"{\"state\":\"Preparing\",\"phases\":[{\"name\":\"pulling\",\"bytes\":5,\"total\":9,"
	 "\"rate\":2}]}",
		false,
		"\"state\":\"preparing\",\"phase\":\"pulling\",\"progress\":{\"done\":5,"
		"\"total\":9,\"rate\":2,\"unit\":\"bytes\"}}"},
	{"{\"state\":\"Preparing\",\"phases\":[{\"name\":\"environment\",\"detail\":"
	 "\"installing\",\"bytes\":5}]}",
		false,
		"\"state\":\"preparing\",\"phase\":\"environment: installing\","
		"\"progress\":{\"done\":5,\"unit\":\"bytes\"}}"},
	{"{\"state\":\"Running\",\"phases\":[{\"name\":\"pulling\",\"detail\":\"pulled\","
	 "\"bytes\":5,\"duration_ms\":1}]}",
		false, "\"state\":\"running\",\"phase\":\"pulling\"}"},
	{"{\"state\":\"Running\",\"attempt\":3,\"started\":\"1970-01-01T00:00:02.500Z\","
	 "\"environment\":{\"key\":\"ab\"}}",
		false,
		"\"state\":\"running\",\"started\":2500,\"environment\":\"ab\",\"retries\":2}"},
	{"{\"state\":\"CancelRequested\"}", false, "\"state\":\"running\"}"},
	{"{\"state\":\"Finalizing\"}", true, "\"state\":\"finalizing\"}"},
	// The end is told when the files are there; a local attempt's end is no end.
	{"{\"state\":\"Completed\",\"cause\":{\"code\":\"X\"},\"exit_status\":0}", false,
		"\"state\":\"finalizing\"}"},
	{"{\"state\":\"Failed\",\"cause\":{\"code\":\"X\"},\"exit_status\":3}", true,
		"\"state\":\"ended\",\"result\":\"Failed\",\"cause\":{\"code\":\"X\"},\"exit_"
		"status\":3,\"upload\":{\"state\":\"Done\",\"files\":2,\"bytes\":30}}"},
	{"{\"state\":\"Failed\",\"retried\":true,\"exit_status\":3}", true,
		"\"state\":\"preparing\"}"},
};

static void test_record(void **state)
{
	(void)state;
	const struct report_name name = {.run = "r", .attempt = 2, .sequence = 7};
	const struct upload_status uploaded = {.files = 2, .bytes = 30};
	for (size_t i = 0; i < array_size(cases); i++) {
		cleanup_arena struct arena a = {0};
		cleanup_buffer struct buffer b = {0};
		cleanup_json_writer struct json_writer *w = json_writer_new(false);
		struct error err = {0};
		const struct json *record = json_parse(
			&a, cases[i].record, strlen(cases[i].record), "run.json", NULL, &err);
		assert_non_null(record);
		report_write(w, &name, record, cases[i].ending ? &uploaded : NULL);
		assert_int_equal(json_writer_finish(w, &b, &err), 0);
		assert_string_equal(
			b.data, arena_printf(&a, "{\"run\":\"r\",\"attempt\":2,\"sequence\":7,%s",
					cases[i].expected));
	}
}

static void test_bare(void **state)
{
	(void)state;
	const struct report_name name = {.run = "r", .attempt = 1, .sequence = 5};
	cleanup_buffer struct buffer b = {0};
	cleanup_json_writer struct json_writer *w = json_writer_new(false);
	struct error err = {0};
	const struct report_end end = {RUN_FAILED, CAUSE_SYSTEM, "EngineLost", "gone"};
	report_write_bare(w, &name, &end);
	assert_int_equal(json_writer_finish(w, &b, &err), 0);
	assert_string_equal(b.data,
		"{\"run\":\"r\",\"attempt\":1,\"sequence\":5,\"state\":\"ended\",\"result\":"
		"\"Failed\",\"cause\":{\"class\":\"system\",\"code\":\"EngineLost\",\"message\":"
		"\"gone\"}}");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_record), cmocka_unit_test(test_bare)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
