// SPDX-License-Identifier: Apache-2.0
#include "oci/layer/erofs_tree.h"

#include <limits.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/stat.h>

enum { LINKS_MAX = 40 }; // symbolic links followed for one path, as the kernel does

static inline uint64_t rotate(uint64_t v, int bits)
{
	return v << bits | v >> (64 - bits);
}

static inline void sip_round(uint64_t v[4])
{
	v[0] += v[1], v[1] = rotate(v[1], 13) ^ v[0], v[0] = rotate(v[0], 32);
	v[2] += v[3], v[3] = rotate(v[3], 16) ^ v[2];
	v[0] += v[3], v[3] = rotate(v[3], 21) ^ v[0];
	v[2] += v[1], v[1] = rotate(v[1], 17) ^ v[2], v[2] = rotate(v[2], 32);
}

// SipHash-1-3 of the name, started from the directory. The names are a stranger's: with a hash that
// he can compute, one archive would make every lookup a walk through all names.
static uint32_t hash(
	const struct erofs_tree *t, uint32_t directory, const char *name, size_t length)
{
	uint64_t v[4] = {t->key[0] ^ UINT64_C(0x736f6d6570736575),
		t->key[1] ^ UINT64_C(0x646f72616e646f6d), t->key[0] ^ UINT64_C(0x6c7967656e657261),
		t->key[1] ^ UINT64_C(0x7465646279746573)};
	uint64_t word = directory;
	v[3] ^= word, sip_round(v), v[0] ^= word;
	size_t rest = length;
	for (; rest >= 8; rest -= 8, name += 8) {
		memcpy(&word, name, 8);
		v[3] ^= word, sip_round(v), v[0] ^= word;
	}
	word = (uint64_t)length << 56;
	for (size_t i = 0; i < rest; i++)
		word |= (uint64_t)(uint8_t)name[i] << 8 * i;
	v[3] ^= word, sip_round(v), v[0] ^= word;
	v[2] ^= 0xff;
	sip_round(v), sip_round(v), sip_round(v);
	return (uint32_t)(v[0] ^ v[1] ^ v[2] ^ v[3]);
}

static uint32_t new_directory(struct erofs_tree *t, uint32_t parent)
{
	if (t->directory_count == t->directory_capacity) {
		t->directory_capacity = t->directory_capacity ? t->directory_capacity * 2 : 64;
		t->directories = xreallocarray(
			t->directories, t->directory_capacity, sizeof(*t->directories));
	}
	t->directories[t->directory_count] = (struct erofs_directory){
		.mode = S_IFDIR | 0755, .parent = parent, .implicit = true};
	return t->directory_count++;
}

void erofs_tree_init(struct erofs_tree *t, uint64_t memory_limit)
{
	*t = (struct erofs_tree){
		.memory_limit = memory_limit, .steps = {STEPS_FIRST}, .bucket_count = 1024};
	t->buckets = xreallocarray(NULL, t->bucket_count, sizeof(*t->buckets));
	memset(t->buckets, 0xff, t->bucket_count * sizeof(*t->buckets));
	t->parent_path = xmalloc(PATH_MAX + 1);
	// The kernel's 16 random bytes: no system call, so it works behind any seccomp filter.
	const void *random = (const void *)getauxval(AT_RANDOM);
	if (random)
		memcpy(t->key, random, sizeof(t->key));
	new_directory(t, 0);
}

void erofs_tree_release(struct erofs_tree *t)
{
	arena_release(&t->arena);
	buffer_release(&t->names);
	free(t->nodes);
	free(t->directories);
	free(t->buckets);
	free(t->parent_path);
}

int erofs_tree_charge(struct erofs_tree *t, uint64_t size, struct error *err)
{
	if (size > t->memory_limit - t->memory)
		return error_set(err, ERROR_LIMIT,
			"the layer's names and attributes need more than the limit of %llu bytes "
			"(metadata_bytes)",
			(unsigned long long)t->memory_limit);
	t->memory += size;
	return 0;
}

