// SPDX-License-Identifier: Apache-2.0
//
// Errors are values. A function that can fail returns 0 or -1 (or a pointer or NULL) and takes a
// `struct error *` last; it fills it exactly when it fails. The kind decides what to do (retry,
// blame the user, blame the node), the text is one line that names the object and gains context as
// it rises, `sys` keeps the errno for the log. The structure holds no pointer, so a child can write
// it down a pipe as it stands.
#pragma once

#include <errno.h>

enum error_kind {
	ERROR_NONE,
	ERROR_INVALID,	   // the input is wrong: the user's or the publisher's fault
	ERROR_NOT_FOUND,   // the named thing does not exist
	ERROR_DENIED,	   // credentials or permissions are missing
	ERROR_INTEGRITY,   // bytes are not what their digest or size promises
	ERROR_LIMIT,	   // a stated limit was reached: size, count, depth, disk, time
	ERROR_UNAVAILABLE, // a service did not answer; trying again may help
	ERROR_SYSTEM,	   // the kernel or this machine refused
};

struct error {
	enum error_kind kind;
	int sys; // errno, 0 if none
	char text[504];
};

// Set the error and return -1, so that `return error_set(err, …)` reads as one step. A text that is
// too long is cut at the end; control characters and what is not UTF-8 are written as '?', so the
// text stays one line and fits a JSON string.
int error_set(struct error *err, enum error_kind kind, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

// As error_set(), with ": strerror(sys)" appended. The kind follows from the errno: ENOENT is
// NOT_FOUND, EACCES and EPERM are DENIED, ENOSPC, EDQUOT, EMFILE and ENFILE are LIMIT, all else
// SYSTEM.
int error_set_errno(struct error *err, int sys, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

// Put "…: " before the text of an error that is set. Returns -1.
int error_context(struct error *err, const char *format, ...) __attribute__((format(printf, 2, 3)));

// Compilers and analyzers cannot know what these return, and would warn of values that are unset
// only when a call failed. So each call says -1 at its place.
static inline int error_minus_one(int rc)
{
	(void)rc;
	return -1;
}
#define error_set(...)	     error_minus_one(error_set(__VA_ARGS__))
#define error_set_errno(...) error_minus_one(error_set_errno(__VA_ARGS__))
#define error_context(...)   error_minus_one(error_context(__VA_ARGS__))

// The name of the kind as it stands in run.json and in logs: "invalid", "not_found", …
const char *error_kind_name(enum error_kind kind);

void error_clear(struct error *err);
