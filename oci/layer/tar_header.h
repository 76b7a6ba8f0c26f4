// SPDX-License-Identifier: Apache-2.0
//
// Headers of a tar archive as we write it: ustar (POSIX.1-1988), with a PAX header (POSIX.1-2001)
// in front where a path or a link has over 100 bytes or a size does not fit. Owner 0:0 without
// names, one time for all. The same member gives the same bytes.
#pragma once

#include "base/buffer.h"

#include <stdint.h>
#include <sys/types.h>

enum { TAR_BLOCK = 512 };

struct tar_member {
	const char *path; // a folder's ends in '/'
	char type;	  // '0' file, '1' hard link, '2' symbolic link, '5' folder
	mode_t mode;	  // permission bits
	uint64_t size;	  // of a file
	int64_t mtime;	  // seconds, 0 or more
	const char *link; // target of a link; NULL
};

void tar_header_append(struct buffer *out, const struct tar_member *m);
// Zeros from `size` to the next whole block.
void tar_padding_append(struct buffer *out, uint64_t size);
// The end of the archive: two blocks of zeros.
void tar_end_append(struct buffer *out);
