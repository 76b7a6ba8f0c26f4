// SPDX-License-Identifier: Apache-2.0
#include "oci/runtime/spec.h"

#include "base/file.h"
#include "base/text.h"
#include "oci/runtime/spec_names.h"

#include <linux/capability.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/resource.h>

#include <cmocka.h>

static int parse(struct arena *a, const char *text, struct runtime_spec *spec, struct error *err)
{
	return runtime_spec_parse(a, text, strlen(text), "config.json", spec, err);
}

static const char start[] = "{\"ociVersion\":\"1.2.0\",\"root\":{\"path\":\"rootfs\"}";

// The least document with further members.
static void parse_with(struct arena *a, const char *members, struct runtime_spec *spec)
{
	struct error err = {0};
	const char *text = arena_printf(a, "%s,%s}", start, members);
	if (parse(a, text, spec, &err) < 0)
		fail_msg("%s\nin %s", err.text, text);
}

static const char process_text[] =
	"{\"terminal\":true,\"consoleSize\":{\"height\":25,\"width\":80},"
	"\"user\":{\"uid\":1000,\"gid\":100,\"umask\":63,\"additionalGids\":[4,24]},"
	"\"args\":[\"/bin/sh\",\"-c\",\"true\"],\"env\":[\"A=1\",\"B=\"],\"cwd\":\"/work\","
	"\"capabilities\":{\"bounding\":[\"CAP_CHOWN\",\"CAP_CHECKPOINT_RESTORE\"],"
	"\"effective\":[\"CAP_CHOWN\"],\"inheritable\":null,\"permitted\":[\"CAP_KILL\"],"
	"\"ambient\":[]},"
	"\"rlimits\":[{\"type\":\"RLIMIT_NOFILE\",\"hard\":1024,\"soft\":512},"
	"{\"type\":\"RLIMIT_CORE\",\"hard\":18446744073709551615,\"soft\":0}],"
	"\"noNewPrivileges\":true,\"apparmorProfile\":\"\",\"oomScoreAdj\":-500,"
	"\"selinuxLabel\":\"\",\"scheduler\":null,\"ioPriority\":null}";

static void reads_process(void **state)
{
	cleanup_arena struct arena a = {0};
	struct runtime_spec spec;
	const struct runtime_process *p = &spec.process;

	(void)state;
	parse_with(&a, arena_printf(&a, "\"process\":%s", process_text), &spec);
	assert_true(spec.has_process && p->terminal && p->no_new_privileges);
	assert_int_equal(p->rows, 25);
	assert_int_equal(p->columns, 80);
	assert_int_equal(p->uid, 1000);
	assert_int_equal(p->gid, 100);
	assert_int_equal(p->umask, 077);
	assert_int_equal(p->group_count, 2);
	assert_int_equal(p->groups[1], 24);
	assert_int_equal(p->args.count, 3);
	assert_string_equal(p->args.items[2], "true");
	assert_null(p->args.items[3]);
	assert_string_equal(p->env.items[1], "B=");
	assert_string_equal(p->cwd, "/work");
	assert_true(p->has_capabilities);
	assert_true(
		p->capabilities.bounding == (1ULL << CAP_CHOWN | 1ULL << CAP_CHECKPOINT_RESTORE));
	assert_true(p->capabilities.effective == 1ULL << CAP_CHOWN);
	assert_true(p->capabilities.permitted == 1ULL << CAP_KILL);
	assert_int_equal(p->rlimit_count, 2);
	assert_int_equal(p->rlimits[0].resource, RLIMIT_NOFILE);
	assert_int_equal(p->rlimits[0].soft, 512);
	assert_int_equal(p->rlimits[0].hard, 1024);
	assert_int_equal(p->rlimits[1].resource, RLIMIT_CORE);
	assert_true(p->rlimits[1].hard == RLIM_INFINITY);
	assert_true(p->has_oom_score_adj);
	assert_int_equal(p->oom_score_adj, -500);
	assert_int_equal(spec.warnings.count, 0);
}

