// SPDX-License-Identifier: Apache-2.0
#include "agent/data/fsimage.h"
#include "agent/data/fuse_plan.h"
#include "agent/data/helper_log.h"
#include "agent/data/mount.h"
#include "agent/data/remote_plan.h"
#include "base/text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static const char *secret(void *data, const char *name)
{
	(void)data;
	return streq(name, "key") ? "s3cr3t\n" : NULL;
}

static char *join(const char *const *words)
{
	struct buffer all = {0};
	for (; *words; words++)
		buffer_printf(&all, "%s%s", all.size ? " " : "", *words);
	return buffer_steal(&all);
}

static int plan_of(const struct data_source *s, bool root, struct arena *a, struct fuse_plan *plan,
	struct error *err)
{
	const struct data_policy policy = {
		.profiles = {
			(const char *[]){"rclone", "s3fs", "mount-s3", "blobfuse2", "custom"}, 5}};
	enum data_failure failure;
	const struct fuse_order o = {.source = s,
		.policy = &policy,
		.mount_point = "/m",
		.cache = "/c",
		.root = root,
		.path = "/bin",
		.rc_port = s->mode == DATA_RW_MOUNT ? 99 : 0,
		.rc_password = "pw",
		.secret = secret};
	return fuse_plan(&o, a, plan, &failure, err);
}

static void calls_helpers(void **state)
{
	static struct json_pair option[] = {{"region", "x"}, {"requester-pays", "true"}};
	static struct json_pair s3fs_option[] = {{"url", "http://h"}, {"sigv2", "true"}};
	static const char *command[] = {"prog", "{remote}", "{fd}", "{mountpoint}/x{mountpoint}"};
	static const struct {
		struct data_source source;
		bool root;
		const char *expected;
	} cases[] = {
		{{.profile = "rclone", .remote = "a:b", .max_bytes = 5 << 20}, true,
			"rclone mount --config= --log-level=NOTICE --stats=0 --ask-password=false "
			"--devname=stoker --vfs-cache-poll-interval=10s --cache-dir=/c "
			"--vfs-cache-max-size=5M --umask=0222 --allow-other --uid=0 --gid=0 "
			"--read-only -- a:b /m"},
		{{.profile = "rclone", .remote = "a:b", .mode = DATA_RW_MOUNT}, false,
			"rclone mount --config= --log-level=NOTICE --stats=0 --ask-password=false "
			"--devname=stoker --vfs-cache-poll-interval=10s --cache-dir=/c "
			"--vfs-cache-max-size=4096M --umask=0000 --vfs-cache-mode=writes "
			"--rc-addr=127.0.0.1:99 --rc -- a:b /m"},
		{{.profile = "s3fs", .remote = "bucket/p/q", .options = {s3fs_option, 2}}, true,
			"s3fs bucket:/p/q /m -f -o nosuid,nodev -o tmpdir=/c -o "
			"ensure_diskfree=1024 -o umask=0222,mp_umask=0222 -o "
			"allow_other,uid=0,gid=0 -o ro -o url=http://h -o sigv2"},
		{{.profile = "mount-s3", .remote = "bucket/p", .options = {option, 2}}, true,
			"setpriv --reuid=65534 --regid=65534 --clear-groups --no-new-privs "
			"--inh-caps=-all --bounding-set=-all --pdeathsig=KILL -- mount-s3 "
			"--foreground --dir-mode=0555 --file-mode=0444 --uid=0 --gid=0 "
			"--read-only --prefix=p/ --region=x --requester-pays -- bucket /dev/fd/3"},
		{{.profile = "mount-s3", .remote = "bucket"}, false,
			"mount-s3 --foreground --dir-mode=0555 --file-mode=0444 --read-only -- "
			"bucket /m"},
		{{.profile = "custom", .remote = "r", .command = {command, 4}}, true,
			"setpriv --reuid=65534 --regid=65534 --clear-groups --no-new-privs "
			"--inh-caps=-all --bounding-set=-all --pdeathsig=KILL -- prog r 3 /m/x/m"},
	};
	(void)state;
	for (size_t i = 0; i < array_size(cases); i++) {
		cleanup_arena struct arena a = {0};
		struct fuse_plan plan;
		struct error err = {0};
		if (plan_of(&cases[i].source, cases[i].root, &a, &plan, &err) < 0)
			fail_msg("%s", err.text);
		cleanup_free char *argv = join(plan.argv);
		assert_string_equal(argv, cases[i].expected);
	}
}

