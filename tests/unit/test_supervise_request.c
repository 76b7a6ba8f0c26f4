// SPDX-License-Identifier: Apache-2.0
#include "agent/supervise/request.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static const char *words[] = {"--a", "b \xff c", "", NULL};
static struct json_pair pairs[] = {{"A", "1"}, {"B", ""}};
static struct data_file files[] = {{"http://a/b", NULL, "12", 7}, {"http://c", "d/e", NULL, 0}};
static struct data_source inputs[] = {{.name = "data", .path = "/srv", .target = "/in"},
	{.name = "more", .path = "/x", .target = "/y", .mode = DATA_RW_MOUNT},
	{.name = "all",
		.target = "/z",
		.kind = DATA_CIFS,
		.optional = true,
		.writable = true,
		.no_exec = true,
		.unpack = DATA_UNPACK_ZIP,
		.cache = DATA_CACHE_OFF,
		.max_bytes = 1,
		.max_seconds = 2,
		.files = files,
		.file_count = 2,
		.reference = "r",
		.profile = "p",
		.remote = "m",
		.options = {pairs, 2},
		.variables = {pairs, 1},
		.command = {words, 2},
		.user = "u",
		.password_secret = "s",
		.content = "c",
		.content_size = 1}};
static const struct job_bind binds[] = {{"/a", "/b", true}};
static struct job_secret secrets[] = {
	{.name = "key", .variable = "KEY", .value = "s\0s!", .size = 4},
	{.name = "other", .value = "abcde", .size = 5}};
static const char *command[] = {"sh", "-c", "echo", NULL};

static void fill(struct job_spec *s, struct run *r, struct oci_config *image)
{
	*s = (struct job_spec){
		.experiment = "run",
		.arguments = {words, 3},
		.variables = {pairs, 2},
		.inputs = inputs,
		.input_count = 3,
		.shm_size = 5,
		.resources = {.cpus = 2.5, .memory = 7, .disk = 9, .devices = {words, 1}},
		.network = JOB_NETWORK_NONE,
		.max_seconds = 11,
		.max_retries = 12,
		.output_destination = "/out",
		.display_name = "name",
		.description = "text",
		.tags = {pairs, 1},
		.properties = {pairs, 2},
		.node_count = 1,
		.process_count_per_node = 1,
		.secrets = secrets,
		.secret_count = 2,
		.command = command,
		.user = "ada",
		.binds = binds,
		.bind_count = 1,
	};
	*r = (struct run){.id = "run_1_2", .experiment = "run", .created_ms = 3, .phase_count = 1};
	r->phases[0] = (struct run_phase){"pulling", 4, 5};
	*image = (struct oci_config){
		.env = {words, 2}, .working_dir = "/", .user = "", .stop_signal = "TERM"};
}

static void pack_one(struct buffer *b)
{
	struct job_spec spec;
	struct run run;
	struct oci_config image;
	struct store store = {.state_dir = (char *)"/state", .run_dir = (char *)"/run"};
	struct store_layer layer = {.format = LAYER_DIRECTORY};
	struct store_layers layers = {&layer, 1};
	fill(&spec, &run, &image);
	struct data_ready ready[array_size(inputs)] = {
		{.digest = "ab", .kept = "datasets/x", .is_file = true}, {0}};
	const struct job job = {.spec = &spec,
		.run = &run,
		.store = &store,
		.image = &image,
		.layers = &layers,
		.ready = ready,
		.stdin_fd = -1,
		.listen_fd = -1,
		.listen_port = 1041};
	const struct supervise_settings settings = {.grace_ms = 77, .policy = job_policy_default};
	supervise_request_pack(&job, &settings, b);
}

