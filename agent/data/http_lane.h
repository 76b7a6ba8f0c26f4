// SPDX-License-Identifier: Apache-2.0
//
// Our end of a lane to the helper that speaks to servers. What comes from there is a stranger's:
// it is checked, and no text of it keeps control characters.
#pragma once

#include "agent/data/download_exchange.h"

struct data_lane {
	int socket; // owned
	bool broken;
};

// download_options.exchange; its data is the lane, which is the caller's alone. `ca` and `proxy` of
// the options are not used: they are the helper's environment's.
int data_lane_exchange(void *lane, struct download_exchange *x, struct error *err);
