// SPDX-License-Identifier: Apache-2.0
//
// The package proxy: the only server that a build's tools talk to. It is a process of its own
// ("stoker packages": no capabilities, no file system beyond its cache), serves plain HTTP on a
// loopback port inside the build's own network namespace, and fetches from the real channels and
// indexes with the download engine (agent/data/download.h). So
//
//   - nothing is downloaded twice, however many builds run at once and whatever tool they use;
//   - credentials and private CAs stay outside of the build, where packages run their scripts;
//   - a server that hangs, breaks off or answers 500 is known for that, whatever the tool makes of
//   it;
//   - downloads are resumed, retried, counted, shown.
//
// https://host/path is http://127.0.0.1:PORT/https/host/path inside. Absolute links in index pages
// (PEP 503 HTML, PEP 691 JSON, repodata's base_url) are rewritten.
#pragma once

#include "agent/data/download.h"
#include "agent/environment/environment.h"

enum { PACKAGE_PROXY_PORT = 1041 };

struct package_proxy;

struct package_proxy_trouble { // what a server did, since the last look
	enum data_failure failure;
	long status; // HTTP; 0: none
	char url[1024], text[sizeof(((struct error *)0)->text)];
};

struct package_proxy_counts {
	uint64_t fetched_bytes, served_bytes, requests, hits;
};

// Start the process. Hosts of `sources` (channels, indexes, addresses in requirements) may be
// asked; beside them those that their pages link to and redirect to, except for addresses of this
// node.
struct package_proxy *package_proxy_start(struct store *s, const struct config *config,
	const struct json_strings *sources, struct error *err);
void package_proxy_free(struct package_proxy *p); // ends it

// The descriptor to hand to a build step's sandbox (job.listen_fd): what listens inside is sent
// through it, and served until the step has ended.
int package_proxy_socket(const struct package_proxy *p);

const char *package_proxy_url(struct arena *a, const char *url); // as seen inside
const char *package_proxy_original(
	struct arena *a, const char *url); // and back; others as they are

// The last trouble with a server (the worst: network before 404), and forget it. 1, 0 none, -1.
int package_proxy_trouble(
	struct package_proxy *p, struct package_proxy_trouble *t, struct error *err);
int package_proxy_counts(
	struct package_proxy *p, struct package_proxy_counts *c, struct error *err);

int package_proxy_main(void); // of the helper process; its socket is descriptor 3
