// SPDX-License-Identifier: Apache-2.0
#include "agent/device/device.h"

#include "agent/device/nvml.h"
#include "base/file.h"
#include "base/text.h"
#include "base/time.h"

#include <dirent.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

// A node of this machine's own: run and state folders, and devices whose numbers stand in the
// document, so that no node need exist.
struct node {
	char top[64], run[80], state[80];
	struct device_places places;
	struct cdi *cdi;
	struct devices *devices;
};

static void open_node(struct node *n, const char *text)
{
	struct error err = {0};
	snprintf(n->top, sizeof(n->top), "/tmp/stoker-test-XXXXXX");
	assert_non_null(mkdtemp(n->top));
	snprintf(n->run, sizeof(n->run), "%s/run", n->top);
	snprintf(n->state, sizeof(n->state), "%s/state", n->top);
	n->places = (struct device_places){n->run, n->state, FAKE_NVML_LIBRARY, 0};
	n->cdi = cdi_parse(text, strlen(text), "x.yaml", &err);
	if (!n->cdi)
		fail_msg("%s", err.text);
	n->devices = devices_new(n->cdi, &n->places);
}

static void close_node(struct node *n)
{
	struct error err = {0};
	devices_free(n->devices);
	cdi_free(n->cdi);
	assert_int_equal(directory_remove(AT_FDCWD, n->top, &err), 0);
}
#define cleanup_node __attribute__((cleanup(close_node)))

static struct device_lease *ask(
	struct node *n, const char *run, unsigned gpus, const char *named, struct error *err)
{
	const struct device_request r = {
		.gpus = gpus, .named = &named, .named_count = named ? 1 : 0, .run = run};
	return device_acquire(n->devices, &r, err);
}

static struct device_lease *get(struct node *n, const char *run, unsigned gpus, const char *named)
{
	struct error err = {0};
	struct device_lease *l = ask(n, run, gpus, named, &err);
	if (!l)
		fail_msg("%u GPUs, %s: %s", gpus, named ? named : "none named", err.text);
	return l;
}

static void refused(struct node *n, unsigned gpus, const char *named, enum error_kind kind,
	const char *expected)
{
	struct error err = {0};
	if (ask(n, "other", gpus, named, &err))
		fail_msg("%u GPUs, %s: given", gpus, named ? named : "none named");
	if (!strstr(err.text, expected))
		fail_msg("says %s\nnot  %s", err.text, expected);
	assert_int_equal(err.kind, kind);
}

static const char *unit(const struct device_lease *l, size_t i)
{
	size_t count;
	const struct cdi_device *const *devices = device_lease_devices(l, &count);
	assert_true(i < count);
	return devices[i]->unit;
}

static void give_back(struct device_lease *l)
{
	cleanup_buffer struct buffer reasons = {0};
	struct error err = {0};
	int rc = device_release(l, 0, &reasons, &err);
	if (rc != 0)
		fail_msg("%s%s", rc < 0 ? err.text : "", reasons.size ? reasons.data : "");
}

#define NODE(path, number) "{path: " path ", type: c, major: 4000, minor: " number "}"
#define GPU(name, ...)	   "- {name: " name ", containerEdits: {deviceNodes: [" __VA_ARGS__ "]}}\n"
#define NVIDIA		   "cdiVersion: 0.5.0\nkind: nvidia.com/gpu\ndevices:\n"
#define N0		   NODE("/dev/nvidia0", "0")
#define N1		   NODE("/dev/nvidia1", "1")
#define CAP(number)	   NODE("/dev/nvidia-caps/nvidia-cap" number, "10" number)

static const char two_gpus[] = NVIDIA GPU("'0'", N0) GPU("GPU-a", N0) GPU("'1'", N1)
	GPU("GPU-b", N1) GPU("all", N0 "," N1);
// A whole GPU, and one in two parts, of which the second has two compute instances.
static const char parts[] = NVIDIA GPU("'0'", N0) GPU("'1'", N1) GPU("'1:0'", N1 "," CAP("1"))
	GPU("MIG-a", N1 "," CAP("1")) GPU("MIG-b", N1 "," CAP("2") "," CAP("3"))
		GPU("MIG-c", N1 "," CAP("2") "," CAP("4"));
