// SPDX-License-Identifier: Apache-2.0
#include "agent/supervise/exec_session.h"

#include "agent/supervise/protocol.h"
#include "base/file.h"
#include "base/json_decode.h"
#include "base/message.h"
#include "base/text.h"

#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { WORDS_MAX = 4096, SESSIONS_MAX = 64 };

struct exec_session {
	struct supervisor *supervisor;
	struct exec_session *next;
	struct control_peer *peer; // NULL: it has left
	struct process process;
	struct loop_source *source;
};

// What was asked for.
struct wanted {
	struct json_strings args, env;
	const char *user, *cwd; // NULL: the job's
	bool terminal;
	uint64_t rows, columns;
};

static const struct json_field fields[] = {
	{"args", json_decode_strings, offsetof(struct wanted, args), JSON_REQUIRED},
	{"env", json_decode_strings, offsetof(struct wanted, env), JSON_NULLABLE},
	{"user", json_decode_string, offsetof(struct wanted, user), JSON_NULLABLE},
	{"cwd", json_decode_string, offsetof(struct wanted, cwd), JSON_NULLABLE},
	{"terminal", json_decode_bool, offsetof(struct wanted, terminal), JSON_NULLABLE},
	{"rows", json_decode_uint64, offsetof(struct wanted, rows), JSON_NULLABLE},
	{"columns", json_decode_uint64, offsetof(struct wanted, columns), JSON_NULLABLE},
	{0},
};

static void forget(struct exec_session *x)
{
	struct exec_session **p = &x->supervisor->sessions;
	while (*p != x)
		p = &(*p)->next;
	*p = x->next;
	x->supervisor->session_count--;
	if (x->peer)
		control_on_close(x->peer, NULL, NULL);
	loop_remove(x->source);
	process_release(&x->process);
	free(x);
}

static struct exec_session *find(const struct supervisor *s, const struct control_peer *peer)
{
	for (struct exec_session *x = s->sessions; x; x = x->next)
		if (x->peer == peer)
			return x;
	return NULL;
}

// ---- its end

static void tell_end(struct exec_session *x, int status)
{
	cleanup_json_writer struct json_writer *w = json_writer_new(false);
	json_write_open_object(w);
	json_write_member(w, "event", "exec_ended");
	json_write_member_int(w, "exit_status",
		WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status));
	json_write_close_object(w);
	control_send(x->peer, w);
}

static void on_exit_of_process(void *data, uint32_t events)
{
	struct exec_session *x = data;
	struct error ignored;
	int status;
	(void)events;
	loop_remove(x->source); // before its descriptor is closed
	x->source = NULL;
	if (process_wait(&x->process, &status, &ignored) == 0 && x->peer)
		tell_end(x, status);
	forget(x);
}

// As when a terminal is closed.
static void on_close_of_peer(void *data)
{
	struct exec_session *x = data;
	x->peer = NULL;
	syscall(SYS_pidfd_send_signal, x->process.pidfd, SIGHUP, NULL, 0);
}

// ---- its start

// The variables of the job, then those that were asked for.
static struct json_strings merge(
	struct arena *a, const struct json_strings *base, const struct json_strings *more)
{
	struct json_strings all = {
		.items = arena_array(a, const char *, base->count + more->count + 2)};
	for (size_t i = 0; i < base->count; i++)
		all.items[all.count++] = base->items[i];
	for (size_t i = 0; i < more->count; i++) {
		size_t n = strcspn(more->items[i], "=") + 1, k = 0;
		while (k < all.count && strncmp(all.items[k], more->items[i], n) != 0)
			k++;
		all.items[k] = more->items[i];
		all.count += k == all.count;
	}
	return all;
}

static int set_user(pid_t inside, struct arena *a, const char *name, struct runtime_process *p,
	struct error *err)
{
	struct container_user user;
	char path[64];
	snprintf(path, sizeof(path), "/proc/%d/root", (int)inside);
	cleanup_fd int root = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (root < 0)
		return error_set_errno(err, errno, "root of the container");
	if (container_user_lookup(root, name, &user, err) < 0)
		return -1;
	p->uid = user.uid;
	p->gid = user.gid;
	p->group_count = user.group_count;
	p->groups = arena_array(a, gid_t, user.group_count);
	memcpy(p->groups, user.groups, user.group_count * sizeof(gid_t));
	if (user.uid == 0)
		p->capabilities.effective = p->capabilities.permitted = p->capabilities.bounding;
	else
		p->capabilities.effective = p->capabilities.permitted = 0;
	return 0;
}

static int describe(const struct supervisor *s, pid_t inside, struct arena *a,
	const struct json *request, struct wanted *wanted, struct runtime_process *p,
	struct error *err)
{
	struct json_decoder d = {.arena = a, .document = "exec"};
	*wanted = (struct wanted){0};
	*p = s->sandbox.spec.process;
	if (json_decode_object(&d, request, fields, false, wanted, err) < 0)
		return -1;
	if (!wanted->args.count || wanted->args.count > WORDS_MAX || wanted->env.count > WORDS_MAX)
		return error_set(
			err, ERROR_INVALID, "exec: from 1 to %d words are allowed", WORDS_MAX);
	p->args = wanted->args;
	p->env = merge(a, &p->env, &wanted->env);
	if (wanted->terminal)
		p->env = merge(
			a, &p->env, &(struct json_strings){(const char *[]){"TERM=xterm"}, 1});
	if (wanted->cwd)
		p->cwd = wanted->cwd;
	p->terminal = wanted->terminal;
	p->rows = (uint16_t)wanted->rows;
	p->columns = (uint16_t)wanted->columns;
	return wanted->user ? set_user(inside, a, wanted->user, p, err) : 0;
}

