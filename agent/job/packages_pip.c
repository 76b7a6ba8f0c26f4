// SPDX-License-Identifier: Apache-2.0
//
// requirements.txt, as pip's documentation describes its format.
#include "agent/job/packages_internal.h"
#include "base/file.h"
#include "base/text.h"

#include <ctype.h>
#include <sys/stat.h>
#include <unistd.h>

enum { LINE_MAX_BYTES = 16 * 1024 };

static bool is_space(char c)
{
	return c == ' ' || c == '\t' || c == '\f' || c == '\v';
}

// ---- one requirement

static bool has_credentials(const char *s)
{
	for (const char *p = s; (p = strstr(p, "://")); p += 3) {
		size_t n = strcspn(p + 3, "/?# ");
		const char *at = memrchr(p + 3, '@', n);
		bool web = p - s >= 4 && (strncmp(p - 4, "http", 4) == 0 ||
						 (p - s >= 5 && strncmp(p - 5, "https", 5) == 0));
		if (at && (web || memchr(p + 3, ':', (size_t)(at - p - 3))))
			return true;
	}
	return false;
}

static bool is_path(const char *s)
{
	size_t n = strcspn(s, " ;[");
	bool file = (n > 4 && strncmp(s + n - 4, ".whl", 4) == 0) ||
		    (n > 7 && strncmp(s + n - 7, ".tar.gz", 7) == 0) ||
		    (n > 4 && strncmp(s + n - 4, ".zip", 4) == 0);
	bool address = strstr(s, "://") != NULL;
	return strchr("./~", *s) || starts_with(s, "file:") || strstr(s, "file:/") ||
	       (file && !address) || (!address && memchr(s, '/', n));
}

static const char *option_complaint(const char *s)
{
	static const struct {
		const char *option, *text;
	} all[] = {
		{"-e", "editable packages are not installed: put the code into source_directory, "
		       "which the script can import from"},
		{"--editable", "editable packages are not installed: put the code into "
			       "source_directory, which the script can import from"},
		{"-r", "write pip_requirements_file instead"},
		{"--requirement", "write pip_requirements_file instead"},
		{"-c", "write it into the file that pip_requirements_file names"},
		{"--constraint", "write it into the file that pip_requirements_file names"},
		{"-i", "write environment.index_url instead"},
		{"--index-url", "write environment.index_url instead"},
		{"--extra-index-url", "write environment.extra_index_urls instead"},
		{"--pre", "write environment.pre: true instead"},
		{"--only-binary", "write environment.only_binary instead"},
		{"-f", "folders of packages are not searched: serve them as an index and write "
		       "environment.index_url"},
		{"--find-links", "folders of packages are not searched: serve them as an index and "
				 "write environment.index_url"},
		{"--no-index", "leave it out; packages come from an index"},
		{"--trusted-host", "which servers are trusted is the node's to say"},
		{"--no-binary", "not supported; leave it out"},
		{"--prefer-binary", "not supported; write environment.only_binary"},
	};
	for (size_t i = 0; i < array_size(all); i++) {
		size_t n = strlen(all[i].option);
		bool is = strncmp(s, all[i].option, n) == 0 &&
			  (n == 2 ? s[1] != '-' : !s[n] || s[n] == '=' || is_space(s[n]));
		if (is)
			return all[i].text;
	}
	return "options of pip are not supported here, except --hash behind a requirement";
}

const char *packages_pip_complaint(const char *s)
{
	if (!*s || is_space(*s))
		return "must be a requirement, such as numpy==2.1.0";
	if (strlen(s) > LINE_MAX_BYTES)
		return "is too long for a requirement";
	for (const char *p = s; *p; p++)
		if (((unsigned char)*p < ' ' && *p != '\t') || *p == 127)
			return "must be one line without control characters";
	if (*s == '-')
		return option_complaint(s);
	for (const char *p = s; (p = strstr(p, " -")); p += 2)
		if (!starts_with(p + 1, "--hash=") && !starts_with(p + 1, "--hash "))
			return option_complaint(p + 1);
	if (strstr(s, "${"))
		return "variables (${…}) are not replaced; credentials belong into the node's "
		       "netrc";
	if (has_credentials(s))
		return "must not have a user, password or token in its address: the job is kept; "
		       "credentials belong into the node's netrc";
	if (is_path(s))
		return "is a path, which the build does not see: name a package of an index, or an "
		       "address (NAME @ https://…)";
	return NULL;
}

// ---- files

