// SPDX-License-Identifier: Apache-2.0
//
// Between data_http_fetch() and its helper: first one packet from us with two descriptors, a file
// with the orders as JSON and the state directory's "datasets" folder; then replies.
#pragma once

#include "agent/data/failure.h"
#include "base/error.h"

#include <stdint.h>

enum { DATA_HTTP_SOCKET = 3 };

enum data_http_verb { DATA_HTTP_PROGRESS = 1, DATA_HTTP_NOTICE, DATA_HTTP_DONE };

struct data_http_reply {
	uint32_t verb, index;
	uint64_t done, total, fetched;
	uint32_t failure, reused;
	char sha256[65];
	struct error error; // DONE; the text alone: NOTICE
};
