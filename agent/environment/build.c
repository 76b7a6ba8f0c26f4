// SPDX-License-Identifier: Apache-2.0
#include "agent/environment/build.h"

#include "agent/environment/records.h"
#include "base/file.h"
#include "base/text.h"
#include "base/time.h"

#include <dirent.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
	TELL_MS = 200,
	SPACE_BYTES = 64 * 1024 * 1024,
	SPACE_INODES = 5000,
	SPACE_TIMES = 4, // what a package takes, unpacked and sealed, of its archive's size
};

// ---- telling

void environment_phase(const struct environment_options *o, const char *name, const char *detail)
{
	if (o->events && o->events->phase)
		o->events->phase(o->events->data, name, detail);
}

void environment_notice(const struct environment_options *o, const char *text)
{
	if (o->events && o->events->notice)
		o->events->notice(o->events->data, text);
}

// Tools go to and fro between looking and downloading; people want to see it go on.
static int rank(const char *phase)
{
	static const char *const order[] = {
		"resolving", "downloading", "installing", "verifying", "sealing"};
	for (size_t i = 0; phase && i < array_size(order); i++)
		if (streq(phase, order[i]))
			return (int)i + 1;
	return 0;
}

void build_phase(struct build *b, const char *name, const char *detail)
{
	if (rank(name) < rank(b->phase) || (!detail && b->phase && streq(b->phase, name)))
		return;
	b->phase = name;
	environment_phase(b->o, name, detail);
}

static void on_tick(void *data)
{
	struct build *b = data;
	struct package_proxy_counts counts;
	struct error ignored;
	if (!b->proxy || now_ms() - b->told_ms < TELL_MS)
		return;
	b->told_ms = now_ms();
	if (package_proxy_counts(b->proxy, &counts, &ignored) < 0)
		return;
	b->fetched = counts.fetched_bytes;
	if (b->o->events && b->o->events->progress)
		b->o->events->progress(b->o->events->data, counts.fetched_bytes, 0);
}

// ---- failing

static enum error_kind kind_of(enum environment_failure failure)
{
	switch (failure) {
	case ENVIRONMENT_NOT_FOUND:
	case ENVIRONMENT_NO_TOOL:
	case ENVIRONMENT_LOCK_UNAVAILABLE:
		return ERROR_NOT_FOUND;
	case ENVIRONMENT_NETWORK:
	case ENVIRONMENT_CANCELED:
		return ERROR_UNAVAILABLE;
	case ENVIRONMENT_INTEGRITY:
		return ERROR_INTEGRITY;
	case ENVIRONMENT_NO_SPACE:
	case ENVIRONMENT_OUT_OF_MEMORY:
	case ENVIRONMENT_TIME_LIMIT:
		return ERROR_LIMIT;
	case ENVIRONMENT_TERMS:
	case ENVIRONMENT_AUTHENTICATION:
		return ERROR_DENIED;
	case ENVIRONMENT_UNSATISFIABLE:
	case ENVIRONMENT_BAD_SPEC:
	case ENVIRONMENT_BUILD:
		return ERROR_INVALID;
	default:
		return ERROR_SYSTEM;
	}
}

int build_fail(struct build *b, enum environment_failure failure, struct error *err,
	const char *format, ...)
{
	va_list args;
	va_start(args, format);
	cleanup_free char *text = xvasprintf(format, args);
	va_end(args);
	b->trouble->failure = failure;
	return error_set(err, kind_of(failure), "%s", text);
}

