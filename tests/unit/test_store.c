// SPDX-License-Identifier: Apache-2.0
// The store: what is visible when, what is in use, what goes first. Processes that die are
// children.
#include "base/text.h"
#include "base/time.h"
#include "oci/store/internal.h"
#include "oci/store/pin.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

enum { LAYER_BYTES = 1024 * 1024, CONTEND_MS = 200 };

struct fixture {
	char folder[64];
	char state[96], run[96];
	struct store *s;
	struct error err;
};

static const struct store_limits no_limits = {0};

#define ok(f, call)                                    \
	do {                                           \
		if ((call) < 0)                        \
			fail_msg("%s", (f)->err.text); \
	} while (0)

static struct store *reopen(struct fixture *f, const struct store_limits *limits)
{
	store_free(f->s);
	f->s = store_open(f->state, f->run, limits, &f->err);
	if (!f->s)
		fail_msg("%s", f->err.text);
	return f->s;
}

static int setup(void **state)
{
	struct fixture *f = xcalloc(1, sizeof(*f));
	// In memory where there is such a place: a second of fsync would say nothing more.
	snprintf(f->folder, sizeof(f->folder), "/dev/shm/test_store.XXXXXX");
	if (!mkdtemp(f->folder)) {
		snprintf(f->folder, sizeof(f->folder), "/tmp/test_store.XXXXXX");
		if (!mkdtemp(f->folder))
			return -1;
	}
	snprintf(f->state, sizeof(f->state), "%s/state", f->folder);
	snprintf(f->run, sizeof(f->run), "%s/run", f->folder);
	reopen(f, &no_limits);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	struct error ignored;
	store_free(f->s);
	directory_remove(AT_FDCWD, f->folder, &ignored);
	free(f);
	return 0;
}

static size_t entries(struct fixture *f, int dirfd, const char *folder)
{
	cleanup_arena struct arena a = {0};
	struct store_names names;
	ok(f, store_names(dirfd, folder, &a, &names, &f->err));
	return names.count;
}

static struct oci_digest digest_of(const char *text)
{
	return oci_digest_of(text, strlen(text));
}

// A layer of LAYER_BYTES in either form. Its diff id is that of `name`; the lease comes back.
static struct store_layer make_layer(struct fixture *f, const char *name, enum layer_format format)
{
	static const char content[LAYER_BYTES] = "layer";
	struct oci_digest diff_id = digest_of(name);
	struct store_stage stage;
	struct store_layer layer;
	ok(f, store_stage_new(f->s, format, &stage, &f->err));
	cleanup_fd int inside = -1;
	int fd = stage.fd;
	if (format == LAYER_DIRECTORY)
		fd = inside = openat(stage.fd, "file", O_WRONLY | O_CREAT | O_EXCL, 0644);
	ok(f, write_all(fd, content, sizeof(content), name, &f->err));
	fsync(fd); // blocks are counted, so they must be given out
	ok(f, store_stage_commit(f->s, &stage, &diff_id, &layer, &f->err));
	assert_int_equal(stage.name[0], '\0');
	return layer;
}

static void make_and_release(struct fixture *f, const char *name)
{
	struct store_layer layer = make_layer(f, name, LAYER_EROFS);
	store_layer_release(&layer);
}

static bool have_layer(struct fixture *f, const char *name, enum layer_format format)
{
	struct store_layer layer;
	struct oci_digest diff_id = digest_of(name);
	int found = store_layer_lease(f->s, &diff_id, format, &layer, &f->err);
	ok(f, found);
	if (found)
		store_layer_release(&layer);
	return found;
}

static struct oci_reference reference_of(const char *text)
{
	struct oci_reference r;
	struct error err;
	assert_int_equal(oci_reference_parse(text, &r, &err), 0);
	return r;
}

