// SPDX-License-Identifier: Apache-2.0
//
// `stoker runtime list` and `ps`: what there is.
#include "agent/command/runtime.h"

#include "base/file.h"
#include "base/json_write.h"
#include "base/text.h"

#include <stdio.h>

static void write_container(
	struct json_writer *w, const struct runtime_state *s, enum runtime_status status)
{
	json_write_open_object(w);
	json_write_member(w, "ociVersion", RUNTIME_SPEC_VERSION);
	json_write_member(w, "id", s->id);
	json_write_member_int(w, "pid", status == RUNTIME_STOPPED ? 0 : s->pid);
	json_write_member(w, "status", runtime_status_names[status]);
	json_write_member(w, "bundle", s->bundle);
	json_write_member(w, "rootfs", s->rootfs);
	json_write_member(w, "created", s->created);
	json_write_member_int(w, "owner", s->owner);
	json_write_close_object(w);
}

// One that goes away meanwhile is passed over.
static void list_one(struct runtime_command *r, const char *id, bool quiet, struct json_writer *w)
{
	cleanup_runtime_target struct runtime_target t = {.folder = -1};
	struct error err;
	if (runtime_open(r, id, &t, &err) < 0)
		return;
	enum runtime_status status = runtime_state_status(&t.state);
	if (w)
		write_container(w, &t.state, status);
	else if (quiet)
		printf("%s\n", id);
	else
		printf("%-30s  %-8d  %-8s  %-26s  %s\n", id,
			status == RUNTIME_STOPPED ? 0 : (int)t.state.pid,
			runtime_status_names[status], t.state.created, t.state.bundle);
}

static int check_format(
	struct runtime_command *r, const char *format, bool *json, struct error *err)
{
	*json = streq(format, "json");
	if (*json || streq(format, "table"))
		return 0;
	r->command->usage_error = true;
	return error_set(err, ERROR_INVALID, "--format: must be table or json");
}

int runtime_verb_list(struct runtime_command *r, int argc, char **argv, struct error *err)
{
	static const struct options_usage usage = {.verb = "runtime list",
		.arguments = "",
		.summary = "List the containers.",
		.most = 0};
	const char *format = "table";
	bool quiet = false, json;
	const struct option options[] = {
		{OPTION_STRING, 'f', "format", "FORMAT", "table (if not given) or json", &format},
		{OPTION_FLAG, 'q', "quiet", NULL, "ids only", &quiet},
		{OPTION_END},
	};
	cleanup_arena struct arena a = {0};
	cleanup_buffer struct buffer text = {0};
	struct json_strings ids;
	char **rest;
	int count;
	int rc = runtime_options(r, options, &usage, false, argc, argv, &rest, &count, err);
	if (rc != OPTIONS_OK)
		return rc == OPTIONS_HELP ? 0 : -1;
	if (check_format(r, format, &json, err) < 0 ||
		runtime_state_list(r->root, &a, &ids, err) < 0)
		return -1;
	cleanup_json_writer struct json_writer *w = json_writer_new(false);
	json_write_open_array(w);
	if (!json && !quiet)
		printf("%-30s  %-8s  %-8s  %-26s  %s\n", "ID", "PID", "STATUS", "CREATED",
			"BUNDLE");
	for (size_t i = 0; i < ids.count; i++)
		list_one(r, ids.items[i], quiet, json && !quiet ? w : NULL);
	json_write_close_array(w);
	if (json && !quiet) {
		if (json_writer_finish(w, &text, err) < 0)
			return -1;
		printf("%s\n", text.data);
	}
	return 0;
}

// The program's name as the kernel has it; "?" for one that has just ended.
static void print_process(pid_t pid)
{
	cleanup_buffer struct buffer name = {0};
	struct error err;
	char path[32];
	snprintf(path, sizeof(path), "/proc/%d/comm", (int)pid);
	if (file_read(AT_FDCWD, path, 64, &name, &err) < 0 || !name.size)
		buffer_puts(&name, "?\n");
	name.data[strcspn(name.data, "\n")] = '\0';
	text_flatten(name.data);
	printf("%-8d  %s\n", (int)pid, name.data);
}

static int print_processes(const pid_t *pids, size_t count, bool json, struct error *err)
{
	cleanup_buffer struct buffer text = {0};
	cleanup_json_writer struct json_writer *w = json_writer_new(false);
	json_write_open_array(w);
	if (!json)
		printf("%-8s  %s\n", "PID", "NAME");
	for (size_t i = 0; i < count; i++) {
		json_write_int(w, pids[i]);
		if (!json)
			print_process(pids[i]);
	}
	json_write_close_array(w);
	if (json_writer_finish(w, &text, err) < 0)
		return -1;
	if (json)
		printf("%s\n", text.data);
	return 0;
}

int runtime_verb_ps(struct runtime_command *r, int argc, char **argv, struct error *err)
{
	static const struct options_usage usage = {
		.verb = "runtime ps",
		.arguments = "ID",
		.summary = "List the processes of a container, by their numbers on the node.\n"
			   "Options of ps(1) are not supported.",
		.least = 1,
		.most = 1,
	};
	const char *format = "table";
	bool json;
	const struct option options[] = {
		{OPTION_STRING, 'f', "format", "FORMAT", "table (if not given) or json", &format},
		{OPTION_END},
	};
	cleanup_runtime_target struct runtime_target t = {.folder = -1};
	char **rest;
	int count;
	pid_t *pids;
	size_t pid_count;
	int rc = runtime_options(r, options, &usage, false, argc, argv, &rest, &count, err);
	if (rc != OPTIONS_OK)
		return rc == OPTIONS_HELP ? 0 : -1;
	if (check_format(r, format, &json, err) < 0 || runtime_open(r, rest[0], &t, err) < 0 ||
		runtime_expect(&t.state, 1U << RUNTIME_CREATED | 1U << RUNTIME_RUNNING, "ps", err) <
			0)
		return -1;
	if (!t.state.cgroup)
		return error_set(err, ERROR_INVALID,
			"ps: the container \"%s\" has no control group", t.state.id);
	cleanup_cgroup struct cgroup *group = cgroup_open(t.state.cgroup, err);
	if (!group || cgroup_processes(group, &t.arena, &pids, &pid_count, err) < 0)
		return -1;
	return print_processes(pids, pid_count, json, err);
}
