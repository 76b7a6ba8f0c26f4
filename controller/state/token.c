// SPDX-License-Identifier: Apache-2.0
#include "controller/state/token.h"

#include "base/text.h"
#include "base/time.h"

#include <sys/random.h>

enum { PREFIX = 6, ID = TOKEN_ID_SIZE - 1, SECRET = 43, LENGTH = PREFIX + ID + 1 + SECRET };
static const char digits[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

static const struct {
	const char *name;
	enum role role;
	char letter;
} roles[] = {
	{"admin", ROLE_ADMIN, 'a'},
	{"user", ROLE_USER, 'u'},
	{"join", ROLE_JOIN, 'j'},
	{"node", ROLE_NODE, 'n'},
	{"run", ROLE_RUN, 'r'},
	{"metrics", ROLE_METRICS, 'm'},
	{"none", ROLE_NONE, '-'},
};

const char *role_name(enum role role)
{
	for (size_t i = 0; i < array_size(roles); i++)
		if (roles[i].role == role)
			return roles[i].name;
	abort();
}

int role_find(const char *name, enum role *role)
{
	for (size_t i = 0; i < array_size(roles); i++) {
		if (streq(roles[i].name, name) && roles[i].role != ROLE_NONE) {
			*role = roles[i].role;
			return 0;
		}
	}
	return -1;
}

static char role_letter(enum role role)
{
	for (size_t i = 0; i < array_size(roles); i++)
		if (roles[i].role == role)
			return roles[i].letter;
	abort();
}

// Bytes over the last multiple of 62 are thrown away, else the first digits would come more often.
static void random_digits(char *out, size_t count)
{
	enum { FAIR = 256 / 62 * 62 };
	while (count) {
		uint8_t random[64];
		if (getrandom(random, sizeof(random), 0) != sizeof(random))
			abort(); // it cannot fail for so few bytes once the kernel has any
		for (size_t i = 0; i < sizeof(random) && count; i++) {
			if (random[i] < FAIR) {
				*out++ = digits[random[i] % 62];
				count--;
			}
		}
	}
}

void token_text_make(enum role role, char text[TOKEN_TEXT_SIZE])
{
	memcpy(text, "stk_", 4);
	text[4] = role_letter(role);
	text[5] = '_';
	random_digits(text + PREFIX, ID);
	text[PREFIX + ID] = '_';
	random_digits(text + PREFIX + ID + 1, SECRET);
	text[LENGTH] = '\0';
}

bool token_text_parse(const char *text, char id[TOKEN_ID_SIZE])
{
	if (strnlen(text, LENGTH + 1) != LENGTH || !starts_with(text, "stk_") || text[5] != '_' ||
		strspn(text + PREFIX, digits) != ID || text[PREFIX + ID] != '_' ||
		strspn(text + PREFIX + ID + 1, digits) != SECRET)
		return false;
	memcpy(id, text + PREFIX, ID);
	id[ID] = '\0';
	return true;
}

void token_text_hash(const char *text, char hex[SHA256_HEX_SIZE])
{
	uint8_t digest[SHA256_SIZE];
	sha256_of(text, strlen(text), digest);
	sha256_hex(digest, hex);
}

static struct database_value optional(int64_t v)
{
	return v ? database_integer(v) : (struct database_value){.type = DATABASE_NULL};
}

int token_make(struct database_tx *tx, const struct token_options *o, char text[TOKEN_TEXT_SIZE],
	struct error *err)
{
	cleanup_arena struct arena a = {0};
	char id[TOKEN_ID_SIZE], hash[SHA256_HEX_SIZE];
	token_text_make(o->role, text);
	token_text_parse(text, id);
	token_text_hash(text, hash);
	int64_t rc = database_run(tx, &a,
		"INSERT INTO token (id, role, owner, hash, node, run, attempt, created, expires)"
		" VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
		database_values(database_text(id), database_text(role_name(o->role)),
			database_text(o->owner ? o->owner : ""), database_text(hash),
			database_text(o->node), database_text(o->run), optional(o->attempt),
			database_integer(wall_ms()), optional(o->expires)),
		NULL, err);
	return rc < 0 ? -1 : 0;
}

int token_revoke(struct database_tx *tx, const char *id, struct error *err)
{
	cleanup_arena struct arena a = {0};
	int64_t rc = database_run(tx, &a,
		"UPDATE token SET revoked = ?2 WHERE id = ?1 AND revoked IS NULL",
		database_values(database_text(id), database_integer(wall_ms())), NULL, err);
	if (rc == 0)
		return error_set(err, ERROR_NOT_FOUND, "there is no token %s", id);
	return rc < 0 ? -1 : 0;
}
