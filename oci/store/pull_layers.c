// SPDX-License-Identifier: Apache-2.0
//
// The layers of a pull: every event (bytes arrived, a worker ended, a timer) only marks a layer and
// asks for a step; pull_layers_step() then moves each layer as far as it can go. So no object is
// freed inside its own callback, and the order of things is in one place.
#include "base/file.h"
#include "oci/store/internal.h"
#include "oci/store/pull_internal.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { LOCK_RETRY_MS = 50 };

static void fail_layer(struct pull_layer *l, const struct error *err)
{
	struct error e = *err;
	error_context(
		&e, "layer %zu of %zu", (size_t)(l - l->pull->layers) + 1, l->pull->layer_count);
	pull_fail(l->pull, &e);
}

static void changed(struct pull *p)
{
	p->changed = true;
	loop_timer_set(p->step, 0);
}

// ---- events

static void on_fetch_progress(void *data, uint64_t contiguous, uint64_t fetched)
{
	struct pull_layer *l = data;
	(void)fetched;
	l->contiguous = contiguous;
	l->shown.fetched = contiguous;
	if (l->worker)
		layer_worker_feed(l->worker, contiguous);
	if (l->state == LAYER_LOCKED)
		changed(l->pull);
	l->pull->changed = true;
}

static void on_fetch_notice(void *data, const char *text)
{
	struct pull_layer *l = data;
	const struct pull_events *events = l->pull->options->events;
	if (events && events->notice)
		events->notice(l->pull->options->data, text);
}

static void on_fetch_done(void *data, const struct error *err)
{
	struct pull_layer *l = data;
	l->fetching = false;
	if (err)
		return fail_layer(l, err);
	l->contiguous = l->shown.fetched = l->blob->size;
	if (l->worker)
		layer_worker_feed(l->worker, l->contiguous);
	changed(l->pull);
}

static const struct fetcher_blob_events fetch_events = {
	.progress = on_fetch_progress,
	.notice = on_fetch_notice,
	.done = on_fetch_done,
};

static void on_work_progress(void *data, uint64_t consumed, uint64_t produced)
{
	struct pull_layer *l = data;
	(void)produced;
	l->shown.consumed = consumed;
	l->pull->changed = true;
}

// Might other bytes have ended otherwise? A worker may die of a torn blob, or find it larger than
// any layer, before it knows the digest. A full disk has an errno.
static bool bytes_to_blame(const struct error *err)
{
	return err->kind == ERROR_INTEGRITY ||
	       ((err->kind == ERROR_LIMIT || err->kind == ERROR_SYSTEM) && !err->sys);
}

static void on_work_done(void *data, const struct layer_result *result, const struct error *err)
{
	struct pull_layer *l = data;
	(void)result;
	if (!err) {
		l->state = LAYER_WORKED;
	} else if (l->resumed && bytes_to_blame(err)) {
		// Bytes from an earlier, interrupted pull may be torn after a power cut: once more,
		// from nothing.
		store_part_remove(l->pull->store, &l->blob->digest);
		l->state = LAYER_SPOILED;
	} else {
		if (err->kind == ERROR_INTEGRITY) // the registry's own fault
			store_part_remove(l->pull->store, &l->blob->digest);
		return fail_layer(l, err);
	}
	changed(l->pull);
}

static const struct layer_worker_events work_events = {
	.progress = on_work_progress,
	.done = on_work_done,
};

// ---- transitions: each returns -1 on error, else whether the layer moved is seen in its state

static void close_download(struct pull_layer *l)
{
	close_fdp(&l->part_fd);
	close_fdp(&l->map_fd);
	l->part_fd = l->map_fd = -1;
}

static int begin_fetch(struct pull_layer *l, struct error *err)
{
	struct pull *p = l->pull;
	int busy = store_part_open(p->store, &l->blob->digest, &l->part_fd, &l->map_fd, err);
	if (busy < 0)
		return -1;
	if (busy) { // a pull that knows the blob under another diff id: again when it is done
		close_fdp(&l->lock_fd);
		l->lock_fd = -1;
		l->state = LAYER_WANTED;
		l->shown.phase = PULL_WAITING;
		return 0;
	}
	// Mapped without fear of SIGBUS: the part is ours alone, and our fetcher has no descriptor
	// of this map yet.
	struct part part;
	if (part_open(l->map_fd, l->blob->size, &part, err) < 0)
		return -1;
	l->resumed = part_total(&part) > 0;
	l->contiguous = l->shown.fetched = part_contiguous(&part);
	part_close(&part);
	l->shown.consumed = 0;
	l->shown.phase = PULL_FETCHING;
	l->state = LAYER_LOCKED;
	l->fetching = true;
	fetcher_blob(p->fetcher, &l->blob->digest, l->blob->size, l->part_fd, l->map_fd,
		&fetch_events, l);
	return 0;
}

