// SPDX-License-Identifier: Apache-2.0
//
// Lets test_cgroup.py call oci/runtime/cgroup.h, one verb a run, and plays the jobs that have to be
// kept within their limits. Failures go to stderr with status 1; warnings to stdout, each behind
// "warning: ".
#include "base/file.h"
#include "base/process.h"
#include "base/text.h"
#include "base/time.h"
#include "oci/runtime/cgroup_internal.h"

#include <inttypes.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static int fail(const struct error *err)
{
	fprintf(stderr, "%s: %s\n", error_kind_name(err->kind), err->text);
	return 1;
}

static void tell(const struct buffer *warnings)
{
	const char *p = warnings->size ? warnings->data : "";
	while (*p) {
		size_t n = strcspn(p, "\n");
		printf("warning: %.*s\n", (int)n, p);
		p += n + (p[n] == '\n');
	}
}

static int64_t number(const char *s)
{
	int64_t n = 0;
	if (streq(s, "max"))
		return RUNTIME_UNLIMITED;
	if (!parse_i64(s, &n)) {
		fprintf(stderr, "%s: no number\n", s);
		exit(2);
	}
	return n;
}

// "c:1:7:rw"; "*" for any number.
static void add_rule(
	struct arena *a, struct runtime_device_rules *rules, bool allow, const char *text)
{
	char *rest = arena_strdup(a, text);
	const char *type = strsep(&rest, ":"), *major = strsep(&rest, ":");
	const char *minor = strsep(&rest, ":"), *access = rest;
	struct runtime_device_rule *more =
		arena_array(a, struct runtime_device_rule, rules->count + 1);
	for (size_t i = 0; i < rules->count; i++)
		more[i] = rules->items[i];
	more[rules->count++] = (struct runtime_device_rule){
		.allow = allow,
		.type = type[0],
		.major = streq(major, "*") ? -1 : number(major),
		.minor = streq(minor, "*") ? -1 : number(minor),
		.read = strchr(access, 'r'),
		.write = strchr(access, 'w'),
		.mknod = strchr(access, 'm'),
	};
	rules->items = more;
}

static void set_resource(
	struct arena *a, struct runtime_resources *r, const char *name, const char *value)
{
	if (streq(name, "memory"))
		r->memory_limit = number(value);
	else if (streq(name, "swap"))
		r->memory_swap = number(value);
	else if (streq(name, "reservation"))
		r->memory_reservation = number(value);
	else if (streq(name, "shares"))
		r->cpu_shares = (uint64_t)number(value);
	else if (streq(name, "quota"))
		r->cpu_quota = number(value);
	else if (streq(name, "period"))
		r->cpu_period = (uint64_t)number(value);
	else if (streq(name, "cpus"))
		r->cpus = value;
	else if (streq(name, "pids"))
		r->pids_limit = number(value);
	else if (streq(name, "huge")) { // "2MB:BYTES"
		char *size = arena_strdup(a, value), *bytes = strchr(size, ':');
		*bytes = '\0';
		r->hugepages = arena_new(a, struct runtime_hugepage_limit);
		*r->hugepages = (struct runtime_hugepage_limit){size, (uint64_t)number(bytes + 1)};
		r->hugepage_count = 1;
	} else if (streq(name, "devices"))
		cgroup_default_devices(a, &r->devices);
	else if (streq(name, "allow") || streq(name, "deny"))
		add_rule(a, &r->devices, streq(name, "allow"), value);
	else
		exit(2);
}

static void parse_resources(struct arena *a, char **args, struct runtime_resources *r)
{
	for (; *args; args++) {
		char *value = strchr(*args, '=');
		if (!value)
			exit(2);
		*value = '\0';
		set_resource(a, r, *args, value + 1);
	}
}

// mode: which it is, the controllers that can limit, and where each file of PATH would be.
static int verb_mode(char **args)
{
	static const char *const names[] = {"none", "v1", "hybrid", "v2"};
	const struct cgroup_machine *m = cgroup_machine();
	(void)args;
	printf("mode=%s\n", names[m->mode]);
	for (size_t i = 0; i < m->count; i++) {
		const struct cgroup_hierarchy *h = &m->items[i];
		if (h->v2)
			printf("unified=%s\n", h->mount);
		for (unsigned c = 0; c < CONTROLLERS; c++)
			if (h->controllers & 1U << c)
				printf("%s=%s\n",
					cgroup_controller_name((enum cgroup_controller)c, h->v2),
					h->mount);
	}
	return 0;
}

