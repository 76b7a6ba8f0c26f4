// SPDX-License-Identifier: Apache-2.0
// Lines of requirements (PEP 508, with pip's --hash) in one spelling:
//
//   name[extra,extra]<2,>=1.20 ; python_version < "3.12" --hash=sha256:…
//   name[extra] @ https://host/file ; …
//
// The grammar is checked whole, so that what reaches pip is a requirement and never an option or a
// file's name.
#include "agent/environment/spec_pip.h"
#include "agent/environment/canonical.h"
#include "agent/environment/request.h"
#include "base/text.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>

enum { REQUIREMENT_BYTES_MAX = 64 * 1024, ITEMS_MAX = 400 };

int pip_fail(struct pip_text *t, const char *format, ...)
{
	char why[300];
	va_list args;
	va_start(args, format);
	vsnprintf(why, sizeof(why), format, args);
	va_end(args);
	return error_set(t->err, ERROR_INVALID, "pip requirement \"%.80s\": %s", t->text, why);
}

void pip_skip_space(struct pip_text *t)
{
	t->at += strspn(t->at, " \t");
}

const char *environment_pip_name(struct arena *a, const char *text)
{
	char *out = arena_alloc(a, strlen(text) + 1), *w = out;
	for (; *text; text++) {
		bool separator = strchr("-_.", *text) != NULL;
		if (!separator)
			*w++ = (char)tolower((unsigned char)*text);
		else if (w == out || w[-1] != '-')
			*w++ = '-';
	}
	*w = '\0';
	return out;
}

static size_t name_length(const char *s)
{
	size_t n = 0;
	while (isalnum((unsigned char)s[n]) || (s[n] && strchr("-_.", s[n])))
		n++;
	while (n && !isalnum((unsigned char)s[n - 1]))
		n--;
	return n && isalnum((unsigned char)*s) ? n : 0;
}

static const char *take_name(struct pip_text *t)
{
	size_t n = name_length(t->at);
	const char *name = arena_strndup(t->arena, t->at, n);
	t->at += n;
	return environment_pip_name(t->arena, name);
}

static int put_list(
	struct pip_text *t, struct json_strings *list, const char *separator, const char *before)
{
	canonical_sort(list);
	for (size_t i = 0; i < list->count; i++)
		buffer_printf(t->out, "%s%s", i ? separator : before, list->items[i]);
	return 0;
}

static int extras(struct pip_text *t)
{
	const char *items[ITEMS_MAX];
	struct json_strings list = {.items = items};
	pip_skip_space(t);
	if (*t->at != '[')
		return 0;
	t->at++;
	for (;;) {
		pip_skip_space(t);
		if (*t->at == ']' && !list.count)
			break;
		if (list.count == ITEMS_MAX || !name_length(t->at))
			return pip_fail(t, "expected the name of an extra in [ ]");
		items[list.count++] = take_name(t);
		pip_skip_space(t);
		if (*t->at == ']')
			break;
		if (*t->at++ != ',')
			return pip_fail(t, "expected ',' or ']' behind an extra");
	}
	t->at++;
	if (list.count) {
		put_list(t, &list, ",", "[");
		buffer_putc(t->out, ']');
	}
	return 0;
}

static const char *take_operator(struct pip_text *t)
{
	static const char *const operators[] = {"===", "==", "!=", "~=", "<=", ">=", "<", ">"};
	for (size_t i = 0; i < array_size(operators); i++)
		if (starts_with(t->at, operators[i])) {
			t->at += strlen(operators[i]);
			return operators[i];
		}
	return NULL;
}

static int check_version(struct pip_text *t, const char *op, char *version)
{
	size_t n = strlen(version);
	bool star = n > 2 && streq(version + n - 2, ".*");
	if (!n)
		return pip_fail(t, "the version behind \"%s\" is missing", op);
	if (streq(op, "==="))
		return 0;
	for (char *c = version; *c; c++)
		*c = (char)tolower((unsigned char)*c);
	if (!isdigit((unsigned char)version[*version == 'v']))
		return pip_fail(t, "\"%.40s\" is no version", version);
	if (memchr(version, '*', n - (star ? 2 : 0)))
		return pip_fail(t, "\".*\" stands at the end of a version only");
	if (star && !streq(op, "==") && !streq(op, "!="))
		return pip_fail(t, "\".*\" goes with == and != only; leave it out behind %s", op);
	return 0;
}

