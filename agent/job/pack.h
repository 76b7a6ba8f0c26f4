// SPDX-License-Identifier: Apache-2.0
//
// Structures as bytes, from one process of ours to another that runs the same program file: no
// versions, and texts of any bytes (arguments and variables need not be UTF-8, as JSON would have
// it). One function lists a structure's members, for both directions:
//
//   static void pack_thing(struct pack *p, struct thing *t)
//   {
//           pack_text(p, &t->name);
//           pack_number(p, &t->size);
//   }
#pragma once

#include "base/arena.h"
#include "base/buffer.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct pack {
	struct buffer *out;   // writing: where to; NULL: reading
	const char *at, *end; // reading: what is left
	struct arena *arena;  // reading: where texts and arrays live
	bool failed;	      // reading: it was cut short, or is no such thing
};

// Plain data without pointers.
void pack_bytes(struct pack *p, void *data, size_t size);
void pack_number(struct pack *p, uint64_t *n);
void pack_text(struct pack *p, const char **s); // NULL stays NULL
// A list; the array gets a NULL behind its last item. NULL stays NULL.
void pack_texts(struct pack *p, const char ***items, size_t *count);
// Writing: the count only; returns `items`. Reading: sets the count and returns a zeroed array of
// one item more. The caller goes through the items.
void *pack_array(struct pack *p, void *items, size_t *count, size_t item_size);
