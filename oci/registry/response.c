// SPDX-License-Identifier: Apache-2.0
#include "oci/registry/response.h"

#include "base/text.h"
#include "base/time.h"

#include <strings.h>
#include <time.h>

// A server may ask for hours; a person who waits for a pull is better served by an error.
enum { RETRY_AFTER_MS_MAX = 5 * 60 * 1000 };

void response_release(struct response *r)
{
	free(r->location);
	r->location = NULL;
}

static void copy_text(char *to, size_t size, const char *from)
{
	size_t n = strnlen(from, size - 1);
	memcpy(to, from, n);
	to[n] = '\0';
}

// "HTTP/1.1 404 Not Found"
static void status_line(struct response *r, const char *line)
{
	struct response fresh = {.bytes = r->bytes,
		.lines = r->lines,
		.retry_after_ms = -1,
		.range_size = UINT64_MAX};
	const char *space = strchr(line, ' ');
	uint64_t status;
	response_release(r);
	if (space && parse_u64_n(space + 1, strcspn(space + 1, " "), &status) && status < 1000) {
		const char *reason = strchr(space + 1, ' ');
		fresh.status = (int)status;
		if (reason)
			copy_text(fresh.reason, sizeof(fresh.reason), reason + 1);
	}
	*r = fresh;
}

// "bytes 0-99/1234", "bytes 0-99/*"
static void content_range(struct response *r, const char *value)
{
	if (strncasecmp(value, "bytes ", 6) != 0)
		return;
	const char *first = value + 6;
	const char *dash = strchr(first, '-');
	const char *slash = dash ? strchr(dash, '/') : NULL;
	uint64_t start, last, size = UINT64_MAX;
	if (!slash || !parse_u64_n(first, (size_t)(dash - first), &start) ||
		!parse_u64_n(dash + 1, (size_t)(slash - dash - 1), &last))
		return;
	if (!streq(slash + 1, "*") && !parse_u64(slash + 1, &size))
		return;
	if (last < start || last >= size)
		return;
	r->has_range = true;
	r->range_start = start;
	r->range_end = last + 1;
	r->range_size = size;
}

// "0-1023" of an upload under way; some write "bytes=0-1023". Nothing there yet is "0-0" or none,
// and so is one byte: it is sent again.
static void upload_range(struct response *r, const char *value)
{
	uint64_t last;
	if (strncasecmp(value, "bytes=", 6) == 0)
		value += 6;
	if (strncmp(value, "0-", 2) != 0 || !parse_u64(value + 2, &last) || last == UINT64_MAX)
		return;
	r->has_uploaded = true;
	r->uploaded = last ? last + 1 : 0;
}

// Seconds, or a date as HTTP writes it: "Mon, 23 Nov 2026 10:00:00 GMT".
static void retry_after(struct response *r, const char *value)
{
	uint64_t seconds;
	int64_t ms;
	if (parse_u64(value, &seconds)) {
		ms = seconds > RETRY_AFTER_MS_MAX / 1000 ? RETRY_AFTER_MS_MAX
							 : (int64_t)seconds * 1000;
	} else {
		struct tm tm = {0};
		const char *end = strptime(value, "%a, %d %b %Y %H:%M:%S GMT", &tm);
		if (!end || *end)
			return;
		ms = (int64_t)timegm(&tm) * 1000 - wall_ms();
	}
	r->retry_after_ms = ms < 0 ? 0 : ms > RETRY_AFTER_MS_MAX ? RETRY_AFTER_MS_MAX : ms;
}

static void content_type(struct response *r, char *value)
{
	value[strcspn(value, "; \t")] = '\0';
	if (strlen(value) < sizeof(r->media_type))
		copy_text(r->media_type, sizeof(r->media_type), value);
}

// Cut or changed, they would name another content: then rather none.
static void copy_whole(char *to, size_t size, const char *from)
{
	for (const char *p = from; *p; p++)
		if (*p < ' ' || *p > '~')
			return;
	if (strlen(from) < size)
		copy_text(to, size, from);
}

static void field(struct response *r, const char *name, char *value)
{
	struct error ignored;
	if (strcasecmp(name, "content-length") == 0) {
		r->has_length = parse_u64(value, &r->length);
	} else if (strcasecmp(name, "content-range") == 0) {
		content_range(r, value);
	} else if (strcasecmp(name, "range") == 0) {
		upload_range(r, value);
	} else if (strcasecmp(name, "content-type") == 0) {
		content_type(r, value);
	} else if (strcasecmp(name, "etag") == 0) {
		copy_whole(r->etag, sizeof(r->etag), value);
	} else if (strcasecmp(name, "last-modified") == 0) {
		copy_whole(r->last_modified, sizeof(r->last_modified), value);
	} else if (strcasecmp(name, "retry-after") == 0) {
		retry_after(r, value);
	} else if (strcasecmp(name, "docker-content-digest") == 0) {
		if (oci_digest_parse(value, &r->digest, &ignored) < 0)
			r->digest = (struct oci_digest){0};
	} else if (strcasecmp(name, "location") == 0) {
		free(r->location);
		r->location = strlen(value) < RESPONSE_LOCATION_MAX ? xstrdup(value) : NULL;
	} else if (strcasecmp(name, "www-authenticate") == 0) {
		challenge_parse(value, &r->challenges, &ignored);
	}
}

int response_line(struct response *r, const char *line, size_t size, struct error *err)
{
	r->bytes += size;
	r->lines++;
	if (r->bytes > RESPONSE_BYTES_MAX || r->lines > RESPONSE_LINES_MAX)
		return error_set(err, ERROR_LIMIT,
			"the head of the answer is over the limit of 64 KiB and 200 lines");
	while (size && strchr("\r\n \t", line[size - 1]))
		size--;
	// Fields behind the body (trailers) have nothing to tell us.
	if (r->complete)
		return 0;
	cleanup_free char *text = xstrndup(line, size);
	if (starts_with(text, "HTTP/")) {
		status_line(r, text);
		return 0;
	}
	if (size == 0) {
		r->complete = r->status >= 200;
		return 0;
	}
	char *colon = strchr(text, ':');
	if (!colon)
		return 0;
	*colon = '\0';
	field(r, text, colon + 1 + strspn(colon + 1, " \t"));
	return 0;
}
