// SPDX-License-Identifier: Apache-2.0
#include "agent/environment/lock_internal.h"

#include "agent/environment/canonical.h"
#include "agent/environment/request.h"
#include "base/text.h"

#include <ctype.h>
#include <stdlib.h>

enum { LOCK_VERSION = 1, NAME_MAX_BYTES = 200, URL_MAX_BYTES = 2000 };

// ---- what may stand in it

static bool is_hex(const char *s, size_t digits)
{
	return strlen(s) == digits && strspn(s, "0123456789abcdef") == digits;
}

static bool is_word(const char *s, const char *punctuation)
{
	if (!*s || strlen(s) > NAME_MAX_BYTES)
		return false;
	for (; *s; s++)
		if (!isalnum((unsigned char)*s) && !strchr(punctuation, *s))
			return false;
	return true;
}

static bool is_name(enum lock_kind kind, const char *s)
{
	cleanup_arena struct arena a = {0};
	if (!is_word(s, "_.-") || strchr(".-", *s))
		return false;
	if (kind == LOCK_PIP)
		return streq(environment_pip_name(&a, s), s);
	for (const char *p = s; *p; p++)
		if (isupper((unsigned char)*p))
			return false;
	return true;
}

static bool is_address(const char *s)
{
	if (!canonical_url_is_http(s) || canonical_url_has_credentials(s) ||
		strlen(s) > URL_MAX_BYTES)
		return false;
	for (; *s; s++)
		if (*s <= ' ' || *s > '~' || strchr("\"'\\<>`#", *s))
			return false;
	return true;
}

const char *lock_package_check(
	enum lock_kind kind, const struct lock_package *p, const char **member)
{
	*member = "name";
	if (!p->name || !is_name(kind, p->name))
		return "must be a package's name in lower case";
	*member = "version";
	if (!p->version || !is_word(p->version, "_.+!-"))
		return "must be a version";
	*member = "build";
	if (kind == LOCK_PIP ? p->build != NULL : !p->build || !is_word(p->build, "_.+!-"))
		return kind == LOCK_PIP ? "is a conda package's" : "must be a build string";
	*member = "url";
	if (p->url && !is_address(p->url))
		return "must be an http(s) address without credentials and fragment";
	*member = "sha256";
	if (p->sha256 && !is_hex(p->sha256, 64))
		return "must be 64 hexadecimal digits in lower case";
	*member = "md5";
	if (p->md5 && !is_hex(p->md5, 32))
		return "must be 32 hexadecimal digits in lower case";
	return NULL;
}

const char *lock_address(struct arena *a, const char *url, lock_original_fn *original, void *data)
{
	if (!url)
		return NULL;
	if (original)
		url = original(data, a, url);
	url = canonical_url(a, arena_strndup(a, url, strcspn(url, "#")));
	return is_address(url) ? url : NULL;
}

const char *environment_lock_gap(const struct environment_lock *lock)
{
	for (size_t i = 0; i < lock->conda_count; i++)
		if (!lock->conda[i].url || !(lock->conda[i].sha256 || lock->conda[i].md5))
			return lock->conda[i].name;
	for (size_t i = 0; i < lock->pip_count; i++)
		if (!lock->pip[i].url || !lock->pip[i].sha256)
			return lock->pip[i].name;
	return NULL;
}

// ---- lists

static int by_name(const void *a, const void *b)
{
	return strcmp(
		((const struct lock_package *)a)->name, ((const struct lock_package *)b)->name);
}

// Sort, and find a name that stands there twice; NULL: none.
static const char *sort(struct lock_package *packages, size_t count)
{
	if (count)
		qsort(packages, count, sizeof(*packages), by_name);
	for (size_t i = 1; i < count; i++)
		if (streq(packages[i].name, packages[i - 1].name))
			return packages[i].name;
	return NULL;
}

int lock_append(struct environment_lock *lock, enum lock_kind kind, struct arena *a,
	const struct lock_package *packages, size_t count, struct error *err)
{
	struct lock_package **list = kind == LOCK_CONDA ? &lock->conda : &lock->pip;
	size_t *length = kind == LOCK_CONDA ? &lock->conda_count : &lock->pip_count;
	if (*length + count > LOCK_PACKAGES_MAX)
		return error_set(err, ERROR_LIMIT, "more than %d packages", LOCK_PACKAGES_MAX);
	struct lock_package *all = arena_array(a, struct lock_package, *length + count);
	for (size_t i = 0; i < *length; i++)
		all[i] = (*list)[i];
	for (size_t i = 0; i < count; i++)
		all[*length + i] = packages[i];
	const char *twice = sort(all, *length + count);
	if (twice)
		return error_set(err, ERROR_INVALID, "package %s is there twice", twice);
	*list = all;
	*length += count;
	return 0;
}

