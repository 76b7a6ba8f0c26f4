// SPDX-License-Identifier: Apache-2.0
//
// What the node's administrator decides about environments, inputs and outputs: agent.yaml's
// "environments", "data" and "outputs".
#pragma once

#include "base/json_decode.h"

#include <stdbool.h>
#include <stdint.h>

struct cache_limits {
	uint64_t high_bytes, low_bytes; // evict the least recently used over the first, down to the
					// second; 0: none
	uint64_t keep_free_bytes;	// of the file system
};

struct environment_policy {
	struct json_strings channels; // of jobs that name none
	const char *index_url;	      // of jobs that name none; NULL: pip's own
	struct json_strings extra_index_urls;
	// "host:port" of this node or its own network from which packages may come though a job
	// could not reach them; without a port: all of them.
	struct json_strings local_hosts;
	const char *netrc; // credentials of indexes and channels (curl's format); NULL
	const char
		*registry; // "host/repository": environments are looked for and pushed there; NULL
	bool push;	   // push what was built
	const char *micromamba; // static programs of the node that are lent to images; NULL
	const char *uv;
	bool accept_terms;	      // of the channels: the operator's decision, never the job's
	bool network;		      // may builds reach more than channels and indexes?
	uint64_t max_seconds;	      // of one build
	uint64_t negative_seconds;    // a lasting failure is believed so long
	double cpus;		      // of a build; 0: as jobs
	uint64_t memory, pids, disk;  // 0: as jobs
	struct cache_limits packages; // the downloads
	uint64_t keep_for_ms; // environments not used for so long go; 0: when space is needed
};
extern const struct environment_policy environment_policy_default;

struct data_policy {
	struct json_strings bind_roots;	 // folders below which binds may lie; none: anywhere
	struct json_strings local_hosts; // as above, for inputs
	bool allow_fsimage;		 // may file-system images from outside be mounted?
	// FUSE helpers that are allowed. Not given: none, since they dial from the node's own
	// network, where no job gets by itself.
	struct json_strings profiles;
	uint64_t max_bytes; // of one input; 0: what the disk allows
	uint64_t probe_ms;  // a mount is looked at so often; 30 s
	uint64_t flush_ms;  // for what a job wrote to one, at its end; 10 min
	struct cache_limits cache;
};
extern const struct data_policy data_policy_default;

struct outputs_policy {
	const char *destination; // absolute; NULL: results stay where they are, nothing is copied
	struct json_strings destination_roots; // where a job's `output_destination` may lie
	uint64_t interval_ms;		       // 10 s
	uint64_t limit_ms;		       // of the last round, at the end of the job; 1 h
	uint64_t max_bytes, max_files;	       // of one run; 0: none
};
extern const struct outputs_policy outputs_policy_default;

// Each decodes into its struct, which holds the defaults.
json_decode_fn environment_policy_decode, data_policy_decode, outputs_policy_decode;
