// SPDX-License-Identifier: Apache-2.0
//
// Inside the confinement: libarchive's events become files. The library is the system's shared one,
// loaded here: the one that is linked in has the plain tar reader alone.
#include "agent/data/unpack_protocol.h"
#include "base/file.h"
#include "base/memory.h"
#include "base/text.h"

#include <archive.h>
#include <archive_entry.h>
#include <dlfcn.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

enum {
	BLOCK = 256 * 1024,
	PATH_BYTES_MAX = 4095,
	RATIO_MAX = 1000,
	RATIO_FREE_BYTES = 256 * 1024 * 1024, // small ones may grow as they like
	TELL_BYTES = 4 * 1024 * 1024,
	SPACE_BYTES = 32 * 1024 * 1024,
	ENTRY_BYTES = 4096, // of the disk, that a folder or an empty file may take
	INODES_KEPT = 20,   // one of so many stays free
};

#define ARCHIVE_FUNCTIONS(X)                 \
	X(archive_read_new)                  \
	X(archive_read_free)                 \
	X(archive_read_support_filter_gzip)  \
	X(archive_read_support_filter_bzip2) \
	X(archive_read_support_filter_xz)    \
	X(archive_read_support_filter_zstd)  \
	X(archive_read_support_format_tar)   \
	X(archive_read_support_format_zip)   \
	X(archive_read_open_fd)              \
	X(archive_read_next_header)          \
	X(archive_read_data_block)           \
	X(archive_filter_bytes)              \
	X(archive_error_string)              \
	X(archive_entry_pathname)            \
	X(archive_entry_pathname_utf8)       \
	X(archive_entry_hardlink)            \
	X(archive_entry_symlink)             \
	X(archive_entry_filetype)            \
	X(archive_entry_perm)                \
	X(archive_entry_size)                \
	X(archive_entry_mtime)               \
	X(archive_entry_is_encrypted)

static struct {
#define X(name) __typeof__(&(name)) name;
	ARCHIVE_FUNCTIONS(X)
#undef X
} la;

struct unpacker {
	const struct unpack_order *order;
	int folder_fd;
	struct archive *archive;
	uint64_t bytes, entries, told, checked;
	char path[PATH_BYTES_MAX + 1]; // of the entry, for texts
	enum data_failure failure;
};

