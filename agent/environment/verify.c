// SPDX-License-Identifier: Apache-2.0
//
// Is what was built what it should be? And what must not be in the layer goes: what differs between
// two builds of one lock, and what names the build.
#include "agent/environment/build.h"
#include "base/file.h"
#include "base/text.h"

#include <dirent.h>
#include <fnmatch.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <unistd.h>

enum { DEPTH_MAX = 64, LINK_MAX_BYTES = 4096, RECORD_BYTES_MAX = 64 * 1024 * 1024 };

// ---- the tree

struct walk {
	struct build *b;
	char path[LINK_MAX_BYTES];
	size_t length;
};

// Links into the build's own folders would lead nowhere.
static int check_link(struct walk *w, int dirfd, const char *name, struct error *err)
{
	char target[LINK_MAX_BYTES];
	ssize_t n = readlinkat(dirfd, name, target, sizeof(target) - 1);
	if (n < 0)
		return error_set_errno(err, errno, "%s/%s", w->path, name);
	target[n] = '\0';
	if (starts_with(target, BUILD_TMP) || starts_with(target, "/opt/stoker/pkgs"))
		return build_fail(w->b, ENVIRONMENT_VERIFICATION, err,
			"%s/%s is a link to %s, which exists during the build only", w->path, name,
			target);
	return 0;
}

static int check_folder(struct walk *w, int parent, const char *name, int depth, struct error *err);

