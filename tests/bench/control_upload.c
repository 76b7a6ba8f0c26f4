// SPDX-License-Identifier: Apache-2.0
//
// The agent's upload without an agent: what lies below FOLDER/outputs and FOLDER/logs goes to a
// run.
//   control_upload URL RUN FOLDER < TOKEN
// Prints as JSON how long it took and this process's processor time. For tests/bench/control.
#include "agent/link/link.h"
#include "base/file.h"
#include "base/time.h"

#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

static double seconds_of(const struct timeval *t)
{
	return (double)t->tv_sec + (double)t->tv_usec / 1e6;
}

static int upload(const char *url, const char *run, const char *folder, struct error *err)
{
	char token[256] = "";
	if (!fgets(token, sizeof(token), stdin))
		return error_set(err, ERROR_INVALID, "standard input: must be the run's token");
	token[strcspn(token, "\n")] = '\0';
	cleanup_fd int fd = directory_open(AT_FDCWD, folder, err);
	cleanup_service struct service *service =
		fd < 0 ? NULL
		       : service_open(
				 &(struct service_settings){
					 .url = url, .token = token, .cancel_fd = -1},
				 err);
	if (!service)
		return -1;
	const struct upload upload = {service, run};
	struct upload_status status;
	struct rusage usage;
	int64_t begin = now_ms();
	if (upload_round(&upload, fd, true, &status, err) < 0)
		return -1;
	if (status.failed)
		return error_set(err, ERROR_UNAVAILABLE, "%s", status.message);
	int64_t ms = now_ms() - begin;
	getrusage(RUSAGE_SELF, &usage);
	printf("{\"seconds\": %.3f, \"processor\": %.3f, \"bytes\": %llu}\n", (double)ms / 1000,
		seconds_of(&usage.ru_utime) + seconds_of(&usage.ru_stime),
		(unsigned long long)status.bytes);
	return 0;
}

int main(int argc, char **argv)
{
	struct error err = {0};
	if (argc != 4) {
		fputs("usage: control_upload URL RUN FOLDER < TOKEN\n", stderr);
		return 2;
	}
	if (upload(argv[1], argv[2], argv[3], &err) == 0)
		return 0;
	fprintf(stderr, "control_upload: %s\n", err.text);
	return 1;
}