static int receive_terminal(int socket, struct error *err)
{
	char name[64];
	int master = -1;
	ssize_t n = message_receive(socket, name, sizeof(name), &master, 1, true, err);
	if (n > 0 && master >= 0)
		return master;
	return error_set(err, ERROR_SYSTEM, "no terminal came from the container");
}

static int start_process(struct supervisor *s, const struct process *inside,
	const struct runtime_process *p, const int fds[3], struct process *process, int *master,
	struct error *err)
{
	int pair[2] = {-1, -1};
	if (p->terminal && message_pair(pair, err) < 0)
		return -1;
	cleanup_fd int ours = pair[0], theirs = pair[1];
	const struct container_exec x = {
		.pidfd = inside->pidfd,
		.pid = inside->pid,
		.process = p,
		.seccomp = &s->sandbox.spec.seccomp,
		.cgroup = s->sandbox.cgroup,
		.stdio = {fds[0], fds[1], fds[2]},
		.console_socket = theirs,
	};
	if (container_exec(&x, process, err) < 0)
		return -1;
	*master = p->terminal ? receive_terminal(ours, err) : -1;
	if (!p->terminal || *master >= 0)
		return 0;
	process_release(process);
	return -1;
}

static int start(struct supervisor *s, struct control_peer *peer, const struct json *request,
	const int fds[3], struct error *err)
{
	cleanup_arena struct arena a = {0};
	struct wanted wanted;
	struct runtime_process p;
	cleanup_process struct process process = {.pidfd = -1};
	cleanup_fd int master = -1, own = -1;
	if (!s->ending.container)
		return error_set(err, ERROR_NOT_FOUND, "the job does not run");
	if (find(s, peer)) // what is told of one process would be taken for the other's
		return error_set(err, ERROR_INVALID, "exec: one process for each connection");
	if (s->session_count >= SESSIONS_MAX)
		return error_set(
			err, ERROR_LIMIT, "%d processes were started already", SESSIONS_MAX);
	struct process inside = {s->container.init.pid, s->container.init.pidfd};
	if (geteuid() != 0) {
		if (container_find_program(&s->container, &inside, err) < 0)
			return -1;
		own = inside.pidfd;
	}
	if (describe(s, inside.pid, &a, request, &wanted, &p, err) < 0 ||
		start_process(s, &inside, &p, fds, &process, &master, err) < 0)
		return -1;
	struct exec_session *x = xcalloc(1, sizeof(*x));
	*x = (struct exec_session){.supervisor = s, .next = s->sessions, .peer = peer};
	x->process = process;
	process = (struct process){.pidfd = -1};
	s->sessions = x;
	s->session_count++;
	control_on_close(peer, on_close_of_peer, x);
	x->source = loop_add_fd(s->loop, x->process.pidfd, EPOLLIN, on_exit_of_process, x, err);
	if (!x->source) {
		forget(x);
		return -1;
	}
	cleanup_json_writer struct json_writer *w = json_writer_new(false);
	json_write_open_object(w);
	json_write_member_bool(w, "ok", true);
	json_write_member_int(w, "pid", x->process.pid);
	json_write_close_object(w);
	control_send_fd(peer, w, master);
	return 0;
}

void exec_session_start(struct supervisor *s, struct control_peer *peer, const struct json *request,
	int fds[CONTROL_FDS_MAX])
{
	struct error err = {0};
	if (start(s, peer, request, fds, &err) < 0)
		control_send_error(peer, &err);
}

void exec_session_signal(
	struct supervisor *s, struct control_peer *peer, const struct json *request)
{
	const struct json *signo = json_get(request, "signal");
	struct exec_session *x = find(s, peer);
	if (x && signo && signo->type == JSON_INTEGER && signo->integer > 0 &&
		signo->integer <= SIGRTMAX)
		syscall(SYS_pidfd_send_signal, x->process.pidfd, (int)signo->integer, NULL, 0);
	control_send_ok(peer);
}

bool exec_session_owns(const struct supervisor *s, pid_t pid)
{
	for (const struct exec_session *x = s->sessions; x; x = x->next)
		if (x->process.pid == pid)
			return true;
	return false;
}

void exec_sessions_end(struct supervisor *s)
{
	for (struct exec_session *x = s->sessions, *next; x; x = next) {
		struct error ignored;
		int status;
		next = x->next;
		loop_remove(x->source);
		x->source = NULL;
		// It is dead with its container, unless we end before that.
		syscall(SYS_pidfd_send_signal, x->process.pidfd, SIGKILL, NULL, 0);
		if (process_wait(&x->process, &status, &ignored) == 0 && x->peer)
			tell_end(x, status);
		forget(x);
	}
}
