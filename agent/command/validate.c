// SPDX-License-Identifier: Apache-2.0
//
// All that can be said of a job file without pulling, building or downloading anything: no network
// is touched, and nothing is written.
#include "agent/command/command.h"
#include "agent/job/git.h"
#include "agent/job/job.h"
#include "base/json_write.h"
#include "base/text.h"

#include <stdio.h>

struct validation {
	struct job_spec spec;
	struct oci_reference image;
	struct snapshot_size snapshot;
};

static const struct options_usage usage = {
	.verb = "validate",
	.arguments = "JOB.yaml",
	.summary = "Check a job file, and what it names on this node, and show what would be run.\n"
		   "Nothing is downloaded or written.",
	.least = 0,
	.most = 1,
};

static int validate(struct command *c, const char *path, struct validation *v, struct error *err)
{
	struct job_spec *s = &v->spec;
	if (config_load(&c->config, &c->overrides, err) < 0 || job_spec_load(s, path, err) < 0)
		return -1;
	if (!s->image)
		s->image = c->config.default_image;
	if (!s->image)
		return error_set(err, ERROR_INVALID,
			"no image: set custom_docker_image in the job, or default_image in the "
			"node's configuration");
	if (oci_reference_parse(s->image, &v->image, err) < 0 || job_secrets_read(s, err) < 0 ||
		job_check(s, &c->config, &v->snapshot, err) < 0 ||
		job_check_allowed(s, &c->config, err) < 0)
		return -1;
	s->properties = git_properties(&s->arena, s->source_directory);
	return 0;
}

// ---- for people

// What stands in a job file must not command the terminal.
static void print_text(const char *before, const char *text)
{
	cleanup_free char *copy = xstrdup(text);
	text_flatten(copy);
	printf("%s%s", before, copy);
}

static void print_list(const char *title, const struct json_strings *list)
{
	enum { SHOWN = 8 };
	if (!list->count)
		return;
	printf("%-10s ", title);
	for (size_t i = 0; i < list->count && i < SHOWN; i++)
		print_text(i ? ", " : "", list->items[i]);
	printf(list->count > SHOWN ? " and %zu more\n" : "\n", list->count - SHOWN);
}

static void print_inputs(const struct job_spec *s)
{
	for (size_t i = 0; i < s->input_count; i++) {
		const struct data_source *d = &s->inputs[i];
		printf("%-10s %s: %s, %s, at %s\n", i ? "" : "inputs", d->name,
			data_kind_name(d->kind), data_mode_name(d->mode), data_source_reference(d));
	}
}

static void print_pairs(const char *title, const struct json_pairs *pairs)
{
	for (size_t i = 0; i < pairs->count; i++)
		if (!starts_with(pairs->items[i].key, "mlflow."))
			printf("%-10s %s: %s\n", i ? "" : title, pairs->items[i].key,
				pairs->items[i].value);
}

static void print_summary(const char *path, const struct validation *v)
{
	const struct job_spec *s = &v->spec;
	char image[OCI_REFERENCE_TEXT_MAX], size[FORMAT_SIZE_MAX];
	print_text("", path);
	printf(" is a valid job\n\n%-10s %s\n%-10s", "image",
		oci_reference_format(&v->image, image), "script");
	print_text(" ", s->entry_script);
	for (size_t i = 0; i < s->arguments.count; i++)
		print_text(" ", s->arguments.items[i]);
	printf("\n%-10s", "source");
	print_text(" ", s->source_directory);
	printf(": %llu files, %s", (unsigned long long)v->snapshot.files,
		format_size(v->snapshot.bytes, size));
	if (v->snapshot.rules)
		printf(", without what %s names", v->snapshot.rules);
	printf("\n");
	print_list("conda", &s->environment.conda);
	print_list("channels", &s->environment.channels);
	print_list("pip", &s->environment.pip);
	print_inputs(s);
	print_pairs("git", &s->properties);
}

// ---- for programs

static void write_environment(struct json_writer *w, const struct job_environment *e)
{
	json_write_key(w, "environment");
	if (!e->given) {
		json_write_null(w);
		return;
	}
	json_write_open_object(w);
	json_write_member_strings(w, "conda", &e->conda);
	json_write_member_strings(w, "channels", &e->channels);
	json_write_member_strings(w, "pip", &e->pip);
	json_write_member_strings(w, "constraints", &e->constraints);
	json_write_member(w, "python", e->python);
	json_write_member(w, "index_url", e->index_url);
	json_write_member_strings(w, "extra_index_urls", &e->extra_index_urls);
	json_write_member_strings(w, "only_binary", &e->only_binary);
	json_write_member_bool(w, "pre", e->pre);
	json_write_close_object(w);
}

