// SPDX-License-Identifier: Apache-2.0
//
// The head of an HTTP response: status line, fields, and the WWW-Authenticate challenges in it.
#include "base/memory.h"
#include "oci/registry/response.h"

#include <stdint.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct challenges list = {0};
	struct response r = {0};
	struct error err = {0};
	cleanup_free char *text = xstrndup((const char *)data, size);
	challenge_parse(text, &list, &err);
	for (size_t i = 0; i < list.count; i++)
		if (strlen(list.items[i].realm) >= CHALLENGE_TEXT_MAX)
			abort();
	for (size_t at = 0; at < size;) {
		const uint8_t *end = memchr(data + at, '\n', size - at);
		size_t n = end ? (size_t)(end - data) + 1 - at : size - at;
		if (response_line(&r, (const char *)data + at, n, &err) < 0)
			break;
		at += n;
	}
	if (r.has_range && r.range_start >= r.range_end)
		abort();
	response_release(&r);
	return 0;
}
