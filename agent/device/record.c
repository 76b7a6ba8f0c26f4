// SPDX-License-Identifier: Apache-2.0
//
// What a lock's file and a record of a set-aside device say, as JSON.
#include "agent/device/internal.h"
#include "base/json.h"
#include "base/json_write.h"

#include <string.h>

enum { KNOWN_MAX = 1024 };

void device_record_write(const struct device_record *r, bool pretty, struct buffer *out)
{
	cleanup_json_writer struct json_writer *w = json_writer_new(pretty);
	struct error ignored;
	json_write_open_object(w);
	json_write_member(w, "device", r->device);
	json_write_member(w, "run", r->run);
	json_write_member(w, "since", r->since);
	json_write_member(w, "reason", r->reason);
	json_write_member_strings(w, "nodes", &r->nodes);
	json_write_member_strings(w, "shared", &r->shared);
	json_write_key(w, "known");
	json_write_open_array(w);
	for (size_t i = 0; i < r->known_count; i++) {
		json_write_open_array(w);
		json_write_int(w, r->known[i].pid);
		json_write_int(w, (int64_t)r->known[i].start);
		json_write_close_array(w);
	}
	json_write_close_array(w);
	json_write_close_object(w);
	// All strings are names of devices and paths from documents in UTF-8, or texts of errors.
	if (json_writer_finish(w, out, &ignored) == 0 && !pretty)
		buffer_putc(out, '\n');
}

static struct json_strings read_strings(struct arena *a, const struct json *object, const char *key)
{
	const struct json *array = json_get(object, key);
	struct json_strings s = {0};
	if (!array || array->type != JSON_ARRAY)
		return s;
	s.items = arena_array(a, const char *, array->count + 1);
	json_array_each (item, array)
		if (item->value.type == JSON_STRING)
			s.items[s.count++] = item->value.string;
	return s;
}

static void read_known(struct arena *a, const struct json *known, struct device_record *r)
{
	if (!known || known->type != JSON_ARRAY || known->count > KNOWN_MAX)
		return;
	r->known = arena_array(a, struct opener, known->count);
	json_array_each (item, known) {
		const struct json *pair = &item->value;
		if (pair->type != JSON_ARRAY || pair->count != 2 ||
			pair->members[0].value.type != JSON_INTEGER ||
			pair->members[1].value.type != JSON_INTEGER)
			continue;
		r->known[r->known_count++] =
			(struct opener){.pid = (pid_t)pair->members[0].value.integer,
				.start = (uint64_t)pair->members[1].value.integer};
	}
}

bool device_record_read(
	struct arena *a, const char *data, size_t size, struct device_record *record)
{
	struct error ignored;
	const struct json *tree = json_parse(a, data, size, "record", NULL, &ignored);
	if (!tree || !json_get_string(tree, "device"))
		return false;
	*record = (struct device_record){
		.device = json_get_string(tree, "device"),
		.run = json_get_string(tree, "run"),
		.since = json_get_string(tree, "since"),
		.reason = json_get_string(tree, "reason"),
		.nodes = read_strings(a, tree, "nodes"),
		.shared = read_strings(a, tree, "shared"),
	};
	read_known(a, json_get(tree, "known"), record);
	return true;
}
