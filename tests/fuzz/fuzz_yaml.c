// SPDX-License-Identifier: Apache-2.0
//
// Any bytes as YAML: what is accepted can be written as JSON, which is YAML again and says the
// same; and whatever is JSON is YAML.
#include "base/json_write.h"
#include "base/yaml.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void write_tree(const struct json *tree, struct buffer *out)
{
	cleanup_json_writer struct json_writer *w = json_writer_new(false);
	struct error err = {0};
	json_write_tree(w, tree);
	if (json_writer_finish(w, out, &err) < 0)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct json_limits limits = {.bytes = 1 << 16, .depth = 16, .nodes = 2000};
	cleanup_arena struct arena a = {0};
	cleanup_buffer struct buffer first = {0}, second = {0};
	struct error err = {0}, json_err = {0};
	const struct json *tree = yaml_parse(&a, (const char *)data, size, "fuzz", &limits, &err);
	if (!tree) {
		if (!err.kind || !*err.text)
			abort();
		const struct json *json =
			json_parse(&a, (const char *)data, size, "fuzz", &limits, &json_err);
		if (json)
			abort();
		return 0;
	}
	write_tree(tree, &first);
	tree = yaml_parse(&a, first.data, first.size, "again", NULL, &err);
	if (!tree)
		abort();
	write_tree(tree, &second);
	if (first.size != second.size || memcmp(first.data, second.data, first.size) != 0)
		abort();
	return 0;
}
