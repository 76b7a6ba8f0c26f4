// SPDX-License-Identifier: Apache-2.0
//
// Pip packages by uv, where the job chose it.
#include "agent/environment/build.h"
#include "agent/environment/lock_internal.h"
#include "agent/environment/uv.h"
#include "agent/environment/verify.h"
#include "base/file.h"
#include "base/text.h"

#include <dirent.h>
#include <unistd.h>

enum { WHEEL_BYTES_MAX = 64 * 1024 };

static void on_line(void *data, const char *line)
{
	struct build *b = data;
	line += strspn(line, " ");
	if (starts_with(line, "Downloading ") || starts_with(line, "Resolved "))
		build_phase(b, "downloading", NULL);
	if (starts_with(line, "Building ") || starts_with(line, "Prepared ") ||
		starts_with(line, "Installed "))
		build_phase(b, "installing", NULL);
}

static int run(
	struct build *b, const char *phase, const struct json_strings *argv, struct error *err)
{
	struct step_result result;
	if (build_tool(b, phase, argv, on_line, classify_uv, &result, err) < 0)
		return -1;
	step_result_release(&result);
	return 0;
}

struct installed { // what stands in the folder of packages
	int packages;
	struct json_strings names, folders;
};

static int list_installed(struct build *b, struct installed *all, struct error *err)
{
	cleanup_fd int again = openat(all->packages, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *folder = again < 0 ? NULL : fdopendir(steal_fd(&again));
	int rc = 0;
	if (!folder)
		return error_set_errno(err, errno, "site-packages");
	all->names.items = arena_array(b->arena, const char *, LOCK_PACKAGES_MAX);
	all->folders.items = arena_array(b->arena, const char *, LOCK_PACKAGES_MAX);
	for (struct dirent *e; rc == 0 && (e = readdir(folder)) != NULL;) {
		if (!ends_with(e->d_name, ".dist-info"))
			continue;
		if (all->names.count == LOCK_PACKAGES_MAX) {
			rc = error_set(err, ERROR_INVALID, "site-packages: more than %d packages",
				LOCK_PACKAGES_MAX);
			break;
		}
		const char *name = verify_distribution(b->arena, e->d_name);
		all->names.items[all->names.count++] = name ? name : "";
		all->folders.items[all->folders.count++] = arena_strdup(b->arena, e->d_name);
	}
	closedir(folder);
	return rc;
}

// The first tag that the installed package's WHEEL names; NULL: none.
static const char *installed_tag(struct build *b, const struct installed *all, const char *name)
{
	for (size_t i = 0; i < all->names.count; i++) {
		if (!streq(all->names.items[i], name))
			continue;
		cleanup_buffer struct buffer text = {0};
		struct error ignored;
		cleanup_free char *path = path_join(all->folders.items[i], "WHEEL");
		if (build_read(all->packages, path, WHEEL_BYTES_MAX, &text, &ignored) < 0 ||
			!text.data)
			continue;
		const char *line = strstr(text.data, "\nTag: ");
		if (line)
			return arena_strndup(b->arena, line + 6, strcspn(line + 6, "\r\n"));
	}
	return NULL;
}

static int read_lock(struct build *b, struct error *err)
{
	cleanup_buffer struct buffer text = {0};
	struct uv_package *packages;
	size_t count;
	cleanup_fd int folder = verify_open_packages(b, err);
	struct installed installed = {.packages = folder};
	if (folder < 0 || list_installed(b, &installed, err) < 0 ||
		build_get(b, "tmp/" UV_LOCK, LOCK_REPORT_BYTES_MAX, &text, err) < 0 ||
		uv_lock_parse(b->arena, text.data ? text.data : "", text.size, &packages, &count,
			err) < 0)
		return -1;
	struct lock_package *locked = arena_array(b->arena, struct lock_package, count + 1);
	size_t n = 0;
	for (size_t i = 0; i < count; i++) {
		const struct uv_package *p = &packages[i];
		const char *name = environment_pip_name(b->arena, p->name);
		const char *tag = installed_tag(b, &installed, name);
		if (!tag) // for another platform: a marker left it out
			continue;
		const struct uv_file *wheel = uv_wheel_with_tag(p, tag);
		const struct uv_file *file = wheel ? wheel : &p->sdist;
		locked[n++] = (struct lock_package){
			.name = name,
			.version = p->version,
			.url = file->url ? lock_address(b->arena, file->url, build_original, b)
					 : NULL,
			.sha256 = file->sha256,
		};
	}
	return lock_append(&b->lock, LOCK_PIP, b->arena, locked, n, err);
}

static int install_locked(struct build *b, const struct uv_options *o, struct error *err)
{
	cleanup_buffer struct buffer lines = {0};
	const struct json_strings argv = uv_install_command(b->arena, o, true);
	uv_locked_write(b->arena, b->from, &lines);
	if (build_put(b, PIP_REQUIREMENTS, &lines, err) < 0 ||
		run(b, "uv pip install", &argv, err) < 0)
		return -1;
	b->lock.pip = b->from->pip;
	b->lock.pip_count = b->from->pip_count;
	return 0;
}

static int install(struct build *b, const struct uv_options *o, struct error *err)
{
	cleanup_buffer struct buffer lines = {0};
	const struct json_strings compile = uv_compile_command(b->arena, o);
	const struct json_strings argv = uv_install_command(b->arena, o, false);
	pip_requirements_write(b->arena, &b->request->pip, &lines);
	if (build_put(b, PIP_REQUIREMENTS, &lines, err) < 0 ||
		run(b, "uv pip compile", &compile, err) < 0)
		return -1;
	build_phase(b, "downloading", NULL);
	return run(b, "uv pip install", &argv, err) < 0 ? -1 : read_lock(b, err);
}

int build_uv(struct build *b, struct error *err)
{
	struct uv_options o = {
		.path = b->request->tool->path,
		.python = b->request->tool->python,
		.inherit_image_packages = b->request->job->inherit_image_packages,
		.pip = build_pip_options(b),
	};
	b->env = uv_environment(b->arena, &b->env);
	const struct json_strings venv = uv_venv_command(b->arena, &o);
	if (run(b, "uv venv", &venv, err) < 0)
		return -1;
	if (b->from)
		return b->from->pip_count ? install_locked(b, &o, err) : 0;
	return b->request->pip.count ? install(b, &o, err) : 0;
}
