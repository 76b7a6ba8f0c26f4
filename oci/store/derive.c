// SPDX-License-Identifier: Apache-2.0
#include "oci/store/derive.h"

#include "base/json_write.h"
#include "base/text.h"
#include "base/time.h"

#include <string.h>

const char *derive_layer_type(const struct oci_manifest *m, enum oci_compression compression)
{
	static const char *const oci[] = {
		[OCI_COMPRESSION_NONE] = "application/vnd.oci.image.layer.v1.tar",
		[OCI_COMPRESSION_GZIP] = "application/vnd.oci.image.layer.v1.tar+gzip",
		[OCI_COMPRESSION_ZSTD] = "application/vnd.oci.image.layer.v1.tar+zstd",
	};
	static const char *const docker[] = {
		[OCI_COMPRESSION_NONE] = "application/vnd.docker.image.rootfs.diff.tar",
		[OCI_COMPRESSION_GZIP] = "application/vnd.docker.image.rootfs.diff.tar.gzip",
		[OCI_COMPRESSION_ZSTD] = "application/vnd.docker.image.rootfs.diff.tar.zstd",
	};
	bool is_docker = starts_with(m->config.media_type, "application/vnd.docker.");
	return (is_docker ? docker : oci)[compression];
}

// ---- the manifest

static void write_descriptor(struct json_writer *w, const struct oci_descriptor *d)
{
	json_write_open_object(w);
	json_write_member(w, "mediaType", d->media_type);
	json_write_member(w, "digest", d->digest.text);
	json_write_member_unsigned(w, "size", d->size);
	json_write_close_object(w);
}

int derive_manifest(const char *text, size_t size, const struct oci_descriptor *config,
	const struct oci_descriptor *layers, size_t layer_count, struct buffer *out,
	struct error *err)
{
	cleanup_arena struct arena a = {0};
	cleanup_json_writer struct json_writer *w = json_writer_new(false);
	const struct json *root = json_parse(&a, text, size, "manifest", NULL, err);
	if (!root)
		return -1;
	json_write_open_object(w);
	json_object_each (m, root) {
		if (streq(m->key, "subject"))
			continue;
		json_write_key(w, m->key);
		if (streq(m->key, "config")) {
			write_descriptor(w, config);
		} else if (streq(m->key, "layers")) {
			json_write_open_array(w);
			for (size_t i = 0; i < layer_count; i++)
				write_descriptor(w, &layers[i]);
			json_write_close_array(w);
		} else {
			json_write_tree(w, &m->value);
		}
	}
	json_write_close_object(w);
	return json_writer_finish(w, out, err);
}

// ---- the configuration

// What a member of the document becomes; `present` is NULL where the base has none (or null).
typedef void rewrite_fn(
	struct json_writer *w, const struct json *present, const struct derive_options *o);

struct rewrite {
	const char *key;
	rewrite_fn *write;
};

static const struct json *not_null(const struct json *value)
{
	return value && value->type != JSON_NULL ? value : NULL;
}

static const struct rewrite *find_rewrite(
	const struct rewrite *table, size_t count, const char *key)
{
	for (size_t i = 0; i < count; i++)
		if (streq(table[i].key, key))
			return &table[i];
	return NULL;
}

// An object with some members written anew, in their places, or at the end if they are missing.
static void rewrite_object(struct json_writer *w, const struct json *object,
	const struct rewrite *table, size_t count, const struct derive_options *o)
{
	object = not_null(object);
	json_write_open_object(w);
	if (object)
		json_object_each (m, object) {
			const struct rewrite *r = find_rewrite(table, count, m->key);
			json_write_key(w, m->key);
			if (r)
				r->write(w, not_null(&m->value), o);
			else
				json_write_tree(w, &m->value);
		}
	for (size_t i = 0; i < count; i++) {
		if (json_get(object, table[i].key))
			continue;
		json_write_key(w, table[i].key);
		table[i].write(w, NULL, o);
	}
	json_write_close_object(w);
}

static bool same_variable(const char *a, const char *b)
{
	size_t n = strcspn(a, "=");
	return strncmp(a, b, n) == 0 && b[n] == '=';
}

static void write_env(
	struct json_writer *w, const struct json *present, const struct derive_options *o)
{
	json_write_open_array(w);
	if (present)
		json_array_each (item, present) {
			bool replaced = false;
			for (size_t i = 0; i < o->env_count; i++)
				replaced |= same_variable(item->value.string, o->env[i]);
			if (!replaced)
				json_write_string(w, item->value.string);
		}
	for (size_t i = 0; i < o->env_count; i++)
		json_write_string(w, o->env[i]);
	json_write_close_array(w);
}

static void write_labels(
	struct json_writer *w, const struct json *present, const struct derive_options *o)
{
	json_write_open_object(w);
	if (present)
		json_object_each (m, present) {
			bool replaced = false;
			for (size_t i = 0; i < o->label_count; i++)
				replaced |= streq(m->key, o->labels[i].key);
			if (replaced)
				continue;
			json_write_key(w, m->key);
			json_write_tree(w, &m->value);
		}
	for (size_t i = 0; i < o->label_count; i++)
		json_write_member(w, o->labels[i].key, o->labels[i].value);
	json_write_close_object(w);
}

static void write_runtime(
	struct json_writer *w, const struct json *present, const struct derive_options *o)
{
	static const struct rewrite table[] = {{"Env", write_env}, {"Labels", write_labels}};
	rewrite_object(w, present, table, array_size(table), o);
}

