// SPDX-License-Identifier: Apache-2.0
#include "oci/store/push.h"

#include "base/text.h"
#include "oci/registry/pusher.h"
#include "oci/store/derive.h"
#include "oci/store/push_internal.h"
#include "oci/store/push_layout.h"

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

struct push {
	struct store *store;
	const struct push_options *o;
	struct pusher *pusher; // or
	int layout;
	struct pusher_events pusher_events;
	struct arena arena;
	struct buffer manifest_text, config_text;
	struct oci_manifest manifest;
	struct oci_config config;
	struct store_layers layers;
	struct oci_descriptor *sent; // the layers' descriptors in what is pushed
	struct push_result result;
	// Being worked on.
	enum push_phase phase;
	size_t layer;
	uint64_t total;
};

static void push_release(struct push *p)
{
	pusher_free(p->pusher);
	close_fdp(&p->layout);
	store_layers_release(&p->layers);
	buffer_release(&p->manifest_text);
	buffer_release(&p->config_text);
	arena_release(&p->arena);
}
#define cleanup_push __attribute__((cleanup(push_release)))

static void show(void *data, uint64_t bytes)
{
	const struct push *p = data;
	const struct push_events *e = p->o->events;
	if (e->progress)
		e->progress(e->data, p->phase, p->layer, p->manifest.layer_count, bytes, p->total);
}

static void enter(struct push *p, enum push_phase phase, uint64_t total)
{
	p->phase = phase;
	p->total = total;
	show(p, 0);
}

static void on_notice(void *data, const char *text)
{
	const struct push_events *e = ((struct push *)data)->o->events;
	if (e->notice)
		e->notice(e->data, text);
}

static bool on_look(void *data, struct error *err)
{
	return push_canceled(((struct push *)data)->o, err);
}

static int load(struct push *p, struct error *err)
{
	struct store *s = p->store;
	const struct store_image *image = p->o->image;
	if (store_image_load(s, image, &p->arena, &p->manifest, &p->config, err) < 0 ||
		store_document_get(
			s, &image->manifest, OCI_MANIFEST_BYTES_MAX, &p->manifest_text, err) < 0 ||
		store_document_get(s, &image->config, OCI_CONFIG_BYTES_MAX, &p->config_text, err) <
			0 ||
		store_image_lease(s, image, &p->layers, err) < 0)
		return -1;
	p->sent = arena_array(&p->arena, struct oci_descriptor, p->manifest.layer_count);
	for (size_t i = 0; i < p->manifest.layer_count; i++)
		p->sent[i] = p->manifest.layers[i].descriptor;
	return 0;
}

// ---- the target

static int find(
	struct push *p, const struct oci_digest *digest, const char *from, struct error *err)
{
	if (p->layout >= 0)
		return push_layout_has(p->layout, digest);
	return pusher_find(p->pusher, digest, from, err);
}

static int send(
	struct push *p, const struct oci_digest *digest, uint64_t size, int fd, struct error *err)
{
	enter(p, PUSH_SENDING, size);
	if (p->layout >= 0)
		return push_layout_blob(p->layout, digest, size, fd, err);
	return pusher_blob(p->pusher, digest, size, fd, err);
}

static int tag_manifest(struct push *p, const char *tag, const char *type,
	const struct buffer *text, struct error *err)
{
	int rc = p->layout >= 0
			 ? push_layout_manifest(p->layout, tag, type, text->data, text->size, err)
			 : pusher_manifest(p->pusher, tag, type, text->data, text->size, err);
	return rc < 0 ? error_context(err, "tag %s", tag) : 0;
}

static int open_target(struct push *p, struct error *err)
{
	if (p->o->layout) {
		p->layout = push_layout_open(p->o->layout, err);
		return p->layout < 0 ? -1 : 0;
	}
	p->pusher = pusher_start(p->o->registries, p->o->repository, &p->pusher_events, err);
	return p->pusher ? 0 : -1;
}

// ---- layers

static int send_blob(struct push *p, const struct push_blob *b, struct error *err)
{
	if (send(p, &b->digest, b->size, b->fd, err) < 0)
		return -1;
	p->result.sent += b->size;
	p->result.layers_sent++;
	return 0;
}

// The topmost layer, out of its tree.
static int send_own(struct push *p, size_t i, struct error *err)
{
	struct push_blob b;
	const struct oci_descriptor *d = &p->sent[i];
	bool archive = oci_digest_equal(&d->digest, &p->config.diff_ids[i]);
	enter(p, PUSH_COMPRESSING, archive ? d->size : 0);
	if (push_compress(p->store, p->o, &p->layers.items[i], show, p, &b, err) < 0)
		return -1;
	int rc = send_blob(p, &b, err);
	if (rc == 0)
		p->sent[i] = (struct oci_descriptor){
			.media_type = derive_layer_type(&p->manifest, OCI_COMPRESSION_GZIP),
			.digest = b.digest,
			.size = b.size,
		};
	push_blob_drop(p->store, &b);
	return rc;
}

