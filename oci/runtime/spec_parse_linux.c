// SPDX-License-Identifier: Apache-2.0
//
// "linux" of config.json, without its longer sections (resources, seccomp).
#include "oci/runtime/spec_decode.h"
#include "oci/runtime/spec_names.h"

#include "base/text.h"

struct namespace_entry {
	int type;
	const char *path;
};

static int decode_namespace_type(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	const char *name;
	if (json_decode_string(d, value, &name, err) < 0)
		return -1;
	for (int i = 0; i < RUNTIME_NAMESPACES; i++) {
		if (streq(name, runtime_namespace_names[i])) {
			*(int *)target = i;
			return 0;
		}
	}
	return json_decode_fail(
		d, value, err, ERROR_INVALID, "there are no namespaces of type \"%.32s\"", name);
}

// "" is as good as absent.
static int decode_namespace_path(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	if (value->type == JSON_STRING && !value->length)
		return 0;
	return spec_decode_absolute(d, value, target, err);
}

static int decode_namespace(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	static const struct json_field fields[] = {
		{"type", decode_namespace_type, offsetof(struct namespace_entry, type),
			JSON_REQUIRED},
		{"path", decode_namespace_path, offsetof(struct namespace_entry, path),
			JSON_NULLABLE},
		{0},
	};
	return json_decode_object(d, value, fields, false, target, err);
}

static int decode_namespaces(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	struct runtime_spec *spec = target;
	void *items;
	size_t count;
	if (json_decode_array(d, value, decode_namespace, sizeof(struct namespace_entry),
		    (size_t)RUNTIME_NAMESPACES * 2, &items, &count, err) < 0)
		return -1;
	const struct namespace_entry *entries = items;
	for (size_t i = 0; i < count; i++) {
		struct runtime_namespace *n = &spec->namespaces[entries[i].type];
		if (n->wanted)
			return json_decode_fail(d, value, err, ERROR_INVALID,
				"\"%s\" stands there twice",
				runtime_namespace_names[entries[i].type]);
		*n = (struct runtime_namespace){.wanted = true, .path = entries[i].path};
	}
	return 0;
}

static int decode_device_type(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	const char *type;
	if (json_decode_string(d, value, &type, err) < 0)
		return -1;
	if (strlen(type) != 1 || !strchr("cbup", *type))
		return json_decode_fail(d, value, err, ERROR_INVALID, "must be c, b, u or p");
	*(char *)target = *type == 'u' ? 'c' : *type;
	return 0;
}

// Some engines write the whole st_mode.
static int decode_device_mode(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	uint32_t mode;
	if (spec_decode_u32(d, value, &mode, err) < 0)
		return -1;
	*(mode_t *)target = mode & 07777;
	return 0;
}

static const struct json_field device_fields[] = {
	{"path", spec_decode_absolute, offsetof(struct runtime_device, path), JSON_REQUIRED},
	{"type", decode_device_type, offsetof(struct runtime_device, type), JSON_REQUIRED},
	{"major", json_decode_int64, offsetof(struct runtime_device, major), JSON_NULLABLE},
	{"minor", json_decode_int64, offsetof(struct runtime_device, minor), JSON_NULLABLE},
	{"fileMode", decode_device_mode, offsetof(struct runtime_device, mode), JSON_NULLABLE},
	{"uid", spec_decode_id, offsetof(struct runtime_device, uid), JSON_NULLABLE},
	{"gid", spec_decode_id, offsetof(struct runtime_device, gid), JSON_NULLABLE},
	{0},
};

static int decode_device(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	struct runtime_device *device = target;
	device->major = device->minor = -1;
	if (json_decode_object(d, value, device_fields, false, device, err) < 0)
		return -1;
	if (device->type == 'p')
		device->major = device->minor = 0;
	if (device->major < 0 || device->major > 4095 || device->minor < 0 ||
		device->minor > 1048575)
		return json_decode_fail(d, value, err, ERROR_INVALID,
			"major and minor: must be given, at most 4095 and 1048575");
	return 0;
}

static int decode_devices(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	struct runtime_spec *spec = target;
	void *items;
	if (json_decode_array(d, value, decode_device, sizeof(*spec->devices), SPEC_DEVICES_MAX,
		    &items, &spec->device_count, err) < 0)
		return -1;
	spec->devices = items;
	return 0;
}

static int decode_propagation(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	static const char *const words[] = {"private", "rprivate", "slave", "rslave", "shared",
		"rshared", "unbindable", "runbindable"};
	const char *word;
	if (spec_decode_word(d, value, &word, err) < 0)
		return -1;
	bool known = !word;
	for (size_t i = 0; !known && i < array_size(words); i++)
		known = streq(word, words[i]);
	if (!known)
		return json_decode_fail(d, value, err, ERROR_INVALID,
			"\"%.32s\" is not private, slave, shared or unbindable", word);
	*(const char **)target = word;
	return 0;
}

static int decode_resources(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	struct runtime_spec *spec = target;
	return spec_decode_resources(d, value, &spec->resources, err);
}

static int decode_seccomp(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	struct runtime_spec *spec = target;
	return spec_decode_seccomp(d, value, &spec->seccomp, err);
}

static const struct json_field linux_fields[] = {
	{"uidMappings", spec_decode_id_maps, offsetof(struct runtime_spec, uid_mappings),
		JSON_NULLABLE},
	{"gidMappings", spec_decode_id_maps, offsetof(struct runtime_spec, gid_mappings),
		JSON_NULLABLE},
	{"sysctl", spec_decode_pairs, offsetof(struct runtime_spec, sysctl), JSON_NULLABLE},
	{"resources", decode_resources, 0, JSON_NULLABLE},
	{"cgroupsPath", spec_decode_word, offsetof(struct runtime_spec, cgroups_path),
		JSON_NULLABLE},
	{"namespaces", decode_namespaces, 0, JSON_NULLABLE},
	{"devices", decode_devices, 0, JSON_NULLABLE},
	{"seccomp", decode_seccomp, 0, JSON_NULLABLE},
	{"rootfsPropagation", decode_propagation, offsetof(struct runtime_spec, rootfs_propagation),
		JSON_NULLABLE},
	{"maskedPaths", spec_decode_paths, offsetof(struct runtime_spec, masked_paths),
		JSON_NULLABLE},
	{"readonlyPaths", spec_decode_paths, offsetof(struct runtime_spec, readonly_paths),
		JSON_NULLABLE},
	{"mountLabel", spec_decode_refuse},
	{"intelRdt", spec_decode_refuse},
	{"memoryPolicy", spec_decode_refuse},
	{"netDevices", spec_decode_refuse},
	{"personality", spec_decode_refuse},
	{"timeOffsets", spec_decode_refuse},
	{0},
};

int spec_decode_linux(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	return json_decode_object(d, value, linux_fields, false, target, err);
}
