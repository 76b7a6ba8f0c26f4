// SPDX-License-Identifier: Apache-2.0
#include "base/file.h"
#include "base/text.h"
#include "oci/runtime/cdi.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define HEAD	    "cdiVersion: 0.6.0\nkind: v.com/gpu\n"
#define DEVICE(...) HEAD "devices: [{name: a, containerEdits: {" __VA_ARGS__ "}}]\n"

static struct cdi *parse(const char *text)
{
	struct error err = {0};
	struct cdi *c = cdi_parse(text, strlen(text), "x.yaml", &err);
	if (!c)
		fail_msg("%s: %s", text, err.text);
	return c;
}

static const struct cdi_device *find(const struct cdi *c, const char *name)
{
	const struct cdi_device *d;
	struct error err = {0};
	if (cdi_find(c, name, &d, &err) < 0)
		fail_msg("%s", err.text);
	return d;
}

static void refuses(void **state)
{
	static const struct {
		const char *text, *expected;
	} cases[] = {
		{"", "must be an object"},
		{"kind: v.com/gpu\ndevices: []\n", "key \"cdiVersion\" is missing"},
		{"cdiVersion: 0.2.0\n", "x.yaml:1:13: cdiVersion: must be one of the versions"},
		{"cdiVersion: 1.0\n", "cdiVersion: must be one of the versions \"0.3.0\" to \"1.1"},
		{"cdiVersion: 0.6.0\nkind: gpu\n", "x.yaml:2:7: kind: must be vendor/class"},
		{"cdiVersion: 0.6.0\nkind: v/gpu/x\n", "kind: must be vendor/class"},
		{"cdiVersion: 0.6.0\nkind: -v/gpu\n", "kind: must be vendor/class"},
		{HEAD, "key \"devices\" is missing"},
		{HEAD "devices: []\n", "devices: no device is described"},
		{HEAD "devices: [{name: 0, containerEdits: {}}]\n",
			"devices[0].name: must be a string; put it in quotes"},
		{HEAD "devices: [{name: a}]\n", "key \"containerEdits\" is missing"},
		{HEAD "devices: [{name: a=b, containerEdits: {}}]\n",
			"devices[0].name: must be letters, digits"},
		{HEAD "devices: [{name: a, containerEdits: {}},\n {name: a, containerEdits: {}}]\n",
			"x.yaml:4:2: devices[1]: a second device named \"a\""},
		{HEAD "device: []\n", "unknown key \"device\", did you mean \"devices\"?"},
		{DEVICE("env: [A]"), "devices[0].containerEdits.env[0]: must be NAME=value"},
		{DEVICE("env: [=x]"), "env[0]: must be NAME=value"},
		{DEVICE("intelRdt: {closID: x}"),
			"devices[0].containerEdits.intelRdt: not supported"},
		{DEVICE("netDevices: []"), "containerEdits.netDevices: not supported"},
		{DEVICE("deviceNode: []"), "did you mean \"deviceNodes\"?"},
		{DEVICE("deviceNodes: [{}]"), "deviceNodes[0]: key \"path\" is missing"},
		{DEVICE("deviceNodes: [{path: dev/x}]"), "path: must be an absolute path"},
		{DEVICE("deviceNodes: [{path: /x, type: d}]"), "type: must be c, b, u or p"},
		{DEVICE("deviceNodes: [{path: /x, major: -1}]"), "major: must be a number from 0"},
		{DEVICE("deviceNodes: [{path: /x, minor: 1048576}]"), "from 0 to 1048575"},
		{DEVICE("deviceNodes: [{path: /x, fileMode: 512}]"), "must be permission bits"},
		{DEVICE("deviceNodes: [{path: /x, fileMode: '0999'}]"), "must be permission bits"},
		{DEVICE("deviceNodes: [{path: /x, permissions: rx}]"), "must be some of r, w and"},
		{DEVICE("deviceNodes: [{path: /x, uid: -1}]"), "uid: must be a number from 0"},
		{DEVICE("mounts: [{hostPath: /x}]"), "key \"containerPath\" is missing"},
		{DEVICE("mounts: [{hostPath: x, containerPath: /x}]"),
			"mounts[0].hostPath: must be an absolute path"},
		{DEVICE("mounts: [{hostPath: /x, containerPath: /x, options: ro}]"),
			"options: must be an array of strings"},
		{DEVICE("hooks: [{path: /x}]"), "key \"hookName\" is missing"},
		{DEVICE("hooks: [{hookName: start, path: /x}]"), "hookName: must be prestart, "},
		{DEVICE("hooks: [{hookName: poststop, path: x}]"), "must be an absolute path"},
		{DEVICE("hooks: [{hookName: poststop, path: /x, timeout: 0}]"), "seconds over 0"},
		{DEVICE("hooks: [{hookName: poststop, path: /x, env: [x]}]"), "must be NAME=value"},
		{DEVICE("additionalGids: [-1]"), "additionalGids[0]: must be a number from 0"},
		{HEAD "devices: [{name: a, containerEdits: {}}]\ncontainerEdits: {mounts: [{}]}\n",
			"x.yaml:4:27: containerEdits.mounts[0]: key \"hostPath\" is missing"},
		{"{", "x.yaml:"},
	};

	(void)state;
	for (size_t i = 0; i < array_size(cases); i++) {
		struct error err = {0};
		if (cdi_parse(cases[i].text, strlen(cases[i].text), "x.yaml", &err))
			fail_msg("accepted: %s", cases[i].text);
		if (!strstr(err.text, cases[i].expected))
			fail_msg(
				"%s\nsays %s\nnot  %s", cases[i].text, err.text, cases[i].expected);
		assert_int_equal(err.kind, ERROR_INVALID);
	}
}

