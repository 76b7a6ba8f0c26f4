// SPDX-License-Identifier: Apache-2.0
#include "oci/registry/url.h"

#include "base/memory.h"
#include "base/text.h"

#include <arpa/inet.h>
#include <string.h>
#include <strings.h>

static int take_part(const struct curl_functions *curl, CURLU *u, CURLUPart part, unsigned flags,
	char *text, size_t size)
{
	char *value = NULL;
	if (curl->url_get(u, part, &value, flags) != CURLUE_OK || !value)
		return -1;
	size_t n = strnlen(value, size);
	if (n < size)
		memcpy(text, value, n + 1);
	curl->free(value);
	return n < size ? 0 : -1;
}

int url_origin_of(
	const struct curl_functions *curl, const char *url, struct url_origin *o, struct error *err)
{
	CURLU *u = curl->url();
	int status = -1;
	if (u && curl->url_set(u, CURLUPART_URL, url, CURLU_DISALLOW_USER) == CURLUE_OK &&
		take_part(curl, u, CURLUPART_SCHEME, 0, o->scheme, sizeof(o->scheme)) == 0 &&
		take_part(curl, u, CURLUPART_HOST, 0, o->host, sizeof(o->host)) == 0 &&
		take_part(curl, u, CURLUPART_PORT, CURLU_DEFAULT_PORT, o->port, sizeof(o->port)) ==
			0)
		status = streq(o->scheme, "http") || streq(o->scheme, "https") ? 0 : -1;
	curl->url_cleanup(u);
	if (status < 0)
		return error_set(err, ERROR_INVALID, "\"%.200s\" is not a URL we follow", url);
	return 0;
}

bool url_origin_equal(const struct url_origin *a, const struct url_origin *b)
{
	return streq(a->scheme, b->scheme) && strcasecmp(a->host, b->host) == 0 &&
	       streq(a->port, b->port);
}

bool url_host_is_loopback(const char *host)
{
	char name[256];
	bool bracket = *host == '[';
	size_t n = strcspn(host, bracket ? "]" : ":");
	if (n - bracket >= sizeof(name))
		return false;
	memcpy(name, host + bracket, n - bracket);
	name[n - bracket] = '\0';
	struct in_addr v4;
	struct in6_addr v6;
	if (bracket)
		return inet_pton(AF_INET6, name, &v6) == 1 && IN6_IS_ADDR_LOOPBACK(&v6);
	if (inet_pton(AF_INET, name, &v4) == 1)
		return ntohl(v4.s_addr) >> 24 == 127;
	return strcasecmp(name, "localhost") == 0;
}

char *url_resolve(const struct curl_functions *curl, const char *base, const char *location,
	struct error *err)
{
	CURLU *u = curl->url();
	char *text = NULL, *copy = NULL;
	if (u && curl->url_set(u, CURLUPART_URL, base, 0) == CURLUE_OK &&
		curl->url_set(u, CURLUPART_URL, location, CURLU_DISALLOW_USER | CURLU_URLENCODE) ==
			CURLUE_OK &&
		curl->url_get(u, CURLUPART_URL, &text, 0) == CURLUE_OK) {
		copy = xstrdup(text);
		curl->free(text);
	}
	curl->url_cleanup(u);
	if (!copy)
		error_set(err, ERROR_INVALID, "\"%.200s\" is not a URL we follow", location);
	return copy;
}
