// SPDX-License-Identifier: Apache-2.0
#include "oci/registry/base64.h"

#include <stdint.h>
#include <string.h>

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

void base64_encode(const void *data, size_t size, struct buffer *out)
{
	const uint8_t *p = data;
	for (size_t i = 0; i < size; i += 3) {
		size_t n = size - i < 3 ? size - i : 3;
		uint32_t group = (uint32_t)p[i] << 16;
		if (n > 1)
			group |= (uint32_t)p[i + 1] << 8;
		if (n > 2)
			group |= p[i + 2];
		char text[4] = {'=', '=', '=', '='};
		for (size_t k = 0; k <= n; k++)
			text[k] = alphabet[group >> (18 - 6 * k) & 63];
		buffer_append(out, text, sizeof(text));
	}
}

bool base64_decode(const char *text, struct buffer *out)
{
	uint32_t bits = 0;
	unsigned held = 0; // bits not yet written
	size_t digits = 0, padding = 0;
	for (; *text; text++) {
		if (strchr(" \t\r\n", *text))
			continue;
		if (*text == '=') {
			padding++;
			continue;
		}
		const char *found = strchr(alphabet, *text);
		if (!found || padding)
			return false;
		bits = bits << 6 | (uint32_t)(found - alphabet);
		held += 6;
		digits++;
		if (held >= 8) {
			held -= 8;
			buffer_putc(out, (char)(bits >> held & 0xff));
		}
	}
	return padding <= 2 && digits % 4 != 1 && (bits & ((1u << held) - 1)) == 0;
}
