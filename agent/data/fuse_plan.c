// SPDX-License-Identifier: Apache-2.0
#include "agent/data/fuse_plan.h"

#include "base/text.h"

enum { WORDS_MAX = 512 };

struct words {
	struct arena *arena;
	const char **items;
	size_t count;
};

static void add(struct words *w, const char *word)
{
	w->items[w->count++] = word;
}

static void add_all(struct words *w, const char *const *words)
{
	for (; *words; words++)
		add(w, *words);
}

__attribute__((format(printf, 2, 3))) static void add_text(struct words *w, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	cleanup_free char *text = xvasprintf(format, args);
	va_end(args);
	add(w, arena_strdup(w->arena, text));
}

static bool is_writable(const struct data_source *s)
{
	return s->mode == DATA_RW_MOUNT;
}

// Whoever is in the container may do what the mode allows: the file system knows nothing of the
// job's ids, and nobody else of the node can reach the mount point's folder.
static const char *mask_of(const struct data_source *s)
{
	return is_writable(s) ? "0000" : "0222";
}

static unsigned long long cache_mib(const struct fuse_order *o)
{
	uint64_t bytes = o->source->max_bytes, node = o->policy->max_bytes;
	bytes = node && (!bytes || node < bytes) ? node : bytes;
	return bytes ? (bytes >> 20) + !(bytes >> 20) : FUSE_CACHE_MIB;
}

// "--key=value"; `flags`: a program that takes no value for what is on or off.
static void add_options(struct words *w, const struct data_source *s, bool flags)
{
	for (size_t i = 0; i < s->options.count; i++) {
		const struct json_pair *o = &s->options.items[i];
		if (!*o->value || (flags && streq(o->value, "true")))
			add_text(w, "--%s", o->key);
		else if (!flags || !streq(o->value, "false"))
			add_text(w, "--%s=%s", o->key, o->value);
	}
}

// ---- one program each

static bool has_option(const struct data_source *s, const char *key)
{
	for (size_t i = 0; i < s->options.count; i++)
		if (streq(s->options.items[i].key, key))
			return true;
	return false;
}

static void plan_rclone(const struct fuse_order *o, struct words *w)
{
	const struct data_source *s = o->source;
	add_all(w, (const char *const[]){"rclone", "mount", "--config=", "--log-level=NOTICE",
			   "--stats=0", "--ask-password=false", "--devname=stoker",
			   "--vfs-cache-poll-interval=10s", NULL});
	add_text(w, "--cache-dir=%s", o->cache);
	add_text(w, "--vfs-cache-max-size=%lluM", cache_mib(o));
	add_text(w, "--umask=%s", mask_of(s));
	if (o->root)
		add_all(w, (const char *const[]){"--allow-other", "--uid=0", "--gid=0", NULL});
	if (!is_writable(s))
		add(w, "--read-only");
	else if (!has_option(s, "vfs-cache-mode"))
		add(w, "--vfs-cache-mode=writes"); // else nothing can be written but in one go
	if (o->rc_port)
		add_text(w, "--rc-addr=127.0.0.1:%u", o->rc_port), add(w, "--rc");
	add_options(w, s, false);
	add_all(w, (const char *const[]){"--", s->remote, o->mount_point, NULL});
}

static void plan_s3fs(const struct fuse_order *o, struct words *w)
{
	const struct data_source *s = o->source;
	size_t bucket = strcspn(s->remote, "/");
	const char *prefix = s->remote + bucket;
	add(w, "s3fs");
	if (prefix[strspn(prefix, "/")])
		add_text(w, "%.*s:%s", (int)bucket, s->remote, prefix);
	else
		add_text(w, "%.*s", (int)bucket, s->remote);
	add_all(w, (const char *const[]){o->mount_point, "-f", "-o", "nosuid,nodev", NULL});
	add(w, "-o"), add_text(w, "tmpdir=%s", o->cache);
	add(w, "-o"), add_text(w, "ensure_diskfree=%d", 1024); // MB: it has no limit of its own
	add(w, "-o"), add_text(w, "umask=%s,mp_umask=%s", mask_of(s), mask_of(s));
	if (o->root)
		add(w, "-o"), add(w, "allow_other,uid=0,gid=0");
	if (!is_writable(s))
		add(w, "-o"), add(w, "ro");
	for (size_t i = 0; i < s->options.count; i++) {
		const struct json_pair *p = &s->options.items[i];
		if (streq(p->value, "false"))
			continue;
		add(w, "-o");
		if (!*p->value || streq(p->value, "true"))
			add(w, p->key);
		else
			add_text(w, "%s=%s", p->key, p->value);
	}
}

