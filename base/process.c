// SPDX-License-Identifier: Apache-2.0
#include "base/process.h"

#include "base/file.h"
#include "base/memory.h"
#include "base/weaken.h"

#include <assert.h>
#include <dirent.h>
#include <limits.h>
#include <linux/close_range.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { FDS_MOST = 64, STACK_SIZE = 64 * 1024 };

// What the child needs, made ready by the parent, and what it reports back. Between clone and exec
// the child runs in the parent's memory (CLONE_VM) while the calling thread stands still
// (CLONE_VFORK): nothing is copied, however large the agent is, and a failure is simply left in
// here. In return the child may only make system calls: other threads may hold malloc's lock or any
// other.
struct launch {
	const struct process_options *o;
	const char *file;
	int self_fd; // in place of `file`; -1
	char **envp;
	pid_t parent;
	int first_free; // above every descriptor number the child wants
	int copies[FDS_MOST + 1];
	const char *failed; // the step that failed, NULL if none
	int sys;
};

enum { SELF_SEALS = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE };

#ifndef MFD_EXEC
#define MFD_EXEC 0x0010U // Linux 6.3; needed where sysctl vm.memfd_noexec is set
#endif

static int copy_program(int from, int to)
{
	off_t at = 0;
	struct stat st;
	if (fstat(from, &st) < 0)
		return -1;
	while (at < st.st_size)
		if (sendfile(to, from, &at, (size_t)(st.st_size - at)) <= 0)
			return -1;
	return fcntl(to, F_ADD_SEALS, SELF_SEALS);
}

