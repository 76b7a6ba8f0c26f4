// SPDX-License-Identifier: Apache-2.0
//
// Image configuration (OCI image-spec config.md; Docker's container image v1 has the same members).
#pragma once

#include "base/arena.h"
#include "base/error.h"
#include "oci/image/digest.h"
#include "oci/image/platform.h"

#include <stdint.h>

enum { OCI_CONFIG_BYTES_MAX = 4 * 1024 * 1024 };

struct oci_strings { // NULL-terminated
	const char **items;
	size_t count;
};

struct oci_config {
	struct oci_platform platform;
	struct oci_digest *diff_ids; // lowest layer first
	size_t diff_id_count;
	struct oci_strings env; // "K=V"
	struct oci_strings entrypoint, cmd;
	const char *working_dir; // "" if none
	const char *user;	 // "", "1000", "1000:100", "name", "name:group"
	const char *stop_signal; // "" if none
	const char *created;	 // RFC 3339 or ""
};

// Everything lives in the arena. What is absent or null becomes "linux" for os, else "" or an empty
// list; a relative working_dir is made absolute. Whether the platform suits this machine is not
// judged. ERROR_INVALID: malformed, no architecture, rootfs.type not "layers", diff ids that are no
// digests, environment entries without '=' or with an empty name. ERROR_LIMIT: more than
// OCI_CONFIG_BYTES_MAX bytes or OCI_LAYERS_MAX diff ids.
int oci_config_parse(
	struct arena *a, const char *data, size_t size, struct oci_config *c, struct error *err);
