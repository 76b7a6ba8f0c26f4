// SPDX-License-Identifier: Apache-2.0
#include "oci/registry/lane.h"

#include "base/file.h"

#include <inttypes.h>
#include <string.h>

enum {
	SEGMENT_LEAST = 2, // chunks
	SEGMENT_MOST = DOWNLOAD_WINDOW / PART_CHUNK,
};

static const struct request_events lane_events;

static void free_lane(struct lane *lane)
{
	struct download *b = lane->download;
	for (uint32_t i = lane->chunk; i < lane->end; i++)
		b->claimed[i] = 0;
	lane->request = NULL;
	b->lane_count--;
	b->all->lanes--;
}

void lanes_stop(struct download *b, const struct lane *except)
{
	for (size_t i = 0; i < LANES_MAX; i++) {
		struct lane *lane = &b->lanes[i];
		if (lane == except || !lane->request)
			continue;
		request_cancel(lane->request);
		free_lane(lane);
	}
}

static bool chunk_complete(const struct download *b, uint32_t chunk)
{
	return part_have(&b->part, chunk) == part_chunk_size(&b->part, chunk);
}

static bool chunk_open(const struct download *b, uint32_t chunk)
{
	return !b->claimed[chunk] && !chunk_complete(b, chunk);
}

// How many chunks one request should bring: half a second's worth, so that requests are few on a
// fast line and the front moves steadily on a slow one.
static uint32_t segment_chunks(const struct downloads *d)
{
	uint64_t each = d->rate / (d->lanes ? d->lanes : 1) / 2 / PART_CHUNK;
	return each < SEGMENT_LEAST  ? SEGMENT_LEAST
	       : each > SEGMENT_MOST ? SEGMENT_MOST
				     : (uint32_t)each;
}

// Claim the next run of missing chunks for the lane. False: nothing to do, or too far ahead.
static bool claim(struct lane *lane)
{
	struct download *b = lane->download;
	uint64_t contiguous = part_contiguous(&b->part);
	uint32_t first = b->part.front;
	while (first < b->part.chunk_count && !chunk_open(b, first))
		first++;
	if (first == b->part.chunk_count ||
		part_chunk_start(&b->part, first) >= contiguous + DOWNLOAD_WINDOW)
		return false;
	uint32_t most = segment_chunks(b->all), end = first;
	do
		b->claimed[end++] = 1;
	while (end < b->part.chunk_count && end - first < most && chunk_open(b, end) &&
		part_have(&b->part, end) == 0);
	lane->chunk = first;
	lane->end = end;
	lane->position = part_chunk_start(&b->part, first) + part_have(&b->part, first);
	return true;
}

static void claim_everything(struct lane *lane)
{
	struct download *b = lane->download;
	memset(b->claimed, 1, b->part.chunk_count);
	lane->chunk = 0;
	lane->end = b->part.chunk_count;
	lane->position = 0;
	lane->whole = true;
}

// Where the lane's bytes end.
static uint64_t lane_end(const struct lane *lane)
{
	const struct part *p = &lane->download->part;
	return lane->end == p->chunk_count ? p->size : part_chunk_start(p, lane->end);
}

static void set_range(struct lane *lane)
{
	const struct download *b = lane->download;
	bool all = lane->position == 0 && lane_end(lane) == b->part.size;
	if (all || lane->whole)
		request_set_range(lane->request, 0, 0);
	else
		request_set_range(lane->request, lane->position, lane_end(lane));
}

bool lane_start(struct download *b)
{
	if (b->no_ranges && b->lane_count)
		return false;
	struct lane *lane = b->lanes;
	while (lane->request)
		lane++;
	*lane = (struct lane){.download = b};
	if (b->no_ranges)
		claim_everything(lane);
	else if (!claim(lane))
		return false;
	cleanup_free char *resource = xasprintf("blobs/%s", b->digest.text);
	lane->request = request_start(b->all->client,
		&(struct request_options){.method = TRANSFER_GET, .resource = resource},
		&lane_events, lane);
	b->lane_count++;
	b->all->lanes++;
	set_range(lane);
	return true;
}

