// SPDX-License-Identifier: Apache-2.0
//
// The lock L: exactly what an environment consists of, so that it can be built again without a
// solver, byte for byte. A JSON document for people and programs (`stoker env lock`):
//
//   {"stoker_lock": 1, "platform": "linux/amd64", "image": "sha256:…", "prefix": "/opt/stoker/env",
//    "tool": {"name": "conda", "version": "23.3.1"},
//    "python": "/usr/bin/python3", "inherit_image_packages": false,
//    "activation": "none" (only where it is not "snapshot"),
//    "conda": [{"name", "version", "build", "url", "sha256", "md5", "size"}, …],
//    "pip": [{"name", "version", "url", "sha256"}, …]}
//
// Addresses are the original ones, without credentials. E = SHA-256("stoker/env/v1\n" + the
// canonical document), which has no times in it.
//
// A lock comes from people, and what tools wrote comes from packages: both are bounded and checked,
// so that a name, version, address or hash in it can stand in a line of a file for conda or pip.
#pragma once

#include "agent/environment/environment.h"

enum {
	LOCK_BYTES_MAX = 16 * 1024 * 1024,
	LOCK_PACKAGES_MAX = 10000,		  // of each kind
	LOCK_REPORT_BYTES_MAX = 64 * 1024 * 1024, // descriptions of packages are in it
};

struct lock_package {
	const char *name, *version, *build; // build: conda only; NULL
	const char *url;		    // http(s); NULL where the tool does not say
	const char *sha256, *md5;	    // hex; NULL where the tool does not say
	uint64_t size;			    // 0: unknown
};

struct environment_lock {
	const char *platform, *image; // image: digest of the base's manifest
	const char *tool, *tool_version, *python;
	const char *activation; // NULL: "snapshot"
	bool inherit_image_packages;
	struct lock_package *conda, *pip; // sorted by name
	size_t conda_count, pip_count;
};

// ERROR_INVALID with the place ("lock.json: conda[2].sha256: …"), ERROR_LIMIT.
int environment_lock_parse(struct arena *a, const char *data, size_t size, const char *name,
	struct environment_lock *lock, struct error *err);
// Canonical text (sorted keys, no white space but a newline at the end of each package) and its
// key.
int environment_lock_write(const struct environment_lock *lock, struct buffer *out,
	char key[ENVIRONMENT_KEY_SIZE], struct error *err);
// Can it be built again from this alone, checked by hashes? NULL: yes. Else the name of a package
// without an address or a hash (an old pip tells neither); such a lock still identifies what is
// there, but "locked" and a rebuild are not possible with it.
const char *environment_lock_gap(const struct environment_lock *lock);

// What the tools wrote: conda-meta/*.json of a prefix; pip's `--report` document. Both append to
// the lock's lists; `original` (may be NULL) maps an address that the tool saw to the real one.
// ERROR_INVALID and ERROR_LIMIT name the file; nothing is appended then.
typedef const char *lock_original_fn(void *data, struct arena *a, const char *url);
int environment_lock_read_conda(struct environment_lock *lock, struct arena *a, int prefix_fd,
	lock_original_fn *original, void *data, struct error *err);
int environment_lock_read_pip(struct environment_lock *lock, struct arena *a, const char *report,
	size_t size, lock_original_fn *original, void *data, struct error *err);
// What `pip freeze` says, for versions without reports (before 22.2): no addresses, no hashes.
// Packages that the lock has from conda are left out.
int environment_lock_read_freeze(struct environment_lock *lock, struct arena *a, const char *text,
	size_t size, struct error *err);

// For pip's --constraint: "name==version" of each Python package that conda installed into a
// prefix, a line each, sorted. Without it pip replaces files of conda's packages and says nothing.
int environment_constraints(int prefix_fd, struct buffer *out, struct error *err);
