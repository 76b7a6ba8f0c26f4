// SPDX-License-Identifier: Apache-2.0
//
// How the helper of a FUSE mount is called: computed as data, started by fuse.c.
//
// Whoever writes a job chooses options, variables and the address; the helper runs on the node,
// mostly as root. So options and variables are those that are known to be harmless, by name: none
// that names a file, a program, a listening address or another user's credentials of this node;
// rclone's backends are those that lead to another machine. Only a profile "custom", which the
// administrator must have allowed, is called as the job says.
#pragma once

#include "agent/config/policies.h"
#include "agent/data/failure.h"
#include "agent/data/source.h"
#include "base/arena.h"

#include <sys/types.h>

enum {
	FUSE_PLAN_FD = 3,      // /dev/fuse in a helper that takes it
	FUSE_CACHE_MIB = 4096, // of each mount, if max_bytes does not say
	FUSE_NOBODY = 65534,   // whom a helper that needs no rights runs as
};

struct fuse_order {
	const struct data_source *source;
	const struct data_policy *policy;
	const char *mount_point;
	const char *cache; // a folder of its own, absolute
	bool root;	   // we are; else everything is done as this user
	unsigned rc_port;  // for rclone; 0: none
	const char *rc_password;
	const char *path; // PATH; NULL: the usual
	// The value of one of the job's secrets; NULL: there is none of that name.
	const char *(*secret)(void *data, const char *name);
	void *data;
};

struct fuse_plan {
	const char **argv, **envp;  // NULL-terminated
	const char *program;	    // what to call it in errors
	bool takes_fd;		    // the mount is ours, and FUSE_PLAN_FD the helper's end of it
	struct json_strings hidden; // values that are secret
};

// Does this helper take /dev/fuse, so that we mount ourselves and it needs no rights?
bool fuse_takes_fd(const struct data_source *s, bool root);
// Everything lives in the arena. DATA_POLICY: something is not allowed; DATA_FAILED: a secret that
// the job does not have.
int fuse_plan(const struct fuse_order *o, struct arena *a, struct fuse_plan *plan,
	enum data_failure *failure, struct error *err);

// ---- fuse_check.c: may the job say this? -1 with ERROR_DENIED.
int fuse_check_profile(const struct data_policy *policy, const char *profile, struct error *err);
int fuse_check_options(const struct data_source *s, struct error *err);
int fuse_check_variables(const struct data_source *s, struct error *err);
int fuse_check_remote(const struct data_source *s, struct error *err);
