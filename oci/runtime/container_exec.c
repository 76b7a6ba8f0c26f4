// SPDX-License-Identifier: Apache-2.0
#include "base/buffer.h"
#include "base/file.h"
#include "base/text.h"
#include "oci/runtime/container_internal.h"

#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

const char container_default_path[] =
	"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

static const char *env_get(const char *const *envp, const char *name)
{
	size_t n = strlen(name);
	for (; *envp; envp++)
		if (strncmp(*envp, name, n) == 0 && (*envp)[n] == '=')
			return *envp + n + 1;
	return NULL;
}

static bool is_program(const char *path, bool *forbidden)
{
	struct stat st;
	if (stat(path, &st) < 0 || !S_ISREG(st.st_mode))
		return false;
	if (faccessat(AT_FDCWD, path, X_OK, AT_EACCESS) == 0)
		return true;
	*forbidden = true;
	return false;
}

static char *not_found(
	const char *const *names, const char *path, bool forbidden, struct error *err)
{
	cleanup_buffer struct buffer all = {0};
	for (const char *const *name = names; *name; name++)
		buffer_printf(&all, "%s%s", name == names ? "" : " or ", *name);
	if (forbidden)
		error_set(err, ERROR_DENIED, "%s: found in the image, but it may not be executed",
			all.data);
	else
		error_set(err, ERROR_NOT_FOUND, "%s: not found in the image's PATH (%s)", all.data,
			path);
	return NULL;
}

// We stand in the container and are its user, so this finds what the program's own shell would
// find. Relative folders of PATH are passed over.
static char *find_program(const char *const *names, const char *path, struct error *err)
{
	bool forbidden = false;
	for (const char *p = path; *p;) {
		size_t n = strcspn(p, ":");
		for (const char *const *name = names; *p == '/' && *name; name++) {
			cleanup_free char *found = xasprintf("%.*s/%s", (int)n, p, *name);
			if (is_program(found, &forbidden))
				return steal(found);
		}
		p += n + (p[n] == ':');
	}
	return not_found(names, path, forbidden, err);
}

static const char **with_home(const char *const *envp, const char *home)
{
	size_t count = 0;
	while (envp[count])
		count++;
	const char **all = xcalloc(count + 2, sizeof(*all));
	memcpy(all, envp, count * sizeof(*all));
	if (!env_get(envp, "HOME"))
		all[count] = xasprintf("HOME=%s", home);
	return all;
}

static int exec_failed(const char *program, int sys, struct error *err)
{
	struct stat st;
	// The kernel says the same of a script whose interpreter, or a binary whose loader, is
	// missing.
	if (sys == ENOENT && stat(program, &st) == 0)
		return error_set(err, ERROR_NOT_FOUND,
			"%s: the interpreter or loader that it names is not in the image", program);
	if (sys == ENOENT)
		return error_set(err, ERROR_NOT_FOUND, "%s: not found in the image", program);
	if (sys == ENOEXEC)
		return error_set(err, ERROR_INVALID,
			"%s: neither a program for this machine nor a script with a #! line",
			program);
	return error_set_errno(err, sys, "%s: start", program);
}

int container_exec(
	const struct container_spec *spec, const struct container_user *user, struct error *err)
{
	const char *const own[] = {spec->argv[0], NULL};
	const char *path = env_get(spec->envp, "PATH");
	cleanup_free char *found = NULL;
	const char *program = spec->argv[0];
	if (!*program)
		return error_set(err, ERROR_INVALID, "the name of the program is empty");
	if (spec->programs || !strchr(program, '/')) {
		found = find_program(spec->programs ? spec->programs : own,
			path && *path ? path : container_default_path, err);
		if (!found)
			return -1;
		program = found;
	}
	cleanup_free const char **envp = with_home(spec->envp, user->home);
	execve(program, (char *const *)spec->argv, (char *const *)envp);
	return exec_failed(program, errno, err);
}
