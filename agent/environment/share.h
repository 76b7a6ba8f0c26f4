// SPDX-License-Identifier: Apache-2.0
//
// Environments in a registry: "environments.registry" of agent.yaml, one repository for all.
//
//   env-<the first 32 digits of E>   an environment
//   req-<the first 32 digits of R>   what a request led to
//
// Both name the derived image, whose configuration carries the lock. Who pulls computes E from the
// lock anew; the layers are checked against the diff ids of the configuration, that by the
// manifest, that by what the registry says a tag means. So whoever may write to the repository
// decides what runs; that is the operator's choice, as with images.
#pragma once

#include "agent/environment/environment.h"
#include "agent/environment/records.h"
#include "oci/store/pull.h"
#include "oci/store/push.h"

#define ENVIRONMENT_LABEL_KEY  "io.stoker.environment.key"
#define ENVIRONMENT_LABEL_LOCK "io.stoker.environment.lock"

// The name of an environment's image in the store: "stoker.local/environment:<32 digits>".
struct oci_reference environment_reference(const char key[ENVIRONMENT_KEY_SIZE]);

struct environment_push_options {
	struct store *store;
	const struct config *config;
	const char *key;
	const struct oci_reference *reference; // NULL: the node's repository, and the tags above
	const char *layout;		       // a folder instead (push.h), tagged env-…
	const struct push_events *events;
};
// ERROR_INVALID: no repository is named, here or there. Of the tags of one push the first is
// always env-….
int environment_push(
	const struct environment_push_options *o, struct push_result *r, struct error *err);

// The layer's archive, from what is here, into a file.
int environment_export_layer(struct store *s, const char *key, int fd, struct error *err);

struct environment_pull_options {
	struct store *store;
	const struct config *config;
	const struct oci_reference *reference;
	enum layer_format format;
	const struct oci_platform *platform; // NULL: this machine's
	const struct store_image *base;	     // what it must be made of; NULL: anything
	const char *key;		     // which it must be; NULL: any
	const struct pull_events *events;    // may be NULL
	void *data;
	int *canceled;
};
// Pull, check, record. The image gets the name above in the store. ERROR_INVALID: it is no
// environment; ERROR_INTEGRITY: it is not the one it says it is.
int environment_pull(
	const struct environment_pull_options *o, struct environment_result *r, struct error *err);

// For a build: is what a request leads to in the node's repository? 1 with the result, 0 no (also
// when there is no repository, or it cannot be asked: then with a notice), -1 only when canceled.
int environment_fetch(const struct environment_options *o, const char *request_key,
	struct environment_result *r, struct error *err);
// The same for an environment that is known: what a job's lock names, or what was here once.
int environment_fetch_key(const struct environment_options *o, const char *key,
	struct environment_result *r, struct error *err);
// After a build: push it if the node is told to. A failure is a notice.
void environment_offer(const struct environment_options *o, const char *key);
