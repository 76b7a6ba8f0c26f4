// SPDX-License-Identifier: Apache-2.0
#include "agent/command/command.h"
#include "base/text.h"

#include <stdio.h>

static const struct options_usage usage = {
	.verb = "rmi",
	.arguments = "REFERENCE…",
	.summary = "Remove images and the layers that no other image needs.\n"
		   "What a job uses stays until the job ends, and goes with the next prune.",
	.least = 1,
	.most = -1,
};

int command_rmi(struct command *c, int argc, char **argv, struct error *err)
{
	char **rest;
	int count;
	int rc = command_options(c, NULL, &usage, false, argc, argv, &rest, &count, err);
	if (rc != OPTIONS_OK)
		return rc == OPTIONS_HELP ? 0 : -1;
	if (command_open(c, err) < 0)
		return -1;
	// All names are checked before anything goes.
	cleanup_free struct oci_reference *references = xcalloc((size_t)count, sizeof(*references));
	struct store_image image;
	for (int i = 0; i < count; i++)
		if (oci_reference_parse(rest[i], &references[i], err) < 0 ||
			store_image_get(c->store, &references[i], &image, err) < 0)
			return -1;
	for (int i = 0; i < count; i++)
		if (store_image_remove(c->store, &references[i], err) < 0 &&
			err->kind != ERROR_NOT_FOUND)
			return -1;
	const struct store_prune_options what = {.keep_parts = true};
	struct store_prune_report report;
	if (store_prune(c->store, &what, &report, err) < 0)
		return -1;
	char size[FORMAT_SIZE_MAX];
	fprintf(stderr, "removed %d images and %llu layers, %s freed\n", count,
		(unsigned long long)report.layers, format_size(report.bytes, size));
	return 0;
}
