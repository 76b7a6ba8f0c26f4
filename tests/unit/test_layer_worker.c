// SPDX-License-Identifier: Apache-2.0
//
// The layer worker: what it may do when it is confined, what it makes of good and bad blobs, and
// what the agent makes of a worker that misbehaves. The worker is this program started again with
// "layer".
#include "base/buffer.h"
#include "base/file.h"
#include "base/memory.h"
#include "base/text.h"
#include "oci/layer/worker.h"
#include "oci/layer/worker_confine.h"
#include "oci/layer/worker_protocol.h"

#include <isa-l/igzip_lib.h>
#include <linux/landlock.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

// ---- confinement ----

static int other_socket = -1;

static void call_nothing(void)
{
}

static void call_read_write(void)
{
	char c = 'x';
	int fds[2] = {-1, -1};
	(void)fds;
	// The socket pair was made before.
	if (send(WORKER_SOCKET, &c, 1, 0) != 1 || write(WORKER_SOCKET, &c, 1) != 1)
		_exit(1);
}

static void call_memory(void)
{
	void *p = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED || munmap(p, 1 << 20) < 0)
		_exit(1);
}

static void call_socket(void)
{
	socket(AF_INET, SOCK_STREAM, 0);
}

static void call_open(void)
{
	syscall(SYS_openat, AT_FDCWD, "/etc/passwd", O_RDONLY);
}

static void call_open2(void)
{
	syscall(SYS_openat2, AT_FDCWD, "/etc/passwd", NULL, 0);
}

static void call_exec(void)
{
	char *const none[] = {NULL};
	execve("/bin/true", none, none);
}

static void call_fork(void)
{
	if (fork() == 0)
		_exit(0);
}

static void call_kill(void)
{
	kill(getpid(), 0);
}

static void call_signal_parent(void)
{
	pid_t parent = getppid();
	syscall(SYS_tgkill, parent, parent, 0);
}

