// SPDX-License-Identifier: Apache-2.0
//
// The two processes and what they say to each other; the registry is a port where nobody listens.
// What registries do is tested in tests/integration/test_registry.py.
#include "oci/registry/fetcher.h"

#include "base/message.h"
#include "base/text.h"
#include "oci/registry/protocol.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define DIGEST "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

struct sample {
	struct loop *loop;
	struct fetcher *fetcher;
	int wanted, ended; // answers
	bool free_at_end;
	struct error error; // of the last
	char progress[200];
	char notice[200];
};

static void start(struct sample *s, uint64_t retries)
{
	struct registry_config config = registry_config_default;
	struct oci_reference reference;
	struct error err = {0};
	config.docker_config = "/nonexistent";
	config.retries = retries;
	// Port 1 of the loopback interface: refused at once.
	assert_int_equal(oci_reference_parse("127.0.0.1:1/team/image:v1", &reference, &err), 0);
	*s = (struct sample){.loop = loop_new(&err), .wanted = 1};
	assert_non_null(s->loop);
	s->fetcher = fetcher_start(s->loop, &config, &reference, &err);
	assert_string_equal(err.text, "");
	assert_non_null(s->fetcher);
}

static void stop(struct sample *s)
{
	fetcher_free(s->fetcher);
	loop_free(s->loop);
}

static void run(struct sample *s)
{
	struct error err = {0};
	assert_int_equal(loop_run(s->loop, &err), 7);
}

static void end(struct sample *s, const struct error *err)
{
	s->error = err ? *err : (struct error){0};
	if (s->free_at_end) {
		fetcher_free(s->fetcher);
		s->fetcher = NULL;
	}
	if (++s->ended == s->wanted || s->free_at_end)
		loop_quit(s->loop, 7);
}

static void on_document(void *data, const struct buffer *body, const struct oci_digest *digest,
	const char *media_type, const struct error *err)
{
	assert_null(body);
	assert_string_equal(digest->text, "");
	assert_string_equal(media_type, "");
	end(data, err);
}

static void on_blob(void *data, const struct error *err)
{
	end(data, err);
}

static void on_notice(void *data, const char *text)
{
	struct sample *s = data;
	snprintf(s->notice, sizeof(s->notice), "%s", text);
}

static const struct fetcher_blob_events blob_events = {.notice = on_notice, .done = on_blob};

static void add_blob(struct sample *s, uint64_t size, const struct oci_digest *digest)
{
	int fd = memfd_create("blob", MFD_CLOEXEC), map = memfd_create("map", MFD_CLOEXEC);
	fetcher_blob(s->fetcher, digest, size, fd, map, &blob_events, s);
	close(fd);
	close(map);
}

static void assert_refused(const struct sample *s)
{
	assert_int_equal(s->error.kind, ERROR_UNAVAILABLE);
	assert_true(starts_with(s->error.text, "127.0.0.1:1: "));
	assert_non_null(strstr(s->error.text, "connect"));
}

static void every_kind_of_request_ends(void **state)
{
	struct sample s;
	struct oci_digest digest = {DIGEST};
	(void)state;
	start(&s, 0);
	s.wanted = 4;
	fetcher_manifest(s.fetcher, "v1", 1000, on_document, &s);
	fetcher_manifest_digest(s.fetcher, "v1", on_document, &s);
	fetcher_document(s.fetcher, &digest, 1000, on_document, &s);
	add_blob(&s, 10, &digest);
	run(&s);
	assert_refused(&s);
	assert_int_equal(fetcher_bytes(s.fetcher), 0);
	stop(&s);
}

// More than the helper is told of at once.
static void many_requests_end(void **state)
{
	struct sample s;
	(void)state;
	start(&s, 0);
	s.wanted = 150;
	for (int i = 0; i < s.wanted; i++)
		fetcher_manifest(s.fetcher, "v1", 1000, on_document, &s);
	run(&s);
	assert_refused(&s);
	stop(&s);
}

static void an_empty_blob_needs_no_registry(void **state)
{
	struct sample s;
	(void)state;
	start(&s, 0);
	add_blob(&s, 0, &(struct oci_digest){DIGEST});
	run(&s);
	assert_string_equal(s.error.text, "");
	stop(&s);
}

static void limits_come_back_as_errors(void **state)
{
	struct sample s;
	(void)state;
	start(&s, 0);
	add_blob(&s, UINT64_MAX, &(struct oci_digest){DIGEST});
	run(&s);
	assert_int_equal(s.error.kind, ERROR_LIMIT);
	assert_string_equal(
		s.error.text, "a blob of 18446744073709551615 bytes is over the limit of 4 TiB");
	stop(&s);
}

static void tells_of_retries_and_gives_up(void **state)
{
	struct sample s;
	(void)state;
	start(&s, 1);
	add_blob(&s, 10, &(struct oci_digest){DIGEST});
	run(&s);
	assert_refused(&s);
	assert_true(ends_with(s.error.text, "; gave up after 2 attempts"));
	assert_true(starts_with(s.notice, "retrying in 0."));
	stop(&s);
}

static void a_cancelled_blob_is_silent(void **state)
{
	struct sample s;
	struct oci_digest digest = {DIGEST};
	(void)state;
	start(&s, 0);
	add_blob(&s, 10, &digest);
	fetcher_blob_cancel(s.fetcher, &digest);
	fetcher_blob_cancel(s.fetcher, &digest); // nothing there any more
	fetcher_manifest(s.fetcher, "v1", 1000, on_document, &s);
	run(&s);
	assert_int_equal(s.ended, 1);
	stop(&s);
}

