// SPDX-License-Identifier: Apache-2.0
#include "agent/environment/request.h"

#include "agent/environment/canonical.h"
#include "base/text.h"
#include "base/time.h"

#include <ctype.h>

enum { REQUEST_SCHEMA = 1 };

// A node of any age has these; a job that needs a newer kernel's or processor's packages would not
// run everywhere.
#define PINNED_LINUX "5.15"

static const struct {
	const char *architecture, *subdir, *archspec;
} platforms[] = {
	{"amd64", "linux-64", "x86_64"},
	{"arm64", "linux-aarch64", "aarch64"},
	{"ppc64le", "linux-ppc64le", "ppc64le"},
	{"s390x", "linux-s390x", "s390x"},
};

static const char *const tool_names[] = {[JOB_TOOL_CONDA] = "conda",
	[JOB_TOOL_MAMBA] = "mamba",
	[JOB_TOOL_MICROMAMBA] = "micromamba",
	[JOB_TOOL_VENV] = "venv",
	[JOB_TOOL_UV] = "uv"};

static const char *const activation_names[] = {[JOB_ACTIVATION_SNAPSHOT] = "snapshot",
	[JOB_ACTIVATION_SHELL] = "shell",
	[JOB_ACTIVATION_NONE] = "none"};

const char *environment_subdir(const struct oci_platform *platform)
{
	for (size_t i = 0; i < array_size(platforms); i++)
		if (streq(platform->os, "linux") &&
			streq(platform->architecture, platforms[i].architecture))
			return platforms[i].subdir;
	return NULL;
}

static const char *archspec(const struct oci_platform *platform)
{
	for (size_t i = 0; i < array_size(platforms); i++)
		if (streq(platform->architecture, platforms[i].architecture))
			return platforms[i].archspec;
	return "";
}

static bool is_dotted_number(const char *s)
{
	while (isdigit((unsigned char)*s)) {
		while (isdigit((unsigned char)*s))
			s++;
		if (!*s)
			return true;
		if (*s++ != '.')
			return false;
	}
	return false;
}

// ---- lists of servers

static int server(struct arena *a, const char *text, const char *what, bool name_allowed,
	const char **out, struct error *err)
{
	const char *url = canonical_url(a, text);
	// Never quoted before the credentials are out of it.
	for (const char *p = url; *p; p++)
		if ((unsigned char)*p <= ' ' || *p == 0x7f || strchr("\"'\\<>", *p))
			return error_set(err, ERROR_INVALID,
				"%s \"%.120s\": it holds a space, a quote or a control character",
				what, url);
	if (!*url)
		return error_set(err, ERROR_INVALID, "%s: an entry is empty", what);
	if (!canonical_url_is_http(url) &&
		(!name_allowed || strstr(url, "://") || strchr("/.~-", *url) ||
			starts_with(url, "file:")))
		return error_set(err, ERROR_INVALID,
			"%s \"%.120s\": expected %shttp://… or "
			"https://…; folders of this machine cannot be reached from a build",
			what, url, name_allowed ? "a name, " : "");
	*out = url;
	return 0;
}

// The job's list, else the node's; each once, the first place counts.
static int servers(struct arena *a, const struct json_strings *job, const struct json_strings *node,
	const char *what, bool name_allowed, struct json_strings *out, struct error *err)
{
	const struct json_strings *from = job->count ? job : node;
	*out = (struct json_strings){.items = arena_array(a, const char *, from->count + 1)};
	for (size_t i = 0; i < from->count; i++) {
		const char *url;
		size_t seen = 0;
		if (server(a, from->items[i], what, name_allowed, &url, err) < 0)
			return -1;
		while (seen < out->count && !streq(out->items[seen], url))
			seen++;
		// "No other channels" is what we always say.
		if (seen == out->count && !(name_allowed && streq(url, "nodefaults")))
			out->items[out->count++] = url;
	}
	return 0;
}

// ---- pip