// As `exec --process` has it.
static void reads_a_process_alone(void **state)
{
	cleanup_arena struct arena a = {0};
	struct runtime_process p;
	struct json_strings warnings;
	struct error err = {0};
	static const char wrong[] = "{\"args\":[\"a\"]}";

	(void)state;
	if (runtime_process_parse(&a, process_text, strlen(process_text), "process.json", &p,
		    &warnings, &err) < 0)
		fail_msg("%s", err.text);
	assert_int_equal(p.uid, 1000);
	assert_int_equal(p.args.count, 3);
	assert_int_equal(warnings.count, 0);
	assert_int_equal(runtime_process_parse(
				 &a, wrong, strlen(wrong), "process.json", &p, &warnings, &err),
		-1);
	assert_string_equal(err.text, "process.json: key \"cwd\" is missing");
}

static void has_defaults(void **state)
{
	cleanup_arena struct arena a = {0};
	struct runtime_spec spec;

	(void)state;
	parse_with(&a, "\"hostname\":\"\",\"linux\":null", &spec);
	assert_string_equal(spec.version, "1.2.0");
	assert_string_equal(spec.root_path, "rootfs");
	assert_false(spec.root_read_only || spec.has_process);
	assert_null(spec.hostname);
	parse_with(&a, "\"process\":{\"args\":[\"a\"],\"cwd\":\"/\"}", &spec);
	assert_int_equal(spec.process.umask, (mode_t)-1);
	assert_false(spec.process.has_capabilities || spec.process.has_oom_score_adj);
	assert_int_equal(spec.process.uid + spec.process.gid + spec.process.env.count, 0);
}

static void reads_mounts_and_hooks(void **state)
{
	cleanup_arena struct arena a = {0};
	struct runtime_spec spec;

	(void)state;
	parse_with(&a,
		"\"hostname\":\"h\",\"domainname\":\"d\",\"annotations\":{\"a.b\":\"c\"},"
		"\"mounts\":[{\"destination\":\"/proc\",\"type\":\"proc\",\"source\":\"proc\"},"
		"{\"destination\":\"data\",\"source\":\"/srv\",\"options\":[\"rbind\",\"ro\"],"
		"\"uidMappings\":[{\"containerID\":0,\"hostID\":1000,\"size\":2}],"
		"\"gidMappings\":[{\"containerID\":1,\"hostID\":5,\"size\":4294967290}]}],"
		"\"hooks\":{\"prestart\":[{\"path\":\"/bin/a\",\"args\":[\"a\",\"b\"],"
		"\"env\":[\"K=v\"],\"timeout\":3}],\"poststop\":[{\"path\":\"/bin/b\"}],"
		"\"poststart\":null}",
		&spec);
	assert_string_equal(spec.hostname, "h");
	assert_string_equal(spec.domainname, "d");
	assert_string_equal(spec.annotations.items[0].value, "c");
	assert_int_equal(spec.mount_count, 2);
	assert_string_equal(spec.mounts[0].type, "proc");
	assert_string_equal(spec.mounts[1].destination, "/data");
	assert_null(spec.mounts[1].type);
	assert_string_equal(spec.mounts[1].options.items[1], "ro");
	assert_int_equal(spec.mounts[1].uid_mappings.items[0].host, 1000);
	assert_int_equal(spec.mounts[1].gid_mappings.items[0].size, 4294967290);
	assert_int_equal(spec.hooks[RUNTIME_HOOK_PRESTART].count, 1);
	assert_int_equal(spec.hooks[RUNTIME_HOOK_PRESTART].items[0].timeout, 3);
	assert_string_equal(spec.hooks[RUNTIME_HOOK_PRESTART].items[0].env.items[0], "K=v");
	assert_string_equal(spec.hooks[RUNTIME_HOOK_POSTSTOP].items[0].path, "/bin/b");
	assert_int_equal(spec.hooks[RUNTIME_HOOK_POSTSTART].count, 0);
}

