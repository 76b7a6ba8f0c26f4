// SPDX-License-Identifier: Apache-2.0
//
// What a supervisor is asked over its control socket: protocol.h.
#include "agent/job/run_document.h"
#include "agent/supervise/exec_session.h"
#include "agent/supervise/supervisor_internal.h"
#include "base/text.h"

#include <signal.h>
#include <unistd.h>

enum { GRACE_MS_MAX = 7 * 24 * 3600 * 1000 };

static enum cause_stop stop_by(const struct json *request, enum cause_stop absent)
{
	const char *by = json_get_string(request, "by");
	return by && streq(by, "signal") ? STOP_SIGNAL : absent;
}

static bool is_signal(int64_t signo)
{
	return signo >= 1 && signo <= SIGRTMAX;
}

// The state is for people who look; a run.json that cannot be written now is written at the end.
void supervisor_cancel(struct supervisor *s, enum cause_stop stop, int signo, int64_t grace_ms)
{
	struct error ignored;
	bool first = s->ending.stop == STOP_NONE;
	if (grace_ms == 0)
		ending_kill(&s->ending, stop, NULL);
	else
		ending_ask(&s->ending, stop, signo, grace_ms, NULL);
	if (s->waiting)
		loop_quit(s->loop, 0);
	// Of a script that has ended the end is known.
	if (first && s->run->state != RUN_FINALIZING)
		run_enter(s->run, RUN_CANCEL_REQUESTED, NULL, &ignored);
}

static void answer_status(
	struct supervisor *s, struct control_peer *peer, const struct json *request)
{
	(void)request;
	struct journal_counts counts = output_counts(&s->output);
	cleanup_json_writer struct json_writer *w = json_writer_new(false);
	json_write_open_object(w);
	json_write_member_bool(w, "ok", true);
	json_write_member(w, "run", s->run->id);
	json_write_member(w, "state", run_state_name(s->run->state));
	json_write_member_int(w, "pid", getpid());
	json_write_member_int(w, "container", s->run->supervisor.container);
	json_write_member_int(w, "log_bytes", (int64_t)counts.size);
	json_write_member_int(w, "log_dropped", (int64_t)counts.dropped);
	json_write_close_object(w);
	control_send(peer, w);
}

static void answer_stats(
	struct supervisor *s, struct control_peer *peer, const struct json *request)
{
	struct cgroup_stats stats;
	struct error err;
	(void)request;
	if (!s->sandbox.cgroup)
		error_set(&err, ERROR_NOT_FOUND, "the job has no control group");
	if (!s->sandbox.cgroup || cgroup_stats(s->sandbox.cgroup, &stats, &err) < 0) {
		control_send_error(peer, &err);
		return;
	}
	cleanup_json_writer struct json_writer *w = json_writer_new(false);
	json_write_open_object(w);
	json_write_member_bool(w, "ok", true);
	run_document_write_stats(w, &stats);
	if (s->request.spec.resources.memory)
		json_write_member_int(
			w, "memory_limit_bytes", (int64_t)s->request.spec.resources.memory);
	json_write_member_int(w, "time_ms", now_ms());
	json_write_close_object(w);
	control_send(peer, w);
}

static void answer_signal(
	struct supervisor *s, struct control_peer *peer, const struct json *request)
{
	struct error err;
	int64_t signo = json_get_integer(request, "signal", 0);
	if (!is_signal(signo)) {
		error_set(&err, ERROR_INVALID, "%lld is no signal", (long long)signo);
		control_send_error(peer, &err);
		return;
	}
	container_signal(&s->container, (int)signo);
	control_send_ok(peer);
}

static void answer_stop(struct supervisor *s, struct control_peer *peer, const struct json *request)
{
	int64_t signo = json_get_integer(request, "signal", 0),
		grace_ms = json_get_integer(request, "grace_ms", -1);
	if (grace_ms < 0 || grace_ms > GRACE_MS_MAX)
		grace_ms = (int64_t)s->grace_ms;
	supervisor_cancel(s, stop_by(request, STOP_REQUEST),
		is_signal(signo) ? (int)signo : s->stop_signal, grace_ms);
	control_send_ok(peer);
}

static void answer_kill(struct supervisor *s, struct control_peer *peer, const struct json *request)
{
	supervisor_cancel(s, stop_by(request, STOP_KILL), SIGKILL, 0);
	control_send_ok(peer);
}

static void answer_wait(struct supervisor *s, struct control_peer *peer, const struct json *request)
{
	(void)s, (void)request;
	control_subscribe(peer);
	control_send_ok(peer);
}

void supervisor_answer(
	void *data, struct control_peer *peer, const struct json *request, int fds[CONTROL_FDS_MAX])
{
	static const struct {
		const char *name;
		void (*answer)(struct supervisor *, struct control_peer *, const struct json *);
	} answers[] = {
		{"status", answer_status},
		{"stats", answer_stats},
		{"signal", answer_signal},
		{"stop", answer_stop},
		{"kill", answer_kill},
		{"wait", answer_wait},
		{"exec_signal", exec_session_signal},
	};
	struct error err;
	const char *wanted = json_get_string(request, "do");
	if (wanted && streq(wanted, "exec")) {
		exec_session_start(data, peer, request, fds);
		return;
	}
	for (size_t i = 0; wanted && i < array_size(answers); i++) {
		if (streq(wanted, answers[i].name)) {
			answers[i].answer(data, peer, request);
			return;
		}
	}
	error_set(&err, ERROR_INVALID, "this supervisor does not know the request %s",
		wanted ? wanted : "(none)");
	control_send_error(peer, &err);
}