static void reads_every_edit(void **state)
{
	cleanup_cdi struct cdi *c = parse(DEVICE(
		"env: [A=1], deviceNodes: [{path: /dev/x, hostPath: /dev/y, type: b, major: 7,"
		" minor: 9, fileMode: 0640, permissions: rm, uid: 5, gid: 6}, {path: /dev/z}],"
		" mounts: [{hostPath: /a, containerPath: /b, options: [ro, bind], type: none},"
		" {hostPath: tmpfs, containerPath: /t, type: tmpfs},"
		" {hostPath: /c, containerPath: /d, options: [ro]}],"
		" hooks: [{hookName: startContainer, path: /h, args: [h, x], env: [B=2],"
		" timeout: 3}], additionalGids: [7]"));
	const struct cdi_edits *e = &find(c, "v.com/gpu=a")->edits;

	(void)state;
	assert_string_equal(e->env.items[0], "A=1");
	const struct cdi_node *n = &e->nodes[0];
	assert_int_equal(e->node_count, 2);
	assert_string_equal(n->path, "/dev/x");
	assert_string_equal(n->host_path, "/dev/y");
	assert_true(n->type == 'b' && n->major == 7 && n->minor == 9 && n->mode == 0640);
	assert_true(n->read && !n->write && n->mknod);
	assert_true(n->has_uid && n->uid == 5 && n->has_gid && n->gid == 6);
	n = &e->nodes[1];
	assert_string_equal(n->host_path, "/dev/z");
	assert_true(!n->type && !n->has_major && !n->has_uid && !n->mode);
	assert_true(n->read && n->write && n->mknod);
	assert_int_equal(e->mount_count, 3);
	assert_string_equal(e->mounts[0].type, "bind");
	assert_int_equal(e->mounts[0].options.count, 2);
	assert_string_equal(e->mounts[1].type, "tmpfs");
	assert_string_equal(e->mounts[2].type, "bind");
	assert_string_equal(e->mounts[2].options.items[0], "rbind");
	assert_string_equal(e->mounts[2].options.items[1], "ro");
	assert_int_equal(e->hooks[0].point, RUNTIME_HOOK_START_CONTAINER);
	assert_string_equal(e->hooks[0].hook.args.items[1], "x");
	assert_string_equal(e->hooks[0].hook.env.items[0], "B=2");
	assert_int_equal(e->hooks[0].hook.timeout, 3);
	assert_int_equal(e->groups[0], 7);
}

static void sorts_and_finds(void **state)
{
	static const char text[] = HEAD "devices:\n"
					"- {name: '10', containerEdits: {}}\n"
					"- {name: '2', containerEdits: {}}\n"
					"- {name: GPU-b, containerEdits: {}}\n"
					"- {name: all, containerEdits: {}}\n"
					"- {name: '01', containerEdits: {}}\n"
					"- {name: '1', containerEdits: {}}\n";
	static const char *const order[] = {"01", "1", "2", "10", "GPU-b", "all"};
	cleanup_cdi struct cdi *c = parse(text);
	size_t count;
	const struct cdi_device *devices = cdi_devices(c, &count), *d;

	(void)state;
	assert_int_equal(count, array_size(order));
	for (size_t i = 0; i < count; i++) {
		char name[64];
		struct error err = {0};
		assert_string_equal(devices[i].unit, order[i]);
		snprintf(name, sizeof(name), "v.com/gpu=%s", order[i]);
		assert_int_equal(cdi_find(c, name, &d, &err), 0);
		assert_ptr_equal(d, &devices[i]);
	}
}

