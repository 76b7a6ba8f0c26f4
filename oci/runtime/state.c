// SPDX-License-Identifier: Apache-2.0
#include "oci/runtime/state.h"

#include "base/file.h"
#include "base/json_write.h"
#include "base/text.h"

#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static const char state_file[] = "state.json";
enum { STATE_BYTES_MAX = 1024 * 1024 };

const char *const runtime_status_names[RUNTIME_STATUSES] = {
	[RUNTIME_CREATING] = "creating",
	[RUNTIME_CREATED] = "created",
	[RUNTIME_RUNNING] = "running",
	[RUNTIME_STOPPED] = "stopped",
};

int runtime_id_check(const char *id, struct error *err)
{
	static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
				    "0123456789_+-.";
	if (!*id || strlen(id) > RUNTIME_ID_MAX || id[strspn(id, plain)] || streq(id, ".") ||
		streq(id, ".."))
		return error_set(err, ERROR_INVALID,
			"\"%.100s\" is no id of a container: letters, digits and \"_+-.\" are "
			"allowed, %d at most",
			id, RUNTIME_ID_MAX);
	return 0;
}

int runtime_state_create(const char *root, const char *id, struct error *err)
{
	if (runtime_id_check(id, err) < 0)
		return -1;
	cleanup_fd int all = directory_ensure(AT_FDCWD, root, 0700, err);
	if (all < 0)
		return -1;
	if (mkdirat(all, id, 0700) < 0) {
		if (errno == EEXIST)
			return error_set(err, ERROR_INVALID,
				"there is a container with the id \"%s\" already", id);
		return error_set_errno(err, errno, "make %s/%s", root, id);
	}
	cleanup_fd int folder = directory_open(all, id, err);
	if (folder < 0 || runtime_state_lock(folder, err) < 0)
		return -1;
	return steal_fd(&folder);
}

int runtime_state_open(const char *root, const char *id, struct error *err)
{
	if (runtime_id_check(id, err) < 0)
		return -1;
	cleanup_free char *path = path_join(root, id);
	int folder = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	if (folder < 0 && errno == ENOENT)
		return error_set(
			err, ERROR_NOT_FOUND, "there is no container with the id \"%s\"", id);
	return folder < 0 ? error_set_errno(err, errno, "open %s", path) : folder;
}

int runtime_state_lock(int folder, struct error *err)
{
	struct stat st;
	if (file_lock(folder, LOCK_EX, "the container's folder", err) < 0)
		return -1;
	// Somebody else may have deleted it meanwhile.
	if (fstat(folder, &st) < 0 || st.st_nlink == 0)
		return error_set(err, ERROR_NOT_FOUND, "the container is gone");
	return 0;
}

void runtime_state_unlock(int folder)
{
	flock(folder, LOCK_UN);
}