static void keeps_secrets_out_of_arguments(void **state)
{
	cleanup_arena struct arena a = {0};
	struct fuse_plan plan;
	struct error err = {0};
	struct json_pair v = {"RCLONE_CONFIG_A_PASS", "${{secrets.key}}"};
	const struct data_source s = {.profile = "rclone", .remote = "a:", .variables = {&v, 1}};

	(void)state;
	assert_int_equal(plan_of(&s, true, &a, &plan, &err), 0);
	cleanup_free char *argv = join(plan.argv), *envp = join(plan.envp);
	assert_null(strstr(argv, "s3cr3t"));
	assert_non_null(strstr(envp, "RCLONE_CONFIG_A_PASS=s3cr3t"));
	assert_null(strchr(envp, '\n'));
	assert_int_equal(plan.hidden.count, 1);
	assert_string_equal(plan.hidden.items[0], "s3cr3t");
	v.value = "${{secrets.other}}";
	assert_int_equal(plan_of(&s, true, &a, &plan, &err), -1);
	assert_non_null(strstr(err.text, "no secret \"other\""));
}

static void refuses(void **state)
{
#define V(key, value)                                 \
	{                                             \
		(struct json_pair[]){{key, value}}, 1 \
	}
	const struct {
		struct data_source source;
		const char *complaint; // NULL: fine
	} cases[] = {
		{{.remote = ":http,url='http://h/a:b,c''d':x"}, NULL},
		{{.remote = "a,timeout=1s:x"}, NULL},
		{{.remote = ":local:/etc"}, "backend \"local\""},
		{{.remote = ":alias,remote=/etc:"}, "backend \"alias\""},
		{{.remote = ":sftp,key_file=/root/.ssh/id:"}, "\"key_file\""},
		{{.remote = ":sftp,host=a,KEY-FILE=/x:"}, "\"key_file\""},
		{{.remote = ":webdav,bearer_token_command='id':"}, "\"bearer_token_command\""},
		{{.remote = ":sftp,host='a"}, "must be NAME:path"},
		{{.remote = "/etc"}, "must be NAME:path"},
		{{.remote = ":s3,env_auth:b"}, "\"env_auth\""},
		{{.remote = "a:", .variables = V("RCLONE_CONFIG_A_TYPE", "local")},
			"backend \"local\""},
		{{.remote = "a:", .variables = V("RCLONE_CONFIG_A_B_TYPE", "union")},
			"backend \"union\""},
		{{.remote = "a:", .variables = V("RCLONE_CONFIG_A_TYPE", "s3")}, NULL},
		{{.remote = "a:", .variables = V("RCLONE_CONFIG_A_SSH", "sh")}, "\"ssh\""},
		{{.remote = "a:", .variables = V("RCLONE_CONFIG", "/x")}, "RCLONE_CONFIG_NAME"},
		{{.remote = "a:", .variables = V("LD_PRELOAD", "/x")}, "RCLONE_CONFIG_NAME"},
		{{.remote = "a:", .options = V("log-file", "/x")}, "option log-file"},
		{{.remote = "a:", .options = V("rc-addr", ":1")}, "option rc-addr"},
		{{.profile = "s3fs", .remote = "b", .options = V("url", "h,uid=0")}, "comma"},
		{{.profile = "s3fs", .remote = "b:/x"}, "bucket/prefix"},
		{{.profile = "s3fs", .remote = "b", .options = V("use_sse", "custom:/x")},
			"option use_sse"},
		{{.profile = "blobfuse2", .remote = "b", .options = V("config-file", "/x")},
			"option config-file"},
		{{.profile = "mount-s3", .remote = "b", .variables = V("AWS_PROFILE", "p")},
			"variable AWS_PROFILE"},
	};
#undef V
	(void)state;
	for (size_t i = 0; i < array_size(cases); i++) {
		cleanup_arena struct arena a = {0};
		struct data_source s = cases[i].source;
		struct fuse_plan plan;
		struct error err = {0};
		s.profile = s.profile ? s.profile : "rclone";
		int rc = plan_of(&s, true, &a, &plan, &err);
		if (rc != (cases[i].complaint ? -1 : 0) ||
			(rc && !strstr(err.text, cases[i].complaint)))
			fail_msg("case %zu: %d \"%s\"", i, rc, err.text);
	}
}

