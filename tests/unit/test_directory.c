// SPDX-License-Identifier: Apache-2.0
//
// The unprivileged directory form, which needs no root; owners, devices and trusted.* attributes
// are compared with the EROFS form by tests/integration/.
#include "oci/layer/directory.h"

#include "base/buffer.h"
#include "base/file.h"
#include "base/memory.h"
#include "base/text.h"

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cmocka.h>

enum operation { END, ADD, LINK, WHITEOUT, OPAQUE };

struct step {
	enum operation operation;
	const char *path;
	mode_t mode;
	const char *text; // content, or target
	uint64_t size;	  // of a file, if longer than its content
	uint32_t device;
};

static const struct {
	const char *why;
	struct step steps[8];
	const char *expected; // listing
	const char *error;    // or the last step fails with this
	enum error_kind kind;
} cases[] = {
	{"files and folders with their modes",
		{{ADD, "d", S_IFDIR | 0711}, {ADD, "d/f", S_IFREG | 0640, "hello"},
			{ADD, "e", S_IFREG | 0}},
		"d d711 @7\nd/f -640 @7 hello\ne -0 @7 \n"},
	{"setuid, setgid, sticky", {{ADD, "t", S_IFDIR | 01777}, {ADD, "s", S_IFREG | 06755, "x"}},
		"s -6755 @7 x\nt d1777 @7\n"},
	{"an unreadable folder still takes its children",
		{{ADD, "d", S_IFDIR | 0}, {ADD, "d/e", S_IFDIR | 0500},
			{ADD, "d/e/f", S_IFREG | 0400, "x"}},
		"d d0 @7\nd/e d500 @7\nd/e/f -400 @7 x\n"},
	{"missing parents", {{ADD, "a/b/c", S_IFREG | 0644, "x"}},
		"a d755 @0 implicit\na/b d755 @0 implicit\na/b/c -644 @7 x\n"},
	{"a parent may come late", {{ADD, "a/b", S_IFREG | 0644, "x"}, {ADD, "a", S_IFDIR | 0750}},
		"a d750 @7\na/b -644 @7 x\n"},
	{"the root", {{ADD, "", S_IFDIR | 0700}, {ADD, "f", S_IFREG | 0644, "x"}}, "f -644 @7 x\n"},
	{"a hole at the end", {{ADD, "f", S_IFREG | 0644, "ab", 5}}, "f -644 @7 ab...\n"},
	{"links and FIFOs",
		{{ADD, "l", S_IFLNK | 0777, "../../etc/passwd"}, {ADD, "p", S_IFIFO | 0600}},
		"l l777 @7 ../../etc/passwd\np p600 @7\n"},
	{"devices are left out, hard links to them too",
		{{ADD, "null", S_IFCHR | 0666, NULL, 0, 3},
			{ADD, "sda", S_IFBLK | 0666, NULL, 0, 8}, {LINK, "zero", 0, "null"}},
		""},
	{"hard links", {{ADD, "a/f", S_IFREG | 0644, "x"}, {LINK, "b/g", 0, "a/f"}},
		"a d755 @0 implicit\na/f -644 @7 x #2\nb d755 @0 implicit\nb/g -644 @7 x #2\n"},
	{"a hard link to itself", {{ADD, "f", S_IFREG | 0644, "x"}, {LINK, "f", 0, "f"}},
		"f -644 @7 x\n"},
	{"a hard link replaces",
		{{ADD, "f", S_IFREG | 0644, "x"}, {ADD, "g/h", S_IFREG | 0644, "y"},
			{LINK, "g", 0, "f"}},
		"f -644 @7 x #2\ng -644 @7 x #2\n"},
	{"a hard link to a symbolic link does not follow it",
		{{ADD, "l", S_IFLNK | 0777, "/etc/passwd"}, {LINK, "k", 0, "l"}},
		"k l777 @7 /etc/passwd #2\nl l777 @7 /etc/passwd #2\n"},
	{"a hard link to nothing", {{LINK, "g", 0, "f"}}, NULL,
		"g -> f: a hard link to what does not exist in this layer", ERROR_INVALID},
	{"a hard link to a folder", {{ADD, "d", S_IFDIR | 0755}, {LINK, "e", 0, "d"}}, NULL,
		"e -> d: a hard link to a directory", ERROR_INVALID},
	{"the later entry of a path holds",
		{{ADD, "f", S_IFREG | 0644, "old and long"}, {ADD, "f", S_IFREG | 0600, "new"}},
		"f -600 @7 new\n"},
	{"a file replaces a folder and all below",
		{{ADD, "d/e/f", S_IFREG | 0644, "x"}, {ADD, "d", S_IFREG | 0644, "y"}},
		"d -644 @7 y\n"},
	{"a folder replaces a file, and hides the lower layers' as the file did",
		{{ADD, "d", S_IFREG | 0644, "y"}, {ADD, "d", S_IFDIR | 0755},
			{ADD, "d/f", S_IFREG | 0644, "x"}},
		"d d755 @7 opaque\nd/f -644 @7 x\n"},
	{"a folder over a folder keeps the children",
		{{ADD, "d", S_IFDIR | 0755}, {ADD, "d/f", S_IFREG | 0644, "x"},
			{ADD, "d", S_IFDIR | 0700}},
		"d d700 @7\nd/f -644 @7 x\n"},
	{"a symbolic link is replaced, not followed",
		{{ADD, "l", S_IFLNK | 0777, "/etc/passwd"}, {ADD, "l", S_IFREG | 0644, "x"}},
		"l -644 @7 x\n"},
	{"a way through a link stays in the layer",
		{{ADD, "l", S_IFLNK | 0777, "../../../etc"},
			{ADD, "l/passwd", S_IFREG | 0644, "x"}},
		"etc d755 @0 implicit\netc/passwd -644 @7 x\nl l777 @7 ../../../etc\n"},
	{"an absolute link counts from the layer's root",
		{{ADD, "usr/lib", S_IFDIR | 0755}, {ADD, "lib", S_IFLNK | 0777, "/usr/lib"},
			{ADD, "lib/x", S_IFREG | 0644, "x"}},
		"lib l777 @7 /usr/lib\nusr d755 @0 implicit\nusr/lib d755 @7\nusr/lib/x -644 @7 "
		"x\n"},
	{"links in a circle",
		{{ADD, "a", S_IFLNK | 0777, "b"}, {ADD, "b", S_IFLNK | 0777, "a"},
			{ADD, "a/f", S_IFREG | 0644}},
		NULL, "leads through too many symbolic links", ERROR_INVALID},
	{"a file in the way", {{ADD, "f", S_IFREG | 0644, "x"}, {ADD, "f/g", S_IFREG | 0644, "x"}},
		NULL, "f/g: \"f\" on the way is not a directory", ERROR_INVALID},
	{"the root is no file", {{ADD, "", S_IFREG | 0644, "x"}}, NULL,
		"the root is not a directory", ERROR_INVALID},
	{"whiteouts", {{WHITEOUT, "a/gone"}, {WHITEOUT, "gone"}},
		"a d755 @0 implicit\na/gone whiteout\ngone whiteout\n"},
	{"a whiteout leaves what this layer has",
		{{ADD, "f", S_IFREG | 0644, "x"}, {WHITEOUT, "f"},
			{ADD, "d/g", S_IFREG | 0644, "x"}, {WHITEOUT, "d"}},
		"d d755 @0 opaque implicit\nd/g -644 @7 x\nf -644 @7 x\n"},
	{"an entry takes the place of a whiteout",
		{{WHITEOUT, "f"}, {ADD, "f", S_IFREG | 0644, "x"}, {WHITEOUT, "d"},
			{ADD, "d/g", S_IFREG | 0644, "y"}},
		"d d755 @0 opaque\nd/g -644 @7 y\nf -644 @7 x\n"},
	{"opaque, before or after the entry",
		{{OPAQUE, "d"}, {ADD, "d", S_IFDIR | 0700}, {ADD, "e", S_IFDIR | 0700},
			{OPAQUE, "e"}},
		"d d700 @7 opaque\ne d700 @7 opaque\n"},
};

