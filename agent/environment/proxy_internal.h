// SPDX-License-Identifier: Apache-2.0
//
// The package proxy's process: what its files share. Threads: one waits for connections and for
// what the starter asks, one serves each connection.
#pragma once

#include "agent/environment/proxy.h"
#include "agent/environment/proxy_address.h"
#include "agent/environment/proxy_links.h"
#include "base/arena.h"
#include "base/curl.h"

#include <pthread.h>
#include <stdatomic.h>

enum {
	PROXY_CONTROL = 3, // descriptors of the process: the starter, and
	PROXY_INTAKE = 4,  // where listening sockets come
	PROXY_CONNECTIONS_MAX = 64,
	PROXY_LISTENERS_MAX = 4, // newer ones push out the oldest
	PROXY_SETTINGS_MAX = 16 * 1024 * 1024,
};

// ---- what the starter says (proxy_settings.c)

struct proxy_host {		       // as agent.yaml's registries have it
	const char *name, *ca, *proxy; // ca: PEM; NULL: none
};

struct proxy_settings {
	struct json_strings sources; // without users and tokens
	struct json_strings local_hosts;
	struct package_credentials credentials;
	struct proxy_host *hosts;
	size_t host_count;
	uint64_t stall_ms, tries;
	struct cache_limits limits;
};

int proxy_settings_make(struct arena *a, const struct config *config,
	const struct json_strings *sources, struct proxy_settings *s, struct error *err);
int proxy_settings_write(const struct proxy_settings *s, struct buffer *out, struct error *err);
int proxy_settings_read(struct arena *a, const char *text, size_t size, struct proxy_settings *s,
	struct error *err);

enum proxy_verb { PROXY_CONFIGURE, PROXY_TROUBLE, PROXY_COUNTS };

struct proxy_answer {
	int found; // 1, 0; -1: error
	union {
		struct package_proxy_trouble trouble;
		struct package_proxy_counts counts;
		struct error error;
	};
};

// ---- hashes that pages promise (proxy_hashes.c); 2^20 at most, later ones are not remembered

struct proxy_hashes;
struct proxy_hashes *proxy_hashes_new(void);
void proxy_hashes_free(struct proxy_hashes *h);
// Of an address without its fragment. Two pages that say different things cancel each other.
void proxy_hashes_add(struct proxy_hashes *h, const char *url, const char *sha256);
bool proxy_hashes_find(struct proxy_hashes *h, const char *url, char sha256[65]);

// ---- the state (proxy_state.c)

struct proxy {
	struct arena arena;
	struct proxy_settings settings;
	const struct curl_functions *curl;
	struct download_cache *cache;
	int folder_fd; // of the cache
	pthread_mutex_t mutex;
	pthread_cond_t changed; // a file has come, or a connection has ended
	struct proxy_file *files[1024];
	size_t file_count;
	atomic_size_t pages;		  // rewritten, that are kept open
	atomic_uint_least64_t page_bytes; // of them
	struct proxy_hashes *hashes;
	char (*origins)[PACKAGE_ORIGIN_MAX]; // that may be asked
	size_t origin_count;
	struct package_proxy_trouble trouble;
	struct package_proxy_counts counts;
	unsigned connections;
	int wake_fd; // eventfd: a connection has ended
};

int proxy_init(struct proxy *p, struct error *err); // after the settings
void proxy_allow(struct proxy *p, const char *url);
bool proxy_allowed(struct proxy *p, const char *url);
void proxy_note_trouble(struct proxy *p, enum data_failure failure, long status, const char *url,
	const struct error *err);
void proxy_count(struct proxy *p, uint64_t fetched, uint64_t served, bool request, bool hit);

// ---- one file, from the cache or the network (proxy_file.c)

struct proxy_want {
	const char *url;
	bool json;	 // the client takes PEP 691's form
	unsigned port;	 // on which the client reaches us
	int client_fd;	 // looked at while it waits
	bool keep_awake; // send it interim answers
};

struct proxy_found {
	int fd;
	uint64_t size;
	struct download_result result;
	int status; // for the client; 200, or why not, with
	char text[sizeof(((struct error *)0)->text)];
	char etag[80]; // quoted
	char content_type[128];
};

void proxy_file_get(struct proxy *p, const struct proxy_want *w, struct proxy_found *f);
void proxy_found_release(struct proxy_found *f);

// Rewrite the links of a page (proxy_page.c). 1: *fd is the new content of *size bytes; 0: nothing
// is to be changed; -1.
int proxy_page_rewrite(struct proxy *p, const struct download_result *r, const char *url,
	enum package_document kind, unsigned port, int *fd, uint64_t *size, struct error *err);

// ---- HTTP (proxy_connection.c)

// Serve a connection to its end; closes it.
void proxy_connection_serve(struct proxy *p, int fd);
