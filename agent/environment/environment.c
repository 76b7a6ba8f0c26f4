// SPDX-License-Identifier: Apache-2.0
#include "agent/environment/environment.h"

#include "agent/environment/build.h"
#include "agent/environment/canonical.h"
#include "agent/environment/records.h"
#include "agent/environment/seal.h"
#include "agent/environment/share.h"
#include "base/file.h"
#include "base/text.h"
#include "base/time.h"

#include <poll.h>
#include <stdio.h>
#include <unistd.h>

enum { WAIT_MS = 50 };

// What is needed to answer one request.
struct ensuring {
	const struct environment_options *o;
	struct arena arena;
	struct tools_found found;
	struct environment_tool tool;
	struct job_environment job; // the request, or what its lock says
	struct environment_request request;
	struct environment_lock lock; // the job's, or a record's; see has_lock
	bool has_lock;
	char locked_key[ENVIRONMENT_KEY_SIZE]; // of the job's lock; ""
	struct environment_answer known;       // what is remembered, if it is to be believed
	struct environment_result *result;
	struct environment_trouble *trouble;
	int signal_fd;
};

static int fail(struct ensuring *e, enum environment_failure failure)
{
	e->trouble->failure = failure;
	return -1;
}

// ---- the question

// A lock says by itself with what it is to be built.
static int take_lock(struct ensuring *e, struct error *err)
{
	static const struct {
		const char *name;
		enum job_tool tool;
	} tools[] = {{"conda", JOB_TOOL_CONDA}, {"mamba", JOB_TOOL_MAMBA},
		{"micromamba", JOB_TOOL_MICROMAMBA}, {"venv", JOB_TOOL_VENV}, {"uv", JOB_TOOL_UV}};
	cleanup_buffer struct buffer text = {0};
	const char *name = e->job.lock_file ? e->job.lock_file : "the lock";
	if (environment_lock_parse(&e->arena, e->job.lock.data ? e->job.lock.data : "",
		    e->job.lock.size, name, &e->lock, err) < 0 ||
		environment_lock_write(&e->lock, &text, e->locked_key, err) < 0)
		return -1;
	if (!streq(e->lock.image, e->o->image->manifest.text))
		return error_set(err, ERROR_INVALID, "%s is for the image %s, and the job's is %s",
			name, e->lock.image, e->o->image->manifest.text);
	const char *gap = environment_lock_gap(&e->lock);
	if (gap)
		return error_set(err, ERROR_INVALID,
			"%s: %s has no address or no hash: it cannot be built again", name, gap);
	for (size_t i = 0; i < array_size(tools); i++)
		if (streq(e->lock.tool, tools[i].name))
			e->job.tool = tools[i].tool;
	e->job.inherit_image_packages = e->lock.inherit_image_packages;
	// Nothing is solved, so none is asked; but conda packages without channels are refused.
	if (e->lock.conda_count && !e->job.channels.count) {
		const char **channel = arena_array(&e->arena, const char *, 2);
		channel[0] = e->lock.conda[0].url;
		e->job.channels = (struct json_strings){channel, 1};
	}
	e->has_lock = true;
	return 0;
}

// What was asked before it was locked is no matter; but what compiles packages comes from indexes,
// and no lock names that.
static void set_locked_request(struct ensuring *e)
{
	cleanup_buffer struct buffer b = {0};
	buffer_printf(&b, "{\"lock\":\"%s\"", e->locked_key);
	canonical_key(&b, "extra_index_urls");
	canonical_strings(&b, &e->request.extra_index_urls);
	canonical_member(&b, "index_url", e->request.index_url);
	buffer_putc(&b, '}');
	canonical_hash("stoker/env-locked/v1\n", &b, e->request.key);
}

