// SPDX-License-Identifier: Apache-2.0
//
// What the parts of the agent's own work share: the loop (serve.c), what it says and hears in a
// poll (poll.c), and the local socket (local.c, local_metrics.c), which has a thread of its own.
#pragma once

#include "agent/job/identity.h"
#include "agent/link/capacity.h"
#include "agent/link/drain.h"

#include <stdatomic.h>

// A start that this node cannot hold; it is said until a poll was answered that had it.
struct refusal {
	struct refusal *next;
	char *run, *reason;
	int64_t attempt;
};

struct server {
	struct link *link;
	struct service *service;
	int signals, wake; // wake: an epoll of the signals and of the news
	int64_t wait_ms;
	char boot[BOOT_ID_SIZE], instance[17];
	bool leaving;
	bool refused; // a start could not be accepted, and is said again at once

	// What the controller knows, and what it would have to be told; NULL: nothing yet.
	struct said {
		char *resources, *images, *environments;
	} known, now;
	int64_t looked_ms; // when `now` was found out
	unsigned held;	   // attempts that counted then
	struct refusal *refusals;

	_Atomic bool draining; // the administrator of the node wants it
	_Atomic bool drain;    // the controller's wants it, by its last answer

	_Atomic bool up;				   // the last poll was answered
	_Atomic int64_t changed_ms, turned_ms, started_ms; // of `up`; of the loop's last turn
	int socket;
	pthread_t local;
};

// One poll: what there is to say, and what comes of the answer. 0: answered, or called away;
// ERROR_UNAVAILABLE and others: it was not.
int poll_once(struct server *s, struct error *err);
// Its second half: what the controller says.
void poll_heed(struct server *s, const struct json *answer);
// The last one: the agent ends for now, and its jobs go on. Tried once, for few seconds.
void poll_goodbye(struct server *s);

// Serve <run>/agent.sock by a thread, which also tells the service manager that the loop turns.
int local_start(struct server *s, struct error *err);
void local_stop(struct server *s);
// The answers: JSON, and Prometheus' text.
void local_status(struct server *s, struct buffer *out);
void local_metrics(struct server *s, struct buffer *out);
