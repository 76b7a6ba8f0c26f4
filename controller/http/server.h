// SPDX-License-Identifier: Apache-2.0
//
// The HTTP server, on libmicrohttpd: a thread per connection, so what answers a request may block
// -- on the tables, on the hub, on a file -- and reads from top to bottom (docs/adr/0017). Finds
// the route, checks the token and its role, bounds and collects (or passes on) the body, and turns
// an error into the answer of docs/protocol.md.
#pragma once

#include "base/arena.h"
#include "base/buffer.h"
#include "base/error.h"
#include "base/json.h"
#include "base/json_write.h"
#include "controller/state/identity.h"

#include <stdbool.h>
#include <stdint.h>

struct request {
	struct controller *controller;
	struct identity who; // role ROLE_NONE where the route needs none
	struct arena arena;  // ends with the request
	struct buffer body;  // of routes without `piece`
	const char *code;    // of an error, where its kind does not say enough ("stale"); a literal
	uint64_t offset;     // of the error "offset"
	void *context;	     // of the route's own, released by its `release`
	struct request_internal *internal;
};

// Returns 0 after one of the reply functions, or -1: the error becomes the answer.
typedef int route_fn(struct request *r, struct error *err);
struct route {
	const char *method; // "GET": HEAD too
	const char *
		pattern; // "/v1/runs/{run}/files/{path*}": a segment; * all that remains, not empty
	unsigned roles;	 // any of these; ROLE_NONE: without a token
	size_t body_max; // bytes; more is 413
	route_fn *handle;
	// For bodies that are not kept in memory: `begin` after the head (it may refuse, before the
	// client has sent the body), `piece` for each piece, then `handle`. `release` in any case,
	// if `begin` was called: after the reply, or when the client is gone.
	route_fn *begin;
	int (*piece)(struct request *r, const void *data, size_t size, struct error *err);
	void (*release)(struct request *r);
};

// Of the path, percent-decoded (a NUL or broken UTF-8 in it was refused before); never NULL for
// names of the pattern.
const char *request_parameter(const struct request *r, const char *name);
const char *request_query(const struct request *r, const char *name);  // NULL: not given
const char *request_header(const struct request *r, const char *name); // NULL: not given
// A decimal query parameter between bounds, else ERROR_INVALID which names it.
int request_query_number(const struct request *r, const char *name, uint64_t min, uint64_t max,
	uint64_t *value, struct error *err); // untouched when it is not given
// The same of a signed one of 64 bits.
int request_query_integer(
	const struct request *r, const char *name, int64_t *value, struct error *err);
// "1" or "true", "0" or "false" (also when it is not given), else ERROR_INVALID which names it.
int request_query_flag(const struct request *r, const char *name, bool *value, struct error *err);
// The body as JSON (an object), within the bounds for foreign documents.
int request_json(struct request *r, const struct json **document, struct error *err);
// What the server has counted, as Prometheus reads it.
void request_metrics(struct request *r, struct buffer *out);
// Is the client still there? For those who wait.
bool request_is_alive(struct request *r);

void reply_header(
	struct request *r, const char *name, const char *value); // for the reply that follows
int reply_json(struct request *r, int status, struct json_writer *w, struct error *err);
// Takes the buffer's bytes.
int reply_text(
	struct request *r, int status, struct buffer *b, const char *media_type, struct error *err);
int reply_empty(struct request *r, int status, struct error *err);
// A part of a file; takes the descriptor.
int reply_file(struct request *r, int status, int fd, uint64_t offset, uint64_t size,
	const char *media_type, struct error *err);
// Bytes as they come. `next` fills the buffer and returns how many (it may block up to about a
// second; 0: nothing yet, call again), -1: the end, -2: break off (the client must notice). `done`
// frees `data`, in any case. size UINT64_MAX: not known.
struct reply_stream {
	int status;
	const char *media_type;
	uint64_t size;
	int64_t (*next)(void *data, char *buffer, size_t size);
	void (*done)(void *data);
	void *data;
};
int reply_stream(struct request *r, const struct reply_stream *s, struct error *err);

struct server_options {
	const char *address;		   // "127.0.0.1", "::"
	uint16_t port;			   // 0: any
	const char *certificate, *key;	   // PEM files; NULL: no TLS
	unsigned connections;		   // at most, 4096
	unsigned connections_per_address;  // 0: no bound
	unsigned idle_ms;		   // 20 s without a byte
	double user_rate, node_rate;	   // requests a second of one token
	const struct route *const *routes; // tables, each ended by a NULL method; the array by NULL
	struct controller *controller;
};
struct server;
struct server *server_start(const struct server_options *o, struct error *err);
uint16_t server_port(const struct server *s);
// No new connections; requests under way get up to `ms`, those that wait are woken by hub_stop().
// Frees it.
void server_stop(struct server *s, int64_t ms);
// Count something for GET /metrics: name as Prometheus wants it, without labels.
void server_count(struct server *s, const char *name, double value);
