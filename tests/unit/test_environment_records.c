// SPDX-License-Identifier: Apache-2.0
// What a node remembers of environments: what is visible when, who waits, what is swept.
#include "agent/environment/records.h"
#include "base/file.h"
#include "base/text.h"
#include "base/time.h"
#include "oci/store/entries.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define KEY(c) c c c c c c c c c c c c c c c c
#define ONE    KEY("abcd")
#define TWO    KEY("abce")

struct fixture {
	char folder[64], state[96], run[96];
	struct store *s;
	struct error err;
};

#define ok(f, call)                                    \
	do {                                           \
		if ((call) < 0)                        \
			fail_msg("%s", (f)->err.text); \
	} while (0)

static int setup(void **state)
{
	static const struct store_limits no_limits = {0};
	struct fixture *f = xcalloc(1, sizeof(*f));
	snprintf(f->folder, sizeof(f->folder), "/tmp/test_records.XXXXXX");
	if (!mkdtemp(f->folder))
		return -1;
	snprintf(f->state, sizeof(f->state), "%s/state", f->folder);
	snprintf(f->run, sizeof(f->run), "%s/run", f->folder);
	f->s = store_open(f->state, f->run, &no_limits, &f->err);
	*state = f;
	return f->s ? 0 : -1;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	store_free(f->s);
	directory_remove(AT_FDCWD, f->folder, &f->err);
	free(f);
	return 0;
}

static size_t entries(struct fixture *f, const char *folder)
{
	cleanup_arena struct arena a = {0};
	struct store_names names;
	ok(f, store_names(f->s->state_fd, folder, &a, &names, &f->err));
	return names.count;
}

static struct environment_record record_of(const char *key, int64_t created_ms)
{
	static const char *activation[] = {"PATH=/opt/stoker/env/bin:/bin", "A=b\nc", NULL};
	return (struct environment_record){
		.key = key,
		.reference = "localhost/stoker/environment:x",
		.base = "python:3.11",
		.layer = "sha256:" KEY("0123"),
		.bytes = 12,
		.created_ms = created_ms,
		.origin = "built",
		.lock = "{\"x\": \"y\"}\n",
		.activation = {.items = activation, .count = 2},
	};
}

static void put(struct fixture *f, const char *path, const char *text)
{
	ok(f, file_write_atomic(f->s->state_fd, path, text, strlen(text), 0600, &f->err));
}

static void remembers_environments(void **state)
{
	struct fixture *f = *state;
	cleanup_arena struct arena a = {0};
	struct environment_record one = record_of(ONE, 5), two = record_of(TWO, 6), got, *all;
	size_t count;
	assert_int_equal(environment_record_read(f->s, &a, ONE, &got, &f->err), -1);
	assert_int_equal(f->err.kind, ERROR_NOT_FOUND);
	ok(f, environment_record_write(f->s, &one, &f->err));
	ok(f, environment_record_write(f->s, &two, &f->err));
	ok(f, environment_record_read(f->s, &a, ONE, &got, &f->err));
	assert_string_equal(got.reference, one.reference);
	assert_string_equal(got.lock, one.lock);
	assert_null(got.base_manifest);
	assert_int_equal(got.bytes, 12);
	assert_int_equal(got.activation.count, 2);
	assert_string_equal(got.activation.items[1], "A=b\nc");
	assert_true(wall_ms() - got.used_ms < 60000);
	// What is no record of ours is not listed.
	put(f, "environments/" KEY("abcf") ".json", "{");
	put(f, "environments/" KEY("abc0") ".json", "{\"key\":\"" ONE "\"}");
	put(f, "environments/notes.json", "{}");
	ok(f, environment_record_list(f->s, &a, &all, &count, &f->err));
	assert_int_equal(count, 2);
	assert_string_equal(all[0].key, TWO);
	assert_int_equal(environment_record_read(f->s, &a, KEY("abcf"), &got, &f->err), -1);
	assert_int_equal(f->err.kind, ERROR_NOT_FOUND);
	assert_int_equal(environment_record_read(f->s, &a, "../../x", &got, &f->err), -1);
	assert_int_equal(f->err.kind, ERROR_INVALID);
}

