// SPDX-License-Identifier: Apache-2.0
#include "base/log.h"

#include "base/text.h"
#include "base/time.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

// Below PIPE_BUF (4096), so that one write(2) is one line even when several processes share a pipe.
enum { LINE_MAX_SIZE = 2048 };

static const struct {
	const char *name;
	int priority; // syslog(3)
} levels[] = {
	[LOG_LEVEL_ERROR] = {"error", 3},
	[LOG_LEVEL_WARNING] = {"warning", 4},
	[LOG_LEVEL_INFO] = {"info", 6},
	[LOG_LEVEL_DEBUG] = {"debug", 7},
};

static enum log_level current_level = LOG_LEVEL_INFO;

void log_set_level(enum log_level level)
{
	current_level = level;
}

enum log_level log_get_level(void)
{
	return current_level;
}

int log_level_parse(const char *name)
{
	for (size_t i = 0; i < sizeof(levels) / sizeof(levels[0]); i++)
		if (streq(name, levels[i].name))
			return (int)i;
	return -1;
}

// The variable is inherited by children whose stderr goes elsewhere, so systemd writes
// "device:inode" of the journal's socket into it, to be compared (systemd.exec(5)).
static bool stderr_is_journal(void)
{
	const char *text = getenv("JOURNAL_STREAM");
	const char *colon = text ? strchr(text, ':') : NULL;
	uint64_t device, inode;
	struct stat st;
	if (!colon || !parse_u64_n(text, (size_t)(colon - text), &device) ||
		!parse_u64(colon + 1, &inode))
		return false;
	return fstat(STDERR_FILENO, &st) == 0 && st.st_dev == device && st.st_ino == inode;
}

static void __attribute__((format(printf, 2, 0)))
log_line(enum log_level level, const char *format, va_list args)
{
	if (level > current_level)
		return;
	int saved = errno;
	char line[LINE_MAX_SIZE];
	char time[TIME_TEXT_SIZE];
	int head;
	if (stderr_is_journal())
		head = snprintf(line, sizeof(line), "<%d>", levels[level].priority);
	else
		head = snprintf(line, sizeof(line), "%s %s: ", format_time(wall_ms(), time),
			levels[level].name);
	errno = saved;				       // for %m
	size_t room = sizeof(line) - (size_t)head - 1; // one byte for the line break
	int length = vsnprintf(line + head, room, format, args);
	size_t size = (size_t)head;
	if (length > 0)
		size += (size_t)length < room ? (size_t)length : room - 1;
	line[size] = '\0';
	text_flatten(line); // one event, one line; no escape sequences from outside
	line[size++] = '\n';
	ssize_t ignored = write(STDERR_FILENO, line, size); // nowhere to complain
	(void)ignored;
	errno = saved;
}

#define DEFINE_LOG(name, level)                \
	void name(const char *format, ...)     \
	{                                      \
		va_list args;                  \
		va_start(args, format);        \
		log_line(level, format, args); \
		va_end(args);                  \
	}

DEFINE_LOG(log_error, LOG_LEVEL_ERROR)
DEFINE_LOG(log_warning, LOG_LEVEL_WARNING)
DEFINE_LOG(log_info, LOG_LEVEL_INFO)
DEFINE_LOG(log_debug, LOG_LEVEL_DEBUG)
