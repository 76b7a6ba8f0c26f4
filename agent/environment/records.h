// SPDX-License-Identifier: Apache-2.0
//
// What a node knows of environments, <state>/environments/:
//
//   <E>.json            an environment: E, its lock, its base, the derived image's reference and
//                       layer digest, size, times, who built it; when it was last used is the
//                       file's modification time
//   requests/<R>.json   what a request became: E, its image's configuration and when it was
//                       resolved; or how it failed, until when that is believed
//   locks/<R>           single flight (flock)
//   tools/<image>.json  what an image offers (tools.h)
//   build/<random>/     under way; locked by its maker, swept when he is gone
//
// Every file appears by rename after fsync; one that is damaged is as good as none. The layers and
// documents are the store's: a record whose image was evicted is no environment any more, but its
// lock says how to build it again.
#pragma once

#include "agent/environment/environment.h"
#include "agent/environment/lock.h"

struct environment_record {
	const char *key;
	const char *reference;		   // of the derived image in the store
	const char *base;		   // reference of the base, for people
	const char *base_manifest, *layer; // digests
	uint64_t bytes;			   // of the layer
	int64_t created_ms, used_ms;
	const char *origin;		// "built", or the reference it was pulled from
	const char *lock;		// its text
	struct json_strings activation; // "K=V", what was put into the image's Env
};

enum { ENVIRONMENT_RECORD_BYTES_MAX = 2 * LOCK_BYTES_MAX };

// `used_ms` is not written: it is now.
int environment_record_write(
	struct store *s, const struct environment_record *r, struct error *err);
void environment_record_touch(struct store *s, const char *key); // used now
int environment_record_read(struct store *s, struct arena *a, const char *key,
	struct environment_record *r, struct error *err); // ERROR_NOT_FOUND
int environment_record_list(struct store *s, struct arena *a, struct environment_record **records,
	size_t *count, struct error *err); // newest first
// Its derived image goes as well; ERROR_UNAVAILABLE while a job uses it.
int environment_record_remove(struct store *s, const char *key, struct error *err);
// Remove those that were not used for so long; 0: none. A failure is the next one's.
void environment_records_expire(struct store *s, uint64_t keep_for_ms);
// An abbreviated key (at least 4 digits) in full. ERROR_NOT_FOUND, ERROR_INVALID: several.
int environment_record_resolve(
	struct store *s, const char *text, char key[ENVIRONMENT_KEY_SIZE], struct error *err);

struct environment_answer {		// of a request
	char key[ENVIRONMENT_KEY_SIZE]; // ""
	// Digest of the image's configuration, which names all layers and what activation sets. A
	// lock says what was asked for, and not what the code of packages made of it during the
	// build: a stranger's request may lead to the same lock with other files. Only those that
	// were made for this request are its answer. Arena.
	const char *config;
	int64_t resolved_ms;		  // 0: not known, another node has
	enum environment_failure failure; // ENVIRONMENT_OK, or how it failed
	int64_t until_ms;		  // as long as that is believed
	const char *text, *evidence;	  // of the failure; arena
};
int environment_answer_write(struct store *s, const char *request_key,
	const struct environment_answer *x, struct error *err);
// 1, 0 (never asked, or forgotten), -1. A damaged record is as good as none.
int environment_answer_read(struct store *s, struct arena *a, const char *request_key,
	struct environment_answer *x, struct error *err);
// The keys of the requests that led to an environment, as far as they are remembered; to that image
// of it, unless `config` is NULL.
int environment_requests_of(struct store *s, struct arena *a, const char *key, const char *config,
	struct json_strings *requests, struct error *err);

// The right to build a request: 0 with the lock, 1 another process has it (try again later), -1.
// Close the descriptor to give it up.
int environment_lock_take(struct store *s, const char *request_key, int *fd, struct error *err);

// A folder to build in, locked by the descriptor (of the folder itself, which may be handed on);
// its absolute path, owned by the caller. It goes with environment_build_remove(), or is swept once
// no process holds the descriptor.
int environment_build_folder(struct store *s, int *fd, char **path, struct error *err);
int environment_build_remove(struct store *s, const char *path, struct error *err);
// Folders of builders that are gone, locks that nobody holds, answers that are believed no more.
void environment_build_sweep(struct store *s);

// What an image offers, by the hexadecimal digits of its manifest's digest: a document of tools.h.
int environment_tools_write(
	struct store *s, const char *image_hex, const void *data, size_t size, struct error *err);
// Appended to `b`. 1, 0 (not known), -1.
int environment_tools_read(
	struct store *s, const char *image_hex, struct buffer *b, struct error *err);
