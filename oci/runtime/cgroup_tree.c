// SPDX-License-Identifier: Apache-2.0
//
// Folders of control groups: made with their parents, removed with what a job made below.
#include "base/file.h"
#include "base/text.h"
#include "oci/runtime/cgroup_internal.h"

#include <dirent.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

enum { TREE_MAX = 65536 };

static void close_dirp(DIR **d)
{
	if (*d)
		closedir(*d);
}

// Append the folders in `path` (below `dir`; "." for itself) to the list.
static int list_folders(int dir, const char *path, struct arena *a, char ***paths, size_t *count,
	size_t *capacity, struct error *err)
{
	cleanup_fd int fd = openat(dir, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0) // gone meanwhile
		return errno == ENOENT ? 0 : error_set_errno(err, errno, "open cgroup %s", path);
	__attribute__((cleanup(close_dirp))) DIR *d = fdopendir(fd);
	if (!d)
		return error_set_errno(err, errno, "read cgroup %s", path);
	fd = -1;
	for (struct dirent *e; (e = readdir(d));) {
		if (e->d_type != DT_DIR || streq(e->d_name, ".") || streq(e->d_name, ".."))
			continue;
		if (*count == TREE_MAX)
			return error_set(err, ERROR_LIMIT, "more than %d cgroups below", TREE_MAX);
		if (*count == *capacity) {
			*capacity = *capacity ? 2 * *capacity : 16;
			char **more = arena_array(a, char *, *capacity);
			for (size_t i = 0; i < *count; i++)
				more[i] = (*paths)[i];
			*paths = more;
		}
		(*paths)[(*count)++] = streq(path, ".") ? arena_strdup(a, e->d_name)
							: arena_printf(a, "%s/%s", path, e->d_name);
	}
	return 0;
}

int cgroup_tree(int dir, struct arena *a, char ***paths, size_t *count, struct error *err)
{
	size_t capacity = 0;
	*paths = NULL;
	*count = 0;
	// A group without groups has two links, and needs no listing of its many files.
	struct stat st;
	if (fstat(dir, &st) == 0 && st.st_nlink == 2)
		return 0;
	if (list_folders(dir, ".", a, paths, count, &capacity, err) < 0)
		return -1;
	for (size_t i = 0; i < *count; i++)
		if (list_folders(dir, (*paths)[i], a, paths, count, &capacity, err) < 0)
			return -1;
	return 0;
}

int cgroup_remove(const struct cgroup_hierarchy *h, const char *path)
{
	cleanup_arena struct arena a = {0};
	struct error ignored = {0};
	char **below, *whole = arena_printf(&a, "%s%s", h->mount, path);
	size_t count;
	if (rmdir(whole) == 0 || errno == ENOENT)
		return 0;
	if (errno != EBUSY)
		return -1;
	cleanup_fd int dir = open(whole, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0)
		return errno == ENOENT ? 0 : -1;
	if (cgroup_tree(dir, &a, &below, &count, &ignored) < 0) {
		errno = EBUSY;
		return -1;
	}
	for (size_t i = count; i-- > 0;) // parents stand before their children
		if (unlinkat(dir, below[i], AT_REMOVEDIR) < 0 && errno != ENOENT)
			return -1;
	return rmdir(whole) == 0 || errno == ENOENT ? 0 : -1;
}

static int make_one(
	const char *folder, int (*each)(const char *, struct error *), struct error *err)
{
	if (mkdir(folder, 0755) < 0)
		return errno == EEXIST ? 0 : error_set_errno(err, errno, "make cgroup %s", folder);
	if (each && each(folder, err) < 0) {
		rmdir(folder);
		return -1;
	}
	return 0;
}

static int make_parents(char *folder, size_t mount_size, int (*each)(const char *, struct error *),
	struct error *err)
{
	for (char *p = strchr(folder + mount_size + 1, '/'); p; p = strchr(p + 1, '/')) {
		*p = '\0';
		int rc = make_one(folder, each, err);
		*p = '/';
		if (rc < 0)
			return -1;
	}
	return 0;
}

int cgroup_make_folder(const struct cgroup_hierarchy *h, const char *path,
	int (*each)(const char *folder, struct error *err), struct error *err)
{
	cleanup_free char *folder = xasprintf("%s%s", h->mount, path);
	int rc = mkdir(folder, 0755);
	if (rc < 0 && errno == ENOENT) {
		if (make_parents(folder, strlen(h->mount), each, err) < 0)
			return -1;
		rc = mkdir(folder, 0755);
	} else if (rc < 0 && errno == EEXIST) {
		// Made anew, so that no limit of its last use stays.
		if (cgroup_remove(h, path) < 0)
			return error_set_errno(err, errno, "cgroup %s is in use", folder);
		rc = mkdir(folder, 0755);
	}
	if (rc < 0)
		return error_set_errno(err, errno, "make cgroup %s", folder);
	if (each && each(folder, err) < 0) {
		rmdir(folder);
		return -1;
	}
	return 0;
}
