// SPDX-License-Identifier: Apache-2.0
// Conda's package specifications ("MatchSpec") in one spelling, which every version of conda, mamba
// and micromamba reads alike:
//
//   name        name=1.26 (any 1.26)        name==1.26.4        name<2,>=1.20
//   name==1.26=build        name=*=build        channel/subdir::name…[key='value']
//
// Clauses are sorted, since neither ',' (and) nor '|' (or) knows an order.
#include "agent/environment/canonical.h"
#include "agent/environment/request.h"
#include "base/text.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>

enum { SPEC_BYTES_MAX = 2048, CLAUSES_MAX = 64, KEYS_MAX = 12 };

struct pair {
	const char *key, *value;
};

struct spec {
	struct arena *arena;
	struct error *err;
	const char *text; // as written, for errors
	const char *channel, *subdir, *name, *version, *build;
	struct pair keys[KEYS_MAX]; // the others of the bracket
	size_t key_count;
};

__attribute__((format(printf, 2, 3))) static int fail(struct spec *s, const char *format, ...)
{
	char why[300];
	va_list args;
	va_start(args, format);
	vsnprintf(why, sizeof(why), format, args);
	va_end(args);
	return error_set(s->err, ERROR_INVALID, "conda package \"%.80s\": %s", s->text, why);
}

static bool only(const char *s, const char *punctuation)
{
	for (; *s; s++)
		if (!isalnum((unsigned char)*s) && !strchr(punctuation, *s))
			return false;
	return true;
}

static char *trimmed(struct arena *a, const char *s, size_t n)
{
	while (n && isspace((unsigned char)*s))
		s++, n--;
	while (n && isspace((unsigned char)s[n - 1]))
		n--;
	return arena_strndup(a, s, n);
}

static int set_key(struct spec *s, const char *key, const char *value)
{
	static const char *const kept[] = {"build_number", "features", "license", "license_family",
		"md5", "sha256", "track_features"};
	const struct {
		const char *name;
		const char **place;
	} own[] = {{"version", &s->version}, {"build", &s->build}, {"channel", &s->channel},
		{"subdir", &s->subdir}};
	for (size_t i = 0; i < array_size(own); i++) {
		if (!streq(key, own[i].name))
			continue;
		if (*own[i].place)
			return fail(s, "%s is given twice", key);
		*own[i].place = value;
		return 0;
	}
	if (streq(key, "url") || streq(key, "fn"))
		return fail(s, "packages by their address or file are not supported; name the "
			       "package, and its channel in front of it: channel::name");
	for (size_t i = 0; i < s->key_count; i++)
		if (streq(key, s->keys[i].key))
			return fail(s, "%s is given twice", key);
	for (size_t i = 0; i < array_size(kept); i++) {
		if (!streq(key, kept[i]))
			continue;
		s->keys[s->key_count++] = (struct pair){kept[i], value};
		return 0;
	}
	return fail(s,
		"unknown key \"%.40s\" in [ ]; known: version, build, build_number, channel, "
		"subdir, md5, sha256",
		key);
}

// key='value', key="value" or key=value, separated by commas.
static int parse_bracket(struct spec *s, const char *p)
{
	while (*p) {
		p += strspn(p, ", \t");
		size_t n = strcspn(p, "=],");
		if (!*p)
			break;
		if (p[n] != '=' || !n)
			return fail(s, "expected key='value' in [ ]");
		const char *key = trimmed(s->arena, p, n);
		p += n + 1;
		p += strspn(p, " \t");
		char quote = *p == '\'' || *p == '"' ? *p++ : '\0';
		n = quote ? strcspn(p, (char[]){quote, '\0'}) : strcspn(p, ",");
		if (quote && !p[n])
			return fail(s, "the quote behind \"%.40s=\" is not closed", key);
		const char *value = trimmed(s->arena, p, n);
		p += n + (quote != '\0');
		p += strspn(p, " \t");
		if (*p && *p != ',')
			return fail(s, "expected ',' behind the value of \"%.40s\" in [ ]", key);
		if (strpbrk(value, "'\"[]\\\t"))
			return fail(s, "the value of \"%.40s\" holds a quote, bracket or tab", key);
		if (set_key(s, key, value) < 0)
			return -1;
	}
	return 0;
}

