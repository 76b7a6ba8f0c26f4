// SPDX-License-Identifier: Apache-2.0
#include "oci/layer/sink.h"

const struct layer_limits layer_limits_default = {
	.entries = 8000000,
	.bytes = UINT64_C(512) << 30,
	.metadata_bytes = UINT64_C(512) << 20,
};
