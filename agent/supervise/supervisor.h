// SPDX-License-Identifier: Apache-2.0
//
// The supervisor: one process per job, which owns everything that the job has (leases, mounts,
// container, log, record of the end) and lives exactly as long. It has a session of its own and
// outlives whoever started it; when it is killed, the job dies with it and the next command
// records that.
#pragma once

// main() of the helper process ("stoker: supervisor RUN"); its link to who started it is descriptor
// 3.
int supervisor_main(void);
