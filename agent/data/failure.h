// SPDX-License-Identifier: Apache-2.0
//
// Why an input or an output could not be had, for programs; people read the error's text.
#pragma once

#include "base/error.h"

#include <stdbool.h>

enum data_failure {
	DATA_OK,
	DATA_NOT_FOUND,
	DATA_FORBIDDEN,
	DATA_AUTHENTICATION,
	DATA_CHECKSUM,
	DATA_CHANGED, // while it was fetched
	DATA_TIMEOUT,
	DATA_STALLED,
	DATA_HELPER_DIED,
	DATA_NO_SPACE,
	DATA_TOO_LARGE,
	DATA_UNSUPPORTED, // by this node
	DATA_POLICY,	  // not allowed on this node
	DATA_ARCHIVE,	  // bombs, paths that lead out
	DATA_NETWORK,
	DATA_FAILED, // anything else
	DATA_FAILURES,
};

const char *data_failure_name(enum data_failure f); // "DataNotFound"
// May the same be tried again with a hope that it works?
bool data_failure_is_passing(enum data_failure f);
