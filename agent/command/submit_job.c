// SPDX-License-Identifier: Apache-2.0
#include "agent/command/submit_job.h"

#include "agent/job/git.h"
#include "agent/job/job.h"
#include "base/file.h"
#include "base/text.h"
#include "base/yaml.h"
#include "oci/layer/sink.h"
#include "oci/layer/tree_tar.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

enum { PIECE = 1024 * 1024 };

// ---- the snapshot

static int archive_folder(struct submission *s, int folder, struct error *err)
{
	const struct layer_limits limits = {.entries = 1000000,
		.bytes = 2 * (uint64_t)JOB_SNAPSHOT_BYTES,
		.metadata_bytes = 64 * 1024 * 1024};
	cleanup_tree_tar struct tree_tar *tar = tree_tar_new(folder, &limits);
	cleanup_sha256 struct sha256 *hash = sha256_new();
	cleanup_free char *piece = xmalloc(PIECE);
	uint8_t digest[SHA256_SIZE];
	ssize_t n;
	while ((n = tree_tar_read(tar, piece, PIECE, err)) > 0) {
		if (write_all(s->archive, piece, (size_t)n, "the snapshot", err) < 0)
			return -1;
		sha256_update(hash, piece, (size_t)n);
		s->archive_size += (uint64_t)n;
	}
	if (n < 0)
		return -1;
	sha256_final(hash, digest);
	sha256_hex(digest, s->sha256);
	return 0;
}

// The folder may change while it is read: what is sent is the archive of a copy, as on a node.
static int pack_copy(struct submission *s, int source, const char *scratch, struct error *err)
{
	struct snapshot_size size;
	const struct job_policy policy = {0};
	const struct snapshot_limits limits = job_snapshot_limits(&s->spec, &policy, "");
	if (snapshot_measure(source, &limits, s->spec.entry_script, &size, err) < 0)
		return error_context(err, "source_directory");
	if (size.wanted_ignored)
		return error_set(err, ERROR_INVALID, "entry_script %s is left out by %s",
			s->spec.entry_script, size.rules);
	cleanup_fd int copy = directory_open(AT_FDCWD, scratch, err);
	if (copy < 0 || snapshot_copy(source, copy, &limits, err) < 0)
		return -1;
	return archive_folder(s, copy, err);
}

static int pack(struct submission *s, struct error *err)
{
	const char *temporary = getenv("TMPDIR");
	if (!temporary || !*temporary)
		temporary = "/tmp";
	cleanup_free char *scratch = xasprintf("%s/stoker-submit.XXXXXX", temporary);
	cleanup_fd int source = directory_open(AT_FDCWD, s->spec.source_directory, err);
	if (source < 0)
		return error_context(err, "source_directory");
	s->archive = open(temporary, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (s->archive < 0 || !mkdtemp(scratch))
		return error_set_errno(err, errno, "make a temporary file in %s", temporary);
	int rc = pack_copy(s, source, scratch, err);
	struct error ignored;
	directory_remove(AT_FDCWD, scratch, &ignored);
	return rc;
}

// ---- the document

// What lies on this machine cannot be meant: the job runs on another.
static int check_places(const struct submission *s, struct error *err)
{
	const struct json *inputs = json_get(s->document, "inputs");
	if (s->spec.environment.lock_file)
		return error_set(err, ERROR_INVALID,
			"environment.lock_file: cannot be submitted; name the packages, or push "
			"the "
			"environment to the nodes' registry");
	if (s->spec.output_destination)
		return error_set(err, ERROR_INVALID,
			"output_destination: results of a submitted job go to the controller");
	if (!inputs || inputs->type != JSON_ARRAY)
		return 0;
	json_array_each (item, inputs) {
		const char *path = json_get_string(&item->value, "path");
		if (path && *path != '/')
			return error_set(err, ERROR_INVALID,
				"inputs[%zu].path: \"%s\" must be absolute: it is a path of the "
				"node",
				(size_t)(item - inputs->members), path);
	}
	return 0;
}

int submission_prepare(struct submission *s, const char *path, struct error *err)
{
	s->archive = -1;
	if (job_spec_load(&s->spec, path, err) < 0)
		return -1;
	s->document = yaml_parse(
		&s->arena, s->spec.document.data, s->spec.document.size, path, NULL, err);
	if (!s->document || check_places(s, err) < 0 || job_secrets_read(&s->spec, err) < 0)
		return -1;
	s->spec.properties = git_properties(&s->spec.arena, s->spec.source_directory);
	return pack(s, err);
}

static void write_secrets(struct json_writer *w, const struct job_spec *spec)
{
	if (!spec->secret_count)
		return;
	json_write_key(w, "secrets");
	json_write_open_object(w);
	for (size_t i = 0; i < spec->secret_count; i++)
		json_write_member(w, spec->secrets[i].name, spec->secrets[i].value);
	json_write_close_object(w);
}

void submission_write(struct json_writer *w, const struct submission *s)
{
	json_write_open_object(w);
	json_write_key(w, "job");
	json_write_open_object(w);
	json_object_each (member, s->document) {
		if (streq(member->key, "source_directory"))
			continue;
		json_write_key(w, member->key);
		json_write_tree(w, &member->value);
	}
	json_write_close_object(w);
	json_write_member(w, "snapshot", s->archive >= 0 ? s->sha256 : NULL);
	write_secrets(w, &s->spec);
	json_write_member_pairs(w, "properties", &s->spec.properties);
	json_write_close_object(w);
}

void submission_release(struct submission *s)
{
	close_fdp(&s->archive);
	job_spec_release(&s->spec);
	arena_release(&s->arena);
}