// ---- reading

struct packages {
	struct lock_package *items;
	size_t count;
};

struct document {
	uint64_t version;
	const char *prefix;
	struct environment_lock lock;
	struct packages conda, pip;
};

static const struct json_field package_fields[] = {
	{"name", json_decode_string, offsetof(struct lock_package, name), JSON_REQUIRED},
	{"version", json_decode_string, offsetof(struct lock_package, version), JSON_REQUIRED},
	{"build", json_decode_string, offsetof(struct lock_package, build), 0},
	{"url", json_decode_string, offsetof(struct lock_package, url), 0},
	{"sha256", json_decode_string, offsetof(struct lock_package, sha256), 0},
	{"md5", json_decode_string, offsetof(struct lock_package, md5), 0},
	{"size", json_decode_uint64, offsetof(struct lock_package, size), 0},
	{0},
};

static int decode_package(struct json_decoder *d, const struct json *value, void *target,
	enum lock_kind kind, struct error *err)
{
	const char *member;
	if (json_decode_object(d, value, package_fields, true, target, err) < 0)
		return -1;
	const char *why = lock_package_check(kind, target, &member);
	if (!why)
		return 0;
	size_t entered = json_decode_enter_key(d, member);
	json_decode_fail(d, value, err, ERROR_INVALID, "%s", why);
	json_decode_leave(d, entered);
	return -1;
}

static int decode_conda_package(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	return decode_package(d, value, target, LOCK_CONDA, err);
}

static int decode_pip_package(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	return decode_package(d, value, target, LOCK_PIP, err);
}

static int decode_list(struct json_decoder *d, const struct json *value, struct packages *list,
	json_decode_fn *decode, struct error *err)
{
	void *items;
	if (json_decode_array(d, value, decode, sizeof(*list->items), LOCK_PACKAGES_MAX, &items,
		    &list->count, err) < 0)
		return -1;
	list->items = items;
	const char *twice = sort(list->items, list->count);
	return twice ? json_decode_fail(
			       d, value, err, ERROR_INVALID, "package %s is there twice", twice)
		     : 0;
}

static int decode_conda(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	return decode_list(d, value, target, decode_conda_package, err);
}

static int decode_pip(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	return decode_list(d, value, target, decode_pip_package, err);
}

static int decode_tool(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	static const struct json_field fields[] = {
		{"name", json_decode_string, offsetof(struct environment_lock, tool),
			JSON_REQUIRED},
		{"version", json_decode_string, offsetof(struct environment_lock, tool_version),
			JSON_NULLABLE},
		{0},
	};
	return json_decode_object(d, value, fields, true, target, err);
}

#define LOCK(member) (offsetof(struct document, lock) + offsetof(struct environment_lock, member))

static const struct json_field document_fields[] = {
	{"stoker_lock", json_decode_uint64, offsetof(struct document, version), JSON_REQUIRED},
	{"platform", json_decode_string, LOCK(platform), JSON_REQUIRED},
	{"image", json_decode_string, LOCK(image), JSON_REQUIRED},
	{"prefix", json_decode_string, offsetof(struct document, prefix), JSON_REQUIRED},
	{"tool", decode_tool, offsetof(struct document, lock), JSON_REQUIRED},
	{"python", json_decode_string, LOCK(python), JSON_NULLABLE},
	{"activation", json_decode_string, LOCK(activation), JSON_NULLABLE},
	{"inherit_image_packages", json_decode_bool, LOCK(inherit_image_packages), 0},
	{"conda", decode_conda, offsetof(struct document, conda), 0},
	{"pip", decode_pip, offsetof(struct document, pip), 0},
	{0},
};

static int check_document(const struct document *d, const char *name, struct error *err)
{
	struct oci_digest digest;
	struct oci_platform platform;
	const struct environment_lock *l = &d->lock;
	if (d->version != LOCK_VERSION)
		return error_set(err, ERROR_INVALID,
			"%s: stoker_lock: is %llu, but this version reads %d", name,
			(unsigned long long)d->version, LOCK_VERSION);
	if (!streq(d->prefix, ENVIRONMENT_PREFIX))
		return error_set(
			err, ERROR_INVALID, "%s: prefix: must be %s", name, ENVIRONMENT_PREFIX);
	if (oci_digest_parse(l->image, &digest, err) < 0)
		return error_context(err, "%s: image", name);
	if (oci_platform_parse(l->platform, &platform, err) < 0)
		return error_context(err, "%s: platform", name);
	if (!is_word(l->tool, "-") || (l->tool_version && !is_word(l->tool_version, "._+-")))
		return error_set(
			err, ERROR_INVALID, "%s: tool: must be a name and a version", name);
	if (l->python && (*l->python != '/' || !is_word(l->python, "/._+-")))
		return error_set(err, ERROR_INVALID, "%s: python: must be an absolute path", name);
	if (l->activation && !streq(l->activation, "shell") && !streq(l->activation, "none") &&
		!streq(l->activation, "snapshot"))
		return error_set(err, ERROR_INVALID,
			"%s: activation: must be snapshot, shell or none", name);
	return 0;
}

