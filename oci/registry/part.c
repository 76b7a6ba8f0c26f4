// SPDX-License-Identifier: Apache-2.0
#include "oci/registry/part.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

// One watermark is four bytes per 4 MiB of blob: the largest blob we take needs a sidecar of 4 MiB.
#define PART_BLOB_MAX ((uint64_t)4 << 40)

// "STKPART1" in the machine's own byte order: a sidecar never leaves its machine.
#define PART_MAGIC UINT64_C(0x31545241504b5453)

struct part_header {
	uint64_t magic, size;
	uint32_t chunk_size, chunk_count;
	uint32_t have[]; // bytes present from the start of each chunk
};

uint64_t part_chunk_start(const struct part *p, uint32_t chunk)
{
	(void)p;
	return (uint64_t)chunk * PART_CHUNK;
}

uint64_t part_chunk_size(const struct part *p, uint32_t chunk)
{
	uint64_t rest = p->size - part_chunk_start(p, chunk);

	return rest < PART_CHUNK ? rest : PART_CHUNK;
}

// The process that writes and the one that reads the map are not the same; the order of data before
// watermark is kept by release and acquire.
uint64_t part_have(const struct part *p, uint32_t chunk)
{
	return __atomic_load_n(&p->header->have[chunk], __ATOMIC_ACQUIRE);
}

void part_add(struct part *p, uint32_t chunk, uint64_t bytes)
{
	uint64_t have = part_have(p, chunk) + bytes;
	uint64_t most = part_chunk_size(p, chunk);

	__atomic_store_n(
		&p->header->have[chunk], (uint32_t)(have < most ? have : most), __ATOMIC_RELEASE);
}

uint64_t part_contiguous(const struct part *p)
{
	// What was complete stays complete, so the search goes on where the last one ended.
	uint32_t *front = (uint32_t *)&p->front;

	while (*front < p->chunk_count && part_have(p, *front) == part_chunk_size(p, *front))
		(*front)++;
	if (*front == p->chunk_count)
		return p->size;
	return part_chunk_start(p, *front) + part_have(p, *front);
}

uint64_t part_total(const struct part *p)
{
	uint64_t total = 0;

	for (uint32_t i = 0; i < p->chunk_count; i++)
		total += part_have(p, i);
	return total;
}

static bool part_valid(const struct part *p)
{
	const struct part_header *h = p->header;

	if (h->magic != PART_MAGIC || h->size != p->size || h->chunk_size != PART_CHUNK ||
		h->chunk_count != p->chunk_count)
		return false;
	for (uint32_t i = 0; i < p->chunk_count; i++)
		if (part_have(p, i) > part_chunk_size(p, i))
			return false;
	return true;
}

static int part_map(int map_fd, struct part *p, struct error *err)
{
	void *map = mmap(NULL, p->mapped, PROT_READ | PROT_WRITE, MAP_SHARED, map_fd, 0);

	if (map == MAP_FAILED || !map)
		return error_set_errno(err, errno, "map the list of chunks of a partial download");
	p->header = map;
	return 0;
}

static int part_make(int map_fd, struct part *p, struct error *err)
{
	// Allocated, not sparse: a full disk must show here and not as SIGBUS at a watermark.
	int sys = ftruncate(map_fd, 0) < 0 ? errno : posix_fallocate(map_fd, 0, (off_t)p->mapped);

	if (sys)
		return error_set_errno(err, sys, "make the list of chunks of a partial download");
	if (part_map(map_fd, p, err) < 0)
		return -1;
	p->header->size = p->size;
	p->header->chunk_size = PART_CHUNK;
	p->header->chunk_count = p->chunk_count;
	__atomic_store_n(&p->header->magic, PART_MAGIC, __ATOMIC_RELEASE);
	return 0;
}

int part_open(int map_fd, uint64_t size, struct part *p, struct error *err)
{
	struct part part = {.size = size};
	struct stat st;

	if (size > PART_BLOB_MAX)
		return error_set(err, ERROR_LIMIT,
			"a blob of %" PRIu64 " bytes is over the limit of 4 TiB", size);
	part.chunk_count = (uint32_t)((size + PART_CHUNK - 1) / PART_CHUNK);
	part.mapped = sizeof(struct part_header) + part.chunk_count * sizeof(uint32_t);
	if (fstat(map_fd, &st) < 0)
		return error_set_errno(
			err, errno, "look at the list of chunks of a partial download");
	if ((uint64_t)st.st_size == part.mapped) {
		if (part_map(map_fd, &part, err) < 0)
			return -1;
		if (part_valid(&part)) {
			*p = part;
			return 0;
		}
		part_close(&part);
		part.mapped = sizeof(struct part_header) + part.chunk_count * sizeof(uint32_t);
	}
	if (part_make(map_fd, &part, err) < 0)
		return -1;
	*p = part;
	return 0;
}

void part_close(struct part *p)
{
	if (p->header)
		munmap(p->header, p->mapped);
	p->header = NULL;
	p->mapped = 0;
}
