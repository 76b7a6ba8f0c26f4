// SPDX-License-Identifier: Apache-2.0
#include "agent/environment/classify.h"

#include "base/text.h"

#include <stdio.h>
#include <string.h>

enum { EVIDENCE_LINES = 20, EVIDENCE_BYTES = 8 * 1024, TEXT_BYTES = 300 };

struct rule {
	const char *text; // in a line
	enum environment_failure failure;
};

// The first that is found decides, and its line is what people read. A build's own output may hold
// any words, so its failure is looked for first.
static const struct rule pip_rules[] = {
	{"No space left on device", ENVIRONMENT_NO_SPACE},
	{"Disk quota exceeded", ENVIRONMENT_NO_SPACE},
	{"THESE PACKAGES DO NOT MATCH THE HASHES", ENVIRONMENT_INTEGRITY},
	{"has an invalid wheel", ENVIRONMENT_INTEGRITY},
	{"is invalid.", ENVIRONMENT_INTEGRITY},
	{"BadZipFile", ENVIRONMENT_INTEGRITY},
	{"metadata-generation-failed", ENVIRONMENT_BUILD},
	{"Failed building wheel for", ENVIRONMENT_BUILD},
	{"Failed to build", ENVIRONMENT_BUILD},
	{"subprocess-exited-with-error", ENVIRONMENT_BUILD},
	{"requires a different Python", ENVIRONMENT_UNSATISFIABLE},
	{"ResolutionImpossible", ENVIRONMENT_UNSATISFIABLE},
	{"conflicting dependencies", ENVIRONMENT_UNSATISFIABLE},
	{"No matching distribution found for", ENVIRONMENT_NOT_FOUND},
	{"Could not find a version that satisfies", ENVIRONMENT_NOT_FOUND},
	{"Hashes are required in --require-hashes mode", ENVIRONMENT_LOCK_UNAVAILABLE},
	{"Invalid requirement", ENVIRONMENT_BAD_SPEC},
	{"MemoryError", ENVIRONMENT_OUT_OF_MEMORY},
	{NULL, ENVIRONMENT_FAILED},
};

static const struct rule uv_rules[] = {
	{"No space left on device", ENVIRONMENT_NO_SPACE},
	{"Hash mismatch", ENVIRONMENT_INTEGRITY},
	{"Failed to build", ENVIRONMENT_BUILD},
	{"Build backend failed", ENVIRONMENT_BUILD},
	{"was not found in the package registry", ENVIRONMENT_NOT_FOUND},
	{"there is no version of", ENVIRONMENT_NOT_FOUND},
	{"No solution found when resolving", ENVIRONMENT_UNSATISFIABLE},
	{"Couldn't parse requirement", ENVIRONMENT_BAD_SPEC},
	{NULL, ENVIRONMENT_FAILED},
};

struct text {
	const char *at, *end;
};

// The next line, without what ends it. false at the end.
static bool next_line(struct text *t, struct text *line)
{
	if (t->at >= t->end)
		return false;
	const char *p = t->at;
	while (p < t->end && *p != '\n' && *p != '\0')
		p++;
	*line = (struct text){t->at, p};
	t->at = p < t->end ? p + 1 : p;
	while (line->end > line->at && line->end[-1] == '\r')
		line->end--;
	return true;
}

static bool contains(const struct text *line, const char *what)
{
	return memmem(line->at, (size_t)(line->end - line->at), what, strlen(what)) != NULL;
}

static const char *one_line(struct arena *a, const struct text *line)
{
	const char *p = line->at, *end = line->end;
	while (p < end && (*p == ' ' || *p == '\t'))
		p++;
	for (size_t n = strlen("ERROR: ");
		(size_t)(end - p) > n && strncasecmp(p, "ERROR: ", n) == 0;)
		p += n;
	size_t size = (size_t)(end - p);
	char *text = arena_strndup(a, p, size < TEXT_BYTES ? size : TEXT_BYTES);
	text_flatten(text);
	return text;
}

static void add(struct buffer *b, const struct text *line)
{
	size_t n = (size_t)(line->end - line->at);
	if (b->size + n + 1 > EVIDENCE_BYTES)
		return;
	buffer_append(b, line->at, n);
	buffer_putc(b, '\n');
}

static void clean(struct buffer *b)
{
	for (size_t i = 0; i < b->size; i++)
		if ((unsigned char)b->data[i] < ' ' && b->data[i] != '\n' && b->data[i] != '\t')
			b->data[i] = '?';
}

