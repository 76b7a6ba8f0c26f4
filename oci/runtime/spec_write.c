// SPDX-License-Identifier: Apache-2.0
#include "oci/runtime/spec_write.h"

#include "oci/runtime/spec_names.h"

void spec_write_word(struct json_writer *w, const char *key, const char *word)
{
	if (word)
		json_write_member(w, key, word);
}

void spec_write_words(struct json_writer *w, const char *key, const struct json_strings *words)
{
	if (!words->count)
		return;
	json_write_key(w, key);
	json_write_open_array(w);
	for (size_t i = 0; i < words->count; i++)
		json_write_string(w, words->items[i]);
	json_write_close_array(w);
}

void spec_write_pairs(struct json_writer *w, const char *key, const struct json_pairs *pairs)
{
	if (!pairs->count)
		return;
	json_write_key(w, key);
	json_write_open_object(w);
	for (size_t i = 0; i < pairs->count; i++)
		json_write_member(w, pairs->items[i].key, pairs->items[i].value);
	json_write_close_object(w);
}

void spec_write_id_maps(struct json_writer *w, const char *key, const struct runtime_id_maps *maps)
{
	if (!maps->count)
		return;
	json_write_key(w, key);
	json_write_open_array(w);
	for (size_t i = 0; i < maps->count; i++) {
		json_write_open_object(w);
		json_write_member_int(w, "containerID", maps->items[i].container);
		json_write_member_int(w, "hostID", maps->items[i].host);
		json_write_member_int(w, "size", maps->items[i].size);
		json_write_close_object(w);
	}
	json_write_close_array(w);
}

void spec_write_limit(struct json_writer *w, const char *key, int64_t limit)
{
	if (limit)
		json_write_member_int(w, key, limit == RUNTIME_UNLIMITED ? -1 : limit);
}

static void write_user(struct json_writer *w, const struct runtime_process *p)
{
	json_write_key(w, "user");
	json_write_open_object(w);
	json_write_member_int(w, "uid", p->uid);
	json_write_member_int(w, "gid", p->gid);
	if (p->umask != (mode_t)-1)
		json_write_member_int(w, "umask", p->umask);
	if (p->group_count) {
		json_write_key(w, "additionalGids");
		json_write_open_array(w);
		for (size_t i = 0; i < p->group_count; i++)
			json_write_int(w, p->groups[i]);
		json_write_close_array(w);
	}
	json_write_close_object(w);
}

static void write_capability_set(struct json_writer *w, const char *key, uint64_t set)
{
	json_write_key(w, key);
	json_write_open_array(w);
	for (unsigned i = 0; i < 64; i++)
		if (set & 1ULL << i && runtime_capability_name(i))
			json_write_string(w, runtime_capability_name(i));
	json_write_close_array(w);
}

static void write_capabilities(struct json_writer *w, const struct runtime_capabilities *c)
{
	json_write_key(w, "capabilities");
	json_write_open_object(w);
	write_capability_set(w, "bounding", c->bounding);
	write_capability_set(w, "effective", c->effective);
	write_capability_set(w, "inheritable", c->inheritable);
	write_capability_set(w, "permitted", c->permitted);
	write_capability_set(w, "ambient", c->ambient);
	json_write_close_object(w);
}

static void write_rlimits(struct json_writer *w, const struct runtime_process *p)
{
	if (!p->rlimit_count)
		return;
	json_write_key(w, "rlimits");
	json_write_open_array(w);
	for (size_t i = 0; i < p->rlimit_count; i++) {
		const struct runtime_rlimit *limit = &p->rlimits[i];
		json_write_open_object(w);
		json_write_member(w, "type", runtime_rlimit_name(limit->resource));
		json_write_member_unsigned(w, "hard", limit->hard);
		json_write_member_unsigned(w, "soft", limit->soft);
		json_write_close_object(w);
	}
	json_write_close_array(w);
}