static int run_step(struct layer_sink *s, const struct step *step, struct error *err)
{
	const char *text = step->text ? step->text : "";
	const struct layer_sink_functions *f = s->functions;
	struct layer_entry e = {
		.path = step->path,
		.mode = step->mode,
		.uid = 1,
		.gid = 2,
		.mtime = 7,
		.rdev_major = step->device,
		.rdev_minor = step->device,
		.link = text,
	};
	switch (step->operation) {
	case ADD:
		if (S_ISREG(step->mode))
			e.size = step->size ? step->size : strlen(text);
		if (f->add(s, &e, err) < 0)
			return -1;
		return S_ISREG(step->mode) && text[0] ? f->data(s, 0, text, strlen(text), err) : 0;
	case LINK:
		return f->link(s, step->path, text, err);
	case WHITEOUT:
		return f->whiteout(s, step->path, err);
	case OPAQUE:
		return f->opaque(s, step->path, err);
	default:
		abort();
	}
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

static void list(int dirfd, const char *prefix, struct buffer *out);

// The tests run as whoever; only root reads what has mode 0.
static void make_readable(int dirfd, const char *name, const struct stat *st)
{
	if (!(st->st_mode & S_IRUSR) && geteuid() != 0)
		assert_int_equal(fchmodat(dirfd, name, 0700, 0), 0);
}

static void list_one(int dirfd, const char *name, const char *path, struct buffer *out)
{
	struct stat st;
	char text[100] = "";
	assert_int_equal(fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW), 0);
	if (S_ISCHR(st.st_mode) && st.st_rdev == makedev(0, 0)) {
		buffer_printf(out, "%s whiteout\n", path);
		return;
	}
	char type = S_ISDIR(st.st_mode)	   ? 'd'
		    : S_ISLNK(st.st_mode)  ? 'l'
		    : S_ISFIFO(st.st_mode) ? 'p'
					   : '-';
	buffer_printf(out, "%s %c%o @%ld", path, type, st.st_mode & 07777, (long)st.st_mtime);
	if (type == 'd') {
		make_readable(dirfd, name, &st);
		cleanup_fd int fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		assert_true(fd >= 0);
		if (fgetxattr(fd, "user.overlay.opaque", text, sizeof(text)) == 1 && text[0] == 'y')
			buffer_puts(out, " opaque");
		if (fgetxattr(fd, "user.overlay.stoker.implicit", text, sizeof(text)) == 1)
			buffer_puts(out, " implicit");
		buffer_putc(out, '\n');
		list(fd, path, out);
		return;
	}
	if (type == 'l')
		assert_true(readlinkat(dirfd, name, text, sizeof(text) - 1) > 0);
	if (type == '-') {
		make_readable(dirfd, name, &st);
		cleanup_fd int fd = openat(dirfd, name, O_RDONLY | O_CLOEXEC);
		ssize_t n = read(fd, text, sizeof(text) - 1);
		assert_true(n >= 0);
		for (ssize_t i = 0; i < n; i++)
			text[i] = text[i] ? text[i] : '.';
	}
	buffer_printf(out, "%s%s", type == 'p' ? "" : " ", text);
	buffer_printf(out, st.st_nlink > 1 ? " #%d\n" : "\n", (int)st.st_nlink);
}

