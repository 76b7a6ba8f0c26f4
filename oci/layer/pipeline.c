// SPDX-License-Identifier: Apache-2.0
#include "oci/layer/pipeline.h"

#include "oci/layer/decompress.h"

#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>

// Blocks large enough that waking a thread is rare, small enough that a worker stays small. From
// 512 KiB to 2 MiB no difference was measured; inputs of 128 KiB cost 10 %.
enum {
	BLOCK_SIZE = 512 * 1024,
	BLOCK_COUNT = 8,
	INPUT_SIZE = 256 * 1024,
	INPUT_COUNT = 4,
	MEMORY_SIZE = BLOCK_SIZE * BLOCK_COUNT + INPUT_SIZE * INPUT_COUNT,
};

struct block {
	uint8_t *data;
	size_t size;
};

struct pipeline {
	struct layer_stream stream; // first: next() gets the pipeline back from it
	struct pipeline_source source;
	uint64_t bytes_max;
	uint8_t *memory;

	// The first thread's.
	struct decompressor *decompressor;
	uint64_t consumed, produced;
	struct block *input; // being inflated
	// The second thread's. Inflating takes longer than all else together, so that the hash of
	// the compressed bytes, too, is made here.
	struct sha256 *consumed_hash, *produced_hash;
	// The caller's.
	bool holding; // next() has handed out a block

	pthread_t inflater, hasher;
	bool has_inflater, has_hasher;

	pthread_mutex_t lock;
	// Under the lock. Counts since the start; block n lies in inputs[n % INPUT_COUNT] and
	// ring[n % BLOCK_COUNT].
	pthread_cond_t to_inflate, to_hash, to_take;
	struct block inputs[INPUT_COUNT], ring[BLOCK_COUNT];
	uint64_t inputs_filled, inputs_hashed;
	uint64_t filled, hashed, taken; // taken: given back by the caller
	bool started, stopping, draining;
	bool inflated; // no more blocks
	bool ended;    // and no more inputs
	bool consumed_all;
	struct error failure; // of the first thread
};

static void wake_all(struct pipeline *p)
{
	pthread_cond_broadcast(&p->to_inflate);
	pthread_cond_broadcast(&p->to_hash);
	pthread_cond_broadcast(&p->to_take);
}

static bool wait_for_start(struct pipeline *p, pthread_cond_t *changed)
{
	pthread_mutex_lock(&p->lock);
	while (!p->started && !p->stopping)
		pthread_cond_wait(changed, &p->lock);
	bool go = !p->stopping;
	pthread_mutex_unlock(&p->lock);
	return go;
}

// The block to fill next, or NULL when nobody wants more.
static struct block *block_to_fill(struct pipeline *p)
{
	pthread_mutex_lock(&p->lock);
	for (;;) {
		uint64_t oldest = p->hashed < p->taken ? p->hashed : p->taken;
		if (p->stopping || p->draining || p->filled - oldest < BLOCK_COUNT)
			break;
		pthread_cond_wait(&p->to_inflate, &p->lock);
	}
	struct block *b = p->stopping || p->draining ? NULL : &p->ring[p->filled % BLOCK_COUNT];
	pthread_mutex_unlock(&p->lock);
	return b;
}

static void block_filled(struct pipeline *p, struct block *b, size_t size)
{
	pthread_mutex_lock(&p->lock);
	b->size = size;
	p->filled++;
	pthread_cond_signal(&p->to_hash);
	pthread_cond_signal(&p->to_take);
	pthread_mutex_unlock(&p->lock);
}

// More compressed bytes into p->input: returns their count, 0 at the end, -1 on error. What was
// there has been inflated, and the hasher keeps what it still needs by not counting it as hashed.
static ssize_t refill(struct pipeline *p, struct error *err)
{
	pthread_mutex_lock(&p->lock);
	while (!p->stopping && p->inputs_filled - p->inputs_hashed == INPUT_COUNT)
		pthread_cond_wait(&p->to_inflate, &p->lock);
	bool stop = p->stopping;
	p->input = &p->inputs[p->inputs_filled % INPUT_COUNT];
	pthread_mutex_unlock(&p->lock);
	if (stop)
		return error_set(err, ERROR_SYSTEM, "the pipeline was stopped");
	ssize_t n = p->source.read(p->source.data, p->input->data, INPUT_SIZE, err);
	if (n <= 0)
		return n;
	p->consumed += (uint64_t)n;
	pthread_mutex_lock(&p->lock);
	p->input->size = (size_t)n;
	p->inputs_filled++;
	pthread_cond_signal(&p->to_hash);
	pthread_mutex_unlock(&p->lock);
	return n;
}

struct input {
	size_t at, size;
	bool end;
};