// Documents and record of an image with these layers (NULL-terminated), used `age_s` seconds ago.
// The manifest may lie about the number of layers.
static struct store_image make_image_of(struct fixture *f, const char *reference,
	const char *const *layers, size_t manifest_layers, int64_t age_s)
{
	cleanup_buffer struct buffer config = {0}, manifest = {0};
	struct store_image image = {.reference = reference_of(reference), .pulled_ms = wall_ms()};
	buffer_printf(&config,
		"{\"architecture\":\"amd64\",\"os\":\"linux\",\"author\":\"%s\","
		"\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[",
		reference);
	for (size_t i = 0; layers[i]; i++)
		buffer_printf(&config, "%s\"%s\"", i ? "," : "", digest_of(layers[i]).text);
	buffer_puts(&config, "]}}");
	image.config = oci_digest_of(config.data, config.size);
	buffer_printf(&manifest,
		"{\"schemaVersion\":2,\"mediaType\":\"application/vnd.oci.image.manifest.v1+json\","
		"\"config\":{\"mediaType\":\"application/vnd.oci.image.config.v1+json\","
		"\"digest\":\"%s\",\"size\":%zu},\"layers\":[",
		image.config.text, config.size);
	for (size_t i = 0; i < manifest_layers; i++)
		buffer_printf(&manifest,
			"%s{\"mediaType\":\"application/"
			"vnd.oci.image.layer.v1.tar\",\"digest\":\"%s\","
			"\"size\":10}",
			i ? "," : "", digest_of("blob").text);
	buffer_puts(&manifest, "]}");
	image.manifest = image.target = oci_digest_of(manifest.data, manifest.size);
	image.platform = (struct oci_platform){.os = "linux", .architecture = "amd64"};
	ok(f, store_document_put(f->s, &image.config, config.data, config.size, &f->err));
	ok(f, store_document_put(f->s, &image.manifest, manifest.data, manifest.size, &f->err));
	ok(f, store_image_put(f->s, &image, &f->err));
	char name[STORE_NAME_MAX];
	struct timespec used = {.tv_sec = wall_ms() / 1000 - age_s};
	const struct timespec times[2] = {used, used};
	assert_int_equal(
		utimensat(f->s->images_fd, store_image_name(&image.reference, name), times, 0), 0);
	return image;
}

static struct store_image make_image(
	struct fixture *f, const char *reference, const char *const *layers, int64_t age_s)
{
	size_t count = 0;
	while (layers[count])
		count++;
	return make_image_of(f, reference, layers, count, age_s);
}

static bool have_image(struct fixture *f, const char *reference)
{
	struct oci_reference r = reference_of(reference);
	struct store_image image;
	return store_image_get(f->s, &r, &image, &f->err) == 0;
}

// Run `action` in a child that is killed with SIGKILL when it is done. Returns once the child is
// ready; `end` then kills it.
static pid_t start_child(struct fixture *f, void (*action)(struct fixture *))
{
	int ready[2];
	assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL); // where a check fails, nothing waits forever
		f->s = store_open(f->state, f->run, &no_limits, &f->err);
		if (f->s)
			action(f);
		if (!f->s || write(ready[1], "r", 1) != 1)
			_exit(1);
		for (;;)
			pause();
	}
	close(ready[1]);
	char c;
	assert_int_equal(read(ready[0], &c, 1), 1);
	close(ready[0]);
	return pid;
}

static void end_child(pid_t pid)
{
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
}

static void test_commit_and_lease(void **state)
{
	struct fixture *f = *state;
	static const enum layer_format formats[] = {LAYER_EROFS, LAYER_DIRECTORY};
	for (size_t i = 0; i < array_size(formats); i++) {
		assert_false(have_layer(f, "a", formats[i]));
		struct store_layer layer = make_layer(f, "a", formats[i]);
		assert_true(layer.fd >= 0);
		assert_true(have_layer(f, "a", formats[i]));
		uint64_t bytes;
		ok(f, store_layer_bytes(&layer, &bytes, &f->err));
		assert_in_range(bytes, LAYER_BYTES, LAYER_BYTES + 64 * 1024);
		// The race is lost: the first one stays, ours goes, and we have a lease.
		struct stat first, second;
		assert_int_equal(fstat(layer.fd, &first), 0);
		struct store_layer again = make_layer(f, "a", formats[i]);
		assert_int_equal(fstat(again.fd, &second), 0);
		assert_int_equal(first.st_ino, second.st_ino);
		store_layer_release(&layer);
		store_layer_release(&again);
	}
	assert_int_equal(entries(f, f->s->tmp_fd, "."), 0);
	assert_int_equal(entries(f, f->s->layers_fd, "."), 2);
	struct store_layer zeroed = {0};
	store_layer_release(&zeroed);
	assert_true(fcntl(0, F_GETFD) >= 0); // standard input is still there
	struct store_stage none = {0};
	store_stage_drop(f->s, &none);
	assert_true(fcntl(0, F_GETFD) >= 0);
}

