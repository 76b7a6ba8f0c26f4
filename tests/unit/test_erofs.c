// SPDX-License-Identifier: Apache-2.0
// The EROFS writer: what it is told against what a reader finds in the image.
#include "base/file.h"
#include "oci/layer/erofs.h"
#include "tests/unit/erofs_reader.h"

enum { F = 0, DIRECTORY, SYMLINK, LINK, WHITEOUT, OPAQUE, DEVICE, FIFO };

// One call of the sink.
struct step {
	int kind;
	const char *path, *argument; // content or target
	unsigned mode, uid;
	int64_t mtime;
	unsigned mtime_nsec;
};

static const mode_t types[] = {[F] = S_IFREG,
	[DIRECTORY] = S_IFDIR,
	[SYMLINK] = S_IFLNK,
	[DEVICE] = S_IFCHR,
	[FIFO] = S_IFIFO};

static int take(struct layer_sink *s, const struct step *step, struct error *err)
{
	const struct layer_sink_functions *f = s->functions;
	if (step->kind == LINK)
		return f->link(s, step->path, step->argument, err);
	if (step->kind == WHITEOUT)
		return f->whiteout(s, step->path, err);
	if (step->kind == OPAQUE)
		return f->opaque(s, step->path, err);
	struct layer_entry e = {
		.path = step->path,
		.mode = types[step->kind] | (step->mode ? step->mode : 0644),
		.uid = step->uid,
		.gid = step->uid,
		.mtime = step->mtime,
		.mtime_nsec = step->mtime_nsec,
		.link = step->kind == SYMLINK ? step->argument : NULL,
		.rdev_major = 259,
		.rdev_minor = 70000,
	};
	size_t size = step->kind == F && step->argument ? strlen(step->argument) : 0;
	e.size = size;
	if (f->add(s, &e, err) < 0)
		return -1;
	return size ? f->data(s, 0, step->argument, size, err) : 0;
}

static int new_file(void)
{
	int fd = memfd_create("image", MFD_CLOEXEC);
	assert_true(fd >= 0);
	return fd;
}

static int run(int fd, const struct step *steps, struct error *err)
{
	struct layer_sink *s = erofs_writer_new(fd, &layer_limits_default);
	int r = 0;
	for (; r == 0 && steps->path; steps++)
		r = take(s, steps, err);
	if (r == 0)
		r = s->functions->flush(s, err) < 0 ? -1 : s->functions->finish(s, err);
	s->functions->free(s);
	return r;
}

