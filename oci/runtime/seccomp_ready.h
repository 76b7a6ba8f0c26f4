// SPDX-License-Identifier: Apache-2.0
//
// Programs that were compiled when Stoker was built. Libseccomp takes milliseconds for the default
// profile, a good part of a container's whole start, and always comes to the same result.
#pragma once

#include <stddef.h>
#include <stdint.h>

struct seccomp_ready {
	uint64_t fingerprint; // of the profile that it was compiled from
	const void *filter;
	size_t size;
};

extern const struct seccomp_ready seccomp_ready[];
extern const size_t seccomp_ready_count; // 0 in a cross-build

// Of everything a profile says. Two profiles that differ and have the same one would have to be
// made for it, and would get the default profile.
struct runtime_seccomp;
uint64_t seccomp_fingerprint(const struct runtime_seccomp *profile);
