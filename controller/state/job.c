// SPDX-License-Identifier: Apache-2.0
#include "controller/state/job.h"

#include "base/json_decode.h"
#include "base/json_write.h"
#include "base/text.h"

#include <math.h>
#include <string.h>

// ---- what it needs

static int decode_experiment(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	static const char letters[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.";
	if (json_decode_string(d, value, target, err) < 0)
		return -1;
	const char *s = *(const char **)target;
	size_t n = strlen(s);
	if (n == 0 || n >= JOB_EXPERIMENT_SIZE || s[strspn(s, letters)] || strchr("-_.", *s))
		return json_decode_fail(d, value, err, ERROR_INVALID,
			"must be letters, digits, '-', '_' and '.', a letter or digit first, at "
			"most %d",
			JOB_EXPERIMENT_SIZE - 1);
	return 0;
}

static int decode_image(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	if (json_decode_string(d, value, target, err) < 0)
		return -1;
	size_t n = strlen(*(const char **)target);
	if (n == 0 || n > JOB_IMAGE_MAX)
		return json_decode_fail(
			d, value, err, ERROR_INVALID, "must have 1 to %d bytes", JOB_IMAGE_MAX);
	return 0;
}

static int decode_cpus(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	double cpus;
	if (json_decode_double(d, value, &cpus, err) < 0)
		return -1;
	if (!isfinite(cpus) || cpus <= 0 || cpus > JOB_CPUS_MAX)
		return json_decode_fail(d, value, err, ERROR_INVALID,
			"must be above 0 and at most %d", JOB_CPUS_MAX);
	*(double *)target = cpus;
	return 0;
}

// "16g", or bytes. Tables count in 63 bits.
static int decode_memory(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	uint64_t bytes;
	if (value->type == JSON_STRING) {
		if (!parse_size(value->string, &bytes))
			return json_decode_fail(
				d, value, err, ERROR_INVALID, "must be a size such as 512m or 16g");
	} else if (json_decode_uint64(d, value, &bytes, err) < 0) {
		return -1;
	}
	if (bytes > INT64_MAX / 2)
		return json_decode_fail(d, value, err, ERROR_INVALID, "is too large");
	*(uint64_t *)target = bytes;
	return 0;
}

static int decode_gpus(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	uint64_t gpus;
	if (json_decode_uint64(d, value, &gpus, err) < 0)
		return -1;
	if (gpus > JOB_GPUS_MAX)
		return json_decode_fail(
			d, value, err, ERROR_INVALID, "must be at most %d", JOB_GPUS_MAX);
	*(uint64_t *)target = gpus;
	return 0;
}

static int decode_resources(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	static const struct json_field fields[] = {
		{"cpus", decode_cpus, offsetof(struct job, cpus), JSON_NULLABLE},
		{"memory", decode_memory, offsetof(struct job, memory), JSON_NULLABLE},
		{"gpus", decode_gpus, offsetof(struct job, gpus), JSON_NULLABLE},
		{0},
	};
	return json_decode_object(d, value, fields, false, target, err);
}

// ---- in order

static int compare_keys(const void *a, const void *b)
{
	const struct json_member *x = a, *y = b;
	return strcmp(x->key, y->key);
}

// As deep as the parser lets a document be.
static void sort_keys(struct arena *a, struct json *tree)
{
	if (tree->type != JSON_OBJECT && tree->type != JSON_ARRAY)
		return;
	struct json_member *members = arena_array(a, struct json_member, tree->count + 1);
	if (tree->count)
		memcpy(members, tree->members, tree->count * sizeof(*members));
	if (tree->type == JSON_OBJECT)
		qsort(members, tree->count, sizeof(*members), compare_keys);
	for (size_t i = 0; i < tree->count; i++)
		sort_keys(a, &members[i].value);
	tree->members = members;
}

const char *job_canonical(struct arena *a, const struct json *tree)
{
	cleanup_buffer struct buffer text = {0};
	cleanup_json_writer struct json_writer *w = json_writer_new(false);
	struct error ignored;
	struct json sorted = *tree;
	sort_keys(a, &sorted);
	json_write_tree(w, &sorted);
	// It was parsed, so its strings are UTF-8.
	if (json_writer_finish(w, &text, &ignored) < 0)
		return "";
	return arena_strndup(a, text.data, text.size);
}

// ---- what environment it will have

static void hash_text(struct sha256 *h, const char *text)
{
	sha256_update(h, text, strlen(text) + 1); // with its end, so that parts do not run together
}

static void make_hint(
	struct arena *a, const struct json *document, const char *snapshot, struct job *job)
{
	static const char *const keys[] = {"conda_packages", "pip_packages", "environment",
		"user_managed", "conda_dependencies_file", "pip_requirements_file"};
	cleanup_sha256 struct sha256 *h = sha256_new();
	uint8_t digest[SHA256_SIZE];
	hash_text(h, job->image ? job->image : "");
	for (size_t i = 0; i < array_size(keys); i++) {
		const struct json *value = json_get(document, keys[i]);
		if (!value || value->type == JSON_NULL)
			continue;
		hash_text(h, keys[i]);
		hash_text(h, job_canonical(a, value));
		if (ends_with(keys[i], "_file"))
			hash_text(h, snapshot ? snapshot : "");
	}
	sha256_final(h, digest);
	sha256_hex(digest, job->hint);
}

int job_read(struct arena *a, const struct json *document, const char *snapshot, struct job *job,
	struct error *err)
{
	static const struct json_field fields[] = {
		{"experiment", decode_experiment, offsetof(struct job, experiment), JSON_NULLABLE},
		{"custom_docker_image", decode_image, offsetof(struct job, image), JSON_NULLABLE},
		{"resources", decode_resources, 0, JSON_NULLABLE},
		{0},
	};
	struct json_decoder d = {.arena = a, .document = "job"};
	struct job j = {.experiment = "run", .cpus = 1};
	if (json_decode_object(&d, document, fields, false, &j, err) < 0)
		return -1;
	make_hint(a, document, snapshot, &j);
	*job = j;
	return 0;
}