static const char amd[] = "cdiVersion: 0.7.0\nkind: amd.com/gpu\ndevices:\n" GPU(
	"'0'", NODE("/dev/dri/card1", "1") "," NODE("/dev/odd", "9")) GPU("'1'",
	NODE("/dev/dri/card2", "2") "," NODE("/dev/odd", "9")) GPU("all",
	NODE("/dev/dri/card1", "1") "," NODE("/dev/dri/card2", "2") "," NODE("/dev/odd", "9"));

static void names_of_one_device_exclude_each_other(void **state)
{
	cleanup_node struct node n;

	(void)state;
	open_node(&n, two_gpus);
	struct device_lease *a = get(&n, "run-a", 1, NULL);
	assert_string_equal(unit(a, 0), "GPU-a");
	refused(&n, 0, "nvidia.com/gpu=0", ERROR_UNAVAILABLE,
		"not free now: nvidia.com/gpu=GPU-a is held by run run-a");
	refused(&n, 0, "nvidia.com/gpu=GPU-a", ERROR_UNAVAILABLE, "held by run run-a");
	refused(&n, 0, "nvidia.com/gpu=all", ERROR_UNAVAILABLE,
		"nvidia.com/gpu=all is held by run run-a");
	refused(&n, 2, NULL, ERROR_UNAVAILABLE,
		"2 GPUs are not free now: nvidia.com/gpu=GPU-a is held by run run-a");
	struct device_lease *b = get(&n, "run-b", 0, "nvidia.com/gpu=1");
	assert_string_equal(unit(b, 0), "GPU-b");
	refused(&n, 1, NULL, ERROR_UNAVAILABLE, "1 GPU is not free now: ");
	give_back(a);
	give_back(b);
	struct device_lease *all = get(&n, "run-c", 0, "nvidia.com/gpu=all");
	refused(&n, 1, NULL, ERROR_UNAVAILABLE, "GPU-b is held by run run-c");
	give_back(all);
	give_back(get(&n, "run-d", 2, NULL));
}

static void what_cannot_be_is_refused_at_once(void **state)
{
	cleanup_node struct node n;

	(void)state;
	open_node(&n, two_gpus);
	refused(&n, 3, NULL, ERROR_INVALID, "3 GPUs are asked for, and this node has only 2;");
	refused(&n, 2, "nvidia.com/gpu=0", ERROR_INVALID, "has only 1 besides those named");
	refused(&n, 1, "nvidia.com/gpu=all", ERROR_INVALID, "has none besides those named");
	refused(&n, 0, "nvidia.com/gpu=7", ERROR_NOT_FOUND, "there is no such device; there are");
	refused(&n, 0, "gpu0", ERROR_INVALID, "is not the name of a device");
	const char *const both[] = {"nvidia.com/gpu=0", "nvidia.com/gpu=all"};
	const char *const same[] = {"nvidia.com/gpu=0", "nvidia.com/gpu=GPU-a"};
	struct device_request r = {.named = both, .named_count = 2, .run = "r"};
	struct error err = {0};
	assert_null(device_acquire(n.devices, &r, &err));
	assert_int_equal(err.kind, ERROR_INVALID);
	assert_non_null(strstr(err.text, "GPU-a and nvidia.com/gpu=all are or contain the same"));
	r.named = same;
	struct device_lease *l = device_acquire(n.devices, &r, &err);
	size_t count;
	assert_non_null(l);
	device_lease_devices(l, &count);
	assert_int_equal(count, 1);
	give_back(l);
}

