// SPDX-License-Identifier: Apache-2.0
// Making room: a plan first, so that nothing goes when all of it would not be enough.
#include "base/text.h"
#include "base/time.h"
#include "oci/store/inventory.h"

#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum { ROUNDS = 3, NAMED_MAX = 4 };

// A part that nobody went on with for a day is worth less than an image, a younger one more: most
// likely its pull is tried again, or is the one that asks for room.
static const int64_t part_old_ms = 24LL * 3600 * 1000;

// What must be set free, and what should be.
struct shortage {
	struct store_size must;
	uint64_t should_bytes;
};

struct plan {
	struct inventory inventory;
	struct store_names parts;
	bool *part_chosen;
	struct store_size gain;
};

static uint64_t beyond(uint64_t want, uint64_t have)
{
	return want > have ? want - have : 0;
}

static uint64_t sum(uint64_t a, uint64_t b)
{
	return b > UINT64_MAX - a ? UINT64_MAX : a + b;
}

static int find_shortage(struct store *s, uint64_t bytes, uint64_t inodes,
	struct store_space *space, struct shortage *found, struct error *err)
{
	const struct store_limits *limits = &s->limits;
	struct shortage short_of = {0};
	if (store_free_space(s, space, err) < 0)
		return -1;
	short_of.must.bytes = beyond(sum(bytes, limits->keep_free_bytes), space->bytes);
	// File systems without a table of inodes state 0.
	if (space->inodes_in_all)
		short_of.must.inodes = beyond(
			sum(inodes, space->inodes_in_all / 100 * limits->keep_free_inodes_percent),
			space->inodes);
	short_of.should_bytes = short_of.must.bytes;
	if (limits->high_bytes) {
		struct store_size layers;
		uint64_t count, low = limits->low_bytes ? limits->low_bytes : limits->high_bytes;
		if (store_layers_size(s, &layers, &count, err) < 0)
			return -1;
		uint64_t then = sum(layers.bytes, bytes), over = beyond(then, limits->high_bytes);
		if (over > short_of.must.bytes)
			short_of.must.bytes = over;
		if (over && beyond(then, low) > short_of.should_bytes)
			short_of.should_bytes = beyond(then, low);
	}
	*found = short_of;
	return 0;
}

static bool enough(const struct plan *p, const struct shortage *short_of)
{
	return p->gain.bytes >= short_of->should_bytes && p->gain.bytes >= short_of->must.bytes &&
	       p->gain.inodes >= short_of->must.inodes;
}

static void gain(struct plan *p, struct store_size size)
{
	p->gain.bytes += size.bytes;
	p->gain.inodes += size.inodes;
}

static int plan_parts(struct store *s, struct plan *p, bool old, const struct shortage *short_of,
	struct error *err)
{
	for (size_t i = 0; i < p->parts.count && !enough(p, short_of); i++) {
		struct store_size size;
		struct stat st;
		if (p->part_chosen[i] ||
			fstatat(s->parts_fd, p->parts.items[i], &st, AT_SYMLINK_NOFOLLOW) < 0 ||
			(wall_ms() - (int64_t)st.st_mtim.tv_sec * 1000 >= part_old_ms) != old)
			continue;
		int removable = store_part_prune(s, p->parts.items[i], true, &size, err);
		if (removable < 0)
			return -1;
		p->part_chosen[i] = removable;
		if (removable)
			gain(p, size);
	}
	return 0;
}

static int make_plan(
	struct store *s, struct plan *p, const struct shortage *short_of, struct error *err)
{
	struct inventory *v = &p->inventory;
	if (inventory_read(s, v, err) < 0 ||
		store_names(s->parts_fd, ".", &v->arena, &p->parts, err) < 0)
		return -1;
	p->part_chosen = arena_array(&v->arena, bool, p->parts.count);
	for (size_t i = 0; i < v->layer_count; i++)
		if (!v->layers[i].users && !v->layers[i].in_use)
			gain(p, v->layers[i].size);
	if (plan_parts(s, p, true, short_of, err) < 0)
		return -1;
	for (size_t i = v->image_count; i-- > 0 && !enough(p, short_of);) {
		struct store_size size = inventory_gain(&v->images[i]);
		if (size.bytes || size.inodes) // else all of it is in use or shared
			gain(p, inventory_choose(&v->images[i]));
	}
	return plan_parts(s, p, false, short_of, err);
}

