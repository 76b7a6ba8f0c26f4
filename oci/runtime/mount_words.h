// SPDX-License-Identifier: Apache-2.0
//
// The words of mount(8) as they stand in a runtime specification, sorted into what the kernel takes
// them by.
#pragma once

#include "base/arena.h"
#include "base/error.h"
#include "base/json_decode.h"

#include <stdbool.h>
#include <stdint.h>

struct mount_words {
	uint64_t set, clear;			 // MOUNT_ATTR_…
	uint64_t recursive_set, recursive_clear; // of the mounts below, too ("rro")
	bool bind, recursive;			 // "bind", "rbind"
	bool idmap, recursive_idmap;		 // with the container's ids …
	bool idmap_optional;			 // … where the file system can ("x-idmap")
	unsigned long propagation;		 // MS_PRIVATE | MS_REC …; 0: not given
	bool copy_up;	  // "tmpcopyup": what the image has there is copied into the tmpfs
	const char *data; // what is the file system's own, "," between; NULL if none
};

// ERROR_INVALID: a word that we know and do not support ("remount", "mand", …).
int mount_words_parse(struct arena *a, const struct json_strings *words, struct mount_words *m,
	struct error *err);
// All that are ours to interpret, for `stoker runtime features`.
void mount_words_list(struct arena *a, struct json_strings *words);
