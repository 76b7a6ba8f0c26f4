// SPDX-License-Identifier: Apache-2.0
//
// Any bytes as JSON: what is accepted is written, read and written again, and must come out the
// same.
#include "base/json.h"
#include "base/json_decode.h"
#include "base/json_write.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void write_tree(const struct json *tree, bool pretty, struct buffer *out)
{
	cleanup_json_writer struct json_writer *w = json_writer_new(pretty);
	struct error err = {0};
	json_write_tree(w, tree);
	if (json_writer_finish(w, out, &err) < 0)
		abort();
}

static void decode(struct arena *a, const struct json *tree)
{
	struct target {
		const char *name;
		struct json_strings list;
		struct json_pairs pairs;
	} target = {0};
	static const struct json_field fields[] = {
		{"name", json_decode_string, offsetof(struct target, name), JSON_NULLABLE},
		{"list", json_decode_strings, offsetof(struct target, list), JSON_REQUIRED},
		{"pairs", json_decode_pairs, offsetof(struct target, pairs), 0},
		{0},
	};
	struct json_decoder d = {.arena = a, .document = "fuzz", .positions = true};
	struct error err = {0};
	if (json_decode_object(&d, tree, fields, true, &target, &err) < 0 && !err.kind)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct json_limits limits = {.bytes = 1 << 16, .depth = 16, .nodes = 2000};
	cleanup_arena struct arena a = {0};
	cleanup_buffer struct buffer first = {0}, second = {0};
	struct error err = {0};
	const struct json *tree = json_parse(&a, (const char *)data, size, "fuzz", &limits, &err);
	if (!tree) {
		if (!err.kind || !*err.text)
			abort();
		return 0;
	}
	decode(&a, tree);
	write_tree(tree, false, &first);
	tree = json_parse(&a, first.data, first.size, "again", NULL, &err);
	if (!tree)
		abort();
	write_tree(tree, false, &second);
	if (first.size != second.size || memcmp(first.data, second.data, first.size) != 0)
		abort();
	buffer_clear(&second);
	write_tree(tree, true, &second);
	if (!json_parse(&a, second.data, second.size, "pretty", NULL, &err))
		abort();
	return 0;
}
