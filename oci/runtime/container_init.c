// SPDX-License-Identifier: Apache-2.0
#include "base/file.h"
#include "oci/runtime/container_internal.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

// Reap all that is to be reaped. Returns true when the program was among them.
static bool reap(pid_t program, int *status)
{
	bool ended = false;
	int s;
	for (pid_t pid; (pid = waitpid(-1, &s, WNOHANG)) > 0;) {
		if (pid == program) {
			*status = s;
			ended = true;
		}
	}
	return ended;
}

// A terminal sends these to all processes in front; a shell script that waits for its program
// relies on both getting them. The others go to the program alone, as from `docker stop`.
static bool is_keyboard_signal(int signo)
{
	return signo == SIGINT || signo == SIGQUIT || signo == SIGTSTP;
}

void container_init(pid_t program, int status_fd)
{
	struct error err;
	sigset_t all;
	int status;
	sigfillset(&all);
	for (;;) {
		int signo = sigwaitinfo(&all, NULL);
		if (signo == SIGCHLD) {
			if (!reap(program, &status))
				continue;
			write_all(status_fd, &status, sizeof(status), "status", &err);
			// The kernel now kills what is left in this PID namespace.
			_exit(0);
		}
		if (signo > 0)
			kill(is_keyboard_signal(signo) ? -program : program, signo);
	}
}
