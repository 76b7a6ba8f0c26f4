// SPDX-License-Identifier: Apache-2.0
//
// controller/database/ for tests. WHERE is a file or a postgresql:// URL.
//
//   database_driver increment WHERE THREADS SECONDS   adds to a row per thread and to one for all,
//   by reading
//       and writing in one transaction; prints "THREAD NUMBER" when a number is acknowledged
//   database_driver show WHERE               "NAME NUMBER" of each row
//   database_driver listen WHERE             "ready", then topics as they are told ("*": all), till
//   its input ends database_driver notify WHERE TOPIC [now] in a transaction, or without
//   database_driver claim WHERE              "claimed", and keeps it till its input ends
#include "base/text.h"
#include "base/time.h"
#include "controller/database/database.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static int fail(const struct error *err)
{
	fprintf(stderr, "database_driver: %s\n", err->text);
	return 1;
}

struct thread {
	struct database *db;
	pthread_t id;
	char name[24];
	int64_t until, number;
};
static atomic_bool failed;

static int add_one(struct database_tx *tx, const char *name, int64_t *number, struct error *err)
{
	cleanup_arena struct arena a = {0};
	struct database_rows rows;
	if (database_run(tx, &a, "SELECT number FROM counter WHERE name = ?1",
		    database_values(database_text(name)), &rows, err) < 0)
		return -1;
	*number = (rows.count ? database_get_integer(&rows, 0, 0, 0) : 0) + 1;
	return database_run(tx, &a,
		       "INSERT INTO counter (name, number) VALUES (?1, ?2)"
		       " ON CONFLICT (name) DO UPDATE SET number = excluded.number",
		       database_values(database_text(name), database_integer(*number)), NULL,
		       err) == 1
		       ? 0
		       : -1;
}

static int increment(struct database_tx *tx, void *data, struct error *err)
{
	struct thread *t = data;
	int64_t all;
	if (add_one(tx, t->name, &t->number, err) < 0 || add_one(tx, "all", &all, err) < 0)
		return -1;
	return 0;
}

static void *increment_often(void *data)
{
	struct thread *t = data;
	struct error err = {0};
	while (now_ms() < t->until) {
		char line[64];
		if (database_write(t->db, increment, t, &err) < 0) {
			fail(&err);
			failed = true;
			return NULL;
		}
		int n = snprintf(line, sizeof(line), "%s %lld\n", t->name, (long long)t->number);
		if (write(1, line, (size_t)n) != n)
			return NULL;
	}
	return NULL;
}

static int create(struct database_tx *tx, void *data, struct error *err)
{
	(void)data;
	return database_run(tx, NULL,
		       "CREATE TABLE IF NOT EXISTS counter (name TEXT PRIMARY KEY, number BIGINT)",
		       database_no_values, NULL, err) < 0
		       ? -1
		       : 0;
}

static int command_increment(struct database *db, int threads, int seconds)
{
	struct error err = {0};
	struct thread *list = xcalloc((size_t)threads, sizeof(*list));
	if (database_write(db, create, NULL, &err) < 0)
		return fail(&err);
	for (int i = 0; i < threads; i++) {
		list[i].db = db;
		list[i].until = now_ms() + (int64_t)seconds * 1000;
		snprintf(list[i].name, sizeof(list[i].name), "%d", i);
		pthread_create(&list[i].id, NULL, increment_often, &list[i]);
	}
	for (int i = 0; i < threads; i++)
		pthread_join(list[i].id, NULL);
	free(list);
	return failed;
}

struct shown {
	struct arena arena;
	struct database_rows rows;
};

static int show(struct database_tx *tx, void *data, struct error *err)
{
	struct shown *s = data;
	return database_run(tx, &s->arena, "SELECT name, number FROM counter ORDER BY name",
		       database_no_values, &s->rows, err) < 0
		       ? -1
		       : 0;
}

static int command_show(struct database *db)
{
	struct shown s = {0};
	struct error err;
	if (database_read(db, show, &s, &err) < 0)
		return fail(&err);
	for (size_t i = 0; i < s.rows.count; i++)
		printf("%s %lld\n", database_get_text(&s.rows, i, 0),
			(long long)database_get_integer(&s.rows, i, 1, -1));
	arena_release(&s.arena);
	return 0;
}

static void print_topic(void *data, const char *topic)
{
	(void)data;
	printf("%s\n", topic ? topic : "*");
	fflush(stdout);
}

static int until_input_ends(const char *word)
{
	char c;
	printf("%s\n", word);
	fflush(stdout);
	while (read(0, &c, 1) > 0) {
	}
	return 0;
}

static int notify(struct database_tx *tx, void *data, struct error *err)
{
	database_notify(tx, data);
	return create(tx, NULL, err);
}

static int command_notify(struct database *db, char *topic, bool now)
{
	struct error err;
	if (now) {
		database_notify_now(db, topic);
		sleep(1); // it is sent by a thread
		return 0;
	}
	return database_write(db, notify, topic, &err) < 0 ? fail(&err) : 0;
}

static int command(struct database *db, int argc, char **argv)
{
	struct error err;
	if (streq(argv[1], "increment") && argc == 5)
		return command_increment(
			db, (int)strtol(argv[3], NULL, 10), (int)strtol(argv[4], NULL, 10));
	if (streq(argv[1], "show"))
		return command_show(db);
	if (streq(argv[1], "notify") && argc >= 4)
		return command_notify(db, argv[3], argc > 4);
	if (streq(argv[1], "claim"))
		return database_claim(db, &err) < 0 ? fail(&err) : until_input_ends("claimed");
	database_on_notify(db, print_topic, NULL);
	return until_input_ends("ready");
}

int main(int argc, char **argv)
{
	struct error err;
	struct database *db = argc > 2 ? database_open(argv[2], &err) : NULL;
	if (!db)
		return argc > 2 ? fail(&err) : 2;
	int rc = command(db, argc, argv);
	database_close(db);
	return rc;
}
