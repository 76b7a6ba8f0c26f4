// SPDX-License-Identifier: Apache-2.0
// Any bytes as a tar stream, in blocks of several sizes, through the tar reader into an EROFS
// image.
#include "base/file.h"
#include "oci/layer/erofs.h"
#include "oci/layer/tar.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

// One block buffer, overwritten by every call as the pipeline does: a writer that keeps a reference
// past flush() writes wrong bytes or is caught by AddressSanitizer.
struct source {
	struct layer_stream stream;
	const uint8_t *data;
	size_t size, block_size;
	uint8_t *block;
};

static ssize_t source_next(struct layer_stream *s, const void **block, struct error *err)
{
	struct source *source = (struct source *)s;
	(void)err;
	free(source->block);
	size_t n = source->size < source->block_size ? source->size : source->block_size;
	source->block = malloc(n ? n : 1);
	memcpy(source->block, source->data, n);
	source->data += n;
	source->size -= n;
	*block = source->block;
	return (ssize_t)n;
}

static void convert(const uint8_t *data, size_t size, size_t block_size)
{
	static const struct layer_limits limits = {
		.entries = 10000,
		.bytes = UINT64_C(1) << 40,
		.metadata_bytes = 16 * 1024 * 1024,
	};
	struct source source = {{source_next}, data, size, block_size, NULL};
	struct error err = {ERROR_NONE};
	uint64_t entries;
	cleanup_fd int fd = memfd_create("image", MFD_CLOEXEC);
	if (fd < 0)
		abort();
	struct layer_sink *sink = erofs_writer_new(fd, &limits);
	int r = tar_read(&source.stream, sink, &limits, &entries, &err);
	if (r == 0)
		r = sink->functions->finish(sink, &err);
	if ((r == 0) != (err.kind == ERROR_NONE) || (r != 0 && !err.text[0]))
		abort(); // a failure must say why, a success nothing
	sink->functions->free(sink);
	free(source.block);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max_size) __attribute__((weak));
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed);

// Give the blocks that look like headers the right checksum; without that hardly any mutation gets
// past libarchive's first look.
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed)
{
	(void)seed;
	size = LLVMFuzzerMutate(data, size, max_size);
	for (uint8_t *p = data; p + 512 <= data + size; p += 512) {
		unsigned sum = 0;
		if (memcmp(p + 257, "ustar", 5) != 0)
			continue;
		memset(p + 148, ' ', 8);
		for (size_t i = 0; i < 512; i++)
			sum += p[i];
		for (size_t i = 0; i < 6; i++)
			p[148 + i] = (uint8_t)('0' + (sum >> 3 * (5 - i) & 7));
		p[154] = '\0';
	}
	return size;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	convert(data, size, 1 << 20);
	convert(data, size, 700); // most headers and pieces of data cross blocks
	return 0;
}
