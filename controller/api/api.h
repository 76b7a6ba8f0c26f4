// SPDX-License-Identifier: Apache-2.0
//
// The requests of docs/protocol.md, a file for each noun.
#pragma once

#include "controller/http/server.h"

// For an answer that is written in a transaction: that may be called again, and begins anew then.
void api_begin(struct json_writer **writer);
// After it: `rc` is what came of it. Sends the answer and frees the writer, which may be NULL.
int api_reply(struct request *r, int status, struct json_writer *writer, int rc, struct error *err);

extern const struct route api_status[], api_tokens[], api_runs[], api_events[], api_snapshots[],
	api_nodes[], api_poll[], api_files[], api_metrics[], api_models[];
