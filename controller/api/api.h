// SPDX-License-Identifier: Apache-2.0
//
// The requests of docs/protocol.md, a file for each noun.
#pragma once

#include "controller/http/server.h"

extern const struct route api_status[], api_tokens[], api_runs[], api_events[], api_snapshots[],
	api_nodes[], api_poll[], api_files[], api_metrics[], api_models[];
