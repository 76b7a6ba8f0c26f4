// SPDX-License-Identifier: Apache-2.0
#include "agent/environment/proxy_internal.h"
#include "base/file.h"
#include "base/json_write.h"
#include "base/text.h"

#include <stdio.h>

enum { NETRC_MAX = 1024 * 1024, CA_MAX = 4 * 1024 * 1024 };

// Packages of git servers and the like are not fetched through us.
static bool is_http(const char *url)
{
	return starts_with(url, "http://") || starts_with(url, "https://");
}

// As it may be known inside: without users and tokens.
static int plain_source(struct arena *a, const char *url, const char **plain, struct error *err)
{
	cleanup_buffer struct buffer text = {0};
	if (!package_url_plain(url, &text))
		return error_set(
			err, ERROR_INVALID, "a source of packages whose address names no server");
	*plain = arena_strdup(a, text.data);
	return 0;
}

static int take_sources(struct arena *a, const struct json_strings *sources,
	struct proxy_settings *s, struct error *err)
{
	s->sources.items = arena_array(a, const char *, sources->count + 1);
	for (size_t i = 0; i < sources->count; i++) {
		const char *url = sources->items[i];
		if (!is_http(url))
			continue;
		if (plain_source(a, url, &s->sources.items[s->sources.count], err) < 0)
			return -1;
		s->sources.count++;
		package_credentials_add_url(&s->credentials, url);
	}
	return 0;
}

static int read_text(
	struct arena *a, const char *path, size_t limit, const char **text, struct error *err)
{
	cleanup_buffer struct buffer b = {0};
	if (file_read(AT_FDCWD, path, limit, &b, err) < 0)
		return -1;
	*text = arena_strndup(a, b.size ? b.data : "", b.size);
	return 0;
}

static int take_hosts(struct arena *a, const struct registry_config *c, struct proxy_settings *s,
	struct error *err)
{
	s->hosts = arena_array(a, struct proxy_host, c->host_count + 1);
	for (size_t i = 0; i < c->host_count; i++) {
		const struct registry_host *from = &c->hosts[i];
		struct proxy_host *to = &s->hosts[s->host_count];
		if (!from->ca && !from->proxy)
			continue;
		*to = (struct proxy_host){.name = from->name, .proxy = from->proxy};
		if (from->ca && read_text(a, from->ca, CA_MAX, &to->ca, err) < 0)
			return error_context(err, "registries: %s: ca", from->name);
		s->host_count++;
	}
	return 0;
}

int proxy_settings_make(struct arena *a, const struct config *config,
	const struct json_strings *sources, struct proxy_settings *s, struct error *err)
{
	const struct environment_policy *policy = &config->environments;
	*s = (struct proxy_settings){
		.local_hosts = policy->local_hosts,
		.stall_ms = config->registries.stall_timeout * 1000,
		.tries = config->registries.retries,
		.limits = policy->packages,
	};
	if (take_sources(a, sources, s, err) < 0 || take_hosts(a, &config->registries, s, err) < 0)
		return -1;
	const char *netrc;
	if (!policy->netrc)
		return 0;
	if (read_text(a, policy->netrc, NETRC_MAX, &netrc, err) < 0)
		return error_context(err, "environments.netrc");
	package_credentials_add_netrc(&s->credentials, netrc, &s->sources);
	return 0;
}

static void write_credentials(struct json_writer *w, const struct package_credentials *c)
{
	json_write_key(w, "credentials");
	json_write_open_array(w);
	for (size_t i = 0; i < c->count; i++) {
		json_write_open_object(w);
		json_write_member(w, "origin", c->items[i].origin);
		json_write_member(w, "user", c->items[i].user);
		json_write_member(w, "password", c->items[i].password);
		json_write_member(w, "token", c->items[i].token);
		json_write_member(w, "path", c->items[i].path);
		json_write_close_object(w);
	}
	json_write_close_array(w);
}