static void resolves_abbreviations(void **state)
{
	static const struct {
		const char *text, *key, *expected;
		enum error_kind kind;
	} cases[] = {
		{"abcdab", ONE, NULL, 0},
		{TWO, TWO, NULL, 0},
		{"abcea", TWO, NULL, 0},
		{"abc", NULL, "at least 4 hexadecimal digits", ERROR_INVALID},
		{"xyzabc", NULL, "is no key", ERROR_INVALID},
		{"../../", NULL, "is no key", ERROR_INVALID},
		{"abcf", NULL, "is not here; see: stoker env ls", ERROR_NOT_FOUND},
		{"1234", NULL, "several begin so", ERROR_INVALID},
	};
	struct fixture *f = *state;
	static const char *const keys[] = {ONE, TWO,
		"12345"
		"67890abcdef" KEY("abc"),
		"12346"
		"67890abcdef" KEY("abc")};
	for (size_t i = 0; i < array_size(keys); i++) {
		struct environment_record r = record_of(keys[i], 5);
		ok(f, environment_record_write(f->s, &r, &f->err));
	}
	for (size_t i = 0; i < array_size(cases); i++) {
		char key[ENVIRONMENT_KEY_SIZE];
		int rc = environment_record_resolve(f->s, cases[i].text, key, &f->err);
		if ((rc == 0) != (cases[i].key != NULL))
			fail_msg("%s: %s", cases[i].text, f->err.text);
		if (rc == 0)
			assert_string_equal(key, cases[i].key);
		else if (f->err.kind != cases[i].kind || !strstr(f->err.text, cases[i].expected))
			fail_msg("%s: %s", cases[i].text, f->err.text);
	}
}

static struct store_image put_image(struct fixture *f, const char *reference, const char *diff_id)
{
	cleanup_arena struct arena a = {0};
	struct store_image image = {.platform = {.os = "linux", .architecture = "amd64"}};
	const char *config = arena_printf(&a,
		"{\"architecture\":\"amd64\",\"os\":\"linux\",\"rootfs\":{\"type\":\"layers\","
		"\"diff_ids\":[\"%s\"]}}",
		diff_id);
	image.config = oci_digest_of(config, strlen(config));
	const char *manifest = arena_printf(&a,
		"{\"schemaVersion\":2,\"mediaType\":\"application/vnd.oci.image.manifest.v1+json\","
		"\"config\":{\"mediaType\":\"application/vnd.oci.image.config.v1+json\","
		"\"digest\":\"%s\",\"size\":%zu},\"layers\":[{\"mediaType\":"
		"\"application/vnd.oci.image.layer.v1.tar\",\"digest\":\"%s\",\"size\":10}]}",
		image.config.text, strlen(config), diff_id);
	image.manifest = image.target = oci_digest_of(manifest, strlen(manifest));
	ok(f, oci_reference_parse(reference, &image.reference, &f->err));
	ok(f, store_document_put(f->s, &image.config, config, strlen(config), &f->err));
	ok(f, store_document_put(f->s, &image.manifest, manifest, strlen(manifest), &f->err));
	ok(f, store_image_put(f->s, &image, &f->err));
	return image;
}

static void removes_what_nobody_uses(void **state)
{
	struct fixture *f = *state;
	cleanup_arena struct arena a = {0};
	struct environment_record r = record_of(ONE, 5), got;
	struct oci_digest diff_id;
	struct store_stage stage;
	cleanup_store_layer struct store_layer lease = {.fd = -1};
	ok(f, oci_digest_parse(r.layer, &diff_id, &f->err));
	ok(f, store_stage_new(f->s, LAYER_EROFS, &stage, &f->err));
	ok(f, write_all(stage.fd, "layer", 5, "layer", &f->err));
	ok(f, store_stage_commit(f->s, &stage, &diff_id, &lease, &f->err));
	struct store_image image = put_image(f, r.reference, r.layer);
	ok(f, environment_record_write(f->s, &r, &f->err));

	assert_int_equal(environment_record_remove(f->s, ONE, &f->err), -1);
	assert_int_equal(f->err.kind, ERROR_UNAVAILABLE);
	assert_non_null(strstr(f->err.text, "is in use by a job"));
	ok(f, environment_record_read(f->s, &a, ONE, &got, &f->err));
	ok(f, store_image_get(f->s, &image.reference, &image, &f->err));

	store_layer_release(&lease);
	lease.fd = -1;
	ok(f, environment_record_remove(f->s, ONE, &f->err));
	assert_int_equal(environment_record_read(f->s, &a, ONE, &got, &f->err), -1);
	assert_int_equal(store_image_get(f->s, &image.reference, &image, &f->err), -1);
	assert_int_equal(entries(f, "layers/sha256"), 0);
	assert_int_equal(environment_record_remove(f->s, ONE, &f->err), -1);
	assert_int_equal(f->err.kind, ERROR_NOT_FOUND);

	// The image was evicted: the record goes alone.
	ok(f, environment_record_write(f->s, &r, &f->err));
	ok(f, environment_record_remove(f->s, ONE, &f->err));
}

