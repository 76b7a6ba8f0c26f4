// SPDX-License-Identifier: Apache-2.0
//
// `stoker runtime exec`.
#include "agent/command/runtime.h"

#include "base/file.h"
#include "base/text.h"
#include "oci/runtime/spec_names.h"

#include <unistd.h>

struct request {
	const char *process, *pid_file, *console_socket, *user, *cwd;
	const char *apparmor, *label, *cgroup;
	struct option_strings env, caps, groups;
	uint64_t preserve_fds;
	bool terminal, detach, no_new_privs;
};

static void request_release(struct request *q)
{
	option_strings_release(&q->env);
	option_strings_release(&q->caps);
	option_strings_release(&q->groups);
}

static int refuse(const struct request *q, struct error *err)
{
	const char *name = q->apparmor ? "--apparmor" : q->label ? "--process-label" : "--cgroup";
	if (!q->apparmor && !q->label && !q->cgroup)
		return 0;
	return error_set(err, ERROR_INVALID, "%s: not supported", name);
}

static int parse_id(const char *text, size_t n, uint32_t *id, struct error *err)
{
	uint64_t number;
	if (!parse_u64_n(text, n, &number) || number >= UINT32_MAX)
		return error_set(err, ERROR_INVALID,
			"\"%s\": expected ids of users and groups as "
			"numbers",
			text);
	*id = (uint32_t)number;
	return 0;
}

// "UID" or "UID:GID".
static int take_user(const char *text, struct runtime_process *p, struct error *err)
{
	const char *colon = strchr(text, ':');
	size_t n = colon ? (size_t)(colon - text) : strlen(text);
	if (parse_id(text, n, &p->uid, err) < 0)
		return -1;
	return colon ? parse_id(colon + 1, strlen(colon + 1), &p->gid, err) : 0;
}

static int take_groups(
	const struct request *q, struct arena *a, struct runtime_process *p, struct error *err)
{
	if (!q->groups.count)
		return 0;
	p->groups = arena_array(a, gid_t, q->groups.count);
	p->group_count = q->groups.count;
	for (size_t i = 0; i < q->groups.count; i++)
		if (parse_id(q->groups.items[i], strlen(q->groups.items[i]), &p->groups[i], err) <
			0)
			return -1;
	return 0;
}

static int take_capabilities(const struct request *q, struct runtime_process *p, struct error *err)
{
	uint64_t bit;
	for (size_t i = 0; i < q->caps.count; i++) {
		if (!runtime_capability_parse(q->caps.items[i], &bit))
			return error_set(err, ERROR_INVALID, "--cap: there is no capability \"%s\"",
				q->caps.items[i]);
		p->has_capabilities = true;
		p->capabilities.bounding |= bit;
		p->capabilities.permitted |= bit;
		p->capabilities.effective |= bit;
	}
	return 0;
}

// A variable that is there already is replaced.
static void take_env(const struct request *q, struct arena *a, struct runtime_process *p)
{
	size_t count = 0;
	const char **all = arena_array(a, const char *, p->env.count + q->env.count + 1);
	for (size_t i = 0; i < p->env.count + q->env.count; i++) {
		const char *entry =
			i < p->env.count ? p->env.items[i] : q->env.items[i - p->env.count];
		size_t n = strcspn(entry, "="), at = 0;
		while (at < count && !(strncmp(all[at], entry, n + 1) == 0))
			at++;
		all[at] = entry;
		count += at == count;
	}
	p->env = (struct json_strings){.items = all, .count = count};
}

// The container's own process with the program and what the options change.
static int process_of_options(const struct request *q, char **words, int count, struct arena *a,
	struct runtime_process *p, struct error *err)
{
	p->terminal = q->terminal;
	p->rows = p->columns = 0;
	if (p->terminal && !q->console_socket)
		runtime_terminal_size(p);
	p->has_oom_score_adj = false;
	p->args.items = arena_array(a, const char *, (size_t)count + 1);
	p->args.count = (size_t)count;
	for (int i = 0; i < count; i++)
		p->args.items[i] = words[i];
	if (q->cwd && *q->cwd != '/')
		return error_set(err, ERROR_INVALID, "--cwd: must be an absolute path");
	if (q->cwd)
		p->cwd = q->cwd;
	if (q->no_new_privs)
		p->no_new_privileges = true;
	if ((q->user && take_user(q->user, p, err) < 0) || take_groups(q, a, p, err) < 0 ||
		take_capabilities(q, p, err) < 0)
		return -1;
	take_env(q, a, p);
	return 0;
}

static int process_of_file(struct runtime_command *r, const struct request *q, struct arena *a,
	struct runtime_process *p, struct error *err)
{
	cleanup_buffer struct buffer text = {0}, warnings = {0};
	struct json_strings passed_over;
	if (file_read(AT_FDCWD, q->process, RUNTIME_SPEC_BYTES_MAX, &text, err) < 0)
		return -1;
	const char *data = arena_strndup(a, text.data ? text.data : "", text.size);
	if (runtime_process_parse(a, data, text.size, q->process, p, &passed_over, err) < 0)
		return -1;
	for (size_t i = 0; i < passed_over.count; i++)
		buffer_printf(&warnings, "%s\n", passed_over.items[i]);
	runtime_warn(r, &warnings);
	p->terminal |= q->terminal;
	return 0;
}

// The program runs; we are its parent.
static int attend(struct process *p, int console_ours, bool terminal, struct error *err)
{
	cleanup_fd int master = -1;
	int status;
	if (terminal && (master = runtime_receive_terminal(console_ours, err)) < 0)
		return -1;
	if (runtime_relay(p->pidfd, master, err) < 0 || process_wait(p, &status, err) < 0)
		return -1;
	return runtime_exit_status(status);
}

