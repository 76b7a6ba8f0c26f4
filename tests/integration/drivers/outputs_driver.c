// SPDX-License-Identifier: Apache-2.0
//
// agent/data/outputs.h for tests, without a job:
//
//   outputs_driver sync FOLDER RUN DESTINATION INTERVAL_MS [MAX_BYTES [MAX_FILES]]
//       starts the synchroniser of the run's FOLDER and prints "pid N", then a line for each status
//       that comes: "STATE FILES BYTES FILES_LEFT SENT MESSAGE". A line on its standard input asks
//       for the last round. FOLDER is named by the attempt. Its end is ours (and the
//       synchroniser's, which finishes its round).
//   outputs_driver restore FROM TO
#include "agent/data/outputs.h"
#include "base/file.h"
#include "base/text.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static int fail(const struct error *err)
{
	fprintf(stderr, "outputs_driver: %s\n", err->text);
	return 1;
}

static int print_status(struct outputs_link *link, struct error *err)
{
	struct outputs_status s;
	int rc = outputs_receive(link, false, &s, err);
	if (rc > 0)
		printf("%s %llu %llu %llu %llu %s\n", outputs_state_name(s.state),
			(unsigned long long)s.files, (unsigned long long)s.bytes,
			(unsigned long long)s.files_left, (unsigned long long)s.sent, s.message);
	fflush(stdout);
	return rc;
}

static int follow(struct outputs_link *link)
{
	struct error err = {0};
	struct pollfd polls[2] = {{.fd = link->fd, .events = POLLIN}, {.events = POLLIN}};
	for (;;) {
		char line[64];
		if (poll(polls, 2, -1) < 0)
			return 1;
		if (polls[0].revents) {
			int rc = print_status(link, &err);
			if (rc <= 0)
				return rc < 0 ? fail(&err) : 0;
		}
		if (polls[1].revents) {
			if (read(0, line, sizeof(line)) <= 0)
				return 0;
			if (outputs_finish(link, &err) < 0)
				return fail(&err);
		}
	}
}

static int synchronise(int argc, char **argv)
{
	struct error err = {0};
	struct outputs_link link;
	struct outputs_policy policy = {.limit_ms = 60000};
	if (!parse_u64(argv[5], &policy.interval_ms) ||
		(argc > 6 && !parse_u64(argv[6], &policy.max_bytes)) ||
		(argc > 7 && !parse_u64(argv[7], &policy.max_files)))
		return 2;
	cleanup_fd int run = directory_open(AT_FDCWD, argv[2], &err);
	if (run < 0)
		return fail(&err);
	uint64_t attempt = 0;
	parse_u64(path_base(argv[2]), &attempt);
	const struct outputs_options o = {.run_fd = run,
		.run_id = argv[3],
		.attempt = (unsigned)attempt,
		.destination = argv[4],
		.policy = &policy};
	if (outputs_start(&o, &link, &err) < 0)
		return fail(&err);
	printf("pid %d\n", (int)link.process.pid);
	fflush(stdout);
	int rc = follow(&link);
	outputs_link_release(&link);
	return rc;
}

static int restore(char **argv)
{
	struct error err = {0};
	cleanup_fd int from = directory_open(AT_FDCWD, argv[2], &err);
	cleanup_fd int to = from < 0 ? -1 : directory_open(AT_FDCWD, argv[3], &err);
	return to < 0 || outputs_restore(from, to, &err) < 0 ? fail(&err) : 0;
}

int main(int argc, char **argv)
{
	if (argc >= 2 && streq(argv[0], "stoker:") && streq(argv[1], "outputs"))
		return outputs_main();
	if (argc >= 6 && streq(argv[1], "sync"))
		return synchronise(argc, argv);
	if (argc == 4 && streq(argv[1], "restore"))
		return restore(argv);
	fprintf(stderr, "usage: see the beginning of the source\n");
	return 2;
}
