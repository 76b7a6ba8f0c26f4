// SPDX-License-Identifier: Apache-2.0
//
// JSON (RFC 8259) as a bounded tree in an arena, by yajl's streaming parser. YAML documents become
// the same tree (base/yaml.h). yajl is included by base/json.c and base/json_write.c only.
#pragma once

#include "base/arena.h"
#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum json_type {
	JSON_NULL,
	JSON_BOOL,
	JSON_INTEGER,
	JSON_NUMBER,
	JSON_STRING,
	JSON_ARRAY,
	JSON_OBJECT,
	JSON_UNSIGNED, // an integer over INT64_MAX, where json_limits allows it
};

struct json {
	enum json_type type;
	uint32_t line, column; // 1-based position of the value in the document; 0 if unknown
	union {
		bool boolean;
		int64_t integer;
		uint64_t unsigned_integer;
		double number;
		struct {
			const char *string; // UTF-8, NUL-terminated, no NUL inside
			size_t length;
		};
		struct {
			struct json_member *members; // array: keys are NULL
			size_t count;
		};
	};
};

struct json_member {
	const char *key;
	uint32_t line, column; // of the key
	struct json value;
};

struct json_limits {
	size_t bytes;		// of the document
	size_t depth;		// of nesting
	size_t nodes;		// values in all
	bool unsigned_integers; // up to 2^64 - 1: JSON_UNSIGNED above int64, else they are refused
};

// What image documents and our own files get: 4 MiB, depth 32, 200,000 values.
extern const struct json_limits json_limits_default;

// Parse one document. The tree lives in the arena. Refused with ERROR_INVALID and "line:column" in
// the text: malformed JSON, comments, trailing bytes, duplicate keys, a NUL inside a string,
// invalid UTF-8, integers outside int64 (but see json_limits). Over a limit: ERROR_LIMIT. `name` is
// for error texts. NULL for the limits means json_limits_default. 1.0 and 1e3 are JSON_NUMBER,
// never JSON_INTEGER.
struct json *json_parse(struct arena *a, const char *data, size_t size, const char *name,
	const struct json_limits *limits, struct error *err);

// The member's value or NULL. `object` may be NULL or of another type.
const struct json *json_get(const struct json *object, const char *key);
// NULL if it is absent or no string.
const char *json_get_string(const struct json *object, const char *key);
// `otherwise` if it is absent or no integer.
int64_t json_get_integer(const struct json *object, const char *key, int64_t otherwise);
// `otherwise` if it is absent or no boolean.
bool json_get_bool(const struct json *object, const char *key, bool otherwise);

#define json_array_each(item, array)                            \
	for (const struct json_member *item = (array)->members; \
		item < (array)->members + (array)->count; item++)
#define json_object_each(member, object) json_array_each (member, object)

const char *json_type_name(enum json_type type); // "null", "boolean", "integer", "number", …
