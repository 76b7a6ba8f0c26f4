// SPDX-License-Identifier: Apache-2.0
#include "agent/environment/records_internal.h"

#include "base/file.h"
#include "base/text.h"
#include "oci/store/entries.h"
#include "oci/store/pin.h"

#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum { RESOLVE_MIN = 4, TOOLS_BYTES_MAX = 64 * 1024 };

// ---- files

int records_folder(struct store *s, const char *name, struct error *err)
{
	cleanup_free char *path = xasprintf("environments%s%s", *name ? "/" : "", name);
	int fd = directory_ensure(s->state_fd, path, 0700, err);
	return fd < 0 ? error_context(err, "%s", s->state_dir) : fd;
}

bool records_is_key(const char *text)
{
	return strlen(text) == 64 && strspn(text, "0123456789abcdef") == 64;
}

int records_check_key(const char *text, struct error *err)
{
	if (records_is_key(text))
		return 0;
	return error_set(err, ERROR_INVALID,
		"\"%.80s\" is no key of an environment: expected 64 hexadecimal digits", text);
}

int records_put(struct store *s, const char *folder, const char *key, const void *data, size_t size,
	struct error *err)
{
	cleanup_free char *name = xasprintf("%s.json", key);
	if (records_check_key(key, err) < 0)
		return -1;
	cleanup_fd int fd = records_folder(s, folder, err);
	return fd < 0 ? -1 : file_write_atomic(fd, name, data, size, 0600, err);
}

int records_get(struct store *s, const char *folder, const char *key, size_t limit,
	struct buffer *b, struct error *err)
{
	if (records_check_key(key, err) < 0)
		return -1;
	cleanup_free char *name =
		xasprintf("environments/%s%s%s.json", folder, *folder ? "/" : "", key);
	if (file_read(s->state_fd, name, limit, b, err) == 0)
		return 1;
	if (err->kind != ERROR_NOT_FOUND)
		return error_context(err, "%s", s->state_dir);
	error_clear(err);
	return 0;
}

// ---- records

int environment_record_write(struct store *s, const struct environment_record *r, struct error *err)
{
	cleanup_json_writer struct json_writer *w = json_writer_new(true);
	cleanup_buffer struct buffer text = {0};
	json_write_open_object(w);
	json_write_member(w, "key", r->key);
	json_write_member(w, "reference", r->reference);
	json_write_member(w, "base", r->base);
	json_write_member(w, "base_manifest", r->base_manifest);
	json_write_member(w, "layer", r->layer);
	json_write_member_unsigned(w, "bytes", r->bytes);
	json_write_member_int(w, "created_ms", r->created_ms);
	json_write_member(w, "origin", r->origin);
	json_write_member_strings(w, "activation", &r->activation);
	json_write_member(w, "lock", r->lock);
	json_write_close_object(w);
	if (json_writer_finish(w, &text, err) < 0 ||
		records_put(s, "", r->key, text.data, text.size, err) < 0)
		return error_context(err, "the record of environment %.12s", r->key);
	return 0;
}

void environment_record_touch(struct store *s, const char *key)
{
	cleanup_free char *name = xasprintf("environments/%s.json", key);
	// The order of use is not ours to keep where we may only look.
	if (records_is_key(key))
		utimensat(s->state_fd, name, NULL, AT_SYMLINK_NOFOLLOW);
}

