// SPDX-License-Identifier: Apache-2.0
#include "base/log.h"
#include "base/text.h"
#include "controller/http/internal.h"

#include <unistd.h>

// Of a stream: how much is asked for at a time.
enum { STREAM_BLOCK = 32 * 1024 };

struct stream {
	struct reply_stream source;
	struct request_internal *request;
	bool done;
};

void reply_header(struct request *r, const char *name, const char *value)
{
	struct reply_header_list *h = arena_new(&r->arena, struct reply_header_list);
	h->name = arena_strdup(&r->arena, name);
	h->value = arena_strdup(&r->arena, value);
	h->next = r->internal->headers;
	r->internal->headers = h;
}

void reply_drop(struct request_internal *q)
{
	q->stream = NULL;
	q->headers = NULL;
	if (q->response)
		MHD_destroy_response(steal(q->response));
}

static int reply_set(
	struct request_internal *q, int status, struct MHD_Response *response, struct error *err)
{
	if (!response)
		return error_set(err, ERROR_SYSTEM, "a response cannot be made");
	if (q->response)
		MHD_destroy_response(q->response);
	q->response = response;
	q->status = status;
	return 0;
}

static int reply_bytes(
	struct request *r, int status, struct buffer *b, const char *media_type, struct error *err)
{
	size_t size = b->size;
	metrics_sent(r->internal->server->metrics, size);
	struct MHD_Response *response =
		MHD_create_response_from_buffer(size, buffer_steal(b), MHD_RESPMEM_MUST_FREE);
	if (media_type)
		reply_header(r, "Content-Type", media_type);
	return reply_set(r->internal, status, response, err);
}

int reply_json(struct request *r, int status, struct json_writer *w, struct error *err)
{
	cleanup_buffer struct buffer b = {0};
	if (json_writer_finish(w, &b, err) < 0)
		return -1;
	buffer_putc(&b, '\n');
	return reply_bytes(r, status, &b, "application/json", err);
}

int reply_text(
	struct request *r, int status, struct buffer *b, const char *media_type, struct error *err)
{
	return reply_bytes(r, status, b, media_type, err);
}

int reply_empty(struct request *r, int status, struct error *err)
{
	struct buffer b = {0};
	return reply_bytes(r, status, &b, NULL, err);
}

int reply_file(struct request *r, int status, int fd, uint64_t offset, uint64_t size,
	const char *media_type, struct error *err)
{
	reply_header(r, "Content-Type", media_type);
	if (size == 0) {
		close(fd);
		return reply_empty(r, status, err);
	}
	metrics_sent(r->internal->server->metrics, size);
	struct MHD_Response *response = MHD_create_response_from_fd_at_offset64(size, fd, offset);
	if (!response)
		close(fd);
	return reply_set(r->internal, status, response, err);
}

static void stream_done(struct stream *s)
{
	if (!s->done && s->source.done)
		s->source.done(s->source.data);
	s->done = true;
}

static void stream_free(void *data)
{
	struct stream *s = data;
	stream_done(s);
	free(s);
}

// Nothing to say is no reason to end it, a client that does not take what was said is: the limit of
// silence runs from the last piece.
static ssize_t stream_next(void *data, uint64_t position, char *buffer, size_t size)
{
	struct stream *s = data;
	struct request_internal *q = s->request;
	(void)position;
	request_patience(q, true);
	int64_t n = s->source.next(s->source.data, buffer, size);
	if (n == -1)
		return MHD_CONTENT_READER_END_OF_STREAM;
	if (n < 0 || (n == 0 && (q->server->stopping || !request_is_alive(&q->request))))
		return MHD_CONTENT_READER_END_WITH_ERROR;
	if (n > 0) {
		metrics_sent(q->server->metrics, (uint64_t)n);
		request_patience(q, false);
	}
	return (ssize_t)n;
}

int reply_stream(struct request *r, const struct reply_stream *source, struct error *err)
{
	struct stream *s = xcalloc(1, sizeof(*s));
	*s = (struct stream){.source = *source, .request = r->internal};
	uint64_t size = source->size == UINT64_MAX ? MHD_SIZE_UNKNOWN : source->size;
	struct MHD_Response *response =
		MHD_create_response_from_callback(size, STREAM_BLOCK, stream_next, s, stream_free);
	if (!response)
		stream_free(s);
	reply_header(r, "Content-Type", source->media_type);
	if (reply_set(r->internal, source->status, response, err) < 0)
		return -1;
	r->internal->stream = s;
	return 0;
}

void reply_end_stream(struct request_internal *q)
{
	if (q->stream)
		stream_done(q->stream);
}

enum MHD_Result reply_send(struct request_internal *q)
{
	struct MHD_Response *response = steal(q->response);
	// What users upload is not to be taken for something else by a browser, nor kept by a
	// cache.
	MHD_add_response_header(response, "X-Content-Type-Options", "nosniff");
	MHD_add_response_header(response, "Cache-Control", "no-store");
	for (const struct reply_header_list *h = q->headers; h; h = h->next)
		if (MHD_add_response_header(response, h->name, h->value) != MHD_YES)
			log_warning("a header of an answer was refused: %s", h->name);
	if (q->must_close || q->server->stopping)
		MHD_add_response_header(response, "Connection", "close");
	enum MHD_Result rc = MHD_queue_response(q->mhd, (unsigned)q->status, response);
	MHD_destroy_response(response); // MHD holds it
	return rc;
}