uint32_t erofs_tree_find(
	const struct erofs_tree *t, uint32_t directory, const char *name, size_t length)
{
	uint32_t i = t->buckets[hash(t, directory, name, length) & (t->bucket_count - 1)];
	for (; i != EROFS_NONE; i = t->nodes[i].next) {
		const struct erofs_node *n = &t->nodes[i];
		if (n->parent == directory && n->name_length == length &&
			memcmp(erofs_tree_name(t, n), name, length) == 0)
			return i;
	}
	return EROFS_NONE;
}

static void grow_buckets(struct erofs_tree *t)
{
	t->bucket_count *= 2;
	t->buckets = xreallocarray(t->buckets, t->bucket_count, sizeof(*t->buckets));
	memset(t->buckets, 0xff, t->bucket_count * sizeof(*t->buckets));
	for (uint32_t i = 0; i < t->node_count; i++) {
		struct erofs_node *n = &t->nodes[i];
		uint32_t h = hash(t, n->parent, erofs_tree_name(t, n), n->name_length);
		uint32_t *bucket = &t->buckets[h & (t->bucket_count - 1)];
		n->next = *bucket;
		*bucket = i;
	}
}

// Append to the names. `names` never outgrows 32-bit offsets: its bytes are charged.
static int add_name(
	struct erofs_tree *t, const char *name, size_t length, uint32_t *offset, struct error *err)
{
	if (erofs_tree_charge(t, length, err) < 0)
		return -1;
	if (t->names.size + length > UINT32_MAX)
		return error_set(
			err, ERROR_LIMIT, "the layer's names are longer than 4 GiB in all");
	*offset = (uint32_t)t->names.size;
	buffer_append(&t->names, name, length);
	return 0;
}

static uint32_t new_node(struct erofs_tree *t, uint32_t directory, const char *name, size_t length,
	struct error *err)
{
	uint32_t offset = 0;
	if (erofs_tree_charge(t, sizeof(struct erofs_node), err) < 0 ||
		add_name(t, name, length, &offset, err) < 0)
		return EROFS_NONE;
	if (t->node_count == t->node_capacity) {
		t->node_capacity = t->node_capacity ? t->node_capacity * 2 : 256;
		t->nodes = xreallocarray(t->nodes, t->node_capacity, sizeof(*t->nodes));
	}
	if (t->node_count == t->bucket_count)
		grow_buckets(t);
	uint32_t *bucket = &t->buckets[hash(t, directory, name, length) & (t->bucket_count - 1)];
	t->nodes[t->node_count] = (struct erofs_node){.name = offset,
		.parent = directory,
		.next = *bucket,
		.name_length = (uint8_t)length};
	return *bucket = t->node_count++;
}

uint32_t erofs_tree_put(struct erofs_tree *t, const struct erofs_place *place,
	enum erofs_file_type type, struct error *err)
{
	uint32_t i = place->node;
	if (i == EROFS_NONE) {
		i = new_node(t, place->directory, place->name, place->name_length, err);
		if (i == EROFS_NONE)
			return EROFS_NONE;
	} else {
		if (t->nodes[i].type == EROFS_FT_DIRECTORY)
			t->directories[t->nodes[i].extra].dead = true;
		t->parent_length = 0; // the cached path may lead through what is replaced
	}
	struct erofs_node *n = &t->nodes[i];
	n->type = (uint8_t)type;
	n->flags = 0;
	n->nid = 0;
	n->extra = EROFS_NONE;
	return i;
}

int erofs_tree_put_directory(struct erofs_tree *t, const struct erofs_place *place,
	uint32_t *directory, struct error *err)
{
	bool replaces = place->node != EROFS_NONE;
	if (replaces && t->nodes[place->node].type == EROFS_FT_DIRECTORY) {
		*directory = t->nodes[place->node].extra;
		return 0;
	}
	if (erofs_tree_charge(t, sizeof(struct erofs_directory), err) < 0)
		return -1;
	uint32_t i = erofs_tree_put(t, place, EROFS_FT_DIRECTORY, err);
	if (i == EROFS_NONE)
		return -1;
	*directory = t->nodes[i].extra = new_directory(t, place->directory);
	// What stood here, a file or a whiteout, had already removed a lower layer's directory of
	// this name; the new one must not bring its children back.
	t->directories[*directory].opaque = replaces;
	t->directories[*directory].implicit = !replaces;
	return 0;
}

