// SPDX-License-Identifier: Apache-2.0
#include "agent/supervise/supervisor.h"

#include "agent/job/run_document.h"
#include "agent/job/secrets.h"
#include "agent/job/signal_name.h"
#include "agent/supervise/disk_open.h"
#include "agent/supervise/exec_session.h"
#include "agent/supervise/protocol.h"
#include "agent/supervise/supervisor_internal.h"
#include "base/file.h"
#include "base/message.h"
#include "base/trim.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

enum { REQUEST_BYTES_MAX = 64 * 1024 * 1024 };

// ---- what it is told

static int read_request(struct supervisor *s, struct error *err)
{
	char text[16] = "";
	int fds[4];
	ssize_t n = message_receive(
		SUPERVISE_LINK_FD, text, sizeof(text), fds, array_size(fds), false, err);
	cleanup_fd int request = n > 0 ? fds[0] : -1;
	if (n <= 0 || fds[1] < 0)
		return error_set(err, ERROR_UNAVAILABLE, "no job came");
	s->lock_fd = fds[1];
	for (int i = 0; i < 2 && text[i]; i++)
		*(text[i] == SUPERVISE_HAS_INPUT ? &s->stdin_fd : &s->listen_fd) = fds[2 + i];
	s->link_fd = SUPERVISE_LINK_FD;
	cleanup_buffer struct buffer b = {0};
	if (file_read_fd(request, "the job", REQUEST_BYTES_MAX, &b, err) < 0)
		return -1;
	int rc = supervise_request_unpack(&s->request, b.data ? b.data : "", b.size, err);
	if (b.data)
		explicit_bzero(b.data, b.size);
	return rc;
}

static int lease_layers(struct supervisor *s, struct error *err)
{
	struct supervise_request *r = &s->request;
	if (s->layers.items) // of the attempt before
		return 0;
	s->layers.items = xcalloc(r->layer_count ? r->layer_count : 1, sizeof(*s->layers.items));
	for (size_t i = 0; i < r->layer_count; i++) {
		int found = store_layer_lease(s->store, &r->layers[i].diff_id, r->layers[i].format,
			&s->layers.items[i], err);
		if (found < 0)
			return -1;
		if (!found) // who started us has it leased
			return error_set(
				err, ERROR_SYSTEM, "layer %s has gone", r->layers[i].diff_id.text);
		s->layers.count++;
	}
	return 0;
}

static int open_run(struct supervisor *s, struct error *err)
{
	struct supervise_request *r = &s->request;
	s->store = store_open(r->state_dir, r->run_dir, &r->limits, err);
	if (!s->store)
		return -1;
	s->store->layer_backing = r->backing;
	s->run = &r->run;
	if (run_adopt(s->run, s->store, steal_fd(&s->lock_fd), err) < 0)
		return -1;
	s->run->supervisor.pid = getpid();
	s->run->supervisor.start_time = process_start_time(getpid());
	return 0;
}

// ---- signals

// The node goes down, or somebody means us by hand: the job is asked to end, and so do we then.
static void on_end_signal(void *data, int signo)
{
	struct supervisor *s = data;
	supervisor_cancel(s, STOP_SIGNAL, signo, (int64_t)s->grace_ms);
}

// Orphans of the container that are ours (PR_SET_CHILD_SUBREAPER) are reaped; those whose end
// somebody waits for are left to him.
static void on_child(void *data, int signo)
{
	struct supervisor *s = data;
	siginfo_t info = {0};
	(void)signo;
	while (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid > 0 &&
		info.si_pid != s->container.init.pid &&
		info.si_pid != s->sandbox.network.helper.pid &&
		!exec_session_owns(s, info.si_pid) && !output_owns(&s->output, info.si_pid) &&
		!data_mounts_own(s->inputs, info.si_pid)) {
		waitpid(info.si_pid, NULL, WNOHANG);
		info.si_pid = 0;
	}
}

