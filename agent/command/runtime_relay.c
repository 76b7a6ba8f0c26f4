// SPDX-License-Identifier: Apache-2.0
//
// What stands between the user and a process in a container: signals, and a terminal.
#include "agent/command/runtime.h"

#include "base/file.h"
#include "base/loop.h"
#include "base/message.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

enum { RELAY_STEP = 16 * 1024 };

struct relay {
	struct loop *loop;
	int pidfd, master;
	struct loop_source *input, *output; // NULL: ended
	bool raw;
	struct termios before;
};

int runtime_exit_status(int wait_status)
{
	return WIFSIGNALED(wait_status) ? 128 + WTERMSIG(wait_status) : WEXITSTATUS(wait_status);
}

int runtime_console_socket(const char *name, int *ours, struct error *err)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int pair[2];
	if (!name) {
		if (message_pair(pair, err) < 0)
			return -1;
		*ours = pair[0];
		return pair[1];
	}
	if (strlen(name) >= sizeof(address.sun_path))
		return error_set(err, ERROR_INVALID, "--console-socket: the path is too long");
	memcpy(address.sun_path, name, strlen(name));
	cleanup_fd int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return error_set_errno(err, errno, "socket");
	if (connect(fd, (const struct sockaddr *)&address, sizeof(address)) < 0)
		return error_set_errno(err, errno, "--console-socket: connect to %s", name);
	return steal_fd(&fd);
}

int runtime_receive_terminal(int ours, struct error *err)
{
	char name[64];
	int master;
	ssize_t n = message_receive(ours, name, sizeof(name), &master, 1, false, err);
	if (n < 0)
		return -1;
	if (n == 0 || master < 0)
		return error_set(err, ERROR_SYSTEM, "no terminal came from the container");
	return master;
}

void runtime_terminal_size(struct runtime_process *p)
{
	struct winsize size;
	if (p->rows || ioctl(STDIN_FILENO, TIOCGWINSZ, &size) < 0)
		return;
	p->rows = size.ws_row;
	p->columns = size.ws_col;
}

static void copy_size(const struct relay *r)
{
	struct winsize size;
	if (ioctl(STDIN_FILENO, TIOCGWINSZ, &size) == 0)
		ioctl(r->master, TIOCSWINSZ, &size);
}

static const int forwarded[] = {
	SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGCONT, SIGALRM, SIGWINCH};

void runtime_relay_prepare(struct runtime_process *p)
{
	struct winsize size;
	sigset_t set;
	sigemptyset(&set);
	for (size_t i = 0; i < array_size(forwarded); i++)
		sigaddset(&set, forwarded[i]);
	sigprocmask(SIG_BLOCK, &set, NULL);
	if (p->terminal && !p->rows && ioctl(STDIN_FILENO, TIOCGWINSZ, &size) == 0) {
		p->rows = size.ws_row;
		p->columns = size.ws_col;
	}
}

static void on_signal(void *data, int signo)
{
	const struct relay *r = data;
	if (signo == SIGWINCH && r->master >= 0)
		copy_size(r);
	else
		syscall(SYS_pidfd_send_signal, r->pidfd, signo, NULL, 0);
}

static void stop(struct loop_source **source)
{
	loop_remove(*source);
	*source = NULL;
}

static void on_input(void *data, uint32_t events)
{
	struct relay *r = data;
	char bytes[RELAY_STEP];
	struct error err;
	(void)events;
	ssize_t n = read(STDIN_FILENO, bytes, sizeof(bytes));
	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return;
	if (n <= 0 || write_all(r->master, bytes, (size_t)n, "terminal", &err) < 0)
		stop(&r->input);
}

// Reading the master fails with EIO when the last process has closed its end.
static bool copy_output(const struct relay *r)
{
	char bytes[RELAY_STEP];
	struct error err;
	ssize_t n = read(r->master, bytes, sizeof(bytes));
	if (n < 0 && errno == EINTR)
		return true;
	return n > 0 && write_all(STDOUT_FILENO, bytes, (size_t)n, "standard output", &err) == 0;
}

static void on_output(void *data, uint32_t events)
{
	struct relay *r = data;
	(void)events;
	if (!copy_output(r))
		stop(&r->output);
}

static void on_end(void *data, uint32_t events)
{
	struct relay *r = data;
	(void)events;
	// What it wrote last; somebody else may hold the terminal on.
	if (r->output && fcntl(r->master, F_SETFL, O_NONBLOCK) == 0)
		while (copy_output(r))
			;
	loop_quit(r->loop, 0);
}

static int add_signals(struct relay *r, struct error *err)
{
	for (size_t i = 0; i < array_size(forwarded); i++)
		if (!loop_add_signal(r->loop, forwarded[i], on_signal, r, err))
			return -1;
	return 0;
}

static int connect_terminal(struct relay *r, struct error *err)
{
	struct termios raw;
	r->output = loop_add_fd(r->loop, r->master, EPOLLIN, on_output, r, err);
	if (!r->output)
		return -1;
	// A file as input is always ready, and epoll does not take it; then there is none.
	struct error ignored;
	r->input = loop_add_fd(r->loop, STDIN_FILENO, EPOLLIN, on_input, r, &ignored);
	copy_size(r);
	if (tcgetattr(STDIN_FILENO, &r->before) < 0)
		return 0;
	raw = r->before;
	cfmakeraw(&raw);
	r->raw = tcsetattr(STDIN_FILENO, TCSANOW, &raw) == 0;
	return 0;
}

int runtime_relay(int pidfd, int master, struct error *err)
{
	cleanup_loop struct loop *loop = loop_new(err);
	struct relay r = {.loop = loop, .pidfd = pidfd, .master = master};
	if (!loop || add_signals(&r, err) < 0 ||
		!loop_add_fd(loop, pidfd, EPOLLIN, on_end, &r, err))
		return -1;
	if (master >= 0 && connect_terminal(&r, err) < 0)
		return -1;
	int rc = loop_run(loop, err);
	if (r.raw)
		tcsetattr(STDIN_FILENO, TCSANOW, &r.before);
	return rc;
}
