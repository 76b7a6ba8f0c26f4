// SPDX-License-Identifier: Apache-2.0
//
// What the synchroniser is trusted with: to read the run's folder, whoever the files in it belong
// to (CAP_DAC_READ_SEARCH, and no other capability), and to write the destination, as the user who
// owns that folder. No program, no process and no network; where the kernel has Landlock, no other
// file either.
#pragma once

#include "base/error.h"

// Before there are threads: credentials belong to each. Where the destination cannot be opened
// nothing is said here: each round will say it.
int outputs_confine_privileges(int run_fd, const char *destination, struct error *err);
// After: the system calls, for all threads. `socket`: the only one for messages.
int outputs_confine_calls(int socket, struct error *err);

// Root that works for the destination's owner has two sides: files are made there as the owner, and
// here, in the run's folder, as the node. Only this thread's, and nothing where there is one side.
enum outputs_side { OUTPUTS_NODE, OUTPUTS_OWNER };
void outputs_act_as(enum outputs_side side);
