// SPDX-License-Identifier: Apache-2.0
//
// What every job begins with.
#include "oci/runtime/cgroup.h"
#include "oci/runtime/container.h"
#include "oci/runtime/seccomp.h"

#include <linux/capability.h>
#include <sys/resource.h>

static const struct {
	const char *destination, *type;
	const char *options[8];
} mounts[] = {
	{"/proc", "proc", {"nosuid", "noexec", "nodev"}},
	{"/sys", "sysfs", {"nosuid", "noexec", "nodev", "ro"}},
	{"/sys/fs/cgroup", "cgroup", {"nosuid", "noexec", "nodev", "relatime", "ro"}},
	{"/dev", "tmpfs", {"nosuid", "noexec", "strictatime", "mode=755", "size=64k"}},
	{"/dev/pts", "devpts",
		{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}},
	{"/dev/mqueue", "mqueue", {"nosuid", "noexec", "nodev"}},
};

// Docker's lists.
static const char *const masked[] = {
	"/proc/acpi",
	"/proc/asound",
	"/proc/interrupts",
	"/proc/kcore",
	"/proc/keys",
	"/proc/latency_stats",
	"/proc/sched_debug",
	"/proc/scsi",
	"/proc/timer_list",
	"/proc/timer_stats",
	"/sys/devices/virtual/powercap",
	"/sys/firmware",
};
static const char *const read_only[] = {
	"/proc/bus",
	"/proc/fs",
	"/proc/irq",
	"/proc/sys",
	"/proc/sysrq-trigger",
};

// Docker's, without what only a machine's own root needs: CAP_MKNOD, CAP_AUDIT_WRITE, and
// CAP_NET_RAW, with which one can forge packets.
static const int capabilities[] = {CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_FOWNER, CAP_FSETID, CAP_KILL,
	CAP_NET_BIND_SERVICE, CAP_SETFCAP, CAP_SETGID, CAP_SETPCAP, CAP_SETUID, CAP_SYS_CHROOT};

enum { FILES_SOFT = 65536, FILES_HARD = 1048576 };

static struct json_strings strings(struct arena *a, const char *const *items, size_t count)
{
	struct json_strings s = {arena_array(a, const char *, count + 1), 0};
	while (s.count < count && items[s.count]) {
		s.items[s.count] = items[s.count];
		s.count++;
	}
	return s;
}

static struct runtime_id_maps one_map(struct arena *a, uint32_t first_id)
{
	struct runtime_id_maps maps = {arena_new(a, struct runtime_id_map), 1};
	maps.items[0] = (struct runtime_id_map){0, first_id, CONTAINER_IDS};
	return maps;
}

static void set_process(struct arena *a, struct runtime_process *p)
{
	uint64_t caps = 0;
	for (size_t i = 0; i < array_size(capabilities); i++)
		caps |= UINT64_C(1) << capabilities[i];
	p->cwd = "/";
	p->umask = 022;
	p->has_capabilities = true;
	p->capabilities = (struct runtime_capabilities){
		.bounding = caps, .effective = caps, .permitted = caps};
	p->no_new_privileges = true;
	p->has_oom_score_adj = true;
	p->oom_score_adj = 500; // before anything of the node itself
	p->rlimits = arena_array(a, struct runtime_rlimit, 2);
	// Not more than we have: raising it takes a capability that we may lack.
	struct rlimit files = {FILES_HARD, FILES_HARD};
	getrlimit(RLIMIT_NOFILE, &files);
	rlim_t hard = files.rlim_max < FILES_HARD ? files.rlim_max : FILES_HARD;
	p->rlimits[0] =
		(struct runtime_rlimit){RLIMIT_NOFILE, hard < FILES_SOFT ? hard : FILES_SOFT, hard};
	p->rlimits[1] = (struct runtime_rlimit){RLIMIT_CORE, 0, 0};
	p->rlimit_count = 2;
}

void container_default_spec(struct arena *a, struct runtime_spec *spec, uint32_t first_id)
{
	*spec = (struct runtime_spec){.version = "1.0.2", .has_process = true};
	set_process(a, &spec->process);
	spec->mounts = arena_array(a, struct runtime_mount, array_size(mounts));
	spec->mount_count = array_size(mounts);
	for (size_t i = 0; i < array_size(mounts); i++)
		spec->mounts[i] = (struct runtime_mount){
			.destination = mounts[i].destination,
			.type = mounts[i].type,
			.source = mounts[i].type,
			.options = strings(a, mounts[i].options, array_size(mounts[i].options)),
		};
	spec->masked_paths = strings(a, masked, array_size(masked));
	spec->readonly_paths = strings(a, read_only, array_size(read_only));
	for (int i = 0; i < RUNTIME_NAMESPACES; i++)
		spec->namespaces[i].wanted =
			i != RUNTIME_NAMESPACE_TIME && (i != RUNTIME_NAMESPACE_USER || first_id);
	if (first_id)
		spec->uid_mappings = spec->gid_mappings = one_map(a, first_id);
	spec->rootfs_propagation = "private";
	cgroup_default_devices(a, &spec->resources.devices);
	seccomp_default_profile(a, spec->process.capabilities.effective, &spec->seccomp);
}