// Fill one block as far as the input goes. Returns 1 at the end of the stream, 0 for another round,
// -1.
static int inflate_block(
	struct pipeline *p, struct input *in, struct block *b, size_t *size, struct error *err)
{
	int done = 0;
	while (!done && *size < BLOCK_SIZE) {
		if (in->at == in->size && !in->end) {
			ssize_t n = refill(p, err);
			if (n < 0)
				return -1;
			*in = (struct input){.size = (size_t)n, .end = n == 0};
		}
		size_t used, made;
		done = decompressor_run(p->decompressor, p->input->data + in->at, in->size - in->at,
			&used, in->end, b->data + *size, BLOCK_SIZE - *size, &made, err);
		if (done < 0)
			return -1;
		in->at += used;
		*size += made;
		p->produced += made;
		if (p->produced > p->bytes_max)
			return error_set(err, ERROR_LIMIT, "unpacks to more than %llu bytes",
				(unsigned long long)p->bytes_max);
	}
	return done;
}

static int inflate_all(struct pipeline *p, struct error *err)
{
	p->input = &p->inputs[0];
	struct input in = {0};
	int done = 0;
	while (!done) {
		struct block *b = block_to_fill(p);
		if (!b)
			return 0;
		size_t size = 0;
		done = inflate_block(p, &in, b, &size, err);
		if (done < 0)
			return -1;
		if (size)
			block_filled(p, b, size);
		if (p->source.progress)
			p->source.progress(p->source.data, p->consumed, p->produced);
	}
	return 0;
}

// The rest of the source, for its digest.
static int consume_rest(struct pipeline *p, struct error *err)
{
	for (;;) {
		pthread_mutex_lock(&p->lock);
		while (!p->stopping && !p->draining && p->failure.kind != ERROR_NONE)
			pthread_cond_wait(&p->to_inflate, &p->lock);
		bool stop = p->stopping;
		pthread_mutex_unlock(&p->lock);
		if (stop)
			return 0;
		ssize_t n = refill(p, err);
		if (n <= 0)
			return (int)n;
	}
}

static void *inflater_main(void *data)
{
	struct pipeline *p = data;
	if (!wait_for_start(p, &p->to_inflate))
		return NULL;
	struct error err = {0};
	int result = inflate_all(p, &err);
	pthread_mutex_lock(&p->lock);
	p->inflated = true;
	if (result < 0)
		p->failure = err;
	pthread_cond_signal(&p->to_take);
	pthread_mutex_unlock(&p->lock);

	struct error rest = {0};
	bool complete = consume_rest(p, &rest) == 0;
	pthread_mutex_lock(&p->lock);
	p->consumed_all = complete;
	p->ended = true;
	pthread_cond_signal(&p->to_hash);
	pthread_mutex_unlock(&p->lock);
	return NULL;
}

// Hash one block without the lock, then count it.
static void hash_block(
	struct pipeline *p, struct sha256 *hash, const struct block *b, uint64_t *count)
{
	pthread_mutex_unlock(&p->lock);
	if (hash)
		sha256_update(hash, b->data, b->size);
	pthread_mutex_lock(&p->lock);
	++*count;
	pthread_cond_signal(&p->to_inflate);
}

static void *hasher_main(void *data)
{
	struct pipeline *p = data;
	if (!wait_for_start(p, &p->to_hash))
		return NULL;
	pthread_mutex_lock(&p->lock);
	while (!p->stopping) {
		if (p->hashed < p->filled)
			hash_block(
				p, p->produced_hash, &p->ring[p->hashed % BLOCK_COUNT], &p->hashed);
		else if (p->inputs_hashed < p->inputs_filled)
			hash_block(p, p->consumed_hash, &p->inputs[p->inputs_hashed % INPUT_COUNT],
				&p->inputs_hashed);
		else if (p->ended)
			break;
		else
			pthread_cond_wait(&p->to_hash, &p->lock);
	}
	pthread_mutex_unlock(&p->lock);
	return NULL;
}

// Wait until block `n` is filled. Returns it, or NULL when there will be none.
static struct block *block_at(struct pipeline *p, uint64_t n)
{
	while (p->filled <= n && !p->inflated)
		pthread_cond_wait(&p->to_take, &p->lock);
	return p->filled > n ? &p->ring[n % BLOCK_COUNT] : NULL;
}

static ssize_t stream_next(struct layer_stream *s, const void **block, struct error *err)
{
	struct pipeline *p = (struct pipeline *)s;
	pthread_mutex_lock(&p->lock);
	if (p->holding) {
		p->taken++;
		p->holding = false;
		pthread_cond_signal(&p->to_inflate);
	}
	struct block *b = block_at(p, p->taken);
	ssize_t size = 0;
	if (b) {
		p->holding = true;
		*block = b->data;
		size = (ssize_t)b->size;
	} else if (p->failure.kind != ERROR_NONE) {
		*err = p->failure;
		size = -1;
	}
	pthread_mutex_unlock(&p->lock);
	return size;
}

