// SPDX-License-Identifier: Apache-2.0
//
// libarchive's tar reader, and only that: no other format, no filter. Names are bytes. libarchive
// wants to convert PAX names from UTF-8 to the locale; in the "C" locale, which no process of ours
// ever leaves, that either changes nothing or fails, and then libarchive keeps the raw bytes and
// warns.
#include "oci/layer/tar.h"

#include "base/buffer.h"
#include "base/memory.h"
#include "base/text.h"

#include <archive.h>
#include <archive_entry.h>
#include <iconv.h>
#include <langinfo.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

enum {
	NAME_MAX_BYTES = 255, // of one component
	PATH_MAX_BYTES = 4096,
	XATTRS_MAX = 512, // of one entry
	HEADER_SIZE = 512,
	// Of all headers in front of one entry. libarchive keeps the map of a sparse file in
	// memory, 12 times as large as its text in the archive.
	HEADER_MAX = 4 * 1024 * 1024,
};

struct tar_reader {
	struct layer_stream *in;
	struct layer_sink *sink;
	const struct layer_limits *limits;
	struct archive *archive;
	const uint8_t *block; // the stream's current block
	size_t block_size;
	uint64_t bytes, entries;
	uint64_t header_end; // where the stream may be at most while headers are read; 0: anywhere
	bool primed;
	char first_header[HEADER_SIZE];
	bool ended;	      // the stream has
	struct error *failed; // the callback's error, kept past libarchive
	char path[PATH_MAX_BYTES + 1], target[PATH_MAX_BYTES + 1];
	struct layer_xattr *xattrs; // of the entry
	size_t xattr_capacity;
};

// The next block of the stream. Everything that points into the last one is written first.
static ssize_t next_block(struct tar_reader *t, const void **block, struct error *err)
{
	*block = NULL;
	if (t->ended)
		return 0;
	if (t->sink->functions->flush(t->sink, err) < 0)
		return -1;
	ssize_t n = t->in->next(t->in, block, err);
	if (n < 0)
		return -1;
	t->block = *block;
	t->block_size = (size_t)n;
	t->ended = n == 0;
	if ((uint64_t)n > t->limits->bytes - t->bytes)
		return error_set(err, ERROR_LIMIT,
			"the uncompressed layer is over the limit of %llu bytes",
			(unsigned long long)t->limits->bytes);
	t->bytes += (uint64_t)n;
	if (t->header_end && t->bytes > t->header_end)
		return error_set(err, ERROR_LIMIT,
			"the header behind entry \"%s\" is over the limit of %d bytes", t->path,
			HEADER_MAX);
	return n;
}

// The archive's first header is ours: a symbolic link, which read_archive() skips. libarchive 3.6
// loses the PAX target of a link whose plain header has none (Go writes that for a target without
// ASCII) until it has met a link with one. It also lets every stream, even an empty one, begin like
// a tar archive.
static ssize_t prime(struct tar_reader *t, const void **block)
{
	unsigned sum = 0;
	char *h = t->first_header;
	h[0] = h[157] = 'x';	       // name, target
	memcpy(h + 100, "0000777", 8); // mode
	memset(h + 148, ' ', 8);       // checksum
	h[156] = '2';		       // type
	memcpy(h + 257, "ustar", 6);   // magic
	h[263] = h[264] = '0';	       // version
	for (size_t i = 0; i < HEADER_SIZE; i++)
		sum += (uint8_t)h[i];
	snprintf(h + 148, 8, "%06o", sum);
	t->primed = true;
	*block = h;
	return HEADER_SIZE;
}

static la_ssize_t read_callback(struct archive *a, void *data, const void **block)
{
	struct tar_reader *t = data;
	if (t->failed->kind != ERROR_NONE)
		return ARCHIVE_FATAL;
	ssize_t n = t->primed ? next_block(t, block, t->failed) : prime(t, block);
	if (n < 0) {
		archive_set_error(a, EIO, "read");
		return ARCHIVE_FATAL;
	}
	return n;
}

