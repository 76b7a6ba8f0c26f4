// SPDX-License-Identifier: Apache-2.0
// From an image's record to its documents and its layers.
#include "oci/store/internal.h"

#include <string.h>

int store_image_load(struct store *s, const struct store_image *image, struct arena *a,
	struct oci_manifest *manifest, struct oci_config *config, struct error *err)
{
	cleanup_buffer struct buffer text = {0};
	char name[OCI_REFERENCE_TEXT_MAX];
	oci_reference_familiar(&image->reference, name);
	if (store_document_get(s, &image->manifest, OCI_MANIFEST_BYTES_MAX, &text, err) < 0 ||
		oci_manifest_parse(a, text.data, text.size, NULL, manifest, err) < 0)
		return error_context(err, "image %s", name);
	if (manifest->kind != OCI_MANIFEST_IMAGE)
		return error_set(err, ERROR_INVALID, "image %s: %s is an index, not a manifest",
			name, image->manifest.text);
	if (!oci_digest_equal(&manifest->config.digest, &image->config))
		return error_set(err, ERROR_INTEGRITY,
			"image %s: its record names another configuration than its manifest; pull "
			"it again",
			name);
	buffer_clear(&text);
	if (store_document_get(s, &image->config, OCI_CONFIG_BYTES_MAX, &text, err) < 0 ||
		oci_config_parse(a, text.data, text.size, config, err) < 0)
		return error_context(err, "image %s", name);
	if (config->diff_id_count != manifest->layer_count)
		return error_set(err, ERROR_INVALID,
			"image %s: the manifest has %zu layers, the configuration %zu diff ids",
			name, manifest->layer_count, config->diff_id_count);
	return 0;
}

int store_image_lease(struct store *s, const struct store_image *image, struct store_layers *layers,
	struct error *err)
{
	cleanup_arena struct arena a = {0};
	cleanup_store_layers struct store_layers leased = {0};
	struct oci_manifest manifest;
	struct oci_config config;
	char name[OCI_REFERENCE_TEXT_MAX];
	oci_reference_familiar(&image->reference, name);
	if (store_image_load(s, image, &a, &manifest, &config, err) < 0)
		return -1;
	leased.items = xcalloc(config.diff_id_count, sizeof(*leased.items));
	for (size_t i = 0; i < config.diff_id_count; i++) {
		int found = store_layer_lease(
			s, &config.diff_ids[i], image->format, &leased.items[i], err);
		if (found < 0)
			return error_context(err, "image %s", name);
		if (!found)
			return error_set(err, ERROR_NOT_FOUND,
				"image %s: layer %s is not here; pull it with: stoker pull %s",
				name, config.diff_ids[i].text, name);
		leased.count++;
	}
	*layers = leased;
	leased = (struct store_layers){0};
	return 0;
}

struct oci_digest store_parents_id(
	const struct oci_digest *diff_ids, size_t count, enum layer_format format)
{
	static const char *const kind[] = {
		[LAYER_EROFS] = "stoker parents 1 erofs\n",
		[LAYER_DIRECTORY] = "stoker parents 1 directory\n",
	};
	cleanup_buffer struct buffer text = {0};
	buffer_puts(&text, kind[format]);
	for (size_t i = 0; i < count; i++)
		buffer_append(&text, diff_ids[i].text, OCI_DIGEST_SIZE);
	return oci_digest_of(text.data, text.size);
}

void store_layers_release(struct store_layers *layers)
{
	for (size_t i = 0; i < layers->count; i++)
		store_layer_release(&layers->items[i]);
	free(layers->items);
	*layers = (struct store_layers){0};
}
