// SPDX-License-Identifier: Apache-2.0
#include "agent/data/helper_log.h"

#include "base/file.h"
#include "base/text.h"

#include <unistd.h>

enum { HIDE_MIN = 4, LAST_MAX = 240, READS_MAX = 64 };

int helper_log_open(struct helper_log *l, int *write_fd, struct error *err)
{
	int fds[2];
	if (pipe2(fds, O_CLOEXEC) < 0)
		return error_set_errno(err, errno, "pipe");
	l->fd = fds[0];
	*write_fd = fds[1];
	if (fcntl(l->fd, F_SETFL, O_NONBLOCK) < 0)
		return error_set_errno(err, errno, "pipe");
	return 0;
}

void helper_log_hide(struct helper_log *l, const char *value)
{
	if (strlen(value) < HIDE_MIN)
		return;
	l->hidden = xreallocarray(l->hidden, l->hidden_count + 1, sizeof(*l->hidden));
	l->hidden[l->hidden_count++] = xstrdup(value);
}

// The longest first would be better where one is in another; whatever is left of it then is no
// secret by itself.
static void hide(const struct helper_log *l, char *line)
{
	for (size_t i = 0; i < l->hidden_count; i++) {
		size_t n = strlen(l->hidden[i]);
		for (char *at = line; (at = strstr(at, l->hidden[i])) != NULL; at += 3) {
			memmove(at + 3, at + n, strlen(at + n) + 1);
			memset(at, '*', 3);
		}
	}
}

static void take_line(struct helper_log *l, const char *data, size_t size)
{
	cleanup_free char *line = xstrndup(data, size);
	hide(l, line);
	text_flatten(line);
	size_t n = strlen(line);
	if (!n)
		return;
	if (l->last.size)
		buffer_puts(&l->last, "; ");
	buffer_append(&l->last, line, n);
	if (l->last.size > LAST_MAX)
		buffer_consume(&l->last, l->last.size - LAST_MAX);
	if (!l->line || l->passed > HELPER_LOG_BYTES_MAX)
		return;
	l->passed += n + 1;
	l->line(l->data, l->passed > HELPER_LOG_BYTES_MAX ? "(and more, which is not kept)" : line);
}

void helper_log_take(struct helper_log *l, const char *data, size_t size)
{
	buffer_append(&l->pending, data, size);
	while (l->pending.size) {
		const char *end = memchr(l->pending.data, '\n', l->pending.size);
		size_t n = end ? (size_t)(end - l->pending.data) : l->pending.size;
		if (!end && n < HELPER_LOG_LINE_MAX)
			return;
		if (n > HELPER_LOG_LINE_MAX)
			n = HELPER_LOG_LINE_MAX;
		bool whole = end && l->pending.data + n == end;
		take_line(l, l->pending.data, n);
		buffer_consume(&l->pending, n + whole);
	}
}

void helper_log_flush(struct helper_log *l)
{
	if (l->pending.size)
		take_line(l, l->pending.data, l->pending.size);
	buffer_clear(&l->pending);
}

// Bounded, so that one who prints without end keeps nobody here.
void helper_log_read(struct helper_log *l)
{
	char data[4096];
	for (int i = 0; i < READS_MAX && l->fd >= 0; i++) {
		ssize_t n = read(l->fd, data, sizeof(data));
		if (n > 0)
			helper_log_take(l, data, (size_t)n);
		else if (n == 0 || (errno != EINTR && errno != EAGAIN))
			close_fdp(&l->fd), l->fd = -1;
		else if (errno == EAGAIN)
			return;
	}
}

const char *helper_log_last(struct helper_log *l)
{
	return l->last.size ? l->last.data : "";
}

void helper_log_release(struct helper_log *l)
{
	for (size_t i = 0; i < l->hidden_count; i++) {
		explicit_bzero(l->hidden[i], strlen(l->hidden[i]));
		free(l->hidden[i]);
	}
	free(l->hidden);
	buffer_release(&l->pending);
	buffer_release(&l->last);
	close_fdp(&l->fd);
	*l = (struct helper_log){.fd = -1};
}
