// SPDX-License-Identifier: Apache-2.0
#include "agent/environment/records_internal.h"

#include "base/file.h"
#include "base/text.h"
#include "oci/store/entries.h"

int environment_requests_of(struct store *s, struct arena *a, const char *key, const char *config,
	struct json_strings *requests, struct error *err)
{
	struct store_names names;
	cleanup_fd int folder = records_folder(s, "requests", err);
	if (folder < 0 || store_names(folder, ".", a, &names, err) < 0)
		return -1;
	struct json_strings found = {.items = arena_array(a, const char *, names.count + 1)};
	for (size_t i = 0; i < names.count; i++) {
		struct environment_answer answer;
		if (strlen(names.items[i]) != 64 + 5 || !ends_with(names.items[i], ".json"))
			continue;
		const char *request = arena_strndup(a, names.items[i], 64);
		if (!records_is_key(request))
			continue;
		int got = environment_answer_read(s, a, request, &answer, err);
		if (got < 0)
			return -1;
		if (got && answer.failure == ENVIRONMENT_OK && streq(answer.key, key) &&
			(!config || streq(answer.config, config)))
			found.items[found.count++] = request;
	}
	*requests = found;
	return 0;
}
