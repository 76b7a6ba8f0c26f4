// SPDX-License-Identifier: Apache-2.0
//
// Secrets are taken out of what a job prints before it reaches the disk, however the output is cut
// into chunks. Every byte that belongs to an occurrence of a secret goes; occurrences that overlap
// are one, and each is replaced by "***". So where secrets overlap ("abcd", "cdef" in "abcdef")
// nothing is left of either.
//
// Of each secret these forms are looked for: as it is (without line breaks at its end, as files
// have them), with CR LF for its line breaks, percent-encoded (with and without '/', with %20 and
// '+', in either case of the hexadecimal digits), as the inside of a JSON string, and, from
// REDACT_BASE64_MIN bytes on, those base64 digits that depend on it alone, at each of the three
// places where it may stand in a group, in both alphabets (of secrets over 256 bytes, key files:
// upper-case digits and the usual alphabet only). Not found: a secret that the job cuts up,
// encrypts, or prints as base64 broken into lines. This protects against accidents, not against a
// job that wants its secret known.
//
// Bytes wait only as long as they are the beginning of a secret; whatever time passes, they are
// not let go before more bytes decide or the stream ends.
#pragma once

#include "base/buffer.h"
#include "base/error.h"

#include <stddef.h>

enum {
	REDACT_SECRET_MIN = 4,		  // bytes; shorter ones would be found everywhere
	REDACT_BASE64_MIN = 8,		  // shorter ones have too few digits of their own
	REDACT_SECRETS_BYTES = 32 * 1024, // of all together; a KiB takes some 300 KiB of memory
};

struct redact_secret {
	const char *name; // for error texts
	const void *data;
	size_t size;
};

// Learn the secrets; copies them. None is fine. ERROR_INVALID for one that is too short, and
// ERROR_LIMIT when they are too many; neither text holds a secret.
struct redact *redact_new(const struct redact_secret *secrets, size_t count, struct error *err);
void redact_free(struct redact *r); // overwrites its memory

// Append to `out` what may be shown, now that these bytes came.
void redact_feed(struct redact *r, const void *data, size_t size, struct buffer *out);
// The stream is at its end: what was held back is no secret. Ready for another stream afterwards.
void redact_finish(struct redact *r, struct buffer *out);
// How many bytes are held back.
size_t redact_held(const struct redact *r);

DEFINE_CLEANUP(redact_free, struct redact *, redact_free)
#define cleanup_redact __attribute__((cleanup(redact_freep)))
