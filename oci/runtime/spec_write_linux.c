// SPDX-License-Identifier: Apache-2.0
#include "oci/runtime/spec_write.h"

#include "oci/runtime/spec_names.h"

#include <stdio.h>

static void write_rule(struct json_writer *w, const struct runtime_device_rule *rule)
{
	char access[4];
	snprintf(access, sizeof(access), "%s%s%s", rule->read ? "r" : "", rule->write ? "w" : "",
		rule->mknod ? "m" : "");
	json_write_open_object(w);
	json_write_member_bool(w, "allow", rule->allow);
	json_write_member(w, "type", (const char[]){rule->type, '\0'});
	if (rule->major >= 0)
		json_write_member_int(w, "major", rule->major);
	if (rule->minor >= 0)
		json_write_member_int(w, "minor", rule->minor);
	json_write_member(w, "access", access);
	json_write_close_object(w);
}

static void write_rules(struct json_writer *w, const struct runtime_device_rules *rules)
{
	if (!rules->count)
		return;
	json_write_key(w, "devices");
	json_write_open_array(w);
	for (size_t i = 0; i < rules->count; i++)
		write_rule(w, &rules->items[i]);
	json_write_close_array(w);
}

static void write_unsigned(struct json_writer *w, const char *key, uint64_t value)
{
	if (value)
		json_write_member_unsigned(w, key, value);
}

static void write_memory(struct json_writer *w, const struct runtime_resources *r)
{
	if (!r->memory_limit && !r->memory_reservation && !r->memory_swap && !r->disable_oom_killer)
		return;
	json_write_key(w, "memory");
	json_write_open_object(w);
	spec_write_limit(w, "limit", r->memory_limit);
	spec_write_limit(w, "reservation", r->memory_reservation);
	spec_write_limit(w, "swap", r->memory_swap);
	if (r->disable_oom_killer)
		json_write_member_bool(w, "disableOOMKiller", true);
	json_write_close_object(w);
}

static void write_cpu(struct json_writer *w, const struct runtime_resources *r)
{
	if (!r->cpu_shares && !r->cpu_quota && !r->cpu_period && !r->cpus && !r->mems)
		return;
	json_write_key(w, "cpu");
	json_write_open_object(w);
	write_unsigned(w, "shares", r->cpu_shares);
	spec_write_limit(w, "quota", r->cpu_quota);
	write_unsigned(w, "period", r->cpu_period);
	spec_write_word(w, "cpus", r->cpus);
	spec_write_word(w, "mems", r->mems);
	json_write_close_object(w);
}

static void write_throttles(
	struct json_writer *w, const char *key, const struct runtime_throttles *throttles)
{
	if (!throttles->count)
		return;
	json_write_key(w, key);
	json_write_open_array(w);
	for (size_t i = 0; i < throttles->count; i++) {
		const struct runtime_throttle *t = &throttles->items[i];
		json_write_open_object(w);
		json_write_member_int(w, "major", t->major);
		json_write_member_int(w, "minor", t->minor);
		json_write_member_unsigned(w, "rate", t->rate);
		json_write_close_object(w);
	}
	json_write_close_array(w);
}

static void write_block_io(struct json_writer *w, const struct runtime_resources *r)
{
	if (!r->block_weight && !r->read_bytes.count && !r->write_bytes.count &&
		!r->read_operations.count && !r->write_operations.count)
		return;
	json_write_key(w, "blockIO");
	json_write_open_object(w);
	write_unsigned(w, "weight", r->block_weight);
	write_throttles(w, "throttleReadBpsDevice", &r->read_bytes);
	write_throttles(w, "throttleWriteBpsDevice", &r->write_bytes);
	write_throttles(w, "throttleReadIOPSDevice", &r->read_operations);
	write_throttles(w, "throttleWriteIOPSDevice", &r->write_operations);
	json_write_close_object(w);
}

static void write_hugepages(struct json_writer *w, const struct runtime_resources *r)
{
	if (!r->hugepage_count)
		return;
	json_write_key(w, "hugepageLimits");
	json_write_open_array(w);
	for (size_t i = 0; i < r->hugepage_count; i++) {
		json_write_open_object(w);
		json_write_member(w, "pageSize", r->hugepages[i].page_size);
		json_write_member_unsigned(w, "limit", r->hugepages[i].limit);
		json_write_close_object(w);
	}
	json_write_close_array(w);
}