// Lease the layer if it is here.
static int take_present(struct pull_layer *l, struct error *err)
{
	struct pull *p = l->pull;
	int rc = store_layer_lease(p->store, l->diff_id, p->options->format, &l->lease, err);
	if (rc != 1)
		return rc;
	close_fdp(&l->lock_fd);
	l->lock_fd = -1;
	l->state = LAYER_READY;
	// Whoever made it may have been killed before it removed the bytes; nobody comes back for
	// them.
	struct store_size unused;
	struct error ignored;
	store_part_prune(p->store, oci_digest_hex(&l->blob->digest), false, &unused, &ignored);
	l->shown.phase = PULL_PRESENT;
	l->shown.fetched = l->shown.consumed = l->blob->size;
	return 0;
}

// Leased already, ours to make, or another process's for now.
static int step_wanted(struct pull_layer *l, struct error *err)
{
	if (take_present(l, err) < 0)
		return -1;
	if (l->state == LAYER_READY)
		return 0;
	int rc = store_layer_lock(l->pull->store, l->diff_id, &l->lock_fd, err);
	if (rc < 0)
		return -1;
	if (rc == 1) {
		l->shown.phase = PULL_WAITING;
		return 0;
	}
	// The one who had the lock before may just have finished.
	if (take_present(l, err) < 0)
		return -1;
	return l->state == LAYER_READY ? 0 : begin_fetch(l, err);
}

// A worker begins as soon as there is something to read and a place for it.
static int step_locked(struct pull_layer *l, struct error *err)
{
	struct pull *p = l->pull;
	if (p->workers == p->workers_most || (l->fetching && l->contiguous == 0))
		return 0;
	if (store_stage_new(p->store, p->options->format, &l->stage, err) < 0)
		return -1;
	struct layer_worker_options o = {
		.format = p->options->format,
		.blob_fd = l->part_fd,
		.output_fd = l->stage.fd,
		.blob_size = l->blob->size,
		.blob_digest = l->blob->digest,
		.diff_id = *l->diff_id,
		.limits = p->options->limits,
	};
	l->worker = layer_worker_start(p->loop, &o, &work_events, l, err);
	if (!l->worker)
		return -1;
	p->workers++;
	l->state = LAYER_WORKING;
	layer_worker_feed(l->worker, l->contiguous);
	return 0;
}

static void end_worker(struct pull_layer *l)
{
	if (l->worker)
		l->pull->workers--;
	layer_worker_free(l->worker);
	l->worker = NULL;
}

static int step_worked(struct pull_layer *l, struct error *err)
{
	struct store *s = l->pull->store;
	end_worker(l);
	if (store_stage_commit(s, &l->stage, l->diff_id, &l->lease, err) < 0)
		return -1;
	store_part_remove(s, &l->blob->digest); // while it is locked: later it may be another's
	close_download(l);
	close_fdp(&l->lock_fd);
	l->lock_fd = -1;
	l->state = LAYER_READY;
	l->shown.phase = PULL_DONE;
	l->shown.consumed = l->blob->size;
	return 0;
}

static int step_spoiled(struct pull_layer *l, struct error *err)
{
	end_worker(l);
	store_stage_drop(l->pull->store, &l->stage);
	if (l->fetching)
		fetcher_blob_cancel(l->pull->fetcher, &l->blob->digest);
	close_download(l);
	on_fetch_notice(
		l, "the bytes kept from an interrupted pull may be damaged; fetching them again");
	return begin_fetch(l, err);
}

static int step_layer(struct pull_layer *l, struct error *err)
{
	switch (l->state) {
	case LAYER_WANTED:
		if (step_wanted(l, err) < 0)
			return -1;
		return l->state == LAYER_LOCKED ? step_locked(l, err) : 0;
	case LAYER_LOCKED:
		return step_locked(l, err);
	case LAYER_WORKING:
		if (!l->fetching)
			l->shown.phase = PULL_CONVERTING;
		return 0;
	case LAYER_WORKED:
		return step_worked(l, err);
	case LAYER_SPOILED:
		return step_spoiled(l, err);
	case LAYER_READY:
		return 0;
	}
	return 0;
}

// The image names a layer twice (empty layers, mostly): it is made once and leased twice.
static int lease_twins(struct pull *p, struct error *err)
{
	for (size_t i = 0; i < p->layer_count; i++) {
		struct pull_layer *l = &p->layers[i];
		if (!l->same_as)
			continue;
		int rc =
			store_layer_lease(p->store, l->diff_id, p->options->format, &l->lease, err);
		if (rc < 0)
			return -1;
		if (rc == 0)
			return error_set(
				err, ERROR_NOT_FOUND, "layer %s vanished", l->diff_id->text);
		l->shown.phase = PULL_PRESENT;
	}
	return 0;
}

