// SPDX-License-Identifier: Apache-2.0
#include "controller/http/server.h"

#include "base/file.h"
#include "base/log.h"
#include "base/time.h"
#include "controller/http/internal.h"

#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
	// Read at once is half of the pool (measured: docs/adr/0017); MHD clears all of it between
	// two requests, so that it is resident for each connection.
	CONNECTION_POOL = 32 * 1024,
	// A handler with an error text, a path and a statement on each of its levels takes some 20
	// KiB; only what is touched is resident.
	THREAD_STACK = 256 * 1024,
	BACKLOG = 1024,
	PEM_MAX = 1024 * 1024,
};

static int bind_one(const struct addrinfo *a)
{
	int on = 1;
	int fd = socket(a->ai_family, a->ai_socktype | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -1;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (bind(fd, a->ai_addr, a->ai_addrlen) < 0 || listen(fd, BACKLOG) < 0) {
		int saved = errno;
		close(fd);
		errno = saved;
		return -1;
	}
	return fd;
}

static int port_of(int fd, uint16_t *port)
{
	union {
		struct sockaddr any;
		struct sockaddr_in v4;
		struct sockaddr_in6 v6;
	} address = {0};
	socklen_t size = sizeof(address);
	if (getsockname(fd, &address.any, &size) < 0)
		return -1;
	*port = ntohs(
		address.any.sa_family == AF_INET6 ? address.v6.sin6_port : address.v4.sin_port);
	return 0;
}

static int listen_at(struct server *s, struct error *err)
{
	char service[8];
	struct addrinfo hints = {
		.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICHOST | AI_PASSIVE};
	struct addrinfo *found = NULL;
	snprintf(service, sizeof(service), "%u", s->options.port);
	int rc = getaddrinfo(s->options.address, service, &hints, &found);
	if (rc)
		return error_set(err, ERROR_INVALID, "%s is not an IP address: %s",
			s->options.address, gai_strerror(rc));
	s->listener = bind_one(found);
	freeaddrinfo(found);
	if (s->listener < 0 || port_of(s->listener, &s->port) < 0)
		return error_set_errno(
			err, errno, "listening on %s:%u", s->options.address, s->options.port);
	return 0;
}

static void __attribute__((format(printf, 2, 0)))
log_of_library(void *data, const char *format, va_list args)
{
	char text[512];
	(void)data;
	vsnprintf(text, sizeof(text), format, args);
	log_debug("http: %s", text);
}

// The target is taken apart by route.c, from its own copy.
static size_t do_not_unescape(void *data, struct MHD_Connection *c, char *text)
{
	(void)data;
	(void)c;
	return strlen(text);
}

static int start_daemon(
	struct server *s, const char *certificate, const char *key, struct error *err)
{
	const struct server_options *o = &s->options;
	struct MHD_OptionItem tls[] = {
		{MHD_OPTION_HTTPS_MEM_CERT, 0, (void *)certificate},
		{MHD_OPTION_HTTPS_MEM_KEY, 0, (void *)key},
		{MHD_OPTION_HTTPS_PRIORITIES, 0,
			(void *)"NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2"},
		{MHD_OPTION_END, 0, NULL},
	};
	if (!certificate)
		tls[0] = tls[3];
	unsigned flags = MHD_USE_THREAD_PER_CONNECTION | MHD_USE_INTERNAL_POLLING_THREAD |
			 MHD_USE_POLL | MHD_USE_ITC | MHD_USE_ERROR_LOG |
			 (certificate ? MHD_USE_TLS : 0);
	s->daemon = MHD_start_daemon(flags, 0, NULL, NULL, handle_request, s,
		MHD_OPTION_EXTERNAL_LOGGER, log_of_library, NULL, MHD_OPTION_LISTEN_SOCKET,
		s->listener, MHD_OPTION_URI_LOG_CALLBACK, handle_uri, s,
		MHD_OPTION_NOTIFY_COMPLETED, handle_completed, s, MHD_OPTION_NOTIFY_CONNECTION,
		watch_notify, s, MHD_OPTION_UNESCAPE_CALLBACK, do_not_unescape, NULL,
		MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)CONNECTION_POOL,
		MHD_OPTION_THREAD_STACK_SIZE, (size_t)THREAD_STACK, MHD_OPTION_CONNECTION_LIMIT,
		o->connections, MHD_OPTION_PER_IP_CONNECTION_LIMIT, o->connections_per_address,
		MHD_OPTION_CONNECTION_TIMEOUT, (o->idle_ms + 999) / 1000,
		MHD_OPTION_STRICT_FOR_CLIENT, 1, MHD_OPTION_ARRAY, tls, MHD_OPTION_END);
	if (!s->daemon)
		return error_set(err, ERROR_SYSTEM, "the HTTP server does not start%s",
			certificate ? "; are certificate and key in PEM form, and a pair?" : "");
	return 0;
}

static int start(struct server *s, struct error *err)
{
	const struct server_options *o = &s->options;
	cleanup_buffer struct buffer certificate = {0};
	cleanup_buffer struct buffer key = {0};
	if (o->certificate &&
		(file_read(AT_FDCWD, o->certificate, PEM_MAX, &certificate, err) < 0 ||
			file_read(AT_FDCWD, o->key, PEM_MAX, &key, err) < 0))
		return -1;
	if (listen_at(s, err) < 0 || watch_start(s, err) < 0)
		return -1;
	return start_daemon(s, o->certificate ? certificate.data : NULL, key.data, err);
}

static void server_free(struct server *s)
{
	watch_stop(s);
	if (s->listener >= 0)
		close(s->listener);
	rates_free(s->rates);
	metrics_free(s->metrics);
	pthread_cond_destroy(&s->wake);
	pthread_mutex_destroy(&s->lock);
	free(s);
}

struct server *server_start(const struct server_options *o, struct error *err)
{
	struct server *s = xcalloc(1, sizeof(*s));
	pthread_condattr_t monotonic;
	s->options = *o;
	s->listener = -1;
	s->rates = rates_new();
	s->metrics = metrics_new();
	pthread_mutex_init(&s->lock, NULL);
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&s->wake, &monotonic);
	pthread_condattr_destroy(&monotonic);
	if (start(s, err) < 0) {
		server_free(s);
		return NULL;
	}
	return s;
}

uint16_t server_port(const struct server *s)
{
	return s->port;
}

void server_stop(struct server *s, int64_t ms)
{
	if (!s)
		return;
	int64_t end = now_ms() + ms;
	MHD_quiesce_daemon(s->daemon);
	s->stopping = true;
	while (s->busy && now_ms() < end)
		usleep(10 * 1000);
	MHD_stop_daemon(s->daemon); // waits for those that are in a handler
	server_free(s);
}

void server_count(struct server *s, const char *name, double value)
{
	metrics_count(s->metrics, name, value);
}
