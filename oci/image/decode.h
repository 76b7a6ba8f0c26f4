// SPDX-License-Identifier: Apache-2.0
//
// Decoders (base/json_decode.h) that manifests and image configurations share.
#pragma once

#include "base/json_decode.h"

// Target: struct oci_digest.
json_decode_fn oci_decode_digest;
// Target: one word of struct oci_platform, as it stands; at most 31 characters.
json_decode_fn oci_decode_platform_word;
