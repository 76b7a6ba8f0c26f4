// SPDX-License-Identifier: Apache-2.0
//
// The worker's side: receive the options, give up all rights, then read the first foreign byte.
#include "base/loop.h"
#include "base/memory.h"
#include "base/message.h"
#include "base/sha256.h"
#include "oci/layer/directory.h"
#include "oci/layer/erofs.h"
#include "oci/layer/pipeline.h"
#include "oci/layer/tar.h"
#include "oci/layer/worker_confine.h"
#include "oci/layer/worker_protocol.h"

#include <iconv.h>
#include <malloc.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

enum { PROGRESS_INTERVAL_MS = 100 };

struct worker {
	struct worker_message options; // as received
	enum confine_profile profile;
	uint64_t fed, position; // bytes of the blob: readable, read
	int64_t progress_at;
};

static void cleanup_sink(struct layer_sink **sink)
{
	if (*sink)
		(*sink)->functions->free(*sink);
}

static void send_message(const struct worker_message *m)
{
	// Nobody to tell when this fails: the agent is gone, and so are we.
	struct error ignored;
	message_send(WORKER_SOCKET, m, sizeof(*m), NULL, 0, &ignored);
}

static struct worker_message message_of(enum worker_message_type type)
{
	struct worker_message m;
	memset(&m, 0, sizeof(m)); // padding too
	m.type = type;
	return m;
}

// Receive one packet. Returns 1, or 0 when there is none now (`wait` false), -1.
static int receive(struct worker_message *m, bool wait, struct error *err)
{
	ssize_t n = message_receive(WORKER_SOCKET, m, sizeof(*m), NULL, 0, !wait, err);
	if (n == -2)
		return 0;
	if (n == 0)
		_exit(1); // the agent is gone or does not want the layer any more
	if (n < 0)
		return -1;
	if (n != sizeof(*m))
		return error_set(err, ERROR_SYSTEM, "layer worker: a message of %zd bytes", n);
	return 1;
}

// Wait until bytes behind `position` may be read.
static int wait_for_feed(struct worker *w, struct error *err)
{
	uint64_t size = w->options.options.blob_size;
	while (w->fed <= w->position) {
		struct worker_message m;
		int got = receive(&m, true, err);
		// Only the newest counts.
		for (; got > 0; got = receive(&m, false, err))
			if (m.type == WORKER_FEED && m.feed.contiguous > w->fed)
				w->fed = m.feed.contiguous < size ? m.feed.contiguous : size;
		if (got < 0)
			return -1;
	}
	return 0;
}

static ssize_t stream_read(void *data, void *buffer, size_t size, struct error *err)
{
	(void)data;
	ssize_t n;
	do
		n = read(WORKER_BLOB, buffer, size);
	while (n < 0 && errno == EINTR);
	return n < 0 ? error_set_errno(err, errno, "read the archive") : n;
}

static ssize_t blob_read(void *data, void *buffer, size_t size, struct error *err)
{
	struct worker *w = data;
	if (w->position == w->options.options.blob_size)
		return 0;
	if (w->fed <= w->position && wait_for_feed(w, err) < 0)
		return -1;
	if (size > w->fed - w->position)
		size = w->fed - w->position;
	ssize_t n = pread(WORKER_BLOB, buffer, size, (off_t)w->position);
	if (n < 0)
		return error_set_errno(err, errno, "read the blob");
	if (n == 0)
		return error_set(err, ERROR_INTEGRITY, "the blob ends after %llu of %llu bytes",
			(unsigned long long)w->position,
			(unsigned long long)w->options.options.blob_size);
	w->position += (uint64_t)n;
	return n;
}

