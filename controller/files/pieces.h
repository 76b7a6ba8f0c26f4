// SPDX-License-Identifier: Apache-2.0
//
// The table of a store of objects: which bytes of a blob are in which object, and those at its end
// that are too few for one in the table itself. A change is one transaction that says what it found
// before: of two controllers that change the same, one is refused (ERROR_UNAVAILABLE), so no lock
// outlives anybody (docs/adr/0019-appends-on-s3.md).
#pragma once

#include "controller/database/database.h"
#include "controller/files/blobs.h"

enum { PIECE_BLOCK = 1024 * 1024 }; // bytes of an object that have a hash of their own

struct piece {
	uint64_t start, size;
	const char *object; // its name; NULL: the bytes are here
	const void *data;   // the bytes, or the SHA-256 of each block of the object
	size_t data_size;
};

// What the end of a blob looks like.
struct pieces_end {
	uint64_t size;	     // of the blob; 0: there is none
	uint64_t tail_start; // of the bytes that are in the table; size: there are none
	size_t tail_rows;
	size_t small_objects; // in a row, before the tail; at most some 100 are counted
	uint64_t small_bytes;
};
// Objects below this are joined when there are many.
enum { PIECE_SMALL = 8 * 1024 * 1024 };
int pieces_look(struct database *db, const char *blob, struct pieces_end *end, struct error *err);

// The pieces from the one that has byte `offset` on, in order; at most `max`. *count 0: the blob
// ends before.
int pieces_find(struct database *db, struct arena *a, const char *blob, uint64_t offset, size_t max,
	struct piece **pieces, size_t *count, struct error *err);
// Small ones (objects below PIECE_SMALL, and bytes in the table) in order, at most `max`, behind
// `start`; without their data.
int pieces_find_small(struct database *db, struct arena *a, const char *blob, uint64_t start,
	size_t max, struct piece **pieces, size_t *count, struct error *err);

struct pieces_change {
	const char *blob;
	bool appends;
	uint64_t size; // of the blob before, when it appends
	// What the new piece takes the place of: so many that begin in [from, to).
	uint64_t from, to;
	size_t replaced;
	struct piece piece;
};
int pieces_put(struct database *db, const struct pieces_change *change, struct error *err);
// Of a whole blob: its objects become strays.
int pieces_remove(struct database *db, const char *blob, struct error *err);
