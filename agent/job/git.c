// SPDX-License-Identifier: Apache-2.0
#include "agent/job/git.h"

#include "base/buffer.h"
#include "base/file.h"
#include "base/process.h"
#include "base/text.h"
#include "base/time.h"

#include <assert.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
	CALL_MS = 3000,
	OUTPUT_MAX = 64 * 1024,
	FILTERS_MAX = 16,
	ARGUMENTS_MAX = 96, // the settings, those of all filters, a command
	PROPERTIES_MAX = 7,
	PARENTS_MAX = 64
};

struct git {
	struct arena *arena;
	const char *folder;
	const char *argv[ARGUMENTS_MAX]; // what every call begins with
	size_t count;
	const char *envp[16];
	struct json_pairs properties;
};

// Starting git costs milliseconds that a folder outside of any repository need not pay.
static bool in_repository(const char *folder)
{
	cleanup_free char *path = realpath(folder, NULL);
	for (int i = 0; path && i < PARENTS_MAX; i++) {
		struct stat st;
		cleanup_free char *git = path_join(path, ".git");
		if (lstat(git, &st) == 0)
			return true;
		char *slash = strrchr(path, '/');
		if (!slash || slash == path)
			return false;
		*slash = '\0';
	}
	return false;
}

static void add_argument(struct git *g, const char *argument)
{
	assert(g->count < ARGUMENTS_MAX);
	g->argv[g->count++] = argument;
}

static void set_config(struct git *g, const char *setting)
{
	add_argument(g, "-c");
	add_argument(g, setting);
}

static void begin(struct git *g)
{
	static const char *const settings[] = {"core.fsmonitor=false", "core.hooksPath=/dev/null",
		"core.sshCommand=false", "core.gitProxy=false", "core.pager=cat",
		"core.askPass=false", "core.untrackedCache=false", "core.preloadIndex=false",
		"credential.helper=", "protocol.allow=never", "diff.external=", "gc.auto=0",
		"submodule.recurse=false", "status.submoduleSummary=false",
		"log.showSignature=false"};
	static const char *const inherited[] = {"PATH", "HOME", "XDG_CONFIG_HOME", "SUDO_UID"};
	size_t n = 0;
	add_argument(g, "git");
	add_argument(g, "-C");
	add_argument(g, g->folder);
	for (size_t i = 0; i < array_size(settings); i++)
		set_config(g, settings[i]);
	for (size_t i = 0; i < array_size(inherited); i++) {
		const char *value = getenv(inherited[i]);
		if (value)
			g->envp[n++] = arena_printf(g->arena, "%s=%s", inherited[i], value);
	}
	g->envp[n++] = "LC_ALL=C";
	g->envp[n++] = "GIT_TERMINAL_PROMPT=0";
	g->envp[n++] = "GIT_OPTIONAL_LOCKS=0"; // status must not write the index
	g->envp[n++] = "GIT_NO_LAZY_FETCH=1";
	g->envp[n++] = "GIT_PAGER=cat";
}

static int call(struct git *g, const char *const *words, struct buffer *out, struct error *err)
{
	const char *argv[ARGUMENTS_MAX + 1];
	size_t n = g->count;
	memcpy(argv, g->argv, n * sizeof(*argv));
	while (*words) {
		assert(n < ARGUMENTS_MAX);
		argv[n++] = *words++;
	}
	argv[n] = NULL;
	const struct process_run_options o = {
		.argv = argv, .envp = g->envp, .limit = OUTPUT_MAX, .timeout_ms = CALL_MS};
	return process_run_with(&o, out, err);
}

// A filter is a program that git starts for files whose content it compares. An empty one is none.
// One with a '=' in its name cannot be named by "-c", which ends the name there.
static int disable_filters(struct git *g)
{
	static const char *const list[] = {
		"config", "--null", "--name-only", "--get-regexp", "^filter\\.", NULL};
	cleanup_buffer struct buffer out = {0};
	struct error err = {0};
	size_t filters = 0;
	if (call(g, list, &out, &err) < 0) // status 1: there are none
		return err.kind == ERROR_SYSTEM && strstr(err.text, "status 1") ? 0 : -1;
	for (const char *p = out.data; p && p < out.data + out.size; p += strlen(p) + 1) {
		const char *last = strrchr(p, '.');
		if (!last || last - p < 7)
			continue;
		if (++filters > FILTERS_MAX || strchr(p, '='))
			return -1;
		set_config(g, arena_printf(g->arena, "%s=%s", p,
				      streq(last, ".required") ? "false" : ""));
	}
	return 0;
}

