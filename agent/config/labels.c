// SPDX-License-Identifier: Apache-2.0
#include "agent/config/labels.h"

#include "base/text.h"

int label_check(const char *name, const char *value, struct error *err)
{
	static const char letters[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_./";
	size_t n = strlen(name);
	if (!n || n > LABEL_NAME_MAX || name[strspn(name, letters)] || strchr("-_./", *name))
		return error_set(err, ERROR_INVALID,
			"a label's name has 1 to %d letters, digits, '-', '_', '.' and '/', a "
			"letter or digit first",
			LABEL_NAME_MAX);
	cleanup_free char *flat = xstrdup(value);
	text_flatten(flat);
	if (strlen(value) > LABEL_VALUE_MAX || !streq(flat, value))
		return error_set(err, ERROR_INVALID,
			"a label's value is text of at most %d bytes in one line", LABEL_VALUE_MAX);
	return 0;
}

int labels_decode(struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	struct json_pairs pairs;
	struct error why;
	if (json_decode_pairs(d, value, &pairs, err) < 0)
		return -1;
	if (pairs.count > LABELS_MAX)
		return json_decode_fail(d, value, err, ERROR_LIMIT, "more than %d", LABELS_MAX);
	for (size_t i = 0; i < pairs.count; i++)
		if (label_check(pairs.items[i].key, pairs.items[i].value, &why) < 0)
			return json_decode_fail(d, value, err, ERROR_INVALID, "%s: %s",
				pairs.items[i].key, why.text);
	*(struct json_pairs *)target = pairs;
	return 0;
}

static void put(struct arena *a, struct json_pairs *to, const char *key, const char *value)
{
	for (size_t i = 0; i < to->count; i++)
		if (streq(to->items[i].key, key)) {
			to->items[i].value = arena_strdup(a, value);
			return;
		}
	to->items[to->count++] = (struct json_pair){arena_strdup(a, key), arena_strdup(a, value)};
}

int labels_parse(const char *const *texts, size_t count, struct arena *a, struct json_pairs *labels,
	struct error *err)
{
	struct json_pairs made = {.items = arena_array(a, struct json_pair, count + 1)};
	if (count > LABELS_MAX)
		return error_set(err, ERROR_LIMIT, "--label: more than %d", LABELS_MAX);
	for (size_t i = 0; i < count; i++) {
		const char *equals = strchr(texts[i], '=');
		if (!equals)
			return error_set(
				err, ERROR_INVALID, "--label %.80s: must be NAME=VALUE", texts[i]);
		const char *name = arena_strndup(a, texts[i], (size_t)(equals - texts[i]));
		if (label_check(name, equals + 1, err) < 0)
			return error_context(err, "--label %.80s", texts[i]);
		put(a, &made, name, equals + 1);
	}
	*labels = made;
	return 0;
}

struct json_pairs labels_merge(
	struct arena *a, const struct json_pairs *first, const struct json_pairs *second)
{
	struct json_pairs all = {
		.items = arena_array(a, struct json_pair, first->count + second->count + 1)};
	for (size_t i = 0; i < first->count; i++)
		put(a, &all, first->items[i].key, first->items[i].value);
	for (size_t i = 0; i < second->count; i++)
		put(a, &all, second->items[i].key, second->items[i].value);
	return all;
}
