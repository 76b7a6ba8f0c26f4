// SPDX-License-Identifier: Apache-2.0
#include "agent/command/phase_line.h"

#include "base/text.h"
#include "base/time.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { REDRAW_MS = 100, LINE_MAX = 200 };

bool phase_line_is_live(void)
{
	const char *term = getenv("TERM");
	return isatty(STDERR_FILENO) == 1 && !(term && streq(term, "dumb"));
}

void phase_line_init(struct phase_line *p, const char *subject)
{
	*p = (struct phase_line){.subject = subject, .terminal = phase_line_is_live()};
}

void phase_line_format(const struct phase_line *p, uint64_t done, uint64_t total, int64_t now,
	char *line, int size)
{
	char have[FORMAT_SIZE_MAX], all[FORMAT_SIZE_MAX], rate[FORMAT_SIZE_MAX];
	char bytes[80] = "";
	int64_t ms = now - p->started;
	uint64_t more = done > p->first ? done - p->first : 0;
	if (done && total)
		snprintf(bytes, sizeof(bytes), "  %s / %s", format_size(done, have),
			format_size(total, all));
	else if (done)
		snprintf(bytes, sizeof(bytes), "  %s", format_size(done, have));
	int n = snprintf(line, (size_t)size, "%s: %s%s%s%s", p->subject, p->phase,
		p->detail[0] ? " " : "", p->detail, bytes);
	if (n < 0 || n >= size)
		return;
	if (more && ms > 0)
		n += snprintf(line + n, (size_t)(size - n), "  %s/s",
			format_size(more * 1000 / (uint64_t)ms, rate));
	if (n < size)
		snprintf(line + n, (size_t)(size - n), "  %.1f s", (double)ms / 1000);
}

static void draw(struct phase_line *p, uint64_t done, uint64_t total)
{
	char line[LINE_MAX];
	p->drawn_at = now_ms();
	phase_line_format(p, done, total, p->drawn_at, line, sizeof(line));
	fprintf(stderr, "\r\x1b[K%.*s", 79, line);
	p->drawn = true;
}

void phase_line_begin(struct phase_line *p, const char *phase, const char *detail)
{
	snprintf(p->phase, sizeof(p->phase), "%s", phase);
	snprintf(p->detail, sizeof(p->detail), "%s", detail ? detail : "");
	text_flatten(p->detail);
	p->started = now_ms();
	p->first = 0;
	p->counted = false;
	if (p->terminal)
		draw(p, 0, 0);
	else
		fprintf(stderr, "%s: %s%s%s\n", p->subject, p->phase, p->detail[0] ? " " : "",
			p->detail);
}

void phase_line_update(struct phase_line *p, uint64_t done, uint64_t total)
{
	if (!p->counted)
		p->first = done;
	p->counted = true;
	if (p->terminal && (now_ms() - p->drawn_at >= REDRAW_MS || (total && done == total)))
		draw(p, done, total);
}

void phase_line_notice(struct phase_line *p, const char *text)
{
	char line[LINE_MAX];
	snprintf(line, sizeof(line), "%s", text);
	text_flatten(line);
	fprintf(stderr, "%s%s: %s\n", p->drawn ? "\r\x1b[K" : "", p->subject, line);
	p->drawn = false;
}

void phase_line_end(struct phase_line *p)
{
	if (p->drawn)
		fputs("\r\x1b[K", stderr);
	p->drawn = false;
}
