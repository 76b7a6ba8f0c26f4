// SPDX-License-Identifier: Apache-2.0
#include "agent/environment/step.h"

#include "agent/environment/environment_internal.h"
#include "agent/environment/proxy.h"
#include "agent/supervise/client.h"
#include "agent/supervise/disk_walk.h"
#include "base/file.h"
#include "base/process.h"
#include "base/text.h"
#include "base/time.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/signalfd.h>
#include <sys/statvfs.h>
#include <unistd.h>

enum {
	LOOK_MS = 40,	       // between two looks at what is printed
	ENTRIES_A_LOOK = 2000, // of the tree, counted: for a tenth of that time
	GRACE_MS = 1000,
	LOG_BYTES = 256 * 1024 * 1024,
};

struct running {
	const struct step_place *place;
	const struct step *step;
	struct step_result *result;
	struct run run;
	struct supervise_link link;
	struct step_output output;
	struct disk_walk walk;
	int opt_fd, signal_fd;
	bool ended, stopped; // stopped: we asked for its end
	char code[32], message[sizeof(((struct error *)0)->text)];
	struct error error; // of the end
};

// ---- signals

int environment_signals_open(const struct environment_options *o, struct error *err)
{
	sigset_t set;
	err->kind = ERROR_NONE;
	if (!o->canceled)
		return -1;
	process_end_signals(&set);
	if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
		return error_set_errno(err, errno, "hold signals back");
	int fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	return fd < 0 ? error_set_errno(err, errno, "signalfd") : fd;
}

bool environment_is_canceled(const struct environment_options *o, int signal_fd, struct error *err)
{
	struct signalfd_siginfo info;
	if (o->canceled && !*o->canceled && signal_fd >= 0 &&
		read(signal_fd, &info, sizeof(info)) == sizeof(info))
		*o->canceled = (int)info.ssi_signo;
	if (!o->canceled || !*o->canceled)
		return false;
	const char *name = sigdescr_np(*o->canceled);
	error_set(err, ERROR_UNAVAILABLE, "canceled by signal %d (%s)", *o->canceled,
		name ? name : "unknown");
	return true;
}

// ---- the run

static int describe(const struct step_place *p, const struct step *s, struct arena *a,
	struct job_spec *spec, struct error *err)
{
	const struct environment_policy *policy = &p->o->config->environments;
	struct job_bind *binds = arena_array(a, struct job_bind, p->binds.count + 1);
	const char **argv = arena_array(a, const char *, s->argv.count + 1);
	size_t n = 0;
	memcpy(argv, s->argv.items, s->argv.count * sizeof(*argv));
	if (p->opt_path)
		binds[n++] = (struct job_bind){.source = p->opt_path, .target = "/opt/stoker"};
	for (size_t i = 0; i < p->binds.count; i++) {
		const char *colon = strrchr(p->binds.items[i], ':');
		binds[n++] = (struct job_bind){.source = arena_strndup(a, p->binds.items[i],
						       (size_t)(colon - p->binds.items[i])),
			.target = colon + 1,
			.read_only = true};
	}
	*spec = (struct job_spec){
		.experiment = STEP_EXPERIMENT,
		.variables = s->env,
		.variables_alone = true,
		.network = policy->network ? JOB_NETWORK_DEFAULT : JOB_NETWORK_NONE,
		.command = argv,
		.working_directory = "/",
		.user = "0",
		.binds = binds,
		.bind_count = n,
		.resources = {.cpus = policy->cpus,
			.memory = policy->memory,
			.pids = policy->pids,
			.disk = policy->disk},
		.max_seconds = s->max_seconds,
	};
	int64_t left = (int64_t)p->deadline_ms - now_ms();
	if (p->deadline_ms && left <= 0)
		return error_set(err, ERROR_LIMIT, "the time for the build is over");
	uint64_t seconds = (uint64_t)(left + 999) / 1000;
	if (p->deadline_ms && (!spec->max_seconds || seconds < spec->max_seconds))
		spec->max_seconds = seconds;
	return 0;
}

