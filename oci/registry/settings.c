// SPDX-License-Identifier: Apache-2.0
#include "oci/registry/settings.h"

#include "base/file.h"
#include "base/text.h"
#include "oci/registry/base64.h"
#include "oci/registry/docker_config.h"
#include "oci/registry/url.h"

enum { PASSWORD_BYTES_MAX = 4096 };

// The first of two environment variables that is set and not empty.
static const char *environment(struct arena *a, const char *name, const char *other)
{
	const char *value = getenv(name);
	if (!value || !*value)
		value = other ? getenv(other) : NULL;
	return value && *value ? arena_strdup(a, value) : NULL;
}

static int read_ca(struct arena *a, const char *path, const char **ca, struct error *err)
{
	cleanup_buffer struct buffer text = {0};
	if (file_read(AT_FDCWD, path, CA_BYTES_MAX, &text, err) < 0)
		return -1;
	if (!text.data || !strstr(text.data, "-----BEGIN CERTIFICATE-----"))
		return error_set(err, ERROR_INVALID, "%s: holds no certificate in PEM form", path);
	*ca = arena_strndup(a, text.data, text.size);
	return 0;
}

// The file without the line break that editors leave at the end.
static int read_password(const char *path, struct buffer *password, struct error *err)
{
	if (file_read(AT_FDCWD, path, PASSWORD_BYTES_MAX, password, err) < 0)
		return -1;
	while (password->size && strchr("\r\n", password->data[password->size - 1]))
		password->data[--password->size] = '\0';
	if (!password->size || memchr(password->data, '\0', password->size))
		return error_set(err, ERROR_INVALID, "%s: holds no password", path);
	return 0;
}

static const char *encode_basic(struct arena *a, const char *username, const char *password)
{
	cleanup_buffer struct buffer plain = {0}, encoded = {0};
	buffer_printf(&plain, "%s:%s", username, password);
	base64_encode(plain.data, plain.size, &encoded);
	return arena_strdup(a, encoded.data);
}

static int add_credentials(struct arena *a, const struct registry_config *config,
	const struct registry_host *host, struct registry_endpoint *e, struct error *err)
{
	if (host && host->username) {
		cleanup_buffer struct buffer password = {0};
		if (read_password(host->password_file, &password, err) < 0)
			return -1;
		e->basic = encode_basic(a, host->username, password.data);
		return 0;
	}
	cleanup_credentials struct registry_credentials c = {0};
	if (docker_config_lookup(config->docker_config, e->name, &c, err) < 0)
		return -1;
	if (c.username && c.password)
		e->basic = encode_basic(a, c.username, c.password);
	if (c.identity_token)
		e->identity_token = arena_strdup(a, c.identity_token);
	if (c.note)
		e->note = arena_strdup(a, c.note);
	return 0;
}

// What every endpoint gets, whether it is a mirror or the registry itself; name and url are set.
static int complete_endpoint(struct arena *a, const struct registry_config *config,
	struct registry_endpoint *e, struct error *err)
{
	const struct registry_host *host = registry_config_host(config, e->name);
	if (host && host->ca && read_ca(a, host->ca, &e->ca, err) < 0)
		return -1;
	e->proxy = host ? host->proxy : NULL;
	if (add_credentials(a, config, host, e, err) < 0)
		return error_context(err, "credentials for %s", e->name);
	return 0;
}

static void mirror_endpoint(struct arena *a, const char *url, struct registry_endpoint *e)
{
	size_t length = strlen(url);
	while (length && url[length - 1] == '/')
		length--;
	const char *host = strstr(url, "://") + 3; // the configuration was checked
	e->url = arena_strndup(a, url, length);
	e->name = arena_strndup(a, host, strcspn(host, "/"));
}

// Plain HTTP where the configuration says so and on the loopback interface, where nobody listens
// in; a loopback registry that has a CA named is one that speaks TLS.
static void own_endpoint(struct arena *a, const struct registry_host *host, const char *domain,
	struct registry_endpoint *e)
{
	bool plain = host && host->http;
	if (url_host_is_loopback(domain) && !(host && host->ca))
		plain = true;
	const char *server = streq(domain, "docker.io") ? "registry-1.docker.io" : domain;
	e->name = domain;
	e->url = arena_printf(a, "%s://%s", plain ? "http" : "https", server);
}

