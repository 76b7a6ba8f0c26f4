// SPDX-License-Identifier: Apache-2.0
#include "agent/command/remote.h"
#include "agent/command/submit_job.h"
#include "base/text.h"

#include <stdio.h>
#include <sys/random.h>

static const struct options_usage usage = {
	.verb = "submit",
	.arguments = "JOB.yaml",
	.summary =
		"Send a job, with its source_directory and its secrets, to the controller, which\n"
		"runs it on one of its nodes. Prints the run's id. With --follow prints what the\n"
		"script prints, and ends as it ends.",
	.more = "Examples:\n"
		"  stoker submit --follow job.yaml\n"
		"  run=$(stoker submit job.yaml) && stoker logs -f $run",
	.least = 1,
	.most = 1,
};

static int send_snapshot(
	struct service *s, const struct submission *job, struct arena *a, struct error *err)
{
	char size[FORMAT_SIZE_MAX];
	const char *path = arena_printf(a, "/v1/snapshots/%s", job->sha256);
	if (service_call(s, "HEAD", path, NULL, a, NULL, err) == 0)
		return 0;
	if (err->kind != ERROR_NOT_FOUND)
		return -1;
	error_clear(err);
	fprintf(stderr, "sending source_directory, %s\n", format_size(job->archive_size, size));
	const struct service_request q = {
		.method = "PUT", .path = path, .fd = job->archive, .body_size = job->archive_size};
	return service_do(s, &q, a, NULL, err);
}

// Sent again when the answer is lost: by this the controller knows that it is the same.
static void make_key(char header[64])
{
	uint8_t random[16] = {0};
	size_t n = (size_t)snprintf(header, 64, "Idempotency-Key: ");
	if (getrandom(random, sizeof(random), 0) < 0)
		memset(random, 0, sizeof(random));
	for (size_t i = 0; i < sizeof(random); i++)
		n += (size_t)snprintf(header + n, 64 - n, "%02x", random[i]);
}

static int send_job(struct service *s, const struct submission *job, struct arena *a,
	const struct json **run, struct error *err)
{
	char key[64];
	cleanup_json_writer struct json_writer *w = json_writer_new(false);
	make_key(key);
	submission_write(w, job);
	const struct service_request q = {.method = "POST",
		.path = "/v1/runs",
		.json = w,
		.fd = -1,
		.headers = (const char *const[]){key, NULL}};
	return service_do(s, &q, a, run, err);
}

int command_submit(struct command *c, int argc, char **argv, struct error *err)
{
	bool follow = false, json = false;
	const struct option options[] = {
		{OPTION_FLAG, 'f', "follow", NULL,
			"print the log as it comes; end with the script's status", &follow},
		{OPTION_FLAG, 0, "json", NULL, "print the run as JSON", &json},
		{OPTION_END},
	};
	cleanup_arena struct arena a = {0};
	cleanup_service struct service *s = NULL;
	cleanup_submission struct submission job = {.archive = -1};
	const struct json *run;
	char **rest;
	int count;
	int rc = command_options(c, options, &usage, false, argc, argv, &rest, &count, err);
	if (rc != OPTIONS_OK)
		return rc == OPTIONS_HELP ? 0 : -1;
	if (remote_open(&s, err) < 0 || submission_prepare(&job, rest[0], err) < 0 ||
		send_snapshot(s, &job, &a, err) < 0 || send_job(s, &job, &a, &run, err) < 0)
		return -1;
	const char *id = remote_text(run, "id");
	if (json && remote_print_json(run, err) < 0)
		return -1;
	if (!follow)
		return json ? 0 : printf("%s\n", id) < 0;
	fprintf(stderr, "%s\n", id);
	return remote_follow(s, id, err);
}
