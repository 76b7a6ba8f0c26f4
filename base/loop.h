// SPDX-License-Identifier: Apache-2.0
//
// One epoll loop per process: descriptors, timers, signals (signalfd) and children (pidfd).
// Callbacks run one at a time; each may add and remove any source, its own included, at any moment.
#pragma once

#include "base/error.h"
#include "base/memory.h"
#include "base/time.h"

#include <stdint.h>
#include <sys/epoll.h>

struct loop;
struct loop_source;

typedef void loop_fd_fn(void *data, uint32_t events);
typedef void loop_timer_fn(void *data);
typedef void loop_signal_fn(void *data, int signo);

struct loop *loop_new(struct error *err);
// Frees the sources too. NULL is fine; not from inside a callback.
void loop_free(struct loop *loop);

// Watch a descriptor (EPOLLIN, EPOLLOUT…; level-triggered). The loop does not own it; remove the
// source before closing the descriptor, or its number may by then be another's.
struct loop_source *loop_add_fd(
	struct loop *loop, int fd, uint32_t events, loop_fd_fn *fn, void *data, struct error *err);
int loop_modify_fd(struct loop_source *source, uint32_t events, struct error *err);

// Fire once after `ms`; loop_timer_set() arms it again (or moves it), ms < 0 disarms.
struct loop_source *loop_add_timer(
	struct loop *loop, int64_t ms, loop_timer_fn *fn, void *data, struct error *err);
void loop_timer_set(struct loop_source *timer, int64_t ms);

// Block the signal in this thread and those it starts from now on, and deliver it here. It stays
// blocked after loop_remove(): a late one must not kill the process.
struct loop_source *loop_add_signal(
	struct loop *loop, int signo, loop_signal_fn *fn, void *data, struct error *err);

// Stop watching and free. NULL is fine.
void loop_remove(struct loop_source *source);

// Run until loop_quit(); returns the value given there, or -1 with an error.
int loop_run(struct loop *loop, struct error *err);
void loop_quit(struct loop *loop, int value);

DEFINE_CLEANUP(loop_free, struct loop *, loop_free)
#define cleanup_loop __attribute__((cleanup(loop_freep)))
