// SPDX-License-Identifier: Apache-2.0
#include "agent/command/command.h"
#include "base/text.h"
#include "oci/runtime/rootfs.h"

static const struct options_usage usage = {
	.verb = "image",
	.arguments = "mount REFERENCE DIR | unmount DIR",
	.summary = "Mount an image read-only at a folder, to look inside, and unmount it again.\n"
		   "The mount stays until it is unmounted or the machine is restarted.",
	.more = "Examples:\n"
		"  stoker image mount python:3.12 /mnt\n"
		"  stoker image unmount /mnt",
	.least = 2,
	.most = 3,
};

static int image_mount(struct command *c, char **arguments, struct error *err)
{
	struct oci_reference reference;
	struct store_image image;
	if (oci_reference_parse(arguments[0], &reference, err) < 0 || command_open(c, err) < 0 ||
		store_image_get(c->store, &reference, &image, err) < 0 ||
		rootfs_image_mount(c->store, &image, arguments[1], err) < 0)
		return -1;
	store_image_touch(c->store, &reference);
	return 0;
}

int command_image(struct command *c, int argc, char **argv, struct error *err)
{
	char **rest;
	int count;
	int rc = command_options(c, NULL, &usage, false, argc, argv, &rest, &count, err);
	if (rc != OPTIONS_OK)
		return rc == OPTIONS_HELP ? 0 : -1;
	if (streq(rest[0], "mount") && count == 3)
		return image_mount(c, rest + 1, err);
	if (streq(rest[0], "unmount") && count == 2) {
		if (command_open(c, err) < 0)
			return -1;
		return rootfs_image_unmount(c->store, rest[1], err);
	}
	c->usage_error = true;
	return error_set(err, ERROR_INVALID,
		"expected \"image mount REFERENCE DIR\" or \"image unmount DIR\"; see: stoker "
		"image --help");
}
