// SPDX-License-Identifier: Apache-2.0
//
// Users of the image. Not by getpwnam(3): that asks the node's name services, and reads the image's
// files, if pointed there, by code that was not written for hostile ones.
#include "base/file.h"
#include "base/text.h"
#include "oci/runtime/container_internal.h"

#include <linux/openat2.h>
#include <stdio.h>

enum { TABLE_BYTES_MAX = 1024 * 1024, FIELDS = 7 };

struct field {
	const char *text;
	size_t size;
};

// The fields of one line of passwd(5) or group(5); missing ones are empty. Returns the next line.
static const char *split_line(const char *line, struct field fields[FIELDS])
{
	const char *p = line;
	for (size_t i = 0; i < FIELDS; i++) {
		size_t n = strcspn(p, ":\n");
		fields[i] = (struct field){p, n};
		p += n + (p[n] == ':');
	}
	p += strcspn(p, "\n");
	return p + (*p == '\n');
}

static bool field_is(const struct field *f, const char *text, size_t size)
{
	return f->size == size && memcmp(f->text, text, size) == 0;
}

// User and group ids; the highest is -1, which the system calls take for "leave it".
static bool parse_id(const char *text, size_t size, unsigned *id)
{
	uint64_t value;
	if (!parse_u64_n(text, size, &value) || value >= UINT32_MAX)
		return false;
	*id = (unsigned)value;
	return true;
}

static bool find_user(const char *passwd, const char *name, size_t size, struct container_user *u,
	struct field *login)
{
	unsigned wanted = 0, uid, gid;
	bool numeric = parse_id(name, size, &wanted);
	struct field f[FIELDS];
	for (const char *line = passwd; *line;) {
		line = split_line(line, f);
		if (!parse_id(f[2].text, f[2].size, &uid) || !parse_id(f[3].text, f[3].size, &gid))
			continue;
		if (numeric ? uid != wanted : !field_is(&f[0], name, size))
			continue;
		u->uid = uid;
		u->gid = gid;
		if (f[5].size && f[5].size < sizeof(u->home) && f[5].text[0] == '/')
			snprintf(u->home, sizeof(u->home), "%.*s", (int)f[5].size, f[5].text);
		*login = f[0];
		return true;
	}
	u->uid = wanted;
	return numeric;
}

static bool find_group(const char *group, const char *name, gid_t *gid)
{
	struct field f[FIELDS];
	unsigned id;
	if (parse_id(name, strlen(name), &id)) {
		*gid = id;
		return true;
	}
	for (const char *line = group; *line;) {
		line = split_line(line, f);
		if (field_is(&f[0], name, strlen(name)) && parse_id(f[2].text, f[2].size, &id)) {
			*gid = id;
			return true;
		}
	}
	return false;
}

static bool is_member(const struct field *members, const struct field *login)
{
	const char *p = members->text, *end = p + members->size;
	while (p < end) {
		const char *comma = memchr(p, ',', (size_t)(end - p));
		size_t n = (size_t)((comma ? comma : end) - p);
		if (field_is(login, p, n))
			return true;
		p += n + 1;
	}
	return false;
}

static void add_groups(const char *group, const struct field *login, struct container_user *u)
{
	struct field f[FIELDS];
	unsigned id;
	for (const char *line = group; *line && u->group_count < CONTAINER_GROUPS_MAX;) {
		line = split_line(line, f);
		if (login->size && is_member(&f[3], login) && parse_id(f[2].text, f[2].size, &id))
			u->groups[u->group_count++] = id;
	}
}

int container_user_parse(const char *passwd, const char *group, const char *name,
	struct container_user *user, struct error *err)
{
	struct container_user u = {.home = "/"};
	struct field login = {"", 0};
	if (!*name)
		name = "0";
	size_t n = strcspn(name, ":");
	if (n == 0 || (name[n] && !name[n + 1]) || strchr(name, '\n') ||
		(name[n] && strchr(name + n + 1, ':')))
		return error_set(err, ERROR_INVALID,
			"user \"%s\": must be USER or USER:GROUP, by name or number", name);
	if (!find_user(passwd, name, n, &u, &login))
		return error_set(err, ERROR_NOT_FOUND,
			"user \"%.*s\" is not in the image's /etc/passwd", (int)n, name);
	if (!name[n])
		add_groups(group, &login, &u);
	else if (!find_group(group, name + n + 1, &u.gid))
		return error_set(err, ERROR_NOT_FOUND,
			"group \"%s\" is not in the image's /etc/group", name + n + 1);
	*user = u;
	return 0;
}

// A file that is missing is as good as an empty one.
static int read_table(int root_fd, const char *path, struct buffer *b, struct error *err)
{
	// O_NONBLOCK: the image may have a FIFO there, and nobody would ever write into it.
	cleanup_fd int fd = file_open_beneath(
		root_fd, path, O_RDONLY | O_NOCTTY | O_NONBLOCK, 0, RESOLVE_IN_ROOT, err);
	if (fd < 0 && err->kind == ERROR_NOT_FOUND) {
		error_clear(err);
		return 0;
	}
	if (fd < 0 || file_read_fd(fd, path, TABLE_BYTES_MAX, b, err) < 0)
		return error_context(err, "in the image");
	return 0;
}

int container_user_lookup(
	int root_fd, const char *name, struct container_user *user, struct error *err)
{
	cleanup_buffer struct buffer passwd = {0}, group = {0};
	if (read_table(root_fd, "/etc/passwd", &passwd, err) < 0 ||
		read_table(root_fd, "/etc/group", &group, err) < 0)
		return -1;
	return container_user_parse(
		passwd.data ? passwd.data : "", group.data ? group.data : "", name, user, err);
}