static void leave_stages(struct fixture *f)
{
	struct store_stage file, folder;
	int lock;
	struct oci_digest d = digest_of("a");
	ok(f, store_stage_new(f->s, LAYER_EROFS, &file, &f->err));
	ok(f, store_stage_new(f->s, LAYER_DIRECTORY, &folder, &f->err));
	mkdirat(folder.fd, "sub", 0755);
	close(openat(folder.fd, "sub/file", O_WRONLY | O_CREAT, 0644));
	assert_int_equal(store_layer_lock(f->s, &d, &lock, &f->err), 0);
}

static void test_leftovers_are_swept(void **state)
{
	struct fixture *f = *state;
	pid_t pid = start_child(f, leave_stages);
	reopen(f, &no_limits);
	assert_int_equal(entries(f, f->s->tmp_fd, "."), 2); // the maker lives
	assert_int_equal(entries(f, f->s->run_fd, "locks"), 1);
	end_child(pid);
	reopen(f, &no_limits);
	assert_int_equal(entries(f, f->s->tmp_fd, "."), 0);
	assert_int_equal(entries(f, f->s->run_fd, "locks"), 0);
}

static void lock_a(struct fixture *f)
{
	int lock;
	struct oci_digest d = digest_of("a");
	assert_int_equal(store_layer_lock(f->s, &d, &lock, &f->err), 0);
}

// Of other hands, or opened by them: what is in there is set-user-id programs and devices.
static void test_folders_are_closed_to_others(void **state)
{
	struct fixture *f = *state;
	static const char *const folders[] = {
		"layers/sha256", "blobs/sha256", "images", "parts", "tmp"};
	for (size_t i = 0; i < array_size(folders); i++)
		assert_int_equal(fchmodat(f->s->state_fd, folders[i], 0755, 0), 0);
	reopen(f, &no_limits);
	for (size_t i = 0; i < array_size(folders); i++) {
		struct stat st;
		assert_int_equal(fstatat(f->s->state_fd, folders[i], &st, 0), 0);
		if ((st.st_mode & 0777) != 0700)
			fail_msg("%s has mode %o", folders[i], st.st_mode & 0777);
	}
}

static void test_one_maker_at_a_time(void **state)
{
	struct fixture *f = *state;
	struct oci_digest a = digest_of("a"), b = digest_of("b");
	int lock = -1;
	pid_t pid = start_child(f, lock_a);
	assert_int_equal(store_layer_lock(f->s, &a, &lock, &f->err), 1);
	assert_int_equal(lock, -1);
	assert_int_equal(store_layer_lock(f->s, &b, &lock, &f->err), 0);
	close(lock);
	end_child(pid);
	assert_int_equal(store_layer_lock(f->s, &a, &lock, &f->err), 0);
	// The lock's file goes with the commit, though we still hold it.
	struct store_layer layer = make_layer(f, "a", LAYER_EROFS);
	assert_int_equal(entries(f, f->s->run_fd, "locks"), 1); // b's
	close(lock);
	store_layer_release(&layer);
}

static void lease_a(struct fixture *f)
{
	struct store_layer layer;
	struct oci_digest d = digest_of("a");
	assert_int_equal(store_layer_lease(f->s, &d, LAYER_EROFS, &layer, &f->err), 1);
	d = digest_of("b");
	assert_int_equal(store_layer_lease(f->s, &d, LAYER_DIRECTORY, &layer, &f->err), 1);
}

static void test_leased_layers_stay(void **state)
{
	struct fixture *f = *state;
	const struct store_prune_options all = {.all = true};
	struct store_prune_report report;
	make_and_release(f, "a");
	make_and_release(f, "c");
	struct store_layer folder = make_layer(f, "b", LAYER_DIRECTORY);
	store_layer_release(&folder);
	pid_t pid = start_child(f, lease_a);
	const struct store_prune_options dry = {.dry_run = true};
	ok(f, store_prune(f->s, &dry, &report, &f->err));
	assert_int_equal(report.layers, 1);
	assert_true(have_layer(f, "c", LAYER_EROFS));
	ok(f, store_prune(f->s, &all, &report, &f->err));
	assert_int_equal(report.layers, 1);
	assert_true(have_layer(f, "a", LAYER_EROFS));
	assert_true(have_layer(f, "b", LAYER_DIRECTORY));
	assert_false(have_layer(f, "c", LAYER_EROFS));
	end_child(pid); // its leases go with it
	ok(f, store_prune(f->s, &all, &report, &f->err));
	assert_int_equal(report.layers, 2);
	assert_true(report.bytes >= 2 * LAYER_BYTES);
	assert_int_equal(entries(f, f->s->layers_fd, "."), 0);
	assert_int_equal(entries(f, f->s->tmp_fd, "."), 0);
}

