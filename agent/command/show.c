// SPDX-License-Identifier: Apache-2.0
//
// One screen about a run: what it was, where the time went, what was reused, what it used, and why
// it ended, with the last lines of its log.
#include "agent/command/remote.h"
#include "agent/command/run_lookup.h"
#include "agent/data/outputs.h"
#include "base/file.h"
#include "base/json_write.h"
#include "base/text.h"

#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

static const struct options_usage usage = {
	.verb = "show",
	.arguments = "RUN",
	.summary =
		"Show what became of a run: its phases and how long they took, what was reused,\n"
		"what it used, its results, and why it ended. RUN is the run's id, or a\n"
		"beginning of it. What is not of this node is asked for at the controller.",
	.more = "Examples:\n"
		"  stoker show digits_17\n"
		"  stoker show --attempt 1 digits_17\n"
		"  stoker show --json digits_17 | jq .phases",
	.least = 1,
	.most = 1,
};

enum { LOG_LINES = 10, LOG_BYTES = 8192 };

static const char *text(const struct json *object, const char *key)
{
	const char *s = json_get_string(object, key);
	return s ? s : "-";
}

static const char *duration(int64_t ms, char out[32])
{
	if (ms < 0)
		snprintf(out, 32, "goes on");
	else if (ms < 10 * 1000)
		snprintf(out, 32, "%.3f s", (double)ms / 1000);
	else if (ms < 120 * 1000)
		snprintf(out, 32, "%.1f s", (double)ms / 1000);
	else
		snprintf(out, 32, "%lld min %lld s", (long long)(ms / 60000),
			(long long)(ms / 1000 % 60));
	return out;
}

static void show_phase(const struct json *phase)
{
	char took[32], size[FORMAT_SIZE_MAX], rate[FORMAT_SIZE_MAX];
	int64_t ms = json_get_integer(phase, "duration_ms", -1),
		bytes = json_get_integer(phase, "bytes", 0);
	printf("  %-12s %12s", text(phase, "name"), duration(ms, took));
	if (bytes)
		printf("  %s", format_size((uint64_t)bytes, size));
	if (bytes && ms > 0)
		printf(" (%s/s)", format_size((uint64_t)bytes * 1000 / (uint64_t)ms, rate));
	if (json_get_string(phase, "detail"))
		printf("  %s", text(phase, "detail"));
	putchar('\n');
}

static void show_environment(const struct json *environment)
{
	if (!environment || environment->type != JSON_OBJECT)
		return;
	printf("environment %s: %.12s, %s\n",
		json_get_bool(environment, "reused", false) ? "reused" : "ready",
		text(environment, "key"), text(environment, "reason"));
	printf("  %-12s stoker env lock %.12s\n", "packages", text(environment, "key"));
}

// With an environment, the image that was asked for; what that made of it is in the record.
static void show_image(const struct json *record)
{
	const struct json *image = json_get(record, "image");
	const char *base = json_get_string(json_get(record, "environment"), "base");
	printf("image %s\n", base ? base : text(image, "reference"));
	printf("  %-12s %s\n", base ? "derived" : "manifest", text(image, "manifest"));
}

static void show_resources(const struct json *r)
{
	char size[FORMAT_SIZE_MAX];
	static const struct {
		const char *key, *words;
	} sizes[] = {{"memory_peak_bytes", "memory at most"}, {"read_bytes", "read"},
		{"write_bytes", "written"}};
	if (!r || r->type != JSON_OBJECT)
		return;
	printf("resources\n");
	if (json_get_integer(r, "cpu_usec", -1) >= 0)
		printf("  %-16s %.3f s\n", "processor time",
			(double)json_get_integer(r, "cpu_usec", 0) / 1e6);
	for (size_t i = 0; i < array_size(sizes); i++)
		if (json_get_integer(r, sizes[i].key, -1) >= 0)
			printf("  %-16s %s\n", sizes[i].words,
				format_size((uint64_t)json_get_integer(r, sizes[i].key, 0), size));
	if (json_get_integer(r, "oom_kills", 0))
		printf("  %-16s %lld\n", "killed for want of memory",
			(long long)json_get_integer(r, "oom_kills", 0));
}

// Where results are copied to, that has a state of its own.
static void show_outputs(int run_fd)
{
	struct outputs_status s;
	struct error err;
	char size[FORMAT_SIZE_MAX];
	int rc = outputs_status_read(run_fd, &s, &err);
	if (rc == 0)
		return;
	if (rc < 0) {
		printf("outputs: %s\n", err.text);
		return;
	}
	printf("outputs %s: %llu files, %s", outputs_state_name(s.state),
		(unsigned long long)s.files, format_size(s.bytes, size));
	if (s.files_left)
		printf("; %llu files, %s left", (unsigned long long)s.files_left,
			format_size(s.bytes_left, size));
	printf("%s%s\n", s.message[0] ? "; " : "", s.message);
}

