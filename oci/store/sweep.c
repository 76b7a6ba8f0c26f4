// SPDX-License-Identifier: Apache-2.0
// What processes leave that were killed: found by its lock, which went with the process. Runs at
// the start of every command, so nothing is opened but what is there, and normally nothing is.
#include "oci/store/internal.h"

#include <sys/file.h>
#include <unistd.h>

void store_sweep(struct store *s)
{
	cleanup_arena struct arena a = {0};
	struct store_names names;
	struct error ignored;
	// Failures are left for the next start: a read-only store, or an entry that somebody else
	// removes.
	if (store_names(s->tmp_fd, ".", &a, &names, &ignored) == 0) {
		for (size_t i = 0; i < names.count; i++) {
			cleanup_fd int fd = -1;
			if (store_lock_open(s->tmp_fd, names.items[i], O_RDONLY, LOCK_EX, &fd,
				    &ignored) == STORE_LOCKED)
				directory_remove(s->tmp_fd, names.items[i], &ignored);
		}
	}
	cleanup_fd int locks = openat(s->run_fd, "locks", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (locks < 0 || store_names(locks, ".", &a, &names, &ignored) < 0)
		return;
	for (size_t i = 0; i < names.count; i++) {
		cleanup_fd int fd = -1;
		if (store_lock_open(locks, names.items[i], O_RDONLY, LOCK_EX, &fd, &ignored) ==
			STORE_LOCKED)
			unlinkat(locks, names.items[i], 0);
	}
}
