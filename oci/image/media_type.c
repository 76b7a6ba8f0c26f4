// SPDX-License-Identifier: Apache-2.0
#include "oci/image/media_type.h"

#include "base/text.h"

#include <strings.h>

#define OCI_INDEX	"application/vnd.oci.image.index.v1+json"
#define OCI_MANIFEST	"application/vnd.oci.image.manifest.v1+json"
#define DOCKER_LIST	"application/vnd.docker.distribution.manifest.list.v2+json"
#define DOCKER_MANIFEST "application/vnd.docker.distribution.manifest.v2+json"

const char *const oci_manifest_accept =
	OCI_INDEX ", " DOCKER_LIST ", " OCI_MANIFEST ", " DOCKER_MANIFEST;

static const struct {
	const char *type;
	enum oci_manifest_kind kind;
} manifests[] = {
	{OCI_INDEX, OCI_MANIFEST_INDEX},
	{DOCKER_LIST, OCI_MANIFEST_INDEX},
	{OCI_MANIFEST, OCI_MANIFEST_IMAGE},
	{DOCKER_MANIFEST, OCI_MANIFEST_IMAGE},
};

static const struct {
	const char *type;
	enum oci_compression compression;
} layers[] = {
	{"application/vnd.oci.image.layer.v1.tar", OCI_COMPRESSION_NONE},
	{"application/vnd.oci.image.layer.v1.tar+gzip", OCI_COMPRESSION_GZIP},
	{"application/vnd.oci.image.layer.v1.tar+zstd", OCI_COMPRESSION_ZSTD},
	{"application/vnd.docker.image.rootfs.diff.tar", OCI_COMPRESSION_NONE},
	{"application/vnd.docker.image.rootfs.diff.tar.gzip", OCI_COMPRESSION_GZIP},
	{"application/vnd.docker.image.rootfs.diff.tar.zstd", OCI_COMPRESSION_ZSTD},
};

static const char *const configs[] = {
	"application/vnd.oci.image.config.v1+json",
	"application/vnd.docker.container.image.v1+json",
	"application/octet-stream",
	"application/json",
	"text/html",
	"",
};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

bool oci_media_type_manifest(const char *type, enum oci_manifest_kind *kind)
{
	size_t n = strcspn(type, "; \t");

	for (size_t i = 0; i < COUNT(manifests); i++) {
		if (strlen(manifests[i].type) == n &&
			strncasecmp(type, manifests[i].type, n) == 0) {
			*kind = manifests[i].kind;
			return true;
		}
	}
	return false;
}

bool oci_media_type_layer(const char *type, enum oci_compression *compression)
{
	for (size_t i = 0; i < COUNT(layers); i++) {
		if (streq(type, layers[i].type)) {
			*compression = layers[i].compression;
			return true;
		}
	}
	return false;
}

bool oci_media_type_foreign(const char *type)
{
	return starts_with(type, "application/vnd.docker.image.rootfs.foreign.") ||
	       starts_with(type, "application/vnd.oci.image.layer.nondistributable.");
}

bool oci_media_type_config(const char *type)
{
	for (size_t i = 0; i < COUNT(configs); i++)
		if (streq(type, configs[i]))
			return true;
	return false;
}