void pull_layers_step(struct pull *p)
{
	struct error err = {0};
	size_t ready = 0;
	bool waiting = false;
	// Ended workers first, so that their places are free for the others in the same step.
	for (int pass = 0; pass < 2; pass++) {
		for (size_t i = 0; i < p->order_count; i++) {
			struct pull_layer *l = p->order[i];
			if (pass == 0 && l->state != LAYER_WORKED)
				continue;
			if (step_layer(l, &err) < 0)
				return fail_layer(l, &err);
		}
	}
	for (size_t i = 0; i < p->order_count; i++) {
		ready += p->order[i]->state == LAYER_READY;
		waiting |= p->order[i]->state == LAYER_WANTED;
	}
	p->changed = true;
	if (waiting)
		loop_timer_set(p->step, LOCK_RETRY_MS);
	if (ready < p->order_count)
		return;
	if (lease_twins(p, &err) < 0)
		return pull_fail(p, &err);
	p->phase = PULL_DONE;
	pull_layers_show(p);
	loop_quit(p->loop, 0);
}

// ---- the beginning and the end

static int by_size_descending(const void *a, const void *b)
{
	const struct pull_layer *const *x = a, *const *y = b;
	if ((*x)->blob->size != (*y)->blob->size)
		return (*x)->blob->size < (*y)->blob->size ? 1 : -1;
	return *x < *y ? -1 : *x > *y;
}

// What is here is leased first, so that making room for the rest cannot take it away. Uncompressed
// sizes are not in a manifest: gzip and zstd bring a file tree to about a third, and the blob
// itself lies beside the layer until that is done.
static int make_room(struct pull *p, struct error *err)
{
	uint64_t bytes = 0, inodes = 16;
	for (size_t i = 0; i < p->order_count; i++) {
		struct pull_layer *l = p->order[i];
		if (take_present(l, err) < 0)
			return -1;
		if (l->state == LAYER_READY)
			continue;
		const struct oci_layer_descriptor *d = &p->manifest.layers[l - p->layers];
		uint64_t grown =
			d->compression == OCI_COMPRESSION_NONE ? l->blob->size : 3 * l->blob->size;
		bytes += grown + l->blob->size;
		inodes += p->options->format == LAYER_DIRECTORY ? grown / 16384 : 2;
	}
	return bytes ? store_make_room(p->store, bytes, inodes, err) : 0;
}

static void layers_init(struct pull *p)
{
	p->layer_count = p->manifest.layer_count;
	p->layers = xcalloc(p->layer_count, sizeof(*p->layers));
	p->order = xcalloc(p->layer_count, sizeof(struct pull_layer *));
	for (size_t i = 0; i < p->layer_count; i++) {
		struct pull_layer *l = &p->layers[i];
		*l = (struct pull_layer){
			.pull = p,
			.blob = &p->manifest.layers[i].descriptor,
			.diff_id = &p->config.diff_ids[i],
			.lock_fd = -1,
			.part_fd = -1,
			.map_fd = -1,
			.lease = {.fd = -1},
			.stage = {.fd = -1},
		};
		l->shown = (struct pull_layer_progress){
			.blob = l->blob->digest,
			.diff_id = *l->diff_id,
			.phase = PULL_WAITING,
			.size = l->blob->size,
		};
		for (size_t j = 0; j < i && !l->same_as; j++)
			if (oci_digest_equal(l->diff_id, p->layers[j].diff_id))
				l->same_as = &p->layers[j];
		if (!l->same_as)
			p->order[p->order_count++] = l;
	}
	// The largest first: at the end all workers finish at about the same time.
	qsort(p->order, p->order_count, sizeof(struct pull_layer *), by_size_descending);
}

void pull_layers_begin(struct pull *p)
{
	struct error err = {0};
	layers_init(p);
	long cores = sysconf(_SC_NPROCESSORS_ONLN);
	p->workers_most = p->options->workers ? p->options->workers
			  : cores < 1	      ? 1
			  : cores > 4	      ? 4
					      : (unsigned)cores;
	if (make_room(p, &err) < 0)
		return pull_fail(p, &err);
	p->phase = PULL_FETCHING;
	changed(p);
}

void pull_layers_show(struct pull *p)
{
	const struct pull_events *events = p->options->events;
	if (!events || !events->progress)
		return;
	struct pull_layer_progress shown[OCI_LAYERS_MAX];
	for (size_t i = 0; i < p->layer_count; i++)
		shown[i] = p->layers[i].shown;
	events->progress(p->options->data, p->phase, shown, p->layer_count);
}

void pull_layers_release(struct pull *p)
{
	for (size_t i = 0; i < p->layer_count; i++) {
		struct pull_layer *l = &p->layers[i];
		end_worker(l);
		store_stage_drop(p->store, &l->stage);
		close_download(l);
		close_fdp(&l->lock_fd);
		store_layer_release(&l->lease);
	}
	free(p->layers);
	free(p->order);
}
