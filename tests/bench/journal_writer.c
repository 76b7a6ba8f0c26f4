// SPDX-License-Identifier: Apache-2.0
//
// The journal without a supervisor: standard input becomes a log in a folder.
//   journal_writer FOLDER [--limit BYTES] [--keep-free BYTES] [--secret TEXT]...
// Prints as JSON what was written and dropped, and this process's memory. For tests/bench/journal
// and for tests that need a full disk.
#include "agent/supervise/journal.h"
#include "base/file.h"
#include "base/text.h"

#include <poll.h>
#include <stdio.h>
#include <unistd.h>

enum { SECRETS_MAX = 64 };

static int copy(struct journal *j, struct error *err)
{
	for (;;) {
		struct pollfd p = {.fd = STDIN_FILENO, .events = POLLIN};
		int rc = journal_read_from(j, STDIN_FILENO, err);
		if (rc == JOURNAL_AGAIN)
			poll(&p, 1, -1);
		else if (rc != JOURNAL_MORE)
			return rc;
	}
}

// From /proc/self/status, in KiB.
static unsigned long long memory(const char *name)
{
	cleanup_buffer struct buffer b = {0};
	struct error ignored;
	uint64_t kib = 0;
	if (file_read(AT_FDCWD, "/proc/self/status", 1 << 16, &b, &ignored) < 0)
		return 0;
	const char *at = strstr(b.data, name);
	if (at) {
		at += strcspn(at, "0123456789");
		parse_u64_n(at, strspn(at, "0123456789"), &kib);
	}
	return kib;
}

static int write_log(const char *folder, struct journal_options *o,
	const struct redact_secret *secrets, size_t count, struct error *err)
{
	cleanup_redact struct redact *r = NULL;
	cleanup_journal struct journal *j = NULL;
	cleanup_fd int dirfd = directory_ensure(AT_FDCWD, folder, 0755, err);
	if (dirfd < 0)
		return -1;
	if (count && !(r = redact_new(secrets, count, err)))
		return -1;
	o->redact = r;
	if (journal_open(dirfd, o, &j, err) < 0)
		return -1;
	fcntl(STDIN_FILENO, F_SETPIPE_SZ, JOURNAL_PIPE_SIZE);
	if (copy(j, err) < 0 || journal_finish(j, err) < 0)
		return -1;
	struct journal_counts c = journal_counts(j);
	printf("{\"size\": %llu, \"dropped\": %llu, \"peak_kib\": %llu, \"own_kib\": %llu}\n",
		(unsigned long long)c.size, (unsigned long long)c.dropped, memory("VmHWM:"),
		memory("RssAnon:"));
	return 0;
}

int main(int argc, char **argv)
{
	struct redact_secret secrets[SECRETS_MAX];
	struct journal_options o = {0};
	struct error err = {0};
	size_t count = 0;
	bool fine = argc >= 2;
	for (int i = 2; fine && i + 1 < argc; i += 2) {
		if (streq(argv[i], "--limit"))
			fine = parse_size(argv[i + 1], &o.limit);
		else if (streq(argv[i], "--keep-free"))
			fine = parse_size(argv[i + 1], &o.keep_free);
		else if (streq(argv[i], "--secret") && count < SECRETS_MAX)
			secrets[count++] =
				(struct redact_secret){"S", argv[i + 1], strlen(argv[i + 1])};
		else
			fine = false;
	}
	if (!fine || argc % 2) {
		fprintf(stderr, "usage: journal_writer FOLDER [--limit BYTES] [--keep-free BYTES] "
				"[--secret TEXT]...\n");
		return 2;
	}
	if (write_log(argv[1], &o, secrets, count, &err) == 0)
		return 0;
	fprintf(stderr, "journal_writer: %s\n", err.text);
	return 1;
}
