// SPDX-License-Identifier: Apache-2.0
//
// Between the process that keeps what is downloaded and its helper, which speaks to servers: lanes,
// each a packet socket for one exchange at a time. A request as JSON goes one way; a head, pieces
// of the body and an end come back. A packet of one byte, "stop", asks for the end; what it comes
// too late for ignores it.
#pragma once

#include "agent/data/download_head.h"
#include "agent/data/failure.h"
#include "base/error.h"

#include <stddef.h>
#include <stdint.h>

enum {
	DATA_HTTP_LANE_FIRST = 3, // descriptor of the first lane in the helper; the others follow
	DATA_HTTP_LANES = 4,
	DATA_HTTP_REQUEST_MAX = 60 * 1024,
	DATA_HTTP_PIECE = 56 * 1024,
};

enum data_http_verb { DATA_HTTP_HEAD = 1, DATA_HTTP_BODY, DATA_HTTP_END };

// What became of an exchange, as struct download_exchange has it.
struct data_http_end {
	int32_t status;
	uint32_t complete, retry, failure;
	int64_t retry_after_ms;
	char reason[64];
	char final_url[2048];
	struct error error; // unless it is complete
};

struct data_http_packet {
	uint32_t verb;
	uint32_t size; // of the piece
	union {
		struct download_head head;
		struct data_http_end end;
		char piece[DATA_HTTP_PIECE];
	};
};
