// SPDX-License-Identifier: Apache-2.0
#include "base/file.h"
#include "oci/runtime/rootfs.h"

#include <string.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <unistd.h>

bool rootfs_has_erofs(void)
{
	// fsopen(2) loads the module; /proc/filesystems alone would miss one that is not loaded
	// yet.
	cleanup_fd int fs = (int)syscall(SYS_fsopen, "erofs", FSOPEN_CLOEXEC);
	if (fs >= 0)
		return true;
	cleanup_buffer struct buffer b = {0};
	struct error ignored = {0};
	if (file_read(AT_FDCWD, "/proc/filesystems", 65536, &b, &ignored) < 0)
		return false;
	return strstr(b.data, "\terofs\n") != NULL;
}
