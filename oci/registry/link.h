// SPDX-License-Identifier: Apache-2.0
//
// The wire to a fetcher or pusher process (oci/registry/protocol.h), the coordinator's end:
// starting it, and checking what it says before it is believed, since it reads what strangers send;
// and the first message, at its own end.
#pragma once

#include "base/process.h"
#include "oci/registry/protocol.h"
#include "oci/registry/settings.h"

// Start a helper process ("fetcher", "pusher") and send it the settings. Returns the socket, which
// the caller owns.
int registry_link_open(const char *helper, const struct registry_settings *s, struct process *p,
	struct error *err);
int fetcher_link_open(const struct registry_settings *s, struct process *p, struct error *err);

// One reply: complete, its texts ended and of one line, its error of a known kind. Returns 1; 0
// when the process has closed its end; -1 on an error; -2 when nothing is there. *fd is -1 or the
// caller's.
int fetcher_link_receive(int socket, struct fetcher_reply *r, int *fd, struct error *err);
// In such a process: the settings, the first message on its socket. They live in the arena.
int registry_link_receive(struct arena *a, struct registry_settings *s, struct error *err);
