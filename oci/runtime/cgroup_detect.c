// SPDX-License-Identifier: Apache-2.0
//
// Which control groups this machine has, and where: from /proc/self/mountinfo, never by guessing at
// paths. Several controllers may share a hierarchy ("cpu,cpuacct"), and a container may see only a
// part of one (a mount whose root is not "/"): paths of groups begin at what is mounted.
#include "base/file.h"
#include "base/text.h"
#include "oci/runtime/cgroup_internal.h"

#include <linux/magic.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/vfs.h>

enum { MOUNTINFO_MAX = 16 * 1024 * 1024, CONTROLLERS_TEXT = 1024 };

static const struct {
	const char *v1, *v2; // NULL: not there
} names[CONTROLLERS] = {
	[CONTROLLER_CPU] = {"cpu", "cpu"},
	[CONTROLLER_CPUACCT] = {"cpuacct", NULL},
	[CONTROLLER_CPUSET] = {"cpuset", "cpuset"},
	[CONTROLLER_MEMORY] = {"memory", "memory"},
	[CONTROLLER_DEVICES] = {"devices", NULL},
	[CONTROLLER_FREEZER] = {"freezer", NULL},
	[CONTROLLER_IO] = {"blkio", "io"},
	[CONTROLLER_PIDS] = {"pids", "pids"},
	[CONTROLLER_HUGETLB] = {"hugetlb", "hugetlb"},
	[CONTROLLER_SYSTEMD] = {"name=systemd", NULL},
};

const char *cgroup_controller_name(enum cgroup_controller c, bool v2)
{
	return v2 ? names[c].v2 : names[c].v1;
}

static unsigned parse_list(const char *text, size_t size, bool v2)
{
	static const char between[] = ", \n";
	unsigned set = 0;
	for (const char *p = text, *end = text + size; p < end;) {
		size_t n = strcspn(p, between);
		if (n > (size_t)(end - p))
			n = (size_t)(end - p);
		for (unsigned c = 0; c < CONTROLLERS; c++) {
			const char *name = cgroup_controller_name(c, v2);
			if (name && strlen(name) == n && memcmp(name, p, n) == 0)
				set |= 1U << c;
		}
		p += n + 1;
	}
	return set;
}

unsigned cgroup_controllers_parse(const char *text)
{
	return parse_list(text, strlen(text), true);
}

// The kernel writes blanks and backslashes as \ooo.
static bool unescape(const char *p, size_t n, char *out, size_t size)
{
	size_t used = 0;
	for (size_t i = 0; i < n && used + 1 < size; used++) {
		if (p[i] == '\\' && i + 3 < n) {
			out[used] = (char)((p[i + 1] - '0') << 6 | (p[i + 2] - '0') << 3 |
					   (p[i + 3] - '0'));
			i += 4;
		} else {
			out[used] = p[i++];
		}
	}
	out[used] = '\0';
	return n > 0 && used + 1 < size;
}

static bool is_word(const char *p, size_t n, const char *word)
{
	return strlen(word) == n && memcmp(p, word, n) == 0;
}

// One hierarchy may be mounted more than once; the one that shows it whole is best, then the first.
static void add_hierarchy(struct cgroup_machine *m, const struct cgroup_hierarchy *h)
{
	for (size_t i = 0; i < m->count; i++) {
		struct cgroup_hierarchy *old = &m->items[i];
		if (old->v2 != h->v2 || (old->controllers & h->controllers) != h->controllers)
			continue;
		if (h->whole && !old->whole)
			*old = *h;
		return;
	}
	if (m->count < array_size(m->items))
		m->items[m->count++] = *h;
}

enum { ROOT_FIELD = 3, MOUNT_FIELD = 4, TYPE_FIELD = 1, OPTIONS_FIELD = 3 };

