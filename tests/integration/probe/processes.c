// SPDX-License-Identifier: Apache-2.0
//
// Other processes, and more of everything than was given.
#include "probe.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

// argv[0]: the number of a process of the node that nothing may happen to.
void probe_signals(int argc, char **argv)
{
	pid_t victim = (pid_t)number(argv[0]);
	(void)argc;
	verdict(kill(victim, SIGKILL), "kill %d", victim);
	verdict((int)syscall(SYS_pidfd_open, victim, 0), "pidfd_open %d", victim);
	verdict(kill(0x3fffffff, 0), "kill a number that nobody has");
	// Process 1 does not take what would end it.
	kill(1, SIGKILL);
	kill(1, SIGSTOP);
	// Everything that we see, but not ourselves and process 1.
	fflush(stdout);
	pid_t child = fork();
	if (child == 0) {
		pause();
		_exit(0);
	}
	errno = 0;
	kill(-1, SIGKILL);
	int status = 0;
	waitpid(child, &status, 0);
	denied("all were killed, our own child by signal %d, and we are here", WTERMSIG(status));
}

static void try_trace(pid_t victim)
{
	char text[16];
	struct iovec here = {text, sizeof(text)}, there = {(void *)0x400000, sizeof(text)};
	verdict(ptrace(PTRACE_ATTACH, victim, NULL, NULL), "attach to %d", victim);
	verdict(ptrace(PTRACE_SEIZE, victim, NULL, NULL), "seize %d", victim);
	ssize_t n = process_vm_readv(victim, &here, 1, &there, 1, 0);
	if (n < 0 && errno == EFAULT) // allowed, but nothing is there
		n = 0;
	verdict(n, "read the memory of %d", victim);
	int fd = (int)syscall(SYS_pidfd_open, victim, 0);
	if (fd < 0)
		return;
	verdict(syscall(SYS_pidfd_getfd, fd, 0, 0), "take a descriptor of %d", victim);
	close(fd);
}

// Process 1, and argv[0], the number of a process of the node.
void probe_trace(int argc, char **argv)
{
	(void)argc;
	try_trace(1);
	try_trace((pid_t)number(argv[0]));
}

// argv[0]: how many processes are more than enough.
void probe_forks(int argc, char **argv)
{
	unsigned long most = number(argv[0]), count = 0;
	int gate[2];
	(void)argc;
	if (pipe(gate) < 0)
		return;
	while (count < most) {
		pid_t pid = fork();
		if (pid < 0)
			break;
		if (pid == 0) {
			// Until the parent ends or closes it.
			char c;
			close(gate[1]);
			_exit(read(gate[0], &c, 1) > 0);
		}
		count++;
	}
	verdict(count < most ? -1 : 0, "fork %lu times", most);
	printf("forked %lu\n", count);
	close(gate[1]);
	while (wait(NULL) > 0)
		;
}

// argv[0]: MiB that are more than enough.
void probe_memory(int argc, char **argv)
{
	enum { MIB = 1024 * 1024 };
	unsigned long most = number(argv[0]);
	(void)argc;
	for (unsigned long i = 0; i < most; i++) {
		char *p =
			mmap(NULL, MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (p == MAP_FAILED) {
			verdict(-1, "use %lu MiB", most);
			return;
		}
		memset(p, (int)i | 1, MIB);
	}
	escaped("%lu MiB were used", most);
}

// argv[0]: a folder; argv[1]: MiB that are more than enough.
void probe_disk(int argc, char **argv)
{
	enum { MIB = 1024 * 1024 };
	unsigned long most = number(argv[1]), count = 0;
	char path[4096];
	(void)argc;
	snprintf(path, sizeof(path), "%s/much", argv[0]);
	int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	static char block[MIB];
	if (fd < 0) {
		verdict(-1, "open %s", path);
		return;
	}
	memset(block, 'x', sizeof(block));
	while (count < most * MIB) {
		ssize_t n = write(fd, block, MIB);
		if (n < 0)
			break;
		count += (unsigned long)n;
	}
	verdict(count < most * MIB ? -1 : 0, "write %lu MiB to %s", most, argv[0]);
	printf("wrote %lu KiB\n", count / 1024);
	close(fd);
	unlink(path);
}