static int ask(struct ensuring *e, struct error *err)
{
	const struct environment_options *o = e->o;
	struct environment_options asked = *o;
	e->job = *o->request;
	asked.request = &e->job;
	if (e->job.reuse == JOB_REUSE_LOCKED && take_lock(e, err) < 0)
		return fail(e, ENVIRONMENT_BAD_SPEC);
	if (tools_find(&asked, &e->arena, &e->found, err) < 0)
		return fail(e, ENVIRONMENT_FAILED);
	if (environment_tool_choose(&asked, &e->arena, &e->tool, err) < 0)
		return fail(
			e, err->kind == ERROR_NOT_FOUND ? ENVIRONMENT_NO_TOOL : ENVIRONMENT_FAILED);
	if (environment_request_make(&e->arena, &e->job, &e->tool, o->image->manifest.text,
		    &o->image->platform, &o->config->environments, &e->request, err) < 0)
		return fail(e, ENVIRONMENT_BAD_SPEC);
	if (e->has_lock)
		set_locked_request(e);
	memcpy(e->result->request_key, e->request.key, sizeof(e->request.key));
	return 0;
}

// ---- what is here

// 1 with the leases, 0: its image or its layers are not here any more, or it is another image of
// the same lock than the one that the request led to (records.h).
static int take(struct ensuring *e, const struct environment_record *r, struct error *err)
{
	const char *config = e->known.config;
	struct environment_result *result = e->result;
	struct oci_reference reference;
	if (oci_reference_parse(r->reference, &reference, err) < 0)
		return -1;
	int rc = store_image_get(e->o->store, &reference, &result->image, err);
	if (rc == 0 && config && !streq(result->image.config.text, config))
		return 0;
	if (rc < 0 || store_image_lease(e->o->store, &result->image, &result->layers, err) < 0) {
		if (err->kind != ERROR_NOT_FOUND)
			return -1;
		error_clear(err);
		return 0;
	}
	store_image_touch(e->o->store, &reference);
	environment_record_touch(e->o->store, r->key);
	memcpy(result->key, r->key, sizeof(result->key));
	return 1;
}

// An environment by its key. 1 here, 0 not; its lock is then known where there is a record.
static int find_key(struct ensuring *e, const char *key, struct error *err)
{
	struct environment_record r;
	char when[TIME_TEXT_SIZE];
	if (environment_record_read(e->o->store, &e->arena, key, &r, err) < 0) {
		if (err->kind != ERROR_NOT_FOUND)
			return fail(e, ENVIRONMENT_FAILED);
		error_clear(err);
		return 0;
	}
	// By its lock alone one is believed that was pulled, as the registry is; what was built
	// here only if it was built of that lock, from addresses and by hashes (records.h).
	bool built = r.origin && streq(r.origin, "built");
	int rc = *e->locked_key && built && !e->known.config ? 0 : take(e, &r, err);
	if (rc < 0)
		return fail(e, ENVIRONMENT_FAILED);
	if (rc == 1) {
		e->result->reused = true;
		snprintf(e->result->reason, sizeof(e->result->reason), "%s at %.19sZ",
			built ? "it was built on this node" : "it was pulled",
			format_time(r.created_ms, when));
		return 1;
	}
	if (!e->has_lock &&
		environment_lock_parse(&e->arena, r.lock, strlen(r.lock), key, &e->lock, err) < 0)
		error_clear(err); // then it is resolved anew
	else
		e->has_lock = !environment_lock_gap(&e->lock);
	return 0;
}

static bool is_fresh(const struct ensuring *e, const struct environment_answer *x)
{
	int64_t age = wall_ms() - x->resolved_ms;
	if (e->job.reuse == JOB_REUSE_REFRESH)
		return false;
	// An age below 0: the clock was set back, and nobody knows.
	return !e->job.max_age || (age >= 0 && age <= (int64_t)e->job.max_age * 1000);
}

static int remembered_failure(
	struct ensuring *e, const struct environment_answer *x, struct error *err)
{
	e->trouble->failure = x->failure;
	e->trouble->remembered = true;
	if (x->evidence)
		buffer_puts(&e->trouble->evidence, x->evidence);
	return error_set(err, ERROR_INVALID, "%s (so it failed %lld s ago; asked anew in %lld s)",
		x->text ? x->text : "no environment",
		(long long)(wall_ms() - x->resolved_ms) / 1000,
		(long long)(x->until_ms - wall_ms() + 999) / 1000);
}

