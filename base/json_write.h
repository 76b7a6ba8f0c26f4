// SPDX-License-Identifier: Apache-2.0
//
// JSON writer on yajl_gen. It remembers its first failure (a string that is not UTF-8), so callers
// check once, at the end.
#pragma once

#include "base/buffer.h"
#include "base/error.h"
#include "base/json.h"

#include <stdbool.h>
#include <stdint.h>

struct json_writer;

// pretty: two-space indentation, else compact.
struct json_writer *json_writer_new(bool pretty);
void json_writer_free(struct json_writer *w);

void json_write_open_object(struct json_writer *w);
void json_write_close_object(struct json_writer *w);
void json_write_open_array(struct json_writer *w);
void json_write_close_array(struct json_writer *w);
void json_write_key(struct json_writer *w, const char *key);
void json_write_string(struct json_writer *w, const char *s); // NULL writes null
void json_write_int(struct json_writer *w, int64_t v);
void json_write_unsigned(struct json_writer *w, uint64_t v);
void json_write_bool(struct json_writer *w, bool v);
void json_write_double(struct json_writer *w, double v);
void json_write_null(struct json_writer *w);
void json_write_tree(struct json_writer *w, const struct json *tree);

// key and value at once.
void json_write_member(struct json_writer *w, const char *key, const char *s);
void json_write_member_int(struct json_writer *w, const char *key, int64_t v);
void json_write_member_unsigned(struct json_writer *w, const char *key, uint64_t v);
void json_write_member_bool(struct json_writer *w, const char *key, bool v);
struct json_strings; // base/json_decode.h
struct json_pairs;
void json_write_member_strings(
	struct json_writer *w, const char *key, const struct json_strings *list);
void json_write_member_pairs(
	struct json_writer *w, const char *key, const struct json_pairs *pairs);

// The text (pretty: ended by a line break), appended to `out`. Fails with ERROR_INVALID if any call
// failed or something is left open.
int json_writer_finish(struct json_writer *w, struct buffer *out, struct error *err);

DEFINE_CLEANUP(json_writer_free, struct json_writer *, json_writer_free)
#define cleanup_json_writer __attribute__((cleanup(json_writer_freep)))
