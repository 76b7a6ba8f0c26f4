// SPDX-License-Identifier: Apache-2.0
// Kind oci. An image is pulled, and its layers are mounted for the job. Anything else in a registry
// is an artifact as ORAS makes them: its blobs are files, named by their titles.
#include "agent/data/artifact.h"
#include "agent/data/prepare.h"
#include "base/file.h"
#include "base/time.h"
#include "oci/store/pull.h"

#include <string.h>

static void on_pull(
	void *data, enum pull_phase phase, const struct pull_layer_progress *layers, size_t count)
{
	struct prepare *p = data;
	uint64_t done = 0, total = 0;
	(void)phase;
	for (size_t i = 0; i < count; i++) {
		done += layers[i].fetched;
		total += layers[i].size;
	}
	prepare_total(p, p->current, done, total);
}

static void on_pull_notice(void *data, const char *text)
{
	prepare_notice(data, text);
}

static enum data_failure failure_of(const struct error *err)
{
	switch (err->kind) {
	case ERROR_NOT_FOUND:
		return DATA_NOT_FOUND;
	case ERROR_DENIED:
		return DATA_FORBIDDEN;
	case ERROR_INTEGRITY:
		return DATA_CHECKSUM;
	case ERROR_LIMIT:
		return DATA_NO_SPACE;
	case ERROR_UNAVAILABLE:
		return DATA_NETWORK;
	default:
		return DATA_FAILED;
	}
}

// Under its digest, too, so that the job gets this image though the tag moves on.
static int record(struct prepare *p, size_t source, const struct pull_result *result,
	const struct store_layers *layers, struct error *err)
{
	struct data_ready *r = &p->ready[source];
	struct store_image pinned = result->image;
	char text[OCI_REFERENCE_TEXT_MAX];
	pinned.reference.tag[0] = '\0';
	pinned.reference.digest = result->image.manifest;
	if (store_image_put(p->options->store, &pinned, err) < 0)
		return -1;
	r->digest = arena_strdup(p->arena, result->image.manifest.text);
	r->kept = arena_strdup(p->arena, oci_reference_format(&pinned.reference, text));
	r->fetched = result->fetched;
	r->reused = !result->pulled;
	for (size_t i = 0; i < layers->count; i++)
		r->bytes += layers->items[i].bytes;
	return 0;
}

static int prepare_image(struct prepare *p, size_t source, const struct oci_reference *reference,
	enum pull_policy policy, struct error *err)
{
	static const struct pull_events events = {on_pull, on_pull_notice};
	const struct data_options *o = p->options;
	struct pull_result result;
	struct store_layers layers = {0};
	const struct pull_options pull = {.reference = reference,
		.format = o->layer_format,
		.policy = policy,
		.registries = o->registries,
		.limits = layer_limits_default,
		.events = &events,
		.data = p,
		.canceled = o->canceled};
	if (pull_image(o->store, &pull, &result, &layers, err) < 0)
		return prepare_fail(p, failure_of(err));
	if (record(p, source, &result, &layers, err) < 0) {
		store_layers_release(&layers);
		return prepare_fail(p, DATA_FAILED);
	}
	// The leases stay, in descriptors that end with this process: by then the supervisor has
	// its own.
	free(layers.items);
	return 0;
}

static int on_artifact(void *data, uint64_t done, uint64_t total)
{
	struct prepare *p = data;
	prepare_total(p, p->current, done, total);
	return prepare_canceled(p) ? 1 : now_ms() >= p->deadlines[p->current] ? 2 : 0;
}

static int place_blobs(struct prepare *p, struct artifact *a, const struct data_source *s,
	int stage_fd, struct error *err)
{
	uint64_t bytes = 0;
	for (size_t i = 0; i < a->count; i++) {
		struct artifact_blob *b = &a->blobs[i];
		if (prepare_place(p, s, b->fd, p->options->store->parts_fd, b->digest.text + 7,
			    b->title, stage_fd, &bytes, err) < 0)
			return -1;
	}
	return 0;
}

