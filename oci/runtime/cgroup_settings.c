// SPDX-License-Identifier: Apache-2.0
//
// Lists of settings: files of a group and what is written into them.
#include "base/file.h"
#include "base/text.h"
#include "oci/runtime/cgroup_internal.h"

#include <inttypes.h>
#include <unistd.h>

enum { SETTINGS_FIXED = 24 };

void cgroup_settings_init(
	struct cgroup_settings *s, struct arena *a, const struct runtime_resources *r)
{
	// A device rule may become two writes (of blocks and of characters).
	size_t capacity = SETTINGS_FIXED + r->read_bytes.count + r->write_bytes.count +
			  r->read_operations.count + r->write_operations.count + r->hugepage_count +
			  r->unified.count + 2 * r->devices.count;
	*s = (struct cgroup_settings){
		.items = arena_array(a, struct cgroup_setting, capacity), .capacity = capacity};
}

void cgroup_setting_add(struct cgroup_settings *s, enum cgroup_controller c, enum setting_kind kind,
	const char *file, const char *value)
{
	if (s->count < s->capacity)
		s->items[s->count++] = (struct cgroup_setting){c, kind, file, value};
}

unsigned cgroup_settings_controllers(const struct cgroup_settings *s)
{
	unsigned set = 0;
	for (size_t i = 0; i < s->count; i++)
		set |= 1U << s->items[i].controller;
	return set;
}

int cgroup_check_swap(const struct runtime_resources *r, struct error *err)
{
	if (!r->memory_swap || r->memory_swap == RUNTIME_UNLIMITED)
		return 0;
	if (!r->memory_limit || r->memory_limit == RUNTIME_UNLIMITED)
		return error_set(err, ERROR_INVALID,
			"memory.swap is memory and swap together, and needs memory.limit");
	if (r->memory_swap < r->memory_limit)
		return error_set(err, ERROR_INVALID,
			"memory.swap (%" PRId64 ") is memory and swap together, and less than "
			"memory.limit (%" PRId64 ")",
			r->memory_swap, r->memory_limit);
	return 0;
}

bool cgroup_read(int dir, const char *file, char *text, size_t size)
{
	text[0] = '\0';
	cleanup_fd int fd = openat(dir, file, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	ssize_t n = read(fd, text, size - 1);
	text[n > 0 ? n : 0] = '\0';
	return n >= 0;
}

int cgroup_write(int dir, const char *file, const char *value)
{
	cleanup_fd int fd = openat(dir, file, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	// One call: the kernel reads each write as a setting of its own.
	return write(fd, value, strlen(value)) < 0 ? -1 : 0;
}

bool cgroup_field(const char *text, const char *name, uint64_t *value)
{
	size_t n = strlen(name);
	for (const char *p = text; *p; p += strcspn(p, "\n"), p += *p == '\n')
		if (strncmp(p, name, n) == 0 && p[n] == ' ') {
			const char *digits = p + n + 1;
			return parse_u64_n(digits, strcspn(digits, "\n"), value);
		}
	return false;
}

// The memory alone cannot be above memory and swap together, and both are written one after the
// other: which one goes first depends on what stands there now.
static int write_setting(const struct cgroup_part *part, const struct cgroup_setting *s,
	const struct cgroup_setting *next)
{
	int rc = cgroup_write(part->dir, s->file, s->value);
	if (rc < 0 && errno == EINVAL && next && streq(s->file, "memory.limit_in_bytes") &&
		streq(next->file, "memory.memsw.limit_in_bytes") &&
		cgroup_write(part->dir, next->file, next->value) == 0)
		rc = cgroup_write(part->dir, s->file, s->value);
	return rc;
}

int cgroup_apply(const struct cgroup *g, const struct cgroup_settings *s, struct buffer *warnings,
	struct error *err)
{
	bool failed = false;
	for (size_t i = 0; i < s->count; i++) {
		const struct cgroup_setting *one = &s->items[i];
		const struct cgroup_setting *next = i + 1 < s->count ? one + 1 : NULL;
		if (one->kind == SETTING_INSTEAD && !failed)
			continue;
		const struct cgroup_part *part = cgroup_part_of(g, one->controller);
		errno = ENOENT;
		failed = !part || write_setting(part, one, next) < 0;
		if (!failed || (next && next->kind == SETTING_INSTEAD))
			continue;
		int sys = errno;
		if (one->kind == SETTING_REQUIRED)
			return error_set_errno(err, sys, "cgroup %s: write %s to %s", g->path,
				one->value, one->file);
		buffer_printf(warnings, "limit %s = %s cannot be kept here: %s\n", one->file,
			one->value,
			!part		? "this machine has no such controller for us"
			: sys == ENOENT ? "this kernel has no such limit"
					: strerror(sys));
	}
	return 0;
}
