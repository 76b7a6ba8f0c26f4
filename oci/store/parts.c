// SPDX-License-Identifier: Apache-2.0
// Downloads under way or broken off: parts/<hex> and parts/<hex>.map. Kept after a kill, so that
// the next pull goes on where this one ended; the lock on the part tells whether anybody is at it.
#include "base/text.h"
#include "oci/store/internal.h"

#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *map_name(const char *part, char name[STORE_NAME_MAX])
{
	snprintf(name, STORE_NAME_MAX, "%.70s.map", part);
	return name;
}

int store_part_open(
	struct store *s, const struct oci_digest *blob, int *fd, int *map_fd, struct error *err)
{
	char map[STORE_NAME_MAX];
	const char *name = oci_digest_hex(blob);
	cleanup_fd int part = -1;
	int got = store_lock_open(s->parts_fd, name, O_RDWR | O_CREAT, LOCK_EX, &part, err);
	if (got < 0)
		return error_context(err, "%s/parts", s->state_dir);
	if (got == STORE_LOCK_BUSY) // another pull, or prune looks at it
		return 1;
	if (got != STORE_LOCKED)
		return error_set(err, ERROR_NOT_FOUND, "folder %s/parts vanished", s->state_dir);
	cleanup_fd int side = openat(
		s->parts_fd, map_name(name, map), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (side < 0)
		return error_set_errno(err, errno, "open %s/parts/%s", s->state_dir, map);
	*fd = steal_fd(&part);
	*map_fd = steal_fd(&side);
	return 0;
}

void store_part_remove(struct store *s, const struct oci_digest *blob)
{
	char map[STORE_NAME_MAX];
	// The map first: a part without a map is empty, a map without its part would be a lie.
	unlinkat(s->parts_fd, map_name(oci_digest_hex(blob), map), 0);
	unlinkat(s->parts_fd, oci_digest_hex(blob), 0);
}

// A map whose part is gone: the removal was killed half-way, or never was (the other order).
static int prune_map(struct store *s, const char *name, bool dry_run, struct error *err)
{
	char part[STORE_NAME_MAX];
	snprintf(part, sizeof(part), "%.*s", (int)(strlen(name) - strlen(".map")), name);
	if (dry_run || faccessat(s->parts_fd, part, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
		return 0;
	if (unlinkat(s->parts_fd, name, 0) < 0 && errno != ENOENT)
		return error_set_errno(err, errno, "remove %s/parts/%s", s->state_dir, name);
	return 0;
}

int store_part_prune(
	struct store *s, const char *name, bool dry_run, struct store_size *size, struct error *err)
{
	char map[STORE_NAME_MAX];
	struct stat st;
	cleanup_fd int fd = -1;
	if (strlen(name) > 70)
		return 0; // not ours
	if (ends_with(name, ".map"))
		return prune_map(s, name, dry_run, err);
	int got = store_lock_open(s->parts_fd, name, O_RDONLY, LOCK_EX, &fd, err);
	if (got != STORE_LOCKED)
		return got < 0 ? -1 : 0;
	if (fstat(fd, &st) < 0)
		return error_set_errno(err, errno, "%s/parts/%s", s->state_dir, name);
	*size = (struct store_size){(uint64_t)st.st_blocks * 512, 2}; // the map too
	if (dry_run)
		return 1;
	if ((unlinkat(s->parts_fd, map_name(name, map), 0) < 0 && errno != ENOENT) ||
		unlinkat(s->parts_fd, name, 0) < 0)
		return error_set_errno(err, errno, "remove %s/parts/%s", s->state_dir, name);
	return 1;
}
