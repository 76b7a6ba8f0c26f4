// SPDX-License-Identifier: Apache-2.0
//
// Entries of our folders: locked by name, and listed. For the store and for the mounts in its run
// directory.
#pragma once

#include "base/arena.h"
#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>

// Does `name` in the folder still mean the open file? A lock is worth something only then: the name
// may have been removed, or given to another file, between open and lock.
bool store_same_file(int fd, int dirfd, const char *name);

enum store_lock {
	STORE_LOCK_GONE = 0, // there is no such name
	STORE_LOCKED = 1,    // *fd is open and locked
	STORE_LOCK_BUSY = 2, // somebody holds a lock that forbids ours
};
// Open `name` and lock it with flock(2) without waiting, making sure that the name still means the
// locked file. `flags`: of openat(2), O_CREAT makes it (mode 0600). Returns enum store_lock or -1.
int store_lock_open(
	int dirfd, const char *name, int flags, int operation, int *fd, struct error *err);

// The names in a folder, "." and ".." left out; an arena array.
struct store_names {
	const char **items;
	size_t count;
};
int store_names(int dirfd, const char *folder, struct arena *a, struct store_names *names,
	struct error *err);