static const char linux_text[] =
	"{\"uidMappings\":[{\"containerID\":0,\"hostID\":100000,\"size\":65536}],"
	"\"gidMappings\":[{\"containerID\":0,\"hostID\":200000,\"size\":65536}],"
	"\"sysctl\":{\"net.ipv4.ip_forward\":\"1\"},\"cgroupsPath\":\"/a/b\","
	"\"namespaces\":[{\"type\":\"pid\"},{\"type\":\"network\",\"path\":\"/run/netns/x\"},"
	"{\"type\":\"mount\",\"path\":\"\"},{\"type\":\"cgroup\"}],"
	"\"devices\":[{\"path\":\"/dev/"
	"x\",\"type\":\"u\",\"major\":1,\"minor\":3,\"fileMode\":8630,"
	"\"uid\":7},{\"path\":\"/dev/p\",\"type\":\"p\",\"fileMode\":384}],"
	"\"rootfsPropagation\":\"rslave\",\"maskedPaths\":[\"/proc/kcore\"],"
	"\"readonlyPaths\":[\"/proc/sys\"],\"mountLabel\":\"\",\"intelRdt\":{},"
	"\"seccomp\":{\"defaultAction\":\"SCMP_ACT_ERRNO\",\"defaultErrnoRet\":38,"
	"\"architectures\":[\"SCMP_ARCH_X86_64\"],\"flags\":[\"SECCOMP_FILTER_FLAG_LOG\"],"
	"\"listenerPath\":\"\",\"syscalls\":[{\"names\":[\"read\",\"personality\"],"
	"\"action\":\"SCMP_ACT_ALLOW\",\"args\":[{\"index\":0,\"value\":18446744073709551615,"
	"\"valueTwo\":2,\"op\":\"SCMP_CMP_MASKED_EQ\"}]},"
	"{\"names\":[\"open\"],\"action\":\"SCMP_ACT_ERRNO\",\"errnoRet\":0}]}}";

static void reads_linux(void **state)
{
	cleanup_arena struct arena a = {0};
	struct runtime_spec spec;

	(void)state;
	parse_with(&a, arena_printf(&a, "\"linux\":%s", linux_text), &spec);
	assert_int_equal(spec.uid_mappings.items[0].host, 100000);
	assert_int_equal(spec.gid_mappings.items[0].host, 200000);
	assert_string_equal(spec.sysctl.items[0].key, "net.ipv4.ip_forward");
	assert_string_equal(spec.cgroups_path, "/a/b");
	assert_true(spec.namespaces[RUNTIME_NAMESPACE_PID].wanted);
	assert_string_equal(spec.namespaces[RUNTIME_NAMESPACE_NETWORK].path, "/run/netns/x");
	assert_true(spec.namespaces[RUNTIME_NAMESPACE_MOUNT].wanted);
	assert_null(spec.namespaces[RUNTIME_NAMESPACE_MOUNT].path);
	assert_false(spec.namespaces[RUNTIME_NAMESPACE_USER].wanted);
	assert_int_equal(spec.device_count, 2);
	assert_int_equal(spec.devices[0].type, 'c');
	assert_int_equal(spec.devices[0].mode, 0666);
	assert_int_equal(spec.devices[0].uid, 7);
	assert_int_equal(spec.devices[1].mode, 0600);
	assert_string_equal(spec.rootfs_propagation, "rslave");
	assert_string_equal(spec.masked_paths.items[0], "/proc/kcore");
	assert_string_equal(spec.readonly_paths.items[0], "/proc/sys");
	assert_string_equal(spec.seccomp.default_action, "SCMP_ACT_ERRNO");
	assert_int_equal(spec.seccomp.default_errno, 38);
	assert_int_equal(spec.seccomp.rule_count, 2);
	assert_true(spec.seccomp.rules[0].arguments[0].value == UINT64_MAX);
	assert_int_equal(spec.seccomp.rules[0].arguments[0].value_two, 2);
	assert_false(spec.seccomp.rules[0].has_errno);
	assert_true(spec.seccomp.rules[1].has_errno);
}

static const char resources_text[] =
	"{\"devices\":[{\"allow\":false,\"access\":\"rwm\"},{\"allow\":true,\"type\":\"c\","
	"\"major\":1,\"access\":\"r\"}],"
	"\"memory\":{\"limit\":1048576,\"reservation\":-1,\"swap\":-1,\"kernel\":-1,"
	"\"swappiness\":null,\"disableOOMKiller\":true,\"checkBeforeUpdate\":true,"
	"\"useHierarchy\":true},"
	"\"cpu\":{\"shares\":512,\"quota\":-1,\"period\":100000,\"cpus\":\"0-1\",\"mems\":\"\","
	"\"realtimePeriod\":0},\"pids\":{\"limit\":-1},"
	"\"blockIO\":{\"weight\":100,\"throttleReadBpsDevice\":[{\"major\":8,\"minor\":0,"
	"\"rate\":18446744073709551615}],\"throttleWriteIOPSDevice\":[{\"major\":8,\"minor\":1,"
	"\"rate\":7}]},"
	"\"hugepageLimits\":[{\"pageSize\":\"2MB\",\"limit\":9223372036854775808}],"
	"\"network\":{\"classID\":0,\"priorities\":[]},\"rdma\":{},"
	"\"unified\":{\"memory.high\":\"max\"}}";

