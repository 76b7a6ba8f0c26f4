// SPDX-License-Identifier: Apache-2.0
#pragma once

// One word to systemd (sd_notify(3)), where it has started us.
void notify_manager(const char *word);
