// SPDX-License-Identifier: Apache-2.0
#include "agent/data/download_part.h"

#include "base/file.h"
#include "base/json.h"
#include "base/json_write.h"
#include "base/text.h"

#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
	NOTE_MAX = 64 * 1024,
	NOTE_BYTES = 512 * 1024,     // a beginning below is not worth a note
	DISK_STEP = 8 * 1024 * 1024, // sent to the disk so often, so that the end need not wait
};

void download_url_digest(const char *url, char hex[65])
{
	uint8_t digest[SHA256_SIZE];
	sha256_of(url, strlen(url), digest);
	sha256_hex(digest, hex);
}

void download_part_note_name(const char *name, char note[80])
{
	snprintf(note, 80, "%.64s.json", name);
}

static char boot[64]; // which boot of this machine it is; "" if the kernel does not say

static void read_boot(void)
{
	cleanup_buffer struct buffer id = {0};
	struct error ignored;
	if (file_read(AT_FDCWD, "/proc/sys/kernel/random/boot_id", 64, &id, &ignored) == 0 &&
		id.size)
		snprintf(boot, sizeof(boot), "%.36s", id.data);
}

void download_part_prepare(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	pthread_once(&once, read_boot);
}

static void copy_string(const struct json *note, const char *key, char *to, size_t size)
{
	const char *value = json_get_string(note, key);
	if (value && strlen(value) < size)
		memcpy(to, value, strlen(value) + 1);
}

// What the bytes there are of. False: of nothing that is known.
static bool take_note(struct download_part *p, bool checked)
{
	cleanup_arena struct arena arena = {0};
	cleanup_buffer struct buffer text = {0};
	struct error ignored;
	char name[80], url_digest[SHA256_HEX_SIZE];
	download_part_note_name(p->name, name);
	download_url_digest(p->url, url_digest);
	if (file_read(p->folder_fd, name, NOTE_MAX, &text, &ignored) < 0 || !text.size)
		return false;
	const struct json *note = json_parse(&arena, text.data, text.size, name, NULL, &ignored);
	const char *url = json_get_string(note, "url"), *of = json_get_string(note, "boot");
	const struct json *size = json_get(note, "size");
	if (!url || !streq(url, url_digest) || !of || (!checked && (!*of || !streq(of, boot))))
		return false;
	if (size && size->type == JSON_INTEGER && size->integer >= 0) {
		p->sized = true;
		p->size = (uint64_t)size->integer;
	}
	copy_string(note, "etag", p->etag, sizeof(p->etag));
	copy_string(note, "last_modified", p->last_modified, sizeof(p->last_modified));
	return true;
}

static int write_note(struct download_part *p, struct error *err)
{
	cleanup_json_writer struct json_writer *w = json_writer_new(true);
	cleanup_buffer struct buffer text = {0};
	char name[80], url_digest[SHA256_HEX_SIZE];
	download_part_note_name(p->name, name);
	download_url_digest(p->url, url_digest);
	json_write_open_object(w);
	json_write_member(w, "url", url_digest);
	json_write_member(w, "etag", p->etag);
	json_write_member(w, "last_modified", p->last_modified);
	if (p->sized)
		json_write_member_unsigned(w, "size", p->size);
	json_write_member(w, "boot", boot);
	json_write_close_object(w);
	if (json_writer_finish(w, &text, err) < 0 ||
		file_write_atomic(p->folder_fd, name, text.data, text.size, 0600, err) < 0)
		return error_context(err, "note what is downloaded");
	p->noted = true;
	return 0;
}

static int cut(struct download_part *p, uint64_t size, struct error *err)
{
	if (ftruncate(p->fd, (off_t)size) < 0)
		return error_set_errno(err, errno, "cut a part");
	p->have = size;
	p->gathered_size = 0;
	return 0;
}

int download_part_open(int folder_fd, const char *name, const char *url, bool checked,
	struct download_part *p, struct error *err)
{
	struct stat st;
	*p = (struct download_part){.folder_fd = folder_fd, .url = url};
	snprintf(p->name, sizeof(p->name), "%s", name);
	const int flags = O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW;
	p->fd = openat(folder_fd, name, flags, 0600);
	// Killed when it was complete, and closed to writing, but not yet in its place.
	if (p->fd < 0 && errno == EACCES && fchmodat(folder_fd, name, 0600, 0) == 0)
		p->fd = openat(folder_fd, name, flags, 0600);
	if (p->fd < 0 || fstat(p->fd, &st) < 0)
		return error_set_errno(err, errno, "open part %s", name);
	download_hash_init(&p->hash, p->fd);
	p->have = (uint64_t)st.st_size;
	p->noted = p->have && take_note(p, checked) && (!p->sized || p->have <= p->size);
	if (p->noted)
		return 0;
	p->sized = false;
	*p->etag = *p->last_modified = '\0';
	return cut(p, 0, err);
}

void download_part_release(struct download_part *p)
{
	if (!p->hash.hash)
		return;
	download_hash_release(&p->hash);
	free(p->gathered);
	close_fdp(&p->fd);
}

int download_part_restart(
	struct download_part *p, const struct download_head *of, struct error *err)
{
	char name[80];
	download_part_note_name(p->name, name);
	// The note first: bytes without one are nothing. Also one that was not taken.
	if (unlinkat(p->folder_fd, name, 0) < 0 && errno != ENOENT)
		return error_set_errno(err, errno, "remove %s", name);
	p->noted = false;
	download_hash_reset(&p->hash);
	p->sized = of && of->has_length;
	p->size = p->sized ? of->length : 0;
	snprintf(p->etag, sizeof(p->etag), "%s", of ? of->etag : "");
	snprintf(p->last_modified, sizeof(p->last_modified), "%s", of ? of->last_modified : "");
	return cut(p, 0, err);
}

int download_part_flush(struct download_part *p, struct error *err)
{
	uint64_t at = p->have - p->gathered_size;
	if (!p->gathered_size)
		return 0;
	if (pwrite_all(p->fd, p->gathered, p->gathered_size, (off_t)at, "a part", err) < 0)
		return -1;
	p->gathered_size = 0;
	download_hash_advance(&p->hash, p->have);
	uint64_t step = at / DISK_STEP * DISK_STEP;
	if (p->have >= step + DISK_STEP)
		sync_file_range(p->fd, (off_t)step, DISK_STEP, SYNC_FILE_RANGE_WRITE);
	return p->noted || p->have < NOTE_BYTES ? 0 : write_note(p, err);
}

int download_part_write(struct download_part *p, const void *data, size_t size, struct error *err)
{
	if (p->gathered_size + size > DOWNLOAD_PART_WRITE && download_part_flush(p, err) < 0)
		return -1;
	if (!p->gathered)
		p->gathered = xmalloc(DOWNLOAD_PART_WRITE);
	memcpy(p->gathered + p->gathered_size, data, size);
	p->gathered_size += size;
	p->have += size;
	return 0;
}

const char *download_part_validator(const struct download_part *p)
{
	if (*p->etag && !starts_with(p->etag, "W/"))
		return p->etag;
	return *p->last_modified ? p->last_modified : NULL;
}

int download_part_step_back(struct download_part *p, struct error *err)
{
	download_hash_reset(&p->hash);
	return cut(p, p->have - 1, err);
}

void download_part_remove(struct download_part *p)
{
	char name[80];
	download_part_note_name(p->name, name);
	unlinkat(p->folder_fd, name, 0);
	unlinkat(p->folder_fd, p->name, 0);
	p->noted = false;
}
