// SPDX-License-Identifier: Apache-2.0
#include "agent/link/report.h"

#include "agent/link/link.h"
#include "base/text.h"
#include "base/time.h"

static void begin(struct json_writer *w, const struct report_name *n, const char *state)
{
	json_write_open_object(w);
	json_write_member(w, "run", n->run);
	json_write_member_int(w, "attempt", n->attempt);
	json_write_member_int(w, "sequence", n->sequence);
	json_write_member(w, "state", state);
	if (n->canceling)
		json_write_member_bool(w, "canceling", true);
}

void report_write_bare(
	struct json_writer *w, const struct report_name *n, const struct report_end *end)
{
	begin(w, n, end ? "ended" : "accepted");
	if (end) {
		json_write_member(w, "result", run_state_name(end->state));
		json_write_key(w, "cause");
		json_write_open_object(w);
		json_write_member(w, "class", cause_class_name(end->class));
		json_write_member(w, "code", end->code);
		json_write_member(w, "message", end->message);
		json_write_close_object(w);
	}
	json_write_close_object(w);
}

bool report_is_end(const struct json *record)
{
	const char *state = json_get_string(record, "state");
	return state && run_state_is_end(state) && !json_get_bool(record, "retried", false);
}

static const char *state_of(const struct json *record, bool ending)
{
	const char *state = json_get_string(record, "state");
	if (!state)
		return "accepted";
	if (report_is_end(record))
		return ending ? "ended" : "finalizing";
	if (streq(state, run_state_name(RUN_FINALIZING)))
		return "finalizing";
	if (streq(state, run_state_name(RUN_RUNNING)) ||
		streq(state, run_state_name(RUN_CANCEL_REQUESTED)))
		return "running";
	return "preparing";
}

static void copy(struct json_writer *w, const char *key, const struct json *value)
{
	if (!value || value->type == JSON_NULL)
		return;
	json_write_key(w, key);
	json_write_tree(w, value);
}

// Of a phase that goes on.
static void write_progress(struct json_writer *w, const struct json *phase)
{
	int64_t done = json_get_integer(phase, "bytes", 0);
	if (!done)
		return;
	json_write_key(w, "progress");
	json_write_open_object(w);
	json_write_member_int(w, "done", done);
	copy(w, "total", json_get(phase, "total"));
	copy(w, "rate", json_get(phase, "rate"));
	json_write_member(w, "unit", "bytes");
	json_write_close_object(w);
}

static void write_phase(struct json_writer *w, const struct json *record)
{
	const struct json *phases = json_get(record, "phases");
	if (!phases || phases->type != JSON_ARRAY || !phases->count)
		return;
	const struct json *last = &phases->members[phases->count - 1].value;
	if (json_get(last, "duration_ms") || report_is_end(record)) {
		copy(w, "phase", json_get(last, "name"));
		return;
	}
	// What an environment's phase is about, while it goes on: "environment: installing".
	const char *name = json_get_string(last, "name"), *detail = json_get_string(last, "detail");
	cleanup_free char *phase = detail ? xasprintf("%s: %s", name ? name : "", detail) : NULL;
	if (phase)
		json_write_member(w, "phase", phase);
	else
		copy(w, "phase", json_get(last, "name"));
	write_progress(w, last);
}

static void write_upload(struct json_writer *w, const struct upload_status *u)
{
	json_write_key(w, "upload");
	json_write_open_object(w);
	json_write_member(w, "state", u->failed ? "Incomplete" : "Done");
	json_write_member_unsigned(w, "files", u->files);
	json_write_member_unsigned(w, "bytes", u->bytes);
	if (u->failed)
		json_write_member(w, "message", u->message);
	json_write_close_object(w);
}

void report_write(struct json_writer *w, const struct report_name *n, const struct json *record,
	const struct upload_status *uploaded)
{
	bool ending = uploaded != NULL;
	const char *started = json_get_string(record, "started");
	const struct json *local = json_get(record, "attempt");
	int64_t us;
	begin(w, n, state_of(record, ending));
	write_phase(w, record);
	if (started && parse_time(started, &us))
		json_write_member_int(w, "started", us / 1000);
	copy(w, "environment", json_get(json_get(record, "environment"), "key"));
	if (local && local->type == JSON_INTEGER && local->integer > 1)
		json_write_member_int(w, "retries", local->integer - 1);
	if (ending && report_is_end(record)) {
		copy(w, "result", json_get(record, "state"));
		copy(w, "cause", json_get(record, "cause"));
		copy(w, "exit_status", json_get(record, "exit_status"));
		write_upload(w, uploaded);
	}
	json_write_close_object(w);
}