static void parts_exclude_the_whole(void **state)
{
	cleanup_node struct node n;

	(void)state;
	open_node(&n, parts);
	// Not the whole GPU that is divided.
	refused(&n, 5, NULL, ERROR_INVALID, "this node has only 4;");
	struct device_lease *b = get(&n, "run-b", 0, "nvidia.com/gpu=MIG-b");
	refused(&n, 0, "nvidia.com/gpu=1", ERROR_UNAVAILABLE, "held by run run-b");
	struct device_lease *c = get(&n, "run-c", 0, "nvidia.com/gpu=MIG-c");
	struct device_lease *a = get(&n, "run-a", 0, "nvidia.com/gpu=1:0");
	assert_string_equal(unit(a, 0), "MIG-a");
	refused(&n, 0, "nvidia.com/gpu=MIG-a", ERROR_UNAVAILABLE, "MIG-a is held by run run-a");
	struct device_lease *whole = get(&n, "run-d", 1, NULL);
	assert_string_equal(unit(whole, 0), "0");
	give_back(a);
	give_back(b);
	refused(&n, 0, "nvidia.com/gpu=1", ERROR_UNAVAILABLE, "gpu=1 is held by run");
	give_back(c);
	struct device_lease *one = get(&n, "run-e", 0, "nvidia.com/gpu=1");
	refused(&n, 0, "nvidia.com/gpu=MIG-c", ERROR_UNAVAILABLE, "held by run run-e");
	give_back(one);
	give_back(whole);
	give_back(get(&n, "run-f", 4, NULL));
}

static void what_all_have_is_the_drivers(void **state)
{
	cleanup_node struct node n;
	cleanup_arena struct arena a = {0};
	struct device_view *views;
	size_t count;
	struct error err = {0};

	(void)state;
	open_node(&n, amd);
	struct device_lease *first = get(&n, "run-a", 1, NULL);
	struct device_lease *second = get(&n, "run-b", 1, NULL);
	assert_string_equal(unit(first, 0), "0");
	assert_string_equal(unit(second, 0), "1");
	assert_int_equal(device_list(n.devices, &a, &views, &count, &err), 0);
	assert_int_equal(count, 3);
	assert_int_equal(views[0].nodes.count, 1);
	assert_string_equal(views[0].nodes.items[0], "/dev/dri/card1");
	assert_string_equal(views[1].run, "run-b");
	assert_int_equal(views[1].status, DEVICE_HELD);
	assert_true(views[1].gpu && !views[2].gpu);
	give_back(first);
	give_back(second);
}

static void devices_without_nodes_have_names(void **state)
{
	cleanup_node struct node n;

	(void)state;
	open_node(&n, "cdiVersion: 0.5.0\nkind: v.com/license\ndevices:\n"
		      "- {name: a, containerEdits: {env: [A=1]}}\n"
		      "- {name: b, containerEdits: {deviceNodes: [{path: /nonexistent/b}]}}\n");
	struct device_lease *a = get(&n, "run-a", 0, "v.com/license=a");
	refused(&n, 0, "v.com/license=a", ERROR_UNAVAILABLE, "v.com/license=a is held by run");
	refused(&n, 0, "v.com/license=b", ERROR_UNAVAILABLE, "/nonexistent/b does not exist");
	refused(&n, 1, NULL, ERROR_INVALID, "1 GPUs are asked for, and this node has none;");
	give_back(a);
}

// The numbers of /dev/full, which nobody has open but us.
static const char full[] = "cdiVersion: 0.5.0\nkind: nvidia.com/gpu\ndevices:\n" GPU(
	"GPU-a", "{path: /dev/full, type: c, major: 1, minor: 7}");

static void set_aside_until_free(void **state)
{
	cleanup_node struct node n;
	cleanup_buffer struct buffer reasons = {0};
	cleanup_arena struct arena a = {0};
	cleanup_fd int fd = -1;
	struct error err = {0};
	char expected[160];
	struct device_view *views;
	size_t count;

	(void)state;
	open_node(&n, full);
	struct device_lease *l = get(&n, "run-a", 1, NULL);
	fd = open("/dev/full", O_RDONLY | O_CLOEXEC);
	assert_int_equal(device_release(l, 20, &reasons, &err), 1);
	snprintf(expected, sizeof(expected),
		"nvidia.com/gpu=GPU-a is set aside: still open in process %d (test_device)\n",
		(int)getpid());
	assert_string_equal(reasons.data, expected);
	assert_int_equal(device_list(n.devices, &a, &views, &count, &err), 0);
	assert_int_equal(views[0].status, DEVICE_SET_ASIDE);
	assert_string_equal(views[0].run, "run-a");
	assert_non_null(strstr(views[0].reason, "still open in process"));
	assert_int_equal(strlen(views[0].since), strlen("2026-11-23T10:00:00.000Z"));
	refused(&n, 1, NULL, ERROR_UNAVAILABLE,
		"nvidia.com/gpu=GPU-a is set aside after run run-a: still open in process");
	close(steal_fd(&fd));
	give_back(get(&n, "run-b", 1, NULL));
	assert_int_equal(device_list(n.devices, &a, &views, &count, &err), 0);
	assert_int_equal(views[0].status, DEVICE_FREE);
}

