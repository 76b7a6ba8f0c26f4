// SPDX-License-Identifier: Apache-2.0
#include "oci/registry/docker_config.h"

#include "base/arena.h"
#include "base/file.h"
#include "base/json.h"
#include "base/process.h"
#include "base/text.h"
#include "oci/registry/base64.h"

#include <pwd.h>
#include <unistd.h>

enum {
	CONFIG_BYTES_MAX = 1024 * 1024,
	HELPER_OUTPUT_MAX = 256 * 1024,
	HELPER_TIMEOUT_MS = 30 * 1000,
};

// What Docker has called its own registry since version 1; helpers and files know it by this name.
static const char docker_hub_server[] = "https://index.docker.io/v1/";

void registry_credentials_release(struct registry_credentials *c)
{
	free(c->username);
	free(c->password);
	free(c->identity_token);
	free(c->note);
	*c = (struct registry_credentials){0};
}

static char *default_folder(void)
{
	const char *folder = getenv("DOCKER_CONFIG");
	if (folder && *folder)
		return xstrdup(folder);
	const char *home = getenv("HOME");
	if (!home || !*home) {
		const struct passwd *user = getpwuid(getuid());
		home = user && user->pw_dir ? user->pw_dir : "/";
	}
	return path_join(home, ".docker");
}

// Keys were once URLs: "https://host/v1/" and "host" are the same entry.
static bool key_matches(const char *key, const char *domain)
{
	if (starts_with(key, "https://"))
		key += 8;
	else if (starts_with(key, "http://"))
		key += 7;
	size_t n = strcspn(key, "/");
	if (streq(domain, "docker.io") &&
		((n == 15 && memcmp(key, "index.docker.io", n) == 0) ||
			(n == 20 && memcmp(key, "registry-1.docker.io", n) == 0)))
		return true;
	return n == strlen(domain) && memcmp(key, domain, n) == 0;
}

static const struct json *find_entry(const struct json *object, const char *domain)
{
	if (!object || object->type != JSON_OBJECT)
		return NULL;
	json_object_each (member, object)
		if (key_matches(member->key, domain))
			return &member->value;
	return NULL;
}

static char *copy_text(const char *s)
{
	return s && *s ? xstrdup(s) : NULL;
}

// "auth" is base64 of user:password.
static int decode_auth(const char *auth, struct registry_credentials *c)
{
	cleanup_buffer struct buffer plain = {0};
	if (!base64_decode(auth, &plain) || plain.size == 0 || memchr(plain.data, '\0', plain.size))
		return -1;
	char *colon = strchr(plain.data, ':');
	if (!colon || colon == plain.data)
		return -1;
	c->username = xstrndup(plain.data, (size_t)(colon - plain.data));
	c->password = xstrdup(colon + 1);
	return 0;
}

static int use_entry(const struct json *entry, const char *file, const char *domain,
	struct registry_credentials *c, struct error *err)
{
	const char *auth = json_get_string(entry, "auth");
	c->identity_token = copy_text(json_get_string(entry, "identitytoken"));
	if (auth && *auth) {
		if (decode_auth(auth, c) < 0)
			return error_set(err, ERROR_INVALID,
				"%s: the \"auth\" of %s is not base64 of user:password; run docker "
				"login %s again",
				file, domain, domain);
		return 0;
	}
	c->username = copy_text(json_get_string(entry, "username"));
	c->password = copy_text(json_get_string(entry, "password"));
	return 0;
}

static bool helper_name_valid(const char *name)
{
	size_t n =
		strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.");
	return n > 0 && n < 100 && name[n] == '\0';
}

static int use_answer(const char *program, const struct buffer *output,
	struct registry_credentials *c, struct error *err)
{
	cleanup_arena struct arena arena = {0};
	const struct json *answer = json_parse(&arena, output->data ? output->data : "",
		output->size, program, &json_limits_default, err);
	if (!answer)
		return -1;
	const char *username = json_get_string(answer, "Username");
	const char *secret = json_get_string(answer, "Secret");
	if (!username || !secret)
		return error_set(
			err, ERROR_INVALID, "%s: its answer has no Username and Secret", program);
	if (streq(username, "<token>")) {
		c->identity_token = xstrdup(secret);
		return 0;
	}
	c->username = xstrdup(username);
	c->password = xstrdup(secret);
	return 0;
}

// True if the helper knew the host. Why it did not otherwise is left in c->note, save where it
// simply has nothing.
static bool ask_helper(const char *name, const char *domain, struct registry_credentials *c)
{
	if (!helper_name_valid(name)) {
		c->note = xstrdup("the credential helper's name is no file name");
		return false;
	}
	cleanup_free char *program = xasprintf("docker-credential-%s", name);
	const char *const argv[] = {program, "get", NULL};
	const char *server = streq(domain, "docker.io") ? docker_hub_server : domain;
	cleanup_buffer struct buffer output = {0};
	struct error err = {0};
	if (process_run(argv, server, &output, HELPER_OUTPUT_MAX, HELPER_TIMEOUT_MS, &err) == 0 &&
		use_answer(program, &output, c, &err) == 0)
		return true;
	c->note = xstrdup(err.text);
	return false;
}

static int lookup(const struct json *root, const char *file, const char *domain,
	struct registry_credentials *c, struct error *err)
{
	const struct json *helper = find_entry(json_get(root, "credHelpers"), domain);
	const char *name = helper && helper->type == JSON_STRING ? helper->string : NULL;
	if (!name)
		name = json_get_string(root, "credsStore");
	if (name && *name && ask_helper(name, domain, c))
		return 0;
	const struct json *entry = find_entry(json_get(root, "auths"), domain);
	return entry ? use_entry(entry, file, domain, c, err) : 0;
}

int docker_config_lookup(
	const char *folder, const char *domain, struct registry_credentials *c, struct error *err)
{
	cleanup_free char *fallback = folder ? NULL : default_folder();
	cleanup_free char *file = path_join(folder ? folder : fallback, "config.json");
	cleanup_buffer struct buffer text = {0};
	struct error reading = {0};
	*c = (struct registry_credentials){0};
	if (file_read(AT_FDCWD, file, CONFIG_BYTES_MAX, &text, &reading) < 0) {
		if (reading.kind == ERROR_NOT_FOUND)
			return 0;
		*err = reading;
		return -1;
	}
	cleanup_arena struct arena arena = {0};
	const struct json *root = json_parse(
		&arena, text.data ? text.data : "", text.size, file, &json_limits_default, err);
	if (!root)
		return -1;
	struct registry_credentials found = {0};
	if (lookup(root, file, domain, &found, err) < 0) {
		registry_credentials_release(&found);
		return -1;
	}
	*c = found;
	return 0;
}
