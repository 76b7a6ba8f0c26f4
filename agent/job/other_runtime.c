// SPDX-License-Identifier: Apache-2.0
#include "agent/job/other_runtime.h"

#include "base/file.h"
#include "base/message.h"
#include "base/text.h"
#include "oci/runtime/mount_words.h"
#include "oci/runtime/user_namespace.h"

#include <linux/openat2.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { RUNTIME_MS = 60 * 1000, OUTPUT_MAX = 64 * 1024, PID_BYTES_MAX = 32 };

// Where things are in the mount namespace of the call: a tmpfs over a folder that others may reach
// (the container's root is nobody on the node). That is the run directory, with the runtime's own
// state in it again, or another one where that is in somebody's private folder.
struct bundle {
	struct sandbox *s;
	struct arena arena;
	struct runtime_spec spec; // as the other runtime gets it
	const char *place;	  // where the tmpfs is, absolute
	bool covers_state;	  // it is the run directory
	const char *folder;	  // <place>/bundle
	const char *state;	  // <run>/runtime: the runtime's --root
	const char *pid_file;	  // below `state`
	int *trees;		  // detached mounts for <folder>/mounts/<n>
	size_t tree_count;
	struct buffer config;
};

static void bundle_release(struct bundle *b)
{
	for (size_t i = 0; i < b->tree_count; i++)
		close_fdp(&b->trees[i]);
	buffer_release(&b->config);
	arena_release(&b->arena);
}

#define cleanup_bundle __attribute__((cleanup(bundle_release)))

// ---- the configuration

static bool is_executable(int root_fd, const char *path)
{
	struct error ignored;
	struct stat st;
	cleanup_fd int fd = file_open_beneath(root_fd, path, O_PATH, 0, RESOLVE_IN_ROOT, &ignored);
	return fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_mode & 0111;
}

// The first of the names that is in a folder of PATH: another runtime tries one only.
static const char *choose_program(struct bundle *b, const char *const *names, const char *path)
{
	for (const char *p = path; *p;) {
		size_t n = strcspn(p, ":");
		for (const char *const *name = names; *p == '/' && *name; name++) {
			const char *file = arena_printf(&b->arena, "%.*s/%s", (int)n, p, *name);
			if (is_executable(b->s->root_fd, file))
				return *name;
		}
		p += n + (p[n] == ':');
	}
	return names[0];
}

static const char *path_of(const struct runtime_process *p)
{
	for (size_t i = 0; i < p->env.count; i++)
		if (starts_with(p->env.items[i], "PATH="))
			return p->env.items[i] + sizeof("PATH=") - 1;
	return container_default_path;
}

static void set_program(struct bundle *b)
{
	struct runtime_process *p = &b->spec.process;
	if (!b->s->options.programs)
		return;
	const char **args = arena_array(&b->arena, const char *, p->args.count + 1);
	memcpy(args, p->args.items, p->args.count * sizeof(*args));
	args[0] = choose_program(b, b->s->options.programs, path_of(p));
	p->args.items = args;
}

// "x-idmap" is our own word: such a mount is made by us, with the ids, and bound from there.
static void set_mounts(struct bundle *b)
{
	const struct sandbox *s = b->s;
	struct runtime_mount *mounts =
		arena_array(&b->arena, struct runtime_mount, s->spec.mount_count);
	b->spec.mount_count = 0;
	for (size_t i = 0; i < s->spec.mount_count; i++) {
		struct runtime_mount m = s->spec.mounts[i];
		struct json_strings words = {
			arena_array(&b->arena, const char *, m.options.count + 1), 0};
		bool ours = false;
		for (size_t k = 0; k < m.options.count; k++) {
			if (streq(m.options.items[k], "x-idmap"))
				ours = true;
			else
				words.items[words.count++] = m.options.items[k];
		}
		m.options = words;
		if (ours)
			m.source = arena_printf(
				&b->arena, "%s/mounts/%zu", b->folder, b->spec.mount_count);
		mounts[b->spec.mount_count++] = m;
	}
	b->spec.mounts = mounts;
}

// Others fail where a limit cannot be raised.
static void set_limits(struct bundle *b)
{
	struct runtime_process *p = &b->spec.process;
	struct runtime_rlimit *limits =
		arena_array(&b->arena, struct runtime_rlimit, p->rlimit_count);
	memcpy(limits, p->rlimits, p->rlimit_count * sizeof(*limits));
	p->rlimits = limits;
	for (size_t i = 0; i < p->rlimit_count; i++) {
		struct rlimit had, wanted = {limits[i].soft, limits[i].hard};
		enum __rlimit_resource which = (enum __rlimit_resource)limits[i].resource;
		if (getrlimit(which, &had) < 0 || setrlimit(which, &wanted) == 0) {
			setrlimit(which, &had);
			continue;
		}
		if (limits[i].hard > had.rlim_max)
			limits[i].hard = had.rlim_max;
		if (limits[i].soft > limits[i].hard)
			limits[i].soft = limits[i].hard;
	}
}

