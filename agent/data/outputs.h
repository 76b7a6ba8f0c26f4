// SPDX-License-Identifier: Apache-2.0
//
// The synchroniser: copies a run's outputs/, logs/ and user_logs/ to a destination while the job
// runs and at its end. One process ("stoker outputs", started by the supervisor or by `stoker
// outputs push`), which is not the job's and not the supervisor's: its failure is a status of its
// own, never the job's.
//
//   <destination>/<run id>/outputs/… logs/… user_logs/…
//   <destination>/<run id>/attempts/…      logs of attempts before the last one
//   <destination>/<run id>/manifest.json   last: path, size, SHA-256 of every file; the mark that
//                                          all is there
//   <run>/upload.json                      the state here: per file size, mtime, chunks done
//
// Files are cut into chunks of 4 MiB with a SHA-256 each; only chunks that changed are sent. Files
// that only grow (logs, TensorBoard events) are appended to, in place; others are replaced by a
// temporary file and a rename. A kill at any point is resumed from upload.json. Symbolic links are
// never followed; sockets, FIFOs and devices are passed over and named.
#pragma once

#include "agent/config/policies.h"
#include "base/error.h"
#include "base/process.h"

#include <stdbool.h>
#include <stdint.h>

enum outputs_state {
	OUTPUTS_NONE, // there is no destination
	OUTPUTS_RUNNING,
	OUTPUTS_DONE,	    // the manifest is there
	OUTPUTS_INCOMPLETE, // the end was reached, but not all could be copied (limits, unreadable)
	OUTPUTS_FAILED,	    // can be resumed: stoker outputs push RUN
};
const char *outputs_state_name(enum outputs_state s); // "Done"

struct outputs_status {
	enum outputs_state state;
	uint64_t files, bytes; // at the destination
	uint64_t files_left, bytes_left;
	uint64_t sent;					 // bytes copied in this process
	char message[sizeof(((struct error *)0)->text)]; // of a failure, one line
};

struct outputs_options {
	int run_fd; // the attempt's directory
	const char *run_id;
	unsigned attempt; // from 1; a further one keeps the logs that the last one left there
	const char *destination; // absolute
	const struct outputs_policy *policy;
	bool once; // the job has ended: one round, the manifest, the end
};

// Start the process. It speaks over `fd` (SOCK_SEQPACKET): struct outputs_status packets come, one
// at least after each round; sending "finish" asks for the last round, after which it ends. It goes
// on if we are killed (the round under way is finished, then it ends).
struct outputs_link {
	struct process process;
	int fd;
};
int outputs_start(const struct outputs_options *o, struct outputs_link *link, struct error *err);
int outputs_finish(struct outputs_link *link, struct error *err); // asks; does not wait
// The next status: 1; 0: it has ended; -2: none now (nonblocking); -1.
int outputs_receive(struct outputs_link *link, bool nonblocking, struct outputs_status *status,
	struct error *err);
void outputs_link_release(struct outputs_link *link); // leaves it running

// What <run>/upload.json says, for `stoker show`, `ps` and the sweep. 1, 0 (there is none), -1.
int outputs_status_read(int run_fd, struct outputs_status *status, struct error *err);
// Bring outputs/ of an earlier attempt into a new one's: reflink, else copy.
int outputs_restore(int from_run_fd, int to_run_fd, struct error *err);

// main() of the helper process; its socket is descriptor 3.
int outputs_main(void);
