// SPDX-License-Identifier: Apache-2.0
//
// Kind fuse: a helper program as our child for as long as the mount lasts. Where it can, it gets
// /dev/fuse open and a mount that we have made, and runs as nobody; else it mounts by itself.
#include "agent/data/cache.h"
#include "agent/data/fuse_helper.h"
#include "base/file.h"
#include "base/text.h"

#include <netinet/in.h>
#include <stdio.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

enum { READY_MS = 60 * 1000, ASK_MS = 200, ASKED_MAX = 1024 * 1024, RC_MS = 10000 };

// ---- what it needs

static int check_programs(const struct data_mount *m, const struct fuse_plan *plan,
	enum data_failure *failure, struct error *err)
{
	*failure = DATA_UNSUPPORTED;
	bool asks = !plan->takes_fd &&
		    (geteuid() != 0 || streq(m->source->profile, "rclone")); // never by itself
	if (!fuse_is_installed(plan->program))
		return error_set(err, ERROR_NOT_FOUND,
			"program %.100s is not on this node; it is needed for profile %s",
			plan->program, m->source->profile);
	if (asks && !fuse_is_installed("fusermount3") && !fuse_is_installed("fusermount"))
		return error_set(err, ERROR_NOT_FOUND,
			"program fusermount3 is not on this node; install the package fuse3");
	if (plan->takes_fd && geteuid() != 0)
		return error_set(err, ERROR_DENIED,
			"only root can mount for a helper that takes {fd}; let it mount at "
			"{mountpoint} by itself");
	if (access("/dev/fuse", R_OK | W_OK) == 0)
		return 0;
	if (errno == EACCES)
		return error_set(err, ERROR_DENIED,
			"/dev/fuse is not yours to open; root can change that (mode 0666)");
	return error_set(
		err, ERROR_NOT_FOUND, "this kernel has no FUSE (/dev/fuse); load the module fuse");
}

// On the disk, leased: what a killed supervisor leaves is swept with other private folders.
static int make_cache(struct data_mount *m, const struct data_policy *policy, struct error *err)
{
	struct cache cache;
	struct cache_stage stage = {.fd = -1};
	char kept[96];
	int rc = cache_open(&cache, m->store->state_fd, &policy->cache, err);
	if (rc == 0)
		rc = cache_stage_new(&cache, &stage, err);
	if (rc == 0)
		rc = cache_stage_keep_private(&cache, &stage, kept, &m->cache_fd, err);
	if (rc == 0)
		m->cache = xstrdup(kept);
	cache_stage_drop(&cache, &stage);
	cache_close(&cache);
	return rc;
}

static unsigned free_port(void)
{
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t size = sizeof(at);
	cleanup_fd int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || bind(fd, (const struct sockaddr *)&at, sizeof(at)) < 0 ||
		getsockname(fd, (struct sockaddr *)&at, &size) < 0)
		return 0;
	return ntohs(at.sin_port);
}

// Where it can be asked whether all is uploaded.
static int open_questions(struct data_mount *m, struct error *err)
{
	uint8_t random[16];
	if (m->source->mode != DATA_RW_MOUNT || !streq(m->source->profile, "rclone"))
		return 0;
	m->rc_port = free_port();
	if (!m->rc_port || getrandom(random, sizeof(random), 0) != sizeof(random))
		return error_set_errno(err, errno, "find a free port");
	cleanup_buffer struct buffer hex = {0};
	for (size_t i = 0; i < sizeof(random); i++)
		buffer_printf(&hex, "%02x", random[i]);
	m->rc_password = buffer_steal(&hex);
	return 0;
}

