// SPDX-License-Identifier: Apache-2.0
//
// The service manager's protocol, sd_notify(3), where it has started us.
#pragma once

#include <stdint.h>

void notify_send(const char *text); // lines of NAME=VALUE; nothing where nobody listens
// How long to wait between two signs of life: a third of what the watchdog allows, at most `most`.
int64_t notify_interval(int64_t most);