// 1 reused, 0 it is to be made, -1. `since`: what was resolved after that is fresh in any case:
// another job's build, for which we have waited.
static int find(struct ensuring *e, int64_t since, struct error *err)
{
	struct environment_answer x;
	// What an earlier look found may be another's answer by now.
	e->known = (struct environment_answer){0};
	e->has_lock = *e->locked_key != '\0';
	int rc = environment_answer_read(e->o->store, &e->arena, e->request.key, &x, err);
	if (rc < 0)
		return fail(e, ENVIRONMENT_FAILED);
	if (*e->locked_key) {
		if (rc == 1 && x.failure == ENVIRONMENT_OK && streq(x.key, e->locked_key))
			e->known = x;
		return find_key(e, e->locked_key, err);
	}
	bool waited = rc == 1 && since && x.resolved_ms >= since;
	if (rc == 0 || (!is_fresh(e, &x) && !waited))
		return 0;
	if (x.failure != ENVIRONMENT_OK)
		return x.until_ms > wall_ms() ? remembered_failure(e, &x, err) : 0;
	e->known = x;
	return find_key(e, x.key, err);
}

// ---- making it

static const char *tool_name(enum job_tool tool)
{
	static const char *const names[] = {[JOB_TOOL_CONDA] = "conda",
		[JOB_TOOL_MAMBA] = "mamba",
		[JOB_TOOL_MICROMAMBA] = "micromamba",
		[JOB_TOOL_VENV] = "venv",
		[JOB_TOOL_UV] = "uv"};
	return names[tool];
}

static void begin_lock(struct ensuring *e, struct build *b)
{
	char platform[OCI_PLATFORM_TEXT_MAX];
	const struct environment_tool *t = &e->tool;
	if (b->from) { // the lists are what is to be proved
		b->lock = *b->from;
		b->lock.conda = b->lock.pip = NULL;
		b->lock.conda_count = b->lock.pip_count = 0;
		return;
	}
	b->lock = (struct environment_lock){
		.platform = arena_strdup(
			&e->arena, oci_platform_format(&e->o->image->platform, platform)),
		.image = e->o->image->manifest.text,
		.tool = tool_name(t->tool),
		.tool_version = t->version && *t->version ? t->version : NULL,
		.python = e->request.has_conda ? NULL : t->python,
		.activation = e->job.activation == JOB_ACTIVATION_NONE	  ? "none"
			      : e->job.activation == JOB_ACTIVATION_SHELL ? "shell"
									  : NULL,
		.inherit_image_packages = e->job.inherit_image_packages,
	};
}

static int run_phases(struct ensuring *e, struct build *b, struct error *err)
{
	begin_lock(e, b);
	build_phase(b, b->from ? "downloading" : "resolving", NULL);
	if (e->request.has_conda && build_conda(b, err) < 0)
		return -1;
	int rc = e->tool.tool == JOB_TOOL_UV ? build_uv(b, err) : build_pip(b, err);
	if (rc < 0 || build_verify(b, err) < 0 || build_activation(b, err) < 0)
		return -1;
	return build_normalise(b, err);
}

static bool on_seal_look(void *data, struct error *err)
{
	struct ensuring *e = data;
	return environment_is_canceled(e->o, e->signal_fd, err);
}

static void on_sealed(void *data, uint64_t bytes)
{
	const struct environment_options *o = ((struct ensuring *)data)->o;
	if (o->events && o->events->progress)
		o->events->progress(o->events->data, bytes, 0);
}