int packages_append(struct arena *a, struct json_strings *list, const char *text, struct error *err)
{
	if (list->count >= JOB_PACKAGES_MAX)
		return error_set(
			err, ERROR_LIMIT, "more than %d packages are named", JOB_PACKAGES_MAX);
	// Room grows by doubling: at 0, 1, 2, 4, 8 … items there is none left.
	if ((list->count & (list->count - 1)) == 0) {
		const char **more =
			arena_array(a, const char *, list->count ? list->count * 2 + 1 : 2);
		if (list->count)
			memcpy(more, list->items, list->count * sizeof(*more));
		list->items = more;
	}
	list->items[list->count++] = arena_strdup(a, text);
	list->items[list->count] = NULL;
	return 0;
}

int packages_read_file(
	struct packages_reader *r, const char *path, struct buffer *b, struct error *err)
{
	struct stat st;
	if (r->files++ >= PACKAGES_FILES_MAX)
		return error_set(
			err, ERROR_LIMIT, "more than %d files name each other", PACKAGES_FILES_MAX);
	cleanup_fd int fd =
		file_open_beneath(r->folder, path, O_RDONLY | O_NONBLOCK | O_NOCTTY, 0, 0, err);
	if (fd < 0)
		return err->kind == ERROR_NOT_FOUND ? error_set(err, ERROR_NOT_FOUND,
							      "%s is not in source_directory", path)
						    : -1;
	if (fstat(fd, &st) < 0)
		return error_set_errno(err, errno, "stat %s", path);
	if (!S_ISREG(st.st_mode))
		return error_set(err, ERROR_INVALID, "%s is not a file", path);
	if (file_read_fd(fd, path, JOB_PACKAGES_BYTES_MAX - r->bytes, b, err) < 0)
		return -1;
	r->bytes += b->size;
	if (b->size && memchr(b->data, '\0', b->size))
		return error_set(err, ERROR_INVALID, "%s is no text", path);
	for (unsigned i = 0; i < r->depth; i++)
		if (r->open[i].dev == st.st_dev && r->open[i].ino == st.st_ino)
			return error_set(err, ERROR_INVALID, "%s names itself", path);
	if (r->depth >= PACKAGES_DEPTH_MAX)
		return error_set(
			err, ERROR_LIMIT, "%s: more than %d files deep", path, PACKAGES_DEPTH_MAX);
	r->open[r->depth].dev = st.st_dev;
	r->open[r->depth++].ino = st.st_ino;
	return 0;
}

static int read_requirements(struct packages_reader *r, const char *path, struct error *err);

// -r and -c count from the file they stand in.
static int read_other(struct packages_reader *r, const char *path, const char *other,
	bool constraints, struct error *err)
{
	if (*other == '/' || strstr(other, "://"))
		return error_set(err, ERROR_INVALID,
			"%s: only files below source_directory are read", other);
	size_t n = (size_t)(path_base(path) - path);
	const char *name = arena_printf(r->arena, "%.*s%s", (int)n, path, other);
	bool before = r->constraints;
	r->constraints = before || constraints;
	int rc = read_requirements(r, name, err);
	r->constraints = before;
	return rc;
}

static int set_index(struct packages_reader *r, const char *url, struct error *err)
{
	const char *complaint = data_url_complaint(url);
	if (complaint)
		return error_set(err, ERROR_INVALID, "--index-url %s", complaint);
	if (r->e->index_url && !streq(r->e->index_url, url))
		return error_set(err, ERROR_INVALID,
			"--index-url: there is another one, %s, already; leave one out",
			r->e->index_url);
	r->e->index_url = arena_strdup(r->arena, url);
	return 0;
}

static int add_extra_index(struct packages_reader *r, const char *url, struct error *err)
{
	const char *complaint = data_url_complaint(url);
	if (complaint)
		return error_set(err, ERROR_INVALID, "--extra-index-url %s", complaint);
	return packages_append(r->arena, &r->e->extra_index_urls, url, err);
}

enum line_option { REQUIREMENT, CONSTRAINT, INDEX, EXTRA_INDEX, ONLY_BINARY, PRE, HASHES };
static const struct {
	const char *name;
	enum line_option option;
	bool argument;
} line_options[] = {
	{"--requirement", REQUIREMENT, true}, {"-r", REQUIREMENT, true},
	{"--constraint", CONSTRAINT, true}, {"-c", CONSTRAINT, true}, {"--index-url", INDEX, true},
	{"-i", INDEX, true}, {"--extra-index-url", EXTRA_INDEX, true},
	{"--only-binary", ONLY_BINARY, true}, {"--pre", PRE, false},
	{"--require-hashes", HASHES, false}, // as soon as one line has a hash, pip wants all
};

