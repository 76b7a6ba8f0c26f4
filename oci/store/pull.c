// SPDX-License-Identifier: Apache-2.0
//
// Resolving: reference -> (index ->) manifest -> configuration. Each step is a callback of the
// fetcher that begins the next.
#include "oci/store/pull.h"

#include "base/process.h"
#include "base/text.h"
#include "oci/store/pull_internal.h"

#include <signal.h>
#include <stdio.h>
#include <unistd.h>

void pull_fail(struct pull *p, const struct error *err)
{
	if (p->ended)
		return;
	p->ended = true;
	p->error = *err;
	loop_quit(p->loop, -1);
}

// The document that was parsed does not know its name; the fetcher's errors do.
static void fail_about(struct pull *p, const struct error *err)
{
	char name[OCI_REFERENCE_TEXT_MAX];
	struct error e = *err;
	error_context(&e, "%s", oci_reference_format(p->options->reference, name));
	pull_fail(p, &e);
}

// The platform of a configuration may lack the variant that the index or the node has.
static int check_platform(const struct pull *p, struct error *err)
{
	char have[OCI_PLATFORM_TEXT_MAX], want[OCI_PLATFORM_TEXT_MAX];
	const struct oci_platform *platform = &p->config.platform;
	if (oci_platform_match(&p->platform, platform) > 0)
		return 0;
	return error_set(err, ERROR_NOT_FOUND,
		"the image is for %s only, not for %s; name it with --platform if that is meant",
		oci_platform_format(platform, have), oci_platform_format(&p->platform, want));
}

// One blob has one content. Two downloads of it at once would share a file, and one of them could
// only fail.
static int check_blobs(const struct pull *p, struct error *err)
{
	const struct oci_layer_descriptor *layers = p->manifest.layers;
	for (size_t i = 1; i < p->manifest.layer_count; i++)
		for (size_t j = 0; j < i; j++)
			if (oci_digest_equal(
				    &layers[i].descriptor.digest, &layers[j].descriptor.digest) &&
				!oci_digest_equal(&p->config.diff_ids[i], &p->config.diff_ids[j]))
				return error_set(err, ERROR_INVALID,
					"layers %zu and %zu are one blob, %s, with two diff ids",
					j + 1, i + 1, layers[i].descriptor.digest.text);
	return 0;
}

static int use_config(struct pull *p, const struct buffer *body, struct error *err)
{
	if (oci_config_parse(&p->arena, body->data, body->size, &p->config, err) < 0)
		return -1;
	if (p->config.diff_id_count != p->manifest.layer_count)
		return error_set(err, ERROR_INVALID,
			"the configuration has %zu diff ids, the manifest %zu layers",
			p->config.diff_id_count, p->manifest.layer_count);
	if (check_blobs(p, err) < 0 || check_platform(p, err) < 0)
		return -1;
	p->image.platform = p->config.platform;
	return store_document_put(
		p->store, &p->manifest.config.digest, body->data, body->size, err);
}

static void on_config(void *data, const struct buffer *body, const struct oci_digest *digest,
	const char *media_type, const struct error *failure)
{
	struct pull *p = data;
	struct error err = {0};
	(void)digest;
	(void)media_type;
	if (failure)
		return pull_fail(p, failure);
	if (use_config(p, body, &err) < 0)
		return fail_about(p, &err);
	pull_layers_begin(p);
}

static void get_config(struct pull *p)
{
	cleanup_buffer struct buffer body = {0};
	struct error ignored = {0};
	const struct oci_descriptor *config = &p->manifest.config;
	p->image.config = config->digest;
	if (store_document_get(p->store, &config->digest, OCI_CONFIG_BYTES_MAX, &body, &ignored) ==
		0)
		return on_config(p, &body, &config->digest, "", NULL);
	fetcher_document(p->fetcher, &config->digest, OCI_CONFIG_BYTES_MAX, on_config, p);
}

static void get_manifest(struct pull *p, const struct oci_digest *digest);

