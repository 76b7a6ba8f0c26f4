// SPDX-License-Identifier: Apache-2.0
//
// Tables turn a tree into plain structs: `{name, decoder, offset, flags}` per member. Error texts
// name the place and the rule: "layers[2].size: must be a non-negative integer" (with
// "job.yaml:3:7: " before it where the document has positions).
#pragma once

#include "base/json.h"

enum json_field_flags {
	JSON_REQUIRED = 1 << 0,
	JSON_NULLABLE = 1 << 1, // null is the same as absent
};

struct json_decoder {
	struct arena
		*arena; // where decoded strings and arrays live (strings may point into the tree)
	const char *document; // name for error texts
	bool positions;	      // put line:column into error texts (documents that people write)
	void *context;	      // for decoders of the module
	size_t path_length;   // internal: the place of the value being decoded
	char path[256];
};

// Decodes `value` into `target` (which the table's offset points at).
typedef int json_decode_fn(
	struct json_decoder *d, const struct json *value, void *target, struct error *err);

struct json_field {
	const char *name;
	json_decode_fn *decode;
	size_t offset;
	unsigned flags;
};

// Decode an object by its table (ended by a field whose name is NULL). Unknown members are refused
// when `strict` (with the nearest known name as a remedy: `unknown key "entry_scrpt", did you mean
// "entry_script"?`), else ignored.
int json_decode_object(struct json_decoder *d, const struct json *value,
	const struct json_field *fields, bool strict, void *target, struct error *err);

// Call `decode` for each element; *items becomes an arena array of `count` structs of item_size
// bytes. At most `limit` elements, else ERROR_LIMIT.
int json_decode_array(struct json_decoder *d, const struct json *value, json_decode_fn *decode,
	size_t item_size, size_t limit, void **items, size_t *count, struct error *err);

// Fail at the current place: "job.yaml:3:7: inputs[0].mode: " + text. Returns -1.
int json_decode_fail(struct json_decoder *d, const struct json *value, struct error *err,
	enum error_kind kind, const char *format, ...) __attribute__((format(printf, 5, 6)));

// Enter and leave a place by hand, for decoders of the module's own.
size_t json_decode_enter_key(struct json_decoder *d, const char *key);
size_t json_decode_enter_index(struct json_decoder *d, size_t index);
void json_decode_leave(struct json_decoder *d, size_t entered);

// Decoders. Target types: const char *, int64_t, uint64_t, bool, double, struct json_strings,
// struct json_pairs, const struct json * (the subtree itself).
json_decode_fn json_decode_string, json_decode_int64, json_decode_uint64, json_decode_bool,
	json_decode_double, json_decode_strings, json_decode_pairs, json_decode_any;

struct json_strings {	    // ["a", "b"]
	const char **items; // NULL-terminated
	size_t count;
};
struct json_pair {
	const char *key, *value;
};
struct json_pairs { // {"k": "v"}, in document order
	struct json_pair *items;
	size_t count;
};