// Whether anybody may go there, or could if the folder itself were another.
static bool is_reachable(const char *folder)
{
	cleanup_free char *path = xstrdup(folder);
	struct stat st;
	for (char *slash = strrchr(path, '/'); slash && slash > path; slash = strrchr(path, '/')) {
		*slash = '\0';
		if (stat(path, &st) < 0 || !(st.st_mode & S_IXOTH))
			return false;
	}
	return true;
}

static void choose_place(struct bundle *b, const char *run_dir)
{
	static const char *const others[] = {"/mnt", "/media", "/srv", "/opt"};
	b->place = run_dir;
	b->covers_state = is_reachable(run_dir);
	for (size_t i = 0; !b->covers_state && i < array_size(others); i++) {
		if (access(others[i], F_OK) < 0)
			continue;
		b->place = others[i];
		return;
	}
	b->covers_state = true; // the runtime will say what it cannot enter
}

static int describe(struct bundle *b, struct sandbox *s, struct error *err)
{
	const char *run_dir = s->job.store->run_dir;
	*b = (struct bundle){.s = s, .spec = s->spec};
	choose_place(b, run_dir);
	b->folder = arena_printf(&b->arena, "%s/bundle", b->place);
	b->state = arena_printf(&b->arena, "%s/runtime", run_dir);
	b->pid_file = arena_printf(&b->arena, "%s/%s.pid", b->state, s->job.run->id);
	b->spec.root_path = "rootfs";
	if (!s->policy->runtime) // our own, which takes all of it
		return runtime_spec_write(&b->spec, &b->config, err);
	// Newer than what many installed runtimes know; none is needed. And for 32-bit programs our
	// rules about socket() are several for one real call, which they refuse.
	b->spec.seccomp.flags.count = 0;
	if (b->spec.seccomp.architectures.count > 1)
		b->spec.seccomp.architectures.count = 1;
	set_program(b);
	set_limits(b);
	set_mounts(b);
	return runtime_spec_write(&b->spec, &b->config, err);
}

int other_runtime_config(struct sandbox *s, struct buffer *json, struct error *err)
{
	cleanup_bundle struct bundle b = {0};
	if (describe(&b, s, err) < 0)
		return -1;
	buffer_append(json, b.config.data, b.config.size);
	return 0;
}

// ---- what the call sees

// A detached mount for each mount of ours; -1 for the others.
static int open_trees(struct bundle *b, struct error *err)
{
	const struct sandbox *s = b->s;
	b->trees = arena_array(&b->arena, int, s->spec.mount_count);
	for (; b->tree_count < s->spec.mount_count; b->tree_count++) {
		struct mount_words words;
		const struct runtime_mount *m = &s->spec.mounts[b->tree_count];
		b->trees[b->tree_count] = -1;
		if (mount_words_parse(&b->arena, &m->options, &words, err) < 0)
			return -1;
		if (!words.idmap)
			continue;
		int tree = container_bind_with_ids(m->source, s->userns_fd, err);
		if (tree < 0)
			return error_context(err, "mount at %s", m->destination);
		b->trees[b->tree_count] = tree;
	}
	return 0;
}

static int place(int tree, const char *path, struct error *err)
{
	struct stat st;
	if (fstat(tree, &st) < 0)
		return error_set_errno(err, errno, "stat of a mount");
	int made = S_ISDIR(st.st_mode) ? mkdir(path, 0755) : mknod(path, S_IFREG | 0644, 0);
	if (made < 0)
		return error_set_errno(err, errno, "make %s", path);
	if (move_mount(tree, "", AT_FDCWD, path, MOVE_MOUNT_F_EMPTY_PATH) < 0)
		return error_set_errno(err, errno, "mount on %s", path);
	return 0;
}

// What we have made belongs to nobody in the container.
static int give_to_container(int fd, uint32_t owner, const char *path, struct error *err)
{
	struct stat st;
	if (fstat(fd, &st) < 0 ||
		(st.st_uid == 0 && owner != 0 && fchownat(fd, "", owner, owner, AT_EMPTY_PATH) < 0))
		return error_set_errno(err, errno, "own %s in the container", path);
	return 0;
}

