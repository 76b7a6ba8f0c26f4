// SPDX-License-Identifier: Apache-2.0
#include "oci/image/config.h"

#include "base/buffer.h"
#include "base/text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define A "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
#define B "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"

#define ROOTFS		"\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[\"" A "\"]}"
#define HEAD		"{\"architecture\":\"amd64\",\"os\":\"linux\","
#define WITH(config)	HEAD ROOTFS ",\"config\":" config "}"
#define DIFF_IDS(items) HEAD "\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[" items "]}}"

static int parse(struct arena *a, const char *text, struct oci_config *c, struct error *err)
{
	return oci_config_parse(a, text, strlen(text), c, err);
}

static void reads_image(void **state)
{
	static const char text[] =
		"{\"architecture\":\"arm64\",\"variant\":\"v8\",\"os\":\"linux\","
		"\"created\":\"2024-02-13T00:37:18Z\",\"container\":\"x\",\"config\":{"
		"\"Hostname\":\"\",\"User\":\"1000:100\",\"Env\":[\"PATH=/bin\",\"A==b\",\"C=\"],"
		"\"Entrypoint\":[\"tini\",\"--\"],\"Cmd\":[\"python3\"],\"WorkingDir\":\"/srv\","
		"\"StopSignal\":\"SIGINT\",\"Volumes\":{\"/data\":{}},\"OnBuild\":null},"
		"\"history\":[{\"created_by\":\"ENV A=b\",\"empty_layer\":true}],"
		"\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[\"" A "\",\"" B "\"]}}";
	struct arena cleanup_arena a = {0};
	struct oci_config c;
	struct error err;

	(void)state;
	if (parse(&a, text, &c, &err) < 0)
		fail_msg("%s", err.text);
	assert_string_equal(c.platform.os, "linux");
	assert_string_equal(c.platform.architecture, "arm64");
	assert_string_equal(c.platform.variant, "v8");
	assert_string_equal(c.created, "2024-02-13T00:37:18Z");
	assert_int_equal(c.diff_id_count, 2);
	assert_string_equal(c.diff_ids[0].text, A);
	assert_string_equal(c.diff_ids[1].text, B);
	assert_int_equal(c.env.count, 3);
	assert_string_equal(c.env.items[1], "A==b");
	assert_string_equal(c.env.items[2], "C=");
	assert_null(c.env.items[3]);
	assert_int_equal(c.entrypoint.count, 2);
	assert_string_equal(c.entrypoint.items[0], "tini");
	assert_int_equal(c.cmd.count, 1);
	assert_string_equal(c.working_dir, "/srv");
	assert_string_equal(c.user, "1000:100");
	assert_string_equal(c.stop_signal, "SIGINT");
}

static void completes(void **state)
{
	static const char *const texts[] = {
		HEAD ROOTFS "}",
		WITH("null"),
		WITH("{}"),
		"{\"architecture\":\"x86_64\"," ROOTFS "}",
		WITH("{\"Env\":null,\"Cmd\":null,\"Entrypoint\":null,\"User\":null,"
		     "\"WorkingDir\":null,\"StopSignal\":null}"),
		HEAD ROOTFS ",\"created\":null,\"variant\":null,\"history\":null}",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		struct arena cleanup_arena a = {0};
		struct oci_config c;
		struct error err;
		if (parse(&a, texts[i], &c, &err) < 0)
			fail_msg("%s", err.text);
		assert_string_equal(c.platform.os, "linux");
		assert_string_equal(c.platform.architecture, "amd64");
		assert_int_equal(c.env.count + c.entrypoint.count + c.cmd.count, 0);
		assert_null(c.env.items[0]);
		assert_null(c.entrypoint.items[0]);
		assert_null(c.cmd.items[0]);
		assert_string_equal(c.working_dir, "");
		assert_string_equal(c.user, "");
		assert_string_equal(c.stop_signal, "");
		assert_string_equal(c.created, "");
	}
}

static void reads_odd_forms(void **state)
{
	struct arena cleanup_arena a = {0};
	struct oci_config c;
	struct error err;

	(void)state;
	assert_int_equal(parse(&a, WITH("{\"WorkingDir\":\"app/src\"}"), &c, &err), 0);
	assert_string_equal(c.working_dir, "/app/src");

	assert_int_equal(parse(&a, WITH("{\"Entrypoint\":\"/run.sh\"}"), &c, &err), 0);
	assert_int_equal(c.entrypoint.count, 1);
	assert_string_equal(c.entrypoint.items[0], "/run.sh");
	assert_null(c.entrypoint.items[1]);

	static const char windows[] =
		"{\"architecture\":\"amd64\",\"os\":\"windows\",\"os.version\":\"10.0.1\"," ROOTFS
		",\"config\":{\"WorkingDir\":\"C:\\\\app\"}}";
	assert_int_equal(parse(&a, windows, &c, &err), 0);
	assert_string_equal(c.platform.os, "windows");
	assert_string_equal(c.working_dir, "C:\\app");

	assert_int_equal(parse(&a, DIFF_IDS(""), &c, &err), 0);
	assert_int_equal(c.diff_id_count, 0);
}

