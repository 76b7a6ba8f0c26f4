// SPDX-License-Identifier: Apache-2.0
#include "agent/data/artifact.h"

#include "agent/data/download_hash.h"
#include "agent/data/prepare.h"
#include "base/file.h"
#include "base/text.h"
#include "oci/image/media_type.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { TICK_MS = 100, WAIT_TRIES_MS = 100 };

static void stop(struct artifact *a, const struct error *err)
{
	a->error = *err;
	loop_quit(a->loop, -1);
}

static json_decode_fn decode_blob;

static int decode_blob(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	struct artifact_blob *b = target;
	const char *digest = json_get_string(value, "digest");
	const struct json *size = json_get(value, "size");
	*b = (struct artifact_blob){.fd = -1, .map_fd = -1};
	if (!digest || oci_digest_parse(digest, &b->digest, err) < 0 ||
		!starts_with(b->digest.text, "sha256:"))
		return json_decode_fail(d, value, err, ERROR_INVALID, "has no SHA-256 digest");
	if (!size || size->type != JSON_INTEGER || size->integer < 0)
		return json_decode_fail(d, value, err, ERROR_INVALID, "has no size");
	b->size = (uint64_t)size->integer;
	b->title =
		json_get_string(json_get(value, "annotations"), "org.opencontainers.image.title");
	if (!b->title)
		b->title = arena_strdup(d->arena, b->digest.text + strlen("sha256:"));
	if (!prepare_is_name(b->title))
		return json_decode_fail(d, value, err, ERROR_INVALID,
			"the title \"%.80s\" is no name for a file below a folder", b->title);
	return 0;
}

static int check_titles(const struct artifact *a, struct error *err)
{
	for (size_t i = 1; i < a->count; i++)
		for (size_t k = 0; k < i; k++)
			if (streq(a->blobs[i].title, a->blobs[k].title) ||
				oci_digest_equal(&a->blobs[i].digest, &a->blobs[k].digest))
				return error_set(err, ERROR_INVALID,
					"two of its blobs are named \"%.100s\" or are the same",
					a->blobs[i].title);
	return 0;
}

// 1: it is an artifact, and taken.
static int take_manifest(struct artifact *a, const struct buffer *body, struct error *err)
{
	struct json_decoder d = {.arena = &a->arena, .document = "the manifest"};
	const struct json *m =
		json_parse(&a->arena, body->data, body->size, "the manifest", NULL, err);
	if (!m)
		return -1;
	const char *config = json_get_string(json_get(m, "config"), "mediaType");
	const char *type = json_get_string(m, "artifactType");
	const struct json *layers = json_get(m, "layers");
	void *items;
	if (!layers || !config || (!type && oci_media_type_config(config)))
		return 0;
	json_decode_enter_key(&d, "layers");
	if (json_decode_array(&d, layers, decode_blob, sizeof(struct artifact_blob), OCI_LAYERS_MAX,
		    &items, &a->count, err) < 0)
		return -1;
	a->blobs = items;
	for (size_t i = 0; i < a->count; i++) {
		if (a->blobs[i].size > UINT64_MAX / 2 - a->size)
			return error_set(err, ERROR_LIMIT, "its blobs have too many bytes");
		a->size += a->blobs[i].size;
	}
	return check_titles(a, err) < 0 ? -1 : 1;
}

static void on_manifest(void *data, const struct buffer *body, const struct oci_digest *digest,
	const char *media_type, const struct error *failed)
{
	struct artifact *a = data;
	struct error err = {0};
	(void)media_type;
	if (failed) {
		stop(a, failed);
		return;
	}
	a->manifest = *digest;
	int is = take_manifest(a, body, &err);
	if (is < 0)
		stop(a, &err);
	else
		loop_quit(a->loop, is);
}

static void tell(struct artifact *a)
{
	uint64_t here = 0;
	struct error err;
	for (size_t i = 0; i < a->count; i++)
		here += a->blobs[i].here;
	int end = a->progress(a->data, here, a->size);
	if (!end)
		return;
	error_set(&err, end == 1 ? ERROR_UNAVAILABLE : ERROR_LIMIT, "%s",
		end == 1 ? "canceled" : "not complete in time");
	stop(a, &err);
}

struct ticker {
	struct artifact *artifact;
	struct loop_source *timer;
};

static void on_tick(void *data)
{
	struct ticker *t = data;
	tell(t->artifact);
	loop_timer_set(t->timer, TICK_MS);
}