static void mounts_from_servers(void **state)
{
	static struct json_pair options[] = {
		{"timeo", "10"}, {"nolock", "true"}, {"sync", "false"}};
	static const struct {
		struct data_source source;
		const char *address, *host, *expected;
	} cases[] = {
		{{.kind = DATA_NFS, .remote = "srv:/e", .options = {options, 3}}, "10.0.0.1", "srv",
			"addr=10.0.0.1 clientaddr=0.0.0.0 vers=4.2 proto=tcp retrans=8 softerr "
			"timeo=10 nolock"},
		{{.kind = DATA_NFS, .remote = "[::1]:/e", .mode = DATA_RW_MOUNT}, "::1", "::1",
			"addr=::1 clientaddr=:: vers=4.2 proto=tcp6 timeo=100 retrans=8 hard"},
		{{.kind = DATA_CIFS, .remote = "//srv/share/p", .user = "ada"}, "10.0.0.1", "srv",
			"ip=10.0.0.1 user=ada pass=pw vers=3.1.1 seal soft echo_interval=20 uid=0 "
			"gid=0 forceuid "
			"forcegid file_mode=0555 dir_mode=0555 noperm"},
		{{.kind = DATA_CIFS, .remote = "//srv/share", .mode = DATA_RW_MOUNT}, "10.0.0.1",
			"srv",
			"ip=10.0.0.1 sec=none vers=3.1.1 soft echo_interval=20 uid=0 gid=0 "
			"forceuid forcegid "
			"file_mode=0777 dir_mode=0777 noperm"},
	};
	(void)state;
	for (size_t i = 0; i < array_size(cases); i++) {
		cleanup_arena struct arena a = {0};
		cleanup_buffer struct buffer all = {0};
		struct remote_plan p;
		remote_plan(&cases[i].source, cases[i].address, "pw", &a, &p);
		for (size_t k = 0; k < p.count; k++)
			buffer_printf(&all, "%s%s%s%s", k ? " " : "", p.options[k].key,
				p.options[k].value ? "=" : "",
				p.options[k].value ? p.options[k].value : "");
		assert_string_equal(all.data, cases[i].expected);
		assert_string_equal(p.host, cases[i].host);
	}
}

static void keeps_the_nodes_tickets(void **state)
{
	static const struct {
		struct json_pair option;
		bool fine;
	} cases[] = {
		{{"sec", "krb5p"}, false},
		{{"SEC", "KRB5"}, false},
		{{"sec", "ntlmssp"}, true},
		{{"cruid", "0"}, false},
		{{"MultiUser", ""}, false},
		{{"timeo", "10"}, true},
	};
	(void)state;
	for (size_t i = 0; i < array_size(cases); i++) {
		struct json_pair option = cases[i].option;
		const struct data_source s = {.kind = DATA_CIFS, .options = {&option, 1}};
		struct error err = {0};
		assert_int_equal(remote_check(&s, &err), cases[i].fine ? 0 : -1);
		if (!cases[i].fine)
			assert_non_null(strstr(err.text, "credentials of this node"));
	}
}