// A space means something between version and build only; beside an operator it is for the eye.
static char *squeeze(struct arena *a, const char *p)
{
	static const char glue[] = "=<>!~,|";
	char *out = arena_alloc(a, strlen(p) + 1), *w = out;
	for (; *p; p++) {
		if (!isspace((unsigned char)*p)) {
			*w++ = *p;
			continue;
		}
		const char *next = p + strspn(p, " \t");
		if (w > out && !strchr(glue, w[-1]) && *next && !strchr(glue, *next))
			*w++ = ' ';
		p = next - 1;
	}
	*w = '\0';
	return out;
}

// "1.26 build" and "=1.26=build": cut the build off.
static void cut_build(struct spec *s, char *text)
{
	for (char *p = text; *p; p++) {
		bool equals = *p == '=' && p > text && !strchr("=<>!~,|", p[-1]) && p[1] != '=';
		if (*p != ' ' && !equals)
			continue;
		*p = '\0';
		s->build = p + 1;
		break;
	}
	s->version = text;
}

static int parse_name(struct spec *s, const char *p)
{
	size_t n = strcspn(p, " \t=<>!~,|");
	char *name = arena_strndup(s->arena, p, n);
	for (char *c = name; *c; c++)
		*c = (char)tolower((unsigned char)*c);
	if (!*name)
		return fail(s, "the package's name is missing");
	if (!only(name, "_.-") || *name == '-' || *name == '.')
		return fail(s, "\"%.60s\" is no package name: letters, digits, '_', '.' and '-'%s",
			name, strchr(name, '/') ? "; no files and addresses" : "");
	s->name = name;
	char *rest = squeeze(s->arena, p + n);
	if (*rest && s->version)
		return fail(s, "version is given twice, before and in [ ]");
	const char *build = s->build;
	if (*rest)
		cut_build(s, rest);
	if (build && s->build != build)
		return fail(s, "build is given twice, before and in [ ]");
	return 0;
}

static int parse_channel(struct spec *s)
{
	static const char *const known[] = {
		"noarch", "linux-64", "linux-aarch64", "linux-ppc64le", "linux-s390x"};
	if (!s->channel || !*s->channel) {
		s->channel = NULL;
		return 0;
	}
	if (canonical_url_has_credentials(s->channel))
		return error_set(s->err, ERROR_INVALID,
			"a conda package names its channel with credentials; leave them out: they "
			"belong into the node's netrc file");
	s->channel = canonical_url(s->arena, s->channel);
	bool http = canonical_url_is_http(s->channel);
	if (!only(s->channel, http ? "_.-/:+~%[]" : "_.-/+") ||
		!isalnum((unsigned char)*s->channel) || ends_with(s->channel, ":"))
		return fail(s, "\"%.60s\" is no channel: a name or an http(s) address", s->channel);
	const char *last = strrchr(s->channel, '/');
	for (size_t i = 0; last && !s->subdir && i < array_size(known); i++) {
		if (!streq(last + 1, known[i]))
			continue;
		s->subdir = known[i];
		s->channel = arena_strndup(s->arena, s->channel, (size_t)(last - s->channel));
	}
	return 0;
}