static int run(struct artifact *a, struct error *err)
{
	struct ticker ticker = {.artifact = a};
	ticker.timer = loop_add_timer(a->loop, TICK_MS, on_tick, &ticker, err);
	if (!ticker.timer)
		return -1;
	int status = loop_run(a->loop, err);
	loop_remove(ticker.timer);
	if (status < 0 && a->error.kind != ERROR_NONE)
		*err = a->error;
	return status;
}

int artifact_look(struct artifact *a, struct error *err)
{
	a->loop = loop_new(err);
	if (!a->loop)
		return -1;
	a->fetcher = fetcher_start(a->loop, a->registries, a->reference, err);
	if (!a->fetcher)
		return -1;
	fetcher_manifest(a->fetcher, oci_reference_target(a->reference), OCI_MANIFEST_BYTES_MAX,
		on_manifest, a);
	return run(a, err);
}

// Of one blob under way.
struct blob_task {
	struct artifact *artifact;
	struct artifact_blob *blob;
};

static void on_blob_progress(void *data, uint64_t contiguous, uint64_t fetched)
{
	struct blob_task *t = data;
	t->blob->here = contiguous;
	t->blob->fetched = fetched;
}

static void on_blob(void *data, const struct error *err)
{
	struct blob_task *t = data;
	struct artifact *a = t->artifact;
	if (err)
		stop(a, err);
	else if (--a->left == 0)
		loop_quit(a->loop, 0);
}

static int check_blob(struct artifact *a, struct artifact_blob *b, struct error *err)
{
	struct download_hash hash;
	char hex[SHA256_HEX_SIZE];
	download_hash_init(&hash, b->fd);
	int status = download_hash_finish(&hash, b->size, hex, err);
	download_hash_release(&hash);
	if (status < 0)
		return -1;
	if (streq(hex, b->digest.text + strlen("sha256:")))
		return fchmod(b->fd, 0444) < 0 || fdatasync(b->fd) < 0
			       ? error_set_errno(err, errno, "store a blob")
			       : 0;
	store_part_remove(a->store, &b->digest);
	return error_set(
		err, ERROR_INTEGRITY, "the blob %s has other bytes: %s", b->digest.text, hex);
}

static int open_part(struct artifact *a, struct artifact_blob *b, struct error *err)
{
	for (;;) {
		int busy = store_part_open(a->store, &b->digest, &b->fd, &b->map_fd, err);
		if (busy <= 0)
			return busy;
		usleep(WAIT_TRIES_MS * 1000); // another process fetches it
		if (a->progress(a->data, 0, a->size))
			return error_set(err, ERROR_UNAVAILABLE, "canceled");
	}
}

int artifact_fetch(struct artifact *a, struct error *err)
{
	static const struct fetcher_blob_events events = {on_blob_progress, NULL, on_blob};
	struct blob_task *tasks = arena_array(&a->arena, struct blob_task, a->count);
	a->left = a->count;
	a->error = (struct error){0};
	for (size_t i = 0; i < a->count; i++) {
		struct artifact_blob *b = &a->blobs[i];
		tasks[i] = (struct blob_task){a, b};
		if (open_part(a, b, err) < 0)
			return -1;
		fetcher_blob(a->fetcher, &b->digest, b->size, b->fd, b->map_fd, &events, &tasks[i]);
	}
	if (a->count && run(a, err) < 0)
		return -1;
	// It could still write to what is checked next.
	fetcher_free(a->fetcher);
	a->fetcher = NULL;
	for (size_t i = 0; i < a->count; i++) {
		a->fetched += a->blobs[i].fetched;
		if (check_blob(a, &a->blobs[i], err) < 0)
			return -1;
	}
	return 0;
}

void artifact_forget(struct artifact *a)
{
	for (size_t i = 0; i < a->count; i++)
		store_part_remove(a->store, &a->blobs[i].digest);
}

void artifact_release(struct artifact *a)
{
	fetcher_free(a->fetcher);
	loop_free(a->loop);
	for (size_t i = 0; i < a->count; i++) {
		close_fdp(&a->blobs[i].fd);
		close_fdp(&a->blobs[i].map_fd);
	}
	arena_release(&a->arena);
}

void artifact_tree_digest(const struct oci_digest *manifest, enum data_unpack unpack, char hex[65])
{
	char text[200];
	uint8_t digest[SHA256_SIZE];
	int n = snprintf(text, sizeof(text), "artifact 1 unpack %d %s", unpack, manifest->text);
	sha256_of(text, (size_t)n, digest);
	sha256_hex(digest, hex);
}
