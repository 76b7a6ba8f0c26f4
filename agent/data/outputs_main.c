// SPDX-License-Identifier: Apache-2.0
//
// The synchroniser's process: a round every interval, a bit after a file was closed, and when asked
// to finish. A round is done in one go; who started us hears of it once a second meanwhile.
#include "agent/data/outputs_confine.h"
#include "agent/data/outputs_protocol.h"
#include "agent/data/outputs_sync.h"
#include "base/file.h"
#include "base/loop.h"
#include "base/message.h"
#include "base/text.h"
#include "base/time.h"

#include <linux/magic.h>
#include <poll.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/socket.h>
#include <sys/vfs.h>
#include <unistd.h>

enum {
	TELL_MS = 1000,
	LOCK_MS = 2000, // somebody who was killed may take so long to let go
	FINAL_TRIES = 3,
	IDLE_SHARE = 9, // rounds take a tenth of the time at most
	WATCHES_MAX = 256,
	EARLY_ENTRIES_MAX = 20000, // with more, files that are closed wait for the interval
	EARLY_MS = 1000,
};

struct worker {
	struct outputs_sync sync;
	struct outputs_request request;
	struct loop *loop;
	struct loop_source *timer;
	int inotify_fd;
	unsigned watches;
	bool finishing;
	unsigned tries;
	int64_t told_ms, ended_ms, took_ms, next_ms;
	struct outputs_status written;
	uint64_t written_skips;
};

static void tell(struct worker *w, int wait_ms)
{
	struct pollfd room = {.fd = OUTPUTS_SOCKET, .events = POLLOUT};
	if (wait_ms)
		poll(&room, 1, wait_ms);
	// Nobody need listen: the file says it, too.
	send(OUTPUTS_SOCKET, &w->sync.status, sizeof(w->sync.status), MSG_DONTWAIT | MSG_NOSIGNAL);
	w->told_ms = now_ms();
}

// A round is not broken off when we are asked to finish, nor when nobody is there any more, but
// from then on it has no more time than a last one.
static void tick(void *data)
{
	struct worker *w = data;
	struct pollfd asked = {.fd = OUTPUTS_SOCKET, .events = POLLIN};
	if (now_ms() - w->told_ms < TELL_MS)
		return;
	tell(w, 0);
	if (!w->finishing && !w->sync.deadline_ms && w->request.limit_ms && poll(&asked, 1, 0) == 1)
		w->sync.deadline_ms = now_ms() + (int64_t)w->request.limit_ms;
}

static bool says_the_same(const struct outputs_status *a, const struct outputs_status *b)
{
	return a->state == b->state && a->files == b->files && a->bytes == b->bytes &&
	       a->files_left == b->files_left && a->bytes_left == b->bytes_left &&
	       a->sent == b->sent && streq(a->message, b->message);
}

static void record(struct worker *w)
{
	const struct outputs_status *now = &w->sync.status;
	struct error ignored; // the file tells people; what counts is the journal
	if (says_the_same(now, &w->written) && w->written_skips == w->sync.skip_count)
		return;
	w->written = *now;
	w->written_skips = w->sync.skip_count;
	outputs_act_as(OUTPUTS_NODE);
	outputs_status_write(&w->sync, &ignored);
	outputs_act_as(OUTPUTS_OWNER);
}

// Files that are closed are sent at once; watches are few, so they are for the folders met first.
static void watch_folders(struct worker *w)
{
	struct outputs_index *x = &w->sync.index;
	for (size_t i = 0; i < x->count && w->watches < WATCHES_MAX && w->inotify_fd >= 0; i++) {
		struct outputs_entry *e = x->entries[i];
		if (e->dead || e->watched || e->kind != OUTPUTS_FOLDER)
			continue;
		char path[40];
		cleanup_fd int fd =
			outputs_open_beneath(w->sync.run_fd, e->path, O_RDONLY | O_DIRECTORY);
		if (fd < 0)
			continue;
		snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
		if (inotify_add_watch(
			    w->inotify_fd, path, IN_CLOSE_WRITE | IN_MOVED_TO | IN_ONLYDIR) < 0)
			return;
		e->watched = true;
		w->watches++;
	}
}

