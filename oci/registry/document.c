// SPDX-License-Identifier: Apache-2.0
#include "oci/registry/document.h"

#include "base/text.h"
#include "oci/image/manifest.h"

struct document {
	enum document_kind kind;
	size_t limit;
	struct oci_digest wanted; // empty: a tag was asked for
	struct buffer body;
	struct oci_digest digest;
	char media_type[sizeof(((struct response *)0)->media_type)];
	document_fn *fn;
	void *data;
};

static int too_large(const struct document *d, struct error *err)
{
	return error_set(err, ERROR_LIMIT, "the %s is over the limit of %zu bytes",
		d->kind == DOCUMENT_BLOB ? "document" : "manifest", d->limit);
}

static int on_begin(void *data, const struct response *r, struct error *err)
{
	struct document *d = data;
	buffer_clear(&d->body);
	if (r->status != 200)
		return error_set(err, ERROR_INVALID, "unexpected answer %d", r->status);
	if (d->kind != DOCUMENT_MANIFEST_HEAD && r->has_length && r->length > d->limit)
		return too_large(d, err);
	return 0;
}

static int on_body(void *data, const char *bytes, size_t size, struct error *err)
{
	struct document *d = data;
	if (size > d->limit - d->body.size)
		return too_large(d, err);
	buffer_append(&d->body, bytes, size);
	return 0;
}

static int on_end(void *data, const struct response *r, struct error *err)
{
	struct document *d = data;
	memcpy(d->media_type, r->media_type, sizeof(d->media_type));
	if (d->kind == DOCUMENT_MANIFEST_HEAD) {
		d->digest = r->digest;
		return 0;
	}
	d->digest = oci_digest_of(d->body.size ? d->body.data : "", d->body.size);
	if (*d->wanted.text && !oci_digest_equal(&d->digest, &d->wanted))
		return error_set(err, ERROR_INTEGRITY, "%s has the digest %s", d->wanted.text,
			d->digest.text);
	if (d->kind == DOCUMENT_MANIFEST && *r->digest.text &&
		!oci_digest_equal(&d->digest, &r->digest))
		return error_set(err, ERROR_INTEGRITY,
			"the registry promised the manifest %s and sent %s", r->digest.text,
			d->digest.text);
	return 0;
}

static void on_done(void *data, const struct error *err)
{
	struct document *d = data;
	d->fn(d->data, &d->body, &d->digest, d->media_type, err);
	buffer_release(&d->body);
	free(d);
}

static const struct request_events document_events = {on_begin, on_body, on_end, NULL, on_done};

struct document *document_start(struct registry_client *c, enum document_kind kind,
	const char *target, size_t limit, document_fn *fn, void *data)
{
	struct document *d = xcalloc(1, sizeof(*d));
	struct error ignored;
	d->kind = kind;
	d->limit = limit;
	d->fn = fn;
	d->data = data;
	if (oci_digest_parse(target, &d->wanted, &ignored) < 0)
		d->wanted = (struct oci_digest){0};
	cleanup_free char *resource =
		xasprintf("%s/%s", kind == DOCUMENT_BLOB ? "blobs" : "manifests", target);
	request_start(c,
		&(struct request_options){
			.method = kind == DOCUMENT_MANIFEST_HEAD ? TRANSFER_HEAD : TRANSFER_GET,
			.resource = resource,
			.accept = kind == DOCUMENT_BLOB ? NULL : oci_manifest_accept,
		},
		&document_events, d);
	return d;
}
