// SPDX-License-Identifier: Apache-2.0
//
// The conda phase: solve, then install exactly that. The solution is a list of addresses, so the
// solver runs once, and a build from a lock takes the same way as the first.
#include "agent/environment/build.h"
#include "agent/environment/conda.h"
#include "agent/environment/lock_internal.h"
#include "base/file.h"
#include "base/text.h"

#include <sys/stat.h>
#include <unistd.h>

static void on_line(void *data, const char *line)
{
	struct build *b = data;
	bool record = starts_with(line, "{\"fetch\"");
	bool extracting = record && strstr(line, "\"finished\":true");
	if (record && !extracting)
		build_phase(b, "downloading", NULL);
}

static bool has_address(const char *channel)
{
	return strstr(channel, "://") != NULL;
}

// Channels with a name only are below an address that the tool knows.
static const char *ask_alias(struct build *b, const struct conda_options *o, struct error *err)
{
	struct step_result result;
	const struct json_strings argv = conda_alias_command(b->arena, o);
	if (build_tool(b, "conda config", &argv, NULL, classify_conda, &result, err) < 0)
		return NULL;
	const char *alias = conda_alias_parse(
		b->arena, result.output.data ? result.output.data : "", result.output.size);
	step_result_release(&result);
	if (!alias)
		build_fail(b, ENVIRONMENT_BAD_SPEC, err,
			"channels: %s does not say where channels are that have a name only; "
			"write them with their address (https://…)",
			o->path);
	return alias;
}

static int set_channels(struct build *b, struct conda_options *o, struct error *err)
{
	const struct json_strings *given = &b->request->channels;
	const char *alias = NULL;
	o->channels.items = arena_array(b->arena, const char *, given->count + 1);
	for (size_t i = 0; i < given->count; i++) {
		const char *channel = given->items[i];
		if (!has_address(channel) && !alias) {
			alias = ask_alias(b, o, err);
			if (!alias)
				return -1;
		}
		if (!has_address(channel))
			channel = arena_printf(b->arena, "%s/%s", alias, channel);
		o->channels.items[o->channels.count++] = package_proxy_url(b->arena, channel);
	}
	return 0;
}

static int set_options(struct build *b, struct conda_options *o, struct error *err)
{
	static const char rc[] = "# Nothing but what the job says.\n";
	cleanup_buffer struct buffer text = {0};
	const struct environment_request *r = b->request;
	*o = (struct conda_options){
		.tool = r->tool->tool,
		.path = r->tool->path,
		.version = r->tool->version,
		.specs = r->conda,
		.channel_priority = r->channel_priority ? r->channel_priority : "strict",
		.overrides = r->overrides,
		.subdir = environment_subdir(&b->o->image->platform),
		.accept_terms = b->o->config->environments.accept_terms,
	};
	b->env = conda_environment(b->arena, &b->env, o);
	buffer_puts(&text, rc);
	if (build_put(b, CONDA_RC, &text, err) < 0)
		return -1;
	return b->from ? 0 : set_channels(b, o, err);
}

static int run(
	struct build *b, const char *phase, const struct json_strings *argv, struct error *err)
{
	struct step_result result;
	if (build_tool(b, phase, argv, on_line, classify_conda, &result, err) < 0)
		return -1;
	step_result_release(&result);
	return 0;
}

static int install_explicit(struct build *b, const struct conda_options *o,
	const struct lock_package *packages, size_t count, struct error *err)
{
	cleanup_buffer struct buffer text = {0};
	conda_explicit_write(b->arena, packages, count, &text);
	if (build_put(b, CONDA_EXPLICIT, &text, err) < 0)
		return -1;
	build_phase(b, "downloading", NULL);
	const struct json_strings argv = conda_explicit_command(b->arena, o);
	return run(b, "conda create", &argv, err);
}

// 1 solved, 0 this version does not tell addresses, -1.
static int solve(struct build *b, const struct conda_options *o, struct conda_solution *solution,
	struct error *err)
{
	struct step_result result;
	const struct json_strings argv = conda_solve_command(b->arena, o);
	if (build_tool(b, "conda solve", &argv, on_line, classify_conda, &result, err) < 0)
		return -1;
	const struct json *document = conda_document(
		b->arena, result.output.data ? result.output.data : "", result.output.size);
	step_result_release(&result);
	if (!document || !conda_solution_read(b->arena, document, solution))
		return 0;
	struct error space;
	if (store_make_room(b->o->store, 4 * solution->bytes, 0, &space) < 0)
		return build_fail(b, ENVIRONMENT_NO_SPACE, err, "%s", space.text);
	return 1;
}

