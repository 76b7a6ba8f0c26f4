// SPDX-License-Identifier: Apache-2.0
#include "agent/job/ownership.h"

#include "base/arena.h"
#include "oci/runtime/user_namespace.h"

#include <fts.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *const folders[] = {"upper", "work", "code", "outputs", "logs",
	"tree"}; // the last: of an environment being built

// Nothing of the job runs any more, so nobody swaps names under our hands; links are not followed.
static int take(const char *path, struct error *err)
{
	char *const paths[] = {(char *)path, NULL};
	FTS *tree = fts_open(paths, FTS_PHYSICAL | FTS_NOCHDIR | FTS_XDEV, NULL);
	int rc = 0;
	if (!tree)
		return error_set_errno(err, errno, "read %s", path);
	for (FTSENT *e; rc == 0 && (e = fts_read(tree)) != NULL;) {
		if (e->fts_info == FTS_DP || e->fts_info == FTS_NS)
			continue;
		bool foreign = e->fts_statp->st_uid != 0 || e->fts_statp->st_gid != 0;
		if (foreign && lchown(e->fts_path, 0, 0) < 0)
			rc = error_set_errno(err, errno, "own %s", e->fts_path);
	}
	fts_close(tree);
	return rc;
}

static int take_all(void *data, struct error *err)
{
	const int *attempt_fd = data;
	for (size_t i = 0; i < array_size(folders); i++) {
		char path[64];
		struct stat st;
		snprintf(path, sizeof(path), "/proc/self/fd/%d/%s", *attempt_fd, folders[i]);
		if (lstat(path, &st) == 0 && take(path, err) < 0)
			return -1;
	}
	return 0;
}

int ownership_take_back(int attempt_fd, struct error *err)
{
	cleanup_arena struct arena a = {0};
	struct runtime_id_maps uids, gids;
	if (geteuid() == 0)
		return 0;
	user_namespace_own(&a, &uids, &gids);
	if (uids.count == 1)
		return 0;
	return user_namespace_run(&uids, &gids, take_all, &attempt_fd, err);
}
