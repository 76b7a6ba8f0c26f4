// SPDX-License-Identifier: Apache-2.0
#include "agent/command/runtime.h"

#include "base/file.h"
#include "base/json_write.h"
#include "base/text.h"
#include "base/time.h"

#include <stdio.h>
#include <unistd.h>

enum { PRESERVE_FDS_MAX = 1024 };

static const struct {
	const char *name;
	runtime_verb_fn *run;
	const char *help;
} verbs[] = {
	{"create", runtime_verb_create, "make a container; its program waits for `start`"},
	{"start", runtime_verb_start, "start the program of a container"},
	{"run", runtime_verb_run, "create, start, wait and delete"},
	{"exec", runtime_verb_exec, "run another program in a container"},
	{"kill", runtime_verb_kill, "send a signal to a container's process"},
	{"delete", runtime_verb_delete, "remove what is left of a container"},
	{"state", runtime_verb_state, "show a container's state"},
	{"list", runtime_verb_list, "list the containers"},
	{"ps", runtime_verb_ps, "list the processes of a container"},
	{"spec", runtime_verb_spec, "write a config.json to begin with"},
	{"features", runtime_verb_features, "show what is supported"},
};

static void print_help(void)
{
	printf("Usage: stoker runtime [OPTIONS] VERB …\n\n"
	       "The command line of an OCI runtime, for container engines. The same program under "
	       "the\nname stoker-oci is this command.\n\nVerbs:\n");
	for (size_t i = 0; i < array_size(verbs); i++)
		printf("  %-10s %s\n", verbs[i].name, verbs[i].help);
	printf("\nOptions:\n"
	       "  --root DIR           where containers are recorded\n"
	       "  --log FILE           append errors and warnings to this file\n"
	       "  --log-format FORMAT  text (if not given) or json\n"
	       "  --debug              accepted; there is nothing more to tell\n"
	       "  --version            show versions\n");
}

int runtime_options(struct runtime_command *r, const struct option *options,
	const struct options_usage *usage, bool stop_at_positional, int argc, char **argv,
	char ***rest, int *rest_count, struct error *err)
{
	static const struct option none[] = {{OPTION_END}};
	int rc = options_parse(options ? options : none, usage, stop_at_positional, argc, argv,
		rest, rest_count, err);
	r->command->usage_error = rc < 0;
	return rc;
}

static void write_entry(
	const struct runtime_command *r, const char *level, const char *text, struct buffer *out)
{
	char when[TIME_TEXT_SIZE];
	struct error err;
	if (!r->log_json) {
		buffer_printf(out, "time=\"%s\" level=%s msg=\"%s\"\n",
			format_time(wall_ms(), when), level, text);
		return;
	}
	cleanup_json_writer struct json_writer *w = json_writer_new(false);
	json_write_open_object(w);
	json_write_member(w, "level", level);
	json_write_member(w, "msg", text);
	json_write_member(w, "time", format_time(wall_ms(), when));
	json_write_close_object(w);
	json_writer_finish(w, out, &err); // texts of errors are UTF-8
	buffer_putc(out, '\n');
}

