// SPDX-License-Identifier: Apache-2.0
#include "base/text.h"
#include "base/time.h"
#include "oci/store/inventory.h"

#include <sys/file.h>
#include <unistd.h>

static int prune_images(struct store *s, struct inventory *v, const struct store_prune_options *o,
	struct store_prune_report *report, struct error *err)
{
	int64_t now = wall_ms();
	for (size_t i = 0; i < v->image_count; i++) {
		struct inventory_image *image = &v->images[i];
		if (inventory_image_in_use(image) || now - image->image->used_ms < o->unused_for_ms)
			continue;
		if (!o->dry_run && store_image_remove(s, &image->image->reference, err) < 0 &&
			err->kind != ERROR_NOT_FOUND)
			return -1;
		inventory_choose(image);
		report->images++;
	}
	return 0;
}

static int prune_layers(struct store *s, const struct inventory *v, bool dry_run,
	struct store_prune_report *report, struct error *err)
{
	for (size_t i = 0; i < v->layer_count; i++) {
		const struct inventory_layer *l = &v->layers[i];
		struct store_size size;
		if (l->users || l->in_use)
			continue;
		int removed = store_layer_remove(s, &l->diff_id, l->format, dry_run, &size, err);
		if (removed < 0)
			return -1;
		if (removed) {
			report->layers++;
			report->bytes += size.bytes;
		}
	}
	return 0;
}

static int prune_parts(
	struct store *s, bool dry_run, struct store_prune_report *report, struct error *err)
{
	cleanup_arena struct arena a = {0};
	struct store_names names;
	if (store_names(s->parts_fd, ".", &a, &names, err) < 0)
		return -1;
	for (size_t i = 0; i < names.count; i++) {
		struct store_size size;
		int removed = store_part_prune(s, names.items[i], dry_run, &size, err);
		if (removed < 0)
			return -1;
		if (removed) {
			report->parts++;
			report->bytes += size.bytes;
		}
	}
	return 0;
}

// Records that are none, and the documents that no record names.
static int prune_documents(struct store *s, struct error *err)
{
	cleanup_arena struct arena a = {0};
	struct store_names names;
	struct store_image image;
	if (store_names(s->images_fd, ".", &a, &names, err) < 0)
		return -1;
	for (size_t i = 0; i < names.count; i++) {
		struct error why;
		if (store_image_read(s, names.items[i], &image, &why) == 0 ||
			why.kind != ERROR_INTEGRITY)
			continue;
		if (unlinkat(s->images_fd, names.items[i], 0) < 0 && errno != ENOENT)
			return error_set_errno(
				err, errno, "remove %s/images/%s", s->state_dir, names.items[i]);
	}
	return store_documents_prune(s, err);
}

int store_prune(struct store *s, const struct store_prune_options *o,
	struct store_prune_report *report, struct error *err)
{
	cleanup_inventory struct inventory v = {0};
	struct store_prune_report done = {0};
	cleanup_fd int lock = -1;
	if (store_images_lock(s, LOCK_EX, &lock, err) < 0)
		return -1;
	if (inventory_read(s, &v, err) < 0 || (o->all && prune_images(s, &v, o, &done, err) < 0) ||
		prune_layers(s, &v, o->dry_run, &done, err) < 0 ||
		(!o->keep_parts && prune_parts(s, o->dry_run, &done, err) < 0) ||
		(!o->dry_run && prune_documents(s, err) < 0))
		return -1;
	*report = done;
	return 0;
}
