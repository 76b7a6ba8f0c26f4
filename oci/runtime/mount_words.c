// SPDX-License-Identifier: Apache-2.0
#include "oci/runtime/mount_words.h"

#include "base/text.h"

#include <linux/mount.h>

// <sys/mount.h> and <linux/mount.h> cannot both be had in older headers; these are mount(2)'s.
enum {
	WORD_REC = 0x4000,
	WORD_UNBINDABLE = 1 << 17,
	WORD_PRIVATE = 1 << 18,
	WORD_SLAVE = 1 << 19,
	WORD_SHARED = 1 << 20,
};

static const struct {
	const char *word;
	uint64_t set, clear;
} attributes[] = {
	{"ro", MOUNT_ATTR_RDONLY, 0},
	{"rw", 0, MOUNT_ATTR_RDONLY},
	{"nosuid", MOUNT_ATTR_NOSUID, 0},
	{"suid", 0, MOUNT_ATTR_NOSUID},
	{"nodev", MOUNT_ATTR_NODEV, 0},
	{"dev", 0, MOUNT_ATTR_NODEV},
	{"noexec", MOUNT_ATTR_NOEXEC, 0},
	{"exec", 0, MOUNT_ATTR_NOEXEC},
	{"nodiratime", MOUNT_ATTR_NODIRATIME, 0},
	{"diratime", 0, MOUNT_ATTR_NODIRATIME},
	{"noatime", MOUNT_ATTR_NOATIME, MOUNT_ATTR__ATIME},
	{"strictatime", MOUNT_ATTR_STRICTATIME, MOUNT_ATTR__ATIME},
	{"relatime", MOUNT_ATTR_RELATIME, MOUNT_ATTR__ATIME},
	{"nosymfollow", MOUNT_ATTR_NOSYMFOLLOW, 0},
	{"symfollow", 0, MOUNT_ATTR_NOSYMFOLLOW},
	{"atime", 0, 0}, // the default
	{"norelatime", 0, 0},
	{"nostrictatime", 0, 0},
	{"defaults", 0, 0},
	{"async", 0, 0},
	{"loud", 0, 0},
};

static const struct {
	const char *word;
	unsigned long flags;
} propagations[] = {
	{"private", WORD_PRIVATE},
	{"rprivate", WORD_PRIVATE | WORD_REC},
	{"slave", WORD_SLAVE},
	{"rslave", WORD_SLAVE | WORD_REC},
	{"shared", WORD_SHARED},
	{"rshared", WORD_SHARED | WORD_REC},
	{"unbindable", WORD_UNBINDABLE},
	{"runbindable", WORD_UNBINDABLE | WORD_REC},
};

static const char *const refused[] = {
	"remount", "mand", "nomand", "iversion", "noiversion", "silent"};

static bool take_attribute(const char *word, struct mount_words *m)
{
	for (size_t i = 0; i < array_size(attributes); i++) {
		bool recursive = *word == 'r' && streq(word + 1, attributes[i].word);
		if (!recursive && !streq(word, attributes[i].word))
			continue;
		m->set = (m->set & ~attributes[i].clear) | attributes[i].set;
		m->clear = (m->clear & ~attributes[i].set) | attributes[i].clear;
		if (!recursive)
			return true;
		m->recursive_set = (m->recursive_set & ~attributes[i].clear) | attributes[i].set;
		m->recursive_clear =
			(m->recursive_clear & ~attributes[i].set) | attributes[i].clear;
		return true;
	}
	return false;
}

static bool take_propagation(const char *word, struct mount_words *m)
{
	for (size_t i = 0; i < array_size(propagations); i++) {
		if (streq(word, propagations[i].word)) {
			m->propagation = propagations[i].flags;
			return true;
		}
	}
	return false;
}

static const char *const kinds[] = {"bind", "rbind", "idmap", "ridmap", "tmpcopyup"};

static bool take_kind(const char *word, struct mount_words *m)
{
	if (streq(word, "bind"))
		m->bind = true;
	else if (streq(word, "rbind"))
		m->bind = m->recursive = true;
	else if (streq(word, "idmap"))
		m->idmap = true;
	else if (streq(word, "ridmap"))
		m->idmap = m->recursive_idmap = true;
	else if (streq(word, "tmpcopyup"))
		m->copy_up = true;
	else if (streq(word, "x-idmap")) // our own, for jobs
		m->idmap = m->recursive_idmap = m->idmap_optional = true;
	else
		return false;
	return true;
}

int mount_words_parse(
	struct arena *a, const struct json_strings *words, struct mount_words *m, struct error *err)
{
	*m = (struct mount_words){0};
	for (size_t i = 0; i < words->count; i++) {
		const char *word = words->items[i];
		if (!*word)
			continue;
		for (size_t k = 0; k < array_size(refused); k++)
			if (streq(word, refused[k]))
				return error_set(err, ERROR_INVALID,
					"mount option \"%s\": not supported", word);
		// "relatime" is itself, not the recursive form of "elatime"; "rw" neither.
		if (take_attribute(word, m) || take_propagation(word, m) || take_kind(word, m))
			continue;
		m->data = m->data ? arena_printf(a, "%s,%s", m->data, word) : word;
	}
	return 0;
}

void mount_words_list(struct arena *a, struct json_strings *words)
{
	size_t most = array_size(attributes) * 2 + array_size(propagations) + array_size(kinds);
	*words = (struct json_strings){.items = arena_array(a, const char *, most + 1)};
	for (size_t i = 0; i < array_size(attributes); i++) {
		const char *word = attributes[i].word;
		words->items[words->count++] = word;
		if (attributes[i].set || attributes[i].clear)
			words->items[words->count++] = arena_printf(a, "r%s", word);
	}
	for (size_t i = 0; i < array_size(propagations); i++)
		words->items[words->count++] = propagations[i].word;
	for (size_t i = 0; i < array_size(kinds); i++)
		words->items[words->count++] = kinds[i];
}