static int seal(struct ensuring *e, struct build *b, const char *key, const struct buffer *lock,
	struct error *err)
{
	const struct environment_options *o = e->o;
	struct environment_result *result = e->result;
	struct seal_result sealed;
	char base[OCI_REFERENCE_TEXT_MAX], text[OCI_REFERENCE_TEXT_MAX];
	const struct oci_reference name = environment_reference(key);
	const char *reference = oci_reference_format(&name, text);
	const struct seal_options options = {
		.store = o->store,
		.base = o->image,
		.format = o->image->format,
		.tree_fd = b->tree_fd,
		.activation = &b->activation,
		.reference = reference,
		.most_bytes = o->config->environments.disk,
		.key = key,
		.lock = lock->data,
		.progress = on_sealed,
		.canceled = on_seal_look,
		.data = e,
	};
	build_phase(b, "sealing", NULL);
	if (environment_seal(&options, &sealed, err) < 0 ||
		store_image_lease(o->store, &sealed.image, &result->layers, err) < 0)
		return -1;
	const struct environment_record record = {
		.key = key,
		.reference = reference,
		.base = oci_reference_format(&o->image->reference, base),
		.base_manifest = o->image->manifest.text,
		.layer = sealed.diff_id.text,
		.bytes = sealed.bytes,
		.created_ms = wall_ms(),
		.used_ms = wall_ms(),
		.origin = "built",
		.lock = lock->data,
		.activation = b->activation,
	};
	result->image = sealed.image;
	memcpy(result->key, key, sizeof(result->key));
	snprintf(
		result->reason, sizeof(result->reason), "built%s", b->from ? " from its lock" : "");
	return environment_record_write(o->store, &record, err);
}

// Where another request has led to the same lock, its image is replaced: what was built for this
// one is what this one gets, and where both are the same, the layer is there once.
static int finish(struct ensuring *e, struct build *b, struct error *err)
{
	cleanup_buffer struct buffer lock = {0};
	char key[ENVIRONMENT_KEY_SIZE];
	if (environment_lock_write(&b->lock, &lock, key, err) < 0)
		return -1;
	if (b->from) {
		cleanup_buffer struct buffer wanted = {0};
		char wanted_key[ENVIRONMENT_KEY_SIZE];
		if (environment_lock_write(b->from, &wanted, wanted_key, err) < 0)
			return -1;
		if (!streq(key, wanted_key))
			return build_fail(b, ENVIRONMENT_VERIFICATION, err,
				"what was built from the lock is not what the lock says");
	}
	return seal(e, b, key, &lock, err);
}

static int answer(struct ensuring *e, struct error *err)
{
	struct environment_answer x = {
		.config = e->result->image.config.text, .resolved_ms = wall_ms()};
	if (e->has_lock && !*e->locked_key) // nothing was resolved
		x.resolved_ms = e->known.resolved_ms;
	memcpy(x.key, e->result->key, sizeof(x.key));
	return environment_answer_write(e->o->store, e->request.key, &x, err);
}

static void answer_failure(struct ensuring *e, const struct error *failed)
{
	struct environment_answer x = {.resolved_ms = wall_ms(), .failure = e->trouble->failure};
	struct error ignored;
	uint64_t seconds = e->o->config->environments.negative_seconds;
	if (*e->locked_key || !seconds || !environment_failure_is_lasting(x.failure))
		return;
	x.until_ms = x.resolved_ms + (int64_t)seconds * 1000;
	x.text = failed->text;
	x.evidence = e->trouble->evidence.size ? e->trouble->evidence.data : NULL;
	environment_answer_write(e->o->store, e->request.key, &x, &ignored);
}

static int make(struct ensuring *e, struct error *err)
{
	struct build b = {
		.o = e->o,
		.arena = &e->arena,
		.request = &e->request,
		.found = &e->found,
		.from = e->has_lock ? &e->lock : NULL,
		.trouble = e->trouble,
		.folder_fd = -1,
	};
	environment_build_sweep(e->o->store);
	environment_steps_sweep(e->o->store);
	environment_records_expire(e->o->store, e->o->config->environments.keep_for_ms);
	int rc = build_open(&b, err);
	bool opened = rc == 0;
	if (rc == 0)
		rc = run_phases(e, &b, err);
	if (rc == 0)
		rc = finish(e, &b, err);
	e->result->fetched = b.fetched;
	build_close(&b);
	if (rc < 0 && e->trouble->failure == ENVIRONMENT_OK)
		fail(e, err->kind == ERROR_LIMIT ? ENVIRONMENT_NO_SPACE
			// What is in the tree is the packages' fault, and not the node's.
			: opened && err->kind == ERROR_INVALID ? ENVIRONMENT_VERIFICATION
							       : ENVIRONMENT_FAILED);
	if (rc == 0 && answer(e, err) < 0)
		return fail(e, ENVIRONMENT_FAILED);
	if (rc < 0)
		answer_failure(e, err);
	return rc;
}

