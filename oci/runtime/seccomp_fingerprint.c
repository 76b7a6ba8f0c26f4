// SPDX-License-Identifier: Apache-2.0
#include "oci/runtime/seccomp_ready.h"
#include "oci/runtime/spec.h"

// FNV-1a.
#define FNV_BASIS UINT64_C(0xcbf29ce484222325)
#define FNV_PRIME UINT64_C(0x100000001b3)

static void add_byte(uint64_t *hash, unsigned char c)
{
	*hash = (*hash ^ c) * FNV_PRIME;
}

static void add_number(uint64_t *hash, uint64_t number)
{
	for (int i = 0; i < 8; i++)
		add_byte(hash, (unsigned char)(number >> (8 * i)));
}

// With its end, so that "ab", "c" is not "a", "bc"; NULL is not "".
static void add_text(uint64_t *hash, const char *text)
{
	if (!text) {
		add_byte(hash, 0xff); // in no UTF-8
		return;
	}
	for (; *text; text++)
		add_byte(hash, (unsigned char)*text);
	add_byte(hash, 0);
}

static void add_texts(uint64_t *hash, const struct json_strings *texts)
{
	add_number(hash, texts->count);
	for (size_t i = 0; i < texts->count; i++)
		add_text(hash, texts->items[i]);
}

static void add_rule(uint64_t *hash, const struct runtime_seccomp_rule *rule)
{
	add_texts(hash, &rule->names);
	add_text(hash, rule->action);
	add_number(hash, rule->has_errno ? rule->errno_value : UINT64_MAX);
	add_number(hash, rule->argument_count);
	for (size_t i = 0; i < rule->argument_count; i++) {
		const struct runtime_seccomp_argument *a = &rule->arguments[i];
		add_number(hash, a->index);
		add_number(hash, a->value);
		add_number(hash, a->value_two);
		add_text(hash, a->op);
	}
}

uint64_t seccomp_fingerprint(const struct runtime_seccomp *profile)
{
	uint64_t hash = FNV_BASIS;
	add_text(&hash, profile->default_action);
	add_number(&hash, profile->has_default_errno ? profile->default_errno : UINT64_MAX);
	add_texts(&hash, &profile->architectures);
	add_texts(&hash, &profile->flags);
	add_number(&hash, profile->rule_count);
	for (size_t i = 0; i < profile->rule_count; i++)
		add_rule(&hash, &profile->rules[i]);
	return hash;
}