static void check_input(const struct data_source *d)
{
	const struct data_source *e = &inputs[2];
	assert_int_equal(d->kind, e->kind);
	assert_true(d->optional && d->writable && d->no_exec);
	assert_int_equal(d->unpack, e->unpack);
	assert_int_equal(d->cache, e->cache);
	assert_int_equal(d->max_bytes, e->max_bytes);
	assert_int_equal(d->max_seconds, e->max_seconds);
	assert_null(d->path);
	assert_int_equal(d->file_count, 2);
	assert_string_equal(d->files[0].sha256, "12");
	assert_int_equal(d->files[0].size, 7);
	assert_string_equal(d->files[1].name, "d/e");
	assert_string_equal(d->reference, e->reference);
	assert_string_equal(d->profile, e->profile);
	assert_string_equal(d->remote, e->remote);
	assert_string_equal(d->options.items[0].value, "1");
	assert_int_equal(d->variables.count, 1);
	assert_string_equal(d->command.items[1], words[1]);
	assert_string_equal(d->user, e->user);
	assert_string_equal(d->password_secret, e->password_secret);
	assert_string_equal(d->content, e->content);
	assert_int_equal(d->content_size, 1);
}

static void test_round(void **state)
{
	(void)state;
	cleanup_buffer struct buffer b = {0};
	struct supervise_request r = {0};
	struct error err = {0};
	pack_one(&b);
	if (supervise_request_unpack(&r, b.data, b.size, &err) < 0)
		fail_msg("%s", err.text);
	assert_string_equal(r.state_dir, "/state");
	assert_int_equal(r.settings.grace_ms, 77);
	assert_int_equal(r.spec.arguments.count, 3);
	assert_string_equal(r.spec.arguments.items[1], words[1]);
	assert_null(r.spec.arguments.items[3]);
	assert_string_equal(r.spec.variables.items[1].value, "");
	assert_int_equal(r.spec.inputs[1].mode, DATA_RW_MOUNT);
	assert_string_equal(r.spec.inputs[1].target, "/y");
	check_input(&r.spec.inputs[2]);
	assert_int_equal(r.spec.max_retries, 12);
	assert_string_equal(r.spec.output_destination, "/out");
	assert_string_equal(r.spec.display_name, "name");
	assert_string_equal(r.spec.description, "text");
	assert_int_equal(r.spec.tags.count, 1);
	assert_string_equal(r.spec.properties.items[1].key, "B");
	assert_int_equal(r.spec.node_count + r.spec.process_count_per_node, 2);
	assert_ptr_equal(r.run.spec, &r.spec);
	assert_true(r.spec.resources.cpus == 2.5);
	assert_int_equal(r.spec.resources.disk, 9);
	assert_int_equal(r.spec.network, JOB_NETWORK_NONE);
	assert_int_equal(r.spec.secrets[0].size, 4);
	assert_memory_equal(r.spec.secrets[0].value, "s\0s!", 4);
	assert_null(r.spec.secrets[1].variable);
	assert_string_equal(r.spec.command[2], "echo");
	assert_null(r.spec.command[3]);
	assert_null(r.spec.working_directory);
	assert_string_equal(r.spec.binds[0].target, "/b");
	assert_string_equal(r.run.id, "run_1_2");
	assert_string_equal(r.run.phases[0].name, "pulling");
	assert_int_equal(r.run.fd, -1);
	assert_string_equal(r.image.stop_signal, "TERM");
	assert_int_equal(r.layer_count, 1);
	assert_int_equal(r.layers[0].fd, -1);
	assert_int_equal(r.listen_port, 1041);
	assert_string_equal(r.ready[0].kept, "datasets/x");
	assert_true(r.ready[0].is_file);
	assert_null(r.ready[1].digest);
	supervise_request_release(&r);
}

// Cut anywhere, or longer than it should be: refused, and nothing is read beyond the end.
static void test_damaged(void **state)
{
	(void)state;
	cleanup_buffer struct buffer b = {0};
	pack_one(&b);
	buffer_putc(&b, 'x');
	for (size_t size = 0; size <= b.size; size += size < 3000 ? 1 : 37) {
		struct supervise_request r = {0};
		struct error err = {0};
		char *exactly = xmemdup(b.data, size); // so that a sanitizer sees what lies behind
		if (size != b.size - 1)
			assert_int_equal(supervise_request_unpack(&r, exactly, size, &err), -1);
		free(exactly);
		supervise_request_release(&r);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round), cmocka_unit_test(test_damaged)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
