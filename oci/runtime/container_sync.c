// SPDX-License-Identifier: Apache-2.0
#include "base/message.h"
#include "oci/runtime/container_internal.h"

#include <string.h>

int sync_send(int fd, enum sync_kind kind, pid_t pid, const struct error *text, struct error *err)
{
	struct sync_message m;
	memset(&m, 0, sizeof(m)); // padding too: it leaves the process
	m.kind = kind;
	m.pid = pid;
	if (text)
		m.error = *text;
	return message_send(fd, &m, sizeof(m), NULL, 0, err);
}

int sync_receive(int fd, struct sync_message *m, struct error *err)
{
	ssize_t n = message_receive(fd, m, sizeof(*m), NULL, 0, false, err);
	if (n < 0)
		return -1;
	if (n == 0)
		return 0;
	if (n != sizeof(*m))
		return error_set(err, ERROR_SYSTEM, "the container sent half a message");
	m->error.text[sizeof(m->error.text) - 1] = '\0';
	return 1;
}

bool container_has_hooks(const struct container_options *o)
{
	const struct runtime_hooks *hooks = o->spec->hooks;
	return o->hook &&
	       (hooks[RUNTIME_HOOK_PRESTART].count || hooks[RUNTIME_HOOK_CREATE_RUNTIME].count ||
		       hooks[RUNTIME_HOOK_CREATE_CONTAINER].count);
}
