// SPDX-License-Identifier: Apache-2.0
//
// User namespaces: mapping ids, and the ranges of ids that containers get.
#pragma once

#include "oci/runtime/spec.h"

#include <sys/types.h>

// Write the maps of a process that has just entered a new user namespace and waits. As an ordinary
// user with more than its own id to map: by newuidmap(1) and newgidmap(1).
int user_namespace_map(pid_t pid, const struct runtime_id_maps *uids,
	const struct runtime_id_maps *gids, struct error *err);
// A namespace with these maps and no process in it, for idmapped mounts (mount_setattr(2)).
int user_namespace_new(
	const struct runtime_id_maps *uids, const struct runtime_id_maps *gids, struct error *err);

// The id outside that is `id` inside; false if it is not mapped.
bool user_namespace_outside(const struct runtime_id_maps *maps, uint32_t id, uint32_t *outside);

// A range of `size` ids that nobody else on this node uses, the n-th from `first` of `count`:
// <run_dir>/ids/<n> is locked (flock(2)) as long as *lock_fd is open. ERROR_LIMIT: all are taken.
int user_namespace_lease(int run_fd, uint32_t first, uint32_t size, unsigned count, uint32_t *id,
	int *lock_fd, struct error *err);

// The maps of an ordinary user: container 0 is himself; the ids of his ranges in /etc/subuid and
// /etc/subgid (if any, and if newuidmap(1) is there) follow. Single: only himself.
void user_namespace_own(
	struct arena *a, struct runtime_id_maps *uids, struct runtime_id_maps *gids);

// Run `fn` in a child with privileges over these ids (container 0: the root there), and return what
// it returns: for files that belong to a container's users, which an ordinary user could not touch.
int user_namespace_run(const struct runtime_id_maps *uids, const struct runtime_id_maps *gids,
	int (*fn)(void *data, struct error *err), void *data, struct error *err);
