// SPDX-License-Identifier: Apache-2.0
#include "base/loop.h"

#include "base/file.h"

#include <assert.h>
#include <limits.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

enum { EVENTS_AT_ONCE = 32 };

enum source_type { SOURCE_FD, SOURCE_TIMER, SOURCE_SIGNAL };

// A source that is removed while callbacks run is marked dead, leaves its list with its own `next`
// kept, and is freed after the round: events and iterations may still point at it.
struct loop_source {
	struct loop *loop;
	struct loop_source *next, **back; // the list of its type; back: what points here
	struct loop_source *next_dead;
	enum source_type type;
	bool dead;
	int fd;
	int signo;
	int64_t deadline; // now_ms(); -1: not armed
	uint64_t round;	  // in which the timer was armed
	union {
		loop_fd_fn *fd_fn;
		loop_timer_fn *timer_fn;
		loop_signal_fn *signal_fn;
	};
	void *data;
};

struct loop {
	int epoll;
	int signals; // signalfd, -1 until needed
	sigset_t mask;
	struct loop_source *lists[3]; // by type
	struct loop_source *dead;
	uint64_t round;
	bool running, quit;
	int value;
};

struct loop *loop_new(struct error *err)
{
	int epoll = epoll_create1(EPOLL_CLOEXEC);
	if (epoll < 0) {
		error_set_errno(err, errno, "epoll_create1");
		return NULL;
	}
	struct loop *loop = xcalloc(1, sizeof(*loop));
	loop->epoll = epoll;
	loop->signals = -1;
	loop->round = 1;
	sigemptyset(&loop->mask);
	return loop;
}

static void free_dead(struct loop *loop)
{
	while (loop->dead) {
		struct loop_source *s = loop->dead;
		loop->dead = s->next_dead;
		free(s);
	}
}

void loop_free(struct loop *loop)
{
	if (!loop)
		return;
	assert(!loop->running);
	for (size_t i = 0; i < array_size(loop->lists); i++)
		while (loop->lists[i])
			loop_remove(loop->lists[i]);
	free_dead(loop);
	close_fdp(&loop->signals);
	close_fdp(&loop->epoll);
	free(loop);
}

static struct loop_source *source_new(struct loop *loop, enum source_type type, void *data)
{
	struct loop_source *s = xcalloc(1, sizeof(*s));
	*s = (struct loop_source){
		.loop = loop, .type = type, .fd = -1, .deadline = -1, .data = data};
	struct loop_source **list = &loop->lists[type];
	s->next = *list;
	s->back = list;
	if (s->next)
		s->next->back = &s->next;
	*list = s;
	return s;
}

struct loop_source *loop_add_fd(
	struct loop *loop, int fd, uint32_t events, loop_fd_fn *fn, void *data, struct error *err)
{
	struct loop_source *s = source_new(loop, SOURCE_FD, data);
	s->fd_fn = fn;
	struct epoll_event event = {.events = events, .data.ptr = s};
	if (epoll_ctl(loop->epoll, EPOLL_CTL_ADD, fd, &event) < 0) {
		error_set_errno(err, errno, "watch descriptor %d", fd);
		loop_remove(s); // its fd is still -1: nothing to unregister
		return NULL;
	}
	s->fd = fd;
	return s;
}

int loop_modify_fd(struct loop_source *source, uint32_t events, struct error *err)
{
	assert(source->type == SOURCE_FD);
	struct epoll_event event = {.events = events, .data.ptr = source};
	if (epoll_ctl(source->loop->epoll, EPOLL_CTL_MOD, source->fd, &event) < 0)
		return error_set_errno(err, errno, "watch descriptor %d", source->fd);
	return 0;
}

struct loop_source *loop_add_timer(
	struct loop *loop, int64_t ms, loop_timer_fn *fn, void *data, struct error *err)
{
	(void)err; // cannot fail today; a timerfd could
	struct loop_source *s = source_new(loop, SOURCE_TIMER, data);
	s->timer_fn = fn;
	loop_timer_set(s, ms);
	return s;
}

void loop_timer_set(struct loop_source *timer, int64_t ms)
{
	assert(timer->type == SOURCE_TIMER);
	const int64_t most = INT64_MAX / 4;
	if (ms > most)
		ms = most;
	// The clock is cut to whole milliseconds; one more keeps a timer from firing early.
	timer->deadline = ms < 0 ? -1 : now_ms() + ms + (ms > 0);
	timer->round = timer->loop->round;
}

static void read_signals(void *data, uint32_t events)
{
	struct loop *loop = data;
	struct signalfd_siginfo info;
	(void)events;
	// One by one: what is read but not delivered before a quit would be lost.
	while (!loop->quit && read(loop->signals, &info, sizeof(info)) == sizeof(info))
		for (struct loop_source *s = loop->lists[SOURCE_SIGNAL]; s; s = s->next)
			if (!s->dead && s->signo == (int)info.ssi_signo)
				s->signal_fn(s->data, s->signo);
}

