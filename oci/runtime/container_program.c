// SPDX-License-Identifier: Apache-2.0
//
// The last steps to the program, inside the container and as its user.
#include "base/buffer.h"
#include "base/file.h"
#include "base/text.h"
#include "base/weaken.h"
#include "oci/runtime/container_internal.h"

#include <dirent.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

const char container_default_path[] =
	"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

static const char *env_get(const char *const *envp, const char *name)
{
	size_t n = strlen(name);
	for (; envp && *envp; envp++)
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
	// Older filters answer EPERM to faccessat2(2). We are the user in all ids already.
	if (errno == EPERM && access(path, X_OK) == 0)
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

// The home folder that the image's passwd gives; "/" where it says nothing.
static const char **with_home(const char *const *envp, uid_t uid)
{
	struct container_user user = {.home = "/"};
	struct error ignored;
	char name[16];
	size_t count = 0;
	while (envp && envp[count])
		count++;
	const char **all = xcalloc(count + 2, sizeof(*all));
	if (count)
		memcpy(all, envp, count * sizeof(*all));
	if (env_get(all, "HOME"))
		return all;
	snprintf(name, sizeof(name), "%u", uid);
	cleanup_fd int root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (root >= 0)
		container_user_lookup(root, name, &user, &ignored);
	all[count] = xasprintf("HOME=%s", user.home);
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

// The program's path.
static char *locate(
	const struct runtime_process *process, const char *const *names, struct error *err)
{
	const char *const own[] = {process->args.items[0], NULL};
	const char *path = env_get(process->env.items, "PATH");
	if (!*own[0]) {
		error_set(err, ERROR_INVALID, "the name of the program is empty");
		return NULL;
	}
	if (!names && strchr(own[0], '/'))
		return xstrdup(own[0]);
	return find_program(
		names ? names : own, path && *path ? path : container_default_path, err);
}

int container_check_program(
	const struct runtime_process *process, const char *const *names, struct error *err)
{
	bool forbidden = false;
	struct stat st;
	cleanup_free char *program = locate(process, names, err);
	if (!program)
		return -1;
	if (*program != '/' || is_program(program, &forbidden))
		return 0; // a relative one counts from a folder that is entered later
	if (forbidden || stat(program, &st) == 0)
		return error_set(err, ERROR_DENIED,
			"%s: found in the image, but it may not be executed", program);
	return exec_failed(program, errno, err);
}

static int execute(
	const struct runtime_process *process, const char *const *names, struct error *err)
{
	cleanup_free char *program = locate(process, names, err);
	if (!program)
		return -1;
	cleanup_free const char **envp = with_home(process->env.items, process->uid);
	execve(program, (char *const *)process->args.items, (char *const *)envp);
	return exec_failed(program, errno, err);
}

// Closed, not only marked to close at exec: the kernel would still find them while it looks for the
// program, and an image that names "/proc/self/fd/7/../../bin/sh" as its program or in its PATH
// would get a file of the node (CVE-2024-21626). What stays is a pipe or a socket of ours.
static int close_all_but(int first, int kept, struct error *err)
{
	if (weakened("close-fds"))
		return 0;
	if ((kept <= first || close_range((unsigned)first, (unsigned)kept - 1, 0) == 0) &&
		close_range((unsigned)kept + 1, ~0U, 0) == 0)
		return 0;
	// The filter is in force already, and may know no close_range(2).
	DIR *all = opendir("/proc/self/fd");
	if (!all)
		return error_set_errno(err, errno, "close the node's descriptors");
	for (const struct dirent *e; (e = readdir(all)) != NULL;) {
		uint64_t fd;
		if (parse_u64(e->d_name, &fd) && fd >= (uint64_t)first && fd != (uint64_t)kept &&
			fd != (uint64_t)dirfd(all))
			close((int)fd);
	}
	closedir(all);
	return 0;
}

// A working folder that is not below the root would be a way out (CVE-2024-21626 again): the kernel
// then says "(unreachable)".
static int enter_folder(const char *path, struct error *err)
{
	char name[PATH_MAX];
	if (chdir(path) < 0)
		return error_set_errno(err, errno, "working directory %s", path);
	if (weakened("close-fds"))
		return 0;
	// A filter may forbid getcwd(2); the link says the same.
	if ((syscall(SYS_getcwd, name, sizeof(name)) < 0 &&
		    readlink("/proc/self/cwd", name, sizeof(name)) <= 0) ||
		name[0] != '/')
		return error_set(
			err, ERROR_INVALID, "working directory %s: outside of the container", path);
	return 0;
}

static int place_stdio(const int stdio[3], bool terminal, struct error *err)
{
	for (int i = 0; i < 3; i++)
		if (dup2(stdio[i], i) < 0)
			return error_set_errno(err, errno, "place descriptor %d", i);
	if (terminal && ioctl(0, TIOCSCTTY, 0) < 0)
		return error_set_errno(err, errno, "make the terminal the controlling one");
	return 0;
}

static void __attribute__((noreturn))
give_up(const struct container_program *p, const struct error *why)
{
	struct error ignored;
	if (p->report_plain)
		write_all(p->report_fd, why, sizeof(*why), "error", &ignored);
	else
		sync_send(p->report_fd, SYNC_ERROR, 0, why, &ignored);
	_exit(127);
}

void container_become(const struct container_program *p)
{
	struct error err = {0};
	sigset_t none;
	sigemptyset(&none);
	setsid(); // fails for a session's leader, who has what it gives
	if (place_stdio(p->stdio, p->terminal, &err) < 0)
		give_up(p, &err);
	if (close_all_but(3 + p->preserve_fds, p->report_fd, &err) < 0)
		give_up(p, &err);
	for (int fd = 3; fd < 3 + p->preserve_fds; fd++)
		fcntl(fd, F_SETFD, 0);
	umask(p->process->umask == (mode_t)-1 ? 022 : p->process->umask);
	if (enter_folder(p->process->cwd, &err) < 0)
		give_up(p, &err);
	if (p->last && p->last(p->data, &err) < 0)
		give_up(p, &err);
	sigprocmask(SIG_SETMASK, &none, NULL);
	if (p->process->no_new_privileges && p->seccomp->size &&
		seccomp_install(p->seccomp, &err) < 0)
		give_up(p, &err);
	execute(p->process, p->names, &err);
	give_up(p, &err);
}
