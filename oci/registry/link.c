// SPDX-License-Identifier: Apache-2.0
#include "oci/registry/link.h"

#include "base/file.h"
#include "base/message.h"

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

// In a file without a name: they can be larger than a packet, and hold credentials.
static int send_settings(int socket, const struct registry_settings *s, struct error *err)
{
	cleanup_buffer struct buffer text = {0};
	registry_settings_write(s, &text);
	cleanup_fd int fd = memfd_create("settings", MFD_CLOEXEC);
	if (fd < 0)
		return error_set_errno(err, errno, "memfd_create");
	if (write_all(fd, text.data, text.size, "settings", err) < 0)
		return -1;
	if (lseek(fd, 0, SEEK_SET) < 0)
		return error_set_errno(err, errno, "rewind the settings");
	struct fetcher_command c = {.verb = FETCHER_CONFIGURE};
	return message_send(socket, &c, sizeof(c), &fd, 1, err);
}

int fetcher_link_open(const struct registry_settings *s, struct process *p, struct error *err)
{
	return registry_link_open("fetcher", s, p, err);
}

int registry_link_open(
	const char *helper, const struct registry_settings *s, struct process *p, struct error *err)
{
	int pair[2];
	if (message_pair(pair, err) < 0)
		return -1;
	cleanup_fd int ours = pair[0], theirs = pair[1];
	// No environment: proxies come with the settings, and nothing else is to have a say.
	const struct process_options options = {
		.argv = (const char *const[]){"stoker", helper, NULL},
		.envp = (const char *const[]){NULL},
		.fds = &(struct process_fd){theirs, FETCHER_SOCKET},
		.fd_count = 1,
		.keep_stderr = true,
		.die_with_parent = true,
	};
	if (process_start(&options, p, err) < 0 || send_settings(ours, s, err) < 0)
		return -1;
	return steal_fd(&ours);
}

static bool complete(const struct fetcher_reply *r, ssize_t size)
{
	size_t needed = sizeof(*r);
	if (size >= (ssize_t)sizeof(r->verb) && r->verb == FETCHER_PROGRESS)
		needed = offsetof(struct fetcher_reply, error);
	return size == (ssize_t)needed;
}

// The texts of a reply that has them.
static void check_texts(struct fetcher_reply *r)
{
	struct error copy = r->error;
	copy.text[sizeof(copy.text) - 1] = '\0';
	r->digest.text[sizeof(r->digest.text) - 1] = '\0';
	r->media_type[sizeof(r->media_type) - 1] = '\0';
	if (r->verb == FETCHER_DONE && copy.kind == ERROR_NONE)
		return;
	if (copy.kind <= ERROR_NONE || copy.kind > ERROR_SYSTEM)
		copy.kind = ERROR_SYSTEM;
	error_set(&r->error, copy.kind, "%s", copy.text); // leaves no control characters
	r->error.sys = copy.sys;
}

int fetcher_link_receive(int socket, struct fetcher_reply *r, int *fd, struct error *err)
{
	ssize_t n = message_receive(socket, r, sizeof(*r), fd, 1, true, err);
	if (n <= 0)
		return (int)n;
	if (!complete(r, n)) {
		close_fdp(fd);
		*fd = -1;
		return error_set(err, ERROR_SYSTEM, "the fetcher sent something unreadable");
	}
	if (r->verb == FETCHER_PROGRESS)
		memset(&r->error, 0, sizeof(*r) - offsetof(struct fetcher_reply, error));
	else
		check_texts(r);
	return 1;
}

int registry_link_receive(struct arena *a, struct registry_settings *s, struct error *err)
{
	struct fetcher_command c;
	cleanup_fd int fd = -1;
	ssize_t n = message_receive(FETCHER_SOCKET, &c, sizeof(c), &fd, 1, false, err);
	if (n < 0)
		return -1;
	if (n != sizeof(c) || c.verb != FETCHER_CONFIGURE || fd < 0)
		return error_set(err, ERROR_INVALID,
			"this is a helper process of stoker; it is not started by hand");
	cleanup_buffer struct buffer text = {0};
	if (file_read_fd(fd, "settings", SETTINGS_BYTES_MAX, &text, err) < 0)
		return -1;
	return registry_settings_read(a, text.data ? text.data : "", text.size, s, err);
}
