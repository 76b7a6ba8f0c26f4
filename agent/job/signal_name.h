// SPDX-License-Identifier: Apache-2.0
//
// Signals by name: "TERM", "SIGTERM", "15", "RTMIN+3".
#pragma once

// -1: there is no such signal.
int signal_parse(const char *name);