static int start(struct running *r, const struct job_spec *spec, struct arena *a, struct error *err)
{
	const struct environment_options *o = r->place->o;
	struct oci_manifest manifest;
	struct oci_config config;
	struct store_image image = *o->image;
	if (store_image_load(o->store, &image, a, &manifest, &config, err) < 0)
		return -1;
	r->run.image = image;
	const struct job job = {
		.spec = spec,
		.run = &r->run,
		.store = o->store,
		.image = &config,
		.layers = o->layers,
		.stdin_fd = -1,
		.listen_fd = r->place->listen_fd,
		.listen_port = PACKAGE_PROXY_PORT,
	};
	const struct supervise_settings settings = {
		.grace_ms = GRACE_MS,
		.log_bytes = LOG_BYTES,
		.log_keep_free = o->config->log_keep_free,
		.policy = o->config->policy,
		.end_with_client = true,
	};
	if (run_enter(&r->run, RUN_PREPARING, "preparing", err) < 0 ||
		job_snapshot(&job, &o->config->policy, err) < 0)
		return -1;
	return supervise_start(&job, &settings, &r->link, err);
}

static void stop(struct running *r)
{
	struct error ignored;
	if (!r->stopped)
		supervise_send(r->link.fd, supervise_request_of("kill", "kill"), &ignored);
	r->stopped = true;
}

// The tree lies outside of the run's folder, which the supervisor watches.
static void look_at_disk(struct running *r)
{
	const struct store_limits *limits = &r->place->o->config->store_limits;
	uint64_t limit = r->place->o->config->environments.disk;
	struct statvfs fs;
	struct error ignored;
	if (r->opt_fd < 0 || r->stopped)
		return;
	if (fstatvfs(r->opt_fd, &fs) == 0 && fs.f_bavail * fs.f_frsize < limits->keep_free_bytes) {
		r->result->failure = ENVIRONMENT_NO_SPACE;
		snprintf(r->message, sizeof(r->message), "the node's disk is full");
		stop(r);
	}
	if (!limit || (!r->walk.depth && disk_walk_begin(&r->walk, r->opt_fd, &ignored) < 0) ||
		!disk_walk_step(&r->walk, ENTRIES_A_LOOK))
		return;
	if (r->walk.bytes > limit) {
		char text[FORMAT_SIZE_MAX];
		r->result->failure = ENVIRONMENT_NO_SPACE;
		snprintf(r->message, sizeof(r->message),
			"the environment takes more than %s (environments.disk)",
			format_size(limit, text));
		stop(r);
	}
	disk_walk_end(&r->walk);
}

static void on_ended(struct running *r, const struct json *event)
{
	const struct json *status = json_get(event, "exit_status"), *error;
	const char *code = json_get_string(event, "code");
	const char *message = json_get_string(event, "message");
	r->ended = true;
	r->result->exit_status =
		status && status->type == JSON_INTEGER ? (int)(status->integer & 0xFF) : 1;
	snprintf(r->code, sizeof(r->code), "%s", code ? code : "");
	if (r->result->failure == ENVIRONMENT_OK)
		snprintf(r->message, sizeof(r->message), "%s", message ? message : "");
	error = json_get(event, "error");
	if (error && error->type == JSON_OBJECT) {
		const char *text = json_get_string(error, "text");
		error_set(&r->error, ERROR_SYSTEM, "%s", text ? text : "");
	}
}

// Returns false at the end of the connection.
static bool receive(struct running *r)
{
	cleanup_arena struct arena arena = {0};
	const struct json *message;
	struct error ignored;
	int rc = supervise_receive(r->link.fd, &arena, true, &message, &ignored);
	if (rc == -2)
		return true;
	const char *event = rc > 0 ? json_get_string(message, "event") : NULL;
	if (event && streq(event, "started")) {
		close_fdp(&r->run.lock_fd); // the supervisor has it
		r->run.lock_fd = -1;
	}
	if (event && streq(event, "ended"))
		on_ended(r, message);
	return rc > 0;
}

static void follow(struct running *r)
{
	struct pollfd fds[2] = {
		{.fd = r->link.fd, .events = POLLIN}, {.fd = r->signal_fd, .events = POLLIN}};
	struct error canceled;
	while (!r->ended) {
		poll(fds, 2, LOOK_MS);
		if (environment_is_canceled(r->place->o, r->signal_fd, &canceled)) {
			fds[1].fd = -1;
			stop(r);
		}
		step_output_read(&r->output, r->run.fd);
		if (r->step->tick)
			r->step->tick(r->step->data);
		look_at_disk(r);
		if (fds[0].revents && !receive(r))
			break;
	}
	step_output_finish(&r->output, r->run.fd);
}

