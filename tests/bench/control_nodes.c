// SPDX-License-Identifier: Apache-2.0
//
// Nodes that hold no jobs, and users who submit: one process, one loop, one clock.
//   control_nodes PORT RUNS_A_MINUTE SETTLE_SECONDS SECONDS < TOKENS
// Standard input has the user's token and then one node's in each line. The nodes begin their long
// polls spread over the first half of the time to settle; then runs are submitted at random moments
// for SECONDS. A node that is given a run does what the agent does: it says each step at once, in a
// new poll on a new connection, and forgets the run when its end is known. Prints as JSON how long
// it was from the submission's first byte to the node's having the start. For tests/bench/control.
#include "base/buffer.h"
#include "base/json.h"
#include "base/loop.h"
#include "base/text.h"
#include "base/time.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
	TICK_MS = 10,
	HELD_MAX = 8,
	USERS = 16,
	RUNS_MAX = 100000,
	AGAIN_MS = 1000,
	LATE_MS = 10 * 1000
};

static const struct stage {
	const char *words;
	int64_t ms; // until the next; 0: said until it is known
} stages[] = {
	{"\"state\":\"accepted\"", 100},
	{"\"state\":\"preparing\",\"phase\":\"pulling\"", 300},
	{"\"state\":\"running\"", 2000},
	{"\"state\":\"ended\",\"result\":\"Completed\",\"exit_status\":0,"
	 "\"cause\":{\"class\":\"user\",\"code\":\"Completed\",\"message\":\"\"}",
		0},
};

struct held {
	char run[192];
	int64_t attempt, next; // next: when it is at its next stage; ms
	size_t stage;
};

// A connection of a node (number from 0) or a user (below 0).
struct client {
	struct bench *bench;
	const char *token;
	int number, fd;
	struct loop_source *source;
	struct buffer in;
	bool waits;  // for an answer
	int64_t due; // of a node: when to poll again, ms; 0: not to
	struct held held[HELD_MAX];
	size_t held_count;
};

struct bench {
	struct loop *loop;
	struct loop_source *timer;
	uint16_t port;
	int64_t gap_us, settled, end; // gap: between two submissions, on average; ms
	int64_t next_us;	      // the next submission
	struct client *nodes, users[USERS];
	size_t node_count;
	int64_t *submitted, *answered, *dispatched; // per run, us; 0: not yet
	size_t runs, polls, errors;
	uint64_t random;
};

