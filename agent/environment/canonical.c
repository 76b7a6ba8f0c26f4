// SPDX-License-Identifier: Apache-2.0
#include "agent/environment/canonical.h"

#include "base/sha256.h"
#include "base/text.h"

#include <ctype.h>
#include <stdlib.h>
#include <strings.h>

void canonical_string(struct buffer *b, const char *s)
{
	if (!s) {
		buffer_puts(b, "null");
		return;
	}
	buffer_putc(b, '"');
	for (; *s; s++) {
		if (*s == '"' || *s == '\\')
			buffer_putc(b, '\\');
		if ((unsigned char)*s < 0x20)
			buffer_printf(b, "\\u%04x", (unsigned)*s);
		else
			buffer_putc(b, *s);
	}
	buffer_putc(b, '"');
}

void canonical_strings(struct buffer *b, const struct json_strings *list)
{
	buffer_putc(b, '[');
	for (size_t i = 0; i < list->count; i++) {
		if (i)
			buffer_putc(b, ',');
		canonical_string(b, list->items[i]);
	}
	buffer_putc(b, ']');
}

void canonical_key(struct buffer *b, const char *key)
{
	if (b->size && !strchr("{[", b->data[b->size - 1]))
		buffer_putc(b, ',');
	canonical_string(b, key);
	buffer_putc(b, ':');
}

void canonical_member(struct buffer *b, const char *key, const char *s)
{
	canonical_key(b, key);
	canonical_string(b, s);
}

void canonical_hash(
	const char *domain, const struct buffer *document, char key[ENVIRONMENT_KEY_SIZE])
{
	uint8_t digest[SHA256_SIZE];
	_Static_assert((int)ENVIRONMENT_KEY_SIZE == (int)SHA256_HEX_SIZE, "a key is a SHA-256");
	cleanup_sha256 struct sha256 *h = sha256_new();
	sha256_update(h, domain, strlen(domain));
	sha256_update(h, document->data, document->size);
	sha256_final(h, digest);
	sha256_hex(digest, key);
}

static int compare(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

void canonical_sort(struct json_strings *list)
{
	size_t kept = 0;
	if (!list->count)
		return;
	qsort(list->items, list->count, sizeof(*list->items), compare);
	for (size_t i = 0; i < list->count; i++)
		if (!kept || !streq(list->items[i], list->items[kept - 1]))
			list->items[kept++] = list->items[i];
	list->count = kept;
}

struct url {
	const char *host, *path; // inside the text; host: behind "user:password@"
	bool has_user;
};

static bool split_url(const char *text, struct url *u)
{
	const char *colon = strstr(text, "://");
	if (!colon || colon == text)
		return false;
	for (const char *p = text; p < colon; p++)
		if (!isalnum((unsigned char)*p) && !strchr("+.-", *p))
			return false;
	const char *authority = colon + 3;
	u->path = authority + strcspn(authority, "/?#");
	u->host = authority;
	for (const char *p = authority; p < u->path; p++)
		if (*p == '@')
			u->host = p + 1;
	u->has_user = u->host != authority;
	return true;
}

// The token that conda puts into paths: "/t/<token>" before '/' or the end. Its place and length.
static const char *find_token(const char *path, size_t *length)
{
	const char *end = path + strcspn(path, "?#");
	for (const char *p = path; (p = strstr(p, "/t/")) != NULL && p < end; p++) {
		size_t n = strcspn(p + 3, "/?#");
		if (!n)
			continue;
		*length = n + 3;
		return p;
	}
	return NULL;
}

static void puts_lower(struct buffer *b, const char *s, const char *end)
{
	for (; s < end; s++)
		buffer_putc(b, (char)tolower((unsigned char)*s));
}

const char *canonical_url(struct arena *a, const char *url)
{
	cleanup_buffer struct buffer b = {0};
	struct url u;
	size_t length = 0;
	if (!split_url(url, &u))
		return arena_strdup(a, url);
	puts_lower(&b, url, strstr(url, "://") + 3);
	puts_lower(&b, u.host, u.path);
	const char *rest = u.path;
	for (const char *token; (token = find_token(rest, &length)) != NULL;) {
		buffer_append(&b, rest, (size_t)(token - rest));
		rest = token + length;
	}
	buffer_puts(&b, rest);
	size_t n = b.size;
	while (n && b.data[n - 1] == '/')
		n--;
	return arena_strndup(a, b.data, n);
}

bool canonical_url_has_credentials(const char *url)
{
	struct url u;
	size_t ignored;
	return split_url(url, &u) && (u.has_user || find_token(u.path, &ignored));
}

bool canonical_url_is_http(const char *url)
{
	struct url u;
	if (strncasecmp(url, "http://", 7) != 0 && strncasecmp(url, "https://", 8) != 0)
		return false;
	return split_url(url, &u) && u.host != u.path;
}
