// SPDX-License-Identifier: Apache-2.0
//
// What records.c, records_answer.c and records_build.c share: the folders and files of
// <state>/environments.
#pragma once

#include "agent/environment/records.h"
#include "base/json_write.h"

// A folder below environments/ ("" is itself), made where missing. The descriptor.
int records_folder(struct store *s, const char *name, struct error *err);
// Is it a key: 64 hexadecimal digits in lower case? Nothing else becomes the name of a file.
bool records_is_key(const char *text);
// ERROR_INVALID unless it is.
int records_check_key(const char *text, struct error *err);

// `<folder>/<key>.json`, whole and by rename.
int records_put(struct store *s, const char *folder, const char *key, const void *data, size_t size,
	struct error *err);
// Its bytes, appended. 1, 0 (there is none), -1.
int records_get(struct store *s, const char *folder, const char *key, size_t limit,
	struct buffer *b, struct error *err);
