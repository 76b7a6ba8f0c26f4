// SPDX-License-Identifier: Apache-2.0
//
// A request for one resource of the repository, carried to its end: authentication, redirects, the
// mirrors in order, retries with backoff.
#pragma once

#include "oci/registry/client.h"

#include <stdbool.h>
#include <stdint.h>

enum { REDIRECTS_MAX = 10 };

struct request;

struct request_events {
	// The head of an answer with status 2xx; may change r->range for later attempts. An error
	// of kind UNAVAILABLE is tried again, others at the next endpoint; one with errno ends it
	// all.
	int (*begin)(void *data, const struct response *r, struct error *err);
	int (*body)(void *data, const char *bytes, size_t size, struct error *err);
	// The body has ended: is it whole? Errors as above.
	int (*end)(void *data, const struct response *r, struct error *err);
	// For people: "retrying in 2 s: 503 Service Unavailable".
	void (*notice)(void *data, const char *text);
	// Once; the request is gone afterwards.
	void (*done)(void *data, const struct error *err);
};

struct request_options {
	enum transfer_method method;
	const char *resource; // behind /v2/<path>/: "manifests/latest"
	const char *accept;   // NULL: none
	// Instead of the resource: a whole URL that the registry has named (of an upload under
	// way). At another host it gets no credentials.
	const char *url;
	const struct transfer_upload *upload; // of PUT and PATCH; copied, but for the strings
	// One attempt (and a second with a token): who uploads must ask how much has arrived before
	// it tries again. ERROR_UNAVAILABLE: trying again may help.
	bool once;
	int64_t delay_ms; // before the first attempt
};

// Never calls an event at once.
struct request *request_start(struct registry_client *c, const struct request_options *o,
	const struct request_events *events, void *data);
// The bytes that this and later attempts ask for; end 0: no Range header.
void request_set_range(struct request *r, uint64_t start, uint64_t end);
bool request_is_ranged(const struct request *r);
// No further events. NULL is fine.
void request_cancel(struct request *r);

// For client.c. Begin the attempts that are due; free what is done; the next time something is due
// (monotonic ms, INT64_MAX if nothing); free everything.
void requests_wake(struct registry_client *c);
void requests_sweep(struct registry_client *c);
int64_t requests_deadline(const struct registry_client *c);
void requests_release(struct registry_client *c);
// The token that requests to this endpoint wait for is there, or `err` says why not.
void requests_settled(struct registry_auth *auth, const struct error *err, bool retry);
