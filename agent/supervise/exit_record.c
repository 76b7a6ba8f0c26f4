// SPDX-License-Identifier: Apache-2.0
#include "agent/supervise/exit_record.h"

#include "base/file.h"
#include "base/json_decode.h"
#include "base/json_write.h"
#include "base/text.h"
#include "base/time.h"

#include <stdio.h>

enum { RECORD_BYTES_MAX = 16 * 1024, SIGNAL_MAX = 64 };

static const char path[] = "exit.json";
static const char *const status_names[] = {"exited", "signaled", "failed"};

int exit_record_write(int dirfd, const struct exit_record *r, struct error *err)
{
	cleanup_json_writer struct json_writer *w = json_writer_new(true);
	cleanup_buffer struct buffer b = {0};
	char time[TIME_TEXT_SIZE];
	json_write_open_object(w);
	json_write_member(w, "status", status_names[r->status]);
	if (r->status == EXIT_EXITED)
		json_write_member_int(w, "exit_code", r->exit_code);
	if (r->status == EXIT_SIGNALED)
		json_write_member_int(w, "signal", r->signal);
	json_write_member(w, "ended", format_time(r->ended_ms, time));
	json_write_member_bool(w, "oom_killed", r->oom_killed);
	json_write_member_bool(w, "timed_out", r->timed_out);
	json_write_member_bool(w, "stopped", r->stopped);
	json_write_member_int(w, "log_bytes", (int64_t)r->log_bytes);
	json_write_member_int(w, "log_dropped", (int64_t)r->log_dropped);
	json_write_member(w, "reason", *r->reason ? r->reason : NULL);
	json_write_close_object(w);
	if (json_writer_finish(w, &b, err) < 0)
		return error_context(err, "%s", path);
	return file_write_atomic(dirfd, path, b.data, b.size, 0644, err);
}

static int decode_status(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	for (size_t i = 0; value->type == JSON_STRING && i < array_size(status_names); i++) {
		if (streq(value->string, status_names[i])) {
			*(enum exit_status *)target = (enum exit_status)i;
			return 0;
		}
	}
	return json_decode_fail(d, value, err, ERROR_INVALID, "must be exited, signaled or failed");
}

static int decode_range(struct json_decoder *d, const struct json *value, int64_t least,
	int64_t most, int *target, struct error *err)
{
	if (value->type != JSON_INTEGER || value->integer < least || value->integer > most)
		return json_decode_fail(d, value, err, ERROR_INVALID, "must be from %lld to %lld",
			(long long)least, (long long)most);
	*target = (int)value->integer;
	return 0;
}

static int decode_code(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	return decode_range(d, value, 0, 255, target, err);
}

static int decode_signal(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	return decode_range(d, value, 1, SIGNAL_MAX, target, err);
}

static int decode_time(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	int64_t us;
	if (value->type != JSON_STRING || !parse_time(value->string, &us))
		return json_decode_fail(d, value, err, ERROR_INVALID, "must be a time");
	*(int64_t *)target = us / 1000;
	return 0;
}

static int decode_reason(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	char *reason = target;
	if (value->type != JSON_STRING ||
		value->length >= sizeof(((struct exit_record *)0)->reason))
		return json_decode_fail(d, value, err, ERROR_INVALID, "must be a line");
	memcpy(reason, value->string, value->length + 1);
	return 0;
}

static int decode_record(
	const struct json *tree, struct arena *a, struct exit_record *r, struct error *err)
{
#define AT(member) offsetof(struct exit_record, member)
	static const struct json_field fields[] = {
		{"status", decode_status, AT(status), JSON_REQUIRED},
		{"exit_code", decode_code, AT(exit_code), 0},
		{"signal", decode_signal, AT(signal), 0},
		{"ended", decode_time, AT(ended_ms), JSON_REQUIRED},
		{"oom_killed", json_decode_bool, AT(oom_killed), JSON_REQUIRED},
		{"timed_out", json_decode_bool, AT(timed_out), JSON_REQUIRED},
		{"stopped", json_decode_bool, AT(stopped), JSON_REQUIRED},
		{"log_bytes", json_decode_uint64, AT(log_bytes), JSON_REQUIRED},
		{"log_dropped", json_decode_uint64, AT(log_dropped), JSON_REQUIRED},
		{"reason", decode_reason, AT(reason), JSON_NULLABLE},
		{0},
	};
#undef AT
	struct json_decoder d = {.arena = a, .document = path};
	// Not strict: a newer supervisor may have written more.
	return json_decode_object(&d, tree, fields, false, r, err);
}

int exit_record_read(int dirfd, struct exit_record *record, struct error *err)
{
	cleanup_arena struct arena a = {0};
	cleanup_buffer struct buffer b = {0};
	struct exit_record r = {.exit_code = -1};
	if (file_read(dirfd, path, RECORD_BYTES_MAX, &b, err) < 0)
		return -1;
	const struct json *tree = json_parse(&a, b.data ? b.data : "", b.size, path, NULL, err);
	if (!tree || decode_record(tree, &a, &r, err) < 0)
		return -1;
	if ((r.status == EXIT_EXITED) != (r.exit_code >= 0) ||
		(r.status == EXIT_SIGNALED) != (r.signal > 0))
		return error_set(err, ERROR_INVALID, "%s: a job that %s has %s", path,
			r.status == EXIT_EXITED	    ? "exited"
			: r.status == EXIT_SIGNALED ? "was killed by a signal"
						    : "failed to run",
			r.status == EXIT_EXITED	    ? "an exit_code and no signal"
			: r.status == EXIT_SIGNALED ? "a signal and no exit_code"
						    : "neither exit_code nor signal");
	*record = r;
	return 0;
}
