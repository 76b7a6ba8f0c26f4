// SPDX-License-Identifier: Apache-2.0
#include "oci/registry/upload.h"

#include "base/text.h"
#include "oci/registry/request.h"
#include "oci/registry/url.h"

#include <inttypes.h>
#include <string.h>

enum { BACKOFF_MS = 500, BACKOFF_MOST_MS = 30 * 1000 };

struct upload {
	struct registry_client *client;
	struct upload_options o;
	struct oci_digest digest;
	char *from;
	const struct upload_events *events;
	void *data;
	char *location;	   // of the upload under way
	uint64_t at;	   // bytes that the registry has
	uint64_t reached;  // the most it ever had
	uint64_t failures; // since then
	bool resumed;	   // by what the registry said it has
	char range[48];
	// Of the last answer with status 2xx.
	int status;
	bool has_uploaded;
	uint64_t uploaded;
};

static void finish(struct upload *u, bool present, const struct error *err)
{
	u->events->done(u->data, present, err);
	free(u->location);
	free(u->from);
	free(u);
}

static int on_begin(void *data, const struct response *p, struct error *err)
{
	struct upload *u = data;
	u->status = p->status;
	u->has_uploaded = p->has_uploaded;
	u->uploaded = p->uploaded;
	if (!p->location)
		return 0;
	// Each answer names the address of the next step.
	cleanup_free char *base = xasprintf("%s/v2/%s/blobs/uploads/",
		u->client->states[0].endpoint->url, u->client->settings->path);
	const struct curl_functions *curl = u->client->http.curl;
	struct url_origin home, to;
	cleanup_free char *url = url_resolve(curl, base, p->location, err);
	if (!url || url_origin_of(curl, base, &home, err) < 0 ||
		url_origin_of(curl, url, &to, err) < 0)
		return error_context(err, "address of the upload");
	if (streq(home.scheme, "https") && streq(to.scheme, "http"))
		return error_set(
			err, ERROR_DENIED, "an upload from https to http is refused (%s)", to.host);
	free(u->location);
	u->location = steal(url);
	return 0;
}

static int on_body(void *data, const char *bytes, size_t size, struct error *err)
{
	(void)data, (void)bytes, (void)size, (void)err;
	return 0;
}

static int on_end(void *data, const struct response *p, struct error *err)
{
	(void)data, (void)p, (void)err;
	return 0;
}

static void on_notice(void *data, const char *text)
{
	struct upload *u = data;
	u->events->notice(u->data, text);
}

static void on_sent(void *data, uint64_t bytes)
{
	struct upload *u = data;
	u->events->progress(u->data, u->at + bytes);
}

// ---- steps, each ended by the next one's request or by finish()

static void begin(struct upload *u, int64_t delay_ms);
static void send_next(struct upload *u);

static void forget_location(struct upload *u)
{
	free(u->location);
	u->location = NULL;
}

static void on_status(void *data, const struct error *err)
{
	struct upload *u = data;
	if (!err && u->status == 204 && u->has_uploaded && u->uploaded <= u->o.size) {
		u->at = u->uploaded;
		u->resumed = u->at > 0;
		send_next(u);
	} else if (err && err->kind == ERROR_SYSTEM) {
		finish(u, false, err);
	} else { // it has forgotten the upload, or does not say
		begin(u, 0);
	}
}
static const struct request_events status_events = {
	on_begin, on_body, on_end, on_notice, on_status};

// After a failed step: wait, ask how much is there, go on from that.
static void recover(struct upload *u, const struct error *err)
{
	struct error text;
	// A registry that has lost the upload says 404 or 416; once more, from the start.
	bool lost = err->kind == ERROR_NOT_FOUND || err->kind == ERROR_INTEGRITY;
	if (err->sys || (err->kind != ERROR_UNAVAILABLE && !lost) ||
		u->failures >= u->client->settings->retries) {
		finish(u, false, err);
		return;
	}
	int64_t delay = BACKOFF_MS;
	for (uint64_t i = 0; i < u->failures && delay < BACKOFF_MOST_MS; i++)
		delay *= 2;
	u->failures++;
	error_set(&text, ERROR_NONE, "retrying in %.1f s: %s", (double)delay / 1000, err->text);
	u->events->notice(u->data, text.text);
	if (lost || !u->location) {
		begin(u, delay);
		return;
	}
	const struct request_options o = {
		.method = TRANSFER_GET, .url = u->location, .once = true, .delay_ms = delay};
	u->status = 0;
	request_start(u->client, &o, &status_events, u);
}

static void on_put(void *data, const struct error *err)
{
	struct upload *u = data;
	struct error digest;
	if (!err) {
		finish(u, true, NULL);
		return;
	}
	if (err->kind != ERROR_INVALID) {
		recover(u, err);
		return;
	}
	if (u->resumed) { // the beginning may not be what we sent
		on_notice(u, "the resumed upload was refused; sending it from the start");
		u->resumed = false;
		begin(u, 0);
		return;
	}
	digest = *err;
	error_context(&digest, "blob %s", u->digest.text);
	finish(u, false, &digest);
}
static const struct request_events put_events = {on_begin, on_body, on_end, on_notice, on_put};