static int send_fetched(struct push *p, size_t i, struct error *err)
{
	struct push_blob b;
	if (!p->o->source)
		return error_set(err, ERROR_NOT_FOUND,
			"layer %s is not in the registry, and where it comes from is not known "
			"here; pull the base image, and push again",
			p->config.diff_ids[i].text);
	enter(p, PUSH_FETCHING, p->sent[i].size);
	if (push_fetch(p->store, p->o, &p->sent[i], show, p, &b, err) < 0)
		return -1;
	int rc = send_blob(p, &b, err);
	push_blob_drop(p->store, &b);
	return rc;
}

// The repository to mount from, if the base is in the same registry.
static const char *other_repository(const struct push *p)
{
	const struct oci_reference *source = p->o->source, *to = p->o->repository;
	bool useful =
		source && to && streq(source->domain, to->domain) && !streq(source->path, to->path);
	return useful ? source->path : NULL;
}

static int push_layer(struct push *p, size_t i, struct error *err)
{
	const struct oci_descriptor *d = &p->manifest.layers[i].descriptor;
	bool top = i + 1 == p->manifest.layer_count;
	// One that is known as an archive only was never in a registry.
	bool own = top && oci_digest_equal(&d->digest, &p->config.diff_ids[i]);
	p->layer = i;
	enter(p, PUSH_LOOKING, 0);
	int found = own ? 0 : find(p, &d->digest, other_repository(p), err);
	if (found < 0)
		return -1;
	if (found) {
		p->result.layers_found++;
		return 0;
	}
	if (top) {
		if (send_own(p, i, err) == 0)
			return 0;
		if (err->kind != ERROR_INTEGRITY || own)
			return -1;
	}
	return send_fetched(p, i, err);
}

static int push_config(struct push *p, struct error *err)
{
	cleanup_fd int fd = memfd_create("configuration", MFD_CLOEXEC);
	if (fd < 0)
		return error_set_errno(err, errno, "memfd_create");
	if (write_all(fd, p->config_text.data, p->config_text.size, "configuration", err) < 0)
		return -1;
	return send(p, &p->manifest.config.digest, p->config_text.size, fd, err);
}

static bool all_unchanged(const struct push *p)
{
	for (size_t i = 0; i < p->manifest.layer_count; i++)
		if (!oci_digest_equal(&p->sent[i].digest, &p->manifest.layers[i].descriptor.digest))
			return false;
	return true;
}

static const char *manifest_type(const struct push *p)
{
	return starts_with(p->manifest.config.media_type, "application/vnd.docker.")
		       ? "application/vnd.docker.distribution.manifest.v2+json"
		       : "application/vnd.oci.image.manifest.v1+json";
}

static int push_manifest(struct push *p, struct error *err)
{
	cleanup_buffer struct buffer text = {0};
	if (all_unchanged(p))
		buffer_append(&text, p->manifest_text.data, p->manifest_text.size);
	else if (derive_manifest(p->manifest_text.data, p->manifest_text.size, &p->manifest.config,
			 p->sent, p->manifest.layer_count, &text, err) < 0)
		return -1;
	p->result.manifest = oci_digest_of(text.data, text.size);
	for (size_t i = 0; i < p->o->tag_count; i++)
		if (tag_manifest(p, p->o->tags[i], manifest_type(p), &text, err) < 0)
			return -1;
	return 0;
}

static int run(struct push *p, struct error *err)
{
	p->pusher_events = (struct pusher_events){
		.progress = show, .notice = on_notice, .canceled = on_look, .data = p};
	if (load(p, err) < 0 || open_target(p, err) < 0)
		return -1;
	for (size_t i = 0; i < p->manifest.layer_count; i++)
		if (push_layer(p, i, err) < 0)
			return error_context(
				err, "layer %zu of %zu", i + 1, p->manifest.layer_count);
	return push_config(p, err) < 0 ? -1 : push_manifest(p, err);
}

int push_image(
	struct store *s, const struct push_options *o, struct push_result *r, struct error *err)
{
	cleanup_push struct push p = {.store = s, .o = o, .layout = -1};
	if (run(&p, err) == 0) {
		*r = p.result;
		return 0;
	}
	if (o->layout)
		return error_context(err, "write %s", o->layout);
	return error_context(err, "push to %s/%s", o->repository->domain, o->repository->path);
}
