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
static int give(const char *path, uid_t uid, gid_t gid, struct error *err)
{
	char *const paths[] = {(char *)path, NULL};
	FTS *tree = fts_open(paths, FTS_PHYSICAL | FTS_NOCHDIR | FTS_XDEV, NULL);
	int rc = 0;
	if (!tree)
		return error_set_errno(err, errno, "read %s", path);
	for (FTSENT *e; rc == 0 && (e = fts_read(tree)) != NULL;) {
		if (e->fts_info == FTS_DP || e->fts_info == FTS_NS)
			continue;
		bool foreign = e->fts_statp->st_uid != uid || e->fts_statp->st_gid != gid;
		if (foreign && lchown(e->fts_path, uid, gid) < 0)
			rc = error_set_errno(err, errno, "own %s", e->fts_path);
	}
	fts_close(tree);
	return rc;
}

static char *path_of(char path[64], int attempt_fd, const char *folder)
{
	snprintf(path, 64, "/proc/self/fd/%d/%s", attempt_fd, folder);
	return path;
}

static int take_all(void *data, struct error *err)
{
	const int *attempt_fd = data;
	for (size_t i = 0; i < array_size(folders); i++) {
		char path[64];
		struct stat st;
		path_of(path, *attempt_fd, folders[i]);
		if (lstat(path, &st) == 0 && give(path, 0, 0, err) < 0)
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

int ownership_give(int attempt_fd, const char *folder, uid_t uid, gid_t gid, struct error *err)
{
	char path[64];
	return give(path_of(path, attempt_fd, folder), uid, gid, err);
}
