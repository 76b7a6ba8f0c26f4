// SPDX-License-Identifier: Apache-2.0
//
// A program that is put into images and tries to get out (test_sandbox_attacks.py). Each attempt
// prints one line, "denied: WHAT: ERRNO" or "ESCAPED: WHAT"; lines of other forms tell the test
// what was seen on the way.
#pragma once

#include <stdbool.h>
#include <stddef.h>

// rc < 0: denied, for the reason in errno.
void verdict(long rc, const char *format, ...) __attribute__((format(printf, 2, 3)));
// As verdict(), for attempts whose arguments are nonsense: only a refusal for want of permission
// (or of such a call) is one; any other error came from behind the door.
void verdict_strict(long rc, const char *format, ...) __attribute__((format(printf, 2, 3)));
void escaped(const char *format, ...) __attribute__((format(printf, 1, 2)));
void denied(const char *format, ...) __attribute__((format(printf, 1, 2)));

// Attempts: arguments are those behind the name.
typedef void probe_fn(int argc, char **argv);
probe_fn probe_exe, probe_descriptors, probe_walk, probe_handles, probe_chroot, probe_suid,
	probe_swap, probe_open, probe_overwrite, probe_content, probe_identity, probe_sleep;
probe_fn probe_mount, probe_unmask, probe_namespaces, probe_cgroup, probe_groups, probe_where;
probe_fn probe_modules, probe_bpf, probe_log, probe_keys, probe_settings, probe_secrets,
	probe_devices, probe_typing;
probe_fn probe_signals, probe_trace, probe_forks, probe_memory, probe_disk;
probe_fn probe_connect;

unsigned long number(const char *text);
