// SPDX-License-Identifier: Apache-2.0
//
// What the files of oci/store share and nobody else needs: names, locks, removal.
#pragma once

#include "base/arena.h"
#include "base/file.h"
#include "oci/store/entries.h"
#include "oci/store/measure.h"
#include "oci/store/store.h"

#include <sys/types.h>

enum { STORE_NAME_MAX = 80 };

// "<hex>.erofs" or "<hex>.directory".
const char *store_layer_name(
	const struct oci_digest *diff_id, enum layer_format format, char name[STORE_NAME_MAX]);
// The reverse. false: not a layer's name.
bool store_layer_name_parse(
	const char *name, struct oci_digest *diff_id, enum layer_format *format);

// Make `name` in the folder hold these bytes: by tmp/, fsync, rename, fsync of the folder. What a
// killed process leaves lies in tmp/, where the sweep finds it.
int store_file_put(struct store *s, int dirfd, const char *folder, const char *name,
	const void *data, size_t size, struct error *err);

// A fresh entry in tmp/, locked (LOCK_SH, which is enough against the sweep).
int store_temporary(struct store *s, bool folder, int *fd, char name[64], struct error *err);
// Remove what is in tmp/ and what is in locks/ that no process holds.
void store_sweep(struct store *s);

// Remove a layer that nobody leases or pins. Returns 1 when removed (*size: what it took on disk),
// 0 when it is in use or gone, -1 on error. `dry_run`: only find out.
int store_layer_remove(struct store *s, const struct oci_digest *diff_id, enum layer_format format,
	bool dry_run, struct store_size *size, struct error *err);

// Remove a broken-off download; as store_layer_remove().
int store_part_prune(struct store *s, const char *name, bool dry_run, struct store_size *size,
	struct error *err);
// Remove documents that no image record names; leaves all of them while somebody pulls.
int store_documents_prune(struct store *s, struct error *err);

// The file name of an image's record.
const char *store_image_name(const struct oci_reference *reference, char name[STORE_NAME_MAX]);
// Held shared while a record is written, exclusively while somebody decides which layers no image
// needs and removes them: else an image recorded in between, by a process that then gives up its
// leases, would lose layers. Waits.
int store_images_lock(struct store *s, int operation, int *fd, struct error *err);
// One record by its file name. ERROR_NOT_FOUND, ERROR_INTEGRITY (not one of ours).
int store_image_read(
	struct store *s, const char *name, struct store_image *image, struct error *err);

// What all layers take.
int store_layers_size(struct store *s, struct store_size *sum, uint64_t *count, struct error *err);

struct store_space {
	uint64_t bytes, inodes; // free, for us
	uint64_t inodes_in_all; // 0: the file system has no fixed number
};
int store_free_space(struct store *s, struct store_space *space, struct error *err);
