// SPDX-License-Identifier: Apache-2.0
#include "agent/job/spec.h"

#include "agent/job/spec_decode.h"
#include "base/file.h"
#include "base/text.h"
#include "base/yaml.h"

#include <ctype.h>
#include <stddef.h>

enum { NODES_MAX = 100000, DEPTH_MAX = 8 };

static const char letters_digits[] =
	"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.";

int job_decode_size(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	uint64_t bytes = 0;
	bool ok = false;
	if (value->type == JSON_INTEGER && value->integer > 0) {
		bytes = (uint64_t)value->integer;
		ok = true;
	} else if (value->type == JSON_STRING) {
		ok = parse_size(value->string, &bytes) && bytes > 0;
	}
	if (!ok)
		return json_decode_fail(d, value, err, ERROR_INVALID,
			"must be a size over 0: a number of bytes, or digits with k, m, g or t "
			"behind");
	*(uint64_t *)target = bytes;
	return 0;
}

static int decode_experiment(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	struct error reason = {0};
	if (json_decode_string(d, value, target, err) < 0)
		return -1;
	if (job_experiment_check(*(const char **)target, &reason) < 0)
		return json_decode_fail(d, value, err, ERROR_INVALID, "%s", reason.text);
	return 0;
}

int job_decode_nonempty(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	if (json_decode_string(d, value, target, err) < 0)
		return -1;
	if (!value->length)
		return json_decode_fail(d, value, err, ERROR_INVALID, "must not be empty");
	return 0;
}

int job_decode_below(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	if (job_decode_nonempty(d, value, target, err) < 0)
		return -1;
	if (*value->string == '/')
		return json_decode_fail(d, value, err, ERROR_INVALID,
			"must be a path relative to source_directory");
	return 0;
}

int job_decode_name(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	return data_name_decode(d, value, target, err);
}

static int decode_inputs(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	struct job_spec *s = target;
	void *items;
	if (json_decode_array(d, value, data_source_decode, sizeof(struct data_source),
		    JOB_INPUTS_MAX, &items, &s->input_count, err) < 0)
		return -1;
	s->inputs = items;
	for (size_t i = 0; i < s->input_count; i++)
		for (size_t k = 0; k < i; k++)
			if (streq(s->inputs[i].name, s->inputs[k].name))
				return json_decode_fail(d, &value->members[i].value, err,
					ERROR_INVALID, "there are two inputs with the name %s",
					s->inputs[i].name);
	return 0;
}

static int decode_limited(struct json_decoder *d, const struct json *value, size_t most,
	const char **target, struct error *err)
{
	size_t characters = 0;
	if (json_decode_string(d, value, target, err) < 0)
		return -1;
	for (const char *p = value->string; *p; p++)
		characters += ((unsigned char)*p & 0xC0) != 0x80;
	if (characters > most)
		return json_decode_fail(
			d, value, err, ERROR_LIMIT, "longer than %zu characters", most);
	return 0;
}

static int decode_display_name(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	return decode_limited(d, value, JOB_NAME_MAX, target, err);
}

static int decode_description(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	return decode_limited(d, value, JOB_DESCRIPTION_MAX, target, err);
}

static int decode_retries(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	return job_decode_count(d, value, 0, JOB_RETRIES_MAX, target, err);
}

static int decode_one(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	if (value->type == JSON_INTEGER && value->integer > 1)
		return json_decode_fail(d, value, err, ERROR_INVALID,
			"more than 1 is not supported by this version");
	return job_decode_count(d, value, 1, 1, target, err);
}

