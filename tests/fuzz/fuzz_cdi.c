// SPDX-License-Identifier: Apache-2.0
// CDI documents, JSON and YAML, and their edits in a specification. Nodes are not looked up: what
// lies on this machine must not decide what is found.
#include "base/text.h"
#include "oci/runtime/cdi.h"

#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void expect(bool condition)
{
	if (!condition)
		abort();
}

static void check_edits(const struct cdi_edits *e)
{
	for (size_t i = 0; i < e->env.count; i++)
		expect(strchr(e->env.items[i], '=') > e->env.items[i]);
	for (size_t i = 0; i < e->node_count; i++)
		expect(e->nodes[i].path[0] == '/' && e->nodes[i].host_path[0] == '/' &&
			e->nodes[i].mode <= 0777);
	for (size_t i = 0; i < e->mount_count; i++)
		expect(e->mounts[i].destination[0] == '/' && e->mounts[i].type[0]);
	for (size_t i = 0; i < e->hook_count; i++)
		expect(e->hooks[i].hook.path[0] == '/' && e->hooks[i].point < RUNTIME_HOOK_POINTS);
}

static bool needs_host(const struct cdi_edits *e)
{
	for (size_t i = 0; i < e->node_count; i++)
		if (e->nodes[i].type != 'p' &&
			!(e->nodes[i].type && e->nodes[i].has_major && e->nodes[i].has_minor))
			return true;
	return false;
}

static void apply(const struct cdi_device *d)
{
	struct arena cleanup_arena a = {0};
	struct runtime_spec spec = {0};
	struct error err = {0};
	const struct cdi_device *const twice[] = {d, d};

	if (needs_host(&d->edits) || needs_host(&d->file->edits))
		return;
	expect(cdi_apply(twice, 2, &a, &spec, &err) == 0);
	expect(spec.device_count <= d->edits.node_count + d->file->edits.node_count);
	expect(spec.mount_count <= d->edits.mount_count + d->file->edits.mount_count);
}

static void try(const uint8_t *data, size_t size, const char *name)
{
	struct error err = {0};
	struct cdi cleanup_cdi *c = cdi_parse((const char *)data, size, name, &err);
	size_t count;

	if (!c) {
		expect((err.kind == ERROR_INVALID || err.kind == ERROR_LIMIT) && err.text[0]);
		return;
	}
	const struct cdi_device *devices = cdi_devices(c, &count);
	expect(count > 0);
	for (size_t i = 0; i < count; i++) {
		const struct cdi_device *found;
		expect(cdi_find(c, devices[i].name, &found, &err) == 0 && found == &devices[i]);
		check_edits(&devices[i].edits);
		check_edits(&devices[i].file->edits);
		apply(&devices[i]);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	try(data, size, "fuzz.json");
	try(data, size, "fuzz.yaml");
	return 0;
}