// What went wrong inside libarchive; `name` is the entry or NULL.
static int archive_failed(struct tar_reader *t, const char *name, struct error *err)
{
	if (t->failed->kind != ERROR_NONE) {
		*err = *t->failed;
		return -1;
	}
	if (t->ended && name)
		return error_set(
			err, ERROR_INTEGRITY, "the tar stream ends inside entry \"%s\"", name);
	const char *text = archive_error_string(t->archive);
	if (t->entries)
		return t->ended ? error_set(err, ERROR_INTEGRITY,
					  "the tar stream ends inside the header behind entry "
					  "\"%s\"",
					  t->path)
				: error_set(err, ERROR_INVALID,
					  "the tar archive is damaged behind entry \"%s\": %s",
					  t->path, text ? text : "bad header");
	if (t->ended)
		return error_set(
			err, ERROR_INTEGRITY, "the tar stream ends inside its first header");
	return error_set(err, ERROR_INVALID,
		"the layer is not a tar archive, or its first entry is damaged: %s",
		text ? text : "bad header");
}

// Normalise `name` into `path` as sink.h wants it. `what` is "entry" or "hard link target".
static int normalise(
	const char *name, const char *what, char path[PATH_MAX_BYTES + 1], struct error *err)
{
	size_t size = 0;
	for (const char *p = name; *p;) {
		size_t n = strcspn(p, "/");
		const char *component = p;
		p += n + (p[n] == '/');
		if (n == 0 || (n == 1 && component[0] == '.'))
			continue;
		if (n == 2 && component[0] == '.' && component[1] == '.')
			return error_set(err, ERROR_INVALID, "%s \"%.200s\" has \"..\" in its path",
				what, name);
		if (n > NAME_MAX_BYTES)
			return error_set(err, ERROR_INVALID,
				"%s \"%.200s…\" has a name longer than 255 bytes", what, name);
		if (size + n + 1 > PATH_MAX_BYTES)
			return error_set(err, ERROR_INVALID,
				"%s \"%.200s…\" is longer than 4096 bytes", what, name);
		if (size)
			path[size++] = '/';
		memcpy(path + size, component, n);
		size += n;
	}
	path[size] = '\0';
	return 0;
}

// Of records with one name the last counts; libarchive lists it first.
static void add_xattr(struct tar_reader *t, struct layer_entry *e, struct layer_xattr x)
{
	for (size_t i = 0; i < e->xattr_count; i++) {
		if (streq(t->xattrs[i].name, x.name))
			return;
	}
	if (e->xattr_count == t->xattr_capacity) {
		t->xattr_capacity = t->xattr_capacity ? t->xattr_capacity * 2 : 16;
		t->xattrs = xreallocarray(t->xattrs, t->xattr_capacity, sizeof(*t->xattrs));
	}
	t->xattrs[e->xattr_count++] = x;
}

static int read_xattrs(
	struct tar_reader *t, struct archive_entry *a, struct layer_entry *e, struct error *err)
{
	struct layer_xattr x;
	if (archive_entry_xattr_reset(a) > XATTRS_MAX)
		return error_set(err, ERROR_LIMIT,
			"entry \"%s\" has more than %d extended attributes", t->path, XATTRS_MAX);
	while (archive_entry_xattr_next(a, &x.name, &x.value, &x.size) == ARCHIVE_OK) {
		// These would steer the overlay mount that the layer becomes a part of.
		if (!starts_with(x.name, "trusted.overlay.") &&
			!starts_with(x.name, "user.overlay."))
			add_xattr(t, e, x);
	}
	// A PAX record without a value takes back an earlier one (POSIX.1-2017, pax).
	size_t kept = 0;
	for (size_t i = 0; i < e->xattr_count; i++)
		if (t->xattrs[i].size)
			t->xattrs[kept++] = t->xattrs[i];
	e->xattr_count = kept;
	e->xattrs = t->xattrs;
	return 0;
}

// ".wh.name" and ".wh..wh..opq". Returns 1 when the entry was one and is done, 0 when it is an
// ordinary entry.
static int whiteout(struct tar_reader *t, struct error *err)
{
	char *slash = strrchr(t->path, '/'), *name = slash ? slash + 1 : t->path;
	if (!starts_with(name, ".wh."))
		return 0;
	if (streq(name, ".wh..wh..opq")) {
		*(slash ? slash : t->path) = '\0';
		return t->sink->functions->opaque(t->sink, t->path, err) < 0 ? -1 : 1;
	}
	// The aufs driver of old Docker left its own bookkeeping in layers.
	if (starts_with(name, ".wh..wh."))
		return 1;
	const char *hidden = name + strlen(".wh.");
	if (!*hidden || streq(hidden, ".") || streq(hidden, ".."))
		return error_set(
			err, ERROR_INVALID, "entry \"%s\" is a whiteout of no name", t->path);
	memmove(name, hidden, strlen(hidden) + 1);
	return t->sink->functions->whiteout(t->sink, t->path, err) < 0 ? -1 : 1;
}

