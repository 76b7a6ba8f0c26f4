// SPDX-License-Identifier: Apache-2.0
//
// What the coordinator and its fetcher say to each other (base/message.h). Both are the same
// program, so the structs go as they stand; the coordinator still checks what it gets, since the
// fetcher is the one who reads what strangers send.
#pragma once

#include "base/error.h"
#include "oci/image/digest.h"

#include <stdint.h>

enum { FETCHER_SOCKET = 3, FETCHER_TARGET_MAX = 160, FETCHER_MEDIA_TYPE_MAX = 128 };

enum fetcher_verb {
	// Coordinator to fetcher. The first message: descriptor 0 holds the settings (settings.h).
	FETCHER_CONFIGURE = 1,
	FETCHER_MANIFEST,      // target: tag or digest, size: limit
	FETCHER_MANIFEST_HEAD, // target
	FETCHER_DOCUMENT,      // target: digest, size: limit
	FETCHER_BLOB,	       // target: digest, size: its size; descriptors: file, map
	FETCHER_CANCEL,	       // a blob's id
	// Fetcher to coordinator.
	FETCHER_PROGRESS, // contiguous, fetched; up to `error` only
	FETCHER_NOTICE,	  // error.text
	FETCHER_DONE, // error; of a document also digest, media type, and its body in descriptor 0
};

struct fetcher_command {
	uint32_t verb, id;
	uint64_t size;
	char target[FETCHER_TARGET_MAX];
};

struct fetcher_reply {
	uint32_t verb, id;
	uint64_t contiguous, fetched;
	uint64_t received; // from the network in all, up to now
	struct error error;
	struct oci_digest digest;
	char media_type[FETCHER_MEDIA_TYPE_MAX];
};
