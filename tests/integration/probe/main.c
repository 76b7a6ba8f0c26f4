// SPDX-License-Identifier: Apache-2.0
#include "probe.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

__attribute__((format(printf, 2, 0))) static void say(
	const char *verdict, const char *format, va_list args, const char *reason)
{
	printf("%s: ", verdict);
	vprintf(format, args);
	printf("%s%s\n", reason ? ": " : "", reason ? reason : "");
}

static const char *errno_name(int sys)
{
	const char *name = strerrorname_np(sys);
	return name ? name : "?";
}

void verdict(long rc, const char *format, ...)
{
	int sys = errno;
	va_list args;
	va_start(args, format);
	say(rc < 0 ? "denied" : "ESCAPED", format, args, rc < 0 ? errno_name(sys) : NULL);
	va_end(args);
}

void verdict_strict(long rc, const char *format, ...)
{
	int sys = errno;
	bool held = rc < 0 && (sys == EPERM || sys == EACCES || sys == ENOSYS);
	va_list args;
	va_start(args, format);
	say(held ? "denied" : "ESCAPED", format, args, rc < 0 ? errno_name(sys) : "it worked");
	va_end(args);
}

void escaped(const char *format, ...)
{
	va_list args;
	va_start(args, format);
	say("ESCAPED", format, args, NULL);
	va_end(args);
}

void denied(const char *format, ...)
{
	va_list args;
	va_start(args, format);
	say("denied", format, args, NULL);
	va_end(args);
}

unsigned long number(const char *text)
{
	return strtoul(text, NULL, 10);
}

static const struct {
	const char *name;
	probe_fn *run;
	int arguments;
} probes[] = {
	{"exe", probe_exe, 0},
	{"descriptors", probe_descriptors, 0},
	{"walk", probe_walk, 1},
	{"handles", probe_handles, 0},
	{"chroot", probe_chroot, 1},
	{"suid", probe_suid, 1},
	{"identity", probe_identity, 0},
	{"swap", probe_swap, 2},
	{"open", probe_open, 1},
	{"overwrite", probe_overwrite, 1},
	{"content", probe_content, 1},
	{"sleep", probe_sleep, 1},
	{"mount", probe_mount, 1},
	{"unmask", probe_unmask, 0},
	{"namespaces", probe_namespaces, 0},
	{"cgroup", probe_cgroup, 0},
	{"groups", probe_groups, 0},
	{"where", probe_where, 1},
	{"modules", probe_modules, 0},
	{"bpf", probe_bpf, 0},
	{"log", probe_log, 0},
	{"keys", probe_keys, 0},
	{"settings", probe_settings, 0},
	{"secrets", probe_secrets, 0},
	{"devices", probe_devices, 1},
	{"typing", probe_typing, 0},
	{"signals", probe_signals, 1},
	{"trace", probe_trace, 1},
	{"forks", probe_forks, 1},
	{"memory", probe_memory, 1},
	{"disk", probe_disk, 2},
	{"connect", probe_connect, 2},
};

int main(int argc, char **argv)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	for (size_t i = 0; argc > 1 && i < sizeof(probes) / sizeof(*probes); i++) {
		if (strcmp(argv[1], probes[i].name) != 0)
			continue;
		if (argc - 2 < probes[i].arguments)
			break;
		probes[i].run(argc - 2, argv + 2);
		printf("end of %s\n", argv[1]);
		return 0;
	}
	fprintf(stderr, "usage: probe NAME [ARG…]\n");
	return 2;
}