static void write_diff_ids(
	struct json_writer *w, const struct json *present, const struct derive_options *o)
{
	json_write_open_array(w);
	if (present)
		json_array_each (item, present)
			json_write_tree(w, &item->value);
	json_write_string(w, o->diff_id.text);
	json_write_close_array(w);
}

static void write_rootfs(
	struct json_writer *w, const struct json *present, const struct derive_options *o)
{
	static const struct rewrite table[] = {{"diff_ids", write_diff_ids}};
	rewrite_object(w, present, table, array_size(table), o);
}

// An image without a history stays without: one entry for several layers would be wrong.
static void write_history(
	struct json_writer *w, const struct json *present, const struct derive_options *o)
{
	json_write_open_array(w);
	if (present && present->count) {
		json_array_each (item, present)
			json_write_tree(w, &item->value);
		json_write_open_object(w);
		json_write_member(w, "created", DERIVE_CREATED);
		json_write_member(w, "created_by", o->created_by);
		json_write_close_object(w);
	}
	json_write_close_array(w);
}

static int check_shape(const struct json *root, struct error *err)
{
	const struct json *runtime = not_null(json_get(root, "config"));
	const struct json *labels = not_null(json_get(runtime, "Labels"));
	const struct json *history = not_null(json_get(root, "history"));
	if (labels && labels->type != JSON_OBJECT)
		return error_set(err, ERROR_INVALID,
			"image configuration: config.Labels: must be an object");
	if (history && history->type != JSON_ARRAY)
		return error_set(
			err, ERROR_INVALID, "image configuration: history: must be an array");
	return 0;
}

static int derive_config(const struct buffer *text, const struct derive_options *o,
	struct buffer *out, struct error *err)
{
	static const struct rewrite table[] = {
		{"config", write_runtime}, {"rootfs", write_rootfs}, {"history", write_history}};
	cleanup_arena struct arena a = {0};
	cleanup_json_writer struct json_writer *w = json_writer_new(false);
	const struct json *root =
		json_parse(&a, text->data, text->size, "image configuration", NULL, err);
	if (!root || check_shape(root, err) < 0)
		return -1;
	rewrite_object(w, root, table, array_size(table), o);
	if (json_writer_finish(w, out, err) < 0)
		return -1;
	// What we write we must be able to read.
	struct oci_config ignored;
	return oci_config_parse(&a, out->data, out->size, &ignored, err);
}

// ---- both, and the record

struct documents {
	struct buffer config, manifest;
};

static void documents_release(struct documents *d)
{
	buffer_release(&d->config);
	buffer_release(&d->manifest);
}
#define cleanup_documents __attribute__((cleanup(documents_release)))

static int make_documents(struct store *s, const struct derive_options *o, struct arena *a,
	struct documents *d, struct error *err)
{
	cleanup_buffer struct buffer config = {0}, manifest = {0};
	struct oci_manifest m;
	struct oci_config c;
	if (store_image_load(s, o->base, a, &m, &c, err) < 0 ||
		store_document_get(s, &o->base->config, OCI_CONFIG_BYTES_MAX, &config, err) < 0 ||
		store_document_get(s, &o->base->manifest, OCI_MANIFEST_BYTES_MAX, &manifest, err) <
			0)
		return -1;
	if (m.layer_count >= OCI_LAYERS_MAX)
		return error_set(err, ERROR_LIMIT,
			"it has %zu layers, and with one more an image cannot be mounted",
			m.layer_count);
	if (derive_config(&config, o, &d->config, err) < 0)
		return -1;
	struct oci_descriptor *layers = arena_array(a, struct oci_descriptor, m.layer_count + 1);
	for (size_t i = 0; i < m.layer_count; i++)
		layers[i] = m.layers[i].descriptor;
	layers[m.layer_count] = (struct oci_descriptor){
		.media_type = derive_layer_type(&m, OCI_COMPRESSION_NONE),
		.digest = o->diff_id,
		.size = o->size,
	};
	const struct oci_descriptor described = {
		.media_type = m.config.media_type,
		.digest = oci_digest_of(d->config.data, d->config.size),
		.size = d->config.size,
	};
	return derive_manifest(manifest.data, manifest.size, &described, layers, m.layer_count + 1,
		&d->manifest, err);
}

int store_image_derive(struct store *s, const struct derive_options *o, struct store_image *image,
	struct error *err)
{
	cleanup_arena struct arena a = {0};
	cleanup_documents struct documents d = {0};
	char base[OCI_REFERENCE_TEXT_MAX];
	if (make_documents(s, o, &a, &d, err) < 0)
		return error_context(err, "derive an image from %s",
			oci_reference_familiar(&o->base->reference, base));
	struct store_image made = {
		.reference = o->reference,
		.manifest = oci_digest_of(d.manifest.data, d.manifest.size),
		.config = oci_digest_of(d.config.data, d.config.size),
		.platform = o->base->platform,
		.format = o->base->format,
		.pulled_ms = wall_ms(),
	};
	made.target = made.manifest;
	made.used_ms = made.pulled_ms;
	if (store_document_put(s, &made.config, d.config.data, d.config.size, err) < 0 ||
		store_document_put(s, &made.manifest, d.manifest.data, d.manifest.size, err) < 0 ||
		store_image_put(s, &made, err) < 0)
		return -1;
	*image = made;
	return 0;
}
