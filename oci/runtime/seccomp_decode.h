// SPDX-License-Identifier: Apache-2.0
//
// The specification's words for libseccomp's values.
#pragma once

#include "oci/runtime/spec.h"

#include <seccomp.h>

// `place` names what is decoded, as in "linux.seccomp.syscalls[3]"; the two members are called
// "action" and "errnoRet", or "defaultAction" and "defaultErrnoRet".
struct seccomp_action {
	const char *place, *member, *errno_member;
	const char *name;
	bool has_errno;
	unsigned errno_value;
};

int seccomp_decode_action(const struct seccomp_action *a, uint32_t *action, struct error *err);
int seccomp_decode_flags(const struct json_strings *names, unsigned *flags, struct error *err);
// 0 if there is none of this name.
uint32_t seccomp_decode_architecture(const char *name);
int seccomp_decode_argument(const char *place, const struct runtime_seccomp_argument *argument,
	struct scmp_arg_cmp *condition, struct error *err);
