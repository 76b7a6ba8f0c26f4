// SPDX-License-Identifier: Apache-2.0
//
// Two processes do the work: one reads the tree, which hostile packages may have made, and one
// makes the layer of the archive that it gets; a pipe lies between. Neither can do the other's
// part.
#include "agent/environment/seal.h"

#include "agent/environment/bytecode.h"
#include "agent/environment/share.h"

#include "base/file.h"
#include "oci/layer/tree_reader.h"
#include "oci/store/derive.h"
#include "oci/store/measure.h"

#include <string.h>

struct sealing {
	const struct seal_options *o;
	struct loop *loop;
	struct layer_worker *worker;
	struct tree_reader reader;
	struct store_stage stage;
	struct store_layer lease;
	struct layer_result made;
	struct error error; // of the worker, or why it is canceled
	bool canceled;
};

static void sealing_release(struct sealing *s)
{
	layer_worker_free(s->worker);
	tree_reader_release(&s->reader);
	store_stage_drop(s->o->store, &s->stage);
	store_layer_release(&s->lease);
	loop_free(s->loop);
}
#define cleanup_sealing __attribute__((cleanup(sealing_release)))

static void on_progress(void *data, uint64_t consumed, uint64_t produced)
{
	struct sealing *s = data;
	(void)consumed;
	if (s->o->progress)
		s->o->progress(s->o->data, produced);
	if (!s->canceled && s->o->canceled && s->o->canceled(s->o->data, &s->error)) {
		s->canceled = true;
		loop_quit(s->loop, 1);
	}
}

static void on_done(void *data, const struct layer_result *result, const struct error *err)
{
	struct sealing *s = data;
	if (result)
		s->made = *result;
	else
		s->error = *err;
	loop_quit(s->loop, result ? 0 : 1);
}

// The layer takes about what the tree takes, which is still there beside it. It has no holes: a
// file that is all hole takes nothing in the tree, and its size in the layer.
static int make_room(const struct seal_options *o, struct error *err)
{
	struct store_size size;
	if (measure_tree(o->tree_fd, ".", &size, err) < 0)
		return -1;
	uint64_t bytes = size.bytes > size.content ? size.bytes : size.content;
	uint64_t inodes = o->format == LAYER_DIRECTORY ? size.inodes : 2;
	return store_make_room(o->store, bytes + bytes / 16, inodes + 8, err);
}

static int start(struct sealing *s, struct error *err)
{
	static const struct layer_worker_events events = {.progress = on_progress, .done = on_done};
	const struct seal_options *o = s->o;
	struct layer_limits limits = layer_limits_default;
	if (o->most_bytes && o->most_bytes < limits.bytes)
		limits.bytes = o->most_bytes;
	s->loop = loop_new(err);
	if (!s->loop || store_stage_new(o->store, o->format, &s->stage, err) < 0 ||
		tree_reader_start(o->tree_fd, &limits, &s->reader, err) < 0)
		return -1;
	const struct layer_worker_options options = {
		.format = o->format,
		.blob_fd = s->reader.archive_fd,
		.stream = true,
		.output_fd = s->stage.fd,
		.limits = layer_limits_default,
	};
	s->worker = layer_worker_start(s->loop, &options, &events, s, err);
	// It has one of its own; ours would keep the pipe open when it is gone.
	close_fdp(&s->reader.archive_fd);
	s->reader.archive_fd = -1;
	return s->worker ? 0 : -1;
}

// The archive's two ends: the reader's word says that it is whole, the worker's that the layer is.
// Where both failed, the one did because of the other.
static int make_layer(struct sealing *s, struct error *err)
{
	if (start(s, err) < 0)
		return -1;
	int ended = loop_run(s->loop, err);
	if (ended < 0)
		return -1;
	if (s->canceled) { // both are in the middle of it
		*err = s->error;
		return -1;
	}
	if (tree_reader_finish(&s->reader, err) < 0) {
		if (ended && err->kind == ERROR_UNAVAILABLE)
			*err = s->error;
		return -1;
	}
	if (ended) {
		*err = s->error;
		return -1;
	}
	return store_stage_commit(s->o->store, &s->stage, &s->made.diff_id, &s->lease, err);
}

int environment_seal(const struct seal_options *o, struct seal_result *r, struct error *err)
{
	cleanup_sealing struct sealing s = {
		.o = o,
		.reader = {.archive_fd = -1, .socket = -1, .process = {.pidfd = -1}},
		.stage = {.fd = -1},
		.lease = {.fd = -1},
	};
	const struct derive_label labels[] = {
		{ENVIRONMENT_LABEL_KEY, o->key}, {ENVIRONMENT_LABEL_LOCK, o->lock}};
	struct derive_options derive = {
		.base = o->base,
		.env = o->activation->items,
		.env_count = o->activation->count,
		.labels = labels,
		.label_count = array_size(labels),
		.created_by = "stoker: environment in " ENVIRONMENT_PREFIX,
	};
	if (oci_reference_parse(o->reference, &derive.reference, err) < 0)
		return -1;
	environment_bytecode_fit(o->tree_fd);
	if (make_room(o, err) < 0 || make_layer(&s, err) < 0)
		return error_context(err, "seal the environment");
	derive.diff_id = s.made.diff_id;
	derive.size = s.made.uncompressed;
	struct store_image image;
	if (store_image_derive(o->store, &derive, &image, err) < 0)
		return -1;
	*r = (struct seal_result){
		.image = image, .diff_id = s.made.diff_id, .bytes = s.made.uncompressed};
	return 0;
}
