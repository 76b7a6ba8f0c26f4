// SPDX-License-Identifier: Apache-2.0
#include "agent/command/download.h"

#include "agent/command/download_fetch.h"
#include "base/file.h"
#include "base/text.h"

#include <limits.h>
#include <stdio.h>
#include <unistd.h>

enum { PAGE = 1000 };

// A link that leads out of the folder could make a later file land anywhere.
static int make_link(int folder, const char *name, const char *target, struct error *err)
{
	int depth = 0;
	for (const char *p = name; *p; p++)
		depth += *p == '/';
	bool safe = *target && *target != '/';
	for (const char *p = target; safe && *p; p += strcspn(p, "/"), p += *p == '/') {
		size_t n = strcspn(p, "/");
		if (n == 2 && p[0] == '.' && p[1] == '.')
			depth--;
		else if (n && !(n == 1 && *p == '.'))
			depth++;
		safe = depth >= 0;
	}
	if (!safe) {
		fprintf(stderr, "%s: a link that leads out of the folder is left out\n", name);
		return 0;
	}
	cleanup_fd int parent = download_open_parent(folder, name, err);
	if (parent < 0)
		return -1;
	unlinkat(parent, path_base(name), 0);
	return symlinkat(target, parent, path_base(name)) < 0
		       ? error_set_errno(err, errno, "make the link %s", name)
		       : 0;
}

static bool is_safe(const char *name)
{
	for (const char *p = name;; p++) {
		size_t n = strcspn(p, "/");
		if (n == 0 || n > NAME_MAX || (n == 1 && *p == '.') ||
			(n == 2 && p[0] == '.' && p[1] == '.'))
			return false;
		p += n;
		if (!*p)
			return true;
	}
}

// Of one call.
struct session {
	struct service *service;
	const struct download *what;
	int folder;
	struct phase_line line;
};

static void tell(const struct session *s, const char *name, const struct json *file, bool fetched)
{
	struct json_writer *w = s->what->json;
	if (fetched && !s->what->quiet)
		fprintf(stderr, "%s\n", name);
	if (!w)
		return;
	json_write_open_object(w);
	json_write_member(w, "path", remote_text(file, "path"));
	json_write_member_int(w, "size", json_get_integer(file, "size", 0));
	json_write_member(w, "sha256", json_get_string(file, "sha256"));
	json_write_member_bool(w, "fetched", fetched);
	json_write_close_object(w);
}

// 1: a file that is here now; 0: something else.
static int one(struct session *s, const struct json *file, struct error *err)
{
	cleanup_arena struct arena a = {0};
	const struct download *d = s->what;
	const char *path = remote_text(file, "path"), *kind = remote_text(file, "kind");
	if (d->prefix && !streq(path, d->prefix) &&
		!starts_with(path, arena_printf(&a, "%s/", d->prefix)))
		return 0;
	const char *shown = path;
	if (d->strip && starts_with(path, d->strip) && path[strlen(d->strip)] == '/')
		shown = path + strlen(d->strip) + 1;
	const char *name = service_name_bytes(&a, shown);
	if (!name || !is_safe(name))
		return error_set(err, ERROR_INVALID, "%s is no name for a file here", path);
	if (streq(kind, "link"))
		return make_link(s->folder, name, remote_text(file, "target"), err);
	if (streq(kind, "folder"))
		return directory_make(s->folder, name, 0755, err);
	bool fetched = !download_is_here(s->folder, name, file);
	const char *from = arena_printf(&a, "%s/%s", d->list, service_escape(&a, path, true));
	struct download_fetch f = {.service = s->service,
		.path = from,
		.name = name,
		.file = file,
		.sha256 = json_get_string(file, "sha256"),
		.size = (uint64_t)json_get_integer(file, "size", 0),
		.line = &s->line};
	if (fetched && download_fetch_file(&f, s->folder, err) < 0)
		return -1;
	tell(s, name, file, fetched);
	return 1;
}

static int64_t page(struct session *s, char **after, struct error *err)
{
	cleanup_arena struct arena a = {0};
	const struct download *d = s->what;
	const struct json *answer;
	int64_t count = 0;
	const char *path = arena_printf(&a, "%s?limit=%d&prefix=%s&after=%s", d->list, PAGE,
		d->prefix ? service_escape(&a, d->prefix, false) : "",
		*after ? service_escape(&a, *after, false) : "");
	if (service_call(s->service, "GET", path, NULL, &a, &answer, err) < 0)
		return -1;
	const struct json *list = json_get(answer, "files");
	if (list && list->type == JSON_ARRAY)
		json_array_each (item, list) {
			int rc = one(s, &item->value, err);
			if (rc < 0)
				return -1;
			count += rc;
		}
	free(*after);
	const char *next = json_get_string(answer, "next");
	*after = next ? xstrdup(next) : NULL;
	return count;
}

int64_t download_files(struct service *s, const struct download *d, struct error *err)
{
	cleanup_free char *after = NULL;
	cleanup_fd int folder = directory_ensure(AT_FDCWD, d->target, 0755, err);
	struct session session = {.service = s, .what = d, .folder = folder};
	int64_t count = 0;
	if (folder < 0)
		return -1;
	phase_line_init(&session.line, "download");
	do {
		int64_t n = page(&session, &after, err);
		if (n < 0)
			return -1;
		count += n;
	} while (after);
	return count;
}

struct json_writer *download_json_begin(bool json)
{
	if (!json)
		return NULL;
	struct json_writer *w = json_writer_new(true);
	json_write_open_object(w);
	json_write_key(w, "files");
	json_write_open_array(w);
	return w;
}

int download_report(const struct download *d, int64_t files, struct error *err)
{
	cleanup_buffer struct buffer text = {0};
	if (!d->json) {
		fprintf(stderr, "%lld files in %s\n", (long long)files, d->target);
		return 0;
	}
	json_write_close_array(d->json);
	json_write_member(d->json, "folder", d->target);
	json_write_close_object(d->json);
	if (json_writer_finish(d->json, &text, err) < 0)
		return -1;
	printf("%s\n", text.data);
	return 0;
}
