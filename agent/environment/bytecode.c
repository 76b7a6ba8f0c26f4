// SPDX-License-Identifier: Apache-2.0
#include "agent/environment/bytecode.h"

#include "base/file.h"
#include "base/text.h"
#include "oci/layer/tree_tar.h"

#include <dirent.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

// The first two bytes, a number that grows with each change of the format.
enum { MAGIC_WITH_SIZE = 3210, MAGIC_WITH_FLAGS = 3390, MAGIC_END = 8000 };

enum { HEADER_SIZE = 16 };

static uint32_t le32(const uint8_t *p)
{
	return p[0] | p[1] << 8 | p[2] << 16 | (uint32_t)p[3] << 24;
}

// Where the time stands in a header; behind it comes the size. 0: there is none.
static unsigned time_offset(const uint8_t header[HEADER_SIZE])
{
	unsigned magic = header[0] | (unsigned)header[1] << 8;
	if (header[2] != '\r' || header[3] != '\n' || magic < MAGIC_WITH_SIZE || magic >= MAGIC_END)
		return 0;
	if (magic < MAGIC_WITH_FLAGS)
		return 4;
	return le32(header + 4) == 0 ? 8 : 0; // flags: by a hash
}

// a.cpython-311.opt-1.pyc is of a.py, in the folder above.
static bool find_source(int folder, const char *name, struct stat *st)
{
	char source[NAME_MAX + 4];
	const char *tag = strstr(name, ".cpython-");
	if (!tag || !ends_with(name, ".pyc"))
		return false;
	snprintf(source, sizeof(source), "%.*s.py", (int)(tag - name), name);
	return fstatat(folder, source, st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st->st_mode);
}

// Returns whether the file was changed.
static bool fit_file(int folder, int cache, const char *name)
{
	static const uint8_t stamp[4] = {TREE_TAR_TIME & 255, TREE_TAR_TIME >> 8 & 255,
		TREE_TAR_TIME >> 16 & 255, TREE_TAR_TIME >> 24 & 255};
	uint8_t header[HEADER_SIZE];
	struct stat source, st;
	struct error ignored;
	if (!find_source(folder, name, &source))
		return false;
	cleanup_fd int fd = file_open_beneath(
		cache, name, O_RDWR | O_NOFOLLOW | O_NONBLOCK, 0, RESOLVE_NO_SYMLINKS, &ignored);
	if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) ||
		pread(fd, header, sizeof(header), 0) != sizeof(header))
		return false;
	unsigned at = time_offset(header);
	if (!at || le32(header + at) != (uint32_t)source.st_mtim.tv_sec ||
		le32(header + at + 4) != (uint32_t)source.st_size ||
		source.st_mtim.tv_sec == TREE_TAR_TIME)
		return false;
	return pwrite(fd, stamp, sizeof(stamp), at) == sizeof(stamp);
}

struct walk {
	unsigned changed, depth;
	bool cache; // the folder is a __pycache__
};

static void walk_folder(int parent, const char *name, struct walk *w);

static void visit(int parent, int folder, const struct dirent *e, struct walk *w)
{
	struct stat st;
	unsigned char type = e->d_type;
	if (type == DT_UNKNOWN && fstatat(folder, e->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0)
		type = (unsigned char)IFTODT(st.st_mode);
	if (type == DT_REG && w->cache)
		w->changed += fit_file(parent, folder, e->d_name);
	else if (type == DT_DIR && !streq(e->d_name, ".") && !streq(e->d_name, ".."))
		walk_folder(folder, e->d_name, w);
}

// Recursion: as deep as a layer may be (tree_tar.h).
static void walk_folder(int parent, const char *name, struct walk *w)
{
	struct error ignored;
	cleanup_fd int fd = file_open_beneath(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0,
		RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV, &ignored);
	DIR *stream = fd >= 0 && w->depth < TREE_TAR_DEPTH_MAX ? fdopendir(fd) : NULL;
	if (!stream)
		return;
	fd = -1;
	struct walk inner = {
		.changed = w->changed, .depth = w->depth + 1, .cache = streq(name, "__pycache__")};
	for (const struct dirent *e; (e = readdir(stream));)
		visit(parent, dirfd(stream), e, &inner);
	closedir(stream);
	w->changed = inner.changed;
}

unsigned environment_bytecode_fit(int tree_fd)
{
	struct walk w = {0};
	walk_folder(tree_fd, ".", &w);
	return w.changed;
}
