// SPDX-License-Identifier: Apache-2.0
//
// A client for one repository: its endpoints (mirrors, then the registry itself) with what is known
// of each, the requests under way (oci/registry/request.h), and the HTTP beneath.
#pragma once

#include "oci/registry/settings.h"
#include "oci/registry/token.h"
#include "oci/registry/transfer.h"

#include <stdint.h>

struct request;

struct endpoint_state {
	const struct registry_endpoint *endpoint;
	struct registry_auth auth;
	int64_t avoid_until; // it was down: monotonic ms, others first until then
};

struct registry_client {
	struct http http;
	const struct registry_settings *settings;
	struct endpoint_state states[ENDPOINTS_MAX];
	struct request *requests;
};

// Loads curl. The settings must outlive the client, and the client must stay where it is.
int registry_client_open(
	struct registry_client *c, const struct registry_settings *settings, struct error *err);
void registry_client_close(struct registry_client *c);

// Work without blocking; then wait for curl's descriptors until the deadline (monotonic ms).
int registry_client_turn(struct registry_client *c, struct error *err);
int64_t registry_client_deadline(const struct registry_client *c);