static int check_owner(const struct tar_reader *t, const char *what, int64_t id, struct error *err)
{
	// 2^32 - 1 is no id: it tells chown(2) to change nothing.
	if (id < 0 || id >= (int64_t)UINT32_MAX)
		return error_set(err, ERROR_INVALID,
			"entry \"%s\" has the %s id %lld, which cannot be", t->path, what,
			(long long)id);
	return 0;
}

// libarchive reads a PAX time of "-1.5" as -1 s and 0.5 s behind it: the sign is missing on the
// fraction.
static void set_mtime(struct layer_entry *e, struct archive_entry *a)
{
	e->mtime = archive_entry_mtime(a);
	e->mtime_nsec = (uint32_t)archive_entry_mtime_nsec(a);
	if (e->mtime < 0 && e->mtime > INT64_MIN && e->mtime_nsec) {
		e->mtime--;
		e->mtime_nsec = 1000000000 - e->mtime_nsec;
	}
}

static int describe(
	struct tar_reader *t, struct archive_entry *a, struct layer_entry *e, struct error *err)
{
	int64_t uid = archive_entry_uid(a), gid = archive_entry_gid(a);
	if (check_owner(t, "user", uid, err) < 0 || check_owner(t, "group", gid, err) < 0)
		return -1;
	*e = (struct layer_entry){
		.path = t->path,
		.mode = archive_entry_mode(a) & (S_IFMT | 07777),
		.uid = (uint32_t)uid,
		.gid = (uint32_t)gid,
	};
	set_mtime(e, a);
	switch (e->mode & S_IFMT) {
	case S_IFREG: {
		int64_t size = archive_entry_size(a);
		if (size < 0)
			return error_set(
				err, ERROR_INVALID, "entry \"%s\" has a negative size", t->path);
		if ((uint64_t)size > t->limits->bytes)
			return error_set(err, ERROR_LIMIT,
				"entry \"%s\" has %lld bytes, over the limit of %llu", t->path,
				(long long)size, (unsigned long long)t->limits->bytes);
		e->size = (uint64_t)size;
		break;
	}
	case S_IFLNK:
		e->link = archive_entry_symlink(a);
		if (!e->link || !*e->link)
			return error_set(
				err, ERROR_INVALID, "symbolic link \"%s\" has no target", t->path);
		break;
	case S_IFCHR:
	case S_IFBLK:
		e->rdev_major = (uint32_t)archive_entry_rdevmajor(a);
		e->rdev_minor = (uint32_t)archive_entry_rdevminor(a);
		break;
	case S_IFDIR:
	case S_IFIFO:
		break;
	default:
		return error_set(err, ERROR_INVALID,
			"entry \"%s\" is of a kind that layers cannot hold", t->path);
	}
	return read_xattrs(t, a, e, err);
}

static int read_data(struct tar_reader *t, struct error *err)
{
	for (;;) {
		const void *data;
		size_t size;
		la_int64_t offset;
		int r = archive_read_data_block(t->archive, &data, &size, &offset);
		if (r == ARCHIVE_EOF)
			return 0;
		if (r != ARCHIVE_OK)
			return archive_failed(t, t->path, err);
		if (size == 0)
			continue;
		if (t->sink->functions->data(t->sink, (uint64_t)offset, data, size, err) < 0)
			return error_context(err, "entry \"%s\"", t->path);
		// libarchive joins a piece over the end of a block in a buffer of its own, which
		// the next call reuses.
		const uint8_t *p = data;
		bool ours = p >= t->block && p < t->block + t->block_size;
		if (!ours && t->sink->functions->flush(t->sink, err) < 0)
			return -1;
	}
}

