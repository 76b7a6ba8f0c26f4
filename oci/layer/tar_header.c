// SPDX-License-Identifier: Apache-2.0
#include "oci/layer/tar_header.h"

#include "base/utf8.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

struct header {
	char name[100], mode[8], uid[8], gid[8], size[12], mtime[12], checksum[8], type, link[100];
	char magic[6], version[2], user[32], group[32], major[8], minor[8], prefix[155], rest[12];
};
_Static_assert(sizeof(struct header) == TAR_BLOCK, "a tar header has 512 bytes");

static const uint64_t octal_size_max = (UINT64_C(1) << 33) - 1; // 11 digits

// The field's last byte is NUL; what does not fit is cut.
static void octal(char *field, size_t size, uint64_t value)
{
	for (size_t i = size - 1; i-- > 0; value >>= 3)
		field[i] = (char)('0' + (value & 7));
}

static void text(char *field, size_t size, const char *s)
{
	size_t n = strlen(s);
	memcpy(field, s, n < size ? n : size);
}

static void plain_append(struct buffer *out, const struct tar_member *m)
{
	struct header h = {.type = m->type, .version = {'0', '0'}};
	text(h.name, sizeof(h.name), m->path);
	octal(h.mode, sizeof(h.mode), m->mode & 07777);
	octal(h.uid, sizeof(h.uid), 0);
	octal(h.gid, sizeof(h.gid), 0);
	octal(h.size, sizeof(h.size), m->size > octal_size_max ? 0 : m->size);
	octal(h.mtime, sizeof(h.mtime), (uint64_t)m->mtime);
	if (m->link)
		text(h.link, sizeof(h.link), m->link);
	memcpy(h.magic, "ustar", sizeof(h.magic));
	octal(h.major, sizeof(h.major), 0);
	octal(h.minor, sizeof(h.minor), 0);
	memset(h.checksum, ' ', sizeof(h.checksum));
	const unsigned char *bytes = (const unsigned char *)&h;
	unsigned sum = 0;
	for (size_t i = 0; i < sizeof(h); i++)
		sum += bytes[i];
	octal(h.checksum, 7, sum); // six digits, NUL and the space that stands there
	h.checksum[6] = '\0';
	buffer_append(out, &h, sizeof(h));
}

// "<length> key=value\n", where the length counts its own digits.
static void record_append(struct buffer *out, const char *key, const char *value)
{
	size_t rest = strlen(key) + strlen(value) + 3, size = rest + 1;
	// More digits make it longer, once at most.
	while (size != rest + (size_t)snprintf(NULL, 0, "%zu", size))
		size = rest + (size_t)snprintf(NULL, 0, "%zu", size);
	buffer_printf(out, "%zu %s=%s\n", size, key, value);
}

static bool is_utf8(const char *s)
{
	return utf8_valid(s, strlen(s)) == strlen(s);
}

void tar_header_append(struct buffer *out, const struct tar_member *m)
{
	cleanup_buffer struct buffer records = {0};
	bool long_path = strlen(m->path) > sizeof(((struct header *)0)->name);
	bool long_link = m->link && strlen(m->link) > sizeof(((struct header *)0)->link);
	// Values are UTF-8 unless this says that they are bytes.
	if ((long_path && !is_utf8(m->path)) || (long_link && !is_utf8(m->link)))
		record_append(&records, "hdrcharset", "BINARY");
	if (long_path)
		record_append(&records, "path", m->path);
	if (long_link)
		record_append(&records, "linkpath", m->link);
	if (m->size > octal_size_max) {
		char size[24];
		snprintf(size, sizeof(size), "%llu", (unsigned long long)m->size);
		record_append(&records, "size", size);
	}
	if (records.size) {
		const struct tar_member pax = {.path = "././@PaxHeader",
			.type = 'x',
			.mode = 0644,
			.size = records.size,
			.mtime = m->mtime};
		plain_append(out, &pax);
		buffer_append(out, records.data, records.size);
		tar_padding_append(out, records.size);
	}
	plain_append(out, m);
}

void tar_padding_append(struct buffer *out, uint64_t size)
{
	static const char zeros[TAR_BLOCK];
	buffer_append(out, zeros, (TAR_BLOCK - size % TAR_BLOCK) % TAR_BLOCK);
}

void tar_end_append(struct buffer *out)
{
	static const char zeros[2 * TAR_BLOCK];
	buffer_append(out, zeros, sizeof(zeros));
}