static void used_at(struct fixture *f, const char *key, time_t seconds_ago)
{
	cleanup_free char *path = xasprintf("environments/%s.json", key);
	const time_t then = time(NULL) - seconds_ago;
	const struct timespec times[2] = {{.tv_sec = then}, {.tv_sec = then}};
	assert_int_equal(utimensat(f->s->state_fd, path, times, 0), 0);
}

static void removes_what_was_not_used_for_long(void **state)
{
	struct fixture *f = *state;
	cleanup_arena struct arena a = {0};
	const struct environment_record one = record_of(ONE, 5), two = record_of(TWO, 6);
	struct environment_record got;
	ok(f, environment_record_write(f->s, &one, &f->err));
	ok(f, environment_record_write(f->s, &two, &f->err));
	used_at(f, ONE, 3600);
	used_at(f, TWO, 60);
	environment_records_expire(f->s, 0);
	ok(f, environment_record_read(f->s, &a, ONE, &got, &f->err));
	environment_records_expire(f->s, 1800 * 1000);
	assert_int_equal(environment_record_read(f->s, &a, ONE, &got, &f->err), -1);
	assert_int_equal(f->err.kind, ERROR_NOT_FOUND);
	ok(f, environment_record_read(f->s, &a, TWO, &got, &f->err));
}

static void remembers_answers(void **state)
{
	struct fixture *f = *state;
	cleanup_arena struct arena a = {0};
	struct environment_answer x = {.key = ONE, .config = "sha256:1", .resolved_ms = 7}, got;
	struct json_strings requests;
	int64_t now = wall_ms();
	assert_int_equal(environment_answer_read(f->s, &a, TWO, &got, &f->err), 0);
	ok(f, environment_answer_write(f->s, TWO, &x, &f->err));
	assert_int_equal(environment_answer_read(f->s, &a, TWO, &got, &f->err), 1);
	assert_string_equal(got.key, ONE);
	assert_int_equal(got.resolved_ms, 7);
	assert_int_equal(got.failure, ENVIRONMENT_OK);
	assert_string_equal(got.config, "sha256:1");
	// Another image of the same lock is not what the request led to.
	ok(f, environment_requests_of(f->s, &a, ONE, NULL, &requests, &f->err));
	assert_int_equal(requests.count, 1);
	ok(f, environment_requests_of(f->s, &a, ONE, "sha256:1", &requests, &f->err));
	assert_int_equal(requests.count, 1);
	ok(f, environment_requests_of(f->s, &a, ONE, "sha256:2", &requests, &f->err));
	assert_int_equal(requests.count, 0);

	x = (struct environment_answer){.failure = ENVIRONMENT_UNSATISFIABLE,
		.resolved_ms = now - 1000,
		.until_ms = now + 60000,
		.text = "why",
		.evidence = "the solver's\nlines"};
	ok(f, environment_answer_write(f->s, TWO, &x, &f->err));
	assert_int_equal(environment_answer_read(f->s, &a, TWO, &got, &f->err), 1);
	assert_int_equal(got.failure, ENVIRONMENT_UNSATISFIABLE);
	assert_string_equal(got.evidence, "the solver's\nlines");
	assert_string_equal(got.key, "");

	x.until_ms = now - 1;
	ok(f, environment_answer_write(f->s, TWO, &x, &f->err));
	assert_int_equal(environment_answer_read(f->s, &a, TWO, &got, &f->err), 0);
	x.until_ms = now + 60000;
	x.resolved_ms = now + 30000; // the clock was set back
	ok(f, environment_answer_write(f->s, TWO, &x, &f->err));
	assert_int_equal(environment_answer_read(f->s, &a, TWO, &got, &f->err), 0);
	put(f, "environments/requests/" TWO ".json", "{\"environment\": 1, \"resolved_ms\": 5}");
	assert_int_equal(environment_answer_read(f->s, &a, TWO, &got, &f->err), 0);
	put(f, "environments/requests/" TWO ".json",
		"{\"environment\": \"" ONE "\", \"resolved_ms\": 5}");
	assert_int_equal(environment_answer_read(f->s, &a, TWO, &got, &f->err), 0);
	x.config = "sha256:1";
	x.failure = ENVIRONMENT_OK;
	assert_int_equal(environment_answer_write(f->s, TWO, &x, &f->err), -1);
}