static void refuses(void **state)
{
	static const struct {
		const char *text, *expected;
	} cases[] = {
		{"", "image configuration:"},
		{"{", "image configuration:1:2"},
		{"[]", "image configuration: must be an object"},
		{"{}", "image configuration: key \"architecture\" is missing"},
		{"{\"architecture\":\"\"," ROOTFS "}", "image configuration: architecture: empty"},
		{"{\"architecture\":7," ROOTFS "}", "architecture: must be a string"},
		{"{\"architecture\":\"amd64\",\"os\":\"abcdefghijklmnopqrstuvwxyz-abcdefgh\"}",
			"os: longer than 31 characters"},
		{HEAD "\"config\":{}}", "image configuration: key \"rootfs\" is missing"},
		{HEAD "\"rootfs\":{}}", "rootfs: key \"type\" is missing"},
		{HEAD "\"rootfs\":{\"type\":1}}", "rootfs.type: must be a string"},
		{HEAD "\"rootfs\":{\"type\":\"layers\"}}", "rootfs: key \"diff_ids\" is missing"},
		{HEAD "\"rootfs\":{\"type\":\"layers+base\",\"diff_ids\":[]}}",
			"rootfs.type: \"layers+base\" is unknown, only \"layers\" is supported"},
		{DIFF_IDS("\"" A "\",\"sha256:x\""),
			"rootfs.diff_ids[1]: \"sha256:x\" is not a digest"},
		{DIFF_IDS("null"), "rootfs.diff_ids[0]: must be a string"},
		{WITH("[]"), "config: must be an object"},
		{WITH("{\"Env\":{}}"), "config.Env: must be an array of strings"},
		{WITH("{\"Env\":[1]}"), "config.Env[0]: must be a string"},
		{WITH("{\"Env\":[\"A=b\",\"HOME\"]}"),
			"image configuration: config.Env[1]: \"HOME\" is not NAME=value"},
		{WITH("{\"Env\":[\"=b\"]}"), "config.Env[0]: \"=b\" is not NAME=value"},
		{WITH("{\"Env\":[\"\"]}"), "config.Env[0]: \"\" is not NAME=value"},
		{WITH("{\"Env\":[\"A=\\u0000\"]}"), "image configuration:1:"},
		{WITH("{\"Cmd\":{}}"), "config.Cmd: must be an array of strings"},
		{WITH("{\"Entrypoint\":[null]}"), "config.Entrypoint[0]: must be a string"},
		{WITH("{\"User\":1000}"), "config.User: must be a string"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct arena cleanup_arena a = {0};
		struct oci_config c;
		struct error err;
		if (parse(&a, cases[i].text, &c, &err) == 0)
			fail_msg("accepted %s", cases[i].text);
		if (!strstr(err.text, cases[i].expected))
			fail_msg("%s: %s", cases[i].text, err.text);
		assert_int_equal(err.kind, ERROR_INVALID);
	}
}

static void bounds_layers(void **state)
{
	static const struct {
		size_t count;
		const char *expected;
	} cases[] = {
		{500, NULL},
		{501, "rootfs.diff_ids: 501 elements, at most 500 are allowed"},
		{10000, "rootfs.diff_ids: 10000 elements"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct buffer cleanup_buffer text = {0};
		struct arena cleanup_arena a = {0};
		struct oci_config c;
		struct error err;
		buffer_puts(&text, HEAD "\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[\"" A "\"");
		for (size_t n = 1; n < cases[i].count; n++)
			buffer_puts(&text, ",\"" B "\"");
		buffer_puts(&text, "]}}");
		int status = oci_config_parse(&a, text.data, text.size, &c, &err);
		assert_int_equal(status, cases[i].expected ? -1 : 0);
		if (!cases[i].expected) {
			assert_int_equal(c.diff_id_count, 500);
			continue;
		}
		assert_int_equal(err.kind, ERROR_LIMIT);
		if (!strstr(err.text, cases[i].expected))
			fail_msg("%s", err.text);
	}
}

static void bounds_size(void **state)
{
	struct buffer cleanup_buffer text = {0};
	struct arena cleanup_arena a = {0};
	struct oci_config c;
	struct error err;

	(void)state;
	buffer_puts(&text, HEAD ROOTFS "}");
	while (text.size <= OCI_CONFIG_BYTES_MAX)
		buffer_puts(
			&text, "                                                                ");
	assert_int_equal(oci_config_parse(&a, text.data, text.size, &c, &err), -1);
	assert_int_equal(err.kind, ERROR_LIMIT);
	assert_int_equal(oci_config_parse(&a, text.data, OCI_CONFIG_BYTES_MAX, &c, &err), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_image),
		cmocka_unit_test(completes),
		cmocka_unit_test(reads_odd_forms),
		cmocka_unit_test(refuses),
		cmocka_unit_test(bounds_layers),
		cmocka_unit_test(bounds_size),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
