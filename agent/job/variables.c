// SPDX-License-Identifier: Apache-2.0
#include "agent/job/variables.h"

#include "agent/job/certificates.h"
#include "base/text.h"

const char job_folder[] = "/stoker/run";
const char job_outputs[] = "/stoker/run/outputs";
const char job_logs[] = "/stoker/run/logs";
const char job_secrets[] = "/stoker/secrets";

enum { RUN_VARIABLES_MAX = 64, PER_INPUT = 3 };

struct variables {
	struct arena *arena;
	const char **items;
	size_t count;
};

// "K=V"; a K that is there already is replaced in its place.
static void set_text(struct variables *v, const char *text)
{
	size_t n = strcspn(text, "=") + 1;
	for (size_t i = 0; i < v->count; i++) {
		if (strncmp(v->items[i], text, n) == 0) {
			v->items[i] = text;
			return;
		}
	}
	v->items[v->count++] = text;
}

static void set(struct variables *v, const char *name, const char *value)
{
	set_text(v, arena_printf(v->arena, "%s=%s", name, value));
}

// Of what Azure ML sets, that which has a meaning on one node; the same under STOKER_ where the
// name fits.
static void set_run(struct variables *v, const struct run *run)
{
	const char *attempt = arena_printf(v->arena, "%u", run->attempt);
	const struct {
		const char *azure, *own, *value;
	} all[] = {
		{"AZUREML_RUN_ID", "STOKER_RUN_ID", run->id},
		{"AZUREML_EXPERIMENT_ID", "STOKER_EXPERIMENT_ID", run->experiment},
		{"AZUREML_ARM_PROJECT_NAME", "STOKER_EXPERIMENT", run->experiment},
		{"AZUREML_OUTPUT_DIRECTORY", "STOKER_OUTPUT_DIRECTORY", job_outputs},
		{"AZUREML_LOGDIRECTORY_PATH", "STOKER_LOGDIRECTORY_PATH", job_logs},
		{"AZUREML_CR_EXECUTION_WORKING_DIR_PATH", "STOKER_WORKING_DIRECTORY", job_folder},
		{"AZUREML_NODE_COUNT", "STOKER_NODE_COUNT", "1"},
		{"AZUREML_CR_NODE_RANK", "STOKER_NODE_RANK", "0"},
		{NULL, "STOKER_ATTEMPT", attempt},
		{"AZUREML_PROCESS_NAME", NULL, "main"},
		{"AZUREML_FRAMEWORK", NULL, "Python"},
		{"AZUREML_COMMUNICATOR", NULL, "None"},
		{"AZUREML_TARGET_TYPE", NULL, "stoker"},
		{"PYTHONUNBUFFERED", NULL, "1"},
	};
	for (size_t i = 0; i < array_size(all); i++) {
		if (all[i].azure)
			set(v, all[i].azure, all[i].value);
		if (all[i].own)
			set(v, all[i].own, all[i].value);
	}
}

static void set_input(struct variables *v, const struct data_source *input)
{
	static const char *const prefixes[PER_INPUT] = {
		"AZURE_ML_INPUT_", "AZUREML_DATAREFERENCE_", "STOKER_INPUT_"};
	for (size_t i = 0; i < array_size(prefixes); i++)
		set_text(v, arena_printf(v->arena, "%s%s=%s", prefixes[i], input->name,
				    data_source_reference(input)));
}

// Files mostly end in a line break, which no password has.
static void set_secret(struct variables *v, const struct job_secret *secret)
{
	size_t n = secret->size;
	if (!secret->variable)
		return;
	while (n && strchr("\r\n", secret->value[n - 1]))
		n--;
	set(v, secret->variable, arena_strndup(v->arena, secret->value, n));
}

const char **job_variables(struct arena *a, const struct oci_config *image,
	const struct job_spec *spec, const struct run *run, const char *hostname)
{
	struct variables v = {.arena = a};
	v.items = arena_array(a, const char *,
		image->env.count + RUN_VARIABLES_MAX + spec->input_count * PER_INPUT +
			spec->variables.count + spec->secret_count);
	if (!spec->variables_alone) {
		set(&v, "PATH", container_default_path);
		set(&v, "HOSTNAME", hostname);
		for (size_t i = 0; i < image->env.count; i++)
			set_text(&v, image->env.items[i]);
		set_run(&v, run);
	}
	for (size_t i = 0; i < spec->input_count; i++)
		set_input(&v, &spec->inputs[i]);
	for (size_t i = 0; i < spec->variables.count; i++)
		set(&v, spec->variables.items[i].key, spec->variables.items[i].value);
	for (size_t i = 0; i < spec->secret_count; i++)
		set_secret(&v, &spec->secrets[i]);
	return v.items;
}

static bool is_set(const struct json_strings *env, const char *name)
{
	size_t n = strlen(name);
	for (size_t i = 0; i < env->count; i++)
		if (strncmp(env->items[i], name, n) == 0 && env->items[i][n] == '=')
			return true;
	return false;
}

void job_variables_certificates(struct arena *a, struct json_strings *env)
{
	size_t more = 0;
	while (certificates_variables[more])
		more++;
	struct json_strings all = {arena_array(a, const char *, env->count + more + 1), env->count};
	memcpy(all.items, env->items, env->count * sizeof(*env->items));
	for (size_t i = 0; i < more; i++)
		if (!is_set(env, certificates_variables[i]))
			all.items[all.count++] = arena_printf(
				a, "%s=%s", certificates_variables[i], certificates_target);
	*env = all;
}