// proc_pid_mountinfo(5): id parent major:minor root mount options … - type source superoptions
static void parse_line(struct cgroup_machine *m, const char *line, size_t size)
{
	struct {
		const char *text;
		size_t size;
	} fields[MOUNT_FIELD + 1], behind[OPTIONS_FIELD + 1];
	size_t count = 0, behind_count = 0;
	bool dash = false;
	for (const char *p = line, *end = line + size; p < end;) {
		const char *blank = memchr(p, ' ', (size_t)(end - p));
		size_t n = (size_t)((blank ? blank : end) - p);
		if (!dash && count < array_size(fields)) {
			fields[count].text = p;
			fields[count++].size = n;
		}
		dash = dash || is_word(p, n, "-");
		if (dash && behind_count < array_size(behind)) {
			behind[behind_count].text = p;
			behind[behind_count++].size = n;
		}
		p += n + 1;
	}
	if (count < array_size(fields) || behind_count < array_size(behind))
		return;
	struct cgroup_hierarchy h = {
		.v2 = is_word(behind[TYPE_FIELD].text, behind[TYPE_FIELD].size, "cgroup2"),
		.whole = is_word(fields[ROOT_FIELD].text, fields[ROOT_FIELD].size, "/"),
	};
	if (!h.v2 && !is_word(behind[TYPE_FIELD].text, behind[TYPE_FIELD].size, "cgroup"))
		return;
	if (!unescape(fields[MOUNT_FIELD].text, fields[MOUNT_FIELD].size, h.mount, sizeof(h.mount)))
		return;
	if (!h.v2)
		h.controllers =
			parse_list(behind[OPTIONS_FIELD].text, behind[OPTIONS_FIELD].size, false);
	if (h.v2 || h.controllers)
		add_hierarchy(m, &h);
}

void cgroup_machine_parse(const char *mountinfo, struct cgroup_machine *m)
{
	*m = (struct cgroup_machine){0};
	for (const char *p = mountinfo; *p;) {
		size_t n = strcspn(p, "\n");
		parse_line(m, p, n);
		p += n + (p[n] == '\n');
	}
}

enum cgroup_mode cgroup_machine_mode(const struct cgroup_machine *m)
{
	const unsigned tell = CONTROLLER(CPU) | CONTROLLER(MEMORY) | CONTROLLER(PIDS);
	unsigned v1 = 0, v2 = 0;
	bool has_v2 = false;
	for (size_t i = 0; i < m->count; i++) {
		if (m->items[i].v2)
			v2 |= m->items[i].controllers;
		else
			v1 |= m->items[i].controllers;
		has_v2 = has_v2 || m->items[i].v2;
	}
	// A hierarchy of version 1 that limits nothing we ask for (net_cls beside version 2) does
	// not make a hybrid, nor does systemd's own, which is there for old programs.
	v1 &= ~CONTROLLER(SYSTEMD);
	if (has_v2 && (!v1 || (v2 & tell)))
		return CGROUP_V2;
	if (!v1)
		return CGROUP_NONE;
	return has_v2 ? CGROUP_HYBRID : CGROUP_V1;
}

// A mount may be hidden under another one.
static bool is_visible(const struct cgroup_hierarchy *h)
{
	struct statfs s;
	return statfs(h->mount, &s) == 0 &&
	       s.f_type == (h->v2 ? CGROUP2_SUPER_MAGIC : CGROUP_SUPER_MAGIC);
}

static struct cgroup_machine machine;

static void look(void)
{
	cleanup_buffer struct buffer text = {0};
	struct error ignored = {0};
	// What cannot be read is not there: the mode is then CGROUP_NONE, which says enough.
	if (file_read(AT_FDCWD, "/proc/self/mountinfo", MOUNTINFO_MAX, &text, &ignored) < 0 ||
		!text.size)
		return;
	struct cgroup_machine found;
	cgroup_machine_parse(text.data, &found);
	for (size_t i = 0; i < found.count; i++) {
		struct cgroup_hierarchy *h = &found.items[i];
		if (!is_visible(h))
			continue;
		char file[sizeof(h->mount) + 32], list[CONTROLLERS_TEXT];
		snprintf(file, sizeof(file), "%s/cgroup.controllers", h->mount);
		if (h->v2 && cgroup_read(AT_FDCWD, file, list, sizeof(list)))
			h->controllers = cgroup_controllers_parse(list);
		machine.items[machine.count++] = *h;
	}
	machine.mode = cgroup_machine_mode(&machine);
}

const struct cgroup_machine *cgroup_machine(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	pthread_once(&once, look);
	return &machine;
}

enum cgroup_mode cgroup_detect(void)
{
	return cgroup_machine()->mode;
}
