// SPDX-License-Identifier: Apache-2.0
//
// Patterns become tokens; matching walks the set of tokens that may come next, one character after
// the other. git's own matcher tries and goes back, for which a short rule can take hours.
#include "agent/job/ignore_pattern.h"

#include "agent/job/ignore.h"
#include "base/text.h"

#include <ctype.h>

enum token_type {
	TOKEN_CHARACTER,
	TOKEN_ANY,	// ?
	TOKEN_SET,	// [a-z]
	TOKEN_STAR,	// *: no '/'
	TOKEN_STARS,	// **: anything
	TOKEN_OPTIONAL, // before "**/", which may be nothing: the next two tokens may be left out
};

struct ignore_token {
	enum token_type type;
	unsigned char character;
	const uint32_t *set; // 256 bits
};

struct compiler {
	struct arena *arena;
	struct ignore_pattern *pattern;
	const char *p, *end; // what is left
	const char *start;   // of the part with wildcards
	bool whole_path;
};

static struct ignore_token *add(struct compiler *c, enum token_type type)
{
	struct ignore_token *t = &c->pattern->tokens[c->pattern->count++];
	t->type = type;
	return t;
}

static void add_character(struct compiler *c, char character)
{
	add(c, TOKEN_CHARACTER)->character = (unsigned char)character;
}

// ---- [sets]

static void set_bit(uint32_t *set, unsigned char c)
{
	set[c / 32] |= 1U << c % 32;
}

static bool class_has(const char *name, size_t n, int c)
{
	static const struct {
		const char *name;
		int (*test)(int);
	} all[] = {{"alnum", isalnum}, {"alpha", isalpha}, {"blank", isblank}, {"cntrl", iscntrl},
		{"digit", isdigit}, {"graph", isgraph}, {"lower", islower}, {"print", isprint},
		{"punct", ispunct}, {"space", isspace}, {"upper", isupper}, {"xdigit", isxdigit}};
	for (size_t i = 0; i < array_size(all); i++)
		if (strlen(all[i].name) == n && strncmp(all[i].name, name, n) == 0)
			return c < 128 && all[i].test(c);
	return false;
}

static bool class_known(const char *name, size_t n)
{
	for (int c = 0; c < 128; c++)
		if (class_has(name, n, c))
			return true;
	return false;
}

// "[:alpha:]" at c->p, which is moved to its ']'. 0: an ordinary '['; -1: no class of that name.
static int add_class(struct compiler *c, uint32_t *set)
{
	const char *name = c->p + 2;
	const char *close = name < c->end ? memchr(name, ']', (size_t)(c->end - name)) : NULL;
	if (!close)
		return -1;
	if (close == name || close[-1] != ':')
		return 0;
	size_t n = (size_t)(close - 1 - name);
	if (!class_known(name, n))
		return -1;
	for (int i = 0; i < 128; i++)
		if (class_has(name, n, i))
			set_bit(set, (unsigned char)i);
	c->p = close;
	return 1;
}

// The character behind c->p, which is moved there; a backslash quotes. -1: there is none.
static int take_quoted(struct compiler *c)
{
	if (c->p < c->end && *c->p == '\\')
		c->p++;
	return c->p < c->end ? (unsigned char)*c->p : -1;
}

// One member of a set. `previous`: what a range would begin with, 0 if nothing.
static bool add_member(struct compiler *c, uint32_t *set, int *previous)
{
	int rc;
	if (*c->p == '-' && *previous && c->p + 1 < c->end && c->p[1] != ']') {
		c->p++;
		int last = take_quoted(c);
		for (int i = *previous; i <= last; i++)
			set_bit(set, (unsigned char)i);
		*previous = 0;
		return last >= 0;
	}
	if (*c->p == '[' && c->p + 1 < c->end && c->p[1] == ':' && (rc = add_class(c, set)) != 0) {
		*previous = 0;
		return rc > 0;
	}
	*previous = take_quoted(c);
	if (*previous >= 0)
		set_bit(set, (unsigned char)*previous);
	return *previous >= 0;
}

// "[…]" at c->p. A ']' in the first place is a member. False: it has no end.
static bool add_set(struct compiler *c)
{
	uint32_t *set = arena_array(c->arena, uint32_t, 8);
	int previous = 0;
	c->p++;
	bool negated = c->p < c->end && (*c->p == '!' || *c->p == '^');
	c->p += negated;
	for (bool first = true; c->p < c->end && (first || *c->p != ']'); c->p++, first = false)
		if (!add_member(c, set, &previous))
			return false;
	if (c->p >= c->end)
		return false;
	c->p++;
	for (int i = 0; negated && i < 8; i++)
		set[i] = ~set[i];
	if (c->whole_path)
		set['/' / 32] &= ~(1U << '/' % 32);
	add(c, TOKEN_SET)->set = set;
	return true;
}

// ---- *

