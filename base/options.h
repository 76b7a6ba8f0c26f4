// SPDX-License-Identifier: Apache-2.0
//
// Command lines by table: a verb lists its options with where each goes; parsing, --help and the
// error texts come from the table.
#pragma once

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>

enum option_type {
	OPTION_END,	// the last row
	OPTION_FLAG,	// bool *
	OPTION_STRING,	// const char **; given twice, the last one wins
	OPTION_STRINGS, // struct option_strings *; may be given many times
	OPTION_NUMBER,	// uint64_t *, decimal digits
};

struct option_strings {
	const char **items; // grows; free with option_strings_release()
	size_t count;
};

struct option {
	enum option_type type;
	char letter;	      // 0 if none
	const char *name;     // without "--"
	const char *argument; // its name in --help, NULL for a flag
	const char *help;
	void *target;
};

struct options_usage {
	const char *verb;      // "image mount"
	const char *arguments; // "REF DIR"
	const char *summary;   // what the verb does, one or two sentences
	const char *more;      // further paragraphs of --help, may be NULL
	const char *program;   // NULL: "stoker"
	void (*help)(void);    // prints --help instead, may be NULL
	int least, most;       // positional arguments; most -1: any number
};

enum { OPTIONS_OK = 0, OPTIONS_HELP = 1 };

// Parse argv[1…]. Returns OPTIONS_OK and the positional arguments in *rest (inside argv),
// OPTIONS_HELP when
// --help was printed to stdout, -1 with ERROR_INVALID. Options may stand anywhere before "--"; with
// stop_at_positional they end at the first other argument (commands to run follow).
int options_parse(const struct option *options, const struct options_usage *usage,
	bool stop_at_positional, int argc, char **argv, char ***rest, int *rest_count,
	struct error *err);

void option_strings_release(struct option_strings *s);
#define cleanup_option_strings __attribute__((cleanup(option_strings_release)))
