// SPDX-License-Identifier: Apache-2.0
#include "controller/state/waiting.h"

#include "base/json.h"
#include "base/text.h"
#include "controller/state/schedule.h"

#include <string.h>

struct asked {
	double cpus;
	int64_t memory, gpus;
};

// Of the nodes, each number a part of the one before; and the most that one of them has.
struct nodes {
	int64_t known, large, heard, taking, free;
	double cpus;
	int64_t memory, gpus;
};

static int count(struct database_tx *tx, struct arena *a, const struct asked *q, int64_t since,
	struct nodes *n, struct error *err)
{
	static const char large[] = "n.cpus >= ?1 AND n.memory >= ?2 AND n.gpus >= ?3";
	static const char heard[] = SCHEDULE_HEARD("?4"), taking[] = SCHEDULE_TAKES;
	static const char room[] = SCHEDULE_HAS_ROOM("?1", "?2", "?3");
	struct database_rows rows;
	const char *sql = arena_printf(a,
		"SELECT COUNT(*), SUM(CASE WHEN %s THEN 1 ELSE 0 END), "
		"SUM(CASE WHEN %s AND %s THEN 1 ELSE 0 END), "
		"SUM(CASE WHEN %s AND %s AND %s THEN 1 ELSE 0 END), "
		"SUM(CASE WHEN %s AND %s AND %s THEN 1 ELSE 0 END), "
		"MAX(n.cpus), MAX(n.memory), MAX(n.gpus) FROM node n WHERE n.removed IS NULL",
		large, large, heard, large, heard, taking, room, heard, taking);
	if (database_run(tx, a, sql,
		    database_values(database_real(q->cpus), database_integer(q->memory),
			    database_integer(q->gpus), database_integer(since)),
		    &rows, err) < 0)
		return -1;
	*n = (struct nodes){
		.known = database_get_integer(&rows, 0, 0, 0),
		.large = database_get_integer(&rows, 0, 1, 0),
		.heard = database_get_integer(&rows, 0, 2, 0),
		.taking = database_get_integer(&rows, 0, 3, 0),
		.free = database_get_integer(&rows, 0, 4, 0),
		.cpus = database_get_real(&rows, 0, 5),
		.memory = database_get_integer(&rows, 0, 6, 0),
		.gpus = database_get_integer(&rows, 0, 7, 0),
	};
	return 0;
}

static const char *too_large(struct arena *a, const struct asked *q, const struct nodes *n)
{
	char asked[FORMAT_SIZE_MAX], most[FORMAT_SIZE_MAX];
	return arena_printf(a,
		"no node can hold it: it asks for %g CPUs, %s of memory and %lld GPUs; the "
		"most that a node has is %g, %s and %lld",
		q->cpus, format_size((uint64_t)q->memory, asked), (long long)q->gpus, n->cpus,
		format_size((uint64_t)n->memory, most), (long long)n->gpus);
}

static const char *of_nodes(struct arena *a, const struct asked *q, const struct nodes *n)
{
	if (!n->known)
		return "no node has joined";
	if (!n->large)
		return too_large(a, q, n);
	if (!n->heard)
		return arena_printf(
			a, "of %lld nodes that could hold it none is heard", (long long)n->large);
	if (!n->taking)
		return arena_printf(a, "of %lld nodes that could hold it all are draining",
			(long long)n->heard);
	if (!n->free)
		return arena_printf(a, "waits for room on one of %lld nodes that could hold it",
			(long long)n->taking);
	return "waits for its turn";
}

// A node that gave it back has said why.
static int add_return(struct database_tx *tx, struct arena *a, const char *run, const char **reason,
	struct error *err)
{
	struct database_rows rows;
	struct error ignored;
	if (database_run(tx, a,
		    "SELECT t.cause, n.name FROM attempt t JOIN node n ON n.id = t.node "
		    "WHERE t.run = ?1 AND t.state = 'returned' ORDER BY t.ended DESC LIMIT 1",
		    database_values(database_text(run)), &rows, err) < 0)
		return -1;
	const char *text = rows.count ? database_get_text(&rows, 0, 0) : NULL;
	const struct json *cause =
		text ? json_parse(a, text, strlen(text), "cause", NULL, &ignored) : NULL;
	const char *message = cause ? json_get_string(cause, "message") : NULL;
	if (message)
		*reason = arena_printf(a, "%s; node %s gave it back: %s", *reason,
			database_get_text(&rows, 0, 1), message);
	return 0;
}

int waiting_reason(struct database_tx *tx, struct arena *a, const char *run, int64_t now,
	const struct controller_limits *limits, const char **reason, struct error *err)
{
	struct database_rows rows;
	struct nodes n;
	*reason = NULL;
	if (database_run(tx, a,
		    "SELECT cpus, memory, gpus FROM run WHERE id = ?1 AND state = 'NotStarted'",
		    database_values(database_text(run)), &rows, err) < 0)
		return -1;
	if (!rows.count)
		return 0;
	const struct asked q = {database_get_real(&rows, 0, 0),
		database_get_integer(&rows, 0, 1, 0), database_get_integer(&rows, 0, 2, 0)};
	if (count(tx, a, &q, now - limits->lease_ms, &n, err) < 0)
		return -1;
	*reason = of_nodes(a, &q, &n);
	return add_return(tx, a, run, reason, err);
}
