// SPDX-License-Identifier: Apache-2.0
// What a helper that was overcome, or has died, can do to whose downloads it fetches.
#include "agent/data/http_lane.h"
#include "agent/data/http_protocol.h"
#include "base/file.h"
#include "base/message.h"
#include "base/text.h"
#include "base/time.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/socket.h>

#include <cmocka.h>

static struct data_http_packet packet;

// The helper's part, in a thread: packets as they are, or as they should not be.
struct script {
	void (*play)(int socket);
	int socket;
};

static void send_raw(int socket, size_t size)
{
	struct error err;
	message_send(socket, &packet, size, NULL, 0, &err); // who gave up is gone
}

static void send_head(int socket, const char *etag)
{
	packet = (struct data_http_packet){
		.verb = DATA_HTTP_HEAD, .head = {.status = 200, .has_length = 1, .length = 6}};
	snprintf(packet.head.etag, sizeof(packet.head.etag), "%s", etag);
	send_raw(socket, offsetof(struct data_http_packet, piece) + sizeof(packet.head));
}

static void send_piece(int socket, const char *text, uint32_t said)
{
	packet = (struct data_http_packet){.verb = DATA_HTTP_BODY, .size = said};
	memcpy(packet.piece, text, strlen(text));
	send_raw(socket, offsetof(struct data_http_packet, piece) + strlen(text));
}

static void send_end(int socket, struct data_http_end end)
{
	packet = (struct data_http_packet){.verb = DATA_HTTP_END, .end = end};
	send_raw(socket, offsetof(struct data_http_packet, piece) + sizeof(end));
}

static void *play(void *data)
{
	struct script *s = data;
	static char request[DATA_HTTP_REQUEST_MAX];
	struct error err;
	if (message_receive(s->socket, request, sizeof(request), NULL, 0, false, &err) > 0)
		s->play(s->socket);
	return NULL;
}

static struct {
	char etag[RESPONSE_ETAG_MAX], body[64];
	unsigned ticks, ticks_allowed;
	int body_status;
	enum error_kind kind;
} got;
static struct download_exchange exchange;

static int on_head(void *data, const struct download_head *head, struct error *err)
{
	(void)data;
	(void)err;
	memcpy(got.etag, head->etag, sizeof(got.etag));
	return 0;
}

static int on_body(void *data, const char *bytes, size_t size, struct error *err)
{
	(void)data;
	if (got.body_status < 0)
		return error_set(err, got.kind, "not wanted");
	if (strlen(got.body) + size < sizeof(got.body))
		strncat(got.body, bytes, size);
	return 0;
}

static int on_tick(void *data)
{
	(void)data;
	return ++got.ticks > got.ticks_allowed;
}

// One exchange with a helper that plays this; what follows on the same lane is in `lane`.
static int run_on(
	struct data_lane *lane, int theirs, void (*script)(int), int64_t ms, struct error *err)
{
	static const struct download_options options = {.url = "http://h/f", .limit_ms = 1000};
	struct script s = {script, theirs};
	pthread_t thread;
	exchange = (struct download_exchange){.options = &options,
		.deadline = now_ms() + ms,
		.head = on_head,
		.body = on_body,
		.tick = on_tick,
		.retry_after_ms = -1};
	assert_int_equal(pthread_create(&thread, NULL, play, &s), 0);
	int status = data_lane_exchange(lane, &exchange, err);
	pthread_join(thread, NULL);
	return status;
}

static int run(void (*script)(int), struct error *err)
{
	int pair[2];
	memset(&got, 0, sizeof(got));
	got.ticks_allowed = 100;
	assert_int_equal(message_pair(pair, err), 0);
	struct data_lane lane = {.socket = pair[0]};
	int status = run_on(&lane, pair[1], script, 10 * 1000, err);
	close_fdp(&pair[0]);
	close_fdp(&pair[1]);
	return status;
}

static void good(int socket)
{
	send_head(socket, "\"1\"\r\nX: y\x1b[2J");
	send_piece(socket, "abc", 3);
	send_piece(socket, "def", 3);
	send_end(socket,
		(struct data_http_end){.status = 200, .complete = 1, .final_url = "http://h/\n"});
}

static void takes_an_answer(void **state)
{
	struct error err;
	(void)state;
	assert_int_equal(run(good, &err), 0);
	assert_string_equal(got.body, "abcdef");
	assert_string_equal(got.etag, "\"1\"??X: y?[2J"); // it will stand in a header
	assert_string_equal(exchange.final_url, "http://h/?");
	assert_int_equal(exchange.status, 200);
}

static void fails_well(int socket)
{
	struct data_http_end end = {.status = 503, .retry = 1, .failure = DATA_STALLED};
	error_set(&end.error, ERROR_UNAVAILABLE, "slow");
	end.retry_after_ms = 7;
	send_end(socket, end);
}