int registry_settings_make(struct arena *a, const struct registry_config *config,
	const struct oci_reference *reference, struct registry_settings *s, struct error *err)
{
	const char *domain = arena_strdup(a, reference->domain);
	const struct registry_host *host = registry_config_host(config, domain);
	size_t mirrors = host ? host->mirrors.count : 0;
	struct registry_settings made = {
		.subject = arena_printf(a, "%s/%s", domain, reference->path),
		.path = arena_strdup(a, reference->path),
		.connections = config->connections,
		.stall_ms = config->stall_timeout * 1000,
		.retries = config->retries,
		.https_proxy = environment(a, "https_proxy", "HTTPS_PROXY"),
		// HTTP_PROXY in capitals is what a CGI server sets from a request header "Proxy".
		.http_proxy = environment(a, "http_proxy", NULL),
		.no_proxy = environment(a, "no_proxy", "NO_PROXY"),
		.endpoints = arena_array(a, struct registry_endpoint, mirrors + 1),
		.endpoint_count = mirrors + 1,
	};
	if (made.endpoint_count > ENDPOINTS_MAX)
		return error_set(err, ERROR_LIMIT, "%s: %zu mirrors, at most %d are allowed",
			domain, mirrors, ENDPOINTS_MAX - 1);
	for (size_t i = 0; i <= mirrors; i++) {
		if (i < mirrors)
			mirror_endpoint(a, host->mirrors.items[i], &made.endpoints[i]);
		else
			own_endpoint(a, host, domain, &made.endpoints[i]);
		if (complete_endpoint(a, config, &made.endpoints[i], err) < 0)
			return -1;
	}
	*s = made;
	return 0;
}

// The bytes are strings with their NULs and numbers as text, in the order of settings_walk(): both
// ends are this program, so the order is all the format there is.
struct walker {
	struct buffer *out; // writing, or
	struct arena *arena;
	const char *at, *end; // reading
	bool failed;
};

static void walk_string(struct walker *w, const char **s)
{
	if (w->out) {
		buffer_append(w->out, *s ? *s : "", (*s ? strlen(*s) : 0) + 1);
		return;
	}
	size_t left = (size_t)(w->end - w->at), n = strnlen(w->at, left);
	*s = NULL;
	if (n == left) {
		w->failed = true;
		return;
	}
	if (n)
		*s = arena_strndup(w->arena, w->at, n);
	w->at += n + 1;
}

static void walk_number(struct walker *w, uint64_t *n)
{
	char text[24];
	const char *s = text;
	snprintf(text, sizeof(text), "%llu", (unsigned long long)*n);
	walk_string(w, &s);
	if (!w->out && (w->failed || !s || !parse_u64(s, n)))
		w->failed = true;
}

static void walk_endpoint(struct walker *w, struct registry_endpoint *e)
{
	walk_string(w, &e->name);
	walk_string(w, &e->url);
	walk_string(w, &e->basic);
	walk_string(w, &e->identity_token);
	walk_string(w, &e->note);
	walk_string(w, &e->ca);
	walk_string(w, &e->proxy);
	if (!e->name || !e->url)
		w->failed = true;
}

static void walk_settings(struct walker *w, struct registry_settings *s)
{
	uint64_t count = s->endpoint_count;
	walk_string(w, &s->subject);
	walk_string(w, &s->path);
	walk_number(w, &s->connections);
	walk_number(w, &s->stall_ms);
	walk_number(w, &s->retries);
	walk_string(w, &s->https_proxy);
	walk_string(w, &s->http_proxy);
	walk_string(w, &s->no_proxy);
	walk_number(w, &count);
	if (w->failed || !s->subject || !s->path || count == 0 || count > ENDPOINTS_MAX) {
		w->failed = true;
		return;
	}
	if (!w->out)
		s->endpoints = arena_array(w->arena, struct registry_endpoint, count);
	s->endpoint_count = (size_t)count;
	for (size_t i = 0; i < s->endpoint_count; i++)
		walk_endpoint(w, &s->endpoints[i]);
}

void registry_settings_write(const struct registry_settings *s, struct buffer *out)
{
	struct registry_settings copy = *s;
	walk_settings(&(struct walker){.out = out}, &copy);
}

int registry_settings_read(struct arena *a, const char *data, size_t size,
	struct registry_settings *s, struct error *err)
{
	struct walker w = {.arena = a, .at = data, .end = data + size};
	struct registry_settings read = {0};
	walk_settings(&w, &read);
	if (w.failed || w.at != w.end)
		return error_set(err, ERROR_INVALID, "the settings of the fetcher are damaged");
	*s = read;
	return 0;
}
