// SPDX-License-Identifier: Apache-2.0
//
// Kernel settings of a container: only those that its own namespaces have.
#include "base/file.h"
#include "base/text.h"
#include "base/weaken.h"
#include "oci/runtime/container_internal.h"

#include <linux/magic.h>
#include <linux/openat2.h>
#include <sys/vfs.h>
#include <unistd.h>

static const struct {
	const char *prefix;
	enum runtime_namespace_type type;
} namespaced[] = {
	{"net/", RUNTIME_NAMESPACE_NETWORK},
	{"fs/mqueue/", RUNTIME_NAMESPACE_IPC},
	{"kernel/msg", RUNTIME_NAMESPACE_IPC},
	{"kernel/sem", RUNTIME_NAMESPACE_IPC},
	{"kernel/shm", RUNTIME_NAMESPACE_IPC},
	{"kernel/hostname", RUNTIME_NAMESPACE_UTS},
	{"kernel/domainname", RUNTIME_NAMESPACE_UTS},
};

static bool is_own(const struct runtime_spec *spec, const char *path)
{
	for (size_t i = 0; i < array_size(namespaced); i++)
		if (starts_with(path, namespaced[i].prefix))
			return spec->namespaces[namespaced[i].type].wanted;
	return false;
}

// sysctl(8): either "net.ipv4.x" or "net/ipv4/x"; what comes first separates.
static void name_to_path(char *name)
{
	char *first = strpbrk(name, "./");
	if (first && *first == '.')
		for (char *p = first; *p; p++)
			*p = *p == '.' ? '/' : *p == '/' ? '.' : *p;
}

// The descriptor must be of the kernel's own settings: an image or a volume may have something else
// at that place, and what we write would go there (CVE-2025-52881).
static int write_one(int root_fd, const char *path, const char *value, struct error *err)
{
	struct statfs fs;
	cleanup_free char *full = xasprintf("/proc/sys/%s", path);
	cleanup_fd int fd = file_open_beneath(root_fd, full, O_WRONLY | O_NOCTTY, 0,
		RESOLVE_IN_ROOT | (weakened("proc-check") ? 0 : RESOLVE_NO_SYMLINKS), err);
	if (fd < 0)
		return -1;
	if (fstatfs(fd, &fs) < 0)
		return error_set_errno(err, errno, "statfs %s", full);
	if (fs.f_type != PROC_SUPER_MAGIC && !weakened("proc-check"))
		return error_set(err, ERROR_INVALID, "%s: not a file of the kernel", full);
	return write_all(fd, value, strlen(value), full, err);
}

int container_write_sysctls(int root_fd, const struct runtime_spec *spec, struct error *err)
{
	for (size_t i = 0; i < spec->sysctl.count; i++) {
		const struct json_pair *p = &spec->sysctl.items[i];
		cleanup_free char *path = xstrdup(p->key);
		name_to_path(path);
		if (!is_own(spec, path))
			return error_set(err, ERROR_INVALID,
				"linux.sysctl: %s is not a setting of the container's own "
				"namespaces",
				p->key);
		if (write_one(root_fd, path, p->value, err) < 0)
			return error_context(err, "linux.sysctl: %s", p->key);
	}
	return 0;
}
