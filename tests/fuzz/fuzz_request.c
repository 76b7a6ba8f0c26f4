// SPDX-License-Identifier: Apache-2.0
//
// Requests as they come from the network, to a controller in this process, which has a run, its
// node and a token for each role. An input is a letter for the role, and a request without
// Authorization; so all that reads request lines, headers, queries and bodies is reached. Status
// 500, and an answer that cannot be read, are faults.
#include "base/file.h"
#include "base/log.h"
#include "base/text.h"
#include "base/time.h"
#include "controller/api/api.h"
#include "controller/state/token.h"

#include <arpa/inet.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { ROLE_COUNT = 6, ANSWER_MS = 20 * 1000 };

static struct {
	char folder[64];
	struct controller controller;
	struct server *server;
	char tokens[ROLE_COUNT][TOKEN_TEXT_SIZE];
} lab;

static const struct {
	char letter;
	struct token_options options;
} holders[ROLE_COUNT] = {
	{'a', {.role = ROLE_ADMIN, .owner = "admin"}},
	{'u', {.role = ROLE_USER, .owner = "ada"}},
	{'j', {.role = ROLE_JOIN}},
	{'n', {.role = ROLE_NODE, .owner = "one", .node = "node1"}},
	{'r', {.role = ROLE_RUN, .owner = "ada", .run = "run1", .attempt = 1}},
	{'m', {.role = ROLE_METRICS, .owner = "ada", .run = "run1", .attempt = 1}},
};

static const struct route *const routes[] = {api_status, api_tokens, api_runs, api_events,
	api_snapshots, api_nodes, api_poll, api_files, api_metrics, api_models, NULL};

static void fail(const char *why, const char *text)
{
	fprintf(stderr, "%s: %s\n", why, text);
	abort();
}

static int put(struct database_tx *tx, const char *sql, struct error *err)
{
	cleanup_arena struct arena a = {0};
	return database_do(tx, &a, sql, database_no_values, err);
}

// As if all of it had just been made: what an input did to it does not meet the next one, save
// for new rows.
static int make_rows(struct database_tx *tx, void *data, struct error *err)
{
	static const char *const rows[] = {
		"DELETE FROM run",
		"DELETE FROM attempt",
		"DELETE FROM node",
		"DELETE FROM file",
		"DELETE FROM model",
		"DELETE FROM metric",
		"DELETE FROM event",
		"DELETE FROM token",
		"INSERT INTO node (id, name, cpus, memory, joined, last_seen) VALUES ('node1', "
		"'one', 1, 1000, 1, 1)",
		"INSERT INTO run (id, experiment, owner, state, created, attempt, node, job) "
		"VALUES ('run1', 'e', 'ada', 'Running', 1, 1, 'node1', '{}')",
		"INSERT INTO attempt (run, attempt, node, state, created, lease_until) VALUES "
		"('run1', 1, 'node1', 'running', 1, 9000000000000000)",
		"INSERT INTO model (name, version, owner, run, path, tags, properties, created) "
		"VALUES ('m', 1, 'ada', 'run1', 'outputs/m', '{}', '{}', 1)",
	};
	(void)data;
	for (size_t i = 0; i < array_size(rows); i++)
		if (put(tx, rows[i], err) < 0)
			return -1;
	for (size_t i = 0; i < ROLE_COUNT; i++)
		if (token_make(tx, &holders[i].options, lab.tokens[i], err) < 0)
			return -1;
	return 0;
}

static void end(void)
{
	struct error ignored;
	server_stop(lab.server, 0);
	blobs_close(lab.controller.blobs);
	database_close(lab.controller.db);
	hub_free(lab.controller.hub);
	directory_remove(AT_FDCWD, lab.folder, &ignored);
}

static void begin(void)
{
	struct error err = {0};
	char path[128];
	bool fast = access("/dev/shm", W_OK) == 0; // each input is some transactions
	snprintf(lab.folder, sizeof(lab.folder), "%s/stoker-fuzz-XXXXXX",
		fast ? "/dev/shm" : "/tmp");
	if (!mkdtemp(lab.folder))
		fail("mkdtemp", lab.folder);
	sha256_prepare();
	lab.controller.limits = controller_limits_default;
	lab.controller.hub = hub_new();
	hub_stop(lab.controller.hub); // who would wait is answered at once
	snprintf(path, sizeof(path), "%s/db", lab.folder);
	lab.controller.db = database_open(path, &err);
	snprintf(path, sizeof(path), "%s/files", lab.folder);
	lab.controller.blobs = lab.controller.db ? blobs_open(path, lab.controller.db, &err) : NULL;
	const struct server_options o = {.address = "127.0.0.1",
		.connections = 100,
		.idle_ms = 2000,
		.routes = routes,
		.controller = &lab.controller};
	lab.server = lab.controller.blobs ? server_start(&o, &err) : NULL;
	if (!lab.server)
		fail("start", err.text);
	atexit(end);
}

static int call(void)
{
	const struct sockaddr_in to = {.sin_family = AF_INET,
		.sin_port = htons(server_port(lab.server)),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || connect(fd, (const struct sockaddr *)&to, sizeof(to)) < 0)
		fail("connect", strerror(errno));
	return fd;
}

static void say(int fd, const void *data, size_t size)
{
	for (const char *p = data; size;) {
		ssize_t n = send(fd, p, size, MSG_NOSIGNAL);
		if (n <= 0)
			return; // it has heard enough
		p += n;
		size -= (size_t)n;
	}
}

static void hear(int fd, struct buffer *answer)
{
	char piece[16 * 1024];
	for (;;) {
		struct pollfd p = {.fd = fd, .events = POLLIN};
		if (poll(&p, 1, ANSWER_MS) == 0)
			fail("no end of the answer", answer->data ? answer->data : "");
		ssize_t n = recv(fd, piece, sizeof(piece), 0);
		if (n <= 0)
			return;
		if (answer->size < 1024 * 1024)
			buffer_append(answer, piece, (size_t)n);
	}
}

static void check(const struct buffer *answer)
{
	if (!answer->size)
		return; // what is no HTTP is ended without a word
	if (answer->size < 12 || !starts_with(answer->data, "HTTP/1."))
		fail("no HTTP", answer->data);
	// Beside the library's own, for what does not fit into its memory.
	if (starts_with(answer->data + 8, " 500") && !strstr(answer->data, "libmicrohttpd"))
		fail("status 500", answer->data);
}

// "r PATCH /v1/… HTTP/1.1\r\nHeaders\r\n\r\nbody": Authorization comes behind the first line.
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	cleanup_buffer struct buffer text = {0};
	cleanup_buffer struct buffer answer = {0};
	const char *line = size ? memchr(data, '\n', size) : NULL;
	size_t first = line ? (size_t)(line - (const char *)data) + 1 : size, who = 0;
	struct error err = {0};
	if (size < 2)
		return 0;
	if (!lab.server)
		begin();
	if (database_write(lab.controller.db, make_rows, NULL, &err) < 0)
		fail("rows", err.text);
	while (who < ROLE_COUNT - 1 && holders[who].letter != (char)data[0])
		who++;
	buffer_append(&text, data + 1, first - 1);
	if (line)
		buffer_printf(&text, "Authorization: Bearer %s\r\n", lab.tokens[who]);
	buffer_append(&text, data + first, size - first);
	cleanup_fd int fd = call();
	say(fd, text.data, text.size);
	shutdown(fd, SHUT_WR);
	hear(fd, &answer);
	check(&answer);
	return 0;
}