static void list(int dirfd, const char *prefix, struct buffer *out)
{
	struct dirent **names;
	int count = scandirat(dirfd, ".", &names, NULL, by_name);
	assert_true(count >= 0);
	for (int i = 0; i < count; i++) {
		const char *name = names[i]->d_name;
		cleanup_free char *path = xasprintf("%s%s%s", prefix, prefix[0] ? "/" : "", name);
		if (!streq(name, ".") && !streq(name, ".."))
			list_one(dirfd, name, path, out);
		free(names[i]);
	}
	free(names);
}

static struct layer_sink *writer_in(int dirfd)
{
	return directory_writer_new(dirfd, DIRECTORY_UNPRIVILEGED, &layer_limits_default);
}

// An empty folder beside the test: /tmp may be a tmpfs without user attributes.
static int make_folder(char name[32])
{
	snprintf(name, 32, "test_directory.XXXXXX");
	assert_non_null(mkdtemp(name));
	int fd = open(name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(fd >= 0);
	return fd;
}

static void check(size_t i)
{
	char folder[32];
	cleanup_fd int fd = make_folder(folder);
	cleanup_buffer struct buffer out = {0};
	struct layer_sink *s = writer_in(fd);
	struct error err = {0}, other;
	int result = 0;
	const struct step *step = cases[i].steps;
	for (; result == 0 && step->operation != END; step++)
		result = run_step(s, step, &err);
	assert_true(result == 0 || step->operation == END);
	if (result == 0)
		result = s->functions->finish(s, &err);
	s->functions->free(s);
	buffer_puts(&out, "");
	list(fd, "", &out);
	directory_remove(AT_FDCWD, folder, &other);
	if (cases[i].error && (result == 0 || !strstr(err.text, cases[i].error)))
		fail_msg("%s: expected \"%s\", got \"%s\"", cases[i].why, cases[i].error, err.text);
	if (cases[i].error)
		assert_int_equal(err.kind, cases[i].kind);
	else if (result < 0)
		fail_msg("%s: %s", cases[i].why, err.text);
	else if (!streq(out.data ? out.data : "", cases[i].expected))
		fail_msg("%s: expected\n%s\ngot\n%s", cases[i].why, cases[i].expected, out.data);
}

static void test_entries(void **state)
{
	(void)state;
	for (size_t i = 0; i < array_size(cases); i++)
		check(i);
}

static void test_root_mode(void **state)
{
	(void)state;
	static const struct {
		struct step step;
		mode_t expected;
		const char *why;
	} roots[] = {
		{{ADD, "f", S_IFREG | 0644, "x"}, 0755, "an archive without a root entry"},
		{{ADD, "", S_IFDIR | 0711}, 0711, "the root's own entry"},
	};
	for (size_t i = 0; i < array_size(roots); i++) {
		char folder[32];
		cleanup_fd int fd = make_folder(folder);
		struct layer_sink *s = writer_in(fd);
		struct error err;
		struct stat st;
		assert_int_equal(run_step(s, &roots[i].step, &err), 0);
		assert_int_equal(s->functions->finish(s, &err), 0);
		s->functions->free(s);
		assert_int_equal(fstat(fd, &st), 0);
		directory_remove(AT_FDCWD, folder, &err);
		if ((st.st_mode & 07777) != roots[i].expected)
			fail_msg("%s: mode %o", roots[i].why, st.st_mode & 07777);
	}
}

static void test_xattrs(void **state)
{
	(void)state;
	char folder[32], value[10];
	cleanup_fd int fd = make_folder(folder);
	struct layer_sink *s = writer_in(fd);
	struct error err;
	const struct layer_xattr xattrs[] = {{"user.a",
						     "1\0"
						     "2",
						     3},
		{"trusted.b", "x", 1},
		{"security.capability", "\1\0\0\2\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 20}};
	struct layer_entry file = {
		.path = "f", .mode = S_IFREG | 0644, .size = 1, .xattrs = xattrs, .xattr_count = 3};
	struct layer_entry folders[] = {
		{.path = "d", .mode = S_IFDIR | 0755, .xattrs = xattrs, .xattr_count = 1},
		{.path = "d", .mode = S_IFDIR | 0755},
	};
	assert_int_equal(s->functions->add(s, &file, &err), 0);
	assert_int_equal(s->functions->data(s, 0, "x", 1, &err), 0);
	assert_int_equal(s->functions->add(s, &folders[0], &err), 0);
	assert_int_equal(s->functions->opaque(s, "d", &err), 0);
	assert_int_equal(s->functions->add(s, &folders[1], &err), 0);
	assert_int_equal(s->functions->finish(s, &err), 0);
	s->functions->free(s);
	cleanup_fd int f = openat(fd, "f", O_RDONLY | O_CLOEXEC),
		       d = openat(fd, "d", O_RDONLY | O_CLOEXEC);
	directory_remove(AT_FDCWD, folder, &err);
	assert_int_equal(fgetxattr(f, "user.a", value, sizeof(value)), 3);
	assert_memory_equal(value,
		"1\0"
		"2",
		3);
	assert_int_equal(fgetxattr(f, "trusted.b", value, sizeof(value)), -1);
	assert_int_equal(fgetxattr(f, "security.capability", value, sizeof(value)), -1);
	// The second entry of the folder has none of the first's; what hides lower layers stays.
	assert_int_equal(fgetxattr(d, "user.a", value, sizeof(value)), -1);
	assert_int_equal(fgetxattr(d, "user.overlay.opaque", value, sizeof(value)), 1);
}

static bool has_mark(int fd, const char *name)
{
	char value[2];
	return fgetxattr(fd, name, value, sizeof(value)) == 1 && value[0] == 'y';
}

static void test_root_marks(void **state)
{
	(void)state;
	static const struct {
		const char *path;
		bool root_implicit, below;
	} marks[] = {{"", false, false}, {"d", true, false}, {"a/d", true, true}};
	for (size_t i = 0; i < array_size(marks); i++) {
		char folder[32];
		struct error err;
		cleanup_fd int fd = make_folder(folder);
		struct layer_sink *s = writer_in(fd);
		const struct layer_entry e = {.path = marks[i].path, .mode = S_IFDIR | 0755};
		assert_int_equal(s->functions->add(s, &e, &err), 0);
		assert_int_equal(s->functions->finish(s, &err), 0);
		s->functions->free(s);
		directory_remove(AT_FDCWD, folder, &err);
		assert_int_equal(
			has_mark(fd, "user.overlay.stoker.implicit"), marks[i].root_implicit);
		assert_int_equal(has_mark(fd, "user.overlay.stoker.below"), marks[i].below);
	}
}

static void test_data_bounds(void **state)
{
	(void)state;
	char folder[32];
	cleanup_fd int fd = make_folder(folder);
	struct layer_sink *s = writer_in(fd);
	struct error err;
	const struct layer_entry e = {.path = "f", .mode = S_IFREG | 0644, .size = 3};
	assert_int_equal(s->functions->add(s, &e, &err), 0);
	assert_int_equal(s->functions->data(s, 2, "xy", 2, &err), -1);
	assert_int_equal(err.kind, ERROR_INVALID);
	assert_string_equal(err.text, "data behind the end of a file");
	s->functions->free(s);
	directory_remove(AT_FDCWD, folder, &err);
}

static void test_memory_limit(void **state)
{
	(void)state;
	char folder[32], path[20];
	cleanup_fd int fd = make_folder(folder);
	const struct layer_limits limits = {.entries = 1000, .bytes = 1000, .metadata_bytes = 2000};
	struct layer_sink *s = directory_writer_new(fd, DIRECTORY_UNPRIVILEGED, &limits);
	struct error err = {0};
	int result = 0;
	for (int i = 0; i < 100 && result == 0; i++) {
		snprintf(path, sizeof(path), "d%d", i);
		const struct layer_entry e = {.path = path, .mode = S_IFDIR | 0755};
		result = s->functions->add(s, &e, &err);
	}
	s->functions->free(s);
	struct error other;
	directory_remove(AT_FDCWD, folder, &other);
	assert_int_equal(result, -1);
	assert_int_equal(err.kind, ERROR_LIMIT);
	assert_non_null(
		strstr(err.text, "the names of the layer take more than 2000 bytes of memory"));
}

// A chain of symbolic links whose targets have many components, walked for each entry anew.
static void test_steps(void **state)
{
	(void)state;
	char folder[32], path[64], target[4000];
	cleanup_fd int fd = make_folder(folder);
	struct layer_sink *s = writer_in(fd);
	struct error err = {0}, other;
	struct layer_entry e = {.path = path, .mode = S_IFLNK | 0777, .link = target};
	int r = 0, entries = 0;
	for (size_t i = 0; i < sizeof(target); i++)
		target[i] = i % 2 ? '/' : '.';
	for (int i = 0; i < 30; i++) {
		snprintf(target + sizeof(target) - 8, 8, "/l%d", i + 1);
		snprintf(path, sizeof(path), "l%d", i);
		assert_int_equal(s->functions->add(s, &e, &err), 0);
	}
	e = (struct layer_entry){.path = path, .mode = S_IFREG | 0644};
	for (; r == 0 && entries < 1000; entries++) {
		snprintf(path, sizeof(path), "l0/%d/file", entries);
		r = s->functions->add(s, &e, &err);
	}
	s->functions->free(s);
	directory_remove(AT_FDCWD, folder, &other);
	assert_int_equal(r, -1);
	assert_int_equal(err.kind, ERROR_LIMIT);
	assert_non_null(strstr(err.text, "more than 10000000 steps and 64 for each entry"));
	assert_in_range(entries, 150, 180); // of 60,000 steps each
}

int main(void)
{
	umask(0);
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_entries),
		cmocka_unit_test(test_root_mode),
		cmocka_unit_test(test_xattrs),
		cmocka_unit_test(test_root_marks),
		cmocka_unit_test(test_data_bounds),
		cmocka_unit_test(test_memory_limit),
		cmocka_unit_test(test_steps),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
