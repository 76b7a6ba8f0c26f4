// SPDX-License-Identifier: Apache-2.0
//
// Redaction done the simplest way, on the whole text, to compare with. For the unit test and the
// fuzz target.
#pragma once

#include "agent/supervise/redact.h"
#include "agent/supervise/redact_forms.h"

#include <stdbool.h>
#include <string.h>

struct redact_reference {
	const char *text;
	size_t size;
	bool *covered; // this byte belongs to a secret
	bool *joined;  // and one and the same occurrence covers the byte before it
};

static inline void redact_reference_form(void *data, const char *form, size_t size)
{
	struct redact_reference *x = data;
	for (size_t at = 0; at + size <= x->size; at++) {
		if (memcmp(x->text + at, form, size) != 0)
			continue;
		for (size_t i = 0; i < size; i++) {
			x->covered[at + i] = true;
			x->joined[at + i] |= i > 0;
		}
	}
}

static inline void redact_reference(const struct redact_secret *secrets, size_t count,
	const char *text, size_t size, struct buffer *out)
{
	cleanup_free bool *covered = xcalloc(size, sizeof(bool));
	cleanup_free bool *joined = xcalloc(size, sizeof(bool));
	struct redact_reference x = {text, size, covered, joined};
	for (size_t i = 0; i < count; i++)
		redact_forms(secrets[i].data, secrets[i].size, redact_reference_form, &x);
	for (size_t i = 0; i < size; i++) {
		if (!covered[i])
			buffer_putc(out, text[i]);
		else if (!joined[i])
			buffer_puts(out, "***");
	}
}
