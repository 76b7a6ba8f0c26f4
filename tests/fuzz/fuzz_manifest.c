// SPDX-License-Identifier: Apache-2.0
// Manifests and indexes as a registry sends them, and the choice from an index.
#include "base/text.h"
#include "oci/image/manifest.h"

#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void expect(bool condition)
{
	if (!condition)
		abort();
}

static void check_descriptor(const struct oci_descriptor *d)
{
	expect(d->media_type && strlen(d->digest.text) == OCI_DIGEST_SIZE - 1);
	expect(d->size <= 1ULL << 50);
}

static void check_image(const struct oci_manifest *m)
{
	expect(m->layer_count > 0 && m->layer_count <= OCI_LAYERS_MAX && m->entry_count == 0);
	check_descriptor(&m->config);
	for (size_t i = 0; i < m->layer_count; i++)
		check_descriptor(&m->layers[i].descriptor);
}

static void check_index(const struct oci_manifest *m)
{
	struct oci_platform want = {.os = "linux", .architecture = "amd64"};
	const struct oci_index_entry *entry;
	struct error err = {0};

	expect(m->entry_count <= OCI_INDEX_ENTRIES_MAX && m->layer_count == 0);
	for (size_t i = 0; i < m->entry_count; i++)
		check_descriptor(&m->entries[i].descriptor);
	if (oci_index_choose(m, &want, &entry, &err) < 0)
		expect(err.kind == ERROR_NOT_FOUND && err.text[0]);
	else
		expect(entry >= m->entries && entry < m->entries + m->entry_count);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char *const types[] = {NULL, "application/vnd.oci.image.index.v1+json",
		"application/vnd.docker.distribution.manifest.v2+json; x=y"};

	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
		struct arena cleanup_arena a = {0};
		struct oci_manifest m;
		struct error err = {0};
		if (oci_manifest_parse(&a, (const char *)data, size, types[i], &m, &err) < 0)
			expect((err.kind == ERROR_INVALID || err.kind == ERROR_LIMIT) &&
				err.text[0]);
		else if (m.kind == OCI_MANIFEST_IMAGE)
			check_image(&m);
		else
			check_index(&m);
	}
	return 0;
}
