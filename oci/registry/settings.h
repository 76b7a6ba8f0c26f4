// SPDX-License-Identifier: Apache-2.0
//
// Everything a fetcher process needs to know: where to ask (the mirrors in order, then the registry
// itself) and with which credentials. Made by the coordinator, which may read files and run
// credential helpers, and sent to the fetcher through its socket, because argv and environment are
// for all to see.
#pragma once

#include "base/arena.h"
#include "base/buffer.h"
#include "base/error.h"
#include "oci/image/reference.h"
#include "oci/registry/config.h"

#include <stddef.h>
#include <stdint.h>

enum { SETTINGS_BYTES_MAX = 64 * 1024 * 1024, ENDPOINTS_MAX = 17, CA_BYTES_MAX = 2 * 1024 * 1024 };

// A string that does not apply is NULL.
struct registry_endpoint {
	const char *name;	    // as people log in to it: "docker.io", "mirror.example:5000"
	const char *url;	    // without "/v2": "https://registry-1.docker.io"
	const char *basic;	    // base64 of user:password
	const char *identity_token; // OAuth2 refresh token
	const char *note;	    // why there are no credentials
	const char *ca;		    // PEM
	const char *proxy;
};

struct registry_settings {
	const char *subject; // "docker.io/library/x", for error texts
	const char *path;    // "library/x"
	uint64_t connections, stall_ms, retries;
	const char *https_proxy, *http_proxy, *no_proxy;
	struct registry_endpoint *endpoints;
	size_t endpoint_count;
};

// Reads the docker configuration, CA and password files, asks credential helpers, looks at the
// proxy variables. Strings live in the arena or in `config`.
int registry_settings_make(struct arena *a, const struct registry_config *config,
	const struct oci_reference *reference, struct registry_settings *s, struct error *err);

// To bytes and back. What is read points into the arena. ERROR_INVALID on bytes not written by this
// program.
void registry_settings_write(const struct registry_settings *s, struct buffer *out);
int registry_settings_read(struct arena *a, const char *data, size_t size,
	struct registry_settings *s, struct error *err);
