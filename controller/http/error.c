// SPDX-License-Identifier: Apache-2.0
#include "base/log.h"
#include "base/text.h"
#include "controller/http/internal.h"

static const struct {
	const char *code;
	int status;
} codes[] = {
	{"unauthenticated", 401},
	{"conflict", 409},
	{"stale", 409},
	{"ended", 409},
	{"digest_mismatch", 409},
	{"too_large", 413},
	{"offset", 416},
	{"rate_limited", 429},
};

static const char *code_of_kind(enum error_kind kind, int *status)
{
	switch (kind) {
	case ERROR_INVALID:
		*status = 400;
		return "invalid";
	case ERROR_NOT_FOUND:
		*status = 404;
		return "not_found";
	case ERROR_DENIED:
		*status = 403;
		return "denied";
	case ERROR_INTEGRITY:
		*status = 409;
		return "digest_mismatch";
	case ERROR_LIMIT:
		*status = 413;
		return "too_large";
	case ERROR_UNAVAILABLE:
		*status = 503;
		return "unavailable";
	default:
		*status = 500;
		return "internal";
	}
}

static const char *code_of(const struct request_internal *q, int *status)
{
	const char *code = q->request.code;
	if (!code && q->error.kind == ERROR_DENIED && streq(q->error.text, "stale"))
		code = "stale"; // access_run() says it so
	if (!code)
		return code_of_kind(q->error.kind, status);
	*status = 400;
	for (size_t i = 0; i < array_size(codes); i++)
		if (streq(code, codes[i].code))
			*status = codes[i].status;
	return code;
}

static void add_headers(struct request_internal *q, int status)
{
	struct request *r = &q->request;
	if (status == 401)
		reply_header(r, "WWW-Authenticate", "Bearer");
	if (status == 416)
		reply_header(r, "Upload-Offset",
			arena_printf(&r->arena, "%llu", (unsigned long long)r->offset));
	if (status == 429 || status == 503)
		reply_header(r, "Retry-After",
			arena_printf(&r->arena, "%lld",
				(long long)(q->retry_after_ms + 999) / 1000 ?: 1LL));
}

// What went wrong inside is for the log: it may name files and servers.
static const char *message_of(const struct request_internal *q, int status)
{
	if (status < 500)
		return streq(q->error.text, "stale") ? "the attempt is over, or another's"
						     : q->error.text;
	log_error("%s: %s", q->route ? q->route->pattern : "request", q->error.text);
	return status == 503 ? "try again later" : "the controller failed; its log says why";
}

void reply_error(struct request_internal *q)
{
	int status;
	struct request *r = &q->request;
	const char *code = code_of(q, &status);
	if (q->error_status)
		status = q->error_status;
	const char *message = message_of(q, status);
	struct reply_header_list *kept = q->error_status ? q->headers : NULL; // Allow
	reply_drop(q);
	q->headers = kept;
	add_headers(q, status);
	cleanup_json_writer struct json_writer *w = json_writer_new(false);
	json_write_open_object(w);
	json_write_key(w, "error");
	json_write_open_object(w);
	json_write_member(w, "code", code);
	json_write_member(w, "message", message);
	if (status == 416)
		json_write_member_unsigned(w, "offset", r->offset);
	json_write_close_object(w);
	json_write_close_object(w);
	struct error ignored;
	if (reply_json(r, status, w, &ignored) < 0)
		abort(); // texts of errors are UTF-8
}
