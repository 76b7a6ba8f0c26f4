// SPDX-License-Identifier: Apache-2.0
//
// What lock.c and the readers of tools' records share.
#pragma once

#include "agent/environment/lock.h"

enum lock_kind { LOCK_CONDA, LOCK_PIP };

// Why a member cannot stand in a lock; NULL: it can. `member`: "name", "version", "build", "url",
// "sha256", "md5" (NULL values of all but the first two are fine).
const char *lock_package_check(
	enum lock_kind kind, const struct lock_package *p, const char **member);
// An address as it stands in a lock; NULL: it is none that others could use.
const char *lock_address(struct arena *a, const char *url, lock_original_fn *original, void *data);
// Add checked packages to a list of the lock, in the arena. ERROR_INVALID where a name is there
// already, ERROR_LIMIT.
int lock_append(struct environment_lock *lock, enum lock_kind kind, struct arena *a,
	const struct lock_package *packages, size_t count, struct error *err);
// Each record of a prefix, conda-meta/*.json; none without that folder.
typedef int lock_record_fn(void *data, const struct json *record, struct error *err);
int lock_each_conda_record(int prefix_fd, lock_record_fn *fn, void *data, struct error *err);
