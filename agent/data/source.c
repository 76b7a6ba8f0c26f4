// SPDX-License-Identifier: Apache-2.0
#include "agent/data/source.h"

#include "agent/data/source_internal.h"
#include "base/buffer.h"
#include "base/text.h"

#include <ctype.h>
#include <stddef.h>

enum { NAME_LENGTH_MAX = 64, TEXT_MAX = 8192, COMMAND_MAX = 256, SECONDS_MAX = 1000000000 };

static const char *const kinds[DATA_KINDS + 1] = {
	"bind", "http", "oci", "fuse", "nfs", "cifs", "fsimage", "inline", NULL};
static const char *const modes[DATA_MODES + 1] = {
	"ro_mount", "rw_mount", "download", "direct", NULL};
static const char *const unpackings[] = {"none", "auto", "tar", "zip", NULL};
static const char *const cache_uses[] = {"revalidate", "pinned", "off", NULL};
static const char *const profiles[] = {"rclone", "s3fs", "mount-s3", "blobfuse2", "custom", NULL};

const char *data_kind_name(enum data_kind kind)
{
	return kinds[kind];
}

const char *data_mode_name(enum data_mode mode)
{
	return modes[mode];
}

const char *data_source_reference(const struct data_source *s)
{
	if (s->mode != DATA_DIRECT)
		return s->target;
	return s->file_count ? s->files[0].url : s->reference ? s->reference : s->remote;
}

int data_name_decode(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	if (json_decode_string(d, value, target, err) < 0)
		return -1;
	const char *s = value->string;
	bool ok = *s && !isdigit((unsigned char)*s) && strlen(s) <= NAME_LENGTH_MAX;
	for (; ok && *s; s++)
		ok = isalnum((unsigned char)*s) || *s == '_';
	if (!ok)
		return json_decode_fail(d, value, err, ERROR_INVALID,
			"must be letters, digits and '_', no digit first, %d at most",
			NAME_LENGTH_MAX);
	return 0;
}

int data_word_decode(struct json_decoder *d, const struct json *value, const char *const *words,
	unsigned *index, struct error *err)
{
	cleanup_buffer struct buffer all = {0};
	for (unsigned i = 0; words[i]; i++) {
		if (value->type == JSON_STRING && streq(value->string, words[i])) {
			*index = i;
			return 0;
		}
		buffer_printf(&all, "%s%s", !i ? "" : words[i + 1] ? ", " : " or ", words[i]);
	}
	return json_decode_fail(d, value, err, ERROR_INVALID, "must be %s", all.data);
}

static int decode_kind(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	return data_word_decode(d, value, kinds, target, err);
}

static int decode_mode(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	return data_word_decode(d, value, modes, target, err);
}

static int decode_unpack(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	return data_word_decode(d, value, unpackings, target, err);
}

static int decode_cache(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	return data_word_decode(d, value, cache_uses, target, err);
}

static int decode_profile(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	unsigned i;
	if (data_word_decode(d, value, profiles, &i, err) < 0)
		return -1;
	*(const char **)target = profiles[i];
	return 0;
}

static bool is_printable(const char *s)
{
	for (; *s; s++)
		if ((unsigned char)*s < ' ' || *s == 127)
			return false;
	return true;
}

// On its way into paths, mount options and argument vectors.
static int decode_line(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	if (json_decode_string(d, value, target, err) < 0)
		return -1;
	if (!value->length)
		return json_decode_fail(d, value, err, ERROR_INVALID, "must not be empty");
	if (value->length > TEXT_MAX)
		return json_decode_fail(
			d, value, err, ERROR_LIMIT, "longer than %d bytes", TEXT_MAX);
	if (!is_printable(value->string))
		return json_decode_fail(
			d, value, err, ERROR_INVALID, "must not have control characters");
	return 0;
}

static bool has_parent(const char *path)
{
	for (const char *p = path; *p; p += strcspn(p, "/"), p += *p == '/')
		if (p[0] == '.' && p[1] == '.' && (!p[2] || p[2] == '/'))
			return true;
	return false;
}

static int decode_target(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	if (decode_line(d, value, target, err) < 0)
		return -1;
	const char *s = value->string;
	if (*s != '/')
		return json_decode_fail(
			d, value, err, ERROR_INVALID, "must be an absolute path in the container");
	if (!s[strspn(s, "/.")] || has_parent(s))
		return json_decode_fail(
			d, value, err, ERROR_INVALID, "must be below / and have no \"..\"");
	return 0;
}

