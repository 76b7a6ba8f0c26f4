// SPDX-License-Identifier: Apache-2.0
//
// Addresses on both sides of the package proxy: https://host/path is /https/host/path of a server
// inside. All of it is pure.
#pragma once

#include "base/buffer.h"
#include "base/error.h"
#include "base/json_decode.h"

#include <stdbool.h>

enum { PACKAGE_URL_MAX = 2048, PACKAGE_ORIGIN_MAX = 300 };

// From the target of a request. ERROR_INVALID: another form, a user, a fragment, dot segments
// (encoded ones as well), control characters, too long.
int package_url_of_target(const char *target, char url[PACKAGE_URL_MAX], struct error *err);
// "http://127.0.0.1:PORT/https/host/path"; false: no address of that kind. Users, passwords and
// conda's tokens (/t/TOKEN/) are left out.
bool package_url_inside(const char *url, unsigned port, struct buffer *out);
// The address without users, passwords and tokens; false as above.
bool package_url_plain(const char *url, struct buffer *out);
// "https://host" or "https://host:8080", lower-case, never a scheme's own port. ERROR_INVALID.
int package_url_origin(const char *url, char origin[PACKAGE_ORIGIN_MAX], struct error *err);

// What is said to a server and not known inside.
struct package_credential {
	char *origin;
	char *user, *password; // NULL: none
	char *token;	       // "/t/TOKEN", before the path; NULL: none
	char *path;	       // "/channel": only below it; "": everywhere
};

struct package_credentials {
	struct package_credential *items;
	size_t count;
};

// Of a source's address, and of a netrc file (curl's format: machine, default, login, password,
// account, macdef); of the latter what fits one of the sources.
void package_credentials_add_url(struct package_credentials *c, const char *url);
void package_credentials_add_netrc(
	struct package_credentials *c, const char *text, const struct json_strings *sources);
void package_credentials_release(struct package_credentials *c);
// The address as this server wants it: with the token, if there is one.
char *package_credential_url(const struct package_credential *c, const char *url);
// The first that fits; NULL: none.
const struct package_credential *package_credential_for(
	const struct package_credentials *c, const char *url);
// "Authorization: Basic …", appended.
void package_credential_header(const struct package_credential *c, struct buffer *out);