static void report_progress(void *data, uint64_t consumed, uint64_t produced)
{
	struct worker *w = data;
	int64_t now = now_ms();
	if (now - w->progress_at < PROGRESS_INTERVAL_MS)
		return;
	w->progress_at = now;
	struct worker_message m = message_of(WORKER_PROGRESS);
	m.progress.consumed = consumed;
	m.progress.produced = produced;
	// An agent that is too busy to read it misses nothing.
	send(WORKER_SOCKET, &m, sizeof(m), MSG_DONTWAIT | MSG_NOSIGNAL);
}

// May this process set what the privileged directory form needs? Only trying tells: root in a user
// namespace or in a container may not.
static bool may_set_trusted(void)
{
	static const char name[] = "trusted.stoker.probe";
	if (fsetxattr(WORKER_OUTPUT, name, "y", 1, 0) < 0)
		return false;
	fremovexattr(WORKER_OUTPUT, name);
	return true;
}

static enum confine_profile choose_profile(const struct worker_message *options)
{
	if (options->options.format == LAYER_EROFS)
		return CONFINE_IMAGE;
	return may_set_trusted() ? CONFINE_DIRECTORY_PRIVILEGED : CONFINE_DIRECTORY_UNPRIVILEGED;
}

static int receive_options(struct worker *w, struct error *err)
{
	if (receive(&w->options, true, err) < 0)
		return -1;
	if (w->options.type != WORKER_OPTIONS || w->options.options.format > LAYER_DIRECTORY)
		return error_set(
			err, ERROR_SYSTEM, "layer worker: the first message is not the options");
	return 0;
}

static int compare_numbers(const void *a, const void *b)
{
	return *(const int *)a - *(const int *)b;
}

// What libraries do once, with files, has to happen while files can still be opened.
static void prepare_libraries(void)
{
	// libarchive converts the names in PAX headers from UTF-8 to the locale, and iconv_open()
	// reads a file on its first call. tar.c does not depend on whether the conversion works.
	iconv_t conversion = iconv_open("ANSI_X3.4-1968", "UTF-8");
	if (conversion != (iconv_t)-1)
		iconv_close(conversion);
	sha256_prepare();
	// Arenas for each thread would cost address space and page tables; the threads hardly
	// allocate.
	mallopt(M_ARENA_MAX, 1);
	// qsort() asks once how much memory there is, in some C libraries by /proc/meminfo.
	int numbers[1024] = {1};
	qsort(numbers, array_size(numbers), sizeof(numbers[0]), compare_numbers);
}

static struct layer_sink *make_sink(const struct worker *w)
{
	const struct layer_limits *limits = &w->options.options.limits;
	switch (w->profile) {
	case CONFINE_DIRECTORY_PRIVILEGED:
		return directory_writer_new(WORKER_OUTPUT, DIRECTORY_PRIVILEGED, limits);
	case CONFINE_DIRECTORY_UNPRIVILEGED:
		return directory_writer_new(WORKER_OUTPUT, DIRECTORY_UNPRIVILEGED, limits);
	default:
		return erofs_writer_new(WORKER_OUTPUT, limits);
	}
}

static int check_blob(
	const struct worker *w, const struct pipeline_totals *totals, struct error *err)
{
	struct oci_digest digest = oci_digest_from_sha256(totals->consumed_sha256);
	if (w->options.options.stream)
		return 0;
	if (oci_digest_equal(&digest, &w->options.options.blob_digest))
		return 0;
	return error_set(err, ERROR_INTEGRITY, "blob %s: the bytes have digest %s",
		w->options.options.blob_digest.text, digest.text);
}

static int check_totals(const struct worker *w, const struct pipeline_totals *totals,
	struct layer_result *result, struct error *err)
{
	if (check_blob(w, totals, err) < 0)
		return -1;
	const struct oci_digest *promised = &w->options.options.diff_id;
	result->diff_id = oci_digest_from_sha256(totals->produced_sha256);
	if (promised->text[0] && !oci_digest_equal(&result->diff_id, promised))
		return error_set(err, ERROR_INTEGRITY,
			"layer %s: uncompressed digest is %s, the image promises %s",
			w->options.options.blob_digest.text, result->diff_id.text, promised->text);
	result->uncompressed = totals->produced;
	return 0;
}

