// SPDX-License-Identifier: Apache-2.0
//
// The parts of runtime_spec_parse(): decoders (base/json_decode.h) of the sections, and those that
// several sections use.
#pragma once

#include "oci/runtime/spec.h"

// Far more than any engine writes, and little enough for a table.
enum {
	SPEC_ARGUMENTS_MAX = 65536, // args, env, and words of other lists
	SPEC_MOUNTS_MAX = 4096,
	SPEC_DEVICES_MAX = 4096, // nodes, and rules
	SPEC_HOOKS_MAX = 256,	 // a point
	SPEC_GROUPS_MAX = 65536, // NGROUPS_MAX
	SPEC_ID_MAPS_MAX = 340,	 // the kernel's own limit
	SPEC_RULES_MAX = 4096,	 // of seccomp
	SPEC_PAIRS_MAX = 4096,	 // annotations, sysctl, unified
	SPEC_PATHS_MAX = 4096,	 // masked, read-only
};

// What the decoders share (json_decoder.context).
struct spec_decoding {
	struct runtime_spec *spec;
	size_t warning_capacity;
};

// Sections. The target is the struct runtime_spec.
json_decode_fn spec_decode_process, spec_decode_mounts, spec_decode_hooks, spec_decode_linux;
// The target is the struct runtime_resources, the struct runtime_seccomp.
json_decode_fn spec_decode_resources, spec_decode_seccomp;

// Refuse a member that we do not support, unless it says nothing: null, "", 0, false, or a list or
// object of such.
json_decode_fn spec_decode_refuse;

json_decode_fn spec_decode_u32;		// uint32_t
json_decode_fn spec_decode_id;		// uint32_t, a user or group: not -1
json_decode_fn spec_decode_word;	// const char *; "" is as good as absent (NULL)
json_decode_fn spec_decode_absolute;	// const char *, an absolute path
json_decode_fn spec_decode_words;	// struct json_strings
json_decode_fn spec_decode_paths;	// struct json_strings, absolute ones
json_decode_fn spec_decode_pairs;	// struct json_pairs, no key empty
json_decode_fn spec_decode_id_maps;	// struct runtime_id_maps
json_decode_fn spec_decode_unlimitable; // int64_t; -1 becomes RUNTIME_UNLIMITED

// Take `text` (the arena's) as a line for the user.
void spec_warn(struct json_decoder *d, const char *text);
