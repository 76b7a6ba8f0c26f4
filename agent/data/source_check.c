// SPDX-License-Identifier: Apache-2.0
//
// Which keys and modes a kind of input has, and what their values may be.
#include "agent/data/source_internal.h"
#include "base/buffer.h"
#include "base/text.h"
#include "oci/image/reference.h"

#include <ctype.h>

enum { NAME_MAX_BYTES = 1024 };

#define K(kind) (1U << DATA_##kind)
#define M(mode) (1U << DATA_##mode)

static const unsigned modes_of[DATA_KINDS] = {
	[DATA_BIND] = M(RO_MOUNT) | M(RW_MOUNT) | M(DOWNLOAD),
	[DATA_HTTP] = M(DOWNLOAD) | M(DIRECT),
	[DATA_OCI] = M(RO_MOUNT) | M(DOWNLOAD) | M(DIRECT),
	[DATA_FUSE] = M(RO_MOUNT) | M(RW_MOUNT) | M(DOWNLOAD) | M(DIRECT),
	[DATA_NFS] = M(RO_MOUNT) | M(RW_MOUNT) | M(DOWNLOAD),
	[DATA_CIFS] = M(RO_MOUNT) | M(RW_MOUNT) | M(DOWNLOAD),
	[DATA_FSIMAGE] = M(RO_MOUNT),
	[DATA_INLINE] = M(RO_MOUNT) | M(DOWNLOAD),
};

// Keys that not all kinds and modes have.
static const struct {
	const char *key;
	unsigned kinds, modes;
} belongs[] = {
	{"path", K(BIND) | K(FSIMAGE), ~0U},
	{"url", K(HTTP) | K(FSIMAGE), ~0U},
	{"sha256", K(HTTP) | K(FSIMAGE), ~0U},
	{"size", K(HTTP) | K(FSIMAGE), ~0U},
	{"files", K(HTTP), ~0U},
	{"reference", K(OCI), ~0U},
	{"profile", K(FUSE), ~0U},
	{"remote", K(FUSE) | K(NFS) | K(CIFS), ~0U},
	{"options", K(FUSE) | K(NFS) | K(CIFS), ~0U},
	{"variables", K(FUSE), ~0U},
	{"command", K(FUSE), ~0U},
	{"user", K(CIFS), ~0U},
	{"password_secret", K(CIFS), ~0U},
	{"content", K(INLINE), ~0U},
	{"unpack", ~(K(INLINE) | K(FSIMAGE)), M(DOWNLOAD)},
	{"cache", ~(K(BIND) | K(INLINE)), ~M(DIRECT)},
	{"writable", ~0U, M(DOWNLOAD)},
	{"max_bytes", ~0U, ~M(DIRECT)},
	{"target", ~0U, ~M(DIRECT)},
	{"no_exec", ~0U, ~M(DIRECT)},
};

static bool is_given(const struct json *value, const char *key)
{
	const struct json *member = json_get(value, key);
	return member && member->type != JSON_NULL;
}

// "inputs[0].remote: …", at the place of the key's value.
static int fail_at(struct json_decoder *d, const struct json *value, const char *key,
	struct error *err, const char *text)
{
	size_t entered = json_decode_enter_key(d, key);
	json_decode_fail(d, json_get(value, key), err, ERROR_INVALID, "%s", text);
	json_decode_leave(d, entered);
	return -1;
}

// ---- names and addresses

bool source_name_ok(const char *name)
{
	if (!*name || strlen(name) > NAME_MAX_BYTES)
		return false;
	for (const char *p = name;;) {
		size_t n = strcspn(p, "/");
		bool dots = (n == 1 && p[0] == '.') || (n == 2 && p[0] == '.' && p[1] == '.');
		if (n == 0 || n > 255 || dots)
			return false;
		if (!p[n])
			return true;
		p += n + 1;
	}
}

static int hex_digit(char c)
{
	const char *digits = "0123456789abcdef";
	const char *at = c ? strchr(digits, tolower((unsigned char)c)) : NULL;
	return at ? (int)(at - digits) : -1;
}