void spec_write_process(struct json_writer *w, const struct runtime_process *p)
{
	json_write_open_object(w);
	json_write_member_bool(w, "terminal", p->terminal);
	if (p->rows || p->columns) {
		json_write_key(w, "consoleSize");
		json_write_open_object(w);
		json_write_member_int(w, "height", p->rows);
		json_write_member_int(w, "width", p->columns);
		json_write_close_object(w);
	}
	write_user(w, p);
	spec_write_words(w, "args", &p->args);
	spec_write_words(w, "env", &p->env);
	spec_write_word(w, "cwd", p->cwd);
	if (p->has_capabilities)
		write_capabilities(w, &p->capabilities);
	write_rlimits(w, p);
	json_write_member_bool(w, "noNewPrivileges", p->no_new_privileges);
	if (p->has_oom_score_adj)
		json_write_member_int(w, "oomScoreAdj", p->oom_score_adj);
	json_write_close_object(w);
}

static void write_mount(struct json_writer *w, const struct runtime_mount *m)
{
	json_write_open_object(w);
	json_write_member(w, "destination", m->destination);
	spec_write_word(w, "type", m->type);
	spec_write_word(w, "source", m->source);
	spec_write_words(w, "options", &m->options);
	spec_write_id_maps(w, "uidMappings", &m->uid_mappings);
	spec_write_id_maps(w, "gidMappings", &m->gid_mappings);
	json_write_close_object(w);
}

static void write_mounts(struct json_writer *w, const struct runtime_spec *spec)
{
	if (!spec->mount_count)
		return;
	json_write_key(w, "mounts");
	json_write_open_array(w);
	for (size_t i = 0; i < spec->mount_count; i++)
		write_mount(w, &spec->mounts[i]);
	json_write_close_array(w);
}

static void write_hook(struct json_writer *w, const struct runtime_hook *h)
{
	json_write_open_object(w);
	json_write_member(w, "path", h->path);
	spec_write_words(w, "args", &h->args);
	spec_write_words(w, "env", &h->env);
	if (h->timeout)
		json_write_member_int(w, "timeout", h->timeout);
	json_write_close_object(w);
}

static void write_hooks(struct json_writer *w, const struct runtime_spec *spec)
{
	size_t total = 0;
	for (size_t i = 0; i < RUNTIME_HOOK_POINTS; i++)
		total += spec->hooks[i].count;
	if (!total)
		return;
	json_write_key(w, "hooks");
	json_write_open_object(w);
	for (size_t i = 0; i < RUNTIME_HOOK_POINTS; i++) {
		if (!spec->hooks[i].count)
			continue;
		json_write_key(w, runtime_hook_names[i]);
		json_write_open_array(w);
		for (size_t k = 0; k < spec->hooks[i].count; k++)
			write_hook(w, &spec->hooks[i].items[k]);
		json_write_close_array(w);
	}
	json_write_close_object(w);
}

static void write_root(struct json_writer *w, const struct runtime_spec *spec)
{
	json_write_key(w, "root");
	json_write_open_object(w);
	json_write_member(w, "path", spec->root_path);
	json_write_member_bool(w, "readonly", spec->root_read_only);
	json_write_close_object(w);
}

int runtime_spec_write(const struct runtime_spec *spec, struct buffer *out, struct error *err)
{
	cleanup_json_writer struct json_writer *w = json_writer_new(true);
	json_write_open_object(w);
	json_write_member(w, "ociVersion", spec->version);
	if (spec->has_process) {
		json_write_key(w, "process");
		spec_write_process(w, &spec->process);
	}
	write_root(w, spec);
	spec_write_word(w, "hostname", spec->hostname);
	spec_write_word(w, "domainname", spec->domainname);
	write_mounts(w, spec);
	write_hooks(w, spec);
	spec_write_pairs(w, "annotations", &spec->annotations);
	json_write_key(w, "linux");
	spec_write_linux(w, spec);
	json_write_close_object(w);
	return json_writer_finish(w, out, err);
}
