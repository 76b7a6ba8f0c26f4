// SPDX-License-Identifier: Apache-2.0
//
// data_driver STATE ORDERS: prepares the inputs that the JSON file ORDERS describes (members as
// below), prints one line of JSON of what came of it, and then, if standard input is a pipe, waits
// for its end, so that the leases last. `attach` names a folder below which they are attached
// first.
#include "agent/data/data.h"
#include "agent/data/http.h"
#include "agent/data/unpack.h"
#include "base/file.h"
#include "base/json_write.h"
#include "base/text.h"
#include "oci/layer/worker.h"
#include "oci/registry/fetcher.h"

#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

static struct buffer notices;
static uint64_t progress[16];

struct orders {
	struct data_policy policy;
	struct registry_config registries;
	struct data_source *sources;
	size_t count;
	const char *attach;
};

static json_decode_fn decode_file, decode_files, decode_source, decode_sources, decode_number;

static int decode_number(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	int64_t number;
	if (json_decode_int64(d, value, &number, err) < 0)
		return -1;
	*(int *)target = (int)number;
	return 0;
}

static int decode_file(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	static const struct json_field fields[] = {
		{"url", json_decode_string, offsetof(struct data_file, url), JSON_REQUIRED},
		{"name", json_decode_string, offsetof(struct data_file, name), 0},
		{"sha256", json_decode_string, offsetof(struct data_file, sha256), 0},
		{"size", json_decode_uint64, offsetof(struct data_file, size), 0},
		{0},
	};
	return json_decode_object(d, value, fields, true, target, err);
}

static int decode_files(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	struct data_source *s = target;
	void *items;
	if (json_decode_array(d, value, decode_file, sizeof(struct data_file), DATA_FILES_MAX,
		    &items, &s->file_count, err) < 0)
		return -1;
	s->files = items;
	return 0;
}

static int decode_source(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
#define AT(member) offsetof(struct data_source, member)
	static const struct json_field fields[] = {
		{"name", json_decode_string, AT(name), JSON_REQUIRED},
		{"kind", decode_number, AT(kind), JSON_REQUIRED},
		{"mode", decode_number, AT(mode), 0},
		{"optional", json_decode_bool, AT(optional), 0},
		{"writable", json_decode_bool, AT(writable), 0},
		{"unpack", decode_number, AT(unpack), 0},
		{"cache", decode_number, AT(cache), 0},
		{"max_bytes", json_decode_uint64, AT(max_bytes), 0},
		{"max_seconds", json_decode_uint64, AT(max_seconds), 0},
		{"path", json_decode_string, AT(path), 0},
		{"files", decode_files, 0, 0},
		{"reference", json_decode_string, AT(reference), 0},
		{"content", json_decode_string, AT(content), 0},
		{0},
	};
#undef AT
	if (json_decode_object(d, value, fields, true, target, err) < 0)
		return -1;
	struct data_source *s = target;
	s->content_size = s->content ? strlen(s->content) : 0;
	return 0;
}

static int decode_sources(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	struct orders *o = target;
	void *items;
	if (json_decode_array(d, value, decode_source, sizeof(struct data_source),
		    array_size(progress), &items, &o->count, err) < 0)
		return -1;
	o->sources = items;
	return 0;
}

static int read_orders(struct arena *a, const char *path, struct orders *o, struct error *err)
{
	static const struct json_field fields[] = {
		{"bind_roots", json_decode_strings, offsetof(struct orders, policy.bind_roots), 0},
		{"local_hosts", json_decode_strings, offsetof(struct orders, policy.local_hosts),
			0},
		{"max_bytes", json_decode_uint64, offsetof(struct orders, policy.max_bytes), 0},
		{"keep_free_bytes", json_decode_uint64,
			offsetof(struct orders, policy.cache.keep_free_bytes), 0},
		{"attach", json_decode_string, offsetof(struct orders, attach), 0},
		{"high_bytes", json_decode_uint64, offsetof(struct orders, policy.cache.high_bytes),
			0},
		{"low_bytes", json_decode_uint64, offsetof(struct orders, policy.cache.low_bytes),
			0},
		{"sources", decode_sources, 0, JSON_REQUIRED},
		{0},
	};
	cleanup_buffer struct buffer text = {0};
	struct json_decoder d = {.arena = a, .document = path};
	if (file_read(AT_FDCWD, path, 1 << 20, &text, err) < 0)
		return -1;
	const struct json *tree = json_parse(a, text.data, text.size, path, NULL, err);
	return tree ? json_decode_object(&d, tree, fields, true, o, err) : -1;
}