// Engines read the log for the reason of a failure; what cannot be written there is on stderr too.
static void append_log(const struct runtime_command *r, const char *level, const char *text)
{
	cleanup_buffer struct buffer entry = {0};
	struct error ignored;
	cleanup_fd int fd = open(r->log, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
	write_entry(r, level, text, &entry);
	if (fd >= 0)
		write_all(fd, entry.data, entry.size, r->log, &ignored);
}

void runtime_warn(const struct runtime_command *r, const struct buffer *text)
{
	const char *line = text->size ? text->data : "";
	while (*line) {
		size_t n = strcspn(line, "\n");
		cleanup_free char *one = xstrndup(line, n);
		text_flatten(one);
		if (r->log)
			append_log(r, "warning", one);
		else if (n)
			fprintf(stderr, "stoker: warning: %s\n", one);
		line += n + (line[n] == '\n');
	}
}

void runtime_use_engines_words(struct error *err)
{
	static const char missing[] = "no such file or directory", denied[] = "permission denied";
	const char *words = err->kind == ERROR_NOT_FOUND ? missing
			    : err->kind == ERROR_DENIED	 ? denied
							 : NULL;
	struct error plain = *err;
	if (words && !strcasestr(err->text, words))
		error_set(err, plain.kind, "%.*s: %s",
			(int)(sizeof(err->text) - sizeof(missing) - 2), plain.text, words);
}

int runtime_open(
	struct runtime_command *r, const char *id, struct runtime_target *t, struct error *err)
{
	*t = (struct runtime_target){.folder = runtime_state_open(r->root, id, err)};
	if (t->folder < 0)
		return -1;
	return runtime_state_load(t->folder, id, &t->arena, &t->state, err);
}

void runtime_target_release(struct runtime_target *t)
{
	close_fdp(&t->folder);
	t->folder = -1;
	arena_release(&t->arena);
}

int runtime_load_spec(struct runtime_target *t, struct runtime_spec *spec, struct error *err)
{
	cleanup_buffer struct buffer text = {0};
	if (file_read(t->folder, "config.json", RUNTIME_SPEC_BYTES_MAX, &text, err) < 0)
		return -1;
	const char *data = arena_strndup(&t->arena, text.data, text.size);
	return runtime_spec_parse(&t->arena, data, text.size, "config.json", spec, err);
}

int runtime_expect(
	const struct runtime_state *s, unsigned statuses, const char *what, struct error *err)
{
	enum runtime_status now = runtime_state_status(s);
	if (statuses & 1U << now)
		return 0;
	return error_set(err, ERROR_INVALID, "%s: the container \"%s\" is %s", what, s->id,
		runtime_status_names[now]);
}

int runtime_write_pid(const char *path, pid_t pid, struct error *err)
{
	char text[16];
	int n = snprintf(text, sizeof(text), "%d", (int)pid);
	return path ? file_write_atomic(AT_FDCWD, path, text, (size_t)n, 0644, err) : 0;
}

int runtime_check_fds(uint64_t count, struct error *err)
{
	if (count > PRESERVE_FDS_MAX)
		return error_set(
			err, ERROR_INVALID, "--preserve-fds: must be at most %d", PRESERVE_FDS_MAX);
	for (int fd = 3; fd < 3 + (int)count; fd++) {
		int flags = fcntl(fd, F_GETFD);
		if (flags < 0 || flags & FD_CLOEXEC)
			return error_set(err, ERROR_INVALID,
				"--preserve-fds: descriptor %d is not open", fd);
	}
	return 0;
}

static int run_verb(struct runtime_command *r, int argc, char **argv, struct error *err)
{
	if (argc < 1) {
		r->command->usage_error = true;
		return error_set(
			err, ERROR_INVALID, "a verb is missing; see: stoker runtime --help");
	}
	for (size_t i = 0; i < array_size(verbs); i++)
		if (streq(argv[0], verbs[i].name))
			return verbs[i].run(r, argc, argv, err);
	r->command->usage_error = true;
	return error_set(err, ERROR_INVALID,
		"\"%s\" is not supported by this runtime; see: stoker runtime --help", argv[0]);
}

// Below --root, else below the node's run_dir.
static int choose_root(struct runtime_command *r, struct error *err)
{
	if (!r->root) {
		if (config_load(&r->command->config, &r->command->overrides, err) < 0)
			return -1;
		r->root_memory = path_join(r->command->config.run_dir, "runtime");
	} else {
		r->root_memory = path_absolute(r->root, err);
	}
	r->root = r->root_memory;
	return r->root ? 0 : -1;
}

static int parse_global(struct runtime_command *r, int argc, char **argv, char ***rest, int *count,
	struct error *err)
{
	static const struct options_usage usage = {
		.verb = "runtime", .arguments = "VERB", .help = print_help, .most = -1};
	const char *log_format = "text";
	bool systemd = false, version = false;
	const struct option options[] = {
		{OPTION_STRING, 0, "root", "DIR", "", &r->root},
		{OPTION_STRING, 0, "log", "FILE", "", &r->log},
		{OPTION_STRING, 0, "log-format", "FORMAT", "", &log_format},
		{OPTION_FLAG, 0, "debug", NULL, "", &r->debug},
		{OPTION_FLAG, 0, "systemd-cgroup", NULL, "", &systemd},
		{OPTION_FLAG, 'v', "version", NULL, "", &version},
		{OPTION_END},
	};
	int rc = command_options(r->command, options, &usage, true, argc, argv, rest, count, err);
	if (rc != OPTIONS_OK)
		return rc;
	if (r->log && !*r->log)
		r->log = NULL;
	r->log_json = streq(log_format, "json");
	if (version) {
		printf("stoker %s\nspec: %s\n", STOKER_VERSION, RUNTIME_SPEC_VERSION);
		return OPTIONS_HELP;
	}
	r->command->usage_error = true;
	if (!r->log_json && !streq(log_format, "text"))
		return error_set(err, ERROR_INVALID, "--log-format: must be text or json");
	// The group would be asked of systemd over D-Bus, which we do not speak.
	if (systemd)
		return error_set(err, ERROR_INVALID,
			"--systemd-cgroup: not supported; tell the engine to use the cgroupfs "
			"manager (podman: --cgroup-manager=cgroupfs)");
	r->command->usage_error = false;
	return OPTIONS_OK;
}

int command_runtime(struct command *c, int argc, char **argv, struct error *err)
{
	struct runtime_command r = {.command = c};
	char **rest;
	int count;
	int rc = parse_global(&r, argc, argv, &rest, &count, err);
	if (rc == OPTIONS_HELP)
		return 0;
	if (rc == OPTIONS_OK && (rc = choose_root(&r, err)) == 0)
		rc = run_verb(&r, count, rest, err);
	if (rc < 0 && r.log)
		append_log(&r, "error", err->text);
	free(r.root_memory);
	return rc;
}
