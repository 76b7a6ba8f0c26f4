// SPDX-License-Identifier: Apache-2.0
#include "base/curl.h"
#include "base/log.h"
#include "base/text.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static int kept, pipe_read;

static int setup(void **state)
{
	(void)state;
	int fds[2];
	kept = dup(2);
	if (pipe2(fds, O_CLOEXEC | O_NONBLOCK) < 0 || dup2(fds[1], 2) < 0)
		return -1;
	close(fds[1]);
	pipe_read = fds[0];
	unsetenv("JOURNAL_STREAM");
	log_set_level(LOG_LEVEL_INFO);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	dup2(kept, 2);
	close(kept);
	close(pipe_read);
	return 0;
}

static const char *logged(void)
{
	static char text[8192];
	ssize_t n = read(pipe_read, text, sizeof(text) - 1);
	text[n > 0 ? n : 0] = '\0';
	return text;
}

static void test_line(void **state)
{
	(void)state;
	log_warning("job %d", 7);
	const char *line = logged();
	assert_int_equal(line[4], '-');
	assert_int_equal(line[23], 'Z');
	assert_string_equal(line + 24, " warning: job 7\n");
	log_error("%s", "two\nlines \x1b[0m");
	assert_string_equal(logged() + 24, " error: two?lines ?[0m\n");
}

static void test_levels(void **state)
{
	(void)state;
	log_debug("hidden");
	assert_string_equal(logged(), "");
	log_set_level(LOG_LEVEL_DEBUG);
	log_debug("shown");
	assert_string_equal(logged() + 24, " debug: shown\n");
	log_set_level(LOG_LEVEL_ERROR);
	log_warning("hidden");
	assert_string_equal(logged(), "");
	assert_int_equal(log_get_level(), LOG_LEVEL_ERROR);
	assert_int_equal(log_level_parse("debug"), LOG_LEVEL_DEBUG);
	assert_int_equal(log_level_parse("error"), LOG_LEVEL_ERROR);
	assert_int_equal(log_level_parse("Error"), -1);
	assert_int_equal(log_level_parse(""), -1);
}

static void test_long(void **state)
{
	(void)state;
	char long_text[5000];
	memset(long_text, 'x', sizeof(long_text) - 1);
	long_text[sizeof(long_text) - 1] = '\0';
	log_info("%s", long_text);
	const char *line = logged();
	assert_true(strlen(line) > 2000 && strlen(line) < 2049);
	assert_true(ends_with(line, "xxx\n"));
}

static void test_journal(void **state)
{
	(void)state;
	struct stat st;
	char stream[64];
	assert_int_equal(fstat(2, &st), 0);
	snprintf(stream, sizeof(stream), "%lu:%lu", (unsigned long)st.st_dev,
		(unsigned long)st.st_ino);
	setenv("JOURNAL_STREAM", stream, 1);
	log_error("a");
	log_warning("b");
	log_info("c");
	assert_string_equal(logged(), "<3>a\n<4>b\n<6>c\n");
	// Inherited from somebody whose stderr was the journal; ours is not.
	static const char *const others[] = {"1:1", "x", ":", "8:", "99999999999999999999:1"};
	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
		setenv("JOURNAL_STREAM", others[i], 1);
		log_error("d");
		assert_string_equal(logged() + 24, " error: d\n");
	}
}

static void test_curl(void **state)
{
	(void)state;
	struct error err;
	const struct curl_functions *curl = curl_load(&err);
	if (!curl)
		fail_msg("%s", err.text);
	assert_ptr_equal(curl_load(&err), curl);
	CURL *handle = curl->easy_init();
	char *escaped = curl->easy_escape(handle, "a b", 0);
	assert_string_equal(escaped, "a%20b");
	curl->free(escaped);
	curl->easy_cleanup(handle);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_line, setup, teardown),
		cmocka_unit_test_setup_teardown(test_levels, setup, teardown),
		cmocka_unit_test_setup_teardown(test_long, setup, teardown),
		cmocka_unit_test_setup_teardown(test_journal, setup, teardown),
		cmocka_unit_test(test_curl),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