// ---- the end

// What the sandbox says, where it is not the command's own end.
static int judge(struct running *r, struct error *err)
{
	static const struct {
		const char *code;
		enum environment_failure failure;
	} codes[] = {
		{"OutOfMemory", ENVIRONMENT_OUT_OF_MEMORY},
		{"DeadlineExceeded", ENVIRONMENT_TIME_LIMIT},
		{"DiskLimit", ENVIRONMENT_NO_SPACE},
		{"DiskFull", ENVIRONMENT_NO_SPACE},
		{"NodeLimit", ENVIRONMENT_NO_SPACE},
	};
	if (environment_is_canceled(r->place->o, r->signal_fd, err))
		return -1;
	for (size_t i = 0; i < array_size(codes); i++)
		if (r->result->failure == ENVIRONMENT_OK && streq(r->code, codes[i].code))
			r->result->failure = codes[i].failure;
	if (r->result->failure != ENVIRONMENT_OK || starts_with(r->code, "Script")) {
		snprintf(r->result->message, sizeof(r->result->message), "%s", r->message);
		return 0;
	}
	if (!r->ended)
		return error_set(err, ERROR_SYSTEM, "the supervisor of %s has died", r->run.id);
	return error_set(err, streq(r->code, "ProgramNotFound") ? ERROR_NOT_FOUND : ERROR_SYSTEM,
		"%s", r->message);
}

static int run_step(struct running *r, struct error *err)
{
	cleanup_arena struct arena a = {0};
	struct job_spec spec;
	int status;
	struct error ignored;
	if (describe(r->place, r->step, &a, &spec, err) < 0) {
		r->result->failure = ENVIRONMENT_TIME_LIMIT;
		snprintf(r->result->message, sizeof(r->result->message), "%s", err->text);
		return 0;
	}
	if (run_create(&r->run, r->place->o->store, STEP_EXPERIMENT, STEP_DOCUMENT, "{}\n", 3,
		    err) < 0)
		return -1;
	if (start(r, &spec, &a, err) < 0) {
		const struct cause cause = cause_of_error(CAUSE_PREPARING, err);
		run_end(&r->run, RUN_FAILED, &cause, 1, &ignored);
		return -1;
	}
	follow(r);
	// Its last descriptors of the store and the run directory go with it.
	process_wait(&r->link.process, &status, &ignored);
	if (!r->ended)
		run_sweep(r->place->o->store);
	return judge(r, err);
}

int environment_step(
	const struct step_place *p, const struct step *s, struct step_result *r, struct error *err)
{
	cleanup_free struct running *running = xcalloc(1, sizeof(*running));
	struct error ignored;
	*r = (struct step_result){0};
	running->place = p;
	running->step = s;
	running->result = r;
	running->link = (struct supervise_link){.fd = -1, .process.pidfd = -1};
	running->output = (struct step_output){
		.step = s, .output = &r->output, .log_fd = p->o->log_fd, .fd = -1};
	running->opt_fd = p->opt_path ? directory_open(AT_FDCWD, p->opt_path, err) : -1;
	running->signal_fd = environment_signals_open(p->o, err);
	int rc = -1;
	if (!(p->opt_path && running->opt_fd < 0) && !(p->o->canceled && running->signal_fd < 0) &&
		!environment_is_canceled(p->o, running->signal_fd, err))
		rc = run_step(running, err);
	supervise_link_release(&running->link);
	if (*running->run.id) {
		cleanup_free char *id = xstrdup(running->run.id);
		run_release(&running->run);
		run_remove(p->o->store, id, &ignored);
	}
	disk_walk_end(&running->walk);
	close_fdp(&running->opt_fd);
	close_fdp(&running->signal_fd);
	if (rc == 0)
		return 0;
	step_result_release(r);
	return error_context(err, "%s", s->phase);
}

void step_result_release(struct step_result *r)
{
	buffer_release(&r->output);
}
