// SPDX-License-Identifier: Apache-2.0
//
// What an administrator calls a node by: names with values, such as zone: north.
#pragma once

#include "base/json_decode.h"

enum { LABELS_MAX = 64, LABEL_NAME_MAX = 63, LABEL_VALUE_MAX = 255 };

// The name: letters, digits, '-', '_', '.' and '/', a letter or digit first; the value: UTF-8
// without control characters. ERROR_INVALID.
int label_check(const char *name, const char *value, struct error *err);
json_decode_fn labels_decode; // struct json_pairs
// "name=value" of the command line; what is filled in lives in the arena.
int labels_parse(const char *const *texts, size_t count, struct arena *a, struct json_pairs *labels,
	struct error *err);
// All of both; of a name that both have, the second's.
struct json_pairs labels_merge(
	struct arena *a, const struct json_pairs *first, const struct json_pairs *second);
