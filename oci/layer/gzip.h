// SPDX-License-Identifier: Apache-2.0
//
// A gzip stream (RFC 1952) of any number of members, inflated by ISA-L. The member headers are read
// here and not by ISA-L, whose parser forgets the flags when the input ends inside a header.
//
// Behind the last member zero bytes are padding, as gzip(1) has it; anything else is refused, as
// Go's reader (and so Docker) does: the digest would cover bytes that nobody ever looks at.
#pragma once

#include "base/error.h"
#include "base/memory.h"

#include <stdbool.h>
#include <stddef.h>

struct gzip_reader;

struct gzip_reader *gzip_reader_new(void);
void gzip_reader_free(struct gzip_reader *g);

// As decompressor_run(). Every failure is ERROR_INTEGRITY and names the offset in the compressed
// stream.
int gzip_reader_run(struct gzip_reader *g, const void *in, size_t in_size, size_t *in_used,
	bool end, void *out, size_t out_size, size_t *out_used, struct error *err);

DEFINE_CLEANUP(gzip_reader_free, struct gzip_reader *, gzip_reader_free)
