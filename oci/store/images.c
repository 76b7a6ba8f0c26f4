// SPDX-License-Identifier: Apache-2.0
// Which manifest a reference names here: a small JSON record per reference. When it was last used
// is the record's modification time, so that starting a job writes nothing.
#include "base/json_write.h"
#include "base/text.h"
#include "base/time.h"
#include "oci/store/internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum { RECORD_BYTES_MAX = 16 * 1024 };

static const char *const format_name[] = {[LAYER_EROFS] = "erofs", [LAYER_DIRECTORY] = "directory"};

const char *store_image_name(const struct oci_reference *reference, char name[STORE_NAME_MAX])
{
	char text[OCI_REFERENCE_TEXT_MAX];
	oci_reference_format(reference, text);
	struct oci_digest d = oci_digest_of(text, strlen(text));
	snprintf(name, STORE_NAME_MAX, "%s.json", oci_digest_hex(&d));
	return name;
}

static int record_write(const struct store_image *image, struct buffer *text, struct error *err)
{
	cleanup_json_writer struct json_writer *w = json_writer_new(true);
	char reference[OCI_REFERENCE_TEXT_MAX], platform[OCI_PLATFORM_TEXT_MAX];
	json_write_open_object(w);
	json_write_member(w, "reference", oci_reference_format(&image->reference, reference));
	json_write_member(w, "target", image->target.text);
	json_write_member(w, "manifest", image->manifest.text);
	json_write_member(w, "config", image->config.text);
	json_write_member(w, "platform", oci_platform_format(&image->platform, platform));
	json_write_member(w, "format", format_name[image->format]);
	json_write_member_int(w, "pulled_ms", image->pulled_ms);
	json_write_close_object(w);
	return json_writer_finish(w, text, err);
}

static bool read_digest(const struct json *root, const char *key, struct oci_digest *d)
{
	struct error ignored;
	const char *text = json_get_string(root, key);
	return text && oci_digest_parse(text, d, &ignored) == 0;
}

static bool record_parse(const struct json *root, struct store_image *image)
{
	struct error ignored;
	const char *reference = json_get_string(root, "reference");
	const char *platform = json_get_string(root, "platform");
	const char *format = json_get_string(root, "format");
	const struct json *pulled = json_get(root, "pulled_ms");
	if (!reference || oci_reference_parse(reference, &image->reference, &ignored) < 0 ||
		!platform || oci_platform_parse(platform, &image->platform, &ignored) < 0 ||
		!format || !read_digest(root, "target", &image->target) ||
		!read_digest(root, "manifest", &image->manifest) ||
		!read_digest(root, "config", &image->config) || !pulled ||
		pulled->type != JSON_INTEGER)
		return false;
	if (!streq(format, format_name[LAYER_EROFS]) &&
		!streq(format, format_name[LAYER_DIRECTORY]))
		return false;
	image->format = streq(format, format_name[LAYER_EROFS]) ? LAYER_EROFS : LAYER_DIRECTORY;
	image->pulled_ms = pulled->integer;
	return true;
}

