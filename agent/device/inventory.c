// SPDX-License-Identifier: Apache-2.0
//
// What is one device: names that lead to the same nodes are one, and nodes that every device of a
// kind has are the driver's.
#include "agent/device/internal.h"
#include "base/sha256.h"
#include "base/text.h"

#include <stdlib.h>

// Of the driver as a whole, wherever a file lists them.
static bool is_control(const char *path)
{
	static const char *const names[] = {"/dev/nvidiactl", "/dev/nvidia-uvm",
		"/dev/nvidia-uvm-tools", "/dev/nvidia-modeset", "/dev/nvidia-nvlink",
		"/dev/nvidia-nvswitchctl", "/dev/kfd", "/dev/vfio/vfio", "/dev/gdrdrv"};
	for (size_t i = 0; i < array_size(names); i++)
		if (streq(path, names[i]))
			return true;
	return starts_with(path, "/dev/nvidia-caps-imex-channels/") ||
	       starts_with(path, "/dev/nvidia-nvswitch");
}

// A GPU's instance and its compute instance (MIG).
static bool is_partition_node(const char *path)
{
	return path && starts_with(path, "/dev/nvidia-caps/");
}

static bool in_global_edits(const struct cdi *cdi, const char *host_path)
{
	size_t count;
	const struct cdi_file *files = cdi_files(cdi, &count);
	for (size_t i = 0; i < count; i++)
		for (size_t k = 0; k < files[i].edits.node_count; k++)
			if (streq(files[i].edits.nodes[k].host_path, host_path))
				return true;
	return false;
}

static int compare_keys(const void *a, const void *b)
{
	return strcmp(((const struct device_key *)a)->name, ((const struct device_key *)b)->name);
}

static void add_key(struct devices *all, struct device *d, const struct cdi_node *n)
{
	struct device_key key = {.path = n->path, .host_path = n->host_path, .exclusive = true};
	struct error ignored;
	if (cdi_node_resolve(n, &key.type, &key.major, &key.minor, &ignored) < 0) {
		key.missing = true;
		key.name = arena_printf(&all->arena, "missing %s", n->host_path);
	} else if (key.type == 'p') {
		return;
	} else {
		key.type = key.type == 'u' ? 'c' : key.type;
		key.name = arena_printf(&all->arena, "%c%lld-%lld", key.type, (long long)key.major,
			(long long)key.minor);
	}
	for (size_t i = 0; i < d->key_count; i++)
		if (streq(d->keys[i].name, key.name))
			return;
	d->keys[d->key_count++] = key;
	d->partition = d->partition || is_partition_node(key.host_path);
}

static void add_device(struct devices *all, const struct cdi_device *cdi)
{
	struct device *d = &all->items[all->count++];
	*d = (struct device){.cdi = cdi};
	d->keys = arena_array(&all->arena, struct device_key, cdi->edits.node_count + 1);
	for (size_t i = 0; i < cdi->edits.node_count; i++) {
		const struct cdi_node *n = &cdi->edits.nodes[i];
		if (!is_control(n->host_path) && !in_global_edits(all->cdi, n->host_path))
			add_key(all, d, n);
	}
	if (d->key_count)
		qsort(d->keys, d->key_count, sizeof(*d->keys), compare_keys);
}

static const struct device_key *find_key(const struct device *d, const char *name)
{
	for (size_t i = 0; i < d->key_count; i++)
		if (streq(d->keys[i].name, name))
			return &d->keys[i];
	return NULL;
}

static bool is_subset(const struct device *a, const struct device *b)
{
	for (size_t i = 0; i < a->key_count; i++)
		if (!find_key(b, a->keys[i].name))
			return false;
	return true;
}

static bool same_kind(const struct device *a, const struct device *b)
{
	return streq(a->cdi->kind, b->cdi->kind);
}

static bool same_nodes(const struct device *a, const struct device *b)
{
	return a->key_count == b->key_count && is_subset(a, b);
}