static void call_map_executable(void)
{
	mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

static void call_make_executable(void)
{
	static char page[8192];
	mprotect(
		(void *)(((uintptr_t)page + 4095) & ~(uintptr_t)4095), 4096, PROT_READ | PROT_EXEC);
}

static void call_send_elsewhere(void)
{
	send(other_socket, "x", 1, 0);
}

static void call_mount(void)
{
	syscall(SYS_mount, "none", "/", "tmpfs", 0, NULL);
}

static void call_unlink(void)
{
	syscall(SYS_unlinkat, AT_FDCWD, "nothing", 0);
}

static void call_abort(void)
{
	abort();
}

static void call_make_file(void)
{
	cleanup_fd int fd =
		openat(WORKER_OUTPUT, "made", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0 || mkdirat(WORKER_OUTPUT, "folder", 0700) < 0 ||
		linkat(WORKER_OUTPUT, "made", WORKER_OUTPUT, "folder/link", 0) < 0)
		_exit(1);
}

static void call_open_outside(void)
{
	cleanup_fd int up = openat(WORKER_OUTPUT, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	cleanup_fd int fd = openat(AT_FDCWD, "/etc/passwd", O_RDONLY | O_CLOEXEC);
	if (up >= 0 || fd >= 0)
		_exit(1);
}

// The null device, which is everywhere. A disk is no different.
static void call_open_device(void)
{
	if (mknodat(WORKER_OUTPUT, "device", S_IFCHR | 0666, makedev(1, 3)) < 0)
		_exit(1);
	cleanup_fd int fd = openat(WORKER_OUTPUT, "device", O_RDONLY | O_CLOEXEC);
	cleanup_fd int by_path = openat(AT_FDCWD, "/device", O_RDONLY | O_CLOEXEC);
	if (fd >= 0 || by_path >= 0 || errno != EACCES)
		_exit(5);
}

static const struct {
	const char *why;
	enum confine_profile profile;
	void (*call)(void);
	int signal; // that ends the process; 0: it lives
} calls[] = {
	{"nothing", CONFINE_IMAGE, call_nothing, 0},
	{"its own socket", CONFINE_IMAGE, call_read_write, 0},
	{"memory", CONFINE_IMAGE, call_memory, 0},
	{"socket", CONFINE_IMAGE, call_socket, SIGSYS},
	{"openat", CONFINE_IMAGE, call_open, SIGSYS},
	{"openat2", CONFINE_IMAGE, call_open2, SIGSYS},
	{"execve", CONFINE_IMAGE, call_exec, SIGSYS},
	{"fork", CONFINE_IMAGE, call_fork, SIGSYS},
	{"kill", CONFINE_IMAGE, call_kill, SIGSYS},
	{"signal to another process", CONFINE_IMAGE, call_signal_parent, SIGSYS},
	{"executable memory", CONFINE_IMAGE, call_map_executable, SIGSYS},
	{"memory made executable", CONFINE_IMAGE, call_make_executable, SIGSYS},
	{"another socket", CONFINE_IMAGE, call_send_elsewhere, SIGSYS},
	{"unlink", CONFINE_IMAGE, call_unlink, SIGSYS},
	{"abort is seen as abort", CONFINE_IMAGE, call_abort, SIGABRT},
	{"files in the folder", CONFINE_DIRECTORY_UNPRIVILEGED, call_make_file, 0},
	{"socket", CONFINE_DIRECTORY_UNPRIVILEGED, call_socket, SIGSYS},
	{"execve", CONFINE_DIRECTORY_UNPRIVILEGED, call_exec, SIGSYS},
	{"mount", CONFINE_DIRECTORY_UNPRIVILEGED, call_mount, SIGSYS},
	{"executable memory", CONFINE_DIRECTORY_UNPRIVILEGED, call_map_executable, SIGSYS},
	{"files outside the folder", CONFINE_DIRECTORY_UNPRIVILEGED, call_open_outside, 0},
	{"files in the folder", CONFINE_DIRECTORY_PRIVILEGED, call_make_file, 0},
	{"a device that was just made", CONFINE_DIRECTORY_PRIVILEGED, call_open_device, 0},
	{"mount", CONFINE_DIRECTORY_PRIVILEGED, call_mount, SIGSYS},
};

static void confine_or_exit(enum confine_profile profile)
{
	struct error err;
	if (confine_privileges(profile, WORKER_OUTPUT, &err) < 0 ||
		confine_system_calls(profile, WORKER_SOCKET, &err) < 0)
		_exit(2);
}

static void place(int fd, int number)
{
	if (dup2(fd, number) != number)
		_exit(3);
}

// Run the call in a confined child. Returns the wait status.
static int confined(enum confine_profile profile, void (*call)(void), int folder, bool in_thread);

static bool has_landlock(void)
{
	return syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION) >= 2;
}

// As a worker of the privileged directory form must.
static bool may_mount(void)
{
	int status = 0;
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (pid == 0)
		_exit(unshare(CLONE_NEWNS) < 0 ||
			mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) < 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return status == 0;
}

static bool possible(size_t i)
{
	if (calls[i].profile == CONFINE_DIRECTORY_PRIVILEGED)
		return may_mount();
	return calls[i].call != call_open_outside || has_landlock();
}

struct late_call {
	pthread_mutex_t lock;
	void (*call)(void);
};

static void *late_main(void *data)
{
	struct late_call *late = data;
	pthread_mutex_lock(&late->lock); // until the process is confined
	late->call();
	return NULL;
}

static void confined_child(enum confine_profile profile, void (*call)(void), bool in_thread)
{
	struct late_call late = {PTHREAD_MUTEX_INITIALIZER, call};
	pthread_t thread;
	if (!in_thread) {
		confine_or_exit(profile);
		call();
		_exit(0);
	}
	pthread_mutex_lock(&late.lock);
	if (pthread_create(&thread, NULL, late_main, &late) != 0)
		_exit(4);
	confine_or_exit(profile);
	pthread_mutex_unlock(&late.lock);
	pthread_join(thread, NULL);
	_exit(0);
}

static int confined(enum confine_profile profile, void (*call)(void), int folder, bool in_thread)
{
	int pair[2], status;
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		// Above all numbers that are about to be taken.
		int low = fcntl(pair[0], F_DUPFD, 20), out = fcntl(folder, F_DUPFD, 20);
		other_socket = fcntl(pair[1], F_DUPFD, 20);
		place(low, WORKER_SOCKET);
		place(out, WORKER_OUTPUT);
		confined_child(profile, call, in_thread);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	close(pair[0]);
	close(pair[1]);
	return status;
}

static void check_call(size_t i, bool in_thread)
{
	char folder[] = "test_layer_worker.XXXXXX";
	struct error err;
	assert_non_null(mkdtemp(folder));
	assert_int_equal(chmod(folder, 0777), 0);
	cleanup_fd int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int status = confined(calls[i].profile, calls[i].call, fd, in_thread);
	directory_remove(AT_FDCWD, folder, &err);
	if (calls[i].signal ? !WIFSIGNALED(status) || WTERMSIG(status) != calls[i].signal
			    : status != 0)
		fail_msg("%s%s: wait status %#x", calls[i].why, in_thread ? " in a thread" : "",
			status);
}

static void test_confined_calls(void **state)
{
	(void)state;
	for (size_t i = 0; i < array_size(calls); i++)
		if (possible(i))
			check_call(i, false);
}

// The filter holds for threads that were there before.
static void test_confined_threads(void **state)
{
	(void)state;
	for (size_t i = 0; i < array_size(calls); i++)
		if (calls[i].profile == CONFINE_IMAGE && calls[i].signal == SIGSYS)
			check_call(i, true);
}

// ---- the whole worker ----

static void put_tar_entry(
	struct buffer *b, const char *name, char type, const char *content, size_t size)
{
	char header[512] = {0};
	snprintf(header, 100, "%s", name);
	memcpy(header + 100,
		"0000755\0"
		"0000000\0"
		"0000000\0",
		24);
	snprintf(header + 124, 12, "%011zo", size);
	memcpy(header + 136,
		"00000000007\0"
		"        ",
		20);
	header[156] = type;
	memcpy(header + 257,
		"ustar\0"
		"00",
		8);
	unsigned sum = 0;
	for (size_t i = 0; i < sizeof(header); i++)
		sum += (unsigned char)header[i];
	snprintf(header + 148, 8, "%06o", sum);
	buffer_append(b, header, sizeof(header));
	static const char zeros[512];
	buffer_append(b, content, size);
	buffer_append(b, zeros, (512 - size % 512) % 512);
}

static void put_tar_end(struct buffer *b)
{
	static const char zeros[1024];
	buffer_append(b, zeros, sizeof(zeros));
}

static void compress_gzip(const struct buffer *in, struct buffer *out)
{
	struct isal_zstream s;
	isal_deflate_init(&s);
	s.gzip_flag = IGZIP_GZIP;
	s.end_of_stream = 1;
	s.next_in = (uint8_t *)in->data;
	s.avail_in = (uint32_t)in->size;
	s.avail_out = (uint32_t)in->size + 1000;
	s.next_out = (uint8_t *)buffer_reserve(out, s.avail_out);
	assert_int_equal(isal_deflate(&s), COMP_OK);
	buffer_commit(out, s.total_out);
}

enum twist {
	NO_TWIST,
	PLAIN,	      // not compressed
	WRONG_DIGEST, // of the blob
	WRONG_DIFF_ID,
	FLIP_BYTE,	 // in the blob, its digest promised
	FLIP_AND_DIGEST, // and another digest promised
	CUT_FILE,	 // the file is shorter than promised
	SMALL_LIMIT,
	TAR_CUT,
	TAR_DOTDOT,
	DOTDOT_AND_DIGEST,
};

static const struct {
	enum twist twist;
	enum layer_format format;
	enum error_kind kind;
	const char *error;
	const char *why;
} runs[] = {
	{NO_TWIST, LAYER_EROFS, 0, NULL, "a good layer"},
	{NO_TWIST, LAYER_DIRECTORY, 0, NULL, "a good layer into a folder"},
	{PLAIN, LAYER_EROFS, 0, NULL, "not compressed"},
	{WRONG_DIGEST, LAYER_EROFS, ERROR_INTEGRITY,
		": the bytes have digest sha256:", "another blob"},
	{WRONG_DIFF_ID, LAYER_EROFS, ERROR_INTEGRITY,
		", the image promises sha256:", "another tar"},
	{FLIP_BYTE, LAYER_EROFS, ERROR_INTEGRITY, "gzip stream is corrupt near byte ",
		"published like this"},
	{FLIP_AND_DIGEST, LAYER_EROFS, ERROR_INTEGRITY, ": the bytes have digest sha256:",
		"broken on the way: the digest is the better reason"},
	{CUT_FILE, LAYER_EROFS, ERROR_INTEGRITY, ": the blob ends after ",
		"fewer bytes than promised"},
	{SMALL_LIMIT, LAYER_EROFS, ERROR_LIMIT, "more than 100000 bytes", "a bomb"},
	{TAR_CUT, LAYER_EROFS, ERROR_INTEGRITY, "ends inside entry", "half an archive"},
	{TAR_DOTDOT, LAYER_EROFS, ERROR_INVALID, "..", "a way up"},
	{TAR_DOTDOT, LAYER_DIRECTORY, ERROR_INVALID, "..", "a way up from a folder"},
	{DOTDOT_AND_DIGEST, LAYER_EROFS, ERROR_INTEGRITY,
		": the bytes have digest sha256:", "an archive that nobody published"},
};

struct outcome {
	struct loop *loop;
	bool ended, failed;
	struct layer_result result;
	struct error err;
	uint64_t consumed;
};

static void on_progress(void *data, uint64_t consumed, uint64_t produced)
{
	struct outcome *o = data;
	assert_true(consumed >= o->consumed);
	o->consumed = consumed;
	(void)produced;
}

static void on_done(void *data, const struct layer_result *result, const struct error *err)
{
	struct outcome *o = data;
	assert_false(o->ended);
	o->ended = true;
	o->failed = err != NULL;
	if (err)
		o->err = *err;
	else
		o->result = *result;
	loop_quit(o->loop, 0);
}

struct drip {
	struct layer_worker *worker;
	struct loop_source *timer;
	uint64_t fed, step, size;
};

static void feed_some(void *data)
{
	struct drip *d = data;
	d->fed = d->fed + d->step < d->size ? d->fed + d->step : d->size;
	layer_worker_feed(d->worker, d->fed);
	if (d->fed < d->size)
		loop_timer_set(d->timer, 1);
}

static void on_stuck(void *data)
{
	(void)data;
	fail_msg("the worker is stuck");
}

// Start a worker over `blob` and run until it is done.
static struct outcome run_worker(const struct layer_worker_options *options)
{
	struct error err;
	cleanup_loop struct loop *loop = loop_new(&err);
	assert_non_null(loop);
	struct outcome o = {.loop = loop};
	const struct layer_worker_events events = {on_progress, on_done};
	cleanup_layer_worker struct layer_worker *w =
		layer_worker_start(loop, options, &events, &o, &err);
	if (!w)
		fail_msg("%s", err.text);
	struct drip d = {
		.worker = w, .size = options->blob_size, .step = options->blob_size / 3 + 1};
	d.timer = loop_add_timer(loop, 0, feed_some, &d, &err);
	assert_non_null(loop_add_timer(loop, 20000, on_stuck, NULL, &err));
	assert_int_equal(loop_run(loop, &err), 0);
	assert_true(o.ended);
	return o;
}

static void make_tar(enum twist twist, struct buffer *tar)
{
	static char noise[200000];
	for (size_t i = 0; i < sizeof(noise); i++)
		noise[i] = (char)(i * i >> 7);
	put_tar_entry(tar, "folder/", '5', "", 0);
	put_tar_entry(tar, "folder/file", '0', noise, sizeof(noise));
	if (twist == TAR_DOTDOT || twist == DOTDOT_AND_DIGEST)
		put_tar_entry(tar, "folder/../../file", '0', "x", 1);
	put_tar_end(tar);
	if (twist == TAR_CUT)
		tar->size = 100000;
}

static int memory_file(const struct buffer *b)
{
	int fd = memfd_create("blob", MFD_CLOEXEC);
	struct error err;
	assert_true(fd >= 0);
	assert_int_equal(write_all(fd, b->data, b->size, "blob", &err), 0);
	return fd;
}

static void check_run(size_t i)
{
	enum twist twist = runs[i].twist;
	cleanup_buffer struct buffer tar = {0}, blob = {0};
	struct layer_worker_options o = {.format = runs[i].format, .limits = layer_limits_default};
	char folder[] = "test_layer_worker.XXXXXX";
	struct error err;
	make_tar(twist, &tar);
	o.diff_id = oci_digest_of(tar.data, twist == WRONG_DIFF_ID ? 1 : tar.size);
	if (twist == PLAIN)
		buffer_append(&blob, tar.data, tar.size);
	else
		compress_gzip(&tar, &blob);
	struct oci_digest before = oci_digest_of(blob.data, blob.size);
	if (twist == FLIP_BYTE || twist == FLIP_AND_DIGEST)
		blob.data[blob.size / 2] ^= 0x55;
	o.blob_digest = oci_digest_of(blob.data, blob.size);
	if (twist == FLIP_AND_DIGEST)
		o.blob_digest = before;
	if (twist == WRONG_DIGEST || twist == DOTDOT_AND_DIGEST)
		o.blob_digest = oci_digest_of("x", 1);
	o.blob_size = blob.size;
	if (twist == CUT_FILE)
		blob.size /= 2;
	if (twist == SMALL_LIMIT)
		o.limits.bytes = 100000;
	cleanup_fd int blob_fd = memory_file(&blob);
	assert_non_null(mkdtemp(folder));
	cleanup_fd int output = runs[i].format == LAYER_EROFS
					? memfd_create("image", MFD_CLOEXEC)
					: open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	o.blob_fd = blob_fd;
	o.output_fd = output;
	struct outcome result = run_worker(&o);
	struct stat st = {0};
	bool file_there = fstatat(output, "folder/file", &st, 0) == 0;
	directory_remove(AT_FDCWD, folder, &err);
	if (result.failed != (runs[i].error != NULL))
		fail_msg("%s: %s", runs[i].why, result.failed ? result.err.text : "no error");
	if (result.failed &&
		(result.err.kind != runs[i].kind || !strstr(result.err.text, runs[i].error)))
		fail_msg("%s: %s (%s)", runs[i].why, result.err.text,
			error_kind_name(result.err.kind));
	if (result.failed)
		return;
	assert_string_equal(result.result.diff_id.text, o.diff_id.text);
	assert_int_equal(result.result.uncompressed, tar.size);
	assert_int_equal(result.result.entries, 2);
	if (o.format == LAYER_DIRECTORY)
		assert_true(file_there && st.st_size == 200000);
}

static void test_runs(void **state)
{
	(void)state;
	for (size_t i = 0; i < array_size(runs); i++)
		check_run(i);
}

// ---- a worker in a stranger's hands ----

enum mischief {
	DIE = 1000, // the size of the blob tells the false worker what to do
	EXIT,
	HANG,
	SHORT_MESSAGE,
	UNKNOWN_TYPE,
	FALSE_DIGEST,
	HUGE_RESULT,
	WRITE_BLOB,
	UNTERMINATED_ERROR,
	NO_ERROR,
	CONTROL_CHARACTERS,
};

static const struct {
	enum mischief mischief;
	const char *error;
} mischiefs[] = {
	{DIE, "the layer worker was killed by signal 9 (Killed)"},
	{EXIT, "the layer worker exited with status 7"},
	{HANG, "the layer worker sent nothing more, without ending"},
	{SHORT_MESSAGE, "the layer worker sent a message of the wrong size"},
	{UNKNOWN_TYPE, "the layer worker sent a message of an unknown type"},
	{FALSE_DIGEST, "the layer worker sent a result that cannot be true"},
	{HUGE_RESULT, "the layer worker sent a result that cannot be true"},
	{WRITE_BLOB, "the blob was only to be read"},
	{UNTERMINATED_ERROR, "the layer worker sent an error that is none"},
	{NO_ERROR, "the layer worker sent an error that is none"},
	{CONTROL_CHARACTERS, "two?lines"},
};

static void say(const struct worker_message *m, size_t size)
{
	if (send(WORKER_SOCKET, m, size, MSG_NOSIGNAL) < 0)
		_exit(9);
}

static void misbehave(const struct worker_message *options)
{
	struct worker_message m = {.type = WORKER_FAILURE};
	m.failure.kind = ERROR_INVALID;
	switch ((enum mischief)options->options.blob_size) {
	case DIE:
		raise(SIGKILL);
		break;
	case EXIT:
		_exit(7);
	case HANG:
		close(WORKER_SOCKET);
		sleep(30);
		break;
	case SHORT_MESSAGE:
		say(&m, 5);
		break;
	case UNKNOWN_TYPE:
		m.type = 77;
		say(&m, sizeof(m));
		break;
	case FALSE_DIGEST:
		m.type = WORKER_RESULT;
		m.result = (struct layer_result){.diff_id = {"sha256:no"}};
		say(&m, sizeof(m));
		break;
	case HUGE_RESULT:
		m.type = WORKER_RESULT;
		m.result = (struct layer_result){
			.diff_id = options->options.diff_id, .uncompressed = UINT64_MAX};
		say(&m, sizeof(m));
		break;
	case WRITE_BLOB:
		snprintf(m.failure.text, sizeof(m.failure.text), "the blob was %s",
			pwrite(WORKER_BLOB, "x", 1, 0) == 1 ? "written to" : "only to be read");
		say(&m, sizeof(m));
		break;
	case UNTERMINATED_ERROR:
		memset(m.failure.text, 'x', sizeof(m.failure.text));
		say(&m, sizeof(m));
		break;
	case NO_ERROR:
		m.failure.kind = ERROR_NONE;
		say(&m, sizeof(m));
		break;
	case CONTROL_CHARACTERS:
		snprintf(m.failure.text, sizeof(m.failure.text), "two\nlines");
		say(&m, sizeof(m));
		break;
	}
	pause();
}

static void test_mischief(void **state)
{
	(void)state;
	for (size_t i = 0; i < array_size(mischiefs); i++) {
		cleanup_fd int blob = memfd_create("blob", MFD_CLOEXEC);
		cleanup_fd int output = memfd_create("image", MFD_CLOEXEC);
		const struct layer_worker_options o = {
			.blob_fd = blob,
			.output_fd = output,
			.blob_size = mischiefs[i].mischief,
			.blob_digest = oci_digest_of("", 0),
			.diff_id = oci_digest_of("", 0),
			.limits = {.bytes = 12345}, // tells the false worker from the true one
		};
		struct outcome result = run_worker(&o);
		if (!result.failed || !strstr(result.err.text, mischiefs[i].error))
			fail_msg(
				"expected \"%s\", got \"%s\"", mischiefs[i].error, result.err.text);
	}
}

// The true worker, unless the options ask for a false one.
static int worker_main(void)
{
	struct worker_message m;
	if (recv(WORKER_SOCKET, &m, sizeof(m), MSG_PEEK) == sizeof(m) &&
		m.options.limits.bytes == 12345)
		misbehave(&m);
	return layer_worker_main();
}

#ifndef __SANITIZE_ADDRESS__
// In a child: 0 if a quarter of what is always left is granted and more than all of it is not.
static int try_memory(void)
{
	struct error err;
	const size_t gib = (size_t)1 << 30;
	if (confine_memory(gib, &err) < 0)
		return 1;
	void *some = mmap(NULL, gib / 4, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	void *all = mmap(NULL, 4 * gib, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	return some == MAP_FAILED ? 2 : all != MAP_FAILED ? 3 : 0;
}

static void test_memory_is_bounded(void **state)
{
	(void)state;
	int status;
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (pid == 0)
		_exit(try_memory());
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}
#endif

int main(int argc, char **argv)
{
	if (argc == 2 && streq(argv[1], "layer"))
		return worker_main();
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_confined_calls),
		cmocka_unit_test(test_confined_threads),
#ifndef __SANITIZE_ADDRESS__
		cmocka_unit_test(test_memory_is_bounded),
#endif
		cmocka_unit_test(test_runs),
		cmocka_unit_test(test_mischief),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