static int memory_allocate(struct pipeline *p, struct error *err)
{
	uint8_t *memory =
		mmap(NULL, MEMORY_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (memory == MAP_FAILED)
		return error_set_errno(err, errno, "allocate the pipeline's blocks");
	p->memory = memory;
	for (int i = 0; i < BLOCK_COUNT; i++, memory += BLOCK_SIZE)
		p->ring[i].data = memory;
	for (int i = 0; i < INPUT_COUNT; i++, memory += INPUT_SIZE)
		p->inputs[i].data = memory;
	return 0;
}

static int threads_start(struct pipeline *p, struct error *err)
{
	pthread_attr_t attributes;
	pthread_attr_init(&attributes);
	pthread_attr_setstacksize(&attributes, 256 * 1024);
	int code = pthread_create(&p->inflater, &attributes, inflater_main, p);
	p->has_inflater = code == 0;
	if (code == 0) {
		code = pthread_create(&p->hasher, &attributes, hasher_main, p);
		p->has_hasher = code == 0;
	}
	pthread_attr_destroy(&attributes);
	return code ? error_set_errno(err, code, "start a thread") : 0;
}

struct pipeline *pipeline_new(
	const struct pipeline_source *source, uint64_t bytes_max, struct error *err)
{
	cleanup_pipeline struct pipeline *p = xcalloc(1, sizeof(*p));
	p->stream.next = stream_next;
	p->source = *source;
	p->bytes_max = bytes_max;
	p->decompressor = decompressor_new();
	p->consumed_hash = source->plain ? NULL : sha256_new();
	p->produced_hash = sha256_new();
	pthread_mutex_init(&p->lock, NULL);
	pthread_cond_init(&p->to_inflate, NULL);
	pthread_cond_init(&p->to_hash, NULL);
	pthread_cond_init(&p->to_take, NULL);
	if (memory_allocate(p, err) < 0 || threads_start(p, err) < 0)
		return NULL;
	return steal(p);
}

static void threads_join(struct pipeline *p)
{
	if (p->has_inflater)
		pthread_join(p->inflater, NULL);
	if (p->has_hasher)
		pthread_join(p->hasher, NULL);
	p->has_inflater = p->has_hasher = false;
}

void pipeline_free(struct pipeline *p)
{
	if (!p)
		return;
	pthread_mutex_lock(&p->lock);
	p->stopping = true;
	wake_all(p);
	pthread_mutex_unlock(&p->lock);
	threads_join(p);
	if (p->memory)
		munmap(p->memory, MEMORY_SIZE);
	decompressor_free(p->decompressor);
	sha256_free(p->consumed_hash);
	sha256_free(p->produced_hash);
	pthread_mutex_destroy(&p->lock);
	pthread_cond_destroy(&p->to_inflate);
	pthread_cond_destroy(&p->to_hash);
	pthread_cond_destroy(&p->to_take);
	free(p);
}

void pipeline_start(struct pipeline *p)
{
	pthread_mutex_lock(&p->lock);
	p->started = true;
	wake_all(p);
	pthread_mutex_unlock(&p->lock);
}

struct layer_stream *pipeline_stream(struct pipeline *p)
{
	return &p->stream;
}

static void end_consumed(struct pipeline *p, struct pipeline_totals *totals)
{
	if (p->consumed_hash)
		sha256_final(p->consumed_hash, totals->consumed_sha256);
	else
		memset(totals->consumed_sha256, 0, SHA256_SIZE);
}

int pipeline_finish(struct pipeline *p, struct pipeline_totals *totals, struct error *err)
{
	pthread_mutex_lock(&p->lock);
	bool complete = p->inflated && p->failure.kind == ERROR_NONE && p->taken == p->filled;
	pthread_mutex_unlock(&p->lock);
	if (!complete)
		return error_set(err, ERROR_SYSTEM, "the stream was not read to its end");
	threads_join(p);
	totals->consumed = p->consumed;
	totals->produced = p->produced;
	end_consumed(p, totals);
	sha256_final(p->produced_hash, totals->produced_sha256);
	return 0;
}

int pipeline_drain(struct pipeline *p, struct pipeline_totals *totals, struct error *err)
{
	pthread_mutex_lock(&p->lock);
	p->draining = true;
	wake_all(p);
	pthread_mutex_unlock(&p->lock);
	threads_join(p);
	if (!p->consumed_all)
		return error_set(err, ERROR_SYSTEM, "the rest of the blob cannot be read");
	totals->consumed = p->consumed;
	end_consumed(p, totals);
	return 0;
}
