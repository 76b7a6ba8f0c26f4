// SPDX-License-Identifier: Apache-2.0
#include "oci/store/internal.h"

#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

int store_layers_size(struct store *s, struct store_size *sum, uint64_t *count, struct error *err)
{
	cleanup_arena struct arena a = {0};
	struct store_names names;
	struct store_size total = {0};
	uint64_t layers = 0;
	if (store_names(s->layers_fd, ".", &a, &names, err) < 0)
		return error_context(err, "%s/layers", s->state_dir);
	for (size_t i = 0; i < names.count; i++) {
		struct oci_digest diff_id;
		enum layer_format format;
		struct store_size size = {.inodes = 1};
		struct stat st;
		if (!store_layer_name_parse(names.items[i], &diff_id, &format))
			continue;
		if (format == LAYER_DIRECTORY) {
			if (measure_tree(s->layers_fd, names.items[i], &size, err) < 0 &&
				err->sys != ENOENT)
				return -1;
		} else if (fstatat(s->layers_fd, names.items[i], &st, AT_SYMLINK_NOFOLLOW) == 0) {
			size.bytes = (uint64_t)st.st_blocks * 512;
		}
		total.bytes += size.bytes;
		total.inodes += size.inodes;
		layers++;
	}
	*sum = total;
	*count = layers;
	return 0;
}

int store_free_space(struct store *s, struct store_space *space, struct error *err)
{
	struct statvfs fs;
	if (fstatvfs(s->state_fd, &fs) < 0)
		return error_set_errno(err, errno, "statvfs of %s", s->state_dir);
	*space = (struct store_space){
		.bytes = (uint64_t)fs.f_bavail * fs.f_frsize,
		.inodes = fs.f_favail,
		.inodes_in_all = fs.f_files,
	};
	return 0;
}

int store_usage(struct store *s, struct store_usage *usage, struct error *err)
{
	cleanup_arena struct arena a = {0};
	struct store_names parts;
	struct store_image *images;
	struct store_size layers;
	struct store_space space;
	struct store_usage u = {0};
	size_t image_count;
	if (store_layers_size(s, &layers, &u.layer_count, err) < 0 ||
		store_names(s->parts_fd, ".", &a, &parts, err) < 0 ||
		store_image_list(s, &a, &images, &image_count, err) < 0 ||
		store_free_space(s, &space, err) < 0)
		return -1;
	for (size_t i = 0; i < parts.count; i++) {
		struct stat st;
		if (fstatat(s->parts_fd, parts.items[i], &st, AT_SYMLINK_NOFOLLOW) == 0)
			u.part_bytes += (uint64_t)st.st_blocks * 512;
	}
	u.layer_bytes = layers.bytes;
	u.image_count = image_count;
	u.free_bytes = space.bytes;
	u.free_inodes = space.inodes;
	*usage = u;
	return 0;
}
