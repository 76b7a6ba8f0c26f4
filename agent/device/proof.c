// SPDX-License-Identifier: Apache-2.0
//
// Is a device free?
#include "agent/device/internal.h"
#include "agent/device/nvml.h"
#include "base/text.h"
#include "base/weaken.h"

#include <string.h>
#include <unistd.h>

enum { NVML_TIMEOUT_MS = 15000, SHOWN = 3 };

int device_openers(const struct device *const *devices, size_t device_count, struct arena *a,
	struct opener **openers, size_t *count, struct error *err)
{
	size_t room = 0, node_count = 0;
	for (size_t i = 0; i < device_count; i++)
		room += devices[i]->key_count;
	struct openers_node *nodes = arena_array(a, struct openers_node, room);
	*openers = arena_array(a, struct opener, OPENERS_MAX);
	for (size_t i = 0; i < device_count; i++) {
		for (size_t k = 0; k < devices[i]->key_count; k++) {
			const struct device_key *key = &devices[i]->keys[k];
			// Siblings may have open what is shared.
			if (key->host_path && key->exclusive && !key->missing)
				nodes[node_count++] = (struct openers_node){key->type,
					(unsigned)key->major, (unsigned)key->minor, key->host_path};
		}
	}
	return openers_find(nodes, node_count, *openers, count, err);
}

static bool is_known(const struct opener *known, size_t count, pid_t pid, uint64_t start)
{
	for (size_t i = 0; i < count; i++)
		if (known[i].pid == pid && (!start || known[i].start == start))
			return true;
	return false;
}

static int prove_closed(const struct device *d, const struct opener *known, size_t known_count,
	struct arena *a, const char **reason, struct error *err)
{
	struct opener *openers;
	size_t count, unknown = 0;
	cleanup_buffer struct buffer text = {0};
	if (device_openers(&d, 1, a, &openers, &count, err) < 0)
		return -1;
	for (size_t i = 0; i < count; i++) {
		const struct opener *o = &openers[i];
		if (is_known(known, known_count, o->pid, o->start))
			continue;
		if (unknown++ < SHOWN)
			buffer_printf(&text, "%s%d (%s)", unknown > 1 ? ", " : "", (int)o->pid,
				o->command);
	}
	if (!unknown)
		return 1;
	if (unknown > SHOWN)
		buffer_printf(&text, " and %zu more", unknown - SHOWN);
	*reason =
		arena_printf(a, "still open in process%s %s", unknown == 1 ? "" : "es", text.data);
	return 0;
}

static const char *uuid_of(const struct device *d)
{
	for (size_t i = 0; i < d->names.count; i++) {
		const char *unit = strchr(d->names.items[i], '=') + 1;
		if (starts_with(unit, "GPU-") || starts_with(unit, "MIG-"))
			return unit;
	}
	return NULL;
}

// /dev/nvidia7's minor number is NVML's.
static int64_t gpu_minor(const struct device *d)
{
	for (size_t i = 0; i < d->key_count; i++) {
		const char *path = d->keys[i].host_path;
		uint64_t number;
		if (path && starts_with(path, "/dev/nvidia") &&
			parse_u64(path + strlen("/dev/nvidia"), &number))
			return d->keys[i].minor;
	}
	return -1;
}

static int prove_idle(const struct devices *all, const struct device *d, const struct opener *known,
	size_t known_count, struct arena *a, const char **reason, struct error *err)
{
	const char *library = all->places->nvml_library;
	int timeout = all->places->nvml_timeout_ms;
	const char *uuid = uuid_of(d);
	int64_t minor = gpu_minor(d);
	struct nvml_answer answer;
	unsigned unknown = 0;
	pid_t first = 0;
	if (!strstr(d->cdi->kind, "nvidia.com/") || (!uuid && (minor < 0 || d->partition)))
		return 1;
	if (nvml_ask(library ? library : "libnvidia-ml.so.1", uuid, minor,
		    timeout ? timeout : NVML_TIMEOUT_MS, &answer, err) < 0)
		return -1;
	if (answer.known && answer.lost) {
		text_flatten(answer.problem);
		*reason = arena_printf(a, "NVML: %s", answer.problem);
		return 0;
	}
	for (unsigned i = 0; i < answer.count; i++) {
		if (is_known(known, known_count, answer.pids[i], 0))
			continue;
		first = unknown++ ? first : answer.pids[i];
	}
	if (!unknown)
		return 1;
	char size[FORMAT_SIZE_MAX];
	*reason = arena_printf(a, "NVML: process %d%s computes on it, %s of its memory are in use",
		(int)first, unknown > 1 ? " and others" : "",
		format_size(answer.memory_used, size));
	return 0;
}

int device_prove(const struct devices *all, const struct device *d, const struct opener *known,
	size_t known_count, struct arena *a, const char **reason, struct error *err)
{
	if (weakened("device-proof"))
		return 1;
	int rc = prove_closed(d, known, known_count, a, reason, err);
	return rc <= 0 ? rc : prove_idle(all, d, known, known_count, a, reason, err);
}
