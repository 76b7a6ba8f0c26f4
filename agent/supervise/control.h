// SPDX-License-Identifier: Apache-2.0
//
// The supervisor's side of the control socket: accepts those who may (root and the user it runs
// as), reads their requests and sends answers. Nobody can make it wait: who does not read loses the
// connection.
#pragma once

#include "base/json.h"
#include "base/json_write.h"
#include "base/loop.h"

enum { CONTROL_FDS_MAX = 3 };

struct control;
struct control_peer; // somebody who is connected

// A request. `fds` came with it, unused ones -1; what the function keeps it replaces by -1.
typedef void control_fn(void *data, struct control_peer *peer, const struct json *request,
	int fds[CONTROL_FDS_MAX]);

// Listen as `folder`/control. The folder's descriptor stays the caller's.
struct control *control_new(
	struct loop *loop, int folder, control_fn *fn, void *data, struct error *err);
// Closes all connections. NULL is fine.
void control_free(struct control *c);

// A connection that exists already; it is watched for requests and gets events. Takes the
// descriptor; NULL on failure.
struct control_peer *control_adopt(struct control *c, int fd, struct error *err);
void control_subscribe(struct control_peer *peer);

// Called once when the connection ends, unless it is replaced before; `fn` NULL: nothing any more.
void control_on_close(struct control_peer *peer, void (*fn)(void *data), void *data);

// Answers. The writer is at the end of an object; it is finished here.
void control_send(struct control_peer *peer, struct json_writer *w);
// With a descriptor, which stays the caller's; -1: none.
void control_send_fd(struct control_peer *peer, struct json_writer *w, int fd);
void control_send_ok(struct control_peer *peer);
void control_send_error(struct control_peer *peer, const struct error *err);
// To all who are subscribed.
void control_broadcast(struct control *c, struct json_writer *w);

DEFINE_CLEANUP(control_free, struct control *, control_free)
#define cleanup_control __attribute__((cleanup(control_freep)))