static int measure(const struct worker *w, struct layer_result *result, struct error *err)
{
	// A folder has no size of its own; the stream's is close.
	result->image_size = result->uncompressed;
	if (w->profile != CONFINE_IMAGE)
		return 0;
	// Not fstat(2): the C library calls newfstatat(2), which could ask about any path.
	off_t size = lseek(WORKER_OUTPUT, 0, SEEK_END);
	if (size < 0)
		return error_set_errno(err, errno, "size of the image");
	result->image_size = (uint64_t)size;
	return 0;
}

// A broken archive may be what its publisher made or what a transfer did to it. The digest of the
// whole blob tells, so the rest of it is read before anybody is blamed.
static void blame(const struct worker *w, struct pipeline *p, struct error *err)
{
	if (w->options.options.stream) {
		error_context(err, "layer");
		return;
	}
	if (err->kind == ERROR_INVALID || err->kind == ERROR_INTEGRITY) {
		struct pipeline_totals totals;
		struct error digest;
		if (pipeline_drain(p, &totals, &digest) == 0 &&
			check_blob(w, &totals, &digest) < 0) {
			*err = digest;
			return;
		}
	}
	error_context(err, "layer %s", w->options.options.blob_digest.text);
}

static int convert(struct worker *w, struct pipeline *p, struct layer_sink *sink,
	struct layer_result *result, struct error *err)
{
	struct pipeline_totals totals;
	pipeline_start(p);
	if (tar_read(pipeline_stream(p), sink, &w->options.options.limits, &result->entries, err) <
			0 ||
		pipeline_finish(p, &totals, err) < 0) {
		blame(w, p, err);
		return -1;
	}
	if (check_totals(w, &totals, result, err) < 0)
		return -1;
	if (sink->functions->finish(sink, err) < 0 || measure(w, result, err) < 0)
		return error_context(err, "layer %s", result->diff_id.text);
	return 0;
}

static int work(struct worker *w, struct layer_result *result, struct error *err)
{
	if (receive_options(w, err) < 0 ||
		confine_memory(w->options.options.limits.metadata_bytes, err) < 0)
		return -1;
	prepare_libraries();
	w->profile = choose_profile(&w->options);
	__attribute__((cleanup(cleanup_sink))) struct layer_sink *sink = make_sink(w);
	if (confine_privileges(w->profile, WORKER_OUTPUT, err) < 0)
		return error_context(err, "confine the layer worker");
	bool stream = w->options.options.stream;
	const struct pipeline_source source = {.read = stream ? stream_read : blob_read,
		.plain = stream,
		.progress = report_progress,
		.data = w};
	cleanup_pipeline struct pipeline *p =
		pipeline_new(&source, w->options.options.limits.bytes, err);
	if (!p)
		return -1;
	if (confine_system_calls(w->profile, WORKER_SOCKET, err) < 0)
		return error_context(err, "confine the layer worker");
	if (convert(w, p, sink, result, err) < 0) {
		// The first thread may sit in the source, waiting for a feed that never comes; the
		// end of the process is the way to stop it.
		struct worker_message m = message_of(WORKER_FAILURE);
		m.failure = *err;
		send_message(&m);
		_exit(1);
	}
	return 0;
}

int layer_worker_main(void)
{
	struct worker w = {0};
	struct layer_result result = {0};
	struct error err = {0};
	struct worker_message m;
	int code = work(&w, &result, &err);
	if (code == 0) {
		m = message_of(WORKER_RESULT);
		m.result = result;
	} else {
		m = message_of(WORKER_FAILURE);
		m.failure = err;
	}
	send_message(&m);
	// Without exit handlers: libcrypto's would take locks and calls that the filter does not
	// know.
	_exit(code == 0 ? 0 : 1);
}