static int start_process(struct runtime_target *t, const struct request *q,
	const struct runtime_process *process, int console, struct process *p, struct error *err)
{
	struct runtime_spec spec;
	cleanup_fd int pidfd = runtime_state_pidfd(&t->state, err);
	if (pidfd < 0 || runtime_load_spec(t, &spec, err) < 0)
		return -1;
	cleanup_cgroup struct cgroup *group = NULL;
	if (t->state.cgroup && !(group = cgroup_open(t->state.cgroup, err)))
		return -1;
	bool terminal = process->terminal;
	const struct container_exec x = {
		.pidfd = pidfd,
		.pid = t->state.pid,
		.process = process,
		.seccomp = &spec.seccomp,
		.cgroup = group,
		.stdio = {terminal ? -1 : 0, terminal ? -1 : 1, terminal ? -1 : 2},
		.console_socket = console,
		.preserve_fds = (int)q->preserve_fds,
	};
	if (container_exec(&x, p, err) < 0) {
		runtime_use_engines_words(err);
		return -1;
	}
	return 0;
}

static int check_request(
	const struct request *q, const struct runtime_process *p, struct error *err)
{
	if (runtime_check_fds(q->preserve_fds, err) < 0)
		return -1;
	if (q->console_socket && !q->detach)
		return error_set(err, ERROR_INVALID,
			"--console-socket: goes with --detach, else the terminal is ours");
	if (p->terminal && q->detach && !q->console_socket)
		return error_set(err, ERROR_INVALID,
			"a terminal is wanted, and nobody would have it: --console-socket is "
			"missing");
	return 0;
}

static int execute(struct runtime_command *r, const struct request *q, char **words, int count,
	struct error *err)
{
	cleanup_runtime_target struct runtime_target t = {.folder = -1};
	cleanup_fd int console = -1, ours = -1;
	cleanup_process struct process p = {.pidfd = -1};
	struct runtime_spec spec;
	if (runtime_open(r, words[0], &t, err) < 0 ||
		runtime_expect(
			&t.state, 1U << RUNTIME_CREATED | 1U << RUNTIME_RUNNING, "exec", err) < 0 ||
		runtime_load_spec(&t, &spec, err) < 0)
		return -1;
	int rc = q->process ? process_of_file(r, q, &t.arena, &spec.process, err)
			    : process_of_options(
				      q, words + 1, count - 1, &t.arena, &spec.process, err);
	if (rc < 0 || check_request(q, &spec.process, err) < 0)
		return -1;
	if (!q->detach)
		runtime_relay_prepare(&spec.process);
	bool terminal = spec.process.terminal;
	if (terminal && (console = runtime_console_socket(q->console_socket, &ours, err)) < 0)
		return -1;
	if (start_process(&t, q, &spec.process, console, &p, err) < 0 ||
		runtime_write_pid(q->pid_file, p.pid, err) < 0)
		return -1;
	if (!q->detach)
		return attend(&p, ours, terminal, err);
	close_fdp(&p.pidfd);
	p = (struct process){.pidfd = -1};
	return 0;
}

int runtime_verb_exec(struct runtime_command *r, int argc, char **argv, struct error *err)
{
	static const struct options_usage usage = {
		.verb = "runtime exec",
		.arguments = "ID [COMMAND…]",
		.summary = "Run another program in a container, and end with its exit status.",
		.least = 1,
		.most = -1,
	};
	__attribute__((cleanup(request_release))) struct request q = {0};
	const struct option options[] = {
		{OPTION_STRING, 'p', "process", "FILE", "what to run, as config.json's \"process\"",
			&q.process},
		{OPTION_STRING, 0, "cwd", "DIR", "the working directory", &q.cwd},
		{OPTION_STRINGS, 'e', "env", "NAME=VALUE", "set a variable", &q.env},
		{OPTION_FLAG, 't', "tty", NULL, "give it a terminal", &q.terminal},
		{OPTION_STRING, 'u', "user", "UID[:GID]", "run as", &q.user},
		{OPTION_STRINGS, 'g', "additional-gids", "GID", "a further group", &q.groups},
		{OPTION_FLAG, 'd', "detach", NULL, "do not wait for the end", &q.detach},
		{OPTION_STRING, 0, "pid-file", "FILE", "write the process's id there", &q.pid_file},
		{OPTION_STRING, 0, "console-socket", "SOCKET", "send the terminal there",
			&q.console_socket},
		{OPTION_STRINGS, 'c', "cap", "NAME", "a further capability", &q.caps},
		{OPTION_NUMBER, 0, "preserve-fds", "N", "pass descriptors from 3 on",
			&q.preserve_fds},
		{OPTION_FLAG, 0, "no-new-privs", NULL, "set no_new_privs", &q.no_new_privs},
		{OPTION_STRING, 0, "apparmor", "PROFILE", "refused", &q.apparmor},
		{OPTION_STRING, 0, "process-label", "LABEL", "refused", &q.label},
		{OPTION_STRING, 0, "cgroup", "PATH", "refused", &q.cgroup},
		{OPTION_END},
	};
	char **rest;
	int count;
	int rc = runtime_options(r, options, &usage, true, argc, argv, &rest, &count, err);
	if (rc != OPTIONS_OK)
		return rc == OPTIONS_HELP ? 0 : -1;
	// Engines that give a file give nothing else.
	if ((q.process != NULL) == (count > 1)) {
		r->command->usage_error = true;
		return error_set(err, ERROR_INVALID,
			"exec: either a command or --process FILE says what to run");
	}
	return refuse(&q, err) < 0 ? -1 : execute(r, &q, rest, count, err);
}
