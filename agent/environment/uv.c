// SPDX-License-Identifier: Apache-2.0
#include "agent/environment/uv.h"

#include "agent/environment/proxy.h"
#include "agent/environment/words.h"
#include "base/file.h"
#include "base/text.h"

#include <string.h>

enum { WORDS_MAX = 32, WHEELS_MAX = 4096 };

static const char requirements_path[] = BUILD_TMP "/" PIP_REQUIREMENTS;
static const char lock_path[] = BUILD_TMP "/" UV_LOCK;
static const char python_path[] = ENVIRONMENT_PYTHON;

struct json_pairs uv_environment(struct arena *a, const struct json_pairs *base)
{
	const struct json_pair all[] = {
		{"UV_NO_CONFIG", "1"},
		{"UV_NO_PROGRESS", "1"},
		{"UV_PYTHON_DOWNLOADS", "never"},
		{"UV_CACHE_DIR", BUILD_TMP "/uv"},
		{"UV_LINK_MODE", "hardlink"},
		{"UV_COMPILE_BYTECODE", "1"},
		{"UV_HTTP_TIMEOUT", "600"},
		{"UV_CONCURRENT_DOWNLOADS", "8"},
		{"NO_COLOR", "1"},
	};
	struct json_pairs env = {
		.items = arena_array(a, struct json_pair, base->count + array_size(all))};
	memcpy(env.items, base->items, base->count * sizeof(*env.items));
	memcpy(env.items + base->count, all, sizeof(all));
	env.count = base->count + array_size(all);
	return env;
}

struct json_strings uv_venv_command(struct arena *a, const struct uv_options *o)
{
	struct words w = {.list.items = arena_array(a, const char *, WORDS_MAX)};
	words(&w, (const char *const[]){o->path, "venv", "--python", o->python, NULL});
	if (o->inherit_image_packages)
		words(&w, (const char *const[]){"--system-site-packages", NULL});
	words(&w, (const char *const[]){ENVIRONMENT_PREFIX, NULL});
	return w.list;
}

struct json_strings uv_compile_command(struct arena *a, const struct uv_options *o)
{
	const struct pip_options *p = &o->pip;
	struct words w = {
		.list.items = arena_array(a, const char *,
			WORDS_MAX + 2 * p->extra_index_urls.count + 2 * p->only_binary.count)};
	words(&w, (const char *const[]){o->path, "pip", "compile", "--python", python_path,
			  "--format", "pylock.toml", "--output-file", lock_path, "--no-header",
			  NULL});
	if (p->index_url)
		words(&w, (const char *const[]){"--default-index", p->index_url, NULL});
	for (size_t i = 0; i < p->extra_index_urls.count; i++)
		words(&w, (const char *const[]){"--index", p->extra_index_urls.items[i], NULL});
	for (size_t i = 0; i < p->only_binary.count; i++)
		words(&w, (const char *const[]){"--only-binary", p->only_binary.items[i], NULL});
	if (p->pre)
		words(&w, (const char *const[]){"--prerelease", "allow", NULL});
	if (p->as_of)
		words(&w, (const char *const[]){"--exclude-newer", p->as_of, NULL});
	words(&w, (const char *const[]){requirements_path, NULL});
	return w.list;
}

struct json_strings uv_install_command(struct arena *a, const struct uv_options *o, bool locked)
{
	struct words w = {.list.items = arena_array(a, const char *, WORDS_MAX)};
	words(&w, (const char *const[]){o->path, "pip", "install", "--python", python_path, NULL});
	if (locked)
		words(&w, (const char *const[]){"--no-deps", "--require-hashes", NULL});
	words(&w, (const char *const[]){"-r", locked ? requirements_path : lock_path, NULL});
	return w.list;
}

void uv_locked_write(struct arena *a, const struct environment_lock *lock, struct buffer *out)
{
	for (size_t i = 0; i < lock->pip_count; i++)
		buffer_printf(out, "%s @ %s --hash=sha256:%s\n", lock->pip[i].name,
			package_proxy_url(a, lock->pip[i].url), lock->pip[i].sha256);
}

// ---- its lock

// The string behind `key = "` at or behind `p`, before `end`; NULL: none.
static const char *string_of(struct arena *a, const char *p, const char *end, const char *key)
{
	cleanup_free char *mark = xasprintf("%s = \"", key);
	const char *at = memmem(p, (size_t)(end - p), mark, strlen(mark));
	if (!at)
		return NULL;
	at += strlen(mark);
	const char *close = memchr(at, '"', (size_t)(end - at));
	if (!close || memchr(at, '\\', (size_t)(close - at)))
		return NULL;
	return arena_strndup(a, at, (size_t)(close - at));
}

static struct uv_file file_of(struct arena *a, const char *p, const char *end)
{
	return (struct uv_file){
		.url = string_of(a, p, end, "url"), .sha256 = string_of(a, p, end, "sha256")};
}

