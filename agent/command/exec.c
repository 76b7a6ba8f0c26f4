// SPDX-License-Identifier: Apache-2.0
#include "agent/command/relay.h"
#include "agent/command/run_lookup.h"
#include "agent/command/terminal.h"
#include "agent/supervise/client.h"
#include "base/file.h"
#include "base/json_write.h"
#include "base/text.h"

#include <signal.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <unistd.h>

static const struct options_usage usage = {
	.verb = "exec",
	.arguments = "RUN [--] COMMAND…",
	.summary = "Run a command in the container of a run, and end with its exit status.",
	.more = "Examples:\n"
		"  stoker exec digits_1764000000_0a1b2c3d ls -l\n"
		"  stoker exec -it digits_1764000000_0a1b2c3d sh",
	.least = 2,
	.most = -1,
};

struct session {
	const char *user, *workdir;
	struct option_strings variables;
	bool interactive, terminal;
	char **args;
	int arg_count;

	struct loop *loop;
	int socket, master;
	int given[3]; // to the process
	struct relay relays[3];
	struct terminal own;
	int exit_status; // -1: not ended yet
};

static void session_release(struct session *x)
{
	terminal_restore(&x->own);
	for (size_t i = 0; i < array_size(x->relays); i++) {
		relay_stop(&x->relays[i]);
		if (x->given[i] > 2)
			close(x->given[i]);
	}
	close_fdp(&x->master);
	close_fdp(&x->socket);
	loop_free(x->loop);
	option_strings_release(&x->variables);
}

// ---- what it is connected to

static int give_pipe(struct session *x, int i, struct error *err)
{
	int fds[2];
	struct relay *r = &x->relays[i];
	if (pipe2(fds, O_CLOEXEC) < 0)
		return error_set_errno(err, errno, "pipe");
	x->given[i] = fds[i == 0 ? 0 : 1];
	*r = (struct relay){.in_fd = i ? fds[0] : i, .out_fd = i ? i : fds[1]};
	r->own_in = i != 0;
	r->own_out = i == 0;
	return relay_start(r, x->loop, err);
}

// What is a file or a pipe is given away as it is; a terminal is not (relay.h).
static int give_streams(struct session *x, struct error *err)
{
	for (int i = 0; i < 3; i++) {
		if (i == 0 && !x->interactive)
			x->given[i] = open("/dev/null", O_RDONLY | O_CLOEXEC);
		else if (!isatty(i))
			x->given[i] = fcntl(i, F_DUPFD_CLOEXEC, 3);
		else if (give_pipe(x, i, err) < 0)
			return -1;
		if (x->given[i] < 0)
			return error_set_errno(err, errno, "descriptor %d", i);
	}
	return 0;
}

// The terminal is the container's; its master end is ours.
static int connect_terminal(struct session *x, struct error *err)
{
	struct relay *out = &x->relays[1], *in = &x->relays[0];
	// Nobody else has this end: reading what is there must not wait.
	if (fcntl(x->master, F_SETFL, O_NONBLOCK) < 0)
		return error_set_errno(err, errno, "terminal");
	*out = (struct relay){.in_fd = x->master, .out_fd = STDOUT_FILENO};
	if (relay_start(out, x->loop, err) < 0)
		return -1;
	terminal_copy_size(x->master);
	if (!x->interactive)
		return 0;
	*in = (struct relay){.in_fd = STDIN_FILENO, .out_fd = x->master};
	if (terminal_make_raw(&x->own, err) < 0)
		return -1;
	return relay_start(in, x->loop, err);
}

// ---- events

static void on_signal(void *data, int signo)
{
	struct session *x = data;
	struct error ignored;
	if (signo == SIGWINCH) {
		if (x->master >= 0)
			terminal_copy_size(x->master);
		return;
	}
	struct json_writer *w = json_writer_new(false);
	json_write_open_object(w);
	json_write_member(w, "do", "exec_signal");
	json_write_member_int(w, "signal", signo);
	json_write_close_object(w);
	supervise_send(x->socket, w, &ignored);
}

static void on_message(void *data, uint32_t events)
{
	struct session *x = data;
	cleanup_arena struct arena a = {0};
	const struct json *message;
	struct error ignored;
	(void)events;
	int rc = supervise_receive(x->socket, &a, true, &message, &ignored);
	if (rc == -2)
		return;
	const char *event = rc > 0 ? json_get_string(message, "event") : NULL;
	const struct json *status = rc > 0 ? json_get(message, "exit_status") : NULL;
	if (event && streq(event, "exec_ended") && status && status->type == JSON_INTEGER)
		x->exit_status = (int)(status->integer & 0xFF);
	if (rc <= 0 || x->exit_status >= 0)
		loop_quit(x->loop, 0);
}

static int add_signals(struct session *x, struct error *err)
{
	static const int all[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGWINCH};
	signal(SIGPIPE, SIG_IGN);
	signal(SIGTTIN, SIG_IGN); // in the background there is no input, but we go on
	for (size_t i = 0; i < array_size(all); i++)
		if (!loop_add_signal(x->loop, all[i], on_signal, x, err))
			return -1;
	return 0;
}

// ---- the request

static void write_words(struct json_writer *w, const char *key, const char *const *words, size_t n)
{
	json_write_key(w, key);
	json_write_open_array(w);
	for (size_t i = 0; i < n; i++)
		json_write_string(w, words[i]);
	json_write_close_array(w);
}