static void show_log(int run_fd, const char *name, const char *title)
{
	char data[LOG_BYTES + 1];
	struct stat st;
	cleanup_fd int fd = openat(run_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0 || fstat(fd, &st) < 0 || st.st_size == 0)
		return;
	off_t from = st.st_size > LOG_BYTES ? st.st_size - LOG_BYTES : 0;
	ssize_t n = pread(fd, data, LOG_BYTES, from);
	if (n <= 0)
		return;
	data[n - (data[n - 1] == '\n')] = '\0';
	char *line = data + strlen(data);
	for (int lines = 0; line > data && lines < LOG_LINES; line--)
		lines += line[-1] == '\n';
	line += line > data && line[0] == '\n' ? 1 : line > data;
	printf("last lines of %s\n", title);
	for (char *next; line; line = next) {
		next = strchr(line, '\n');
		if (next)
			*next++ = '\0';
		text_flatten(line);
		printf("  | %s\n", line);
	}
}

static void show_cause(const struct json *cause)
{
	if (!cause || cause->type != JSON_OBJECT)
		return;
	printf("cause: %s (%s, %s)\n", text(cause, "message"), text(cause, "code"),
		text(cause, "class"));
}

static void show_run(const struct run_found *run, const struct json *record)
{
	char took[32];
	const struct json *phases = json_get(record, "phases");
	const struct json *warnings = json_get(record, "warnings");
	int64_t attempt = json_get_integer(record, "attempt", 1);
	printf("%s: %s", run->id, text(record, "state"));
	if (attempt > 1 || json_get_bool(record, "retried", false))
		printf(", attempt %lld", (long long)attempt);
	printf("\n");
	if (!streq(text(record, "state"), run_state_name(RUN_COMPLETED)))
		show_cause(json_get(record, "cause"));
	show_image(record);
	show_environment(json_get(record, "environment"));
	printf("phases\n");
	int64_t total = 0;
	if (phases && phases->type == JSON_ARRAY)
		json_array_each (phase, phases) {
			show_phase(&phase->value);
			int64_t ms = json_get_integer(&phase->value, "duration_ms", 0);
			total += ms;
		}
	printf("  %-12s %12s\n", "in all", duration(total, took));
	show_resources(json_get(record, "resources"));
	show_outputs(run->fd);
	if (warnings && warnings->type == JSON_ARRAY)
		json_array_each (warning, warnings)
			if (warning->value.type == JSON_STRING)
				printf("warning: %s\n", warning->value.string);
	show_log(run->fd, "user_logs/std_log.txt", "the log");
	// Where it ended there, the tool's words are the reason.
	const char *code = json_get_string(json_get(record, "cause"), "code");
	if (code && starts_with(code, "Environment"))
		show_log(run->fd, "system_logs/environment.log", "system_logs/environment.log");
}

int command_show(struct command *c, int argc, char **argv, struct error *err)
{
	bool json = false;
	const char *attempt = NULL;
	uint64_t wanted = 0;
	const struct option options[] = {
		{OPTION_STRING, 0, "attempt", "N", "not the last one, of a job with retries",
			&attempt},
		{OPTION_FLAG, 0, "json", NULL, "the record, for programs", &json},
		{OPTION_END},
	};
	cleanup_arena struct arena a = {0};
	cleanup_buffer struct buffer data = {0};
	cleanup_run_found struct run_found run = {.fd = -1};
	char **rest;
	int count;
	int rc = command_options(c, options, &usage, false, argc, argv, &rest, &count, err);
	if (rc != OPTIONS_OK)
		return rc == OPTIONS_HELP ? 0 : -1;
	if (attempt && (!parse_u64(attempt, &wanted) || !wanted || wanted > UINT32_MAX)) {
		c->usage_error = true;
		return error_set(err, ERROR_INVALID, "--attempt %s: must be a number", attempt);
	}
	if (command_open_runs(c, err) < 0)
		return -1;
	if (run_find(c->store, rest[0], &run, err) < 0) {
		if (err->kind != ERROR_NOT_FOUND || !remote_is_known())
			return -1;
		error_clear(err);
		return remote_show(rest[0], json, err);
	}
	if (wanted && run_found_attempt(c->store, &run, (unsigned)wanted, err) < 0)
		return -1;
	const struct json *record = run_document_tree(run.fd, &a, &data, err);
	if (!record)
		return error_context(err, "run %s", run.id);
	if (!json) {
		show_run(&run, record);
		return 0;
	}
	return fwrite(data.data ? data.data : "", 1, data.size, stdout) == data.size
		       ? 0
		       : error_set_errno(err, errno, "standard output");
}
