// SPDX-License-Identifier: Apache-2.0
#include "agent/environment/records.h"
#include "agent/job/identity.h"
#include "agent/link/link.h"
#include "agent/service/service.h"
#include "base/file.h"
#include "base/log.h"
#include "base/notify.h"
#include "base/text.h"
#include "base/time.h"

#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/signalfd.h>
#include <sys/statvfs.h>
#include <sys/sysinfo.h>
#include <unistd.h>

enum {
	WAIT_MS = 30000,
	BACKOFF_FIRST_MS = 250,
	BACKOFF_MAX_MS = 30000,
	REFUSED_MS = 2000,
	STALL_MS = 10000
};

struct server {
	struct link *link;
	struct service *service;
	int signals, wake; // wake: an epoll of the signals and of the news
	int64_t wait_ms;
	char boot[BOOT_ID_SIZE], instance[17];
	bool answered; // the controller knows what does not change often
	bool draining, leaving;
	bool refused; // a start could not be accepted, and is said again at once
};

// ---- what the node has

static void write_resources(struct json_writer *w, const struct server *s)
{
	struct sysinfo info = {0};
	struct statvfs disk = {0};
	cpu_set_t cpus;
	CPU_ZERO(&cpus);
	sched_getaffinity(0, sizeof(cpus), &cpus);
	sysinfo(&info);
	fstatvfs(s->link->store->state_fd, &disk);
	json_write_key(w, "resources");
	json_write_open_object(w);
	json_write_member_int(w, "cpus", CPU_COUNT(&cpus));
	json_write_member_unsigned(w, "memory", (uint64_t)info.totalram * info.mem_unit);
	json_write_member_unsigned(w, "disk", (uint64_t)disk.f_bavail * disk.f_frsize);
	json_write_close_object(w);
}

static void write_images(struct json_writer *w, const struct server *s, struct arena *a)
{
	struct store_image *images = NULL;
	size_t count = 0;
	struct error ignored;
	char text[OCI_REFERENCE_TEXT_MAX];
	json_write_key(w, "images");
	json_write_open_array(w);
	if (store_image_list(s->link->store, a, &images, &count, &ignored) == 0)
		for (size_t i = 0; i < count; i++)
			json_write_string(w, oci_reference_format(&images[i].reference, text));
	json_write_close_array(w);
}

static void write_environments(struct json_writer *w, const struct server *s, struct arena *a)
{
	struct environment_record *records = NULL;
	size_t count = 0;
	struct error ignored;
	json_write_key(w, "environments");
	json_write_open_array(w);
	if (environment_record_list(s->link->store, a, &records, &count, &ignored) == 0)
		for (size_t i = 0; i < count; i++)
			json_write_string(w, records[i].key);
	json_write_close_array(w);
}

static void write_attempts(struct json_writer *w, struct link *l, struct arena *a)
{
	struct error ignored;
	json_write_key(w, "attempts");
	json_write_open_array(w);
	pthread_mutex_lock(&l->lock);
	for (struct attempt *t = l->attempts; t; t = t->next) {
		const struct json *report = t->report && !t->stale
						    ? json_parse(a, t->report, strlen(t->report),
							      "report", NULL, &ignored)
						    : NULL;
		if (report)
			json_write_tree(w, report);
	}
	pthread_mutex_unlock(&l->lock);
	json_write_close_array(w);
}

static void write_poll(struct json_writer *w, const struct server *s, struct arena *a)
{
	json_write_open_object(w);
	json_write_member(w, "boot", s->boot);
	json_write_member(w, "instance", s->instance);
	// The first is answered at once: what is held may be near the end of its lease.
	json_write_member_int(w, "wait_ms", s->answered ? s->wait_ms : 0);
	json_write_member(w, "version", s->link->version);
	json_write_member_bool(w, "draining", s->draining);
	if (!s->answered || !s->link->attempts) {
		write_resources(w, s);
		write_images(w, s, a);
		write_environments(w, s, a);
	}
	write_attempts(w, s->link, a);
	json_write_close_object(w);
}

// ---- what the controller says

static struct attempt *find(struct link *l, const struct json *name)
{
	const char *run = json_get_string(name, "run");
	const struct json *number = json_get(name, "attempt");
	if (!run || !number || number->type != JSON_INTEGER)
		return NULL;
	for (struct attempt *a = l->attempts; a; a = a->next)
		if (streq(a->run, run) && a->number == number->integer)
			return a;
	return NULL;
}

enum told { TOLD_CANCEL, TOLD_STALE, TOLD_KNOWN };

static void tell(struct link *l, const struct json *list, enum told what)
{
	if (!list || list->type != JSON_ARRAY)
		return;
	json_array_each (item, list) {
		struct attempt *a = find(l, &item->value);
		const struct json *sequence = json_get(&item->value, "sequence");
		if (!a)
			continue;
		pthread_mutex_lock(&l->lock);
		bool before = a->cancel && what == TOLD_CANCEL;
		a->cancel |= what == TOLD_CANCEL;
		a->stale |= what == TOLD_STALE;
		a->known |= what == TOLD_KNOWN && a->ended && sequence &&
			    sequence->type == JSON_INTEGER && sequence->integer >= a->sequence;
		pthread_mutex_unlock(&l->lock);
		if (!before)
			attempt_wake(a);
	}
}

