// SPDX-License-Identifier: Apache-2.0
//
// The lock L: exactly what an environment consists of, so that it can be built again without a
// solver, byte for byte. A JSON document for people and programs (`stoker env lock`):
//
//   {"stoker_lock": 1, "platform": "linux/amd64", "image": "sha256:…", "prefix": "/opt/stoker/env",
//    "tool": {"name": "conda", "version": "23.3.1"},
//    "python": "/usr/bin/python3", "inherit_image_packages": false,
//    "conda": [{"name", "version", "build", "url", "sha256", "md5", "size"}, …],
//    "pip": [{"name", "version", "url", "sha256"}, …]}
//
// Addresses are the original ones, without credentials. E = SHA-256("stoker/env/v1\n" + the
// canonical document), which has no times in it.
#pragma once

#include "agent/environment/environment.h"

struct lock_package {
	const char *name, *version, *build; // build: conda only; NULL
	const char *url;
	const char *sha256, *md5; // hex; NULL where the tool does not say (then it is no full lock)
	uint64_t size;		  // 0: unknown
};

struct environment_lock {
	const char *platform, *image; // image: digest of the base's manifest
	const char *tool, *tool_version, *python;
	bool inherit_image_packages;
	struct lock_package *conda, *pip; // sorted by name
	size_t conda_count, pip_count;
};

int environment_lock_parse(struct arena *a, const char *data, size_t size, const char *name,
	struct environment_lock *lock, struct error *err);
// Canonical text (sorted keys, no white space but a newline at the end of each package) and its
// key.
int environment_lock_write(const struct environment_lock *lock, struct buffer *out,
	char key[ENVIRONMENT_KEY_SIZE], struct error *err);
// What the tools wrote: conda-meta/*.json of a prefix; pip's `--report` document. Both append to
// the lock's lists; `original` maps an address that the tool saw to the real one.
typedef const char *lock_original_fn(void *data, struct arena *a, const char *url);
int environment_lock_read_conda(struct environment_lock *lock, struct arena *a, int prefix_fd,
	lock_original_fn *original, void *data, struct error *err);
int environment_lock_read_pip(struct environment_lock *lock, struct arena *a, const char *report,
	size_t size, lock_original_fn *original, void *data, struct error *err);