static void reads_resources(void **state)
{
	cleanup_arena struct arena a = {0};
	struct runtime_spec spec;
	const struct runtime_resources *r = &spec.resources;

	(void)state;
	parse_with(&a, arena_printf(&a, "\"linux\":{\"resources\":%s}", resources_text), &spec);
	assert_int_equal(r->devices.count, 2);
	assert_int_equal(r->devices.items[0].type, 'a');
	assert_int_equal(r->devices.items[0].major, -1);
	assert_int_equal(r->devices.items[1].major, 1);
	assert_true(r->devices.items[1].allow && r->devices.items[1].read);
	assert_false(r->devices.items[1].write || r->devices.items[1].mknod);
	assert_int_equal(r->memory_limit, 1048576);
	assert_true(r->memory_reservation == RUNTIME_UNLIMITED);
	assert_true(r->memory_swap == RUNTIME_UNLIMITED);
	assert_true(r->disable_oom_killer);
	assert_int_equal(r->cpu_shares, 512);
	assert_true(r->cpu_quota == RUNTIME_UNLIMITED);
	assert_int_equal(r->cpu_period, 100000);
	assert_string_equal(r->cpus, "0-1");
	assert_null(r->mems);
	assert_true(r->pids_limit == RUNTIME_UNLIMITED);
	assert_int_equal(r->block_weight, 100);
	assert_true(r->read_bytes.items[0].rate == UINT64_MAX);
	assert_int_equal(r->write_operations.items[0].minor, 1);
	assert_true(r->hugepages[0].limit == 1ULL << 63);
	assert_string_equal(r->unified.items[0].value, "max");
}

// Unknown ones may be of a newer kernel.
static void warns_of_unknown_capabilities(void **state)
{
	cleanup_arena struct arena a = {0};
	struct runtime_spec spec;

	(void)state;
	parse_with(&a,
		"\"process\":{\"args\":[\"a\"],\"cwd\":\"/\",\"capabilities\":{\"bounding\":["
		"\"CAP_SYS_FUTURE\",\"CAP_KILL\",\"cap_chown\"],\"ambient\":[\"\"]}}",
		&spec);
	assert_true(spec.process.capabilities.bounding == 1ULL << CAP_KILL);
	assert_int_equal(spec.warnings.count, 3);
	assert_string_equal(spec.warnings.items[0],
		"process.capabilities.bounding: the capability \"CAP_SYS_FUTURE\" is unknown");
	assert_string_equal(spec.warnings.items[2],
		"process.capabilities.ambient: the capability \"\" is unknown");
	assert_null(spec.warnings.items[3]);
}

static void ignores_unknown_members(void **state)
{
	cleanup_arena struct arena a = {0};
	struct runtime_spec spec;

	(void)state;
	parse_with(&a,
		"\"future\":{\"x\":[1]},\"process\":{\"args\":[\"a\"],\"cwd\":\"/\",\"y\":1},"
		"\"linux\":{\"z\":true,\"resources\":{\"q\":[]}}",
		&spec);
	assert_true(spec.has_process);
}

