// SPDX-License-Identifier: Apache-2.0
//
// Is what was built what it should be? That a tool has ended well is not enough.
#include "agent/environment/verify.h"

#include "agent/environment/build.h"
#include "base/file.h"
#include "base/text.h"

#include <dirent.h>
#include <fnmatch.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <unistd.h>

enum { DEPTH_MAX = 64, LINK_MAX_BYTES = 4096 };

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

int verify_open_packages(struct build *b, struct error *err)
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

const char *verify_distribution(struct arena *a, const char *folder)
{
	const char *dash = strchr(folder, '-');
	if (!dash || !ends_with(folder, ".dist-info"))
		return NULL;
	return environment_pip_name(a, arena_strndup(a, folder, (size_t)(dash - folder)));
}

static int check_packages(struct build *b, struct error *err)
{
	size_t found = 0;
	cleanup_fd int packages = verify_open_packages(b, err);
	DIR *folder = packages < 0 ? NULL : fdopendir(steal_fd(&packages));
	cleanup_free bool *seen = xcalloc(b->lock.pip_count + 1, sizeof(*seen));
	if (!folder)
		return -1;
	for (struct dirent *e; (e = readdir(folder)) != NULL;) {
		const char *name = verify_distribution(b->arena, e->d_name);
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
	static const char question[] = "import sys; print('\\n' + sys.prefix)";
	static const char python[] = ENVIRONMENT_PYTHON;
	const char *argv[] = {python, "-E", "-s", "-c", question, NULL};
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
	build_phase(b, "verifying", NULL);
	if (check_tree(b, err) < 0)
		return -1;
	cleanup_fd int python =
		file_open_beneath(b->opt_fd, "env/bin/python", O_PATH | O_NOFOLLOW, 0, 0, err);
	if (python < 0 && err->kind != ERROR_NOT_FOUND)
		return -1;
	if (python < 0) {
		error_clear(err);
		if (!b->lock.pip_count)
			return 0; // conda packages without Python
		return build_fail(
			b, ENVIRONMENT_VERIFICATION, err, "%s is not there", ENVIRONMENT_PYTHON);
	}
	return check_packages(b, err) < 0 ? -1 : check_python(b, err);
}
