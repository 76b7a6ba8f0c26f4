// SPDX-License-Identifier: Apache-2.0
//
// Kinds nfs and cifs: mounted by the kernel. All that may wait for a server, names included, is
// done in a child with a deadline: it makes the mount and puts it in its place.
#include "agent/data/mount.h"
#include "agent/data/remote_plan.h"
#include "base/file.h"
#include "base/message.h"
#include "base/text.h"
#include "base/time.h"

#include <netdb.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { READY_MS = 60 * 1000 };

struct result {
	struct error err;
	enum data_failure failure;
};

static int resolve(const char *host, char address[NI_MAXHOST], struct error *err)
{
	const struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
	struct addrinfo *found = NULL;
	int rc = getaddrinfo(host, NULL, &hints, &found);
	if (rc == 0)
		rc = getnameinfo(found->ai_addr, found->ai_addrlen, address, NI_MAXHOST, NULL, 0,
			NI_NUMERICHOST);
	if (found)
		freeaddrinfo(found);
	return rc == 0 ? 0
		       : error_set(err, ERROR_UNAVAILABLE, "name %s: %s", host, gai_strerror(rc));
}

// What the kernel says about a failure: lines such as "e nfs4: mount.nfs4: …" that wait on the
// descriptor.
static int say(int fs, const char *what, int sys, struct error *err)
{
	cleanup_buffer struct buffer lines = {0};
	char line[400];
	ssize_t n;
	while (lines.size < sizeof(line) && (n = read(fs, line, sizeof(line) - 1)) > 0) {
		line[n] = '\0';
		line[strcspn(line, "\n")] = '\0';
		const char *text = n > 2 && line[1] == ' ' ? line + 2 : line;
		buffer_printf(&lines, "%s%s", lines.size ? "; " : "", text);
	}
	if (!lines.size)
		return error_set_errno(err, sys, "%s", what);
	error_set_errno(err, sys, "%s: %s", what, lines.data);
	return -1;
}

static enum data_failure failure_of(int sys)
{
	switch (sys) {
	case ENODEV:
	case EPROTONOSUPPORT:
	case EOPNOTSUPP:
	case EINVAL:
		return DATA_UNSUPPORTED;
	case ENOENT:
	case ENXIO:
	case ENOTDIR:
		return DATA_NOT_FOUND;
	case EACCES:
	case EPERM:
		return DATA_FORBIDDEN;
	case EKEYREJECTED:
	case EKEYEXPIRED:
	case ENOKEY:
		return DATA_AUTHENTICATION;
	case ETIMEDOUT:
		return DATA_TIMEOUT;
	case ECONNREFUSED:
	case EHOSTUNREACH:
	case ENETUNREACH:
	case EHOSTDOWN:
	case ECONNRESET:
	case ECONNABORTED:
		return DATA_NETWORK;
	default:
		return DATA_FAILED;
	}
}

