// SPDX-License-Identifier: Apache-2.0
#include "agent/job/run.h"
#include "agent/link/file.h"
#include "agent/link/link.h"
#include "base/file.h"
#include "base/text.h"

#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

static const char file[] = "user_logs/std_log.txt";

// How often the end of a log may be refused, or be of other bytes, before it is given up.
enum { TRIES = 6 };

struct log_sender {
	struct service *service;   // the attempt's
	_Atomic uint64_t *waiting; // the attempt's log_waiting
	const char *run, *id;
	unsigned attempt; // the run's own (max_retries), whose log is being sent
	int64_t offset;	  // that the controller has; -1: not known
	bool finished;
	int refused;	   // how often, of this log
	char trouble[256]; // of one that was given up
};

struct log_sender *log_sender_new(struct attempt *a)
{
	struct log_sender *s = xcalloc(1, sizeof(*s));
	*s = (struct log_sender){.service = a->service,
		.waiting = &a->log_waiting,
		.run = a->run,
		.id = a->id,
		.attempt = 1,
		.offset = -1};
	return s;
}

const char *log_sender_trouble(const struct log_sender *s)
{
	return *s->trouble ? s->trouble : NULL;
}

void log_sender_free(struct log_sender *s)
{
	free(s);
}

static struct link_file file_of(const struct log_sender *s, const char *path)
{
	return (struct link_file){.service = s->service, .run = s->run, .path = path};
}

static int finish(struct log_sender *s, int fd, const struct stat *st, struct error *err)
{
	const struct link_file f = file_of(s, file);
	char hex[SHA256_HEX_SIZE];
	const struct link_file_end end = {.size = st->st_size,
		.sha256 = hex,
		.mode = 0644,
		.mtime_ns = (int64_t)st->st_mtim.tv_sec * 1000000000 + st->st_mtim.tv_nsec};
	if (file_sha256(fd, file, (uint64_t)st->st_size, hex, err) < 0)
		return -1;
	int rc = link_file_finish(&f, &end, err);
	if (rc > 0) // it has forgotten what it had: begin anew
		s->offset = -1;
	return rc ? -1 : 0;
}

static int move(struct log_sender *s, const char *to, struct error *err)
{
	cleanup_arena struct arena a = {0};
	cleanup_json_writer struct json_writer *w = json_writer_new(false);
	json_write_open_object(w);
	json_write_key(w, "changes");
	json_write_open_array(w);
	json_write_open_object(w);
	json_write_member(w, "do", "move");
	json_write_member(w, "from", file);
	json_write_member(w, "to", to);
	json_write_close_object(w);
	json_write_close_array(w);
	json_write_close_object(w);
	const char *url = arena_printf(&a, "/v1/runs/%s/changes", s->run);
	return service_call(s->service, "POST", url, w, &a, NULL, err);
}

// One attempt's log. A connection may break behind the move: then the file has its new name
// already.
static int send_one(struct log_sender *s, int runs_fd, bool whole, bool last, struct error *err)
{
	struct stat st;
	char moved[64];
	int64_t size, part;
	snprintf(moved, sizeof(moved), "attempts/%u/%s", s->attempt, file);
	const struct link_file f = file_of(s, file), other = file_of(s, moved);
	int there = s->offset < 0 && !last ? link_file_stat(&other, &size, &part, err) : 0;
	if (there != 0)
		return there < 0 ? -1 : 0;
	cleanup_fd int folder = run_attempt_open(runs_fd, s->id, s->attempt, err);
	cleanup_fd int fd = folder < 0 ? -1 : openat(folder, file, O_RDONLY | O_CLOEXEC);
	if (folder < 0 || (fd < 0 && errno == ENOENT))
		return folder < 0 ? -1 : 0; // not printed yet
	if (fd < 0 || fstat(fd, &st) < 0)
		return error_set_errno(err, errno, "%s", file);
	*s->waiting = (uint64_t)(st.st_size - (s->offset > 0 ? s->offset : 0));
	if (s->offset < 0) {
		if (link_file_stat(&f, &size, &part, err) < 0)
			return -1;
		s->offset = size;
	}
	int rc = link_file_append(&f, fd, &s->offset, st.st_size, err);
	*s->waiting = (uint64_t)(st.st_size - s->offset);
	if (rc < 0)
		return -1;
	if (whole && finish(s, fd, &st, err) < 0)
		return -1;
	return whole && !last ? move(s, moved, err) : 0;
}

// 0: it is sent, or given up.
static int send_or_give_up(
	struct log_sender *s, int runs_fd, bool whole, bool last, struct error *err)
{
	if (send_one(s, runs_fd, whole, last, err) == 0)
		return 0;
	bool refused = err->kind != ERROR_UNAVAILABLE && !streq(service_code(s->service), "stale");
	if (refused)
		s->offset = -1; // ask again what there is
	if (!whole || !refused || ++s->refused < TRIES)
		return -1;
	snprintf(s->trouble, sizeof(s->trouble), "the log of attempt %u: %.200s", s->attempt,
		err->text);
	return 0;
}

int log_sender_send(struct log_sender *s, int runs_fd, unsigned last, bool whole, struct error *err)
{
	while (s->attempt < last) {
		if (send_or_give_up(s, runs_fd, true, false, err) < 0)
			return -1;
		s->attempt++;
		s->offset = -1;
		s->refused = 0;
	}
	if (s->finished)
		return 0;
	if (send_or_give_up(s, runs_fd, whole, true, err) < 0)
		return -1;
	s->finished = whole;
	return 0;
}
