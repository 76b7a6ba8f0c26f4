// SPDX-License-Identifier: Apache-2.0
#include "base/yaml.h"

#include "base/json_tree.h"
#include "base/text.h"
#include "base/utf8.h"

#include <stdio.h>
#include <yaml.h>

#define CORE_TAG "tag:yaml.org,2002:"

struct yaml_reader {
	struct json_tree tree;
	const char *data;
	size_t size;
	yaml_parser_t parser;
	size_t documents;
};

static void yaml_reader_release(struct yaml_reader *r)
{
	yaml_parser_delete(&r->parser);
	json_tree_release(&r->tree);
}

static struct json_place place_of(yaml_mark_t mark)
{
	return (struct json_place){(uint32_t)mark.line + 1, (uint32_t)mark.column + 1};
}

// Marks count characters; the byte where one begins.
static size_t byte_of(const struct yaml_reader *r, yaml_mark_t mark)
{
	size_t i = 0, characters = 0;
	for (; i < r->size; i++)
		if (((unsigned char)r->data[i] & 0xc0) != 0x80 && characters++ == mark.index)
			break;
	return i;
}

static bool tab_indents(const struct yaml_reader *r, size_t at)
{
	size_t start = at;
	while (start > 0 && r->data[start - 1] != '\n' && r->data[start - 1] != '\r')
		start--;
	while (start < r->size && r->data[start] == ' ')
		start++;
	return start < r->size && r->data[start] == '\t';
}

// libyaml names what it stumbled over; these say what the writer most likely has to change.
static const char *remedy(const struct yaml_reader *r, const char *problem, size_t at)
{
	static const struct {
		const char *part, *remedy;
	} remedies[] = {
		{"tab character", "tabs cannot indent YAML, use spaces"},
		{"cannot start any token", "put text that begins with this character in quotes"},
		{"mapping values are not allowed",
			"check the indentation, and put text that contains \": \" in quotes"},
		{"expected key",
			"check the indentation of this line and the quotes and brackets before it"},
		{"expected ':'", "is a colon missing, or a closing quote?"},
		{"expected '-'", "check the indentation of this line"},
		{"unexpected end of stream", "is a closing quote missing?"},
		{"unexpected document indicator", "is a closing quote missing?"},
		{"expected ',' or", "is a comma or a closing bracket missing?"},
		{"unknown escape", "double the backslash, or use single quotes"},
		{"expected node content", "a value is missing"},
		{"<document start>", "check the indentation; only one value can stand at the top"},
		{"entries are not allowed", "a list begins on a line of its own"},
	};
	bool tab = at < r->size && r->data[at] == '\t';
	if (tab || tab_indents(r, at))
		return remedies[0].remedy;
	for (size_t i = 0; i < array_size(remedies); i++)
		if (strstr(problem, remedies[i].part))
			return remedies[i].remedy;
	return NULL;
}

static int fail_syntax(struct yaml_reader *r)
{
	const yaml_parser_t *p = &r->parser;
	const char *problem = p->problem ? p->problem : "malformed YAML";
	char since[48] = "";
	if (p->error == YAML_MEMORY_ERROR)
		return error_set(
			r->tree.err, ERROR_LIMIT, "%s: libyaml is out of memory", r->tree.name);
	if (p->error == YAML_READER_ERROR)
		return json_tree_fail(&r->tree, ERROR_INVALID,
			json_place_of(
				r->data, p->problem_offset < r->size ? p->problem_offset : r->size),
			"%s", problem);
	size_t at = byte_of(r, p->problem_mark);
	const char *help = remedy(r, problem, at);
	// libyaml ends a last line that has no end of its own.
	struct json_place place =
		at < r->size ? place_of(p->problem_mark) : json_place_of(r->data, r->size);
	// "while scanning for the next token" says nothing.
	const char *context = p->context && !strstr(p->context, "next token") ? p->context : NULL;
	if (context && p->context_mark.line != p->problem_mark.line)
		snprintf(since, sizeof(since), " that begins at %zu:%zu", p->context_mark.line + 1,
			p->context_mark.column + 1);
	return json_tree_fail(&r->tree, ERROR_INVALID, place, "%s%s%s%s%s%s", problem,
		context ? " " : "", context ? context : "", since, help ? "; " : "",
		help ? help : "");
}

static size_t skip_digits(const char *s, size_t i)
{
	while (s[i] >= '0' && s[i] <= '9')
		i++;
	return i;
}

// -? (0 | [1-9][0-9]*) (\. [0-9]*)? ([eE] [-+]? [0-9]+)? : numbers in the JSON schema of YAML 1.2.
static bool is_number(const char *s, bool *fraction)
{
	size_t i = *s == '-', digits = skip_digits(s, i);
	*fraction = false;
	if (digits == i || (s[i] == '0' && digits > i + 1))
		return false;
	i = digits;
	if (s[i] == '.') {
		*fraction = true;
		i = skip_digits(s, i + 1);
	}
	if (s[i] == 'e' || s[i] == 'E') {
		*fraction = true;
		i++;
		i += s[i] == '-' || s[i] == '+';
		digits = skip_digits(s, i);
		if (digits == i)
			return false;
		i = digits;
	}
	return s[i] == '\0';
}

