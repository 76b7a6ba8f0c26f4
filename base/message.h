// SPDX-License-Identifier: Apache-2.0
//
// Messages between our own processes over SOCK_SEQPACKET socket pairs: one packet is one message,
// up to MESSAGE_MAX bytes and MESSAGE_FDS descriptors (SCM_RIGHTS).
#pragma once

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

enum { MESSAGE_MAX = 64 * 1024, MESSAGE_FDS = 8 };

// A connected, close-on-exec SOCK_SEQPACKET pair.
int message_pair(int fds[2], struct error *err);

// Send one packet. Blocks while the peer's queue is full; a peer that is gone is ERROR_UNAVAILABLE
// (never SIGPIPE).
int message_send(
	int fd, const void *data, size_t size, const int *fds, size_t fd_count, struct error *err);

// Receive one packet. Returns its size, 0 when the peer has closed, -1 on error. A packet that does
// not fit `capacity` is ERROR_INVALID. Descriptors arrive close-on-exec in `fds` (unused entries
// -1, more than fd_capacity are closed and the packet refused); the caller owns them. With
// `nonblocking` an empty queue returns -2 and leaves the error untouched.
ssize_t message_receive(int fd, void *data, size_t capacity, int *fds, size_t fd_capacity,
	bool nonblocking, struct error *err);
