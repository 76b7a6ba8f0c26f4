// SPDX-License-Identifier: Apache-2.0
#include "agent/data/download_internal.h"
#include "agent/data/download_part.h"
#include "base/file.h"
#include "base/json.h"
#include "base/json_write.h"
#include "base/text.h"
#include "base/time.h"
#include "oci/store/entries.h"

#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum { RECORD_MAX = 64 * 1024 };

static int open_folders(struct download_cache *c, int state_fd, const char *name, struct error *err)
{
	c->fd = directory_ensure(state_fd, name, 0700, err);
	if (c->fd < 0)
		return -1;
	c->objects_fd = directory_ensure(c->fd, "objects/sha256", 0700, err);
	c->urls_fd = c->objects_fd < 0 ? -1 : directory_ensure(c->fd, "urls", 0700, err);
	c->parts_fd = c->urls_fd < 0 ? -1 : directory_ensure(c->fd, "parts", 0700, err);
	c->locks_fd = c->parts_fd < 0 ? -1 : directory_ensure(c->fd, "locks", 0700, err);
	return c->locks_fd < 0 ? -1 : 0;
}

struct download_cache *download_cache_open(
	int state_fd, const char *name, const struct cache_limits *limits, struct error *err)
{
	struct download_cache *c = xcalloc(1, sizeof(*c));
	c->fd = c->objects_fd = c->urls_fd = c->parts_fd = c->locks_fd = -1;
	c->limits = *limits;
	c->pool = DOWNLOAD_POOL_INIT;
	pthread_mutex_init(&c->mutex, NULL);
	if (open_folders(c, state_fd, name, err) < 0) {
		error_context(err, "the cache \"%s\"", name);
		download_cache_free(c);
		return NULL;
	}
	download_part_prepare();
	download_sweep(c);
	return c;
}

void download_cache_free(struct download_cache *c)
{
	if (!c)
		return;
	download_pool_release(&c->pool);
	close_fdp(&c->locks_fd);
	close_fdp(&c->parts_fd);
	close_fdp(&c->urls_fd);
	close_fdp(&c->objects_fd);
	close_fdp(&c->fd);
	pthread_mutex_destroy(&c->mutex);
	free(c);
}

static void copy_string(const struct json *record, const char *key, char *to, size_t size)
{
	const char *value = json_get_string(record, key);
	*to = '\0';
	if (value && strlen(value) < size)
		memcpy(to, value, strlen(value) + 1);
}

int download_record_read(
	struct download_cache *c, const char *key, const char *url, struct download_record *r)
{
	cleanup_arena struct arena arena = {0};
	cleanup_buffer struct buffer text = {0};
	struct error ignored;
	char name[80], url_digest[SHA256_HEX_SIZE];
	snprintf(name, sizeof(name), "%.64s.json", key);
	download_url_digest(url ? url : "", url_digest);
	if (file_read(c->urls_fd, name, RECORD_MAX, &text, &ignored) < 0 || !text.size)
		return 0;
	const struct json *record = json_parse(&arena, text.data, text.size, name, NULL, &ignored);
	const char *of = json_get_string(record, "url");
	const struct json *asked = json_get(record, "asked_ms");
	if (!of || (url && !streq(of, url_digest)))
		return 0;
	copy_string(record, "etag", r->etag, sizeof(r->etag));
	copy_string(record, "last_modified", r->last_modified, sizeof(r->last_modified));
	copy_string(record, "sha256", r->sha256, sizeof(r->sha256));
	copy_string(record, "content_type", r->content_type, sizeof(r->content_type));
	copy_string(record, "final_url", r->final_url, sizeof(r->final_url));
	r->asked_ms = asked && asked->type == JSON_INTEGER ? asked->integer : 0;
	return strlen(r->sha256) == 64;
}

