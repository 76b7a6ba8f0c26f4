// SPDX-License-Identifier: Apache-2.0
#include "oci/registry/token.h"

#include "base/json.h"
#include "base/text.h"
#include "oci/registry/url.h"

void registry_auth_release(struct registry_auth *a)
{
	transfer_cancel(a->fetching);
	a->fetching = NULL;
	free(a->header);
	a->header = NULL;
	buffer_release(&a->answer);
}

static void set_header(struct registry_auth *a, const char *scheme, const char *value)
{
	free(a->header);
	a->header = xasprintf("%s %s", scheme, value);
	a->generation++;
}

static bool has_credentials(const struct registry_endpoint *e)
{
	return e->basic || e->identity_token;
}

void registry_auth_refuse(const struct registry_auth *a, struct error *err)
{
	const struct registry_endpoint *e = a->endpoint;
	if (has_credentials(e))
		error_set(err, ERROR_DENIED,
			"%s: the credentials for %s were refused (401); check the name, or run "
			"docker login %s",
			a->subject, e->name, e->name);
	else if (a->header)
		error_set(err, ERROR_DENIED,
			"%s: credentials are needed, or there is no such image (401); check the "
			"name, or run docker login %s",
			a->subject, e->name);
	else
		error_set(err, ERROR_DENIED,
			"%s: credentials are needed (401); run docker login %s%s%s%s", e->name,
			e->name, e->note ? " (" : "", e->note ? e->note : "", e->note ? ")" : "");
}

static void append_escaped(
	const struct registry_auth *a, struct buffer *b, const char *key, const char *s, size_t n)
{
	char *escaped = a->http->curl->easy_escape(NULL, s, (int)n);
	if (!escaped)
		abort();
	buffer_printf(b, "%s%s=%s", b->size ? "&" : "", key, escaped);
	a->http->curl->free(escaped);
}

// service and scope as form parameters; a challenge may name several scopes with spaces between.
static void append_query(
	const struct registry_auth *a, const struct challenge *c, bool form, struct buffer *b)
{
	cleanup_free char *own =
		xasprintf("repository:%s:%s", a->path, a->actions ? a->actions : "pull");
	const char *scope = *c->scope ? c->scope : own;
	if (*c->service)
		append_escaped(a, b, "service", c->service, strlen(c->service));
	if (form) {
		append_escaped(a, b, "scope", scope, strlen(scope));
		return;
	}
	while (*scope) {
		size_t n = strcspn(scope, " ");
		if (n)
			append_escaped(a, b, "scope", scope, n);
		scope += n + (scope[n] == ' ');
	}
}

static int on_begin(void *data, const struct response *r, struct error *err)
{
	(void)r;
	(void)err;
	struct registry_auth *a = data;
	buffer_clear(&a->answer);
	return 0;
}

static int on_body(void *data, const char *bytes, size_t size, struct error *err)
{
	struct registry_auth *a = data;
	if (a->answer.size + size > TOKEN_BYTES_MAX)
		return error_set(err, ERROR_LIMIT, "the answer is over the limit of 1 MiB");
	buffer_append(&a->answer, bytes, size);
	return 0;
}

// It goes into a header, so it may not bring a line break along.
static bool token_valid(const char *token)
{
	for (const char *p = token; *p; p++)
		if (*p <= ' ' || *p > '~')
			return false;
	return *token != '\0';
}

static int take_token(struct registry_auth *a, struct error *err)
{
	cleanup_arena struct arena arena = {0};
	const struct json *answer = json_parse(&arena, a->answer.data ? a->answer.data : "",
		a->answer.size, "answer", &json_limits_default, err);
	if (!answer)
		return -1;
	const char *token = json_get_string(answer, "token");
	if (!token || !*token)
		token = json_get_string(answer, "access_token");
	if (!token || !token_valid(token))
		return error_set(err, ERROR_INVALID, "the answer holds no token");
	set_header(a, "Bearer", token);
	return 0;
}

static void settle(struct registry_auth *a, struct error *err, bool retry)
{
	buffer_release(&a->answer);
	if (err)
		error_context(err, "%s: token service", a->endpoint->name);
	a->settled(a, err, retry);
}

static void on_done(void *data, const struct response *r, const struct error *failed, bool retry)
{
	struct registry_auth *a = data;
	struct error err = {0};
	a->fetching = NULL;
	if (failed) {
		err = *failed;
		settle(a, &err, retry);
	} else if (r->status == 200) {
		settle(a, take_token(a, &err) < 0 ? &err : NULL, false);
	} else if (r->status == 401 || r->status == 403 || r->status == 400) {
		error_set(&err, ERROR_DENIED, "%s (%d %s); check the name, or run docker login %s",
			has_credentials(a->endpoint) ? "the credentials were refused"
						     : "credentials are needed",
			r->status, r->reason, a->endpoint->name);
		settle(a, &err, false);
	} else {
		error_set(&err, ERROR_UNAVAILABLE, "%d %s", r->status, r->reason);
		settle(a, &err, r->status >= 500 || r->status == 429 || r->status == 408);
	}
}

static const struct transfer_events token_events = {on_begin, on_body, on_done};

// The realm is the registry's word, and gets the password: at least it must not be weaker protected
// than the registry itself.
static int check_realm(const struct registry_auth *a, const char *realm, struct error *err)
{
	struct url_origin o;
	if (url_origin_of(a->http->curl, realm, &o, err) < 0)
		return error_context(err, "%s: token service", a->endpoint->name);
	if (streq(o.scheme, "http") && starts_with(a->endpoint->url, "https:"))
		return error_set(err, ERROR_DENIED,
			"%s: its token service %.200s has no TLS; refused", a->endpoint->name,
			realm);
	return 0;
}

static void fetch_token(struct registry_auth *a, const struct challenge *c)
{
	const struct registry_endpoint *e = a->endpoint;
	cleanup_free char *basic =
		e->basic && !e->identity_token ? xasprintf("Basic %s", e->basic) : NULL;
	cleanup_buffer struct buffer query = {0}, url = {0};
	struct transfer_options o = {.authorization = basic, .ca = e->ca, .proxy = e->proxy};
	buffer_puts(&url, c->realm);
	if (e->identity_token) {
		append_escaped(a, &query, "grant_type", "refresh_token", 13);
		append_query(a, c, true, &query);
		append_escaped(a, &query, "client_id", "stoker", 6);
		append_escaped(
			a, &query, "refresh_token", e->identity_token, strlen(e->identity_token));
		o.method = TRANSFER_POST;
		o.form = query.data;
	} else {
		append_query(a, c, false, &query);
		buffer_printf(&url, "%c%s", strchr(c->realm, '?') ? '&' : '?', query.data);
	}
	o.url = url.data;
	a->fetching = transfer_start(a->http, &o, &token_events, a);
}

enum auth_step registry_auth_challenge(
	struct registry_auth *a, const struct response *r, unsigned generation, struct error *err)
{
	if (generation != a->generation)
		return AUTH_AGAIN;
	if (a->fetching)
		return AUTH_WAIT;
	const struct challenge *bearer = challenge_find(&r->challenges, CHALLENGE_BEARER);
	if (bearer && *bearer->realm) {
		if (check_realm(a, bearer->realm, err) < 0)
			return AUTH_REFUSED;
		fetch_token(a, bearer);
		return AUTH_WAIT;
	}
	if (!challenge_find(&r->challenges, CHALLENGE_BASIC) || !a->endpoint->basic || a->header) {
		registry_auth_refuse(a, err);
		return AUTH_REFUSED;
	}
	set_header(a, "Basic", a->endpoint->basic);
	return AUTH_AGAIN;
}