// Entries that end in '\' go on in the next one, as lines of a file do.
static const char *gather(
	struct arena *a, const struct json_strings *lines, size_t *at, bool *nothing)
{
	cleanup_buffer struct buffer b = {0};
	size_t n;
	do {
		const char *line = lines->items[(*at)++];
		n = strlen(line);
		while (n && isspace((unsigned char)line[n - 1]))
			n--;
		buffer_append(&b, line, n);
		buffer_putc(&b, '\n');
	} while (n && b.data[b.size - 2] == '\\' && *at < lines->count);
	const char *text = arena_strndup(a, b.data, b.size - 1);
	const char *first = text + strspn(text, " \t\r\n");
	*nothing = !*first || *first == '#';
	return text;
}

static int make_pip(struct arena *a, const struct job_environment *job,
	const struct environment_policy *node, struct environment_request *r, struct error *err)
{
	r->pip.items = arena_array(a, const char *, job->pip.count + 1);
	for (size_t i = 0; i < job->pip.count;) {
		bool nothing;
		size_t seen = 0;
		const char *text = gather(a, &job->pip, &i, &nothing);
		if (nothing)
			continue;
		const char *line = environment_pip_requirement(a, text, err);
		if (!line)
			return -1;
		while (seen < r->pip.count && !streq(r->pip.items[seen], line))
			seen++;
		if (seen == r->pip.count)
			r->pip.items[r->pip.count++] = line;
	}
	const char *index = job->index_url ? job->index_url : node->index_url;
	if (index && server(a, index, "index_url", false, &r->index_url, err) < 0)
		return -1;
	// A job with an index of its own does not want the node's others beside it.
	const struct json_strings none = {0};
	if (servers(a, &job->extra_index_urls, job->index_url ? &none : &node->extra_index_urls,
		    "extra_index_urls", false, &r->extra_index_urls, err) < 0)
		return -1;
	r->only_binary.items = arena_array(a, const char *, job->only_binary.count + 1);
	for (size_t i = 0; i < job->only_binary.count; i++) {
		const char *name = job->only_binary.items[i];
		bool all = streq(name, ":all:") || streq(name, ":none:");
		for (const char *p = name; !all && (!*name || *p); p++)
			if (!isalnum((unsigned char)*p) && (!*p || !strchr("-_.", *p)))
				return error_set(err, ERROR_INVALID,
					"only_binary \"%.80s\": expected a package's name or "
					"\":all:\"",
					name);
		r->only_binary.items[r->only_binary.count++] =
			all ? name : environment_pip_name(a, name);
	}
	canonical_sort(&r->only_binary);
	return 0;
}

// ---- conda

static bool spec_is_of(const char *spec, const char *name)
{
	const char *colons = strstr(spec, "::");
	for (; colons; colons = strstr(spec, "::"))
		spec = colons + 2;
	size_t n = strlen(name);
	return strncmp(spec, name, n) == 0 && (!spec[n] || strchr("=<>!~[", spec[n]));
}

static bool has_spec(const struct json_strings *specs, const char *name)
{
	for (size_t i = 0; i < specs->count; i++)
		if (spec_is_of(specs->items[i], name))
			return true;
	return false;
}

static int add_python(struct arena *a, const struct job_environment *job,
	struct environment_request *r, struct error *err)
{
	const char *want = job->python ? arena_printf(a, "python=%s", job->python) : "python";
	size_t kept = 0;
	for (size_t i = 0; i < r->conda.count; i++) {
		const char *spec = r->conda.items[i];
		if (job->python && streq(spec, "python"))
			continue;
		if (job->python && spec_is_of(spec, "python") && !streq(spec, want))
			return error_set(err, ERROR_INVALID,
				"conda package \"%.80s\": environment.python says %.20s; leave one "
				"of them out",
				spec, job->python);
		r->conda.items[kept++] = spec;
	}
	r->conda.count = kept;
	if ((job->python || r->pip.count) && !has_spec(&r->conda, "python"))
		r->conda.items[r->conda.count++] = want;
	if (r->pip.count && !has_spec(&r->conda, "pip"))
		r->conda.items[r->conda.count++] = "pip";
	return 0;
}

