// SPDX-License-Identifier: Apache-2.0
#include "controller/files/s3_address.h"

#include "base/memory.h"
#include "base/text.h"

static const char scheme[] = "s3://";

struct parts {
	const char *endpoint, *region, *path_style, *credentials, *ca;
};

bool s3_address_is(const char *text)
{
	return starts_with(text, scheme);
}

// Only what a URL, a signature's canonical form and a file system write alike: libcurl 7.88 signs
// paths as they are given, servers as they read them.
static bool is_plain(const char *text, size_t size)
{
	static const char plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
				    "._-";
	bool dots =
		(size == 1 && text[0] == '.') || (size == 2 && text[0] == '.' && text[1] == '.');
	return size > 0 && !dots && strspn(text, plain) >= size;
}

static int parse_parameter(
	struct s3_address *a, struct parts *p, const char *text, size_t size, struct error *err)
{
	const struct {
		const char *name, **value;
	} known[] = {
		{"endpoint=", &p->endpoint},
		{"region=", &p->region},
		{"path_style=", &p->path_style},
		{"credentials=", &p->credentials},
		{"ca=", &p->ca},
	};
	for (size_t i = 0; i < array_size(known); i++) {
		size_t n = strlen(known[i].name);
		if (size <= n || strncmp(text, known[i].name, n) != 0)
			continue;
		if (*known[i].value)
			return error_set(
				err, ERROR_INVALID, "files: %.*s is there twice", (int)n - 1, text);
		*known[i].value = arena_printf(&a->arena, "%.*s", (int)(size - n), text + n);
		return 0;
	}
	return error_set(err, ERROR_INVALID,
		"files: behind the \"?\" of s3:// may stand endpoint=, region=, path_style=, "
		"credentials= and ca=, with \"&\" between, and nothing else");
}

static int parse_parameters(
	struct s3_address *a, struct parts *p, const char *text, struct error *err)
{
	while (*text) {
		size_t size = strcspn(text, "&");
		if (parse_parameter(a, p, text, size, err) < 0)
			return -1;
		text += size;
		text += *text == '&';
	}
	return 0;
}

static int check_endpoint(const char *endpoint, struct error *err)
{
	bool http = starts_with(endpoint, "http://"), https = starts_with(endpoint, "https://");
	const char *host = http || https ? strstr(endpoint, "://") + 3 : "";
	if (!*host || strpbrk(host, "/@?# \"\\"))
		return error_set(err, ERROR_INVALID,
			"files: endpoint must be http://HOST[:PORT] or https://HOST[:PORT]");
	return 0;
}

static int make_url(
	struct s3_address *a, const struct parts *p, const char *prefix, struct error *err)
{
	const char *path_style = p->path_style ? p->path_style : p->endpoint ? "1" : "0";
	const char *endpoint =
		p->endpoint ? p->endpoint
			    : arena_printf(&a->arena, "https://s3.%s.amazonaws.com", a->region);
	if (check_endpoint(endpoint, err) < 0)
		return -1;
	if (!streq(path_style, "1") && !streq(path_style, "0"))
		return error_set(err, ERROR_INVALID, "files: path_style must be 0 or 1");
	size_t host = (size_t)(strstr(endpoint, "://") + 3 - endpoint);
	if (streq(path_style, "1"))
		a->url = arena_printf(&a->arena, "%s/%s/%s", endpoint, a->bucket, prefix);
	else
		a->url = arena_printf(&a->arena, "%.*s%s.%s/%s", (int)host, endpoint, a->bucket,
			endpoint + host, prefix);
	return 0;
}

// "a/b/" → "a/b/", "a" → "a/", "" → "".
static const char *parse_prefix(
	struct s3_address *a, const char *text, size_t size, struct error *err)
{
	enum { PREFIX_MAX = 512 };
	if (size && text[size - 1] == '/')
		size--;
	for (size_t at = 0; at < size;) {
		size_t n = strcspn(text + at, "/?");
		if (!is_plain(text + at, n) || size > PREFIX_MAX) {
			error_set(err, ERROR_INVALID,
				"files: the prefix behind the bucket may have letters, digits, "
				"\".\", \"_\" and \"-\", in parts with \"/\" between");
			return NULL;
		}
		at += n + 1;
	}
	return size ? arena_printf(&a->arena, "%.*s/", (int)size, text) : "";
}

int s3_address_parse(struct s3_address *a, const char *text, struct error *err)
{
	enum { BUCKET_MAX = 255 };
	struct parts p = {0};
	const char *bucket = text + strlen(scheme);
	size_t size = strcspn(bucket, "/?");
	*a = (struct s3_address){0};
	if (!is_plain(bucket, size) || size > BUCKET_MAX)
		return error_set(err, ERROR_INVALID,
			"files: must be s3://BUCKET[/PREFIX][?endpoint=URL&…]; the bucket's name "
			"may "
			"have letters, digits, \".\", \"_\" and \"-\"");
	a->bucket = arena_printf(&a->arena, "%.*s", (int)size, bucket);
	const char *path = bucket + size + (bucket[size] == '/');
	const char *query = path + strcspn(path, "?");
	const char *prefix = parse_prefix(a, path, (size_t)(query - path), err);
	if (!prefix || parse_parameters(a, &p, query + (*query == '?'), err) < 0)
		return -1;
	a->region = p.region ? p.region : "us-east-1";
	if (!is_plain(a->region, strlen(a->region)))
		return error_set(
			err, ERROR_INVALID, "files: region must be a name such as eu-central-1");
	a->credentials = p.credentials;
	a->ca = p.ca;
	return make_url(a, &p, prefix, err);
}

void s3_address_release(struct s3_address *a)
{
	arena_release(&a->arena);
}