static const struct {
	const char *why;
	struct step steps[10];
	const char *expected;
} trees[] = {
	{"nothing at all", {{0}}, "/ 40755 0:0 2 0.0{implicit}\n"},
	{"every kind",
		{{DIRECTORY, "", .mode = 01777, .uid = 7, .mtime = 5}, {F, "f", "hello", 04755},
			{SYMLINK, "l", "../x"}, {DEVICE, "c"}, {FIFO, "p"},
			{DIRECTORY, "d", .mode = 02750}, {F, "d/e"}},
		"/ 41777 7:7 3 5.0\n"
		"/c 20644 0:0 1 0.0 11110370\n"
		"/d 42750 0:0 2 0.0\n"
		"/d/e 100644 0:0 1 0.0 0\n"
		"/f 104755 0:0 1 0.0 5=hello\n"
		"/l 120777 0:0 1 0.0 4=../x\n"
		"/p 10644 0:0 1 0.0\n"},
	{"names around . and .. keep the byte order",
		{{F, "..a"}, {F, "!"}, {F, "-"}, {F, "..."}, {F, ".a"}, {F, "\xff"}, {F, "a"}},
		"/ 40755 0:0 2 0.0{implicit}\n/! 100644 0:0 1 0.0 0\n/- 100644 0:0 1 0.0 0\n"
		"/... 100644 0:0 1 0.0 0\n/..a 100644 0:0 1 0.0 0\n/.a 100644 0:0 1 0.0 0\n"
		"/a 100644 0:0 1 0.0 0\n/\xff 100644 0:0 1 0.0 0\n"},
	{"owners and times that need the extended form",
		{{F, "a", .mtime = 9}, {F, "b", .uid = 65535, .mtime = 9},
			{F, "c", .uid = 65536, .mtime = 9},
			{F, "d", .mtime = -9, .mtime_nsec = 999999999},
			{F, "e", .uid = 4294967294}},
		"/ 40755 0:0 2 0.0{implicit}\n/a 100644 0:0 1 9.0 0\n/b 100644 65535:65535 1 9.0 "
		"0\n"
		"/c 100644 65536:65536 1 9.0 0\n/d 100644 0:0 1 -9.999999999 0\n"
		"/e 100644 4294967294:4294967294 1 0.0 0\n"},
	{"hard links count, also over directories and to symbolic links",
		{{F, "a", "x"}, {LINK, "d/b", "a"}, {LINK, "c", "d/b"}, {SYMLINK, "s", "t"},
			{LINK, "u", "s"}},
		"/ 40755 0:0 3 0.0{implicit}{below}\n/a 100644 0:0 3 0.0 1=x\n"
		"/c 100644 0:0 3 0.0 1=x\n/d 40755 0:0 2 0.0{implicit}\n"
		"/d/b 100644 0:0 3 0.0 1=x\n/s 120777 0:0 2 0.0 1=t\n/u 120777 0:0 2 0.0 1=t\n"},
	{"a later file replaces an earlier one; its other links stay",
		{{F, "a", "old", .mtime = 3, .uid = 70000}, {LINK, "b", "a"}, {LINK, "c", "a"},
			{F, "a", "new"}},
		"/ 40755 0:0 2 0.0{implicit}\n/a 100644 0:0 1 0.0 3=new\n/b 100644 70000:70000 2 "
		"3.0 3=old\n"
		"/c 100644 70000:70000 2 3.0 3=old\n"},
	{"a file in place of a directory drops all below, except what has a link elsewhere",
		{{F, "d/x", "kept"}, {F, "d/y/z", "gone"}, {LINK, "k", "d/x"}, {F, "d", "file"}},
		"/ 40755 0:0 2 0.0{implicit}\n/d 100644 0:0 1 0.0 4=file\n/k 100644 0:0 1 0.0 "
		"4=kept\n"},
	{"a directory over a directory keeps the children",
		{{DIRECTORY, "d", .mode = 0700}, {F, "d/x"},
			{DIRECTORY, "d", .mode = 0711, .uid = 3}},
		"/ 40755 0:0 3 0.0{implicit}\n/d 40711 3:3 2 0.0\n/d/x 100644 0:0 1 0.0 0\n"},
	{"a directory in place of a file hides a lower directory, as the file did",
		{{F, "d", "x"}, {DIRECTORY, "d", .mode = 0700}, {F, "d/y"}},
		"/ 40755 0:0 3 0.0{implicit}\n/d 40700 0:0 2 0.0{trusted.overlay.opaque=y}\n"
		"/d/y 100644 0:0 1 0.0 0\n"},
	{"whiteouts and opaque directories",
		{{WHITEOUT, "a/gone"}, {OPAQUE, "o"}, {DIRECTORY, "o", .mode = 0700}, {OPAQUE, ""}},
		"/ 40755 0:0 4 0.0{trusted.overlay.opaque=y}{implicit}{below}\n"
		"/a 40755 0:0 2 0.0{implicit}{trusted.overlay.origin=}\n"
		"/a/gone 20000 0:0 1 0.0 0\n/o 40700 0:0 2 0.0{trusted.overlay.opaque=y}\n"},
	{"a whiteout is about lower layers: this layer's entries stay, before and behind it",
		{{F, "f", "1"}, {WHITEOUT, "f"}, {F, "d/x"}, {WHITEOUT, "d"}, {WHITEOUT, "g"},
			{F, "g", "2"}, {WHITEOUT, "e"}, {F, "e/y"}},
		"/ 40755 0:0 4 0.0{implicit}{below}\n"
		"/d 40755 0:0 2 0.0{trusted.overlay.opaque=y}{implicit}\n/d/x 100644 0:0 "
		"1 0.0 0\n"
		"/e 40755 0:0 2 0.0{trusted.overlay.opaque=y}\n/e/y 100644 0:0 1 0.0 0\n"
		"/f 100644 0:0 1 0.0 1=1\n/g 100644 0:0 1 0.0 1=2\n"},
	{"symbolic links of the layer are followed inside the root",
		{{SYMLINK, "lib", "usr/lib"}, {F, "lib/a"}, {SYMLINK, "up", "../../usr"},
			{F, "up/b"}, {SYMLINK, "abs", "/usr/."}, {LINK, "abs/c", "lib/a"}},
		"/ 40755 0:0 3 0.0{implicit}{below}\n/abs 120777 0:0 1 0.0 6=/usr/.\n/lib 120777 "
		"0:0 1 0.0 "
		"7=usr/lib\n"
		"/up 120777 0:0 1 0.0 9=../../usr\n/usr 40755 0:0 3 0.0{implicit}\n/usr/b 100644 "
		"0:0 1 0.0 "
		"0\n"
		"/usr/c 100644 0:0 2 0.0 0\n/usr/lib 40755 0:0 2 0.0{implicit}\n/usr/lib/a 100644 "
		"0:0 2 0.0 "
		"0\n"},
	{"a directory is implicit until it has an entry, and not where this layer hides what is "
	 "below",
		{{F, "a/b/x"}, {DIRECTORY, "a", .mode = 0711}, {F, "c/x"}, {F, "c", "gone"},
			{WHITEOUT, "w"}, {F, "w/x"}, {DIRECTORY, "", .mode = 0755}},
		"/ 40755 0:0 4 0.0{below}\n/a 40711 0:0 3 0.0\n/a/b 40755 0:0 2 0.0{implicit}\n"
		"/a/b/x 100644 0:0 1 0.0 0\n/c 100644 0:0 1 0.0 4=gone\n"
		"/w 40755 0:0 2 0.0{trusted.overlay.opaque=y}\n/w/x 100644 0:0 1 0.0 0\n"},
	{"an implicit directory that got an entry, or went, leaves no mark on the root",
		{{F, "a/x"}, {DIRECTORY, "a", .mode = 0711}, {F, "c/x"}, {F, "c"}},
		"/ 40755 0:0 3 0.0{implicit}\n/a 40711 0:0 2 0.0\n/a/x 100644 0:0 1 0.0 0\n"
		"/c 100644 0:0 1 0.0 0\n"},
};