static void on_progress(void *data, size_t index, uint64_t done, uint64_t total)
{
	(void)data;
	(void)total;
	progress[index] = done > progress[index] ? done : progress[index];
}

static void on_notice(void *data, const char *text)
{
	(void)data;
	buffer_printf(&notices, "%s\n", text);
}

static void print_ready(struct json_writer *w, const struct data_ready *ready, size_t count)
{
	json_write_key(w, "ready");
	json_write_open_array(w);
	for (size_t i = 0; i < count; i++) {
		json_write_open_object(w);
		json_write_member(w, "digest", ready[i].digest);
		json_write_member(w, "kept", ready[i].kept);
		json_write_member_bool(w, "is_file", ready[i].is_file);
		json_write_member_bool(w, "absent", ready[i].absent);
		json_write_member_bool(w, "reused", ready[i].reused);
		json_write_member_unsigned(w, "bytes", ready[i].bytes);
		json_write_member_unsigned(w, "fetched", ready[i].fetched);
		json_write_member_unsigned(w, "progress", progress[i]);
		json_write_close_object(w);
	}
	json_write_close_array(w);
}

static void wait_for_end(void)
{
	struct stat st;
	char byte;
	if (fstat(0, &st) == 0 && S_ISFIFO(st.st_mode))
		while (read(0, &byte, 1) > 0)
			;
}

// "path" in the output is that of the first input.
static struct data_mounts *attach(const struct data_options *o, const struct data_ready *ready,
	const char *folder, struct json_writer *w)
{
	enum data_failure failure;
	size_t failed;
	struct error err = {0};
	cleanup_fd int fd = directory_ensure(AT_FDCWD, folder, 0700, &err);
	struct data_mounts *m = fd < 0 ? NULL : data_attach(o, ready, fd, &failed, &failure, &err);
	for (size_t i = 0; i < o->count; i++) // what is attached has leases of its own
		close_fdp((int *)&ready[i].lease_fd);
	json_write_member(w, "path", m ? data_mounts_path(m, 0) : err.text);
	return m;
}

static int prepare(const char *state, const struct orders *orders, struct arena *a)
{
	struct error err = {0}, ignored;
	struct data_ready *ready = NULL;
	size_t failed = 0;
	enum data_failure failure = DATA_OK;
	int canceled = 0;
	cleanup_free char *run = xasprintf("%s/run", state);
	cleanup_store struct store *store = store_open(state, run, &store_limits_default, &err);
	if (!store) {
		fprintf(stderr, "%s\n", err.text);
		return 1;
	}
	const struct data_events events = {on_progress, on_notice, NULL};
	const struct data_options o = {.store = store,
		.policy = &orders->policy,
		.registries = &orders->registries,
		.sources = orders->sources,
		.count = orders->count,
		.events = &events,
		.canceled = &canceled};
	int status = data_prepare(&o, a, &ready, &failed, &failure, &err);
	cleanup_json_writer struct json_writer *w = json_writer_new(false);
	cleanup_buffer struct buffer text = {0};
	json_write_open_object(w);
	json_write_member(w, "failure", data_failure_name(status < 0 ? failure : DATA_OK));
	json_write_member_unsigned(w, "failed", failed);
	json_write_member(w, "text", err.text);
	json_write_member(w, "notices", notices.data ? notices.data : "");
	json_write_member_int(w, "canceled", canceled);
	struct data_mounts *mounts = NULL;
	if (status == 0)
		print_ready(w, ready, o.count);
	if (status == 0 && orders->attach)
		mounts = attach(&o, ready, orders->attach, w);
	json_write_close_object(w);
	json_writer_finish(w, &text, &ignored);
	printf("%s\n", text.data);
	fflush(stdout);
	wait_for_end();
	return data_detach(mounts, 1000, &failed, &failure, &err) < 0;
}

int main(int argc, char **argv)
{
	cleanup_arena struct arena arena = {0};
	struct orders orders = {.registries = registry_config_default};
	struct error err = {0};
	if (argc == 2 && streq(argv[1], "data"))
		return data_http_main();
	if (argc == 2 && streq(argv[1], "unpack"))
		return unpack_main();
	if (argc == 2 && streq(argv[1], "fetcher"))
		return fetcher_main();
	if (argc == 2 && streq(argv[1], "layer"))
		return layer_worker_main();
	if (argc != 3)
		return 2;
	if (directory_make(AT_FDCWD, argv[1], 0700, &err) < 0 ||
		read_orders(&arena, argv[2], &orders, &err) < 0) {
		fprintf(stderr, "%s\n", err.text);
		return 2;
	}
	int status = prepare(argv[1], &orders, &arena);
	buffer_release(&notices);
	return status;
}