static void test_pinned_layers_stay(void **state)
{
	struct fixture *f = *state;
	const struct store_prune_options all = {.all = true};
	struct store_prune_report report;
	struct pin_layer pinned = {digest_of("a"), LAYER_EROFS};
	struct pin pin = {.directory = "/mnt/x y",
		.reference = "docker.io/library/x:latest",
		.mount_id = 7,
		.mount_namespace = pin_mount_namespace(),
		.layers = &pinned,
		.layer_count = 1};
	cleanup_fd int record = -1;
	make_and_release(f, "a");
	make_and_release(f, "b");
	ok(f, pin_write(f->s, &pin, &record, &f->err));
	ok(f, store_prune(f->s, &all, &report, &f->err));
	assert_int_equal(report.layers, 1);
	assert_true(have_layer(f, "a", LAYER_EROFS));
	cleanup_arena struct arena a = {0};
	struct pin found;
	assert_int_equal(pin_find(f->s, "/mnt/x y", &a, &found, &f->err), 1);
	assert_string_equal(found.reference, "docker.io/library/x:latest");
	assert_int_equal(found.mount_id, 7);
	assert_int_equal(pin_find(f->s, "/mnt/x", &a, &found, &f->err), 0);
	// A record of another boot pins nothing.
	cleanup_buffer struct buffer text = {0};
	char path[PIN_NAME_SIZE + 8];
	snprintf(path, sizeof(path), "mounts/%s", pin.name);
	ok(f, file_read(f->s->run_fd, path, PIN_BYTES_MAX, &text, &f->err));
	char *boot = strstr(text.data, "\"boot\": \"");
	assert_non_null(boot);
	boot[9] = boot[9] == '0' ? '1' : '0';
	ok(f, file_write_atomic(f->s->run_fd, path, text.data, text.size, 0600, &f->err));
	assert_int_equal(pin_find(f->s, "/mnt/x y", &a, &found, &f->err), 0);
	ok(f, store_prune(f->s, &all, &report, &f->err));
	assert_int_equal(report.layers, 1);
}

static void test_image_records(void **state)
{
	struct fixture *f = *state;
	static const char *const none[] = {NULL};
	struct store_image a = make_image(f, "python:3.12", none, 300);
	make_image(f, "localhost:5000/x/y:1", none, 200);
	make_image(f, "debian", none, 100);
	struct store_image got;
	struct oci_reference r = reference_of("docker.io/library/python:3.12");
	ok(f, store_image_get(f->s, &r, &got, &f->err));
	assert_string_equal(got.manifest.text, a.manifest.text);
	assert_string_equal(got.config.text, a.config.text);
	assert_string_equal(got.platform.os, "linux");
	assert_int_equal(got.pulled_ms, a.pulled_ms);
	assert_int_equal(got.format, LAYER_EROFS);

	static const char *const expected[2][3] = {{"debian", "localhost:5000/x/y", "python"},
		{"python", "debian", "localhost:5000/x/y"}};
	for (int i = 0; i < 2; i++) {
		cleanup_arena struct arena arena = {0};
		struct store_image *images;
		size_t count;
		ok(f, store_image_list(f->s, &arena, &images, &count, &f->err));
		assert_int_equal(count, 3);
		for (int k = 0; k < 3; k++) {
			char text[OCI_REFERENCE_TEXT_MAX];
			oci_reference_familiar(&images[k].reference, text);
			assert_true(starts_with(text, expected[i][k]));
		}
		// The second time python was put again: the record stands, its use is now.
		a.pulled_ms += 1000;
		ok(f, store_image_put(f->s, &a, &f->err));
		ok(f, store_image_get(f->s, &r, &got, &f->err));
		assert_int_equal(got.pulled_ms, a.pulled_ms - 1000);
		a.pulled_ms -= 1000;
	}
	ok(f, store_image_remove(f->s, &r, &f->err));
	assert_int_equal(store_image_get(f->s, &r, &got, &f->err), -1);
	assert_int_equal(f->err.kind, ERROR_NOT_FOUND);
	assert_string_equal(f->err.text, "image docker.io/library/python:3.12 is not here; pull it "
					 "with: stoker pull python:3.12");
	assert_int_equal(store_image_remove(f->s, &r, &f->err), -1);
	assert_string_equal(
		f->err.text, "image docker.io/library/python:3.12 is not here; see: stoker images");
}

