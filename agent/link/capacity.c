// SPDX-License-Identifier: Apache-2.0
#include "agent/link/capacity.h"

#include "agent/job/spec_decode.h"
#include "base/text.h"
#include "oci/runtime/cgroup.h"

#include <sched.h>
#include <sys/statvfs.h>
#include <sys/sysinfo.h>

// ---- what jobs ask for

struct share share_of(const struct json *start)
{
	cleanup_arena struct arena a = {0};
	struct json_decoder d = {.arena = &a, .document = "job"};
	struct job_resources r = {0};
	struct error ignored;
	const struct json *asked = json_get(json_get(start, "job"), "resources");
	// What is wrong in it is told by the engine, to whom it matters.
	if (asked && asked->type == JSON_OBJECT &&
		json_decode_object(&d, asked, job_resources_fields, false, &r, &ignored) < 0)
		r = (struct job_resources){0};
	return (struct share){.cpus = r.cpus > 0 ? r.cpus : 1, .memory = r.memory, .gpus = r.gpus};
}

static void add_used(struct link *l, struct capacity *c)
{
	pthread_mutex_lock(&l->lock);
	for (const struct attempt *t = l->attempts; t; t = t->next) {
		if (t->ended || t->done)
			continue;
		const struct share s = share_of(t->start);
		c->used.cpus += s.cpus;
		c->used.memory += s.memory;
		c->used.gpus += s.gpus;
		c->attempts++;
	}
	pthread_mutex_unlock(&l->lock);
}

// ---- what there is

static void read_machine(struct capacity *c)
{
	struct sysinfo info = {0};
	struct cgroup_limits limits;
	cpu_set_t cpus;
	CPU_ZERO(&cpus);
	// Fails where there are more processors than the set has room for.
	int count =
		sched_getaffinity(0, sizeof(cpus), &cpus) == 0 ? CPU_COUNT(&cpus) : get_nprocs();
	sysinfo(&info);
	cgroup_limits_own(&limits);
	c->cpus = count;
	c->memory = (uint64_t)info.totalram * info.mem_unit;
	if (limits.cpus > 0 && limits.cpus < c->cpus)
		c->cpus = limits.cpus;
	if (limits.memory && limits.memory < c->memory)
		c->memory = limits.memory;
}

static void read_disk(const struct store *s, struct capacity *c)
{
	struct statvfs v = {0};
	if (fstatvfs(s->state_fd, &v) < 0)
		return;
	c->disk = (uint64_t)v.f_blocks * v.f_frsize;
	c->disk_free = (uint64_t)v.f_bavail * v.f_frsize;
}

bool capacity_is_ready(struct link *l, const struct device_view *gpu)
{
	bool ours = false;
	if (gpu->status != DEVICE_HELD || !gpu->run)
		return gpu->status == DEVICE_FREE;
	pthread_mutex_lock(&l->lock);
	for (const struct attempt *t = l->attempts; t && !ours; t = t->next)
		ours = streq(t->id, gpu->run);
	pthread_mutex_unlock(&l->lock);
	return ours;
}

static void read_gpus(struct link *l, struct arena *a, struct capacity *c)
{
	cleanup_buffer struct buffer warnings = {0};
	struct error ignored;
	struct device_view *all;
	size_t count;
	const struct json_strings *folders = &l->settings->policy.cdi_folders;
	cleanup_cdi struct cdi *cdi = cdi_load(folders->items, folders->count, &warnings, &ignored);
	const struct device_places places = {
		.run_dir = l->store->run_dir, .state_dir = l->store->state_dir};
	if (!cdi)
		return;
	cleanup_devices struct devices *devices = devices_new(cdi, &places);
	if (device_list(devices, a, &all, &count, &ignored) < 0)
		return;
	c->gpus = arena_array(a, struct device_view, count + 1);
	for (size_t i = 0; i < count; i++) {
		if (!all[i].gpu)
			continue;
		struct device_view *v = &c->gpus[c->gpu_count++];
		*v = (struct device_view){.name = arena_strdup(a, all[i].name),
			.kind = arena_strdup(a, all[i].kind),
			.status = all[i].status,
			.run = all[i].run};
		c->gpus_ready += capacity_is_ready(l, v);
	}
}

void capacity_read(struct link *l, struct arena *a, struct capacity *c)
{
	*c = (struct capacity){0};
	read_machine(c);
	read_disk(l->store, c);
	read_gpus(l, a, c);
	add_used(l, c);
}

// ---- is there room

bool capacity_fits(
	const struct capacity *c, const struct share *more, struct arena *a, const char **reason)
{
	char left[FORMAT_SIZE_MAX], asked[FORMAT_SIZE_MAX];
	const double tiny = 1e-6; // sums of tenths
	uint64_t memory = c->memory > c->used.memory ? c->memory - c->used.memory : 0;
	uint64_t gpus = c->gpus_ready > c->used.gpus ? c->gpus_ready - c->used.gpus : 0;
	if (c->used.cpus + more->cpus > c->cpus + tiny)
		*reason = arena_printf(a, "%g CPUs are asked for, %g of %g are left", more->cpus,
			c->cpus > c->used.cpus ? c->cpus - c->used.cpus : 0, c->cpus);
	else if (more->memory > memory)
		*reason = arena_printf(a, "%s of memory are asked for, %s are left",
			format_size(more->memory, asked), format_size(memory, left));
	else if (more->gpus > gpus)
		*reason = arena_printf(a, "%llu GPUs are asked for, %llu of %zu are left",
			(unsigned long long)more->gpus, (unsigned long long)gpus, c->gpu_count);
	else
		return true;
	return false;
}

// ---- saying it

// What changes all the time is said in steps, so that an idle node has nothing to say.
static uint64_t in_steps(uint64_t free, uint64_t all)
{
	uint64_t step = all / 256 + 1;
	return free - free % step;
}

static void write_gpus(struct json_writer *w, struct link *l, const struct capacity *c)
{
	json_write_key(w, "gpus");
	json_write_open_array(w);
	for (size_t i = 0; i < c->gpu_count; i++) {
		const struct device_view *v = &c->gpus[i];
		bool ready = capacity_is_ready(l, v);
		json_write_open_object(w);
		json_write_member(w, "name", v->name);
		json_write_member(w, "kind", v->kind);
		json_write_member_bool(w, "ready", ready);
		if (!ready)
			json_write_member(w, "state", device_status_name(v->status));
		json_write_close_object(w);
	}
	json_write_close_array(w);
}

void capacity_write(struct json_writer *w, struct link *l, const struct capacity *c)
{
	json_write_open_object(w);
	json_write_key(w, "cpus");
	json_write_double(w, c->cpus);
	json_write_member_unsigned(w, "memory", c->memory);
	json_write_member_unsigned(w, "disk", in_steps(c->disk_free, c->disk));
	json_write_member_unsigned(w, "disk_total", c->disk);
	write_gpus(w, l, c);
	json_write_member_pairs(w, "labels", &l->labels);
	json_write_key(w, "used");
	json_write_open_object(w);
	json_write_key(w, "cpus");
	json_write_double(w, c->used.cpus);
	json_write_member_unsigned(w, "memory", c->used.memory);
	json_write_member_unsigned(w, "gpus", c->used.gpus);
	json_write_member_unsigned(w, "runs", c->attempts);
	json_write_close_object(w);
	json_write_close_object(w);
}
