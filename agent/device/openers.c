// SPDX-License-Identifier: Apache-2.0
#include "agent/device/openers.h"

#include "base/file.h"
#include "base/text.h"

#include <dirent.h>
#include <linux/kcmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { MAPS_BYTES_MAX = 16 * 1024 * 1024, SEEN_MAX = 4096 };

// Files that are none of the nodes: libraries are mapped by every process, and each is asked for
// once. A fixed table; what does not fit is asked for again.
struct seen {
	unsigned long device, inode;
};

struct scan {
	const struct openers_node *nodes;
	size_t node_count;
	struct opener *found;
	size_t *count;
	struct seen seen[SEEN_MAX];
	struct buffer text;
};

static void scan_release(struct scan **s)
{
	buffer_release(&(*s)->text);
	free(*s);
}

static void close_folder(DIR **d)
{
	if (*d)
		closedir(*d);
}
#define cleanup_folder __attribute__((cleanup(close_folder)))

static DIR *open_folder(int folder, const char *name)
{
	int fd = openat(folder, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	if (!d && fd >= 0)
		close(fd);
	return d;
}

// Index of the node, or -1. AT_STATX_DONT_SYNC does not ask a file server that may be gone.
static int node_at(const struct scan *s, int folder, const char *name)
{
	struct statx st;
	if (statx(folder, name, AT_STATX_DONT_SYNC | AT_NO_AUTOMOUNT, STATX_TYPE, &st) < 0)
		return -1;
	char type = S_ISCHR(st.stx_mode) ? 'c' : S_ISBLK(st.stx_mode) ? 'b' : 0;
	for (size_t i = 0; type && i < s->node_count; i++)
		if (s->nodes[i].type == type && s->nodes[i].major == st.stx_rdev_major &&
			s->nodes[i].minor == st.stx_rdev_minor)
			return (int)i;
	return -1;
}

static int scan_fds(const struct scan *s, int process, const char *path)
{
	cleanup_folder DIR *d = open_folder(process, path);
	for (struct dirent *e; d && (e = readdir(d));) {
		if (e->d_name[0] == '.')
			continue;
		errno = 0;
		int node = node_at(s, dirfd(d), e->d_name);
		// Where we may not look at one descriptor we may not look at the others.
		if (node >= 0 || errno == EACCES)
			return node;
	}
	return -1;
}

// Threads share their table of descriptors, save those that have unshared it; that of a leader that
// has ended before its threads is empty.
static int scan_threads(const struct scan *s, int process, pid_t pid)
{
	int node = scan_fds(s, process, "fd");
	cleanup_folder DIR *d = node < 0 ? open_folder(process, "task") : NULL;
	for (struct dirent *e; d && node < 0 && (e = readdir(d));) {
		char path[64];
		uint64_t tid;
		if (!parse_u64(e->d_name, &tid) || (pid_t)tid == pid)
			continue;
		long differs = syscall(SYS_kcmp, pid, (pid_t)tid, KCMP_FILES, 0, 0);
		if (differs == 0 || (differs < 0 && errno == EPERM))
			continue;
		snprintf(path, sizeof(path), "task/%d/fd", (int)tid);
		node = scan_fds(s, process, path);
	}
	return node;
}

static int node_by_path(const struct scan *s, const char *path)
{
	static const char gone[] = " (deleted)";
	size_t n = strlen(path);
	if (ends_with(path, gone))
		n -= sizeof(gone) - 1;
	for (size_t i = 0; i < s->node_count; i++)
		if (strlen(s->nodes[i].path) == n && strncmp(s->nodes[i].path, path, n) == 0)
			return (int)i;
	return -1;
}

struct mapping {
	unsigned long from, to, device, inode;
	const char *path;
};

// "7f…-7f… rw-s 00000000 00:05 123    /dev/nvidia0", as in proc(5).
static bool parse_mapping(const char *line, struct mapping *m)
{
	char *p;
	m->from = strtoul(line, &p, 16);
	if (*p++ != '-')
		return false;
	m->to = strtoul(p, &p, 16);
	for (int i = 0; i < 2 && *p == ' '; i++) // behind the permissions, behind the offset
		p = strchrnul(p + 1, ' ');
	m->device = strtoul(p, &p, 16);
	if (*p++ != ':')
		return false;
	m->device = m->device << 32 | strtoul(p, &p, 16);
	m->inode = strtoul(p, &p, 10);
	m->path = p + strspn(p, " ");
	return m->inode && *m->path == '/';
}

// The device in the line is the file system's; the node's own number is behind the link in
// map_files, which is for root.
static int scan_mapping(struct scan *s, int process, const char *line)
{
	struct mapping m;
	char link[64];
	if (!parse_mapping(line, &m))
		return -1;
	struct seen *slot = &s->seen[(m.inode * 31 + m.device) % SEEN_MAX];
	if (slot->device == m.device && slot->inode == m.inode)
		return -1;
	snprintf(link, sizeof(link), "map_files/%lx-%lx", m.from, m.to);
	int node = node_at(s, process, link);
	if (node < 0)
		node = node_by_path(s, m.path);
	if (node < 0)
		*slot = (struct seen){m.device, m.inode};
	return node;
}

static int scan_maps(struct scan *s, int process)
{
	struct error ignored;
	int node = -1;
	buffer_clear(&s->text);
	if (file_read(process, "maps", MAPS_BYTES_MAX, &s->text, &ignored) < 0 || !s->text.size)
		return -1;
	for (char *line = s->text.data, *end; node < 0 && *line; line = end) {
		end = strchrnul(line, '\n');
		if (*end)
			*end++ = '\0';
		node = scan_mapping(s, process, line);
	}
	return node;
}

// "pid (comm) S ppid …": the name may hold anything, so what follows is found from behind.
static void describe(struct scan *s, int process, struct opener *o)
{
	struct error ignored;
	buffer_clear(&s->text);
	if (file_read(process, "stat", 4096, &s->text, &ignored) < 0 || !s->text.size)
		return;
	char *name = strchr(s->text.data, '('), *end = strrchr(s->text.data, ')');
	if (!name || !end)
		return;
	*end = '\0';
	snprintf(o->command, sizeof(o->command), "%s", name + 1);
	text_flatten(o->command);
	const char *p = end + 1;
	for (int field = 3; field < 22 && p; field++) // the space before field 3 is the first
		p = strchr(p + 1, ' ');
	if (p)
		parse_u64_n(p + 1, strspn(p + 1, "0123456789"), &o->start);
}

static void scan_process(struct scan *s, int proc, const char *name, pid_t pid)
{
	cleanup_fd int process = openat(proc, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (process < 0)
		return;
	int node = scan_threads(s, process, pid);
	if (node < 0)
		node = scan_maps(s, process);
	if (node < 0)
		return;
	struct opener o = {.pid = pid, .node = (size_t)node, .command = "?"};
	describe(s, process, &o);
	s->found[(*s->count)++] = o;
}

int openers_find(const struct openers_node *nodes, size_t node_count,
	struct opener found[OPENERS_MAX], size_t *count, struct error *err)
{
	__attribute__((cleanup(scan_release))) struct scan *s = xcalloc(1, sizeof(*s));
	*s = (struct scan){
		.nodes = nodes, .node_count = node_count, .found = found, .count = count};
	*count = 0;
	if (!node_count)
		return 0;
	cleanup_folder DIR *d = open_folder(AT_FDCWD, "/proc");
	if (!d)
		return error_set_errno(err, errno, "open /proc");
	for (struct dirent *e; *count < OPENERS_MAX && (e = readdir(d));) {
		uint64_t pid;
		if (parse_u64(e->d_name, &pid))
			scan_process(s, dirfd(d), e->d_name, (pid_t)pid);
	}
	return 0;
}
