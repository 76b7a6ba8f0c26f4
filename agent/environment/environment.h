// SPDX-License-Identifier: Apache-2.0
//
// From an image and a list of packages to a *derived image*: the image's layers, one more layer
// with the environment at its fixed prefix, and a configuration whose Env activates it. Everything
// else that Stoker can do with an image (lease, mount, evict, pull, push) then works for it as
// well; the job does not know the difference.
//
//   request R --resolve--> lock L --build--> environment E = a derived image
//
// R -> E is remembered (records.h) and may be asked anew; E is immutable. How it is done:
// docs/environments.md.
#pragma once

#include "agent/config/config.h"
#include "agent/environment/failure.h"
#include "agent/job/spec.h"
#include "base/buffer.h"
#include "oci/store/store.h"

#define ENVIRONMENT_PREFIX "/opt/stoker/env"

// Bump to have everything built anew: the layout of the layer, of the record, of the lock.
enum { ENVIRONMENT_LAYOUT = 1, ENVIRONMENT_KEY_SIZE = 65 };

struct environment_events {
	// A phase begins: "looking" (in the registry), "resolving", "waiting" (for another build of
	// the same), "downloading", "installing", "verifying", "sealing"; with why or what in one
	// line (may be NULL).
	void (*phase)(void *data, const char *name, const char *detail);
	// Bytes so far of how many (0: unknown), in this phase.
	void (*progress)(void *data, uint64_t done, uint64_t total);
	void (*notice)(void *data, const char *text);
	void *data;
};

struct environment_options {
	struct store *store;
	const struct config *config;
	const struct job_environment *request; // given, and not user_managed
	const struct store_image *image;       // the base; here, with its documents
	const struct store_layers *layers;     // of the base, leased
	int log_fd;			       // what the tools print is appended here; -1
	const struct environment_events *events;
	int *canceled; // as pull_options.canceled
};

struct environment_result {
	struct store_image image;		// the derived one; in the store
	struct store_layers layers;		// of it, leased; the caller's
	char key[ENVIRONMENT_KEY_SIZE];		// E
	char request_key[ENVIRONMENT_KEY_SIZE]; // R
	bool reused;
	char reason[160]; // "the same request was built at …", "pulled from …", "built: …"
	uint64_t fetched; // bytes over the network for it
};

struct environment_trouble { // of a failure, beside the error
	enum environment_failure failure;
	bool remembered;	// it is an earlier build's
	struct buffer evidence; // the tool's own last lines; may be empty
};

// Reuse, pull or build. One build of a request at a time on this node; who comes meanwhile waits
// for it. Everything half-made is gone with its maker, or swept by the next.
int environment_ensure(const struct environment_options *o, struct environment_result *result,
	struct environment_trouble *trouble, struct error *err);
void environment_result_release(struct environment_result *r);
void environment_trouble_release(struct environment_trouble *t);

// Is this run a step of a build (step.h) and nobody's job? Its build removes it.
bool environment_step_is(struct store *s, const char *run_id);
