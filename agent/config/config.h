// SPDX-License-Identifier: Apache-2.0
//
// The node's configuration, /etc/stoker/agent.yaml:
//
//   state_dir: /var/lib/stoker      # images, runs; survives a boot
//   run_dir: /run/stoker            # mounts, locks; does not
//   default_image: docker.io/library/python:3.12-slim
//   layers:
//     format: auto                  # auto, erofs, directory
//     backing: auto                 # how EROFS files are mounted: auto, file, loop
//     max_size: 512g                # uncompressed bytes of one layer
//     max_entries: 8000000
//   store:
//     high: 200g                    # evict when layers take more …
//     low: 150g                     # … until they take this
//     keep_free: 1g
//     keep_free_inodes: 5           # percent
//   devices:
//     cdi_folders: [/etc/cdi, /var/run/cdi]  # of two that name a device, the later one counts
//   logs:
//     max_size: 10g                 # of a job's log; what comes behind is dropped, and said so
//     keep_free: 64m                # of the disk, by logs
//   labels:                         # of the node, for its controller's users
//     zone: north
//   registries: …                   # oci/registry/config.h
//   stop_grace_seconds: 30          # between asking a job to end and killing it
//   sandbox:
//     runtime: runc                 # another OCI runtime; our own if not given
//     first_user_id: 1000000000     # each job has 65,536 ids from here on …
//     user_id_ranges: 1000          # … as many jobs at once
//     require_user_ids: false       # no job where the kernel cannot map ids
//     allow_host_network: false     # may jobs ask for the node's own network?
//     cgroup: /stoker
//     agent_memory: 64m             # kept for the supervisors
//   job_defaults:                   # of jobs that do not say
//     network: private
//     cpus: 2.5                     # no limit if not given
//     memory: 16g                   # what the node has without a reserve, if not given
//     pids: 4096
//     disk: 100g                    # of all that a job writes; no limit if not given
//     snapshot_bytes: 300m          # of a job's source_directory
//     snapshot_files: 2000
//   environments: …                 # agent/config/policies.h, agent.yaml(5)
//   data: …
//   outputs: …
//   runs:
//     keep: 1000                    # finished runs; all if not given
//     keep_for: 30d                 # for ever if not given
//
// A folder comes from the option (--state-dir), else the environment (STOKER_STATE_DIR), else the
// file, else the default: the ones above for root, below $XDG_DATA_HOME and $XDG_RUNTIME_DIR for
// others.
#pragma once

#include "agent/config/policies.h"
#include "agent/config/policy.h"
#include "base/arena.h"
#include "base/error.h"
#include "base/json_decode.h"
#include "oci/registry/config.h"
#include "oci/store/store.h"

struct config_overrides { // from the command line; NULL where not given
	const char *config, *state_dir, *run_dir;
};

enum config_layer_format { CONFIG_FORMAT_AUTO, CONFIG_FORMAT_EROFS, CONFIG_FORMAT_DIRECTORY };

struct config {
	struct arena arena;
	const char *path; // the file read, NULL if none
	const char *state_dir, *run_dir;
	const char *default_image; // NULL if not set
	enum config_layer_format layer_format;
	const char *layer_backing; // "auto", "file", "loop"
	struct layer_limits layer_limits;
	struct store_limits store_limits;
	struct json_pairs labels;
	uint64_t log_max_size, log_keep_free;
	struct registry_config registries;
	uint64_t stop_grace_ms;
	struct config_runs {
		uint64_t keep;	      // finished runs, the newest; 0: all
		uint64_t keep_for_ms; // 0: for ever
	} runs;
	struct job_policy policy;
	struct environment_policy environments;
	struct data_policy data;
	struct outputs_policy outputs;
};

// Read and check. A file named by option or environment must exist; the default one may be missing.
int config_load(struct config *c, const struct config_overrides *o, struct error *err);
// As config_load() with the document in memory (tests, fuzzing): no environment is read.
int config_parse(
	struct config *c, const char *data, size_t size, const char *name, struct error *err);
void config_release(struct config *c);

#define cleanup_config __attribute__((cleanup(config_release)))
