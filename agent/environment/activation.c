// SPDX-License-Identifier: Apache-2.0
//
// What activating the environment would set, computed once and put into the derived image's Env: a
// job then needs no shell, and nothing of conda's, to start in it.
#include "agent/environment/build.h"
#include "base/text.h"

enum { FIXED_MAX = 16 };

static void set(struct build *b, const char *name, const char *value)
{
	b->activation.items[b->activation.count++] = arena_printf(b->arena, "%s=%s", name, value);
}

static const char *value_of(const struct oci_config *image, const char *name)
{
	size_t n = strlen(name);
	for (size_t i = 0; i < image->env.count; i++)
		if (strncmp(image->env.items[i], name, n) == 0 && image->env.items[i][n] == '=')
			return image->env.items[i] + n + 1;
	return NULL;
}

int build_activation(struct build *b, struct error *err)
{
	struct oci_manifest manifest;
	struct oci_config image;
	if (store_image_load(b->o->store, b->o->image, b->arena, &manifest, &image, err) < 0)
		return -1;
	const char *path = value_of(&image, "PATH");
	b->activation.items = arena_array(b->arena, const char *, FIXED_MAX);
	b->activation.count = 0;
	if (b->request->job->activation == JOB_ACTIVATION_NONE)
		return 0;
	set(b, "PATH",
		arena_printf(b->arena, ENVIRONMENT_PREFIX "/bin:%s",
			path ? path : container_default_path));
	set(b, "PYTHONNOUSERSITE", "1");
	// An empty one is as good as none to Python; the image's would bring its packages along.
	if (value_of(&image, "PYTHONHOME"))
		set(b, "PYTHONHOME", "");
	if (value_of(&image, "PYTHONPATH") && !b->request->job->inherit_image_packages)
		set(b, "PYTHONPATH", "");
	if (!b->request->has_conda)
		set(b, "VIRTUAL_ENV", ENVIRONMENT_PREFIX);
	return 0;
}
