// SPDX-License-Identifier: Apache-2.0
#include "agent/command/command.h"
#include "base/json_write.h"
#include "base/loop.h"

#include <stdio.h>

static const struct options_usage usage = {
	.verb = "inspect",
	.arguments = "REFERENCE",
	.summary = "Show what is known of an image on this node, as JSON: digests, layers, "
		   "configuration.",
	.least = 1,
	.most = 1,
};

static void write_strings(struct json_writer *w, const char *key, const struct oci_strings *s)
{
	json_write_key(w, key);
	json_write_open_array(w);
	for (size_t i = 0; i < s->count; i++)
		json_write_string(w, s->items[i]);
	json_write_close_array(w);
}

static void write_config(struct json_writer *w, const struct oci_config *c)
{
	json_write_key(w, "config");
	json_write_open_object(w);
	write_strings(w, "env", &c->env);
	write_strings(w, "entrypoint", &c->entrypoint);
	write_strings(w, "cmd", &c->cmd);
	json_write_member(w, "working_dir", c->working_dir);
	json_write_member(w, "user", c->user);
	json_write_member(w, "stop_signal", c->stop_signal);
	json_write_member(w, "created", c->created);
	json_write_close_object(w);
}

static void write_layers(struct json_writer *w, const struct store *s,
	const struct store_image *image, const struct oci_manifest *m, const struct oci_config *c,
	const struct store_layers *layers)
{
	json_write_key(w, "layers");
	json_write_open_array(w);
	for (size_t i = 0; i < m->layer_count; i++) {
		cleanup_free char *path = xasprintf("%s/layers/sha256/%s.%s", s->state_dir,
			oci_digest_hex(&c->diff_ids[i]), layer_format_name(image->format));
		json_write_open_object(w);
		json_write_member(w, "diff_id", c->diff_ids[i].text);
		json_write_member(w, "blob", m->layers[i].descriptor.digest.text);
		json_write_member_int(w, "blob_bytes", (int64_t)m->layers[i].descriptor.size);
		json_write_member_int(w, "bytes", (int64_t)layers->items[i].bytes);
		json_write_member(w, "path", path);
		json_write_close_object(w);
	}
	json_write_close_array(w);
}

static int print_image(struct store *s, const struct store_image *image, struct error *err)
{
	cleanup_arena struct arena a = {0};
	cleanup_store_layers struct store_layers layers = {0};
	struct oci_manifest m;
	struct oci_config c;
	if (store_image_load(s, image, &a, &m, &c, err) < 0 ||
		store_image_lease(s, image, &layers, err) < 0)
		return -1;
	cleanup_json_writer struct json_writer *w = json_writer_new(true);
	cleanup_buffer struct buffer out = {0};
	char text[OCI_REFERENCE_TEXT_MAX], time[TIME_TEXT_SIZE];
	json_write_open_object(w);
	json_write_member(w, "reference", oci_reference_format(&image->reference, text));
	json_write_member(w, "digest", image->target.text);
	json_write_member(w, "manifest", image->manifest.text);
	json_write_member(w, "config_digest", image->config.text);
	json_write_member(w, "platform", oci_platform_format(&image->platform, text));
	json_write_member(w, "layer_format", layer_format_name(image->format));
	json_write_member(w, "pulled", format_time(image->pulled_ms, time));
	json_write_member(w, "used", format_time(image->used_ms, time));
	write_layers(w, s, image, &m, &c, &layers);
	write_config(w, &c);
	json_write_close_object(w);
	if (json_writer_finish(w, &out, err) < 0)
		return -1;
	fwrite(out.data, 1, out.size, stdout);
	return 0;
}

int command_inspect(struct command *c, int argc, char **argv, struct error *err)
{
	char **rest;
	int count;
	int rc = command_options(c, NULL, &usage, false, argc, argv, &rest, &count, err);
	if (rc != OPTIONS_OK)
		return rc == OPTIONS_HELP ? 0 : -1;
	struct oci_reference reference;
	struct store_image image;
	if (oci_reference_parse(rest[0], &reference, err) < 0 || command_open(c, err) < 0 ||
		store_image_get(c->store, &reference, &image, err) < 0)
		return -1;
	return print_image(c->store, &image, err);
}
