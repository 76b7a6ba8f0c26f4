// SPDX-License-Identifier: Apache-2.0
#include "agent/command/attach.h"

#include "agent/command/echo.h"
#include "agent/command/relay.h"
#include "agent/job/run_document.h"
#include "base/file.h"
#include "base/text.h"

#include <signal.h>
#include <stdio.h>
#include <unistd.h>

struct attached {
	const struct attach *options;
	struct loop *loop;
	struct supervise_link link;
	struct echo echo;
	struct relay input; // from a terminal
	int input_fd;	    // the pipe's end for the job; -1: none
	struct attach_result *result;
	int asked;	    // the signal that asked for the end
	bool started;	    // the present attempt
	bool taken;	    // the run is the supervisor's
	struct error error; // of the end
};

static void send_request(struct attached *a, struct json_writer *request)
{
	struct error ignored; // one that is gone has told us, or will
	supervise_send(a->link.fd, request, &ignored);
}

static void on_end_signal(void *data, int signo)
{
	struct attached *a = data;
	if (a->asked)
		send_request(a, supervise_request_of("kill", "signal"));
	else
		send_request(a, supervise_stop_request("signal", signo, -1));
	a->asked = signo;
}

static void on_signal(void *data, int signo)
{
	send_request(data, supervise_signal_request(signo));
}

static int add_signals(struct attached *a, struct error *err)
{
	static const int forwarded[] = {SIGQUIT, SIGUSR1, SIGUSR2, SIGWINCH};
	sigset_t ends;
	signal(SIGPIPE, SIG_IGN); // a reader who leaves does not end the job
	process_end_signals(&ends);
	for (int signo = 1; signo < SIGRTMIN; signo++)
		if (sigismember(&ends, signo) == 1 &&
			!loop_add_signal(a->loop, signo, on_end_signal, a, err))
			return -1;
	for (size_t i = 0; i < array_size(forwarded); i++)
		if (!loop_add_signal(a->loop, forwarded[i], on_signal, a, err))
			return -1;
	return 0;
}

static void on_started(struct attached *a)
{
	struct run *run = a->options->job->run;
	struct error err;
	a->started = a->taken = true;
	close_fdp(&run->lock_fd); // the supervisor has it
	run->lock_fd = -1;
	if (a->options->detach)
		loop_quit(a->loop, 0);
	// Without an echo the job runs as well, and `stoker logs` shows the reason.
	else if (echo_start(&a->echo, a->loop, run->fd, "user_logs/std_log.txt",
			 a->options->echo_fd, &err) < 0)
		fprintf(stderr, "stoker: what the job prints is not shown: %s\n", err.text);
}

// The log of the attempt that is over is shown to its end, then that of the next one, which exists
// once it has started.
static void on_attempt(struct attached *a, const struct json *event)
{
	struct run *run = a->options->job->run;
	const struct json *number = json_get(event, "attempt");
	const char *reason = json_get_string(event, "message");
	struct error err;
	echo_finish(&a->echo);
	echo_release(&a->echo);
	a->started = false;
	run->attempt = number && number->type == JSON_INTEGER ? (unsigned)number->integer : 1;
	fprintf(stderr, "%s: attempt %u: %s\n", run->id, run->attempt, reason ? reason : "");
	int fd = run_attempt_open(run->runs_fd, run->id, run->attempt, &err);
	if (fd < 0)
		return;
	close_fdp(&run->fd);
	run->fd = fd;
	free(run->path);
	run->path = xasprintf(
		"%s/runs/%s/%u", a->options->job->store->state_dir, run->id, run->attempt);
}

static void on_results(struct attached *a, const struct json *event)
{
	const char *message = json_get_string(event, "message");
	fprintf(stderr, "%s: the script has ended; %s\n", a->options->job->run->id,
		message ? message : "");
}

static void copy_text(char *target, size_t size, const char *text)
{
	snprintf(target, size, "%s", text ? text : "");
}

static void on_ended(struct attached *a, const struct json *event)
{
	struct attach_result *r = a->result;
	const struct json *status = json_get(event, "exit_status"), *error;
	r->ended = true;
	r->exit_status = status && status->type == JSON_INTEGER ? (int)(status->integer & 0xFF) : 1;
	copy_text(r->state, sizeof(r->state), json_get_string(event, "state"));
	copy_text(r->code, sizeof(r->code), json_get_string(event, "code"));
	copy_text(r->message, sizeof(r->message), json_get_string(event, "message"));
	error = json_get(event, "error");
	if (error && error->type == JSON_OBJECT) {
		const char *text = json_get_string(error, "text");
		error_set(&a->error, ERROR_SYSTEM, "%s", text ? text : "");
	}
	loop_quit(a->loop, 0);
}

