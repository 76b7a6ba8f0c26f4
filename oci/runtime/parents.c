// SPDX-License-Identifier: Apache-2.0
#include "oci/runtime/parents.h"

#include "base/file.h"
#include "oci/layer/directory.h"
#include "oci/layer/erofs.h"
#include "oci/runtime/parents_walk.h"

#include <sys/stat.h>
#include <unistd.h>

struct maker {
	struct store *store;
	enum layer_format format;
	struct store_stage stage;
	struct layer_sink *sink;
};

static struct layer_sink *open_sink(void *data, struct error *err)
{
	struct maker *m = data;
	if (store_stage_new(m->store, m->format, &m->stage, err) < 0)
		return NULL;
	m->sink = m->format == LAYER_EROFS
			  ? erofs_writer_new(m->stage.fd, &layer_limits_default)
			  : directory_writer_new(m->stage.fd,
				    geteuid() == 0 ? DIRECTORY_PRIVILEGED : DIRECTORY_UNPRIVILEGED,
				    &layer_limits_default);
	return m->sink;
}

static void maker_release(struct maker *m)
{
	if (m->sink)
		m->sink->functions->free(m->sink);
	store_stage_drop(m->store, &m->stage);
}

// Nothing to be written: an empty file remembers that.
static int make(struct store *s, const struct parents_source *source, const struct parents_tree *t,
	struct store_layer *layer, struct error *err)
{
	__attribute__((cleanup(maker_release))) struct maker m = {
		.store = s, .format = source->format, .stage = {.fd = -1}};
	if (parents_walk(t, open_sink, &m, err) < 0)
		return -1;
	if (m.sink ? m.sink->functions->finish(m.sink, err) < 0
		   : store_stage_new(s, LAYER_EROFS, &m.stage, err) < 0)
		return -1;
	return store_stage_commit(s, &m.stage, &source->id, layer, err);
}

// Could any directory be wrong? Of most images the roots alone tell that none is.
static int is_needed(const struct parents_tree *t, struct error *err)
{
	struct parents_directory top = {0};
	bool root_known = false;
	for (size_t i = 0; i < t->count; i++) {
		struct parents_directory d = {0};
		cleanup_fd int fd = -1;
		bool gone;
		if (parents_look(t, i, ".", &d, &fd, &gone, err) < 0)
			return -1;
		if (d.below && i + 1 < t->count)
			return 1;
		if (i == 0)
			top = d;
		if (root_known || d.implicit)
			continue;
		root_known = true;
		if (i && (d.xattrs || d.mode != top.mode || d.uid != top.uid || d.gid != top.gid))
			return 1;
	}
	return 0;
}

// 1 found, *layer leased; 0 not; -1.
static int find(struct store *s, const struct parents_source *source, struct store_layer *layer,
	struct error *err)
{
	int found = store_layer_lease(s, &source->id, source->format, layer, err);
	if (found || source->format == LAYER_EROFS)
		return found;
	return store_layer_lease(s, &source->id, LAYER_EROFS, layer, err);
}

int parents_lease(struct store *s, const struct parents_source *source, struct store_layer *layer,
	struct error *err)
{
	const bool user = source->format == LAYER_DIRECTORY && geteuid() != 0;
	const struct parents_tree tree = {
		.roots = source->roots,
		.count = source->count,
		.prefix = user ? "user." : "trusted.",
	};
	cleanup_store_layer struct store_layer leased = {.fd = -1};
	struct stat st;
	if (source->count < 2)
		return 0;
	int status = is_needed(&tree, err);
	if (status > 0)
		status = find(s, source, &leased, err);
	else
		return status;
	if (status == 0)
		status = make(s, source, &tree, &leased, err);
	if (status < 0)
		return error_context(err, "attributes of directories");
	if (fstat(leased.fd, &st) < 0)
		return error_set_errno(err, errno, "layer %s", leased.diff_id.text);
	if (S_ISREG(st.st_mode) && st.st_size == 0)
		return 0;
	*layer = leased;
	leased = (struct store_layer){.fd = -1};
	return 1;
}
