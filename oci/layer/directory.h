// SPDX-License-Identifier: Apache-2.0
//
// The directory form of a layer: the sink that unpacks into a folder, for kernels without EROFS and
// for users without root. Every path is reached by openat2(2) with RESOLVE_BENEATH |
// RESOLVE_NO_SYMLINKS from the folder's descriptor.
#pragma once

#include "oci/layer/sink.h"

enum directory_form {
	DIRECTORY_PRIVILEGED,	// owners, devices, trusted.overlay.*; whiteouts are 0:0 devices
	DIRECTORY_UNPRIVILEGED, // owner is us; user.overlay.* attributes; devices are left out
};

// `dirfd`: an empty folder; stays the caller's.
struct layer_sink *directory_writer_new(
	int dirfd, enum directory_form form, const struct layer_limits *limits);