static enum json_type type_of(const char *s)
{
	bool fraction;
	if (streq(s, "") || streq(s, "~") || streq(s, "null"))
		return JSON_NULL;
	if (streq(s, "true") || streq(s, "false"))
		return JSON_BOOL;
	if (is_number(s, &fraction))
		return fraction ? JSON_NUMBER : JSON_INTEGER;
	return JSON_STRING;
}

static int fail_tag(struct yaml_reader *r, const char *tag, struct json_place at)
{
	bool core = starts_with(tag, CORE_TAG);
	return json_tree_fail(&r->tree, ERROR_INVALID, at,
		"the tag %s%.100s is not supported, remove it", core ? "!!" : "",
		core ? tag + strlen(CORE_TAG) : tag);
}

// "!!int" and the like: what the tag asks for, and the text must be it.
static int check_tag(struct yaml_reader *r, const char *tag, const char *text, enum json_type *type,
	struct json_place at)
{
	static const struct {
		const char *tag;
		enum json_type type;
	} tags[] = {
		{CORE_TAG "null", JSON_NULL},
		{CORE_TAG "bool", JSON_BOOL},
		{CORE_TAG "int", JSON_INTEGER},
		{CORE_TAG "float", JSON_NUMBER},
		{CORE_TAG "str", JSON_STRING},
		{"!", JSON_STRING},
	};
	enum json_type found = type_of(text);
	for (size_t i = 0; i < array_size(tags); i++) {
		if (!streq(tag, tags[i].tag))
			continue;
		*type = tags[i].type;
		bool fits = *type == found || *type == JSON_STRING ||
			    (*type == JSON_NUMBER && found == JSON_INTEGER);
		return fits ? 0
			    : json_tree_fail(&r->tree, ERROR_INVALID, at,
				      "\"%.100s\" does not fit its tag (%s)", text,
				      json_type_name(*type));
	}
	return fail_tag(r, tag, at);
}

static int check_anchor(struct yaml_reader *r, const yaml_char_t *anchor, struct json_place at)
{
	if (!anchor)
		return 0;
	return json_tree_fail(&r->tree, ERROR_INVALID, at,
		"anchors and aliases (&name, *name) are not supported, write the value out");
}

static int on_key(
	struct yaml_reader *r, const char *text, size_t length, bool plain, struct json_place at)
{
	if (plain && !length)
		return json_tree_fail(&r->tree, ERROR_INVALID, at, "a key is missing");
	if (plain && streq(text, "<<"))
		return json_tree_fail(&r->tree, ERROR_INVALID, at,
			"merge keys (<<) are not supported, write the members out");
	return json_tree_key(&r->tree, text, length, at);
}

static int on_scalar(struct yaml_reader *r, const yaml_event_t *event)
{
	struct json_place at = place_of(event->start_mark);
	const char *text = (const char *)event->data.scalar.value;
	const char *tag = (const char *)event->data.scalar.tag;
	size_t length = event->data.scalar.length;
	bool plain = event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE && !tag;
	enum json_type type = plain ? type_of(text) : JSON_STRING;
	if (check_anchor(r, event->data.scalar.anchor, at) < 0)
		return -1;
	if (memchr(text, '\0', length))
		return json_tree_fail(&r->tree, ERROR_INVALID, at, "a NUL character in a string");
	if (tag && check_tag(r, tag, text, &type, at) < 0)
		return -1;
	if (json_tree_wants_key(&r->tree))
		return on_key(r, text, length, plain, at);
	switch (type) {
	case JSON_NULL:
		return json_tree_null(&r->tree, at);
	case JSON_BOOL:
		return json_tree_boolean(&r->tree, streq(text, "true"), at);
	case JSON_INTEGER:
	case JSON_NUMBER:
		return json_tree_number(&r->tree, text, length, at);
	default:
		return json_tree_string(&r->tree, text, length, at);
	}
}

static int on_container(struct yaml_reader *r, const yaml_event_t *event, enum json_type type)
{
	struct json_place at = place_of(event->start_mark);
	bool array = type == JSON_ARRAY;
	const char *tag = (const char *)(array ? event->data.sequence_start.tag
					       : event->data.mapping_start.tag);
	const char *known = array ? CORE_TAG "seq" : CORE_TAG "map";
	if (check_anchor(r,
		    array ? event->data.sequence_start.anchor : event->data.mapping_start.anchor,
		    at) < 0)
		return -1;
	if (tag && !streq(tag, known) && !streq(tag, "!"))
		return fail_tag(r, tag, at);
	if (json_tree_wants_key(&r->tree))
		return json_tree_fail(&r->tree, ERROR_INVALID, at, "a key must be a simple value");
	return json_tree_open(&r->tree, type, at);
}

