// SPDX-License-Identifier: Apache-2.0
#include "agent/environment/tools_internal.h"
#include "base/file.h"
#include "base/sha256.h"
#include "base/text.h"

#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

// A program that the node lends is part of the request's key by its content. To hash it each time
// would take longer than all else, so the hash is remembered by what changes with the file.
static const char *hash_of(
	const struct environment_options *o, struct arena *a, const char *path, struct error *err)
{
	struct stat st;
	cleanup_buffer struct buffer known = {0};
	struct error ignored;
	char hex[SHA256_HEX_SIZE];
	cleanup_fd int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0) {
		error_set_errno(err, errno, "%s (agent.yaml: environments)", path);
		return NULL;
	}
	const char *name = arena_printf(a, "environments/tools/lent-%llx-%llx-%llx-%llx.%09ld",
		(unsigned long long)st.st_dev, (unsigned long long)st.st_ino,
		(unsigned long long)st.st_size, (unsigned long long)st.st_mtim.tv_sec,
		st.st_mtim.tv_nsec);
	if (file_read(o->store->state_fd, name, SHA256_HEX_SIZE, &known, &ignored) == 0 &&
		known.size == SHA256_HEX_SIZE - 1)
		return arena_strdup(a, known.data);
	if (file_sha256(fd, path, (uint64_t)st.st_size, hex, err) < 0)
		return NULL;
	if (directory_make(o->store->state_fd, "environments/tools", 0700, &ignored) == 0)
		file_write_atomic(
			o->store->state_fd, name, hex, SHA256_HEX_SIZE - 1, 0600, &ignored);
	return arena_strdup(a, hex);
}

static int lend(const struct environment_options *o, struct arena *a, const char *path,
	enum job_tool kind, struct environment_tool *tool, struct error *err)
{
	tool->tool = kind;
	tool->path = arena_printf(a, TOOLS_FOLDER "/%s", path_base(path));
	tool->sha256 = hash_of(o, a, path, err);
	tool->version = tool->sha256;
	return tool->sha256 ? 0 : -1;
}

static int use(const struct environment_options *o, struct arena *a, struct tools_found *f,
	struct tools_program *p, enum job_tool kind, struct environment_tool *tool,
	struct error *err)
{
	if (tools_find_version(o, a, f, p, err) < 0)
		return -1;
	tool->tool = kind;
	tool->path = p->path;
	tool->version = p->version;
	return 0;
}

static int choose_conda(const struct environment_options *o, struct arena *a, struct tools_found *f,
	struct environment_tool *tool, struct error *err)
{
	enum job_tool wanted = o->request->tool;
	const char *lent = o->config->environments.micromamba;
	bool any = wanted == JOB_TOOL_AUTO || wanted == JOB_TOOL_VENV || wanted == JOB_TOOL_UV;
	if (f->micromamba.path && (any || wanted == JOB_TOOL_MICROMAMBA))
		return use(o, a, f, &f->micromamba, JOB_TOOL_MICROMAMBA, tool, err);
	if (f->mamba.path && (any || wanted == JOB_TOOL_MAMBA))
		return use(o, a, f, &f->mamba, JOB_TOOL_MAMBA, tool, err);
	if (f->conda.path && (any || wanted == JOB_TOOL_CONDA))
		return use(o, a, f, &f->conda, JOB_TOOL_CONDA, tool, err);
	if (lent && (any || wanted == JOB_TOOL_MICROMAMBA))
		return lend(o, a, lent, JOB_TOOL_MICROMAMBA, tool, err);
	return error_set(err, ERROR_NOT_FOUND,
		"the image has no %s, which the job's conda packages need: take an image with one, "
		"or have the node lend a static micromamba (agent.yaml: environments.micromamba)",
		wanted == JOB_TOOL_CONDA	? "conda"
		: wanted == JOB_TOOL_MAMBA	? "mamba"
		: wanted == JOB_TOOL_MICROMAMBA ? "micromamba"
						: "micromamba, mamba or conda");
}

static int choose_uv(const struct environment_options *o, struct arena *a, struct tools_found *f,
	struct environment_tool *tool, struct error *err)
{
	const char *lent = o->config->environments.uv;
	if (f->uv.path)
		return use(o, a, f, &f->uv, JOB_TOOL_UV, tool, err);
	if (lent)
		return lend(o, a, lent, JOB_TOOL_UV, tool, err);
	return error_set(err, ERROR_NOT_FOUND,
		"the image has no uv: leave `tool` out, take an image with it, or have the node "
		"lend one (agent.yaml: environments.uv)");
}

static int choose_python(const struct environment_options *o, struct arena *a,
	struct tools_found *f, struct environment_tool *tool, struct error *err)
{
	if (!f->python)
		return error_set(err, ERROR_NOT_FOUND,
			"the image has no Python (python3, python in its PATH), which the job's "
			"pip packages need: take an image with one, or name python in "
			"conda_packages");
	if (o->request->tool == JOB_TOOL_UV)
		return choose_uv(o, a, f, tool, err);
	if (!f->has_venv)
		return error_set(err, ERROR_NOT_FOUND,
			"the image's Python %s has no module venv (Debian: python3-venv)",
			f->python_version);
	const char *wheel = tools_pip_wheel(a);
	if (!f->pip_runner && !wheel && !f->has_ensurepip)
		return error_set(err, ERROR_NOT_FOUND,
			"the image's Python %s has no pip, and the node lends none (Debian: "
			"python3-pip-whl)",
			f->python_version);
	tool->tool = JOB_TOOL_VENV;
	tool->path = f->pip_runner ? f->pip_runner : wheel ? strrchr(wheel, ':') + 1 : f->python;
	tool->version = f->pip_version && f->pip_runner ? f->pip_version : "";
	return 0;
}

int environment_tool_choose(const struct environment_options *o, struct arena *a,
	struct environment_tool *tool, struct error *err)
{
	struct tools_found f;
	enum job_tool wanted = o->request->tool;
	bool conda = o->request->conda.count || wanted == JOB_TOOL_CONDA ||
		     wanted == JOB_TOOL_MAMBA || wanted == JOB_TOOL_MICROMAMBA;
	if (tools_find(o, a, &f, err) < 0)
		return -1;
	*tool = (struct environment_tool){
		.python = f.python,
		.python_version = f.python_version,
		.pip_version = f.pip_version,
		.glibc = f.glibc,
	};
	return conda ? choose_conda(o, a, &f, tool, err) : choose_python(o, a, &f, tool, err);
}
