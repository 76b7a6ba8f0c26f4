// SPDX-License-Identifier: Apache-2.0
//
// manifest.json at the destination, written last: what it names is there, durably.
#include "agent/data/outputs_sync.h"
#include "base/file.h"
#include "base/json_write.h"
#include "base/text.h"
#include "base/time.h"
#include "base/utf8.h"

#include <stdio.h>
#include <string.h>

enum { FLUSH_AT = 256 * 1024 };

struct manifest {
	struct outputs_sync *s;
	struct buffer b;
	int fd;
	bool first;
};

bool outputs_escape(const char *path, struct buffer *b)
{
	size_t n = strlen(path);
	if (utf8_valid(path, n) == n) {
		buffer_append(b, path, n);
		return false;
	}
	while (n) {
		size_t good = utf8_valid(path, n);
		for (size_t i = 0; i < good; i++)
			if (path[i] == '%')
				buffer_puts(b, "%25");
			else
				buffer_putc(b, path[i]);
		if (good < n)
			buffer_printf(b, "%%%02X", (unsigned char)path[good++]);
		path += good;
		n -= good;
	}
	return true;
}

static int flush(struct manifest *m, size_t least, struct error *err)
{
	if (m->b.size < least)
		return 0;
	int rc = write_all(m->fd, m->b.data, m->b.size, "manifest.json", err);
	buffer_clear(&m->b);
	return rc < 0 ? error_context(err, "destination %s", m->s->destination) : 0;
}

static void write_path(struct json_writer *w, const char *key, const char *path)
{
	cleanup_buffer struct buffer text = {0};
	bool escaped = outputs_escape(path, &text);
	json_write_member(w, key, text.data);
	if (escaped)
		json_write_member_bool(w, streq(key, "path") ? "escaped" : "target_escaped", true);
}

static int write_entry(struct manifest *m, const struct outputs_entry *e, struct error *err)
{
	cleanup_json_writer struct json_writer *w = json_writer_new(false);
	const struct outputs_content *c = &e->content;
	char text[SHA256_HEX_SIZE];
	json_write_open_object(w);
	write_path(w, "path", e->path);
	if (e->kind == OUTPUTS_LINK) {
		write_path(w, "target", c->link);
	} else {
		json_write_member_unsigned(w, "size", c->sent.size);
		snprintf(text, sizeof(text), "%04o", (c->sent.mode & 0755) | 0600);
		json_write_member(w, "mode", text);
		json_write_member(w, "mtime", format_time(c->sent.mtime_ns / 1000000, text));
		sha256_hex(c->digest, text);
		json_write_member(w, "sha256", c->flags & OUTPUTS_WHOLE ? text : NULL);
	}
	json_write_close_object(w);
	buffer_puts(&m->b, m->first ? "\n    " : ",\n    ");
	m->first = false;
	if (json_writer_finish(w, &m->b, err) < 0)
		return -1;
	return flush(m, FLUSH_AT, err);
}

static int by_path(const void *a, const void *b)
{
	return strcmp((*(struct outputs_entry *const *)a)->path,
		(*(struct outputs_entry *const *)b)->path);
}

static int write_list(struct manifest *m, const char *name, enum outputs_kind kind,
	struct outputs_entry *const *entries, size_t count, struct error *err)
{
	buffer_printf(&m->b, ",\n  \"%s\": [", name);
	m->first = true;
	for (size_t i = 0; i < count; i++)
		if (entries[i]->kind == kind && write_entry(m, entries[i], err) < 0)
			return -1;
	buffer_puts(&m->b, m->first ? "]" : "\n  ]");
	return 0;
}

static int write_head(struct manifest *m, struct error *err)
{
	const struct outputs_sync *s = m->s;
	cleanup_json_writer struct json_writer *w = json_writer_new(false);
	json_write_string(w, s->run_id);
	buffer_puts(&m->b, "{\n  \"version\": 1,\n  \"run\": ");
	if (json_writer_finish(w, &m->b, err) < 0)
		return -1;
	buffer_printf(&m->b, ",\n  \"complete\": %s,\n  \"skipped\": %llu",
		s->incomplete ? "false" : "true", (unsigned long long)s->skip_count);
	return 0;
}

static int write_all_lists(struct manifest *m, struct error *err)
{
	struct outputs_index *x = &m->s->index;
	cleanup_free struct outputs_entry **sorted = xcalloc(x->count + 1, sizeof(*sorted));
	size_t count = 0;
	for (size_t i = 0; i < x->count; i++)
		if (!x->entries[i]->dead && x->entries[i]->content.flags & OUTPUTS_PRESENT)
			sorted[count++] = x->entries[i];
	qsort(sorted, count, sizeof(struct outputs_entry *), by_path);
	if (write_head(m, err) < 0 ||
		write_list(m, "files", OUTPUTS_FILE, sorted, count, err) < 0 ||
		write_list(m, "links", OUTPUTS_LINK, sorted, count, err) < 0)
		return -1;
	buffer_puts(&m->b, "\n}\n");
	return flush(m, 1, err);
}

int outputs_manifest_write(struct outputs_sync *s, struct error *err)
{
	struct manifest m = {.s = s};
	cleanup_fd int fd = s->target->ops->manifest(s->target, err);
	if (fd < 0)
		return -1;
	m.fd = fd;
	int rc = write_all_lists(&m, err);
	buffer_release(&m.b);
	return rc < 0 ? -1 : s->target->ops->commit(s->target, fd, err);
}
