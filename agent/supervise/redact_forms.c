// SPDX-License-Identifier: Apache-2.0
#include "agent/supervise/redact_forms.h"

#include "agent/supervise/redact.h"

#include <ctype.h>
#include <stdbool.h>
#include <string.h>

enum { FORMS_ALL_MAX = 256 };

static const char base64_digits[] =
	"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

static void form_crlf(const char *secret, size_t size, struct buffer *out)
{
	for (size_t i = 0; i < size; i++) {
		if (secret[i] == '\n' && (!i || secret[i - 1] != '\r'))
			buffer_putc(out, '\r');
		buffer_putc(out, secret[i]);
	}
}

struct percent_style {
	bool slash; // '/' stays as it is, as in paths
	bool plus;  // ' ' becomes '+', as in forms
	const char *digits;
};

static void form_percent(
	const char *secret, size_t size, const struct percent_style *style, struct buffer *out)
{
	for (size_t i = 0; i < size; i++) {
		unsigned char c = (unsigned char)secret[i];
		if ((c < 0x80 && isalnum(c)) || (c && strchr("-_.~", c)) ||
			(c == '/' && style->slash))
			buffer_putc(out, (char)c);
		else if (c == ' ' && style->plus)
			buffer_putc(out, '+');
		else
			buffer_append(out,
				(char[]){'%', style->digits[c >> 4], style->digits[c & 15]}, 3);
	}
}

static void form_json(const char *secret, size_t size, struct buffer *out)
{
	static const char plain[] = "\"\\\b\f\n\r\t", escaped[] = "\"\\bfnrt";
	for (size_t i = 0; i < size; i++) {
		unsigned char c = (unsigned char)secret[i];
		const char *at = c ? strchr(plain, c) : NULL;
		if (at) {
			buffer_putc(out, '\\');
			buffer_putc(out, escaped[at - plain]);
		} else if (c < 0x20) {
			buffer_printf(out, "\\u%04x", c);
		} else {
			buffer_putc(out, (char)c);
		}
	}
}

// The digits that no neighbour has a say in, when the secret begins with byte `place` of a group
// of three.
static void form_base64(const char *secret, size_t size, size_t place, struct buffer *out)
{
	size_t first = (8 * place + 5) / 6, end = 8 * (place + size) / 6;
	for (size_t digit = first; digit < end; digit++) {
		size_t bit = 6 * digit - 8 * place, byte = bit / 8, shift = bit % 8;
		unsigned pair = (unsigned)(unsigned char)secret[byte] << 8;
		if (byte + 1 < size)
			pair |= (unsigned char)secret[byte + 1];
		buffer_putc(out, base64_digits[pair >> (10 - shift) & 63]);
	}
}

static void make_url_safe(struct buffer *b)
{
	for (size_t i = 0; i < b->size; i++) {
		if (b->data[i] == '+')
			b->data[i] = '-';
		else if (b->data[i] == '/')
			b->data[i] = '_';
	}
}

// Hands the form over and empties the buffer; a secret does not stay in it.
static void hand_over(struct buffer *form, redact_form_fn *fn, void *data)
{
	fn(data, form->data ? form->data : "", form->size);
	if (form->data)
		explicit_bzero(form->data, form->capacity);
	buffer_clear(form);
}

void redact_forms(const char *secret, size_t size, redact_form_fn *fn, void *data)
{
	cleanup_buffer struct buffer form = {0};
	// Room for the longest, so that no copy is left behind where the buffer grew.
	buffer_reserve(&form, 6 * size);
	fn(data, secret, size);
	form_crlf(secret, size, &form);
	hand_over(&form, fn, data);
	form_json(secret, size, &form);
	hand_over(&form, fn, data);
	// Long ones are key files; each form of one costs what ten passwords cost.
	bool all = size <= FORMS_ALL_MAX;
	for (unsigned style = 0; style < (all ? 8 : 4); style++) {
		form_percent(secret, size,
			&(struct percent_style){.slash = style & 1,
				.plus = style & 2,
				.digits = style & 4 ? "0123456789abcdef" : "0123456789ABCDEF"},
			&form);
		hand_over(&form, fn, data);
	}
	for (size_t place = 0; size >= REDACT_BASE64_MIN && place < 3; place++) {
		form_base64(secret, size, place, &form);
		hand_over(&form, fn, data);
		if (!all)
			continue;
		form_base64(secret, size, place, &form);
		make_url_safe(&form);
		hand_over(&form, fn, data);
	}
}