static void add_overrides(struct arena *a, const struct job_environment *job,
	const struct environment_tool *tool, const struct oci_platform *platform,
	struct environment_request *r)
{
	const struct json_pair all[] = {
		{"CONDA_OVERRIDE_ARCHSPEC", archspec(platform)},
		{"CONDA_OVERRIDE_CUDA", job->cuda ? job->cuda : ""},
		{"CONDA_OVERRIDE_GLIBC", tool->glibc ? tool->glibc : ""},
		{"CONDA_OVERRIDE_LINUX", PINNED_LINUX},
	};
	r->overrides.items = arena_array(a, struct json_pair, array_size(all));
	for (size_t i = 0; i < array_size(all); i++)
		r->overrides.items[r->overrides.count++] = all[i];
}

static int make_conda(struct arena *a, const struct job_environment *job,
	const struct oci_platform *platform, const struct environment_policy *node,
	struct environment_request *r, struct error *err)
{
	r->conda.items = arena_array(a, const char *, job->conda.count + 3);
	for (size_t i = 0; i < job->conda.count; i++) {
		const char *spec = environment_conda_spec(a, job->conda.items[i], err);
		if (!spec)
			return -1;
		r->conda.items[r->conda.count++] = spec;
	}
	if (add_python(a, job, r, err) < 0)
		return -1;
	canonical_sort(&r->conda);
	r->subdir = environment_subdir(platform);
	if (!r->subdir)
		return error_set(err, ERROR_INVALID,
			"conda packages: conda has none for %s/%s; choose another image or leave "
			"them out",
			platform->os, platform->architecture);
	if (servers(a, &job->channels, &node->channels, "channel", true, &r->channels, err) < 0)
		return -1;
	if (!r->channels.count)
		return error_set(err, ERROR_INVALID,
			"conda packages: no channel to take them from; name some in "
			"environment.channels (or the conda file's channels)");
	r->channel_priority = job->channel_priority ? job->channel_priority : "strict";
	add_overrides(a, job, r->tool, platform, r);
	return 0;
}

// ---- checks of what stands beside the lists

static int check_python(const struct job_environment *job, const struct environment_tool *tool,
	bool has_conda, struct error *err)
{
	if (!job->python)
		return 0;
	if (!is_dotted_number(job->python))
		return error_set(err, ERROR_INVALID,
			"environment.python \"%.40s\": expected a version such as 3.11",
			job->python);
	const char *have = tool->python_version ? tool->python_version : "none";
	size_t n = strlen(job->python);
	if (has_conda || (strncmp(have, job->python, n) == 0 && (!have[n] || have[n] == '.')))
		return 0;
	return error_set(err, ERROR_INVALID,
		"environment.python is %.20s, but the image's Python is %.20s, and without conda "
		"packages that one is used; choose another image or leave python out",
		job->python, have);
}

static int check_job(const struct job_environment *job, const struct environment_tool *tool,
	bool has_conda, struct error *err)
{
	int64_t ignored;
	if (!has_conda && job->conda.count)
		return error_set(err, ERROR_INVALID,
			"conda package \"%.80s\": environment.tool is %s, which installs pip "
			"packages only; choose conda, mamba or micromamba",
			job->conda.items[0], tool_names[tool->tool]);
	if (job->cuda && !is_dotted_number(job->cuda))
		return error_set(err, ERROR_INVALID,
			"environment.cuda \"%.40s\": expected a version such as 12.4", job->cuda);
	if (job->as_of && !parse_time(job->as_of, &ignored))
		return error_set(err, ERROR_INVALID,
			"environment.as_of \"%.40s\": expected a time such as "
			"2026-01-31T00:00:00Z",
			job->as_of);
	return check_python(job, tool, has_conda, err);
}

// ---- the document

static void put_bool(struct buffer *b, const char *key, bool value)
{
	canonical_key(b, key);
	buffer_puts(b, value ? "true" : "false");
}