static void test_damaged_files(void **state)
{
	struct fixture *f = *state;
	static const char *const layers[] = {"a", NULL};
	make_and_release(f, "a");
	struct store_image image = make_image(f, "x", layers, 0);
	struct oci_manifest manifest;
	struct oci_config config;
	cleanup_arena struct arena a = {0};
	char record[STORE_NAME_MAX];
	store_image_name(&image.reference, record);
	ok(f, store_image_load(f->s, &image, &a, &manifest, &config, &f->err));

	// A document that is not what its name says goes, so that the next pull fetches it.
	cleanup_fd int document = openat(f->s->blobs_fd, oci_digest_hex(&image.config), O_WRONLY);
	assert_int_equal(pwrite(document, "X", 1, 10), 1);
	assert_int_equal(store_image_load(f->s, &image, &a, &manifest, &config, &f->err), -1);
	assert_int_equal(f->err.kind, ERROR_INTEGRITY);
	assert_non_null(strstr(f->err.text, "was damaged and is removed; pull the image again"));
	assert_int_equal(store_image_load(f->s, &image, &a, &manifest, &config, &f->err), -1);
	assert_int_equal(f->err.kind, ERROR_NOT_FOUND);
	assert_true(starts_with(f->err.text, "image x:latest: document sha256:"));

	static const struct {
		const char *text, *why;
	} records[] = {
		{"", "empty: the file system lost the bytes"},
		{"{\"reference\": \"docker.io/library/x:latest\"}", "members are missing"},
		{"{\"reference\"", "cut off"},
		{"\x7f"
		 "ELF",
			"something else"},
	};
	for (size_t i = 0; i < array_size(records); i++) {
		struct store_image got, *images;
		size_t count;
		const char *text = records[i].text;
		ok(f, file_write_atomic(
			      f->s->images_fd, record, text, strlen(text), 0600, &f->err));
		if (store_image_get(f->s, &image.reference, &got, &f->err) == 0)
			fail_msg("accepted: %s", records[i].why);
		assert_int_equal(f->err.kind, ERROR_INTEGRITY);
		assert_non_null(
			strstr(f->err.text, "is damaged; remove it and pull the image again"));
		ok(f, store_image_list(f->s, &a, &images, &count, &f->err));
		assert_int_equal(count, 0);
	}
	const struct store_prune_options options = {0};
	struct store_prune_report report;
	ok(f, store_prune(f->s, &options, &report, &f->err));
	assert_int_equal(entries(f, f->s->images_fd, "."), 0);
	assert_int_equal(entries(f, f->s->blobs_fd, "."), 0);
}

static void test_documents_that_do_not_fit(void **state)
{
	struct fixture *f = *state;
	static const char *const layers[] = {"a", NULL};
	cleanup_arena struct arena a = {0};
	struct oci_manifest manifest;
	struct oci_config config;
	struct store_image image = make_image_of(f, "x", layers, 2, 0);
	assert_int_equal(store_image_load(f->s, &image, &a, &manifest, &config, &f->err), -1);
	assert_string_equal(f->err.text,
		"image x:latest: the manifest has 2 layers, the configuration 1 diff ids");
	struct store_image good = make_image(f, "y", layers, 0);
	struct store_layers leased;
	assert_int_equal(store_image_lease(f->s, &good, &leased, &f->err), -1);
	assert_int_equal(f->err.kind, ERROR_NOT_FOUND);
	assert_non_null(strstr(f->err.text, "is not here; pull it with: stoker pull y:latest"));
	make_and_release(f, "a");
	ok(f, store_image_lease(f->s, &good, &leased, &f->err));
	assert_int_equal(leased.count, 1);
	store_layers_release(&leased);
	good.config = image.config;
	assert_int_equal(store_image_load(f->s, &good, &a, &manifest, &config, &f->err), -1);
	assert_int_equal(f->err.kind, ERROR_INTEGRITY);
}