static int read_entry(struct tar_reader *t, struct archive_entry *a, struct error *err)
{
	const char *name = archive_entry_pathname(a), *link = archive_entry_hardlink(a);
	if (!name)
		return error_set(err, ERROR_INVALID, "an entry behind \"%s\" has no name", t->path);
	if (normalise(name, "entry", t->path, err) < 0)
		return -1;
	int r = whiteout(t, err);
	if (r != 0)
		return r < 0 ? -1 : 0;
	if (link) {
		if (normalise(link, "hard link target", t->target, err) < 0)
			return error_context(err, "entry \"%s\"", t->path);
		if (!*t->path || !*t->target)
			return error_set(err, ERROR_INVALID,
				"entry \"%s\" is a hard link to a directory", t->path);
		return t->sink->functions->link(t->sink, t->path, t->target, err);
	}
	struct layer_entry e;
	if (describe(t, a, &e, err) < 0)
		return -1;
	if (!*t->path && !S_ISDIR(e.mode))
		return error_set(err, ERROR_INVALID,
			"entry \"%.200s\" is the root and not a directory", name);
	if (t->sink->functions->add(t->sink, &e, err) < 0)
		return -1;
	return S_ISREG(e.mode) && e.size ? read_data(t, err) : 0;
}

// A warning is fine when it is about a name that libarchive could not convert and therefore left as
// it is, or about what is not used: user and group names and POSIX.1e texts. Anything else is
// damage.
static bool is_harmless(const char *warning)
{
	return warning && (strstr(warning, "can't be converted") || strstr(warning, "ACL") ||
				  strstr(warning, "acl"));
}

static int read_header(struct tar_reader *t, struct archive_entry **a, struct error *err)
{
	// What is left of the last entry is no header.
	if (t->entries && archive_read_data_skip(t->archive) < ARCHIVE_WARN)
		return archive_failed(t, t->path, err);
	t->header_end = t->bytes + HEADER_MAX;
	int r = archive_read_next_header(t->archive, a);
	t->header_end = 0;
	if (r == ARCHIVE_WARN && !is_harmless(archive_error_string(t->archive)))
		return error_set(err, ERROR_INVALID, "entry \"%.200s\" is damaged: %s",
			archive_entry_pathname(*a) ? archive_entry_pathname(*a) : "",
			archive_error_string(t->archive));
	if (r == ARCHIVE_OK || r == ARCHIVE_WARN)
		return 1;
	return r == ARCHIVE_EOF ? 0 : archive_failed(t, NULL, err);
}

static int read_entries(struct tar_reader *t, struct error *err)
{
	struct archive_entry *a = NULL;
	int r;
	while ((r = read_header(t, &a, err)) > 0) {
		if (t->entries == t->limits->entries)
			return error_set(err, ERROR_LIMIT, "the layer has more than %llu entries",
				(unsigned long long)t->limits->entries);
		t->entries++;
		if (read_entry(t, a, err) < 0)
			return -1;
	}
	return r;
}

static int read_archive(struct tar_reader *t, struct error *err)
{
	struct archive_entry *a;
	if (archive_read_support_format_tar(t->archive) != ARCHIVE_OK ||
		archive_read_open(t->archive, t, NULL, read_callback, NULL) != ARCHIVE_OK ||
		archive_read_next_header(t->archive, &a) != ARCHIVE_OK)
		return archive_failed(t, NULL, err);
	if (read_entries(t, err) < 0)
		return -1;
	const void *ignored;
	ssize_t n;
	while ((n = next_block(t, &ignored, err)) > 0)
		;
	return n < 0 ? -1 : 0;
}

void tar_prepare(void)
{
	iconv_t converter = iconv_open(nl_langinfo(CODESET), "UTF-8");
	if (converter != (iconv_t)-1) // NOLINT: the interface has a pointer that is -1
		iconv_close(converter);
}

int tar_read(struct layer_stream *in, struct layer_sink *sink, const struct layer_limits *limits,
	uint64_t *entry_count, struct error *err)
{
	struct error failed = {ERROR_NONE};
	struct tar_reader t = {.in = in, .sink = sink, .limits = limits, .failed = &failed};
	t.archive = archive_read_new();
	if (!t.archive)
		return error_set_errno(err, ENOMEM, "make the tar reader");
	int r = read_archive(&t, err);
	archive_read_free(t.archive);
	free(t.xattrs);
	if (r == 0)
		*entry_count = t.entries;
	return r;
}
