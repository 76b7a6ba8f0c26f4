// SPDX-License-Identifier: Apache-2.0
//
// How one endpoint wants to be authenticated: anonymous until it answers 401, then Basic (RFC 7617)
// or a Bearer token from the service its challenge names (Docker token authentication; OAuth2
// refresh tokens where login left an identity token). One fetcher asks for one repository, so an
// endpoint has one scope, one token, and all requests share it.
#pragma once

#include "oci/registry/settings.h"
#include "oci/registry/transfer.h"

enum { TOKEN_BYTES_MAX = 1024 * 1024 }; // of the service's answer

struct registry_auth {
	struct http *http;
	const struct registry_endpoint *endpoint;
	const char *subject, *path;
	const char *actions; // to ask for where a challenge names no scope; NULL: "pull"
	char *header;	     // value of Authorization; NULL: none
	unsigned generation; // counts the headers there have been
	struct transfer *fetching;
	struct buffer answer;
	// The token asked for is there (`header` is new), or `err` says why not; `retry`: it may
	// come.
	void (*settled)(struct registry_auth *auth, const struct error *err, bool retry);
	void *data;
};

void registry_auth_release(struct registry_auth *a);

enum auth_step { AUTH_REFUSED = -1, AUTH_WAIT, AUTH_AGAIN };

// What to do about a 401 to a request that was sent with the header of this generation: ask again
// with the header that is there now, wait for settled(), or give up with ERROR_DENIED.
enum auth_step registry_auth_challenge(
	struct registry_auth *a, const struct response *r, unsigned generation, struct error *err);
// ERROR_DENIED, in the words that fit what was tried.
void registry_auth_refuse(const struct registry_auth *a, struct error *err);