static void test_trees(void **state)
{
	(void)state;
	for (size_t i = 0; i < array_size(trees); i++) {
		struct error err = {ERROR_NONE};
		cleanup_fd int fd = new_file();
		cleanup_buffer struct buffer out = {0};
		if (run(fd, trees[i].steps, &err) < 0)
			fail_msg("%s: %s", trees[i].why, err.text);
		struct image image;
		image_open(&image, fd);
		image_print(&image, &out);
		if (!streq(out.data, trees[i].expected))
			fail_msg("%s: got\n%s", trees[i].why, out.data);
		image_close(&image);
	}
}

static const struct {
	struct step steps[4];
	enum error_kind kind;
	const char *text;
} refused[] = {
	{{{LINK, "a", "b"}}, ERROR_INVALID, "a: the hard link's target b is not in this layer"},
	{{{WHITEOUT, "b"}, {LINK, "a", "b"}}, ERROR_INVALID,
		"a: the hard link's target b is not in this layer"},
	{{{DIRECTORY, "b"}, {LINK, "a", "b"}}, ERROR_INVALID,
		"a: the hard link's target b is a directory"},
	{{{F, "a"}, {LINK, "a", "a"}}, ERROR_INVALID, "a: a hard link to itself"},
	{{{F, "a"}, {F, "a/b/c"}}, ERROR_INVALID, "a/b/c: \"a\" on the way is not a directory"},
	{{{SYMLINK, "a", "b"}, {SYMLINK, "b", "a"}, {F, "a/x"}}, ERROR_INVALID,
		"a/x: \"a\" on the way leads through too many symbolic links"},
	{{{SYMLINK, "a", ""}}, ERROR_INVALID, "a: the target of the symbolic link is empty"},
	{{{F, ""}}, ERROR_INVALID, "the root of the layer is not a directory"},
	{{{F, "a", .mtime_nsec = 1000000000}}, ERROR_INVALID,
		"a: the time has 1000000000 nanoseconds"},
};

static void test_refused(void **state)
{
	(void)state;
	for (size_t i = 0; i < array_size(refused); i++) {
		struct error err = {ERROR_NONE};
		cleanup_fd int fd = new_file();
		assert_int_equal(run(fd, refused[i].steps, &err), -1);
		assert_string_equal(err.text, refused[i].text);
		assert_int_equal(err.kind, refused[i].kind);
	}
}

static void fill(char *p, size_t size, unsigned seed)
{
	for (size_t i = 0; i < size; i++)
		p[i] = (char)((seed = seed * 1103515245 + 12345) >> 16 | 1);
}

