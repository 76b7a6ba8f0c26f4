// SPDX-License-Identifier: Apache-2.0
//
// Strings and numbers. The only place that turns text into a number.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

static inline bool streq(const char *a, const char *b)
{
	return strcmp(a, b) == 0;
}

bool starts_with(const char *s, const char *prefix);
bool ends_with(const char *s, const char *suffix);

// Decimal digits only: no sign, no space, nothing behind. Returns false on anything else or
// overflow.
bool parse_u64(const char *s, uint64_t *value);
bool parse_u64_n(const char *s, size_t n, uint64_t *value);
// An optional '-' before the digits.
bool parse_i64(const char *s, int64_t *value);

// Sizes as people write them: "512", "64k", "2g", "1GiB"; no fractions: digits and one of
// b k m g t (either case, optionally followed by "b" or "ib"), powers of 1024 (Docker's
// --shm-size).
bool parse_size(const char *s, uint64_t *bytes);

// Make a text from anywhere fit for one line of a log, a terminal or a JSON string: each byte of a
// control character (C0, DEL, C1) and each byte that is not UTF-8 becomes '?'.
void text_flatten(char *s);

enum { FORMAT_SIZE_MAX = 16 };
// "0 B", "999 B", "12.3 MB", "1.06 GB": powers of 1000, as disks and registries count.
const char *format_size(uint64_t bytes, char text[FORMAT_SIZE_MAX]);
