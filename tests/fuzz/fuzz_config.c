// SPDX-License-Identifier: Apache-2.0
// Image configurations as a registry sends them.
#include "base/text.h"
#include "oci/image/config.h"
#include "oci/image/manifest.h"

#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void expect(bool condition)
{
	if (!condition)
		abort();
}

static void check_strings(const struct oci_strings *s)
{
	for (size_t i = 0; i < s->count; i++)
		expect(s->items[i] != NULL);
	expect(s->items[s->count] == NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct arena cleanup_arena a = {0};
	struct oci_config c;
	struct error err = {0};

	if (oci_config_parse(&a, (const char *)data, size, &c, &err) < 0) {
		expect((err.kind == ERROR_INVALID || err.kind == ERROR_LIMIT) && err.text[0]);
		return 0;
	}
	check_strings(&c.env);
	check_strings(&c.entrypoint);
	check_strings(&c.cmd);
	for (size_t i = 0; i < c.env.count; i++)
		expect(strchr(c.env.items[i], '=') > c.env.items[i]);
	expect(c.diff_id_count <= OCI_LAYERS_MAX && c.platform.os[0] && c.platform.architecture[0]);
	expect(c.working_dir && c.user && c.stop_signal && c.created);
	expect(!c.working_dir[0] || c.working_dir[0] == '/' || streq(c.platform.os, "windows"));
	return 0;
}
