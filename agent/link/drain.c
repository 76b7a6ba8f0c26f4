// SPDX-License-Identifier: Apache-2.0
#include "agent/link/drain.h"

#include "base/file.h"

#include <unistd.h>

static const char path[] = "node/draining";

int drain_set(int state_fd, bool draining, struct error *err)
{
	if (draining)
		return directory_make(state_fd, "node", 0700, err) < 0
			       ? -1
			       : file_write_atomic(state_fd, path, "", 0, 0600, err);
	return unlinkat(state_fd, path, 0) < 0 && errno != ENOENT
		       ? error_set_errno(err, errno, "remove %s", path)
		       : 0;
}

bool drain_is_set(int state_fd)
{
	return file_exists(state_fd, path);
}
