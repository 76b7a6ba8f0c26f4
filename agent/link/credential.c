// SPDX-License-Identifier: Apache-2.0
#include "agent/link/credential.h"

#include "agent/config/labels.h"
#include "agent/service/service.h"
#include "base/file.h"
#include "base/json_decode.h"
#include "base/text.h"

#include <stddef.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { CREDENTIAL_BYTES_MAX = 64 * 1024, RETRY_MS = 20 * 1000, NAME_MAX_BYTES = 128 };

static const char path[] = "node/credential.json";

static int keep(int state_fd, const struct credential *c, struct error *err)
{
	cleanup_buffer struct buffer b = {0};
	cleanup_json_writer struct json_writer *w = json_writer_new(true);
	json_write_open_object(w);
	json_write_member(w, "url", c->url);
	json_write_member(w, "node", c->node);
	json_write_member(w, "name", c->name);
	json_write_member(w, "token", c->token);
	if (c->ca)
		json_write_member(w, "ca", c->ca);
	if (c->labels.count)
		json_write_member_pairs(w, "labels", &c->labels);
	json_write_close_object(w);
	if (json_writer_finish(w, &b, err) < 0 || directory_make(state_fd, "node", 0700, err) < 0)
		return -1;
	return file_write_atomic(state_fd, path, b.data, b.size, 0600, err);
}

static struct json_writer *document(const struct join_request *q)
{
	struct json_writer *w = json_writer_new(false);
	json_write_open_object(w);
	json_write_member(w, "name", q->name);
	json_write_member(w, "version", STOKER_VERSION);
	if (q->replace)
		json_write_member_bool(w, "replace", true);
	json_write_close_object(w);
	return w;
}

int credential_join(int state_fd, const struct join_request *q, struct arena *a,
	struct credential *c, struct error *err)
{
	const struct service_settings settings = {.url = q->url,
		.token = q->token,
		.ca = q->ca,
		.cancel_fd = -1,
		.retry_ms = RETRY_MS};
	cleanup_service struct service *s = service_open(&settings, err);
	cleanup_json_writer struct json_writer *w = document(q);
	const struct json *answer = NULL;
	if (!*q->name || strlen(q->name) > NAME_MAX_BYTES)
		return error_set(
			err, ERROR_INVALID, "a node's name has 1 to %d characters", NAME_MAX_BYTES);
	if (!s || service_call(s, "POST", "/v1/nodes", w, a, &answer, err) < 0)
		return -1;
	struct credential made = {.url = arena_strdup(a, q->url),
		.node = json_get_string(answer, "node"),
		.name = arena_strdup(a, q->name),
		.token = json_get_string(answer, "token"),
		.ca = q->ca ? arena_strdup(a, q->ca) : NULL,
		.labels = q->labels};
	if (!made.node || !made.token)
		return error_set(
			err, ERROR_INVALID, "%s: the answer has no node and no token", q->url);
	if (keep(state_fd, &made, err) < 0)
		return -1;
	*c = made;
	return 0;
}

int credential_load(int state_fd, struct arena *a, struct credential *c, struct error *err)
{
	static const struct json_field fields[] = {
		{"url", json_decode_string, offsetof(struct credential, url), JSON_REQUIRED},
		{"node", json_decode_string, offsetof(struct credential, node), JSON_REQUIRED},
		{"name", json_decode_string, offsetof(struct credential, name), JSON_REQUIRED},
		{"token", json_decode_string, offsetof(struct credential, token), JSON_REQUIRED},
		{"ca", json_decode_string, offsetof(struct credential, ca), 0},
		{"labels", labels_decode, offsetof(struct credential, labels), 0},
		{0},
	};
	cleanup_buffer struct buffer b = {0};
	struct json_decoder d = {.arena = a, .document = path};
	struct credential read = {0};
	if (file_check_private(state_fd, path, AT_SYMLINK_NOFOLLOW, err) < 0)
		return -1;
	if (file_read(state_fd, path, CREDENTIAL_BYTES_MAX, &b, err) < 0)
		return err->kind == ERROR_NOT_FOUND
			       ? error_set(err, ERROR_NOT_FOUND,
					 "this node belongs to no controller; see: stoker join "
					 "--help")
			       : -1;
	const struct json *tree = json_parse(a, b.data, b.size, path, NULL, err);
	if (!tree || json_decode_object(&d, tree, fields, true, &read, err) < 0)
		return -1;
	*c = read;
	return 0;
}

int credential_leave(int state_fd, bool force, struct error *err)
{
	cleanup_arena struct arena a = {0};
	struct credential c;
	if (credential_load(state_fd, &a, &c, err) < 0)
		return -1;
	cleanup_service struct service *s = service_open(
		&(struct service_settings){
			.url = c.url, .token = c.token, .ca = c.ca, .cancel_fd = -1},
		err);
	int rc = s ? service_call(s, "DELETE", "/v1/node", NULL, &a, NULL, err) : -1;
	// One that does not know us any more has nothing to end.
	if (rc < 0 && !force && (!s || service_status(s) != 401))
		return error_context(err, "the credential stays (--force removes it)");
	error_clear(err);
	return unlinkat(state_fd, path, 0) < 0 ? error_set_errno(err, errno, "remove %s", path) : 0;
}