static void test_documents_stay_while_somebody_pulls(void **state)
{
	struct fixture *f = *state;
	const struct store_prune_options options = {0};
	struct store_prune_report report;
	static const char text[] = "{}";
	struct oci_digest d = oci_digest_of(text, 2);
	struct store *other = store_open(f->state, f->run, &no_limits, &f->err);
	assert_non_null(other);
	ok(f, store_document_put(other, &d, text, 2, &f->err));
	ok(f, store_prune(f->s, &options, &report, &f->err));
	assert_int_equal(entries(f, f->s->blobs_fd, "."), 1);
	cleanup_buffer struct buffer data = {0};
	ok(f, store_document_get(f->s, &d, 100, &data, &f->err));
	assert_int_equal(data.size, 2);
	store_free(other); // without having recorded an image: a pull that failed
	assert_int_equal(entries(f, f->s->blobs_fd, "."), 0);
}

static void test_parts(void **state)
{
	struct fixture *f = *state;
	struct oci_digest d = digest_of("blob");
	struct store_prune_report report;
	struct store_prune_options options = {0};
	int fd, map;
	ok(f, store_part_open(f->s, &d, &fd, &map, &f->err));
	ok(f, pwrite_all(fd, "data", 4, 0, "part", &f->err));
	ok(f, store_prune(f->s, &options, &report, &f->err)); // in use
	assert_int_equal(report.parts, 0);
	// A pull of an image that names the blob with another size would make the map anew.
	int second = -1, second_map = -1;
	assert_int_equal(store_part_open(f->s, &d, &second, &second_map, &f->err), 1);
	assert_true(second == -1 && second_map == -1);
	// Removed by its user, who still holds it: the next one is another's.
	struct oci_digest spoiled = digest_of("spoiled");
	assert_int_equal(store_part_open(f->s, &spoiled, &second, &second_map, &f->err), 0);
	store_part_remove(f->s, &spoiled);
	int third, third_map;
	assert_int_equal(store_part_open(f->s, &spoiled, &third, &third_map, &f->err), 0);
	store_part_remove(f->s, &spoiled);
	const int held[] = {second, second_map, third, third_map};
	for (size_t i = 0; i < array_size(held); i++)
		close(held[i]);
	close(fd);
	close(map);
	reopen(f, &no_limits); // a start leaves it for the next pull
	ok(f, store_part_open(f->s, &d, &fd, &map, &f->err));
	struct stat st;
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_size, 4);
	close(fd);
	close(map);
	options.keep_parts = true;
	ok(f, store_prune(f->s, &options, &report, &f->err));
	assert_int_equal(entries(f, f->s->parts_fd, "."), 2);
	options.keep_parts = false;
	options.dry_run = true;
	ok(f, store_prune(f->s, &options, &report, &f->err));
	assert_int_equal(report.parts, 1);
	assert_int_equal(entries(f, f->s->parts_fd, "."), 2);
	options.dry_run = false;
	ok(f, store_prune(f->s, &options, &report, &f->err));
	assert_int_equal(report.parts, 1);
	assert_int_equal(entries(f, f->s->parts_fd, "."), 0);
	close(openat(f->s->parts_fd, "0123.map", O_WRONLY | O_CREAT, 0600)); // its part is gone
	ok(f, store_prune(f->s, &options, &report, &f->err));
	assert_int_equal(entries(f, f->s->parts_fd, "."), 0);
}