static int64_t now_us(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

// xorshift64: the same moments in each run.
static uint64_t chance(struct bench *b, uint64_t below)
{
	b->random ^= b->random << 13;
	b->random ^= b->random >> 7;
	b->random ^= b->random << 17;
	return b->random % below;
}

// ---- connections

static void hang_up(struct client *c)
{
	loop_remove(steal(c->source));
	if (c->fd >= 0)
		close(c->fd);
	c->fd = -1;
	c->waits = false;
	buffer_clear(&c->in);
}

static void fail(struct client *c)
{
	hang_up(c);
	c->bench->errors++;
	if (c->number >= 0)
		c->due = now_ms() + AGAIN_MS;
}

static void on_readable(void *data, uint32_t events);

static int dial(struct client *c)
{
	struct error ignored;
	const struct sockaddr_in to = {.sin_family = AF_INET,
		.sin_port = htons(c->bench->port),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	if (c->fd >= 0)
		return 0;
	c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (c->fd < 0 || connect(c->fd, (const struct sockaddr *)&to, sizeof(to)) < 0)
		return -1;
	c->source = loop_add_fd(c->bench->loop, c->fd, EPOLLIN, on_readable, c, &ignored);
	return c->source ? 0 : -1;
}

static void ask(struct client *c, const char *path, const struct buffer *body)
{
	cleanup_buffer struct buffer head = {0};
	buffer_printf(&head,
		"POST %s HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer %s\r\n"
		"Content-Type: application/json\r\nContent-Length: %zu\r\n\r\n",
		path, c->token, body->size);
	buffer_append(&head, body->data, body->size);
	c->waits = true;
	if (dial(c) < 0 || send(c->fd, head.data, head.size, MSG_NOSIGNAL) != (ssize_t)head.size)
		fail(c);
}

// ---- a node

static void write_attempts(const struct client *c, struct buffer *b)
{
	buffer_puts(b, "\"attempts\":[");
	for (size_t i = 0; i < c->held_count; i++)
		buffer_printf(b, "%s{\"run\":\"%s\",\"attempt\":%lld,\"sequence\":%zu,%s}",
			i ? "," : "", c->held[i].run, (long long)c->held[i].attempt,
			c->held[i].stage + 1, stages[c->held[i].stage].words);
	buffer_puts(b, "]}");
}

static void poll_now(struct client *c)
{
	cleanup_buffer struct buffer b = {0};
	if (c->waits)
		hang_up(c);
	c->due = 0;
	c->bench->polls++;
	buffer_printf(&b,
		"{\"boot\":\"11111111-2222-3333-4444-555555555555\",\"instance\":\"%016d\","
		"\"wait_ms\":30000,\"version\":\"bench\",\"draining\":false,",
		c->number);
	// As the agent: as long as it holds nothing, it says again what it has.
	if (!c->held_count)
		buffer_puts(&b,
			"\"resources\":{\"cpus\":8,\"memory\":68719476736,\"disk\":1099511627776},"
			"\"images\":[\"docker.io/library/python:3.12-slim\","
			"\"docker.io/library/busybox:latest\",\"ghcr.io/org/train:7\"],"
			"\"environments\":"
			"[\"5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef\"],");
	write_attempts(c, &b);
	ask(c, "/v1/node/poll", &b);
}

static void take_start(struct client *c, const struct json *start)
{
	struct bench *b = c->bench;
	const char *run = json_get_string(start, "run"),
		   *name = json_get_string(start, "experiment");
	uint64_t number;
	if (!run || !name || !parse_u64(name + 1, &number) || number >= b->runs ||
		c->held_count == HELD_MAX) {
		b->errors++;
		return;
	}
	if (!b->dispatched[number])
		b->dispatched[number] = now_us();
	struct held *h = &c->held[c->held_count++];
	*h = (struct held){
		.attempt = json_get_integer(start, "attempt", 0), .next = now_ms() + stages[0].ms};
	snprintf(h->run, sizeof(h->run), "%s", run);
}

static void forget(struct client *c, const struct json *known)
{
	const char *run = json_get_string(known, "run");
	for (size_t i = 0; run && i < c->held_count; i++)
		if (streq(c->held[i].run, run) && !stages[c->held[i].stage].ms)
			c->held[i--] = c->held[--c->held_count];
}

static void each(struct client *c, const struct json *answer, const char *name,
	void (*fn)(struct client *c, const struct json *item))
{
	const struct json *list = json_get(answer, name);
	if (list && list->type == JSON_ARRAY)
		json_array_each (item, list)
			fn(c, &item->value);
}

static void advance(struct client *c, int64_t now)
{
	bool changed = false;
	for (size_t i = 0; i < c->held_count; i++) {
		struct held *h = &c->held[i];
		if (!stages[h->stage].ms || now < h->next)
			continue;
		h->next = now + stages[++h->stage].ms;
		changed = true;
	}
	if (changed || (c->due && now >= c->due))
		poll_now(c);
}

// ---- answers

static void take_answer(struct client *c, int status, const char *body, size_t size)
{
	cleanup_arena struct arena a = {0};
	struct error ignored;
	const struct json *answer = json_parse(&a, body, size, "answer", NULL, &ignored);
	struct bench *b = c->bench;
	if (!answer || status > 299) {
		fprintf(stderr, "control_nodes: %d %.*s\n", status, (int)size, body);
		fail(c);
		return;
	}
	if (c->number < 0) {
		uint64_t number;
		const char *name = json_get_string(answer, "experiment");
		if (name && parse_u64(name + 1, &number) && number < b->runs)
			b->answered[number] = now_us();
		return;
	}
	each(c, answer, "starts", take_start);
	each(c, answer, "known", forget);
	poll_now(c);
}

// The bytes of a whole answer, or 0.
static size_t whole(const struct buffer *in, size_t *head)
{
	const char *end = in->size ? strstr(in->data, "\r\n\r\n") : NULL;
	const char *length = end ? strstr(in->data, "Content-Length: ") : NULL;
	uint64_t n;
	if (!length || length > end ||
		!parse_u64_n(length + 16, strspn(length + 16, "0123456789"), &n))
		return 0;
	*head = (size_t)(end + 4 - in->data);
	return in->size >= *head + n ? *head + (size_t)n : 0;
}

static void on_readable(void *data, uint32_t events)
{
	struct client *c = data;
	(void)events;
	ssize_t n = recv(c->fd, buffer_reserve(&c->in, 65536), 65536, MSG_DONTWAIT);
	if (n <= 0) {
		// Between two requests the server may hang up.
		bool waited = c->waits;
		hang_up(c);
		if (waited)
			fail(c);
		return;
	}
	buffer_commit(&c->in, (size_t)n);
	size_t head, size = whole(&c->in, &head);
	if (!size)
		return;
	cleanup_buffer struct buffer answer = c->in;
	c->in = (struct buffer){0};
	c->waits = false;
	int status =
		(answer.data[9] - '0') * 100 + (answer.data[10] - '0') * 10 + answer.data[11] - '0';
	take_answer(c, status, answer.data + head, size - head);
}

// ---- the users, and the clock

static void submit(struct bench *b, int64_t now)
{
	cleanup_buffer struct buffer body = {0};
	size_t i = 0;
	while (i < USERS && b->users[i].waits)
		i++;
	if (i == USERS || b->runs == RUNS_MAX)
		return; // the next tick sees to it
	b->next_us += b->gap_us / 8 + (int64_t)chance(b, (uint64_t)b->gap_us * 7 / 4);
	buffer_printf(&body,
		"{\"job\":{\"experiment\":\"e%zu\",\"entry_script\":\"main.py\","
		"\"custom_docker_image\":\"docker.io/library/python:3.12-slim\"}}",
		b->runs);
	b->submitted[b->runs++] = now;
	ask(&b->users[i], "/v1/runs", &body);
}

static bool is_over(const struct bench *b, int64_t now)
{
	size_t open = 0;
	for (size_t i = 0; i < b->runs; i++)
		open += !b->dispatched[i];
	return now >= b->end && (!open || now >= b->end + LATE_MS);
}

static void on_tick(void *data)
{
	struct bench *b = data;
	int64_t now = now_ms();
	loop_timer_set(b->timer, TICK_MS);
	for (size_t i = 0; i < b->node_count; i++)
		advance(&b->nodes[i], now);
	if (now >= b->settled && now < b->end && now_us() >= b->next_us)
		submit(b, now_us());
	if (now >= b->end && is_over(b, now))
		loop_quit(b->loop, 0);
}

// ---- what is told

static int by_value(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
	return (x > y) - (x < y);
}

static double percentile_ms(const int64_t *sorted_us, size_t n, size_t percent)
{
	size_t at = n * percent / 100;
	return n ? (double)sorted_us[at < n ? at : n - 1] / 1000 : 0;
}

static void print_times(const struct bench *b, const char *name, const int64_t *ends)
{
	cleanup_free int64_t *us = xcalloc(b->runs + 1, sizeof(*us));
	size_t n = 0;
	for (size_t i = 0; i < b->runs; i++)
		if (ends[i])
			us[n++] = ends[i] - b->submitted[i];
	qsort(us, n, sizeof(*us), by_value);
	printf(", \"%s\": {\"count\": %zu, \"p50_ms\": %.1f, \"p99_ms\": %.1f, \"max_ms\": %.1f}",
		name, n, percentile_ms(us, n, 50), percentile_ms(us, n, 99),
		percentile_ms(us, n, 100));
}

static int run(struct bench *b, double a_minute, int64_t settle_ms, int64_t ms, struct error *err)
{
	int64_t now = now_ms();
	b->gap_us = (int64_t)(60e6 / a_minute);
	b->settled = now + settle_ms;
	b->end = b->settled + ms;
	b->next_us = b->settled * 1000;
	for (size_t i = 0; i < b->node_count; i++)
		b->nodes[i].due = now + 1 + settle_ms / 2 * (int64_t)i / (int64_t)b->node_count;
	b->loop = loop_new(err);
	b->timer = b->loop ? loop_add_timer(b->loop, TICK_MS, on_tick, b, err) : NULL;
	if (!b->timer || loop_run(b->loop, err) < 0)
		return -1;
	printf("{\"nodes\": %zu, \"polls\": %zu, \"runs\": %zu, \"errors\": %zu", b->node_count,
		b->polls, b->runs, b->errors);
	print_times(b, "dispatch", b->dispatched);
	print_times(b, "submit", b->answered);
	printf("}\n");
	return 0;
}

static void add_node(struct bench *b, const char *token)
{
	b->nodes = xreallocarray(b->nodes, b->node_count + 1, sizeof(*b->nodes));
	b->nodes[b->node_count] = (struct client){
		.bench = b, .token = xstrdup(token), .number = (int)b->node_count, .fd = -1};
	b->node_count++;
}

static void read_tokens(struct bench *b)
{
	char line[256];
	bool first = true;
	for (; fgets(line, sizeof(line), stdin); first = false) {
		line[strcspn(line, "\n")] = '\0';
		if (!first)
			add_node(b, line);
		for (int i = 0; first && i < USERS; i++)
			b->users[i] = (struct client){
				.bench = b, .token = xstrdup(line), .number = -1 - i, .fd = -1};
	}
}

int main(int argc, char **argv)
{
	struct error err = {0};
	uint64_t port, rate, settle, seconds;
	if (argc != 5 || !parse_u64(argv[1], &port) || !parse_u64(argv[2], &rate) || !rate ||
		!parse_u64(argv[3], &settle) || !parse_u64(argv[4], &seconds)) {
		fputs("usage: control_nodes PORT RUNS_A_MINUTE SETTLE SECONDS < TOKENS\n", stderr);
		return 2;
	}
	struct bench b = {.port = (uint16_t)port, .random = 88172645463325252U};
	b.submitted = xcalloc(RUNS_MAX, sizeof(int64_t));
	b.answered = xcalloc(RUNS_MAX, sizeof(int64_t));
	b.dispatched = xcalloc(RUNS_MAX, sizeof(int64_t));
	read_tokens(&b);
	if (run(&b, (double)rate, (int64_t)settle * 1000, (int64_t)seconds * 1000, &err) == 0)
		return 0;
	fprintf(stderr, "control_nodes: %s\n", err.text);
	return 1;
}
