// SPDX-License-Identifier: Apache-2.0
//
// From an accepted start to an engine that runs: the snapshot, the results of a lost attempt, the
// job's file. What fails for certain ends the attempt with a cause, what the network did is tried
// again.
#include "agent/job/run.h"
#include "agent/link/attempt.h"
#include "agent/link/report.h"
#include "base/file.h"
#include "base/log.h"
#include "base/text.h"
#include "base/time.h"

#include <stdio.h>
#include <sys/stat.h>

enum { FIRST_MS = 1000, PAUSE_MS_MAX = 30 * 1000, DAMAGED_MAX = 3 };
// A controller that does not answer is waited for: nobody could be told of the end. One that
// answers that it cannot is not waited for any longer than this.
enum { PATIENCE_MS = 5 * 60 * 1000 };

static int start_engine(struct attempt *a, struct error *err)
{
	cleanup_free char *folder =
		xasprintf("%s/node/attempts/%s", a->link->store->state_dir, a->id);
	cleanup_free char *job = path_join(folder, "job.json");
	cleanup_free char *restore = path_join(folder, "restore");
	const char *words[8] = {"run", "-d", "--id", a->id};
	size_t n = 4;
	// An engine of an agent that was killed may be reading what is there: it is written once.
	if (!file_exists(a->folder, "job.json") &&
		(attempt_restore(a, err) < 0 || attempt_write_job(a, err) < 0))
		return -1;
	if (file_exists(a->folder, "restore")) {
		words[n++] = "--restore";
		words[n++] = restore;
	}
	words[n] = job;
	return attempt_stoker(a, words, "engine.log", &a->engine, err);
}

static void end_failed(struct attempt *a, const struct error *err)
{
	bool outside = err->kind == ERROR_NOT_FOUND || err->kind == ERROR_INTEGRITY ||
		       err->kind == ERROR_UNAVAILABLE;
	const struct report_end end = {.state = RUN_FAILED,
		.class = outside ? CAUSE_INFRASTRUCTURE : CAUSE_SYSTEM,
		.code = "StartFailed",
		.message = err->text};
	log_error("%s: not started: %s", a->id, err->text);
	attempt_say(a, &(struct attempt_words){.end = &end});
}

static void end_canceled(struct attempt *a)
{
	const struct report_end end = {.state = RUN_CANCELED,
		.class = CAUSE_USER,
		.code = "Canceled",
		.message = "canceled before the script was started"};
	attempt_say(a, &(struct attempt_words){.end = &end});
}

// Is it worth another try?
struct trying {
	int64_t refused_ms; // when the controller first answered that it cannot; 0: not yet
	int damaged;	    // how often what came was not what was promised
};

static bool is_hopeless(const struct attempt *a, struct trying *t, const struct error *err)
{
	if (err->kind == ERROR_INTEGRITY)
		return ++t->damaged >= DAMAGED_MAX;
	if (err->kind != ERROR_UNAVAILABLE)
		return true;
	if (!a->answered)
		return false;
	if (!t->refused_ms)
		t->refused_ms = now_ms();
	return now_ms() - t->refused_ms > PATIENCE_MS;
}

static bool is_unwanted(struct attempt *a)
{
	return attempt_is_stale(a) || attempt_is_canceled(a);
}

bool attempt_start(struct attempt *a, struct follow *f)
{
	struct error err;
	struct trying trying = {0};
	int wait = FIRST_MS;
	if (run_attempt_last(f->runs_fd, a->id) || file_exists(a->folder, "started"))
		return true;
	// The engine that an agent before us has started would still make the run.
	bool fresh = !file_exists(a->folder, "engine.log");
	while (!fresh || !is_unwanted(a)) {
		if (start_engine(a, &err) == 0)
			return true;
		fresh = true;
		if (attempt_is_stale(a))
			return false;
		if (is_hopeless(a, &trying, &err)) {
			end_failed(a, &err);
			return false;
		}
		log_warning("%s: not started yet: %s", a->id, err.text);
		attempt_pause(a, f, wait);
		wait = wait * 2 < PAUSE_MS_MAX ? wait * 2 : PAUSE_MS_MAX;
	}
	if (!attempt_is_stale(a))
		end_canceled(a);
	return false;
}
