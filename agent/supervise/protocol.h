// SPDX-License-Identifier: Apache-2.0
//
// What a supervisor understands on its control socket, <run>/runs/<run id>/control (SOCK_SEQPACKET,
// mode 0600): one packet is one JSON object, at most PROTOCOL_BYTES_MAX bytes. Members that are not
// known are passed over, so that a later version may say more; a request that is not known is
// answered by an error.
//
//   {"do": "status"}                           {"ok": true, "state": …, "container": pid, …}
//   {"do": "stats"}                            {"ok": true, "cpu_usec": …, "time_ms": …, …}
//   {"do": "signal", "signal": 10}             {"ok": true}
//   {"do": "stop", "signal": 0, "grace_ms": -1, "by": "stop"}
//                                              {"ok": true}; 0: the image's; -1: the node's
//   {"do": "kill", "by": "kill"}               {"ok": true}
//   {"do": "wait"}                             {"ok": true}, then "ended" when it is over
//   {"do": "exec", "args": […], "env": ["K=V", …], "user": …, "cwd": …, "terminal": false,
//    "rows": 24, "columns": 80}                {"ok": true, "pid": …}, with three descriptors to
//    work
//                                              on, or with a terminal's in the answer; at its end
//                                              {"event": "exec_ended", "exit_status": 0}
//   {"do": "exec_signal", "signal": 2}         {"ok": true}
//
// An error is {"error": {"kind": "not_found", "text": …}}. Two events come unasked, to who waits
// and to who started the supervisor:
//
//   {"event": "started", "container": pid}
//   {"event": "ended", "state": …, "class": …, "code": …, "message": …, "exit_status": 3,
//    "error": {…}}      error: what went wrong beside the script
#pragma once

enum { PROTOCOL_BYTES_MAX = 60 * 1024, SUPERVISE_LINK_FD = 3 };

// The first message to a supervisor comes with the request and the run's lock; its text names the
// descriptors behind these.
enum { SUPERVISE_HAS_INPUT = 'i', SUPERVISE_HAS_LISTENER = 'l' };
