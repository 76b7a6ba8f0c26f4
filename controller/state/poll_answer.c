// SPDX-License-Identifier: Apache-2.0
#include "controller/state/poll.h"

#include "base/text.h"
#include "controller/state/run.h"

struct answering {
	struct database_tx *tx;
	struct arena *arena;
	const char *node;
	const struct poll *poll;
	int64_t now, lease_ms;
	struct json_writer *writer;
	struct database_rows open; // attempts of this node
	bool idle;
};

enum { RUN, ATTEMPT, STATE, CANCEL, BY };

const struct poll_attempt *poll_named(const struct poll *p, const char *run, int64_t attempt)
{
	for (size_t i = 0; i < p->attempt_count; i++)
		if (p->attempts[i].attempt == attempt && streq(p->attempts[i].run, run))
			return &p->attempts[i];
	return NULL;
}

static void write_place(struct json_writer *w, const char *run, int64_t attempt)
{
	json_write_open_object(w);
	json_write_member(w, "run", run);
	json_write_member_int(w, "attempt", attempt);
}

// ---- starts

// The texts are told once and not kept, so a start that is repeated has new ones. Those before stay
// good: which of the answers reached the node is not known, and the one that did may be the older
// one (a poll that was given up is still answered). Of very many repetitions the last ones count.
static int keep_last_tokens(
	struct answering *q, const char *run, int64_t attempt, struct error *err)
{
	enum { KEPT = 2 * 16 };
	return database_do(q->tx, q->arena,
		"DELETE FROM token WHERE run = ?1 AND attempt = ?2 AND id NOT IN (SELECT id FROM "
		"token WHERE run = ?1 AND attempt = ?2 ORDER BY created DESC, id LIMIT ?3)",
		database_values(
			database_text(run), database_integer(attempt), database_integer(KEPT)),
		err);
}

static int write_tokens(
	struct answering *q, const char *run, int64_t attempt, const char *owner, struct error *err)
{
	char text[TOKEN_TEXT_SIZE];
	const struct {
		const char *key;
		enum role role;
	} tokens[] = {{"token", ROLE_RUN}, {"job_token", ROLE_METRICS}};
	if (keep_last_tokens(q, run, attempt, err) < 0)
		return -1;
	for (size_t i = 0; i < array_size(tokens); i++) {
		const struct token_options o = {
			.role = tokens[i].role, .owner = owner, .run = run, .attempt = attempt};
		if (token_make(q->tx, &o, text, err) < 0)
			return -1;
		json_write_member(q->writer, tokens[i].key, text);
	}
	return 0;
}

static int write_start(struct answering *q, const char *run, int64_t attempt, struct error *err)
{
	struct database_rows rows;
	struct json_writer *w = q->writer;
	if (database_run(q->tx, q->arena,
		    "SELECT experiment, job, snapshot, secrets, owner FROM run WHERE id = ?1",
		    database_values(database_text(run)), &rows, err) < 0)
		return -1;
	write_place(w, run, attempt);
	json_write_member(w, "experiment", database_get_text(&rows, 0, 0));
	run_write_document(w, q->arena, "job", database_get_text(&rows, 0, 1));
	json_write_member(w, "snapshot", database_get_text(&rows, 0, 2));
	run_write_document(w, q->arena, "secrets", database_get_text(&rows, 0, 3));
	json_write_member_bool(w, "restore", attempt > 1);
	if (write_tokens(q, run, attempt, database_get_text(&rows, 0, 4), err) < 0)
		return -1;
	json_write_close_object(w);
	q->idle = false;
	return 0;
}

static int write_starts(struct answering *q, struct error *err)
{
	json_write_key(q->writer, "starts");
	json_write_open_array(q->writer);
	for (size_t i = 0; i < q->open.count; i++) {
		const char *run = database_get_text(&q->open, i, RUN);
		int64_t attempt = database_get_integer(&q->open, i, ATTEMPT, 0);
		bool canceled = database_get_integer(&q->open, i, CANCEL, 0) != 0;
		if (!streq(database_get_text(&q->open, i, STATE), "assigned") || canceled ||
			poll_named(q->poll, run, attempt))
			continue;
		if (write_start(q, run, attempt, err) < 0)
			return -1;
	}
	json_write_close_array(q->writer);
	return 0;
}

// ---- the others

