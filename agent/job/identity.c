// SPDX-License-Identifier: Apache-2.0
#include "agent/job/identity.h"

#include "base/file.h"
#include "base/text.h"

#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { STAT_SIZE = 1024, START_FIELD = 22, FIELDS_BEFORE = 2 };

void boot_id_get(char id[BOOT_ID_SIZE])
{
	memset(id, 0, BOOT_ID_SIZE);
	cleanup_fd int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
	if (fd < 0 || read(fd, id, BOOT_ID_SIZE - 1) < 0)
		id[0] = '\0';
}

// The program's name, field 2, may hold spaces and parentheses; what follows the last ')' does not.
static uint64_t start_field(const char *text)
{
	const char *p = strrchr(text, ')');
	for (int field = FIELDS_BEFORE; p && field < START_FIELD; field++) {
		p = strchr(p, ' ');
		p = p ? p + 1 : NULL;
	}
	uint64_t ticks;
	return p && parse_u64_n(p, strcspn(p, " \n"), &ticks) ? ticks : 0;
}

uint64_t process_start_time(pid_t pid)
{
	char path[64], text[STAT_SIZE];
	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	cleanup_fd int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
	if (n <= 0)
		return 0;
	text[n] = '\0';
	return start_field(text);
}

int process_find(pid_t pid, uint64_t start_time)
{
	if (pid <= 0 || start_time == 0)
		return -1;
	cleanup_fd int fd = (int)syscall(SYS_pidfd_open, pid, 0);
	// Read after the descriptor is there: what it then says is of the process behind it.
	return fd >= 0 && process_start_time(pid) == start_time ? steal_fd(&fd) : -1;
}