static void reads_mountinfo(void **state)
{
	static const struct {
		const char *line, *path;
		bool found, fuse;
		unsigned minor;
	} cases[] = {
		{"71 27 0:40 / /a/b rw - fuse.rclone x ro", "/a/b", true, true, 40},
		{"71 27 0:41 / /a\\040b rw,relatime shared:1 - fuse x ro", "/a b", true, true, 41},
		{"71 27 0:42 / /a/b rw - fusectl x ro", "/a/b", true, false, 42},
		{"71 27 0:43 / /a/b rw - fuseblk x ro", "/a/b", true, false, 43},
		{"71 27 0:44 / /a/bc rw - fuse x ro", "/a/b", false, false, 0},
		{"71 27 nonsense", "/a/b", false, false, 0},
	};
	(void)state;
	for (size_t i = 0; i < array_size(cases); i++) {
		struct mount_seen seen = {0};
		assert_int_equal(
			mount_line_parse(cases[i].line, cases[i].path, &seen), cases[i].found);
		assert_int_equal(seen.fuse, cases[i].fuse);
		assert_int_equal(seen.minor, cases[i].minor);
	}
}

static void looks_at_images(void **state)
{
	uint8_t head[FSIMAGE_HEAD] = {0};
	struct error err = {0};

	(void)state;
	assert_null(fsimage_type(head, 4096, &err));
	assert_non_null(strstr(err.text, "neither"));
	memcpy(head, "hsqs", 4);
	head[4] = 1;	 // inodes
	head[14] = 2;	 // block size 1 << 17
	head[22] = 17;	 // its logarithm
	head[28] = 4;	 // version
	head[41] = 0x10; // 4096 bytes
	assert_string_equal(fsimage_type(head, 4096, &err), "squashfs");
	assert_null(fsimage_type(head, 4095, &err));
	assert_non_null(strstr(err.text, "cut off"));
	head[22] = 40;
	assert_null(fsimage_type(head, 4096, &err));
	assert_non_null(strstr(err.text, "damaged"));
	head[28] = 3;
	assert_null(fsimage_type(head, 4096, &err));
	assert_non_null(strstr(err.text, "version 3"));

	memset(head, 0, sizeof(head));
	memcpy(head + 1024, "\xe2\xe1\xf5\xe0", 4);
	head[1024 + 12] = 12;
	head[1024 + 36] = 2; // blocks
	assert_string_equal(fsimage_type(head, 8192, &err), "erofs");
	assert_null(fsimage_type(head, 8191, &err));
	head[1024 + 12] = 63;
	assert_null(fsimage_type(head, 8192, &err));
}

static void collect(void *data, const char *text)
{
	buffer_printf(data, "<%s>", text);
}

static void keeps_last_words(void **state)
{
	cleanup_buffer struct buffer seen = {0};
	struct helper_log l = {.fd = -1, .line = collect, .data = &seen};
	char *wide = xmalloc(HELPER_LOG_LINE_MAX * 2);

	(void)state;
	helper_log_hide(&l, "s3cr3t");
	helper_log_hide(&l, "ab"); // too short
	helper_log_take(&l, "one s3c", 7);
	helper_log_take(&l, "r3t ab\n\ntwo\x1b", 13);
	assert_string_equal(seen.data, "<one *** ab>");
	helper_log_flush(&l);
	assert_string_equal(seen.data, "<one *** ab><two?>");
	assert_string_equal(helper_log_last(&l), "one *** ab; two?");
	memset(wide, 'x', HELPER_LOG_LINE_MAX * 2);
	buffer_clear(&seen);
	for (int i = 0; i < 4000; i++)
		helper_log_take(&l, wide, HELPER_LOG_LINE_MAX);
	assert_true(seen.size < HELPER_LOG_BYTES_MAX + 10000);
	assert_non_null(strstr(seen.data, "which is not kept"));
	assert_true(strlen(helper_log_last(&l)) <= 240);
	helper_log_release(&l);
	free(wide);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(calls_helpers),
		cmocka_unit_test(keeps_secrets_out_of_arguments),
		cmocka_unit_test(refuses),
		cmocka_unit_test(mounts_from_servers),
		cmocka_unit_test(keeps_the_nodes_tickets),
		cmocka_unit_test(reads_mountinfo),
		cmocka_unit_test(looks_at_images),
		cmocka_unit_test(keeps_last_words),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
