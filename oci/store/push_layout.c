// SPDX-License-Identifier: Apache-2.0
#include "oci/store/push_layout.h"

#include "base/json_write.h"

#include <sys/stat.h>
#include <unistd.h>

#define BLOBS "blobs/sha256/"

int push_layout_open(const char *path, struct error *err)
{
	cleanup_arena struct arena a = {0};
	struct store_names names;
	cleanup_fd int fd = directory_ensure(AT_FDCWD, path, 0755, err);
	if (fd < 0 || store_names(fd, ".", &a, &names, err) < 0)
		return error_context(err, "%s", path);
	if (names.count)
		return error_set(err, ERROR_INVALID, "%s: the folder is not empty", path);
	if (directory_make(fd, BLOBS, 0755, err) < 0)
		return error_context(err, "%s", path);
	return steal_fd(&fd);
}

bool push_layout_has(int layout, const struct oci_digest *digest)
{
	cleanup_free char *name = xasprintf(BLOBS "%s", oci_digest_hex(digest));
	return faccessat(layout, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

int push_layout_blob(
	int layout, const struct oci_digest *digest, uint64_t size, int fd, struct error *err)
{
	cleanup_free char *name = xasprintf(BLOBS "%s", oci_digest_hex(digest));
	cleanup_fd int out = openat(layout, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	cleanup_sha256 struct sha256 *hash = sha256_new();
	enum { CHUNK = 256 * 1024 };
	cleanup_free char *chunk = xmalloc(CHUNK);
	uint8_t sum[SHA256_SIZE];
	if (out < 0)
		return error_set_errno(err, errno, "make %s", name);
	for (uint64_t at = 0; at < size;) {
		ssize_t n = pread(fd, chunk, CHUNK, (off_t)at);
		if (n <= 0)
			return error_set_errno(err, n < 0 ? errno : EIO, "read a blob");
		sha256_update(hash, chunk, (size_t)n);
		if (write_all(out, chunk, (size_t)n, name, err) < 0)
			return -1;
		at += (uint64_t)n;
	}
	// A registry checks what it gets; nobody does here.
	sha256_final(hash, sum);
	struct oci_digest is = oci_digest_from_sha256(sum);
	if (oci_digest_equal(&is, digest))
		return 0;
	unlinkat(layout, name, 0);
	return error_set(err, ERROR_INTEGRITY, "blob %s has the digest %s", digest->text, is.text);
}

static int write_index(int layout, const char *tag, const char *media_type,
	const struct oci_digest *digest, size_t size, struct error *err)
{
	static const char marker[] = "{\"imageLayoutVersion\":\"1.0.0\"}\n";
	cleanup_json_writer struct json_writer *w = json_writer_new(false);
	cleanup_buffer struct buffer text = {0};
	json_write_open_object(w);
	json_write_member_int(w, "schemaVersion", 2);
	json_write_key(w, "manifests");
	json_write_open_array(w);
	json_write_open_object(w);
	json_write_member(w, "mediaType", media_type);
	json_write_member(w, "digest", digest->text);
	json_write_member_unsigned(w, "size", size);
	json_write_key(w, "annotations");
	json_write_open_object(w);
	json_write_member(w, "org.opencontainers.image.ref.name", tag);
	json_write_close_object(w);
	json_write_close_object(w);
	json_write_close_array(w);
	json_write_close_object(w);
	if (json_writer_finish(w, &text, err) < 0 ||
		file_write_atomic(layout, "oci-layout", marker, sizeof(marker) - 1, 0644, err) < 0)
		return -1;
	return file_write_atomic(layout, "index.json", text.data, text.size, 0644, err);
}

int push_layout_manifest(int layout, const char *tag, const char *media_type, const void *data,
	size_t size, struct error *err)
{
	struct oci_digest digest = oci_digest_of(data, size);
	cleanup_free char *name = xasprintf(BLOBS "%s", oci_digest_hex(&digest));
	if (file_write_atomic(layout, name, data, size, 0644, err) < 0)
		return -1;
	if (syncfs(layout) < 0)
		return error_set_errno(err, errno, "write the layout");
	return write_index(layout, tag, media_type, &digest, size, err);
}
