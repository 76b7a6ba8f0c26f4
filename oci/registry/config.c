// SPDX-License-Identifier: Apache-2.0
#include "oci/registry/config.h"

#include "base/text.h"

enum {
	HOSTS_MAX = 256,
	MIRRORS_MAX = 16,
	CONNECTIONS_MAX = 32,
	STALL_MAX = 3600,
	RETRIES_MAX = 100
};

const struct registry_config registry_config_default = {
	.connections = 6,
	.stall_timeout = 30,
	.retries = 6,
};

static int decode_between(struct json_decoder *d, const struct json *value, uint64_t least,
	uint64_t most, uint64_t *target, struct error *err)
{
	uint64_t n;
	if (json_decode_uint64(d, value, &n, err) < 0)
		return -1;
	if (n < least || n > most)
		return json_decode_fail(d, value, err, ERROR_INVALID,
			"must be between %llu and %llu", (unsigned long long)least,
			(unsigned long long)most);
	*target = n;
	return 0;
}

static int decode_connections(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	return decode_between(d, value, 1, CONNECTIONS_MAX, target, err);
}

static int decode_stall_timeout(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	return decode_between(d, value, 1, STALL_MAX, target, err);
}

static int decode_retries(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	return decode_between(d, value, 0, RETRIES_MAX, target, err);
}

// http://host[:port][/prefix]: no user, since credentials have a place of their own, no query.
static int decode_mirror(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	const char *url;
	if (json_decode_string(d, value, &url, err) < 0)
		return -1;
	const char *host = starts_with(url, "https://")	 ? url + 8
			   : starts_with(url, "http://") ? url + 7
							 : NULL;
	if (!host || *host == '\0' || *host == '/')
		return json_decode_fail(d, value, err, ERROR_INVALID,
			"\"%s\" is not a URL; expected https://host[:port] or http://host[:port]",
			url);
	if (strpbrk(host, "@?# \t"))
		return json_decode_fail(d, value, err, ERROR_INVALID,
			"\"%s\" must be a host, a port and a path alone; credentials go under "
			"hosts",
			url);
	*(const char **)target = url;
	return 0;
}

static int decode_mirrors(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	struct json_strings *mirrors = target;
	void *items;
	size_t count;
	if (json_decode_array(
		    d, value, decode_mirror, sizeof(char *), MIRRORS_MAX, &items, &count, err) < 0)
		return -1;
	mirrors->items = arena_array(d->arena, const char *, count + 1);
	if (count)
		memcpy(mirrors->items, items, count * sizeof(char *));
	mirrors->count = count;
	return 0;
}

static int decode_absolute(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	const char *path;
	if (json_decode_string(d, value, &path, err) < 0)
		return -1;
	if (*path != '/')
		return json_decode_fail(
			d, value, err, ERROR_INVALID, "\"%s\" must be an absolute path", path);
	*(const char **)target = path;
	return 0;
}

static const struct json_field host_fields[] = {
	{"mirrors", decode_mirrors, offsetof(struct registry_host, mirrors), 0},
	{"ca", decode_absolute, offsetof(struct registry_host, ca), 0},
	{"http", json_decode_bool, offsetof(struct registry_host, http), 0},
	{"proxy", json_decode_string, offsetof(struct registry_host, proxy), 0},
	{"username", json_decode_string, offsetof(struct registry_host, username), 0},
	{"password_file", decode_absolute, offsetof(struct registry_host, password_file), 0},
	{0},
};

static int decode_host(struct json_decoder *d, const struct json_member *member,
	struct registry_host *host, struct error *err)
{
	host->name = member->key;
	if (*host->name == '\0' || strpbrk(host->name, "/@ \t"))
		return json_decode_fail(d, &member->value, err, ERROR_INVALID,
			"must be a host as image names begin with, such as docker.io or "
			"localhost:5000");
	if (json_decode_object(d, &member->value, host_fields, true, host, err) < 0)
		return -1;
	if (!host->username != !host->password_file)
		return json_decode_fail(d, &member->value, err, ERROR_INVALID,
			"username and password_file belong together");
	if (host->http && host->ca)
		return json_decode_fail(d, &member->value, err, ERROR_INVALID,
			"http: true has no use for a ca; remove one of them");
	return 0;
}

static int decode_hosts(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	struct registry_config *c = target;
	if (value->type != JSON_OBJECT)
		return json_decode_fail(d, value, err, ERROR_INVALID, "must be an object");
	if (value->count > HOSTS_MAX)
		return json_decode_fail(
			d, value, err, ERROR_LIMIT, "more than %d hosts", (int)HOSTS_MAX);
	struct registry_host *hosts = arena_array(d->arena, struct registry_host, value->count);
	size_t count = 0;
	json_object_each (member, value) {
		size_t entered = json_decode_enter_key(d, member->key);
		if (decode_host(d, member, &hosts[count++], err) < 0)
			return -1;
		json_decode_leave(d, entered);
	}
	c->hosts = hosts;
	c->host_count = count;
	return 0;
}

static const struct json_field fields[] = {
	{"connections", decode_connections, offsetof(struct registry_config, connections), 0},
	{"stall_timeout", decode_stall_timeout, offsetof(struct registry_config, stall_timeout), 0},
	{"retries", decode_retries, offsetof(struct registry_config, retries), 0},
	{"docker_config", decode_absolute, offsetof(struct registry_config, docker_config), 0},
	{"hosts", decode_hosts, 0, 0}, // of the whole: two members
	{0},
};

int registry_config_decode(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	return json_decode_object(d, value, fields, true, target, err);
}

const struct registry_host *registry_config_host(
	const struct registry_config *c, const char *domain)
{
	for (size_t i = 0; i < c->host_count; i++)
		if (streq(c->hosts[i].name, domain))
			return &c->hosts[i];
	return NULL;
}
