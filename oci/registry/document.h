// SPDX-License-Identifier: Apache-2.0
//
// Small things that are fetched into memory: manifests, image configurations; or only looked at
// (HEAD).
#pragma once

#include "base/buffer.h"
#include "oci/image/digest.h"
#include "oci/registry/request.h"

enum document_kind { DOCUMENT_MANIFEST, DOCUMENT_MANIFEST_HEAD, DOCUMENT_BLOB };

struct document; // frees itself at its end

// Called once. On success `body` is complete and `digest` its own, checked where one was asked for;
// for DOCUMENT_MANIFEST_HEAD `body` is empty and `digest` what the registry says, or empty.
typedef void document_fn(void *data, const struct buffer *body, const struct oci_digest *digest,
	const char *media_type, const struct error *err);

// `target` is a tag or a digest. Bodies over `limit` bytes are ERROR_LIMIT.
struct document *document_start(struct registry_client *c, enum document_kind kind,
	const char *target, size_t limit, document_fn *fn, void *data);