// Every size around the edges of blocks and of what fits behind an inode, in one image, with the
// data arriving in pieces from a buffer that is reused after every flush().
static void test_sizes(void **state)
{
	(void)state;
	static const size_t sizes[] = {0, 1, 31, 2000, 4031, 4032, 4033, 4063, 4064, 4065, 4095,
		4096, 4097, 8127, 8128, 8160, 8191, 8192, 8193, 65536, 200000, 1048577};
	struct error err = {ERROR_NONE};
	cleanup_fd int fd = new_file();
	cleanup_free char *content = xmalloc(2000000);
	fill(content, 2000000, 1);
	struct layer_sink *s = erofs_writer_new(fd, &layer_limits_default);
	char name[32], piece[5000];
	for (size_t i = 0; i < array_size(sizes); i++) {
		snprintf(name, sizeof(name), "%zu", sizes[i]);
		struct layer_entry e = {.path = name,
			.mode = S_IFREG | 0644,
			.size = sizes[i],
			.uid = i & 1 ? 70000 : 0};
		assert_int_equal(s->functions->add(s, &e, &err), 0);
		for (size_t at = 0; at < sizes[i]; at += sizeof(piece)) {
			size_t n = sizes[i] - at < sizeof(piece) ? sizes[i] - at : sizeof(piece);
			memcpy(piece, content + i + at, n);
			assert_int_equal(s->functions->data(s, at, piece, n, &err), 0);
			assert_int_equal(s->functions->flush(s, &err), 0);
			memset(piece, '?', sizeof(piece));
		}
	}
	uint8_t magic[4] = {0};
	assert_int_equal(pread(fd, magic, 4, EROFS_SUPER_OFFSET), 4);
	assert_int_equal(magic[0] | magic[1] | magic[2] | magic[3], 0); // not yet an image
	assert_int_equal(s->functions->finish(s, &err), 0);
	s->functions->free(s);
	struct image image;
	image_open(&image, fd);
	for (size_t i = 0; i < array_size(sizes); i++) {
		struct inode inode;
		snprintf(name, sizeof(name), "%zu", sizes[i]);
		image_find(&image, name, &inode);
		assert_int_equal(inode.size, sizes[i]);
		cleanup_free char *got = image_content(&image, &inode);
		assert_memory_equal(got, content + i, sizes[i]);
	}
	image_close(&image);
}

// Zeros and holes cost no disk and read as zeros.
static void test_sparse(void **state)
{
	(void)state;
	static const uint64_t size = (UINT64_C(5) << 30) + 100;
	struct error err = {ERROR_NONE};
	cleanup_fd int fd = new_file();
	struct layer_sink *s = erofs_writer_new(fd, &layer_limits_default);
	struct layer_entry e = {.path = "big", .mode = S_IFREG | 0644, .size = size};
	cleanup_free char *mixed = xcalloc(1, 1000000);
	memcpy(mixed + 300000, "island", 6);
	assert_int_equal(s->functions->add(s, &e, &err), 0);
	assert_int_equal(s->functions->data(s, 10, "start", 5, &err), 0);
	assert_int_equal(s->functions->data(s, 5000, mixed, 1000000, &err), 0);
	assert_int_equal(s->functions->data(s, size - 3, "end", 3, &err), 0);
	e.path = "hole";
	e.size = 100000;
	assert_int_equal(s->functions->add(s, &e, &err), 0);
	assert_int_equal(s->functions->flush(s, &err), 0);
	assert_int_equal(s->functions->finish(s, &err), 0);
	s->functions->free(s);
	struct stat st;
	assert_int_equal(fstat(fd, &st), 0);
	assert_true(st.st_blocks * 512 < 200 * 1024);
	struct image image;
	struct inode inode;
	image_open(&image, fd);
	image_find(&image, "big", &inode);
	assert_int_equal(inode.size, size);
	const uint8_t *p = image.data + inode.data_block * EROFS_BLOCK;
	assert_memory_equal(p, "\0\0\0\0\0\0\0\0\0\0start\0", 16);
	assert_memory_equal(p + 305000 - 1, "\0island\0", 8);
	assert_memory_equal(image.data + inode.tail_offset + 96, "\0end", 4);
	image_close(&image);
}

