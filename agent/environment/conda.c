// SPDX-License-Identifier: Apache-2.0
#include "agent/environment/conda.h"

#include "agent/environment/pip.h"
#include "agent/environment/proxy.h"
#include "agent/environment/words.h"
#include "base/text.h"

#include <string.h>

enum { WORDS_MAX = 32, UNENDED_MAX = 16, SOLUTION_PACKAGES_MAX = LOCK_PACKAGES_MAX };

static const struct json_limits document_limits = {
	.bytes = STEP_OUTPUT_MAX, .depth = 32, .nodes = 2000000, .unsigned_integers = true};

static bool is_micromamba(const struct conda_options *o)
{
	return o->tool == JOB_TOOL_MICROMAMBA ||
	       (o->tool == JOB_TOOL_MAMBA && version_at_least(o->version, 2, 0));
}

// ---- variables

struct json_pairs conda_environment(
	struct arena *a, const struct json_pairs *base, const struct conda_options *o)
{
	// Priorities by name came with conda 4.6.
	bool words = o->tool != JOB_TOOL_CONDA || version_at_least(o->version, 4, 6);
	const char *priority = words					? o->channel_priority
			       : streq(o->channel_priority, "disabled") ? "false"
									: "true";
	const struct json_pair all[] = {
		// A regular file: conda 23 fails on others.
		{"CONDARC", BUILD_TMP "/" CONDA_RC},
		{"CONDA_PKGS_DIRS", "/opt/stoker/pkgs"},
		{"CONDA_ENVS_PATH", BUILD_TMP "/none"},
		{"MAMBA_ROOT_PREFIX", BUILD_TMP "/root"},
		{"CONDA_SUBDIR", o->subdir},
		{"CONDA_CHANNEL_PRIORITY", priority},
		{"CONDA_REMOTE_CONNECT_TIMEOUT_SECS", "30"},
		{"CONDA_REMOTE_READ_TIMEOUT_SECS", "600"},
		{"CONDA_REMOTE_MAX_RETRIES", "1"},
		{"CONDA_AUTO_UPDATE_CONDA", "false"},
		{"CONDA_NOTIFY_OUTDATED_CONDA", "false"},
		{"CONDA_NUMBER_CHANNEL_NOTICES", "0"},
		{"CONDA_REPORT_ERRORS", "false"},
		{"CONDA_EXTRA_SAFETY_CHECKS", "false"},
		{"CONDA_PLUGINS_AUTO_ACCEPT_TOS", o->accept_terms ? "yes" : "no"},
		{"MAMBA_NO_BANNER", "1"},
	};
	struct json_pairs env = {.items = arena_array(a, struct json_pair,
					 base->count + array_size(all) + o->overrides.count)};
	for (size_t i = 0; i < base->count; i++)
		env.items[env.count++] = base->items[i];
	for (size_t i = 0; i < array_size(all); i++)
		if (all[i].value)
			env.items[env.count++] = all[i];
	for (size_t i = 0; i < o->overrides.count; i++)
		env.items[env.count++] = o->overrides.items[i];
	return env;
}

// ---- command lines

static struct words begin(struct arena *a, const struct conda_options *o)
{
	struct words w = {.list.items = arena_array(a, const char *,
				  WORDS_MAX + 2 * o->channels.count + o->specs.count)};
	words(&w, (const char *const[]){
			  o->path, "create", "-p", ENVIRONMENT_PREFIX, "-y", "--json", NULL});
	if (is_micromamba(o))
		words(&w, (const char *const[]){"--no-rc", NULL});
	return w;
}

static void add_question(struct words *w, const struct conda_options *o)
{
	words(w, (const char *const[]){"--override-channels", NULL});
	if (is_micromamba(o))
		words(w, (const char *const[]){"--channel-priority", o->channel_priority, NULL});
	for (size_t i = 0; i < o->channels.count; i++)
		words(w, (const char *const[]){"-c", o->channels.items[i], NULL});
	for (size_t i = 0; i < o->specs.count; i++)
		words(w, (const char *const[]){o->specs.items[i], NULL});
}

struct json_strings conda_solve_command(struct arena *a, const struct conda_options *o)
{
	struct words w = begin(a, o);
	words(&w, (const char *const[]){"--dry-run", NULL});
	add_question(&w, o);
	return w.list;
}

struct json_strings conda_create_command(struct arena *a, const struct conda_options *o)
{
	struct words w = begin(a, o);
	add_question(&w, o);
	return w.list;
}

struct json_strings conda_explicit_command(struct arena *a, const struct conda_options *o)
{
	struct words w = begin(a, o);
	words(&w, (const char *const[]){"--file", BUILD_TMP "/" CONDA_EXPLICIT, NULL});
	return w.list;
}

