// SPDX-License-Identifier: Apache-2.0
//
// Downloads as root takes them over. The helper that fetches talks with anybody's server and owns
// the folder of all downloads, for all jobs: one that was overcome could put anything under a
// digest. So what is used is root's and was hashed since: as a file of root's with mode 0444 it can
// only be replaced, by one that is not, and is hashed before anything is made of it.
#include "agent/data/prepare.h"
#include "base/file.h"
#include "base/sha256.h"
#include "base/text.h"
#include "base/time.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

enum { STEP = 1024 * 1024, NAP_MS = 20, WRITERS_MS = 10 * 1000, UNCHECKED = 0440, CHECKED = 0444 };

bool cache_object_checked(int fd)
{
	struct stat st;
	return geteuid() != 0 || // it is all one user's
	       (fstat(fd, &st) == 0 && st.st_uid == 0 && (st.st_mode & 07777) == CHECKED);
}

static int look_up(struct prepare *p, struct error *err)
{
	if (prepare_canceled(p)) {
		error_set(err, ERROR_UNAVAILABLE, "canceled");
		return prepare_fail(p, DATA_FAILED);
	}
	if (now_ms() >= p->deadlines[p->current]) {
		error_set(err, ERROR_LIMIT, "not checked in time");
		return prepare_fail(p, DATA_TIMEOUT);
	}
	return 0;
}

// From here on nobody but root can open it for writing; who has it open still is waited for. A
// lease is refused while there is one. Helpers of others close what they have put in its place.
static int take_over(struct prepare *p, int fd, struct error *err)
{
	int64_t end = now_ms() + WRITERS_MS;
	if (fchown(fd, 0, (gid_t)-1) < 0 || fchmod(fd, UNCHECKED) < 0) {
		error_set_errno(err, errno, "take over a download");
		return prepare_fail(p, DATA_FAILED);
	}
	while (fcntl(fd, F_SETLEASE, F_RDLCK) < 0 && errno == EAGAIN) {
		if (look_up(p, err) < 0)
			return -1;
		if (now_ms() >= end) {
			error_set(err, ERROR_UNAVAILABLE, "a download is being written to");
			return prepare_fail(p, DATA_FAILED);
		}
		sleep_ms(NAP_MS);
	}
	fcntl(fd, F_SETLEASE, F_UNLCK);
	return 0;
}

static int hash(struct prepare *p, int fd, char hex[SHA256_HEX_SIZE], struct error *err)
{
	cleanup_free char *buffer = xmalloc(STEP);
	cleanup_sha256 struct sha256 *h = sha256_new();
	uint8_t digest[SHA256_SIZE];
	for (off_t at = 0;;) {
		ssize_t n = pread(fd, buffer, STEP, at);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			error_set_errno(err, errno, "read a download");
			return prepare_fail(p, DATA_FAILED);
		}
		if (n == 0)
			break;
		sha256_update(h, buffer, (size_t)n);
		at += n;
		if (look_up(p, err) < 0)
			return -1;
	}
	sha256_final(h, digest);
	sha256_hex(digest, hex);
	return 0;
}

int prepare_object_lease(
	struct prepare *p, const char *sha256, char kept[120], int *fd, struct error *err)
{
	char found[SHA256_HEX_SIZE];
	int state_fd = p->options->store->state_fd;
	snprintf(kept, 120, "datasets/objects/sha256/%.2s/%.64s", sha256, sha256);
	cleanup_fd int object = -1;
	int got = cache_object_lease(state_fd, kept, &object, err);
	if (got <= 0)
		return got < 0 ? prepare_fail(p, DATA_FAILED) : 0;
	if (!cache_object_checked(object)) {
		if (take_over(p, object, err) < 0 || hash(p, object, found, err) < 0)
			return -1;
		if (!streq(found, sha256)) {
			prepare_notice(p, "what the cache had of it was something else");
			if (unlinkat(state_fd, kept, 0) == 0 || errno == ENOENT)
				return 0;
			error_set_errno(err, errno, "remove %s", kept);
			return prepare_fail(p, DATA_FAILED);
		}
		if (fchmod(object, CHECKED) < 0) {
			error_set_errno(err, errno, "take over a download");
			return prepare_fail(p, DATA_FAILED);
		}
	}
	*fd = steal_fd(&object);
	return 1;
}
