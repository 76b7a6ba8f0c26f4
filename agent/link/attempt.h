// SPDX-License-Identifier: Apache-2.0
//
// What the files of an attempt's thread share: attempt_start.c until the engine has made a run of
// it, attempt_follow.c from there on.
#pragma once

#include "agent/link/link.h"

// What is said of it: from the run's record, or, where there is none, an end of our own; neither:
// that it was accepted.
struct attempt_words {
	const struct json *record;
	bool ending; // the record's end, with everything at the controller or given up
	const struct report_end *end;
};
// Say it with the next poll, if it is news.
void attempt_say(struct attempt *a, const struct attempt_words *w);

// The controller's words, of its polls and of its answers to the attempt's requests.
bool attempt_is_stale(struct attempt *a);
bool attempt_is_canceled(struct attempt *a);
// The same as the first, after a request by another service than the attempt's own.
bool attempt_heed(struct attempt *a, const struct service *s);

// What a thread waits for: news of the run's files, of the engine and from the controller.
struct follow {
	int runs_fd, notify;
	unsigned watched; // the run's own attempt
	bool later;	  // what is there could not be sent: news of files wakes nobody
};
void attempt_pause(struct attempt *a, struct follow *f, int ms); // ms -1: for ever

// `stoker VERB … ID`, as people would do it; its words go into the file `log` of the attempt.
int attempt_stoker(struct attempt *a, const char *const *words, const char *log, struct process *p,
	struct error *err);
bool attempt_is_running(struct process *p);

// Until the engine runs: true; false: it has ended without (said), or is stale.
bool attempt_start(struct attempt *a, struct follow *f);
// From there until everything is said.
void attempt_follow(struct attempt *a, struct follow *f);
