// SPDX-License-Identifier: Apache-2.0
// Kinds inline and bind (in mode download): what comes from the job or from this node.
#include "agent/data/copy.h"
#include "agent/data/prepare.h"
#include "base/file.h"
#include "base/sha256.h"

#include <sys/stat.h>
#include <unistd.h>

static const char content_name[] = "content";

static int write_content(int folder_fd, const struct data_source *s, struct error *err)
{
	cleanup_fd int fd = openat(folder_fd, content_name,
		O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0444);
	if (fd < 0)
		return error_set_errno(err, errno, "write an inline input");
	if (write_all(fd, s->content, s->content_size, "an inline input", err) < 0)
		return -1;
	return fchmod(fd, 0444) < 0 ? error_set_errno(err, errno, "write an inline input") : 0;
}

int prepare_inline(struct prepare *p, size_t source, struct error *err)
{
	const struct data_source *s = &p->options->sources[source];
	uint8_t digest[SHA256_SIZE];
	char hex[65];
	int lock = -1;
	struct cache_stage stage = {.fd = -1};
	cleanup_sha256 struct sha256 *h = sha256_new();
	sha256_update(h, "inline 1\n", 9);
	sha256_update(h, s->content, s->content_size);
	sha256_final(h, digest);
	sha256_hex(digest, hex);
	p->ready[source].bytes = s->content_size;
	int here = prepare_tree_begin(p, source, hex, content_name, &lock, err);
	if (here)
		return here < 0 ? -1 : 0;
	int status = cache_stage_new(&p->cache, &stage, err);
	if (status == 0)
		status = write_content(stage.fd, s, err);
	if (status == 0)
		status = prepare_tree_commit(p, source, &stage, hex, content_name, err);
	cache_stage_drop(&p->cache, &stage);
	cache_building_unlock(&p->cache, hex, &lock);
	return status < 0 ? prepare_fail(p, err->sys == ENOSPC ? DATA_NO_SPACE : DATA_FAILED) : 0;
}

static int fill(struct copy *c, int from, bool is_file, int stage_fd, struct error *err)
{
	return is_file ? copy_file(c, from, stage_fd, content_name, err)
		       : copy_tree(c, from, stage_fd, err);
}

// One copy, at the state it had: the digest is of names, sizes and times, so that what has changed
// is copied again, and what has not is not.
int prepare_bind(struct prepare *p, size_t source, struct error *err)
{
	const struct data_source *s = &p->options->sources[source];
	struct copy c = {.max_bytes = prepare_max_bytes(p, s),
		.deadline = p->deadlines[source],
		.progress = prepare_progress,
		.data = p};
	struct cache_stage stage = {.fd = -1};
	enum data_failure failure;
	cleanup_fd int from = -1;
	struct stat st;
	char hex[65];
	int lock = -1;
	if (bind_open(p->options->policy, s->path, O_RDONLY | O_NONBLOCK, &from, &failure, err) < 0)
		return prepare_fail(p, failure);
	if (fstat(from, &st) < 0 || (!S_ISDIR(st.st_mode) && !S_ISREG(st.st_mode))) {
		error_set(err, ERROR_INVALID, "%.200s is neither a file nor a folder", s->path);
		return prepare_fail(p, DATA_UNSUPPORTED);
	}
	if (copy_signature(&c, from, s->path, hex, err) < 0)
		return prepare_fail(p, c.failure ? c.failure : DATA_FAILED);
	const char *below = S_ISREG(st.st_mode) ? content_name : NULL;
	int here = prepare_tree_begin(p, source, hex, below, &lock, err);
	if (here)
		return here < 0 ? -1 : 0;
	int status = cache_stage_new(&p->cache, &stage, err);
	if (status == 0)
		status = fill(&c, from, below != NULL, stage.fd, err);
	p->own = c.bytes;
	if (status == 0)
		status = prepare_tree_commit(p, source, &stage, hex, below, err);
	cache_stage_drop(&p->cache, &stage);
	cache_building_unlock(&p->cache, hex, &lock);
	if (status < 0)
		return prepare_fail(p, c.failure ? c.failure : DATA_FAILED);
	p->ready[source].bytes = c.bytes;
	return 0;
}