// What the proxy has seen since the last tool, if that is reason enough: tools take a server that
// does not answer for a package that does not exist. A 404 is none, since tools ask for much that
// need not be there; save where a lock names what should be.
static bool proxy_failed(struct build *b, struct classified *c)
{
	struct package_proxy_trouble t;
	struct error ignored;
	if (!b->proxy || package_proxy_trouble(b->proxy, &t, &ignored) != 1)
		return false;
	switch (t.failure) {
	case DATA_NOT_FOUND:
		if (!b->from)
			return false;
		c->failure = ENVIRONMENT_LOCK_UNAVAILABLE;
		break;
	case DATA_FORBIDDEN:
	case DATA_AUTHENTICATION:
		c->failure = ENVIRONMENT_AUTHENTICATION;
		break;
	case DATA_CHECKSUM:
	case DATA_CHANGED:
		c->failure = ENVIRONMENT_INTEGRITY;
		break;
	case DATA_NO_SPACE:
		c->failure = ENVIRONMENT_NO_SPACE;
		break;
	case DATA_POLICY:
		c->failure = ENVIRONMENT_BAD_SPEC;
		break;
	default:
		c->failure = ENVIRONMENT_NETWORK;
	}
	c->text = arena_strdup(b->arena, t.text);
	return true;
}

static int tool_failed(struct build *b, const char *phase, classify_fn *classify,
	const struct step_result *r, struct error *err)
{
	struct classified c = {.failure = ENVIRONMENT_FAILED,
		.text = arena_printf(b->arena, "it exited with status %d", r->exit_status)};
	if (classify)
		classify(b->arena, r->output.data ? r->output.data : "", r->output.size, &c);
	bool own = c.failure == ENVIRONMENT_NO_SPACE || c.failure == ENVIRONMENT_OUT_OF_MEMORY ||
		   c.failure == ENVIRONMENT_INTEGRITY || c.failure == ENVIRONMENT_BAD_SPEC;
	if (!own)
		proxy_failed(b, &c);
	if (b->from && c.failure == ENVIRONMENT_NOT_FOUND)
		c.failure = ENVIRONMENT_LOCK_UNAVAILABLE;
	buffer_release(&b->trouble->evidence);
	b->trouble->evidence = c.evidence;
	return build_fail(b, c.failure, err, "%s: %s", phase, c.text);
}

// ---- running

int build_step(struct build *b, const char *phase, const struct json_strings *argv,
	void (*line)(void *data, const char *line), struct step_result *result, struct error *err)
{
	const struct step step = {
		.phase = phase,
		.argv = *argv,
		.env = b->env,
		.line = line,
		.tick = on_tick,
		.data = b,
	};
	if (environment_step(&b->place, &step, result, err) < 0) {
		bool canceled = b->o->canceled && *b->o->canceled;
		b->trouble->failure = canceled ? ENVIRONMENT_CANCELED : ENVIRONMENT_FAILED;
		return -1;
	}
	if (result->failure == ENVIRONMENT_OK)
		return 0;
	enum environment_failure failure = result->failure;
	char message[sizeof(result->message)];
	memcpy(message, result->message, sizeof(message));
	step_result_release(result);
	return build_fail(b, failure, err, "%s: %s", phase, message);
}

int build_tool(struct build *b, const char *phase, const struct json_strings *argv,
	void (*line)(void *data, const char *line), classify_fn *classify,
	struct step_result *result, struct error *err)
{
	struct package_proxy_trouble old;
	struct error ignored;
	if (b->proxy)
		package_proxy_trouble(b->proxy, &old, &ignored); // of what went well all the same
	if (build_step(b, phase, argv, line, result, err) < 0)
		return -1;
	if (result->exit_status == 0)
		return 0;
	tool_failed(b, phase, classify, result, err);
	step_result_release(result);
	return -1;
}

// ---- files

int build_write(
	int dirfd, const char *name, const struct buffer *data, mode_t mode, struct error *err)
{
	if (unlinkat(dirfd, name, 0) < 0 && errno != ENOENT)
		return error_set_errno(err, errno, "%s", name);
	cleanup_fd int fd =
		openat(dirfd, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode);
	if (fd < 0)
		return error_set_errno(err, errno, "%s", name);
	return write_all(fd, data->data ? data->data : "", data->size, name, err);
}

