// SPDX-License-Identifier: Apache-2.0
//
// run.json: writing it, and ending the one that a killed process left.
#pragma once

#include "agent/job/run.h"

int run_document_write(const struct run *r, struct error *err);
// Set the state to Failed, with a cause, unless it is an end already. `dirfd`: the attempt's
// directory.
int run_document_interrupt(int dirfd, struct error *err);