static int install(struct build *b, const struct conda_options *o, struct error *err)
{
	struct conda_solution solution;
	if (b->from)
		return install_explicit(b, o, b->from->conda, b->from->conda_count, err);
	if (b->request->job->as_of)
		environment_notice(b->o, "conda packages do not keep to environment.as_of: the "
					 "newest are taken");
	int rc = solve(b, o, &solution, err);
	if (rc < 0)
		return -1;
	if (rc == 1)
		return install_explicit(b, o, solution.packages, solution.count, err);
	const struct json_strings argv = conda_create_command(b->arena, o);
	return run(b, "conda create", &argv, err);
}

// An exit status of 0 is not enough.
static int check(struct build *b, struct error *err)
{
	const struct environment_lock *from = b->from, *made = &b->lock;
	if (!from)
		return made->conda_count || !b->request->conda.count
			       ? 0
			       : build_fail(b, ENVIRONMENT_VERIFICATION, err,
					 "conda says that all went well, and installed nothing");
	bool same = from->conda_count == made->conda_count;
	for (size_t i = 0; same && i < made->conda_count; i++)
		same = streq(from->conda[i].name, made->conda[i].name) &&
		       streq(from->conda[i].url, made->conda[i].url);
	if (!same)
		return build_fail(b, ENVIRONMENT_VERIFICATION, err,
			"conda did not install what the lock lists");
	// What it says beside that (sizes, hashes) is not the same in each version.
	b->lock.conda = from->conda;
	return 0;
}

int build_conda(struct build *b, struct error *err)
{
	struct conda_options o;
	if (set_options(b, &o, err) < 0 || install(b, &o, err) < 0)
		return -1;
	cleanup_fd int prefix = build_prefix(b, err);
	if (prefix < 0 ||
		environment_lock_read_conda(&b->lock, b->arena, prefix, build_original, b, err) < 0)
		return -1;
	return check(b, err);
}

// ---- what pip must leave alone

struct owned {
	struct build *b;
	int prefix_fd;
	struct timespec since;
};

static int check_file(
	struct owned *o, const char *path, const struct json *record, struct error *err)
{
	struct stat st;
	const char *name = json_get_string(record, "name");
	// Links to folders are usual; where one leads out of the prefix there is nothing of
	// conda's.
	struct error why;
	cleanup_fd int fd = file_open_beneath(o->prefix_fd, path, O_PATH | O_NOFOLLOW, 0, 0, &why);
	if (fd < 0 && why.kind != ERROR_NOT_FOUND)
		return 0;
	bool there = fd >= 0 && fstat(fd, &st) == 0;
	bool later = there && (st.st_ctim.tv_sec > o->since.tv_sec ||
				      (st.st_ctim.tv_sec == o->since.tv_sec &&
					      st.st_ctim.tv_nsec > o->since.tv_nsec));
	if (there && !later)
		return 0;
	return build_fail(o->b, ENVIRONMENT_VERIFICATION, err,
		"pip has %s %s, which is of the conda package %s: take %s from one of the two only",
		there ? "changed" : "removed", path, name ? name : "?", name ? name : "it");
}

static int check_record(void *data, const struct json *record, struct error *err)
{
	struct owned *o = data;
	const struct json *files = json_get(record, "files");
	if (!files || files->type != JSON_ARRAY)
		return 0;
	json_array_each (file, files) {
		if (file->value.type != JSON_STRING)
			continue;
		if (check_file(o, file->value.string, record, err) < 0)
			return -1;
	}
	return 0;
}

int build_conda_mark(struct build *b, struct timespec *mark, struct error *err)
{
	struct stat st;
	const struct buffer nothing = {0};
	if (build_put(b, BUILD_MARK, &nothing, err) < 0)
		return -1;
	if (fstatat(b->opt_fd, "tmp/" BUILD_MARK, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return error_set_errno(err, errno, "tmp/" BUILD_MARK);
	*mark = st.st_ctim;
	return 0;
}

int build_conda_unchanged(struct build *b, const struct timespec *mark, struct error *err)
{
	cleanup_fd int prefix = build_prefix(b, err);
	struct owned o = {.b = b, .prefix_fd = prefix, .since = *mark};
	return prefix < 0 ? -1 : lock_each_conda_record(prefix, check_record, &o, err);
}
