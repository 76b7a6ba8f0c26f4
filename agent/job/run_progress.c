// SPDX-License-Identifier: Apache-2.0
#include "agent/job/run_document.h"
#include "base/time.h"

// Bytes that were here in the beginning were not fetched.
static uint64_t rate_of(struct run_told *t, uint64_t done, int64_t now)
{
	if (!t->from_ms) {
		t->from = done;
		t->from_ms = now;
	}
	int64_t ms = now - t->from_ms;
	return ms > 0 && done > t->from ? (done - t->from) * 1000 / (uint64_t)ms : 0;
}

void run_progress(struct run *r, uint64_t done, uint64_t total)
{
	enum { TELL_MS = 1000, TELL_ANYWAY_MS = 5000 };
	struct run_told *t = &r->told;
	struct error ignored; // the next writing tells it
	int64_t now = now_ms();
	if (!r->phase_count)
		return;
	struct run_phase *p = &r->phases[r->phase_count - 1];
	if (done < t->done) // another part of the phase
		*t = (struct run_told){.ms = t->ms};
	uint64_t rate = rate_of(t, done, now);
	bool further = total && done / (total / 100 + 1) != t->done / (total / 100 + 1);
	if (done == t->done || (t->ms && now - t->ms < (further ? TELL_MS : TELL_ANYWAY_MS)))
		return;
	t->ms = now;
	t->done = done;
	p->bytes = done;
	p->total = total;
	p->rate = rate;
	run_document_write(r, &ignored);
}