static void plan_mount_s3(const struct fuse_order *o, struct words *w)
{
	const struct data_source *s = o->source;
	size_t bucket = strcspn(s->remote, "/");
	const char *prefix = s->remote + bucket + (s->remote[bucket] == '/');
	add_all(w, (const char *const[]){"mount-s3", "--foreground", NULL});
	add_text(w, "--dir-mode=%s", is_writable(s) ? "0777" : "0555");
	add_text(w, "--file-mode=%s", is_writable(s) ? "0666" : "0444");
	if (o->root)
		add_all(w, (const char *const[]){"--uid=0", "--gid=0", NULL});
	if (!is_writable(s))
		add(w, "--read-only");
	if (*prefix)
		add_text(w, "--prefix=%s%s", prefix, ends_with(prefix, "/") ? "" : "/");
	add_options(w, s, true);
	add(w, "--");
	add_text(w, "%.*s", (int)bucket, s->remote);
	if (o->root)
		add_text(w, "/dev/fd/%d", FUSE_PLAN_FD);
	else
		add(w, o->mount_point);
}

static void plan_blobfuse2(const struct fuse_order *o, struct words *w)
{
	const struct data_source *s = o->source;
	size_t container = strcspn(s->remote, "/");
	const char *below = s->remote + container + (s->remote[container] == '/');
	add_all(w, (const char *const[]){"blobfuse2", "mount", o->mount_point, "--foreground=true",
			   "--disable-version-check=true", "--log-type=base",
			   "--log-level=LOG_WARNING", NULL});
	add_text(w, "--log-file-path=%s/log", o->cache);
	add_text(w, "--tmp-path=%s/files", o->cache);
	add_text(w, "--cache-size-mb=%llu", cache_mib(o));
	add_text(w, "--container-name=%.*s", (int)container, s->remote);
	add_text(w, "-o=umask=%s", mask_of(s));
	if (*below)
		add_text(w, "--subdirectory=%s", below);
	if (o->root)
		add(w, "--allow-other=true");
	if (!is_writable(s))
		add(w, "--read-only=true");
	add_options(w, s, false);
}

static const char *replace(struct arena *a, const char *text, const char *what, const char *by)
{
	const char *at = strstr(text, what);
	if (!at)
		return text;
	const char *rest = replace(a, at + strlen(what), what, by);
	return arena_printf(a, "%.*s%s%s", (int)(at - text), text, by, rest);
}

static void plan_custom(const struct fuse_order *o, struct words *w)
{
	const struct json_strings *command = &o->source->command;
	const char *fd = arena_printf(w->arena, "%d", FUSE_PLAN_FD);
	for (size_t i = 0; i < command->count; i++) {
		const char *word = replace(w->arena, command->items[i], "{fd}", fd);
		word = replace(w->arena, word, "{mountpoint}", o->mount_point);
		word = replace(w->arena, word, "{cache}", o->cache);
		if (o->source->remote)
			word = replace(w->arena, word, "{remote}", o->source->remote);
		add(w, word);
	}
	add_options(w, o->source, false);
}

bool fuse_takes_fd(const struct data_source *s, bool root)
{
	if (streq(s->profile, "mount-s3"))
		return root;
	for (size_t i = 0; streq(s->profile, "custom") && i < s->command.count; i++)
		if (strstr(s->command.items[i], "{fd}"))
			return true;
	return false;
}

// ---- around it

// It gets a descriptor and nothing else of us: no user, no capability, no way to have some again.
// setpriv(1) sets the tie to our life once more, which a change of the user cuts.
static void add_nobody(struct words *w)
{
	static const char *const prefix[] = {"setpriv", "--reuid=65534", "--regid=65534",
		"--clear-groups", "--no-new-privs", "--inh-caps=-all", "--bounding-set=-all",
		"--pdeathsig=KILL", "--", NULL};
	add_all(w, prefix);
}