static int watch_signals(struct loop *loop, const sigset_t *mask, struct error *err)
{
	int fd = signalfd(loop->signals, mask, SFD_CLOEXEC | SFD_NONBLOCK);
	if (fd < 0)
		return error_set_errno(err, errno, "signalfd");
	if (loop->signals < 0) {
		loop->signals = fd;
		if (!loop_add_fd(loop, fd, EPOLLIN, read_signals, loop, err)) {
			close_fdp(&loop->signals);
			loop->signals = -1;
			return -1;
		}
	}
	loop->mask = *mask;
	return 0;
}

struct loop_source *loop_add_signal(
	struct loop *loop, int signo, loop_signal_fn *fn, void *data, struct error *err)
{
	sigset_t mask = loop->mask, one;
	sigemptyset(&one);
	if (sigaddset(&one, signo) < 0 || sigaddset(&mask, signo) < 0) {
		error_set_errno(err, errno, "watch signal %d", signo);
		return NULL;
	}
	pthread_sigmask(SIG_BLOCK, &one, NULL);
	if (watch_signals(loop, &mask, err) < 0)
		return NULL;
	struct loop_source *s = source_new(loop, SOURCE_SIGNAL, data);
	s->signo = signo;
	s->signal_fn = fn;
	return s;
}

// The last source of a signal is gone: stop taking it.
static void forget_signal(struct loop *loop, int signo)
{
	for (struct loop_source *s = loop->lists[SOURCE_SIGNAL]; s; s = s->next)
		if (s->signo == signo)
			return;
	struct error ignored;
	sigset_t mask = loop->mask;
	sigdelset(&mask, signo);
	watch_signals(loop, &mask, &ignored);
}

void loop_remove(struct loop_source *source)
{
	if (!source)
		return;
	struct loop *loop = source->loop;
	assert(!source->dead);
	source->dead = true;
	*source->back = source->next;
	if (source->next)
		source->next->back = source->back;
	if (source->type == SOURCE_FD && source->fd >= 0)
		epoll_ctl(loop->epoll, EPOLL_CTL_DEL, source->fd, NULL); // gone if it was closed
	if (source->type == SOURCE_SIGNAL)
		forget_signal(loop, source->signo);
	source->next_dead = loop->dead;
	loop->dead = source;
	if (!loop->running)
		free_dead(loop);
}

// The armed timer that is due first, among those armed before `round`.
static struct loop_source *earliest_timer(struct loop *loop, uint64_t round)
{
	struct loop_source *first = NULL;
	for (struct loop_source *s = loop->lists[SOURCE_TIMER]; s; s = s->next)
		if (s->deadline >= 0 && s->round < round &&
			(!first || s->deadline <= first->deadline))
			first = s; // the list has the newest in front: on a tie the older one fires
				   // first
	return first;
}

static int wait_ms(struct loop *loop)
{
	struct loop_source *first = earliest_timer(loop, UINT64_MAX);
	if (!first)
		return -1;
	int64_t ms = first->deadline - now_ms();
	return ms < 0 ? 0 : ms > INT_MAX ? INT_MAX : (int)ms;
}

// A timer that is armed by a callback waits for the next round even when it is due at once, so that
// timers cannot starve the descriptors.
static void fire_timers(struct loop *loop)
{
	int64_t now = now_ms();
	uint64_t round = ++loop->round;
	struct loop_source *s;
	while (!loop->quit && (s = earliest_timer(loop, round)) && s->deadline <= now) {
		s->deadline = -1;
		s->timer_fn(s->data);
	}
}

int loop_run(struct loop *loop, struct error *err)
{
	assert(!loop->running);
	struct epoll_event events[EVENTS_AT_ONCE];
	loop->running = true;
	int result = 0;
	while (!loop->quit) {
		int count = epoll_wait(loop->epoll, events, EVENTS_AT_ONCE, wait_ms(loop));
		if (count < 0 && errno != EINTR) {
			result = error_set_errno(err, errno, "epoll_wait");
			break;
		}
		for (int i = 0; i < count && !loop->quit; i++) {
			struct loop_source *s = events[i].data.ptr;
			if (!s->dead)
				s->fd_fn(s->data, events[i].events);
		}
		fire_timers(loop);
		free_dead(loop);
	}
	loop->running = false;
	free_dead(loop);
	if (loop->quit)
		result = loop->value;
	loop->quit = false;
	return result;
}

void loop_quit(struct loop *loop, int value)
{
	loop->quit = true;
	loop->value = value;
}
