// SPDX-License-Identifier: Apache-2.0
//
// Builds the tree of base/json.h from a stream of events: what json.c and yaml.c share. Limits,
// duplicate keys and the values of numbers are checked here, so both kinds of document obey the
// same rules. Values wait on one growable stack until their container closes and are then copied
// into the arena once, so the work is linear in the document.
#pragma once

#include "base/json.h"

struct json_place {
	uint32_t line, column;
};

struct json_tree_container;

struct json_tree {
	struct arena *arena;
	const char *name; // of the document
	const struct json_limits *limits;
	struct error *err;
	struct json_member *values; // finished values whose container is still open
	size_t count, capacity;
	struct json_tree_container *open;
	size_t depth, open_capacity;
	size_t nodes;
	const char *key; // waits for its value
	struct json_place key_place;
};

void json_tree_init(struct json_tree *t, struct arena *a, const char *name,
	const struct json_limits *limits, struct error *err);
void json_tree_release(struct json_tree *t);

// All fail with -1 and the error set: ERROR_LIMIT over a limit, ERROR_INVALID for what the document
// may not say. The parser vouches for the order: a key before each member of an object, one root.
int json_tree_open(struct json_tree *t, enum json_type type, struct json_place at);
int json_tree_close(struct json_tree *t);
int json_tree_key(struct json_tree *t, const char *key, size_t length, struct json_place at);
int json_tree_null(struct json_tree *t, struct json_place at);
int json_tree_boolean(struct json_tree *t, bool value, struct json_place at);
int json_tree_string(struct json_tree *t, const char *s, size_t length, struct json_place at);
// A number as JSON writes it: with a fraction or an exponent JSON_NUMBER, else JSON_INTEGER.
int json_tree_number(struct json_tree *t, const char *text, size_t length, struct json_place at);

// Is a key what comes next?
bool json_tree_wants_key(const struct json_tree *t);
// The root, once it is complete.
struct json *json_tree_root(struct json_tree *t);

// "name:line:column: text"; returns -1.
int json_tree_fail(struct json_tree *t, enum error_kind kind, struct json_place at,
	const char *format, ...) __attribute__((format(printf, 4, 5)));

// The place of a byte: lines and characters from 1.
struct json_place json_place_of(const char *data, size_t offset);
