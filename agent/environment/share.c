// SPDX-License-Identifier: Apache-2.0
#include "agent/environment/share.h"

#include "agent/environment/environment_internal.h"
#include "base/file.h"
#include "base/text.h"
#include "oci/layer/tree_reader.h"
#include "oci/runtime/layer_mount.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { TAG_DIGITS = 32, TAG_SIZE = 4 + TAG_DIGITS + 1 };

struct oci_reference environment_reference(const char key[ENVIRONMENT_KEY_SIZE])
{
	struct oci_reference r = {.domain = "stoker.local", .path = "environment"};
	snprintf(r.tag, sizeof(r.tag), "%.*s", TAG_DIGITS, key);
	return r;
}

// ---- push

// The mount of the one layer that is read, until it has been.
struct opened {
	struct store *store;
	struct oci_digest diff_id;
	int lock_fd; // -1: nothing is mounted
};

static void opened_release(struct opened *o)
{
	if (o->lock_fd >= 0)
		layer_mount_release(o->store, &o->diff_id, o->lock_fd);
	o->lock_fd = -1;
}
#define cleanup_opened __attribute__((cleanup(opened_release)))

static int open_layer(void *data, const struct store_layer *layer, int *fd, struct error *err)
{
	struct opened *o = data;
	if (layer->format == LAYER_DIRECTORY) {
		*fd = directory_open(layer->fd, ".", err);
		return *fd < 0 ? -1 : 0;
	}
	opened_release(o);
	if (layer_mount_use(o->store, layer, &o->lock_fd, err) < 0)
		return -1;
	o->diff_id = layer->diff_id;
	cleanup_fd int root = layer_mount_open(o->store, &layer->diff_id, err);
	if (root < 0)
		return -1;
	*fd = directory_open(root, ".", err);
	return *fd < 0 ? -1 : 0;
}

// env-… and a req-… for each request; arena strings.
static int make_tags(struct store *s, struct arena *a, const char *key,
	const struct store_image *image, struct json_strings *tags, struct error *err)
{
	struct json_strings requests;
	if (environment_requests_of(s, a, key, image->config.text, &requests, err) < 0)
		return -1;
	tags->items = arena_array(a, const char *, requests.count + 2);
	tags->items[tags->count++] = arena_printf(a, "env-%.*s", TAG_DIGITS, key);
	for (size_t i = 0; i < requests.count; i++)
		tags->items[tags->count++] =
			arena_printf(a, "req-%.*s", TAG_DIGITS, requests.items[i]);
	return 0;
}

// A record and its image, which may have been evicted.
static int find_image(struct store *s, struct arena *a, const char *key,
	struct environment_record *record, struct store_image *image, struct error *err)
{
	struct oci_reference name;
	if (environment_record_read(s, a, key, record, err) < 0 ||
		oci_reference_parse(record->reference, &name, err) < 0)
		return -1;
	if (store_image_get(s, &name, image, err) == 0)
		return 0;
	if (err->kind != ERROR_NOT_FOUND)
		return -1;
	return error_set(err, ERROR_NOT_FOUND,
		"environment %.12s is not here any more, its record alone is: it was evicted, and "
		"is built again from its lock when a job needs it",
		key);
}

static int copy_archive(struct tree_reader *r, int fd, struct error *err)
{
	enum { CHUNK = 512 * 1024 };
	cleanup_free char *chunk = xmalloc(CHUNK);
	for (;;) {
		ssize_t n = read(r->archive_fd, chunk, CHUNK);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return error_set_errno(err, errno, "read the layer's archive");
		if (n == 0)
			return tree_reader_finish(r, err);
		if (write_all(fd, chunk, (size_t)n, "the archive", err) < 0)
			return -1;
	}
}