int erofs_tree_set_target(
	struct erofs_tree *t, uint32_t node, const char *target, struct error *err)
{
	return add_name(t, target, strlen(target) + 1, &t->nodes[node].extra, err);
}

// `links` counts the symbolic links followed so far, which also bounds the recursion.
static int walk(struct erofs_tree *t, const char *path, size_t length, uint32_t *directory,
	unsigned *links, struct error *err)
{
	for (const char *end = path + length, *name = path; name < end;) {
		const char *slash = memchr(name, '/', (size_t)(end - name));
		const char *stop = slash ? slash : end;
		size_t n = (size_t)(stop - name);
		struct erofs_place place = {*directory, EROFS_NONE, name, n};
		name = stop + 1;
		if (steps_take(&t->steps, 1, err) < 0)
			return -1;
		if (n == 0 || (n == 1 && place.name[0] == '.'))
			continue;
		if (n == 2 && memcmp(place.name, "..", 2) == 0) {
			*directory = t->directories[*directory].parent;
			continue;
		}
		if (n > EROFS_NAME_MAX)
			return error_set(err, ERROR_INVALID, "a name of %zu bytes is too long", n);
		place.node = erofs_tree_find(t, *directory, place.name, n);
		const struct erofs_node *node =
			place.node == EROFS_NONE ? NULL : &t->nodes[place.node];
		if (!node || node->type == EROFS_FT_DIRECTORY ||
			(node->flags & EROFS_NODE_WHITEOUT)) {
			if (erofs_tree_put_directory(t, &place, directory, err) < 0)
				return -1;
			continue;
		}
		if (node->type != EROFS_FT_SYMLINK)
			return error_set(err, ERROR_INVALID,
				"\"%.*s\" on the way is not a directory", (int)n, place.name);
		if (++*links > LINKS_MAX)
			return error_set(err, ERROR_INVALID,
				"\"%.*s\" on the way leads through too many symbolic links", (int)n,
				place.name);
		// A copy: making directories moves the names.
		cleanup_free char *target = xstrdup(t->names.data + node->extra);
		if (target[0] == '/')
			*directory = 0;
		if (walk(t, target, strlen(target), directory, links, err) < 0)
			return -1;
	}
	return 0;
}

int erofs_tree_walk(struct erofs_tree *t, const char *path, size_t length, uint32_t *directory,
	struct error *err)
{
	if (length && length == t->parent_length && memcmp(path, t->parent_path, length) == 0) {
		*directory = t->parent_directory;
		return 0;
	}
	unsigned links = 0;
	uint32_t found = 0;
	steps_grant(&t->steps);
	if (walk(t, path, length, &found, &links, err) < 0)
		return -1;
	if (length <= PATH_MAX) {
		memcpy(t->parent_path, path, length);
		t->parent_length = length;
		t->parent_directory = found;
	}
	*directory = found;
	return 0;
}

int erofs_tree_locate(
	struct erofs_tree *t, const char *path, struct erofs_place *place, struct error *err)
{
	const char *slash = strrchr(path, '/');
	place->name = slash ? slash + 1 : path;
	place->name_length = strlen(place->name);
	if (place->name_length == 0 || place->name_length > EROFS_NAME_MAX)
		return error_set(err, ERROR_INVALID, "%s: the name is %s", path,
			place->name_length ? "longer than 255 bytes" : "empty");
	if (erofs_tree_walk(t, path, slash ? (size_t)(slash - path) : 0, &place->directory, err) <
		0)
		return error_context(err, "%s", path);
	place->node = erofs_tree_find(t, place->directory, place->name, place->name_length);
	return 0;
}
