// SPDX-License-Identifier: Apache-2.0
//
// Mode download of what is mounted (fuse, nfs, cifs): mounted, copied to this disk, unmounted. A
// child does it in a mount namespace of its own: whatever ends it takes mount and helper with it.
// The parent tells progress, and ends what does not come on.
#include "agent/data/copy.h"
#include "agent/data/mount.h"
#include "agent/data/prepare.h"
#include "base/file.h"
#include "base/time.h"

#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { TICK_MS = 100, STALL_MS = 120 * 1000, END_MS = 5000 };

// In one write each, below PIPE_BUF.
struct news {
	enum { NEWS_PROGRESS, NEWS_CONNECTION, NEWS_END } what;
	uint64_t number; // bytes, or the FUSE connection
	enum data_failure failure;
	struct error err; // NONE: all is here
};

// ---- the child

static int send_progress(void *data, uint64_t bytes)
{
	const struct news n = {.what = NEWS_PROGRESS, .number = bytes};
	return write(*(int *)data, &n, sizeof(n)) != sizeof(n);
}

// A folder that only this process can see, over one that it does not need.
static char *own_folder(const struct store *store, struct error *err)
{
	const char *over = store->run_dir;
	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
		mount("tmpfs", over, "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755,size=64k") < 0) {
		error_set_errno(err, errno, "make a mount namespace");
		return NULL;
	}
	char *path = path_join(over, "input");
	if (mkdir(path, 0755) == 0)
		return path;
	error_set_errno(err, errno, "make %s", path);
	free(path);
	return NULL;
}

static int copy_all(const struct data_mount *m, struct copy *c, int stage_fd, struct error *err)
{
	cleanup_fd int from = open(m->path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (from < 0) {
		c->failure = DATA_FAILED;
		return error_set_errno(err, errno, "open what was mounted");
	}
	return copy_tree(c, from, stage_fd, err);
}

static int fetch(const struct prepare *p, size_t source, int stage_fd, int to, struct news *end)
{
	const struct data_options *o = p->options;
	struct data_source as_input = o->sources[source];
	struct mount_seen seen;
	as_input.mode = DATA_RO_MOUNT;
	struct data_mount m = {.source = &as_input,
		.kind = mount_kind_of(&as_input),
		.store = o->store,
		.fd = -1,
		.cache_fd = -1,
		.log.fd = -1,
		.helper.pidfd = -1};
	struct copy c = {.writable = o->sources[source].writable,
		.max_bytes = prepare_max_bytes(p, &o->sources[source]),
		.deadline = p->deadlines[source],
		.progress = send_progress,
		.data = &to};
	m.path = own_folder(o->store, &end->err);
	if (!m.path)
		return -1;
	int rc = m.kind->open(&m, o, p->deadlines[source], &end->failure, &end->err);
	if (rc == 0 && mount_find(m.path, &seen, &end->err) > 0 && seen.fuse) {
		const struct news n = {.what = NEWS_CONNECTION, .number = seen.minor};
		rc = write(to, &n, sizeof(n)) == sizeof(n) ? 0 : -1;
	}
	if (rc == 0 && copy_all(&m, &c, stage_fd, &end->err) < 0) {
		end->failure = c.failure ? c.failure : DATA_FAILED;
		rc = -1;
	}
	end->number = c.bytes;
	mount_close(&m, rc < 0);
	free(m.path);
	return rc;
}

static int start(const struct prepare *p, size_t source, int stage_fd, struct process *child,
	struct error *err)
{
	int fds[2];
	if (pipe2(fds, O_CLOEXEC) < 0)
		return error_set_errno(err, errno, "pipe");
	cleanup_fd int ours = fds[0], theirs = fds[1];
	pid_t parent = getpid(), pid = fork();
	if (pid < 0)
		return error_set_errno(err, errno, "fork");
	if (pid == 0) {
		struct news end = {.what = NEWS_END, .failure = DATA_FAILED};
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != parent)
			_exit(1);
		fetch(p, source, stage_fd, theirs, &end);
		_exit(write(theirs, &end, sizeof(end)) != sizeof(end));
	}
	*child = (struct process){.pid = pid, .pidfd = (int)syscall(SYS_pidfd_open, pid, 0)};
	return steal_fd(&ours);
}