static void add_stars(struct compiler *c)
{
	const char *begin = c->p;
	while (c->p < c->end && *c->p == '*')
		c->p++;
	const char *next = c->p;
	bool two = next - begin > 1;
	bool from_slash = begin == c->start || begin[-1] == '/';
	bool to_slash = next == c->end || *next == '/' ||
			(next + 1 < c->end && next[0] == '\\' && next[1] == '/');
	if (!c->whole_path) {
		add(c, TOKEN_STARS);
	} else if (two && from_slash && to_slash) {
		if (next < c->end && *next == '/')
			add(c, TOKEN_OPTIONAL);
		add(c, TOKEN_STARS);
	} else {
		add(c, TOKEN_STAR);
	}
}

static bool compile(struct compiler *c)
{
	while (c->p < c->end) {
		if (*c->p == '*') {
			add_stars(c);
		} else if (*c->p == '?') {
			add(c, TOKEN_ANY);
			c->p++;
		} else if (*c->p == '[') {
			if (!add_set(c))
				return false;
		} else {
			if (*c->p == '\\' && ++c->p == c->end)
				return false;
			add_character(c, *c->p++);
		}
	}
	return true;
}

// Spaces at the end do not count, unless a backslash quotes the first of them.
static size_t trim(const char *line, size_t size)
{
	size_t spaces = size;
	bool in = false;
	for (size_t i = 0; i < size; i++) {
		if (line[i] == ' ') {
			spaces = in ? spaces : i;
			in = true;
		} else {
			in = false;
			i += line[i] == '\\';
			if (i >= size)
				return size;
		}
	}
	return in ? spaces : size;
}

bool ignore_pattern_parse(struct arena *a, const char *line, size_t size, struct ignore_pattern *p)
{
	*p = (struct ignore_pattern){0};
	if (size && line[size - 1] == '\r')
		size--;
	if (!size || *line == '#')
		return false;
	size = trim(line, size);
	if (size && *line == '!') {
		p->negated = true;
		line++;
		size--;
	}
	if (size && line[size - 1] == '/') {
		p->folder_only = true;
		size--;
	}
	p->name_only = !memchr(line, '/', size);
	if (!p->name_only && *line == '/') {
		line++;
		size--;
	}
	struct compiler c = {.arena = a,
		.pattern = p,
		.p = line,
		.end = line + size,
		.whole_path = !p->name_only};
	p->tokens = arena_array(a, struct ignore_token, size * 2 + 1);
	// git compares what stands before the first wildcard by itself; "**" right behind it is at
	// the start of the rest then.
	while (c.p < c.end && !strchr("*?[\\", *c.p))
		add_character(&c, *c.p++);
	c.start = c.p;
	p->never = !compile(&c);
	return true;
}

// ---- matching

// The states: `at[i]` says whether token i may come next. A state that may be passed by without a
// character brings those behind it.
struct states {
	const struct ignore_pattern *pattern;
	size_t lowest; // none below is set
	bool at[IGNORE_PATTERN_MAX * 2 + 2];
};

static void clear(struct states *s, const struct ignore_pattern *p)
{
	s->pattern = p;
	s->lowest = p->count + 1;
	memset(s->at, 0, p->count + 1);
}

// As deep as there are "**/" next to each other.
static void reach(struct states *s, size_t i)
{
	while (!s->at[i]) {
		s->at[i] = true;
		s->lowest = i < s->lowest ? i : s->lowest;
		if (i == s->pattern->count)
			return;
		enum token_type type = s->pattern->tokens[i].type;
		if (type == TOKEN_OPTIONAL)
			reach(s, i + 3);
		else if (type != TOKEN_STAR && type != TOKEN_STARS)
			return;
		i++;
	}
}

static void step(const struct states *from, struct states *to, unsigned char c, uint64_t *steps)
{
	const struct ignore_pattern *p = from->pattern;
	*steps += p->count + 1 - from->lowest;
	for (size_t i = from->lowest; i < p->count; i++) {
		const struct ignore_token *t = &p->tokens[i];
		if (!from->at[i])
			continue;
		bool stay = t->type == TOKEN_STARS || (t->type == TOKEN_STAR && c != '/');
		bool go = (t->type == TOKEN_CHARACTER && t->character == c) ||
			  (t->type == TOKEN_ANY && c != '/') ||
			  (t->type == TOKEN_SET && (t->set[c / 32] >> c % 32 & 1));
		if (stay)
			reach(to, i);
		else if (go)
			reach(to, i + 1);
	}
}

static bool match(const struct ignore_pattern *p, const char *text, uint64_t *steps)
{
	struct states all[2], *from = &all[0], *to = &all[1];
	clear(from, p);
	reach(from, 0);
	for (; *text; text++) {
		clear(to, p);
		step(from, to, (unsigned char)*text, steps);
		if (to->lowest > p->count)
			return false;
		struct states *spare = from;
		from = to;
		to = spare;
	}
	return from->at[p->count];
}

bool ignore_pattern_match(
	const struct ignore_pattern *p, const char *path, bool is_folder, uint64_t *steps)
{
	if (p->never || (p->folder_only && !is_folder))
		return false;
	const char *slash = strrchr(path, '/');
	if (p->name_only && slash)
		path = slash + 1;
	// Most rules begin with a character that the path does not begin with.
	const struct ignore_token *first = p->tokens;
	++*steps;
	if (p->count == 0 ||
		(first->type == TOKEN_CHARACTER && first->character != (unsigned char)*path))
		return false;
	return match(p, path, steps);
}