static void writes_what_it_read(void **state)
{
	cleanup_arena struct arena a = {0};
	cleanup_buffer struct buffer first = {0}, second = {0};
	struct runtime_spec spec;
	struct error err = {0};

	(void)state;
	const char *linux_all = arena_printf(&a, "%.*s,\"resources\":%s}",
		(int)strlen(linux_text) - 1, linux_text, resources_text);
	parse_with(&a,
		arena_printf(&a,
			"\"process\":%s,\"linux\":%s,\"hostname\":\"h\",\"domainname\":\"d\","
			"\"annotations\":{\"a\":\"b\"},\"mounts\":[{\"destination\":\"/d\","
			"\"type\":\"bind\",\"source\":\"/s\",\"options\":[\"ro\"],"
			"\"uidMappings\":[{\"containerID\":0,\"hostID\":1,\"size\":2}]}],"
			"\"hooks\":{\"createRuntime\":[{\"path\":\"/h\",\"args\":[\"h\"],"
			"\"env\":[\"A=b\"],\"timeout\":2}]}",
			process_text, linux_all),
		&spec);
	assert_int_equal(runtime_spec_write(&spec, &first, &err), 0);
	struct runtime_spec again = {0};
	if (parse(&a, first.data, &again, &err) < 0)
		fail_msg("%s", err.text);
	assert_int_equal(runtime_spec_write(&again, &second, &err), 0);
	assert_string_equal(first.data, second.data);
	// Members that both writings would lose.
	static const char *const kept[] = {"\"height\": 25", "\"umask\": 63", "\"CAP_KILL\"",
		"18446744073709551615", "\"oomScoreAdj\": -500", "\"hostID\": 200000",
		"\"net.ipv4.ip_forward\"", "/run/netns/x", "\"fileMode\": 438", "rslave",
		"/proc/kcore", "/proc/sys", "SECCOMP_FILTER_FLAG_LOG", "\"valueTwo\": 2",
		"\"errnoRet\": 0", "\"defaultErrnoRet\": 38", "\"reservation\": -1",
		"\"disableOOMKiller\": true", "\"quota\": -1", "\"pids\"", "\"weight\": 100",
		"throttleReadBpsDevice", "throttleWriteIOPSDevice", "9223372036854775808",
		"memory.high", "\"domainname\": \"d\"", "\"timeout\": 2",
		"\"noNewPrivileges\": true", "\"cgroupsPath\": \"/a/b\"", "\"terminal\": true"};
	for (size_t i = 0; i < array_size(kept); i++)
		if (!strstr(first.data, kept[i]))
			fail_msg("%s is lost in\n%s", kept[i], first.data);
}

// As they were captured from runc, podman and containerd.
static void reads_what_engines_write(void **state)
{
	static const char *const names[] = {"runc.json", "runc-rootless.json", "podman.json",
		"podman-limits.json", "containerd.json"};
	static const char here[] = __FILE__;

	(void)state;
	for (size_t i = 0; i < array_size(names); i++) {
		cleanup_arena struct arena a = {0};
		cleanup_buffer struct buffer text = {0}, again = {0};
		struct runtime_spec spec = {0};
		struct error err = {0};
		const char *path = arena_printf(&a, "%.*s../fuzz/corpus/spec/%s",
			(int)(path_base(here) - here), here, names[i]);
		if (file_read(AT_FDCWD, path, 1 << 20, &text, &err) < 0 ||
			runtime_spec_parse(&a, text.data, text.size, names[i], &spec, &err) < 0 ||
			runtime_spec_write(&spec, &again, &err) < 0)
			fail_msg("%s", err.text);
		assert_int_equal(spec.warnings.count, 0);
		assert_true(spec.mount_count > 4 && spec.process.args.count >= 1);
		assert_true(spec.namespaces[RUNTIME_NAMESPACE_MOUNT].wanted);
	}
}

static void refuses_documents(void **state)
{
	static const struct {
		const char *text, *expected;
	} cases[] = {
		{"[]", "config.json: must be an object"},
		{"{\"root\":{\"path\":\"a\"}}", "config.json: key \"ociVersion\" is missing"},
		{"{\"ociVersion\":\"2.0.0\",\"root\":{\"path\":\"a\"}}",
			"config.json: ociVersion: \"2.0.0\" is not a version 1.x of the "
			"specification"},
		{"{\"ociVersion\":\"1.\",\"root\":{\"path\":\"a\"}}",
			"config.json: ociVersion: \"1.\" is not a version 1.x of the "
			"specification"},
		{"{\"ociVersion\":\"1.0.0\"}", "config.json: key \"root\" is missing"},
		{"{\"ociVersion\":\"1.0.0\",\"root\":{}}",
			"config.json: root: key \"path\" is missing"},
		{"{\"ociVersion\":\"1.0.0\",\"root\":{\"path\":\"\"}}",
			"config.json: root: path: must not be empty"},
	};

	(void)state;
	for (size_t i = 0; i < array_size(cases); i++) {
		cleanup_arena struct arena a = {0};
		struct runtime_spec spec;
		struct error err = {0};
		assert_int_equal(parse(&a, cases[i].text, &spec, &err), -1);
		assert_int_equal(err.kind, ERROR_INVALID);
		assert_string_equal(err.text, cases[i].expected);
	}
}

struct refusal {
	const char *members, *expected;
};

