// SPDX-License-Identifier: Apache-2.0
//
// The packages a job asks for: the keys of the Estimator, and how they are installed: the group
// `environment`.
#include "agent/job/packages.h"
#include "agent/job/spec_decode.h"
#include "base/file.h"
#include "base/text.h"
#include "base/time.h"

#include <ctype.h>
#include <stddef.h>

enum { URLS_MAX = 64, MAX_AGE_MOST = 10 * 365 * 86400, VERSION_MAX = 32 };

static const char *const tools[] = {"auto", "conda", "mamba", "micromamba", "venv", "uv", NULL};
static const char *const reuses[] = {"reuse", "refresh", "locked", NULL};
static const char *const activations[] = {"snapshot", "shell", "none", NULL};
static const char *const priorities[] = {"strict", "flexible", "disabled", NULL};

const struct data_words job_environment_words[] = {
	{"tool", tools},
	{"reuse", reuses},
	{"activation", activations},
	{"channel_priority", priorities},
	{0},
};

static int decode_tool(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	return data_word_decode(d, value, tools, target, err);
}

static int decode_reuse(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	return data_word_decode(d, value, reuses, target, err);
}

static int decode_activation(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	return data_word_decode(d, value, activations, target, err);
}

static int decode_priority(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	unsigned i;
	if (data_word_decode(d, value, priorities, &i, err) < 0)
		return -1;
	*(const char **)target = priorities[i];
	return 0;
}

// Entries of one kind; `complaint` says what is wrong with one.
static int decode_list(struct json_decoder *d, const struct json *value,
	const char *(*complaint)(const char *), size_t most, struct json_strings *list,
	struct error *err)
{
	void *items;
	size_t count;
	if (json_decode_array(d, value, json_decode_string, sizeof(const char *), most, &items,
		    &count, err) < 0)
		return -1;
	// With the room that packages_append() counts on: up to the next power of two.
	list->items = arena_array(d->arena, const char *, count * 2 + 2);
	list->count = count;
	for (size_t i = 0; i < count; i++) {
		list->items[i] = ((const char **)items)[i];
		const char *text = complaint(list->items[i]);
		size_t entered = json_decode_enter_index(d, i);
		if (text)
			return json_decode_fail(
				d, &value->members[i].value, err, ERROR_INVALID, "%s", text);
		json_decode_leave(d, entered);
	}
	return 0;
}

int job_decode_conda(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	return decode_list(d, value, packages_conda_complaint, JOB_PACKAGES_MAX, target, err);
}

int job_decode_pip(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	return decode_list(d, value, packages_pip_complaint, JOB_PACKAGES_MAX, target, err);
}

static int decode_channels(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	return decode_list(d, value, packages_channel_complaint, URLS_MAX, target, err);
}

static int decode_urls(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	return decode_list(d, value, data_url_complaint, URLS_MAX, target, err);
}

static int decode_url(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	if (json_decode_string(d, value, target, err) < 0)
		return -1;
	const char *complaint = data_url_complaint(value->string);
	return complaint ? json_decode_fail(d, value, err, ERROR_INVALID, "%s", complaint) : 0;
}

static const char *binary_complaint(const char *s)
{
	if (streq(s, ":all:") || streq(s, ":none:"))
		return NULL;
	for (const char *p = s; *p; p++)
		if (!isalnum((unsigned char)*p) && !strchr("._-", *p))
			return "must be the name of a package, or :all:";
	return *s && *s != '-' ? NULL : "must be the name of a package, or :all:";
}

static int decode_binary(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	return decode_list(d, value, binary_complaint, JOB_PACKAGES_MAX, target, err);
}

// "3.11", "12.4.1"
static int decode_version(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	if (json_decode_string(d, value, target, err) < 0)
		return -1;
	const char *p = value->string;
	bool ok = strlen(p) <= VERSION_MAX;
	for (; ok; p++) {
		ok = isdigit((unsigned char)*p);
		p += strspn(p, "0123456789");
		if (!*p)
			break;
		ok = ok && *p == '.';
	}
	return ok ? 0
		  : json_decode_fail(d, value, err, ERROR_INVALID,
			    "must be a version, digits and dots: \"3.11\"");
}

static int decode_time(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	int64_t us;
	if (json_decode_string(d, value, target, err) < 0)
		return -1;
	if (!parse_time(value->string, &us))
		return json_decode_fail(d, value, err, ERROR_INVALID,
			"must be a date, \"2026-11-24\", or a time, \"2026-11-24T10:00:00Z\"");
	return 0;
}

static int decode_age(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	int64_t seconds = -1;
	if (value->type == JSON_INTEGER)
		seconds = value->integer;
	else if (value->type != JSON_STRING || !parse_duration(value->string, &seconds))
		seconds = -1;
	if (seconds < 0 || seconds > MAX_AGE_MOST)
		return json_decode_fail(d, value, err, ERROR_INVALID,
			"must be seconds, or a time such as 12h or 7d; ten years at most");
	*(uint64_t *)target = (uint64_t)seconds;
	return 0;
}