struct json_strings conda_alias_command(struct arena *a, const struct conda_options *o)
{
	struct words w = {.list.items = arena_array(a, const char *, WORDS_MAX)};
	if (is_micromamba(o))
		words(&w, (const char *const[]){o->path, "config", "list", "--all", "--no-rc",
				  "channel_alias", NULL});
	else
		// Not --json: there it is an object of the address's parts.
		words(&w,
			(const char *const[]){o->path, "config", "--show", "channel_alias", NULL});
	return w.list;
}

const char *conda_alias_parse(struct arena *a, const char *output, size_t size)
{
	const struct json *document = conda_document(a, output, size);
	const char *told = document ? json_get_string(document, "channel_alias") : NULL;
	char *text = arena_strndup(a, output, size);
	char *line = told ? NULL : strstr(text, "channel_alias:");
	if (line) {
		line += strlen("channel_alias:");
		line += strspn(line, " \"'");
		line[strcspn(line, " \"'\r\n")] = '\0';
		told = line;
	}
	if (!told || (!starts_with(told, "http://") && !starts_with(told, "https://")))
		return NULL;
	size_t n = strlen(told);
	while (n && told[n - 1] == '/')
		n--;
	return arena_strndup(a, told, n);
}

// ---- what they print

// Behind the object that begins at `p`, or NULL: it does not end.
static const char *object_end(const char *p, const char *end)
{
	int depth = 0;
	bool string = false;
	for (; p < end; p++) {
		if (string) {
			if (*p == '\\')
				p++;
			else if (*p == '"')
				string = false;
		} else if (*p == '"') {
			string = true;
		} else if (*p == '{' || *p == '[') {
			depth++;
		} else if ((*p == '}' || *p == ']') && --depth == 0) {
			return p + 1;
		}
	}
	return NULL;
}

const struct json *conda_document(struct arena *a, const char *output, size_t size)
{
	const char *end = output + size;
	const struct json *last = NULL;
	struct error ignored;
	int unended = 0; // each is looked through to the end of the output
	for (const char *p = output; p < end;) {
		bool first = p == output || p[-1] == '\n' || p[-1] == '\0';
		bool begins = first && *p == '{' && unended < UNENDED_MAX;
		const char *behind = begins ? object_end(p, end) : NULL;
		unended += begins && !behind;
		if (!behind) {
			p++;
			continue;
		}
		const struct json *v =
			json_parse(a, p, (size_t)(behind - p), "conda", &document_limits, &ignored);
		if (v && v->type == JSON_OBJECT && !json_get(v, "fetch"))
			last = v;
		p = behind;
	}
	return last;
}

static bool read_package(struct arena *a, const struct json *v, struct lock_package *p)
{
	const struct json *size = json_get(v, "size");
	*p = (struct lock_package){
		.name = json_get_string(v, "name"),
		.version = json_get_string(v, "version"),
		.url = json_get_string(v, "url"),
		.sha256 = json_get_string(v, "sha256"),
		.md5 = json_get_string(v, "md5"),
		.size = size && size->type == JSON_INTEGER && size->integer > 0
				? (uint64_t)size->integer
				: 0,
	};
	if (p->url)
		p->url = package_proxy_original(a, p->url);
	return p->url && (starts_with(p->url, "http://") || starts_with(p->url, "https://")) &&
	       !strpbrk(p->url, " \t\r\n#");
}

bool conda_solution_read(
	struct arena *a, const struct json *document, struct conda_solution *solution)
{
	const struct json *actions = json_get(document, "actions");
	*solution = (struct conda_solution){0};
	if (actions && actions->type == JSON_ARRAY && actions->count == 1)
		actions = &actions->members[0].value;
	const struct json *fetch = json_get(actions, "FETCH"), *link = json_get(actions, "LINK");
	if (!link || link->type != JSON_ARRAY || link->count > SOLUTION_PACKAGES_MAX)
		return false;
	if (!link->count)
		return true;
	// micromamba tells addresses in both lists; conda only of what it has not downloaded yet,
	// which in a build is all.
	const struct json *list =
		fetch && fetch->type == JSON_ARRAY && fetch->count == link->count ? fetch : link;
	solution->packages = arena_array(a, struct lock_package, list->count);
	json_array_each (item, list) {
		struct lock_package *p = &solution->packages[solution->count++];
		if (!read_package(a, &item->value, p))
			return false;
		solution->bytes += p->size;
	}
	return true;
}

static bool is_hex(const char *text, size_t size)
{
	return text && strlen(text) == size && strspn(text, "0123456789abcdef") == size;
}

void conda_explicit_write(
	struct arena *a, const struct lock_package *packages, size_t count, struct buffer *out)
{
	buffer_puts(out, "@EXPLICIT\n");
	for (size_t i = 0; i < count; i++) {
		const struct lock_package *p = &packages[i];
		buffer_puts(out, package_proxy_url(a, p->url));
		if (is_hex(p->md5, 32))
			buffer_printf(out, "#%s", p->md5);
		buffer_putc(out, '\n');
	}
}
