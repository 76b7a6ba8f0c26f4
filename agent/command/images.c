// SPDX-License-Identifier: Apache-2.0
#include "agent/command/command.h"
#include "base/json_write.h"
#include "base/loop.h"
#include "base/text.h"

#include <stdio.h>

static const struct options_usage usage = {
	.verb = "images",
	.arguments = "",
	.summary = "List the images on this node, the most recently used first.",
};

// Sizes on disk; layers that several images share count for each.
static uint64_t image_bytes(struct command *c, const struct store_image *image)
{
	cleanup_store_layers struct store_layers layers = {0};
	struct error ignored = {0};
	uint64_t bytes = 0;
	if (store_image_lease(c->store, image, &layers, &ignored) < 0)
		return 0;
	for (size_t i = 0; i < layers.count; i++)
		bytes += layers.items[i].bytes;
	return bytes;
}

static void describe_age(int64_t ms, char text[32])
{
	int64_t s = ms / 1000;
	if (s < 120)
		snprintf(text, 32, "%lld s ago", (long long)(s < 0 ? 0 : s));
	else if (s < 2 * 3600)
		snprintf(text, 32, "%lld min ago", (long long)(s / 60));
	else if (s < 2 * 86400)
		snprintf(text, 32, "%lld h ago", (long long)(s / 3600));
	else
		snprintf(text, 32, "%lld days ago", (long long)(s / 86400));
}

static void print_table(struct command *c, const struct store_image *images, size_t count)
{
	char name[OCI_REFERENCE_TEXT_MAX], platform[OCI_PLATFORM_TEXT_MAX], size[FORMAT_SIZE_MAX],
		age[32];
	int width = 5;
	for (size_t i = 0; i < count; i++) {
		int n = (int)strlen(oci_reference_familiar(&images[i].reference, name));
		width = n > width ? n : width;
	}
	printf("%-*s  %-12s  %-14s  %-9s  %9s  %s\n", width, "IMAGE", "DIGEST", "PLATFORM", "FORM",
		"SIZE", "LAST USED");
	for (size_t i = 0; i < count; i++) {
		const struct store_image *m = &images[i];
		describe_age(wall_ms() - m->used_ms, age);
		printf("%-*s  %.12s  %-14s  %-9s  %9s  %s\n", width,
			oci_reference_familiar(&m->reference, name), oci_digest_hex(&m->target),
			oci_platform_format(&m->platform, platform), layer_format_name(m->format),
			format_size(image_bytes(c, m), size), age);
	}
}

static int print_json(
	struct command *c, const struct store_image *images, size_t count, struct error *err)
{
	cleanup_json_writer struct json_writer *w = json_writer_new(true);
	cleanup_buffer struct buffer out = {0};
	char text[OCI_REFERENCE_TEXT_MAX], time[TIME_TEXT_SIZE];
	json_write_open_array(w);
	for (size_t i = 0; i < count; i++) {
		const struct store_image *m = &images[i];
		json_write_open_object(w);
		json_write_member(w, "reference", oci_reference_format(&m->reference, text));
		json_write_member(w, "digest", m->target.text);
		json_write_member(w, "manifest", m->manifest.text);
		json_write_member(w, "config", m->config.text);
		json_write_member(w, "platform", oci_platform_format(&m->platform, text));
		json_write_member(w, "layer_format", layer_format_name(m->format));
		json_write_member_int(w, "bytes", (int64_t)image_bytes(c, m));
		json_write_member(w, "pulled", format_time(m->pulled_ms, time));
		json_write_member(w, "used", format_time(m->used_ms, time));
		json_write_close_object(w);
	}
	json_write_close_array(w);
	if (json_writer_finish(w, &out, err) < 0)
		return -1;
	fwrite(out.data, 1, out.size, stdout);
	return 0;
}

int command_images(struct command *c, int argc, char **argv, struct error *err)
{
	bool json = false;
	const struct option options[] = {
		{OPTION_FLAG, 0, "json", NULL, "for programs", &json},
		{OPTION_END},
	};
	char **rest;
	int rest_count;
	int rc = command_options(c, options, &usage, false, argc, argv, &rest, &rest_count, err);
	if (rc != OPTIONS_OK)
		return rc == OPTIONS_HELP ? 0 : -1;
	cleanup_arena struct arena a = {0};
	struct store_image *images;
	size_t count;
	if (command_open(c, err) < 0 || store_image_list(c->store, &a, &images, &count, err) < 0)
		return -1;
	if (json)
		return print_json(c, images, count, err);
	print_table(c, images, count);
	return 0;
}