static void check_refusals(const char *format, const struct refusal *cases, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		cleanup_arena struct arena a = {0};
		struct runtime_spec spec;
		struct error err = {0};
		const char *at = strstr(format, "%s");
		const char *text = arena_printf(&a, "%s,%.*s%s%s}", start, (int)(at - format),
			format, cases[i].members, at + 2);
		if (parse(&a, text, &spec, &err) == 0)
			fail_msg("not refused: %s", cases[i].members);
		assert_int_equal(err.kind, ERROR_INVALID);
		assert_string_equal(err.text, cases[i].expected);
	}
}

static void refuses_top(void **state)
{
	static const struct refusal cases[] = {
		{"\"windows\":{\"layerFolders\":[\"a\"]}", "config.json: windows: not supported"},
		{"\"vm\":{\"kernel\":{\"path\":\"/k\"}}", "config.json: vm: not supported"},
		{"\"solaris\":{\"milestone\":\"a\"}", "config.json: solaris: not supported"},
		{"\"zos\":{\"a\":1}", "config.json: zos: not supported"},
		{"\"mounts\":[{\"type\":\"proc\"}]",
			"config.json: mounts[0]: key \"destination\" is missing"},
		{"\"mounts\":[{\"destination\":\"\"}]",
			"config.json: mounts[0].destination: must not be empty"},
		{"\"hooks\":{\"poststart\":[{\"path\":\"a\"}]}",
			"config.json: hooks.poststart[0].path: must be an absolute path"},
		{"\"hooks\":{\"prestart\":[{\"path\":\"/a\",\"timeout\":0}]}",
			"config.json: hooks.prestart[0].timeout: must be over 0"},
		{"\"annotations\":{\"\":\"a\"}", "config.json: annotations: a key is empty"},
		{"\"annotations\":{\"a\":1}", "config.json: annotations.a: must be a string"},
	};

	(void)state;
	check_refusals("%s", cases, array_size(cases));
}

static void refuses_process(void **state)
{
	static const struct refusal cases[] = {
		{"\"apparmorProfile\":\"docker-default\"",
			"config.json: process.apparmorProfile: not supported"},
		{"\"selinuxLabel\":\"a\"", "config.json: process.selinuxLabel: not supported"},
		{"\"scheduler\":{\"policy\":\"SCHED_FIFO\"}",
			"config.json: process.scheduler: not supported"},
		{"\"ioPriority\":{\"class\":\"IOPRIO_CLASS_IDLE\"}",
			"config.json: process.ioPriority: not supported"},
		{"\"execCPUAffinity\":{\"initial\":\"0\"}",
			"config.json: process.execCPUAffinity: not supported"},
		{"\"commandLine\":\"a\"", "config.json: process.commandLine: not supported"},
		{"\"user\":{\"username\":\"a\"}",
			"config.json: process.user.username: not supported"},
		{"\"user\":{\"uid\":4294967295}",
			"config.json: process.user.uid: 4294967295 is no id"},
		{"\"user\":{\"umask\":512}",
			"config.json: process.user.umask: must be at most 0777 (511)"},
		{"\"user\":{\"additionalGids\":[-1]}",
			"config.json: process.user.additionalGids[0]: must be a non-negative "
			"integer"},
		{"\"rlimits\":[{\"type\":\"RLIMIT_X\",\"soft\":1,\"hard\":1}]",
			"config.json: process.rlimits[0].type: \"RLIMIT_X\" is no limit of Linux"},
		{"\"rlimits\":[{\"type\":\"RLIMIT_CPU\",\"soft\":2,\"hard\":1}]",
			"config.json: process.rlimits[0]: soft: must not be above hard"},
		{"\"rlimits\":[{\"type\":\"RLIMIT_CPU\",\"soft\":1,\"hard\":1},"
		 "{\"type\":\"RLIMIT_CPU\",\"soft\":1,\"hard\":1}]",
			"config.json: process.rlimits: RLIMIT_CPU stands there twice"},
		{"\"oomScoreAdj\":1001",
			"config.json: process.oomScoreAdj: must be between -1000 and 1000"},
		{"\"oomScoreAdj\":18446744073709551615",
			"config.json: process.oomScoreAdj: does not fit into 64 bits with a sign"},
		{"\"consoleSize\":{\"height\":1,\"width\":65536}",
			"config.json: process.consoleSize: no terminal is larger than 65535"},
	};
	static const struct refusal whole[] = {
		{"{\"cwd\":\"/\"}", "config.json: process: key \"args\" is missing"},
		{"{\"cwd\":\"/\",\"args\":[]}", "config.json: process.args: must not be empty"},
		{"{\"args\":[\"a\"]}", "config.json: process: key \"cwd\" is missing"},
		{"{\"args\":[\"a\"],\"cwd\":\"b\"}",
			"config.json: process.cwd: must be an absolute path"},
	};

	(void)state;
	check_refusals("\"process\":{\"args\":[\"a\"],\"cwd\":\"/\",%s}", cases, array_size(cases));
	check_refusals("\"process\":%s", whole, array_size(whole));
}