// Into the root, not mounted on it: where the image has a link, that is replaced, and what it leads
// to is left alone.
static int write_files(const struct sandbox *s, struct error *err)
{
	for (size_t i = 0; i < s->options.file_count; i++) {
		const struct container_file *f = &s->options.files[i];
		if (container_write_file(s->root_fd, f, err) < 0)
			return -1;
		cleanup_free char *folder =
			xstrndup(f->path, (size_t)(path_base(f->path) - f->path));
		cleanup_fd int file = file_open_beneath(
			s->root_fd, f->path, O_PATH | O_NOFOLLOW, 0, RESOLVE_IN_ROOT, err);
		cleanup_fd int parent = file < 0 ? -1
						 : file_open_beneath(s->root_fd, folder, O_PATH, 0,
							   RESOLVE_IN_ROOT, err);
		if (parent < 0 || give_to_container(file, s->first_id, f->path, err) < 0 ||
			give_to_container(parent, s->first_id, folder, err) < 0)
			return -1;
	}
	return 0;
}

static int place_all(const struct bundle *b, struct error *err)
{
	if (mkdir(b->folder, 0755) < 0 || chdir(b->folder) < 0 || mkdir("mounts", 0755) < 0)
		return error_set_errno(err, errno, "make %s", b->folder);
	if (place(b->s->root_fd, "rootfs", err) < 0)
		return -1;
	for (size_t i = 0; i < b->tree_count; i++) {
		char name[32];
		snprintf(name, sizeof(name), "mounts/%zu", i);
		if (b->trees[i] >= 0 && place(b->trees[i], name, err) < 0)
			return -1;
	}
	if (write_files(b->s, err) < 0)
		return -1;
	return file_write_atomic(
		AT_FDCWD, "config.json", b->config.data, b->config.size, 0644, err);
}

static int enter_view(const struct bundle *b, struct error *err)
{
	cleanup_fd int state = open_tree(AT_FDCWD, b->state, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
	if (state < 0)
		return error_set_errno(err, errno, "open %s", b->state);
	umask(022);
	// Slave: what the node unmounts must go here, too.
	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) < 0 ||
		mount("tmpfs", b->place, "tmpfs", MS_NODEV, "mode=755") < 0)
		return error_set_errno(err, errno, "make a mount namespace for the runtime");
	if (b->covers_state && place(state, b->state, err) < 0)
		return -1;
	return place_all(b, err);
}

// ---- the calls

static int call(const struct bundle *b, const char *program, const char *const *words,
	const int stdio[3], struct process *p, struct error *err)
{
	const char *argv[16] = {program, "--root", b->state};
	size_t n = 3;
	while (*words)
		argv[n++] = *words++;
	struct process_fd fds[3];
	struct process_options o = {
		.file = program, .argv = argv, .fds = fds, .die_with_parent = true};
	for (int i = 0; i < 3; i++)
		if (stdio[i] >= 0)
			fds[o.fd_count++] = (struct process_fd){stdio[i], i};
	return process_start(&o, p, err);
}

// In the child: the runtime's own messages come by its log file, since its stderr is the job's.
static void __attribute__((noreturn)) create_inside(
	const struct bundle *b, const char *program, const int stdio[3], int socket, pid_t parent)
{
	struct error err = {0}, ignored;
	const char *const words[] = {"--log",
		arena_printf((struct arena *)&b->arena, "%s.log", b->pid_file), "create",
		"--bundle", b->folder, "--pid-file", b->pid_file, b->s->job.run->id, NULL};
	struct process p = {.pidfd = -1};
	int status = 0;
	// We hold the lock of the run, as the supervisor does: who outlived it would keep the run
	// from being ended.
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(127);
	if (enter_view(b, &err) == 0 && call(b, program, words, stdio, &p, &err) == 0 &&
		process_wait(&p, &status, &err) == 0 && status != 0) {
		char how[64];
		error_set(&err, ERROR_SYSTEM, "%s create %s", program,
			process_describe_status(status, how));
	}
	message_send(socket, &err, sizeof(err), NULL, 0, &ignored);
	_exit(0);
}

// The last line that the runtime has logged.
static void add_reason(const struct bundle *b, struct error *err)
{
	cleanup_buffer struct buffer log = {0};
	cleanup_free char *path = xasprintf("%s.log", b->pid_file);
	struct error ignored;
	if (file_read(AT_FDCWD, path, OUTPUT_MAX, &log, &ignored) < 0 || !log.size)
		return;
	while (log.size && log.data[log.size - 1] == '\n')
		log.data[--log.size] = '\0';
	const char *line = strrchr(log.data, '\n');
	error_set(err, err->kind, "%s: %s", err->text, line ? line + 1 : log.data);
}