static int carry_out(struct store *s, struct plan *p, struct error *err)
{
	struct inventory *v = &p->inventory;
	struct store_size size;
	for (size_t i = 0; i < v->image_count; i++)
		if (v->images[i].chosen &&
			store_image_remove(s, &v->images[i].image->reference, err) < 0 &&
			err->kind != ERROR_NOT_FOUND)
			return -1;
	for (size_t i = 0; i < v->layer_count; i++) {
		const struct inventory_layer *l = &v->layers[i];
		if (!l->users && !l->in_use &&
			store_layer_remove(s, &l->diff_id, l->format, false, &size, err) < 0)
			return -1;
	}
	for (size_t i = 0; i < p->parts.count; i++)
		if (p->part_chosen[i] &&
			store_part_prune(s, p->parts.items[i], false, &size, err) < 0)
			return -1;
	return store_documents_prune(s, err);
}

// "a, b and 3 more"
static void name_images(const struct inventory *v, struct buffer *text)
{
	char name[OCI_REFERENCE_TEXT_MAX];
	size_t chosen = 0, named = 0;
	for (size_t i = 0; i < v->image_count; i++)
		chosen += v->images[i].chosen;
	for (size_t i = v->image_count; i-- > 0 && named < NAMED_MAX;) {
		if (!v->images[i].chosen)
			continue;
		bool last = named + 1 == chosen;
		buffer_printf(text, "%s%.60s",
			!named ? ""
			: last ? " and "
			       : ", ",
			oci_reference_familiar(&v->images[i].image->reference, name));
		named++;
	}
	if (chosen > named)
		buffer_printf(text, " and %zu more", chosen - named);
	if (!chosen)
		buffer_puts(text, "what no image needs");
}

static int refuse(struct store *s, const struct plan *p, uint64_t bytes, uint64_t inodes,
	const struct store_space *space, const struct shortage *short_of, struct error *err)
{
	cleanup_buffer struct buffer text = {0};
	char need[FORMAT_SIZE_MAX], free[FORMAT_SIZE_MAX], keep[FORMAT_SIZE_MAX],
		get[FORMAT_SIZE_MAX];
	bool files = p->gain.bytes >= short_of->must.bytes; // then the inodes are what is missing
	bool disk = sum(bytes, s->limits.keep_free_bytes) > sum(space->bytes, p->gain.bytes);
	format_size(bytes, need);
	format_size(p->gain.bytes, get);
	if (files)
		buffer_printf(&text,
			"needs %llu files, %llu free in %.100s, of which %u%% are kept free",
			(unsigned long long)inodes, (unsigned long long)space->inodes, s->state_dir,
			s->limits.keep_free_inodes_percent);
	else if (disk)
		buffer_printf(&text, "needs %s, %s free in %.100s, of which %s are kept free", need,
			format_size(space->bytes, free), s->state_dir,
			format_size(s->limits.keep_free_bytes, keep));
	else
		buffer_printf(&text, "needs %s, and layers may take %s in all", need,
			format_size(s->limits.high_bytes, keep));
	if (!p->gain.bytes && !p->gain.inodes) {
		buffer_puts(&text, "; nothing here can be evicted");
	} else {
		buffer_puts(&text, "; evicting ");
		name_images(&p->inventory, &text);
		if (files)
			buffer_printf(
				&text, " would give %llu", (unsigned long long)p->gain.inodes);
		else
			buffer_printf(&text, " would give %s", get);
	}
	return error_set(err, ERROR_LIMIT, "%s", text.data);
}

// Plan and evict. `last`: what could be had was had, and it was not enough.
static int evict(struct store *s, uint64_t bytes, uint64_t inodes, bool last, struct error *err)
{
	struct plan p = {0};
	struct store_space space;
	struct shortage short_of;
	cleanup_fd int lock = -1;
	// Measured again: who had the lock before may just have made room.
	if (store_images_lock(s, LOCK_EX, &lock, err) < 0 ||
		find_shortage(s, bytes, inodes, &space, &short_of, err) < 0)
		return -1;
	if (!short_of.must.bytes && !short_of.must.inodes)
		return 0;
	int status = make_plan(s, &p, &short_of, err);
	if (status == 0 && (last || p.gain.bytes < short_of.must.bytes ||
				   p.gain.inodes < short_of.must.inodes))
		status = refuse(s, &p, bytes, inodes, &space, &short_of, err);
	if (status == 0)
		status = carry_out(s, &p, err);
	inventory_release(&p.inventory);
	return status;
}

int store_make_room(struct store *s, uint64_t bytes, uint64_t inodes, struct error *err)
{
	struct store_space space;
	struct shortage short_of;
	// Again where somebody took a lease on what was to go, or filled the disk meanwhile.
	for (int i = 0;; i++) {
		if (find_shortage(s, bytes, inodes, &space, &short_of, err) < 0)
			return -1;
		if (!short_of.must.bytes && !short_of.must.inodes)
			return 0;
		if (evict(s, bytes, inodes, i == ROUNDS, err) < 0)
			return -1;
	}
}
