// SPDX-License-Identifier: Apache-2.0
#include "oci/runtime/loop_device.h"

#include "base/file.h"

#include <linux/loop.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum { LOOP_TRIES = 128, LOOP_BLOCK = 4096 };

int loop_device_attach(int file_fd, char path[LOOP_PATH_SIZE], struct error *err)
{
	char name[32];
	cleanup_fd int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
	if (control < 0)
		return error_set_errno(err, errno,
			"open /dev/loop-control (the kernel module \"loop\" is needed here)");
	// The device keeps the open file as long as it lives, and with it any lock: so it gets an
	// open file of its own.
	snprintf(name, sizeof(name), "/proc/self/fd/%d", file_fd);
	cleanup_fd int file = open(name, O_RDONLY | O_CLOEXEC);
	if (file < 0)
		return error_set_errno(err, errno, "open the layer for a loop device");
	struct loop_config config = {
		.fd = (unsigned)file,
		.block_size = LOOP_BLOCK, // EROFS blocks; what direct I/O is aligned to
		.info.lo_flags = LO_FLAGS_READ_ONLY | LO_FLAGS_AUTOCLEAR | LO_FLAGS_DIRECT_IO,
	};
	for (int i = 0; i < LOOP_TRIES; i++) {
		int number = ioctl(control, LOOP_CTL_GET_FREE);
		if (number < 0)
			return error_set_errno(err, errno, "find a free loop device");
		char device[LOOP_PATH_SIZE];
		snprintf(device, sizeof(device), "/dev/loop%d", number);
		cleanup_fd int fd = open(device, O_RDONLY | O_CLOEXEC);
		if (fd < 0)
			return error_set_errno(err, errno, "open %s", device);
		if (ioctl(fd, LOOP_CONFIGURE, &config) == 0) {
			snprintf(path, LOOP_PATH_SIZE, "%s", device);
			return steal_fd(&fd);
		}
		if (errno == EBUSY) // somebody else was faster
			continue;
		// Some file systems refuse direct I/O instead of passing over it.
		if (errno == EINVAL && (config.info.lo_flags & LO_FLAGS_DIRECT_IO)) {
			config.info.lo_flags &= ~(unsigned)LO_FLAGS_DIRECT_IO;
			continue;
		}
		return error_set_errno(err, errno, "attach a layer to %s", device);
	}
	return error_set(err, ERROR_UNAVAILABLE, "no loop device: each was taken before we had it");
}