// The older word for mode.
static int decode_read_only(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	bool read_only;
	if (json_decode_bool(d, value, &read_only, err) < 0)
		return -1;
	*(enum data_mode *)target = read_only ? DATA_RO_MOUNT : DATA_RW_MOUNT;
	return 0;
}

static int decode_bytes(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	uint64_t *bytes = target;
	if (value->type == JSON_INTEGER && value->integer > 0) {
		*bytes = (uint64_t)value->integer;
		return 0;
	}
	if (value->type == JSON_STRING && parse_size(value->string, bytes) && *bytes)
		return 0;
	return json_decode_fail(d, value, err, ERROR_INVALID,
		"must be a size over 0: a number of bytes, or digits with k, m, g or t behind");
}

static int decode_seconds(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	if (value->type != JSON_INTEGER || value->integer < 1 || value->integer > SECONDS_MAX)
		return json_decode_fail(d, value, err, ERROR_INVALID,
			"must be a whole number from 1 to %d", SECONDS_MAX);
	*(uint64_t *)target = (uint64_t)value->integer;
	return 0;
}

// "<hex>" or "sha256:<hex>"; kept as 64 lower-case digits.
static int decode_sha256(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	if (json_decode_string(d, value, target, err) < 0)
		return -1;
	const char *hex = value->string + (starts_with(value->string, "sha256:") ? 7 : 0);
	if (strlen(hex) != 64 || hex[strspn(hex, "0123456789abcdefABCDEF")])
		return json_decode_fail(d, value, err, ERROR_INVALID,
			"must be a SHA-256 digest: 64 hexadecimal digits");
	char *lower = arena_strdup(d->arena, hex);
	for (char *p = lower; *p; p++)
		*p = (char)tolower((unsigned char)*p);
	*(const char **)target = lower;
	return 0;
}

static int decode_url(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	if (json_decode_string(d, value, target, err) < 0)
		return -1;
	const char *complaint = data_url_complaint(value->string);
	return complaint ? json_decode_fail(d, value, err, ERROR_INVALID, "%s", complaint) : 0;
}

static int decode_file_name(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	if (decode_line(d, value, target, err) < 0)
		return -1;
	if (!source_name_ok(value->string))
		return json_decode_fail(d, value, err, ERROR_INVALID,
			"must be a path below the target, without \"..\", such as a/b.bin");
	return 0;
}

const struct json_field data_file_fields[] = {
	{"url", decode_url, offsetof(struct data_file, url), JSON_REQUIRED},
	{"name", decode_file_name, offsetof(struct data_file, name), JSON_NULLABLE},
	{"sha256", decode_sha256, offsetof(struct data_file, sha256), JSON_NULLABLE},
	{"size", decode_bytes, offsetof(struct data_file, size), JSON_NULLABLE},
	{0},
};

// An address alone, or a mapping.
static int decode_file(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	struct data_file *file = target;
	if (value->type == JSON_STRING)
		return decode_url(d, value, &file->url, err);
	return json_decode_object(d, value, data_file_fields, true, file, err);
}

static int decode_files(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	struct data_source *s = target;
	void *items;
	if (json_decode_array(d, value, decode_file, sizeof(struct data_file), DATA_FILES_MAX,
		    &items, &s->file_count, err) < 0)
		return -1;
	if (!s->file_count)
		return json_decode_fail(d, value, err, ERROR_INVALID, "must not be empty");
	s->files = items;
	return 0;
}

static int decode_pair(struct json_decoder *d, const struct json_member *member,
	struct json_pair *pair, struct error *err)
{
	const struct json *value = &member->value;
	struct json place = {.line = member->line, .column = member->column};
	if (!*member->key || strchr(member->key, '=') || !is_printable(member->key))
		return json_decode_fail(d, &place, err, ERROR_INVALID,
			"the name must not be empty and have neither '=' nor control characters");
	pair->key = member->key;
	if (value->type == JSON_STRING)
		pair->value = value->string;
	else if (value->type == JSON_INTEGER)
		pair->value = arena_printf(d->arena, "%lld", (long long)value->integer);
	else if (value->type == JSON_BOOL)
		pair->value = value->boolean ? "true" : "false";
	else if (value->type == JSON_NULL)
		pair->value = "";
	else
		return json_decode_fail(
			d, value, err, ERROR_INVALID, "must be a string; put it in quotes");
	if (strlen(pair->value) > TEXT_MAX || !is_printable(pair->value))
		return json_decode_fail(d, value, err, ERROR_INVALID,
			"must not have control characters, nor more than %d bytes", TEXT_MAX);
	return 0;
}