#define AT(member) offsetof(struct job_spec, member)
#define IN(member) offsetof(struct job_spec, environment.member)
// Inputs before the arguments that refer to them.
static const struct json_field fields[] = {
	{"experiment", decode_experiment, AT(experiment), JSON_NULLABLE},
	{"display_name", decode_display_name, AT(display_name), JSON_NULLABLE},
	{"description", decode_description, AT(description), JSON_NULLABLE},
	{"tags", job_decode_tags, AT(tags), JSON_NULLABLE},
	{"source_directory", job_decode_nonempty, AT(source_directory), JSON_NULLABLE},
	{"entry_script", job_decode_below, AT(entry_script), JSON_REQUIRED},
	{"inputs", decode_inputs, 0, JSON_NULLABLE},
	{"script_params", job_decode_params, 0, JSON_NULLABLE},
	{"custom_docker_image", job_decode_nonempty, AT(image), JSON_NULLABLE},
	{"user_managed", json_decode_bool, IN(user_managed), JSON_NULLABLE},
	{"conda_packages", job_decode_conda, IN(conda), JSON_NULLABLE},
	{"pip_packages", job_decode_pip, IN(pip), JSON_NULLABLE},
	{"conda_dependencies_file", job_decode_below, IN(conda_file), JSON_NULLABLE},
	{"pip_requirements_file", job_decode_below, IN(pip_file), JSON_NULLABLE},
	{"environment", job_decode_environment, AT(environment), JSON_NULLABLE},
	{"environment_variables", job_decode_variables, AT(variables), JSON_NULLABLE},
	{"shm_size", job_decode_size, AT(shm_size), JSON_NULLABLE},
	{"max_run_duration_seconds", job_decode_seconds, AT(max_seconds), JSON_NULLABLE},
	{"max_retries", decode_retries, AT(max_retries), JSON_NULLABLE},
	{"output_destination", job_decode_nonempty, AT(output_destination), JSON_NULLABLE},
	{"network", policy_decode_network, AT(network), JSON_NULLABLE},
	{"resources", job_decode_resources, AT(resources), JSON_NULLABLE},
	{"secrets", job_decode_secrets, 0, JSON_NULLABLE},
	{"node_count", decode_one, AT(node_count), JSON_NULLABLE},
	{"process_count_per_node", decode_one, AT(process_count_per_node), JSON_NULLABLE},
	{0},
};
#undef AT
#undef IN

static const char *const networks[] = {"private", "none", "host", NULL};
static const struct data_words words[] = {{"network", networks}, {0}};

const struct job_keys job_keys[] = {
	{"", fields, words},
	{"resources", job_resources_fields, NULL},
	{"environment", job_environment_fields, job_environment_words},
	{"secrets.*", job_secret_fields, NULL},
	{"inputs[]", data_source_fields, data_source_words},
	{"inputs[].files[]", data_file_fields, NULL},
	{0},
};

// Words of the Estimator that a job file does not have, and what it has for them.
static const struct {
	const char *key, *remedy;
} elsewhere[] = {
	{"distributed_training", "not supported by this version"},
	{"distributed_backend", "not supported by this version"},
	{"compute_target", "this node is where it runs; leave it out"},
	{"vm_size", "write resources: (cpus, memory, gpus) instead"},
	{"vm_priority", "this node is where it runs; leave it out"},
	{"use_docker", "jobs always run in a container; leave it out"},
	{"use_gpu", "write resources: {gpus: 1} instead"},
	{"gpus", "write resources: {gpus: N} instead"},
	{"cpus", "write resources: {cpus: N} instead"},
	{"memory", "write resources: {memory: SIZE} instead"},
	{"image", "write custom_docker_image instead"},
	{"custom_docker_base_image", "write custom_docker_image instead"},
	{"image_registry_details", "the node's configuration has registries: and credentials"},
	{"conda_dependencies_file_path", "write conda_dependencies_file instead"},
	{"pip_requirements_file_path", "write pip_requirements_file instead"},
	{"environment_definition", "write environment, conda_packages and pip_packages instead"},
	{"source_directory_data_store", "the folder is copied to this node; leave it out"},
	{"resume_from", "write an input, and {input: NAME} in script_params"},
	{"framework_version", "name it in pip_packages, conda_packages or the image"},
	{"experiment_name", "write experiment instead"},
	{"arguments", "write script_params instead"},
};

static int refuse_elsewhere(struct json_decoder *d, const struct json *document, struct error *err)
{
	if (document->type != JSON_OBJECT)
		return 0; // the table's decoder says so
	for (size_t i = 0; i < array_size(elsewhere); i++) {
		const struct json *value = json_get(document, elsewhere[i].key);
		if (!value)
			continue;
		size_t entered = json_decode_enter_key(d, elsewhere[i].key);
		json_decode_fail(d, value, err, ERROR_INVALID, "%s", elsewhere[i].remedy);
		json_decode_leave(d, entered);
		return -1;
	}
	return 0;
}