static void may_be_freed_in_its_own_callback(void **state)
{
	struct sample s;
	(void)state;
	start(&s, 0);
	s.free_at_end = true;
	fetcher_manifest(s.fetcher, "v1", 1000, on_document, &s);
	fetcher_manifest(s.fetcher, "v2", 1000, on_document, &s);
	run(&s);
	assert_int_equal(s.ended, 1);
	assert_null(s.fetcher);
	stop(&s);
}

// The only child of this process.
static void kill_child(void)
{
	siginfo_t info = {0};
	cleanup_free char *path = xasprintf("/proc/self/task/%d/children", (int)getpid());
	FILE *f = fopen(path, "re");
	assert_non_null(f);
	char text[32] = "";
	uint64_t pid = 0;
	assert_non_null(fgets(text, sizeof(text), f));
	fclose(f);
	assert_true(parse_u64_n(text, strcspn(text, " "), &pid));
	assert_int_equal(kill((pid_t)pid, SIGKILL), 0);
	assert_int_equal(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), 0);
}

static void a_helper_that_dies_is_told(void **state)
{
	struct sample s;
	(void)state;
	start(&s, 5);
	s.wanted = 3;
	fetcher_manifest(s.fetcher, "v1", 1000, on_document, &s);
	add_blob(&s, 10, &(struct oci_digest){DIGEST});
	kill_child();
	fetcher_manifest(s.fetcher, "v2", 1000, on_document, &s);
	run(&s);
	assert_int_equal(s.error.kind, ERROR_SYSTEM);
	assert_string_equal(s.error.text, "the fetcher was killed by signal 9 (Killed)");
	// And so it is with what is asked later.
	s.wanted = 4;
	fetcher_manifest(s.fetcher, "v3", 1000, on_document, &s);
	run(&s);
	assert_string_equal(s.error.text, "the fetcher was killed by signal 9 (Killed)");
	stop(&s);
}

// ---- a helper in a stranger's hands

static const struct {
	const char *why;
	uint64_t contiguous, fetched, received;
} tales[] = {
	{"true", 3, 3, 10},
	{"more than there is", 11, 5, 10},
	{"the front goes back", 2, 5, 10},
	{"the network took bytes back", 5, 2, 10},
	{"more than came", 5, 11, 10},
	{"the largest there is", UINT64_MAX, UINT64_MAX, 5},
	{"true", 7, 6, 9},
};

static int false_fetcher(void)
{
	struct fetcher_command c = {0};
	struct error err;
	while (c.verb != FETCHER_BLOB) {
		int fds[2];
		if (message_receive(FETCHER_SOCKET, &c, sizeof(c), fds, 2, false, &err) <= 0)
			return 1;
	}
	struct fetcher_reply r = {.verb = FETCHER_PROGRESS, .id = c.id};
	for (size_t i = 0; i < sizeof(tales) / sizeof(*tales); i++) {
		r.contiguous = tales[i].contiguous;
		r.fetched = tales[i].fetched;
		r.received = tales[i].received;
		message_send(
			FETCHER_SOCKET, &r, offsetof(struct fetcher_reply, error), NULL, 0, &err);
	}
	r.verb = FETCHER_DONE;
	message_send(FETCHER_SOCKET, &r, sizeof(r), NULL, 0, &err);
	pause();
	return 0;
}

static void on_progress(void *data, uint64_t contiguous, uint64_t fetched)
{
	struct sample *s = data;
	size_t n = strlen(s->progress);
	snprintf(s->progress + n, sizeof(s->progress) - n, "%llu:%llu ",
		(unsigned long long)contiguous, (unsigned long long)fetched);
}

static void progress_never_goes_back(void **state)
{
	struct sample s;
	char here[4096];
	(void)state;
	// It gets no environment and no arguments; the folder it starts in tells it to be false.
	assert_non_null(getcwd(here, sizeof(here)));
	assert_int_equal(chdir("/proc"), 0);
	start(&s, 0);
	assert_int_equal(chdir(here), 0);
	const struct fetcher_blob_events events = {.progress = on_progress, .done = on_blob};
	int fd = memfd_create("blob", MFD_CLOEXEC);
	fetcher_blob(s.fetcher, &(struct oci_digest){DIGEST}, 10, fd, fd, &events, &s);
	close(fd);
	run(&s);
	assert_string_equal(s.error.text, "");
	assert_string_equal(s.progress, "3:3 7:6 ");
	assert_int_equal(fetcher_bytes(s.fetcher), 10);
	stop(&s);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_kind_of_request_ends),
		cmocka_unit_test(many_requests_end),
		cmocka_unit_test(an_empty_blob_needs_no_registry),
		cmocka_unit_test(limits_come_back_as_errors),
		cmocka_unit_test(tells_of_retries_and_gives_up),
		cmocka_unit_test(a_cancelled_blob_is_silent),
		cmocka_unit_test(may_be_freed_in_its_own_callback),
		cmocka_unit_test(a_helper_that_dies_is_told),
		cmocka_unit_test(progress_never_goes_back),
	};
	// The helper is this program again.
	char here[8] = "";
	if (argc == 2 && streq(argv[1], "fetcher"))
		return getcwd(here, sizeof(here)) && streq(here, "/proc") ? false_fetcher()
									  : fetcher_main();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