static int record_parse(struct arena *a, const struct buffer *text, const char *key,
	struct environment_record *r, struct error *err)
{
	static const struct json_field fields[] = {
		{"key", json_decode_string, offsetof(struct environment_record, key),
			JSON_REQUIRED},
		{"reference", json_decode_string, offsetof(struct environment_record, reference),
			JSON_REQUIRED},
		{"base", json_decode_string, offsetof(struct environment_record, base),
			JSON_NULLABLE},
		{"base_manifest", json_decode_string,
			offsetof(struct environment_record, base_manifest), JSON_NULLABLE},
		{"layer", json_decode_string, offsetof(struct environment_record, layer),
			JSON_NULLABLE},
		{"bytes", json_decode_uint64, offsetof(struct environment_record, bytes), 0},
		{"created_ms", json_decode_int64, offsetof(struct environment_record, created_ms),
			0},
		{"origin", json_decode_string, offsetof(struct environment_record, origin),
			JSON_NULLABLE},
		{"activation", json_decode_strings, offsetof(struct environment_record, activation),
			0},
		{"lock", json_decode_string, offsetof(struct environment_record, lock),
			JSON_REQUIRED},
		{0},
	};
	static const struct json_limits limits = {
		.bytes = ENVIRONMENT_RECORD_BYTES_MAX, .depth = 8, .nodes = 200000};
	struct environment_record read = {0};
	struct json_decoder d = {.arena = a, .document = "record"};
	const struct json *root = json_parse(a, text->data, text->size, "record", &limits, err);
	if (!root || json_decode_object(&d, root, fields, false, &read, err) < 0)
		return -1;
	if (!streq(read.key, key))
		return error_set(err, ERROR_INTEGRITY, "it is another environment's");
	*r = read;
	return 0;
}

