// SPDX-License-Identifier: Apache-2.0
//
// Logs of the attempt before: they are what tells why there is a further one, which would overwrite
// them. The folder attempts/<n> appears by rename when they are in it, and even if there were none,
// so that it is done once, before anything of the new attempt is copied.
#include "agent/data/outputs_target.h"
#include "base/file.h"

#include <stdio.h>
#include <sys/stat.h>

static const char *const moved[] = {"logs", "user_logs"};

bool outputs_is_archived(int run_fd, unsigned attempt)
{
	char name[24];
	struct stat st;
	snprintf(name, sizeof(name), "%u", attempt);
	cleanup_fd int attempts = outputs_open_beneath(run_fd, "attempts", O_RDONLY | O_DIRECTORY);
	return attempts >= 0 && fstatat(attempts, name, &st, AT_SYMLINK_NOFOLLOW) == 0;
}

int outputs_archive(int run_fd, unsigned attempt, struct error *err)
{
	char name[24], new_name[24];
	snprintf(name, sizeof(name), "%u", attempt);
	snprintf(new_name, sizeof(new_name), ".%u", attempt);
	cleanup_fd int attempts = outputs_make_beneath(run_fd, "attempts");
	cleanup_fd int new_fd = attempts < 0 ? -1 : outputs_make_beneath(attempts, new_name);
	if (new_fd < 0)
		return error_set_errno(err, errno, "make attempts/%s", name);
	for (size_t i = 0; i < array_size(moved); i++)
		if (renameat(run_fd, moved[i], new_fd, moved[i]) < 0 && errno != ENOENT)
			return error_set_errno(err, errno, "rename %s", moved[i]);
	if (renameat(attempts, new_name, attempts, name) < 0)
		return error_set_errno(err, errno, "make attempts/%s", name);
	return 0;
}
