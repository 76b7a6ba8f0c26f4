// SPDX-License-Identifier: Apache-2.0
//
// The words of the runtime specification: names of capabilities, limits, namespaces and hooks.
#pragma once

#include "oci/runtime/spec.h"

// "CAP_CHOWN" to 1 << CAP_CHOWN. False for a name that is unknown here.
bool runtime_capability_parse(const char *name, uint64_t *bit);
// The name of capability `number`; NULL if it is unknown here.
const char *runtime_capability_name(unsigned number);

// "RLIMIT_NOFILE" and RLIMIT_NOFILE.
bool runtime_rlimit_parse(const char *name, int *resource);
const char *runtime_rlimit_name(int resource);

// "pid", "network", …
extern const char *const runtime_namespace_names[RUNTIME_NAMESPACES];
// "prestart", "createRuntime", …
extern const char *const runtime_hook_names[RUNTIME_HOOK_POINTS];