// A node that all devices of the kind have is no single one's. Only where they differ otherwise:
// one GPU under three names has all nodes in common.
static bool is_common(const struct devices *all, const struct device *d, const char *key)
{
	bool differ = false;
	for (size_t i = 0; i < all->count; i++) {
		const struct device *other = &all->items[i];
		if (!same_kind(d, other) || other->partition)
			continue;
		if (!find_key(other, key) || other->key_count < 2)
			return false;
		differ = differ || !same_nodes(d, other);
	}
	return differ;
}

// Would nothing be left to tell a device of this kind by?
static bool would_empty(const struct devices *all, const struct device *d)
{
	for (size_t i = 0; i < all->count; i++) {
		const struct device *other = &all->items[i];
		size_t common = 0;
		if (!same_kind(d, other) || other->partition || !other->key_count)
			continue;
		while (common < other->key_count && is_common(all, other, other->keys[common].name))
			common++;
		if (common == other->key_count)
			return true;
	}
	return false;
}

static void drop_common(struct devices *all)
{
	cleanup_free size_t *kept = xcalloc(all->count + 1, sizeof(*kept));
	for (size_t i = 0; i < all->count; i++) {
		struct device *d = &all->items[i];
		bool keep_all = d->partition || would_empty(all, d);
		// To the front, the others behind: nothing may be lost while others are compared.
		for (size_t k = 0; k < d->key_count; k++) {
			struct device_key key = d->keys[k];
			if (!keep_all && is_common(all, d, key.name))
				continue;
			d->keys[k] = d->keys[kept[i]];
			d->keys[kept[i]++] = key;
		}
	}
	for (size_t i = 0; i < all->count; i++) {
		struct device *d = &all->items[i];
		d->key_count = kept[i];
		if (d->key_count)
			qsort(d->keys, d->key_count, sizeof(*d->keys), compare_keys);
	}
}

static int preference(const struct device *d)
{
	const char *unit = d->cdi->unit;
	if (starts_with(unit, "GPU-") || starts_with(unit, "MIG-"))
		return 2;
	return streq(unit, "all") ? 0 : 1;
}

static void add_name(struct arena *a, struct device *d, const char *name)
{
	const char **items = arena_array(a, const char *, d->names.count + 2);
	if (d->names.count)
		memcpy(items, d->names.items, d->names.count * sizeof(*items));
	items[d->names.count] = name;
	d->names = (struct json_strings){.items = items, .count = d->names.count + 1};
}

// Names that lead to the same nodes become one device, under the preferred of them.
static void join_names(struct devices *all)
{
	size_t kept = 0;
	for (size_t i = 0; i < all->count; i++) {
		struct device d = all->items[i], *same = NULL;
		for (size_t k = 0; k < kept && d.key_count && !same; k++)
			if (same_kind(&d, &all->items[k]) && same_nodes(&d, &all->items[k]))
				same = &all->items[k];
		if (!same) {
			same = &all->items[kept++];
			*same = d;
		} else if (preference(&d) > preference(same)) {
			same->cdi = d.cdi;
		}
		add_name(&all->arena, same, d.cdi->name);
	}
	all->count = kept;
}

// "all", or exactly what two or more others have together.
static bool is_aggregate(const struct devices *all, const struct device *d)
{
	size_t parts = 0, covered = 0, of_kind = 0;
	for (size_t i = 0; i < all->count; i++) {
		const struct device *other = &all->items[i];
		of_kind += other != d && same_kind(d, other);
		parts += other != d && same_kind(d, other) && other->key_count &&
			 is_subset(other, d);
	}
	for (size_t k = 0; k < d->key_count; k++) {
		bool found = false;
		for (size_t i = 0; i < all->count && !found; i++) {
			const struct device *other = &all->items[i];
			found = other != d && same_kind(d, other) && is_subset(other, d) &&
				find_key(other, d->keys[k].name);
		}
		covered += found;
	}
	return (streq(d->cdi->unit, "all") && of_kind) || (parts >= 2 && covered == d->key_count);
}

static bool has_sibling(const struct devices *all, const struct device *d, const char *key)
{
	for (size_t i = 0; i < all->count; i++) {
		const struct device *other = &all->items[i];
		if (other != d && other->partition && !other->aggregate && find_key(other, key))
			return true;
	}
	return false;
}

