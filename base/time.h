// SPDX-License-Identifier: Apache-2.0
//
// Clocks: a monotonic one for deadlines, the wall clock for what people read.
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

// Monotonic milliseconds.
int64_t now_ms(void);
// Milliseconds since 1970 in UTC.
int64_t wall_ms(void);
// The same in microseconds.
int64_t wall_us(void);
// Nanoseconds since 1970, also before it.
struct timespec timespec_of_ns(int64_t ns);
// Sleep; a signal may end it early.
void sleep_ms(int64_t ms);

// Wall-clock time as RFC 3339 with milliseconds in UTC: "2026-11-23T10:00:00.000Z". A time outside
// the years 1970 to 9999 becomes the nearest one inside.
enum { TIME_TEXT_SIZE = 32 };
const char *format_time(int64_t unix_ms, char text[TIME_TEXT_SIZE]);

// RFC 3339 (and a space for the 'T', or no time at all: midnight), with an offset; without one UTC
// is meant. The years 1970 to 9999. Microseconds since 1970; digits behind those are cut off.
bool parse_time(const char *text, int64_t *unix_us);

// "90" (seconds), "10m", "2h30m", "1d": digits with s, m, h or d behind, larger units first. Up to
// 100 years.
bool parse_duration(const char *text, int64_t *seconds);
