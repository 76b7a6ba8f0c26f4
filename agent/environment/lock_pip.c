// SPDX-License-Identifier: Apache-2.0
// What pip says it installed: the document of --report (pip 22.2 and later), or `pip freeze`.
#include "agent/environment/canonical.h"
#include "agent/environment/lock_internal.h"
#include "agent/environment/request.h"
#include "base/text.h"

#include <ctype.h>
#include <stdlib.h>

static const struct json_limits report_limits = {
	.bytes = LOCK_REPORT_BYTES_MAX, .depth = 64, .nodes = 2000000, .unsigned_integers = true};

// pip 22.2 has "hash": "sha256=…", later ones "hashes": {"sha256": "…"}.
static const char *report_hash(const struct json *download)
{
	const struct json *archive = json_get(download, "archive_info");
	const char *hash = json_get_string(json_get(archive, "hashes"), "sha256");
	if (hash)
		return hash;
	hash = json_get_string(archive, "hash");
	return hash && starts_with(hash, "sha256=") ? hash + strlen("sha256=") : NULL;
}

static int report_package(const struct json *item, struct arena *a, lock_original_fn *original,
	void *data, struct lock_package *p, struct error *err)
{
	const struct json *metadata = json_get(item, "metadata");
	const struct json *download = json_get(item, "download_info");
	const char *name = json_get_string(metadata, "name"), *member;
	const char *version = json_get_string(metadata, "version");
	const char *hash = report_hash(download);
	*p = (struct lock_package){
		.name = name ? environment_pip_name(a, name) : NULL,
		.version = version ? arena_strdup(a, version) : NULL,
		.url = lock_address(a, json_get_string(download, "url"), original, data),
		.sha256 = hash ? arena_strdup(a, hash) : NULL,
	};
	const char *why = lock_package_check(LOCK_PIP, p, &member);
	if (why)
		return error_set(err, ERROR_INVALID, "package \"%.80s\": %s: %s", name ? name : "",
			member, why);
	return 0;
}

int environment_lock_read_pip(struct environment_lock *lock, struct arena *a, const char *report,
	size_t size, lock_original_fn *original, void *data, struct error *err)
{
	cleanup_arena struct arena scratch = {0};
	const struct json *root =
		json_parse(&scratch, report, size, "pip's report", &report_limits, err);
	if (!root)
		return -1;
	const struct json *install = json_get(root, "install");
	const char *version = json_get_string(root, "version");
	if (!install || install->type != JSON_ARRAY || !version || !streq(version, "1"))
		return error_set(err, ERROR_INVALID,
			"pip's report: expected version \"1\" and a list \"install\"");
	if (install->count > LOCK_PACKAGES_MAX)
		return error_set(
			err, ERROR_LIMIT, "pip's report: more than %d packages", LOCK_PACKAGES_MAX);
	cleanup_free struct lock_package *packages = xcalloc(install->count, sizeof(*packages));
	size_t count = 0;
	json_array_each (item, install)
		if (report_package(&item->value, a, original, data, &packages[count++], err) < 0)
			return error_context(err, "pip's report");
	if (lock_append(lock, LOCK_PIP, a, packages, count, err) < 0)
		return error_context(err, "pip's report");
	return 0;
}

static bool is_conda_package(const struct environment_lock *lock, struct arena *a, const char *name)
{
	for (size_t i = 0; i < lock->conda_count; i++)
		if (streq(environment_pip_name(a, lock->conda[i].name), name))
			return true;
	return false;
}

// "name==version". Other lines (editable, "name @ file:///…" of what conda built) say no version.
static bool freeze_line(struct arena *a, const char *line, size_t size, struct lock_package *p)
{
	const char *member, *equals = memmem(line, size, "==", 2);
	if (!equals || *line == '#' || *line == '-')
		return false;
	const char *end = line + size, *version = equals + 2;
	while (equals > line && isspace((unsigned char)equals[-1]))
		equals--;
	while (end > version && isspace((unsigned char)end[-1]))
		end--;
	*p = (struct lock_package){
		.name = environment_pip_name(a, arena_strndup(a, line, (size_t)(equals - line))),
		.version = arena_strndup(a, version, (size_t)(end - version)),
	};
	return !lock_package_check(LOCK_PIP, p, &member);
}

int environment_lock_read_freeze(struct environment_lock *lock, struct arena *a, const char *text,
	size_t size, struct error *err)
{
	cleanup_free struct lock_package *packages = NULL;
	size_t count = 0, capacity = 0;
	for (const char *line = text, *end = text + size; line < end;) {
		const char *newline = memchr(line, '\n', (size_t)(end - line));
		size_t n = (size_t)((newline ? newline : end) - line);
		struct lock_package p;
		if (count > LOCK_PACKAGES_MAX)
			return error_set(err, ERROR_LIMIT, "pip freeze: more than %d packages",
				LOCK_PACKAGES_MAX);
		if (freeze_line(a, line, n, &p) && !is_conda_package(lock, a, p.name)) {
			if (count == capacity) {
				capacity = capacity ? capacity * 2 : 64;
				packages = xreallocarray(packages, capacity, sizeof(*packages));
			}
			packages[count++] = p;
		}
		line += n + (newline != NULL);
	}
	if (lock_append(lock, LOCK_PIP, a, packages, count, err) < 0)
		return error_context(err, "pip freeze");
	return 0;
}
