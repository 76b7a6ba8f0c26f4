// SPDX-License-Identifier: Apache-2.0
//
// What a snapshot leaves out: the rules of `.amlignore` at the root, or where there is none those
// of
// `.gitignore` in every folder, as gitignore(5) and git's own code have them, tests against git
// included. The rules of the node's user (core.excludesFile, .git/info/exclude) do not count: two
// nodes would copy different things.
//
// Rules come from whoever wrote the folder. They are matched by walking a set of states, so the
// time is at most length of rule times length of path, and ignore_steps() says how much it was.
#pragma once

#include "base/error.h"
#include "base/memory.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	IGNORE_BYTES_MAX = 1024 * 1024, // of the rules in force at one place
	IGNORE_PATTERN_MAX = 4096,	// bytes of one rule
};

struct ignore;

struct ignore *ignore_new(void);
void ignore_free(struct ignore *ig); // NULL is fine

// Rules in force below `folder` ("" for the root, else "a/b"), until ignore_leave(); later ones go
// before earlier ones. ERROR_LIMIT.
int ignore_add(
	struct ignore *ig, const char *folder, const char *text, size_t size, struct error *err);
// The walk goes into a folder: its rules, if it has some, are in force. The root decides which
// files count. A file of rules that is a link is none (as for git). Each needs an ignore_leave().
int ignore_enter(struct ignore *ig, int folder_fd, const char *folder, struct error *err);
void ignore_leave(struct ignore *ig);

// Is this path (from the root, without "/" at its ends) left out, its parents being in?
bool ignore_match(struct ignore *ig, const char *path, bool is_folder);
// Of all matching so far.
uint64_t ignore_steps(const struct ignore *ig);
// ".amlignore", ".gitignore"; NULL: no file was found yet.
const char *ignore_file(const struct ignore *ig);

DEFINE_CLEANUP(ignore_free, struct ignore *, ignore_free)
#define cleanup_ignore __attribute__((cleanup(ignore_freep)))