const char *source_url_name(struct arena *a, const char *url)
{
	size_t end = strcspn(url, "?#"), begin = end;
	const char *path = strstr(url, "://");
	path = path ? strchr(path + 3, '/') : NULL;
	if (!path || path >= url + end)
		return NULL;
	while (url[begin - 1] != '/')
		begin--;
	char *name = arena_strndup(a, url + begin, end - begin), *out = name;
	for (const char *p = name; *p; p++) {
		int high = *p == '%' ? hex_digit(p[1]) : -1, low = high < 0 ? -1 : hex_digit(p[2]);
		*out = low < 0 ? *p : (char)(high * 16 + low);
		if ((unsigned char)*out < ' ' || *out == 127 || *out == '/')
			return NULL;
		p += low < 0 ? 0 : 2;
		out++;
	}
	*out = '\0';
	return source_name_ok(name) ? name : NULL;
}

static bool host_ok(const char *host, size_t n)
{
	size_t name = n;
	if (n && host[0] == '[') { // [::1]:8080
		const char *end = memchr(host, ']', n);
		if (!end || end == host + 1)
			return false;
		name = (size_t)(end - host) + 1;
		if (strspn(host + 1, "0123456789abcdefABCDEF:.") != name - 2)
			return false;
	} else {
		const char *colon = memchr(host, ':', n);
		name = colon ? (size_t)(colon - host) : n;
		for (size_t i = 0; i < name; i++)
			if (!isalnum((unsigned char)host[i]) && !strchr("-._", host[i]))
				return false;
	}
	uint64_t port = 1;
	if (name < n && (host[name] != ':' || !parse_u64_n(host + name + 1, n - name - 1, &port)))
		return false;
	return name > 0 && port >= 1 && port <= 65535;
}

const char *data_url_complaint(const char *url)
{
	bool plain = strncasecmp(url, "http://", 7) == 0;
	if (!plain && strncasecmp(url, "https://", 8) != 0)
		return "must begin with http:// or https://";
	if (strlen(url) > DATA_URL_MAX)
		return "is longer than an address may be";
	for (const char *p = url; *p; p++)
		if ((unsigned char)*p <= ' ' || *p == 127 || *p == '\\')
			return "must have neither spaces, backslashes nor control characters; "
			       "write "
			       "%20 for a space";
	const char *host = url + (plain ? 7 : 8);
	size_t n = strcspn(host, "/?#");
	if (memchr(host, '@', n))
		return "must not have a user or password in it: the job file is kept; credentials "
		       "belong into the node's netrc";
	return host_ok(host, n) ? NULL : "has no valid host";
}

// ---- kinds

static int check_keys(struct json_decoder *d, const struct json *value, const struct data_source *s,
	struct error *err)
{
	for (size_t i = 0; i < array_size(belongs); i++) {
		const char *key = belongs[i].key;
		if (!is_given(value, key))
			continue;
		if (!(belongs[i].kinds & (1U << s->kind)))
			return fail_at(d, value, key, err,
				arena_printf(d->arena, "does not belong to kind %s",
					data_kind_name(s->kind)));
		if (!(belongs[i].modes & (1U << s->mode)))
			return fail_at(d, value, key, err,
				arena_printf(d->arena, "does not belong to mode %s",
					data_mode_name(s->mode)));
	}
	return 0;
}

static int check_mode(struct json_decoder *d, const struct json *value, struct source_entry *entry,
	struct error *err)
{
	struct data_source *s = &entry->s;
	bool older = is_given(value, "read_only");
	const char *key = older ? "read_only" : "mode";
	if (older && is_given(value, "mode"))
		return fail_at(d, value, key, err, "is the older word for mode; leave it out");
	if (older || is_given(value, "mode"))
		s->mode = older ? entry->older_mode : entry->mode;
	else
		s->mode = s->kind == DATA_HTTP ? DATA_DOWNLOAD : DATA_RO_MOUNT;
	if (modes_of[s->kind] & (1U << s->mode))
		return 0;
	cleanup_buffer struct buffer all = {0};
	for (unsigned m = 0; m < DATA_MODES; m++)
		if (modes_of[s->kind] & (1U << m))
			buffer_printf(&all, "%s%s", all.size ? ", " : "",
				data_mode_name((enum data_mode)m));
	return fail_at(d, value, key, err,
		arena_printf(d->arena, "kind %s has no mode %s, only: %s", data_kind_name(s->kind),
			data_mode_name(s->mode), all.data));
}

