// SPDX-License-Identifier: Apache-2.0
//
// What a store of blobs has to offer; blobs.c does the rest: waiting for the writer before, hashes,
// copies.
#pragma once

#include "controller/files/blobs.h"

struct blob_store;
struct blob_handle; // of one append

struct blob_store_ops {
	int (*ping)(struct blob_store *s, struct error *err);
	int (*size)(struct blob_store *s, const char *id, uint64_t *size, struct error *err);
	// Become the blob's only writer, in this and all other processes: 0, 1 (another one is),
	// -1. *size: what is there.
	int (*begin)(struct blob_store *s, const char *id, struct blob_handle **handle,
		uint64_t *size, struct error *err);
	// Behind what is there and what was written so far.
	int (*write)(struct blob_handle *h, const void *data, size_t size, struct error *err);
	// Frees the handle, also on failure.
	int (*end)(struct blob_handle *h, bool durable, uint64_t *size, struct error *err);
	int64_t (*read)(struct blob_store *s, const char *id, uint64_t offset, void *data,
		size_t size, struct error *err);
	int (*open)(struct blob_store *s, const char *id); // -1: there is none
	int (*sync)(struct blob_store *s, const char *id, struct error *err);
	int (*remove)(struct blob_store *s, const char *id, struct error *err);
	void (*free)(struct blob_store *s);
};
struct blob_store {
	const struct blob_store_ops *ops;
};

struct blob_store *blob_folder_open(const char *path, struct error *err);
struct blob_store *blob_s3_open(const char *where, struct database *db, struct error *err);
