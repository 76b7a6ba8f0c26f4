// SPDX-License-Identifier: Apache-2.0
#include "oci/layer/gzip_writer.h"

#include <isa-l/igzip_lib.h>
#include <stdint.h>

enum { OUT_STEP = 64 * 1024 };

struct gzip_writer {
	struct isal_zstream stream;
	uint8_t level_buffer[ISAL_DEF_LVL1_DEFAULT];
};

struct gzip_writer *gzip_writer_new(void)
{
	struct gzip_writer *g = xcalloc(1, sizeof(*g));
	isal_deflate_init(&g->stream);
	g->stream.gzip_flag = IGZIP_GZIP;
	g->stream.level = 1;
	g->stream.level_buf = g->level_buffer;
	g->stream.level_buf_size = sizeof(g->level_buffer);
	return g;
}

void gzip_writer_free(struct gzip_writer *g)
{
	free(g);
}

int gzip_writer_run(struct gzip_writer *g, const void *data, size_t size, bool end,
	struct buffer *out, struct error *err)
{
	struct isal_zstream *z = &g->stream;
	if (size > UINT32_MAX)
		return error_set(err, ERROR_LIMIT, "gzip: more than 4 GiB at a time");
	z->next_in = (uint8_t *)(uintptr_t)data;
	z->avail_in = (uint32_t)size;
	z->end_of_stream = end;
	z->flush = NO_FLUSH;
	do {
		z->next_out = (uint8_t *)buffer_reserve(out, OUT_STEP);
		z->avail_out = OUT_STEP;
		int code = isal_deflate(z);
		if (code != COMP_OK)
			return error_set(err, ERROR_SYSTEM, "gzip: ISA-L failed (%d)", code);
		buffer_commit(out, OUT_STEP - z->avail_out);
	} while (
		z->avail_in || z->avail_out == 0 || (end && z->internal_state.state != ZSTATE_END));
	return 0;
}
