// SPDX-License-Identifier: Apache-2.0
//
// System call filters: a profile as data (runtime_seccomp), compiled to BPF by libseccomp in the
// parent, installed by the child with one system call.
#pragma once

#include "oci/runtime/spec.h"

// The profile of a job with these capabilities (effective ones, as bits): an allow-list. Unknown
// calls answer ENOSYS, so that newer C libraries fall back; known dangerous ones EPERM.
void seccomp_default_profile(
	struct arena *a, uint64_t capabilities, struct runtime_seccomp *profile);

struct seccomp_program {
	const void *filter; // struct sock_filter []
	size_t size;	    // bytes
	unsigned flags;	    // SECCOMP_FILTER_FLAG_…
};

// Compile. Names of system calls that libseccomp does not know are passed over (they answer the
// default); an unknown action, operator or architecture is ERROR_INVALID with its place. The
// program lives in the arena. The default profiles come ready-made (no compilation at run time).
int seccomp_compile(struct arena *a, const struct runtime_seccomp *profile,
	struct seccomp_program *program, struct error *err);
// Install for this process. Only system calls: usable after fork. Needs no_new_privs or
// CAP_SYS_ADMIN.
int seccomp_install(const struct seccomp_program *program, struct error *err);