static void test_data_errors(void **state)
{
	(void)state;
	struct error err = {ERROR_NONE};
	cleanup_fd int fd = new_file();
	struct layer_sink *s = erofs_writer_new(fd, &layer_limits_default);
	assert_int_equal(s->functions->data(s, 0, "x", 1, &err), -1);
	struct layer_entry e = {.path = "a", .mode = S_IFREG | 0644, .size = 3};
	assert_int_equal(s->functions->add(s, &e, &err), 0);
	assert_int_equal(s->functions->data(s, 0, "xxxx", 4, &err), -1);
	assert_int_equal(s->functions->data(s, 4, "x", 1, &err), -1);
	assert_int_equal(s->functions->data(s, 0, "xx", 2, &err), 0);
	assert_int_equal(s->functions->data(s, 1, "x", 1, &err), -1);
	assert_int_equal(err.kind, ERROR_INVALID);
	assert_string_equal(err.text, "file data outside of the file's size");
	e.path = "huge";
	e.size = UINT64_C(1) << 45;
	assert_int_equal(s->functions->add(s, &e, &err), -1);
	assert_int_equal(err.kind, ERROR_LIMIT);
	assert_string_equal(err.text, "the layer needs an image over the limit of 16 TiB");
	s->functions->free(s);
}

static void add_with(struct layer_sink *s, const char *path, mode_t mode, const char *link,
	const struct layer_xattr *xattrs, size_t count)
{
	struct error err = {ERROR_NONE};
	struct layer_entry e = {
		.path = path, .mode = mode, .link = link, .xattrs = xattrs, .xattr_count = count};
	if (s->functions->add(s, &e, &err) < 0)
		fail_msg("%s", err.text);
}

static void test_xattrs(void **state)
{
	(void)state;
	cleanup_free char *big = xmalloc(65535);
	memset(big, 'b', 65535);
	const struct layer_xattr all[] = {{"user.a", "1", 1}, {"security.capability", "\1\0\2", 3},
		{"trusted.t", "", 0}, {"system.posix_acl_access", "acl", 3},
		{"system.nfs4_acl", "no", 2}, {"com.apple.x", "no", 2}, {"user.", "no", 2}};
	const struct layer_xattr large[] = {{"user.big", big, 65535}, {"user.z", "z", 1}};
	struct error err = {ERROR_NONE};
	cleanup_fd int fd = new_file();
	struct layer_sink *s = erofs_writer_new(fd, &layer_limits_default);
	add_with(s, "", S_IFDIR | 0755, NULL, all, 1);
	add_with(s, "d", S_IFDIR | 0755, NULL, large, 2);
	s->functions->opaque(s, "d", &err);
	add_with(s, "f", S_IFREG | 0644, NULL, all, array_size(all));
	add_with(s, "g", S_IFREG | 0644, NULL, large, 2);
	add_with(s, "l", S_IFLNK | 0777, "target", large, 2);
	assert_int_equal(s->functions->finish(s, &err), 0);
	s->functions->free(s);
	cleanup_buffer struct buffer out = {0};
	struct image image;
	image_open(&image, fd);
	image_print(&image, &out);
	image_close(&image);
	static const char expected[] =
		"/ 40755 0:0 3 0.0{user.a=1}\n"
		"/d 40755 0:0 2 0.0{user.big=65535 bytes}{user.z=z}"
		"{trusted.overlay.opaque=y}\n"
		"/f 100644 0:0 1 0.0 0{user.a=1}{security.capability=\1\0\2}"
		"{trusted.t=}{system.posix_acl_access=acl}\n"
		"/g 100644 0:0 1 0.0 0{user.big=65535 bytes}{user.z=z}\n"
		"/l 120777 0:0 1 0.0 6=target{user.big=65535 bytes}{user.z=z}\n";
	assert_int_equal(out.size, sizeof(expected) - 1);
	assert_memory_equal(out.data, expected, out.size);
}

static void test_xattr_limits(void **state)
{
	(void)state;
	cleanup_free char *big = xcalloc(1, 65536);
	char name[400] = "user.";
	memset(name + 5, 'n', 300);
	const struct {
		const char *path;
		struct layer_xattr xattrs[3];
		size_t count;
		const char *text;
	} cases[] = {
		{"a", {{"user.x", big, 65536}}, 1,
			"a: the attribute \"user.x\" is over the limits of 255 bytes for its name "
			"and "
			"65535 for its value"},
		{"a", {{name, "", 0}}, 1, NULL},
		{"a", {{"user.x", big, 60000}, {"user.y", big, 60000}, {"user.z", big, 60000}}, 3,
			"a: its extended attributes are over the limit of 131072 bytes"},
		{"", {{"user.x", big, 3000}}, 1,
			"the root directory's extended attributes are over the limit of 2816 "
			"bytes"},
	};
	for (size_t i = 0; i < array_size(cases); i++) {
		struct error err = {ERROR_NONE};
		cleanup_fd int fd = new_file();
		struct layer_sink *s = erofs_writer_new(fd, &layer_limits_default);
		struct layer_entry e = {.path = cases[i].path,
			.mode = S_IFDIR | 0755,
			.xattrs = cases[i].xattrs,
			.xattr_count = cases[i].count};
		assert_int_equal(s->functions->add(s, &e, &err), -1);
		assert_int_equal(err.kind, ERROR_LIMIT);
		if (cases[i].text)
			assert_string_equal(err.text, cases[i].text);
		s->functions->free(s);
	}
}

