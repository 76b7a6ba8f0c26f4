// SPDX-License-Identifier: Apache-2.0
//
// What the fetcher gives up before it speaks to anybody: the user, all capabilities, gaining any
// back, starting programs, the file system save what name resolution and TLS read. What stays: the
// network, and the descriptors it holds.
#pragma once

#include "base/error.h"

// For the whole process; it must have one thread. Steps that this kernel does not have (Landlock)
// or that do not apply (changing the user without being root) are left out; any other failure is an
// error.
int fetcher_confine(struct error *err);
