// SPDX-License-Identifier: Apache-2.0
//
// Redaction in chunks against redaction of the whole. The input: secrets, each with its length
// before it, a zero, the size of the chunks, and the text.
#include "tests/unit/redact_reference.h"

#include <stdint.h>

enum { SECRETS = 8 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void compare(const struct redact_secret *secrets, size_t count, size_t chunk,
	const char *text, size_t size)
{
	struct error err = {0};
	cleanup_redact struct redact *r = redact_new(secrets, count, &err);
	cleanup_buffer struct buffer out = {0}, expected = {0};
	if (!r)
		abort();
	for (size_t at = 0; at < size; at += chunk)
		redact_feed(r, text + at, size - at < chunk ? size - at : chunk, &out);
	redact_finish(r, &out);
	redact_reference(secrets, count, text, size, &expected);
	if (out.size != expected.size || (out.size && memcmp(out.data, expected.data, out.size)))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct redact_secret secrets[SECRETS];
	size_t count = 0, at = 0;
	while (at < size && data[at] && count < SECRETS) {
		size_t length = data[at++] % 32;
		// A line break at the end is no part of a secret; that is not what is tested here.
		if (length < REDACT_SECRET_MIN || length > size - at ||
			strchr("\r\n", data[at + length - 1]))
			return 0;
		secrets[count++] = (struct redact_secret){"S", data + at, length};
		at += length;
	}
	at++;
	if (at >= size)
		return 0;
	size_t chunk = 1 + data[at++];
	compare(secrets, count, chunk, (const char *)data + at, size - at);
	return 0;
}
