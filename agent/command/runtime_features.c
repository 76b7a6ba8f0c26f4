// SPDX-License-Identifier: Apache-2.0
//
// `stoker runtime features` and `spec`: what we can do, and a config.json to begin with.
#include "agent/command/runtime.h"

#include "base/file.h"
#include "base/json_write.h"
#include "base/text.h"
#include "oci/runtime/mount_words.h"
#include "oci/runtime/spec_names.h"

#include <stdio.h>
#include <unistd.h>

static void write_list(
	struct json_writer *w, const char *key, const char *const *items, size_t count)
{
	json_write_key(w, key);
	json_write_open_array(w);
	for (size_t i = 0; i < count; i++)
		json_write_string(w, items[i]);
	json_write_close_array(w);
}

static void write_mount_options(struct json_writer *w)
{
	cleanup_arena struct arena a = {0};
	struct json_strings words;
	mount_words_list(&a, &words);
	write_list(w, "mountOptions", words.items, words.count);
}

static void write_namespaces(struct json_writer *w)
{
	json_write_key(w, "namespaces");
	json_write_open_array(w);
	for (size_t i = 0; i < RUNTIME_NAMESPACES; i++)
		if (i != RUNTIME_NAMESPACE_TIME)
			json_write_string(w, runtime_namespace_names[i]);
	json_write_close_array(w);
}

static void write_capabilities(struct json_writer *w)
{
	const char *name;
	json_write_key(w, "capabilities");
	json_write_open_array(w);
	for (unsigned i = 0; (name = runtime_capability_name(i)) != NULL; i++)
		json_write_string(w, name);
	json_write_close_array(w);
}

static void write_cgroup(struct json_writer *w)
{
	json_write_key(w, "cgroup");
	json_write_open_object(w);
	json_write_member_bool(w, "v1", true);
	json_write_member_bool(w, "v2", true);
	json_write_member_bool(w, "systemd", false);
	json_write_member_bool(w, "systemdUser", false);
	json_write_member_bool(w, "rdma", false);
	json_write_close_object(w);
}

static void write_seccomp(struct json_writer *w)
{
	static const char *const actions[] = {"SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", "SCMP_ACT_KILL",
		"SCMP_ACT_KILL_PROCESS", "SCMP_ACT_KILL_THREAD", "SCMP_ACT_LOG", "SCMP_ACT_TRACE",
		"SCMP_ACT_TRAP"};
	static const char *const operators[] = {"SCMP_CMP_EQ", "SCMP_CMP_GE", "SCMP_CMP_GT",
		"SCMP_CMP_LE", "SCMP_CMP_LT", "SCMP_CMP_MASKED_EQ", "SCMP_CMP_NE"};
	static const char *const archs[] = {"SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM", "SCMP_ARCH_MIPS",
		"SCMP_ARCH_MIPS64", "SCMP_ARCH_MIPS64N32", "SCMP_ARCH_MIPSEL", "SCMP_ARCH_MIPSEL64",
		"SCMP_ARCH_MIPSEL64N32", "SCMP_ARCH_PPC", "SCMP_ARCH_PPC64", "SCMP_ARCH_PPC64LE",
		"SCMP_ARCH_RISCV64", "SCMP_ARCH_S390", "SCMP_ARCH_S390X", "SCMP_ARCH_X32",
		"SCMP_ARCH_X86", "SCMP_ARCH_X86_64"};
	static const char *const flags[] = {"SECCOMP_FILTER_FLAG_LOG",
		"SECCOMP_FILTER_FLAG_SPEC_ALLOW", "SECCOMP_FILTER_FLAG_TSYNC",
		"SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"};
	json_write_key(w, "seccomp");
	json_write_open_object(w);
	json_write_member_bool(w, "enabled", true);
	write_list(w, "actions", actions, array_size(actions));
	write_list(w, "operators", operators, array_size(operators));
	write_list(w, "archs", archs, array_size(archs));
	write_list(w, "knownFlags", flags, array_size(flags));
	write_list(w, "supportedFlags", flags, array_size(flags));
	json_write_close_object(w);
}