static void schedule(struct worker *w, int64_t at_ms)
{
	int64_t now = now_ms();
	w->next_ms = at_ms;
	loop_timer_set(w->timer, at_ms > now ? at_ms - now : 0);
}

// Rounds are spaced by what they cost.
static int64_t earliest(const struct worker *w, int64_t least_ms)
{
	int64_t idle = IDLE_SHARE * w->took_ms;
	return w->ended_ms + (idle > least_ms ? idle : least_ms);
}

static void failed(struct worker *w, const struct error *err)
{
	struct outputs_sync *s = &w->sync;
	snprintf(s->status.message, sizeof(s->status.message), "%s", err->text);
	bool over = s->deadline_ms && now_ms() >= s->deadline_ms;
	if (w->finishing && (w->request.once || over || ++w->tries == FINAL_TRIES))
		s->status.state = OUTPUTS_FAILED;
}

static void succeeded(struct worker *w)
{
	struct outputs_sync *s = &w->sync;
	s->status.message[0] = '\0';
	if (s->incomplete)
		snprintf(s->status.message, sizeof(s->status.message), "%s", s->loss);
	if (w->finishing)
		s->status.state = s->incomplete ? OUTPUTS_INCOMPLETE : OUTPUTS_DONE;
}

static void round_due(void *data)
{
	struct worker *w = data;
	struct outputs_sync *s = &w->sync;
	struct error err = {0};
	int64_t begun = now_ms();
	s->at_rest = w->finishing;
	if (outputs_round(s, &err) < 0)
		failed(w, &err);
	else
		succeeded(w);
	w->ended_ms = now_ms();
	w->took_ms = w->ended_ms - begun;
	record(w);
	bool over = s->status.state != OUTPUTS_RUNNING;
	tell(w, over ? TELL_MS : 0);
	if (over) {
		loop_quit(w->loop, 0);
		return;
	}
	if (!w->finishing)
		watch_folders(w);
	schedule(w, earliest(w, (int64_t)w->request.interval_ms));
}

static void finish(struct worker *w)
{
	if (w->finishing)
		return;
	w->finishing = true;
	if (w->request.limit_ms && !w->sync.deadline_ms)
		w->sync.deadline_ms = now_ms() + (int64_t)w->request.limit_ms;
	schedule(w, 0);
}

static void socket_ready(void *data, uint32_t events)
{
	(void)events;
	struct worker *w = data;
	struct error err;
	char word[16] = "";
	ssize_t n = message_receive(OUTPUTS_SOCKET, word, sizeof(word), NULL, 0, true, &err);
	if (n == sizeof(outputs_word_finish) && streq(word, outputs_word_finish))
		finish(w);
	else if (n != -2)
		loop_quit(w->loop, 0); // whoever started us is gone: `stoker outputs push` resumes
}

static void file_closed(void *data, uint32_t events)
{
	(void)events;
	struct worker *w = data;
	char buffer[16 * 1024] __attribute__((aligned(8)));
	ssize_t n;
	while ((n = read(w->inotify_fd, buffer, sizeof(buffer))) > 0)
		for (ssize_t at = 0; at + (ssize_t)sizeof(struct inotify_event) <= n;) {
			const struct inotify_event *e = (const void *)(buffer + at);
			w->watches -= e->mask & IN_IGNORED && w->watches ? 1 : 0;
			at += (ssize_t)sizeof(*e) + e->len;
		}
	int64_t soon = earliest(w, EARLY_MS);
	if (!w->finishing && w->sync.index.count <= EARLY_ENTRIES_MAX && soon < w->next_ms)
		schedule(w, soon);
}