static int parse(struct spec *s)
{
	size_t n = strlen(s->text);
	if (n > SPEC_BYTES_MAX)
		return fail(s, "longer than %d bytes", SPEC_BYTES_MAX);
	for (const char *p = s->text; *p; p++)
		if (*p < 0x20 ? !strchr("\t\r\n", *p) : *p == 0x7f || *p & 0x80)
			return fail(
				s, "it holds a character that is none of ASCII's printable ones");
	// A comment, as in files; '#' has no place in a specification.
	char *text = trimmed(s->arena, s->text, strcspn(s->text, "#"));
	if (!*text)
		return fail(s, "it is empty");
	if (strpbrk(text, "\r\n"))
		return fail(s, "write one package to an entry");
	char *colons = NULL, *bracket = strchr(text, '[');
	// An address may hold [ ] around an IPv6 host.
	for (char *p = text; (p = strstr(p, "::")) != NULL; p += 2)
		if (!bracket || p < bracket ||
			(strstr(text, "://") && strstr(text, "://") < bracket))
			colons = p;
	char *rest = colons ? colons + 2 : text;
	bracket = strchr(rest, '[');
	if (bracket) {
		size_t length = strlen(bracket);
		if (bracket[length - 1] != ']')
			return fail(s, "']' is missing at the end");
		bracket[length - 1] = *bracket = '\0';
		if (parse_bracket(s, bracket + 1) < 0)
			return -1;
	}
	if (colons) {
		*colons = '\0';
		if (s->channel)
			return fail(s, "channel is given twice, before and in [ ]");
		s->channel = text;
	} else if (strstr(rest, "://")) {
		return fail(s, "packages by their address are not supported; name the package, and "
			       "its channel in front of it: channel::name");
	}
	if (parse_channel(s) < 0)
		return -1;
	if (s->subdir && (!*s->subdir || !only(s->subdir, "-_")))
		return fail(s, "\"%.40s\" is no platform", s->subdir);
	return parse_name(s, rest);
}

struct clause {
	const char *op, *version; // version: without ".*" at its end
	bool star;
};

static int parse_clause(struct spec *s, const char *text, struct clause *c)
{
	static const char *const operators[] = {"==", "!=", "~=", ">=", "<=", "=", ">", "<"};
	*c = (struct clause){.op = ""};
	for (size_t i = 0; !*c->op && i < array_size(operators); i++)
		if (starts_with(text, operators[i]))
			c->op = operators[i];
	const char *version = text + strlen(c->op);
	if (!*version)
		return fail(s, "the version behind \"%s\" is missing", *c->op ? c->op : ",");
	size_t inner = strcspn(version, "=<>~ ()");
	const char *bang = strstr(version, "!=");
	if (bang && (size_t)(bang - version) < inner)
		inner = (size_t)(bang - version);
	if (version[inner] && strchr("()", version[inner]))
		return fail(
			s, "parentheses are not supported; ',' (and) binds closer than '|' (or)");
	if (version[inner] && inner == 0)
		return fail(s, "\"%.12s\" is no operator: =, ==, !=, ~=, >=, <=, > or <", text);
	if (version[inner])
		return fail(s, "put ',' (and) or '|' (or) before \"%.40s\"", version + inner);
	if (!only(version, "_.*+!-"))
		return fail(s, "\"%.60s\" is no version", version);
	size_t n = strlen(version);
	c->star = version[n - 1] == '*';
	n -= c->star;
	if (c->star && n && version[n - 1] == '.')
		n--;
	c->version = arena_strndup(s->arena, version, n);
	if (strchr(c->version, '*'))
		return fail(s, "'*' stands at the end of a version only");
	if (c->star && (streq(c->op, "==") || streq(c->op, "~=")))
		return fail(s, "\"%s\" and \".*\" exclude each other; write =%s for any %s", c->op,
			c->version, c->version);
	return 0;
}

// One clause in canonical form; "" for any version. `with_build`: conda then takes "=1.26" for
// exactly that.
static int clause_text(struct spec *s, const char *text, bool with_build, const char **out)
{
	struct clause c;
	if (parse_clause(s, text, &c) < 0)
		return -1;
	if (c.star && !*c.version) {
		if (!streq(c.op, "") && !streq(c.op, "=") && !streq(c.op, ">="))
			return fail(s, "\"%s*\" means nothing", c.op);
		*out = "";
		return 0;
	}
	if (!*c.op)
		c.op = c.star ? "=" : "==";
	// Superfluous behind an order, as conda itself says.
	bool star = c.star && (streq(c.op, "!=") || (streq(c.op, "=") && with_build));
	*out = arena_printf(s->arena, "%s%s%s", c.op, c.version, star ? ".*" : "");
	return 0;
}