static int watch_signals(struct supervisor *s, struct error *err)
{
	signal(SIGPIPE, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
	return loop_add_signal(s->loop, SIGTERM, on_end_signal, s, err) &&
			       loop_add_signal(s->loop, SIGINT, on_end_signal, s, err) &&
			       loop_add_signal(s->loop, SIGCHLD, on_child, s, err)
		       ? 0
		       : -1;
}

// ---- the job

static void on_exit_of_container(void *data, uint32_t events)
{
	struct supervisor *s = data;
	(void)events;
	loop_quit(s->loop, 0);
}

static void on_output_failed(void *data)
{
	struct supervisor *s = data;
	ending_kill(&s->ending, STOP_NONE, NULL);
}

static void on_deadline(void *data)
{
	struct supervisor *s = data;
	char detail[64];
	snprintf(detail, sizeof(detail), "more than %llu s (max_run_duration_seconds)",
		(unsigned long long)s->request.spec.max_seconds);
	ending_ask(&s->ending, STOP_DEADLINE, s->stop_signal, (int64_t)s->grace_ms, detail);
}

static void on_disk(void *data, enum cause_stop why, const char *detail, bool urgent)
{
	struct supervisor *s = data;
	if (urgent)
		ending_kill(&s->ending, why, detail);
	else
		ending_ask(&s->ending, why, s->stop_signal, (int64_t)s->grace_ms, detail);
}

static uint64_t unlinked_bytes(void *data)
{
	const struct supervisor *s = data;
	return s->has_sandbox ? disk_open_bytes(s->sandbox.cgroup) : 0;
}

static int watch_disk(struct supervisor *s, struct error *err)
{
	const struct store_limits *limits = &s->request.limits;
	const struct disk_watch_options options = {
		.folder_fd = s->run->fd,
		.limit = s->request.spec.resources.disk,
		.keep_free = limits->keep_free_bytes,
		.keep_free_inodes_percent = limits->keep_free_inodes_percent,
		.over = on_disk,
		.beside = unlinked_bytes,
		.data = s,
	};
	s->disk = disk_watch_new(s->loop, &options, err);
	return s->disk || err->kind == ERROR_NONE ? 0 : -1;
}

static void on_client_gone(void *data)
{
	struct supervisor *s = data;
	if (s->ending.container) // else there is nothing (any more) to end
		supervisor_cancel(s, STOP_KILL, SIGKILL, 0);
}

static int adopt_client(struct supervisor *s, struct error *err)
{
	struct control_peer *client = control_adopt(s->control, steal_fd(&s->link_fd), err);
	if (client && s->request.settings.end_with_client)
		control_on_close(client, on_client_gone, s);
	return client ? 0 : -1;
}

static int prepare(struct supervisor *s, struct error *err)
{
	const char *name = s->request.image.stop_signal;
	int signo = name && *name ? signal_parse(name) : -1;
	s->stop_signal = signo > 0 ? signo : SIGTERM;
	s->grace_ms = s->request.settings.grace_ms;
	s->loop = loop_new(err);
	if (!s->loop || watch_signals(s, err) < 0)
		return -1;
	s->folder_fd = run_folder_make(s->store, s->run->id, err);
	if (s->folder_fd < 0)
		return -1;
	s->control = control_new(s->loop, s->folder_fd, supervisor_answer, s, err);
	return s->control && adopt_client(s, err) == 0 ? 0 : -1;
}

// The pipe's writing end is closed here at once: the reading end has its end when all that has it
// inside is gone.
static int make_pipe(int *read_fd, int *write_fd, struct error *err)
{
	int fds[2];
	if (pipe2(fds, O_CLOEXEC) < 0)
		return error_set_errno(err, errno, "pipe");
	*read_fd = fds[0];
	*write_fd = fds[1];
	if (fcntl(fds[0], F_SETFL, O_NONBLOCK) < 0)
		return error_set_errno(err, errno, "pipe");
	// Fewer, larger steps for scripts that print much; refused over the user's limit, which is
	// fine.
	fcntl(fds[0], F_SETPIPE_SZ, JOURNAL_PIPE_SIZE);
	return 0;
}

static int open_sandbox(struct supervisor *s, struct error *err)
{
	s->job = (struct job){
		.spec = &s->request.spec,
		.run = s->run,
		.store = s->store,
		.image = &s->request.image,
		.layers = &s->layers,
		.stdin_fd = s->stdin_fd,
		.listen_fd = s->listen_fd,
		.listen_port = s->request.listen_port,
	};
	if (s->request.spec.secret_count && s->run->attempt == 1 &&
		job_secrets_mount(s->store, s->run->id, &s->request.spec, err) < 0)
		return -1;
	if (supervisor_inputs_open(s, err) < 0)
		return -1;
	s->job.inputs = s->inputs;
	if (sandbox_open(&s->sandbox, &s->job, &s->request.settings.policy, err) < 0)
		return -1;
	s->has_sandbox = true;
	return 0;
}

// Not before the job runs: it need not wait for that. The log's writer does it, too.
static void protect(void *data)
{
	const struct supervisor *s = data;
	const struct job_policy *policy = &s->request.settings.policy;
	cleanup_free char *group = xasprintf("%s/agent", policy->cgroup);
	cleanup_buffer struct buffer unheard = {0}; // what this node cannot is no matter of the job
	if (geteuid() == 0)
		cgroup_protect_self(group, policy->agent_memory, &unheard);
}

static int start(struct supervisor *s, struct error *err)
{
	cleanup_fd int write_fd = -1;
	const struct output_options output = {
		.dirfd = s->run->fd,
		.spec = &s->request.spec,
		.limit = s->request.settings.log_bytes,
		.keep_free = s->request.settings.log_keep_free,
		.settle = protect,
		.data = s,
	};
	int read_fd = -1;
	if ((!s->loop && prepare(s, err) < 0) || ending_init(&s->ending, s->loop, err) < 0 ||
		lease_layers(s, err) < 0 || open_sandbox(s, err) < 0 ||
		make_pipe(&read_fd, &write_fd, err) < 0 ||
		output_open(&s->output, &output, read_fd, err) < 0)
		return -1;
	s->run->cgroup = s->sandbox.spec.cgroups_path;
	// If we are killed from here on, the sweep knows where to look for what is left.
	if (run_document_write(s->run, err) < 0)
		return -1;
	s->phase = CAUSE_STARTING;
	if (sandbox_start(&s->sandbox, s->stdin_fd, write_fd, &s->container, err) < 0)
		return -1;
	s->phase = CAUSE_RUNNING;
	close_fdp(&s->stdin_fd);
	close_fdp(&s->listen_fd);
	s->stdin_fd = s->listen_fd = -1;
	if (s->run->attempt > s->request.spec.max_retries)
		store_layers_release(&s->layers); // the mounts hold leases of their own
	s->ending.container = &s->container;
	s->ending.stuck = supervisor_inputs_let_go;
	s->ending.data = s;
	s->run->supervisor.container = s->container.init.pid;
	s->run->cgroup = s->sandbox.cgroup ? cgroup_path(s->sandbox.cgroup) : NULL;
	s->run->warnings = s->sandbox.warnings.data;
	return 0;
}

static int watch_network(struct supervisor *s, struct error *err);

static void on_network_end(void *data, uint32_t events)
{
	struct supervisor *s = data;
	struct error ignored; // then nobody looks after it any more
	(void)events;
	loop_remove(s->network_source);
	s->network_source = NULL;
	sandbox_network_ended(&s->sandbox);
	s->run->warnings = s->sandbox.warnings.data; // which may have moved
	watch_network(s, &ignored);
}

// Without its program the job would be cut off for good.
static int watch_network(struct supervisor *s, struct error *err)
{
	int fd = sandbox_network_fd(&s->sandbox);
	if (fd < 0)
		return 0;
	s->network_source = loop_add_fd(s->loop, fd, EPOLLIN, on_network_end, s, err);
	return s->network_source ? 0 : -1;
}

static int watch(struct supervisor *s, struct error *err)
{
	uint64_t seconds = s->request.spec.max_seconds;
	s->output.failed = on_output_failed;
	s->output.data = s;
	if (output_watch(&s->output, s->loop, err) < 0 || watch_network(s, err) < 0 ||
		supervisor_inputs_watch(s, err) < 0 || supervisor_results_open(s, err) < 0)
		return -1;
	s->exit_source = loop_add_fd(
		s->loop, s->container.init.pidfd, EPOLLIN, on_exit_of_container, s, err);
	if (seconds)
		s->deadline = loop_add_timer(s->loop, (int64_t)seconds * 1000, on_deadline, s, err);
	if (!s->exit_source || (seconds && !s->deadline))
		return -1;
	return watch_disk(s, err) < 0 ? -1 : run_enter(s->run, RUN_RUNNING, "running", err);
}

static void announce_start(struct supervisor *s)
{
	cleanup_json_writer struct json_writer *w = json_writer_new(false);
	json_write_open_object(w);
	json_write_member(w, "event", "started");
	json_write_member_int(w, "container", s->run->supervisor.container);
	json_write_close_object(w);
	control_broadcast(s->control, w);
}

// ---- the end

static void conclude(struct supervisor *s, int status)
{
	struct end *end = &s->end;
	const struct ending *e = &s->ending;
	end->exit_status = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
	const struct cgroup_stats *stats = &s->run->stats;
	bool memory = s->run->has_stats && stats->has_memory && stats->oom_kills;
	if (e->stop == STOP_NONE && memory && end->exit_status != 0) {
		end->cause = cause_out_of_memory(
			stats->oom_kills, (uint64_t)s->sandbox.spec.resources.memory_limit, status);
		end->state = RUN_FAILED;
		return;
	}
	if (e->stop == STOP_NONE) {
		end->cause = s->lost.code && end->exit_status != 0
				     ? cause_of_lost_input(&s->lost, status)
				     : cause_of_status(status);
		end->state = end->exit_status == 0 ? RUN_COMPLETED : RUN_FAILED;
		return;
	}
	end->cause = cause_of_stop(e->stop, e->signo, e->detail, status);
	end->state = e->stop <= STOP_KILL ? RUN_CANCELED : RUN_FAILED;
	// A script that was stopped and says that all is well has not done its work.
	if (end->exit_status == 0)
		end->exit_status = 128 + e->signo;
}

static void announce_end(struct supervisor *s, const struct end *end, const struct error *err)
{
	cleanup_json_writer struct json_writer *w = json_writer_new(false);
	json_write_open_object(w);
	json_write_member(w, "event", "ended");
	json_write_member(w, "state", run_state_name(end->state));
	json_write_member(w, "class", cause_class_name(end->cause.class));
	json_write_member(w, "code", end->cause.code);
	json_write_member(w, "message", end->cause.message);
	json_write_member_int(w, "exit_status", end->exit_status);
	if (err->kind != ERROR_NONE) {
		json_write_key(w, "error");
		json_write_open_object(w);
		json_write_member(w, "kind", error_kind_name(err->kind));
		json_write_member(w, "text", err->text);
		json_write_close_object(w);
	}
	json_write_close_object(w);
	if (s->control) // else whoever started us reads it in run.json
		control_broadcast(s->control, w);
}

// The last look at the group, which goes with the sandbox.
static void take_stats(struct supervisor *s)
{
	struct error ignored;
	s->run->has_stats = s->has_sandbox && s->sandbox.cgroup &&
			    cgroup_stats(s->sandbox.cgroup, &s->run->stats, &ignored) == 0;
}

// From here on the record says what the job came to: a supervisor that is killed while it tidies up
// does not take that with it.
static int end_script(struct supervisor *s, int status, struct error *err)
{
	s->ending.container = NULL;
	exec_sessions_end(s);
	if (output_drain(&s->output, err) < 0)
		return -1;
	take_stats(s);
	conclude(s, status);
	s->run->outcome = s->end.state;
	s->run->cause = s->end.cause;
	s->run->exit_status = s->end.exit_status;
	return run_enter(s->run, RUN_FINALIZING, "finalizing", err);
}

static int supervise(struct supervisor *s, struct error *err)
{
	s->phase = CAUSE_PREPARING;
	if (start(s, err) < 0 || watch(s, err) < 0)
		return -1;
	announce_start(s);
	protect(s);
	memory_trim();
	int status;
	if (loop_run(s->loop, err) < 0 || container_wait(&s->container, &status, err) < 0)
		return -1;
	return end_script(s, status, err);
}

// All that belongs to the attempt; mounts go before the record says that it is over.
static void close_attempt(struct supervisor *s, int rc, struct error *err)
{
	struct error second = {0};
	// These first: process 1 ends when all others have been reaped, and they are our children.
	exec_sessions_end(s);
	if (rc < 0)
		s->end = (struct end){RUN_FAILED,
			s->trouble.code ? s->trouble : cause_of_error(s->phase, err), 1};
	loop_remove(s->exit_source);
	loop_remove(s->deadline);
	loop_remove(s->network_source);
	loop_remove(s->ending.grace);
	s->exit_source = s->deadline = s->network_source = s->ending.grace = NULL;
	s->ending.container = NULL;
	container_release(&s->container);
	disk_watch_free(s->disk);
	s->disk = NULL;
	if (!s->run->has_stats)
		take_stats(s);
	s->run->cgroup = NULL;
	if (s->has_sandbox && s->sandbox.warnings.size)
		buffer_puts(&s->warnings, s->sandbox.warnings.data);
	if (s->has_sandbox && sandbox_close(&s->sandbox, &s->warnings, &second) < 0 && rc == 0)
		*err = second;
	s->has_sandbox = false;
	supervisor_inputs_close(s);
	output_close(&s->output);
	// Somebody may have the record written meanwhile, and the text may move.
	s->run->warnings = NULL;
	supervisor_results_finish(s);
	s->run->warnings = s->warnings.data;
}

// The folder of the control socket goes after the record, so that whoever finds a record without an
// end and no folder may take it for a restart.
static void finish(struct supervisor *s, int rc, struct error *err)
{
	struct error second = {0};
	if (run_end(s->run, s->end.state, &s->end.cause, s->end.exit_status, &second) < 0 &&
		rc == 0)
		*err = second;
	run_folder_remove(s->store, s->run->id);
	announce_end(s, &s->end, err);
}

static void release(struct supervisor *s)
{
	control_free(s->control);
	loop_free(s->loop);
	store_layers_release(&s->layers);
	run_release(s->run);
	store_free(s->store);
	close_fdp(&s->folder_fd);
	close_fdp(&s->stdin_fd);
	close_fdp(&s->listen_fd);
	supervise_request_release(&s->request);
	buffer_release(&s->warnings);
}

int supervisor_main(void)
{
	struct supervisor s = {.link_fd = -1,
		.listen_fd = -1,
		.inputs_fd = -1,
		.results.fd = -1,
		.stdin_fd = -1,
		.lock_fd = -1,
		.folder_fd = -1,
		.output = {.news_fd = -1, .writer.pidfd = -1},
		.container = {.sync_fd = -1, .status_fd = -1}};
	struct error err = {0};
	// Before the run is ours there is nobody to tell and nothing to end: who started us sees
	// the connection end, and has the lock of the run too.
	if (read_request(&s, &err) < 0 || open_run(&s, &err) < 0)
		return 1;
	int rc;
	do {
		error_clear(&err);
		rc = supervise(&s, &err);
		close_attempt(&s, rc, &err);
	} while (supervisor_retry(&s));
	finish(&s, rc, &err);
	release(&s);
	return 0;
}
