// SPDX-License-Identifier: Apache-2.0
#include "agent/data/unpack_protocol.h"
#include "base/file.h"
#include "base/message.h"
#include "oci/layer/worker_confine.h"

#include <grp.h>
#include <locale.h>
#include <poll.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

enum { NOBODY = 65534 };

static void reply(const struct unpack_reply *r)
{
	struct error ignored;
	message_send(UNPACK_SOCKET, r, sizeof(*r), NULL, 0, &ignored);
}

void unpack_tell(uint64_t bytes)
{
	struct pollfd room = {.fd = UNPACK_SOCKET, .events = POLLOUT};
	if (poll(&room, 1, 0) == 1)
		reply(&(struct unpack_reply){.bytes = bytes});
}

// What is written belongs to nobody, who can reach nothing else.
static int become_nobody(int folder, struct error *err)
{
	if (geteuid() != 0)
		return 0;
	if (fchown(folder, NOBODY, NOBODY) < 0 && errno != EINVAL)
		return error_set_errno(err, errno, "hand the folder over");
	if (setgroups(0, NULL) < 0 && errno != EPERM)
		return error_set_errno(err, errno, "drop groups");
	// In a user namespace that maps root only there is no nobody to become, and nothing to
	// lose.
	if ((setresgid(NOBODY, NOBODY, NOBODY) < 0 || setresuid(NOBODY, NOBODY, NOBODY) < 0) &&
		errno != EINVAL)
		return error_set_errno(err, errno, "become user %d", NOBODY);
	return 0;
}

static int run(struct unpack_reply *r, struct error *err)
{
	struct unpack_order order;
	int fds[2] = {-1, -1};
	enum data_failure failure = DATA_FAILED;
	ssize_t n = message_receive(UNPACK_SOCKET, &order, sizeof(order), fds, 2, false, err);
	cleanup_fd int archive = fds[0], folder = fds[1];
	r->failure = DATA_FAILED;
	if (n < 0)
		return -1;
	if (n != sizeof(order) || folder < 0)
		return error_set(err, ERROR_INVALID,
			"this is a helper process of stoker; it is not started by hand");
	// Names are UTF-8, as in the containers that will read them.
	setlocale(LC_CTYPE, "C.UTF-8");
	if (unpack_prepare(err) < 0 || become_nobody(folder, err) < 0 ||
		confine_privileges(CONFINE_DIRECTORY_UNPRIVILEGED, folder, err) < 0 ||
		confine_memory(0, err) < 0 ||
		confine_system_calls(CONFINE_DIRECTORY_UNPRIVILEGED, UNPACK_SOCKET, err) < 0)
		return -1;
	int status = unpack_archive(&order, archive, folder, &r->bytes, &failure, err);
	r->failure = status < 0 ? failure : DATA_OK;
	return status;
}

int unpack_main(void)
{
	struct unpack_reply r = {.done = 1};
	int status = run(&r, &r.error);
	reply(&r);
	// Not exit(): a leak checker would want system calls that are refused by now.
	_exit(status < 0 ? 1 : 0);
}