static void refuses_linux(void **state)
{
	static const struct refusal cases[] = {
		{"\"intelRdt\":{\"closID\":\"a\"}", "config.json: linux.intelRdt: not supported"},
		{"\"mountLabel\":\"a\"", "config.json: linux.mountLabel: not supported"},
		{"\"personality\":{\"domain\":\"LINUX32\"}",
			"config.json: linux.personality: not supported"},
		{"\"timeOffsets\":{\"boottime\":{\"secs\":1}}",
			"config.json: linux.timeOffsets: not supported"},
		{"\"netDevices\":{\"eth0\":{\"name\":\"a\"}}",
			"config.json: linux.netDevices: not supported"},
		{"\"seccomp\":{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"listenerPath\":\"/a\"}",
			"config.json: linux.seccomp.listenerPath: not supported"},
		{"\"seccomp\":{\"syscalls\":[]}",
			"config.json: linux.seccomp: key \"defaultAction\" is missing"},
		{"\"seccomp\":{\"defaultAction\":\"A\",\"syscalls\":[{\"names\":[],"
		 "\"action\":\"B\"}]}",
			"config.json: linux.seccomp.syscalls[0]: names: must not be empty"},
		{"\"seccomp\":{\"defaultAction\":\"A\",\"defaultErrnoRet\":4096}",
			"config.json: linux.seccomp.defaultErrnoRet: must be at most 4095"},
		{"\"namespaces\":[{\"type\":\"moon\"}]",
			"config.json: linux.namespaces[0].type: there are no namespaces of type "
			"\"moon\""},
		{"\"namespaces\":[{\"type\":\"pid\"},{\"type\":\"pid\"}]",
			"config.json: linux.namespaces: \"pid\" stands there twice"},
		{"\"namespaces\":[{\"type\":\"pid\",\"path\":\"proc\"}]",
			"config.json: linux.namespaces[0].path: must be an absolute path"},
		{"\"devices\":[{\"path\":\"/dev/a\",\"type\":\"d\"}]",
			"config.json: linux.devices[0].type: must be c, b, u or p"},
		{"\"devices\":[{\"path\":\"/dev/a\",\"type\":\"c\",\"major\":1}]",
			"config.json: linux.devices[0]: major and minor: must be given, at most "
			"4095 and 1048575"},
		{"\"rootfsPropagation\":\"sideways\"",
			"config.json: linux.rootfsPropagation: \"sideways\" is not private, slave, "
			"shared or unbindable"},
		{"\"maskedPaths\":[\"/a\",\"b\"]",
			"config.json: linux.maskedPaths[1]: must be an absolute path"},
		{"\"uidMappings\":[{\"containerID\":0,\"hostID\":4294967294,\"size\":2}]",
			"config.json: linux.uidMappings[0]: the range leads beyond 4294967294"},
		{"\"gidMappings\":[{\"containerID\":0,\"hostID\":0,\"size\":0}]",
			"config.json: linux.gidMappings[0]: size: must be over 0"},
	};

	(void)state;
	check_refusals("\"linux\":{%s}", cases, array_size(cases));
}

