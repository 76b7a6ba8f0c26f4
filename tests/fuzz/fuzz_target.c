// SPDX-License-Identifier: Apache-2.0
//
// The target of a request line, and the routes that it is compared with.
#include "base/text.h"
#include "base/utf8.h"
#include "controller/http/route.h"

#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const char *text)
{
	if (utf8_valid(text, strlen(text)) != strlen(text))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char *const patterns[] = {"/", "/v1/", "/v1/runs/{run}",
		"/v1/runs/{run}/files/{path*}", "/v1/models/{name}/{version}/files"};
	cleanup_arena struct arena a = {0};
	cleanup_free char *text = xstrndup((const char *)data, size);
	struct target t;
	struct parameters p;
	struct error err = {0};
	if (target_parse(&a, text, &t, &err) < 0) {
		if (!err.kind)
			abort();
		return 0;
	}
	for (size_t i = 0; i < t.query_count; i++) {
		check(t.query[i].name);
		check(t.query[i].value);
	}
	for (size_t i = 0; i < array_size(patterns); i++) {
		if (!route_match(&a, patterns[i], &t, &p))
			continue;
		for (size_t k = 0; k < p.count; k++) {
			const char *v = p.items[k].value;
			check(v);
			if (!*v || streq(v, "..") || *v == '/' || strstr(v, "/../") ||
				ends_with(v, "/..") || starts_with(v, "../"))
				abort();
		}
	}
	return 0;
}