static void write_variables(struct json_writer *w, const struct option_strings *variables)
{
	json_write_key(w, "env");
	json_write_open_array(w);
	for (size_t i = 0; i < variables->count; i++) {
		const char *text = variables->items[i], *value = getenv(text);
		cleanup_free char *both = strchr(text, '=') ? xstrdup(text)
					  : value	    ? xasprintf("%s=%s", text, value)
							    : NULL;
		if (both)
			json_write_string(w, both);
	}
	json_write_close_array(w);
}

static struct json_writer *make_request(const struct session *x)
{
	struct json_writer *w = json_writer_new(false);
	struct winsize size = {0};
	json_write_open_object(w);
	json_write_member(w, "do", "exec");
	write_words(w, "args", (const char *const *)x->args, (size_t)x->arg_count);
	write_variables(w, &x->variables);
	if (x->user)
		json_write_member(w, "user", x->user);
	if (x->workdir)
		json_write_member(w, "cwd", x->workdir);
	json_write_member_bool(w, "terminal", x->terminal);
	if (x->terminal && ioctl(STDIN_FILENO, TIOCGWINSZ, &size) == 0) {
		json_write_member_int(w, "rows", size.ws_row);
		json_write_member_int(w, "columns", size.ws_col);
	}
	json_write_close_object(w);
	return w;
}

static int start(struct session *x, struct error *err)
{
	cleanup_arena struct arena a = {0};
	const struct json *reply;
	if (!x->terminal && give_streams(x, err) < 0)
		return -1;
	const struct supervise_request_fds fds = {
		.send = x->given, .send_count = x->terminal ? 0 : 3, .received = &x->master};
	if (supervise_call_fds(x->socket, make_request(x), &fds, &a, &reply, err) < 0)
		return -1;
	for (size_t i = 0; i < array_size(x->given); i++) {
		if (x->given[i] > 2)
			close(x->given[i]);
		x->given[i] = -1;
	}
	if (!x->terminal)
		return 0;
	if (x->master < 0)
		return error_set(err, ERROR_SYSTEM, "the supervisor sent no terminal");
	return connect_terminal(x, err);
}

static int run(struct session *x, struct error *err)
{
	x->loop = loop_new(err);
	if (!x->loop || add_signals(x, err) < 0 || start(x, err) < 0 ||
		!loop_add_fd(x->loop, x->socket, EPOLLIN, on_message, x, err) ||
		loop_run(x->loop, err) < 0)
		return -1;
	// What it wrote last; somebody that it left behind may hold the other end.
	relay_finish(&x->relays[1]);
	relay_finish(&x->relays[2]);
	terminal_restore(&x->own);
	if (x->exit_status < 0)
		return error_set(err, ERROR_UNAVAILABLE, "the run has ended");
	return x->exit_status;
}

static int check(struct command *c, const struct session *x, struct error *err)
{
	c->usage_error = true;
	if (x->workdir && *x->workdir != '/')
		return error_set(err, ERROR_INVALID, "--workdir: must be an absolute path");
	for (size_t i = 0; i < x->variables.count; i++)
		if (*x->variables.items[i] == '=' || !*x->variables.items[i])
			return error_set(err, ERROR_INVALID, "--env: expected NAME=VALUE or NAME");
	c->usage_error = false;
	if (x->terminal && x->interactive && !isatty(STDIN_FILENO))
		return error_set(
			err, ERROR_INVALID, "--tty: the input is no terminal; leave --tty out");
	return 0;
}

int command_exec(struct command *c, int argc, char **argv, struct error *err)
{
	__attribute__((cleanup(session_release))) struct session x = {
		.socket = -1, .master = -1, .given = {-1, -1, -1}, .exit_status = -1};
	const struct option options[] = {
		{OPTION_FLAG, 'i', "interactive", NULL, "pass our input on", &x.interactive},
		{OPTION_FLAG, 't', "tty", NULL, "in a terminal of its own", &x.terminal},
		{OPTION_STRINGS, 'e', "env", "NAME[=VALUE]", "set a variable", &x.variables},
		{OPTION_STRING, 'u', "user", "USER[:GROUP]", "instead of the job's", &x.user},
		{OPTION_STRING, 'w', "workdir", "DIR", "instead of the job's", &x.workdir},
		{OPTION_END},
	};
	cleanup_run_found struct run_found found = {.fd = -1};
	char **rest;
	int count;
	int rc = command_options(c, options, &usage, true, argc, argv, &rest, &count, err);
	if (rc != OPTIONS_OK)
		return rc == OPTIONS_HELP ? 0 : -1;
	x.args = rest + 1;
	x.arg_count = count - 1;
	if (x.arg_count > 1 && streq(x.args[0], "--")) {
		x.args++;
		x.arg_count--;
	}
	if (check(c, &x, err) < 0 || command_open_runs(c, err) < 0 ||
		run_find(c->store, rest[0], &found, err) < 0)
		return -1;
	x.socket = supervise_connect(c->store, found.id, err);
	if (x.socket < 0 && err->kind == ERROR_NOT_FOUND)
		return error_set(err, ERROR_NOT_FOUND, "run %s does not run", found.id);
	return x.socket < 0 ? -1 : run(&x, err);
}