int build_put(struct build *b, const char *name, const struct buffer *data, struct error *err)
{
	// A link in its place would lead elsewhere.
	cleanup_fd int tmp = file_open_beneath(
		b->opt_fd, "tmp", O_RDONLY | O_DIRECTORY, 0, RESOLVE_NO_SYMLINKS, err);
	return tmp < 0 ? -1 : build_write(tmp, name, data, 0644, err);
}

int build_prefix(struct build *b, struct error *err)
{
	return file_open_beneath(
		b->opt_fd, "env", O_RDONLY | O_DIRECTORY, 0, RESOLVE_NO_SYMLINKS, err);
}

int build_read(int dirfd, const char *path, size_t limit, struct buffer *data, struct error *err)
{
	struct stat st;
	// O_NONBLOCK: it may be a pipe that nobody writes.
	cleanup_fd int fd = file_open_beneath(
		dirfd, path, O_RDONLY | O_NONBLOCK | O_NOFOLLOW, 0, RESOLVE_NO_SYMLINKS, err);
	if (fd < 0)
		return -1;
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
		return error_set(err, ERROR_INVALID, "%s is no file", path);
	return file_read_fd(fd, path, limit, data, err);
}

int build_get(
	struct build *b, const char *path, size_t limit, struct buffer *data, struct error *err)
{
	return build_read(b->opt_fd, path, limit, data, err);
}

static int by_name(const void *x, const void *y)
{
	return strcmp(*(const char *const *)x, *(const char *const *)y);
}

int build_names(struct build *b, const char *path, const char *suffix, size_t most,
	struct json_strings *names, struct error *err)
{
	int rc = 0;
	*names = (struct json_strings){.items = arena_array(b->arena, const char *, most + 1)};
	int fd = file_open_beneath(
		b->opt_fd, path, O_RDONLY | O_DIRECTORY, 0, RESOLVE_NO_SYMLINKS, err);
	DIR *folder = fd < 0 ? NULL : fdopendir(fd);
	if (!folder) {
		close_fdp(&fd);
		if (err->kind != ERROR_NOT_FOUND)
			return -1;
		error_clear(err);
		return 0;
	}
	for (struct dirent *e; rc == 0 && (e = readdir(folder)) != NULL;) {
		if (e->d_name[0] == '.' || !ends_with(e->d_name, suffix))
			continue;
		if (names->count == most)
			rc = error_set(err, ERROR_LIMIT, "%s: more than %zu files", path, most);
		else
			names->items[names->count++] = arena_strdup(b->arena, e->d_name);
	}
	closedir(folder);
	qsort(names->items, names->count, sizeof(*names->items), by_name);
	return rc;
}

const char *build_original(void *data, struct arena *a, const char *url)
{
	(void)data;
	return package_proxy_original(a, url);
}

// ---- its folder and its proxy

static void add_binds(struct build *b)
{
	const struct environment_policy *policy = &b->o->config->environments;
	const char *wheel = tools_pip_wheel(b->arena);
	struct json_strings *binds = &b->place.binds;
	const char *const lent[] = {policy->micromamba, policy->uv};
	binds->items = arena_array(b->arena, const char *, array_size(lent) + 2);
	if (wheel)
		binds->items[binds->count++] = wheel;
	for (size_t i = 0; i < array_size(lent); i++)
		if (lent[i])
			binds->items[binds->count++] = arena_printf(
				b->arena, "%s:" TOOLS_FOLDER "/%s", lent[i], path_base(lent[i]));
}

static int open_tree(struct build *b, struct error *err)
{
	static const char *const made[] = {"pkgs", "tmp/home"};
	if (environment_build_folder(b->o->store, &b->folder_fd, &b->folder, err) < 0)
		return -1;
	b->tree_fd = directory_ensure(b->folder_fd, "tree", 0755, err);
	b->opt_fd = b->tree_fd < 0 ? -1 : directory_ensure(b->tree_fd, "opt/stoker", 0755, err);
	if (b->opt_fd < 0)
		return -1;
	for (size_t i = 0; i < array_size(made); i++)
		if (directory_make(b->opt_fd, made[i], 0755, err) < 0)
			return -1;
	b->opt_path = xasprintf("%s/tree/opt/stoker", b->folder);
	return 0;
}