static void add(struct git *g, const char *key, const char *value)
{
	g->properties.items[g->properties.count++] =
		(struct json_pair){key, arena_strdup(g->arena, value)};
}

// The first line, fit for a document; NULL: there is none.
static const char *ask(struct git *g, const char *const *words)
{
	cleanup_buffer struct buffer out = {0};
	struct error err = {0};
	if (call(g, words, &out, &err) < 0 || !out.data)
		return NULL;
	out.data[strcspn(out.data, "\n")] = '\0';
	text_flatten(out.data);
	return *out.data ? arena_strdup(g->arena, out.data) : NULL;
}

// In a large repository it may take too long; then nothing is said.
static void add_dirty(struct git *g)
{
	static const char *const words[] = {"status", "--porcelain", "--ignore-submodules=all",
		"--no-ahead-behind", "--no-renames", "--", ".", NULL};
	cleanup_buffer struct buffer out = {0};
	struct error err = {0};
	int64_t start = now_ms();
	if (call(g, words, &out, &err) == 0)
		add(g, "azureml.git.dirty", out.size ? "True" : "False");
	else if (err.kind == ERROR_LIMIT && now_ms() - start < CALL_MS) // it said too much
		add(g, "azureml.git.dirty", "True");
}

const char *git_strip_credentials(struct arena *a, const char *url)
{
	const char *scheme = strstr(url, "://");
	size_t n = strcspn(url, "?#");
	if (!scheme || scheme >= url + n) {
		// user@host:path of ssh, or a path
		const char *at = memchr(url, '@', n), *colon = memchr(url, ':', n);
		bool password = at && colon && colon < at;
		return password ? arena_strndup(a, at + 1, (size_t)(url + n - at - 1))
				: arena_strndup(a, url, n);
	}
	const char *host = scheme + 3, *end = host + strcspn(host, "/?#");
	const char *at = memrchr(host, '@', (size_t)(end - host));
	bool ssh = starts_with(url, "ssh://") || starts_with(url, "git+ssh://");
	size_t user = at && ssh ? strcspn(host, ":@") : 0;
	return arena_printf(a, "%.*s%.*s%s%.*s", (int)(host - url), url, (int)user, host,
		user ? "@" : "", (int)(url + n - (at ? at + 1 : host)), at ? at + 1 : host);
}

struct json_pairs git_properties(struct arena *a, const char *folder)
{
	static const char *const url_words[] = {"ls-remote", "--get-url", NULL};
	static const char *const branch_words[] = {"symbolic-ref", "--short", "HEAD", NULL};
	static const char *const commit_words[] = {"rev-parse", "--verify", "HEAD", NULL};
	struct git g = {.arena = a, .folder = folder};
	if (!in_repository(folder))
		return g.properties;
	g.properties.items = arena_array(a, struct json_pair, PROPERTIES_MAX);
	begin(&g);
	if (disable_filters(&g) < 0)
		return g.properties;
	const char *commit = ask(&g, commit_words);
	const char *url = commit ? ask(&g, url_words) : NULL;
	const char *branch = commit ? ask(&g, branch_words) : NULL;
	if (url && strpbrk(url, "/:")) { // without a remote git says "origin"
		url = git_strip_credentials(a, url);
		add(&g, "azureml.git.repository_uri", url);
		add(&g, "mlflow.source.git.repoURL", url);
	}
	if (branch) {
		add(&g, "azureml.git.branch", branch);
		add(&g, "mlflow.source.git.branch", branch);
	}
	if (commit) {
		add(&g, "azureml.git.commit", commit);
		add(&g, "mlflow.source.git.commit", commit);
		add_dirty(&g);
	}
	return g.properties;
}