static void write_enabled(struct json_writer *w, const char *key, bool enabled)
{
	json_write_key(w, key);
	json_write_open_object(w);
	json_write_member_bool(w, "enabled", enabled);
	json_write_close_object(w);
}

static void write_linux(struct json_writer *w)
{
	json_write_key(w, "linux");
	json_write_open_object(w);
	write_namespaces(w);
	write_capabilities(w);
	write_cgroup(w);
	write_seccomp(w);
	write_enabled(w, "apparmor", false);
	write_enabled(w, "selinux", false);
	write_enabled(w, "intelRdt", false);
	json_write_key(w, "mountExtensions");
	json_write_open_object(w);
	write_enabled(w, "idmap", true);
	json_write_close_object(w);
	json_write_close_object(w);
}

int runtime_verb_features(struct runtime_command *r, int argc, char **argv, struct error *err)
{
	static const struct options_usage usage = {.verb = "runtime features",
		.arguments = "",
		.summary = "Show what is supported, as JSON.",
		.most = 0};
	cleanup_json_writer struct json_writer *w = json_writer_new(true);
	cleanup_buffer struct buffer text = {0};
	char **rest;
	int count;
	int rc = runtime_options(r, NULL, &usage, false, argc, argv, &rest, &count, err);
	if (rc != OPTIONS_OK)
		return rc == OPTIONS_HELP ? 0 : -1;
	json_write_open_object(w);
	json_write_member(w, "ociVersionMin", "1.0.0");
	json_write_member(w, "ociVersionMax", RUNTIME_SPEC_VERSION);
	write_list(w, "hooks", runtime_hook_names, RUNTIME_HOOK_POINTS);
	write_mount_options(w);
	write_linux(w);
	json_write_key(w, "annotations");
	json_write_open_object(w);
	json_write_member(w, "stoker.version", STOKER_VERSION);
	json_write_close_object(w);
	json_write_key(w, "potentiallyUnsafeConfigAnnotations");
	json_write_open_array(w); // annotations mean nothing to us
	json_write_close_array(w);
	json_write_close_object(w);
	if (json_writer_finish(w, &text, err) < 0)
		return -1;
	fputs(text.data, stdout);
	return 0;
}

static int default_document(struct buffer *text, struct error *err)
{
	cleanup_arena struct arena a = {0};
	struct runtime_spec spec = {0};
	const char *args[] = {"sh", NULL};
	const char *env[] = {"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"TERM=xterm", NULL};
	container_default_spec(&a, &spec, 0);
	spec.version = RUNTIME_SPEC_VERSION;
	spec.root_path = "rootfs";
	spec.root_read_only = true;
	spec.hostname = "stoker";
	spec.has_process = true;
	spec.process.terminal = true;
	spec.process.cwd = "/";
	spec.process.args = (struct json_strings){.items = args, .count = 1};
	spec.process.env = (struct json_strings){.items = env, .count = 2};
	return runtime_spec_write(&spec, text, err);
}

int runtime_verb_spec(struct runtime_command *r, int argc, char **argv, struct error *err)
{
	static const struct options_usage usage = {.verb = "runtime spec",
		.arguments = "",
		.summary = "Write a config.json to begin with. One that is there stays.",
		.most = 0};
	const char *bundle = ".";
	const struct option options[] = {
		{OPTION_STRING, 'b', "bundle", "DIR", "where, instead of the current folder",
			&bundle},
		{OPTION_END},
	};
	cleanup_buffer struct buffer text = {0};
	char **rest;
	int count;
	int rc = runtime_options(r, options, &usage, false, argc, argv, &rest, &count, err);
	if (rc != OPTIONS_OK)
		return rc == OPTIONS_HELP ? 0 : -1;
	cleanup_fd int folder = directory_open(AT_FDCWD, bundle, err);
	if (folder < 0)
		return -1;
	if (faccessat(folder, "config.json", F_OK, 0) == 0)
		return error_set(err, ERROR_INVALID, "%s: there is a config.json already", bundle);
	if (default_document(&text, err) < 0)
		return -1;
	return file_write_atomic(folder, "config.json", text.data, text.size, 0644, err);
}