static void on_patch(void *data, const struct error *err)
{
	struct upload *u = data;
	if (err) {
		recover(u, err);
		return;
	}
	uint64_t before = u->at;
	u->at += u->o.size - u->at < UPLOAD_CHUNK ? u->o.size - u->at : UPLOAD_CHUNK;
	if (u->has_uploaded && u->uploaded < u->at)
		u->at = u->uploaded; // it took less
	if (u->at <= before) {	     // or nothing, which could go on for ever
		struct error nothing;
		error_set(&nothing, ERROR_UNAVAILABLE,
			"%s: the registry keeps nothing of what is sent",
			u->client->settings->subject);
		recover(u, &nothing);
		return;
	}
	if (u->at > u->reached) {
		u->reached = u->at;
		u->failures = 0;
	}
	send_next(u);
}
static const struct request_events patch_events = {on_begin, on_body, on_end, on_notice, on_patch};

// The whole at once if it is small, else chunk by chunk, and an empty end.
static void send_next(struct upload *u)
{
	uint64_t left = u->o.size - u->at;
	bool whole = u->at == 0 && left <= UPLOAD_CHUNK, last = whole || left == 0;
	struct transfer_upload body = {
		.fd = u->o.fd,
		.offset = u->at,
		.size = left < UPLOAD_CHUNK ? left : UPLOAD_CHUNK,
		.content_type = "application/octet-stream",
		.sent = on_sent,
	};
	struct request_options o = {.method = TRANSFER_PUT, .upload = &body, .once = true};
	if (last) {
		cleanup_free char *url = xasprintf("%s%cdigest=sha256%%3A%s", u->location,
			strchr(u->location, '?') ? '&' : '?', oci_digest_hex(&u->digest));
		o.url = url;
		request_start(u->client, &o, &put_events, u);
		return;
	}
	snprintf(u->range, sizeof(u->range), "%" PRIu64 "-%" PRIu64, u->at, u->at + body.size - 1);
	body.content_range = u->range;
	o.method = TRANSFER_PATCH;
	o.url = u->location;
	request_start(u->client, &o, &patch_events, u);
}

static void on_begun(void *data, const struct error *err)
{
	struct upload *u = data;
	struct error nowhere;
	if (err) {
		finish(u, false, err);
	} else if (u->status == 202 && u->location) {
		u->at = 0;
		send_next(u);
	} else {
		error_set(&nowhere, ERROR_INVALID,
			"%s: the registry begins no upload (%d, no address)",
			u->client->settings->subject, u->status);
		finish(u, false, &nowhere);
	}
}
static const struct request_events begin_events = {on_begin, on_body, on_end, on_notice, on_begun};

static void begin(struct upload *u, int64_t delay_ms)
{
	const struct request_options o = {
		.method = TRANSFER_POST, .resource = "blobs/uploads/", .delay_ms = delay_ms};
	forget_location(u);
	request_start(u->client, &o, &begin_events, u);
}

// Not there, and not to be mounted.
static void absent(struct upload *u)
{
	if (u->o.fd < 0)
		finish(u, false, NULL);
	else if (u->location)
		send_next(u);
	else
		begin(u, 0);
}

// A registry that does not mount begins an upload instead; one that does not let us see the other
// repository may refuse, which costs us nothing.
static void on_mounted(void *data, const struct error *err)
{
	struct upload *u = data;
	if (err && (err->kind == ERROR_SYSTEM || err->kind == ERROR_UNAVAILABLE)) {
		finish(u, false, err);
	} else if (!err && u->status == 201) {
		finish(u, true, NULL);
	} else {
		if (err || u->status != 202)
			forget_location(u);
		absent(u);
	}
}
static const struct request_events mount_events = {
	on_begin, on_body, on_end, on_notice, on_mounted};

static void on_looked(void *data, const struct error *err)
{
	struct upload *u = data;
	if (!err) {
		finish(u, true, NULL);
		return;
	}
	forget_location(u);
	if (err->kind != ERROR_NOT_FOUND) {
		finish(u, false, err);
		return;
	}
	if (!u->from) {
		absent(u);
		return;
	}
	cleanup_free char *resource = xasprintf(
		"blobs/uploads/?mount=sha256%%3A%s&from=%s", oci_digest_hex(&u->digest), u->from);
	const struct request_options o = {.method = TRANSFER_POST, .resource = resource};
	request_start(u->client, &o, &mount_events, u);
}
static const struct request_events look_events = {on_begin, on_body, on_end, on_notice, on_looked};

void upload_start(struct registry_client *c, const struct upload_options *options,
	const struct upload_events *events, void *data)
{
	struct upload *u = xcalloc(1, sizeof(*u));
	u->client = c;
	u->o = *options;
	u->digest = options->digest;
	u->from = options->from ? xstrdup(options->from) : NULL;
	u->events = events;
	u->data = data;
	cleanup_free char *resource = xasprintf("blobs/%s", u->digest.text);
	const struct request_options o = {.method = TRANSFER_HEAD, .resource = resource};
	request_start(c, &o, &look_events, u);
}
