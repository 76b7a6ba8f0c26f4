// SPDX-License-Identifier: Apache-2.0
//
// YAML 1.1 by libyaml into the tree of base/json.h, with positions. Scalars follow the JSON schema
// of YAML 1.2 as people expect it: null, ~, true, false, decimal integers and floats; `yes`, `no`,
// `on` and 012 stay strings; quoted scalars are always strings.
#pragma once

#include "base/json.h"

// One document. Refused: more than one document, duplicate keys, keys that are not scalars, anchors
// and aliases (they are how small files become big trees), tags other than the core ones, invalid
// UTF-8, NUL. An empty document is JSON_NULL. Merge keys (<<) and %TAG are refused, a byte order
// mark is skipped. Errors read "name:line:column: …". JSON is YAML, so .json files may come here
// too: a document that is valid JSON is read by json_parse().
struct json *yaml_parse(struct arena *a, const char *data, size_t size, const char *name,
	const struct json_limits *limits, struct error *err);