static void names_what_is_near(void **state)
{
	static const struct {
		const char *name, *expected;
		enum error_kind kind;
	} cases[] = {
		{"v.com/gpu=3",
			"v.com/gpu=3: there is no such device; there are v.com/gpu=0, v.com/gpu=1",
			ERROR_NOT_FOUND},
		{"w.com/gpu=0", "w.com/gpu=0: there is no such device; there are v.com/gpu=0,",
			ERROR_NOT_FOUND},
		{"gpu0", "\"gpu0\" is not the name of a device: expected vendor.com/class=name",
			ERROR_INVALID},
		{"v.com/gpu=", "is not the name of a device", ERROR_INVALID},
		{"v.com/gpu=a b", "is not the name of a device", ERROR_INVALID},
		{"/dev/null", "is not the name of a device", ERROR_INVALID},
	};
	cleanup_cdi struct cdi *c = parse(HEAD "devices: [{name: '0', containerEdits: {}},"
					       " {name: '1', containerEdits: {}}]\n");

	(void)state;
	for (size_t i = 0; i < array_size(cases); i++) {
		const struct cdi_device *d;
		struct error err = {0};
		assert_int_equal(cdi_find(c, cases[i].name, &d, &err), -1);
		assert_int_equal(err.kind, cases[i].kind);
		if (!strstr(err.text, cases[i].expected))
			fail_msg("says %s\nnot  %s", err.text, cases[i].expected);
	}
}

// A folder of its own, with two folders of files.
struct folders {
	char top[64], path[2][80];
};

static void make_folders(struct folders *f)
{
	snprintf(f->top, sizeof(f->top), "/tmp/stoker-test-XXXXXX");
	assert_non_null(mkdtemp(f->top));
	for (int i = 0; i < 2; i++) {
		snprintf(f->path[i], sizeof(f->path[i]), "%s/%d", f->top, i);
		assert_int_equal(mkdir(f->path[i], 0755), 0);
	}
}

static void put(const struct folders *f, int folder, const char *name, const char *text)
{
	cleanup_free char *path = path_join(f->path[folder], name);
	struct error err = {0};
	assert_int_equal(file_write_atomic(AT_FDCWD, path, text, strlen(text), 0644, &err), 0);
}

static struct cdi *load(const struct folders *f, struct buffer *warnings)
{
	const char *const paths[] = {f->path[0], f->path[1], "/nonexistent/cdi"};
	struct error err = {0};
	struct cdi *c = cdi_load(paths, 3, warnings, &err);
	if (!c)
		fail_msg("%s", err.text);
	directory_remove(AT_FDCWD, f->top, &err);
	return c;
}

#define ONE(name, value) HEAD "devices: [{name: " name ", containerEdits: {env: [A=" value "]}}]\n"

static void later_folder_wins(void **state)
{
	cleanup_buffer struct buffer warnings = {0};
	struct folders f;
	struct error err = {0};
	const struct cdi_device *d;

	(void)state;
	make_folders(&f);
	put(&f, 0, "a.yaml", ONE("x", "early"));
	put(&f, 1, "b.yml", ONE("x", "late"));
	put(&f, 0, "c.yaml", ONE("both", "1"));
	put(&f, 0, "d.yaml", ONE("both", "2"));
	put(&f, 0, "e.yaml", ONE("settled", "1"));
	put(&f, 0, "f.yaml", ONE("settled", "2"));
	put(&f, 1, "g.yaml", ONE("settled", "3"));
	put(&f, 0, "h.json",
		"{\"cdiVersion\": \"0.3.0\", \"kind\": \"w.com/c\", \"devices\":"
		" [{\"name\": \"j\", \"containerEdits\": {}}]}");
	put(&f, 0, "README", "no device\n");
	put(&f, 0, ".hidden.yaml", "no device\n");
	cleanup_cdi struct cdi *c = load(&f, &warnings);
	assert_string_equal(find(c, "v.com/gpu=x")->edits.env.items[0], "A=late");
	assert_string_equal(find(c, "v.com/gpu=settled")->edits.env.items[0], "A=3");
	assert_string_equal(find(c, "w.com/c=j")->unit, "j");
	assert_int_equal(cdi_find(c, "v.com/gpu=both", &d, &err), -1);
	assert_int_equal(err.kind, ERROR_INVALID);
	assert_non_null(strstr(err.text, "/0/c.yaml and "));
	assert_non_null(strstr(err.text, "/0/d.yaml; remove it from one of them"));
	assert_non_null(strstr(warnings.data, "v.com/gpu=both: defined in both "));
	assert_null(strchr(strchr(warnings.data, '\n') + 1, '\n')); // one line
}