static int fuse_open(struct data_mount *m, const struct data_options *o, int64_t deadline_ms,
	enum data_failure *failure, struct error *err)
{
	cleanup_arena struct arena a = {0};
	struct fuse_plan plan;
	if (!m->source->max_seconds)
		deadline_ms = now_ms() + READY_MS;
	*failure = DATA_FAILED;
	if (make_cache(m, o->policy, err) < 0 || open_questions(m, err) < 0)
		return -1;
	const struct fuse_order order = {.source = m->source,
		.policy = o->policy,
		.mount_point = m->path,
		.cache = arena_printf(&a, "%s/%s", m->store->state_dir, m->cache),
		.root = geteuid() == 0,
		.rc_port = m->rc_port,
		.rc_password = m->rc_password,
		.path = getenv("PATH"),
		.secret = o->secret,
		.data = o->data};
	if (fuse_plan(&order, &a, &plan, failure, err) < 0 ||
		check_programs(m, &plan, failure, err) < 0)
		return -1;
	return fuse_helper_run(m, &plan, -1, deadline_ms, failure, err);
}

// ---- flush

static int sync_all(void *path)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 || syncfs(fd) < 0 ? errno : 0;
}

int mount_flush(
	struct data_mount *m, int64_t deadline_ms, enum data_failure *failure, struct error *err)
{
	if (mount_in_child(sync_all, m->path, deadline_ms, failure, err) == 0)
		return 0;
	return error_context(err, "write out what was written");
}

// How many files wait to be uploaded; -1.
static int64_t count_uploads(const struct data_mount *m, struct error *err)
{
	cleanup_arena struct arena a = {0};
	cleanup_buffer struct buffer out = {0};
	const char *const argv[] = {"rclone", "rc", "--config=", "--url",
		arena_printf(&a, "http://127.0.0.1:%u/", m->rc_port), "vfs/stats", NULL};
	const char *const envp[] = {
		arena_printf(&a, "PATH=%s", getenv("PATH") ? getenv("PATH") : "/usr/bin:/bin"),
		"HOME=/nonexistent", "RCLONE_USER=stoker",
		arena_printf(&a, "RCLONE_PASS=%s", m->rc_password), NULL};
	const struct process_run_options run = {
		.argv = argv, .envp = envp, .limit = ASKED_MAX, .timeout_ms = RC_MS};
	if (process_run_with(&run, &out, err) < 0)
		return -1;
	const struct json *stats = json_parse(&a, out.data ? out.data : "", out.size,
		"rclone's answer", &json_limits_default, err);
	const struct json *cache = stats ? json_get(stats, "diskCache") : NULL;
	const struct json *now = cache ? json_get(cache, "uploadsInProgress") : NULL;
	const struct json *queued = cache ? json_get(cache, "uploadsQueued") : NULL;
	if (!stats)
		return -1;
	if (!cache) // mode off: files are written when they are closed
		return 0;
	if (!now || !queued || now->type != JSON_INTEGER || queued->type != JSON_INTEGER)
		return error_set(err, ERROR_SYSTEM, "rclone's answer has no uploadsQueued");
	return now->integer + queued->integer;
}

// An upload that fails is tried again by rclone, and is in its queue for as long.
static int fuse_flush(
	struct data_mount *m, int64_t deadline_ms, enum data_failure *failure, struct error *err)
{
	if (mount_flush(m, deadline_ms, failure, err) < 0)
		return -1;
	while (m->rc_port) {
		int64_t left = count_uploads(m, err);
		*failure = DATA_FAILED;
		if (left <= 0)
			return (int)left;
		if (now_ms() >= deadline_ms) {
			*failure = DATA_TIMEOUT;
			return error_set(err, ERROR_UNAVAILABLE,
				"%lld files that the job wrote were not uploaded in time; "
				"system_logs/inputs.log of the run has what rclone said",
				(long long)left);
		}
		fuse_helper_has_ended(m, ASK_MS); // and drains what it says
	}
	return 0;
}

static void fuse_stop(struct data_mount *m)
{
	struct mount_seen seen;
	struct error ignored;
	if (mount_find(m->path, &seen, &ignored) > 0 && seen.fuse)
		fuse_abort(seen.minor, &ignored);
}

const struct mount_kind mount_fuse = {
	.open = fuse_open, .flush = fuse_flush, .abort = fuse_stop, .plain_ids = true};
