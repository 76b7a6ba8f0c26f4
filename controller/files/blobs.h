// SPDX-License-Identifier: Apache-2.0
//
// The bytes of files: blobs that only grow, under random names, in a folder (blobs_folder.c) or as
// objects of an S3-compatible store (blobs_s3.c). Which blob a path of a run is, is a matter of the
// tables. Many threads, and many controllers on one place, may use it; a blob has one writer at a
// time.
#pragma once

#include "base/error.h"
#include "base/sha256.h"
#include "controller/database/database.h"

#include <stdint.h>

enum { BLOB_ID_SIZE = 33 }; // 32 hexadecimal digits

struct blobs;
struct blob_writer;

// A folder, made if it is not there, or s3://… (s3_address.h), which keeps what is where in the
// database: that stays open until blobs_close(). ERROR_INVALID for the address of anything else.
struct blobs *blobs_open(const char *where, struct database *db, struct error *err);
void blobs_close(struct blobs *b);
// Does it answer and take writes? For /healthz.
int blobs_ping(struct blobs *b, struct error *err);

void blob_id_make(char id[BLOB_ID_SIZE]); // nothing is made yet: the first append does
int blob_size(struct blobs *b, const char *id, uint64_t *size, struct error *err); // 0: not there

// Begin to append behind `offset`: 0 with the writer, or 1 when the blob has another size, which is
// put into *size. Other writers of the blob wait (ERROR_UNAVAILABLE after 10 s).
int blob_append(struct blobs *b, const char *id, uint64_t offset, struct blob_writer **writer,
	uint64_t *size, struct error *err);
// So many bytes are about to be written: many are gathered, and hashed by a thread beside.
void blob_expect(struct blob_writer *w, uint64_t size);
int blob_write(struct blob_writer *w, const void *data, size_t size, struct error *err);
// End: what was written is there for all readers; *size is of the blob then. Also after a failed or
// short write: what came in order stays. Frees the writer in any case. `durable`: also after a
// power cut.
int blob_finish(struct blob_writer *w, bool durable, uint64_t *size, struct error *err);

// At most `size` bytes from `offset`; returns how many (0: nothing there yet), or -1.
int64_t blob_read(struct blobs *b, const char *id, uint64_t offset, void *data, size_t size,
	struct error *err);
// A descriptor to send from, where there is one; -1 without an error: use blob_read().
int blob_open(struct blobs *b, const char *id);
// Hash of the first `size` bytes, which must be there (else ERROR_INTEGRITY). Remembered from the
// appends where they came through this process, else read again.
int blob_sha256(struct blobs *b, const char *id, uint64_t size, char hex[SHA256_HEX_SIZE],
	struct error *err);
// Make what is there durable.
int blob_sync(struct blobs *b, const char *id, struct error *err);
// Append a range of one to another, whose size must be *at_size. 1 when it is not, as
// blob_append().
int blob_copy(struct blobs *b, const char *from, uint64_t offset, uint64_t size, const char *to,
	uint64_t *at_size, struct error *err);
int blob_remove(struct blobs *b, const char *id, struct error *err); // fine if it is not there
