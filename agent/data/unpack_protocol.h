// SPDX-License-Identifier: Apache-2.0
//
// Between unpack() and its helper: one order with two descriptors, the archive and the folder;
// then replies.
#pragma once

#include "agent/data/unpack.h"

enum { UNPACK_SOCKET = 3 };

struct unpack_order {
	uint32_t format;
	uint64_t max_bytes, keep_free_bytes;
};

struct unpack_reply {
	uint32_t done; // 0: progress
	uint32_t failure;
	uint64_t bytes;
	struct error error;
};

// Formats as the helper knows them; DATA_UNPACK_AUTO lets libarchive look.
int unpack_archive(const struct unpack_order *o, int archive_fd, int folder_fd, uint64_t *bytes,
	enum data_failure *failure, struct error *err);
// Load what that takes, before the confinement.
int unpack_prepare(struct error *err);
void unpack_tell(uint64_t bytes); // from unpack_archive(), as it goes
