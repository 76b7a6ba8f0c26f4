// SPDX-License-Identifier: Apache-2.0
//
// A build under way: its folder, its proxy, what it is made from and what has come of it. The order
// of the parts is environment.c's.
#pragma once

#include "agent/environment/classify.h"
#include "agent/environment/environment_internal.h"
#include "agent/environment/lock.h"
#include "agent/environment/pip.h"
#include "agent/environment/proxy.h"
#include "agent/environment/tools_internal.h"

#include <time.h>

struct build {
	// Given.
	const struct environment_options *o;
	struct arena *arena;
	const struct environment_request *request;
	const struct tools_found *found;
	const struct environment_lock *from; // build exactly that; NULL: what the request asks
	struct environment_trouble *trouble;
	// Made.
	int folder_fd; // holds its lock
	char *folder;  // "<state>/environments/build/<random>"
	char *opt_path;
	int tree_fd, opt_fd; // …/tree, …/tree/opt/stoker
	struct package_proxy *proxy;
	struct step_place place;
	struct json_pairs env; // of each step
	const char *phase;     // told to the caller
	int64_t told_ms;
	struct environment_lock lock;
	struct json_strings activation;
	uint64_t fetched;
};

int build_open(struct build *b, struct error *err);
void build_close(struct build *b); // also of one that failed to open; its folder goes

// Fail with a class; the text may be formatted. Returns -1.
int build_fail(struct build *b, enum environment_failure failure, struct error *err,
	const char *format, ...) __attribute__((format(printf, 4, 5)));
// One command. 0 whatever its exit status; -1 where the sandbox ended it, or nothing ran.
int build_step(struct build *b, const char *phase, const struct json_strings *argv,
	void (*line)(void *data, const char *line), struct step_result *result, struct error *err);
// The same, and its failure is classified.
typedef void classify_fn(struct arena *a, const char *output, size_t size, struct classified *c);
int build_tool(struct build *b, const char *phase, const struct json_strings *argv,
	void (*line)(void *data, const char *line), classify_fn *classify,
	struct step_result *result, struct error *err);
// Tell the caller, once for each phase (and each detail that is not NULL).
void build_phase(struct build *b, const char *name, const char *detail);

// Files for and from the tools, in tmp/. Reading trusts nothing: no link is followed, nothing but a
// regular file is read.
// A file of the tree anew, in place of what has its name. Nothing is synced: a fsync(2) would bring
// the whole tree to the disk, which is for the layer only.
int build_write(
	int dirfd, const char *name, const struct buffer *data, mode_t mode, struct error *err);
// The environment's folder, and not where a link in its place leads.
int build_prefix(struct build *b, struct error *err);
int build_put(struct build *b, const char *name, const struct buffer *data, struct error *err);
int build_read(int dirfd, const char *path, size_t limit, struct buffer *data, struct error *err);
int build_get(
	struct build *b, const char *path, size_t limit, struct buffer *data, struct error *err);
// The names in a folder that end like that, sorted; none where there is no folder. ERROR_LIMIT.
int build_names(struct build *b, const char *path, const char *suffix, size_t most,
	struct json_strings *names, struct error *err);

// The parts (build_pip.c, build_bytecode.c, build_uv.c, build_conda.c, verify.c, activation.c).
int build_pip(struct build *b, struct error *err);
struct pip_options build_pip_options(struct build *b);
// Compile what pip has installed. For Python 3.4 and later.
int build_bytecode(struct build *b, struct error *err);
int build_uv(struct build *b, struct error *err);
int build_conda(struct build *b, struct error *err);
// A time before the pip phase (of a file in tmp/), and whether that has changed files of conda's
// packages.
#define BUILD_MARK "mark"
int build_conda_mark(struct build *b, struct timespec *mark, struct error *err);
int build_conda_unchanged(struct build *b, const struct timespec *mark, struct error *err);
int build_verify(struct build *b, struct error *err);
int build_activation(struct build *b, struct error *err);
// What differs between two builds of one lock, or names the build, goes from the tree.
int build_normalise(struct build *b, struct error *err);

// For environment_lock_read_*().
const char *build_original(void *data, struct arena *a, const char *url);
