// SPDX-License-Identifier: Apache-2.0
//
// What activating the environment would set, computed once and put into the derived image's Env: a
// job then needs no shell, and nothing of conda's, to start in it. In the order of conda's own
// activation: the prefix, variables that packages declare, scripts that have to be sourced.
#include "agent/environment/build.h"
#include "base/file.h"
#include "base/text.h"

enum {
	VARIABLES_MAX = 1000,
	VALUE_BYTES_MAX = 128 * 1024 - 1,
	FILE_BYTES_MAX = 1024 * 1024,
	ENVIRON_BYTES_MAX = 4 * 1024 * 1024,
};

#define DECLARED_FOLDER "env/etc/conda/env_vars.d"
#define ACTIVATE_FOLDER "env/etc/conda/activate.d"

// conda's mark for a variable that is declared and has no value.
static const char unset[] = "***unset***";

// Run by whatever shell the image has: by bash where there is one, as people's own are.
static const char script[] =
	"[ -z \"$BASH_VERSION\" ] && [ -x /bin/bash ] && exec /bin/bash \"$0\"\n"
	"env -0 >" BUILD_TMP "/before || exit 1\n"
	"for f in " ENVIRONMENT_PREFIX "/etc/conda/activate.d/*.sh; do . \"$f\"; done\n"
	"env -0 >" BUILD_TMP "/after\n";

// ---- the list

static size_t name_size(const char *variable)
{
	return strcspn(variable, "=") + 1;
}

static void set_text(struct build *b, const char *text)
{
	struct json_strings *all = &b->activation;
	size_t n = name_size(text);
	for (size_t i = 0; i < all->count; i++)
		if (strncmp(all->items[i], text, n) == 0) {
			all->items[i] = text;
			return;
		}
	if (all->count < VARIABLES_MAX)
		all->items[all->count++] = text;
}

static void set(struct build *b, const char *name, const char *value)
{
	if (*name && !strchr(name, '=') && strlen(value) <= VALUE_BYTES_MAX)
		set_text(b, arena_printf(b->arena, "%s=%s", name, value));
}

static const char *value_of(const struct oci_strings *env, const char *name)
{
	size_t n = strlen(name);
	for (size_t i = 0; i < env->count; i++)
		if (strncmp(env->items[i], name, n) == 0 && env->items[i][n] == '=')
			return env->items[i] + n + 1;
	return NULL;
}

// ---- the prefix

// An empty variable is as good as none, to Python and to the dynamic loader.
static void clear_python(struct build *b, const struct oci_strings *env)
{
	if (value_of(env, "PYTHONHOME"))
		set(b, "PYTHONHOME", "");
	if (value_of(env, "PYTHONPATH") && !b->request->job->inherit_image_packages)
		set(b, "PYTHONPATH", "");
}

// Two C++ libraries, the image's conda's and this one's, do not go together in one process.
static void clear_libraries(struct build *b, const struct oci_strings *env)
{
	cleanup_buffer struct buffer kept = {0};
	const char *path = value_of(env, "LD_LIBRARY_PATH");
	bool dropped = false;
	for (const char *p = path ? path : ""; *p;) {
		size_t n = strcspn(p, ":");
		const char *folder = arena_strndup(b->arena, p, n);
		bool foreign = strstr(folder, "conda") || strstr(folder, "mamba");
		if (!foreign)
			buffer_printf(&kept, "%s%s", kept.size ? ":" : "", folder);
		dropped |= foreign;
		p += n + (p[n] == ':');
	}
	if (dropped)
		set(b, "LD_LIBRARY_PATH", kept.data ? kept.data : "");
}

static void set_prefix(struct build *b, const struct oci_strings *env)
{
	const char *path = value_of(env, "PATH");
	set(b, "PATH",
		arena_printf(b->arena, ENVIRONMENT_PREFIX "/bin:%s",
			path ? path : container_default_path));
	set(b, "PYTHONNOUSERSITE", "1");
	clear_python(b, env);
	if (!b->request->has_conda) {
		set(b, "VIRTUAL_ENV", ENVIRONMENT_PREFIX);
		return;
	}
	clear_libraries(b, env);
	set(b, "CONDA_PREFIX", ENVIRONMENT_PREFIX);
	set(b, "CONDA_DEFAULT_ENV", ENVIRONMENT_PREFIX);
	set(b, "CONDA_SHLVL", "1");
}

// ---- declared variables

static void set_members(struct build *b, const struct json *object)
{
	if (!object || object->type != JSON_OBJECT)
		return;
	json_object_each (member, object)
		if (member->value.type == JSON_STRING && !streq(member->value.string, unset))
			set(b, member->key, member->value.string);
}

// `total`: bytes of all documents so far; what they say is kept.
static int set_document(
	struct build *b, const char *path, const char *member, size_t *total, struct error *err)
{
	cleanup_arena struct arena scratch = {0};
	cleanup_buffer struct buffer text = {0};
	if (build_get(b, path, FILE_BYTES_MAX, &text, err) < 0)
		return -1;
	*total += text.size;
	if (*total > ENVIRON_BYTES_MAX)
		return error_set(
			err, ERROR_INVALID, "%s: packages declare too many variables", path);
	const struct json *document =
		json_parse(&scratch, text.data ? text.data : "", text.size, path, NULL, err);
	if (!document)
		return -1;
	set_members(b, member ? json_get(document, member) : document);
	return 0;
}

