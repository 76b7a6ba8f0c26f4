// SPDX-License-Identifier: Apache-2.0
//
// gzip, zstd and plain streams. The first two bytes choose the sizes of the pieces in which the
// rest is fed and taken out, small ones included: the states between two calls are where readers
// break.
#include "oci/layer/decompress.h"

#include "base/memory.h"

#include <string.h>

enum { OUTPUT_MAX = 4 << 20 }; // a bomb proves nothing beyond this

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static size_t piece_size(uint8_t choice)
{
	static const size_t sizes[] = {1, 2, 3, 7, 64, 257, 4096, 65536};
	return sizes[choice % array_size(sizes)];
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size < 2)
		return 0;
	size_t in_step = piece_size(data[0]), out_step = piece_size(data[1]);
	data += 2;
	size -= 2;
	struct decompressor *d = decompressor_new();
	uint8_t *out = xmalloc(out_step);
	size_t at = 0, total = 0, calls = 0;
	int idle = 0;
	while (total < OUTPUT_MAX && calls++ < 50000) {
		struct error err;
		size_t left = size - at, n = left < in_step ? left : in_step, used = 0, made = 0;
		uint8_t *in = xmemdup(data + at, n); // of the exact size, for AddressSanitizer
		int done = decompressor_run(d, in, n, &used, n == left, out, out_step, &made, &err);
		free(in);
		if (done < 0) {
			if (err.kind == ERROR_NONE || !err.text[0] ||
				!memchr(err.text, 0, sizeof(err.text)))
				abort();
			break;
		}
		if (used > n || made > out_step)
			abort();
		at += used;
		total += made;
		if (done && at != size)
			abort();
		if (done)
			break;
		idle = used || made ? 0 : idle + 1;
		if (idle > 2)
			abort(); // would never end
	}
	free(out);
	decompressor_free(d);
	return 0;
}
