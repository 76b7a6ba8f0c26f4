// SPDX-License-Identifier: Apache-2.0
//
// Bytes pulled in blocks. The pipeline stages (read, inflate, hash, parse) are chained through
// this.
#pragma once

#include "base/error.h"

#include <stddef.h>
#include <sys/types.h>

struct layer_stream {
	// The next block; valid until the next-but-(depth) call, see pipeline.h. Returns its size
	// (> 0), 0 at the end, -1 on error.
	ssize_t (*next)(struct layer_stream *s, const void **block, struct error *err);
};
