// SPDX-License-Identifier: Apache-2.0
#include "controller/state/tokens.h"

#include "base/text.h"
#include "controller/state/token.h"

enum { ID, ROLE, OWNER, NODE, CREATED, EXPIRES, LAST_USED, REVOKED };

static int check_owner(const char *name, struct error *err)
{
	static const char allowed[] =
		"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._@-";
	size_t size = strlen(name);
	if (size == 0 || size > 128 || strspn(name, allowed) != size)
		return error_set(
			err, ERROR_INVALID, "user: must have 1 to 128 letters, digits and . _ @ -");
	return 0;
}

int token_options_check(struct token_options *o, const char *role, struct error *err)
{
	if (role_find(role, &o->role) < 0 || !(o->role & (ROLE_ADMIN | ROLE_USER | ROLE_JOIN)))
		return error_set(err, ERROR_INVALID, "role: must be admin, user or join");
	if (o->role == ROLE_USER && (!o->owner || !*o->owner))
		return error_set(err, ERROR_INVALID, "user: is needed for the role user");
	if (!o->owner)
		o->owner = o->role == ROLE_ADMIN ? "admin" : "";
	return *o->owner ? check_owner(o->owner, err) : 0;
}

int tokens_list(
	struct database_tx *tx, struct arena *a, struct database_rows *rows, struct error *err)
{
	return database_run(tx, a,
		       "SELECT id, role, owner, node, created, expires, last_used, revoked FROM "
		       "token"
		       " WHERE run IS NULL ORDER BY created, id LIMIT 10000",
		       database_no_values, rows, err) < 0
		       ? -1
		       : 0;
}

static void write_time(struct json_writer *w, const char *key, int64_t ms)
{
	json_write_key(w, key);
	if (ms)
		json_write_int(w, ms);
	else
		json_write_null(w);
}

void tokens_write(struct json_writer *w, const struct database_rows *rows)
{
	json_write_open_array(w);
	for (size_t i = 0; i < rows->count; i++) {
		const char *owner = database_get_text(rows, i, OWNER);
		json_write_open_object(w);
		json_write_member(w, "id", database_get_text(rows, i, ID));
		json_write_member(w, "role", database_get_text(rows, i, ROLE));
		json_write_member(w, "user", *owner ? owner : NULL);
		json_write_member(w, "node", database_get_text(rows, i, NODE));
		write_time(w, "created", database_get_integer(rows, i, CREATED, 0));
		write_time(w, "expires", database_get_integer(rows, i, EXPIRES, 0));
		write_time(w, "last_used", database_get_integer(rows, i, LAST_USED, 0));
		write_time(w, "revoked", database_get_integer(rows, i, REVOKED, 0));
		json_write_close_object(w);
	}
	json_write_close_array(w);
}

void token_write(struct json_writer *w, const struct token_options *o, const char *text)
{
	char id[TOKEN_ID_SIZE] = "";
	token_text_parse(text, id);
	json_write_open_object(w);
	json_write_member(w, "token", text);
	json_write_member(w, "id", id);
	json_write_member(w, "role", role_name(o->role));
	json_write_member(w, "user", *o->owner ? o->owner : NULL);
	write_time(w, "expires", o->expires);
	json_write_close_object(w);
}
