// SPDX-License-Identifier: Apache-2.0
//
// Who may do what with which run: every role and every access, on tables of their own.
#include "base/file.h"
#include "base/text.h"
#include "base/time.h"
#include "controller/state/identity.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

static struct controller controller;
static char folder[] = "/tmp/stoker-access-XXXXXX";

// ada's run is in its second attempt, on node 2; bob's is in the queue; eve's has ended.
static const char *const rows[] = {
	"INSERT INTO run (id, experiment, owner, state, created, attempt, job) VALUES"
	" ('ada', 'e', 'ada', 'Running', 1, 2, '{}')",
	"INSERT INTO run (id, experiment, owner, state, created, attempt, job) VALUES"
	" ('bob', 'e', 'bob', 'NotStarted', 1, 0, '{}')",
	"INSERT INTO run (id, experiment, owner, state, created, attempt, job) VALUES"
	" ('eve', 'e', 'eve', 'Completed', 1, 1, '{}')",
	"INSERT INTO attempt (run, attempt, node, state, created, lease_until, open) VALUES"
	" ('ada', 1, 'node1', 'lost', 1, 1, 0)",
	"INSERT INTO attempt (run, attempt, node, state, created, lease_until, open) VALUES"
	" ('ada', 2, 'node2', 'running', 1, 1, 1)",
	"INSERT INTO attempt (run, attempt, node, state, created, lease_until, open) VALUES"
	" ('eve', 1, 'node2', 'ended', 1, 1, 0)",
};

static int fill(struct database_tx *tx, void *data, struct error *err)
{
	cleanup_arena struct arena a = {0};
	(void)data;
	for (size_t i = 0; i < array_size(rows); i++)
		if (database_run(tx, &a, rows[i], database_no_values, NULL, err) < 0)
			return -1;
	return 0;
}

static int open_tables(void **state)
{
	struct error err = {0};
	(void)state;
	assert_non_null(mkdtemp(folder));
	cleanup_free char *path = path_join(folder, "t.db");
	controller.db = database_open(path, &err);
	if (!controller.db || database_write(controller.db, fill, NULL, &err) < 0)
		fail_msg("%s", err.text);
	return 0;
}

static int close_tables(void **state)
{
	struct error err;
	(void)state;
	database_close(controller.db);
	return directory_remove(AT_FDCWD, folder, &err);
}

struct asking {
	const struct identity *who;
	const char *run;
	enum access access;
};

static int ask(struct database_tx *tx, void *data, struct error *err)
{
	struct asking *q = data;
	cleanup_arena struct arena a = {0};
	return access_run(tx, &a, q->who, q->run, q->access, err);
}

// 'y': may; 'n': there is no such run; 'd': denied; 's': stale.
static char answer(const struct identity *who, const char *run, enum access access)
{
	struct asking q = {who, run, access};
	struct error err = {0};
	if (database_read(controller.db, ask, &q, &err) == 0)
		return 'y';
	if (err.kind == ERROR_NOT_FOUND)
		return 'n';
	assert_int_equal(err.kind, ERROR_DENIED);
	return streq(err.text, "stale") ? 's' : 'd';
}

