// SPDX-License-Identifier: Apache-2.0
// Kinds http and fsimage: files become a folder, or one file; archives are unpacked.
#include "agent/data/copy.h"
#include "agent/data/prepare.h"
#include "agent/data/unpack.h"
#include "base/file.h"
#include "base/sha256.h"
#include "base/text.h"
#include "base/time.h"
#include "oci/store/entries.h"

#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

static bool downloads(const struct data_source *s)
{
	return s->mode != DATA_DIRECT &&
	       (s->kind == DATA_HTTP || (s->kind == DATA_FSIMAGE && s->file_count));
}

bool prepare_is_name(const char *name)
{
	for (const char *p = name; *p;) {
		size_t n = strcspn(p, "/");
		if (n == 0 || n > 255 || (n == 1 && *p == '.') ||
			(n == 2 && p[0] == '.' && p[1] == '.'))
			return false;
		p += n;
		if (*p == '/' && !*++p)
			return false;
	}
	return *name && strlen(name) < 4096;
}

const char *prepare_file_name(struct prepare *p, const struct data_file *f, struct error *err)
{
	const char *name = f->name;
	if (!name) {
		const char *scheme = strstr(f->url, "://");
		const char *path = scheme ? scheme + 3 + strcspn(scheme + 3, "/?#") : f->url;
		size_t n = strcspn(path, "?#");
		const char *base = path;
		for (const char *c = path; c < path + n; c++)
			base = *c == '/' ? c + 1 : base;
		name = arena_strndup(p->arena, base, n - (size_t)(base - path));
	}
	if (prepare_is_name(name) && (f->name || !strchr(name, '/')))
		return name;
	char shown[240];
	download_url_shown(f->url, shown, sizeof(shown));
	error_set(err, ERROR_INVALID, "%s: \"%.80s\" is no name for its file; give one by \"name\"",
		shown, name);
	prepare_fail(p, DATA_FAILED);
	return NULL;
}

static const char *sha256_of_file(const struct prepare *p, size_t source, size_t index)
{
	const struct data_source *s = &p->options->sources[source];
	size_t n = 0;
	for (size_t i = 0; i < p->file_count; i++)
		if (p->files[i].source == source && n++ == index)
			return p->files[i].sha256;
	return s->files[index].sha256; // nothing was fetched
}

// Of what the folder is made: the contents by their digests, names, and whether they are unpacked.
static int tree_digest(struct prepare *p, size_t source, char hex[65], struct error *err)
{
	const struct data_source *s = &p->options->sources[source];
	cleanup_sha256 struct sha256 *h = sha256_new();
	uint8_t digest[SHA256_SIZE];
	char line[128];
	int n = snprintf(line, sizeof(line), "http 1 unpack %d\n", s->unpack);
	sha256_update(h, line, (size_t)n);
	for (size_t i = 0; i < s->file_count; i++) {
		const char *name = prepare_file_name(p, &s->files[i], err);
		if (!name)
			return -1;
		n = snprintf(
			line, sizeof(line), "%s %zu ", sha256_of_file(p, source, i), strlen(name));
		sha256_update(h, line, (size_t)n);
		sha256_update(h, name, strlen(name));
	}
	sha256_final(h, digest);
	sha256_hex(digest, hex);
	return 0;
}

// A download by its digest, leased: 1 with its path below the state directory; 0: it is not here;
// -1.
static int lease_object(
	struct prepare *p, const char *sha256, char kept[120], int *fd, struct error *err)
{
	snprintf(kept, 120, "datasets/objects/sha256/%.2s/%.64s", sha256, sha256);
	int found = cache_kept_lease(p->options->store->state_fd, kept, fd, err);
	return found < 0 ? prepare_fail(p, DATA_FAILED) : found;
}

