// SPDX-License-Identifier: Apache-2.0
//
// What an image offers: its interpreter is asked where things are, since only it knows; an image
// without one is asked for each program by its name. Remembered in
// <state>/environments/tools/<digest>.json.
#include "agent/environment/records.h"
#include "agent/environment/tools_internal.h"
#include "base/file.h"
#include "base/json_write.h"
#include "base/text.h"

#include <glob.h>
#include <unistd.h>

enum { PROBE_SECONDS = 60, FOUND_LAYOUT = 1 };

static const char more_folders[] =
	":/opt/conda/bin:/opt/miniconda3/bin:/opt/mamba/bin:/root/miniconda3/bin:/root/.local/bin";

// For Python 3.4 and later. Nothing is imported that costs time or has effects.
static const char probe[] =
	"import sys, json, os, shutil\n"
	"from importlib.util import find_spec\n"
	"v = {'python': sys.executable, 'python_version': '.'.join(map(str, "
	"sys.version_info[:3]))}\n"
	"try:\n"
	"    v['glibc'] = os.confstr('CS_GNU_LIBC_VERSION').split()[1]\n"
	"except Exception:\n"
	"    pass\n"
	"try:\n"
	"    import pip\n"
	"    v['pip_version'] = pip.__version__\n"
	"    runner = os.path.join(os.path.dirname(pip.__file__), '__pip-runner__.py')\n"
	"    if os.path.isfile(runner):\n"
	"        v['pip_runner'] = runner\n"
	"except Exception:\n"
	"    sys.path[:0] = sys.argv[1:]\n"
	"try:\n"
	"    from pip._internal.models.index import PyPI\n"
	"    v['index'] = PyPI.simple_url\n"
	"except Exception:\n"
	"    pass\n"
	"v['has_venv'] = bool(find_spec('venv'))\n"
	"v['has_ensurepip'] = bool(find_spec('ensurepip'))\n"
	"for name in ('micromamba', 'mamba', 'conda', 'uv'):\n"
	"    path = shutil.which(name)\n"
	"    if path:\n"
	"        v[name] = path\n"
	"print('\\n' + json.dumps(v))\n";

const char *tools_path(struct arena *a, const struct environment_options *o, struct error *err)
{
	struct oci_manifest manifest;
	struct oci_config config;
	const char *path = container_default_path;
	if (store_image_load(o->store, o->image, a, &manifest, &config, err) < 0)
		return NULL;
	for (size_t i = 0; i < config.env.count; i++)
		if (starts_with(config.env.items[i], "PATH="))
			path = config.env.items[i] + 5;
	return arena_printf(a, "%s%s", path, more_folders);
}

const char *tools_pip_wheel(struct arena *a)
{
	glob_t found;
	const char *wheel = NULL;
	if (glob("/usr/share/python-wheels/pip-*-py3-none-any.whl", 0, NULL, &found) != 0)
		return NULL;
	if (found.gl_pathc > 0) {
		const char *path = found.gl_pathv[found.gl_pathc - 1];
		wheel = arena_printf(a, "%s:" TOOLS_FOLDER "/%s", path, path_base(path));
	}
	globfree(&found);
	return wheel;
}

// ---- asking

// Runs one command of the image. 1 with its output, 0 there is no such program or it failed, -1.
static int ask(const struct environment_options *o, struct arena *a, const char *const *argv,
	struct buffer *output, struct error *err)
{
	struct step_place place = {.o = o, .listen_fd = -1};
	struct json_pair env[] = {{"PATH", tools_path(a, o, err)}, {"HOME", "/tmp"},
		{"LC_ALL", "C.UTF-8"}, {"CONDARC", "/etc/stoker-none"}};
	struct step step = {.phase = "looking into the image",
		.argv = {.items = (const char **)argv},
		.env = {env, array_size(env)},
		.max_seconds = PROBE_SECONDS};
	struct step_result result;
	const char *wheel = tools_pip_wheel(a);
	if (!env[0].value)
		return -1;
	if (wheel)
		place.binds = (struct json_strings){&wheel, 1};
	while (argv[step.argv.count])
		step.argv.count++;
	int rc = environment_step(&place, &step, &result, err);
	if (rc < 0 && err->kind == ERROR_NOT_FOUND) {
		error_clear(err);
		return 0;
	}
	if (rc == 0 && result.exit_status == 0 && result.output.data)
		buffer_append(output, result.output.data, result.output.size);
	bool good = rc == 0 && result.exit_status == 0;
	// That there was no memory, or no time, says nothing of the image, and is not remembered.
	if (rc == 0 && result.failure != ENVIRONMENT_OK)
		rc = error_set(
			err, ERROR_UNAVAILABLE, "%s: %s: %s", step.phase, argv[0], result.message);
	step_result_release(&result);
	return rc < 0 ? -1 : good;
}

// "conda 23.3.1", "mamba 1.5.8\nconda 23.11.0", "2.0.5", "uv 0.5.1 (…)".
static const char *first_version(struct arena *a, const char *text)
{
	const char *p = text + strcspn(text, "0123456789");
	size_t n = strcspn(p, " \t\r\n(");
	return n ? arena_strndup(a, p, n) : NULL;
}

static int ask_by_name(const struct environment_options *o, struct arena *a, const char *name,
	struct tools_program *p, struct error *err)
{
	cleanup_buffer struct buffer output = {0};
	const char *const argv[] = {name, "--version", NULL};
	int rc = ask(o, a, argv, &output, err);
	if (rc <= 0)
		return rc;
	*p = (struct tools_program){
		arena_strdup(a, name), first_version(a, output.data ? output.data : "")};
	return 1;
}

