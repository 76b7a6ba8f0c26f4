// SPDX-License-Identifier: Apache-2.0
#include "controller/state/node.h"

#include "base/text.h"
#include "controller/state/run.h"

#include <stdio.h>
#include <string.h>
#include <sys/random.h>

enum { NODES_MAX = 100000 };

static int check_name(const char *name, struct error *err)
{
	static const char good[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.";
	size_t n = strlen(name);
	if (n == 0 || n >= NODE_NAME_SIZE || strspn(name, good) != n)
		return error_set(err, ERROR_INVALID,
			"name: must be letters, digits, '-', '_' and '.', at most %d",
			NODE_NAME_SIZE - 1);
	return 0;
}

int node_remove(
	struct database_tx *tx, struct arena *a, const char *id, int64_t now, struct error *err)
{
	int64_t n = database_run(tx, a,
		"UPDATE node SET removed = ?2 WHERE id = ?1 AND removed IS NULL",
		database_values(database_text(id), database_integer(now)), NULL, err);
	if (n == 0)
		return error_set(err, ERROR_NOT_FOUND, "there is no node %s", id);
	if (n < 0 ||
		database_do(tx, a,
			"UPDATE token SET revoked = ?2 WHERE node = ?1 AND revoked IS NULL",
			database_values(database_text(id), database_integer(now)), err) < 0 ||
		database_do(tx, a, "DELETE FROM node_has WHERE node = ?1",
			database_values(database_text(id)), err) < 0 ||
		database_do(tx, a,
			"UPDATE attempt SET lease_until = 0 WHERE node = ?1 AND open = 1",
			database_values(database_text(id)), err) < 0)
		return -1;
	database_notify(tx, arena_printf(a, "node/%s", id));
	return 0;
}

int node_join(struct database_tx *tx, struct arena *a, const char *name, const char *version,
	bool replace, int64_t now, char id[NODE_ID_SIZE], char token[TOKEN_TEXT_SIZE],
	struct error *err)
{
	struct database_rows rows;
	uint64_t random;
	if (check_name(name, err) < 0 ||
		database_run(tx, a, "SELECT id FROM node WHERE name = ?1 AND removed IS NULL",
			database_values(database_text(name)), &rows, err) < 0)
		return -1;
	if (rows.count && !replace) {
		error_set(err, ERROR_INVALID,
			"there is a node %s; join with --replace to end its credential", name);
		return 1;
	}
	if (rows.count && node_remove(tx, a, database_get_text(&rows, 0, 0), now, err) < 0)
		return -1;
	if (getrandom(&random, sizeof(random), 0) != sizeof(random))
		return error_set_errno(err, errno, "getrandom");
	snprintf(id, NODE_ID_SIZE, "%016llx", (unsigned long long)random);
	const struct token_options o = {.role = ROLE_NODE, .owner = name, .node = id};
	if (database_do(tx, a,
		    "INSERT INTO node (id, name, version, joined) VALUES (?1, ?2, ?3, ?4)",
		    database_values(database_text(id), database_text(name), database_text(version),
			    database_integer(now)),
		    err) < 0)
		return -1;
	return token_make(tx, &o, token, err);
}

int node_drain(
	struct database_tx *tx, struct arena *a, const char *id, bool drain, struct error *err)
{
	int64_t n =
		database_run(tx, a, "UPDATE node SET drain = ?2 WHERE id = ?1 AND removed IS NULL",
			database_values(database_text(id), database_integer(drain)), NULL, err);
	if (n == 0)
		return error_set(err, ERROR_NOT_FOUND, "there is no node %s", id);
	database_notify(tx, arena_printf(a, "node/%s", id));
	database_notify(tx, "queue");
	return n < 0 ? -1 : 0;
}

// ---- showing

enum {
	ID,
	NAME,
	DRAIN,
	DRAINING,
	AWAY,
	VERSION,
	RESOURCES,
	CPUS,
	MEMORY,
	GPUS,
	JOINED,
	SEEN,
	RUNS
};

static const char *state_of(const struct database_rows *rows, size_t i, int64_t now, int64_t lease)
{
	if (database_get_integer(rows, i, AWAY, 0))
		return "Away";
	if (now - database_get_integer(rows, i, SEEN, 0) > lease)
		return "NotResponding";
	return database_get_integer(rows, i, DRAIN, 0) || database_get_integer(rows, i, DRAINING, 0)
		       ? "Draining"
		       : "Ready";
}

static void write_one(struct json_writer *w, struct arena *a, const struct database_rows *rows,
	size_t i, int64_t now, int64_t lease)
{
	json_write_open_object(w);
	json_write_member(w, "id", database_get_text(rows, i, ID));
	json_write_member(w, "name", database_get_text(rows, i, NAME));
	json_write_member(w, "state", state_of(rows, i, now, lease));
	json_write_member_bool(w, "drain", database_get_integer(rows, i, DRAIN, 0) != 0);
	json_write_member_bool(w, "draining", database_get_integer(rows, i, DRAINING, 0) != 0);
	json_write_member(w, "version", database_get_text(rows, i, VERSION));
	run_write_document(w, a, "resources", database_get_text(rows, i, RESOURCES));
	json_write_key(w, "used");
	json_write_open_object(w);
	json_write_key(w, "cpus");
	json_write_double(w, database_get_real(rows, i, CPUS));
	json_write_member_int(w, "memory", database_get_integer(rows, i, MEMORY, 0));
	json_write_member_int(w, "gpus", database_get_integer(rows, i, GPUS, 0));
	json_write_close_object(w);
	json_write_member_int(w, "runs", database_get_integer(rows, i, RUNS, 0));
	json_write_member_int(w, "joined", database_get_integer(rows, i, JOINED, 0));
	json_write_member_int(w, "last_seen", database_get_integer(rows, i, SEEN, 0));
	json_write_close_object(w);
}

int node_write(struct database_tx *tx, struct arena *a, const char *id, int64_t now,
	const struct controller_limits *limits, struct json_writer *w, struct error *err)
{
	struct database_rows rows;
	if (database_run(tx, a,
		    "SELECT n.id, n.name, n.drain, n.draining, n.away, n.version, n.resources, "
		    "n.used_cpus, "
		    "n.used_memory, n.used_gpus, n.joined, n.last_seen, (SELECT COUNT(*) FROM "
		    "attempt "
		    "t WHERE t.node = n.id AND t.open = 1) FROM node n WHERE n.removed IS NULL AND "
		    "(?1 = '' OR n.id = ?1 OR n.name = ?1) ORDER BY n.name LIMIT ?2",
		    database_values(database_text(id ? id : ""), database_integer(NODES_MAX)),
		    &rows, err) < 0)
		return -1;
	if (id && !rows.count)
		return error_set(err, ERROR_NOT_FOUND, "there is no node %s", id);
	if (id) {
		write_one(w, a, &rows, 0, now, limits->lease_ms);
		return 0;
	}
	json_write_open_object(w);
	json_write_key(w, "nodes");
	json_write_open_array(w);
	for (size_t i = 0; i < rows.count; i++)
		write_one(w, a, &rows, i, now, limits->lease_ms);
	json_write_close_array(w);
	json_write_close_object(w);
	return 0;
}
