// SPDX-License-Identifier: Apache-2.0
// What a request became, <state>/environments/requests/<R>.json.
#include "agent/environment/records_internal.h"

#include "base/text.h"
#include "base/time.h"

#include <assert.h>

enum { ANSWER_BYTES_MAX = 1024 * 1024 };

static bool failure_parse(const char *name, enum environment_failure *failure)
{
	for (int f = 0; f < ENVIRONMENT_FAILURES; f++) {
		if (!streq(name, environment_failure_name((enum environment_failure)f)))
			continue;
		*failure = (enum environment_failure)f;
		return true;
	}
	return false;
}

int environment_answer_write(struct store *s, const char *request_key,
	const struct environment_answer *x, struct error *err)
{
	cleanup_json_writer struct json_writer *w = json_writer_new(true);
	cleanup_buffer struct buffer text = {0};
	if (x->failure == ENVIRONMENT_OK && records_check_key(x->key, err) < 0)
		return -1;
	assert(x->failure != ENVIRONMENT_OK || x->config);
	json_write_open_object(w);
	json_write_member_int(w, "resolved_ms", x->resolved_ms);
	if (x->failure == ENVIRONMENT_OK) {
		json_write_member(w, "environment", x->key);
		json_write_member(w, "config", x->config);
	} else {
		json_write_member(w, "failure", environment_failure_name(x->failure));
		json_write_member_int(w, "until_ms", x->until_ms);
		json_write_member(w, "text", x->text);
		json_write_member(w, "evidence", x->evidence);
	}
	json_write_close_object(w);
	if (json_writer_finish(w, &text, err) < 0 ||
		records_put(s, "requests", request_key, text.data, text.size, err) < 0)
		return error_context(err, "the answer to request %.12s", request_key);
	return 0;
}

static bool answer_parse(const struct json *root, struct environment_answer *x)
{
	const struct json *resolved = json_get(root, "resolved_ms");
	const struct json *until = json_get(root, "until_ms");
	const char *key = json_get_string(root, "environment");
	const char *failure = json_get_string(root, "failure");
	if (!resolved || resolved->type != JSON_INTEGER)
		return false;
	x->resolved_ms = resolved->integer;
	if (key && records_is_key(key)) {
		memcpy(x->key, key, ENVIRONMENT_KEY_SIZE);
		x->config = json_get_string(root, "config");
		return x->config != NULL;
	}
	if (!failure || !failure_parse(failure, &x->failure) || x->failure == ENVIRONMENT_OK ||
		!until || until->type != JSON_INTEGER)
		return false;
	x->until_ms = until->integer;
	x->text = json_get_string(root, "text");
	x->evidence = json_get_string(root, "evidence");
	return true;
}

int environment_answer_read(struct store *s, struct arena *a, const char *request_key,
	struct environment_answer *x, struct error *err)
{
	cleanup_buffer struct buffer text = {0};
	struct environment_answer read = {0};
	struct error ignored;
	int got = records_get(s, "requests", request_key, ANSWER_BYTES_MAX, &text, err);
	if (got < 0 && err->kind != ERROR_LIMIT)
		return -1;
	if (got < 0) // not one that we wrote
		error_clear(err);
	if (got <= 0)
		return 0;
	const struct json *root =
		json_parse(a, text.data, text.size, "request", &json_limits_default, &ignored);
	if (!root || !answer_parse(root, &read))
		return 0;
	// A clock that was set back must not keep a failure for years.
	int64_t now = wall_ms();
	if (read.failure != ENVIRONMENT_OK && (read.until_ms <= now || read.resolved_ms > now))
		return 0;
	*x = read;
	return 1;
}