static const char *join(struct arena *a, struct json_strings *list, char separator)
{
	cleanup_buffer struct buffer b = {0};
	canonical_sort(list);
	for (size_t i = 0; i < list->count; i++) {
		if (i)
			buffer_putc(&b, separator);
		buffer_puts(&b, list->items[i]);
	}
	return arena_strndup(a, b.size ? b.data : "", b.size);
}

// The version in canonical form, NULL for any; `single`: of one clause.
static int version_text(struct spec *s, const char **out, bool *single)
{
	const char *any[CLAUSES_MAX], *all[CLAUSES_MAX];
	struct json_strings alternatives = {.items = any};
	size_t clauses = 0;
	*out = NULL;
	if (!s->version)
		return 0;
	for (const char *p = s->version;; p++) {
		struct json_strings together = {.items = all};
		size_t n;
		for (;; p++) {
			const char *clause = "";
			n = strcspn(p, ",|");
			if (++clauses >= CLAUSES_MAX)
				return fail(s, "more than %d versions", CLAUSES_MAX);
			if (clause_text(s, arena_strndup(s->arena, p, n), s->build, &clause) < 0)
				return -1;
			if (*clause)
				all[together.count++] = clause;
			p += n;
			if (*p != ',')
				break;
		}
		if (!together.count)
			return 0; // any version will do, whatever the others say
		any[alternatives.count++] = join(s->arena, &together, ',');
		if (!*p)
			break;
	}
	*out = join(s->arena, &alternatives, '|');
	*single = !strpbrk(*out, ",|");
	return 0;
}

static void put_keys(struct spec *s, struct buffer *b)
{
	const char *items[KEYS_MAX];
	struct json_strings list = {.items = items};
	for (size_t i = 0; i < s->key_count; i++)
		items[list.count++] =
			arena_printf(s->arena, "%s='%s'", s->keys[i].key, s->keys[i].value);
	if (list.count)
		buffer_printf(b, "[%s]", join(s->arena, &list, ','));
}

static int format(struct spec *s, struct buffer *b)
{
	const char *version;
	bool single = true;
	if (s->build && (!*s->build || !only(s->build, "_.*+")))
		return fail(s, "\"%.60s\" is no build string", s->build);
	if (s->build && streq(s->build, "*"))
		s->build = NULL;
	if (version_text(s, &version, &single) < 0)
		return -1;
	if (s->channel)
		buffer_printf(b, "%s%s%s::", s->channel, s->subdir ? "/" : "",
			s->subdir ? s->subdir : "");
	else if (s->subdir)
		s->keys[s->key_count++] = (struct pair){"subdir", s->subdir};
	buffer_puts(b, s->name);
	if (s->build && !version) {
		buffer_printf(b, "=*=%s", s->build);
	} else if (s->build && single && *version == '=') {
		buffer_printf(b, "%s=%s", version, s->build);
	} else if (s->build) {
		s->keys[s->key_count++] = (struct pair){"build", s->build};
		s->keys[s->key_count++] = (struct pair){"version", version};
	} else if (version) {
		buffer_puts(b, version);
	}
	put_keys(s, b);
	return 0;
}

const char *environment_conda_spec(struct arena *a, const char *text, struct error *err)
{
	struct spec s = {.arena = a, .err = err, .text = text};
	cleanup_buffer struct buffer b = {0};
	if (parse(&s) < 0 || format(&s, &b) < 0)
		return NULL;
	return arena_strndup(a, b.data, b.size);
}