static void write_cancels(struct answering *q)
{
	json_write_key(q->writer, "cancels");
	json_write_open_array(q->writer);
	for (size_t i = 0; i < q->open.count; i++) {
		const char *run = database_get_text(&q->open, i, RUN);
		int64_t attempt = database_get_integer(&q->open, i, ATTEMPT, 0);
		const struct poll_attempt *p = poll_named(q->poll, run, attempt);
		if (!p || !database_get_integer(&q->open, i, CANCEL, 0))
			continue;
		write_place(q->writer, run, attempt);
		json_write_member(q->writer, "by", database_get_text(&q->open, i, BY));
		json_write_close_object(q->writer);
		q->idle &= p->canceling;
	}
	json_write_close_array(q->writer);
}

static bool is_open(const struct answering *q, const struct poll_attempt *p)
{
	for (size_t i = 0; i < q->open.count; i++)
		if (database_get_integer(&q->open, i, ATTEMPT, 0) == p->attempt &&
			streq(database_get_text(&q->open, i, RUN), p->run))
			return true;
	return false;
}

// Of what the node names and does not hold: an end that was taken is known, whatever sequence an
// agent that started since gives it; everything else is stale.
static int write_closed(struct answering *q, bool known, struct error *err)
{
	struct json_writer *w = q->writer;
	json_write_key(w, known ? "known" : "stale");
	json_write_open_array(w);
	for (size_t i = 0; i < q->poll->attempt_count; i++) {
		const struct poll_attempt *p = &q->poll->attempts[i];
		struct database_rows rows;
		if (is_open(q, p))
			continue;
		if (database_run(q->tx, q->arena,
			    "SELECT 1 FROM attempt WHERE run = ?1 AND attempt = ?2 AND node = ?3 "
			    "AND state = 'ended'",
			    database_values(database_text(p->run), database_integer(p->attempt),
				    database_text(q->node)),
			    &rows, err) < 0)
			return -1;
		bool taken = rows.count && streq(p->state, "ended");
		if (taken != known)
			continue;
		write_place(w, p->run, p->attempt);
		if (known)
			json_write_member_int(w, "sequence", p->sequence);
		json_write_close_object(w);
		q->idle = false;
	}
	json_write_close_array(w);
	return 0;
}

static int write_drain(struct answering *q, struct error *err)
{
	struct database_rows rows;
	if (database_run(q->tx, q->arena,
		    "SELECT drain FROM node WHERE id = ?1 AND removed IS NULL",
		    database_values(database_text(q->node)), &rows, err) < 0)
		return -1;
	if (!rows.count)
		return error_set(err, ERROR_DENIED, "the node was removed");
	bool drain = database_get_integer(&rows, 0, 0, 0) != 0;
	json_write_member_bool(q->writer, "drain", drain);
	// A node that does not say what it has heard shows it by what it does.
	q->idle &= q->poll->drain == POLL_DRAIN_UNTOLD
			   ? !drain || q->poll->draining
			   : drain == (q->poll->drain == POLL_DRAIN_YES);
	return 0;
}

int poll_answer(struct database_tx *tx, struct arena *a, struct controller *c, const char *node,
	const struct poll *p, int64_t now, struct json_writer *w, bool *idle, struct error *err)
{
	struct answering q = {.tx = tx,
		.arena = a,
		.node = node,
		.poll = p,
		.now = now,
		.lease_ms = c->limits.lease_ms,
		.writer = w,
		.idle = true};
	if (database_run(tx, a,
		    "SELECT t.run, t.attempt, t.state, r.cancel_requested, r.canceled_by FROM "
		    "attempt t "
		    "JOIN run r ON r.id = t.run WHERE t.node = ?1 AND t.open = 1 ORDER BY "
		    "t.created "
		    "LIMIT 1000",
		    database_values(database_text(node)), &q.open, err) < 0)
		return -1;
	json_write_open_object(w);
	json_write_member_int(w, "time", now);
	json_write_member_int(w, "lease_ms", c->limits.lease_ms);
	if (write_starts(&q, err) < 0)
		return -1;
	write_cancels(&q);
	if (write_closed(&q, false, err) < 0 || write_closed(&q, true, err) < 0 ||
		write_drain(&q, err) < 0)
		return -1;
	json_write_close_object(w);
	*idle = q.idle;
	return 0;
}
