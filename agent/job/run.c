// SPDX-License-Identifier: Apache-2.0
#include "agent/job/run.h"

#include "agent/data/outputs.h"
#include "agent/job/run_document.h"
#include "base/file.h"
#include "base/text.h"
#include "base/time.h"

#include <dirent.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

enum { LOCK_TRIES = 10 };

static const char *const folders[] = {"user_logs", "outputs", "logs", "upper", "work"};

const char *run_state_name(enum run_state state)
{
	static const char *const names[] = {"NotStarted", "Preparing", "Running", "Finalizing",
		"CancelRequested", "Completed", "Failed", "Canceled"};
	return names[state];
}

bool run_state_is_end(const char *name)
{
	return streq(name, run_state_name(RUN_COMPLETED)) ||
	       streq(name, run_state_name(RUN_FAILED)) || streq(name, run_state_name(RUN_CANCELED));
}

// Locked before anybody can take it for a dead one: the sweeper removes what it could lock, so a
// file that has lost its name when we have the lock is made again.
static int lock_run(struct run *r, struct error *err)
{
	for (int i = 0; i < LOCK_TRIES; i++) {
		char name[sizeof(".active/") + RUN_ID_MAX];
		struct stat st;
		snprintf(name, sizeof(name), ".active/%s", r->id);
		cleanup_fd int fd = openat(r->runs_fd, name, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
		if (fd < 0)
			return error_set_errno(err, errno, "make runs/%s", name);
		int rc = file_lock(fd, LOCK_EX | LOCK_NB, name, err);
		if (rc < 0)
			return -1;
		if (rc == 0 && fstat(fd, &st) == 0 && st.st_nlink > 0) {
			r->lock_fd = steal_fd(&fd);
			return 0;
		}
	}
	return error_set(err, ERROR_SYSTEM, "the lock of run %s could not be taken", r->id);
}

static int choose_id(struct run *r, const char *experiment, struct error *err)
{
	unsigned random;
	if (getrandom(&random, sizeof(random), 0) != sizeof(random))
		return error_set_errno(err, errno, "getrandom");
	snprintf(r->experiment, sizeof(r->experiment), "%s", experiment);
	if (!r->id[0])
		snprintf(r->id, sizeof(r->id), "%.120s_%lld_%08x", experiment,
			(long long)(r->created_ms / 1000), random);
	return 0;
}

static int make_folders(struct run *r, const char *folder, struct error *err)
{
	cleanup_free char *name = xasprintf("%s/%s", r->id, folder);
	r->fd = directory_ensure(r->runs_fd, name, 0755, err);
	if (r->fd < 0)
		return -1;
	for (size_t i = 0; i < array_size(folders); i++)
		if (mkdirat(r->fd, folders[i], 0755) < 0)
			return error_set_errno(err, errno, "make runs/%s/%s", name, folders[i]);
	return 0;
}

static char *attempt_path(const char *state_dir, const struct run *r)
{
	return xasprintf("%s/runs/%s/%u", state_dir, r->id, r->attempt);
}

int run_create(struct run *r, struct store *s, const char *experiment, const char *document_name,
	const void *document, size_t size, struct error *err)
{
	struct run fresh = {.runs_fd = -1,
		.fd = -1,
		.lock_fd = -1,
		.attempt = 1,
		.created_ms = wall_ms(),
		.spec = r->spec};
	memcpy(fresh.id, r->id, sizeof(fresh.id));
	*r = fresh;
	r->client.pid = getpid();
	r->client.start_time = process_start_time(getpid());
	boot_id_get(r->boot_id);
	if (choose_id(r, experiment, err) < 0)
		return -1;
	// For nobody else: a job that is root may leave set-user-id programs and devices in there.
	r->runs_fd = directory_ensure(s->state_fd, "runs", 0700, err);
	if (r->runs_fd < 0 || directory_make(r->runs_fd, ".active", 0700, err) < 0 ||
		lock_run(r, err) < 0)
		return -1;
	if (mkdirat(r->runs_fd, r->id, 0755) < 0)
		return error_set_errno(err, errno, "make runs/%s", r->id);
	r->path = attempt_path(s->state_dir, r);
	if (make_folders(r, "1", err) < 0 ||
		file_write_atomic(r->fd, document_name, document, size, 0644, err) < 0)
		return -1;
	return run_document_write(r, err);
}

int run_adopt(struct run *r, struct store *s, int lock_fd, struct error *err)
{
	r->lock_fd = lock_fd;
	r->fd = -1;
	r->path = attempt_path(s->state_dir, r);
	r->runs_fd = directory_open(s->state_fd, "runs", err);
	if (r->runs_fd < 0)
		return -1;
	r->fd = run_attempt_open(r->runs_fd, r->id, r->attempt, err);
	return r->fd < 0 ? -1 : 0;
}

static void end_phase(struct run *r, int64_t now)
{
	struct run_phase *p = r->phase_count ? &r->phases[r->phase_count - 1] : NULL;
	if (p && !p->end_ms) {
		p->end_ms = now;
		p->total = p->rate = 0;
		r->told = (struct run_told){0};
	}
}

int run_enter(struct run *r, enum run_state state, const char *phase, struct error *err)
{
	int64_t now = wall_ms();
	r->state = state;
	if (phase)
		end_phase(r, now);
	if (phase && r->phase_count < RUN_PHASES_MAX)
		r->phases[r->phase_count++] = (struct run_phase){.name = phase, .start_ms = now};
	if (state == RUN_RUNNING && !r->started_ms)
		r->started_ms = now;
	return run_document_write(r, err);
}

void run_explain(struct run *r, uint64_t bytes, const char *format, ...)
{
	va_list args;
	if (!r->phase_count)
		return;
	struct run_phase *p = &r->phases[r->phase_count - 1];
	p->bytes = bytes;
	va_start(args, format);
	vsnprintf(p->detail, sizeof(p->detail), format, args);
	va_end(args);
}

// upper/ and work/ hold what the job wrote outside of its folders: lost at the end, as with Azure.
int run_remove_scratch(int fd, struct error *err)
{
	if (directory_remove(fd, "upper", err) < 0 || directory_remove(fd, "work", err) < 0)
		return -1;
	return 0;
}

static void unlock(int runs_fd, const char *id)
{
	char name[sizeof(".active/") + NAME_MAX];
	snprintf(name, sizeof(name), ".active/%s", id);
	unlinkat(runs_fd, name, 0);
}

static int is_empty(int dirfd, const char *name, struct error *err)
{
	int fd = directory_open(dirfd, name, err);
	DIR *folder = fd < 0 ? NULL : fdopendir(fd);
	bool empty = true;
	if (!folder)
		return -1;
	for (struct dirent *e; empty && (e = readdir(folder)) != NULL;)
		empty = streq(e->d_name, ".") || streq(e->d_name, "..");
	closedir(folder);
	return empty;
}

static int sync_log(int dirfd, struct error *err)
{
	static const char name[] = "user_logs/std_log.txt";
	struct stat st;
	cleanup_fd int log = openat(dirfd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (log < 0 && errno == ENOENT)
		return 0;
	if (log < 0 || fstat(log, &st) < 0 || (st.st_size > 0 && fsync(log) < 0))
		return error_set_errno(err, errno, "fsync %s", name);
	return 0;
}

// After a power cut, a run that is recorded as ended must have its results. The log is one file; a
// job's folders may hold any number, for which one syncfs(2) is the quickest, and no link or pipe
// in there can lead it astray. A job that left nothing pays nothing.
static int sync_results(int dirfd, struct error *err)
{
	int outputs = is_empty(dirfd, "outputs", err);
	int logs = outputs < 0 ? -1 : is_empty(dirfd, "logs", err);
	if (logs < 0)
		return -1;
	if (outputs && logs)
		return sync_log(dirfd, err);
	if (syncfs(dirfd) < 0)
		return error_set_errno(err, errno, "write the results to the disk");
	return 0;
}

static int record_end(struct run *r, enum run_state state, const struct cause *cause,
	int exit_status, struct error *err)
{
	int64_t now = wall_ms();
	r->state = state;
	r->cause = *cause;
	r->exit_status = exit_status;
	r->ended_ms = now;
	end_phase(r, now);
	// The end is recorded whatever becomes of the rest; what cannot be removed now is the
	// sweep's.
	struct error unsynced;
	int synced = sync_results(r->fd, &unsynced);
	if (run_document_write(r, err) < 0 || run_remove_scratch(r->fd, err) < 0)
		return -1;
	if (synced < 0) {
		*err = unsynced;
		return -1;
	}
	return 0;
}

int run_end_attempt(struct run *r, enum run_state state, const struct cause *cause, int exit_status,
	struct error *err)
{
	r->retried = true;
	return record_end(r, state, cause, exit_status, err);
}

int run_end(struct run *r, enum run_state state, const struct cause *cause, int exit_status,
	struct error *err)
{
	cleanup_free char *source = xasprintf("%s/source", r->id);
	r->retried = false;
	if (record_end(r, state, cause, exit_status, err) < 0 ||
		directory_remove(r->runs_fd, source, err) < 0)
		return -1;
	unlock(r->runs_fd, r->id);
	return 0;
}
unsigned run_attempt_last(int runs_fd, const char *id)
{
	unsigned last = 0;
	for (struct stat st;; last++) {
		cleanup_free char *name = xasprintf("%s/%u", id, last + 1);
		if (fstatat(runs_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
			return last;
	}
}

int run_attempt_open(int runs_fd, const char *id, unsigned attempt, struct error *err)
{
	cleanup_free char *name = xasprintf("%s/%u", id, attempt);
	return directory_open(runs_fd, name, err);
}

// What is of the attempt and not of the run begins anew.
static void forget_attempt(struct run *r)
{
	r->state = r->outcome = RUN_NOT_STARTED;
	r->retried = false;
	r->cause = (struct cause){0};
	r->created_ms = wall_ms();
	r->started_ms = r->ended_ms = 0;
	r->phase_count = 0;
	r->exit_status = 0;
	r->has_stats = false;
	r->warnings = NULL;
	r->cgroup = NULL;
	r->supervisor.container = 0;
}

// The folder has its name when all is in it: the outputs of the last attempt are the run's results,
// for `stoker outputs push` too, if it ends before this one has begun.
static int make_attempt(const struct run *r, struct run *made, struct error *err)
{
	cleanup_free char *next = xasprintf("%s/.next", r->id);
	cleanup_free char *name = xasprintf("%s/%u", r->id, made->attempt);
	if (directory_remove(r->runs_fd, next, err) < 0 || make_folders(made, ".next", err) < 0 ||
		outputs_restore(r->fd, made->fd, err) < 0 || run_document_write(made, err) < 0)
		return -1;
	if (renameat(r->runs_fd, next, r->runs_fd, name) < 0)
		return error_set_errno(err, errno, "make runs/%s", name);
	return 0;
}

int run_retry(struct run *r, struct store *s, struct error *err)
{
	struct run made = *r;
	made.fd = -1;
	made.attempt++;
	forget_attempt(&made);
	if (make_attempt(r, &made, err) < 0) {
		close_fdp(&made.fd);
		return -1;
	}
	made.path = attempt_path(s->state_dir, &made);
	close_fdp(&r->fd);
	free(r->path);
	*r = made;
	return 0;
}

void run_release(struct run *r)
{
	if (!r->id[0])
		return;
	close_fdp(&r->lock_fd);
	close_fdp(&r->fd);
	close_fdp(&r->runs_fd);
	free(r->path);
	*r = (struct run){.runs_fd = -1, .fd = -1, .lock_fd = -1};
}
