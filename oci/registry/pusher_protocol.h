// SPDX-License-Identifier: Apache-2.0
//
// What the coordinator and its pusher say to each other, after the settings (FETCHER_CONFIGURE of
// protocol.h). One command at a time; its reply is the last word about it.
#pragma once

#include "base/error.h"
#include "oci/image/reference.h"
#include "oci/registry/protocol.h"

enum pusher_verb {
	// To the pusher.
	PUSHER_FIND = 100, // digest, from
	PUSHER_BLOB,	   // digest, size; descriptor: the file
	PUSHER_MANIFEST,   // target, media_type, size; descriptor: the document
	// To the coordinator.
	PUSHER_PROGRESS, // bytes
	PUSHER_NOTICE,	 // error.text
	PUSHER_DONE,	 // present; error
};

struct pusher_command {
	uint32_t verb;
	uint64_t size;
	struct oci_digest digest;
	char from[OCI_PATH_MAX + 1];
	char target[FETCHER_TARGET_MAX], media_type[FETCHER_MEDIA_TYPE_MAX];
};

struct pusher_reply {
	uint32_t verb;
	bool present;
	uint64_t bytes;
	struct error error;
};
