// SPDX-License-Identifier: Apache-2.0
#include "agent/service/service.h"

#include "base/buffer.h"
#include "base/utf8.h"

#include <string.h>

static const char hex[] = "0123456789ABCDEF";

static void put_byte(struct buffer *b, unsigned char c)
{
	buffer_putc(b, '%');
	buffer_putc(b, hex[c >> 4]);
	buffer_putc(b, hex[c & 15]);
}

const char *service_escape(struct arena *a, const char *text, bool path)
{
	static const char plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
				    "0123456789-._~";
	cleanup_buffer struct buffer b = {0};
	for (const char *p = text; *p; p++) {
		if (strchr(plain, *p) || (path && *p == '/'))
			buffer_putc(&b, *p);
		else
			put_byte(&b, (unsigned char)*p);
	}
	return arena_strndup(a, b.data ? b.data : "", b.size);
}

const char *service_name(struct arena *a, const char *bytes)
{
	cleanup_buffer struct buffer b = {0};
	size_t size = strlen(bytes), valid = utf8_valid(bytes, size);
	for (size_t i = 0; i < size; i++) {
		unsigned char c = (unsigned char)bytes[i];
		if (i > valid)
			valid = i + utf8_valid(bytes + i, size - i);
		if (i == valid || c == '%' || c < 0x20 || c == 0x7f)
			put_byte(&b, c);
		else
			buffer_putc(&b, (char)c);
	}
	return arena_strndup(a, b.data ? b.data : "", b.size);
}

static int value_of(char c)
{
	const char *at = c ? strchr(hex, c) : NULL;
	return at ? (int)(at - hex) : -1;
}

const char *service_name_bytes(struct arena *a, const char *name)
{
	char *out = arena_strdup(a, name), *to = out;
	for (const char *p = name; *p; p++) {
		int high = *p == '%' ? value_of(p[1]) : 0;
		int low = *p == '%' && high >= 0 ? value_of(p[2]) : 0;
		if (high < 0 || low < 0 || (*p == '%' && high + low == 0))
			return NULL; // a NUL is no byte of a name either
		*to++ = *p == '%' ? (char)(high * 16 + low) : *p;
		p += *p == '%' ? 2 : 0;
	}
	*to = '\0';
	return out;
}
