// SPDX-License-Identifier: Apache-2.0
//
// Decoders of job.yaml's keys that spec.c and spec_resources.c share.
#pragma once

#include "agent/job/spec.h"

json_decode_fn job_decode_size;	     // uint64_t: bytes, over 0
json_decode_fn job_decode_name;	     // const char *: letters, digits and '_'
json_decode_fn job_decode_nonempty;  // const char *
json_decode_fn job_decode_seconds;   // uint64_t, over 0
json_decode_fn job_decode_resources; // struct job_resources
json_decode_fn job_decode_secrets;   // struct job_spec