static void tells_what_failed(void **state)
{
	struct error err;
	(void)state;
	assert_int_equal(run(fails_well, &err), -1);
	assert_int_equal(exchange.failure, DATA_STALLED);
	assert_true(exchange.retry && exchange.retry_after_ms == 7);
	assert_string_equal(err.text, "slow");
}

static void body_first(int socket)
{
	send_piece(socket, "abc", 3);
}

static void wrong_size(int socket)
{
	send_head(socket, "");
	send_piece(socket, "abc", DATA_HTTP_PIECE);
}

static void empty_piece(int socket)
{
	send_head(socket, "");
	send_piece(socket, "", 0);
}

static void two_heads(int socket)
{
	send_head(socket, "");
	send_head(socket, "");
}

static void unknown_failure(int socket)
{
	send_end(socket, (struct data_http_end){.failure = 4711});
}

static void half_an_end(int socket)
{
	packet = (struct data_http_packet){.verb = DATA_HTTP_END};
	send_raw(socket, sizeof(uint32_t) * 4);
}

static void a_byte(int socket)
{
	send_raw(socket, 1);
}

static void refuses_what_is_malformed(void **state)
{
	static void (*const scripts[])(int) = {body_first, wrong_size, empty_piece, two_heads,
		unknown_failure, half_an_end, a_byte};
	struct error err;
	(void)state;
	for (size_t i = 0; i < array_size(scripts); i++) {
		assert_int_equal(run(scripts[i], &err), -1);
		assert_string_equal(err.text, "the data helper sent something unreadable");
		assert_int_equal(exchange.failure, DATA_FAILED);
		assert_false(exchange.retry);
	}
}

static void nothing(int socket)
{
	(void)socket;
}

// Silent, and dead: neither holds anybody up for longer than the limit.
static void gives_up_on_one_that_does_nothing(void **state)
{
	struct error err;
	int pair[2];
	(void)state;
	memset(&got, 0, sizeof(got));
	got.ticks_allowed = 100;
	assert_int_equal(message_pair(pair, &err), 0);
	struct data_lane lane = {.socket = pair[0]};
	int64_t began = now_ms();
	assert_int_equal(run_on(&lane, pair[1], nothing, 200, &err), -1);
	assert_true(now_ms() - began < 8000);
	assert_int_equal(exchange.failure, DATA_TIMEOUT);
	assert_non_null(strstr(err.text, "not complete within 1 s"));
	close_fdp(&pair[1]);
	assert_true(lane.broken); // it did not stop either
	assert_int_equal(data_lane_exchange(&lane, &exchange, &err), -1);
	assert_string_equal(err.text, "the data helper does not answer");
	close_fdp(&pair[0]);
}

static void dies(int socket)
{
	struct error err;
	char byte;
	send_head(socket, "");
	shutdown(socket, SHUT_RDWR);
	message_receive(socket, &byte, 1, NULL, 0, true, &err);
}

static void tells_of_one_that_died(void **state)
{
	struct error err;
	(void)state;
	assert_int_equal(run(dies, &err), -1);
	assert_string_equal(err.text, "the data helper has ended unexpectedly");
}

static void until_stopped(int socket)
{
	struct error err;
	char byte[4];
	send_head(socket, "");
	ssize_t n = -2;
	while (n == -2) { // as full as it gets
		send_piece(socket, "abc", 3);
		n = message_receive(socket, byte, sizeof(byte), NULL, 0, true, &err);
	}
	assert_int_equal(n, 1);
	send_end(socket, (struct data_http_end){.failure = DATA_FAILED});
}

static void ends_what_it_does_not_want(void **state)
{
	struct error err;
	int pair[2];
	(void)state;
	memset(&got, 0, sizeof(got));
	got.ticks_allowed = 100;
	assert_int_equal(message_pair(pair, &err), 0);
	struct data_lane lane = {.socket = pair[0]};
	got.body_status = -1;
	got.kind = ERROR_UNAVAILABLE;
	assert_int_equal(run_on(&lane, pair[1], until_stopped, 10 * 1000, &err), -1);
	assert_string_equal(err.text, "not wanted");
	assert_true(exchange.retry && exchange.failure == DATA_NETWORK);
	got.body_status = 0; // the lane is as good as before
	*got.body = '\0';
	assert_int_equal(run_on(&lane, pair[1], good, 10 * 1000, &err), 0);
	assert_string_equal(got.body, "abcdef");
	*got.body = '\0';
	got.ticks = got.ticks_allowed = 0; // canceled
	assert_int_equal(run_on(&lane, pair[1], until_stopped, 10 * 1000, &err), -1);
	assert_string_equal(err.text, "canceled");
	assert_false(exchange.retry || lane.broken);
	close_fdp(&pair[0]);
	close_fdp(&pair[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(takes_an_answer),
		cmocka_unit_test(tells_what_failed),
		cmocka_unit_test(refuses_what_is_malformed),
		cmocka_unit_test(gives_up_on_one_that_does_nothing),
		cmocka_unit_test(tells_of_one_that_died),
		cmocka_unit_test(ends_what_it_does_not_want),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
