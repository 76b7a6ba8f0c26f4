// SPDX-License-Identifier: Apache-2.0
//
// Choosing devices and waiting for them.
#include "agent/device/internal.h"
#include "base/file.h"
#include "base/text.h"
#include "base/time.h"

#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>

// A lock goes just after the event of its file's closing, so the look comes a little later; and as
// not everything has an event (a device set aside that becomes free), one comes now and then.
enum { SETTLE_MS = 5, LOOK_MS = 2000, REASONS_MAX = 4 };
// A driver that hangs keeps the process that asks it: not at every look.
enum { HANGS_AGAIN_MS = 10 * 60 * 1000 };

struct choice {
	const struct device **items;
	size_t count;
};

static bool fits(const struct choice *c, const struct device *d)
{
	for (size_t i = 0; i < c->count; i++)
		if (device_clash(c->items[i], d))
			return false;
	return true;
}

static const char *aside_reason(
	struct arena *a, const struct device_record *r, const char *device, const char *why)
{
	return arena_printf(
		a, "%s is set aside after run %s: %s", device, r->run ? r->run : "(unknown)", why);
}

// The device that a record is of: `d`, one of its parts, or the whole of which it is a part.
static const struct device *device_of(
	const struct devices *all, const struct device_record *r, const struct device *d)
{
	const struct device *found;
	struct error ignored;
	if (device_has_name(d, r->device) || devices_find(all, r->device, &found, &ignored) < 0)
		return d;
	return found;
}

// What a holder left who was killed.
static int check_stale(const struct devices *all, const struct device_locks *locks,
	const struct device_record *stale, const struct device *d, struct arena *a,
	const char **reason, struct error *err)
{
	const struct device *whose = device_of(all, stale, d);
	const char *why = NULL;
	char since[TIME_TEXT_SIZE];
	int rc = device_prove(all, whose, stale->known, stale->known_count, a, &why, err);
	if (rc != 0)
		return rc;
	struct device_record record = *stale;
	record.device = whose->cdi->name;
	record.reason = why;
	record.since = format_time(wall_ms(), since);
	if (device_aside_add(all->places, whose, &record, err) < 0)
		return -1;
	device_forget(locks, whose);
	*reason = aside_reason(a, stale, record.device, why);
	return 0;
}

static int check_aside(const struct devices *all, const struct device_record *r, const char *file,
	const struct device *d, struct arena *a, const char **reason, struct error *err)
{
	const char *why = r->reason;
	bool hangs = why && starts_with(why, DEVICE_HANGS) &&
		     wall_ms() - r->examined_ms < HANGS_AGAIN_MS;
	int rc = hangs ? 0
		       : device_prove(
				 all, device_of(all, r, d), r->known, r->known_count, a, &why, err);
	if (rc == 1)
		return device_aside_remove(all->places, file, err) < 0 ? -1 : 1;
	if (rc == 0 && !hangs)
		device_aside_touch(all->places, file);
	if (rc == 0)
		*reason = aside_reason(a, r, r->device, why);
	return rc;
}

int device_available(const struct devices *all, const struct device_locks *locks,
	const struct device_records *records, const struct device *d, struct arena *a,
	const char **reason, struct error *err)
{
	struct device_record holder;
	struct device_records stale;
	const char *missing = device_missing_node(d);
	if (missing) {
		*reason = arena_printf(a, "%s: %s does not exist", d->cdi->name, missing);
		return 0;
	}
	int rc = device_probe(locks, d, a, &holder, &stale, err);
	if (rc < 0)
		return -1;
	if (rc == 0) {
		// A lock without a word of its holder's: he has proved it free and lets go.
		*reason = holder.run ? arena_printf(
					       a, "%s is held by run %s", d->cdi->name, holder.run)
				     : arena_printf(a, "%s is being released", d->cdi->name);
		return 0;
	}
	for (size_t i = 0; i < stale.count && rc == 1; i++)
		rc = check_stale(all, locks, &stale.items[i], d, a, reason, err);
	for (size_t i = 0; i < records->count && rc == 1; i++)
		if (device_record_matches(&records->items[i], d))
			rc = check_aside(
				all, &records->items[i], records->files[i], d, a, reason, err);
	return rc;
}

// What one look needs.
struct look {
	struct devices *all;
	const struct device_request *request;
	struct device_locks locks;
	struct device_records records;
	struct arena arena;
	struct choice choice;
	struct buffer reasons;
	size_t reason_count;
};

static void look_release(struct look *l)
{
	device_locks_close(&l->locks);
	arena_release(&l->arena);
	buffer_release(&l->reasons);
	free(l->choice.items);
}