void spec_write_resources(struct json_writer *w, const struct runtime_resources *r)
{
	json_write_key(w, "resources");
	json_write_open_object(w);
	write_rules(w, &r->devices);
	write_memory(w, r);
	write_cpu(w, r);
	if (r->pids_limit) {
		json_write_key(w, "pids");
		json_write_open_object(w);
		spec_write_limit(w, "limit", r->pids_limit);
		json_write_close_object(w);
	}
	write_block_io(w, r);
	write_hugepages(w, r);
	spec_write_pairs(w, "unified", &r->unified);
	json_write_close_object(w);
}

static void write_argument(struct json_writer *w, const struct runtime_seccomp_argument *argument)
{
	json_write_open_object(w);
	json_write_member_int(w, "index", argument->index);
	json_write_member_unsigned(w, "value", argument->value);
	json_write_member_unsigned(w, "valueTwo", argument->value_two);
	json_write_member(w, "op", argument->op);
	json_write_close_object(w);
}

static void write_seccomp_rule(struct json_writer *w, const struct runtime_seccomp_rule *rule)
{
	json_write_open_object(w);
	spec_write_words(w, "names", &rule->names);
	json_write_member(w, "action", rule->action);
	if (rule->has_errno)
		json_write_member_int(w, "errnoRet", rule->errno_value);
	if (rule->argument_count) {
		json_write_key(w, "args");
		json_write_open_array(w);
		for (size_t i = 0; i < rule->argument_count; i++)
			write_argument(w, &rule->arguments[i]);
		json_write_close_array(w);
	}
	json_write_close_object(w);
}

void spec_write_seccomp(struct json_writer *w, const struct runtime_seccomp *s)
{
	if (!s->default_action)
		return;
	json_write_key(w, "seccomp");
	json_write_open_object(w);
	json_write_member(w, "defaultAction", s->default_action);
	if (s->has_default_errno)
		json_write_member_int(w, "defaultErrnoRet", s->default_errno);
	spec_write_words(w, "architectures", &s->architectures);
	spec_write_words(w, "flags", &s->flags);
	if (s->rule_count) {
		json_write_key(w, "syscalls");
		json_write_open_array(w);
		for (size_t i = 0; i < s->rule_count; i++)
			write_seccomp_rule(w, &s->rules[i]);
		json_write_close_array(w);
	}
	json_write_close_object(w);
}

static void write_namespaces(struct json_writer *w, const struct runtime_spec *spec)
{
	json_write_key(w, "namespaces");
	json_write_open_array(w);
	for (size_t i = 0; i < RUNTIME_NAMESPACES; i++) {
		if (!spec->namespaces[i].wanted)
			continue;
		json_write_open_object(w);
		json_write_member(w, "type", runtime_namespace_names[i]);
		spec_write_word(w, "path", spec->namespaces[i].path);
		json_write_close_object(w);
	}
	json_write_close_array(w);
}

static void write_devices(struct json_writer *w, const struct runtime_spec *spec)
{
	if (!spec->device_count)
		return;
	json_write_key(w, "devices");
	json_write_open_array(w);
	for (size_t i = 0; i < spec->device_count; i++) {
		const struct runtime_device *device = &spec->devices[i];
		json_write_open_object(w);
		json_write_member(w, "path", device->path);
		json_write_member(w, "type", (const char[]){device->type, '\0'});
		json_write_member_int(w, "major", device->major);
		json_write_member_int(w, "minor", device->minor);
		if (device->mode)
			json_write_member_int(w, "fileMode", device->mode);
		json_write_member_int(w, "uid", device->uid);
		json_write_member_int(w, "gid", device->gid);
		json_write_close_object(w);
	}
	json_write_close_array(w);
}

void spec_write_linux(struct json_writer *w, const struct runtime_spec *spec)
{
	json_write_open_object(w);
	spec_write_id_maps(w, "uidMappings", &spec->uid_mappings);
	spec_write_id_maps(w, "gidMappings", &spec->gid_mappings);
	spec_write_pairs(w, "sysctl", &spec->sysctl);
	spec_write_word(w, "cgroupsPath", spec->cgroups_path);
	spec_write_resources(w, &spec->resources);
	write_namespaces(w, spec);
	write_devices(w, spec);
	spec_write_seccomp(w, &spec->seccomp);
	spec_write_word(w, "rootfsPropagation", spec->rootfs_propagation);
	spec_write_words(w, "maskedPaths", &spec->masked_paths);
	spec_write_words(w, "readonlyPaths", &spec->readonly_paths);
	json_write_close_object(w);
}