static void write_hosts(struct json_writer *w, const struct proxy_settings *s)
{
	json_write_key(w, "hosts");
	json_write_open_array(w);
	for (size_t i = 0; i < s->host_count; i++) {
		json_write_open_object(w);
		json_write_member(w, "name", s->hosts[i].name);
		json_write_member(w, "ca", s->hosts[i].ca);
		json_write_member(w, "proxy", s->hosts[i].proxy);
		json_write_close_object(w);
	}
	json_write_close_array(w);
}

int proxy_settings_write(const struct proxy_settings *s, struct buffer *out, struct error *err)
{
	cleanup_json_writer struct json_writer *w = json_writer_new(false);
	json_write_open_object(w);
	json_write_member_strings(w, "sources", &s->sources);
	json_write_member_strings(w, "local_hosts", &s->local_hosts);
	write_credentials(w, &s->credentials);
	write_hosts(w, s);
	json_write_member_unsigned(w, "stall_ms", s->stall_ms);
	json_write_member_unsigned(w, "tries", s->tries);
	json_write_member_unsigned(w, "high_bytes", s->limits.high_bytes);
	json_write_member_unsigned(w, "low_bytes", s->limits.low_bytes);
	json_write_member_unsigned(w, "keep_free_bytes", s->limits.keep_free_bytes);
	json_write_close_object(w);
	return json_writer_finish(w, out, err);
}

static char *copy(const struct json *object, const char *key)
{
	const char *s = json_get_string(object, key);
	return s ? xstrdup(s) : NULL;
}

static int decode_credential(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	(void)d, (void)err;
	*(struct package_credential *)target = (struct package_credential){
		.origin = copy(value, "origin"),
		.user = copy(value, "user"),
		.password = copy(value, "password"),
		.token = copy(value, "token"),
		.path = copy(value, "path"),
	};
	return 0;
}

static int decode_credentials(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	struct package_credentials *c = target;
	void *items;
	if (json_decode_array(d, value, decode_credential, sizeof(*c->items), 100000, &items,
		    &c->count, err) < 0)
		return -1;
	c->items = xmemdup(items, c->count * sizeof(*c->items));
	return 0;
}

static int decode_host(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	(void)d, (void)err;
	*(struct proxy_host *)target = (struct proxy_host){json_get_string(value, "name"),
		json_get_string(value, "ca"), json_get_string(value, "proxy")};
	return 0;
}

static int decode_hosts(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	struct proxy_settings *s = target;
	void *items;
	if (json_decode_array(d, value, decode_host, sizeof(*s->hosts), 100000, &items,
		    &s->host_count, err) < 0)
		return -1;
	s->hosts = items;
	return 0;
}

int proxy_settings_read(
	struct arena *a, const char *text, size_t size, struct proxy_settings *s, struct error *err)
{
	static const struct json_field fields[] = {
		{"sources", json_decode_strings, offsetof(struct proxy_settings, sources), 0},
		{"local_hosts", json_decode_strings, offsetof(struct proxy_settings, local_hosts),
			0},
		{"credentials", decode_credentials, offsetof(struct proxy_settings, credentials),
			0},
		{"hosts", decode_hosts, 0, 0},
		{"stall_ms", json_decode_uint64, offsetof(struct proxy_settings, stall_ms), 0},
		{"tries", json_decode_uint64, offsetof(struct proxy_settings, tries), 0},
		{"high_bytes", json_decode_uint64,
			offsetof(struct proxy_settings, limits.high_bytes), 0},
		{"low_bytes", json_decode_uint64, offsetof(struct proxy_settings, limits.low_bytes),
			0},
		{"keep_free_bytes", json_decode_uint64,
			offsetof(struct proxy_settings, limits.keep_free_bytes), 0},
		{0},
	};
	const struct json_limits limits = {.bytes = PROXY_SETTINGS_MAX,
		.depth = 8,
		.nodes = 1000000,
		.unsigned_integers = true};
	struct json *tree = json_parse(a, text, size, "settings", &limits, err);
	struct json_decoder d = {.arena = a, .document = "settings"};
	*s = (struct proxy_settings){0};
	return tree ? json_decode_object(&d, tree, fields, true, s, err) : -1;
}
