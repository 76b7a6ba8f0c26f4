// SPDX-License-Identifier: Apache-2.0
// The marker of a requirement (PEP 508), in one spelling: single spaces, double quotes, parentheses
// as written.
#include "agent/environment/spec_pip.h"
#include "base/text.h"

#include <ctype.h>

enum { DEPTH_MAX = 32 };

static const char *const variables[] = {"python_version", "python_full_version", "os_name",
	"sys_platform", "platform_machine", "platform_python_implementation", "platform_release",
	"platform_system", "platform_version", "implementation_name", "implementation_version",
	"extra"};

static size_t word_length(const char *s)
{
	size_t n = 0;
	while (isalnum((unsigned char)s[n]) || s[n] == '_')
		n++;
	return n;
}

static bool take_word(struct pip_text *t, const char *word)
{
	pip_skip_space(t);
	size_t n = strlen(word);
	if (word_length(t->at) != n || strncmp(t->at, word, n) != 0)
		return false;
	t->at += n;
	return true;
}

static int value(struct pip_text *t)
{
	pip_skip_space(t);
	if (*t->at == '\'' || *t->at == '"') {
		const char quote[2] = {*t->at, '\0'};
		size_t n = strcspn(t->at + 1, quote);
		if (t->at[n + 1] != *quote)
			return pip_fail(t, "a quote of the marker is not closed");
		bool inner = memchr(t->at + 1, '"', n) != NULL;
		char kept = inner ? '\'' : '"';
		buffer_printf(t->out, "%c%.*s%c", kept, (int)n, t->at + 1, kept);
		t->at += n + 2;
		return 0;
	}
	size_t n = word_length(t->at);
	for (size_t i = 0; i < array_size(variables); i++) {
		if (!take_word(t, variables[i]))
			continue;
		buffer_puts(t->out, variables[i]);
		return 0;
	}
	if (!n)
		return pip_fail(t, "a value is missing in the marker before \"%.40s\"", t->at);
	return pip_fail(t, "\"%.*s\" is no variable of a marker (texts stand in quotes)",
		(int)(n > 40 ? 40 : n), t->at);
}

static int operator(struct pip_text *t)
{
	static const char *const operators[] = {"===", "==", "!=", "~=", "<=", ">=", "<", ">"};
	pip_skip_space(t);
	for (size_t i = 0; i < array_size(operators); i++) {
		if (!starts_with(t->at, operators[i]))
			continue;
		t->at += strlen(operators[i]);
		buffer_printf(t->out, " %s ", operators[i]);
		return 0;
	}
	if (take_word(t, "in")) {
		buffer_puts(t->out, " in ");
		return 0;
	}
	if (take_word(t, "not") && take_word(t, "in")) {
		buffer_puts(t->out, " not in ");
		return 0;
	}
	return pip_fail(t, "expected a comparison in the marker before \"%.40s\"", t->at);
}

static int either(struct pip_text *t, int depth);

static int comparison(struct pip_text *t, int depth)
{
	pip_skip_space(t);
	if (*t->at != '(')
		return value(t) < 0 || operator(t) < 0 || value(t) < 0 ? -1 : 0;
	if (depth == DEPTH_MAX)
		return pip_fail(t, "the marker's parentheses are deeper than %d", DEPTH_MAX);
	t->at++;
	buffer_putc(t->out, '(');
	if (either(t, depth + 1) < 0)
		return -1;
	pip_skip_space(t);
	if (*t->at != ')')
		return pip_fail(t, "')' is missing in the marker before \"%.40s\"", t->at);
	t->at++;
	buffer_putc(t->out, ')');
	return 0;
}

static int both(struct pip_text *t, int depth)
{
	if (comparison(t, depth) < 0)
		return -1;
	while (take_word(t, "and")) {
		buffer_puts(t->out, " and ");
		if (comparison(t, depth) < 0)
			return -1;
	}
	return 0;
}

// or binds less than and.
static int either(struct pip_text *t, int depth)
{
	if (both(t, depth) < 0)
		return -1;
	while (take_word(t, "or")) {
		buffer_puts(t->out, " or ");
		if (both(t, depth) < 0)
			return -1;
	}
	return 0;
}

int pip_marker(struct pip_text *t)
{
	t->at++;
	buffer_puts(t->out, " ; ");
	if (either(t, 0) < 0)
		return -1;
	pip_skip_space(t);
	if (*t->at && !starts_with(t->at, "--"))
		return pip_fail(t, "\"%.40s\" does not belong behind the marker", t->at);
	return 0;
}
