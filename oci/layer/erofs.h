// SPDX-License-Identifier: Apache-2.0
//
// Our EROFS writer: a sink that makes one uncompressed EROFS image with 4 KiB blocks, mountable
// since Linux 5.4, in one pass. On-disk format: Linux Documentation/filesystems/erofs.rst,
// fs/erofs/erofs_fs.h. The same calls give the same bytes.
#pragma once

#include "oci/layer/sink.h"

// `fd`: an empty, writable, seekable file; stays the caller's. Holds a torn image until finish()
// has written the superblock, which is the last block written.
struct layer_sink *erofs_writer_new(int fd, const struct layer_limits *limits);
