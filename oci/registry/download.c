// SPDX-License-Identifier: Apache-2.0
#include "oci/registry/download.h"

#include "base/file.h"
#include "oci/registry/lane.h"

enum {
	RATE_SPAN_MS = 50,
	// Above this many bytes a second in all, more connections cost and gain nothing.
	RATE_ENOUGH = 150 * 1000 * 1000,
};

void downloads_init(struct downloads *d, struct registry_client *client)
{
	uint64_t most = client->settings->connections;
	*d = (struct downloads){
		.client = client,
		.lanes_max = most < 1		? 1
			     : most > LANES_MAX ? LANES_MAX
						: (size_t)most,
		.lanes_wanted = 1,
	};
}

static void download_free(struct download *b)
{
	lanes_stop(b, NULL);
	part_close(&b->part);
	close_fdp(&b->fd);
	close_fdp(&b->map_fd);
	free(b->claimed);
	free(b);
}

void downloads_release(struct downloads *d)
{
	while (d->first) {
		struct download *b = d->first;
		d->first = b->next;
		download_free(b);
	}
}

int download_start(struct downloads *d, uint32_t id, const struct oci_digest *digest, uint64_t size,
	int fd, int map_fd, const struct download_events *events, void *data, struct error *err)
{
	struct download *b = xcalloc(1, sizeof(*b));
	b->all = d;
	b->id = id;
	b->digest = *digest;
	b->fd = fd;
	b->map_fd = map_fd;
	b->events = events;
	b->data = data;
	if (part_open(map_fd, size, &b->part, err) < 0) {
		download_free(b);
		return -1;
	}
	b->claimed = xcalloc(b->part.chunk_count, 1);
	struct download **link = &d->first;
	while (*link)
		link = &(*link)->next;
	*link = b;
	return 0;
}

void download_cancel(struct downloads *d, uint32_t id)
{
	for (struct download *b = d->first; b; b = b->next) {
		if (b->id != id || b->over)
			continue;
		b->over = true;
		lanes_stop(b, NULL);
	}
}

void download_finish(struct download *b, const struct error *err)
{
	b->over = true;
	lanes_stop(b, NULL);
	b->events->progress(b->data, b->id, part_contiguous(&b->part), b->fetched);
	b->events->done(b->data, b->id, err);
}

void download_tell(struct download *b)
{
	int64_t now = b->all->client->http.now;
	uint64_t contiguous = part_contiguous(&b->part);
	if (contiguous == b->told_contiguous && b->fetched == b->told_fetched)
		return;
	if (b->fetched - b->told_fetched < DOWNLOAD_PROGRESS_BYTES &&
		now - b->told_at < DOWNLOAD_PROGRESS_MS)
		return;
	b->told_contiguous = contiguous;
	b->told_fetched = b->fetched;
	b->told_at = now;
	b->events->progress(b->data, b->id, contiguous, b->fetched);
}

// One more connection per span in which the line was not yet busy.
static void measure(struct downloads *d)
{
	int64_t span = d->client->http.now - d->rate_since;
	if (!d->lanes || span > 10 * RATE_SPAN_MS) { // idle until now: begin again
		d->rate_since = d->client->http.now;
		d->rate_bytes = 0;
		return;
	}
	if (span < RATE_SPAN_MS)
		return;
	d->rate = d->rate_bytes * 1000 / (uint64_t)span;
	// Where nothing comes at all, more requests are no help to a server in trouble.
	if (d->rate > 0 && d->rate < RATE_ENOUGH && d->lanes_wanted < d->lanes_max)
		d->lanes_wanted++;
	d->rate_since = d->client->http.now;
	d->rate_bytes = 0;
}

static void start_lanes(struct downloads *d)
{
	// Every blob gets one before any gets two.
	for (size_t wanted = 1; wanted <= d->lanes_wanted; wanted++)
		for (struct download *b = d->first; b; b = b->next)
			while (!b->over && d->lanes < d->lanes_max && b->lane_count < wanted)
				if (!lane_start(b))
					break;
}

static void sweep(struct downloads *d)
{
	struct download **link = &d->first;
	while (*link) {
		struct download *b = *link;
		if (!b->over) {
			link = &b->next;
			continue;
		}
		*link = b->next;
		download_free(b);
	}
}

void downloads_turn(struct downloads *d)
{
	for (struct download *b = d->first; b; b = b->next) {
		if (b->over)
			continue;
		if (part_contiguous(&b->part) == b->part.size)
			download_finish(b, NULL);
		else
			download_tell(b);
	}
	measure(d);
	start_lanes(d);
	sweep(d);
}

int64_t downloads_deadline(const struct downloads *d)
{
	return d->lanes ? d->client->http.now + DOWNLOAD_PROGRESS_MS : INT64_MAX;
}
