// SPDX-License-Identifier: Apache-2.0
#include "oci/image/manifest.h"

#include "base/text.h"
#include "oci/image/config.h"
#include "oci/image/decode.h"
#include "oci/image/media_type.h"

// No image is this large; sums of sizes stay far from overflow.
static const uint64_t total_size_max = 1ULL << 50;

struct document {
	int64_t schema_version;
	const char *media_type; // NULL if absent
	const struct json *config, *layers, *manifests, *fs_layers;
};

static const struct json_field document_fields[] = {
	{"schemaVersion", json_decode_int64, offsetof(struct document, schema_version),
		JSON_NULLABLE},
	{"mediaType", json_decode_string, offsetof(struct document, media_type), JSON_NULLABLE},
	{"config", json_decode_any, offsetof(struct document, config), JSON_NULLABLE},
	{"layers", json_decode_any, offsetof(struct document, layers), JSON_NULLABLE},
	{"manifests", json_decode_any, offsetof(struct document, manifests), JSON_NULLABLE},
	{"fsLayers", json_decode_any, offsetof(struct document, fs_layers), JSON_NULLABLE},
	{NULL},
};

static int decode_size(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	if (json_decode_uint64(d, value, target, err) < 0)
		return -1;
	if (*(uint64_t *)target > total_size_max)
		return json_decode_fail(
			d, value, err, ERROR_INVALID, "more than 1 PiB, which no image has");
	return 0;
}

static const struct json_field descriptor_fields[] = {
	{"mediaType", json_decode_string, offsetof(struct oci_descriptor, media_type),
		JSON_NULLABLE},
	{"digest", oci_decode_digest, offsetof(struct oci_descriptor, digest), JSON_REQUIRED},
	{"size", decode_size, offsetof(struct oci_descriptor, size), JSON_REQUIRED},
	{NULL},
};

static int decode_descriptor(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	struct oci_descriptor *out = target;

	out->media_type = "";
	return json_decode_object(d, value, descriptor_fields, false, out, err);
}

static int decode_config(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	struct oci_descriptor *config = target;

	if (decode_descriptor(d, value, config, err) < 0)
		return -1;
	if (!oci_media_type_config(config->media_type))
		return json_decode_fail(d, value, err, ERROR_INVALID,
			"this is an artifact with a configuration of type \"%.100s\", not an image",
			config->media_type);
	if (config->size > OCI_CONFIG_BYTES_MAX)
		return json_decode_fail(d, value, err, ERROR_LIMIT,
			"the image configuration has %llu bytes, at most 4 MiB are allowed",
			(unsigned long long)config->size);
	return 0;
}

static int fail_layer_type(
	struct json_decoder *d, const struct json *value, const char *type, struct error *err)
{
	if (oci_media_type_foreign(type))
		return json_decode_fail(d, value, err, ERROR_INVALID,
			"a foreign layer (\"%.100s\"): its licence keeps it out of registries, so "
			"the "
			"image cannot be pulled whole",
			type);
	if (ends_with(type, "+encrypted"))
		return json_decode_fail(d, value, err, ERROR_INVALID,
			"an encrypted layer (\"%.100s\"); there is no key for it here", type);
	if (!type[0])
		return json_decode_fail(
			d, value, err, ERROR_INVALID, "key \"mediaType\" is missing");
	return json_decode_fail(d, value, err, ERROR_INVALID,
		"a layer of type \"%.100s\", which is not a file system layer", type);
}

static int decode_layer(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	struct oci_layer_descriptor *layer = target;

	if (decode_descriptor(d, value, &layer->descriptor, err) < 0)
		return -1;
	if (!oci_media_type_layer(layer->descriptor.media_type, &layer->compression))
		return fail_layer_type(d, value, layer->descriptor.media_type, err);
	return 0;
}

static int decode_layers(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	struct oci_manifest *m = target;
	void *layers;
	uint64_t total = 0;

	if (json_decode_array(d, value, decode_layer, sizeof(*m->layers), OCI_LAYERS_MAX, &layers,
		    &m->layer_count, err) < 0)
		return -1;
	m->layers = layers;
	if (m->layer_count == 0)
		return json_decode_fail(
			d, value, err, ERROR_INVALID, "the image is empty: it has no layers");
	for (size_t i = 0; i < m->layer_count; i++)
		total += m->layers[i].descriptor.size;
	if (total > total_size_max)
		return json_decode_fail(d, value, err, ERROR_INVALID,
			"more than 1 PiB together, which no image has");
	return 0;
}

static const struct json_field image_fields[] = {
	{"config", decode_config, offsetof(struct oci_manifest, config),
		JSON_REQUIRED | JSON_NULLABLE},
	{"layers", decode_layers, 0, JSON_REQUIRED | JSON_NULLABLE},
	{NULL},
};

