// SPDX-License-Identifier: Apache-2.0
//
// <run>/upload.json: what people and the other commands see of the synchroniser.
#include "agent/data/outputs_sync.h"
#include "base/file.h"
#include "base/json_decode.h"
#include "base/json_write.h"
#include "base/text.h"
#include "base/time.h"

#include <stdio.h>
#include <sys/file.h>

static const char name[] = "upload.json";
enum { BYTES_MAX = 4 * 1024 * 1024 }; // a hundred long names

static const char *const states[] = {
	[OUTPUTS_NONE] = "None",
	[OUTPUTS_RUNNING] = "Running",
	[OUTPUTS_DONE] = "Done",
	[OUTPUTS_INCOMPLETE] = "Incomplete",
	[OUTPUTS_FAILED] = "Failed",
};

const char *outputs_state_name(enum outputs_state s)
{
	return states[s];
}

struct document {
	struct outputs_status status;
	const char *message;
};

static void write_skips(struct json_writer *w, const struct outputs_sync *s)
{
	json_write_member_unsigned(w, "skipped_count", s->skip_count);
	json_write_key(w, "skipped");
	json_write_open_array(w);
	for (uint64_t i = 0; i < s->skip_count && i < OUTPUTS_SKIPS_MAX; i++) {
		cleanup_buffer struct buffer path = {0};
		bool escaped = outputs_escape(s->skips[i].path, &path);
		json_write_open_object(w);
		json_write_member(w, "path", path.data);
		if (escaped)
			json_write_member_bool(w, "escaped", true);
		json_write_member(w, "reason", s->skips[i].reason);
		json_write_close_object(w);
	}
	json_write_close_array(w);
}

int outputs_status_write(const struct outputs_sync *s, struct error *err)
{
	cleanup_json_writer struct json_writer *w = json_writer_new(true);
	cleanup_buffer struct buffer b = {0};
	char time[TIME_TEXT_SIZE];
	const struct outputs_status *n = &s->status;
	json_write_open_object(w);
	json_write_member(w, "state", outputs_state_name(n->state));
	json_write_member(w, "destination", s->destination);
	json_write_member_unsigned(w, "files", n->files);
	json_write_member_unsigned(w, "bytes", n->bytes);
	json_write_member_unsigned(w, "files_left", n->files_left);
	json_write_member_unsigned(w, "bytes_left", n->bytes_left);
	json_write_member_unsigned(w, "sent", n->sent);
	json_write_member(w, "message", n->message[0] ? n->message : NULL);
	json_write_member(w, "updated", format_time(wall_ms(), time));
	write_skips(w, s);
	json_write_close_object(w);
	if (json_writer_finish(w, &b, err) < 0)
		return -1;
	return file_write_atomic(s->run_fd, name, b.data, b.size, 0644, err);
}

static int decode_state(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	const char *text = NULL;
	if (json_decode_string(d, value, &text, err) < 0)
		return -1;
	for (size_t i = 0; i < array_size(states); i++)
		if (streq(text, states[i])) {
			*(enum outputs_state *)target = (enum outputs_state)i;
			return 0;
		}
	return json_decode_fail(d, value, err, ERROR_INVALID, "unknown state \"%s\"", text);
}

// Nobody holds the lock that the synchroniser has as long as it lives.
static bool is_abandoned(int run_fd)
{
	struct error ignored;
	cleanup_fd int fd = openat(run_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return fd >= 0 && file_lock(fd, LOCK_SH | LOCK_NB, name, &ignored) == 0;
}

int outputs_status_read(int run_fd, struct outputs_status *status, struct error *err)
{
	struct document read = {0};
#define AT(member) offsetof(struct document, status.member)
	static const struct json_field fields[] = {
		{"state", decode_state, AT(state), JSON_REQUIRED},
		{"files", json_decode_uint64, AT(files), JSON_REQUIRED},
		{"bytes", json_decode_uint64, AT(bytes), JSON_REQUIRED},
		{"files_left", json_decode_uint64, AT(files_left), JSON_REQUIRED},
		{"bytes_left", json_decode_uint64, AT(bytes_left), JSON_REQUIRED},
		{"sent", json_decode_uint64, AT(sent), JSON_REQUIRED},
		{"message", json_decode_string, offsetof(struct document, message), JSON_NULLABLE},
		{0},
	};
#undef AT
	cleanup_arena struct arena a = {0};
	cleanup_buffer struct buffer b = {0};
	struct json_decoder d = {.arena = &a, .document = name};
	if (file_read(run_fd, name, BYTES_MAX, &b, err) < 0) {
		if (err->kind != ERROR_NOT_FOUND)
			return -1;
		error_clear(err);
		return 0;
	}
	const struct json *root = json_parse(&a, b.data ? b.data : "", b.size, name, NULL, err);
	if (!root || json_decode_object(&d, root, fields, false, &read, err) < 0)
		return -1;
	snprintf(read.status.message, sizeof(read.status.message), "%s",
		read.message ? read.message : "");
	*status = read.status;
	if (status->state == OUTPUTS_RUNNING && is_abandoned(run_fd)) {
		status->state = OUTPUTS_FAILED;
		if (!status->message[0])
			snprintf(status->message, sizeof(status->message),
				"the synchroniser ended before the run did");
	}
	return 1;
}
