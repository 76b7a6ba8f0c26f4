// SPDX-License-Identifier: Apache-2.0
//
// libcurl, loaded at first use. Linking it costs 8 ms of start-up in every process (it brings 40
// libraries); only the processes that speak to the network pay (docs/adr/0002-linking.md).
#pragma once

#include "base/error.h"

#include <curl/curl.h>

#define CURL_FUNCTIONS(X)      \
	X(easy_init)           \
	X(easy_cleanup)        \
	X(easy_reset)          \
	X(easy_setopt)         \
	X(easy_getinfo)        \
	X(easy_strerror)       \
	X(easy_pause)          \
	X(easy_escape)         \
	X(free)                \
	X(global_init)         \
	X(multi_init)          \
	X(multi_cleanup)       \
	X(multi_add_handle)    \
	X(multi_remove_handle) \
	X(multi_perform)       \
	X(multi_poll)          \
	X(multi_wakeup)        \
	X(multi_info_read)     \
	X(multi_setopt)        \
	X(multi_socket_action) \
	X(multi_assign)        \
	X(multi_strerror)      \
	X(slist_append)        \
	X(slist_free_all)      \
	X(url)                 \
	X(url_cleanup)         \
	X(url_get)             \
	X(url_set)             \
	X(version_info)

// curl->easy_setopt(handle, CURLOPT_URL, "…") is curl_easy_setopt(…).
struct curl_functions {
#define X(name) __typeof__(&(curl_##name)) name;
	CURL_FUNCTIONS(X)
#undef X
};

// The functions of libcurl.so.4, initialised once per process (not thread-safe). NULL with
// ERROR_SYSTEM where the library is missing.
const struct curl_functions *curl_load(struct error *err);