static void one_builds_at_a_time(void **state)
{
	struct fixture *f = *state;
	int fd = -1, other = -1;
	assert_int_equal(environment_lock_take(f->s, ONE, &fd, &f->err), 0);
	assert_int_equal(environment_lock_take(f->s, ONE, &other, &f->err), 1);
	assert_int_equal(environment_lock_take(f->s, TWO, &other, &f->err), 0);
	environment_build_sweep(f->s);
	assert_int_equal(entries(f, "environments/locks"), 2);
	close(other);
	environment_build_sweep(f->s);
	assert_int_equal(entries(f, "environments/locks"), 1);
	assert_int_equal(environment_lock_take(f->s, ONE, &other, &f->err), 1);
	close(fd);
	assert_int_equal(environment_lock_take(f->s, ONE, &other, &f->err), 0);
	close(other);
	assert_int_equal(environment_lock_take(f->s, "x/y", &other, &f->err), -1);
}

// A builder that is killed: its folder with everything in it goes, the living one's stays.
static void sweeps_dead_builds(void **state)
{
	struct fixture *f = *state;
	cleanup_free char *path = NULL;
	cleanup_fd int fd = -1;
	ok(f, environment_build_folder(f->s, &fd, &path, &f->err));
	assert_true(starts_with(path, f->state));
	assert_int_equal(access(path, W_OK), 0);
	pid_t child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		char *own = NULL;
		int own_fd;
		if (environment_build_folder(f->s, &own_fd, &own, &f->err) < 0)
			_exit(1);
		_exit(directory_make(own_fd, "tree/opt/deep/er", 0500, &f->err) < 0);
	}
	int status;
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	assert_int_equal(entries(f, "environments/build"), 2);
	environment_build_sweep(f->s);
	assert_int_equal(entries(f, "environments/build"), 1);
	assert_int_equal(access(path, W_OK), 0);
	ok(f, environment_build_remove(f->s, path, &f->err));
	assert_int_equal(entries(f, "environments/build"), 0);
	environment_build_sweep(f->s);
}

static void sweeps_what_is_believed_no_more(void **state)
{
	struct fixture *f = *state;
	struct environment_answer x = {.key = ONE, .config = "sha256:1", .resolved_ms = 7};
	struct timespec old[2] = {{.tv_sec = 1}, {.tv_sec = 1}};
	int64_t now = wall_ms();
	ok(f, environment_answer_write(f->s, ONE, &x, &f->err));
	x = (struct environment_answer){
		.failure = ENVIRONMENT_BUILD, .resolved_ms = now - 2, .until_ms = now - 1};
	ok(f, environment_answer_write(f->s, TWO, &x, &f->err));
	put(f, "environments/requests/.x.json.abc.tmp", "young");
	put(f, "environments/requests/.y.json.abc.tmp", "old");
	assert_int_equal(
		utimensat(f->s->state_fd, "environments/requests/.y.json.abc.tmp", old, 0), 0);
	environment_build_sweep(f->s);
	assert_int_equal(entries(f, "environments/requests"), 2);
	assert_int_equal(
		faccessat(f->s->state_fd, "environments/requests/" ONE ".json", F_OK, 0), 0);
}

static void remembers_tools(void **state)
{
	struct fixture *f = *state;
	cleanup_buffer struct buffer b = {0};
	assert_int_equal(environment_tools_read(f->s, ONE, &b, &f->err), 0);
	ok(f, environment_tools_write(f->s, ONE, "{}", 2, &f->err));
	assert_int_equal(environment_tools_read(f->s, ONE, &b, &f->err), 1);
	assert_string_equal(b.data, "{}");
	assert_int_equal(environment_tools_write(f->s, "sha256:x", "{}", 2, &f->err), -1);
}

int main(void)
{
#define test(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		test(remembers_environments),
		test(resolves_abbreviations),
		test(removes_what_nobody_uses),
		test(removes_what_was_not_used_for_long),
		test(remembers_answers),
		test(one_builds_at_a_time),
		test(sweeps_dead_builds),
		test(sweeps_what_is_believed_no_more),
		test(remembers_tools),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
