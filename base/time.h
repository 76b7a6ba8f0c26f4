// SPDX-License-Identifier: Apache-2.0
//
// Clocks: a monotonic one for deadlines, the wall clock for what people read.
#pragma once

#include <stdint.h>

// Monotonic milliseconds.
int64_t now_ms(void);
// Milliseconds since 1970 in UTC.
int64_t wall_ms(void);

// Wall-clock time as RFC 3339 with milliseconds in UTC: "2026-11-23T10:00:00.000Z". A time outside
// the years 1970 to 9999 becomes the nearest one inside.
enum { TIME_TEXT_SIZE = 32 };
const char *format_time(int64_t unix_ms, char text[TIME_TEXT_SIZE]);
