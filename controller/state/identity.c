// SPDX-License-Identifier: Apache-2.0
#include "controller/state/identity.h"

#include "base/text.h"
#include "base/time.h"
#include "controller/state/token.h"

#include <stdio.h>

// How old `last_used` may be. Machines use theirs all the time, and their rows say elsewhere when
// they were heard.
enum { PERSON_MS = 60 * 1000, MACHINE_MS = 60 * 60 * 1000 };

struct finding {
	char id[TOKEN_ID_SIZE], hash[SHA256_HEX_SIZE];
	struct identity *who;
	int64_t now;
	bool touch; // its last use is to be written
};

static int refuse(struct error *err)
{
	return error_set(
		err, ERROR_DENIED, "the token is none of ours, has expired or was revoked");
}

static int read_row(const struct database_rows *rows, struct finding *f, struct error *err)
{
	enum { ROLE, OWNER, HASH, NODE, RUN, ATTEMPT, EXPIRES, LAST_USED, REVOKED, CURRENT, OPEN };
	struct identity *who = f->who;
	*who = (struct identity){.role = ROLE_NONE};
	if (rows->count == 0 || !streq(database_get_text(rows, 0, HASH), f->hash) ||
		database_get_integer(rows, 0, REVOKED, 0) ||
		database_get_integer(rows, 0, EXPIRES, INT64_MAX) <= f->now ||
		role_find(database_get_text(rows, 0, ROLE), &who->role) < 0)
		return refuse(err);
	const char *node = database_get_text(rows, 0, NODE), *run = database_get_text(rows, 0, RUN);
	memcpy(who->token, f->id, sizeof(who->token));
	snprintf(who->owner, sizeof(who->owner), "%s", database_get_text(rows, 0, OWNER));
	snprintf(who->node, sizeof(who->node), "%s", node ? node : "");
	snprintf(who->run, sizeof(who->run), "%s", run ? run : "");
	who->attempt = database_get_integer(rows, 0, ATTEMPT, 0);
	bool of_run = who->role & (ROLE_RUN | ROLE_METRICS);
	if (of_run && (database_get_integer(rows, 0, CURRENT, -1) != who->attempt ||
			      database_get_integer(rows, 0, OPEN, 0) != 1))
		return error_set(err, ERROR_DENIED, "stale");
	bool person = who->role & (ROLE_ADMIN | ROLE_USER | ROLE_JOIN);
	f->touch = f->now - database_get_integer(rows, 0, LAST_USED, 0) >
		   (person ? PERSON_MS : MACHINE_MS);
	return 0;
}

static int find(struct database_tx *tx, void *data, struct error *err)
{
	struct finding *f = data;
	cleanup_arena struct arena a = {0};
	struct database_rows rows;
	if (database_run(tx, &a,
		    "SELECT t.role, t.owner, t.hash, t.node, t.run, t.attempt, t.expires,"
		    " t.last_used, t.revoked, r.attempt, a.open FROM token t"
		    " LEFT JOIN run r ON r.id = t.run"
		    " LEFT JOIN attempt a ON a.run = t.run AND a.attempt = t.attempt"
		    " WHERE t.id = ?1",
		    database_values(database_text(f->id)), &rows, err) < 0)
		return -1;
	return read_row(&rows, f, err);
}

static int touch(struct database_tx *tx, void *data, struct error *err)
{
	struct finding *f = data;
	cleanup_arena struct arena a = {0};
	int64_t rc = database_run(tx, &a, "UPDATE token SET last_used = ?2 WHERE id = ?1",
		database_values(database_text(f->id), database_integer(f->now)), NULL, err);
	return rc < 0 ? -1 : 0;
}

int identity_find(struct controller *c, const char *token, struct identity *who, struct error *err)
{
	struct finding f = {.who = who, .now = wall_ms()};
	if (!token_text_parse(token, f.id))
		return refuse(err);
	token_text_hash(token, f.hash);
	if (database_read(c->db, find, &f, err) < 0)
		return -1;
	return f.touch ? database_write(c->db, touch, &f, err) : 0;
}

struct facts {
	const char *owner;
	int64_t attempt;  // the last one
	bool open, holds; // is it open; does the node hold an attempt
};

static int read_facts(struct database_tx *tx, struct arena *a, const struct identity *who,
	const char *run, struct facts *f, struct error *err)
{
	struct database_rows rows;
	if (database_run(tx, a,
		    "SELECT r.owner, r.attempt, (SELECT a.open FROM attempt a WHERE a.run = r.id"
		    " AND a.attempt = r.attempt), (SELECT COUNT(*) FROM attempt b WHERE b.run = "
		    "r.id"
		    " AND b.node = ?2 AND b.open = 1) FROM run r WHERE r.id = ?1",
		    database_values(database_text(run), database_text(who->node)), &rows, err) < 0)
		return -1;
	if (rows.count == 0)
		return error_set(err, ERROR_NOT_FOUND, "there is no run %s", run);
	f->owner = database_get_text(&rows, 0, 0);
	f->attempt = database_get_integer(&rows, 0, 1, 0);
	f->open = database_get_integer(&rows, 0, 2, 0) == 1;
	f->holds = database_get_integer(&rows, 0, 3, 0) > 0;
	return 0;
}

// What each role may of the runs that it sees.
static unsigned rights_of(enum role role)
{
	enum { READ = 1 << ACCESS_READ, METRICS = 1 << ACCESS_METRICS };
	switch (role) {
	case ROLE_ADMIN:
	case ROLE_USER:
		return READ | METRICS | 1 << ACCESS_MANAGE | 1 << ACCESS_SNAPSHOT;
	case ROLE_NODE:
		return READ | 1 << ACCESS_SNAPSHOT;
	case ROLE_RUN:
		return READ | METRICS | 1 << ACCESS_WRITE | 1 << ACCESS_SNAPSHOT;
	case ROLE_METRICS:
		return READ | METRICS;
	default:
		return 0;
	}
}

static bool sees(const struct identity *who, const char *run, const struct facts *f)
{
	switch (who->role) {
	case ROLE_ADMIN:
		return true;
	case ROLE_USER:
		return streq(who->owner, f->owner);
	case ROLE_NODE:
		return f->holds;
	case ROLE_RUN:
	case ROLE_METRICS:
		return streq(who->run, run);
	default:
		return false;
	}
}

int access_run(struct database_tx *tx, struct arena *a, const struct identity *who, const char *run,
	enum access access, struct error *err)
{
	struct facts f;
	if (read_facts(tx, a, who, run, &f, err) < 0)
		return -1;
	if (!sees(who, run, &f))
		return error_set(err, ERROR_NOT_FOUND, "there is no run %s", run);
	bool of_run = who->role & (ROLE_RUN | ROLE_METRICS);
	if (of_run && (f.attempt != who->attempt || !f.open))
		return error_set(err, ERROR_DENIED, "stale");
	if (!(rights_of(who->role) & 1U << access))
		return error_set(err, ERROR_DENIED, "not for the role %s", role_name(who->role));
	return 0;
}
