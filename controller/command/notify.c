// SPDX-License-Identifier: Apache-2.0
#include "controller/command/notify.h"

#include "base/file.h"

#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

void notify_manager(const char *word)
{
	const char *path = getenv("NOTIFY_SOCKET");
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	size_t size = path ? strlen(path) : 0;
	if (size == 0 || size >= sizeof(address.sun_path))
		return;
	memcpy(address.sun_path, path, size);
	if (path[0] == '@') // in the abstract name space
		address.sun_path[0] = '\0';
	cleanup_fd int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	socklen_t length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + size);
	if (fd >= 0) // nothing depends on it
		(void)!sendto(
			fd, word, strlen(word), MSG_NOSIGNAL, (struct sockaddr *)&address, length);
}