// Is all of it here, without a question to anybody? 1, and it is leased.
static int find_here(struct prepare *p, size_t source, struct error *err)
{
	const struct data_source *s = &p->options->sources[source];
	struct data_ready *r = &p->ready[source];
	char digest[65], kept[120];
	int fd = -1, found;
	if (s->cache == DATA_CACHE_OFF)
		return 0;
	for (size_t i = 0; i < s->file_count; i++)
		if (!s->files[i].sha256)
			return 0;
	if (s->kind == DATA_FSIMAGE)
		found = lease_object(p, s->files[0].sha256, kept, &fd, err);
	else if (tree_digest(p, source, digest, err) < 0)
		return -1;
	else
		found = cache_tree_lease(&p->cache, digest, &fd, err);
	if (found <= 0)
		return found;
	r->lease_fd = fd;
	r->reused = true;
	r->is_file = s->kind == DATA_FSIMAGE;
	r->digest = arena_strdup(p->arena, r->is_file ? s->files[0].sha256 : digest);
	r->kept = r->is_file ? arena_strdup(p->arena, kept)
			     : arena_printf(p->arena, "datasets/trees/%s", digest);
	return 1;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static int check_names(struct prepare *p, const struct data_source *s, struct error *err)
{
	const char **names = arena_array(p->arena, const char *, s->file_count);
	for (size_t i = 0; i < s->file_count; i++)
		if (!(names[i] = prepare_file_name(p, &s->files[i], err)))
			return -1;
	qsort(names, s->file_count, sizeof(*names), by_name);
	for (size_t i = 1; i < s->file_count; i++)
		if (streq(names[i - 1], names[i])) {
			error_set(err, ERROR_INVALID,
				"two of its files would be named \"%.200s\"; give them names",
				names[i]);
			return prepare_fail(p, DATA_FAILED);
		}
	return 0;
}

int prepare_http_plan(struct prepare *p, struct error *err)
{
	const struct data_options *o = p->options;
	size_t most = 0;
	for (size_t i = 0; i < o->count; i++)
		most += downloads(&o->sources[i]) ? o->sources[i].file_count : 0;
	p->files = arena_array(p->arena, struct data_http_file, most);
	for (size_t i = 0; i < o->count; i++) {
		const struct data_source *s = &o->sources[i];
		p->current = i;
		if (!downloads(s))
			continue;
		int here = check_names(p, s, err) < 0 ? -1 : find_here(p, i, err);
		if (here < 0)
			return prepare_fail(p, DATA_FAILED);
		for (size_t k = 0; k < s->file_count && !here; k++)
			p->files[p->file_count++] = (struct data_http_file){.file = &s->files[k],
				.source = i,
				.lease_fd = -1,
				.max_bytes = prepare_max_bytes(p, s),
				.limit_ms = (uint64_t)(p->deadlines[i] - now_ms()),
				.revalidate = s->cache == DATA_CACHE_OFF      ? -1
					      : s->cache == DATA_CACHE_PINNED ? 0
									      : 1};
	}
	return 0;
}

// The folder of a name below the stage, made where it is missing. Nobody else writes there, but an
// archive unpacked before may have left links.
static int make_parent(struct prepare *p, int stage_fd, const char *name, struct error *err)
{
	const char *slash = strrchr(name, '/');
	cleanup_free char *folder =
		xstrndup(slash ? name : ".", slash ? (size_t)(slash - name) : 1);
	if (slash) {
		cleanup_fd int above = make_parent(p, stage_fd, folder, err);
		if (above < 0)
			return -1;
		if (mkdirat(above, path_base(folder), 0755) < 0 && errno != EEXIST) {
			error_set_errno(err, errno, "make folder %s", folder);
			return prepare_fail(p, DATA_FAILED);
		}
	}
	int fd = file_open_beneath(
		stage_fd, folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0, RESOLVE_NO_SYMLINKS, err);
	return fd < 0 ? prepare_fail(p, DATA_FAILED) : fd;
}

// A hard link where the file system is the same, else a copy: nobody writes either.
static int place_file(struct prepare *p, int object, int folder_fd, const char *kept, int stage_fd,
	const char *name, struct error *err)
{
	struct copy copy = {.deadline = p->deadlines[p->current]};
	cleanup_fd int parent = make_parent(p, stage_fd, name, err);
	if (parent < 0)
		return -1;
	struct stat st, linked;
	if (fstat(object, &st) < 0) {
		error_set_errno(err, errno, "look at a download");
		return prepare_fail(p, DATA_FAILED);
	}
	uint64_t size = (uint64_t)st.st_size;
	if (linkat(folder_fd, kept, parent, path_base(name), 0) == 0) {
		// By its name, which may be another file's by now.
		if (fstatat(parent, path_base(name), &linked, AT_SYMLINK_NOFOLLOW) == 0 &&
			linked.st_ino == st.st_ino && linked.st_dev == st.st_dev) {
			p->linked += size;
			return 0;
		}
		error_set(err, ERROR_UNAVAILABLE, "%.200s was replaced as it was used", name);
		return prepare_fail(p, DATA_FAILED);
	}
	p->own += size;
	if (lseek(object, 0, SEEK_SET) < 0 ||
		copy_file(&copy, object, parent, path_base(name), err) < 0)
		return prepare_fail(p, copy.failure ? copy.failure : DATA_FAILED);
	return 0;
}

static int unpack_file(struct prepare *p, const struct data_source *s, int object, const char *name,
	int stage_fd, uint64_t *bytes, struct error *err)
{
	uint64_t max = prepare_max_bytes(p, s), more;
	if (max && *bytes >= max)
		max = 1;
	else if (max)
		max -= *bytes;
	const struct unpack_options o = {.format = s->unpack,
		.name = name,
		.archive_fd = object,
		.folder_fd = stage_fd,
		.max_bytes = max,
		.keep_free_bytes = p->cache.limits.keep_free_bytes,
		.deadline = p->deadlines[p->current],
		.progress = prepare_progress,
		.data = p};
	enum data_failure failure;
	if (unpack(&o, &more, &failure, err) < 0) {
		error_context(err, "%.200s", name);
		return prepare_fail(p, failure);
	}
	*bytes += more;
	p->own += more;
	return 0;
}

int prepare_place(struct prepare *p, const struct data_source *s, int object, int folder_fd,
	const char *kept, const char *name, int stage_fd, uint64_t *bytes, struct error *err)
{
	bool archive = s->unpack == DATA_UNPACK_TAR || s->unpack == DATA_UNPACK_ZIP ||
		       (s->unpack == DATA_UNPACK_AUTO && unpack_is_archive(name, object));
	return archive ? unpack_file(p, s, object, name, stage_fd, bytes, err)
		       : place_file(p, object, folder_fd, kept, stage_fd, name, err);
}

static int fill_stage(struct prepare *p, size_t source, int stage_fd, struct error *err)
{
	const struct data_source *s = &p->options->sources[source];
	uint64_t bytes = 0;
	for (size_t i = 0; i < s->file_count; i++) {
		char kept[120];
		cleanup_fd int object = -1;
		const char *name = prepare_file_name(p, &s->files[i], err);
		int found = lease_object(p, sha256_of_file(p, source, i), kept, &object, err);
		if (found == 0)
			error_set(
				err, ERROR_UNAVAILABLE, "%.200s was evicted as it was used", name);
		if (found <= 0)
			return found < 0 ? -1 : prepare_fail(p, DATA_FAILED);
		if (prepare_place(p, s, object, p->options->store->state_fd, kept, name, stage_fd,
			    &bytes, err) < 0)
			return -1;
	}
	return 0;
}

static int make_tree(struct prepare *p, size_t source, struct error *err)
{
	char digest[65];
	int lock = -1;
	struct cache_stage stage;
	if (tree_digest(p, source, digest, err) < 0)
		return -1;
	int here = prepare_tree_begin(p, source, digest, NULL, &lock, err);
	if (here)
		return here < 0 ? -1 : 0;
	int status = cache_stage_new(&p->cache, &stage, err);
	if (status < 0)
		prepare_fail(p, DATA_FAILED);
	else
		status = fill_stage(p, source, stage.fd, err);
	if (status == 0)
		status = prepare_tree_commit(p, source, &stage, digest, NULL, err);
	cache_stage_drop(&p->cache, &stage);
	cache_building_unlock(&p->cache, digest, &lock);
	return status;
}

static int count(struct prepare *p, size_t source, struct error *err)
{
	const struct data_source *s = &p->options->sources[source];
	struct data_ready *r = &p->ready[source];
	uint64_t max = prepare_max_bytes(p, s);
	char have[FORMAT_SIZE_MAX], limit[FORMAT_SIZE_MAX];
	for (size_t i = 0; i < p->file_count; i++) {
		if (p->files[i].source != source)
			continue;
		r->bytes += p->files[i].done;
		r->fetched += p->files[i].before + p->files[i].fetched;
	}
	if (!max || r->bytes <= max)
		return 0;
	error_set(err, ERROR_LIMIT, "its files have %s in all, over the limit of %s",
		format_size(r->bytes, have), format_size(max, limit));
	return prepare_fail(p, DATA_TOO_LARGE);
}

int prepare_http_finish(struct prepare *p, size_t source, struct error *err)
{
	const struct data_source *s = &p->options->sources[source];
	struct data_ready *r = &p->ready[source];
	char kept[120];
	if (r->kept) // it was here
		return 0;
	if (count(p, source, err) < 0)
		return -1;
	uint64_t bytes = r->bytes, fetched = r->fetched;
	if (s->kind != DATA_FSIMAGE) {
		if (make_tree(p, source, err) < 0)
			return -1;
	} else {
		const char *sha256 = sha256_of_file(p, source, 0);
		int found = lease_object(p, sha256, kept, &r->lease_fd, err);
		if (found == 0) {
			error_set(err, ERROR_UNAVAILABLE, "it was evicted as it was used");
			return prepare_fail(p, DATA_FAILED);
		}
		if (found < 0)
			return -1;
		r->digest = arena_strdup(p->arena, sha256);
		r->kept = arena_strdup(p->arena, kept);
		r->is_file = true;
	}
	r->bytes = bytes;
	r->fetched = fetched;
	r->reused = fetched == 0;
	return 0;
}
