// SPDX-License-Identifier: Apache-2.0
//
// conda and mamba name their exceptions; micromamba tells of problems of the solver, or prints.
#include "agent/environment/classify.h"
#include "agent/environment/conda.h"
#include "base/text.h"

#include <string.h>

enum { EVIDENCE_BYTES = 8 * 1024, TEXT_BYTES = 300 };

static const struct {
	const char *name; // a part of the exception's
	enum environment_failure failure;
} exceptions[] = {
	{"PackagesNotFound", ENVIRONMENT_NOT_FOUND},
	{"ResolvePackageNotFound", ENVIRONMENT_NOT_FOUND},
	{"Unsatisfiable", ENVIRONMENT_UNSATISFIABLE}, {"ChecksumMismatch", ENVIRONMENT_INTEGRITY},
	{"NoSpaceLeft", ENVIRONMENT_NO_SPACE}, {"ToSNonInteractive", ENVIRONMENT_TERMS},
	{"Memory", ENVIRONMENT_OUT_OF_MEMORY}, {"InvalidSpec", ENVIRONMENT_BAD_SPEC},
	{"InvalidMatchSpec", ENVIRONMENT_BAD_SPEC}, {"InvalidVersionSpec", ENVIRONMENT_BAD_SPEC},
	{"CondaValueError", ENVIRONMENT_BAD_SPEC}, {"Authentication", ENVIRONMENT_AUTHENTICATION},
	{"CondaHTTPError", ENVIRONMENT_NETWORK}, {"UnavailableInvalidChannel", ENVIRONMENT_NETWORK},
	{"ProxyError", ENVIRONMENT_NETWORK}, {"CondaSSLError", ENVIRONMENT_NETWORK},
	{"OfflineError", ENVIRONMENT_NETWORK},
	{"LinkError", ENVIRONMENT_BUILD}, // a package's own script
};

// In what micromamba and old versions print.
static const struct {
	const char *text;
	enum environment_failure failure;
} texts[] = {
	{"No space left on device", ENVIRONMENT_NO_SPACE},
	{"ChecksumMismatchError", ENVIRONMENT_INTEGRITY},
	{"checksum", ENVIRONMENT_INTEGRITY},
	{"post-link script failed", ENVIRONMENT_BUILD},
	{"PackagesNotFoundError", ENVIRONMENT_NOT_FOUND},
	{"Terms of Service", ENVIRONMENT_TERMS},
	{"does not exist (perhaps", ENVIRONMENT_NOT_FOUND},
	{"nothing provides requested", ENVIRONMENT_NOT_FOUND},
	{"UnsatisfiableError", ENVIRONMENT_UNSATISFIABLE},
	{"Could not solve for environment", ENVIRONMENT_UNSATISFIABLE},
	{"not installable because", ENVIRONMENT_UNSATISFIABLE},
	{"conflicting", ENVIRONMENT_UNSATISFIABLE},
	{"Invalid match spec", ENVIRONMENT_BAD_SPEC},
	{"MemoryError", ENVIRONMENT_OUT_OF_MEMORY},
};

static bool by_exception(const char *name, struct classified *c)
{
	for (size_t i = 0; name && i < array_size(exceptions); i++)
		if (strstr(name, exceptions[i].name)) {
			c->failure = exceptions[i].failure;
			return true;
		}
	return false;
}

static void by_text(const char *text, struct classified *c)
{
	for (size_t i = 0; i < array_size(texts); i++)
		if (strstr(text, texts[i].text)) {
			c->failure = texts[i].failure;
			return;
		}
}

// People read the first line that says something; the rest is beside it.
static const char *first_line(struct arena *a, const char *text)
{
	text += strspn(text, " \t\r\n");
	size_t n = strcspn(text, "\r\n");
	char *line = arena_strndup(a, text, n < TEXT_BYTES ? n : TEXT_BYTES);
	text_flatten(line);
	return line;
}

static void add_evidence(struct buffer *b, const char *text)
{
	size_t n = strlen(text);
	if (b->size >= EVIDENCE_BYTES)
		return;
	if (n > EVIDENCE_BYTES - b->size)
		n = EVIDENCE_BYTES - b->size;
	buffer_append(b, text, n);
	if (n && text[n - 1] != '\n')
		buffer_putc(b, '\n');
}

static void read_problems(struct arena *a, const struct json *problems, struct classified *c)
{
	json_array_each (problem, problems) {
		if (problem->value.type != JSON_STRING)
			continue;
		add_evidence(&c->evidence, problem->value.string);
		if (c->failure == ENVIRONMENT_FAILED) {
			c->failure = ENVIRONMENT_UNSATISFIABLE;
			c->text = first_line(a, problem->value.string);
		}
		if (strstr(problem->value.string, "nothing provides requested") ||
			strstr(problem->value.string, "does not exist"))
			c->failure = ENVIRONMENT_NOT_FOUND;
	}
}

static void read_exception(struct arena *a, const struct json *v, struct classified *c)
{
	const char *name = json_get_string(v, "exception_name");
	const char *message = json_get_string(v, "message");
	const struct json *errors = json_get(v, "errors");
	if (!message)
		message = json_get_string(v, "error");
	bool known = by_exception(name, c);
	if (message) {
		c->text = first_line(a, message);
		add_evidence(&c->evidence, message);
		if (!known)
			by_text(message, c);
	}
	// The reason is among those that it collects.
	if (errors && errors->type == JSON_ARRAY)
		json_array_each (e, errors)
			if (c->failure == ENVIRONMENT_FAILED)
				read_exception(a, &e->value, c);
}

void classify_conda(struct arena *a, const char *output, size_t size, struct classified *c)
{
	*c = (struct classified){.failure = ENVIRONMENT_FAILED, .text = "conda failed"};
	const struct json *v = conda_document(a, output, size);
	const struct json *problems = json_get(v, "solver_problems");
	if (problems && problems->type == JSON_ARRAY)
		read_problems(a, problems, c);
	if (c->failure == ENVIRONMENT_FAILED && v)
		read_exception(a, v, c);
	if (c->failure == ENVIRONMENT_FAILED) {
		char *text = arena_strndup(a, output, size); // as far as the first NUL
		for (size_t i = 0; i < size; i++)
			text[i] = output[i] ? output[i] : '\n';
		by_text(text, c);
		size_t n = strlen(text);
		if (!c->evidence.size)
			add_evidence(&c->evidence,
				n > EVIDENCE_BYTES / 2 ? text + n - EVIDENCE_BYTES / 2 : text);
		if (streq(c->text, "conda failed") && n)
			c->text = first_line(a, text);
	}
	for (size_t i = 0; i < c->evidence.size; i++)
		if ((unsigned char)c->evidence.data[i] < ' ' && c->evidence.data[i] != '\n')
			c->evidence.data[i] = ' ';
}
