// SPDX-License-Identifier: Apache-2.0
#include "agent/job/ignore.h"

#include "agent/job/ignore_pattern.h"
#include "base/file.h"
#include "base/text.h"

#include <sys/stat.h>
#include <unistd.h>

struct level { // of one file of rules
	struct level *up;
	struct arena arena;
	size_t bytes;  // of its text
	size_t prefix; // length of its folder, with the '/' behind
	struct ignore_pattern *patterns;
	size_t count;
};

struct ignore {
	struct level *level; // the deepest
	size_t bytes;
	uint64_t steps;
	bool root_seen;
	const char *name;  // of the files that count
	const char *found; // the same, once there was one
};

struct ignore *ignore_new(void)
{
	return xcalloc(1, sizeof(struct ignore));
}

void ignore_leave(struct ignore *ig)
{
	struct level *level = ig->level;
	ig->level = level->up;
	ig->bytes -= level->bytes;
	arena_release(&level->arena);
	free(level);
}

void ignore_free(struct ignore *ig)
{
	while (ig && ig->level)
		ignore_leave(ig);
	free(ig);
}

static struct level *push(struct ignore *ig, const char *folder)
{
	struct level *level = xcalloc(1, sizeof(*level));
	level->up = ig->level;
	level->prefix = *folder ? strlen(folder) + 1 : 0;
	ig->level = level;
	return level;
}

static int add_rules(
	struct ignore *ig, struct level *level, const char *text, size_t size, struct error *err)
{
	size_t lines = 1;
	if (size > IGNORE_BYTES_MAX - ig->bytes)
		return error_set(err, ERROR_LIMIT,
			"the rules have more than %d bytes with those of the folders above",
			IGNORE_BYTES_MAX);
	level->bytes = size;
	ig->bytes += size;
	if (size >= 3 && memcmp(text, "\xEF\xBB\xBF", 3) == 0) {
		text += 3;
		size -= 3;
	}
	for (size_t i = 0; i < size; i++)
		lines += text[i] == '\n';
	level->patterns = arena_array(&level->arena, struct ignore_pattern, lines);
	for (size_t number = 1; size; number++) {
		const char *end = memchr(text, '\n', size);
		size_t n = end ? (size_t)(end - text) : size;
		const char *nul = memchr(text, '\0', n); // where git's own text ends
		size_t length = nul ? (size_t)(nul - text) : n;
		if (length > IGNORE_PATTERN_MAX)
			return error_set(err, ERROR_LIMIT, "line %zu is longer than %d bytes",
				number, IGNORE_PATTERN_MAX);
		if (ignore_pattern_parse(
			    &level->arena, text, length, &level->patterns[level->count]))
			level->count++;
		text += n + (end != NULL);
		size -= n + (end != NULL);
	}
	return 0;
}

int ignore_add(
	struct ignore *ig, const char *folder, const char *text, size_t size, struct error *err)
{
	return add_rules(ig, push(ig, folder), text, size, err);
}

// 0: there is no such file.
static int read_rules(int folder_fd, const char *name, struct buffer *b, struct error *err)
{
	struct stat st;
	cleanup_fd int fd =
		openat(folder_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	if (fd < 0 && (errno == ENOENT || errno == ELOOP || errno == ENXIO))
		return 0;
	if (fd < 0 || fstat(fd, &st) < 0)
		return error_set_errno(err, errno, "open %s", name);
	if (!S_ISREG(st.st_mode))
		return 0;
	return file_read_fd(fd, name, IGNORE_BYTES_MAX, b, err) < 0 ? -1 : 1;
}

static int enter(struct ignore *ig, struct level *level, int folder_fd, struct error *err)
{
	cleanup_buffer struct buffer b = {0};
	bool root = !ig->root_seen;
	int rc = 0;
	if (root) {
		ig->root_seen = true;
		ig->name = ".amlignore";
		rc = read_rules(folder_fd, ig->name, &b, err);
		if (rc == 0)
			ig->name = ".gitignore";
	}
	if (rc == 0 && (root || streq(ig->name, ".gitignore")))
		rc = read_rules(folder_fd, ig->name, &b, err);
	if (rc > 0)
		ig->found = ig->name;
	return rc > 0 ? add_rules(ig, level, b.data ? b.data : "", b.size, err) : rc;
}

int ignore_enter(struct ignore *ig, int folder_fd, const char *folder, struct error *err)
{
	if (enter(ig, push(ig, folder), folder_fd, err) < 0)
		return error_context(err, "%s%s%s", folder, *folder ? "/" : "", ig->name);
	return 0;
}

bool ignore_match(struct ignore *ig, const char *path, bool is_folder)
{
	for (const struct level *level = ig->level; level; level = level->up)
		for (size_t i = level->count; i > 0; i--) {
			const struct ignore_pattern *p = &level->patterns[i - 1];
			if (ignore_pattern_match(p, path + level->prefix, is_folder, &ig->steps))
				return !p->negated;
		}
	return false;
}

uint64_t ignore_steps(const struct ignore *ig)
{
	return ig->steps;
}

const char *ignore_file(const struct ignore *ig)
{
	return ig->found;
}
