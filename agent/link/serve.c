// SPDX-License-Identifier: Apache-2.0
#include "agent/link/server.h"
#include "agent/service/service.h"
#include "base/file.h"
#include "base/log.h"
#include "base/notify.h"
#include "base/text.h"
#include "base/time.h"

#include <dirent.h>
#include <poll.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/signalfd.h>
#include <unistd.h>

// NEWS_MS: what is new within so little is said together.
enum {
	WAIT_MS = 30000,
	BACKOFF_FIRST_MS = 250,
	BACKOFF_MAX_MS = 30000,
	REFUSED_MS = 2000,
	STALL_MS = 10000,
	NEWS_MS = 100,
};

// ---- the loop

static void pause_for(struct server *s, int64_t ms)
{
	struct pollfd fd = {.fd = s->signals, .events = POLLIN};
	if (ms > 0)
		poll(&fd, 1, (int)ms);
}

static void drain_wakes(struct server *s)
{
	struct signalfd_siginfo signal;
	eventfd_t ignored;
	eventfd_read(s->link->news, &ignored);
	s->leaving |= read(s->signals, &signal, sizeof(signal)) == sizeof(signal);
}

static int64_t jitter(int64_t ms)
{
	unsigned random = 0;
	if (getrandom(&random, sizeof(random), 0) != sizeof(random))
		return ms;
	return ms / 2 + (int64_t)(random % (unsigned)ms) / 2;
}

static void set_up(struct server *s, bool up, const struct error *err)
{
	if (up == s->up && s->changed_ms)
		return;
	if (!up)
		log_warning("the controller: %s", err->text);
	s->up = up;
	s->changed_ms = now_ms();
	notify_send(up ? "STATUS=in touch with the controller"
		       : "STATUS=the controller does not answer");
}

static void loop(struct server *s)
{
	int64_t backoff = 0, began = 0;
	struct error err;
	notify_send("READY=1");
	for (;;) {
		pause_for(s, began + NEWS_MS - now_ms());
		drain_wakes(s);
		if (s->leaving)
			break;
		s->turned_ms = began = now_ms();
		s->refused = false;
		if (poll_once(s, &err) == 0) {
			if (backoff) // what waits for the controller need not wait any longer
				attempt_wake_all(s->link);
			if (s->refused)
				pause_for(s, REFUSED_MS);
			backoff = 0;
			set_up(s, true, NULL);
			continue;
		}
		set_up(s, false, &err);
		backoff = backoff ? backoff * 2 : BACKOFF_FIRST_MS;
		if (backoff > BACKOFF_MAX_MS)
			backoff = BACKOFF_MAX_MS;
		pause_for(s, jitter(backoff));
	}
	notify_send("STOPPING=1");
	if (s->up)
		poll_goodbye(s);
}

static int watch(struct server *s, struct error *err)
{
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigprocmask(SIG_BLOCK, &set, NULL); // the threads have it so, too
	s->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	s->wake = epoll_create1(EPOLL_CLOEXEC);
	s->link->news = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	struct epoll_event event = {.events = EPOLLIN};
	if (s->signals < 0 || s->wake < 0 || s->link->news < 0 ||
		epoll_ctl(s->wake, EPOLL_CTL_ADD, s->signals, &event) < 0 ||
		epoll_ctl(s->wake, EPOLL_CTL_ADD, s->link->news, &event) < 0)
		return error_set_errno(err, errno, "epoll");
	return 0;
}

int link_lock(struct store *s, struct error *err)
{
	if (directory_make(s->state_fd, "node", 0700, err) < 0)
		return -1;
	cleanup_fd int fd = openat(s->state_fd, "node/lock", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0)
		return error_set_errno(err, errno, "make node/lock");
	int rc = file_lock(fd, LOCK_EX | LOCK_NB, "node/lock", err);
	if (rc == 1)
		return error_set(err, ERROR_UNAVAILABLE, "an agent runs on this node");
	return rc < 0 ? -1 : steal_fd(&fd);
}

unsigned link_attempts_held(struct store *s)
{
	struct error ignored;
	int fd = directory_open(s->state_fd, "node/attempts", &ignored);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	unsigned count = 0;
	if (!dir)
		return 0;
	for (struct dirent *e; (e = readdir(dir));)
		count += e->d_name[0] != '.';
	closedir(dir);
	return count;
}

int link_serve(struct link *l, struct error *err)
{
	uint64_t random = 0;
	struct server s = {.link = l,
		.wait_ms = WAIT_MS,
		.socket = -1,
		.started_ms = now_ms(),
		.turned_ms = now_ms(),
		.draining = drain_is_set(l->store->state_fd)};
	pthread_mutex_init(&l->lock, NULL);
	boot_id_get(s.boot);
	if (getrandom(&random, sizeof(random), 0) != sizeof(random))
		return error_set_errno(err, errno, "getrandom");
	snprintf(s.instance, sizeof(s.instance), "%016llx", (unsigned long long)random);
	if (link_lock(l->store, err) < 0 || watch(&s, err) < 0) // the lock is the process's
		return -1;
	s.service = service_open(&(struct service_settings){.url = l->credential.url,
					 .token = l->credential.token,
					 .ca = l->credential.ca,
					 .cancel_fd = s.wake,
					 .stall_ms = STALL_MS},
		err);
	if (!s.service || local_start(&s, err) < 0 || attempt_resume_all(l, err) < 0)
		return -1;
	loop(&s);
	local_stop(&s);
	return 0; // the process ends, and with it the threads: all that counts is on the disk
}
