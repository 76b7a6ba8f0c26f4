// SPDX-License-Identifier: Apache-2.0
// Copies a folder as a job's snapshot: snapshot_driver SOURCE TARGET [BYTES FILES]
#include "agent/job/snapshot.h"
#include "base/file.h"
#include "base/text.h"

#include <stdio.h>

int main(int argc, char **argv)
{
	struct error err = {0};
	struct snapshot_limits limits = {.bytes = UINT64_MAX, .files = UINT64_MAX};
	struct snapshot_size size;
	if (argc == 5 && (!parse_u64(argv[3], &limits.bytes) || !parse_u64(argv[4], &limits.files)))
		return 2;
	cleanup_fd int source = argc < 3 ? -1 : directory_open(AT_FDCWD, argv[1], &err);
	cleanup_fd int target = source < 0 ? -1 : directory_open(AT_FDCWD, argv[2], &err);
	if (target < 0 || snapshot_measure(source, &limits, NULL, &size, &err) < 0 ||
		snapshot_copy(source, target, &limits, &err) < 0) {
		fprintf(stderr, "%s\n", err.text);
		return 1;
	}
	printf("%llu %llu\n", (unsigned long long)size.files, (unsigned long long)size.bytes);
	return 0;
}
