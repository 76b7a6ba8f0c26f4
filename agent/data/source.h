// SPDX-License-Identifier: Apache-2.0
//
// Where a job's input comes from and how it is shown: one entry of `inputs` in job.yaml. Plain
// data; what is done with it is in data.h.
#pragma once

#include "base/arena.h"
#include "base/json_decode.h"

#include <stdbool.h>
#include <stdint.h>

enum {
	DATA_FILES_MAX = 10000,	       // of one input
	DATA_INLINE_MAX = 1024 * 1024, // bytes
	DATA_OPTIONS_MAX = 64,	       // of a mount or its helper
	DATA_URL_MAX = 8192,
	DATA_SECONDS_DEFAULT = 24 * 3600, // for all of one input, if not given
};

enum data_kind {
	DATA_BIND, // a folder or file of the node
	DATA_HTTP, // files of http or https servers
	DATA_OCI,  // an image's tree, or an artifact's files, in a registry
	DATA_FUSE, // by a helper program: rclone, s3fs, mount-s3, blobfuse2
	DATA_NFS,
	DATA_CIFS,
	DATA_FSIMAGE, // a squashfs or EROFS file, mounted
	DATA_INLINE,  // the bytes stand in the job
	DATA_KINDS,
};

enum data_mode {
	DATA_RO_MOUNT, // the default, but for http: that is always brought here first
	DATA_RW_MOUNT,
	DATA_DOWNLOAD, // all of it is on this disk before the script starts; read-only
	DATA_DIRECT,   // nothing is mounted: the script gets the address
	DATA_MODES,
};

enum data_unpack {
	DATA_UNPACK_NONE,
	DATA_UNPACK_AUTO, // by the name and the first bytes
	DATA_UNPACK_TAR,  // plain, gzip, zstd, xz or bzip2
	DATA_UNPACK_ZIP,
};

// How a file without a checksum is taken from the cache.
enum data_cache_use {
	DATA_CACHE_REVALIDATE, // ask whether it has changed (ETag, Last-Modified); the default
	DATA_CACHE_PINNED,     // what is here is right
	DATA_CACHE_OFF,	       // always anew
};

struct data_file {
	const char *url;
	const char *name;   // below the target, "a/b.bin"; NULL: the URL's last component
	const char *sha256; // 64 hex digits; NULL: not known
	uint64_t size;	    // 0: not known
};

// Members that do not belong to the kind are NULL or 0.
struct data_source {
	const char *name;   // [A-Za-z_][A-Za-z0-9_]*, unique, 64 characters at most
	const char *target; // in the container; /stoker/inputs/NAME if not given
	enum data_kind kind;
	enum data_mode mode;
	bool optional; // missing is no failure: there is an empty folder then
	bool writable; // DATA_DOWNLOAD: a private copy that the job may change
	bool no_exec;
	enum data_unpack unpack;
	enum data_cache_use cache;
	uint64_t max_bytes;   // of the download, and of what is unpacked; 0: the node's
	uint64_t max_seconds; // for all of it

	const char
		*path; // bind: on the node, absolute once loaded; fsimage: the file, if not files
	struct data_file *files; // http; fsimage: one
	size_t file_count;
	const char *reference; // oci

	// fuse, nfs, cifs
	const char *profile; // fuse: "rclone", "s3fs", "mount-s3", "blobfuse2", "custom"
	const char *remote;  // fuse: "remote:path", "bucket/prefix"; nfs: "server:/export"; cifs:
			     // "//server/share/path"
	struct json_pairs options;   // of the mount, or of the helper's command line (without "--")
	struct json_pairs variables; // fuse: of the helper's environment
	struct json_strings command; // fuse, profile custom: {fd} or {mountpoint} is replaced
	const char *user, *password_secret; // cifs; the second names one of the job's `secrets`

	const char *content; // inline
	size_t content_size;
};

const char *data_kind_name(enum data_kind kind); // "http"
const char *data_mode_name(enum data_mode mode); // "ro_mount"
// What the script gets for the input: the target, or in DATA_DIRECT the address.
const char *data_source_reference(const struct data_source *s);
// One entry of `inputs`; a json_decode_fn: target is struct data_source. Checks all that can be
// checked without looking outside: members of other kinds, modes a kind does not have, names, URLs
// with a user and password in them (secrets are for that), targets.
json_decode_fn data_source_decode;
json_decode_fn data_name_decode; // const char *: letters, digits and '_', no digit first

// What is wrong with an http or https address: "must begin with http:// or https://"; NULL:
// nothing. A user or a password in it is wrong, too.
const char *data_url_complaint(const char *url);

// The keys of an input and of one of its files, and the words that some of them take: for programs
// that want to know them (docs/job.schema.json is checked against these).
extern const struct json_field data_source_fields[], data_file_fields[];
struct data_words {
	const char *key;
	const char *const *words; // NULL-terminated
};
extern const struct data_words data_source_words[];
// The index of the word that stands there, else "must be a, b or c".
int data_word_decode(struct json_decoder *d, const struct json *value, const char *const *words,
	unsigned *index, struct error *err);
