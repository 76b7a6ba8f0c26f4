// SPDX-License-Identifier: Apache-2.0
//
// Credentials as `docker login` leaves them: config.json with `auths`, and the helper programs that
// `credHelpers` and `credsStore` name (docker-credential-<x> get: the host on its input, a JSON
// document on its output).
#pragma once

#include "base/error.h"
#include "base/memory.h"

// Strings belong to the struct; NULL where there is none. Anonymous is all NULL.
struct registry_credentials {
	char *username, *password;
	char *identity_token; // OAuth2 refresh token instead of a password
	// Why a helper gave nothing: people name helpers in shared configurations that a node does
	// not have, and most images need no login. Told when the registry then asks for
	// credentials.
	char *note;
};

void registry_credentials_release(struct registry_credentials *c);

// `folder` holds config.json; NULL: $DOCKER_CONFIG, else ~/.docker. A missing file is anonymous, as
// is a host that is not listed. `domain` as in references ("docker.io", "localhost:5000"). A
// malformed file is ERROR_INVALID.
int docker_config_lookup(
	const char *folder, const char *domain, struct registry_credentials *c, struct error *err);

#define cleanup_credentials __attribute__((cleanup(registry_credentials_release)))
