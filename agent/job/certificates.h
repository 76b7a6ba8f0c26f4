// SPDX-License-Identifier: Apache-2.0
//
// The authorities that the node trusts, for its jobs: a company's own among them, without which no
// program in the container can speak to the company's servers or through its proxy. The job gets
// one file with the image's authorities and the node's, so that nothing that the image trusts is
// lost, and variables that lead programs to it.
#pragma once

#include "base/buffer.h"
#include "base/error.h"

#include <stdbool.h>

// Where the file is in the container.
extern const char certificates_target[];
// The variables that name it, NULL-terminated: OpenSSL and Python, requests, curl, pip, Node.js,
// git, the AWS tools. Each is to be set where neither the image nor the job sets it.
extern const char *const certificates_variables[];

// The node's bundle: SSL_CERT_FILE of our environment, or where distributions have it. NULL: there
// is none.
const char *certificates_find(void);

// Append to `out` the certificates of the image (root_fd: its root; -1: none), then those of the
// node's bundle `path` that are not among them. *added: how many of the latter. With 0 nothing need
// be set in the container, as the image has them all. A bundle of the image that is over 16 MiB or
// cannot be read is passed over; the node's is an error then.
int certificates_join(
	int root_fd, const char *path, struct buffer *out, size_t *added, struct error *err);
