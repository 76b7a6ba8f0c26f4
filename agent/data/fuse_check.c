// SPDX-License-Identifier: Apache-2.0
#include "agent/data/fuse_plan.h"
#include "base/text.h"

#include <ctype.h>

// Options of a command line that a job may give.
static const struct {
	const char *profile, *const *names;
} allowed[] = {
	{"rclone",
		(const char *const[]){"attr-timeout", "buffer-size", "bwlimit", "checkers",
			"contimeout", "dir-cache-time", "low-level-retries", "max-read-ahead",
			"no-checksum", "no-modtime", "no-seek", "poll-interval", "retries",
			"timeout", "tpslimit", "tpslimit-burst", "transfers", "use-mmap",
			"use-server-modtime", "vfs-cache-max-age", "vfs-cache-mode",
			"vfs-cache-poll-interval", "vfs-case-insensitive", "vfs-fast-fingerprint",
			"vfs-read-ahead", "vfs-read-chunk-size", "vfs-read-chunk-size-limit",
			"vfs-read-wait", "vfs-write-back", "vfs-write-wait", NULL}},
	{"s3fs", (const char *const[]){"compat_dir", "complement_stat", "connect_timeout",
			 "dbglevel", "enable_content_md5", "enable_noobj_cache", "endpoint",
			 "list_object_max_keys", "max_dirty_data", "max_stat_cache_size",
			 "multipart_size", "multireq_max", "nocopyapi", "nomultipart",
			 "norenameapi", "notsup_compat_dir", "noua", "parallel_count",
			 "public_bucket", "readwrite_timeout", "requester_pays", "retries", "sigv2",
			 "sigv4", "singlepart_copy_limit", "stat_cache_expire",
			 "stat_cache_interval_expire", "storage_class", "url",
			 "use_path_request_style", "use_session_token", NULL}},
	{"mount-s3", (const char *const[]){"allow-delete", "allow-overwrite", "endpoint-url",
			     "expected-bucket-owner", "force-path-style", "incremental-upload",
			     "max-threads", "maximum-throughput-gbps", "metadata-ttl",
			     "negative-metadata-ttl", "no-sign-request", "read-part-size", "region",
			     "requester-pays", "storage-class", "transfer-acceleration",
			     "upload-checksums", "write-part-size", NULL}},
	{"blobfuse2", (const char *const[]){"attr-timeout", "attr-cache-timeout", "block-cache",
			      "block-cache-block-size", "block-cache-parallelism",
			      "block-cache-pool-size", "block-cache-prefetch", "entry-timeout",
			      "file-cache-timeout", "high-disk-threshold", "low-disk-threshold",
			      "negative-timeout", "no-symlinks", "subdirectory", "use-adls",
			      "virtual-directory", NULL}},
};

static bool is_in(const char *const *names, const char *name)
{
	for (; *names; names++)
		if (streq(*names, name))
			return true;
	return false;
}

int fuse_check_profile(const struct data_policy *policy, const char *profile, struct error *err)
{
	bool known = false;
	for (size_t i = 0; i < policy->profiles.count && !known; i++)
		known = streq(policy->profiles.items[i], profile);
	return known ? 0
		     : error_set(err, ERROR_DENIED,
			       "profile %s is not among those that this node allows "
			       "(data.profiles in agent.yaml)",
			       profile);
}

int fuse_check_options(const struct data_source *s, struct error *err)
{
	const char *const *names = NULL;
	for (size_t i = 0; i < array_size(allowed); i++)
		if (streq(allowed[i].profile, s->profile))
			names = allowed[i].names;
	bool commas = streq(s->profile, "s3fs"); // its options are one list
	for (size_t i = 0; i < s->options.count; i++) {
		const struct json_pair *o = &s->options.items[i];
		if (names && !is_in(names, o->key))
			return error_set(err, ERROR_DENIED,
				"option %.100s of %s is not one that a job may set; docs/data.md "
				"lists those",
				o->key, s->profile);
		if (commas && strpbrk(o->value, ",\\"))
			return error_set(err, ERROR_INVALID,
				"option %s of %s must not have a comma or a backslash", o->key,
				s->profile);
	}
	return 0;
}

// ---- rclone: what is said of a remote

static const char *const backends[] = {"azureblob", "azurefiles", "b2", "box", "drive", "dropbox",
	"ftp", "google cloud storage", "http", "jottacloud", "koofr", "mega", "onedrive",
	"opendrive", "oracleobjectstorage", "pcloud", "putio", "qingstor", "seafile", "sftp",
	"sharefile", "smb", "storj", "swift", "webdav", "yandex", "s3", NULL};

static int check_backend(const char *name, struct error *err)
{
	return is_in(backends, name)
		       ? 0
		       : error_set(err, ERROR_DENIED,
				 "rclone's backend \"%.60s\" is not one that a job may use: it "
				 "must lead to another machine",
				 name);
}