static void test_access(void **state)
{
	static const struct {
		struct identity who;
		// For read, manage, write, metrics, snapshot; of ada's, bob's and eve's run and of
		// none.
		const char *ada, *bob, *eve, *none;
	} cases[] = {
		{{.role = ROLE_ADMIN, .owner = "root"}, "yydyy", "yydyy", "yydyy", "nnnnn"},
		{{.role = ROLE_USER, .owner = "ada"}, "yydyy", "nnnnn", "nnnnn", "nnnnn"},
		{{.role = ROLE_USER, .owner = "bob"}, "nnnnn", "yydyy", "nnnnn", "nnnnn"},
		{{.role = ROLE_USER, .owner = ""}, "nnnnn", "nnnnn", "nnnnn", "nnnnn"},
		{{.role = ROLE_JOIN, .owner = "ada"}, "nnnnn", "nnnnn", "nnnnn", "nnnnn"},
		{{.role = ROLE_NONE, .owner = "ada"}, "nnnnn", "nnnnn", "nnnnn", "nnnnn"},
		{{.role = ROLE_NODE, .node = "node1"}, "nnnnn", "nnnnn", "nnnnn", "nnnnn"},
		{{.role = ROLE_NODE, .node = "node2"}, "ydddy", "nnnnn", "nnnnn", "nnnnn"},
		{{.role = ROLE_RUN, .owner = "ada", .run = "ada", .attempt = 2}, "ydyyy", "nnnnn",
			"nnnnn", "nnnnn"},
		{{.role = ROLE_RUN, .owner = "ada", .run = "ada", .attempt = 1}, "sssss", "nnnnn",
			"nnnnn", "nnnnn"},
		{{.role = ROLE_RUN, .owner = "ada", .run = "ada", .attempt = 3}, "sssss", "nnnnn",
			"nnnnn", "nnnnn"},
		{{.role = ROLE_RUN, .owner = "eve", .run = "eve", .attempt = 1}, "nnnnn", "nnnnn",
			"sssss", "nnnnn"},
		{{.role = ROLE_RUN, .owner = "bob", .run = "bob", .attempt = 0}, "nnnnn", "sssss",
			"nnnnn", "nnnnn"},
		{{.role = ROLE_METRICS, .owner = "ada", .run = "ada", .attempt = 2}, "yddyd",
			"nnnnn", "nnnnn", "nnnnn"},
		{{.role = ROLE_METRICS, .owner = "ada", .run = "ada", .attempt = 1}, "sssss",
			"nnnnn", "nnnnn", "nnnnn"},
	};
	(void)state;
	for (size_t i = 0; i < array_size(cases); i++) {
		const char *runs[] = {"ada", "bob", "eve", "' OR 1=1 --"};
		const char *expected[] = {cases[i].ada, cases[i].bob, cases[i].eve, cases[i].none};
		for (size_t r = 0; r < array_size(runs); r++) {
			char got[6] = "";
			for (int access = ACCESS_READ; access <= ACCESS_SNAPSHOT; access++)
				got[access] = answer(&cases[i].who, runs[r], (enum access)access);
			if (!streq(got, expected[r]))
				fail_msg("%s of %s%s%s, %s: %s, not %s",
					role_name(cases[i].who.role), cases[i].who.owner,
					cases[i].who.node, cases[i].who.run, runs[r], got,
					expected[r]);
		}
	}
}

struct making {
	struct token_options options;
	char text[TOKEN_TEXT_SIZE];
};

static int make(struct database_tx *tx, void *data, struct error *err)
{
	struct making *m = data;
	return token_make(tx, &m->options, m->text, err);
}

static int revoke_it(struct database_tx *tx, void *data, struct error *err)
{
	return token_revoke(tx, data, err);
}

// 'y', 'd' or 's', as above.
static char identify(const char *text, struct identity *who)
{
	struct error err = {0};
	if (identity_find(&controller, text, who, &err) == 0)
		return 'y';
	assert_int_equal(err.kind, ERROR_DENIED);
	return streq(err.text, "stale") ? 's' : 'd';
}

static void test_identity(void **state)
{
	const struct {
		struct token_options options;
		char expected;
	} cases[] = {
		{{.role = ROLE_USER, .owner = "ada"}, 'y'},
		{{.role = ROLE_USER, .owner = "ada", .expires = wall_ms() + 100000}, 'y'},
		{{.role = ROLE_USER, .owner = "ada", .expires = wall_ms() - 1}, 'd'},
		{{.role = ROLE_NODE, .node = "node2"}, 'y'},
		{{.role = ROLE_RUN, .owner = "ada", .run = "ada", .attempt = 2}, 'y'},
		{{.role = ROLE_METRICS, .owner = "ada", .run = "ada", .attempt = 2}, 'y'},
		{{.role = ROLE_RUN, .owner = "ada", .run = "ada", .attempt = 1}, 's'},
		{{.role = ROLE_RUN, .owner = "eve", .run = "eve", .attempt = 1}, 's'},
		{{.role = ROLE_RUN, .owner = "x", .run = "gone", .attempt = 1}, 's'},
	};
	(void)state;
	for (size_t i = 0; i < array_size(cases); i++) {
		struct making m = {.options = cases[i].options};
		struct identity who;
		struct error err = {0};
		assert_int_equal(database_write(controller.db, make, &m, &err), 0);
		assert_int_equal(identify(m.text, &who), cases[i].expected);
		if (cases[i].expected == 'y') {
			assert_int_equal(who.role, m.options.role);
			assert_string_equal(who.owner, m.options.owner ? m.options.owner : "");
			assert_string_equal(who.run, m.options.run ? m.options.run : "");
			assert_string_equal(who.node, m.options.node ? m.options.node : "");
			assert_int_equal(who.attempt, m.options.attempt);
			assert_int_equal(
				database_write(controller.db, revoke_it, who.token, &err), 0);
			assert_int_equal(identify(m.text, &who), 'd');
			assert_int_equal(
				database_write(controller.db, revoke_it, who.token, &err), -1);
		}
		// Its name with another secret, or with another role's letter, is nobody.
		m.text[40] = m.text[40] == 'a' ? 'b' : 'a';
		assert_int_equal(identify(m.text, &who), 'd');
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_access),
		cmocka_unit_test(test_identity),
	};
	return cmocka_run_group_tests(tests, open_tables, close_tables);
}
