// SPDX-License-Identifier: Apache-2.0
//
// The verbs that speak to a controller: where it is, with which token (`stoker login`), and what
// they print of its runs.
#pragma once

#include "agent/command/command.h"
#include "agent/service/service.h"

// STOKER_URL, STOKER_TOKEN and STOKER_CA, else what `stoker login` wrote:
// $XDG_CONFIG_HOME/stoker/controller.json, which only its owner may read. ERROR_NOT_FOUND where
// there is neither; says what to do.
int remote_open(struct service **service, struct error *err);
// Is there a controller to ask?
bool remote_is_known(void);
int remote_save(const char *url, const char *token, const char *ca, struct error *err);

// The run of that name, or, of those that the user may see, the only one that begins so: its
// document.
int remote_find_run(struct service *s, const char *name, struct arena *a, const struct json **run,
	struct error *err);
const char *remote_run_path(struct arena *a, const struct json *run, const char *rest);
// A member that is a text, else "-".
const char *remote_text(const struct json *object, const char *key);

int remote_print_json(const struct json *document, struct error *err);
// Like `stoker show` does of a local one.
void remote_print_run(const struct json *run);
// A node's "resources", line by line; nothing of what is none.
void remote_print_resources(const struct json *has);
// "40 % of 1.2 GB, 35 MB/s", or "" of what is none.
enum { REMOTE_PROGRESS_SIZE = 80 };
const char *remote_progress(const struct json *progress, char text[REMOTE_PROGRESS_SIZE]);
// Say on standard error what becomes of the run until it prints, or has ended.
int remote_wait(struct service *s, const char *run_id, struct error *err);
int remote_show(const char *name, bool json, struct error *err);
// Its log from the last `tail` lines on (-1: all), also of further attempts; until the run has
// ended if `follow`.
int remote_logs(const char *name, bool follow, int64_t tail, struct error *err);
// Print the log as it comes, then say how the run ended. Returns the exit status that it stands
// for.
int remote_follow(struct service *s, const char *run_id, struct error *err);