int environment_export_layer(struct store *s, const char *key, int fd, struct error *err)
{
	cleanup_arena struct arena a = {0};
	cleanup_opened struct opened opened = {.store = s, .lock_fd = -1};
	cleanup_store_layers struct store_layers layers = {0};
	struct environment_record record;
	struct store_image image;
	cleanup_fd int tree = -1;
	if (find_image(s, &a, key, &record, &image, err) < 0 ||
		store_image_lease(s, &image, &layers, err) < 0 ||
		open_layer(&opened, &layers.items[layers.count - 1], &tree, err) < 0)
		return -1;
	cleanup_tree_reader struct tree_reader r = {
		.archive_fd = -1, .socket = -1, .process = {.pidfd = -1}};
	if (tree_reader_start(tree, &layer_limits_default, &r, err) < 0)
		return -1;
	return copy_archive(&r, fd, err);
}

static int repository_of(const struct config *config, struct oci_reference *r, struct error *err)
{
	if (!config->environments.registry)
		return error_set(err, ERROR_INVALID,
			"no registry for environments; name one here, or as environments.registry "
			"in agent.yaml");
	if (oci_reference_parse(config->environments.registry, r, err) < 0)
		return error_context(err, "environments.registry");
	return 0;
}

int environment_push(
	const struct environment_push_options *o, struct push_result *r, struct error *err)
{
	cleanup_arena struct arena a = {0};
	cleanup_opened struct opened opened = {.store = o->store, .lock_fd = -1};
	struct environment_record record;
	struct oci_reference to, source;
	struct store_image image;
	struct json_strings tags = {0};
	struct error ignored;
	if (find_image(o->store, &a, o->key, &record, &image, err) < 0)
		return -1;
	if (o->reference) {
		to = *o->reference;
		tags.items = arena_array(&a, const char *, 2);
		tags.items[tags.count++] = to.tag;
	} else if (o->layout) {
		if (make_tags(o->store, &a, o->key, &image, &tags, err) < 0)
			return -1;
		tags.count = 1;
	} else if (repository_of(o->config, &to, err) < 0 ||
		   make_tags(o->store, &a, o->key, &image, &tags, err) < 0) {
		return -1;
	}
	// Where the base was pulled from, or the whole.
	bool known = (record.base && oci_reference_parse(record.base, &source, &ignored) == 0) ||
		     (record.origin && oci_reference_parse(record.origin, &source, &ignored) == 0);
	const struct push_options push = {
		.image = &image,
		.repository = o->layout ? NULL : &to,
		.layout = o->layout,
		.tags = tags.items,
		.tag_count = tags.count,
		.source = known ? &source : NULL,
		.registries = &o->config->registries,
		.open_layer = open_layer,
		.open_data = &opened,
		.events = o->events,
	};
	return push_image(o->store, &push, r, err);
}

struct offer {
	const struct environment_options *o;
	int signal_fd;
};

static bool on_offer_look(void *data, struct error *err)
{
	const struct offer *f = data;
	return environment_is_canceled(f->o, f->signal_fd, err);
}

static void on_offer_notice(void *data, const char *text)
{
	environment_notice(((const struct offer *)data)->o, text);
}

static void on_pull_notice(void *data, const char *text)
{
	const struct environment_events *e = data;
	if (e && e->notice)
		e->notice(e->data, text);
}

void environment_offer(const struct environment_options *o, const char *key)
{
	const struct environment_policy *policy = &o->config->environments;
	if (!policy->registry || !policy->push)
		return;
	struct error err = {0};
	cleanup_fd int signal_fd = environment_signals_open(o, &err);
	struct offer offer = {o, signal_fd};
	const struct push_events events = {
		.notice = on_offer_notice, .canceled = on_offer_look, .data = &offer};
	const struct environment_push_options push = {
		.store = o->store, .config = o->config, .key = key, .events = &events};
	struct push_result result;
	if (environment_push(&push, &result, &err) == 0)
		return;
	error_context(&err, "the environment is not shared");
	environment_notice(o, err.text);
}

// ---- pull

struct pulled {
	struct arena arena;
	struct store_image image;
	struct store_layers layers;
	struct oci_manifest manifest;
	struct oci_config config;
	struct environment_lock lock;
	const char *lock_text;
	char key[ENVIRONMENT_KEY_SIZE];
};

static void pulled_release(struct pulled *p)
{
	store_layers_release(&p->layers);
	arena_release(&p->arena);
}
#define cleanup_pulled __attribute__((cleanup(pulled_release)))

