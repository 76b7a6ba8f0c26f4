// SPDX-License-Identifier: Apache-2.0
#include "oci/runtime/spec_names.h"

#include "base/text.h"

#include <linux/capability.h>
#include <sys/resource.h>

static const char *const capabilities[] = {
	[CAP_CHOWN] = "CAP_CHOWN",
	[CAP_DAC_OVERRIDE] = "CAP_DAC_OVERRIDE",
	[CAP_DAC_READ_SEARCH] = "CAP_DAC_READ_SEARCH",
	[CAP_FOWNER] = "CAP_FOWNER",
	[CAP_FSETID] = "CAP_FSETID",
	[CAP_KILL] = "CAP_KILL",
	[CAP_SETGID] = "CAP_SETGID",
	[CAP_SETUID] = "CAP_SETUID",
	[CAP_SETPCAP] = "CAP_SETPCAP",
	[CAP_LINUX_IMMUTABLE] = "CAP_LINUX_IMMUTABLE",
	[CAP_NET_BIND_SERVICE] = "CAP_NET_BIND_SERVICE",
	[CAP_NET_BROADCAST] = "CAP_NET_BROADCAST",
	[CAP_NET_ADMIN] = "CAP_NET_ADMIN",
	[CAP_NET_RAW] = "CAP_NET_RAW",
	[CAP_IPC_LOCK] = "CAP_IPC_LOCK",
	[CAP_IPC_OWNER] = "CAP_IPC_OWNER",
	[CAP_SYS_MODULE] = "CAP_SYS_MODULE",
	[CAP_SYS_RAWIO] = "CAP_SYS_RAWIO",
	[CAP_SYS_CHROOT] = "CAP_SYS_CHROOT",
	[CAP_SYS_PTRACE] = "CAP_SYS_PTRACE",
	[CAP_SYS_PACCT] = "CAP_SYS_PACCT",
	[CAP_SYS_ADMIN] = "CAP_SYS_ADMIN",
	[CAP_SYS_BOOT] = "CAP_SYS_BOOT",
	[CAP_SYS_NICE] = "CAP_SYS_NICE",
	[CAP_SYS_RESOURCE] = "CAP_SYS_RESOURCE",
	[CAP_SYS_TIME] = "CAP_SYS_TIME",
	[CAP_SYS_TTY_CONFIG] = "CAP_SYS_TTY_CONFIG",
	[CAP_MKNOD] = "CAP_MKNOD",
	[CAP_LEASE] = "CAP_LEASE",
	[CAP_AUDIT_WRITE] = "CAP_AUDIT_WRITE",
	[CAP_AUDIT_CONTROL] = "CAP_AUDIT_CONTROL",
	[CAP_SETFCAP] = "CAP_SETFCAP",
	[CAP_MAC_OVERRIDE] = "CAP_MAC_OVERRIDE",
	[CAP_MAC_ADMIN] = "CAP_MAC_ADMIN",
	[CAP_SYSLOG] = "CAP_SYSLOG",
	[CAP_WAKE_ALARM] = "CAP_WAKE_ALARM",
	[CAP_BLOCK_SUSPEND] = "CAP_BLOCK_SUSPEND",
	[CAP_AUDIT_READ] = "CAP_AUDIT_READ",
	[CAP_PERFMON] = "CAP_PERFMON",
	[CAP_BPF] = "CAP_BPF",
	[CAP_CHECKPOINT_RESTORE] = "CAP_CHECKPOINT_RESTORE",
};

static const char *const rlimits[RLIM_NLIMITS] = {
	[RLIMIT_AS] = "RLIMIT_AS",
	[RLIMIT_CORE] = "RLIMIT_CORE",
	[RLIMIT_CPU] = "RLIMIT_CPU",
	[RLIMIT_DATA] = "RLIMIT_DATA",
	[RLIMIT_FSIZE] = "RLIMIT_FSIZE",
	[RLIMIT_LOCKS] = "RLIMIT_LOCKS",
	[RLIMIT_MEMLOCK] = "RLIMIT_MEMLOCK",
	[RLIMIT_MSGQUEUE] = "RLIMIT_MSGQUEUE",
	[RLIMIT_NICE] = "RLIMIT_NICE",
	[RLIMIT_NOFILE] = "RLIMIT_NOFILE",
	[RLIMIT_NPROC] = "RLIMIT_NPROC",
	[RLIMIT_RSS] = "RLIMIT_RSS",
	[RLIMIT_RTPRIO] = "RLIMIT_RTPRIO",
	[RLIMIT_RTTIME] = "RLIMIT_RTTIME",
	[RLIMIT_SIGPENDING] = "RLIMIT_SIGPENDING",
	[RLIMIT_STACK] = "RLIMIT_STACK",
};

const char *const runtime_namespace_names[RUNTIME_NAMESPACES] = {
	[RUNTIME_NAMESPACE_PID] = "pid",
	[RUNTIME_NAMESPACE_NETWORK] = "network",
	[RUNTIME_NAMESPACE_MOUNT] = "mount",
	[RUNTIME_NAMESPACE_IPC] = "ipc",
	[RUNTIME_NAMESPACE_UTS] = "uts",
	[RUNTIME_NAMESPACE_USER] = "user",
	[RUNTIME_NAMESPACE_CGROUP] = "cgroup",
	[RUNTIME_NAMESPACE_TIME] = "time",
};

const char *const runtime_hook_names[RUNTIME_HOOK_POINTS] = {
	[RUNTIME_HOOK_PRESTART] = "prestart",
	[RUNTIME_HOOK_CREATE_RUNTIME] = "createRuntime",
	[RUNTIME_HOOK_CREATE_CONTAINER] = "createContainer",
	[RUNTIME_HOOK_START_CONTAINER] = "startContainer",
	[RUNTIME_HOOK_POSTSTART] = "poststart",
	[RUNTIME_HOOK_POSTSTOP] = "poststop",
};

bool runtime_capability_parse(const char *name, uint64_t *bit)
{
	for (unsigned i = 0; i < array_size(capabilities); i++) {
		if (streq(name, capabilities[i])) {
			*bit = 1ULL << i;
			return true;
		}
	}
	return false;
}

const char *runtime_capability_name(unsigned number)
{
	return number < array_size(capabilities) ? capabilities[number] : NULL;
}

bool runtime_rlimit_parse(const char *name, int *resource)
{
	for (unsigned i = 0; i < array_size(rlimits); i++) {
		if (rlimits[i] && streq(name, rlimits[i])) {
			*resource = (int)i;
			return true;
		}
	}
	return false;
}

const char *runtime_rlimit_name(int resource)
{
	return resource >= 0 && resource < (int)array_size(rlimits) ? rlimits[resource] : NULL;
}