// From here on the blob comes in one piece.
static void give_up_ranges(struct lane *lane)
{
	struct download *b = lane->download;
	b->no_ranges = true;
	lanes_stop(b, lane);
	claim_everything(lane);
	request_set_range(lane->request, 0, 0);
}

static int wrong_size(const struct download *b, uint64_t size, struct error *err)
{
	return error_set(err, ERROR_INTEGRITY,
		"blob %s: %" PRIu64 " bytes, the manifest says %" PRIu64, b->digest.text, size,
		b->part.size);
}

static int on_begin(void *data, const struct response *r, struct error *err)
{
	struct lane *lane = data;
	struct download *b = lane->download;
	if (r->status == 206 && request_is_ranged(lane->request)) {
		bool right = r->has_range && r->range_start == lane->position &&
			     r->range_end <= lane_end(lane);
		if (!right) {
			give_up_ranges(lane);
			return error_set(err, ERROR_UNAVAILABLE,
				"blob %s: another range than asked for", b->digest.text);
		}
		if (r->range_size != UINT64_MAX && r->range_size != b->part.size)
			return wrong_size(b, r->range_size, err);
		return 0;
	}
	if (r->status != 200)
		return error_set(err, ERROR_INVALID, "blob %s: unexpected answer %d",
			b->digest.text, r->status);
	if (r->has_length && r->length != b->part.size)
		return wrong_size(b, r->length, err);
	if (request_is_ranged(lane->request))
		give_up_ranges(lane);
	else if (lane->whole)
		lane->position = 0;
	return 0;
}

// Mark bytes as present, chunk by chunk. A lane begins where its chunk's watermark stands or below
// it, so the watermark only ever covers bytes that were written.
static void mark(struct lane *lane, uint64_t from, uint64_t to)
{
	struct part *p = &lane->download->part;
	while (from < to) {
		uint32_t chunk = (uint32_t)(from / PART_CHUNK);
		uint64_t start = part_chunk_start(p, chunk),
			 end = start + part_chunk_size(p, chunk);
		uint64_t upto = to < end ? to : end, have = part_have(p, chunk);
		if (upto - start > have)
			part_add(p, chunk, upto - start - have);
		if (upto == end)
			lane->chunk = chunk + 1;
		from = upto;
	}
}

static int on_body(void *data, const char *bytes, size_t size, struct error *err)
{
	struct lane *lane = data;
	struct download *b = lane->download;
	uint64_t end = lane_end(lane);
	if (size > end - lane->position)
		return wrong_size(b, lane->position + size, err);
	if (pwrite_all(b->fd, bytes, size, (off_t)lane->position, b->digest.text, err) < 0)
		return -1;
	mark(lane, lane->position, lane->position + size);
	lane->position += size;
	b->fetched += size;
	b->all->rate_bytes += size;
	set_range(lane);
	// Not left to the end of the turn: curl goes on as long as the socket has bytes, which can
	// be many MiB, and the layer worker waits for them.
	download_tell(b);
	return 0;
}

static int on_end(void *data, const struct response *r, struct error *err)
{
	(void)r;
	struct lane *lane = data;
	if (lane->position == lane_end(lane))
		return 0;
	return error_set(err, ERROR_UNAVAILABLE, "blob %s: cut short at byte %" PRIu64,
		lane->download->digest.text, lane->position);
}

static void on_notice(void *data, const char *text)
{
	const struct lane *lane = data;
	lane->download->events->notice(lane->download->data, lane->download->id, text);
}

static void on_done(void *data, const struct error *err)
{
	struct lane *lane = data;
	struct download *b = lane->download;
	free_lane(lane);
	if (err)
		download_finish(b, err);
}

static const struct request_events lane_events = {on_begin, on_body, on_end, on_notice, on_done};
