// SPDX-License-Identifier: Apache-2.0
// Manifests and image configurations, named by what they hash to.
#include "base/text.h"
#include "oci/store/internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

// Whoever puts documents holds this until the image record names them, or else a prune between the
// two would take them for garbage.
static int documents_lock(struct store *s, struct error *err)
{
	if (s->documents_lock_fd >= 0)
		return 0;
	// A description of its own: flock(2) belongs to the description, and blobs_fd lives longer.
	cleanup_fd int fd = directory_open(s->blobs_fd, ".", err);
	if (fd < 0 || file_lock(fd, LOCK_SH, "blobs", err) < 0)
		return error_context(err, "%s", s->state_dir);
	s->documents_lock_fd = steal_fd(&fd);
	return 0;
}

int store_document_put(struct store *s, const struct oci_digest *digest, const void *data,
	size_t size, struct error *err)
{
	cleanup_buffer struct buffer present = {0};
	const char *name = oci_digest_hex(digest);
	struct error ignored;
	if (documents_lock(s, err) < 0)
		return -1;
	if (file_read(s->blobs_fd, name, size, &present, &ignored) == 0 && present.size == size &&
		(size == 0 || memcmp(present.data, data, size) == 0))
		return 0;
	if (store_file_put(s, s->blobs_fd, "blobs/sha256", name, data, size, err) < 0)
		return error_context(err, "%s", s->state_dir);
	return 0;
}

int store_document_get(struct store *s, const struct oci_digest *digest, size_t limit,
	struct buffer *data, struct error *err)
{
	cleanup_buffer struct buffer read = {0};
	const char *name = oci_digest_hex(digest);
	int status = file_read(s->blobs_fd, name, limit, &read, err);
	if (status < 0 && err->kind != ERROR_LIMIT && err->sys != EIO)
		return err->sys == ENOENT
			       ? error_set(err, ERROR_NOT_FOUND,
					 "document %s is not in %s; pull the image again",
					 digest->text, s->state_dir)
			       : error_context(err, "%s/blobs/sha256", s->state_dir);
	struct oci_digest is = oci_digest_of(read.data, read.size);
	if (status == 0 && oci_digest_equal(&is, digest)) {
		buffer_append(data, read.data, read.size);
		return 0;
	}
	unlinkat(s->blobs_fd, name, 0);
	return error_set(err, ERROR_INTEGRITY,
		"document %s in %s was damaged and is removed; pull the image again", digest->text,
		s->state_dir);
}

static int compare(const void *a, const void *b)
{
	return strcmp(((const struct oci_digest *)a)->text, ((const struct oci_digest *)b)->text);
}

// What image records name, sorted.
static int named_documents(struct store *s, struct arena *a, struct oci_digest **named,
	size_t *count, struct error *err)
{
	struct store_image *images;
	size_t image_count;
	if (store_image_list(s, a, &images, &image_count, err) < 0)
		return -1;
	*named = arena_array(a, struct oci_digest, 3 * image_count);
	for (size_t i = 0; i < image_count; i++) {
		(*named)[3 * i] = images[i].manifest;
		(*named)[3 * i + 1] = images[i].config;
		(*named)[3 * i + 2] = images[i].target;
	}
	*count = 3 * image_count;
	qsort(*named, *count, sizeof(**named), compare);
	return 0;
}

int store_documents_prune(struct store *s, struct error *err)
{
	cleanup_arena struct arena a = {0};
	struct store_names names;
	struct oci_digest *named;
	size_t count;
	cleanup_fd int lock = directory_open(s->blobs_fd, ".", err);
	int busy = lock < 0 ? -1 : file_lock(lock, LOCK_EX | LOCK_NB, "blobs", err);
	if (busy)
		return busy < 0 ? error_context(err, "%s", s->state_dir) : 0;
	if (named_documents(s, &a, &named, &count, err) < 0 ||
		store_names(s->blobs_fd, ".", &a, &names, err) < 0)
		return -1;
	for (size_t i = 0; i < names.count; i++) {
		struct oci_digest d;
		snprintf(d.text, sizeof(d.text), "sha256:%.64s", names.items[i]);
		if (bsearch(&d, named, count, sizeof(d), compare))
			continue;
		if (unlinkat(s->blobs_fd, names.items[i], 0) < 0 && errno != ENOENT)
			return error_set_errno(err, errno, "remove %s/blobs/sha256/%s",
				s->state_dir, names.items[i]);
	}
	return 0;
}