static int use_manifest(struct pull *p, const struct buffer *body, const struct oci_digest *digest,
	const char *media_type, const struct oci_index_entry **entry, struct error *err)
{
	*entry = NULL;
	p->manifest = (struct oci_manifest){0};
	if (oci_manifest_parse(&p->arena, body->data, body->size, media_type, &p->manifest, err) <
		0)
		return -1;
	if (p->manifest.kind == OCI_MANIFEST_INDEX)
		return oci_index_choose(&p->manifest, &p->platform, entry, err);
	p->image.manifest = *digest;
	return store_document_put(p->store, digest, body->data, body->size, err);
}

// Of the reference itself or of the entry that the index names for our platform.
static void on_manifest(void *data, const struct buffer *body, const struct oci_digest *digest,
	const char *media_type, const struct error *failure)
{
	struct pull *p = data;
	struct error err = {0};
	const struct oci_index_entry *entry;
	if (failure)
		return pull_fail(p, failure);
	bool first = !p->image.target.text[0];
	if (first)
		p->image.target = *digest;
	if (use_manifest(p, body, digest, media_type, &entry, &err) < 0)
		return fail_about(p, &err);
	if (!entry)
		return get_config(p);
	if (!first) {
		error_set(&err, ERROR_INVALID, "the index names another index, %s", digest->text);
		return fail_about(p, &err);
	}
	// A copy: the entry's arena stays, but the manifest that holds it is replaced next.
	struct oci_digest next = entry->descriptor.digest;
	get_manifest(p, &next);
}

static void get_manifest(struct pull *p, const struct oci_digest *digest)
{
	cleanup_buffer struct buffer body = {0};
	struct error ignored = {0};
	if (store_document_get(p->store, digest, OCI_MANIFEST_BYTES_MAX, &body, &ignored) == 0)
		return on_manifest(p, &body, digest, "", NULL);
	fetcher_manifest(p->fetcher, digest->text, OCI_MANIFEST_BYTES_MAX, on_manifest, p);
}

// The image that is here, complete, in the wanted form and for the wanted platform: leases in
// `layers`.
static bool present(struct pull *p, const struct oci_digest *target, struct store_image *image,
	struct store_layers *layers)
{
	const struct pull_options *o = p->options;
	struct error ignored = {0};
	if (store_image_get(p->store, o->reference, image, &ignored) < 0)
		return false;
	if (image->format != o->format || oci_platform_match(&p->platform, &image->platform) == 0)
		return false;
	if (target && target->text[0] && !oci_digest_equal(target, &image->target))
		return false;
	if (o->platform && o->platform->variant[0] && image->platform.variant[0] &&
		!streq(o->platform->variant, image->platform.variant))
		return false;
	return store_image_lease(p->store, image, layers, &ignored) == 0;
}

// What is here is what the registry names now: nothing to fetch.
static void on_current_digest(void *data, const struct buffer *body,
	const struct oci_digest *digest, const char *media_type, const struct error *failure)
{
	struct pull *p = data;
	(void)body;
	(void)media_type;
	struct store_image image;
	cleanup_store_layers struct store_layers layers = {0};
	if (failure)
		return pull_fail(p, failure);
	if (digest->text[0] && present(p, digest, &image, &layers)) {
		p->image = image;
		p->phase = PULL_PRESENT;
		loop_quit(p->loop, 0);
		return;
	}
	if (digest->text[0]) {
		get_manifest(p, digest);
		return;
	}
	fetcher_manifest(p->fetcher, oci_reference_target(p->options->reference),
		OCI_MANIFEST_BYTES_MAX, on_manifest, p);
}

static void on_step(void *data)
{
	struct pull *p = data;
	if (!p->ended)
		pull_layers_step(p);
}

static void on_tick(void *data)
{
	struct pull *p = data;
	if (p->changed)
		pull_layers_show(p);
	p->changed = false;
	loop_timer_set(p->ticker, 50);
}

static void on_end_signal(void *data, int signo)
{
	struct pull *p = data;
	struct error err;
	*p->options->canceled = signo;
	error_set(&err, ERROR_SYSTEM, "the pull was canceled by signal %d", signo);
	pull_fail(p, &err);
}

static int watch_signals(struct pull *p, struct error *err)
{
	sigset_t ends;
	if (!p->options->canceled)
		return 0;
	*p->options->canceled = 0;
	process_end_signals(&ends);
	for (int signo = 1; signo < SIGRTMIN; signo++)
		if (sigismember(&ends, signo) == 1 &&
			!loop_add_signal(p->loop, signo, on_end_signal, p, err))
			return -1;
	return 0;
}

