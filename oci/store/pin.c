// SPDX-License-Identifier: Apache-2.0
#include "oci/store/pin.h"

#include "base/json_write.h"
#include "base/text.h"
#include "oci/store/internal.h"

#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum { BOOT_ID_SIZE = 37 };

static const char *const format_name[] = {[LAYER_EROFS] = "erofs", [LAYER_DIRECTORY] = "directory"};

static void boot_id(char id[BOOT_ID_SIZE])
{
	memset(id, 0, BOOT_ID_SIZE);
	cleanup_fd int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
	if (fd < 0 || read(fd, id, BOOT_ID_SIZE - 1) < 0)
		id[0] = '\0';
}

uint64_t pin_mount_namespace(void)
{
	struct stat st;
	return stat("/proc/self/ns/mnt", &st) == 0 ? st.st_ino : 0;
}

static void record_name(const char *directory, char name[PIN_NAME_SIZE])
{
	struct oci_digest d = oci_digest_of(directory, strlen(directory));
	snprintf(name, PIN_NAME_SIZE, "%s.json", oci_digest_hex(&d));
}

static int record_text(const struct pin *pin, struct buffer *text, struct error *err)
{
	cleanup_json_writer struct json_writer *w = json_writer_new(true);
	char boot[BOOT_ID_SIZE];
	boot_id(boot);
	json_write_open_object(w);
	json_write_member(w, "directory", pin->directory);
	json_write_member(w, "image", pin->reference);
	json_write_member(w, "boot", boot);
	json_write_member_int(w, "device", (int64_t)pin->device);
	json_write_member_int(w, "mount_id", (int64_t)pin->mount_id);
	json_write_member_int(w, "mount_namespace", (int64_t)pin->mount_namespace);
	json_write_key(w, "layers");
	json_write_open_array(w);
	for (size_t i = 0; i < pin->layer_count; i++) {
		json_write_open_object(w);
		json_write_member(w, "diff_id", pin->layers[i].diff_id.text);
		json_write_member(w, "format", format_name[pin->layers[i].format]);
		json_write_close_object(w);
	}
	json_write_close_array(w);
	json_write_close_object(w);
	return json_writer_finish(w, text, err);
}

// Locked before it gets its name, so that nobody ever sees the record unlocked. The temporary's
// name ends in .tmp, which pin_list() passes over; a leftover is small, in the run directory, and
// replaced.
int pin_write(struct store *s, struct pin *pin, int *fd, struct error *err)
{
	cleanup_buffer struct buffer text = {0};
	char temporary[PIN_NAME_SIZE + 32];
	if (record_text(pin, &text, err) < 0)
		return -1;
	record_name(pin->directory, pin->name);
	snprintf(temporary, sizeof(temporary), "%s.%ld.tmp", pin->name, (long)getpid());
	cleanup_fd int mounts = directory_open(s->run_fd, "mounts", err);
	if (mounts < 0)
		return -1;
	cleanup_fd int file = openat(
		mounts, temporary, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (file < 0)
		return error_set_errno(err, errno, "make %s/mounts/%s", s->run_dir, temporary);
	if (file_lock(file, LOCK_SH, temporary, err) < 0 ||
		write_all(file, text.data, text.size, temporary, err) < 0)
		return -1;
	if (renameat(mounts, temporary, mounts, pin->name) < 0)
		return error_set_errno(err, errno, "rename %s in %s/mounts", temporary, s->run_dir);
	*fd = steal_fd(&file);
	return 0;
}

void pin_remove(struct store *s, const struct pin *pin)
{
	char path[PIN_NAME_SIZE + 8];
	snprintf(path, sizeof(path), "mounts/%s", pin->name);
	unlinkat(s->run_fd, path, 0);
}

static bool read_layers(struct arena *a, const struct json *layers, struct pin *pin)
{
	struct error ignored;
	if (!layers || layers->type != JSON_ARRAY || layers->count > OCI_LAYERS_MAX + 1)
		return false;
	pin->layers = arena_array(a, struct pin_layer, layers->count);
	json_array_each (item, layers) {
		struct pin_layer *l = &pin->layers[pin->layer_count++];
		const char *diff_id = json_get_string(&item->value, "diff_id");
		const char *format = json_get_string(&item->value, "format");
		if (!diff_id || !format || oci_digest_parse(diff_id, &l->diff_id, &ignored) < 0)
			return false;
		l->format =
			streq(format, format_name[LAYER_DIRECTORY]) ? LAYER_DIRECTORY : LAYER_EROFS;
	}
	return true;
}

// false: no record of ours and of this boot.
static bool pin_read(
	struct arena *a, int mounts, const char *name, const char *boot, struct pin *pin)
{
	cleanup_buffer struct buffer text = {0};
	struct error ignored;
	if (!ends_with(name, ".json") || strlen(name) >= PIN_NAME_SIZE ||
		file_read(mounts, name, PIN_BYTES_MAX, &text, &ignored) < 0)
		return false;
	const struct json *root =
		json_parse(a, text.data, text.size, name, &json_limits_default, &ignored);
	const char *of_boot = json_get_string(root, "boot");
	*pin = (struct pin){
		.directory = json_get_string(root, "directory"),
		.reference = json_get_string(root, "image"),
		.device = (uint64_t)json_get_integer(root, "device", 0),
		.mount_id = (uint64_t)json_get_integer(root, "mount_id", 0),
		.mount_namespace = (uint64_t)json_get_integer(root, "mount_namespace", 0),
	};
	memcpy(pin->name, name, strlen(name) + 1);
	return pin->directory && pin->reference && of_boot && streq(of_boot, boot) &&
	       read_layers(a, json_get(root, "layers"), pin);
}

int pin_list(struct store *s, struct arena *a, struct pin **pins, size_t *count, struct error *err)
{
	struct store_names names;
	char boot[BOOT_ID_SIZE];
	cleanup_fd int mounts = directory_open(s->run_fd, "mounts", err);
	if (mounts < 0 || store_names(mounts, ".", a, &names, err) < 0)
		return error_context(err, "%s", s->run_dir);
	*pins = arena_array(a, struct pin, names.count);
	*count = 0;
	boot_id(boot);
	for (size_t i = 0; i < names.count; i++)
		if (pin_read(a, mounts, names.items[i], boot, &(*pins)[*count]))
			(*count)++;
	return 0;
}

int pin_find(
	struct store *s, const char *directory, struct arena *a, struct pin *pin, struct error *err)
{
	char name[PIN_NAME_SIZE], boot[BOOT_ID_SIZE];
	cleanup_fd int mounts = directory_open(s->run_fd, "mounts", err);
	if (mounts < 0)
		return -1;
	record_name(directory, name);
	boot_id(boot);
	struct pin found;
	if (!pin_read(a, mounts, name, boot, &found) || !streq(found.directory, directory))
		return 0;
	*pin = found;
	return 1;
}

int pin_find_layer(struct store *s, const struct oci_digest *diff_id, enum layer_format format,
	struct error *err)
{
	cleanup_arena struct arena a = {0};
	struct pin *pins;
	size_t count;
	if (pin_list(s, &a, &pins, &count, err) < 0)
		return -1;
	for (size_t i = 0; i < count; i++)
		for (size_t k = 0; k < pins[i].layer_count; k++)
			if (pins[i].layers[k].format == format &&
				oci_digest_equal(&pins[i].layers[k].diff_id, diff_id))
				return 1;
	return 0;
}
