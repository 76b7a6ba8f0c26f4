// SPDX-License-Identifier: Apache-2.0
//
// What the node's administrator allows. Said early and in one line; whoever mounts or opens
// something looks again, since a folder may change its place.
#include "agent/job/job.h"
#include "base/file.h"
#include "base/text.h"

// Is it below one of the folders, links resolved? None named: anywhere. What is not there yet may
// be as long as its parent is.
static bool is_below(const struct json_strings *roots, const char *path)
{
	for (size_t i = 0; i < roots->count; i++) {
		size_t n = strlen(roots->items[i]);
		struct error ignored = {0};
		while (n > 1 && roots->items[i][n - 1] == '/')
			n--;
		bool inside = strncmp(path, roots->items[i], n) == 0 &&
			      (n == 1 || path[n] == '/' || !path[n]);
		if (!inside)
			continue;
		const char *rest = path + n + strspn(path + n, "/");
		cleanup_fd int root = directory_open(AT_FDCWD, roots->items[i], &ignored);
		cleanup_fd int fd = root < 0 ? -1
					     : file_open_beneath(root, *rest ? rest : ".", O_PATH,
						       0, 0, &ignored);
		if (fd >= 0 || ignored.kind == ERROR_NOT_FOUND)
			return true;
	}
	return roots->count == 0;
}

static bool is_named(const struct json_strings *names, const char *name)
{
	for (size_t i = 0; i < names->count; i++)
		if (streq(names->items[i], name))
			return true;
	return false;
}

static int check_input(const struct data_source *s, const struct data_policy *p, struct error *err)
{
	if (s->path && !is_below(&p->bind_roots, s->path))
		return error_set(err, ERROR_DENIED,
			"%s is below none of the folders that data.bind_roots of the node allows",
			s->path);
	if (s->kind == DATA_FSIMAGE && !p->allow_fsimage)
		return error_set(err, ERROR_DENIED,
			"file-system images are allowed where the node has data.allow_fsimage: "
			"true");
	if (s->profile && !is_named(&p->profiles, s->profile))
		return error_set(err, ERROR_DENIED,
			"the profile %s is not among data.profiles of the node (agent.yaml), "
			"which says which programs may mount inputs",
			s->profile);
	if (p->max_bytes && s->max_bytes > p->max_bytes)
		return error_set(err, ERROR_DENIED, "max_bytes is over data.max_bytes of the node");
	return 0;
}

int job_check_allowed(const struct job_spec *spec, const struct config *config, struct error *err)
{
	if (spec->network == JOB_NETWORK_HOST && !config->policy.allow_host_network)
		return error_set(err, ERROR_DENIED,
			"network: host is not allowed on this node (agent.yaml: "
			"sandbox.allow_host_network)");
	for (size_t i = 0; i < spec->input_count; i++)
		if (check_input(&spec->inputs[i], &config->data, err) < 0)
			return error_context(err, "input %s", spec->inputs[i].name);
	if (spec->output_destination &&
		!is_below(&config->outputs.destination_roots, spec->output_destination))
		return error_set(err, ERROR_DENIED,
			"output_destination: %s is below none of the folders that "
			"outputs.destination_roots of the node allows",
			spec->output_destination);
	return 0;
}