static void add_reason(struct look *l, const char *reason)
{
	if (l->reason_count++ < REASONS_MAX)
		buffer_printf(&l->reasons, "%s%s", l->reasons.size ? "; " : "", reason);
	else if (l->reason_count == REASONS_MAX + 2)
		buffer_puts(&l->reasons, "; and others");
}

// 1, 0 with a reason added, -1.
static int try_device(struct look *l, const struct device *d, struct error *err)
{
	const char *reason = NULL;
	int rc = device_available(l->all, &l->locks, &l->records, d, &l->arena, &reason, err);
	if (rc == 0)
		add_reason(l, reason);
	return rc;
}

static int choose_named(struct look *l, struct choice *c, struct error *err)
{
	const struct device_request *r = l->request;
	for (size_t i = 0; i < r->named_count; i++) {
		const struct device *d;
		bool there = false;
		if (devices_find(l->all, r->named[i], &d, err) < 0)
			return -1;
		for (size_t k = 0; k < c->count && !there; k++)
			there = c->items[k] == d;
		for (size_t k = 0; k < c->count && !there; k++)
			if (device_clash(c->items[k], d))
				return error_set(err, ERROR_INVALID,
					"%s and %s are or contain the same device; name one of "
					"them",
					c->items[k]->cdi->name, d->cdi->name);
		if (!there)
			c->items[c->count++] = d;
	}
	return 0;
}

// Is it the first of its kind?
static bool begins_kind(const struct devices *all, size_t i)
{
	for (size_t k = 0; k < i; k++)
		if (streq(all->items[k].cdi->kind, all->items[i].cdi->kind))
			return false;
	return true;
}

// As many as would be there if nobody held any.
static unsigned count_kind(const struct look *l, const char *kind)
{
	struct choice c = {.items = xcalloc(l->all->count + 1, sizeof(*c.items))};
	unsigned count = 0;
	memcpy(c.items, l->choice.items, l->choice.count * sizeof(*c.items));
	c.count = l->choice.count;
	for (size_t i = 0; i < l->all->count; i++) {
		const struct device *d = &l->all->items[i];
		if (!streq(d->cdi->kind, kind) || !device_is_gpu(d) || !fits(&c, d))
			continue;
		c.items[c.count++] = d;
		count++;
	}
	free(c.items);
	return count;
}

// The request that can never be met is told so at once.
static int check_possible(const struct look *l, struct error *err)
{
	unsigned most = 0, wanted = l->request->gpus;
	for (size_t i = 0; i < l->all->count && wanted; i++) {
		unsigned here =
			begins_kind(l->all, i) ? count_kind(l, l->all->items[i].cdi->kind) : 0;
		most = here > most ? here : most;
	}
	if (wanted <= most)
		return 0;
	if (!most)
		return error_set(err, ERROR_INVALID,
			"%u GPUs are asked for, and this node has none%s; see: stoker devices",
			wanted, l->choice.count ? " besides those named" : "");
	return error_set(err, ERROR_INVALID,
		"%u GPUs are asked for, and this node has only %u%s; see: stoker devices", wanted,
		most, l->choice.count ? " besides those named" : "");
}

// 1: the GPUs of this kind are in the choice; 0: there are not enough.
static int choose_of_kind(struct look *l, const char *kind, struct error *err)
{
	size_t before = l->choice.count, wanted = before + l->request->gpus;
	if (count_kind(l, kind) < l->request->gpus)
		return 0;
	for (size_t i = 0; i < l->all->count && l->choice.count < wanted; i++) {
		const struct device *d = &l->all->items[i];
		if (!streq(d->cdi->kind, kind) || !device_is_gpu(d) || !fits(&l->choice, d))
			continue;
		int rc = try_device(l, d, err);
		if (rc < 0)
			return -1;
		if (rc)
			l->choice.items[l->choice.count++] = d;
	}
	if (l->choice.count == wanted)
		return 1;
	l->choice.count = before;
	return 0;
}

static int choose_gpus(struct look *l, struct error *err)
{
	if (!l->request->gpus)
		return 1;
	for (size_t i = 0; i < l->all->count; i++) {
		int rc = begins_kind(l->all, i) ? choose_of_kind(l, l->all->items[i].cdi->kind, err)
						: 0;
		if (rc)
			return rc;
	}
	return 0;
}

static int lock_devices(struct look *look, struct device_lease *l, struct error *err)
{
	for (size_t i = 0; i < l->count; i++) {
		const struct device_record record = device_lease_record(l, i, &look->arena);
		if (device_take(&look->locks, l->items[i], &record, device_lease_fds(l, i), err) ==
			0)
			continue;
		for (size_t k = 0; k < i; k++) // these were given to nobody
			device_mark_clean(l->items[k], device_lease_fds(l, k));
		return -1;
	}
	return 0;
}

