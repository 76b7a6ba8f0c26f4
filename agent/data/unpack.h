// SPDX-License-Identifier: Apache-2.0
//
// An archive from a stranger becomes files below one folder. The parser is libarchive, in a helper
// process of this program without capabilities and network, as an unprivileged user where we are
// root, with system calls for files alone and, by Landlock, no folder but its own. What it writes
// it reaches by openat2(2) without following links (RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS).
//
// Refused, with the entry's name: paths that are absolute or have "..", links that lead out,
// devices, sockets and FIFOs, more bytes or entries than allowed, and archives that grow a
// thousandfold. Owners, set-user-ID bits, ACLs and attributes are left out.
#pragma once

#include "agent/data/failure.h"
#include "agent/data/source.h"
#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>

enum { UNPACK_ENTRIES_MAX = 10 * 1000 * 1000 };

struct unpack_options {
	enum data_unpack format; // not NONE
	const char *name;	 // of the archive; tells the format, with the first bytes
	int archive_fd, folder_fd;
	uint64_t max_bytes;			     // 0: what the disk gives
	uint64_t keep_free_bytes;		     // of the disk
	int64_t deadline;			     // monotonic ms; INT64_MAX: none
	int (*progress)(void *data, uint64_t bytes); // other than 0: canceled
	void *data;
};

// Is it one that DATA_UNPACK_AUTO unpacks? By the name and the first bytes.
bool unpack_is_archive(const char *name, int fd);

int unpack(const struct unpack_options *o, uint64_t *bytes, enum data_failure *failure,
	struct error *err);

// main() of the helper ("stoker unpack"); its socket is descriptor 3.
int unpack_main(void);