int environment_record_read(struct store *s, struct arena *a, const char *key,
	struct environment_record *r, struct error *err)
{
	cleanup_buffer struct buffer text = {0};
	cleanup_free char *name = xasprintf("environments/%s.json", key);
	struct stat st;
	int got = records_get(s, "", key, ENVIRONMENT_RECORD_BYTES_MAX, &text, err);
	if (got < 0)
		return -1;
	if (got && record_parse(a, &text, key, r, err) < 0)
		return error_set(err, ERROR_NOT_FOUND,
			"the record of environment %.12s is damaged; it will be built again", key);
	if (!got || fstatat(s->state_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return error_set(err, ERROR_NOT_FOUND,
			"environment %.12s is not here; see: stoker env ls", key);
	r->used_ms = (int64_t)st.st_mtim.tv_sec * 1000 + st.st_mtim.tv_nsec / 1000000;
	return 0;
}

// The keys there are records of; an arena array.
static int list_keys(struct store *s, struct arena *a, struct store_names *keys, struct error *err)
{
	cleanup_fd int folder = records_folder(s, "", err);
	size_t kept = 0;
	if (folder < 0 || store_names(folder, ".", a, keys, err) < 0)
		return -1;
	for (size_t i = 0; i < keys->count; i++) {
		size_t n = strlen(keys->items[i]);
		char *key = arena_strndup(a, keys->items[i], n > 5 ? n - 5 : 0);
		if (ends_with(keys->items[i], ".json") && records_is_key(key))
			keys->items[kept++] = key;
	}
	keys->count = kept;
	return 0;
}

static int newest_first(const void *a, const void *b)
{
	int64_t x = ((const struct environment_record *)a)->created_ms,
		y = ((const struct environment_record *)b)->created_ms;
	return x < y ? 1 : x > y ? -1 : 0;
}

int environment_record_list(struct store *s, struct arena *a, struct environment_record **records,
	size_t *count, struct error *err)
{
	struct store_names keys;
	struct error ignored;
	size_t n = 0;
	if (list_keys(s, a, &keys, err) < 0)
		return -1;
	struct environment_record *list = arena_array(a, struct environment_record, keys.count);
	// One that is damaged or just removed is none.
	for (size_t i = 0; i < keys.count; i++)
		if (environment_record_read(s, a, keys.items[i], &list[n], &ignored) == 0)
			n++;
	if (n)
		qsort(list, n, sizeof(*list), newest_first);
	*records = list;
	*count = n;
	return 0;
}

int environment_record_resolve(
	struct store *s, const char *text, char key[ENVIRONMENT_KEY_SIZE], struct error *err)
{
	cleanup_arena struct arena a = {0};
	struct store_names keys;
	const char *found = NULL;
	size_t n = strlen(text);
	if (n < RESOLVE_MIN || n > 64 || strspn(text, "0123456789abcdef") != n)
		return error_set(err, ERROR_INVALID,
			"\"%.80s\" is no key of an environment: expected at least %d hexadecimal "
			"digits (stoker env ls shows them)",
			text, RESOLVE_MIN);
	if (list_keys(s, &a, &keys, err) < 0)
		return -1;
	for (size_t i = 0; i < keys.count; i++) {
		if (strncmp(keys.items[i], text, n) != 0)
			continue;
		if (found)
			return error_set(err, ERROR_INVALID,
				"environment %s: several begin so, %.12s and %.12s; write more "
				"digits",
				text, found, keys.items[i]);
		found = keys.items[i];
	}
	if (!found)
		return error_set(err, ERROR_NOT_FOUND,
			"environment %.12s is not here; see: stoker env ls", text);
	memcpy(key, found, ENVIRONMENT_KEY_SIZE);
	return 0;
}

// ---- removal

// Take the environment's own layer away from whoever wants to begin using it, by the lock that
// eviction takes. 0 with the lock (*fd -1: the layer is gone), 1: it is in use.
static int claim_layer(struct store *s, const struct environment_record *r,
	const struct store_image *image, struct store_layer *lease, struct error *err)
{
	struct oci_digest diff_id;
	if (!r->layer || oci_digest_parse(r->layer, &diff_id, err) < 0) {
		error_clear(err);
		return 0;
	}
	int found = store_layer_lease(s, &diff_id, image->format, lease, err);
	if (found <= 0)
		return found;
	int busy = file_lock(lease->fd, LOCK_EX | LOCK_NB, r->layer, err);
	return busy ? busy : pin_find_layer(s, &diff_id, image->format, err);
}

static int remove_image(struct store *s, const struct environment_record *r, struct error *err)
{
	struct oci_reference reference;
	struct store_image image;
	cleanup_store_layer struct store_layer lease = {.fd = -1};
	if (oci_reference_parse(r->reference, &reference, err) < 0 ||
		store_image_get(s, &reference, &image, err) < 0) {
		bool gone = err->kind != ERROR_SYSTEM;
		error_clear(err);
		return gone ? 0 : error_set(err, ERROR_SYSTEM, "image %.200s", r->reference);
	}
	int busy = claim_layer(s, r, &image, &lease, err);
	if (busy < 0)
		return -1;
	if (busy)
		return error_set(err, ERROR_UNAVAILABLE,
			"environment %.12s is in use by a job; remove it when that has ended "
			"(stoker ps shows them)",
			r->key);
	if (store_image_remove(s, &reference, err) < 0 && err->kind != ERROR_NOT_FOUND)
		return -1;
	error_clear(err);
	return 0;
}

int environment_record_remove(struct store *s, const char *key, struct error *err)
{
	cleanup_arena struct arena a = {0};
	struct environment_record r;
	struct store_prune_report report;
	const struct store_prune_options what = {.keep_parts = true};
	if (environment_record_read(s, &a, key, &r, err) < 0 || remove_image(s, &r, err) < 0)
		return -1;
	// The image first: a record without one is harmless, an image without a record would be
	// nobody's.
	cleanup_free char *name = xasprintf("environments/%s.json", key);
	if (unlinkat(s->state_fd, name, 0) < 0 && errno != ENOENT)
		return error_set_errno(err, errno, "remove %s/%s", s->state_dir, name);
	return store_prune(s, &what, &report, err);
}

// ---- tools

int environment_tools_write(
	struct store *s, const char *image_hex, const void *data, size_t size, struct error *err)
{
	return records_put(s, "tools", image_hex, data, size, err);
}

int environment_tools_read(
	struct store *s, const char *image_hex, struct buffer *b, struct error *err)
{
	return records_get(s, "tools", image_hex, TOOLS_BYTES_MAX, b, err);
}