static void add_source(struct json_strings *list, const char *url)
{
	if (url && (starts_with(url, "http://") || starts_with(url, "https://")))
		list->items[list->count++] = url;
}

// Where the build's packages come from, as the job says it: with the credentials that a request's
// key leaves out.
static struct json_strings sources(struct build *b)
{
	const struct job_environment *job = b->request->job;
	const struct environment_policy *node = &b->o->config->environments;
	const struct environment_lock *from = b->from;
	const struct json_strings *lists[] = {
		&job->channels, &node->channels, &job->extra_index_urls, &node->extra_index_urls};
	struct json_strings s = {0};
	size_t most = 4 + b->request->pip.count + (from ? from->conda_count + from->pip_count : 0);
	for (size_t i = 0; i < array_size(lists); i++)
		most += lists[i]->count;
	s.items = arena_array(b->arena, const char *, most);
	add_source(&s, job->index_url);
	add_source(&s, node->index_url);
	add_source(&s, b->found->index);
	for (size_t i = 0; i < array_size(lists); i++)
		for (size_t k = 0; k < lists[i]->count; k++)
			add_source(&s, lists[i]->items[k]);
	for (size_t i = 0; i < b->request->pip.count; i++) {
		const char *url = strstr(b->request->pip.items[i], "http");
		add_source(&s, url ? arena_strndup(b->arena, url, strcspn(url, " \t;")) : NULL);
	}
	for (size_t i = 0; from && i < from->conda_count; i++)
		add_source(&s, from->conda[i].url);
	for (size_t i = 0; from && i < from->pip_count; i++)
		add_source(&s, from->pip[i].url);
	return s;
}

// How much will be needed is known from a lock only; else there is at least room to begin.
static int check_space(struct build *b, struct error *err)
{
	uint64_t bytes = SPACE_BYTES;
	struct error full;
	for (size_t i = 0; b->from && i < b->from->conda_count; i++)
		bytes += SPACE_TIMES * b->from->conda[i].size;
	if (store_make_room(b->o->store, bytes, SPACE_INODES, &full) == 0)
		return 0;
	return build_fail(b, ENVIRONMENT_NO_SPACE, err, "building an environment %s", full.text);
}

int build_open(struct build *b, struct error *err)
{
	uint64_t seconds = b->request->job->max_seconds ? b->request->job->max_seconds
							: b->o->config->environments.max_seconds;
	b->folder_fd = b->tree_fd = b->opt_fd = -1;
	b->place = (struct step_place){.o = b->o, .listen_fd = -1};
	const char *path = tools_path(b->arena, b->o, err);
	if (!path || check_space(b, err) < 0 || open_tree(b, err) < 0)
		return -1;
	b->env = pip_environment(b->arena, path);
	const struct json_strings from = sources(b);
	b->proxy = package_proxy_start(b->o->store, b->o->config, &from, err);
	if (!b->proxy)
		return -1;
	b->place.opt_path = b->opt_path;
	b->place.listen_fd = package_proxy_socket(b->proxy);
	b->place.deadline_ms = seconds ? (uint64_t)now_ms() + seconds * 1000 : 0;
	add_binds(b);
	return 0;
}

void build_close(struct build *b)
{
	struct error ignored;
	package_proxy_free(b->proxy);
	b->proxy = NULL;
	close_fdp(&b->tree_fd);
	close_fdp(&b->opt_fd);
	if (b->folder)
		environment_build_remove(b->o->store, b->folder, &ignored);
	close_fdp(&b->folder_fd);
	free(b->folder);
	free(b->opt_path);
	b->folder = b->opt_path = NULL;
	b->folder_fd = b->tree_fd = b->opt_fd = -1;
}