// One at a time, by a lock on the run's folder, through a description of our own: the descriptor we
// were given is shared with others.
static int lock_run(struct worker *w, int given, struct error *err)
{
	w->sync.run_fd = openat(given, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (w->sync.run_fd < 0)
		return error_set_errno(err, errno, "open the run's folder");
	for (int64_t end = now_ms() + LOCK_MS;;) {
		int rc = file_lock(w->sync.run_fd, LOCK_EX | LOCK_NB, "the run's folder", err);
		if (rc <= 0)
			return rc;
		if (now_ms() >= end)
			return error_set(err, ERROR_UNAVAILABLE,
				"the outputs of run %s are being copied already",
				w->request.run_id);
		poll(NULL, 0, 50);
	}
}

static int receive_request(struct worker *w, int *run_fd, struct error *err)
{
	struct outputs_request *r = &w->request;
	ssize_t n = message_receive(OUTPUTS_SOCKET, r, sizeof(*r), run_fd, 1, false, err);
	if (n < 0)
		return -1;
	if (n != sizeof(*r) || *run_fd < 0)
		return error_set(err, ERROR_INVALID,
			"this is a helper process of stoker; it is not started by hand");
	return 0;
}

static int set_up(struct worker *w, struct error *err)
{
	struct outputs_sync *s = &w->sync;
	const struct outputs_request *r = &w->request;
	struct statfs fs;
	s->run_id = r->run_id;
	s->destination = r->destination;
	s->attempt = r->attempt;
	s->policy = (struct outputs_policy){.max_bytes = r->max_bytes, .max_files = r->max_files};
	s->tick = tick;
	s->data = w;
	s->parent.fd = -1;
	s->never_settles = fstatfs(s->run_fd, &fs) == 0 && fs.f_type == TMPFS_MAGIC;
	for (size_t i = 0; i < OUTPUTS_SLOTS; i++)
		s->buffers[i] = xmalloc(OUTPUTS_CHUNK);
	s->target = outputs_folder_new(r->destination, r->run_id);
	w->finishing = r->once;
	w->loop = loop_new(err);
	if (!w->loop || !loop_add_fd(w->loop, OUTPUTS_SOCKET, EPOLLIN, socket_ready, w, err))
		return -1;
	w->timer = loop_add_timer(w->loop, 0, round_due, w, err);
	if (!w->timer)
		return -1;
	// None of them left on this node: the interval does as well.
	w->inotify_fd = r->once ? -1 : inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	if (w->inotify_fd >= 0 &&
		!loop_add_fd(w->loop, w->inotify_fd, EPOLLIN, file_closed, w, err))
		return -1;
	return 0;
}

static int confine(struct worker *w, struct error *err)
{
	struct outputs_sync *s = &w->sync;
	sha256_prepare(); // while libraries can be opened
	if (outputs_confine_privileges(s->run_fd, s->destination, err) < 0)
		return -1;
	s->hasher = outputs_hasher_new(err);
	return s->hasher ? outputs_confine_calls(OUTPUTS_SOCKET, err) : -1;
}

static int start(struct worker *w, struct error *err)
{
	cleanup_fd int given = -1;
	if (receive_request(w, &given, err) < 0 || lock_run(w, given, err) < 0 ||
		set_up(w, err) < 0)
		return -1;
	w->sync.status.state = OUTPUTS_RUNNING;
	if (outputs_index_open(&w->sync.index, w->sync.run_fd, w->sync.destination, err) < 0)
		return -1;
	return confine(w, err);
}

int outputs_main(void)
{
	struct worker *w = xcalloc(1, sizeof(*w));
	struct error err = {0};
	w->sync.run_fd = w->inotify_fd = -1;
	if (start(w, &err) == 0 && loop_run(w->loop, &err) >= 0)
		_exit(0);
	w->sync.status.state = OUTPUTS_FAILED;
	snprintf(w->sync.status.message, sizeof(w->sync.status.message), "%s", err.text);
	if (w->request.run_id[0])
		tell(w, TELL_MS);
	else
		fprintf(stderr, "stoker outputs: %s\n", err.text);
	_exit(1);
}