static int configure(int fs, const struct remote_plan *p, bool read_only, struct error *err)
{
	if (fsconfig(fs, FSCONFIG_SET_STRING, "source", p->source, 0) < 0)
		return say(fs, p->source, errno, err);
	for (size_t i = 0; i < p->count; i++) {
		const struct remote_option *o = &p->options[i];
		int rc = o->value ? fsconfig(fs, FSCONFIG_SET_STRING, o->key, o->value, 0)
				  : fsconfig(fs, FSCONFIG_SET_FLAG, o->key, NULL, 0);
		if (rc < 0) {
			cleanup_free char *what = xasprintf("option %.60s", o->key);
			return say(fs, what, errno, err);
		}
	}
	if (read_only && fsconfig(fs, FSCONFIG_SET_FLAG, "ro", NULL, 0) < 0)
		return say(fs, "option ro", errno, err);
	if (fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
		return say(fs, p->source, errno, err);
	return 0;
}

// The mount's descriptor goes to *held.
static int mount_it(const struct data_mount *m, const char *password, int *held, struct result *r)
{
	cleanup_arena struct arena a = {0};
	char address[NI_MAXHOST];
	struct remote_plan p;
	bool read_only = m->source->mode != DATA_RW_MOUNT;
	r->failure = DATA_NETWORK;
	if (resolve(remote_host(m->source, &a), address, &r->err) < 0)
		return -1;
	if (password) // of a file, which ends in a line break
		password = arena_strndup(&a, password, strcspn(password, "\r\n"));
	remote_plan(m->source, address, password, &a, &p);
	cleanup_fd int fs = fsopen(p.type, FSOPEN_CLOEXEC);
	r->failure = failure_of(errno);
	if (fs < 0 && errno == ENODEV)
		return error_set(&r->err, ERROR_SYSTEM,
			"this kernel has no %s; load its module on the node (modprobe %s), or use "
			"kind fuse",
			p.type, p.type);
	if (fs < 0)
		return error_set_errno(&r->err, errno, "fsopen %s", p.type);
	int rc = configure(fs, &p, read_only, &r->err);
	r->failure = failure_of(r->err.sys);
	if (rc < 0)
		return -1;
	unsigned attributes =
		MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | (read_only ? MOUNT_ATTR_RDONLY : 0);
	cleanup_fd int mounted = fsmount(fs, FSMOUNT_CLOEXEC, attributes);
	if (mounted < 0 ||
		move_mount(mounted, "", AT_FDCWD, m->path, MOVE_MOUNT_F_EMPTY_PATH) < 0) {
		r->failure = DATA_FAILED;
		return error_set_errno(&r->err, errno, "mount on %s", m->path);
	}
	*held = steal_fd(&mounted);
	return 0;
}

static int receive(int fd, pid_t pid, int64_t deadline_ms, int *held, struct result *r)
{
	struct error ignored;
	struct pollfd p = {.fd = fd, .events = POLLIN};
	int64_t left = deadline_ms - now_ms();
	int status;
	int n = poll(&p, 1, left < 0 ? 0 : left > INT32_MAX ? INT32_MAX : (int)left);
	ssize_t got = n > 0 ? message_receive(fd, r, sizeof(*r), held, 1, false, &ignored) : 0;
	if (n <= 0)
		kill(pid, SIGKILL);
	waitpid(pid, &status, n > 0 ? 0 : WNOHANG); // the kernel may not let go of it yet
	if (got == sizeof(*r))
		return r->err.kind == ERROR_NONE ? 0 : -1;
	r->failure = n > 0 ? DATA_FAILED : DATA_TIMEOUT;
	return error_set(&r->err, ERROR_UNAVAILABLE, "%s",
		n > 0 ? "the mount's process has ended" : "the server did not answer in time");
}

static int remote_open(struct data_mount *m, const struct data_options *o, int64_t deadline_ms,
	enum data_failure *failure, struct error *err)
{
	const struct data_source *s = m->source;
	const char *password = NULL;
	struct result r = {.failure = DATA_FAILED};
	int fds[2];
	*failure = DATA_FAILED;
	if (geteuid() != 0) {
		*failure = DATA_UNSUPPORTED;
		return error_set(err, ERROR_DENIED, "only root can mount %s; use kind fuse",
			data_kind_name(s->kind));
	}
	if (remote_check(s, err) < 0) {
		*failure = DATA_POLICY;
		return -1;
	}
	if (s->password_secret) {
		password = o->secret ? o->secret(o->data, s->password_secret) : NULL;
		if (!password)
			return error_set(err, ERROR_INVALID, "the job has no secret \"%s\"",
				s->password_secret);
	}
	if (!s->max_seconds)
		deadline_ms = now_ms() + READY_MS;
	if (message_pair(fds, err) < 0)
		return -1;
	cleanup_fd int ours = fds[0], theirs = fds[1];
	pid_t pid = fork();
	if (pid < 0)
		return error_set_errno(err, errno, "fork");
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		int held = -1;
		mount_it(m, password, &held, &r);
		_exit(message_send(theirs, &r, sizeof(r), &held, held >= 0, err) < 0);
	}
	close_fdp(&theirs);
	theirs = -1;
	int rc = receive(ours, pid, deadline_ms, &m->fd, &r);
	if (rc == 0)
		return mount_probe(m->path, true, deadline_ms, failure, err);
	*failure = r.failure;
	*err = r.err;
	return -1;
}

static int force(void *path)
{
	return umount2(path, MNT_FORCE | UMOUNT_NOFOLLOW) < 0 ? errno : 0;
}

// Requests that wait are ended with an error; those that come later wait again, until the next
// time. Held by m->fd the mount is busy: else it would be taken away here, and nothing of it could
// be reached any more while the job has it.
static void remote_stop(struct data_mount *m)
{
	struct error ignored;
	enum data_failure failure;
	mount_in_child(force, m->path, now_ms() + 1000, &failure, &ignored);
}

const struct mount_kind mount_nfs = {.open = remote_open,
	.abort = remote_stop,
	.plain_ids = true,
	.remote = true,
	.may_hang = true};
// Its waits end at the latest when the connection is taken for lost (echo_interval).
const struct mount_kind mount_cifs = {
	.open = remote_open, .abort = remote_stop, .plain_ids = true, .remote = true};