// Many names, in an order that is not theirs, over many blocks; and the bytes are the same each
// time.
static void write_many(int fd, unsigned count)
{
	struct error err = {ERROR_NONE};
	struct layer_sink *s = erofs_writer_new(fd, &layer_limits_default);
	char path[64], content[96];
	for (unsigned i = 0; i < count; i++) {
		snprintf(path, sizeof(path), "%08x", i * 2654435761u);
		snprintf(content, sizeof(content), "content of %s", path);
		struct step step = {F, path, content, .mtime = i % 3};
		assert_int_equal(take(s, &step, &err), 0);
		assert_int_equal(s->functions->flush(s, &err), 0);
	}
	assert_int_equal(s->functions->finish(s, &err), 0);
	s->functions->free(s);
}

static void count_entry(void *context, const char *name, size_t length, uint64_t nid, unsigned type)
{
	(void)name;
	(void)length;
	(void)nid;
	(void)type;
	++*(unsigned *)context;
}

static void test_many(void **state)
{
	(void)state;
	enum { COUNT = 20000 };
	cleanup_fd int a = new_file(), b = new_file();
	write_many(a, COUNT);
	write_many(b, COUNT);
	struct image first, second;
	struct inode root;
	unsigned count = 0;
	image_open(&first, a);
	image_open(&second, b);
	assert_int_equal(first.size, second.size);
	assert_memory_equal(first.data, second.data, first.size);
	image_inode(&first, le16toh(first.super.root_nid), &root);
	image_entries(&first, &root, count_entry, &count);
	assert_int_equal(count, COUNT + 2);
	assert_int_equal(le64toh(first.super.inos), COUNT + 1);
	image_close(&first);
	image_close(&second);
}

static void test_memory_limit(void **state)
{
	(void)state;
	const struct layer_limits limits = {.metadata_bytes = 1000};
	struct error err = {ERROR_NONE};
	cleanup_fd int fd = new_file();
	struct layer_sink *s = erofs_writer_new(fd, &limits);
	char path[64];
	int r = 0;
	for (unsigned i = 0; r == 0 && i < 100; i++) {
		snprintf(path, sizeof(path), "name-%u", i);
		r = take(s, &(struct step){F, path}, &err);
	}
	assert_int_equal(r, -1);
	assert_int_equal(err.kind, ERROR_LIMIT);
	assert_string_equal(err.text, "the layer's names and attributes need more than the limit "
				      "of 1000 bytes (metadata_bytes)");
	s->functions->free(s);
}

// A chain of symbolic links whose targets have many components, walked for each entry anew.
static void test_steps(void **state)
{
	(void)state;
	struct error err = {ERROR_NONE};
	cleanup_fd int fd = new_file();
	struct layer_sink *s = erofs_writer_new(fd, &layer_limits_default);
	char path[64], target[4000];
	unsigned entries = 0;
	int r = 0;
	for (size_t i = 0; i < sizeof(target); i++)
		target[i] = i % 2 ? '/' : '.';
	for (unsigned i = 0; i < 30; i++) {
		snprintf(target + sizeof(target) - 8, 8, "/l%u", i + 1);
		snprintf(path, sizeof(path), "l%u", i);
		assert_int_equal(take(s, &(struct step){SYMLINK, path, target}, &err), 0);
	}
	for (; r == 0 && entries < 1000; entries++) {
		snprintf(path, sizeof(path), "l0/%u/file", entries);
		r = take(s, &(struct step){F, path}, &err);
	}
	s->functions->free(s);
	assert_int_equal(r, -1);
	assert_int_equal(err.kind, ERROR_LIMIT);
	assert_non_null(strstr(err.text, "more than 10000000 steps and 64 for each entry"));
	assert_in_range(entries, 150, 180); // of 60,000 steps each
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_trees),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_sizes),
		cmocka_unit_test(test_sparse),
		cmocka_unit_test(test_data_errors),
		cmocka_unit_test(test_xattrs),
		cmocka_unit_test(test_xattr_limits),
		cmocka_unit_test(test_many),
		cmocka_unit_test(test_memory_limit),
		cmocka_unit_test(test_steps),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
