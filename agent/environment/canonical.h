// SPDX-License-Identifier: Apache-2.0
//
// Canonical texts: what keys are made of. One meaning has one spelling, byte for byte, on every
// node and with every later version of this program; therefore the JSON here is written by hand and
// not by the library, whose escapes are not ours to keep.
#pragma once

#include "agent/environment/environment.h"
#include "base/arena.h"
#include "base/buffer.h"
#include "base/json_decode.h"

#include <stdbool.h>

// "text" with what RFC 8259 demands escaped and nothing else; NULL is null. `s` is UTF-8.
void canonical_string(struct buffer *b, const char *s);
void canonical_strings(struct buffer *b, const struct json_strings *list);
// ,"key":"text" (without the comma behind '{' or '[').
void canonical_key(struct buffer *b, const char *key);
void canonical_member(struct buffer *b, const char *key, const char *s);

// SHA-256 of the domain ("stoker/env/v1\n") and the document, in hexadecimal.
void canonical_hash(
	const char *domain, const struct buffer *document, char key[ENVIRONMENT_KEY_SIZE]);

// A list in bytewise order, each once. Its pointers are kept, its array is changed in place.
void canonical_sort(struct json_strings *list);

// An address with its scheme and host in lower case, without credentials ("user:password@", the
// token of "/t/<token>/") and without '/' at the end. What is no address is copied.
const char *canonical_url(struct arena *a, const char *url);
bool canonical_url_has_credentials(const char *url);
bool canonical_url_is_http(const char *url); // "http://" or "https://" and a host