static void operators_can_readmit(void **state)
{
	cleanup_node struct node n;
	cleanup_buffer struct buffer reasons = {0};
	cleanup_fd int fd = -1;
	struct error err = {0};

	(void)state;
	open_node(&n, full);
	struct device_lease *l = get(&n, "run-a", 1, NULL);
	fd = open("/dev/full", O_RDONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(device_release(l, 0, &reasons, &err), 1);
	assert_int_equal(devices_readmit(n.devices, "nvidia.com/gpu=GPU-a", &err), 0);
	assert_int_equal(devices_readmit(n.devices, "nvidia.com/gpu=GPU-a", &err), -1);
	assert_int_equal(err.kind, ERROR_NOT_FOUND);
	assert_int_equal(devices_readmit(n.devices, "gpu", &err), -1);
	assert_int_equal(err.kind, ERROR_INVALID);
	// What has it open now has had it before.
	give_back(get(&n, "run-b", 1, NULL));
}

static void looks_after_a_holder_without_end(void **state)
{
	cleanup_node struct node n;
	cleanup_fd int fd = -1;

	(void)state;
	open_node(&n, full);
	device_lease_free(get(&n, "run-a", 1, NULL));
	fd = open("/dev/full", O_RDONLY | O_CLOEXEC);
	refused(&n, 1, NULL, ERROR_UNAVAILABLE, "is set aside after run run-a: still open in");
	close(steal_fd(&fd));
	device_lease_free(get(&n, "run-b", 1, NULL));
	give_back(get(&n, "run-c", 1, NULL));
}

static void leftovers_are_each_devices_own(void **state)
{
	cleanup_node struct node n;
	cleanup_arena struct arena a = {0};
	cleanup_fd int fd = -1;
	struct error err = {0};
	struct device_view *views;
	size_t count;

	(void)state;
	open_node(&n,
		NVIDIA GPU("GPU-a", "{path: /dev/full, type: c, major: 1, minor: 7}") GPU("GPU-b",
			N1) GPU("all", "{path: /dev/full, type: c, major: 1, minor: 7}," N1));
	device_lease_free(get(&n, "run-a", 0, "nvidia.com/gpu=GPU-a"));
	device_lease_free(get(&n, "run-b", 0, "nvidia.com/gpu=GPU-b"));
	fd = open("/dev/full", O_RDONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	refused(&n, 0, "nvidia.com/gpu=all", ERROR_UNAVAILABLE,
		"nvidia.com/gpu=GPU-a is set aside after run run-a: still open in");
	assert_int_equal(device_list(n.devices, &a, &views, &count, &err), 0);
	assert_int_equal(views[0].status, DEVICE_SET_ASIDE); // GPU-a
	assert_int_equal(views[1].status, DEVICE_FREE);	     // GPU-b
	assert_int_equal(views[2].status, DEVICE_SET_ASIDE); // all
	struct device_lease *l = get(&n, "run-c", 1, NULL);
	assert_string_equal(unit(l, 0), "GPU-b");
	give_back(l);
}

static void sees_mappings(void **state)
{
	cleanup_node struct node n;
	cleanup_buffer struct buffer reasons = {0};
	struct error err = {0};

	(void)state;
	open_node(&n, "cdiVersion: 0.5.0\nkind: v.com/gpu\ndevices:\n" GPU(
			      "a", "{path: /dev/zero, type: c, major: 1, minor: 5}"));
	struct device_lease *l = get(&n, "run-a", 1, NULL);
	int fd = open("/dev/zero", O_RDWR | O_CLOEXEC);
	void *p = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, fd, 0);
	close(fd);
	assert_ptr_not_equal(p, MAP_FAILED);
	assert_int_equal(device_release(l, 0, &reasons, &err), 1);
	assert_non_null(strstr(reasons.data, "(test_device)"));
	munmap(p, 4096);
	give_back(get(&n, "run-b", 1, NULL));
}

static void adopts_locks(void **state)
{
	cleanup_node struct node n;
	cleanup_fd int fd = open("/dev/full", O_RDONLY | O_CLOEXEC); // before it is acquired
	struct error err = {0};
	const char *name = "nvidia.com/gpu=GPU-a";
	size_t count;

	(void)state;
	assert_true(fd >= 0);
	open_node(&n, full);
	struct device_lease *l = get(&n, "run-a", 1, NULL);
	const int *fds = device_lease_descriptors(l, &count);
	assert_int_equal(count, 1);
	int copy = dup(fds[0]);
	device_lease_free(l);
	refused(&n, 1, NULL, ERROR_UNAVAILABLE, "held by run run-a");
	assert_null(device_lease_adopt(n.devices, "run-a", &name, 1, &copy, 0, &err));
	l = device_lease_adopt(n.devices, "run-a", &name, 1, &copy, 1, &err);
	assert_non_null(l);
	give_back(l);
}

struct waiter {
	struct node *node;
	int64_t wait_ms;
	int cancel_fd;
	char reason[256];
	unsigned calls;
	struct error err;
	struct device_lease *lease;
};

static void note(void *data, const char *reason)
{
	struct waiter *w = data;
	snprintf(w->reason, sizeof(w->reason), "%s", reason);
	w->calls++;
}

static void *wait_for_gpu(void *data)
{
	struct waiter *w = data;
	const struct device_request r = {.gpus = 1,
		.run = "waiter",
		.wait_ms = w->wait_ms,
		.cancel_fd = w->cancel_fd,
		.waiting = note,
		.data = w};
	w->lease = device_acquire(w->node->devices, &r, &w->err);
	return NULL;
}

static void waits(void **state)
{
	cleanup_node struct node n;
	pthread_t thread;
	int64_t began;

	(void)state;
	open_node(&n, full);
	struct device_lease *l = get(&n, "run-a", 1, NULL);
	struct waiter w = {.node = &n, .wait_ms = 60};
	began = now_ms();
	wait_for_gpu(&w);
	assert_null(w.lease);
	assert_int_equal(w.err.kind, ERROR_UNAVAILABLE);
	assert_true(now_ms() - began >= 60);
	assert_int_equal(w.calls, 1);
	assert_non_null(strstr(w.reason, "GPU-a is held by run run-a"));

	w = (struct waiter){.node = &n, .wait_ms = -1};
	assert_int_equal(pthread_create(&thread, NULL, wait_for_gpu, &w), 0);
	usleep(50 * 1000);
	began = now_ms();
	give_back(l);
	pthread_join(thread, NULL);
	assert_non_null(w.lease);
	assert_true(now_ms() - began < 1000); // by the event, not by the look every 2 s
	device_lease_free(w.lease);
}

static void waiting_can_be_canceled(void **state)
{
	cleanup_node struct node n;
	int fds[2];

	(void)state;
	open_node(&n, full);
	struct device_lease *l = get(&n, "run-a", 1, NULL);
	assert_int_equal(pipe(fds), 0);
	assert_int_equal(write(fds[1], "x", 1), 1);
	struct waiter w = {.node = &n, .wait_ms = -1, .cancel_fd = fds[0]};
	wait_for_gpu(&w);
	assert_null(w.lease);
	assert_int_equal(w.err.kind, ERROR_UNAVAILABLE);
	assert_non_null(strstr(w.err.text, "canceled while waiting: 1 GPU is not free now"));
	close(fds[0]);
	close(fds[1]);
	give_back(l);
}

static void asks_nvml(void **state)
{
	static const struct {
		const char *says, *name, *expected; // NULL: free
	} cases[] = {
		{"idle", "GPU-fake", NULL},
		{"broken", "GPU-fake", NULL},
		{"busy:4242", "GPU-other", NULL},
		{"busy:4242", "GPU-fake",
			"is set aside: NVML: process 4242 computes on it, 12.3 GB of its memory"},
		{"lost", "GPU-fake", "is set aside: NVML: GPU is lost"},
		{"busy:4242", "'7'", "NVML: process 4242 computes on it"},
		{"busy:4242", "'8'", NULL},
	};

	(void)state;
	for (size_t i = 0; i < array_size(cases); i++) {
		cleanup_node struct node n;
		cleanup_buffer struct buffer reasons = {0};
		struct error err = {0};
		char text[256];
		bool seven = strstr(cases[i].name, "7");
		snprintf(text, sizeof(text),
			NVIDIA GPU("%s", "{path: /dev/nvidia%d, type: c, "
					 "major: 4000, minor: %d}"),
			cases[i].name, seven ? 7 : 8, seven ? 7 : 8);
		open_node(&n, text);
		setenv("FAKE_NVML", cases[i].says, 1);
		struct device_lease *l = get(&n, "run-a", 1, NULL);
		int rc = device_release(l, 0, &reasons, &err);
		const char *said = reasons.size ? reasons.data : "";
		if (rc != (cases[i].expected != NULL) ||
			(cases[i].expected && !strstr(said, cases[i].expected)))
			fail_msg("%s, %s: %d %s", cases[i].says, cases[i].name, rc, said);
	}
	unsetenv("FAKE_NVML");
}

// Each look at a driver that hangs leaves a process behind: not at every request.
static void hanging_drivers_are_looked_at_seldom(void **state)
{
	static const struct timespec long_ago[2] = {{1000000000, 0}, {1000000000, 0}};
	cleanup_node struct node n;
	cleanup_buffer struct buffer reasons = {0};
	struct error err = {0};
	char folder[96], path[200] = "";

	(void)state;
	open_node(&n, NVIDIA GPU("GPU-fake", N0));
	n.places.nvml_timeout_ms = 50;
	struct device_lease *l = get(&n, "run-a", 1, NULL);
	setenv("FAKE_NVML", "hang", 1);
	assert_int_equal(device_release(l, 0, &reasons, &err), 1);
	unsetenv("FAKE_NVML");
	assert_non_null(strstr(reasons.data, "NVML: no answer after 1 s"));
	refused(&n, 1, NULL, ERROR_UNAVAILABLE, "set aside after run run-a: NVML: no answer");

	snprintf(folder, sizeof(folder), "%s/devices", n.state);
	DIR *d = opendir(folder);
	assert_non_null(d);
	for (struct dirent *e; (e = readdir(d));)
		if (strstr(e->d_name, "GPU-fake"))
			snprintf(path, sizeof(path), "%.95s/%.100s", folder, e->d_name);
	closedir(d);
	assert_int_equal(utimensat(AT_FDCWD, path, long_ago, 0), 0);
	give_back(get(&n, "run-b", 1, NULL));
}

static void nvml_may_hang_or_be_missing(void **state)
{
	struct nvml_answer answer;
	struct error err = {0};

	(void)state;
	setenv("FAKE_NVML", "hang", 1);
	assert_int_equal(nvml_ask(FAKE_NVML_LIBRARY, "GPU-fake", -1, 50, &answer, &err), 0);
	assert_true(answer.known && answer.lost);
	assert_string_equal(answer.problem, "no answer after 1 s");
	unsetenv("FAKE_NVML");
	assert_int_equal(nvml_ask("libnonexistent.so.1", "GPU-fake", -1, 5000, &answer, &err), 0);
	assert_false(answer.known);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(names_of_one_device_exclude_each_other),
		cmocka_unit_test(what_cannot_be_is_refused_at_once),
		cmocka_unit_test(parts_exclude_the_whole),
		cmocka_unit_test(what_all_have_is_the_drivers),
		cmocka_unit_test(devices_without_nodes_have_names),
		cmocka_unit_test(set_aside_until_free),
		cmocka_unit_test(operators_can_readmit),
		cmocka_unit_test(looks_after_a_holder_without_end),
		cmocka_unit_test(leftovers_are_each_devices_own),
		cmocka_unit_test(sees_mappings),
		cmocka_unit_test(adopts_locks),
		cmocka_unit_test(waits),
		cmocka_unit_test(waiting_can_be_canceled),
		cmocka_unit_test(asks_nvml),
		cmocka_unit_test(hanging_drivers_are_looked_at_seldom),
		cmocka_unit_test(nvml_may_hang_or_be_missing),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
