// SPDX-License-Identifier: Apache-2.0
#include "base/error.h"

#include "base/text.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static enum error_kind kind_of_errno(int sys)
{
	switch (sys) {
	case ENOENT:
		return ERROR_NOT_FOUND;
	case EACCES:
	case EPERM:
		return ERROR_DENIED;
	case ENOSPC:
	case EDQUOT:
	case EMFILE:
	case ENFILE:
		return ERROR_LIMIT;
	default:
		return ERROR_SYSTEM;
	}
}

int(error_set)(struct error *err, enum error_kind kind, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	// The arguments may be parts of the old text, so it is written aside first. Zeroed: the
	// whole structure goes down a pipe, and what was on the stack is nobody's business.
	char text[sizeof(err->text)] = {0};
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	*err = (struct error){.kind = kind};
	memcpy(err->text, text, sizeof(text));
	text_flatten(err->text); // also what the cut left of a character
	return -1;
}

int(error_set_errno)(struct error *err, int sys, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	char text[sizeof(err->text)];
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	error_set(err, kind_of_errno(sys), "%s: %s", text, strerror(sys));
	err->sys = sys;
	return -1;
}

int(error_context)(struct error *err, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	char before[sizeof(err->text)];
	vsnprintf(before, sizeof(before), format, args);
	va_end(args);
	int sys = err->sys;
	error_set(err, err->kind, "%s: %s", before, err->text);
	err->sys = sys;
	return -1;
}

const char *error_kind_name(enum error_kind kind)
{
	static const char *const names[] = {
		[ERROR_NONE] = "none",
		[ERROR_INVALID] = "invalid",
		[ERROR_NOT_FOUND] = "not_found",
		[ERROR_DENIED] = "denied",
		[ERROR_INTEGRITY] = "integrity",
		[ERROR_LIMIT] = "limit",
		[ERROR_UNAVAILABLE] = "unavailable",
		[ERROR_SYSTEM] = "system",
	};
	if ((unsigned)kind >= sizeof(names) / sizeof(names[0]))
		return "unknown";
	return names[kind];
}

void error_clear(struct error *err)
{
	*err = (struct error){0};
}