// The labels that say what it is, and whether they can be true.
static int check_labels(struct store *s, const char *wanted, struct pulled *p, struct error *err)
{
	cleanup_buffer struct buffer text = {0}, lock = {0};
	if (store_document_get(s, &p->image.config, OCI_CONFIG_BYTES_MAX, &text, err) < 0)
		return -1;
	const struct json *root =
		json_parse(&p->arena, text.data, text.size, "image configuration", NULL, err);
	if (!root)
		return -1;
	const struct json *labels = json_get(json_get(root, "config"), "Labels");
	const char *key = json_get_string(labels, ENVIRONMENT_LABEL_KEY);
	p->lock_text = json_get_string(labels, ENVIRONMENT_LABEL_LOCK);
	if (!key || !p->lock_text)
		return error_set(err, ERROR_INVALID,
			"it is an image, but no environment: its configuration has no label "
			"%s",
			key ? ENVIRONMENT_LABEL_LOCK : ENVIRONMENT_LABEL_KEY);
	if (environment_lock_parse(&p->arena, p->lock_text, strlen(p->lock_text),
		    "its " ENVIRONMENT_LABEL_LOCK, &p->lock, err) < 0 ||
		environment_lock_write(&p->lock, &lock, p->key, err) < 0)
		return -1;
	if (!streq(key, p->key))
		return error_set(err, ERROR_INTEGRITY,
			"it says that it is environment %.12s, but its lock is that of %.12s", key,
			p->key);
	if (wanted && !streq(wanted, p->key))
		return error_set(err, ERROR_INTEGRITY,
			"it is environment %.12s, and %.12s should be there", p->key, wanted);
	return 0;
}

// Lower layers that are not those of the base would be another image under its name.
static int check_base(const struct environment_pull_options *o, struct pulled *p, struct error *err)
{
	struct oci_manifest manifest;
	struct oci_config base;
	char platform[OCI_PLATFORM_TEXT_MAX];
	oci_platform_format(&p->image.platform, platform);
	if (p->lock.platform && !streq(p->lock.platform, platform))
		return error_set(err, ERROR_INTEGRITY,
			"its lock is for %.40s, and the image for %s", p->lock.platform, platform);
	if (!o->base)
		return 0;
	if (store_image_load(o->store, o->base, &p->arena, &manifest, &base, err) < 0)
		return -1;
	bool same = base.diff_id_count + 1 == p->config.diff_id_count;
	for (size_t i = 0; same && i < base.diff_id_count; i++)
		same = oci_digest_equal(&base.diff_ids[i], &p->config.diff_ids[i]);
	if (!same || !p->lock.image || !streq(p->lock.image, o->base->manifest.text))
		return error_set(err, ERROR_INTEGRITY,
			"it is not made of this image, but of another (%.19s)",
			p->lock.image ? p->lock.image : "unknown");
	return 0;
}

// Give it its name here; the one it was pulled by goes, for it would keep the image alive.
static int rename_image(struct store *s, struct pulled *p, struct error *err)
{
	struct oci_reference pulled_as = p->image.reference;
	struct error ignored;
	p->image.reference = environment_reference(p->key);
	if (store_image_put(s, &p->image, err) < 0)
		return -1;
	store_image_remove(s, &pulled_as, &ignored);
	return 0;
}

static int record(const struct environment_pull_options *o, struct pulled *p, struct error *err)
{
	char name[OCI_REFERENCE_TEXT_MAX], origin[OCI_REFERENCE_TEXT_MAX],
		base[OCI_REFERENCE_TEXT_MAX];
	const struct store_layer *top = &p->layers.items[p->layers.count - 1];
	struct environment_record r = {
		.key = p->key,
		.reference = oci_reference_format(&p->image.reference, name),
		.base = o->base ? oci_reference_format(&o->base->reference, base) : NULL,
		.base_manifest = p->lock.image,
		.layer = top->diff_id.text,
		.created_ms = p->image.pulled_ms,
		.origin = oci_reference_format(o->reference, origin),
		.lock = p->lock_text,
	};
	if (store_layer_bytes(top, &r.bytes, err) < 0)
		return -1;
	return environment_record_write(o->store, &r, err);
}