static int check_entry(
	struct walk *w, int dirfd, const struct dirent *e, int depth, struct error *err)
{
	struct stat st;
	unsigned char type = e->d_type;
	if (type == DT_UNKNOWN) {
		if (fstatat(dirfd, e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
			return error_set_errno(err, errno, "%s/%s", w->path, e->d_name);
		type = IFTODT(st.st_mode);
	}
	switch (type) {
	case DT_DIR:
		return check_folder(w, dirfd, e->d_name, depth + 1, err);
	case DT_LNK:
		return check_link(w, dirfd, e->d_name, err);
	case DT_REG:
		return 0;
	default:
		return build_fail(w->b, ENVIRONMENT_VERIFICATION, err,
			"%s/%s is neither a file nor a folder nor a link: a package's script made "
			"it",
			w->path, e->d_name);
	}
}

static int check_folder(struct walk *w, int parent, const char *name, int depth, struct error *err)
{
	size_t length = w->length, n = strlen(name);
	int rc = 0;
	if (depth > DEPTH_MAX || length + n + 2 > sizeof(w->path))
		return build_fail(w->b, ENVIRONMENT_VERIFICATION, err,
			"%s: folders are nested too deeply", w->path);
	int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	DIR *folder = fd < 0 ? NULL : fdopendir(fd);
	if (!folder) {
		close_fdp(&fd);
		return error_set_errno(err, errno, "%s/%s", w->path, name);
	}
	w->path[length] = '/';
	memcpy(w->path + length + 1, name, n + 1);
	w->length = length + n + 1;
	for (struct dirent *e; rc == 0 && (e = readdir(folder)) != NULL;)
		if (!streq(e->d_name, ".") && !streq(e->d_name, ".."))
			rc = check_entry(w, dirfd(folder), e, depth, err);
	closedir(folder);
	w->path[w->length = length] = '\0';
	return rc;
}

static int check_tree(struct build *b, struct error *err)
{
	cleanup_free struct walk *w = xcalloc(1, sizeof(*w));
	w->b = b;
	memcpy(w->path, "/opt/stoker", sizeof("/opt/stoker"));
	w->length = strlen(w->path);
	return check_folder(w, b->opt_fd, "env", 0, err);
}

// ---- Python's packages

// The folder of the prefix's packages, or -1 with ERROR_NOT_FOUND: it has no Python.
static int open_packages(struct build *b, struct error *err)
{
	cleanup_fd int lib = file_open_beneath(
		b->opt_fd, "env/lib", O_RDONLY | O_DIRECTORY, 0, RESOLVE_NO_SYMLINKS, err);
	int found = -1;
	DIR *folder = lib < 0 ? NULL : fdopendir(steal_fd(&lib));
	if (!folder)
		return error_set(err, ERROR_NOT_FOUND, "no Python");
	for (struct dirent *e; found < 0 && (e = readdir(folder)) != NULL;) {
		cleanup_free char *path = path_join(e->d_name, "site-packages");
		if (fnmatch("python[23].*", e->d_name, 0) == 0)
			found = file_open_beneath(dirfd(folder), path, O_RDONLY | O_DIRECTORY, 0,
				RESOLVE_NO_SYMLINKS, err);
	}
	closedir(folder);
	return found < 0 ? error_set(err, ERROR_NOT_FOUND, "no Python") : found;
}

// "scikit_learn-1.5.0.dist-info" is of scikit-learn.
static const char *distribution_of(struct arena *a, const char *folder)
{
	const char *dash = strchr(folder, '-');
	if (!dash || !ends_with(folder, ".dist-info"))
		return NULL;
	return environment_pip_name(a, arena_strndup(a, folder, (size_t)(dash - folder)));
}

static int check_packages(struct build *b, struct error *err)
{
	size_t found = 0;
	cleanup_fd int packages = open_packages(b, err);
	DIR *folder = packages < 0 ? NULL : fdopendir(steal_fd(&packages));
	cleanup_free bool *seen = xcalloc(b->lock.pip_count + 1, sizeof(*seen));
	if (!folder)
		return -1;
	for (struct dirent *e; (e = readdir(folder)) != NULL;) {
		const char *name = distribution_of(b->arena, e->d_name);
		for (size_t i = 0; name && i < b->lock.pip_count; i++)
			if (!seen[i] && streq(name, b->lock.pip[i].name)) {
				seen[i] = true;
				found++;
			}
	}
	closedir(folder);
	for (size_t i = 0; found < b->lock.pip_count && i < b->lock.pip_count; i++)
		if (!seen[i])
			return build_fail(b, ENVIRONMENT_VERIFICATION, err,
				"pip said that it installed %s, which is not there",
				b->lock.pip[i].name);
	return 0;
}

// Does its interpreter run, and is the prefix its own?
static int check_python(struct build *b, struct error *err)
{
	struct step_result result;
	const char *argv[] = {ENVIRONMENT_PYTHON, "-E", "-s", "-c",
		"import sys; print('\\n' + sys.prefix)", NULL};
	const struct json_strings command = {argv, array_size(argv) - 1};
	if (build_step(b, "python", &command, NULL, &result, err) < 0)
		return -1;
	const char *text = result.output.data ? result.output.data : "";
	bool good = result.exit_status == 0 && strstr(text, "\n" ENVIRONMENT_PREFIX "\n") != NULL;
	if (!good) {
		buffer_release(&b->trouble->evidence);
		b->trouble->evidence = result.output;
		result.output = (struct buffer){0};
	}
	step_result_release(&result);
	return good ? 0
		    : build_fail(b, ENVIRONMENT_VERIFICATION, err,
			      "%s does not run as the Python of its prefix", ENVIRONMENT_PYTHON);
}

int build_verify(struct build *b, struct error *err)
{
	struct stat st;
	build_phase(b, "verifying", NULL);
	if (check_tree(b, err) < 0)
		return -1;
	if (fstatat(b->opt_fd, "env/bin/python", &st, AT_SYMLINK_NOFOLLOW) < 0) {
		if (!b->lock.pip_count)
			return 0; // conda packages without Python
		return build_fail(
			b, ENVIRONMENT_VERIFICATION, err, "%s is not there", ENVIRONMENT_PYTHON);
	}
	return check_packages(b, err) < 0 ? -1 : check_python(b, err);
}

// ---- what goes

// pip notes which packages it was asked for, and addresses; the lock tells both, and a build from
// the lock could not tell them again. RECORD lists its files.
static int drop_notes(int packages, const char *folder, struct error *err)
{
	static const char *const notes[] = {"REQUESTED", "direct_url.json"};
	cleanup_buffer struct buffer record = {0}, kept = {0};
	cleanup_fd int fd = file_open_beneath(
		packages, folder, O_RDONLY | O_DIRECTORY, 0, RESOLVE_NO_SYMLINKS, err);
	struct stat st;
	bool any = false;
	if (fd < 0)
		return -1;
	for (size_t i = 0; i < array_size(notes); i++)
		any |= unlinkat(fd, notes[i], 0) == 0;
	if (!any || fstatat(fd, "RECORD", &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISREG(st.st_mode))
		return 0;
	if (file_read(fd, "RECORD", RECORD_BYTES_MAX, &record, err) < 0)
		return error_context(err, "%s", folder);
	for (char *line = record.data, *next; line && *line; line = next) {
		size_t n = strcspn(line, "\n");
		next = line[n] ? line + n + 1 : line + n;
		bool note = false;
		for (size_t i = 0; i < array_size(notes); i++) {
			cleanup_free char *name = xasprintf("%s/%s,", folder, notes[i]);
			note |= starts_with(line, name);
		}
		if (!note)
			buffer_append(&kept, line, (size_t)(next - line));
	}
	return file_write_atomic(
		fd, "RECORD", kept.data ? kept.data : "", kept.size, st.st_mode & 0777, err);
}

static bool is_of_pip(const struct build *b, const char *folder)
{
	const char *name = distribution_of(b->arena, folder);
	for (size_t i = 0; name && i < b->lock.pip_count; i++)
		if (streq(name, b->lock.pip[i].name))
			return true;
	return false;
}

int build_normalise(struct build *b, struct error *err)
{
	int rc = 0;
	if (directory_remove(b->opt_fd, "pkgs", err) < 0 ||
		directory_remove(b->opt_fd, "tmp", err) < 0)
		return -1;
	cleanup_fd int packages = open_packages(b, err);
	if (packages < 0) {
		error_clear(err);
		return 0;
	}
	cleanup_fd int again = openat(packages, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *folder = again < 0 ? NULL : fdopendir(steal_fd(&again));
	if (!folder)
		return error_set_errno(err, errno, "site-packages");
	for (struct dirent *e; rc == 0 && (e = readdir(folder)) != NULL;)
		if (is_of_pip(b, e->d_name))
			rc = drop_notes(packages, e->d_name, err);
	closedir(folder);
	return rc;
}