int unpack_prepare(struct error *err)
{
	static const char library[] = "libarchive.so.13";
	void *handle = dlopen(library, RTLD_NOW | RTLD_LOCAL);
	if (!handle)
		return error_set(err, ERROR_SYSTEM, "%s; install libarchive 13", dlerror());
#define X(name)                                                                           \
	{                                                                                 \
		void *symbol = dlsym(handle, #name);                                      \
		if (!symbol)                                                              \
			return error_set(err, ERROR_SYSTEM, "%s has no " #name, library); \
		memcpy(&la.name, &symbol, sizeof(symbol));                                \
	}
	ARCHIVE_FUNCTIONS(X)
#undef X
	return 0;
}

static int refuse(struct unpacker *u, struct error *err, const char *why)
{
	u->failure = DATA_ARCHIVE;
	return error_set(err, ERROR_INVALID, "entry \"%.200s\" %s", u->path, why);
}

static int system_failed(struct unpacker *u, struct error *err, int sys)
{
	u->failure = sys == ENOSPC || sys == EDQUOT ? DATA_NO_SPACE : DATA_FAILED;
	return error_set_errno(err, sys, "unpack \"%.200s\"", u->path);
}

// "./a//b/" becomes "a/b"; "" is the folder itself.
static int clean_path(
	struct unpacker *u, const char *name, char out[PATH_BYTES_MAX + 1], struct error *err)
{
	size_t size = 0;
	if (*name == '/')
		return refuse(u, err, "has an absolute path");
	for (const char *p = name; *p;) {
		size_t n = strcspn(p, "/");
		if (n == 2 && p[0] == '.' && p[1] == '.')
			return refuse(u, err, "has \"..\" in its path");
		if (n && !(n == 1 && *p == '.')) {
			if (n > 255 || size + n + 1 > PATH_BYTES_MAX)
				return refuse(u, err, "has a path that is too long");
			if (size)
				out[size++] = '/';
			memcpy(out + size, p, n);
			size += n;
		}
		p += n + (p[n] == '/');
	}
	out[size] = '\0';
	return 0;
}

// Does a symbolic link at `path` lead out of the folder? By its text: nobody follows it here.
static bool leads_out(const char *path, const char *target)
{
	int depth = 0;
	if (*target == '/')
		return true;
	for (const char *p = path; (p = strchr(p, '/')); p++)
		depth++;
	for (const char *p = target; *p;) {
		size_t n = strcspn(p, "/");
		if (n == 2 && p[0] == '.' && p[1] == '.')
			depth--;
		else if (n && !(n == 1 && *p == '.'))
			depth++;
		if (depth < 0)
			return true;
		p += n + (p[n] == '/');
	}
	return false;
}

static int open_beneath(struct unpacker *u, const char *path, int flags, struct error *err)
{
	return file_open_beneath(
		u->folder_fd, *path ? path : ".", flags | O_CLOEXEC, 0, RESOLVE_NO_SYMLINKS, err);
}

// The folder of an entry, made where it is missing.
static int open_parent(struct unpacker *u, const char *path, struct error *err)
{
	char folder[PATH_BYTES_MAX + 1];
	const char *slash = strrchr(path, '/');
	size_t n = slash ? (size_t)(slash - path) : 0;
	memcpy(folder, path, n);
	folder[n] = '\0';
	cleanup_fd int fd = open_beneath(u, folder, O_RDONLY | O_DIRECTORY, err);
	if (fd >= 0)
		return steal_fd(&fd);
	if (err->sys == ELOOP || err->sys == ENOTDIR)
		return refuse(u, err, "lies below a link or a file");
	cleanup_fd int above = open_parent(u, folder, err);
	if (above < 0)
		return -1;
	if (mkdirat(above, path_base(folder), 0755) < 0 && errno != EEXIST)
		return system_failed(u, err, errno);
	fd = open_beneath(u, folder, O_RDONLY | O_DIRECTORY, err);
	return fd < 0 ? refuse(u, err, "lies below a link or a file") : steal_fd(&fd);
}

// Archives of nothing but folders and empty files have no bytes, and take the disk's inodes.
static int check_space(struct unpacker *u, uint64_t spent, struct error *err)
{
	const struct unpack_order *o = u->order;
	char text[FORMAT_SIZE_MAX];
	struct statvfs st;
	if (spent - u->checked < SPACE_BYTES)
		return 0;
	u->checked = spent;
	if (fstatvfs(u->folder_fd, &st) < 0)
		return 0;
	if ((uint64_t)st.f_bavail * st.f_frsize < o->keep_free_bytes) {
		u->failure = DATA_NO_SPACE;
		return error_set(err, ERROR_LIMIT,
			"unpacking leaves less than the %s that are kept free",
			format_size(o->keep_free_bytes, text));
	}
	if (st.f_files && st.f_favail < st.f_files / INODES_KEPT) { // 0: it has no such limit
		u->failure = DATA_NO_SPACE;
		return error_set(err, ERROR_LIMIT,
			"unpacking leaves fewer than 1 of %d inodes of the disk free", INODES_KEPT);
	}
	return 0;
}

static int check_growth(struct unpacker *u, uint64_t more, struct error *err)
{
	const struct unpack_order *o = u->order;
	char text[FORMAT_SIZE_MAX];
	uint64_t total = u->bytes + more;
	int64_t consumed = la.archive_filter_bytes(u->archive, -1);
	if (o->max_bytes && total > o->max_bytes) {
		u->failure = DATA_TOO_LARGE;
		return error_set(err, ERROR_LIMIT,
			"entry \"%.200s\": unpacked it has more than the limit of %s", u->path,
			format_size(o->max_bytes, text));
	}
	if (total > RATIO_FREE_BYTES && total / RATIO_MAX > (uint64_t)(consumed > 0 ? consumed : 0))
		return refuse(u, err, "makes the archive grow more than a thousandfold");
	return check_space(u, total + u->entries * ENTRY_BYTES, err);
}

static int archive_failed(struct unpacker *u, struct error *err)
{
	const char *text = la.archive_error_string(u->archive);
	u->failure = DATA_ARCHIVE;
	return error_set(err, ERROR_INVALID, "the archive is damaged%s%.200s%s: %s",
		*u->path ? " behind entry \"" : "", u->path, *u->path ? "\"" : "",
		text ? text : "no reason given");
}

static int copy_data(struct unpacker *u, int fd, struct error *err)
{
	const void *block;
	size_t size;
	int64_t offset, end = 0;
	for (;;) {
		int status = la.archive_read_data_block(u->archive, &block, &size, &offset);
		if (status == ARCHIVE_EOF)
			break;
		if (status < ARCHIVE_WARN)
			return archive_failed(u, err);
		// Holes of sparse files count: whoever reads the file reads them.
		if (offset < end || offset > INT64_MAX - (int64_t)size)
			return refuse(u, err, "has its data out of order");
		uint64_t more = (uint64_t)(offset - end) + size;
		if (check_growth(u, more, err) < 0)
			return -1;
		if (size && pwrite_all(fd, block, size, offset, "file", err) < 0)
			return system_failed(u, err, err->sys);
		end = offset + (int64_t)size;
		u->bytes += more;
		if (u->bytes - u->told >= TELL_BYTES) {
			u->told = u->bytes;
			unpack_tell(u->bytes);
		}
	}
	return 0;
}

static void set_time(int fd, struct archive_entry *e)
{
	const struct timespec times[2] = {
		{.tv_nsec = UTIME_OMIT}, {.tv_sec = la.archive_entry_mtime(e)}};
	futimens(fd, times);
}

static int make_file(struct unpacker *u, int parent, const char *name, struct archive_entry *e,
	struct error *err)
{
	const int flags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC;
	cleanup_fd int fd = openat(parent, name, flags, 0600);
	// The same name again: the later one holds, as tar has it.
	if (fd < 0 && errno == EEXIST && unlinkat(parent, name, 0) == 0)
		fd = openat(parent, name, flags, 0600);
	if (fd < 0)
		return errno == EISDIR ? refuse(u, err, "is a folder already")
				       : system_failed(u, err, errno);
	if (copy_data(u, fd, err) < 0)
		return -1;
	if (fchmod(fd, la.archive_entry_perm(e) & 0111 ? 0555 : 0444) < 0)
		return system_failed(u, err, errno);
	set_time(fd, e);
	return 0;
}

static int make_symlink(struct unpacker *u, int parent, const char *name, const char *path,
	const char *target, struct error *err)
{
	if (!target || !*target || leads_out(path, target))
		return refuse(u, err, "is a link that leads out of the folder");
	if (symlinkat(target, parent, name) == 0)
		return 0;
	if (errno == EEXIST && unlinkat(parent, name, 0) == 0 &&
		symlinkat(target, parent, name) == 0)
		return 0;
	return system_failed(u, err, errno);
}

static int make_hardlink(
	struct unpacker *u, int parent, const char *name, const char *target, struct error *err)
{
	char clean[PATH_BYTES_MAX + 1];
	if (clean_path(u, target, clean, err) < 0)
		return -1;
	const char *slash = strrchr(clean, '/');
	char folder[PATH_BYTES_MAX + 1] = "";
	memcpy(folder, clean, slash ? (size_t)(slash - clean) : 0);
	cleanup_fd int fd = open_beneath(u, folder, O_RDONLY | O_DIRECTORY, err);
	struct stat st;
	if (fd < 0 || fstatat(fd, path_base(clean), &st, AT_SYMLINK_NOFOLLOW) < 0 ||
		!S_ISREG(st.st_mode))
		return refuse(u, err, "is a hard link to what is no file of the archive");
	if (linkat(fd, path_base(clean), parent, name, 0) == 0)
		return 0;
	return errno == EEXIST ? 0 : system_failed(u, err, errno);
}

static int make_folder(struct unpacker *u, int parent, const char *name, struct error *err)
{
	struct stat st;
	if (mkdirat(parent, name, 0755) == 0)
		return 0;
	if (errno != EEXIST)
		return system_failed(u, err, errno);
	if (fstatat(parent, name, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISDIR(st.st_mode))
		return refuse(u, err, "is a folder where a file or link is");
	return 0;
}

static int make_entry(struct unpacker *u, struct archive_entry *e, struct error *err)
{
	char path[PATH_BYTES_MAX + 1];
	const char *name = la.archive_entry_pathname(e);
	const char *link;
	name = name ? name : la.archive_entry_pathname_utf8(e);
	snprintf(u->path, sizeof(u->path), "%s", name ? name : "");
	if (!name || strlen(name) > PATH_BYTES_MAX)
		return refuse(u, err, "has a name that cannot be read");
	if (la.archive_entry_is_encrypted(e))
		return refuse(u, err, "is encrypted");
	if (clean_path(u, name, path, err) < 0)
		return -1;
	if (!*path) // the folder itself
		return 0;
	cleanup_fd int parent = open_parent(u, path, err);
	if (parent < 0)
		return -1;
	link = la.archive_entry_hardlink(e);
	if (link)
		return make_hardlink(u, parent, path_base(path), link, err);
	switch (la.archive_entry_filetype(e)) {
	case AE_IFREG:
		return make_file(u, parent, path_base(path), e, err);
	case AE_IFDIR:
		return make_folder(u, parent, path_base(path), err);
	case AE_IFLNK:
		return make_symlink(
			u, parent, path_base(path), path, la.archive_entry_symlink(e), err);
	default:
		return refuse(u, err, "is a device, a socket or a FIFO");
	}
}

static int read_archive(struct unpacker *u, struct error *err)
{
	for (;;) {
		struct archive_entry *e;
		int status = la.archive_read_next_header(u->archive, &e);
		if (status == ARCHIVE_EOF)
			return 0;
		if (status < ARCHIVE_WARN)
			return archive_failed(u, err);
		if (++u->entries > UNPACK_ENTRIES_MAX)
			return refuse(u, err, "is one more than the 10,000,000 that are allowed");
		if (make_entry(u, e, err) < 0 || check_growth(u, 0, err) < 0)
			return -1;
	}
}

static int open_archive(struct unpacker *u, int fd, struct error *err)
{
	struct archive *a = u->archive;
	if (u->order->format != DATA_UNPACK_ZIP) {
		la.archive_read_support_filter_gzip(a);
		la.archive_read_support_filter_bzip2(a);
		la.archive_read_support_filter_xz(a);
		la.archive_read_support_filter_zstd(a);
		la.archive_read_support_format_tar(a);
	}
	if (u->order->format != DATA_UNPACK_TAR)
		la.archive_read_support_format_zip(a);
	if (lseek(fd, 0, SEEK_SET) < 0)
		return system_failed(u, err, errno);
	return la.archive_read_open_fd(a, fd, BLOCK) == ARCHIVE_OK ? 0 : archive_failed(u, err);
}

int unpack_archive(const struct unpack_order *o, int archive_fd, int folder_fd, uint64_t *bytes,
	enum data_failure *failure, struct error *err)
{
	struct unpacker u = {.order = o, .folder_fd = folder_fd};
	u.archive = la.archive_read_new();
	if (!u.archive)
		abort();
	int status = open_archive(&u, archive_fd, err);
	if (status == 0)
		status = read_archive(&u, err);
	la.archive_read_free(u.archive);
	*bytes = u.bytes;
	*failure = u.failure;
	return status;
}
