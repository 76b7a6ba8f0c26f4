// SPDX-License-Identifier: Apache-2.0
//
// Media types of manifests, layers and image configurations, in the words of the OCI image-spec
// (media-types.md) and of Docker's image manifest v2, schema 2.
#pragma once

#include "oci/image/manifest.h"

#include <stdbool.h>

// The kind of manifest that a type stands for; parameters behind ';' and the case do not count, so
// that a Content-Type can be given as it came. False for every other type.
bool oci_media_type_manifest(const char *type, enum oci_manifest_kind *kind);

// How a layer of this type is compressed. False if the type is none of a layer that we read.
bool oci_media_type_layer(const char *type, enum oci_compression *compression);

// Layers that only their publisher may hand out (Windows base images).
bool oci_media_type_foreign(const char *type);

// Whether the type is one of an image's configuration; others belong to artifacts. The generic
// types that old clients and registries put there are taken for an image's, and the parser decides.
bool oci_media_type_config(const char *type);