// A partition has its own nodes alone, and the GPU's, and an instance's node that two compute
// instances use, together with its siblings.
static void share_keys(struct devices *all, struct device *d)
{
	size_t own = 0;
	if (!d->partition)
		return;
	for (size_t k = 0; k < d->key_count; k++) {
		struct device_key *key = &d->keys[k];
		key->exclusive = is_partition_node(key->host_path) &&
				 (d->aggregate || !has_sibling(all, d, key->name));
		own += key->exclusive;
	}
	for (size_t k = 0; k < d->key_count && !own; k++)
		d->keys[k].exclusive = true;
}

static bool is_divided(const struct devices *all, const struct device *d)
{
	if (d->partition)
		return false;
	for (size_t i = 0; i < all->count; i++) {
		const struct device *other = &all->items[i];
		if (!other->partition || other->aggregate)
			continue;
		for (size_t k = 0; k < other->key_count; k++)
			if (find_key(d, other->keys[k].name))
				return true;
	}
	return false;
}

const char *device_file_name(struct arena *a, const char *name)
{
	uint8_t digest[SHA256_SIZE];
	char hex[SHA256_HEX_SIZE];
	sha256_of(name, strlen(name), digest);
	sha256_hex(digest, hex);
	char *safe = arena_printf(a, "%.160s-%.8s", name, hex);
	for (char *p = safe; *p; p++)
		if (*p == '/' || *p == '=' || *p == ':')
			*p = '_';
	return safe;
}

static void add_name_key(struct devices *all, struct device *d)
{
	const char *safe = device_file_name(&all->arena, d->cdi->name);
	d->keys[d->key_count++] = (struct device_key){
		.name = arena_printf(&all->arena, "name-%s", safe), .exclusive = true};
}

struct devices *devices_new(const struct cdi *cdi, const struct device_places *places)
{
	struct devices *all = xcalloc(1, sizeof(*all));
	size_t count;
	const struct cdi_device *found = cdi_devices(cdi, &count);
	*all = (struct devices){.cdi = cdi, .places = places};
	all->items = arena_array(&all->arena, struct device, count);
	for (size_t i = 0; i < count; i++)
		if (!found[i].conflict)
			add_device(all, &found[i]);
	drop_common(all);
	join_names(all);
	for (size_t i = 0; i < all->count; i++)
		all->items[i].aggregate = is_aggregate(all, &all->items[i]);
	for (size_t i = 0; i < all->count; i++) {
		all->items[i].divided = is_divided(all, &all->items[i]);
		share_keys(all, &all->items[i]);
	}
	for (size_t i = 0; i < all->count; i++)
		if (!all->items[i].key_count)
			add_name_key(all, &all->items[i]);
	return all;
}

void devices_free(struct devices *d)
{
	if (!d)
		return;
	arena_release(&d->arena);
	free(d);
}

bool device_is_gpu(const struct device *d)
{
	return streq(strchr(d->cdi->kind, '/') + 1, "gpu") && !d->aggregate && !d->divided;
}

bool device_has_name(const struct device *d, const char *name)
{
	for (size_t i = 0; i < d->names.count; i++)
		if (streq(d->names.items[i], name))
			return true;
	return false;
}

bool device_clash(const struct device *a, const struct device *b)
{
	for (size_t i = 0; i < a->key_count; i++) {
		const struct device_key *key = find_key(b, a->keys[i].name);
		if (key && (key->exclusive || a->keys[i].exclusive))
			return true;
	}
	return false;
}

int devices_find(
	const struct devices *d, const char *name, const struct device **device, struct error *err)
{
	const struct cdi_device *found;
	if (cdi_find(d->cdi, name, &found, err) < 0)
		return -1;
	for (size_t i = 0; i < d->count; i++) {
		if (device_has_name(&d->items[i], name)) {
			*device = &d->items[i];
			return 0;
		}
	}
	return error_set(err, ERROR_NOT_FOUND, "%s: there is no such device", name);
}

const char *device_missing_node(const struct device *d)
{
	for (size_t i = 0; i < d->key_count; i++)
		if (d->keys[i].missing)
			return d->keys[i].host_path;
	return NULL;
}