static void on_message(void *data, uint32_t events)
{
	struct attached *a = data;
	cleanup_arena struct arena arena = {0};
	const struct json *message;
	struct error err = {0};
	(void)events;
	int rc = supervise_receive(a->link.fd, &arena, true, &message, &err);
	if (rc == -2)
		return;
	if (rc <= 0) {
		loop_quit(a->loop, 0); // no end came: see lost()
		return;
	}
	const char *event = json_get_string(message, "event");
	if (event && streq(event, "started"))
		on_started(a);
	else if (event && streq(event, "attempt"))
		on_attempt(a, message);
	else if (event && streq(event, "results"))
		on_results(a, message);
	else if (event && streq(event, "ended"))
		on_ended(a, message);
}

// The supervisor is gone without a word. The run is ours again where it was not taken over; else
// the sweep ends it, once the dead process has let go of the lock.
static int lost(struct attached *a, struct error *err)
{
	const struct job *job = a->options->job;
	struct error ignored;
	int status;
	char how[64];
	process_wait(&a->link.process, &status, &ignored);
	if (!a->taken) {
		struct cause cause = {
			.class = CAUSE_INFRASTRUCTURE, .code = "supervisor_lost", .exit_code = -1};
		snprintf(cause.message, sizeof(cause.message),
			"the supervisor %s before the job was started",
			process_describe_status(status, how));
		cleanup_arena struct arena arena = {0};
		struct run_summary s;
		if (run_document_read(job->run->fd, &arena, &s, err) == 0 &&
			run_state_is_end(s.state))
			return error_set(err, ERROR_SYSTEM, "%s", s.message ? s.message : s.state);
		run_leftovers_end(job->store, job->run->id, job->run->fd, &ignored);
		run_end(job->run, RUN_FAILED, &cause, 1, &ignored);
		return error_set(err, ERROR_SYSTEM, "%s", cause.message);
	}
	run_sweep(job->store);
	return error_set(err, ERROR_SYSTEM, "the supervisor of %s %s; the job has ended with it",
		job->run->id, process_describe_status(status, how));
}

static int relay_input(struct attached *a, struct error *err)
{
	struct job *job = a->options->job;
	int fds[2];
	if (job->stdin_fd < 0 || !isatty(job->stdin_fd))
		return 0;
	if (pipe2(fds, O_CLOEXEC) < 0)
		return error_set_errno(err, errno, "pipe");
	a->input = (struct relay){.in_fd = job->stdin_fd, .out_fd = fds[1], .own_out = true};
	a->input_fd = job->stdin_fd = fds[0];
	signal(SIGTTIN, SIG_IGN); // in the background there is no input, but the job goes on
	return relay_start(&a->input, a->loop, err);
}

static int follow(struct attached *a, struct error *err)
{
	const struct attach *o = a->options;
	if (relay_input(a, err) < 0 || supervise_start(o->job, o->settings, &a->link, err) < 0) {
		const struct cause cause = cause_of_error(CAUSE_PREPARING, err);
		struct error ignored;
		run_end(o->job->run, RUN_FAILED, &cause, 1, &ignored);
		return -1;
	}
	close_fdp(&a->input_fd); // the job has it: whether it reads is to be seen
	a->input_fd = -1;
	if (!loop_add_fd(a->loop, a->link.fd, EPOLLIN, on_message, a, err) ||
		loop_run(a->loop, err) < 0)
		return -1;
	if (a->started && o->detach && !a->result->ended)
		return 0;
	echo_finish(&a->echo);
	if (!a->result->ended)
		return lost(a, err);
	// Its last descriptors of the store and the run directory go with it.
	struct error ignored;
	int status;
	process_wait(&a->link.process, &status, &ignored);
	if (a->error.kind == ERROR_NONE)
		return 0;
	*err = a->error;
	return -1;
}

int attach_run(const struct attach *o, struct attach_result *result, struct error *err)
{
	struct attached a = {.options = o, .link.fd = -1, .input_fd = -1, .result = result};
	*result = (struct attach_result){.exit_status = 1};
	a.loop = loop_new(err);
	int rc = a.loop ? add_signals(&a, err) : -1;
	if (rc == 0)
		rc = follow(&a, err);
	echo_release(&a.echo);
	relay_stop(&a.input);
	close_fdp(&a.input_fd);
	loop_free(a.loop);
	supervise_link_release(&a.link);
	return rc;
}
