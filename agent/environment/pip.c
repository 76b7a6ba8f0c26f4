// SPDX-License-Identifier: Apache-2.0
#include "agent/environment/pip.h"

#include "agent/environment/proxy.h"
#include "agent/environment/words.h"
#include "base/file.h"
#include "base/text.h"

#include <stdio.h>

enum { WORDS_MAX = 64 };

static const char requirements_path[] = BUILD_TMP "/" PIP_REQUIREMENTS;
static const char constraints_path[] = BUILD_TMP "/" PIP_CONSTRAINTS;
static const char report_path[] = BUILD_TMP "/" PIP_REPORT;
static const char links_path[] = BUILD_TMP "/" PIP_LINKS;

bool version_at_least(const char *version, unsigned major, unsigned minor)
{
	uint64_t parts[2] = {0};
	for (size_t i = 0; version && i < 2; i++) {
		size_t n = strspn(version, "0123456789");
		if (!n || !parse_u64_n(version, n, &parts[i]))
			break;
		version += n + (version[n] == '.');
	}
	return parts[0] > major || (parts[0] == major && parts[1] >= minor && parts[0]);
}

bool pip_has_report(const char *version)
{
	return version_at_least(version, 22, 2);
}

bool pip_has_as_of(const char *version)
{
	return version_at_least(version, 26, 0);
}

// The proxy has a patience of its own: what it answers late is no reason to ask it again.
struct json_pairs pip_environment(struct arena *a, const char *path)
{
	const struct json_pair all[] = {
		{"PATH", arena_printf(a, ENVIRONMENT_PREFIX "/bin:%s", path)},
		{"HOME", BUILD_TMP "/home"},
		{"TMPDIR", BUILD_TMP},
		{"LANG", "C.UTF-8"},
		{"LC_ALL", "C.UTF-8"},
		{"SOURCE_DATE_EPOCH", BUILD_EPOCH},
		{"PYTHONUNBUFFERED", "1"},
		{"PYTHONNOUSERSITE", "1"},
		{"PYTHONHASHSEED", "0"},
		{"PIP_CONFIG_FILE", "/dev/null"},
		{"PIP_NO_INPUT", "1"},
		{"PIP_NO_COLOR", "1"},
		{"PIP_NO_CACHE_DIR", "1"},
		{"PIP_DISABLE_PIP_VERSION_CHECK", "1"},
		{"PIP_ROOT_USER_ACTION", "ignore"},
		{"PIP_NO_WARN_SCRIPT_LOCATION", "1"},
		{"PIP_PROGRESS_BAR", "off"},
		{"PIP_DEFAULT_TIMEOUT", "600"},
		{"PIP_RETRIES", "0"},
	};
	struct json_pairs env = {.items = arena_array(a, struct json_pair, array_size(all))};
	memcpy(env.items, all, sizeof(all));
	env.count = array_size(all);
	return env;
}

static struct words begin(struct arena *a, const struct pip_options *o, const char *verb)
{
	struct words w = {0};
	w.list.items = arena_array(a, const char *,
		WORDS_MAX + 2 * o->extra_index_urls.count + 2 * o->only_binary.count);
	words(&w, (const char *const[]){ENVIRONMENT_PYTHON, NULL});
	if (o->pip)
		words(&w, (const char *const[]){o->pip, NULL});
	else
		words(&w, (const char *const[]){"-m", "pip", NULL});
	words(&w, (const char *const[]){verb, NULL});
	return w;
}

static void add_compile(struct words *w, const struct pip_options *o)
{
	if (o->no_compile)
		words(w, (const char *const[]){"--no-compile", NULL});
}

static void add_indexes(struct words *w, const struct pip_options *o)
{
	if (o->index_url)
		words(w, (const char *const[]){"--index-url", o->index_url, NULL});
	for (size_t i = 0; i < o->extra_index_urls.count; i++)
		words(w, (const char *const[]){
				 "--extra-index-url", o->extra_index_urls.items[i], NULL});
}

struct json_strings pip_install_command(struct arena *a, const struct pip_options *o)
{
	struct words w = begin(a, o, "install");
	add_compile(&w, o);
	add_indexes(&w, o);
	for (size_t i = 0; i < o->only_binary.count; i++)
		words(&w, (const char *const[]){"--only-binary", o->only_binary.items[i], NULL});
	if (o->pre)
		words(&w, (const char *const[]){"--pre", NULL});
	if (o->as_of && pip_has_as_of(o->version))
		words(&w, (const char *const[]){"--uploaded-prior-to", o->as_of, NULL});
	if (pip_has_report(o->version))
		words(&w, (const char *const[]){"--report", report_path, NULL});
	if (o->constraints)
		words(&w, (const char *const[]){"-c", constraints_path, NULL});
	words(&w, (const char *const[]){
			  "--upgrade-strategy", "only-if-needed", "-r", requirements_path, NULL});
	return w.list;
}

static bool all_wheels(const struct environment_lock *lock)
{
	for (size_t i = 0; i < lock->pip_count; i++)
		if (!lock->pip[i].url || !ends_with(lock->pip[i].url, ".whl"))
			return false;
	return true;
}

struct json_strings pip_locked_command(
	struct arena *a, const struct pip_options *o, const struct environment_lock *lock)
{
	struct words w = begin(a, o, "install");
	add_compile(&w, o);
	if (all_wheels(lock))
		words(&w, (const char *const[]){"--no-index", NULL});
	else
		add_indexes(&w, o);
	words(&w, (const char *const[]){"--no-deps", "--require-hashes", "--find-links", links_path,
			  "-r", requirements_path, NULL});
	return w.list;
}

struct json_strings pip_freeze_command(struct arena *a, const struct pip_options *o)
{
	struct words w = begin(a, o, "freeze");
	words(&w, (const char *const[]){"--local", "--all", NULL});
	return w.list;
}

// ---- files

void pip_requirements_write(struct arena *a, const struct json_strings *lines, struct buffer *out)
{
	for (size_t i = 0; i < lines->count; i++) {
		const char *line = lines->items[i];
		const char *url = strstr(line, "http://");
		const char *tls = strstr(line, "https://");
		if (tls && (!url || tls < url))
			url = tls;
		size_t n = url ? strcspn(url, " \t;") : 0;
		if (!url) {
			buffer_printf(out, "%s\n", line);
			continue;
		}
		const char *inside = package_proxy_url(a, arena_strndup(a, url, n));
		buffer_printf(out, "%.*s%s%s\n", (int)(url - line), line, inside, url + n);
	}
}

void pip_locked_write(struct arena *a, const struct environment_lock *lock,
	struct buffer *requirements, struct buffer *links)
{
	buffer_puts(links, "<!DOCTYPE html>\n");
	for (size_t i = 0; i < lock->pip_count; i++) {
		const struct lock_package *p = &lock->pip[i];
		buffer_printf(
			requirements, "%s==%s --hash=sha256:%s\n", p->name, p->version, p->sha256);
		buffer_printf(links, "<a href=\"%s#sha256=%s\">%s</a><br>\n",
			package_proxy_url(a, p->url), p->sha256, path_base(p->url));
	}
}
