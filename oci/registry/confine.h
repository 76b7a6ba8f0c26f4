// SPDX-License-Identifier: Apache-2.0
//
// What the fetcher gives up before it speaks to anybody: the user, all capabilities, gaining any
// back, starting programs, the file system save what name resolution and TLS read. What stays: the
// network, and the descriptors it holds.
#pragma once

#include "base/error.h"

#include <stddef.h>

// For the whole process; it must have one thread. Steps that this kernel does not have (Landlock)
// or that do not apply (changing the user without being root) are left out; any other failure is an
// error.
int fetcher_confine(struct error *err);
// The same for a process that also makes, renames and removes files below `count` folders, which it
// holds open. Where the kernel's Landlock cannot allow renaming between folders (before Linux 5.19)
// files are held by the user alone.
int fetcher_confine_writing(const int *folders, size_t count, struct error *err);