// A value that is "${{secrets.NAME}}" as a whole is that secret.
static int add_variable(const struct fuse_order *o, struct words *w, struct words *hidden,
	const struct json_pair *v, struct error *err)
{
	static const char before[] = "${{secrets.", after[] = "}}";
	const char *value = v->value;
	if (starts_with(value, before) && ends_with(value, after)) {
		size_t n = strlen(value) - strlen(before) - strlen(after);
		const char *name = arena_strndup(w->arena, value + strlen(before), n);
		value = o->secret ? o->secret(o->data, name) : NULL;
		if (!value)
			return error_set(err, ERROR_INVALID,
				"variable %.100s: the job has no secret \"%.64s\"", v->key, name);
		value = arena_strndup(w->arena, value, strcspn(value, "\r\n"));
		add(hidden, value);
	}
	add_text(w, "%s=%s", v->key, value);
	return 0;
}

// Nothing of our own environment but what names proxies.
static int plan_environment(
	const struct fuse_order *o, struct words *w, struct words *hidden, struct error *err)
{
	static const char *const kept[] = {
		"https_proxy", "HTTPS_PROXY", "http_proxy", "no_proxy", "NO_PROXY"};
	const struct json_pairs *v = &o->source->variables;
	add_text(w, "PATH=%s",
		o->path ? o->path : "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
	add_text(w, "HOME=%s", o->cache);
	add_text(w, "TMPDIR=%s", o->cache);
	add(w, "LC_ALL=C.UTF-8");
	for (size_t i = 0; i < array_size(kept); i++)
		if (getenv(kept[i]))
			add_text(w, "%s=%s", kept[i], getenv(kept[i]));
	if (o->rc_port) {
		add(w, "RCLONE_RC_USER=stoker");
		add_text(w, "RCLONE_RC_PASS=%s", o->rc_password);
		add(hidden, o->rc_password);
	}
	for (size_t i = 0; i < v->count; i++)
		if (add_variable(o, w, hidden, &v->items[i], err) < 0)
			return -1;
	return 0;
}

static int check(const struct fuse_order *o, struct error *err)
{
	const struct data_source *s = o->source;
	return fuse_check_profile(o->policy, s->profile, err) < 0 ||
			       fuse_check_options(s, err) < 0 || fuse_check_variables(s, err) < 0 ||
			       fuse_check_remote(s, err) < 0
		       ? -1
		       : 0;
}

int fuse_plan(const struct fuse_order *o, struct arena *a, struct fuse_plan *plan,
	enum data_failure *failure, struct error *err)
{
	static const struct {
		const char *name;
		void (*fill)(const struct fuse_order *o, struct words *w);
	} profiles[] = {{"rclone", plan_rclone}, {"s3fs", plan_s3fs}, {"mount-s3", plan_mount_s3},
		{"blobfuse2", plan_blobfuse2}, {"custom", plan_custom}};
	*failure = DATA_POLICY;
	if (check(o, err) < 0)
		return -1;
	*failure = DATA_FAILED;
	const struct data_source *s = o->source;
	struct words argv = {.arena = a, .items = arena_array(a, const char *, WORDS_MAX)};
	struct words envp = {.arena = a, .items = arena_array(a, const char *, WORDS_MAX)};
	struct words hidden = {.arena = a, .items = arena_array(a, const char *, WORDS_MAX)};
	bool takes_fd = fuse_takes_fd(s, o->root);
	if (takes_fd && o->root)
		add_nobody(&argv);
	size_t first = argv.count;
	for (size_t i = 0; i < array_size(profiles); i++)
		if (streq(profiles[i].name, s->profile))
			profiles[i].fill(o, &argv);
	if (plan_environment(o, &envp, &hidden, err) < 0)
		return -1;
	add(&argv, NULL);
	add(&envp, NULL);
	*plan = (struct fuse_plan){.argv = argv.items,
		.envp = envp.items,
		.program = argv.items[first],
		.takes_fd = takes_fd,
		.hidden = {hidden.items, hidden.count}};
	return 0;
}
