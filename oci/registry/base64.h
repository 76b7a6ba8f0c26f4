// SPDX-License-Identifier: Apache-2.0
//
// Base64 (RFC 4648, section 4) for credentials: the docker configuration keeps them so, and Basic
// authentication sends them so.
#pragma once

#include "base/buffer.h"

#include <stdbool.h>
#include <stddef.h>

// Append the text, padded.
void base64_encode(const void *data, size_t size, struct buffer *out);
// Append the bytes. Line breaks and spaces are skipped, padding may be missing. False on anything
// that is no base64; `out` then holds a part.
bool base64_decode(const char *text, struct buffer *out);
