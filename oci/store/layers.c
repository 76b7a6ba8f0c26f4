// SPDX-License-Identifier: Apache-2.0
#include "base/text.h"
#include "oci/store/internal.h"
#include "oci/store/pin.h"

#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { LEASE_TRIES = 5000 }; // a millisecond apart

static const char *const layer_suffix[] = {
	[LAYER_EROFS] = ".erofs", [LAYER_DIRECTORY] = ".directory"};

const char *store_layer_name(
	const struct oci_digest *diff_id, enum layer_format format, char name[STORE_NAME_MAX])
{
	snprintf(name, STORE_NAME_MAX, "%s%s", oci_digest_hex(diff_id), layer_suffix[format]);
	return name;
}

bool store_layer_name_parse(const char *name, struct oci_digest *diff_id, enum layer_format *format)
{
	struct error ignored;
	char text[OCI_DIGEST_SIZE];
	if (strlen(name) <= 64)
		return false;
	snprintf(text, sizeof(text), "sha256:%.64s", name);
	if (oci_digest_parse(text, diff_id, &ignored) < 0)
		return false;
	for (size_t i = 0; i < array_size(layer_suffix); i++) {
		if (streq(name + 64, layer_suffix[i])) {
			*format = (enum layer_format)i;
			return true;
		}
	}
	return false;
}

int store_layer_lease(struct store *s, const struct oci_digest *diff_id, enum layer_format format,
	struct store_layer *layer, struct error *err)
{
	char name[STORE_NAME_MAX];
	store_layer_name(diff_id, format, name);
	int flags = O_RDONLY | (format == LAYER_DIRECTORY ? O_DIRECTORY : 0);
	for (int i = 0; i < LEASE_TRIES; i++) {
		cleanup_fd int fd = -1;
		struct stat st;
		int got = store_lock_open(s->layers_fd, name, flags, LOCK_SH, &fd, err);
		if (got < 0)
			return error_context(err, "layer %s", name);
		if (got == STORE_LOCK_GONE)
			return 0;
		if (got == STORE_LOCK_BUSY) {
			// Somebody looks whether it is in use, or removes it: a matter of moments.
			nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
			continue;
		}
		if (fstat(fd, &st) < 0)
			return error_set_errno(err, errno, "layer %s", name);
		*layer = (struct store_layer){
			.diff_id = *diff_id,
			.format = format,
			.bytes = format == LAYER_EROFS ? (uint64_t)st.st_blocks * 512 : 0,
			.fd = steal_fd(&fd),
		};
		return 1;
	}
	return error_set(err, ERROR_UNAVAILABLE,
		"layer %s is locked by another process that does not go on", name);
}

void store_layer_release(struct store_layer *layer)
{
	// A zeroed one must not close standard input.
	if (layer->diff_id.text[0] && layer->fd >= 0)
		close(layer->fd);
	*layer = (struct store_layer){.fd = -1};
}

// Of an open layer.
static int layer_size(int fd, enum layer_format format, struct store_size *size, struct error *err)
{
	struct stat st;
	if (format == LAYER_DIRECTORY)
		return measure_tree(fd, ".", size, err);
	if (fstat(fd, &st) < 0)
		return error_set_errno(err, errno, "measure a layer");
	*size = (struct store_size){(uint64_t)st.st_blocks * 512, 1};
	return 0;
}

int store_layer_bytes(const struct store_layer *layer, uint64_t *bytes, struct error *err)
{
	struct store_size size;
	if (layer_size(layer->fd, layer->format, &size, err) < 0)
		return error_context(err, "layer %s", layer->diff_id.text);
	*bytes = size.bytes;
	return 0;
}

int store_layer_lock(
	struct store *s, const struct oci_digest *diff_id, int *lock_fd, struct error *err)
{
	char name[STORE_NAME_MAX];
	snprintf(name, sizeof(name), "locks/%s.lock", oci_digest_hex(diff_id));
	int got = store_lock_open(s->run_fd, name, O_RDWR | O_CREAT, LOCK_EX, lock_fd, err);
	if (got < 0)
		return error_context(err, "%s", s->run_dir);
	return got == STORE_LOCKED ? 0 : 1;
}

// A folder goes to tmp/ first: what is half removed must not be found as a layer.
static int remove_folder(struct store *s, int fd, const char *name, struct error *err)
{
	struct stat st;
	char aside[STORE_NAME_MAX + 8];
	snprintf(aside, sizeof(aside), "gone-%s", name);
	// Left over from an earlier removal that was killed.
	if (directory_remove(s->tmp_fd, aside, err) < 0)
		return -1;
	if (geteuid() != 0 && fstat(fd, &st) == 0) // see move_stage()
		fchmod(fd, (st.st_mode | 0700) & 07777);
	if (renameat(s->layers_fd, name, s->tmp_fd, aside) < 0)
		return error_set_errno(err, errno, "move layer %s aside", name);
	return directory_remove(s->tmp_fd, aside, err);
}

int store_layer_remove(struct store *s, const struct oci_digest *diff_id, enum layer_format format,
	bool dry_run, struct store_size *size, struct error *err)
{
	char name[STORE_NAME_MAX];
	cleanup_fd int fd = -1;
	store_layer_name(diff_id, format, name);
	int flags = O_RDONLY | (format == LAYER_DIRECTORY ? O_DIRECTORY : 0);
	int got = store_lock_open(s->layers_fd, name, flags, LOCK_EX, &fd, err);
	if (got != STORE_LOCKED)
		return got < 0 ? error_context(err, "layer %s", name) : 0;
	// After the lock: who pins a layer holds its lease until the pin is written.
	int pinned = pin_find_layer(s, diff_id, format, err);
	if (pinned)
		return pinned < 0 ? -1 : 0;
	// Measuring a folder may take minutes: nobody who wants a lease waits for that.
	int busy = dry_run ? file_lock(fd, LOCK_SH | LOCK_NB, name, err) : 0;
	if (busy)
		return busy < 0 ? error_context(err, "layer %s", name) : 0;
	if (layer_size(fd, format, size, err) < 0)
		return error_context(err, "layer %s", name);
	if (dry_run)
		return 1;
	if (format == LAYER_DIRECTORY)
		return remove_folder(s, fd, name, err) < 0 ? -1 : 1;
	if (unlinkat(s->layers_fd, name, 0) < 0)
		return error_set_errno(err, errno, "remove layer %s", name);
	return 1;
}
