// SPDX-License-Identifier: Apache-2.0
//
// One new object, from bytes as they come: below 8 MiB by one request, above in parts of that size,
// of which one is in memory. It is a stray until pieces_put().
#pragma once

#include "controller/files/pieces.h"
#include "controller/files/s3.h"

enum { OBJECT_PART = 8 * 1024 * 1024, OBJECT_MAX = 64 * OBJECT_PART };

struct object_writer;

struct object_writer *object_writer_new(struct s3 *s3, struct database *db);
// At most OBJECT_MAX bytes in all.
int object_writer_add(struct object_writer *w, const void *data, size_t size, struct error *err);
uint64_t object_writer_size(const struct object_writer *w);
// All of it is in the store. `p` gets size, object and the hashes, which are the writer's.
int object_writer_end(struct object_writer *w, struct piece *p, struct error *err);
// `kept`: pieces_put() was told of it; else the object will be removed. NULL is fine.
void object_writer_free(struct object_writer *w, bool kept);

// Where an object is: "ab/abcdef…".
enum { OBJECT_KEY_SIZE = BLOB_ID_SIZE + 4 };
void object_key(const char *name, char key[OBJECT_KEY_SIZE]);
