// SPDX-License-Identifier: Apache-2.0
//
// Decompression of a layer blob: gzip (RFC 1952, several members) by ISA-L, zstd (RFC 8878, several
// frames, skippable frames) by libzstd, or none. Chosen by the first bytes, not by the media type,
// which registries get wrong.
#pragma once

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct decompressor;

struct decompressor *decompressor_new(void);
void decompressor_free(struct decompressor *d);

// Consume from in (advances *in_used) and produce into out (sets *out_used), as much as possible of
// either. `end` says that no more input follows: a stream cut short is ERROR_INTEGRITY ("gzip
// stream is truncated"). Returns 1 when all input was consumed and everything is out at the end, 0
// to be called again, -1 on error. Zstd windows over 128 MiB are ERROR_LIMIT.
int decompressor_run(struct decompressor *d, const void *in, size_t in_size, size_t *in_used,
	bool end, void *out, size_t out_size, size_t *out_used, struct error *err);
