// SPDX-License-Identifier: Apache-2.0
//
// Logging, for agent/ and the programs: one line per event on stderr, with a level and a time. oci/
// and base/ never log; they return errors. When stderr is systemd's journal (JOURNAL_STREAM), lines
// carry the <N> priority prefix of sd-daemon(3) instead of a time.
#pragma once

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARNING, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };

void log_set_level(enum log_level level);
enum log_level log_get_level(void);
// "error", "warning", "info", "debug"; -1 on anything else.
int log_level_parse(const char *name);

void log_error(const char *format, ...) __attribute__((format(printf, 1, 2)));
void log_warning(const char *format, ...) __attribute__((format(printf, 1, 2)));
void log_info(const char *format, ...) __attribute__((format(printf, 1, 2)));
void log_debug(const char *format, ...) __attribute__((format(printf, 1, 2)));