int runtime_state_remove(const char *root, const char *id, struct error *err)
{
	cleanup_free char *path = path_join(root, id);
	return directory_remove(AT_FDCWD, path, err);
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

int runtime_state_list(
	const char *root, struct arena *a, struct json_strings *ids, struct error *err)
{
	size_t capacity = 64;
	const char **items = arena_array(a, const char *, capacity);
	size_t count = 0;
	DIR *folder = opendir(root);
	if (!folder && errno != ENOENT)
		return error_set_errno(err, errno, "open %s", root);
	for (const struct dirent *e; folder && (e = readdir(folder)) != NULL;) {
		struct error none;
		if (runtime_id_check(e->d_name, &none) < 0)
			continue;
		if (count + 1 == capacity) {
			const char **more = arena_array(a, const char *, capacity * 2);
			memcpy(more, items, count * sizeof(*items));
			items = more;
			capacity *= 2;
		}
		items[count++] = arena_strdup(a, e->d_name);
	}
	if (folder)
		closedir(folder);
	qsort(items, count, sizeof(*items), by_name);
	*ids = (struct json_strings){.items = items, .count = count};
	return 0;
}

static void write_annotations(struct json_writer *w, const struct runtime_state *s)
{
	json_write_key(w, "annotations");
	json_write_open_object(w);
	for (size_t i = 0; i < s->annotations.count; i++)
		json_write_member(w, s->annotations.items[i].key, s->annotations.items[i].value);
	json_write_close_object(w);
}

int runtime_state_save(int folder, const struct runtime_state *s, struct error *err)
{
	cleanup_json_writer struct json_writer *w = json_writer_new(true);
	cleanup_buffer struct buffer text = {0};
	json_write_open_object(w);
	json_write_member(w, "bundle", s->bundle);
	json_write_member(w, "rootfs", s->rootfs);
	json_write_member(w, "created", s->created);
	json_write_member(w, "cgroup", s->cgroup);
	json_write_member(w, "status", runtime_status_names[s->status]);
	json_write_member_int(w, "pid", s->pid);
	json_write_member_int(w, "start_time", (int64_t)s->start_time);
	json_write_member_int(w, "owner", s->owner);
	write_annotations(w, s);
	json_write_close_object(w);
	if (json_writer_finish(w, &text, err) < 0)
		return -1;
	return file_write_atomic(folder, state_file, text.data, text.size, 0600, err);
}

static int decode_status(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	const char *name;
	if (json_decode_string(d, value, &name, err) < 0)
		return -1;
	for (int i = 0; i < RUNTIME_STATUSES; i++) {
		if (streq(name, runtime_status_names[i])) {
			*(enum runtime_status *)target = i;
			return 0;
		}
	}
	return json_decode_fail(d, value, err, ERROR_INVALID, "no status");
}

static int decode_number(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	int64_t number;
	if (json_decode_int64(d, value, &number, err) < 0)
		return -1;
	if (number < 0 || number > INT32_MAX)
		return json_decode_fail(d, value, err, ERROR_INVALID, "out of range");
	*(int32_t *)target = (int32_t)number;
	return 0;
}

static const struct json_field state_fields[] = {
	{"bundle", json_decode_string, offsetof(struct runtime_state, bundle), JSON_REQUIRED},
	{"rootfs", json_decode_string, offsetof(struct runtime_state, rootfs), JSON_REQUIRED},
	{"created", json_decode_string, offsetof(struct runtime_state, created), JSON_REQUIRED},
	{"cgroup", json_decode_string, offsetof(struct runtime_state, cgroup), JSON_NULLABLE},
	{"status", decode_status, offsetof(struct runtime_state, status), JSON_REQUIRED},
	{"pid", decode_number, offsetof(struct runtime_state, pid), JSON_REQUIRED},
	{"start_time", json_decode_uint64, offsetof(struct runtime_state, start_time),
		JSON_REQUIRED},
	{"owner", decode_number, offsetof(struct runtime_state, owner), JSON_REQUIRED},
	{"annotations", json_decode_pairs, offsetof(struct runtime_state, annotations),
		JSON_REQUIRED},
	{0},
};

int runtime_state_load(
	int folder, const char *id, struct arena *a, struct runtime_state *s, struct error *err)
{
	cleanup_buffer struct buffer text = {0};
	struct json_decoder d = {.arena = a, .document = state_file};
	*s = (struct runtime_state){.id = arena_strdup(a, id),
		.bundle = "",
		.rootfs = "",
		.created = "",
		.status = RUNTIME_STOPPED};
	if (file_read(folder, state_file, STATE_BYTES_MAX, &text, err) < 0) {
		if (err->kind != ERROR_NOT_FOUND)
			return -1;
		error_clear(err);
		return 0;
	}
	const struct json *root = json_parse(a, text.data, text.size, state_file, NULL, err);
	if (!root)
		return -1;
	return json_decode_object(&d, root, state_fields, false, s, err);
}

// From /proc/<pid>/stat: the state's letter, and when it began. -1 if there is no such process.
static int look_at_process(pid_t pid, char *letter, uint64_t *start_time)
{
	char path[32], text[1024];
	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	cleanup_fd int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
	if (n <= 0)
		return -1;
	text[n] = '\0';
	// Behind the name, which may hold anything: the third field is the state, the 22nd the
	// time.
	const char *p = strrchr(text, ')');
	if (!p || !p[1] || !p[2])
		return -1;
	*letter = p[2];
	p += 2;
	for (int field = 3; p && field < 22; field++)
		p = strchr(p + 1, ' ');
	if (!p)
		return -1;
	return parse_u64_n(p + 1, strspn(p + 1, "0123456789"), start_time) ? 0 : -1;
}

static bool lives(const struct runtime_state *s)
{
	char letter;
	uint64_t start_time;
	if (!s->pid || look_at_process(s->pid, &letter, &start_time) < 0)
		return false;
	return start_time == s->start_time && letter != 'Z' && letter != 'X';
}

enum runtime_status runtime_state_status(const struct runtime_state *s)
{
	return s->status == RUNTIME_STOPPED || !lives(s) ? RUNTIME_STOPPED : s->status;
}

int runtime_state_pidfd(const struct runtime_state *s, struct error *err)
{
	cleanup_fd int fd = s->pid ? (int)syscall(SYS_pidfd_open, s->pid, 0) : -1;
	// Looked at after it was opened: it cannot become another one's any more.
	if (fd < 0 || !lives(s))
		return error_set(err, ERROR_NOT_FOUND, "the process of %s has ended", s->id);
	return steal_fd(&fd);
}

int runtime_state_set_process(struct runtime_state *s, pid_t pid, struct error *err)
{
	char letter;
	uint64_t start_time;
	if (look_at_process(pid, &letter, &start_time) < 0)
		return error_set(err, ERROR_SYSTEM, "process %d has ended", (int)pid);
	s->pid = pid;
	s->start_time = start_time;
	return 0;
}

int runtime_state_document(const struct runtime_state *s, enum runtime_status status, pid_t pid,
	bool more, struct buffer *out, struct error *err)
{
	cleanup_json_writer struct json_writer *w = json_writer_new(more);
	json_write_open_object(w);
	json_write_member(w, "ociVersion", RUNTIME_SPEC_VERSION);
	json_write_member(w, "id", s->id);
	json_write_member(w, "status", runtime_status_names[status]);
	if (pid)
		json_write_member_int(w, "pid", pid);
	json_write_member(w, "bundle", s->bundle);
	if (more) {
		json_write_member(w, "rootfs", s->rootfs);
		json_write_member(w, "created", s->created);
	}
	write_annotations(w, s);
	json_write_close_object(w);
	return json_writer_finish(w, out, err);
}
