// SPDX-License-Identifier: Apache-2.0
#include "agent/data/remote_plan.h"

#include "base/text.h"

#include <strings.h>

enum { OWN_OPTIONS = 24 };

static void add(struct remote_plan *p, const char *key, const char *value)
{
	p->options[p->count++] = (struct remote_option){key, value};
}

// A job's own word for something that we have a default for takes its place.
static void add_default(
	const struct data_source *s, struct remote_plan *p, const char *key, const char *value)
{
	for (size_t i = 0; i < s->options.count; i++)
		if (streq(s->options.items[i].key, key))
			return;
	add(p, key, value);
}

static void add_own(const struct data_source *s, struct remote_plan *p)
{
	for (size_t i = 0; i < s->options.count; i++) {
		const struct json_pair *o = &s->options.items[i];
		bool flag = !*o->value || streq(o->value, "true");
		if (!streq(o->value, "false"))
			add(p, o->key, flag ? NULL : o->value);
	}
}

const char *remote_host(const struct data_source *s, struct arena *a)
{
	const char *begin = s->remote + (s->kind == DATA_CIFS ? 2 : 0);
	const char *end = strstr(begin, s->kind == DATA_CIFS ? "/" : ":/");
	if (*begin == '[')
		return arena_strndup(a, begin + 1, (size_t)(end - begin) - 2);
	return arena_strndup(a, begin, (size_t)(end - begin));
}

int remote_check(const struct data_source *s, struct error *err)
{
	static const char *const never[] = {"cruid", "multiuser", "upcall_target"};
	for (size_t i = 0; i < s->options.count; i++) {
		const struct json_pair *o = &s->options.items[i];
		bool bad = strcasecmp(o->key, "sec") == 0 && strncasecmp(o->value, "krb5", 4) == 0;
		for (size_t k = 0; k < array_size(never); k++)
			bad = bad || strcasecmp(o->key, never[k]) == 0;
		if (bad)
			return error_set(err, ERROR_DENIED,
				"option %.60s is not one that a job may set: it takes credentials "
				"of this node",
				o->key);
	}
	return 0;
}

static bool has_option(const struct data_source *s, const char *key)
{
	for (size_t i = 0; i < s->options.count; i++)
		if (streq(s->options.items[i].key, key))
			return true;
	return false;
}

static void plan_nfs(const struct data_source *s, const char *address, struct remote_plan *p)
{
	p->type = "nfs4";
	add(p, "addr", address);
	add(p, "clientaddr", strchr(address, ':') ? "::" : "0.0.0.0");
	if (!has_option(s, "nfsvers"))
		add_default(s, p, "vers", "4.2");
	add_default(s, p, "proto", strchr(address, ':') ? "tcp6" : "tcp");
	// 90 s until the kernel gives up by itself: longer than the guard's limit (mount_guard.h),
	// if the node has no other one, since a server that is back before that is no error.
	add_default(s, p, "timeo", "100"); // tenths of a second
	add_default(s, p, "retrans", "8");
	if (!has_option(s, "hard") && !has_option(s, "soft"))
		add_default(s, p, s->mode == DATA_RW_MOUNT ? "hard" : "softerr", NULL);
}

static void plan_cifs(const struct data_source *s, const char *address, const char *password,
	struct remote_plan *p)
{
	bool writable = s->mode == DATA_RW_MOUNT;
	p->type = "cifs";
	add(p, "ip", address);
	if (s->user) {
		add(p, "user", s->user);
		add(p, "pass", password ? password : "");
	} else {
		add(p, "sec", "none");
	}
	add_default(s, p, "vers", "3.1.1");
	if (s->user)
		add_default(s, p, "seal", NULL);
	add_default(s, p, "soft", NULL);
	// Three without an answer, and the connection is taken for lost: requests under way end.
	add_default(s, p, "echo_interval", "20");
	// The server's decision, not that of ids which it knows nothing of.
	add(p, "uid", "0");
	add(p, "gid", "0");
	add(p, "forceuid", NULL);
	add(p, "forcegid", NULL);
	add(p, "file_mode", writable ? "0777" : "0555");
	add(p, "dir_mode", writable ? "0777" : "0555");
	add(p, "noperm", NULL);
}

void remote_plan(const struct data_source *s, const char *address, const char *password,
	struct arena *a, struct remote_plan *p)
{
	*p = (struct remote_plan){.source = s->remote, .host = remote_host(s, a)};
	p->options = arena_array(a, struct remote_option, OWN_OPTIONS + s->options.count);
	if (s->kind == DATA_NFS)
		plan_nfs(s, address, p);
	else
		plan_cifs(s, address, password, p);
	add_own(s, p);
}