// ---- one at a time

static int wait_turn(struct ensuring *e, int *lock_fd, struct error *err)
{
	for (bool told = false;;) {
		int rc = environment_lock_take(e->o->store, e->request.key, lock_fd, err);
		if (rc <= 0)
			return rc;
		if (!told)
			environment_phase(e->o, "waiting",
				"another job of this node has the same environment built");
		told = true;
		struct pollfd p = {.fd = e->signal_fd, .events = POLLIN};
		poll(&p, 1, WAIT_MS);
		if (environment_is_canceled(e->o, e->signal_fd, err))
			return fail(e, ENVIRONMENT_CANCELED);
	}
}

// What is known by its key has to be the image that the request led to, too.
static int fetch_known(struct ensuring *e, const char *key, struct error *err)
{
	struct environment_result *r = e->result;
	const char *config = e->known.config;
	int rc = environment_fetch_key(e->o, key, r, err);
	if (rc != 1 || !config || streq(r->image.config.text, config))
		return rc;
	environment_notice(e->o, "the registry's environment of this lock is not the one that "
				 "this request led to; it is built again");
	environment_result_release(r);
	*r = (struct environment_result){0};
	return 0;
}

// Another node may have built it. How long ago it was resolved is not known then.
static int fetch(struct ensuring *e, struct error *err)
{
	char request_key[ENVIRONMENT_KEY_SIZE], key[ENVIRONMENT_KEY_SIZE];
	cleanup_buffer struct buffer text = {0};
	if (e->job.reuse == JOB_REUSE_REFRESH || !e->o->config->environments.registry)
		return 0;
	memcpy(request_key, e->request.key, sizeof(request_key));
	environment_phase(e->o, "looking", e->o->config->environments.registry);
	int rc = 0;
	if (e->has_lock) {
		if (environment_lock_write(&e->lock, &text, key, err) < 0)
			return -1;
		rc = fetch_known(e, key, err);
	}
	if (rc == 0 && !*e->locked_key && !e->job.max_age)
		rc = environment_fetch(e->o, request_key, e->result, err);
	memcpy(e->result->request_key, request_key, sizeof(request_key));
	return rc;
}

static int ensure(struct ensuring *e, struct error *err)
{
	cleanup_fd int lock_fd = -1;
	int64_t asked = wall_ms();
	if (ask(e, err) < 0)
		return -1;
	int rc = find(e, 0, err);
	if (rc != 0)
		return rc;
	if (wait_turn(e, &lock_fd, err) < 0)
		return -1;
	rc = find(e, asked, err);
	if (rc == 0)
		rc = fetch(e, err);
	if (rc != 0)
		return rc;
	if (make(e, err) < 0)
		return -1;
	// Who waits for it need not wait for the registry.
	close_fdp(&lock_fd);
	lock_fd = -1;
	environment_offer(e->o, e->result->key);
	return environment_is_canceled(e->o, e->signal_fd, err) ? fail(e, ENVIRONMENT_CANCELED) : 0;
}

int environment_ensure(const struct environment_options *o, struct environment_result *result,
	struct environment_trouble *trouble, struct error *err)
{
	struct ensuring e = {.o = o, .result = result, .trouble = trouble, .signal_fd = -1};
	*result = (struct environment_result){0};
	*trouble = (struct environment_trouble){0};
	e.signal_fd = environment_signals_open(o, err);
	int rc = o->canceled && e.signal_fd < 0 ? -1 : ensure(&e, err);
	if (rc < 0 && o->canceled && *o->canceled)
		trouble->failure = ENVIRONMENT_CANCELED;
	else if (rc < 0 && trouble->failure == ENVIRONMENT_OK)
		trouble->failure = ENVIRONMENT_FAILED;
	if (rc < 0)
		environment_result_release(result);
	close_fdp(&e.signal_fd);
	arena_release(&e.arena);
	return rc < 0 ? -1 : 0;
}

void environment_result_release(struct environment_result *r)
{
	store_layers_release(&r->layers);
}

void environment_trouble_release(struct environment_trouble *t)
{
	buffer_release(&t->evidence);
}