static int on_event(struct yaml_reader *r, const yaml_event_t *event)
{
	struct json_place at = place_of(event->start_mark);
	switch (event->type) {
	case YAML_DOCUMENT_START_EVENT:
		if (r->documents++)
			return json_tree_fail(
				&r->tree, ERROR_INVALID, at, "a second document, only one is read");
		return 0;
	case YAML_ALIAS_EVENT:
		return check_anchor(r, event->data.alias.anchor, at);
	case YAML_SCALAR_EVENT:
		return on_scalar(r, event);
	case YAML_SEQUENCE_START_EVENT:
		return on_container(r, event, JSON_ARRAY);
	case YAML_MAPPING_START_EVENT:
		return on_container(r, event, JSON_OBJECT);
	case YAML_SEQUENCE_END_EVENT:
	case YAML_MAPPING_END_EVENT:
		return json_tree_close(&r->tree);
	default:
		return 0;
	}
}

static int parse(struct yaml_reader *r)
{
	bool more = true;
	while (more) {
		__attribute__((cleanup(yaml_event_delete))) yaml_event_t event = {0};
		if (!yaml_parser_parse(&r->parser, &event))
			return fail_syntax(r);
		if (on_event(r, &event) < 0)
			return -1;
		more = event.type != YAML_STREAM_END_EVENT;
	}
	return r->documents ? 0 : json_tree_null(&r->tree, (struct json_place){1, 1});
}

// Behind a line break of YAML 1.1, or at the start of the document?
static bool begins_line(const char *data, size_t at)
{
	if (at == 0 || data[at - 1] == '\n' || data[at - 1] == '\r')
		return true;
	return (at >= 2 && memcmp(data + at - 2, "\xc2\x85", 2) == 0) ||
	       (at >= 3 && (memcmp(data + at - 3, "\xe2\x80\xa8", 3) == 0 ||
				   memcmp(data + at - 3, "\xe2\x80\xa9", 3) == 0));
}

// libyaml compares each %TAG directive with all before it: a megabyte of them takes it half a
// minute.
static int check_directives(struct yaml_reader *r)
{
	const char *end = r->data + r->size, *found = r->data;
	while ((found = memmem(found, (size_t)(end - found), "%TAG", 4))) {
		if (begins_line(r->data, (size_t)(found - r->data)))
			return json_tree_fail(&r->tree, ERROR_INVALID,
				json_place_of(r->data, (size_t)(found - r->data)),
				"%%TAG directives are not supported, remove it");
		found += 4;
	}
	return 0;
}

static int check_text(struct yaml_reader *r)
{
	size_t valid = utf8_valid(r->data, r->size);
	if (valid < r->size)
		return json_tree_fail(&r->tree, ERROR_INVALID, json_place_of(r->data, valid),
			"invalid UTF-8; save the file as UTF-8");
	const char *nul = memchr(r->data, '\0', r->size);
	if (nul)
		return json_tree_fail(&r->tree, ERROR_INVALID,
			json_place_of(r->data, (size_t)(nul - r->data)), "a NUL character");
	return 0;
}

struct json *yaml_parse(struct arena *a, const char *data, size_t size, const char *name,
	const struct json_limits *limits, struct error *err)
{
	__attribute__((cleanup(yaml_reader_release))) struct yaml_reader r = {0};
	json_tree_init(&r.tree, a, name, limits, err);
	if (size > r.tree.limits->bytes) {
		error_set(err, ERROR_LIMIT, "%s: %zu bytes, at most %zu are read", name, size,
			r.tree.limits->bytes);
		return NULL;
	}
	bool mark = size >= 3 && memcmp(data, "\xef\xbb\xbf", 3) == 0;
	r.data = mark ? data + 3 : data;
	r.size = mark ? size - 3 : size;
	if (check_text(&r) < 0)
		return NULL;
	// libyaml refuses some JSON: surrogate pairs, tabs, keys of more than 1024 characters.
	struct error not_json;
	struct json *json = json_parse(a, r.data, r.size, name, limits, &not_json);
	if (json)
		return json;
	if (check_directives(&r) < 0)
		return NULL;
	if (!yaml_parser_initialize(&r.parser)) {
		error_set(err, ERROR_LIMIT, "%s: libyaml is out of memory", name);
		return NULL;
	}
	// Else libyaml guesses UTF-16 from the first bytes.
	yaml_parser_set_encoding(&r.parser, YAML_UTF8_ENCODING);
	yaml_parser_set_input_string(&r.parser, (const unsigned char *)r.data, r.size);
	return parse(&r) < 0 ? NULL : json_tree_root(&r.tree);
}
