// SPDX-License-Identifier: Apache-2.0
#include "base/curl.h"

#include <dlfcn.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

static const char library[] = "libcurl.so.4";

static int load_functions(void *handle, struct curl_functions *functions, struct error *err)
{
#define X(name)                                                                                  \
	{                                                                                        \
		void *symbol = dlsym(handle, "curl_" #name);                                     \
		if (!symbol)                                                                     \
			return error_set(err, ERROR_SYSTEM,                                      \
				"%s has no curl_" #name "; a newer libcurl is needed", library); \
		memcpy(&functions->name, &symbol, sizeof(symbol));                               \
	}
	CURL_FUNCTIONS(X)
#undef X
	return 0;
}

// Debian's libcurl brings GnuTLS along (for RTMP and LDAP), whose constructor tests its ciphers:
// 0.8 MiB that stay resident in each process, for nothing. Who does use GnuTLS calls its
// gnutls_global_init(), which this leaves alone.
static void *open_library(void)
{
	static const char name[] = "GNUTLS_NO_IMPLICIT_INIT";
	bool ours = !getenv(name) && setenv(name, "1", 1) == 0;
	void *handle = dlopen(library, RTLD_NOW | RTLD_LOCAL);
	if (ours)
		unsetenv(name);
	return handle;
}

const struct curl_functions *curl_load(struct error *err)
{
	static struct curl_functions functions;
	static void
		*loaded; // never closed: libcurl leaves handlers behind that outlive a dlclose()
	if (loaded)
		return &functions;
	void *handle = open_library();
	if (!handle) {
		error_set(err, ERROR_SYSTEM, "%s; install libcurl 4", dlerror());
		return NULL;
	}
	struct curl_functions found;
	if (load_functions(handle, &found, err) < 0) {
		dlclose(handle);
		return NULL;
	}
	CURLcode code = found.global_init(CURL_GLOBAL_DEFAULT);
	if (code != CURLE_OK) {
		error_set(err, ERROR_SYSTEM, "%s: cannot initialise: %s", library,
			found.easy_strerror(code));
		return NULL;
	}
	functions = found;
	loaded = handle;
	return &functions;
}
