// SPDX-License-Identifier: Apache-2.0
#include "agent/command/remote.h"

#include "base/file.h"
#include "base/text.h"

#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

enum { LOGIN_BYTES_MAX = 64 * 1024, RETRY_MS = 20 * 1000, PAGE = 500 };

// ---- where it is

static char *login_path(void)
{
	const char *config = getenv("XDG_CONFIG_HOME"), *home = getenv("HOME");
	if (config && *config == '/')
		return path_join(config, "stoker/controller.json");
	return xasprintf("%s/.config/stoker/controller.json", home && *home ? home : "");
}

static const char *from_environment(const char *name)
{
	const char *value = getenv(name);
	return value && *value ? value : NULL;
}

bool remote_is_known(void)
{
	cleanup_free char *path = login_path();
	return from_environment("STOKER_URL") || access(path, F_OK) == 0;
}

static int read_login(struct arena *a, const struct json **login, struct error *err)
{
	cleanup_free char *path = login_path();
	cleanup_buffer struct buffer b = {0};
	if (file_check_private(AT_FDCWD, path, 0, err) < 0)
		return -1;
	if (file_read(AT_FDCWD, path, LOGIN_BYTES_MAX, &b, err) < 0)
		return err->kind == ERROR_NOT_FOUND ? error_set(err, ERROR_NOT_FOUND,
							      "no controller is known; say where "
							      "it is: stoker login URL")
						    : -1;
	*login = json_parse(a, b.data, b.size, path, NULL, err);
	return *login ? 0 : -1;
}

int remote_open(struct service **service, struct error *err)
{
	cleanup_arena struct arena a = {0};
	const struct json *login = NULL;
	const char *url = from_environment("STOKER_URL");
	if (!url && read_login(&a, &login, err) < 0)
		return -1;
	const char *token = from_environment("STOKER_TOKEN"), *ca = from_environment("STOKER_CA");
	const struct service_settings settings = {
		.url = url ? url : remote_text(login, "url"),
		.token = token ? token : json_get_string(login, "token"),
		.ca = ca ? ca : json_get_string(login, "ca"),
		.cancel_fd = -1,
		.retry_ms = RETRY_MS,
	};
	*service = service_open(&settings, err);
	return *service ? 0 : -1;
}

int remote_save(const char *url, const char *token, const char *ca, struct error *err)
{
	cleanup_free char *path = login_path(), *folder = xstrdup(path);
	cleanup_buffer struct buffer b = {0};
	cleanup_json_writer struct json_writer *w = json_writer_new(true);
	*strrchr(folder, '/') = '\0';
	json_write_open_object(w);
	json_write_member(w, "url", url);
	json_write_member(w, "token", token);
	if (ca)
		json_write_member(w, "ca", ca);
	json_write_close_object(w);
	if (json_writer_finish(w, &b, err) < 0 || directory_make(AT_FDCWD, folder, 0700, err) < 0)
		return -1;
	return file_write_atomic(AT_FDCWD, path, b.data, b.size, 0600, err);
}

// ---- runs

const char *remote_text(const struct json *object, const char *key)
{
	const char *s = json_get_string(object, key);
	return s ? s : "-";
}

static int get_run(struct service *s, const char *id, struct arena *a, const struct json **run,
	struct error *err)
{
	const char *path = arena_printf(a, "/v1/runs/%s", service_escape(a, id, false));
	return service_call(s, "GET", path, NULL, a, run, err);
}

int remote_find_run(struct service *s, const char *name, struct arena *a, const struct json **run,
	struct error *err)
{
	const struct json *page, *list;
	const char *found = NULL;
	struct error missing;
	if (get_run(s, name, a, run, &missing) == 0)
		return 0;
	*err = missing;
	if (missing.kind != ERROR_NOT_FOUND)
		return -1;
	const char *path = arena_printf(a, "/v1/runs?limit=%d", PAGE);
	if (service_call(s, "GET", path, NULL, a, &page, err) < 0)
		return -1;
	list = json_get(page, "runs");
	if (list && list->type == JSON_ARRAY)
		json_array_each (item, list) {
			const char *id = remote_text(&item->value, "id");
			if (!starts_with(id, name))
				continue;
			if (found)
				return error_set(err, ERROR_INVALID,
					"%s may mean %s or %s; say more of it", name, found, id);
			found = id;
		}
	if (!found) {
		*err = missing;
		return -1;
	}
	error_clear(err);
	return get_run(s, found, a, run, err);
}

const char *remote_run_path(struct arena *a, const struct json *run, const char *rest)
{
	return arena_printf(
		a, "/v1/runs/%s%s", service_escape(a, remote_text(run, "id"), false), rest);
}

int remote_print_json(const struct json *document, struct error *err)
{
	cleanup_json_writer struct json_writer *w = json_writer_new(true);
	cleanup_buffer struct buffer out = {0};
	json_write_tree(w, document);
	if (json_writer_finish(w, &out, err) < 0)
		return -1;
	return fwrite(out.data, 1, out.size, stdout) == out.size
		       ? 0
		       : error_set_errno(err, errno, "standard output");
}