static struct device_lease *take(struct look *look, struct error *err)
{
	cleanup_device_lease struct device_lease *l = device_lease_new(
		look->all, look->request->run, look->choice.items, look->choice.count);
	if (lock_devices(look, l, err) < 0)
		return NULL;
	// They are ours: others need not wait while all processes are looked through.
	device_locks_close(&look->locks);
	if (device_openers(l->items, l->count, &l->arena, &l->known, &l->known_count, err) < 0)
		return NULL;
	for (size_t i = 0; i < l->count; i++) {
		const struct device_record record = device_lease_record(l, i, &look->arena);
		if (device_note(l->items[i], &record, device_lease_fds(l, i), err) < 0)
			return NULL;
	}
	return steal(l);
}

// ERROR_UNAVAILABLE: later perhaps.
static struct device_lease *look(
	struct devices *d, const struct device_request *request, struct error *err)
{
	__attribute__((cleanup(look_release))) struct look l = {
		.all = d, .request = request, .locks = {-1, -1}};
	bool all = true;
	l.choice.items = xcalloc(d->count + request->named_count + 1, sizeof(*l.choice.items));
	if (choose_named(&l, &l.choice, err) < 0 || check_possible(&l, err) < 0 ||
		device_locks_open(d->places, &l.locks, err) < 0 ||
		device_aside_load(d->places, &l.arena, &l.records, err) < 0)
		return NULL;
	for (size_t i = 0; i < l.choice.count; i++) {
		int rc = try_device(&l, l.choice.items[i], err);
		if (rc < 0)
			return NULL;
		all = all && rc;
	}
	int rc = all ? choose_gpus(&l, err) : 0;
	if (rc < 0)
		return NULL;
	if (rc)
		return take(&l, err);
	const char *reasons = l.reasons.size ? l.reasons.data : "not enough devices fit together";
	if (request->gpus)
		error_set(err, ERROR_UNAVAILABLE, "%u GPU%s not free now: %s", request->gpus,
			request->gpus == 1 ? " is" : "s are", reasons);
	else
		error_set(err, ERROR_UNAVAILABLE, "not free now: %s", reasons);
	return NULL;
}

// Until something may have changed. 1, 0 when the time is over, -1 with an error when canceled.
static int wait_for_change(
	int watch, const struct device_request *r, int64_t until, struct error *err)
{
	char events[4096];
	int64_t left = until < 0 ? LOOK_MS : until - now_ms();
	if (left <= 0)
		return 0;
	struct pollfd p[2] = {{.fd = watch, .events = POLLIN},
		{.fd = r->cancel_fd > 0 ? r->cancel_fd : -1, .events = POLLIN}};
	int rc = poll(p, 2, left < LOOK_MS ? (int)left : LOOK_MS);
	if (rc < 0 && errno != EINTR)
		return error_set_errno(err, errno, "poll");
	if (rc > 0 && p[1].revents)
		return error_context(err, "canceled while waiting");
	if (rc > 0 && p[0].revents) {
		poll(NULL, 0, SETTLE_MS);
		while (read(watch, events, sizeof(events)) > 0)
			;
	}
	return 1;
}

static struct device_lease *look_until(
	struct devices *d, const struct device_request *r, int watch, struct error *err)
{
	int64_t until = r->wait_ms < 0 ? -1 : now_ms() + r->wait_ms;
	char told[sizeof(err->text)] = "";
	for (;;) {
		struct device_lease *lease = look(d, r, err);
		if (lease || err->kind != ERROR_UNAVAILABLE || !r->wait_ms)
			return lease;
		if (r->waiting && !streq(told, err->text)) {
			snprintf(told, sizeof(told), "%s", err->text);
			r->waiting(r->data, told);
		}
		if (wait_for_change(watch, r, until, err) <= 0)
			return NULL;
	}
}

struct device_lease *device_acquire(
	struct devices *d, const struct device_request *request, struct error *err)
{
	cleanup_fd int watch = -1;
	if (request->wait_ms) {
		cleanup_free char *folder = path_join(d->places->run_dir, "devices");
		if (directory_make(AT_FDCWD, folder, 0700, err) < 0)
			return NULL;
		// Before the first look, so that nothing happens unseen.
		watch = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
		if (watch < 0 || inotify_add_watch(watch, folder, IN_CLOSE_WRITE) < 0) {
			error_set_errno(err, errno, "inotify of %s", folder);
			return NULL;
		}
	}
	return look_until(d, request, watch, err);
}