static int clause(struct pip_text *t, const char **out)
{
	pip_skip_space(t);
	const char *op = take_operator(t);
	if (!op && *t->at == '=')
		return pip_fail(t, "pip's operator is \"==\" (\"=\" is conda's)");
	if (!op && isdigit((unsigned char)*t->at))
		return pip_fail(t, "an operator is missing before \"%.40s\": ==, >=, <, …", t->at);
	if (!op)
		return pip_fail(t,
			"expected a version, \"; marker\" or \"@ address\" before "
			"\"%.40s\"",
			t->at);
	pip_skip_space(t);
	size_t n = 0;
	while (isalnum((unsigned char)t->at[n]) || (t->at[n] && strchr("_.*+!-", t->at[n])))
		n++;
	char *version = arena_strndup(t->arena, t->at, n);
	t->at += n;
	if (check_version(t, op, version) < 0)
		return -1;
	*out = arena_printf(
		t->arena, "%s%s", op, *version == 'v' && !streq(op, "===") ? version + 1 : version);
	return 0;
}

static int clauses(struct pip_text *t)
{
	const char *items[ITEMS_MAX];
	struct json_strings list = {.items = items};
	pip_skip_space(t);
	bool parentheses = *t->at == '(';
	t->at += parentheses;
	while (*t->at && *t->at != ';' && !starts_with(t->at, "--")) {
		if (list.count == ITEMS_MAX)
			return pip_fail(t, "more than %d versions", ITEMS_MAX);
		if (clause(t, &items[list.count++]) < 0)
			return -1;
		pip_skip_space(t);
		if (*t->at != ',')
			break;
		t->at++;
	}
	if (parentheses && *t->at++ != ')')
		return pip_fail(t, "')' is missing behind the versions");
	return put_list(t, &list, ",", "");
}

static int address(struct pip_text *t)
{
	t->at++;
	pip_skip_space(t);
	size_t n = strcspn(t->at, " \t");
	const char *url = arena_strndup(t->arena, t->at, n);
	t->at += n;
	if (canonical_url_has_credentials(url))
		return error_set(t->err, ERROR_INVALID,
			"a pip requirement holds credentials in its address; leave them out: they "
			"belong into the node's netrc file");
	if (starts_with(url, "git+") || starts_with(url, "hg+") || starts_with(url, "svn+") ||
		starts_with(url, "bzr+"))
		return pip_fail(t, "repositories are not supported; name an archive of the commit: "
				   "name @ https://…/archive/<commit>.tar.gz");
	if (!canonical_url_is_http(url))
		return pip_fail(t, "the address behind '@' must begin with http:// or https://");
	if (strpbrk(url, "\"'\\<>`"))
		return pip_fail(t, "the address behind '@' holds a quote, '\\', '<' or '>'");
	buffer_printf(t->out, " @ %s", canonical_url(t->arena, url));
	return 0;
}

static int hash(struct pip_text *t, const char **out)
{
	static const struct {
		const char *name;
		size_t digits;
	} kinds[] = {{"sha256:", 64}, {"sha384:", 96}, {"sha512:", 128}};
	if (!starts_with(t->at, "--hash") || !strchr("= \t", t->at[6]) || !t->at[6])
		return pip_fail(
			t, "only --hash=sha256:… may follow a requirement, not \"%.40s\"", t->at);
	t->at += 7;
	pip_skip_space(t);
	size_t n = strcspn(t->at, " \t");
	char *text = arena_strndup(t->arena, t->at, n);
	t->at += n;
	for (char *c = text; *c; c++)
		*c = (char)tolower((unsigned char)*c);
	for (size_t i = 0; i < array_size(kinds); i++) {
		if (!starts_with(text, kinds[i].name))
			continue;
		const char *hex = text + strlen(kinds[i].name);
		if (strlen(hex) != kinds[i].digits ||
			strspn(hex, "0123456789abcdef") != kinds[i].digits)
			break;
		*out = arena_printf(t->arena, "--hash=%s", text);
		return 0;
	}
	return pip_fail(
		t, "\"%.80s\" is no hash: sha256: (or sha384:, sha512:) and its digits", text);
}

static int hashes(struct pip_text *t)
{
	const char *items[ITEMS_MAX];
	struct json_strings list = {.items = items};
	for (pip_skip_space(t); *t->at; pip_skip_space(t)) {
		if (list.count == ITEMS_MAX)
			return pip_fail(t, "more than %d hashes", ITEMS_MAX);
		if (hash(t, &items[list.count++]) < 0)
			return -1;
	}
	return put_list(t, &list, " ", " ");
}

