// SPDX-License-Identifier: Apache-2.0
//
// One file from a controller into a folder here. Never through a link: what an earlier download
// made may lead away.
#pragma once

#include "agent/command/phase_line.h"
#include "agent/service/service.h"
#include "base/sha256.h"

// The folder that `name` is in, made where it is missing; a descriptor, or -1.
int download_open_parent(int folder, const char *name, struct error *err);
// Is that file here, whole? `file` as the protocol has it (size, sha256).
bool download_is_here(int folder, const char *name, const struct json *file);

struct download_fetch {
	struct service *service;
	const char *path, *name;
	const struct json *file;
	const char *sha256; // NULL: it is growing still, and ends where it ends
	uint64_t size;
	struct phase_line *line;
	// Of the call.
	uint64_t have;
	struct sha256 *hash;
	int fd;
};
// Fetch it to ".NAME.part", from where an earlier call broke off, and give it its place. The caller
// fills what is not of the call.
int download_fetch_file(struct download_fetch *f, int folder, struct error *err);
