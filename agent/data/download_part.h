// SPDX-License-Identifier: Apache-2.0
//
// A download that is not complete: the bytes so far, and a note beside them of what they are the
// beginning of. Held by one flight at a time (its lock), so there is no other writer. Bytes are
// written in order and never before what they belong to is known, so that whatever a killed process
// leaves is a beginning, or is recognised as nothing.
#pragma once

#include "agent/data/download_hash.h"
#include "agent/data/download_head.h"
#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>

enum { DOWNLOAD_PART_WRITE = 256 * 1024 };

struct download_part {
	int folder_fd; // not owned
	char name[65];
	const char *url; // not owned
	int fd;
	uint64_t have;	// with what is gathered
	char *gathered; // the last bytes, which are not in the file yet; DOWNLOAD_PART_WRITE
	size_t gathered_size;
	bool sized; // the size of the whole is known:
	uint64_t size;
	char etag[RESPONSE_ETAG_MAX], last_modified[40];
	bool noted; // on disk, as above
	struct download_hash hash;
};

// What is read from outside of the folder, before a process gives up the right to.
void download_part_prepare(void);
// Open or make. What was broken off is taken up if the note fits: of this URL, and, since after a
// crash of the machine pages may be missing in the middle of a file, of this boot, unless the hash
// of the whole is known (`checked`).
int download_part_open(int folder_fd, const char *name, const char *url, bool checked,
	struct download_part *p, struct error *err);
void download_part_release(struct download_part *p); // the files stay; fine on a zeroed one
// Begin again: what follows is the beginning of what this answer is of.
int download_part_restart(
	struct download_part *p, const struct download_head *of, struct error *err);
// Behind what is there, at most DOWNLOAD_PART_WRITE: gathered until there is so much. errno in
// err->sys; on failure nothing of it is taken.
int download_part_write(struct download_part *p, const void *data, size_t size, struct error *err);
// What is gathered goes into the file.
int download_part_flush(struct download_part *p, struct error *err);
// The value of If-Range that makes going on safe; NULL: there is none. A weak ETag does not do
// (RFC 9110, 13.1.5).
const char *download_part_validator(const struct download_part *p);
// Cut the last byte off: asking for it tells whether the rest is still of the same.
int download_part_step_back(struct download_part *p, struct error *err);
// Remove both files; the descriptor stays.
void download_part_remove(struct download_part *p);
// "…/<name>.json"
// What stands in notes and records for an address: its query may be a credential.
void download_url_digest(const char *url, char hex[65]);
void download_part_note_name(const char *name, char note[80]);