static int verb_create(char **args)
{
	cleanup_arena struct arena a = {0};
	cleanup_buffer struct buffer warnings = {0};
	struct runtime_resources r = {0};
	struct error err = {0};
	parse_resources(&a, args + 1, &r);
	cleanup_cgroup struct cgroup *g = cgroup_create(args[0], &r, &warnings, &err);
	tell(&warnings);
	return g ? 0 : fail(&err);
}

static int verb_update(char **args)
{
	cleanup_arena struct arena a = {0};
	cleanup_buffer struct buffer warnings = {0};
	struct runtime_resources r = {0};
	struct error err = {0};
	parse_resources(&a, args + 1, &r);
	cleanup_cgroup struct cgroup *g = cgroup_open(args[0], &err);
	if (!g || cgroup_update(g, &r, &warnings, &err) < 0)
		return fail(&err);
	tell(&warnings);
	return 0;
}

static pid_t start_in(const struct cgroup *g, bool clone_into)
{
	struct clone_args c = {.exit_signal = SIGCHLD};
	if (clone_into && cgroup_clone_fd(g) >= 0) {
		c.flags = CLONE_INTO_CGROUP;
		c.cgroup = (uint64_t)cgroup_clone_fd(g);
	}
	return (pid_t)syscall(SYS_clone3, &c, sizeof(c));
}

// run PATH clone|join|userns COMMAND…: prints how it ended.
static int verb_run(char **args)
{
	struct error err = {0};
	cleanup_cgroup struct cgroup *g = cgroup_open(args[0], &err);
	if (!g)
		return fail(&err);
	pid_t pid = start_in(g, streq(args[1], "clone"));
	if (pid < 0)
		return error_set_errno(&err, errno, "clone3"), fail(&err);
	if (pid == 0) {
		if (streq(args[1], "userns") && unshare(CLONE_NEWUSER) < 0)
			_exit(126);
		if (cgroup_join(g, &err) < 0)
			_exit(fail(&err) + 124);
		execvp(args[2], args + 2);
		_exit(127);
	}
	int status;
	char text[64];
	waitpid(pid, &status, 0);
	printf("%s\n", process_describe_status(status, text));
	return 0;
}

static int verb_attach(char **args)
{
	struct error err = {0};
	cleanup_cgroup struct cgroup *g = cgroup_open(args[0], &err);
	if (!g || cgroup_attach(g, (pid_t)number(args[1]), &err) < 0)
		return fail(&err);
	return 0;
}

static int verb_stats(char **args)
{
	struct error err = {0};
	struct cgroup_stats s;
	cleanup_cgroup struct cgroup *g = cgroup_open(args[0], &err);
	if (!g || cgroup_stats(g, &s, &err) < 0)
		return fail(&err);
	printf("has_cpu=%d\nhas_memory=%d\nhas_memory_peak=%d\nhas_io=%d\nhas_pids=%d\n", s.has_cpu,
		s.has_memory, s.has_memory_peak, s.has_io, s.has_pids);
	printf("cpu_usec=%" PRIu64 "\ncpu_user_usec=%" PRIu64 "\ncpu_system_usec=%" PRIu64
	       "\nthrottled_usec=%" PRIu64 "\n",
		s.cpu_usec, s.cpu_user_usec, s.cpu_system_usec, s.throttled_usec);
	printf("memory_bytes=%" PRIu64 "\nmemory_peak_bytes=%" PRIu64 "\noom_kills=%" PRIu64 "\n",
		s.memory_bytes, s.memory_peak_bytes, s.oom_kills);
	printf("read_bytes=%" PRIu64 "\nwrite_bytes=%" PRIu64 "\nread_operations=%" PRIu64
	       "\nwrite_operations=%" PRIu64 "\npids=%" PRIu64 "\n",
		s.read_bytes, s.write_bytes, s.read_operations, s.write_operations, s.pids);
	return 0;
}

static int verb_processes(char **args)
{
	cleanup_arena struct arena a = {0};
	struct error err = {0};
	pid_t *pids;
	size_t count;
	cleanup_cgroup struct cgroup *g = cgroup_open(args[0], &err);
	if (!g || cgroup_processes(g, &a, &pids, &count, &err) < 0)
		return fail(&err);
	for (size_t i = 0; i < count; i++)
		printf("%d\n", (int)pids[i]);
	return 0;
}

