// SPDX-License-Identifier: Apache-2.0
#include "agent/job/ownership.h"
#include "agent/job/sandbox_internal.h"
#include "agent/job/variables.h"
#include "base/file.h"
#include "base/text.h"
#include "oci/runtime/user_namespace.h"

#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

// Capabilities are for root only, as with Docker: another user has none, whatever the file system
// says (no_new_privs).
static void take_user(struct sandbox *s, const struct container_user *user)
{
	struct runtime_process *p = &s->spec.process;
	p->uid = user->uid;
	p->gid = user->gid;
	p->group_count = user->group_count;
	p->groups = arena_array(&s->arena, gid_t, user->group_count);
	memcpy(p->groups, user->groups, user->group_count * sizeof(gid_t));
	if (user->uid != 0)
		p->capabilities.effective = p->capabilities.permitted = 0;
}

// The image's user, whose are the job's own folders.
static int use_user(struct sandbox *s, const struct container_user *user, struct error *err)
{
	static const char *const owned[] = {"code", "outputs", "logs"};
	const struct run *run = s->job.run;
	take_user(s, user);
	for (size_t i = 0; i < array_size(owned); i++)
		if (fchownat(run->fd, owned[i], user->uid, user->gid, AT_SYMLINK_NOFOLLOW) < 0)
			return error_set_errno(err, errno, "give %s/%s to the container's user",
				run->path, owned[i]);
	// What a run begins with (stoker run --restore) belongs to who made it. A further attempt's
	// outputs have the owners that they had.
	return run->attempt > 1 ? 0 : ownership_give(run->fd, "outputs", user->uid, user->gid, err);
}

int sandbox_user_set(struct sandbox *s, int root_fd, struct error *err)
{
	struct container_user user;
	const char *name = s->job.spec->user ? s->job.spec->user : s->job.image->user;
	if (container_user_lookup(root_fd, name, &user, err) < 0)
		return -1;
	if (s->seen) {
		s->seen->user = user;
		s->seen->user_known = true;
	}
	return use_user(s, &user, err);
}

// ---- the root of an ordinary user's job

// In the child, which alone has the privileges for it: over the ids and mounts of its namespaces.
static int mount_own_root(void *data, struct error *err)
{
	struct sandbox *s = data;
	const struct rootfs_overlay overlay = {
		.scratch_fd = s->job.run->fd, .userxattr = true, .userns_fd = -1, .foreign = true};
	cleanup_fd int root = rootfs_overlay_mount(s->job.store, s->layers, &overlay, err);
	if (root < 0 || (!s->single_id && sandbox_user_set(s, root, err) < 0) ||
		sandbox_certificates_add(s, root, err) < 0)
		return -1;
	return steal_fd(&root);
}

static bool is_root_name(const char *user)
{
	return !*user || streq(user, "0") || streq(user, "root") || starts_with(user, "0:") ||
	       starts_with(user, "root:");
}

// The group of terminals is none of the container's if that has one id.
static void drop_terminal_group(struct runtime_spec *spec)
{
	for (size_t i = 0; i < spec->mount_count; i++) {
		struct json_strings *o = &spec->mounts[i].options;
		size_t kept = 0;
		for (size_t k = 0; k < o->count; k++)
			if (!starts_with(o->items[k], "gid="))
				o->items[kept++] = o->items[k];
		o->count = kept;
	}
}

// An ordinary user's job has his id as its root, and those of his ranges in /etc/subuid.
static void open_own_ids(struct sandbox *s, const struct job *job)
{
	const char *user = job->spec->user ? job->spec->user : job->image->user;
	container_default_spec(&s->arena, &s->spec, 1);
	user_namespace_own(&s->arena, &s->spec.uid_mappings, &s->spec.gid_mappings);
	s->single_id = s->spec.uid_mappings.count == 1;
	s->options.mount_root = mount_own_root;
	void *shared = mmap(
		NULL, sizeof(*s->seen), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	s->seen = shared == MAP_FAILED ? NULL : shared;
	if (s->single_id)
		drop_terminal_group(&s->spec);
	if (s->single_id && !is_root_name(user))
		buffer_printf(&s->warnings,
			"the job runs as its container's root (you) and not as user %s: you have "
			"no "
			"ids in /etc/subuid and /etc/subgid, or newuidmap(1) is not installed\n",
			user);
}

// ---- the root

static int mount_root(struct sandbox *s, const struct job *job, struct error *err)
{
	// The root folder's own attributes are those of upper/.
	if (geteuid() == 0 &&
		fchownat(job->run->fd, "upper", s->first_id, s->first_id, AT_SYMLINK_NOFOLLOW) < 0)
		return error_set_errno(err, errno, "own %s/upper", job->run->path);
	const struct rootfs_overlay overlay = {
		.scratch_fd = job->run->fd, .userns_fd = s->userns_fd};
	s->root_fd = rootfs_overlay_mount(job->store, s->layers, &overlay, err);
	return s->root_fd < 0 ? -1 : 0;
}

// Ids of the job's own, and the root file system with them. Where this kernel or a file system
// cannot map ids, the job has the node's: its root then is held back by capabilities, filter and
// groups alone, as under Docker, and the record says so.
int sandbox_root_open(struct sandbox *s, struct error *err)
{
	const struct job *job = &s->job;
	if (geteuid() != 0) {
		open_own_ids(s, job);
		return 0;
	}
	if (user_namespace_lease(job->store->run_fd, s->policy->first_user_id, CONTAINER_IDS,
		    (unsigned)s->policy->user_id_ranges, &s->first_id, &s->ids_fd, err) < 0)
		return -1;
	container_default_spec(&s->arena, &s->spec, s->first_id);
	s->userns_fd = user_namespace_new(&s->spec.uid_mappings, &s->spec.gid_mappings, err);
	if (s->userns_fd < 0)
		return -1;
	if (mount_root(s, job, err) == 0)
		return 0;
	if (err->sys != EINVAL || s->policy->require_user_ids)
		return -1;
	buffer_printf(&s->warnings, "the job has no user ids of its own: %s\n", err->text);
	error_clear(err);
	close_fdp(&s->userns_fd);
	close_fdp(&s->ids_fd);
	s->userns_fd = s->ids_fd = -1;
	s->first_id = 0;
	container_default_spec(&s->arena, &s->spec, 0);
	return mount_root(s, job, err);
}

void sandbox_root_seen(struct sandbox *s)
{
	if (!s->seen)
		return;
	if (s->seen->user_known)
		take_user(s, &s->seen->user);
	if (s->seen->certificates)
		job_variables_certificates(&s->arena, &s->spec.process.env);
}

void sandbox_root_close(struct sandbox *s)
{
	if (s->seen)
		munmap(s->seen, sizeof(*s->seen));
	s->seen = NULL;
}