static void put_conda(struct buffer *b, const struct environment_request *r)
{
	canonical_key(b, "conda");
	if (!r->has_conda) {
		buffer_puts(b, "null");
		return;
	}
	buffer_putc(b, '{');
	canonical_member(b, "channel_priority", r->channel_priority);
	canonical_key(b, "channels");
	canonical_strings(b, &r->channels);
	canonical_key(b, "overrides");
	buffer_putc(b, '{');
	for (size_t i = 0; i < r->overrides.count; i++)
		canonical_member(b, r->overrides.items[i].key, r->overrides.items[i].value);
	buffer_putc(b, '}');
	canonical_key(b, "specs");
	canonical_strings(b, &r->conda);
	canonical_member(b, "subdir", r->subdir);
	buffer_putc(b, '}');
}

static void put_pip(struct buffer *b, const struct environment_request *r)
{
	canonical_key(b, "pip");
	if (!r->pip.count) {
		buffer_puts(b, "null"); // then no index matters
		return;
	}
	buffer_putc(b, '{');
	canonical_key(b, "extra_index_urls");
	canonical_strings(b, &r->extra_index_urls);
	canonical_member(b, "index_url", r->index_url);
	canonical_key(b, "only_binary");
	canonical_strings(b, &r->only_binary);
	put_bool(b, "pre", r->job->pre);
	canonical_key(b, "requirements");
	canonical_strings(b, &r->pip);
	buffer_putc(b, '}');
}

static void put_tool(struct buffer *b, const struct environment_tool *t)
{
	canonical_key(b, "tool");
	buffer_putc(b, '{');
	canonical_member(b, "name", tool_names[t->tool]);
	canonical_member(b, "path", t->path);
	canonical_member(b, "pip", t->pip_version);
	canonical_member(b, "python", t->python);
	canonical_member(b, "python_version", t->python_version);
	canonical_member(b, "sha256", t->sha256);
	canonical_member(b, "version", t->version);
	buffer_putc(b, '}');
}

static void put_document(struct buffer *b, const struct environment_request *r,
	const char *image_manifest, const struct oci_platform *platform)
{
	char text[OCI_PLATFORM_TEXT_MAX];
	int64_t as_of;
	buffer_putc(b, '{');
	canonical_member(b, "activation", activation_names[r->job->activation]);
	canonical_key(b, "as_of");
	// The same moment in another zone is the same.
	if (r->job->as_of && parse_time(r->job->as_of, &as_of))
		buffer_printf(b, "%lld", (long long)as_of);
	else
		buffer_puts(b, "null");
	put_conda(b, r);
	canonical_member(b, "image", image_manifest);
	put_bool(b, "inherit_image_packages", r->job->inherit_image_packages);
	canonical_key(b, "layout");
	buffer_printf(b, "%d", ENVIRONMENT_LAYOUT);
	put_pip(b, r);
	canonical_member(b, "platform", oci_platform_format(platform, text));
	canonical_member(b, "prefix", ENVIRONMENT_PREFIX);
	canonical_key(b, "schema");
	buffer_printf(b, "%d", REQUEST_SCHEMA);
	put_tool(b, r->tool);
	buffer_putc(b, '}');
}

int environment_request_make(struct arena *a, const struct job_environment *job,
	const struct environment_tool *tool, const char *image_manifest,
	const struct oci_platform *platform, const struct environment_policy *defaults,
	struct environment_request *r, struct error *err)
{
	cleanup_buffer struct buffer b = {0};
	struct environment_request made = {.job = job, .tool = tool};
	made.has_conda = tool->tool == JOB_TOOL_CONDA || tool->tool == JOB_TOOL_MAMBA ||
			 tool->tool == JOB_TOOL_MICROMAMBA;
	if (check_job(job, tool, made.has_conda, err) < 0 ||
		make_pip(a, job, defaults, &made, err) < 0 ||
		(made.has_conda && make_conda(a, job, platform, defaults, &made, err) < 0))
		return -1;
	put_document(&b, &made, image_manifest, platform);
	canonical_hash("stoker/env-request/v1\n", &b, made.key);
	made.document = arena_strndup(a, b.data, b.size);
	*r = made;
	return 0;
}
