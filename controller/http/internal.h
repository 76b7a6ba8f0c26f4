// SPDX-License-Identifier: Apache-2.0
//
// What the parts of the HTTP server share.
#pragma once

#include "controller/http/metrics.h"
#include "controller/http/rate.h"
#include "controller/http/route.h"
#include "controller/http/server.h"

#include <microhttpd.h>
#include <pthread.h>
#include <stdatomic.h>

enum { IDLE, HEAD_PENDING = IDLE, BODY, BUSY };

// A client's connection, as the watcher sees it (watch.c).
struct connection {
	struct connection *next, **link;
	int fd;
	atomic_int phase;   // of the enum above: between requests and in a head; in a body; neither
	atomic_llong since; // monotonic ms: of that phase
	atomic_ullong received; // of the body
};

struct server {
	struct server_options options;
	struct MHD_Daemon *daemon;
	int listener;
	uint16_t port;
	struct rates *rates;
	struct metrics *metrics;
	atomic_bool stopping;
	atomic_uint busy;   // requests under way
	atomic_ullong held; // bytes of their bodies in memory

	pthread_mutex_t lock; // of what follows
	pthread_cond_t wake;
	struct connection *connections;
	bool watcher_runs, watcher_ends;
	pthread_t watcher;
};

struct stream; // reply.c

struct request_internal {
	struct request request;
	struct server *server;
	struct connection *connection;
	struct MHD_Connection *mhd;
	char *uri;
	const struct route *route;
	struct target target;
	struct parameters parameters;
	struct MHD_Response *response; // of the route, until it is handed over
	struct stream *stream;	       // of that response
	struct reply_header_list {
		const char *name, *value;
		struct reply_header_list *next;
	} * headers;
	int status;
	uint64_t received, held; // of the body; of that, what is counted as kept in memory
	int64_t started;	 // monotonic ms
	struct error error;
	int error_status; // with its code in request.code; 0: by the error's kind
	int64_t retry_after_ms;
	bool begun, failed, route_begun, must_close;
};

// watch.c: connections that trickle are ended; MHD's own time limit is only of silence.
int watch_start(struct server *s, struct error *err);
void watch_stop(struct server *s);
void watch_notify(void *server, struct MHD_Connection *c, void **context,
	enum MHD_ConnectionNotificationCode code);
void watch_phase(struct connection *c, int phase);

// handle.c: the callbacks of a request, in their order.
void *handle_uri(void *server, const char *uri, struct MHD_Connection *c);
enum MHD_Result handle_request(void *server, struct MHD_Connection *c, const char *url,
	const char *method, const char *version, const char *data, size_t *size, void **context);
void handle_completed(void *server, struct MHD_Connection *c, void **context,
	enum MHD_RequestTerminationCode code);

// reply.c
void reply_drop(struct request_internal *q);
void reply_end_stream(struct request_internal *q); // before what its data may live in goes
// Hand the reply over, with its headers.
enum MHD_Result reply_send(struct request_internal *q);
// error.c: q->error becomes the reply.
void reply_error(struct request_internal *q);
void request_patience(struct request_internal *q, bool patient); // no time limit of silence