// ---- what is remembered

static const char *text_of(const struct json *v, const char *key)
{
	const char *text = json_get_string(v, key);
	return text && *text ? text : NULL;
}

static void decode(struct arena *a, const struct json *v, struct tools_found *f)
{
	struct {
		const char *name;
		struct tools_program *program;
	} programs[] = {{"micromamba", &f->micromamba}, {"mamba", &f->mamba}, {"conda", &f->conda},
		{"uv", &f->uv}};
	*f = (struct tools_found){
		.python = text_of(v, "python"),
		.python_version = text_of(v, "python_version"),
		.pip_version = text_of(v, "pip_version"),
		.pip_runner = text_of(v, "pip_runner"),
		.index = text_of(v, "index"),
		.glibc = text_of(v, "glibc"),
		.has_venv = json_get_bool(v, "has_venv", false),
		.has_ensurepip = json_get_bool(v, "has_ensurepip", false),
	};
	for (size_t i = 0; i < array_size(programs); i++) {
		const char *version = arena_printf(a, "%s_version", programs[i].name);
		*programs[i].program =
			(struct tools_program){text_of(v, programs[i].name), text_of(v, version)};
	}
}

static void member(struct json_writer *w, const char *key, const char *value)
{
	if (value)
		json_write_member(w, key, value);
}

static int remember(
	const struct environment_options *o, const struct tools_found *f, struct error *err)
{
	const struct {
		const char *name, *version;
		const struct tools_program *program;
	} programs[] = {{"micromamba", "micromamba_version", &f->micromamba},
		{"mamba", "mamba_version", &f->mamba}, {"conda", "conda_version", &f->conda},
		{"uv", "uv_version", &f->uv}};
	cleanup_json_writer struct json_writer *w = json_writer_new(true);
	cleanup_buffer struct buffer text = {0};
	json_write_open_object(w);
	json_write_member_int(w, "layout", FOUND_LAYOUT);
	member(w, "python", f->python);
	member(w, "python_version", f->python_version);
	member(w, "pip_version", f->pip_version);
	member(w, "pip_runner", f->pip_runner);
	member(w, "index", f->index);
	member(w, "glibc", f->glibc);
	json_write_member_bool(w, "has_venv", f->has_venv);
	json_write_member_bool(w, "has_ensurepip", f->has_ensurepip);
	for (size_t i = 0; i < array_size(programs); i++) {
		member(w, programs[i].name, programs[i].program->path);
		member(w, programs[i].version, programs[i].program->version);
	}
	json_write_close_object(w);
	if (json_writer_finish(w, &text, err) < 0)
		return -1;
	return environment_tools_write(
		o->store, oci_digest_hex(&o->image->manifest), text.data, text.size, err);
}

// A file that is damaged, or another version's, is as good as none.
static bool recall(const struct environment_options *o, struct arena *a, struct tools_found *f)
{
	cleanup_buffer struct buffer text = {0};
	struct error ignored;
	if (environment_tools_read(o->store, oci_digest_hex(&o->image->manifest), &text, &ignored) <
		1)
		return false;
	const struct json *v =
		json_parse(a, text.data ? text.data : "", text.size, "tools", NULL, &ignored);
	const struct json *layout = json_get(v, "layout");
	if (!layout || layout->type != JSON_INTEGER || layout->integer != FOUND_LAYOUT)
		return false;
	decode(a, v, f);
	return true;
}

// ---- all of it

static int ask_python(const struct environment_options *o, struct arena *a, struct tools_found *f,
	struct error *err)
{
	static const char *const names[] = {"python3", "python"};
	const char *wheel = tools_pip_wheel(a); // of the node, should the image have no pip
	for (size_t i = 0; i < array_size(names); i++) {
		cleanup_buffer struct buffer output = {0};
		const char *const argv[] = {names[i], "-I", "-B", "-c", probe,
			wheel ? strrchr(wheel, ':') + 1 : NULL, NULL};
		int rc = ask(o, a, argv, &output, err);
		if (rc < 0)
			return -1;
		// Behind whatever the image's start-up files print.
		char *last = output.data ? strrchr(output.data, '{') : NULL;
		if (!rc || !last)
			continue;
		const struct json *v =
			json_parse(a, last, strcspn(last, "\n"), "the image's Python", NULL, err);
		if (!v)
			return -1;
		decode(a, v, f);
		return f->python ? 1 : 0;
	}
	return 0;
}

int tools_find(const struct environment_options *o, struct arena *a, struct tools_found *f,
	struct error *err)
{
	*f = (struct tools_found){0};
	if (recall(o, a, f))
		return 0;
	int rc = ask_python(o, a, f, err);
	if (rc < 0)
		return -1;
	if (rc == 0 && (ask_by_name(o, a, "micromamba", &f->micromamba, err) < 0 ||
			       ask_by_name(o, a, "mamba", &f->mamba, err) < 0 ||
			       ask_by_name(o, a, "conda", &f->conda, err) < 0))
		return -1;
	return remember(o, f, err);
}

int tools_find_version(const struct environment_options *o, struct arena *a, struct tools_found *f,
	struct tools_program *p, struct error *err)
{
	if (p->version)
		return 0;
	struct tools_program asked = {0};
	int rc = ask_by_name(o, a, p->path, &asked, err);
	if (rc < 0)
		return -1;
	if (!rc || !asked.version)
		return error_set(err, ERROR_NOT_FOUND, "%s of the image does not run", p->path);
	p->version = asked.version;
	return remember(o, f, err);
}
