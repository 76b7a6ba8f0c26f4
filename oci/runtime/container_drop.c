// SPDX-License-Identifier: Apache-2.0
//
// From the container's root to the process's user, capabilities and filter.
#include "base/memory.h"
#include "oci/runtime/container_internal.h"

#include <grp.h>
#include <sys/capability.h>
#include <sys/prctl.h>
#include <unistd.h>

static bool has(uint64_t set, cap_value_t cap)
{
	return cap < 64 && (set >> cap & 1);
}

static int limit_bounding(const struct runtime_process *p, struct error *err)
{
	uint64_t kept = p->has_capabilities ? p->capabilities.bounding : 0;
	for (cap_value_t cap = 0; CAP_IS_SUPPORTED(cap); cap++) {
		// What we do not have ourselves (we may be in a container) need not go.
		if (has(kept, cap) || cap_get_bound(cap) == 0)
			continue;
		if (cap_drop_bound(cap) < 0)
			return error_set_errno(err, errno, "drop capability %d", cap);
	}
	return 0;
}

static int become_user(const struct runtime_process *p, struct error *err)
{
	// Where groups may not be set (an ordinary user's container with his one id), there are
	// none to be left either.
	if (setgroups(p->group_count, p->groups) < 0 && !(errno == EPERM && !p->group_count))
		return error_set_errno(err, errno, "set %zu supplementary groups", p->group_count);
	// The sets stay over the change of user, and are cut to what the process gets afterwards.
	if (prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) < 0)
		return error_set_errno(err, errno, "prctl(PR_SET_KEEPCAPS)");
	if (setresgid(p->gid, p->gid, p->gid) < 0)
		return error_set_errno(err, errno, "become group %u (is it mapped?)", p->gid);
	if (setresuid(p->uid, p->uid, p->uid) < 0)
		return error_set_errno(err, errno, "become user %u (is it mapped?)", p->uid);
	if (prctl(PR_SET_KEEPCAPS, 0, 0, 0, 0) < 0)
		return error_set_errno(err, errno, "prctl(PR_SET_KEEPCAPS)");
	return 0;
}

// Not more than we have: asking for it would fail.
static int fill_set(cap_t set, cap_t have, cap_flag_t flag, uint64_t wanted)
{
	for (cap_value_t cap = 0; CAP_IS_SUPPORTED(cap); cap++) {
		cap_flag_value_t value;
		if (!has(wanted, cap))
			continue;
		if (cap_get_flag(have, cap, CAP_PERMITTED, &value) < 0)
			return -1;
		if (value == CAP_SET && cap_set_flag(set, flag, 1, &cap, CAP_SET) < 0)
			return -1;
	}
	return 0;
}

static int set_capabilities(const struct runtime_process *p, struct error *err)
{
	struct runtime_capabilities c =
		p->has_capabilities ? p->capabilities : (struct runtime_capabilities){0};
	cap_t have = cap_get_proc(), set = cap_init();
	int rc = have && set ? 0 : -1;
	if (rc == 0)
		rc = fill_set(set, have, CAP_PERMITTED, c.permitted) |
		     fill_set(set, have, CAP_EFFECTIVE, c.effective & c.permitted) |
		     fill_set(set, have, CAP_INHERITABLE, c.inheritable);
	if (rc == 0)
		rc = cap_set_proc(set);
	int sys = errno;
	cap_free(have);
	cap_free(set);
	if (rc < 0)
		return error_set_errno(err, sys, "set capabilities");
	if (cap_reset_ambient() < 0)
		return error_set_errno(err, errno, "reset ambient capabilities");
	uint64_t ambient = c.ambient & c.permitted & c.inheritable;
	for (cap_value_t cap = 0; CAP_IS_SUPPORTED(cap); cap++)
		if (has(ambient, cap) && cap_set_ambient(cap, CAP_SET) < 0 && errno != EPERM)
			return error_set_errno(err, errno, "set ambient capability %d", cap);
	return 0;
}

int container_drop(
	const struct runtime_process *p, const struct seccomp_program *seccomp, struct error *err)
{
	if (limit_bounding(p, err) < 0)
		return -1;
	// Without no_new_privs a filter needs CAP_SYS_ADMIN, so it comes first; it then must allow
	// what follows here. Else last: nothing of ours runs under it but exec.
	if (!p->no_new_privileges && seccomp->size && seccomp_install(seccomp, err) < 0)
		return -1;
	if (become_user(p, err) < 0 || set_capabilities(p, err) < 0)
		return -1;
	if (p->no_new_privileges && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return error_set_errno(err, errno, "set no_new_privs");
	return 0;
}