static int fetch_artifact(
	struct prepare *p, size_t source, struct artifact *a, const char *tree, struct error *err)
{
	const struct data_source *s = &p->options->sources[source];
	struct cache_stage stage = {.fd = -1};
	if (cache_check_room(&p->cache, a->size, err) > 0 &&
		cache_evict_trees(&p->cache, a->size, err) == 0 &&
		cache_check_room(&p->cache, a->size, err) > 0)
		return prepare_fail(p, DATA_NO_SPACE);
	if (artifact_fetch(a, err) < 0)
		return prepare_fail(
			p, now_ms() >= p->deadlines[source] ? DATA_TIMEOUT : failure_of(err));
	if (cache_stage_new(&p->cache, &stage, err) < 0)
		return prepare_fail(p, DATA_FAILED);
	int status = place_blobs(p, a, s, stage.fd, err);
	if (status == 0)
		status = prepare_tree_commit(p, source, &stage, tree, NULL, err);
	cache_stage_drop(&p->cache, &stage);
	if (status == 0)
		artifact_forget(a);
	return status;
}

static int prepare_artifact(struct prepare *p, size_t source, struct artifact *a, struct error *err)
{
	const struct data_source *s = &p->options->sources[source];
	uint64_t max = prepare_max_bytes(p, s);
	char tree[65];
	int lock = -1;
	if (max && a->size > max) {
		error_set(err, ERROR_LIMIT, "the artifact has %llu bytes, over the limit of %llu",
			(unsigned long long)a->size, (unsigned long long)max);
		return prepare_fail(p, DATA_TOO_LARGE);
	}
	artifact_tree_digest(&a->manifest, s->unpack, tree);
	int status = prepare_tree_begin(p, source, tree, NULL, &lock, err);
	if (status == 0)
		status = fetch_artifact(p, source, a, tree, err);
	cache_building_unlock(&p->cache, tree, &lock);
	if (status < 0)
		return -1;
	p->ready[source].bytes = a->size;
	p->ready[source].fetched = a->fetched;
	return 0;
}

// Named by digest and here: nobody is asked. 1, 0, -1.
static int find_here(
	struct prepare *p, size_t source, const struct oci_reference *reference, struct error *err)
{
	const struct data_source *s = &p->options->sources[source];
	char tree[65];
	int lease = -1;
	if (!*reference->digest.text)
		return 0;
	artifact_tree_digest(&reference->digest, s->unpack, tree);
	int found = cache_tree_lease(&p->cache, tree, &lease, err);
	if (found <= 0)
		return found < 0 ? prepare_fail(p, DATA_FAILED) : 0;
	close_fdp(&lease);
	// The usual way, which fills in what is ready.
	return prepare_tree_begin(p, source, tree, NULL, &lease, err);
}

int prepare_oci(struct prepare *p, size_t source, struct error *err)
{
	const struct data_options *o = p->options;
	const struct data_source *s = &o->sources[source];
	struct oci_reference reference;
	struct store_image image;
	struct error ignored;
	if (oci_reference_parse(s->reference, &reference, err) < 0)
		return prepare_fail(p, DATA_FAILED);
	int found = find_here(p, source, &reference, err);
	if (found)
		return found < 0 ? -1 : 0;
	bool asks = !*reference.digest.text && s->cache != DATA_CACHE_PINNED;
	if (!asks && store_image_get(o->store, &reference, &image, &ignored) == 0)
		return prepare_image(p, source, &reference, PULL_MISSING, err);
	cleanup_artifact struct artifact a = {.store = o->store,
		.registries = o->registries,
		.reference = &reference,
		.progress = on_artifact,
		.data = p};
	int is_artifact = artifact_look(&a, err);
	if (is_artifact < 0)
		return prepare_fail(p, failure_of(err));
	return is_artifact ? prepare_artifact(p, source, &a, err)
			   : prepare_image(p, source, &reference, PULL_ALWAYS, err);
}