int download_record_write(struct download_cache *c, const char *key, const char *url,
	const struct download_record *r, struct error *err)
{
	cleanup_json_writer struct json_writer *w = json_writer_new(true);
	cleanup_buffer struct buffer text = {0};
	char name[80], url_digest[SHA256_HEX_SIZE];
	snprintf(name, sizeof(name), "%.64s.json", key);
	download_url_digest(url, url_digest);
	// Without the query, which may be a signature.
	cleanup_free char *final_url = xstrndup(r->final_url, strcspn(r->final_url, "?#"));
	json_write_open_object(w);
	json_write_member(w, "url", url_digest);
	json_write_member(w, "etag", r->etag);
	json_write_member(w, "last_modified", r->last_modified);
	json_write_member(w, "sha256", r->sha256);
	json_write_member(w, "content_type", r->content_type);
	json_write_member(w, "final_url", final_url);
	json_write_member_int(w, "asked_ms", r->asked_ms);
	json_write_close_object(w);
	if (json_writer_finish(w, &text, err) < 0)
		return -1;
	return file_write_atomic(c->urls_fd, name, text.data, text.size, 0600, err);
}

void download_object_name(const char *sha256, char name[80])
{
	snprintf(name, 80, "%.2s/%.64s", sha256, sha256);
}

static bool is_hex_digest(const char *text)
{
	return strlen(text) == 64 && strspn(text, "0123456789abcdef") == 64;
}

int download_lease(struct download_cache *c, const char *sha256, int *fd, struct error *err)
{
	char name[80];
	if (!is_hex_digest(sha256))
		return error_set(err, ERROR_INVALID,
			"\"%.80s\" is no SHA-256: it has 64 digits, 0-9 and a-f", sha256);
	download_object_name(sha256, name);
	int status = store_lock_open(c->objects_fd, name, O_RDONLY, LOCK_SH, fd, err);
	// Busy: it is being evicted.
	if (status != STORE_LOCKED)
		return status < 0 ? error_context(err, "the cache") : 0;
	// When it was used last. Not the time of its change, which those see who read it.
	const struct timespec times[2] = {{.tv_nsec = UTIME_NOW}, {.tv_nsec = UTIME_OMIT}};
	futimens(*fd, times);
	return 1;
}

static int sync_folder(int fd, const char *name, struct error *err)
{
	cleanup_fd int folder = directory_open(fd, name, err);
	if (folder < 0)
		return -1;
	return fsync(folder) < 0 ? error_set_errno(err, errno, "fsync the cache's folder") : 0;
}

int download_object_commit(struct download_cache *c, const char *part, int part_fd,
	const char *sha256, int *fd, struct error *err)
{
	char name[80], folder[3] = {sha256[0], sha256[1], '\0'};
	struct stat st;
	// The same from elsewhere: what others have leased stays what it is.
	int here = download_lease(c, sha256, fd, err);
	if (here)
		return here < 0 ? -1 : 0;
	download_object_name(sha256, name);
	if (fchmod(part_fd, 0444) < 0 || fdatasync(part_fd) < 0 || fstat(part_fd, &st) < 0)
		return error_set_errno(err, errno, "store what was downloaded");
	if (directory_make(c->objects_fd, folder, 0700, err) < 0)
		return -1;
	// Leased before it can be seen, so that nobody evicts it in between.
	cleanup_fd int leased = openat(c->parts_fd, part, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (leased < 0)
		return error_set_errno(err, errno, "open what was downloaded");
	if (file_lock(leased, LOCK_SH, part, err) < 0)
		return -1;
	if (renameat(c->parts_fd, part, c->objects_fd, name) < 0)
		return error_set_errno(err, errno, "store what was downloaded");
	if (sync_folder(c->objects_fd, folder, err) < 0)
		return -1;
	pthread_mutex_lock(&c->mutex);
	c->bytes += (uint64_t)st.st_blocks * 512;
	pthread_mutex_unlock(&c->mutex);
	*fd = steal_fd(&leased);
	return 0;
}