static void test_eviction_order(void **state)
{
	struct fixture *f = *state;
	static const char *const old[] = {"base", "old", NULL};
	static const char *const middle[] = {"base", "middle", NULL};
	static const char *const used[] = {"used", NULL};
	static const char *const fresh[] = {"base", "fresh", NULL};
	static const char *const all[] = {"base", "old", "middle", "used", "fresh"};
	for (size_t i = 0; i < array_size(all); i++)
		make_and_release(f, all[i]);
	make_image(f, "used", used, 4000); // the least recent, but leased
	make_image(f, "old", old, 3000);
	make_image(f, "middle", middle, 2000);
	make_image(f, "fresh", fresh, 10);
	struct oci_digest d = digest_of("used");
	struct store_layer lease;
	assert_int_equal(store_layer_lease(f->s, &d, LAYER_EROFS, &lease, &f->err), 1);

	// Five layers of a MiB (and a block or two). One more may not be: one must go.
	f->s->limits = (struct store_limits){.high_bytes = 5 * LAYER_BYTES + 256 * 1024};
	ok(f, store_make_room(f->s, LAYER_BYTES, 1, &f->err));
	assert_false(have_image(f, "old"));
	assert_false(have_layer(f, "old", LAYER_EROFS));
	assert_true(have_image(f, "used"));
	assert_true(have_image(f, "middle"));
	assert_true(have_layer(f, "base", LAYER_EROFS));
	// There is room: nothing goes.
	ok(f, store_make_room(f->s, LAYER_BYTES, 1, &f->err));
	assert_true(have_image(f, "middle"));
	// More than all that may go: nothing goes, and the text says what it would have been.
	assert_int_equal(store_make_room(f->s, 5 * LAYER_BYTES, 1, &f->err), -1);
	assert_int_equal(f->err.kind, ERROR_LIMIT);
	assert_non_null(strstr(f->err.text, "needs 5.24 MB, and layers may take 5.51 MB in all"));
	assert_non_null(
		strstr(f->err.text, "; evicting middle:latest and fresh:latest would give 3.1"));
	assert_true(have_image(f, "middle"));
	assert_true(have_image(f, "fresh"));
	// Down to the low mark once the high one is passed; garbage before images.
	make_and_release(f, "garbage");
	f->s->limits.low_bytes = 4 * LAYER_BYTES + 256 * 1024;
	ok(f, store_make_room(f->s, LAYER_BYTES, 1, &f->err));
	assert_false(have_layer(f, "garbage", LAYER_EROFS));
	assert_false(have_image(f, "middle"));
	assert_true(have_image(f, "fresh"));
	assert_true(have_layer(f, "base", LAYER_EROFS));
	store_layer_release(&lease);
}

// Two ask for room at once: who waited finds what the other set free, and takes no more.
static void test_room_that_another_made(void **state)
{
	struct fixture *f = *state;
	static const char *const a[] = {"a", NULL}, *const b[] = {"b", NULL},
				 *const c[] = {"c", NULL};
	static const char *const all[] = {"a", "b", "c"};
	int lock, status;
	for (size_t i = 0; i < array_size(all); i++)
		make_and_release(f, all[i]);
	make_image(f, "a", a, 3000);
	make_image(f, "b", b, 2000);
	make_image(f, "c", c, 1000);
	f->s->limits = (struct store_limits){.high_bytes = 3 * LAYER_BYTES + 256 * 1024};
	ok(f, store_images_lock(f->s, LOCK_SH, &lock, &f->err));
	pid_t child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close(lock); // the parent's is the one that counts
		_exit(store_make_room(f->s, LAYER_BYTES, 1, &f->err) < 0);
	}
	usleep(CONTEND_MS * 1000);
	struct oci_digest d = digest_of("c");
	struct store_size size;
	assert_int_equal(store_layer_remove(f->s, &d, LAYER_EROFS, false, &size, &f->err), 1);
	close(lock);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	assert_true(have_image(f, "a"));
	assert_true(have_layer(f, "a", LAYER_EROFS));
	assert_true(have_image(f, "b"));
}

static void test_no_room(void **state)
{
	struct fixture *f = *state;
	struct statvfs fs;
	f->s->limits = (struct store_limits){.keep_free_bytes = 1ull << 62};
	assert_int_equal(store_make_room(f->s, 21000000000, 1, &f->err), -1);
	assert_int_equal(f->err.kind, ERROR_LIMIT);
	assert_true(starts_with(f->err.text, "needs 21.0 GB, "));
	assert_non_null(strstr(f->err.text, " are kept free; nothing here can be evicted"));
	f->s->limits = (struct store_limits){.keep_free_inodes_percent = 100};
	assert_int_equal(fstatvfs(f->s->state_fd, &fs), 0);
	int status = store_make_room(f->s, 1, 1000, &f->err);
	assert_int_equal(status, fs.f_files ? -1 : 0);
	if (fs.f_files)
		assert_true(starts_with(f->err.text, "needs 1000 files, "));
	f->s->limits = no_limits;
	ok(f, store_make_room(f->s, 1, 1, &f->err));
}

