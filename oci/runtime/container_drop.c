// SPDX-License-Identifier: Apache-2.0
#include "base/memory.h"
#include "oci/runtime/container_internal.h"

#include <grp.h>
#include <sys/capability.h>
#include <sys/prctl.h>
#include <unistd.h>

// Docker's default list.
static const cap_value_t kept[] = {
	CAP_AUDIT_WRITE,
	CAP_CHOWN,
	CAP_DAC_OVERRIDE,
	CAP_FOWNER,
	CAP_FSETID,
	CAP_KILL,
	CAP_MKNOD,
	CAP_NET_BIND_SERVICE,
	CAP_NET_RAW,
	CAP_SETFCAP,
	CAP_SETGID,
	CAP_SETPCAP,
	CAP_SETUID,
	CAP_SYS_CHROOT,
};

static bool is_kept(cap_value_t cap)
{
	for (size_t i = 0; i < array_size(kept); i++)
		if (kept[i] == cap)
			return true;
	return false;
}

static int drop_bounding(struct error *err)
{
	for (cap_value_t cap = 0; CAP_IS_SUPPORTED(cap); cap++) {
		// What the node does not have itself (we may be in a container) need not go.
		if (is_kept(cap) || cap_get_bound(cap) == 0)
			continue;
		if (cap_drop_bound(cap) < 0)
			return error_set_errno(err, errno, "drop capability %d", cap);
	}
	return 0;
}

static int set_capabilities(struct error *err)
{
	cap_t have = cap_get_proc(), set = cap_init();
	cap_flag_value_t value;
	int rc = have && set ? 0 : -1;
	for (size_t i = 0; rc == 0 && i < array_size(kept); i++) {
		// Not more than we have: asking for it would fail.
		rc = cap_get_flag(have, kept[i], CAP_PERMITTED, &value);
		if (rc == 0 && value == CAP_SET)
			rc = cap_set_flag(set, CAP_PERMITTED, 1, &kept[i], CAP_SET) |
			     cap_set_flag(set, CAP_EFFECTIVE, 1, &kept[i], CAP_SET);
	}
	if (rc == 0)
		rc = cap_set_proc(set);
	int sys = errno;
	cap_free(have);
	cap_free(set);
	return rc < 0 ? error_set_errno(err, sys, "set capabilities") : 0;
}

int container_drop(const struct container_user *user, struct error *err)
{
	if (drop_bounding(err) < 0)
		return -1;
	if (cap_reset_ambient() < 0)
		return error_set_errno(err, errno, "reset ambient capabilities");
	if (setgroups(user->group_count, user->groups) < 0 ||
		setresgid(user->gid, user->gid, user->gid) < 0 ||
		setresuid(user->uid, user->uid, user->uid) < 0)
		return error_set_errno(err, errno, "become user %u:%u", user->uid, user->gid);
	// The kernel has emptied the sets of another user than root already.
	if (set_capabilities(err) < 0)
		return -1;
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return error_set_errno(err, errno, "set no_new_privs");
	return 0;
}