// This program itself, as a copy in memory that nobody can write to: a helper may become a process
// of a container, or start one, and from in there /proc/PID/exe leads to the file it runs from
// (CVE-2019-5736). What runs from such a copy already is it. Returns a descriptor that stays open
// for the next helper; the kernel's link also holds when the file was replaced by an upgrade.
static int sealed_self(struct error *err)
{
	static int sealed = -1;
	if (sealed >= 0)
		return sealed;
	cleanup_fd int own = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	if (own < 0)
		return error_set_errno(err, errno, "open /proc/self/exe");
	int seals = fcntl(own, F_GET_SEALS);
	if ((seals >= 0 && (seals & SELF_SEALS) == SELF_SEALS) || weakened("sealed-copy"))
		return sealed = steal_fd(&own);
	cleanup_fd int copy = memfd_create("stoker", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_EXEC);
	if (copy < 0 && errno == EINVAL)
		copy = memfd_create("stoker", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (copy < 0 || copy_program(own, copy) < 0)
		return error_set_errno(err, errno, "copy this program into memory");
	return sealed = steal_fd(&copy);
}

int process_become_sealed(char *const *argv, struct error *err)
{
	struct stat own, sealed;
	int fd = sealed_self(err);
	if (fd < 0)
		return -1;
	if (stat("/proc/self/exe", &own) < 0 || fstat(fd, &sealed) < 0)
		return error_set_errno(err, errno, "look at /proc/self/exe");
	if (own.st_dev == sealed.st_dev && own.st_ino == sealed.st_ino)
		return 0;
	syscall(SYS_execveat, fd, "", argv, environ, AT_EMPTY_PATH);
	return error_set_errno(err, errno, "start the copy of this program");
}

static bool is_file(const char *path)
{
	struct stat st;
	return stat(path, &st) == 0 && S_ISREG(st.st_mode);
}

// Find a program in PATH. Empty and relative elements, which would run what lies in the current
// folder, are passed over.
static char *search_path(const char *name, struct error *err)
{
	const char *path = getenv("PATH");
	bool forbidden = false;
	if (!path)
		path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
	while (*path) {
		size_t n = strcspn(path, ":");
		cleanup_free char *found = xasprintf("%.*s/%s", (int)n, path, name);
		if (*path == '/' && is_file(found)) {
			if (access(found, X_OK) == 0)
				return steal(found);
			forbidden = true;
		}
		path += n + (path[n] == ':');
	}
	if (forbidden)
		error_set(err, ERROR_DENIED, "program %s in PATH may not be executed", name);
	else
		error_set(err, ERROR_NOT_FOUND, "program %s is not in PATH", name);
	return NULL;
}

static int failed(struct launch *l, const char *step)
{
	l->failed = step;
	l->sys = errno;
	return -1;
}

static void child_reset_signals(void)
{
	const struct sigaction plain = {.sa_handler = SIG_DFL};
	for (int i = 1; i < NSIG; i++)
		sigaction(
			i, &plain, NULL); // refused for SIGKILL, SIGSTOP and two of the C library's
	sigset_t none;
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

// For kernels without CLOSE_RANGE_CLOEXEC (before 5.11): the same by /proc, or number by number.
static void child_mark_one_by_one(void)
{
	char entries[4096];
	int folder = open("/proc/self/fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	long n = -1;
	while (folder >= 0 && (n = syscall(SYS_getdents64, folder, entries, sizeof(entries))) > 0)
		for (long at = 0; at < n;) {
			const struct dirent64 *e = (const void *)(entries + at);
			int fd = 0;
			for (const char *p = e->d_name; *p >= '0' && *p <= '9'; p++)
				fd = fd * 10 + (*p - '0');
			if (fd > 2)
				fcntl(fd, F_SETFD, FD_CLOEXEC);
			at += e->d_reclen;
		}
	if (n == 0)
		return;
	struct rlimit most = {.rlim_cur = 65536};
	getrlimit(RLIMIT_NOFILE, &most);
	for (rlim_t fd = 3; fd < most.rlim_cur && fd < 1 << 20; fd++)
		fcntl((int)fd, F_SETFD, FD_CLOEXEC);
}

// First everything that is wanted is copied above all wanted numbers, then everything that is open
// is marked to close at exec, then the copies go to their places, which clears the mark there. So
// no number can be overwritten before it has been read, whatever the mapping.
static int child_place_fds(struct launch *l)
{
	const struct process_options *o = l->o;
	int standard[3] = {-1, -1, -1};
	for (size_t i = 0; i < o->fd_count; i++) {
		l->copies[i] = fcntl(o->fds[i].parent, F_DUPFD_CLOEXEC, l->first_free);
		if (l->copies[i] < 0)
			return failed(l, "copy a descriptor for");
		if (o->fds[i].child < 3)
			standard[o->fds[i].child] = l->copies[i];
	}
	if (o->keep_stderr && standard[2] < 0)
		standard[2] = fcntl(2, F_DUPFD_CLOEXEC, l->first_free);
	if (l->self_fd >= 0)
		l->self_fd = fcntl(l->self_fd, F_DUPFD_CLOEXEC, l->first_free);
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	int null_copy = null < 0 ? -1 : fcntl(null, F_DUPFD_CLOEXEC, l->first_free);
	if (null_copy < 0)
		return failed(l, "open /dev/null for");
	if (syscall(SYS_close_range, 3U, ~0U, CLOSE_RANGE_CLOEXEC) < 0)
		child_mark_one_by_one();
	for (int i = 0; i < 3; i++)
		if (dup2(standard[i] < 0 ? null_copy : standard[i], i) < 0)
			return failed(l, "place a descriptor for");
	for (size_t i = 0; i < o->fd_count; i++)
		if (o->fds[i].child > 2 && dup2(l->copies[i], o->fds[i].child) < 0)
			return failed(l, "place a descriptor for");
	return 0;
}

// Runs on its own stack. Without the sanitizers: they would keep marks for a stack that is never
// left.
static int __attribute__((no_sanitize("address", "undefined"))) child_main(void *data)
{
	struct launch *l = data;
	child_reset_signals();
	if (l->o->die_with_parent) {
		if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0) {
			failed(l, "tie the life of");
			_exit(127);
		}
		// Dead already? 0: it lives outside of our PID namespace.
		pid_t parent = getppid();
		if (parent != l->parent && parent != 0)
			_exit(127);
	}
	if (l->o->new_session)
		setsid();
	if (child_place_fds(l) < 0)
		_exit(127);
	if (l->self_fd >= 0)
		syscall(SYS_execveat, l->self_fd, "", l->o->argv, l->envp, AT_EMPTY_PATH);
	else
		execve(l->file, (char *const *)l->o->argv, l->envp);
	failed(l, "start");
	_exit(127);
}

static int clone_child(struct launch *l, struct process *p, struct error *err)
{
	void *stack = mmap(NULL, STACK_SIZE, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
	if (stack == MAP_FAILED)
		return error_set_errno(err, errno, "mmap of a stack");
	// No handler of ours may run in the child, in our memory; it unblocks once they are reset.
	sigset_t all, before;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	int pidfd = -1;
	pid_t pid = clone(child_main, (char *)stack + STACK_SIZE,
		CLONE_VM | CLONE_VFORK | CLONE_PIDFD | SIGCHLD, l, &pidfd);
	int sys = errno;
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	munmap(stack, STACK_SIZE);
	if (pid < 0)
		return error_set_errno(err, sys, "clone for %s", l->file);
	*p = (struct process){.pid = pid, .pidfd = pidfd};
	return 0;
}

static int first_free_number(const struct process_options *o)
{
	int first = 3;
	for (size_t i = 0; i < o->fd_count; i++) {
		assert(o->fds[i].child >= 0 && o->fds[i].child < INT_MAX);
		if (o->fds[i].child >= first)
			first = o->fds[i].child + 1;
	}
	return first;
}

int process_start(const struct process_options *o, struct process *p, struct error *err)
{
	cleanup_free char *found = NULL;
	assert(o->fd_count <= FDS_MOST && o->argv && o->argv[0]);
	struct launch l = {.o = o,
		.file = o->file ? o->file : o->argv[0],
		.self_fd = -1,
		.envp = o->envp ? (char **)o->envp : environ,
		.parent = getpid(),
		.first_free = first_free_number(o)};
	if (!o->file && (l.self_fd = sealed_self(err)) < 0)
		return -1;
	if (o->file && !strchr(l.file, '/')) {
		found = search_path(l.file, err);
		if (!found)
			return -1;
		l.file = found;
	}
	struct process started = {.pidfd = -1};
	if (clone_child(&l, &started, err) < 0)
		return -1;
	if (l.failed) {
		process_release(&started);
		return error_set_errno(err, l.sys, "%s %s", l.failed, l.file);
	}
	if (started.pidfd < 0) {
		process_release(&started);
		return error_set(err, ERROR_SYSTEM,
			"start %s: this kernel has no pidfd; Linux 5.3 or newer is needed", l.file);
	}
	*p = started;
	return 0;
}

static void forget(struct process *p)
{
	close_fdp(&p->pidfd);
	*p = (struct process){.pid = 0, .pidfd = -1};
}

int process_wait(struct process *p, int *status, struct error *err)
{
	assert(p->pid > 0);
	pid_t pid = p->pid;
	int result;
	while ((result = waitpid(pid, status, 0)) < 0 && errno == EINTR)
		;
	forget(p); // after a failure too: somebody else reaped it, and the number may be another's
	return result < 0 ? error_set_errno(err, errno, "wait for process %d", (int)pid) : 0;
}

void process_release(struct process *p)
{
	int saved = errno;
	if (p->pid > 0) { // a zeroed structure holds no child, and its descriptor is not ours
		if (p->pidfd >= 0)
			syscall(SYS_pidfd_send_signal, p->pidfd, SIGKILL, NULL, 0);
		else
			kill(p->pid, SIGKILL);
		while (waitpid(p->pid, NULL, 0) < 0 && errno == EINTR)
			;
		forget(p);
	}
	errno = saved;
}

const char *process_describe_status(int status, char text[64])
{
	if (WIFEXITED(status)) {
		snprintf(text, 64, "exited with status %d", WEXITSTATUS(status));
	} else if (WIFSIGNALED(status)) {
		const char *name = sigdescr_np(WTERMSIG(status));
		snprintf(text, 64, "was killed by signal %d (%s)", WTERMSIG(status),
			name ? name : "unknown");
	} else {
		snprintf(text, 64, "ended with wait status 0x%x", (unsigned)status);
	}
	return text;
}

void process_end_signals(sigset_t *set)
{
	struct sigaction hangup;
	sigemptyset(set);
	sigaddset(set, SIGINT);
	sigaddset(set, SIGTERM);
	if (sigaction(SIGHUP, NULL, &hangup) < 0 || hangup.sa_handler != SIG_IGN)
		sigaddset(set, SIGHUP);
}
