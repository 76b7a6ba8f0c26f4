// SPDX-License-Identifier: Apache-2.0
#include "agent/link/results.h"

#include "agent/link/counters.h"
#include "base/file.h"
#include "base/log.h"
#include "base/text.h"
#include "base/time.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum { BETWEEN_MS = 10 * 1000 };

struct results {
	const char *id;	      // the attempt's, which outlives us
	struct upload upload; // with a service of our own
	int cancel;	      // eventfd
	int folder;	      // of the round
	pthread_t thread;
	bool runs;	  // is to be joined
	atomic_bool over; // the round is
	int64_t next_ms;
};

struct results *results_new(const struct attempt *a, struct error *err)
{
	const struct credential *c = &a->link->credential;
	struct results *r = xcalloc(1, sizeof(*r));
	r->folder = -1;
	r->cancel = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	r->id = a->id;
	r->upload.run = a->run;
	r->upload.service = service_open(
		&(struct service_settings){
			.url = c->url, .token = a->token, .ca = c->ca, .cancel_fd = r->cancel},
		err);
	if (r->upload.service)
		return r;
	results_free(r);
	return NULL;
}

static void *results_main(void *data)
{
	struct results *r = data;
	struct upload_status ignored;
	struct error err;
	int rc = upload_round(&r->upload, r->folder, false, &ignored, &err);
	link_counters.uploads++;
	link_counters.upload_failures += rc < 0;
	if (rc < 0 && err.kind != ERROR_UNAVAILABLE &&
		!streq(service_code(r->upload.service), "stale"))
		log_warning("%s: its results: %s", r->id, err.text);
	r->over = true;
	return NULL;
}

static void join(struct results *r)
{
	if (!r->runs)
		return;
	pthread_join(r->thread, NULL);
	close_fdp(&r->folder);
	r->runs = false;
	r->next_ms = now_ms() + BETWEEN_MS;
}

void results_begin(struct results *r, int attempt_fd)
{
	if (r->runs && r->over)
		join(r);
	if (r->runs || now_ms() < r->next_ms)
		return;
	r->folder = fcntl(attempt_fd, F_DUPFD_CLOEXEC, 3);
	r->over = false;
	r->runs = r->folder >= 0 && pthread_create(&r->thread, NULL, results_main, r) == 0;
	if (r->runs)
		return;
	close_fdp(&r->folder);
	r->next_ms = now_ms() + BETWEEN_MS;
}

void results_stop(struct results *r)
{
	eventfd_t ignored;
	eventfd_write(r->cancel, 1);
	join(r);
	eventfd_read(r->cancel, &ignored);
}

void results_free(struct results *r)
{
	if (!r)
		return;
	results_stop(r);
	service_close(r->upload.service);
	close_fdp(&r->cancel);
	free(r);
}
