// SPDX-License-Identifier: Apache-2.0
//
// What a controller answers, as the agent and the command line read it: a server that says the
// input, whole, to whoever asks. An answer that is a document goes on to what makes a job of a
// start (agent/link/job.c).
#include "agent/link/link.h"
#include "agent/service/service.h"
#include "base/file.h"
#include "base/text.h"

#include <arpa/inet.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct {
	int listener;
	pthread_t thread;
	char url[64], folder[64];
	int fd; // the folder
	struct service *service;
	pthread_mutex_t lock; // of what follows
	const void *data;
	size_t size;
} lab = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void answer(int fd)
{
	char request[4096];
	size_t size = 0;
	// To the end of its head; there is no body.
	while (size < sizeof(request) - 1) {
		ssize_t n = recv(fd, request + size, sizeof(request) - 1 - size, 0);
		if (n <= 0)
			return;
		size += (size_t)n;
		request[size] = '\0';
		if (strstr(request, "\r\n\r\n"))
			break;
	}
	pthread_mutex_lock(&lab.lock);
	for (size_t sent = 0; sent < lab.size;) {
		ssize_t n = send(fd, (const char *)lab.data + sent, lab.size - sent, MSG_NOSIGNAL);
		if (n <= 0)
			break;
		sent += (size_t)n;
	}
	pthread_mutex_unlock(&lab.lock);
	// The client may have ended first; closing with its bytes unread would take the answer
	// away.
	shutdown(fd, SHUT_WR);
	while (recv(fd, request, sizeof(request), 0) > 0)
		;
}

static void *serve(void *data)
{
	for (;;) {
		cleanup_fd int fd = accept4(lab.listener, NULL, NULL, SOCK_CLOEXEC);
		if (fd >= 0)
			answer(fd);
	}
	return data;
}

static void end(void)
{
	struct error ignored;
	service_close(lab.service);
	directory_remove(AT_FDCWD, lab.folder, &ignored);
}

static void begin(void)
{
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t size = sizeof(at);
	struct error err;
	bool fast = access("/dev/shm", W_OK) == 0;
	snprintf(lab.folder, sizeof(lab.folder), "%s/stoker-fuzz-XXXXXX",
		fast ? "/dev/shm" : "/tmp");
	lab.listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (!mkdtemp(lab.folder) || bind(lab.listener, (struct sockaddr *)&at, sizeof(at)) < 0 ||
		listen(lab.listener, 16) < 0 ||
		getsockname(lab.listener, (struct sockaddr *)&at, &size) < 0)
		abort();
	lab.fd = open(lab.folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
	snprintf(lab.url, sizeof(lab.url), "http://127.0.0.1:%u", ntohs(at.sin_port));
	lab.service = service_open(
		&(struct service_settings){
			.url = lab.url, .token = "t", .cancel_fd = -1, .stall_ms = 1000},
		&err);
	if (!lab.service || pthread_create(&lab.thread, NULL, serve, NULL) != 0)
		abort();
	atexit(end);
}

static int count(void *data, const char *bytes, size_t size, struct error *err)
{
	(void)bytes;
	(void)err;
	*(size_t *)data += size;
	return 0;
}

// Of each start: job.json and secrets, in a folder of its own; nothing outside it. One with a
// snapshot would ask for that.
static void make_job(const struct json *start)
{
	struct link l = {.credential = {.url = lab.url, .token = "t"}};
	struct attempt a = {.link = &l, .start = start, .run = "run_1", .number = 1};
	struct error err = {0};
	a.token = json_get_string(start, "token");
	if (json_get_string(start, "snapshot") || directory_make(lab.fd, "job", 0700, &err) < 0)
		return;
	a.folder = directory_open(lab.fd, "job", &err);
	if (a.folder < 0)
		abort();
	err = (struct error){0};
	if (attempt_write_job(&a, &err) < 0 && (err.kind == ERROR_NONE || !*err.text))
		abort();
	close(a.folder);
	if (directory_remove(lab.fd, "job", &err) < 0)
		abort();
}

static void look(const struct json *answer)
{
	const struct json *starts = json_get(answer, "starts");
	if (!starts || starts->type != JSON_ARRAY)
		return;
	for (size_t i = 0; i < starts->count && i < 4; i++)
		make_job(&starts->members[i].value);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	cleanup_arena struct arena a = {0};
	const struct json *answer = NULL;
	size_t bytes = 0;
	struct error err = {0};
	if (!lab.service)
		begin();
	pthread_mutex_lock(&lab.lock);
	lab.data = data;
	lab.size = size;
	pthread_mutex_unlock(&lab.lock);
	struct service_request q = {
		.method = "POST", .path = "/v1/node/poll", .fd = -1, .body = ""};
	if (service_do(lab.service, &q, &a, &answer, &err) == 0)
		look(answer);
	else if (err.kind == ERROR_NONE || !*err.text)
		abort();
	if (strlen(service_code(lab.service)) > 31 || service_offset(lab.service) < -1)
		abort();
	q = (struct service_request){
		.method = "GET", .path = "/v1/x", .fd = -1, .sink = count, .data = &bytes};
	service_do(lab.service, &q, &a, NULL, &err);
	pthread_mutex_lock(&lab.lock); // the thread may still be at it
	lab.size = 0;
	pthread_mutex_unlock(&lab.lock);
	return 0;
}