// Keys that name a file or a program of this node, or take its own credentials.
static int check_key(const char *key, const char *value, struct error *err)
{
	static const char *const never[] = {"ask_password", "command", "env_auth", "key_use_agent",
		"profile", "remote", "remotes", "socks_proxy", "ssh", "upstreams", "use_kerberos",
		"use_msi", "config", NULL};
	static const char *const endings[] = {"_command", "_file", "_path", "_dir", "_ssh"};
	cleanup_free char *lower = xstrdup(key);
	for (char *p = lower; *p; p++)
		*p = *p == '-' ? '_' : (char)tolower((unsigned char)*p);
	bool bad =
		is_in(never, lower) || starts_with(lower, "msi_") || starts_with(lower, "config");
	for (size_t i = 0; i < array_size(endings); i++)
		bad = bad || ends_with(lower, endings[i]);
	if (bad)
		return error_set(err, ERROR_DENIED,
			"rclone's \"%.60s\" is not one that a job may set: it is about files, "
			"programs or credentials of this node",
			lower);
	return streq(lower, "type") || ends_with(lower, "_type") ? check_backend(value, err) : 0;
}

// One "key=value" of a connection string, to its end (',' or ':'), which becomes *at. A value may
// stand in quotes, which are doubled inside.
static int check_parameter(const char **at, struct error *err)
{
	const char *p = *at;
	size_t n = strcspn(p, "=,:");
	cleanup_free char *key = xstrndup(p, n);
	p += n;
	if (*p == '=') {
		p++;
		char quote = *p == '\'' || *p == '"' ? *p : '\0';
		for (p += quote != 0; *p; p++) {
			if (quote && *p == quote && *++p != quote)
				break;
			if (!quote && (*p == ',' || *p == ':'))
				break;
		}
	}
	// The type is the remote's name there.
	if (check_key(key, "", err) < 0)
		return -1;
	if (*p != ',' && *p != ':')
		return error_set(err, ERROR_INVALID,
			"remote: must be NAME:path or :BACKEND,key='value':path");
	*at = p;
	return 0;
}

static int check_rclone_remote(const char *remote, struct error *err)
{
	bool direct = *remote == ':';
	const char *p = remote + direct;
	size_t n = strcspn(p, ",:/");
	cleanup_free char *name = xstrndup(p, n);
	p += n;
	if (!n || (*p != ',' && *p != ':'))
		return error_set(err, ERROR_INVALID,
			"remote: must be NAME:path or :BACKEND,key='value':path");
	if (direct && check_backend(name, err) < 0)
		return -1;
	while (*p == ',') {
		p++;
		if (check_parameter(&p, err) < 0)
			return -1;
	}
	return 0;
}

int fuse_check_remote(const struct data_source *s, struct error *err)
{
	if (streq(s->profile, "rclone"))
		return check_rclone_remote(s->remote, err);
	if (streq(s->profile, "custom"))
		return 0;
	size_t bucket = strcspn(s->remote, "/");
	for (size_t i = 0; i < bucket; i++)
		if (!isalnum((unsigned char)s->remote[i]) && !strchr("-._", s->remote[i]))
			return error_set(
				err, ERROR_INVALID, "remote: must be of the form bucket/prefix");
	if (!bucket || strstr(s->remote, "..") || strpbrk(s->remote, ":,\\"))
		return error_set(
			err, ERROR_INVALID, "remote: must be of the form bucket/prefix, no \"..\"");
	return 0;
}

// ---- variables

static int check_rclone_variable(const struct json_pair *v, struct error *err)
{
	static const char prefix[] = "RCLONE_CONFIG_";
	const char *key = starts_with(v->key, prefix) ? v->key + strlen(prefix) : NULL;
	if (!key || !strchr(key, '_') || key[strspn(key, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_")])
		return error_set(err, ERROR_DENIED,
			"variable %.100s: with rclone they are called RCLONE_CONFIG_NAME_KEY",
			v->key);
	// A name may have a '_' as well as a key: what follows any of them is looked at.
	for (const char *p = key; (p = strchr(p, '_')) != NULL;) {
		p++;
		if (check_key(p, v->value, err) < 0)
			return error_context(err, "variable %.100s", v->key);
	}
	return 0;
}

int fuse_check_variables(const struct data_source *s, struct error *err)
{
	static const char *const s3[] = {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY",
		"AWS_SESSION_TOKEN", "AWSACCESSKEYID", "AWSSECRETACCESSKEY", "AWSSESSIONTOKEN",
		"AWS_REGION", "AWS_DEFAULT_REGION", NULL};
	static const char *const azure[] = {"AZURE_STORAGE_ACCESS_KEY", "AZURE_STORAGE_ACCOUNT",
		"AZURE_STORAGE_ACCOUNT_TYPE", "AZURE_STORAGE_BLOB_ENDPOINT",
		"AZURE_STORAGE_SAS_TOKEN", "AZURE_STORAGE_SPN_CLIENT_ID",
		"AZURE_STORAGE_SPN_CLIENT_SECRET", "AZURE_STORAGE_SPN_TENANT_ID", NULL};
	bool is_rclone = streq(s->profile, "rclone"), custom = streq(s->profile, "custom");
	const char *const *names = streq(s->profile, "blobfuse2") ? azure : s3;
	for (size_t i = 0; i < s->variables.count; i++) {
		const struct json_pair *v = &s->variables.items[i];
		if (is_rclone && check_rclone_variable(v, err) < 0)
			return -1;
		if (!is_rclone && !custom && !is_in(names, v->key))
			return error_set(err, ERROR_DENIED,
				"variable %.100s of %s is not one that a job may set; docs/data.md "
				"lists those",
				v->key, s->profile);
	}
	return 0;
}