// Polls renew the leases of what they name: one that is lost on the way must not cost them.
static void keep_lease(struct server *s, const struct json *answer)
{
	int64_t third = json_get_integer(answer, "lease_ms", 0) / 3;
	if (third > 0 && third < s->wait_ms)
		s->wait_ms = third;
}

static void heed(struct server *s, const struct json *answer)
{
	struct error err;
	keep_lease(s, answer);
	const struct json *starts = json_get(answer, "starts"), *drain = json_get(answer, "drain");
	tell(s->link, json_get(answer, "cancels"), TOLD_CANCEL);
	tell(s->link, json_get(answer, "stale"), TOLD_STALE);
	tell(s->link, json_get(answer, "known"), TOLD_KNOWN);
	s->draining = drain && drain->type == JSON_BOOL && drain->boolean;
	if (s->draining || !starts || starts->type != JSON_ARRAY)
		return;
	json_array_each (item, starts)
		if (attempt_accept(s->link, &item->value, &err) < 0) {
			log_error("a start was not accepted: %s", err.text);
			s->refused = true;
		}
}

// ---- the loop

static void pause_for(struct server *s, int64_t ms)
{
	struct pollfd fd = {.fd = s->signals, .events = POLLIN};
	poll(&fd, 1, (int)ms);
}

static void drain_wakes(struct server *s)
{
	struct signalfd_siginfo signal;
	eventfd_t ignored;
	eventfd_read(s->link->news, &ignored);
	s->leaving |= read(s->signals, &signal, sizeof(signal)) == sizeof(signal);
}

// 0: answered or called away; -1: the controller is away.
static int poll_once(struct server *s, struct error *err)
{
	cleanup_arena struct arena a = {0};
	cleanup_json_writer struct json_writer *w = json_writer_new(false);
	const struct json *answer = NULL;
	drain_wakes(s);
	attempt_reap(s->link);
	if (s->leaving)
		return 0;
	write_poll(w, s, &a);
	const struct service_request q = {.method = "POST",
		.path = "/v1/node/poll",
		.json = w,
		.fd = -1,
		.patience_ms = s->wait_ms};
	if (service_do(s->service, &q, &a, &answer, err) == 0) {
		s->answered = true;
		heed(s, answer);
		return 0;
	}
	struct pollfd fd = {.fd = s->wake, .events = POLLIN};
	return poll(&fd, 1, 0) > 0 && service_status(s->service) < 400 ? 0 : -1;
}

static int64_t jitter(int64_t ms)
{
	unsigned random = 0;
	if (getrandom(&random, sizeof(random), 0) != sizeof(random))
		return ms;
	return ms / 2 + (int64_t)(random % (unsigned)ms) / 2;
}

static void loop(struct server *s)
{
	int64_t backoff = 0;
	struct error err;
	notify_send("READY=1");
	while (!s->leaving) {
		s->refused = false;
		if (poll_once(s, &err) == 0) {
			if (backoff) // what waits for the controller need not wait any longer
				attempt_wake_all(s->link);
			if (s->refused)
				pause_for(s, REFUSED_MS);
			backoff = 0;
			notify_send("WATCHDOG=1\nSTATUS=in touch with the controller");
			continue;
		}
		if (!backoff)
			log_warning("the controller: %s", err.text);
		backoff = backoff ? backoff * 2 : BACKOFF_FIRST_MS;
		if (backoff > BACKOFF_MAX_MS)
			backoff = BACKOFF_MAX_MS;
		notify_send("WATCHDOG=1\nSTATUS=the controller does not answer");
		pause_for(s, jitter(backoff < s->wait_ms ? backoff : s->wait_ms));
	}
	notify_send("STOPPING=1");
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

// Two agents would each take what the controller gives to one.
static int lock_node(struct link *l, struct error *err)
{
	if (directory_make(l->store->state_fd, "node", 0700, err) < 0)
		return -1;
	int fd = openat(l->store->state_fd, "node/lock", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0)
		return error_set_errno(err, errno, "make node/lock");
	int rc = file_lock(fd, LOCK_EX | LOCK_NB, "node/lock", err);
	return rc == 1 ? error_set(err, ERROR_UNAVAILABLE, "another agent runs on this node") : rc;
}

int link_serve(struct link *l, struct error *err)
{
	uint64_t random = 0;
	struct server s = {.link = l, .wait_ms = notify_interval(WAIT_MS)};
	pthread_mutex_init(&l->lock, NULL);
	boot_id_get(s.boot);
	if (getrandom(&random, sizeof(random), 0) != sizeof(random))
		return error_set_errno(err, errno, "getrandom");
	snprintf(s.instance, sizeof(s.instance), "%016llx", (unsigned long long)random);
	if (lock_node(l, err) < 0 || watch(&s, err) < 0)
		return -1;
	s.service = service_open(&(struct service_settings){.url = l->credential.url,
					 .token = l->credential.token,
					 .ca = l->credential.ca,
					 .cancel_fd = s.wake,
					 .stall_ms = STALL_MS},
		err);
	if (!s.service || attempt_resume_all(l, err) < 0)
		return -1;
	loop(&s);
	return 0; // the process ends, and with it the threads: all that counts is on the disk
}