static int verb_freeze(char **args)
{
	struct error err = {0};
	cleanup_cgroup struct cgroup *g = cgroup_open(args[0], &err);
	if (!g || cgroup_freeze(g, streq(args[1], "1"), &err) < 0)
		return fail(&err);
	return 0;
}

static int verb_destroy(char **args)
{
	struct error err = {0};
	cleanup_cgroup struct cgroup *g = cgroup_open(args[0], &err);
	if (!g || cgroup_destroy(g, (int)number(args[1]), &err) < 0)
		return fail(&err);
	return 0;
}

static int verb_protect(char **args)
{
	cleanup_buffer struct buffer warnings = {0}, text = {0};
	struct error err = {0};
	cgroup_protect_self(args[0], (uint64_t)number(args[1]), &warnings);
	tell(&warnings);
	if (file_read(AT_FDCWD, "/proc/self/cgroup", 65536, &text, &err) < 0 ||
		file_read(AT_FDCWD, "/proc/self/oom_score_adj", 64, &text, &err) < 0)
		return fail(&err);
	printf("%s", text.data);
	return 0;
}

static double now_us(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

static double median(double *v, size_t n)
{
	qsort(v, n, sizeof(*v), compare);
	return v[n / 2];
}

enum { ROUNDS = 100 };

// One round: make, start a process in it, end it, remove. How long each took, in microseconds.
static int one_round(const char *path, const struct runtime_resources *r, bool clone_into,
	double took[4], struct error *err)
{
	cleanup_buffer struct buffer warnings = {0};
	double at = now_us();
	cleanup_cgroup struct cgroup *g = cgroup_create(path, r, &warnings, err);
	if (!g)
		return -1;
	took[0] = now_us() - at;
	int ends[2];
	if (pipe2(ends, O_CLOEXEC) < 0)
		return error_set_errno(err, errno, "pipe2");
	pid_t pid = start_in(g, clone_into);
	if (pid == 0) {
		double start = now_us();
		if (cgroup_join(g, err) < 0)
			_exit(1);
		start = now_us() - start;
		_exit(write(ends[1], &start, sizeof(start)) == sizeof(start) ? 0 : 1);
	}
	close(ends[1]);
	if (read(ends[0], &took[1], sizeof(took[1])) != sizeof(took[1]))
		return error_set(err, ERROR_SYSTEM, "no word from the child");
	close(ends[0]);
	waitpid(pid, NULL, 0);
	struct cgroup_stats s;
	at = now_us();
	if (cgroup_stats(g, &s, err) < 0)
		return -1;
	took[2] = now_us() - at;
	at = now_us();
	if (cgroup_destroy(g, 1000, err) < 0)
		return -1;
	took[3] = now_us() - at;
	return 0;
}

// bench PATH RESOURCE=VALUE…: medians of a hundred rounds.
static int verb_bench(char **args)
{
	static const char *const names[] = {"create", "join", "stats", "destroy"};
	cleanup_arena struct arena a = {0};
	struct runtime_resources r = {0};
	struct error err = {0};
	parse_resources(&a, args + 1, &r);
	for (int clone_into = 0; clone_into < 2; clone_into++) {
		static double all[array_size(names)][ROUNDS];
		for (size_t i = 0; i < ROUNDS; i++) {
			double took[array_size(names)];
			if (one_round(args[0], &r, clone_into, took, &err) < 0)
				return fail(&err);
			for (size_t k = 0; k < array_size(names); k++)
				all[k][i] = took[k];
		}
		printf("%s:", clone_into ? "clone" : "fork ");
		for (size_t k = 0; k < array_size(names); k++) {
			double middle = median(all[k], ROUNDS);
			printf(" %s %.0f us (at most %.0f)", names[k], middle, all[k][ROUNDS - 1]);
		}
		printf("\n");
	}
	return 0;
}

// evade PATH TIMEOUT RESOURCE=VALUE…: processes that fork and end without a pause, so that a list
// of them is old before it is read; then the end of the group, in milliseconds.
static int verb_evade(char **args)
{
	enum { RUNNERS = 6, HEAD_START_MS = 150 };
	cleanup_arena struct arena a = {0};
	cleanup_buffer struct buffer warnings = {0};
	struct runtime_resources r = {0};
	struct error err = {0};
	parse_resources(&a, args + 2, &r);
	// Orphans come to us and are not waited for.
	signal(SIGCHLD, SIG_IGN);
	prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
	cleanup_cgroup struct cgroup *g = cgroup_create(args[0], &r, &warnings, &err);
	if (!g)
		return fail(&err);
	for (int i = 0; i < RUNNERS; i++)
		if (fork() == 0) {
			if (cgroup_join(g, &err) < 0)
				_exit(1);
			for (;;)
				if (fork() > 0)
					_exit(0);
		}
	nanosleep(&(struct timespec){.tv_nsec = HEAD_START_MS * 1000000L}, NULL);
	pid_t *pids;
	size_t count;
	if (cgroup_processes(g, &a, &pids, &count, &err) < 0)
		return fail(&err);
	printf("running=%zu\n", count);
	int64_t start = now_ms();
	if (cgroup_destroy(g, (int)number(args[1]), &err) < 0)
		return fail(&err);
	printf("took=%" PRId64 "\n", now_ms() - start);
	return 0;
}

// The jobs: `spin MS`, `eat BYTES`, `fork N`, `daemon FILE`, `open FILE r|w|rw`.
// Whoever reads our output must not wait for what we leave behind.
static void let_go_of_output(void)
{
	cleanup_fd int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	dup2(null, STDOUT_FILENO);
	dup2(null, STDERR_FILENO);
}

static int job_fork(int wanted)
{
	int got = 0;
	for (int i = 0; i < wanted; i++) {
		pid_t pid = fork();
		if (pid == 0) {
			let_go_of_output();
			pause();
			_exit(0);
		}
		got += pid > 0;
	}
	printf("forked=%d\n", got);
	fflush(stdout);
	return got == wanted ? 0 : 3;
}

static int job_daemon(const char *file)
{
	if (fork() > 0)
		_exit(0);
	setsid();
	if (fork() > 0)
		_exit(0);
	signal(SIGTERM, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	let_go_of_output();
	int fd = open(file, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
	dprintf(fd, "%d\n", (int)getpid());
	for (;;)
		pause();
}

static int play(char **args)
{
	struct error err = {0};
	if (streq(args[0], "spin")) {
		for (int64_t end = now_ms() + number(args[1]); now_ms() < end;)
			;
		return 0;
	}
	if (streq(args[0], "eat")) {
		size_t size = (size_t)number(args[1]);
		// Not malloc(): a sanitizer would have its own view of it.
		void *p = mmap(NULL, size, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
		return p == MAP_FAILED ? 1 : 0;
	}
	if (streq(args[0], "fork"))
		return job_fork((int)number(args[1]));
	if (streq(args[0], "daemon"))
		return job_daemon(args[1]);
	if (streq(args[0], "open")) {
		bool r = strchr(args[2], 'r'), w = strchr(args[2], 'w');
		int flags = r && w ? O_RDWR : w ? O_WRONLY : O_RDONLY;
		cleanup_fd int fd = open(args[1], flags | O_CLOEXEC);
		if (fd < 0)
			return error_set_errno(&err, errno, "open %s", args[1]), fail(&err);
		return 0;
	}
	return 2;
}

// Without a sanitizer's look back at the end, which needs a process more than the job may have.
static int verb_job(char **args)
{
	int status = play(args);
	fflush(stdout);
	_exit(status);
}

static const struct {
	const char *name;
	int (*function)(char **args);
	int least; // arguments
} verbs[] = {
	{"mode", verb_mode, 0},
	{"create", verb_create, 1},
	{"update", verb_update, 1},
	{"run", verb_run, 3},
	{"attach", verb_attach, 2},
	{"stats", verb_stats, 1},
	{"processes", verb_processes, 1},
	{"freeze", verb_freeze, 2},
	{"destroy", verb_destroy, 2},
	{"protect", verb_protect, 2},
	{"bench", verb_bench, 1},
	{"evade", verb_evade, 2},
	{"job", verb_job, 2},
};

int main(int argc, char **argv)
{
	for (size_t i = 0; argc > 1 && i < array_size(verbs); i++)
		if (streq(argv[1], verbs[i].name) && argc - 2 >= verbs[i].least)
			return verbs[i].function(argv + 2);
	fprintf(stderr, "cgroup_driver VERB …: see the source\n");
	return 2;
}