static int apply_option(struct packages_reader *r, const char *path, enum line_option option,
	const char *argument, struct error *err)
{
	switch (option) {
	case REQUIREMENT:
	case CONSTRAINT:
		return read_other(r, path, argument, option == CONSTRAINT, err);
	case INDEX:
		return set_index(r, argument, err);
	case EXTRA_INDEX:
		return add_extra_index(r, argument, err);
	case ONLY_BINARY:
		return packages_append(r->arena, &r->e->only_binary, argument, err);
	case PRE:
		r->e->pre = true;
		break;
	case HASHES:
		break;
	}
	return 0;
}

// One option at *at, which is moved behind it.
static int take_option(
	struct packages_reader *r, const char *path, const char **at, struct error *err)
{
	const char *p = *at;
	size_t i = 0, n = 0;
	for (; i < array_size(line_options); i++) {
		n = strlen(line_options[i].name);
		bool glued = n == 2 && p[1] != '-'; // -rother.txt
		if (strncmp(p, line_options[i].name, n) == 0 &&
			(glued || !p[n] || p[n] == '=' || is_space(p[n])))
			break;
	}
	if (i == array_size(line_options))
		return error_set(err, ERROR_INVALID, "%s: %s",
			arena_strndup(r->arena, p, strcspn(p, " \t=")), option_complaint(p));
	p += n;
	const char *argument = "";
	if (line_options[i].argument) {
		p += *p == '=';
		while (is_space(*p))
			p++;
		size_t length = strcspn(p, " \t");
		argument = arena_strndup(r->arena, p, length);
		p += length;
		if (!length)
			return error_set(err, ERROR_INVALID, "%s: what it names is missing",
				line_options[i].name);
		if (strstr(argument, "${"))
			return error_set(err, ERROR_INVALID, "%s: variables are not replaced",
				line_options[i].name);
	}
	while (is_space(*p))
		p++;
	*at = p;
	return apply_option(r, path, line_options[i].option, argument, err);
}

int packages_add_line(
	struct packages_reader *r, const char *path, const char *line, struct error *err)
{
	const char *p = line;
	while (*p == '-')
		if (take_option(r, path, &p, err) < 0)
			return -1;
	if (!*p)
		return 0;
	const char *complaint = packages_pip_complaint(p);
	if (complaint)
		return error_set(err, ERROR_INVALID, "\"%.100s\" %s", p, complaint);
	return packages_append(r->arena, r->constraints ? &r->e->constraints : &r->e->pip, p, err);
}

// Without its comment and the white space around it.
static const char *strip(char *line)
{
	for (char *p = line; *p; p++)
		if (*p == '#' && (p == line || is_space(p[-1]))) {
			*p = '\0';
			break;
		}
	size_t n = strlen(line);
	while (n && is_space(line[n - 1]))
		line[--n] = '\0';
	while (is_space(*line))
		line++;
	return line;
}

// Lines that end in a backslash go on in the next one, unless that is a comment.
static int read_lines(struct packages_reader *r, const char *path, char *text, struct error *err)
{
	cleanup_buffer struct buffer line = {0};
	unsigned number = 0, first = 1;
	for (char *p = text, *end; p; p = end) {
		number++;
		end = strchr(p, '\n');
		if (end)
			*end++ = '\0';
		size_t n = strlen(p);
		if (n && p[n - 1] == '\r')
			p[--n] = '\0';
		bool comment = p[strspn(p, " \t")] == '#';
		if (!line.size)
			first = number;
		if (comment)
			buffer_putc(&line, ' ');
		buffer_append(&line, p, n);
		if (!comment && n && p[n - 1] == '\\' && end) {
			line.data[line.size - 1] = ' ';
			continue;
		}
		const char *requirement = line.data ? strip(line.data) : "";
		if (*requirement && packages_add_line(r, path, requirement, err) < 0)
			return error_context(err, "%s:%u", path, first);
		buffer_clear(&line);
	}
	return 0;
}

static int read_requirements(struct packages_reader *r, const char *path, struct error *err)
{
	cleanup_buffer struct buffer b = {0};
	if (packages_read_file(r, path, &b, err) < 0)
		return -1;
	char *text = b.data ? b.data : (char[]){""};
	if (starts_with(text, "\xEF\xBB\xBF"))
		text += 3;
	int rc = read_lines(r, path, text, err);
	r->depth--;
	return rc;
}

int packages_read_pip(
	struct arena *a, int folder, const char *path, struct job_environment *e, struct error *err)
{
	struct packages_reader r = {.arena = a, .folder = folder, .e = e};
	return read_requirements(&r, path, err);
}
