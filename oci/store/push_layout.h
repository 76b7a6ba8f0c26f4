// SPDX-License-Identifier: Apache-2.0
//
// A folder in the form of an OCI image layout (image-spec, image-layout.md), as the target of a
// push. What makes it a layout, its index, is written last.
#pragma once

#include "base/file.h"
#include "oci/store/push_internal.h"

// Make the folder, or take one that is empty. The descriptor.
int push_layout_open(const char *path, struct error *err);
bool push_layout_has(int layout, const struct oci_digest *digest);
int push_layout_blob(
	int layout, const struct oci_digest *digest, uint64_t size, int fd, struct error *err);
int push_layout_manifest(int layout, const char *tag, const char *media_type, const void *data,
	size_t size, struct error *err);
