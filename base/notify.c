// SPDX-License-Identifier: Apache-2.0
#include "base/notify.h"

#include "base/file.h"
#include "base/text.h"

#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>

void notify_send(const char *text)
{
	const char *path = getenv("NOTIFY_SOCKET");
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	size_t n = path ? strlen(path) : 0;
	if (n < 2 || n >= sizeof(address.sun_path))
		return;
	memcpy(address.sun_path, path, n);
	if (*path == '@') // the abstract name space
		address.sun_path[0] = '\0';
	cleanup_fd int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd >= 0)
		sendto(fd, text, strlen(text), MSG_NOSIGNAL, (struct sockaddr *)&address,
			(socklen_t)(offsetof(struct sockaddr_un, sun_path) + n));
}

int64_t notify_interval(int64_t most)
{
	const char *text = getenv("WATCHDOG_USEC");
	uint64_t us;
	if (!text || !parse_u64(text, &us) || us < 3000 || us / 3000 > (uint64_t)most)
		return most;
	return (int64_t)(us / 3000);
}