static int take_container(const struct bundle *b, struct container *c, struct error *err)
{
	cleanup_buffer struct buffer text = {0};
	uint64_t pid;
	if (file_read(AT_FDCWD, b->pid_file, PID_BYTES_MAX, &text, err) < 0)
		return -1;
	if (!text.data || !parse_u64_n(text.data, strspn(text.data, "0123456789"), &pid) ||
		pid < 2 || pid > INT32_MAX)
		return error_set(err, ERROR_SYSTEM, "the runtime's pid file holds no process");
	int pidfd = (int)syscall(SYS_pidfd_open, (pid_t)pid, 0);
	if (pidfd < 0)
		return error_set_errno(err, errno, "open the container's process");
	*c = (struct container){
		.init = {.pid = (pid_t)pid, .pidfd = pidfd}, .sync_fd = -1, .status_fd = -1};
	return 0;
}

static int simple(
	struct sandbox *s, const char *program, const char *const *words, struct error *err)
{
	cleanup_arena struct arena a = {0};
	cleanup_buffer struct buffer output = {0};
	const char *argv[8] = {
		program, "--root", arena_printf(&a, "%s/runtime", s->job.store->run_dir)};
	size_t n = 3;
	while (*words)
		argv[n++] = *words++;
	return process_run(argv, NULL, &output, OUTPUT_MAX, RUNTIME_MS, err);
}

int other_runtime_start(struct sandbox *s, const char *program, struct error *err)
{
	return simple(s, program, (const char *const[]){"start", s->job.run->id, NULL}, err);
}

// The record that runtimes keep of a container, in a folder of its name, is there if the runtime
// could not remove it itself.
void other_runtime_forget(struct store *s, const char *run_id)
{
	struct error ignored;
	cleanup_free char *folder = xasprintf("runtime/%s", run_id);
	cleanup_free char *pid_file = xasprintf("%s.pid", folder);
	cleanup_free char *log = xasprintf("%s.log", pid_file);
	directory_remove(s->run_fd, folder, &ignored);
	unlinkat(s->run_fd, pid_file, 0);
	unlinkat(s->run_fd, log, 0);
}

int other_runtime_delete(struct sandbox *s, const char *program, struct error *err)
{
	const char *const words[] = {"delete", "--force", s->job.run->id, NULL};
	int rc = simple(s, program, words, err);
	other_runtime_forget(s->job.store, s->job.run->id);
	return rc;
}

static int create(struct sandbox *s, const char *program, const int stdio[3], struct container *c,
	struct error *err)
{
	cleanup_bundle struct bundle b = {0};
	struct error result = {0};
	int pair[2];
	if (describe(&b, s, err) < 0 || open_trees(&b, err) < 0 ||
		directory_make(AT_FDCWD, b.state, 0700, err) < 0 || message_pair(pair, err) < 0)
		return -1;
	cleanup_fd int ours = pair[0], theirs = pair[1];
	pid_t parent = getpid(), pid = fork();
	if (pid < 0)
		return error_set_errno(err, errno, "fork");
	if (pid == 0) {
		close(ours);
		create_inside(&b, program, stdio, theirs, parent);
	}
	close(steal_fd(&theirs));
	struct pollfd answer = {.fd = ours, .events = POLLIN};
	int ready;
	while ((ready = poll(&answer, 1, RUNTIME_MS)) < 0 && errno == EINTR)
		;
	if (ready <= 0)
		kill(pid, SIGKILL); // and with it the runtime
	ssize_t n = message_receive(ours, &result, sizeof(result), NULL, 0, false, err);
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
	if (n < 0)
		return -1;
	if (ready <= 0)
		return error_set(err, ERROR_LIMIT, "%s create: took longer than %d s", program,
			RUNTIME_MS / 1000);
	if (n != sizeof(result))
		return error_set(err, ERROR_SYSTEM, "the call of %s was killed", program);
	if (result.kind != ERROR_NONE) {
		*err = result;
		add_reason(&b, err);
		return -1;
	}
	return take_container(&b, c, err);
}

int other_runtime_create(struct sandbox *s, const char *program, const int stdio[3],
	struct container *c, struct error *err)
{
	struct error ignored;
	if (create(s, program, stdio, c, err) == 0)
		return 0;
	if (err->kind == ERROR_NOT_FOUND || err->kind == ERROR_DENIED)
		err->kind = ERROR_SYSTEM; // the node's matter, not that of the job's program
	other_runtime_delete(s, program, &ignored);
	return -1;
}
