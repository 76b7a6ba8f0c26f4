// SPDX-License-Identifier: Apache-2.0
//
// What differs between two builds of one lock, or names the build, goes from the tree.
#include "agent/environment/build.h"
#include "agent/environment/verify.h"
#include "base/file.h"
#include "base/text.h"

#include <dirent.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

enum { RECORD_BYTES_MAX = 64 * 1024 * 1024, RECORDS_MAX = 20000 };

// ---- pip

// pip and uv note which packages it was asked for, and addresses; the lock tells both, and a build
// from the lock could not tell them again. RECORD lists its files.
static int drop_notes(int packages, const char *folder, struct error *err)
{
	static const char *const notes[] = {
		"REQUESTED", "direct_url.json", "uv_cache.json", "uv_build.json"};
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
	if (build_read(fd, "RECORD", RECORD_BYTES_MAX, &record, err) < 0)
		return error_context(err, "%s", folder);
	const char *begin[array_size(notes)];
	cleanup_arena struct arena a = {0};
	for (size_t i = 0; i < array_size(notes); i++)
		begin[i] = arena_printf(&a, "%s/%s,", folder, notes[i]);
	for (char *line = record.data, *next; line && *line; line = next) {
		size_t n = strcspn(line, "\n");
		next = line[n] ? line + n + 1 : line + n;
		bool note = false;
		for (size_t i = 0; i < array_size(notes); i++)
			note |= starts_with(line, begin[i]);
		if (!note)
			buffer_append(&kept, line, (size_t)(next - line));
	}
	return build_write(fd, "RECORD", &kept, st.st_mode & 0777, err);
}

static bool is_of_pip(const struct build *b, const char *folder)
{
	const char *name = verify_distribution(b->arena, folder);
	for (size_t i = 0; name && i < b->lock.pip_count; i++)
		if (streq(name, b->lock.pip[i].name))
			return true;
	return false;
}

static int normalise_pip(struct build *b, struct error *err)
{
	int rc = 0;
	cleanup_fd int packages = verify_open_packages(b, err);
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

// ---- conda

static bool is_of_address(char c)
{
	return (unsigned char)c > ' ' && !strchr("\"'\\<>", c);
}

// Addresses as the build saw them become the real ones.
static bool map_addresses(const struct buffer *text, struct buffer *out)
{
	static const char mark[] = "http://127.0.0.1:";
	cleanup_arena struct arena a = {0};
	const char *p = text->data, *end = text->data + text->size;
	bool any = false;
	while (p && p < end) {
		const char *url = memmem(p, (size_t)(end - p), mark, strlen(mark));
		if (!url)
			break;
		const char *behind = url;
		while (behind < end && is_of_address(*behind))
			behind++;
		buffer_append(out, p, (size_t)(url - p));
		buffer_puts(out,
			package_proxy_original(&a, arena_strndup(&a, url, (size_t)(behind - url))));
		p = behind;
		any = true;
	}
	if (any)
		buffer_append(out, p, (size_t)(end - p));
	return any;
}

static int normalise_record(int folder, const char *name, struct error *err)
{
	cleanup_buffer struct buffer text = {0}, mapped = {0};
	struct stat st;
	if (fstatat(folder, name, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISREG(st.st_mode))
		return error_set(err, ERROR_INVALID, "conda-meta/%s is no file", name);
	if (build_read(folder, name, RECORD_BYTES_MAX, &text, err) < 0)
		return error_context(err, "conda-meta");
	if (!text.data || !map_addresses(&text, &mapped))
		return 0;
	return build_write(folder, name, &mapped, st.st_mode & 0777, err);
}

static int normalise_conda(struct build *b, struct error *err)
{
	struct json_strings names;
	struct stat st;
	const struct buffer nothing = {0};
	if (build_names(b, "env/conda-meta", ".json", RECORDS_MAX, &names, err) < 0)
		return error_context(err, "conda-meta");
	cleanup_fd int folder = file_open_beneath(
		b->opt_fd, "env/conda-meta", O_RDONLY | O_DIRECTORY, 0, RESOLVE_NO_SYMLINKS, err);
	if (folder < 0 && err->kind == ERROR_NOT_FOUND) {
		error_clear(err);
		return 0;
	}
	if (folder < 0)
		return error_context(err, "conda-meta");
	for (size_t i = 0; i < names.count; i++)
		if (normalise_record(folder, names.items[i], err) < 0)
			return -1;
	// It tells times and what was typed; the file has to be there, if it was.
	return fstatat(folder, "history", &st, AT_SYMLINK_NOFOLLOW) < 0
		       ? 0
		       : build_write(folder, "history", &nothing, 0644, err);
}

// ---- the whole

// The prefix alone into a tree of its own: packages' scripts may have left anything beside it.
static int move_prefix(struct build *b, struct error *err)
{
	cleanup_fd int tree = directory_ensure(b->folder_fd, "sealed", 0755, err);
	cleanup_fd int opt = tree < 0 ? -1 : directory_ensure(tree, "opt/stoker", 0755, err);
	if (opt < 0)
		return -1;
	if (renameat(b->opt_fd, "env", opt, "env") < 0)
		return error_set_errno(err, errno, "move the environment");
	close_fdp(&b->tree_fd);
	close_fdp(&b->opt_fd);
	b->tree_fd = steal_fd(&tree);
	b->opt_fd = steal_fd(&opt);
	return 0;
}

int build_normalise(struct build *b, struct error *err)
{
	// What takes space goes now; the rest goes with the build.
	if (directory_remove(b->opt_fd, "pkgs", err) < 0 ||
		directory_remove(b->opt_fd, "tmp", err) < 0 || move_prefix(b, err) < 0)
		return -1;
	return normalise_pip(b, err) < 0 ? -1 : normalise_conda(b, err);
}
