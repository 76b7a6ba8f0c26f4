// SPDX-License-Identifier: Apache-2.0
//
// The pip phase: into a venv over the image's Python, or into what conda has made.
#include "agent/environment/build.h"
#include "base/file.h"
#include "base/text.h"

// What the tool is at, from what it prints.
static void on_line(void *data, const char *line)
{
	static const struct {
		const char *begin, *phase;
		bool detail;
	} known[] = {
		{"Collecting ", "resolving", false},
		{"Downloading ", "downloading", false},
		{"Building wheel for ", "installing", true},
		{"Installing build dependencies", "installing", true},
		{"Installing collected packages", "installing", false},
	};
	struct build *b = data;
	line += strspn(line, " ");
	for (size_t i = 0; i < array_size(known); i++)
		if (starts_with(line, known[i].begin))
			build_phase(b, known[i].phase, known[i].detail ? line : NULL);
}

// The pip to use: of the image or the node for a venv, else conda's or the venv's own.
static const char *pip_program(const struct build *b)
{
	if (b->request->has_conda)
		return NULL;
	const struct tools_found *f = b->found;
	const char *wheel = tools_pip_wheel(b->arena);
	if (f->pip_runner)
		return f->pip_runner;
	return wheel ? arena_printf(b->arena, "%s/pip", strrchr(wheel, ':') + 1) : NULL;
}

static const char *conda_version(const struct build *b, const char *name)
{
	const struct environment_lock *l = &b->lock;
	for (size_t i = 0; i < l->conda_count; i++)
		if (streq(l->conda[i].name, name))
			return l->conda[i].version;
	return NULL;
}

static const char *pip_version(const struct build *b, const char *program)
{
	if (b->request->has_conda)
		return conda_version(b, "pip");
	if (program && b->found->pip_runner)
		return b->found->pip_version;
	const char *name = program ? strstr(program, "/pip-") : NULL;
	return name ? name + strlen("/pip-") : NULL; // "23.0.1-py3-…"
}

// By us, where its Python can run what we compile with.
static bool is_compiled_later(const struct build *b)
{
	const char *python =
		b->request->has_conda ? conda_version(b, "python") : b->found->python_version;
	return version_at_least(python, 3, 4);
}

struct pip_options build_pip_options(struct build *b)
{
	const struct environment_request *r = b->request;
	const char *program = pip_program(b);
	const char *index = r->index_url ? r->index_url : b->found->index;
	struct pip_options o = {
		.pip = program,
		.version = pip_version(b, program),
		.index_url = index ? package_proxy_url(b->arena, index) : NULL,
		.only_binary = r->only_binary,
		.pre = r->job->pre,
		.no_compile = is_compiled_later(b),
		.as_of = r->job->as_of,
	};
	o.extra_index_urls.items =
		arena_array(b->arena, const char *, r->extra_index_urls.count + 1);
	for (size_t i = 0; i < r->extra_index_urls.count; i++)
		o.extra_index_urls.items[o.extra_index_urls.count++] =
			package_proxy_url(b->arena, r->extra_index_urls.items[i]);
	return o;
}

static int make_venv(struct build *b, bool with_pip, struct error *err)
{
	struct step_result result;
	const char *argv[8];
	struct json_strings command = {.items = argv};
	argv[command.count++] = b->found->python;
	argv[command.count++] = "-m";
	argv[command.count++] = "venv";
	if (!with_pip)
		argv[command.count++] = "--without-pip";
	if (b->request->job->inherit_image_packages)
		argv[command.count++] = "--system-site-packages";
	argv[command.count++] = ENVIRONMENT_PREFIX;
	argv[command.count] = NULL;
	if (build_tool(b, "python -m venv", &command, NULL, classify_pip, &result, err) < 0)
		return -1;
	step_result_release(&result);
	return 0;
}

static int put_constraints(struct build *b, struct pip_options *o, struct error *err)
{
	cleanup_buffer struct buffer text = {0};
	cleanup_fd int prefix = build_prefix(b, err);
	if (prefix < 0 || environment_constraints(prefix, &text, err) < 0)
		return -1;
	o->constraints = text.size > 0;
	return build_put(b, PIP_CONSTRAINTS, &text, err);
}

static int read_report(struct build *b, struct error *err)
{
	cleanup_buffer struct buffer report = {0};
	if (build_get(b, "tmp/" PIP_REPORT, LOCK_REPORT_BYTES_MAX, &report, err) < 0)
		return -1;
	return environment_lock_read_pip(&b->lock, b->arena, report.data ? report.data : "",
		report.size, build_original, b, err);
}

// Before reports there were only names and versions: no lock to build from, but a key.
static int read_freeze(struct build *b, const struct pip_options *o, struct error *err)
{
	struct step_result result;
	const struct json_strings argv = pip_freeze_command(b->arena, o);
	if (build_tool(b, "pip freeze", &argv, NULL, classify_pip, &result, err) < 0)
		return -1;
	int rc = environment_lock_read_freeze(&b->lock, b->arena,
		result.output.data ? result.output.data : "", result.output.size, err);
	step_result_release(&result);
	return rc;
}

static int install(struct build *b, const struct pip_options *o, struct error *err)
{
	struct step_result result;
	cleanup_buffer struct buffer requirements = {0};
	pip_requirements_write(b->arena, &b->request->pip, &requirements);
	if (o->as_of && !pip_has_as_of(o->version))
		environment_notice(b->o,
			"this pip cannot keep to environment.as_of (26.0 and later can): "
			"the newest packages are taken");
	if (build_put(b, PIP_REQUIREMENTS, &requirements, err) < 0)
		return -1;
	const struct json_strings argv = pip_install_command(b->arena, o);
	if (build_tool(b, "pip install", &argv, on_line, classify_pip, &result, err) < 0)
		return -1;
	step_result_release(&result);
	return pip_has_report(o->version) ? read_report(b, err) : read_freeze(b, o, err);
}

static int install_locked(struct build *b, const struct pip_options *o, struct error *err)
{
	struct step_result result;
	cleanup_buffer struct buffer requirements = {0}, links = {0};
	pip_locked_write(b->arena, b->from, &requirements, &links);
	if (build_put(b, PIP_REQUIREMENTS, &requirements, err) < 0 ||
		build_put(b, PIP_LINKS, &links, err) < 0)
		return -1;
	const struct json_strings argv = pip_locked_command(b->arena, o, b->from);
	if (build_tool(b, "pip install", &argv, on_line, classify_pip, &result, err) < 0)
		return -1;
	step_result_release(&result);
	b->lock.pip = b->from->pip;
	b->lock.pip_count = b->from->pip_count;
	return 0;
}

int build_pip(struct build *b, struct error *err)
{
	struct pip_options o = build_pip_options(b);
	if (!b->request->has_conda && make_venv(b, !o.pip, err) < 0)
		return -1;
	if (b->from ? !b->from->pip_count : !b->request->pip.count)
		return 0;
	struct timespec mark = {0};
	if (b->request->has_conda &&
		(put_constraints(b, &o, err) < 0 || build_conda_mark(b, &mark, err) < 0))
		return -1;
	if ((b->from ? install_locked(b, &o, err) : install(b, &o, err)) < 0 ||
		(o.no_compile && build_bytecode(b, err) < 0))
		return -1;
	return b->request->has_conda ? build_conda_unchanged(b, &mark, err) : 0;
}