static int decode_pairs(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	struct json_pairs *pairs = target, all = {0};
	if (value->type != JSON_OBJECT)
		return json_decode_fail(
			d, value, err, ERROR_INVALID, "must be a mapping (name: value)");
	if (value->count > DATA_OPTIONS_MAX)
		return json_decode_fail(d, value, err, ERROR_LIMIT,
			"%zu entries, at most %d are allowed", value->count, DATA_OPTIONS_MAX);
	all.items = arena_array(d->arena, struct json_pair, value->count);
	json_object_each (member, value) {
		size_t entered = json_decode_enter_key(d, member->key);
		if (decode_pair(d, member, &all.items[all.count++], err) < 0)
			return -1;
		json_decode_leave(d, entered);
	}
	*pairs = all;
	return 0;
}

static int decode_command(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	struct json_strings *command = target;
	void *items;
	size_t count;
	if (json_decode_array(d, value, decode_line, sizeof(const char *), COMMAND_MAX, &items,
		    &count, err) < 0)
		return -1;
	command->items = arena_array(d->arena, const char *, count + 1);
	command->count = count;
	if (count)
		memcpy(command->items, items, count * sizeof(*command->items));
	return 0;
}

static int decode_content(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	struct data_source *s = target;
	if (json_decode_string(d, value, &s->content, err) < 0)
		return -1;
	if (value->length > DATA_INLINE_MAX)
		return json_decode_fail(
			d, value, err, ERROR_LIMIT, "longer than %d bytes", DATA_INLINE_MAX);
	s->content_size = value->length;
	return 0;
}

#define AT(member) offsetof(struct source_entry, member)
const struct json_field data_source_fields[] = {
	{"name", data_name_decode, AT(s.name), JSON_REQUIRED},
	{"kind", decode_kind, AT(s.kind), JSON_REQUIRED},
	{"mode", decode_mode, AT(mode), JSON_NULLABLE},
	{"target", decode_target, AT(s.target), JSON_NULLABLE},
	{"read_only", decode_read_only, AT(older_mode), JSON_NULLABLE},
	{"optional", json_decode_bool, AT(s.optional), JSON_NULLABLE},
	{"writable", json_decode_bool, AT(s.writable), JSON_NULLABLE},
	{"no_exec", json_decode_bool, AT(s.no_exec), JSON_NULLABLE},
	{"unpack", decode_unpack, AT(s.unpack), JSON_NULLABLE},
	{"cache", decode_cache, AT(s.cache), JSON_NULLABLE},
	{"max_bytes", decode_bytes, AT(s.max_bytes), JSON_NULLABLE},
	{"max_seconds", decode_seconds, AT(s.max_seconds), JSON_NULLABLE},
	{"path", decode_line, AT(s.path), JSON_NULLABLE},
	{"url", decode_url, AT(url), JSON_NULLABLE},
	{"sha256", decode_sha256, AT(sha256), JSON_NULLABLE},
	{"size", decode_bytes, AT(size), JSON_NULLABLE},
	{"files", decode_files, AT(s), JSON_NULLABLE},
	{"reference", decode_line, AT(s.reference), JSON_NULLABLE},
	{"profile", decode_profile, AT(s.profile), JSON_NULLABLE},
	{"remote", decode_line, AT(s.remote), JSON_NULLABLE},
	{"options", decode_pairs, AT(s.options), JSON_NULLABLE},
	{"variables", decode_pairs, AT(s.variables), JSON_NULLABLE},
	{"command", decode_command, AT(s.command), JSON_NULLABLE},
	{"user", decode_line, AT(s.user), JSON_NULLABLE},
	{"password_secret", data_name_decode, AT(s.password_secret), JSON_NULLABLE},
	{"content", decode_content, AT(s), JSON_NULLABLE},
	{0},
};
#undef AT

const struct data_words data_source_words[] = {
	{"kind", kinds},
	{"mode", modes},
	{"unpack", unpackings},
	{"cache", cache_uses},
	{"profile", profiles},
	{0},
};

int data_source_decode(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	struct source_entry entry = {.s.max_seconds = DATA_SECONDS_DEFAULT};
	if (json_decode_object(d, value, data_source_fields, true, &entry, err) < 0 ||
		source_check(d, value, &entry, err) < 0)
		return -1;
	if (!entry.s.target)
		entry.s.target = arena_printf(d->arena, "/stoker/inputs/%s", entry.s.name);
	*(struct data_source *)target = entry.s;
	return 0;
}
