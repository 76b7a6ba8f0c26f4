// SPDX-License-Identifier: Apache-2.0
#include "oci/store/inventory.h"

#include <stdlib.h>
#include <string.h>

static int compare(const void *a, const void *b)
{
	const struct inventory_layer *x = a, *y = b;
	int order = strcmp(x->diff_id.text, y->diff_id.text);
	return order ? order : (int)x->format - (int)y->format;
}

static int read_layers(struct store *s, struct inventory *v, struct error *err)
{
	struct store_names names;
	if (store_names(s->layers_fd, ".", &v->arena, &names, err) < 0)
		return error_context(err, "%s/layers", s->state_dir);
	v->layers = arena_array(&v->arena, struct inventory_layer, names.count);
	for (size_t i = 0; i < names.count; i++) {
		struct inventory_layer *l = &v->layers[v->layer_count];
		if (!store_layer_name_parse(names.items[i], &l->diff_id, &l->format))
			continue;
		int removable = store_layer_remove(s, &l->diff_id, l->format, true, &l->size, err);
		if (removable < 0)
			return -1;
		l->in_use = !removable;
		v->layer_count++;
	}
	if (v->layer_count)
		qsort(v->layers, v->layer_count, sizeof(*v->layers), compare);
	return 0;
}

// A diff id may stand in an image twice (an empty layer does): it is one layer with one user.
static void add_layer(struct inventory *v, struct inventory_image *image,
	const struct oci_digest *diff_id, enum layer_format format)
{
	const struct inventory_layer key = {.diff_id = *diff_id, .format = format};
	struct inventory_layer *l =
		v->layer_count ? bsearch(&key, v->layers, v->layer_count, sizeof(key), compare)
			       : NULL;
	if (!l)
		return;
	for (size_t i = 0; i < image->layer_count; i++)
		if (image->layers[i] == l)
			return;
	image->layers[image->layer_count++] = l;
	l->users++;
}

static int read_image(
	struct store *s, struct inventory *v, struct inventory_image *image, struct error *err)
{
	cleanup_arena struct arena a = {0};
	struct oci_manifest manifest;
	struct oci_config config;
	if (store_image_load(s, image->image, &a, &manifest, &config, err) < 0) {
		// Broken for good: whatever it was made of, nobody can start it. Anything else (no
		// memory for descriptors, a disk error) must not be taken for that.
		return err->kind == ERROR_NOT_FOUND || err->kind == ERROR_INTEGRITY ||
				       err->kind == ERROR_INVALID
			       ? 0
			       : -1;
	}
	image->layers = arena_array(&v->arena, struct inventory_layer *, config.diff_id_count + 2);
	const enum layer_format format = image->image->format;
	for (size_t i = 0; i < config.diff_id_count; i++)
		add_layer(v, image, &config.diff_ids[i], format);
	image->own_count = image->layer_count;
	const struct oci_digest parents =
		store_parents_id(config.diff_ids, config.diff_id_count, format);
	// An empty EROFS file, that none is needed, belongs to both forms.
	add_layer(v, image, &parents, format);
	if (format != LAYER_EROFS)
		add_layer(v, image, &parents, LAYER_EROFS);
	return 0;
}

int inventory_read(struct store *s, struct inventory *v, struct error *err)
{
	struct store_image *images;
	// Layers first: an image that is recorded meanwhile then names layers that are not in this
	// list, and nobody removes those.
	if (read_layers(s, v, err) < 0 ||
		store_image_list(s, &v->arena, &images, &v->image_count, err) < 0)
		return -1;
	v->images = arena_array(&v->arena, struct inventory_image, v->image_count);
	for (size_t i = 0; i < v->image_count; i++) {
		v->images[i].image = &images[i];
		if (read_image(s, v, &v->images[i], err) < 0)
			return -1;
	}
	return 0;
}

void inventory_release(struct inventory *v)
{
	arena_release(&v->arena);
}

struct store_size inventory_gain(const struct inventory_image *image)
{
	struct store_size gain = {0};
	for (size_t i = 0; i < image->layer_count; i++) {
		const struct inventory_layer *l = image->layers[i];
		if (l->users == 1 && !l->in_use) {
			gain.bytes += l->size.bytes;
			gain.inodes += l->size.inodes;
		}
	}
	return gain;
}

struct store_size inventory_choose(struct inventory_image *image)
{
	struct store_size gain = inventory_gain(image);
	for (size_t i = 0; i < image->layer_count; i++)
		image->layers[i]->users--;
	image->chosen = true;
	return gain;
}

bool inventory_image_in_use(const struct inventory_image *image)
{
	for (size_t i = 0; i < image->own_count; i++)
		if (!image->layers[i]->in_use)
			return false;
	return image->own_count > 0;
}