static void broken_file_spoils_its_own(void **state)
{
	static const struct {
		const char *name, *text, *expected;
	} broken[] = {
		{"a.yaml", "cdiVersion: 0.6.0\nkind: v.com/gpu\ndevice: []\n",
			"/0/a.yaml:3:1: unknown key \"device\", did you mean \"devices\"?; the "
			"devices of this file are left out\n"},
		{"b.json", "{\"cdiVersion\": \"0.6.0\",}", "/0/b.json:1:"},
		{"c.yaml", "a: b: c\n", "put text that contains \": \" in quotes"},
		{"d.json", "", "/0/d.json:"},
	};
	cleanup_buffer struct buffer warnings = {0};
	cleanup_free char *fifo = NULL, *open_to_all = NULL;
	struct folders f;
	size_t lines = 0;

	(void)state;
	make_folders(&f);
	for (size_t i = 0; i < array_size(broken); i++)
		put(&f, 0, broken[i].name, broken[i].text);
	put(&f, 0, "good.yaml", ONE("good", "1"));
	put(&f, 0, "open.yaml", ONE("open", "1"));
	fifo = path_join(f.path[0], "fifo.yaml");
	open_to_all = path_join(f.path[0], "open.yaml");
	assert_int_equal(mkfifo(fifo, 0644), 0);
	assert_int_equal(chmod(open_to_all, 0666), 0);
	cleanup_cdi struct cdi *c = load(&f, &warnings);
	find(c, "v.com/gpu=good");
	for (size_t i = 0; i < array_size(broken); i++)
		if (!strstr(warnings.data, broken[i].expected))
			fail_msg("%s\ndoes not say %s", warnings.data, broken[i].expected);
	assert_non_null(strstr(warnings.data, "/0/fifo.yaml: not a regular file"));
	assert_non_null(strstr(warnings.data, "/0/open.yaml: others may write it"));
	for (const char *p = warnings.data; (p = strchr(p, '\n')); p++)
		lines++;
	assert_int_equal(lines, array_size(broken) + 2);
	size_t count;
	cdi_devices(c, &count);
	assert_int_equal(count, 1);
}

static void has_limits(void **state)
{
	cleanup_buffer struct buffer text = {0};
	struct error err = {0};

	(void)state;
	buffer_puts(&text, HEAD "devices:\n");
	for (int i = 0; i <= CDI_DEVICES_MAX; i++)
		buffer_printf(&text, "- {name: n%d, containerEdits: {}}\n", i);
	assert_null(cdi_parse(text.data, text.size, "x.yaml", &err));
	assert_int_equal(err.kind, ERROR_LIMIT);
	assert_non_null(strstr(err.text, "devices: 4097 elements, at most 4096 are allowed"));
}

// Everything in place before the edits, as an agent would have it.
static void make_spec(struct arena *a, struct runtime_spec *spec)
{
	*spec = (struct runtime_spec){0};
	spec->process.uid = 1000;
	spec->process.gid = 100;
	spec->process.env.items = arena_array(a, const char *, 3);
	spec->process.env.items[0] = "PATH=/bin";
	spec->process.env.items[1] = "AB=old";
	spec->process.env.count = 2;
	spec->mounts = arena_array(a, struct runtime_mount, 2);
	spec->mounts[0] = (struct runtime_mount){.destination = "/x/y/z", .source = "first"};
	spec->mounts[1] = (struct runtime_mount){.destination = "/same", .source = "old"};
	spec->mount_count = 2;
	spec->devices = arena_array(a, struct runtime_device, 1);
	spec->devices[0] = (struct runtime_device){.path = "/dev/x", .type = 'c', .major = 9};
	spec->device_count = 1;
	spec->resources.devices.items = arena_array(a, struct runtime_device_rule, 1);
	spec->resources.devices.items[0] =
		(struct runtime_device_rule){.type = 'a', .major = -1, .minor = -1, .read = true};
	spec->resources.devices.count = 1;
}

static const char applied[] =
	HEAD "containerEdits: {env: [G=1], hooks: [{hookName: createContainer, path: /g}],\n"
	     "  deviceNodes: [{path: /dev/ctl, type: c, major: 195, minor: 255}]}\n"
	     "devices:\n"
	     "- name: a\n"
	     "  containerEdits:\n"
	     "    env: [AB=new, A=x]\n"
	     "    deviceNodes:\n"
	     "    - {path: /dev/x, type: u, major: 1, minor: 2, permissions: rw, uid: 0}\n"
	     "    - {path: /dev/null-here, hostPath: /dev/null}\n"
	     "    - {path: /dev/quiet, type: b, major: 3, minor: 4, permissions: none}\n"
	     "    mounts: [{hostPath: /new, containerPath: /same}]\n"
	     "    additionalGids: [0, 44, 44]\n"
	     "- name: b\n"
	     "  containerEdits:\n"
	     "    env: [A=y]\n"
	     "    deviceNodes: [{path: /dev/ctl, type: c, major: 195, minor: 255}]\n"
	     "    hooks: [{hookName: poststop, path: /b}]\n";