int store_image_read(
	struct store *s, const char *name, struct store_image *image, struct error *err)
{
	cleanup_buffer struct buffer text = {0};
	cleanup_arena struct arena a = {0};
	struct stat st;
	struct error why = {0};
	cleanup_fd int fd =
		openat(s->images_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (fd < 0)
		return error_set_errno(err, errno, "open %s/images/%s", s->state_dir, name);
	if (fstat(fd, &st) < 0)
		return error_set_errno(err, errno, "%s/images/%s", s->state_dir, name);
	struct store_image read = {0};
	if (file_read_fd(fd, name, RECORD_BYTES_MAX, &text, &why) < 0 ||
		!record_parse(
			json_parse(&a, text.data, text.size, name, &json_limits_default, &why),
			&read))
		return error_set(err, ERROR_INTEGRITY,
			"the image record %s/images/%s is damaged; remove it and pull the image "
			"again",
			s->state_dir, name);
	read.used_ms = (int64_t)st.st_mtim.tv_sec * 1000 + st.st_mtim.tv_nsec / 1000000;
	*image = read;
	return 0;
}

static bool same_record(const struct store_image *a, const struct store_image *b)
{
	char x[OCI_PLATFORM_TEXT_MAX], y[OCI_PLATFORM_TEXT_MAX];
	return oci_digest_equal(&a->manifest, &b->manifest) &&
	       oci_digest_equal(&a->config, &b->config) &&
	       oci_digest_equal(&a->target, &b->target) && a->format == b->format &&
	       streq(oci_platform_format(&a->platform, x), oci_platform_format(&b->platform, y));
}

int store_images_lock(struct store *s, int operation, int *fd, struct error *err)
{
	cleanup_fd int folder = directory_open(s->images_fd, ".", err);
	if (folder < 0 || file_lock(folder, operation, "images", err) < 0)
		return error_context(err, "%s", s->state_dir);
	*fd = steal_fd(&folder);
	return 0;
}

int store_image_put(struct store *s, const struct store_image *image, struct error *err)
{
	cleanup_buffer struct buffer text = {0};
	char name[STORE_NAME_MAX];
	struct store_image present;
	struct error ignored;
	cleanup_fd int lock = -1;
	if (store_images_lock(s, LOCK_SH, &lock, err) < 0)
		return -1;
	store_image_name(&image->reference, name);
	if (store_image_read(s, name, &present, &ignored) == 0 && same_record(&present, image)) {
		store_image_touch(s, &image->reference);
	} else {
		if (record_write(image, &text, err) < 0 ||
			store_file_put(s, s->images_fd, "images", name, text.data, text.size, err) <
				0)
			return error_context(err, "%s", s->state_dir);
	}
	close_fdp(&s->documents_lock_fd);
	s->documents_lock_fd = -1;
	return 0;
}

int store_image_get(struct store *s, const struct oci_reference *reference,
	struct store_image *image, struct error *err)
{
	char name[STORE_NAME_MAX], text[OCI_REFERENCE_TEXT_MAX], familiar[OCI_REFERENCE_TEXT_MAX];
	if (store_image_read(s, store_image_name(reference, name), image, err) == 0)
		return 0;
	if (err->sys != ENOENT)
		return -1;
	return error_set(err, ERROR_NOT_FOUND, "image %s is not here; pull it with: stoker pull %s",
		oci_reference_format(reference, text), oci_reference_familiar(reference, familiar));
}

void store_image_touch(struct store *s, const struct oci_reference *reference)
{
	char name[STORE_NAME_MAX];
	// On a read-only store, or for a user who may only look, the order of use is not ours to
	// keep.
	utimensat(s->images_fd, store_image_name(reference, name), NULL, AT_SYMLINK_NOFOLLOW);
}

int store_image_remove(struct store *s, const struct oci_reference *reference, struct error *err)
{
	char name[STORE_NAME_MAX], text[OCI_REFERENCE_TEXT_MAX];
	if (unlinkat(s->images_fd, store_image_name(reference, name), 0) == 0) {
		// Not worth a failure: after a power cut the image may be back, whole or not; both
		// are handled.
		fsync(s->images_fd);
		return 0;
	}
	oci_reference_format(reference, text);
	if (errno == ENOENT)
		return error_set(
			err, ERROR_NOT_FOUND, "image %s is not here; see: stoker images", text);
	return error_set_errno(err, errno, "remove image %s from %s", text, s->state_dir);
}

static int by_use(const void *a, const void *b)
{
	int64_t x = ((const struct store_image *)a)->used_ms,
		y = ((const struct store_image *)b)->used_ms;
	return x < y ? 1 : x > y ? -1 : 0;
}

int store_image_list(struct store *s, struct arena *a, struct store_image **images, size_t *count,
	struct error *err)
{
	struct store_names names;
	struct error ignored;
	if (store_names(s->images_fd, ".", a, &names, err) < 0)
		return error_context(err, "%s/images", s->state_dir);
	struct store_image *list = arena_array(a, struct store_image, names.count);
	size_t n = 0;
	// One that is damaged, or just removed, names nothing; prune takes it away.
	for (size_t i = 0; i < names.count; i++)
		if (store_image_read(s, names.items[i], &list[n], &ignored) == 0)
			n++;
	if (n)
		qsort(list, n, sizeof(*list), by_use);
	*images = list;
	*count = n;
	return 0;
}
