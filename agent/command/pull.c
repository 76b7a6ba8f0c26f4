// SPDX-License-Identifier: Apache-2.0
#include "agent/command/command.h"
#include "base/loop.h"
#include "base/text.h"

#include <stdio.h>

static const struct options_usage usage = {
	.verb = "pull",
	.arguments = "REFERENCE",
	.summary =
		"Download an image and make its layers ready to be mounted.\n"
		"What is here already is not fetched again; what an interrupted pull left is used.",
	.more = "Examples:\n"
		"  stoker pull continuumio/miniconda\n"
		"  stoker pull --platform linux/arm64 ghcr.io/org/x:1.2\n"
		"  stoker pull localhost:5000/x@sha256:…",
	.least = 1,
	.most = 1,
};

static void report(const struct pull_result *r, const struct store_layers *layers, int64_t ms)
{
	char name[OCI_REFERENCE_TEXT_MAX], size[FORMAT_SIZE_MAX], fetched[FORMAT_SIZE_MAX];
	uint64_t bytes = 0;
	for (size_t i = 0; i < layers->count; i++)
		bytes += layers->items[i].bytes;
	fprintf(stderr, "%s: %s, %zu layers, %s on disk, %s fetched in %.1f s\n",
		oci_reference_familiar(&r->image.reference, name),
		r->pulled ? "ready" : "is up to date", layers->count, format_size(bytes, size),
		format_size(r->fetched, fetched), (double)ms / 1000);
	printf("%s\n", r->image.target.text);
}

int command_pull(struct command *c, int argc, char **argv, struct error *err)
{
	const char *platform_name = NULL, *format_name = NULL;
	bool quiet = false;
	const struct option options[] = {
		{OPTION_STRING, 0, "platform", "OS/ARCH", "instead of this machine's",
			&platform_name},
		{OPTION_STRING, 0, "layer-format", "FORM", "auto, erofs or directory",
			&format_name},
		{OPTION_FLAG, 'q', "quiet", NULL, "no progress, only the digest", &quiet},
		{OPTION_END},
	};
	char **rest;
	int count;
	int rc = command_options(c, options, &usage, false, argc, argv, &rest, &count, err);
	if (rc != OPTIONS_OK)
		return rc == OPTIONS_HELP ? 0 : -1;

	struct oci_reference reference;
	struct oci_platform platform;
	struct command_pull o = {.reference = &reference, .policy = PULL_ALWAYS, .quiet = quiet};
	if (oci_reference_parse(rest[0], &reference, err) < 0 ||
		(platform_name && oci_platform_parse(platform_name, &platform, err) < 0))
		return -1;
	o.platform = platform_name ? &platform : NULL;
	if (command_open(c, err) < 0 || command_layer_format(c, format_name, &o.format, err) < 0)
		return -1;
	cleanup_store_layers struct store_layers layers = {0};
	struct pull_result result;
	int64_t start = now_ms();
	if (command_pull_image(c, &o, &result, &layers, err) < 0)
		return -1;
	if (quiet)
		printf("%s\n", result.image.target.text);
	else
		report(&result, &layers, now_ms() - start);
	return 0;
}