static void test_prune_images(void **state)
{
	struct fixture *f = *state;
	static const char *const a[] = {"a", "shared", NULL}, *const b[] = {"b", "shared", NULL};
	static const struct {
		struct store_prune_options options;
		unsigned images, layers;
		const char *why;
	} steps[] = {
		{{0}, 0, 1, "only what no image needs"},
		{{.all = true, .unused_for_ms = 3600 * 1000, .dry_run = true}, 1, 1,
			"said, not done"},
		{{.all = true, .unused_for_ms = 3600 * 1000}, 1, 1,
			"the old one; what both need stays"},
		{{.all = true, .unused_for_ms = 3600 * 1000}, 0, 0, "nothing is left to do"},
		{{.all = true}, 1, 2, "the other one"},
	};
	make_and_release(f, "a");
	make_and_release(f, "b");
	make_and_release(f, "shared");
	make_and_release(f, "garbage");
	make_image(f, "a", a, 7200);
	make_image(f, "b", b, 60);
	for (size_t i = 0; i < array_size(steps); i++) {
		struct store_prune_report report;
		ok(f, store_prune(f->s, &steps[i].options, &report, &f->err));
		if (report.images != steps[i].images || report.layers != steps[i].layers)
			fail_msg("%s: %d images, %d layers", steps[i].why, (int)report.images,
				(int)report.layers);
	}
	assert_int_equal(entries(f, f->s->blobs_fd, "."), 0);
	struct store_usage usage;
	ok(f, store_usage(f->s, &usage, &f->err));
	assert_int_equal(usage.layer_count, 0);
	assert_int_equal(usage.layer_bytes, 0);
	assert_int_equal(usage.image_count, 0);
	assert_true(usage.free_bytes > 0);
}

// One turn of a maker, a remover or a user of the same layer. Returns 0, or what went wrong.
static int contend_once(struct fixture *f, struct store *s, unsigned role)
{
	struct oci_digest d = digest_of("a");
	struct store_size size;
	struct store_stage stage;
	struct store_layer layer = {0};
	char name[STORE_NAME_MAX];
	int found;
	switch (role) {
	case 0:
		if (store_stage_new(s, LAYER_EROFS, &stage, &f->err) < 0 ||
			store_stage_commit(s, &stage, &d, &layer, &f->err) < 0)
			return 1;
		found = 1;
		break;
	case 1:
		store_sweep(s);
		return store_layer_remove(s, &d, LAYER_EROFS, false, &size, &f->err) < 0 ? 2 : 0;
	default:
		found = store_layer_lease(s, &d, LAYER_EROFS, &layer, &f->err);
		break;
	}
	// Whoever has a lease has the file at its path.
	if (found < 0 || (found && !store_same_file(layer.fd, s->layers_fd,
					   store_layer_name(&d, LAYER_EROFS, name))))
		return 3;
	store_layer_release(&layer);
	return 0;
}

static void contend(struct fixture *f, unsigned role)
{
	struct store *s = store_open(f->state, f->run, &no_limits, &f->err);
	int64_t end = now_ms() + CONTEND_MS;
	int wrong = s ? 0 : 4;
	while (!wrong && now_ms() < end)
		wrong = contend_once(f, s, role);
	_exit(wrong);
}

static void test_contention(void **state)
{
	struct fixture *f = *state;
	pid_t pids[6];
	for (unsigned i = 0; i < array_size(pids); i++) {
		pids[i] = fork();
		assert_true(pids[i] >= 0);
		if (pids[i] == 0)
			contend(f, i);
	}
	for (unsigned i = 0; i < array_size(pids); i++) {
		int status;
		assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
		assert_true(WIFEXITED(status));
		assert_int_equal(WEXITSTATUS(status), 0);
	}
	assert_int_equal(entries(f, f->s->tmp_fd, "."), 0);
}

static void test_open_fails(void **state)
{
	struct fixture *f = *state;
	char path[128];
	snprintf(path, sizeof(path), "%s/file", f->folder);
	close(open(path, O_WRONLY | O_CREAT, 0600));
	assert_null(store_open(path, f->run, &no_limits, &f->err));
	assert_true(starts_with(f->err.text, "state directory /"));
	assert_non_null(strstr(f->err.text, "/file: "));
	assert_null(store_open(f->state, path, &no_limits, &f->err));
	assert_true(starts_with(f->err.text, "run directory /"));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_commit_and_lease),
		TEST(test_leftovers_are_swept),
		TEST(test_folders_are_closed_to_others),
		TEST(test_one_maker_at_a_time),
		TEST(test_leased_layers_stay),
		TEST(test_pinned_layers_stay),
		TEST(test_image_records),
		TEST(test_damaged_files),
		TEST(test_documents_that_do_not_fit),
		TEST(test_documents_stay_while_somebody_pulls),
		TEST(test_parts),
		TEST(test_eviction_order),
		TEST(test_room_that_another_made),
		TEST(test_no_room),
		TEST(test_prune_images),
		TEST(test_contention),
		TEST(test_open_fails),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
