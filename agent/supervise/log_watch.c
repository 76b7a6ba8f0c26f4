// SPDX-License-Identifier: Apache-2.0
#include "agent/supervise/log_watch.h"

#include "base/file.h"

#include <poll.h>
#include <stdio.h>
#include <sys/inotify.h>
#include <unistd.h>

enum { EVENTS_SIZE = 4096 };

// By descriptor: the name may by now be another's.
static int add_watch(const struct log_watch *w, int fd, uint32_t mask)
{
	char path[sizeof("/proc/self/fd/") + 12];
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return inotify_add_watch(w->fd, path, mask);
}

static void watch_logs(struct log_watch *w)
{
	cleanup_fd int fd = w->logs >= 0 ? -1
					 : openat(w->dirfd, "user_logs",
						   O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd >= 0)
		w->logs = add_watch(
			w, fd, IN_MODIFY | IN_CREATE | IN_MOVED_TO | IN_CLOSE_WRITE | IN_ONLYDIR);
}

int log_watch_open(struct log_watch *w, int dirfd, int ended_fd, int output_fd, struct error *err)
{
	int fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	*w = (struct log_watch){.fd = fd, .dirfd = dirfd, .output_fd = output_fd, .logs = -1};
	if (fd < 0)
		return error_set_errno(err, errno, "inotify_init1");
	w->directory = add_watch(w, dirfd, IN_CREATE | IN_MOVED_TO | IN_DELETE_SELF | IN_ONLYDIR);
	if (w->directory < 0 ||
		(ended_fd >= 0 && add_watch(w, ended_fd, IN_CLOSE_WRITE | IN_ATTRIB) < 0)) {
		error_set_errno(err, errno, "watch the run's directory");
		log_watch_close(w);
		return -1;
	}
	watch_logs(w);
	return 0;
}

static int changes_of(struct log_watch *w, const struct inotify_event *e)
{
	if (e->mask & IN_Q_OVERFLOW)
		return LOG_GREW | LOG_MAY_HAVE_ENDED;
	if (e->wd == w->logs)
		return e->mask & IN_CLOSE_WRITE ? LOG_GREW | LOG_MAY_HAVE_ENDED : LOG_GREW;
	if (e->wd == w->directory && e->mask & IN_DELETE_SELF)
		return LOG_GONE;
	if (e->wd == w->directory && e->mask & IN_CREATE)
		watch_logs(w); // the log may be in there already
	return LOG_GREW | LOG_MAY_HAVE_ENDED;
}

static int read_events(struct log_watch *w)
{
	_Alignas(struct inotify_event) char events[EVENTS_SIZE];
	int changes = 0;
	ssize_t n;
	while ((n = read(w->fd, events, sizeof(events))) > 0) {
		const struct inotify_event *e;
		for (ssize_t at = 0; at < n; at += (ssize_t)(sizeof(*e) + e->len)) {
			e = (const struct inotify_event *)(events + at);
			changes |= changes_of(w, e);
		}
	}
	return changes;
}

int log_watch_wait(struct log_watch *w, int timeout_ms, struct error *err)
{
	struct pollfd fds[] = {{.fd = w->fd, .events = POLLIN}, {.fd = w->output_fd}};
	int n = poll(fds, 2, timeout_ms);
	if (n < 0 && errno != EINTR)
		return error_set_errno(err, errno, "poll");
	if (n <= 0)
		return 0;
	return read_events(w) | (fds[1].revents & (POLLERR | POLLNVAL) ? LOG_UNREAD : 0);
}

void log_watch_close(struct log_watch *w)
{
	close_fdp(&w->fd);
	*w = (struct log_watch){.fd = -1};
}
