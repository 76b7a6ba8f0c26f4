// SPDX-License-Identifier: Apache-2.0
#include "agent/config/config.h"

#include "base/file.h"
#include "base/text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <unistd.h>

#include <cmocka.h>

static int parse(struct config *c, const char *text, struct error *err)
{
	return config_parse(c, text, strlen(text), "agent.yaml", err);
}

static void reads_all_keys(void **state)
{
	static const char text[] = "state_dir: /srv/state\n"
				   "run_dir: /srv/run\n"
				   "default_image: python:3.12\n"
				   "layers: {format: directory, backing: loop, max_size: 5g,"
				   " max_entries: 7}\n"
				   "store: {high: 200g, low: 150g, keep_free: 512,"
				   " keep_free_inodes: 9}\n"
				   "devices: {cdi_folders: [/a, /b/c]}\n"
				   "logs: {max_size: 2g, keep_free: 3m}\n";
	cleanup_config struct config c = {0};
	struct error err = {0};

	(void)state;
	if (parse(&c, text, &err) < 0)
		fail_msg("%s", err.text);
	assert_string_equal(c.state_dir, "/srv/state");
	assert_string_equal(c.run_dir, "/srv/run");
	assert_string_equal(c.default_image, "python:3.12");
	assert_int_equal(c.layer_format, CONFIG_FORMAT_DIRECTORY);
	assert_string_equal(c.layer_backing, "loop");
	assert_int_equal(c.layer_limits.bytes, 5ULL << 30);
	assert_int_equal(c.layer_limits.entries, 7);
	assert_int_equal(c.store_limits.high_bytes, 200ULL << 30);
	assert_int_equal(c.store_limits.low_bytes, 150ULL << 30);
	assert_int_equal(c.store_limits.keep_free_bytes, 512);
	assert_int_equal(c.store_limits.keep_free_inodes_percent, 9);
	assert_int_equal(c.policy.cdi_folders.count, 2);
	assert_string_equal(c.policy.cdi_folders.items[0], "/a");
	assert_string_equal(c.policy.cdi_folders.items[1], "/b/c");
	assert_int_equal(c.log_max_size, 2ULL << 30);
	assert_int_equal(c.log_keep_free, 3ULL << 20);
}

static void has_defaults(void **state)
{
	static const char *const empty[] = {"", "{}", "# nothing\n", "layers:\nstore:\ndevices:\n"};

	(void)state;
	for (size_t i = 0; i < array_size(empty); i++) {
		cleanup_config struct config c = {0};
		struct error err = {0};
		if (parse(&c, empty[i], &err) < 0)
			fail_msg("%s: %s", empty[i], err.text);
		assert_null(c.default_image);
		assert_int_equal(c.layer_format, CONFIG_FORMAT_AUTO);
		assert_string_equal(c.layer_backing, "auto");
		assert_int_equal(c.layer_limits.bytes, layer_limits_default.bytes);
		assert_int_equal(
			c.store_limits.keep_free_bytes, store_limits_default.keep_free_bytes);
		assert_int_equal(c.policy.cdi_folders.count, 2);
		assert_string_equal(c.policy.cdi_folders.items[0], "/etc/cdi");
		assert_string_equal(c.policy.cdi_folders.items[1], "/var/run/cdi");
	}
}

static void refuses(void **state)
{
	static const struct {
		const char *text, *expected;
	} cases[] = {
		{"stat_dir: /x\n", "agent.yaml:1:1: unknown key \"stat_dir\", did you mean"},
		{"state_dir: x\n", "agent.yaml:1:12: state_dir: must be an absolute path"},
		{"run_dir: 3\n", "run_dir: must be a string"},
		{"layers: []\n", "layers: must be an object"},
		{"layers:\n  format: tar\n", "agent.yaml:2:11: layers.format: must be auto, erofs"},
		{"layers: {backing: nfs}\n", "layers.backing: must be auto, file or loop"},
		{"layers: {max_size: lots}\n", "layers.max_size: must be a size"},
		{"layers: {max_size: -1}\n", "layers.max_size: must be a size"},
		{"layers: {max_entries: -1}\n", "layers.max_entries: must be a non-negative"},
		{"store: {low: 2g, high: 1g}\n", "store: low must not be above high"},
		{"store: {keep_free_inodes: 100}\n", "must be a percentage from 0 to 99"},
		{"store: {hihg: 1g}\n", "unknown key \"hihg\", did you mean \"high\"?"},
		{"devices: {cdi_folder: []}\n", "did you mean \"cdi_folders\"?"},
		{"devices: {cdi_folders: /etc/cdi}\n", "devices.cdi_folders: must be an array"},
		{"devices: {cdi_folders: [/a, b]}\n",
			"agent.yaml:1:29: devices.cdi_folders[1]: must be an absolute path"},
		{"a: [\n", "agent.yaml:"},
	};

	(void)state;
	for (size_t i = 0; i < array_size(cases); i++) {
		cleanup_config struct config c = {0};
		struct error err = {0};
		if (parse(&c, cases[i].text, &err) == 0)
			fail_msg("accepted %s", cases[i].text);
		assert_int_equal(err.kind, ERROR_INVALID);
		if (!strstr(err.text, cases[i].expected))
			fail_msg("%s: %s", cases[i].text, err.text);
	}
}

// Option, environment, file, default: the first that says something counts.
static void chooses_folders(void **state)
{
	char path[] = "/tmp/stoker-test-XXXXXX";
	static const char text[] = "state_dir: /from/file\nrun_dir: /file/run\n";
	int fd = mkstemp(path);
	struct error err = {0};

	(void)state;
	assert_true(fd >= 0);
	assert_int_equal(write_all(fd, text, sizeof(text) - 1, path, &err), 0);
	close(fd);
	unsetenv("STOKER_CONFIG");
	unsetenv("STOKER_RUN_DIR");

	cleanup_config struct config from_file = {0}, from_env = {0}, from_option = {0};
	struct config_overrides o = {.config = path};
	setenv("STOKER_STATE_DIR", "", 1);
	assert_int_equal(config_load(&from_file, &o, &err), 0);
	assert_string_equal(from_file.state_dir, "/from/file");
	assert_string_equal(from_file.run_dir, "/file/run");
	assert_string_equal(from_file.path, path);

	setenv("STOKER_STATE_DIR", "/from/env", 1);
	assert_int_equal(config_load(&from_env, &o, &err), 0);
	assert_string_equal(from_env.state_dir, "/from/env");
	assert_string_equal(from_env.run_dir, "/file/run");

	o.state_dir = "/from/option";
	assert_int_equal(config_load(&from_option, &o, &err), 0);
	assert_string_equal(from_option.state_dir, "/from/option");
	unlink(path);

	cleanup_config struct config missing = {0};
	assert_int_equal(config_load(&missing, &o, &err), -1);
	assert_int_equal(err.kind, ERROR_NOT_FOUND);
	assert_non_null(strstr(err.text, "configuration: open /tmp/stoker-test-"));
	unsetenv("STOKER_STATE_DIR");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_all_keys),
		cmocka_unit_test(has_defaults),
		cmocka_unit_test(refuses),
		cmocka_unit_test(chooses_folders),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
