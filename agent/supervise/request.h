// SPDX-License-Identifier: Apache-2.0
//
// What a supervisor is told when it starts: everything about one job. It travels in a file in
// memory, since it may be larger than a message and holds secrets.
#pragma once

#include "agent/job/job.h"
#include "agent/job/pack.h"
#include "oci/image/config.h"

struct supervise_settings {
	uint64_t grace_ms;	// between asking a script to end and killing it
	uint64_t log_bytes;	// of its log; 0: no limit
	uint64_t log_keep_free; // bytes of the disk that logs leave free
	struct job_policy policy;
	struct data_policy data;
	struct outputs_policy outputs; // destination: the job's own, if it has one
	bool end_with_client; // no job without who started it: killed when the connection ends
};

struct supervise_request {
	struct arena arena; // of what was unpacked
	const char *state_dir, *run_dir;
	struct store_limits limits;
	enum layer_backing backing;
	struct supervise_settings settings;
	struct job_spec spec; // without its document; its arena is empty
	struct run run;	      // plain members only
	struct oci_config image;
	uint16_t listen_port;
	struct data_ready *ready;   // of spec.inputs; NULL: nothing was prepared
	struct store_layer *layers; // diff ids and forms, lowest first; no leases
	size_t layer_count;
};

void supervise_request_pack(
	const struct job *job, const struct supervise_settings *settings, struct buffer *out);
int supervise_request_unpack(
	struct supervise_request *r, const char *data, size_t size, struct error *err);
void supervise_request_release(struct supervise_request *r);
