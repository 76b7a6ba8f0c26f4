// SPDX-License-Identifier: Apache-2.0
#include "base/utf8.h"

#include <stdint.h>
#include <string.h>

// The length of the character at s, 0 if it is none (RFC 3629, section 4).
static size_t character_length(const unsigned char *s, size_t size)
{
	unsigned char c = s[0], low = 0x80, high = 0xbf;
	size_t length;
	if (c < 0x80)
		return 1;
	if (c >= 0xc2 && c <= 0xdf)
		length = 2;
	else if (c >= 0xe0 && c <= 0xef)
		length = 3;
	else if (c >= 0xf0 && c <= 0xf4)
		length = 4;
	else
		return 0;
	if (length > size)
		return 0;
	// The second byte excludes overlong forms, surrogates and what lies above U+10FFFF.
	if (c == 0xe0)
		low = 0xa0;
	else if (c == 0xed)
		high = 0x9f;
	else if (c == 0xf0)
		low = 0x90;
	else if (c == 0xf4)
		high = 0x8f;
	if (s[1] < low || s[1] > high)
		return 0;
	for (size_t i = 2; i < length; i++)
		if (s[i] < 0x80 || s[i] > 0xbf)
			return 0;
	return length;
}

size_t utf8_valid(const char *data, size_t size)
{
	const unsigned char *s = (const unsigned char *)data;
	size_t i = 0;
	while (i < size) {
		uint64_t eight;
		// Most documents are ASCII: take it eight bytes at a time.
		if (size - i >= sizeof(eight)) {
			memcpy(&eight, s + i, sizeof(eight));
			if (!(eight & 0x8080808080808080u)) {
				i += sizeof(eight);
				continue;
			}
		}
		size_t length = character_length(s + i, size - i);
		if (!length)
			return i;
		i += length;
	}
	return size;
}