static void refuses_resources(void **state)
{
	static const struct refusal cases[] = {
		{"\"memory\":{\"limit\":-2}", "config.json: linux.resources.memory.limit: must not "
					      "be negative, save -1: unlimited"},
		{"\"memory\":{\"swappiness\":0}",
			"config.json: linux.resources.memory.swappiness: not supported"},
		{"\"memory\":{\"kernel\":1}",
			"config.json: linux.resources.memory.kernel: not supported"},
		{"\"memory\":{\"kernelTCP\":1}",
			"config.json: linux.resources.memory.kernelTCP: not supported"},
		{"\"memory\":{\"useHierarchy\":false}",
			"config.json: linux.resources.memory.useHierarchy: false is not supported"},
		{"\"cpu\":{\"burst\":1}", "config.json: linux.resources.cpu.burst: not supported"},
		{"\"cpu\":{\"idle\":1}", "config.json: linux.resources.cpu.idle: not supported"},
		{"\"cpu\":{\"realtimeRuntime\":1}",
			"config.json: linux.resources.cpu.realtimeRuntime: not supported"},
		{"\"blockIO\":{\"leafWeight\":1}",
			"config.json: linux.resources.blockIO.leafWeight: not supported"},
		{"\"blockIO\":{\"weightDevice\":[{\"major\":8,\"minor\":0,\"weight\":10}]}",
			"config.json: linux.resources.blockIO.weightDevice: not supported"},
		{"\"blockIO\":{\"weight\":9}",
			"config.json: linux.resources.blockIO.weight: must be between 10 and 1000"},
		{"\"network\":{\"classID\":1}",
			"config.json: linux.resources.network: not supported"},
		{"\"rdma\":{\"a\":{\"hcaHandles\":1}}",
			"config.json: linux.resources.rdma: not supported"},
		{"\"devices\":[{\"access\":\"r\"}]",
			"config.json: linux.resources.devices[0]: key \"allow\" is missing"},
		{"\"devices\":[{\"allow\":true,\"access\":\"x\"}]",
			"config.json: linux.resources.devices[0].access: must be letters of "
			"\"rwm\""},
		{"\"devices\":[{\"allow\":true,\"type\":\"p\"}]",
			"config.json: linux.resources.devices[0].type: must be a, b, c or u"},
		{"\"hugepageLimits\":[{\"pageSize\":\"../x\",\"limit\":1}]",
			"config.json: linux.resources.hugepageLimits[0].pageSize: must be a size "
			"of pages, such as 2MB or 1GB"},
		{"\"unified\":{\"../x\":\"1\"}",
			"config.json: linux.resources.unified: \"../x\" is no file of a control "
			"group"},
	};

	(void)state;
	check_refusals("\"linux\":{\"resources\":{%s}}", cases, array_size(cases));
}

static void refuses_too_many(void **state)
{
	cleanup_arena struct arena a = {0};
	cleanup_buffer struct buffer text = {0};
	struct runtime_spec spec;
	struct error err = {0};

	(void)state;
	buffer_printf(&text, "%s,\"mounts\":[{\"destination\":\"/a\"}", start);
	for (int i = 0; i < 4096; i++)
		buffer_puts(&text, ",{\"destination\":\"/a\"}");
	buffer_puts(&text, "]}");
	assert_int_equal(parse(&a, text.data, &spec, &err), -1);
	assert_int_equal(err.kind, ERROR_LIMIT);
	assert_string_equal(
		err.text, "config.json: mounts: 4097 elements, at most 4096 are allowed");
}

static void names_match(void **state)
{
	uint64_t bit;
	int resource;

	(void)state;
	for (unsigned i = 0; i <= CAP_LAST_CAP; i++) {
		assert_non_null(runtime_capability_name(i));
		assert_true(runtime_capability_parse(runtime_capability_name(i), &bit));
		assert_true(bit == 1ULL << i);
	}
	assert_null(runtime_capability_name(63));
	for (int i = 0; i < RLIM_NLIMITS; i++) {
		assert_non_null(runtime_rlimit_name(i));
		assert_true(runtime_rlimit_parse(runtime_rlimit_name(i), &resource));
		assert_int_equal(resource, i);
	}
	assert_null(runtime_rlimit_name(-1));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_process),
		cmocka_unit_test(reads_a_process_alone),
		cmocka_unit_test(has_defaults),
		cmocka_unit_test(reads_mounts_and_hooks),
		cmocka_unit_test(reads_linux),
		cmocka_unit_test(reads_resources),
		cmocka_unit_test(warns_of_unknown_capabilities),
		cmocka_unit_test(ignores_unknown_members),
		cmocka_unit_test(writes_what_it_read),
		cmocka_unit_test(reads_what_engines_write),
		cmocka_unit_test(refuses_documents),
		cmocka_unit_test(refuses_top),
		cmocka_unit_test(refuses_process),
		cmocka_unit_test(refuses_linux),
		cmocka_unit_test(refuses_resources),
		cmocka_unit_test(refuses_too_many),
		cmocka_unit_test(names_match),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