// What pip would take and we do not: what to write instead.
static int refuse_others(struct pip_text *t)
{
	static const struct {
		const char *option, *instead;
	} options[] = {
		{"-e", "editable packages cannot be used on a node: build a wheel, or put the code "
		       "into source_directory"},
		{"--editable", "editable packages cannot be used on a node: build a wheel, or put "
			       "the code into source_directory"},
		{"-r", "other files are not read; write their lines here"},
		{"--requirement", "other files are not read; write their lines here"},
		{"-c", "constraints files are not read; write the versions here"},
		{"--constraint", "constraints files are not read; write the versions here"},
		{"-i", "write environment.index_url into the job"},
		{"--index-url", "write environment.index_url into the job"},
		{"--extra-index-url", "write environment.extra_index_urls into the job"},
		{"--pre", "write environment.pre into the job"},
		{"--only-binary", "write environment.only_binary into the job"},
		{"--require-hashes", "leave it out: as soon as one requirement has a hash, all "
				     "need one"},
		{"--trusted-host", "leave it out: which servers are trusted is the node's matter"},
		{"-f", "write the package's address: name @ https://…"},
		{"--find-links", "write the package's address: name @ https://…"},
	};
	size_t n = strcspn(t->at, " \t=");
	for (size_t i = 0; i < array_size(options); i++)
		if (strlen(options[i].option) == n && strncmp(t->at, options[i].option, n) == 0)
			return pip_fail(t, "%s", options[i].instead);
	if (*t->at == '-')
		return pip_fail(t, "options of pip are not supported here");
	if (strstr(t->at, "://") && strcspn(t->at, "@ ") > strcspn(t->at, ":"))
		return pip_fail(t, "write the package's name before its address: name @ https://…");
	if (*t->at == '.' || *t->at == '/' || *t->at == '~' || t->at[name_length(t->at)] == '/' ||
		(ends_with(t->at, ".whl") && !strpbrk(t->at, "@=<>!~")))
		return pip_fail(t, "files of this machine are not there on a node; name an address "
				   "(name @ https://…) or put the code into source_directory");
	return 0;
}

static int check_bytes(struct pip_text *t)
{
	if (strlen(t->text) > REQUIREMENT_BYTES_MAX)
		return pip_fail(t, "longer than %d bytes", REQUIREMENT_BYTES_MAX);
	for (const char *p = t->text; *p; p++)
		if (*p < 0x20 ? !strchr("\t\r\n", *p) : *p == 0x7f || *p & 0x80)
			return pip_fail(
				t, "it holds a character that is none of ASCII's printable ones");
	return 0;
}

// Lines that end in '\' go on in the next; " #" begins a comment.
static char *unfold(struct arena *a, const char *text)
{
	char *line = arena_strdup(a, text);
	for (char *p = line; *p; p++) {
		if (*p == '\\' && (p[1] == '\n' || !p[1]))
			*p = ' ';
		if (*p == '#' && (p == line || isspace((unsigned char)p[-1]))) {
			*p = '\0';
			break;
		}
		if (isspace((unsigned char)*p))
			*p = ' ';
	}
	size_t n = strlen(line);
	while (n && line[n - 1] == ' ')
		line[--n] = '\0';
	return line + strspn(line, " ");
}

static int requirement(struct pip_text *t)
{
	if (check_bytes(t) < 0)
		return -1;
	t->at = unfold(t->arena, t->text);
	pip_skip_space(t);
	if (!*t->at)
		return pip_fail(t, "it is empty");
	if (refuse_others(t) < 0)
		return -1;
	if (!name_length(t->at))
		return pip_fail(t, "a package's name begins with a letter or digit");
	buffer_puts(t->out, take_name(t));
	if (extras(t) < 0)
		return -1;
	pip_skip_space(t);
	if ((*t->at == '@' ? address(t) : clauses(t)) < 0)
		return -1;
	pip_skip_space(t);
	if (*t->at == ';' && pip_marker(t) < 0)
		return -1;
	return hashes(t);
}

const char *environment_pip_requirement(struct arena *a, const char *text, struct error *err)
{
	cleanup_buffer struct buffer out = {0};
	struct pip_text t = {.arena = a, .err = err, .text = text, .out = &out};
	if (requirement(&t) < 0)
		return NULL;
	return arena_strndup(a, out.data, out.size);
}