// Ctrl-C reaches the fetcher as well, and its end may be seen before our own signal.
static void take_late_signal(struct pull *p)
{
	sigset_t set;
	if (!p->options->canceled || *p->options->canceled)
		return;
	process_end_signals(&set);
	int signo = sigtimedwait(&set, NULL, &(struct timespec){0});
	if (signo > 0)
		*p->options->canceled = signo;
}

static int run(struct pull *p, bool known, struct error *err)
{
	const struct pull_options *o = p->options;
	if (!(p->loop = loop_new(err)) || watch_signals(p, err) < 0 ||
		!(p->step = loop_add_timer(p->loop, -1, on_step, p, err)) ||
		!(p->ticker = loop_add_timer(p->loop, 50, on_tick, p, err)) ||
		!(p->fetcher = fetcher_start(p->loop, o->registries, o->reference, err)))
		return -1;
	const char *target = oci_reference_target(o->reference);
	p->changed = true;
	if (known) // asking for the digest alone is not counted by registries that limit pulls
		fetcher_manifest_digest(p->fetcher, target, on_current_digest, p);
	else
		fetcher_manifest(p->fetcher, target, OCI_MANIFEST_BYTES_MAX, on_manifest, p);
	int rc = loop_run(p->loop, err);
	if (rc < 0)
		take_late_signal(p);
	if (rc < 0 && p->ended)
		*err = p->error;
	return rc;
}

static void pull_release(struct pull *p)
{
	pull_layers_release(p);
	fetcher_free(p->fetcher);
	loop_free(p->loop);
	arena_release(&p->arena);
}
#define cleanup_pull __attribute__((cleanup(pull_release)))

static void hand_over(struct pull *p, struct store_layers *layers)
{
	layers->items = xcalloc(p->layer_count, sizeof(*layers->items));
	layers->count = p->layer_count;
	for (size_t i = 0; i < p->layer_count; i++) {
		struct pull_layer *l = &p->layers[i];
		layers->items[i] = l->lease;
		l->lease = (struct store_layer){.fd = -1};
	}
}

int pull_image(struct store *s, const struct pull_options *o, struct pull_result *result,
	struct store_layers *layers, struct error *err)
{
	cleanup_pull struct pull p = {
		.store = s,
		.options = o,
		.platform = o->platform ? *o->platform : oci_platform_host(),
		.image = {.reference = *o->reference, .format = o->format},
		.phase = PULL_RESOLVING,
	};
	*result = (struct pull_result){0};

	// A digest names one content for ever, so what is here under it needs no question either.
	const struct oci_digest *fixed =
		o->reference->digest.text[0] ? &o->reference->digest : NULL;
	bool ask = o->policy == PULL_ALWAYS && !fixed;
	if (!ask && present(&p, fixed, &result->image, layers)) {
		store_image_touch(s, o->reference);
		return 0;
	}
	struct store_image known;
	struct error ignored = {0};
	bool have = store_image_get(
			    s, o->reference, &known, o->policy == PULL_NEVER ? err : &ignored) == 0;
	if (o->policy == PULL_NEVER) {
		if (!have)
			return -1;
		// Ask again for the reason: a layer is missing, or the form or the platform
		// differs.
		if (store_image_lease(s, &known, layers, err) < 0)
			return -1;
		store_layers_release(layers);
		return error_set(err, ERROR_NOT_FOUND,
			"the image here is of another platform or layer format, and pulling is "
			"off");
	}
	if (run(&p, have, err) < 0)
		return -1;
	result->fetched = fetcher_bytes(p.fetcher);
	if (p.phase == PULL_PRESENT) {
		result->image = p.image;
		store_image_touch(s, o->reference);
		return store_image_lease(s, &p.image, layers, err);
	}
	p.image.pulled_ms = p.image.used_ms = wall_ms();
	if (store_image_put(s, &p.image, err) < 0)
		return -1;
	result->image = p.image;
	result->pulled = true;
	hand_over(&p, layers);
	return 0;
}
