// SPDX-License-Identifier: Apache-2.0
//
// What is at the destination, as far as this node knows: an entry for each file, folder and link,
// in memory (about 200 bytes and the path each; a million take a quarter of a gigabyte), and in
// <run>/upload.journal, to which a record is appended after each thing done. Records carry their
// length and a CRC; what a kill cut off at the end is dropped. When it has grown to twice what it
// says it is written anew, by rename.
//
// What it says is a memory, not the truth: after a restart sizes and times at the destination are
// compared with it, and what differs, or was written before the machine last started, is hashed
// there.
#pragma once

#include "agent/data/outputs_target.h"
#include "base/buffer.h"
#include "base/sha256.h"

#include <stddef.h>

// Names and chunks are the job's: what is kept of them is bounded, too.
enum {
	OUTPUTS_ENTRIES_MAX = 4 * 1000 * 1000,
	OUTPUTS_NAMES_MAX = 1024 * 1024 * 1024, // bytes of all paths
	OUTPUTS_CHUNKS_MAX = 4 * 1024 * 1024,	// of all files: 16 TiB, 128 MiB here
};

// A file of the job as it was when it was read.
struct outputs_identity {
	uint64_t ino, size;
	int64_t born_ns, mtime_ns, ctime_ns; // born 0: the file system does not say
	mode_t mode;
};

enum outputs_content_flags {
	OUTPUTS_PRESENT = 1 << 0, // it is at the destination
	OUTPUTS_WHOLE = 1 << 1,	  // `digest` is known
	OUTPUTS_SETTLED = 1 << 2, // it was at rest when it was read: see outputs_send.c
	OUTPUTS_SUSPECT = 1 << 3, // something is there, but what it is must be seen
};

struct outputs_content {
	struct outputs_identity sent; // size: at the destination
	uint8_t digest[SHA256_SIZE];
	uint8_t (*chunks)[SHA256_SIZE]; // of files of several chunks; else `digest` is it
	uint32_t chunk_count;		// of `chunks`
	unsigned flags;
	char *link; // the text of a link
};
void outputs_content_release(struct outputs_content *c); // and zeroes

struct outputs_entry {
	char *path;
	struct outputs_content content;
	enum outputs_kind kind; // at the destination, if present
	enum outputs_kind want; // in the run's folder
	uint64_t size;		// as the walk found it
	uint32_t seen;		// the round in which the walk met it
	bool changed;		// the walk found another state than what was sent
	bool replaced;		// another file has its name now
	bool closed;		// a folder that could not be read: what was sent of it stays
	bool moved;		// found elsewhere in this round
	bool watched;		// a folder, by inotify
	bool dead;		// in the table only
};

struct outputs_index {
	struct outputs_entry **entries; // folders before what they hold; some may be dead
	size_t count, capacity, dead;
	size_t names;	 // bytes of the paths of all of them
	uint32_t *slots; // of entries, plus 1; 0: empty
	size_t slot_count;
	int run_fd, journal_fd;
	struct buffer pending;
	uint64_t journal_size, live_size;
	char boot_id[40];
	uint8_t destination[SHA256_SIZE]; // which one it is about
	uint64_t identity[2];
	bool has_identity;
};

// Read <run>/upload.journal. One about another destination is forgotten. Entries from before the
// last start of the machine are suspect. run_fd must stay open.
int outputs_index_open(
	struct outputs_index *x, int run_fd, const char *destination, struct error *err);
void outputs_index_release(struct outputs_index *x);
struct outputs_entry *outputs_index_find(const struct outputs_index *x, const char *path);
// The entry of the path, made if need be. NULL: there are too many.
struct outputs_entry *outputs_index_add(struct outputs_index *x, const char *path);
// It is at the destination no more: noted, and the content is empty.
int outputs_index_gone(struct outputs_index *x, struct outputs_entry *e, struct error *err);
// Forget an entry that is not there either.
void outputs_index_drop(struct outputs_index *x, struct outputs_entry *e);
// Note what is now at the destination; chunks from `first` on are written, those before are as
// noted before.
int outputs_index_note(
	struct outputs_index *x, struct outputs_entry *e, uint32_t first, struct error *err);
int outputs_index_flush(struct outputs_index *x, struct error *err);
// Drop dead entries and write the journal anew where that is worth it. Pointers to entries end.
int outputs_index_tidy(struct outputs_index *x, struct error *err);
// Which folder the destination is.
int outputs_index_identify(struct outputs_index *x, const uint64_t id[2], struct error *err);