int environment_pull(
	const struct environment_pull_options *o, struct environment_result *r, struct error *err)
{
	cleanup_pulled struct pulled p = {0};
	char name[OCI_REFERENCE_TEXT_MAX];
	const struct pull_options pull = {
		.reference = o->reference,
		.platform = o->platform,
		.format = o->format,
		.policy = PULL_ALWAYS,
		.registries = &o->config->registries,
		.limits = o->config->layer_limits,
		.events = o->events,
		.data = o->data,
		.canceled = o->canceled,
	};
	struct pull_result result;
	struct error ignored;
	if (pull_image(o->store, &pull, &result, &p.layers, err) < 0)
		return -1;
	p.image = result.image;
	if (store_image_load(o->store, &p.image, &p.arena, &p.manifest, &p.config, err) < 0 ||
		check_labels(o->store, o->key, &p, err) < 0 || check_base(o, &p, err) < 0) {
		store_image_remove(o->store, o->reference, &ignored);
		return error_context(err, "%s", oci_reference_format(o->reference, name));
	}
	if (rename_image(o->store, &p, err) < 0 || record(o, &p, err) < 0)
		return -1;
	*r = (struct environment_result){
		.image = p.image, .layers = p.layers, .reused = true, .fetched = result.fetched};
	p.layers = (struct store_layers){0};
	memcpy(r->key, p.key, sizeof(r->key));
	snprintf(r->reason, sizeof(r->reason), "pulled from %.140s",
		oci_reference_format(o->reference, name));
	return 0;
}

// ---- for builds

static void on_pull_progress(
	void *data, enum pull_phase phase, const struct pull_layer_progress *layers, size_t count)
{
	const struct environment_events *e = data;
	uint64_t done = 0, total = 0;
	(void)phase;
	for (size_t i = 0; i < count; i++) {
		done += layers[i].fetched;
		total += layers[i].size;
	}
	if (e && e->progress && total)
		e->progress(e->data, done, total);
}

// From now on this node knows the answer itself.
static int take_answer(
	const struct environment_options *o, const char *request_key, struct environment_result *r)
{
	// When it was resolved is known to the node that has.
	struct environment_answer answer = {.config = r->image.config.text};
	struct error ignored;
	memcpy(answer.key, r->key, sizeof(answer.key));
	snprintf(r->request_key, sizeof(r->request_key), "%s", request_key);
	environment_answer_write(o->store, request_key, &answer, &ignored);
	return 1;
}

// 1 with the result, 0 there is none of that tag.
static int fetch_tag(const struct environment_options *o, const char *kind, const char *key,
	const char *wanted, struct environment_result *r, struct error *err)
{
	static const struct pull_events events = {
		.progress = on_pull_progress, .notice = on_pull_notice};
	void *data = (void *)(uintptr_t)o->events;
	struct oci_reference from;
	if (!o->config->environments.registry)
		return 0;
	const struct environment_pull_options pull = {
		.store = o->store,
		.config = o->config,
		.reference = &from,
		.format = o->image->format,
		.platform = &o->image->platform,
		.base = o->image,
		.key = wanted,
		.events = &events,
		.data = data,
		.canceled = o->canceled,
	};
	if (repository_of(o->config, &from, err) == 0) {
		snprintf(from.tag, sizeof(from.tag), "%s-%.*s", kind, TAG_DIGITS, key);
		if (environment_pull(&pull, r, err) == 0)
			return 1;
	}
	if (o->canceled && *o->canceled)
		return -1;
	if (err->kind != ERROR_NOT_FOUND) {
		error_context(err, "environments.registry");
		environment_notice(o, err->text);
	}
	error_clear(err);
	return 0;
}

int environment_fetch(const struct environment_options *o, const char *request_key,
	struct environment_result *r, struct error *err)
{
	int rc = fetch_tag(o, "req", request_key, NULL, r, err);
	return rc == 1 ? take_answer(o, request_key, r) : rc;
}

int environment_fetch_key(const struct environment_options *o, const char *key,
	struct environment_result *r, struct error *err)
{
	return fetch_tag(o, "env", key, key, r, err);
}
