// SPDX-License-Identifier: Apache-2.0
#include "agent/data/unpack.h"
#include "agent/link/attempt.h"
#include "agent/service/service.h"
#include "base/file.h"
#include "base/sha256.h"
#include "base/text.h"

#include <stdio.h>
#include <unistd.h>

enum { RETRY_MS = 5 * 1000 }; // and then again, from its beginning: attempt_start.c

static const char token_secret[] = "stoker_job_token";

// What lies in the job's own words where the agent says it, or where it only means the node of who
// submitted.
static bool is_ours(const char *key)
{
	return streq(key, "source_directory") || streq(key, "secrets") ||
	       streq(key, "environment_variables") || streq(key, "experiment");
}

static void write_variables(struct json_writer *w, const struct attempt *a, const struct json *job)
{
	const struct json *given = json_get(job, "environment_variables");
	const struct {
		const char *name, *value;
	} own[] = {{"AZUREML_RUN_ID", a->run}, {"STOKER_RUN_ID", a->run},
		{"AZUREML_SERVICE_ENDPOINT", a->link->credential.url},
		{"STOKER_URL", a->link->credential.url}};
	json_write_key(w, "environment_variables");
	json_write_open_object(w);
	for (size_t i = 0; i < array_size(own); i++)
		if (!json_get(given, own[i].name))
			json_write_member(w, own[i].name, own[i].value);
	if (given && given->type == JSON_OBJECT)
		json_object_each (member, given) {
			json_write_key(w, member->key);
			json_write_tree(w, &member->value);
		}
	json_write_close_object(w);
}

static int write_secret(struct json_writer *w, const struct attempt *a, const char *name,
	const char *variable, const char *value, struct error *err)
{
	cleanup_free char *path = xasprintf("secrets/%s", name);
	if (!value || strchr(name, '/') || *name == '.')
		return error_set(err, ERROR_INVALID, "the secret %s came without its value", name);
	json_write_key(w, name);
	json_write_open_object(w);
	json_write_member(w, "file", path);
	if (variable)
		json_write_member(w, "variable", variable);
	json_write_close_object(w);
	return file_write_atomic(a->folder, path, value, strlen(value), 0600, err);
}

static int write_secrets(
	struct json_writer *w, const struct attempt *a, const struct json *job, struct error *err)
{
	const struct json *named = json_get(job, "secrets"),
			  *values = json_get(a->start, "secrets");
	const char *token = json_get_string(a->start, "job_token");
	int rc = directory_make(a->folder, "secrets", 0700, err);
	json_write_key(w, "secrets");
	json_write_open_object(w);
	if (rc == 0 && named && named->type == JSON_OBJECT)
		json_object_each (member, named) {
			const char *variable = json_get_string(&member->value, "variable");
			const char *value = json_get_string(values, member->key);
			rc = rc < 0 ? rc : write_secret(w, a, member->key, variable, value, err);
		}
	if (rc == 0 && token)
		rc = write_secret(w, a, token_secret, "AZUREML_RUN_TOKEN", token, err);
	json_write_close_object(w);
	return rc;
}

struct download {
	int fd;
	struct sha256 *hash;
};

static int to_file(void *data, const char *bytes, size_t size, struct error *err)
{
	const struct download *d = data;
	sha256_update(d->hash, bytes, size);
	return write_all(d->fd, bytes, size, "the snapshot", err);
}

static int download(struct attempt *a, const char *snapshot, int fd, struct error *err)
{
	cleanup_arena struct arena arena = {0};
	const struct credential *c = &a->link->credential;
	cleanup_sha256 struct sha256 *hash = sha256_new();
	struct download d = {fd, hash};
	uint8_t digest[SHA256_SIZE];
	char hex[SHA256_HEX_SIZE];
	cleanup_service struct service *s = service_open(&(struct service_settings){.url = c->url,
								 .token = a->token,
								 .ca = c->ca,
								 .cancel_fd = -1,
								 .retry_ms = RETRY_MS},
		err);
	const struct service_request q = {.method = "GET",
		.path = arena_printf(&arena, "/v1/snapshots/%s", snapshot),
		.fd = -1,
		.sink = to_file,
		.data = &d};
	int rc = s ? service_do(s, &q, &arena, NULL, err) : -1;
	if (s) {
		a->answered = service_status(s) != 0;
		attempt_heed(a, s);
	}
	if (rc < 0)
		return error_context(err, "the snapshot");
	sha256_final(hash, digest);
	sha256_hex(digest, hex);
	return streq(hex, snapshot)
		       ? 0
		       : error_set(err, ERROR_INTEGRITY, "the snapshot is not %s", snapshot);
}

static int fetch_source(struct attempt *a, const char *snapshot, struct error *err)
{
	cleanup_fd int archive = openat(a->folder, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (archive < 0)
		return error_set_errno(err, errno, "make a temporary file");
	if (download(a, snapshot, archive, err) < 0)
		return -1;
	if (lseek(archive, 0, SEEK_SET) < 0)
		return error_set_errno(err, errno, "the snapshot");
	cleanup_fd int folder = directory_open(a->folder, "source", err);
	if (folder < 0)
		return -1;
	enum data_failure failure;
	uint64_t bytes;
	if (unpack(&(struct unpack_options){.format = DATA_UNPACK_TAR,
			   .name = "snapshot.tar",
			   .archive_fd = archive,
			   .folder_fd = folder,
			   .deadline = INT64_MAX},
		    &bytes, &failure, err) < 0)
		return error_context(err, "the snapshot");
	return 0;
}

int attempt_write_job(struct attempt *a, struct error *err)
{
	cleanup_json_writer struct json_writer *w = json_writer_new(true);
	cleanup_buffer struct buffer b = {0};
	const struct json *job = json_get(a->start, "job");
	const char *snapshot = json_get_string(a->start, "snapshot");
	const char *experiment = json_get_string(a->start, "experiment");
	if (!job || job->type != JSON_OBJECT)
		return error_set(err, ERROR_INVALID, "the start has no job");
	// An agent that was killed may have left half of it.
	if (directory_remove(a->folder, "source", err) < 0 ||
		directory_make(a->folder, "source", 0700, err) < 0 ||
		(snapshot && fetch_source(a, snapshot, err) < 0))
		return -1;
	json_write_open_object(w);
	json_object_each (member, job)
		if (!is_ours(member->key)) {
			json_write_key(w, member->key);
			json_write_tree(w, &member->value);
		}
	json_write_member(w, "source_directory", "source");
	if (experiment)
		json_write_member(w, "experiment", experiment);
	write_variables(w, a, job);
	if (write_secrets(w, a, job, err) < 0)
		return -1;
	json_write_close_object(w);
	if (json_writer_finish(w, &b, err) < 0)
		return -1;
	return file_write_atomic(a->folder, "job.json", b.data, b.size, 0600, err);
}