static const struct json_field platform_fields[] = {
	{"os", oci_decode_platform_word, offsetof(struct oci_platform, os), JSON_NULLABLE},
	{"architecture", oci_decode_platform_word, offsetof(struct oci_platform, architecture),
		JSON_NULLABLE},
	{"variant", oci_decode_platform_word, offsetof(struct oci_platform, variant),
		JSON_NULLABLE},
	{NULL},
};

// Some tools write a platform of empty words, which is as good as none.
static int decode_platform(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	struct oci_index_entry *entry = target;

	if (json_decode_object(d, value, platform_fields, false, &entry->platform, err) < 0)
		return -1;
	entry->has_platform = entry->platform.os[0] || entry->platform.architecture[0];
	oci_platform_normalise(&entry->platform);
	return 0;
}

static const struct json_field entry_fields[] = {
	{"platform", decode_platform, 0, JSON_NULLABLE},
	{NULL},
};

static int decode_entry(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	struct oci_index_entry *entry = target;

	if (decode_descriptor(d, value, &entry->descriptor, err) < 0)
		return -1;
	return json_decode_object(d, value, entry_fields, false, entry, err);
}

static int decode_entries(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	struct oci_manifest *m = target;
	void *entries;

	if (json_decode_array(d, value, decode_entry, sizeof(*m->entries), OCI_INDEX_ENTRIES_MAX,
		    &entries, &m->entry_count, err) < 0)
		return -1;
	m->entries = entries;
	return 0;
}

static const struct json_field index_fields[] = {
	{"manifests", decode_entries, 0, JSON_REQUIRED | JSON_NULLABLE},
	{NULL},
};

// Which of both the document is. One that could be read as both is refused: else two readers of the
// same digest might run two different images (CVE-2021-41190).
static int tell_kind(struct json_decoder *d, const struct json *root, const struct document *doc,
	const char *content_type, enum oci_manifest_kind *kind, struct error *err)
{
	bool image = doc->config || doc->layers, index = doc->manifests;

	if (doc->schema_version == 1 || doc->fs_layers)
		return json_decode_fail(d, root, err, ERROR_INVALID,
			"a Docker manifest of schema 1, a format given up in 2017; push the image "
			"again "
			"with a current Docker, Podman or skopeo");
	if (doc->media_type && !oci_media_type_manifest(doc->media_type, kind))
		return json_decode_fail(d, root, err, ERROR_INVALID,
			"mediaType: \"%.100s\" is neither an image manifest nor an index",
			doc->media_type);
	if (image && index)
		return json_decode_fail(d, root, err, ERROR_INVALID,
			"both an image (\"config\", \"layers\") and an index (\"manifests\"); "
			"refused, "
			"as it would mean different images to different readers");
	if (!image && !index)
		return json_decode_fail(d, root, err, ERROR_INVALID,
			"neither an image manifest (\"config\" and \"layers\") nor an index "
			"(\"manifests\")");
	if (doc->schema_version != 2)
		return json_decode_fail(d, root, err, ERROR_INVALID, "schemaVersion: must be 2");

	bool declared =
		doc->media_type || (content_type && oci_media_type_manifest(content_type, kind));
	if (declared && index != (*kind == OCI_MANIFEST_INDEX))
		return json_decode_fail(d, root, err, ERROR_INVALID,
			"\"%.100s\" is its type, but its members are those of an %s",
			doc->media_type ? doc->media_type : content_type,
			index ? "index" : "image manifest");
	*kind = index ? OCI_MANIFEST_INDEX : OCI_MANIFEST_IMAGE;
	return 0;
}

int oci_manifest_parse(struct arena *a, const char *data, size_t size, const char *media_type,
	struct oci_manifest *m, struct error *err)
{
	struct json_limits limits = json_limits_default;
	struct json_decoder d = {.arena = a, .document = "manifest"};
	struct document doc = {0};
	struct oci_manifest out = {0};

	limits.bytes = OCI_MANIFEST_BYTES_MAX;
	const struct json *root = json_parse(a, data, size, "manifest", &limits, err);
	if (!root)
		return -1;
	if (json_decode_object(&d, root, document_fields, false, &doc, err) < 0)
		return -1;
	if (doc.media_type && !doc.media_type[0])
		doc.media_type = NULL;
	if (tell_kind(&d, root, &doc, media_type, &out.kind, err) < 0)
		return -1;
	const struct json_field *fields =
		out.kind == OCI_MANIFEST_INDEX ? index_fields : image_fields;
	if (json_decode_object(&d, root, fields, false, &out, err) < 0)
		return -1;
	*m = out;
	return 0;
}