// ---- the parent

// Aborted first: a reader in the child may wait where no signal reaches it.
static void end_child(struct process *child, uint64_t connection)
{
	struct error ignored;
	if (connection)
		fuse_abort((unsigned)connection, &ignored);
	kill(child->pid, SIGKILL);
	struct pollfd wait = {.fd = child->pidfd, .events = POLLIN};
	poll(&wait, 1, END_MS);
	waitpid(child->pid, NULL, WNOHANG);
	close_fdp(&child->pidfd);
}

static int complain(
	struct prepare *p, enum data_failure failure, const char *text, struct error *err)
{
	error_set(err, ERROR_UNAVAILABLE, "%s", text);
	return prepare_fail(p, failure);
}

// 1: it is all here; 0: go on; -1.
static int take(struct prepare *p, size_t source, int from, uint64_t *connection, struct error *err)
{
	struct news n;
	ssize_t got = read(from, &n, sizeof(n));
	if (got < 0 && errno == EINTR)
		return 0;
	if (got != sizeof(n))
		return complain(p, DATA_FAILED, "the process that copies has ended", err);
	if (n.what == NEWS_CONNECTION) {
		*connection = n.number;
		return 0;
	}
	prepare_total(p, source, n.number, 0);
	if (n.what == NEWS_PROGRESS)
		return 0;
	if (n.err.kind != ERROR_NONE) {
		*err = n.err;
		return prepare_fail(p, n.failure);
	}
	p->ready[source].bytes = p->ready[source].fetched = n.number;
	return 1;
}

static int follow(
	struct prepare *p, size_t source, int from, uint64_t *connection, struct error *err)
{
	int64_t moved = now_ms();
	for (;;) {
		struct pollfd wait = {.fd = from, .events = POLLIN};
		int n = poll(&wait, 1, TICK_MS);
		if (n > 0) {
			int taken = take(p, source, from, connection, err);
			if (taken)
				return taken < 0 ? -1 : 0;
			moved = now_ms();
		}
		if (prepare_canceled(p))
			return complain(p, DATA_FAILED, "canceled", err);
		if (now_ms() > p->deadlines[source])
			return complain(p, DATA_TIMEOUT, "not copied in time", err);
		if (now_ms() - moved > STALL_MS)
			return complain(p, DATA_STALLED, "nothing came for two minutes", err);
	}
}

static int check(struct prepare *p, const struct data_source *s, struct error *err)
{
	if (s->unpack != DATA_UNPACK_NONE) {
		error_set(err, ERROR_INVALID, "unpack: is not for kind %s; unpack in the script",
			data_kind_name(s->kind));
		return prepare_fail(p, DATA_UNSUPPORTED);
	}
	if (geteuid() == 0)
		return 0;
	error_set(err, ERROR_DENIED, "only root can download from kind %s; use mode ro_mount",
		data_kind_name(s->kind));
	return prepare_fail(p, DATA_UNSUPPORTED);
}

// A copy of this job's: nothing says whether it would be the same the next time.
int prepare_mount(struct prepare *p, size_t source, struct error *err)
{
	struct data_ready *r = &p->ready[source];
	struct cache_stage stage = {.fd = -1};
	struct process child = {.pidfd = -1};
	uint64_t connection = 0;
	char kept[96];
	if (check(p, &p->options->sources[source], err) < 0)
		return -1;
	p->failure = DATA_FAILED;
	if (cache_stage_new(&p->cache, &stage, err) < 0)
		return prepare_fail(p, DATA_FAILED);
	cleanup_fd int from = start(p, source, stage.fd, &child, err);
	int rc =
		from < 0 ? prepare_fail(p, DATA_FAILED) : follow(p, source, from, &connection, err);
	if (child.pid > 0)
		end_child(&child, rc < 0 ? connection : 0);
	if (rc == 0 && cache_stage_keep_private(&p->cache, &stage, kept, &r->lease_fd, err) < 0)
		rc = prepare_fail(p, DATA_FAILED);
	if (rc == 0)
		r->kept = arena_strdup(p->arena, kept);
	cache_stage_drop(&p->cache, &stage);
	return rc;
}
