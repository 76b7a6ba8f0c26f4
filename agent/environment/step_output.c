// SPDX-License-Identifier: Apache-2.0
#include "agent/environment/environment_internal.h"
#include "base/file.h"

#include <string.h>
#include <unistd.h>

enum { READ_SIZE = 64 * 1024, LINE_MAX_BYTES = 64 * 1024 };

// Twice as much is kept before the older half goes, so that each byte is moved once.
static void keep(struct buffer *b, const char *data, size_t size)
{
	buffer_append(b, data, size);
	if (b->size > 2 * (size_t)STEP_OUTPUT_MAX)
		buffer_consume(b, b->size - STEP_OUTPUT_MAX);
}

static void tell(struct step_output *o)
{
	size_t n = o->line.size;
	while (n && (o->line.data[n - 1] == '\r' || o->line.data[n - 1] == '\n'))
		n--;
	if (o->line.data)
		o->line.data[n] = '\0';
	o->step->line(o->step->data, o->line.data ? o->line.data : "");
	buffer_clear(&o->line);
}

// conda ends its records by NUL.
static void split(struct step_output *o, const char *data, size_t size)
{
	for (size_t i = 0; i < size; i++) {
		if (data[i] == '\n' || data[i] == '\0' || o->line.size == LINE_MAX_BYTES)
			tell(o);
		if (data[i] != '\n' && data[i] != '\0')
			buffer_putc(&o->line, data[i]);
	}
}

void step_output_read(struct step_output *o, int attempt_fd)
{
	struct error ignored;
	cleanup_free char *data = NULL;
	if (o->fd < 0)
		o->fd = openat(
			attempt_fd, "user_logs/std_log.txt", O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (o->fd < 0)
		return;
	data = xmalloc(READ_SIZE);
	ssize_t n;
	while ((n = read(o->fd, data, READ_SIZE)) > 0) {
		keep(o->output, data, (size_t)n);
		if (o->log_fd >= 0)
			write_all(o->log_fd, data, (size_t)n, "the build's log", &ignored);
		if (o->step->line)
			split(o, data, (size_t)n);
	}
}

void step_output_finish(struct step_output *o, int attempt_fd)
{
	step_output_read(o, attempt_fd);
	if (o->step->line && o->line.size)
		tell(o);
	if (o->output->size > STEP_OUTPUT_MAX)
		buffer_consume(o->output, o->output->size - STEP_OUTPUT_MAX);
	close_fdp(&o->fd);
	o->fd = -1;
	buffer_release(&o->line);
}