// The last lines of a part of the output.
static void add_tail(struct buffer *b, struct text part)
{
	const char *from = part.end;
	size_t lines = 0;
	while (from > part.at && (size_t)(part.end - from) < EVIDENCE_BYTES / 2) {
		if (from[-1] == '\n' && from != part.end && ++lines == EVIDENCE_LINES)
			break;
		from--;
	}
	struct text rest = {from, part.end}, line;
	while (next_line(&rest, &line))
		add(b, &line);
}

// ---- pip

// What a build printed: between "[12 lines of output]" and "[end of output]", the last such.
static void pip_build_evidence(struct text all, struct buffer *b)
{
	static const char begin[] = "lines of output]", end[] = "[end of output]";
	struct text found = {NULL, NULL};
	for (const char *p = all.at; p < all.end;) {
		const char *from = memmem(p, (size_t)(all.end - p), begin, strlen(begin));
		if (!from)
			break;
		from += strlen(begin);
		const char *to = memmem(from, (size_t)(all.end - from), end, strlen(end));
		while (to && to > from && to[-1] != '\n')
			to--;
		found = (struct text){from, to ? to : all.end};
		p = found.end + 1;
	}
	add_tail(b, found.at ? found : all);
}

// From the conflict's explanation on, and what pip calls an error.
static void pip_evidence(struct text all, struct buffer *b)
{
	struct text line;
	bool explains = false;
	while (next_line(&all, &line)) {
		if (contains(&line, "because these package versions have conflicting"))
			explains = true;
		if (explains || contains(&line, "ERROR: ") || contains(&line, "WARNING: "))
			add(b, &line);
	}
}

static bool find(struct text all, const struct rule *rules, struct arena *a, struct classified *c)
{
	for (const struct rule *r = rules; r->text; r++) {
		struct text rest = all, line;
		while (next_line(&rest, &line)) {
			if (!contains(&line, r->text))
				continue;
			c->failure = r->failure;
			c->text = one_line(a, &line);
			return true;
		}
	}
	return false;
}

static void last_line(struct text all, struct arena *a, struct classified *c)
{
	struct text line;
	while (next_line(&all, &line))
		if (line.end > line.at)
			c->text = one_line(a, &line);
}

// "ERROR: Could not build …" names the package; the first line that tells of it does not.
static void pip_build_text(struct text all, struct arena *a, struct classified *c)
{
	static const char *const better[] = {
		"Failed building wheel for", "Could not build wheels for", "Failed to build"};
	for (size_t i = 0; i < array_size(better); i++) {
		struct text rest = all, line;
		while (next_line(&rest, &line))
			if (contains(&line, better[i])) {
				c->text = one_line(a, &line);
				return;
			}
	}
	struct text line;
	const char *package = NULL;
	while (next_line(&all, &line))
		if (line.end - line.at > 11 && strncmp(line.at, "Collecting ", 11) == 0)
			package = arena_strndup(a, line.at + 11, (size_t)(line.end - line.at - 11));
	if (package)
		c->text = arena_printf(a, "the build of %s failed", package);
}

void classify_pip(struct arena *a, const char *output, size_t size, struct classified *c)
{
	struct text all = {output, output + size};
	*c = (struct classified){.failure = ENVIRONMENT_FAILED, .text = "pip failed"};
	if (!find(all, pip_rules, a, c))
		last_line(all, a, c);
	if (c->failure == ENVIRONMENT_BUILD) {
		pip_build_text(all, a, c);
		pip_build_evidence(all, &c->evidence);
	} else {
		pip_evidence(all, &c->evidence);
	}
	if (!c->evidence.size)
		add_tail(&c->evidence, all);
	clean(&c->evidence);
	// All versions there are want another Python.
	struct rule other[] = {{"require a different python version", ENVIRONMENT_UNSATISFIABLE},
		{NULL, ENVIRONMENT_OK}};
	const char *text = c->text;
	if (c->failure == ENVIRONMENT_NOT_FOUND && find(all, other, a, c))
		c->text = arena_printf(a, "%s (%s)", text, c->text);
}

void classify_uv(struct arena *a, const char *output, size_t size, struct classified *c)
{
	struct text all = {output, output + size};
	*c = (struct classified){.failure = ENVIRONMENT_FAILED, .text = "uv failed"};
	if (!find(all, uv_rules, a, c))
		last_line(all, a, c);
	add_tail(&c->evidence, all);
	clean(&c->evidence);
}