static void write_inputs(struct json_writer *w, const struct job_spec *s)
{
	json_write_key(w, "inputs");
	json_write_open_array(w);
	for (size_t i = 0; i < s->input_count; i++) {
		const struct data_source *d = &s->inputs[i];
		json_write_open_object(w);
		json_write_member(w, "name", d->name);
		json_write_member(w, "kind", data_kind_name(d->kind));
		json_write_member(w, "mode", data_mode_name(d->mode));
		json_write_member(w, "reference", data_source_reference(d));
		json_write_member_int(w, "files", (int64_t)d->file_count);
		json_write_close_object(w);
	}
	json_write_close_array(w);
}

static void write_job(struct json_writer *w, const struct validation *v)
{
	const struct job_spec *s = &v->spec;
	char image[OCI_REFERENCE_TEXT_MAX];
	json_write_member(w, "experiment", s->experiment);
	json_write_member(w, "image", oci_reference_format(&v->image, image));
	json_write_member(w, "source_directory", s->source_directory);
	json_write_member(w, "entry_script", s->entry_script);
	json_write_member_strings(w, "arguments", &s->arguments);
	json_write_key(w, "snapshot");
	json_write_open_object(w);
	json_write_member_unsigned(w, "files", v->snapshot.files);
	json_write_member_unsigned(w, "bytes", v->snapshot.bytes);
	json_write_member(w, "rules", v->snapshot.rules);
	json_write_member_unsigned(w, "ignored", v->snapshot.ignored);
	json_write_close_object(w);
	write_environment(w, &s->environment);
	json_write_member_pairs(w, "environment_variables", &s->variables);
	write_inputs(w, s);
	json_write_member_pairs(w, "tags", &s->tags);
	json_write_member_pairs(w, "properties", &s->properties);
}

static int print_document(struct json_writer *w, struct error *err)
{
	cleanup_buffer struct buffer out = {0};
	if (json_writer_finish(w, &out, err) < 0)
		return -1;
	fwrite(out.data, 1, out.size, stdout);
	return 0;
}

static int print_json(const struct validation *v, const struct error *failure, struct error *err)
{
	cleanup_json_writer struct json_writer *w = json_writer_new(true);
	json_write_open_object(w);
	json_write_member_bool(w, "valid", !failure);
	if (failure) {
		json_write_member(w, "kind", error_kind_name(failure->kind));
		json_write_member(w, "message", failure->text);
	} else {
		write_job(w, v);
	}
	json_write_close_object(w);
	return print_document(w, err);
}

// ---- the keys

static void write_key(
	struct json_writer *w, const struct json_field *f, const struct data_words *words)
{
	json_write_key(w, f->name);
	json_write_open_object(w);
	json_write_member_bool(w, "required", f->flags & JSON_REQUIRED);
	json_write_member_bool(w, "nullable", f->flags & JSON_NULLABLE);
	for (; words && words->key; words++) {
		if (!streq(words->key, f->name))
			continue;
		json_write_key(w, "words");
		json_write_open_array(w);
		for (const char *const *word = words->words; *word; word++)
			json_write_string(w, *word);
		json_write_close_array(w);
	}
	json_write_close_object(w);
}

static int print_keys(struct error *err)
{
	cleanup_json_writer struct json_writer *w = json_writer_new(true);
	json_write_open_object(w);
	for (const struct job_keys *k = job_keys; k->object; k++) {
		json_write_key(w, k->object);
		json_write_open_object(w);
		for (const struct json_field *f = k->fields; f->name; f++)
			write_key(w, f, k->words);
		json_write_close_object(w);
	}
	json_write_close_object(w);
	return print_document(w, err);
}

static void release(struct validation *v)
{
	job_spec_release(&v->spec);
}

int command_validate(struct command *c, int argc, char **argv, struct error *err)
{
	__attribute__((cleanup(release))) struct validation v = {0};
	bool json = false, keys = false;
	const struct option options[] = {
		{OPTION_FLAG, 0, "json", NULL, "for programs", &json},
		{OPTION_FLAG, 0, "keys", NULL, "show all keys of a job file as JSON", &keys},
		{OPTION_END},
	};
	char **rest;
	int count;
	int rc = command_options(c, options, &usage, false, argc, argv, &rest, &count, err);
	if (rc != OPTIONS_OK)
		return rc == OPTIONS_HELP ? 0 : -1;
	if (keys && !count)
		return print_keys(err);
	if (keys || !count) {
		c->usage_error = true;
		return error_set(err, ERROR_INVALID,
			keys ? "--keys needs no file"
			     : "a job file is missing; see: stoker validate --help");
	}
	rc = validate(c, rest[0], &v, err);
	if (json) {
		struct error failure = *err;
		return print_json(&v, rc < 0 ? &failure : NULL, err) < 0 ? -1 : rc < 0;
	}
	if (rc == 0)
		print_summary(rest[0], &v);
	return rc;
}