static int compare_names(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static const char *with_slashes(struct arena *a, const char *key)
{
	char *name = arena_strdup(a, key);
	for (char *p = name; *p; p++)
		*p = *p == '\1' ? '/' : *p;
	return name;
}

// No file may take the place of another, nor of a folder that another needs.
static int check_names(struct json_decoder *d, const struct json *value,
	const struct data_source *s, struct error *err)
{
	const char **names = arena_array(d->arena, const char *, s->file_count * 2);
	for (size_t i = 0; i < s->file_count; i++) {
		const char *name = s->files[i].name ? s->files[i].name
						    : source_url_name(d->arena, s->files[i].url);
		if (!name)
			return fail_at(d, value, "files", err,
				arena_printf(d->arena,
					"the address of files[%zu] ends in no name; write name:",
					i));
		// As the lowest character, so that "a" and "a/b" are neighbours though there is
		// "a-b".
		char *key = arena_strdup(d->arena, name);
		for (char *p = key; *p; p++)
			*p = *p == '/' ? '\1' : *p;
		names[i] = key;
	}
	qsort(names, s->file_count, sizeof(*names), compare_names);
	for (size_t i = 1; i < s->file_count; i++) {
		size_t n = strlen(names[i - 1]);
		if (starts_with(names[i], names[i - 1]) && (!names[i][n] || names[i][n] == '\1'))
			return fail_at(d, value, "files", err,
				arena_printf(d->arena, "two files would be at %s; give one a name:",
					with_slashes(d->arena, names[i - 1])));
	}
	return 0;
}

static int check_http(struct json_decoder *d, const struct json *value, struct source_entry *entry,
	struct error *err)
{
	struct data_source *s = &entry->s;
	if (s->files && entry->url)
		return fail_at(d, value, "url", err, "there are files: already");
	if (!s->files && !entry->url)
		return json_decode_fail(
			d, value, err, ERROR_INVALID, "kind http needs url: or files:");
	if (!s->files) {
		s->files = arena_new(d->arena, struct data_file);
		s->files[0] = (struct data_file){
			.url = entry->url, .sha256 = entry->sha256, .size = entry->size};
		s->file_count = 1;
		if (s->mode != DATA_DIRECT && !source_url_name(d->arena, entry->url))
			return fail_at(d, value, "url", err,
				"ends in no name for the file; write files: [{url:, name:}]");
	} else if (entry->sha256 || entry->size) {
		return fail_at(d, value, entry->sha256 ? "sha256" : "size", err,
			"belongs beside the url: in files:");
	}
	if (s->mode == DATA_DIRECT)
		return s->file_count == 1 ? 0
					  : fail_at(d, value, "files", err,
						    "mode direct hands on one address only");
	return check_names(d, value, s, err);
}

static int check_fsimage(struct json_decoder *d, const struct json *value,
	struct source_entry *entry, struct error *err)
{
	struct data_source *s = &entry->s;
	if (!s->path == !entry->url)
		return json_decode_fail(
			d, value, err, ERROR_INVALID, "kind fsimage needs one of path: and url:");
	if (s->path && (entry->sha256 || entry->size))
		return fail_at(d, value, entry->sha256 ? "sha256" : "size", err,
			"belongs to url:, not to path:");
	if (s->path)
		return 0;
	if (!entry->sha256)
		return json_decode_fail(d, value, err, ERROR_INVALID,
			"a file-system image from elsewhere needs its sha256:, since the kernel "
			"mounts it");
	s->files = arena_new(d->arena, struct data_file);
	s->files[0] =
		(struct data_file){.url = entry->url, .sha256 = entry->sha256, .size = entry->size};
	s->file_count = 1;
	return 0;
}

static int check_oci(struct json_decoder *d, const struct json *value, const struct data_source *s,
	struct error *err)
{
	struct oci_reference reference;
	struct error reason = {0};
	if (!s->reference)
		return json_decode_fail(d, value, err, ERROR_INVALID, "kind oci needs reference:");
	return oci_reference_parse(s->reference, &reference, &reason) < 0
		       ? fail_at(d, value, "reference", err, reason.text)
		       : 0;
}

static bool has_place(const struct json_strings *command)
{
	for (size_t i = 0; i < command->count; i++)
		if (strstr(command->items[i], "{fd}") || strstr(command->items[i], "{mountpoint}"))
			return true;
	return false;
}

static int check_fuse(struct json_decoder *d, const struct json *value, const struct data_source *s,
	struct error *err)
{
	if (!s->profile)
		return json_decode_fail(d, value, err, ERROR_INVALID, "kind fuse needs profile:");
	bool custom = streq(s->profile, "custom");
	if (!custom && is_given(value, "command"))
		return fail_at(d, value, "command", err, "belongs to profile custom only");
	if (custom && !has_place(&s->command))
		return json_decode_fail(d, value, err, ERROR_INVALID,
			"profile custom needs a command: with {mountpoint} or {fd} in it");
	if (!custom && !s->remote)
		return json_decode_fail(
			d, value, err, ERROR_INVALID, "profile %s needs remote:", s->profile);
	if (s->remote && *s->remote == '-')
		return fail_at(d, value, "remote", err, "must not begin with '-'");
	if (s->remote && streq(s->profile, "rclone") && !strchr(s->remote, ':'))
		return fail_at(d, value, "remote", err, "must be of the form remote:path");
	if (s->mode == DATA_DIRECT && !s->remote)
		return json_decode_fail(
			d, value, err, ERROR_INVALID, "mode direct needs remote: to hand on");
	for (size_t i = 0; i < s->options.count; i++) {
		const char *key = s->options.items[i].key;
		if (*key == '-' || strpbrk(key, " \t/"))
			return fail_at(d, value, "options", err,
				arena_printf(d->arena,
					"\"%s\": write the option's name without \"--\"", key));
	}
	return 0;
}

// The options of a mount are one text with commas, in which a value must not begin an option of its
// own; and some are ours to say.
static int check_mount_options(struct json_decoder *d, const struct json *value,
	const struct data_source *s, struct error *err)
{
	static const char *const ours[] = {"addr", "clientaddr", "ip", "unc", "source",
		"credentials", "cred", "user", "username", "pass", "password", "password2", "suid",
		"dev", "rw", "ro", "remount", "bind"};
	for (size_t i = 0; i < s->options.count; i++) {
		const struct json_pair *o = &s->options.items[i];
		if (strchr(o->key, ',') || strchr(o->value, ','))
			return fail_at(d, value, "options", err,
				arena_printf(d->arena, "%s: must not have a comma", o->key));
		for (size_t k = 0; k < array_size(ours); k++)
			if (strcasecmp(o->key, ours[k]) == 0)
				return fail_at(d, value, "options", err,
					arena_printf(d->arena,
						"%s is set by the node: mode:, user: and "
						"password_secret: are the keys for that",
						o->key));
	}
	return 0;
}

static int check_remote(struct json_decoder *d, const struct json *value,
	const struct data_source *s, struct error *err)
{
	bool nfs = s->kind == DATA_NFS;
	if (!s->remote)
		return json_decode_fail(d, value, err, ERROR_INVALID,
			"kind %s needs remote:", data_kind_name(s->kind));
	const char *host = s->remote + (nfs ? 0 : 2);
	bool ok = nfs || starts_with(s->remote, "//");
	if (ok) {
		const char *end = strstr(host, nfs ? ":/" : "/");
		ok = end && host_ok(host, (size_t)(end - host)) &&
		     (nfs || !memchr(host, ':', (size_t)(end - host)));
		ok = ok && (nfs || (end[1] && end[1] != '/'));
	}
	if (!ok || strpbrk(s->remote, ",\\ ") || strstr(s->remote, "/../") ||
		ends_with(s->remote, "/.."))
		return fail_at(d, value, "remote", err,
			nfs ? "must be of the form server:/export, without commas, spaces and "
			      "\"..\""
			    : "must be of the form //server/share/path, without commas, spaces, "
			      "backslashes and \"..\"");
	if (s->user && strchr(s->user, ','))
		return fail_at(d, value, "user", err, "must not have a comma");
	if (s->password_secret && !s->user)
		return fail_at(d, value, "password_secret", err, "needs a user: beside it");
	return check_mount_options(d, value, s, err);
}

int source_check(struct json_decoder *d, const struct json *value, struct source_entry *entry,
	struct error *err)
{
	const struct data_source *s = &entry->s;
	if (check_mode(d, value, entry, err) < 0 || check_keys(d, value, s, err) < 0)
		return -1;
	switch (s->kind) {
	case DATA_HTTP:
		return check_http(d, value, entry, err);
	case DATA_OCI:
		return check_oci(d, value, s, err);
	case DATA_FUSE:
		return check_fuse(d, value, s, err);
	case DATA_NFS:
	case DATA_CIFS:
		return check_remote(d, value, s, err);
	case DATA_FSIMAGE:
		return check_fsimage(d, value, entry, err);
	case DATA_BIND:
	case DATA_INLINE:
	case DATA_KINDS:
		break;
	}
	bool bind = s->kind == DATA_BIND;
	if (bind ? !s->path : !s->content)
		return json_decode_fail(d, value, err, ERROR_INVALID,
			"kind %s needs %s:", data_kind_name(s->kind), bind ? "path" : "content");
	return 0;
}