// "{ url = …, hashes = { sha256 = … } }, { … }": each begins with its address.
static int read_wheels(struct arena *a, const char *p, const char *end, struct uv_package *package,
	struct error *err)
{
	static const char mark[] = "{ url = ";
	size_t count = 0;
	for (const char *at = p; (at = memmem(at, (size_t)(end - at), mark, strlen(mark))) != NULL;
		at++)
		count++;
	if (count + package->wheel_count > WHEELS_MAX)
		return error_set(err, ERROR_LIMIT, "%s: %s has more than %d wheels", UV_LOCK,
			package->name ? package->name : "a package", WHEELS_MAX);
	struct uv_file *all = arena_array(a, struct uv_file, count + package->wheel_count);
	if (package->wheel_count)
		memcpy(all, package->wheels, package->wheel_count * sizeof(*all));
	const char *at = memmem(p, (size_t)(end - p), mark, strlen(mark));
	while (at) {
		const char *next = memmem(at + 1, (size_t)(end - at - 1), mark, strlen(mark));
		all[package->wheel_count++] = file_of(a, at, next ? next : end);
		at = next;
	}
	package->wheels = all;
	return 0;
}

static bool line_begins(const char *p, const char *end, const char *text)
{
	size_t n = strlen(text);
	return (size_t)(end - p) >= n && memcmp(p, text, n) == 0;
}

int uv_lock_parse(struct arena *a, const char *text, size_t size, struct uv_package **packages,
	size_t *count, struct error *err)
{
	struct uv_package *all = NULL, *current = NULL;
	size_t n = 0, most = 0;
	for (const char *p = text, *end; p < text + size; p = end + 1) {
		end = memchr(p, '\n', (size_t)(text + size - p));
		end = end ? end : text + size;
		most += line_begins(p, end, "[[packages]]");
	}
	if (most > LOCK_PACKAGES_MAX)
		return error_set(
			err, ERROR_LIMIT, "%s: more than %d packages", UV_LOCK, LOCK_PACKAGES_MAX);
	all = arena_array(a, struct uv_package, most + 1);
	for (const char *p = text, *end; p < text + size; p = end + 1) {
		end = memchr(p, '\n', (size_t)(text + size - p));
		end = end ? end : text + size;
		if (line_begins(p, end, "[[packages]]"))
			current = &all[n++];
		else if (!current)
			continue;
		else if (line_begins(p, end, "name = "))
			current->name = string_of(a, p, end, "name");
		else if (line_begins(p, end, "version = "))
			current->version = string_of(a, p, end, "version");
		else if (line_begins(p, end, "sdist = ") || line_begins(p, end, "archive = "))
			current->sdist = file_of(a, p, end);
		else if (line_begins(p, end, "wheels = ") || line_begins(p, end, "    { url"))
			if (read_wheels(a, p, end, current, err) < 0)
				return -1;
	}
	for (size_t i = 0; i < n; i++)
		if (!all[i].name || !all[i].version)
			return error_set(err, ERROR_INVALID,
				"%s: package %zu has no name or no version", UV_LOCK, i + 1);
	*packages = all;
	*count = n;
	return 0;
}

// "x-1.0-py2.py3-none-any.whl" has the tags py2-none-any and py3-none-any.
static bool part_has(const char *parts, size_t size, const char *wanted, size_t wanted_size)
{
	for (const char *p = parts, *end = parts + size; p < end;) {
		const char *dot = memchr(p, '.', (size_t)(end - p));
		size_t n = (size_t)((dot ? dot : end) - p);
		if (n == wanted_size && memcmp(p, wanted, n) == 0)
			return true;
		p += n + 1;
	}
	return false;
}

static bool has_tag(const char *url, const char *tag)
{
	const char *name = path_base(url);
	size_t size = strlen(name);
	if (!ends_with(name, ".whl"))
		return false;
	size -= strlen(".whl");
	// The last three parts of each, from the end.
	const char *from = name + size, *wanted = tag + strlen(tag);
	for (int i = 0; i < 3; i++) {
		const char *p = memrchr(name, '-', (size_t)(from - name));
		const char *q = i < 2 ? memrchr(tag, '-', (size_t)(wanted - tag)) : tag - 1;
		if (!p || !q ||
			!part_has(p + 1, (size_t)(from - p - 1), q + 1, (size_t)(wanted - q - 1)))
			return false;
		from = p;
		wanted = q;
	}
	return true;
}

const struct uv_file *uv_wheel_with_tag(const struct uv_package *p, const char *tag)
{
	for (size_t i = 0; i < p->wheel_count; i++)
		if (p->wheels[i].url && has_tag(p->wheels[i].url, tag))
			return &p->wheels[i];
	return NULL;
}