#define AT(member) offsetof(struct job_environment, member)
const struct json_field job_environment_fields[] = {
	{"channels", decode_channels, AT(channels), JSON_NULLABLE},
	{"channel_priority", decode_priority, AT(channel_priority), JSON_NULLABLE},
	{"python", decode_version, AT(python), JSON_NULLABLE},
	{"tool", decode_tool, AT(tool), JSON_NULLABLE},
	{"index_url", decode_url, AT(index_url), JSON_NULLABLE},
	{"extra_index_urls", decode_urls, AT(extra_index_urls), JSON_NULLABLE},
	{"only_binary", decode_binary, AT(only_binary), JSON_NULLABLE},
	{"pre", json_decode_bool, AT(pre), JSON_NULLABLE},
	{"inherit_image_packages", json_decode_bool, AT(inherit_image_packages), JSON_NULLABLE},
	{"cuda", decode_version, AT(cuda), JSON_NULLABLE},
	{"as_of", decode_time, AT(as_of), JSON_NULLABLE},
	{"reuse", decode_reuse, AT(reuse), JSON_NULLABLE},
	{"max_age", decode_age, AT(max_age), JSON_NULLABLE},
	{"lock_file", job_decode_nonempty, AT(lock_file), JSON_NULLABLE},
	{"activation", decode_activation, AT(activation), JSON_NULLABLE},
	{"max_seconds", job_decode_seconds, AT(max_seconds), JSON_NULLABLE},
	{0},
};
#undef AT

int job_decode_environment(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	return json_decode_object(d, value, job_environment_fields, true, target, err);
}

// ---- what goes together

static int fail_key(struct json_decoder *d, const struct json *document, const char *key,
	struct error *err, const char *text)
{
	size_t entered = json_decode_enter_key(d, key);
	json_decode_fail(d, json_get(document, key), err, ERROR_INVALID, "%s", text);
	json_decode_leave(d, entered);
	return -1;
}

static bool is_given(const struct json *object, const char *key)
{
	const struct json *member = json_get(object, key);
	return member && member->type != JSON_NULL;
}

static int check_managed(struct json_decoder *d, const struct json *document, struct error *err)
{
	static const char *const excluded[] = {"conda_packages", "pip_packages",
		"conda_dependencies_file", "pip_requirements_file", "environment"};
	for (size_t i = 0; i < array_size(excluded); i++)
		if (is_given(document, excluded[i]))
			return fail_key(d, document, excluded[i], err,
				"user_managed: true means the Python that the image has, as it is; "
				"leave out one of the two");
	return 0;
}

static int check_lists(struct json_decoder *d, const struct json *document,
	const struct job_environment *e, struct error *err)
{
	static const char *const lists[] = {"conda_packages", "pip_packages"};
	for (size_t i = 0; e->conda_file && i < array_size(lists); i++)
		if (is_given(document, lists[i]))
			return fail_key(d, document, lists[i], err,
				"excluded by conda_dependencies_file; put the packages into that "
				"file");
	return 0;
}

static int check_group(struct json_decoder *d, const struct json *document,
	const struct job_environment *e, struct error *err)
{
	const struct json *group = json_get(document, "environment");
	bool conda = e->conda.count || e->conda_file;
	bool pip_only = e->tool == JOB_TOOL_VENV || e->tool == JOB_TOOL_UV;
	size_t entered = json_decode_enter_key(d, "environment");
	if (conda && pip_only)
		return fail_key(d, group, "tool", err, "installs no conda packages");
	if (conda && e->inherit_image_packages)
		return fail_key(d, group, "inherit_image_packages", err,
			"goes with pip packages only, not with conda's");
	if (e->lock_file && is_given(group, "reuse") && e->reuse != JOB_REUSE_LOCKED)
		return fail_key(d, group, "reuse", err, "must be locked where lock_file is given");
	if (!e->lock_file && e->reuse == JOB_REUSE_LOCKED)
		return fail_key(d, group, "reuse", err, "locked needs lock_file");
	if ((e->lock_file || e->reuse != JOB_REUSE) && e->max_age)
		return fail_key(d, group, "max_age", err, "goes with reuse: reuse only");
	json_decode_leave(d, entered);
	return 0;
}

int job_environment_check(struct json_decoder *d, const struct json *document,
	struct job_environment *e, struct error *err)
{
	if (e->user_managed)
		return check_managed(d, document, err);
	if (check_lists(d, document, e, err) < 0 || check_group(d, document, e, err) < 0)
		return -1;
	if (e->lock_file)
		e->reuse = JOB_REUSE_LOCKED;
	e->given = e->conda.count || e->pip.count || e->conda_file || e->pip_file || e->python ||
		   e->lock_file;
	return 0;
}

// ---- files

// What the job itself says of a variable counts.
static void add_variables(struct job_spec *s, const struct json_pairs *more)
{
	struct json_pairs all = {
		arena_array(&s->arena, struct json_pair, s->variables.count + more->count), 0};
	for (size_t i = 0; i < more->count; i++) {
		bool there = false;
		for (size_t k = 0; !there && k < s->variables.count; k++)
			there = streq(s->variables.items[k].key, more->items[i].key);
		if (!there)
			all.items[all.count++] = more->items[i];
	}
	for (size_t i = 0; i < s->variables.count; i++)
		all.items[all.count++] = s->variables.items[i];
	s->variables = all;
}

int job_environment_load(struct job_spec *s, struct error *err)
{
	struct job_environment *e = &s->environment;
	struct json_pairs variables = {0};
	if (e->lock_file &&
		file_read(AT_FDCWD, e->lock_file, JOB_LOCK_BYTES_MAX, &e->lock, err) < 0)
		return error_context(err, "environment.lock_file");
	if (!e->conda_file && !e->pip_file)
		return 0;
	cleanup_fd int folder = directory_open(AT_FDCWD, s->source_directory, err);
	if (folder < 0)
		return error_context(err, "source_directory");
	if (e->conda_file &&
		packages_read_conda(&s->arena, folder, e->conda_file, e, &variables, err) < 0)
		return error_context(err, "conda_dependencies_file");
	if (variables.count)
		add_variables(s, &variables);
	if (e->pip_file && packages_read_pip(&s->arena, folder, e->pip_file, e, err) < 0)
		return error_context(err, "pip_requirements_file");
	return 0;
}
