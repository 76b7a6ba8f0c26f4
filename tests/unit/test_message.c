// SPDX-License-Identifier: Apache-2.0
#include "base/file.h"
#include "base/memory.h"
#include "base/message.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

static void test_round_trip(void **state)
{
	(void)state;
	struct error err;
	int pair[2];
	char text[64];
	assert_int_equal(message_pair(pair, &err), 0);
	assert_int_equal(message_send(pair[0], "one", 3, NULL, 0, &err), 0);
	assert_int_equal(message_send(pair[0], "three", 5, NULL, 0, &err), 0);
	assert_int_equal(message_receive(pair[1], text, sizeof(text), NULL, 0, false, &err), 3);
	assert_memory_equal(text, "one", 3);
	assert_int_equal(message_receive(pair[1], text, sizeof(text), NULL, 0, true, &err), 5);
	assert_memory_equal(text, "three", 5);
	err = (struct error){.kind = ERROR_LIMIT};
	assert_int_equal(message_receive(pair[1], text, sizeof(text), NULL, 0, true, &err), -2);
	assert_int_equal(err.kind, ERROR_LIMIT); // untouched
	close(pair[0]);
	assert_int_equal(message_receive(pair[1], text, sizeof(text), NULL, 0, true, &err), 0);
	assert_int_equal(message_send(pair[1], "x", 1, NULL, 0, &err), -1);
	assert_int_equal(err.kind, ERROR_UNAVAILABLE);
	assert_string_equal(err.text, "send a message of 1 bytes: Broken pipe");
	close(pair[1]);
}

static void test_largest(void **state)
{
	(void)state;
	struct error err;
	int pair[2];
	cleanup_free char *data = xcalloc(1, MESSAGE_MAX);
	cleanup_free char *back = xcalloc(1, MESSAGE_MAX);
	data[MESSAGE_MAX - 1] = 'z';
	assert_int_equal(message_pair(pair, &err), 0);
	assert_int_equal(message_send(pair[0], data, MESSAGE_MAX, NULL, 0, &err), 0);
	assert_int_equal(
		message_receive(pair[1], back, MESSAGE_MAX, NULL, 0, false, &err), MESSAGE_MAX);
	assert_memory_equal(data, back, MESSAGE_MAX);
	assert_int_equal(message_send(pair[0], data, 11, NULL, 0, &err), 0);
	assert_int_equal(message_receive(pair[1], back, 10, NULL, 0, false, &err), -1);
	assert_int_equal(err.kind, ERROR_INVALID);
	assert_string_equal(err.text, "message: larger than 10 bytes");
	close(pair[0]);
	close(pair[1]);
}

static int open_count(void)
{
	int count = 0;
	for (int fd = 0; fd < 256; fd++)
		count += fcntl(fd, F_GETFD) >= 0;
	return count;
}

static void test_descriptors(void **state)
{
	(void)state;
	struct error err;
	int pair[2], sent[MESSAGE_FDS], got[MESSAGE_FDS];
	char text[8];
	int before = open_count();
	assert_int_equal(message_pair(pair, &err), 0);
	for (int i = 0; i < MESSAGE_FDS; i++)
		sent[i] = pair[0];
	assert_int_equal(message_send(pair[0], "x", 1, sent, MESSAGE_FDS, &err), 0);
	assert_int_equal(
		message_receive(pair[1], text, sizeof(text), got, MESSAGE_FDS, false, &err), 1);
	for (int i = 0; i < MESSAGE_FDS; i++) {
		assert_int_equal(fcntl(got[i], F_GETFD), FD_CLOEXEC);
		close(got[i]);
	}
	// Fewer than there is room for.
	assert_int_equal(message_send(pair[0], "x", 1, sent, 1, &err), 0);
	assert_int_equal(message_receive(pair[1], text, sizeof(text), got, 3, false, &err), 1);
	assert_true(got[0] >= 0);
	assert_int_equal(got[1], -1);
	assert_int_equal(got[2], -1);
	close(got[0]);
	// More than there is room for: refused, and none stays open.
	for (size_t room = 0; room < 3; room += 2) {
		assert_int_equal(message_send(pair[0], "x", 1, sent, 3, &err), 0);
		assert_int_equal(
			message_receive(pair[1], text, sizeof(text), got, room, false, &err), -1);
		assert_int_equal(err.kind, ERROR_INVALID);
		assert_non_null(strstr(err.text, "descriptors"));
	}
	assert_int_equal(open_count(), before + 2);
	close(pair[0]);
	close(pair[1]);
}

// A peer that does not use message_send(): more descriptors than our control buffer holds.
static void test_flood(void **state)
{
	(void)state;
	struct error err;
	int pair[2], got[MESSAGE_FDS];
	char text[8];
	int before = open_count();
	assert_int_equal(message_pair(pair, &err), 0);
	union {
		struct cmsghdr header;
		char bytes[CMSG_SPACE(20 * sizeof(int))];
	} control = {.header = {.cmsg_len = CMSG_LEN(20 * sizeof(int)),
			     .cmsg_level = SOL_SOCKET,
			     .cmsg_type = SCM_RIGHTS}};
	for (size_t i = 0; i < 20; i++)
		memcpy(CMSG_DATA(&control.header) + i * sizeof(int), &pair[0], sizeof(int));
	char byte = 'x';
	struct iovec part = {.iov_base = &byte, .iov_len = 1};
	struct msghdr m = {.msg_iov = &part,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control)};
	assert_int_equal(sendmsg(pair[0], &m, 0), 1);
	assert_int_equal(
		message_receive(pair[1], text, sizeof(text), got, MESSAGE_FDS, false, &err), -1);
	assert_int_equal(err.kind, ERROR_INVALID);
	assert_int_equal(open_count(), before + 2);
	close(pair[0]);
	close(pair[1]);
}

// The peer closes while something of ours is unread (ECONNRESET): what it sent before still
// arrives.
static void test_reset(void **state)
{
	(void)state;
	struct error err;
	int pair[2];
	char text[8];
	assert_int_equal(message_pair(pair, &err), 0);
	assert_int_equal(message_send(pair[0], "lost", 4, NULL, 0, &err), 0);
	assert_int_equal(message_send(pair[1], "last", 4, NULL, 0, &err), 0);
	close(pair[1]);
	assert_int_equal(message_receive(pair[0], text, sizeof(text), NULL, 0, false, &err), 4);
	assert_memory_equal(text, "last", 4);
	assert_int_equal(message_receive(pair[0], text, sizeof(text), NULL, 0, false, &err), 0);
	close(pair[0]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_largest),
		cmocka_unit_test(test_descriptors),
		cmocka_unit_test(test_flood),
		cmocka_unit_test(test_reset),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
