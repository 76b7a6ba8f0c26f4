// SPDX-License-Identifier: Apache-2.0
#include "controller/files/s3_credentials.h"

#include "base/buffer.h"
#include "base/file.h"
#include "base/text.h"

#include <ctype.h>
#include <pthread.h>
#include <string.h>
#include <sys/stat.h>

enum { FILE_BYTES_MAX = 64 * 1024, VALUE_MAX = 8 * 1024 };

struct s3_credentials {
	char *file; // NULL: of the environment, which stays
	pthread_mutex_t lock;
	struct s3_key key;
	struct timespec changed;
	ino_t inode;
};

struct found {
	char *id, *secret, *token;
};

static void wipe(char **text)
{
	if (*text)
		explicit_bzero(*text, strlen(*text));
	free(*text);
	*text = NULL;
}

void s3_key_release(struct s3_key *key)
{
	wipe(&key->user);
	wipe(&key->token);
}

static bool is_printable(const char *text)
{
	for (; *text; text++)
		if (!isgraph((unsigned char)*text))
			return false;
	return true;
}

// Takes over what was found. `where` is for the error.
static int make_key(struct found *f, const char *where, struct s3_key *key, struct error *err)
{
	int rc = -1;
	bool token = f->token && *f->token;
	if (!f->id || !f->secret || !*f->id || !*f->secret)
		error_set(err, ERROR_NOT_FOUND, "%s: there is no key for the files' store", where);
	else if (strchr(f->id, ':') || !is_printable(f->id) || !is_printable(f->secret) ||
		 (token && !is_printable(f->token)))
		error_set(err, ERROR_INVALID, "%s: the key has characters that none has", where);
	else
		rc = 0;
	if (rc == 0)
		*key = (struct s3_key){.user = xasprintf("%s:%s", f->id, f->secret),
			.token = token ? xstrdup(f->token) : NULL};
	wipe(&f->id);
	wipe(&f->secret);
	wipe(&f->token);
	return rc;
}

static int of_environment(struct s3_key *key, struct error *err)
{
	const char *id = getenv("AWS_ACCESS_KEY_ID"), *secret = getenv("AWS_SECRET_ACCESS_KEY"),
		   *token = getenv("AWS_SESSION_TOKEN");
	struct found f = {.id = id ? xstrdup(id) : NULL,
		.secret = secret ? xstrdup(secret) : NULL,
		.token = token ? xstrdup(token) : NULL};
	return make_key(
		&f, "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or credentials=FILE", key, err);
}

static char *trim(char *text)
{
	text += strspn(text, " \t\r");
	size_t size = strlen(text);
	while (size && strchr(" \t\r", text[size - 1]))
		text[--size] = '\0';
	return text;
}

static void read_line(struct found *f, char *line)
{
	char *equals = strchr(line, '=');
	if (!equals)
		return;
	*equals = '\0';
	const char *name = trim(line), *value = trim(equals + 1);
	char **place = streq(name, "aws_access_key_id")	      ? &f->id
		       : streq(name, "aws_secret_access_key") ? &f->secret
		       : streq(name, "aws_session_token")     ? &f->token
							      : NULL;
	if (!place || strlen(value) > VALUE_MAX)
		return;
	wipe(place);
	*place = xstrdup(value);
}

static int of_file(const char *path, struct s3_key *key, struct error *err)
{
	cleanup_buffer struct buffer b = {0};
	struct found f = {0};
	bool ours = true; // lines before any section, and those of [default]
	if (file_read(AT_FDCWD, path, FILE_BYTES_MAX, &b, err) < 0)
		return -1;
	buffer_putc(&b, '\0');
	char *rest = b.data, *line;
	while ((line = strsep(&rest, "\n"))) {
		line = trim(line);
		if (*line == '[')
			ours = streq(line, "[default]");
		else if (ours && *line != '#' && *line != ';')
			read_line(&f, line);
	}
	if (b.data)
		explicit_bzero(b.data, b.size);
	return make_key(&f, path, key, err);
}

static bool has_changed(struct s3_credentials *c)
{
	struct stat st;
	if (!c->file || stat(c->file, &st) < 0)
		return false;
	if (st.st_ino == c->inode && st.st_ctim.tv_sec == c->changed.tv_sec &&
		st.st_ctim.tv_nsec == c->changed.tv_nsec)
		return false;
	c->inode = st.st_ino;
	c->changed = st.st_ctim;
	return true;
}

struct s3_credentials *s3_credentials_open(const char *file, struct error *err)
{
	struct s3_credentials *c = xcalloc(1, sizeof(*c));
	pthread_mutex_init(&c->lock, NULL);
	c->file = file ? xstrdup(file) : NULL;
	has_changed(c);
	if ((file ? of_file(file, &c->key, err) : of_environment(&c->key, err)) == 0)
		return c;
	s3_credentials_free(c);
	return NULL;
}

void s3_credentials_free(struct s3_credentials *c)
{
	if (!c)
		return;
	s3_key_release(&c->key);
	pthread_mutex_destroy(&c->lock);
	free(c->file);
	free(c);
}

void s3_credentials_get(struct s3_credentials *c, struct s3_key *key)
{
	struct error ignored;
	struct s3_key now;
	pthread_mutex_lock(&c->lock);
	if (has_changed(c) && of_file(c->file, &now, &ignored) == 0) {
		s3_key_release(&c->key);
		c->key = now;
	}
	*key = (struct s3_key){
		.user = xstrdup(c->key.user), .token = c->key.token ? xstrdup(c->key.token) : NULL};
	pthread_mutex_unlock(&c->lock);
}