static void applies_edits(void **state)
{
	cleanup_cdi struct cdi *c = parse(applied);
	const struct cdi_device *a = find(c, "v.com/gpu=a"), *b = find(c, "v.com/gpu=b");
	const struct cdi_device *const both[] = {a, b, a};
	cleanup_arena struct arena arena = {0};
	struct runtime_spec s;
	struct error err = {0};

	(void)state;
	make_spec(&arena, &s);
	if (cdi_apply(both, 3, &arena, &s, &err) < 0)
		fail_msg("%s", err.text);
	const struct json_strings *env = &s.process.env;
	assert_int_equal(env->count, 4);
	assert_string_equal(env->items[1], "AB=new");
	assert_string_equal(env->items[2], "G=1");
	assert_string_equal(env->items[3], "A=y");
	assert_null(env->items[4]);
	assert_int_equal(s.device_count, 4);
	const struct runtime_device *x = &s.devices[0], *null = &s.devices[2];
	assert_true(x->type == 'u' && x->major == 1 && x->minor == 2 && x->uid == 0);
	assert_int_equal(x->gid, 100);
	assert_string_equal(null->path, "/dev/null-here");
	assert_true(null->type == 'c' && null->major == 1 && null->minor == 3);
	assert_true(null->uid == 1000 && null->gid == 100 && null->mode == 0);
	const struct runtime_device_rules *rules = &s.resources.devices;
	assert_int_equal(rules->count, 4); // one that was there, ctl once, x, null
	assert_true(rules->items[1].allow && rules->items[1].minor == 255);
	assert_true(rules->items[2].type == 'c' && rules->items[2].write && !rules->items[2].mknod);
	assert_true(rules->items[3].minor == 3 && rules->items[3].mknod);
	assert_int_equal(s.mount_count, 2);
	assert_string_equal(s.mounts[0].source, "/new");
	assert_string_equal(s.mounts[1].source, "first"); // deeper, so later
	assert_int_equal(s.hooks[RUNTIME_HOOK_CREATE_CONTAINER].count, 1);
	assert_string_equal(s.hooks[RUNTIME_HOOK_POSTSTOP].items[0].path, "/b");
	assert_int_equal(s.process.group_count, 1);
	assert_int_equal(s.process.groups[0], 44);
}

static void failed_edits_change_nothing(void **state)
{
	static const struct {
		const char *text, *expected;
		enum error_kind kind;
	} cases[] = {
		{DEVICE("env: [AB=new], deviceNodes: [{path: /nonexistent/gpu}]"),
			"device v.com/gpu=a: device node /nonexistent/gpu: No such file",
			ERROR_NOT_FOUND},
		{DEVICE("deviceNodes: [{path: /dev/null, type: b}]"),
			"/dev/null is not a block device", ERROR_INVALID},
		{DEVICE("deviceNodes: [{path: /dev}]"), "/dev is not a device node", ERROR_INVALID},
	};

	(void)state;
	for (size_t i = 0; i < array_size(cases); i++) {
		cleanup_cdi struct cdi *c = parse(cases[i].text);
		const struct cdi_device *a = find(c, "v.com/gpu=a");
		cleanup_arena struct arena arena = {0};
		struct runtime_spec s, before;
		struct error err = {0};
		make_spec(&arena, &s);
		before = s;
		assert_int_equal(cdi_apply(&a, 1, &arena, &s, &err), -1);
		assert_int_equal(err.kind, cases[i].kind);
		if (!strstr(err.text, cases[i].expected))
			fail_msg("says %s\nnot  %s", err.text, cases[i].expected);
		assert_memory_equal(&s, &before, sizeof(s));
		assert_string_equal(s.process.env.items[1], "AB=old");
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(refuses),
		cmocka_unit_test(reads_every_edit),
		cmocka_unit_test(sorts_and_finds),
		cmocka_unit_test(names_what_is_near),
		cmocka_unit_test(later_folder_wins),
		cmocka_unit_test(broken_file_spoils_its_own),
		cmocka_unit_test(has_limits),
		cmocka_unit_test(applies_edits),
		cmocka_unit_test(failed_edits_change_nothing),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