static int set_declared(struct build *b, struct error *err)
{
	struct json_strings files;
	size_t total = 0;
	if (build_names(b, DECLARED_FOLDER, ".json", VARIABLES_MAX, &files, err) < 0)
		return -1;
	for (size_t i = 0; i < files.count; i++) {
		const char *path = arena_printf(b->arena, DECLARED_FOLDER "/%s", files.items[i]);
		if (set_document(b, path, NULL, &total, err) < 0)
			return -1;
	}
	if (set_document(b, "env/conda-meta/state", "env_vars", &total, err) < 0) {
		if (err->kind != ERROR_NOT_FOUND)
			return -1;
		error_clear(err);
	}
	return 0;
}

// ---- scripts

// What a script finds is what the job will have.
static struct json_pairs script_environment(struct build *b, const struct oci_strings *image)
{
	struct json_pairs env = {.items = arena_array(b->arena, struct json_pair,
					 image->count + b->activation.count + 2)};
	env.items[env.count++] = (struct json_pair){"HOME", BUILD_TMP "/home"};
	for (size_t i = 0; i < image->count + b->activation.count; i++) {
		const char *text =
			i < image->count ? image->items[i] : b->activation.items[i - image->count];
		size_t n = name_size(text);
		const char *name = arena_strndup(b->arena, text, n - 1);
		size_t at = 0;
		while (at < env.count && !streq(env.items[at].key, name))
			at++;
		env.items[at] = (struct json_pair){name, text + n};
		env.count += at == env.count;
	}
	return env;
}

static bool is_of_the_shell(const char *text)
{
	static const char *const names[] = {
		"PWD=", "OLDPWD=", "SHLVL=", "_=", "HOME=", "HOSTNAME=", "TMPDIR=", "PS1="};
	for (size_t i = 0; i < array_size(names); i++)
		if (starts_with(text, names[i]))
			return true;
	return starts_with(text, "BASH") || starts_with(text, "_CE_") || strcspn(text, "=") == 0 ||
	       !strchr(text, '=');
}

// Of scripts that may write into these files what they like.
static bool is_many(const struct buffer *b)
{
	size_t n = 0;
	for (size_t i = 0; i < b->size; i++)
		n += b->data[i] == '\0';
	return n > 2 * VARIABLES_MAX;
}

static bool holds(const struct buffer *b, const char *text)
{
	for (const char *p = b->data; p && p < b->data + b->size; p += strlen(p) + 1)
		if (streq(p, text))
			return true;
	return false;
}

static void set_difference(struct build *b, const struct buffer *before, const struct buffer *after)
{
	for (const char *p = after->data; p && p < after->data + after->size; p += strlen(p) + 1) {
		if (is_of_the_shell(p) || holds(before, p) || strlen(p) > VALUE_BYTES_MAX)
			continue;
		set_text(b, arena_strdup(b->arena, p));
		if (strstr(p, BUILD_TMP) || strstr(p, "/opt/stoker/pkgs"))
			environment_notice(
				b->o, arena_printf(b->arena,
					      "activation sets %.*s to a folder of the build",
					      (int)(name_size(p) - 1), p));
	}
}

static int source_scripts(struct build *b, const struct oci_strings *image, struct error *err)
{
	struct step_result result;
	cleanup_buffer struct buffer text = {0}, before = {0}, after = {0};
	const char *argv[] = {"/bin/sh", BUILD_TMP "/activate.sh", NULL};
	const struct json_strings command = {argv, 2};
	buffer_puts(&text, script);
	struct json_strings scripts;
	if (build_names(b, ACTIVATE_FOLDER, ".sh", VARIABLES_MAX, &scripts, err) < 0)
		return -1;
	if (!scripts.count)
		return 0;
	if (build_put(b, "activate.sh", &text, err) < 0)
		return -1;
	const struct json_pairs saved = b->env;
	b->env = script_environment(b, image);
	int rc = build_step(b, "activation", &command, NULL, &result, err);
	b->env = saved;
	if (rc < 0 && err->kind == ERROR_NOT_FOUND)
		return build_fail(b, ENVIRONMENT_NO_TOOL, err,
			"packages have activation scripts, and the image has no /bin/sh for them; "
			"set activation: none, or take another image");
	if (rc < 0)
		return -1;
	rc = result.exit_status == 0 &&
			     build_get(b, "tmp/before", ENVIRON_BYTES_MAX, &before, err) == 0 &&
			     build_get(b, "tmp/after", ENVIRON_BYTES_MAX, &after, err) == 0
		     ? 0
		     : -1;
	if (rc < 0) {
		buffer_release(&b->trouble->evidence);
		b->trouble->evidence = result.output;
		result.output = (struct buffer){0};
	}
	step_result_release(&result);
	if (rc < 0)
		return build_fail(b, ENVIRONMENT_BUILD, err,
			"a package's activation script ended the shell (exit status %d)",
			result.exit_status);
	if (is_many(&before) || is_many(&after))
		return build_fail(b, ENVIRONMENT_BUILD, err,
			"packages' activation scripts set more than %d variables",
			2 * VARIABLES_MAX);
	set_difference(b, &before, &after);
	return 0;
}

int build_activation(struct build *b, struct error *err)
{
	struct oci_manifest manifest;
	struct oci_config image;
	if (store_image_load(b->o->store, b->o->image, b->arena, &manifest, &image, err) < 0)
		return -1;
	b->activation = (struct json_strings){
		.items = arena_array(b->arena, const char *, VARIABLES_MAX + 1)};
	if (b->lock.activation && streq(b->lock.activation, "none"))
		return 0;
	set_prefix(b, &image.env);
	if (!b->request->has_conda)
		return 0;
	if (set_declared(b, err) < 0)
		return -1;
	// "shell": the job's own shell sources them when it starts (agent/job/sandbox.c).
	bool now = !b->lock.activation || streq(b->lock.activation, "snapshot");
	return now ? source_scripts(b, &image.env, err) : 0;
}