int environment_lock_parse(struct arena *a, const char *data, size_t size, const char *name,
	struct environment_lock *lock, struct error *err)
{
	static const struct json_limits limits = {
		.bytes = LOCK_BYTES_MAX, .depth = 8, .nodes = 20 * LOCK_PACKAGES_MAX};
	struct document document = {0};
	struct json_decoder d = {.arena = a, .document = name, .positions = true};
	const struct json *root = json_parse(a, data, size, name, &limits, err);
	if (!root || json_decode_object(&d, root, document_fields, true, &document, err) < 0 ||
		check_document(&document, name, err) < 0)
		return -1;
	document.lock.conda = document.conda.items;
	document.lock.conda_count = document.conda.count;
	document.lock.pip = document.pip.items;
	document.lock.pip_count = document.pip.count;
	*lock = document.lock;
	return 0;
}

// ---- writing

static void put_optional(struct buffer *b, const char *key, const char *value)
{
	if (value)
		canonical_member(b, key, value);
}

static void put_list(
	struct buffer *b, const char *key, const struct lock_package *packages, size_t count)
{
	cleanup_free struct lock_package *sorted = xcalloc(count, sizeof(*sorted));
	for (size_t i = 0; i < count; i++)
		sorted[i] = packages[i];
	sort(sorted, count);
	canonical_key(b, key);
	buffer_putc(b, '[');
	for (size_t i = 0; i < count; i++) {
		const struct lock_package *p = &sorted[i];
		buffer_puts(b, i ? ",{" : "{");
		put_optional(b, "build", p->build);
		put_optional(b, "md5", p->md5);
		canonical_member(b, "name", p->name);
		put_optional(b, "sha256", p->sha256);
		if (p->size) {
			canonical_key(b, "size");
			buffer_printf(b, "%llu", (unsigned long long)p->size);
		}
		put_optional(b, "url", p->url);
		canonical_member(b, "version", p->version);
		buffer_puts(b, "}\n");
	}
	buffer_putc(b, ']');
}

static int check_list(
	const struct lock_package *packages, size_t count, enum lock_kind kind, struct error *err)
{
	const char *member;
	for (size_t i = 0; i < count; i++) {
		const char *why = lock_package_check(kind, &packages[i], &member);
		if (why)
			return error_set(err, ERROR_INVALID, "package \"%.80s\": %s: %s",
				packages[i].name ? packages[i].name : "", member, why);
	}
	return 0;
}

int environment_lock_write(const struct environment_lock *lock, struct buffer *out,
	char key[ENVIRONMENT_KEY_SIZE], struct error *err)
{
	cleanup_buffer struct buffer b = {0};
	const struct document document = {
		.version = LOCK_VERSION, .prefix = ENVIRONMENT_PREFIX, .lock = *lock};
	// What could not be read again is not written.
	if (check_document(&document, "lock", err) < 0 ||
		check_list(lock->conda, lock->conda_count, LOCK_CONDA, err) < 0 ||
		check_list(lock->pip, lock->pip_count, LOCK_PIP, err) < 0)
		return -1;
	buffer_putc(&b, '{');
	if (lock->activation && !streq(lock->activation, "snapshot"))
		canonical_member(&b, "activation", lock->activation);
	put_list(&b, "conda", lock->conda, lock->conda_count);
	canonical_member(&b, "image", lock->image);
	canonical_key(&b, "inherit_image_packages");
	buffer_puts(&b, lock->inherit_image_packages ? "true" : "false");
	put_list(&b, "pip", lock->pip, lock->pip_count);
	canonical_member(&b, "platform", lock->platform);
	canonical_member(&b, "prefix", ENVIRONMENT_PREFIX);
	put_optional(&b, "python", lock->python);
	canonical_key(&b, "stoker_lock");
	buffer_printf(&b, "%d", LOCK_VERSION);
	canonical_key(&b, "tool");
	buffer_putc(&b, '{');
	canonical_member(&b, "name", lock->tool);
	put_optional(&b, "version", lock->tool_version);
	buffer_puts(&b, "}}\n");
	canonical_hash("stoker/env/v1\n", &b, key);
	buffer_append(out, b.data, b.size);
	return 0;
}