// An input's password must be one of the secrets.
static int check_passwords(struct json_decoder *d, const struct json *document,
	const struct job_spec *s, struct error *err)
{
	for (size_t i = 0; i < s->input_count; i++) {
		const char *name = s->inputs[i].password_secret;
		bool found = !name;
		for (size_t k = 0; !found && k < s->secret_count; k++)
			found = streq(s->secrets[k].name, name);
		if (!found)
			return json_decode_fail(d, &json_get(document, "inputs")->members[i].value,
				err, ERROR_INVALID,
				"inputs[%zu].password_secret: there is no secret \"%s\"; secrets: "
				"names them",
				i, name);
	}
	return 0;
}

int job_experiment_check(const char *experiment, struct error *err)
{
	size_t n = strlen(experiment);
	if (n == 0 || n > JOB_EXPERIMENT_MAX || experiment[strspn(experiment, letters_digits)] ||
		!isalnum((unsigned char)*experiment))
		return error_set(err, ERROR_INVALID,
			"must be letters, digits, '-', '_' and '.', a letter or digit first, %d at "
			"most",
			JOB_EXPERIMENT_MAX);
	return 0;
}

int job_spec_parse(
	struct job_spec *s, const char *data, size_t size, const char *name, struct error *err)
{
	static const struct json_limits limits = {JOB_BYTES_MAX, DEPTH_MAX, NODES_MAX};
	struct job_text source = {.data = data, .size = size};
	const struct json *tree = yaml_parse(&s->arena, data, size, name, &limits, err);
	if (!tree)
		return -1;
	struct json_decoder d = {
		.arena = &s->arena, .document = name, .positions = true, .context = &source};
	s->experiment = "run";
	s->source_directory = ".";
	s->environment.channel_priority = "strict";
	s->node_count = s->process_count_per_node = 1;
	if (refuse_elsewhere(&d, tree, err) < 0 ||
		json_decode_object(&d, tree, fields, true, s, err) < 0)
		return -1;
	return check_passwords(&d, tree, s, err) < 0
		       ? -1
		       : job_environment_check(&d, tree, &s->environment, err);
}

// `path` counted from the folder of the file `document`.
static const char *resolve(struct job_spec *s, const char *document, const char *path)
{
	size_t n = (size_t)(path_base(document) - document);
	if (*path == '/')
		return path;
	if (streq(path, "."))
		return arena_strndup(&s->arena, document, n > 1 ? n - 1 : n);
	return arena_printf(&s->arena, "%.*s%s", (int)n, document, path);
}

int job_spec_load(struct job_spec *s, const char *path, struct error *err)
{
	cleanup_free char *absolute = path_absolute(path, err);
	if (!absolute || file_read(AT_FDCWD, path, JOB_BYTES_MAX, &s->document, err) < 0)
		return -1;
	const char *data = s->document.data ? s->document.data : "";
	if (job_spec_parse(s, data, s->document.size, path, err) < 0)
		return -1;
	s->source_directory = resolve(s, absolute, s->source_directory);
	for (size_t i = 0; i < s->input_count; i++)
		if (s->inputs[i].path)
			s->inputs[i].path = resolve(s, absolute, s->inputs[i].path);
	for (size_t i = 0; i < s->secret_count; i++)
		if (s->secrets[i].file)
			s->secrets[i].file = resolve(s, absolute, s->secrets[i].file);
	if (s->output_destination)
		s->output_destination = resolve(s, absolute, s->output_destination);
	if (s->environment.lock_file)
		s->environment.lock_file = resolve(s, absolute, s->environment.lock_file);
	return job_environment_load(s, err) < 0 ? error_context(err, "%s", path) : 0;
}

void job_spec_release(struct job_spec *s)
{
	arena_release(&s->arena);
	buffer_release(&s->document);
	buffer_release(&s->environment.lock);
}
