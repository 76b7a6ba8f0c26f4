// SPDX-License-Identifier: Apache-2.0
//
// The starter's side of the package proxy.
#include "agent/environment/proxy_internal.h"
#include "base/file.h"
#include "base/message.h"
#include "base/process.h"
#include "base/text.h"

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { NOBODY = 65534 }; // whom the process becomes where we are root (oci/registry/confine.c)

struct package_proxy {
	struct process process;
	int control, intake;
};

// The cache belongs to the process that fills it. Where that user is not mapped, it stays us.
static int open_folder(const struct store *s, struct error *err)
{
	cleanup_fd int fd = directory_ensure(s->state_fd, "packages", 0700, err);
	if (fd < 0)
		return -1;
	if (geteuid() == 0 && fchown(fd, NOBODY, NOBODY) < 0 && errno != EINVAL)
		return error_set_errno(err, errno, "give away the folder \"packages\"");
	return steal_fd(&fd);
}

static int send_settings(
	int control, const struct proxy_settings *s, int folder_fd, struct error *err)
{
	cleanup_buffer struct buffer text = {0};
	enum proxy_verb verb = PROXY_CONFIGURE;
	if (proxy_settings_write(s, &text, err) < 0)
		return -1;
	cleanup_fd int fd = memfd_create("settings", MFD_CLOEXEC);
	if (fd < 0)
		return error_set_errno(err, errno, "memfd_create");
	if (write_all(fd, text.data, text.size, "settings", err) < 0)
		return -1;
	if (lseek(fd, 0, SEEK_SET) < 0)
		return error_set_errno(err, errno, "rewind the settings");
	return message_send(control, &verb, sizeof(verb), (const int[]){fd, folder_fd}, 2, err);
}

static int receive(struct package_proxy *p, struct proxy_answer *a, struct error *err)
{
	ssize_t n = message_receive(p->control, a, sizeof(*a), NULL, 0, false, err);
	if (n < 0)
		return -1;
	if (n != sizeof(*a)) {
		int status = 0;
		char text[64];
		if (n != 0 || process_wait(&p->process, &status, err) < 0)
			return error_set(err, ERROR_SYSTEM, "the package proxy said nonsense");
		return error_set(err, ERROR_SYSTEM, "the package proxy %s",
			process_describe_status(status, text));
	}
	if (a->found >= 0)
		return a->found;
	a->error.text[sizeof(a->error.text) - 1] = '\0';
	return error_set(err, a->error.kind, "the package proxy: %s", a->error.text);
}

static int ask(
	struct package_proxy *p, enum proxy_verb verb, struct proxy_answer *a, struct error *err)
{
	if (message_send(p->control, &verb, sizeof(verb), NULL, 0, err) < 0)
		return error_context(err, "the package proxy");
	return receive(p, a, err);
}

// Of the environment only what says which proxies to use (and what tests leave out: base/weaken.h).
static void pass_environment(struct arena *a, const char **envp, size_t most)
{
	static const char *const names[] = {"http_proxy", "https_proxy", "HTTPS_PROXY", "no_proxy",
		"NO_PROXY", "STOKER_WEAKEN"};
	size_t n = 0;
	for (size_t i = 0; i < array_size(names) && n + 1 < most; i++) {
		const char *value = getenv(names[i]);
		if (value)
			envp[n++] = arena_printf(a, "%s=%s", names[i], value);
	}
	envp[n] = NULL;
}

static int start(
	struct package_proxy *p, const struct proxy_settings *s, int folder_fd, struct error *err)
{
	cleanup_arena struct arena arena = {0};
	const char *envp[8];
	int control[2], intake[2];
	struct proxy_answer a;
	if (message_pair(control, err) < 0)
		return -1;
	p->control = control[0];
	cleanup_fd int control_there = control[1];
	if (message_pair(intake, err) < 0)
		return -1;
	p->intake = intake[0];
	cleanup_fd int intake_there = intake[1];
	pass_environment(&arena, envp, array_size(envp));
	const struct process_options options = {
		.argv = (const char *const[]){"stoker", "packages", NULL},
		.envp = envp,
		.fds = (const struct process_fd[]){{control_there, PROXY_CONTROL},
			{intake_there, PROXY_INTAKE}},
		.fd_count = 2,
		.keep_stderr = true,
		.die_with_parent = true,
		.new_session = true,
	};
	if (process_start(&options, &p->process, err) < 0)
		return -1;
	close_fdp(&control_there); // or its end would not be heard
	control_there = -1;
	if (send_settings(p->control, s, folder_fd, err) < 0)
		return -1;
	return receive(p, &a, err);
}

struct package_proxy *package_proxy_start(struct store *s, const struct config *config,
	const struct json_strings *sources, struct error *err)
{
	cleanup_arena struct arena arena = {0};
	struct proxy_settings settings = {0};
	cleanup_fd int folder_fd = open_folder(s, err);
	if (folder_fd < 0)
		return NULL;
	struct package_proxy *p = xcalloc(1, sizeof(*p));
	*p = (struct package_proxy){.process.pidfd = -1, .control = -1, .intake = -1};
	int status = proxy_settings_make(&arena, config, sources, &settings, err);
	if (status == 0)
		status = start(p, &settings, folder_fd, err);
	package_credentials_release(&settings.credentials);
	if (status == 0)
		return p;
	package_proxy_free(p);
	return NULL;
}

void package_proxy_free(struct package_proxy *p)
{
	if (!p)
		return;
	process_release(&p->process);
	close_fdp(&p->control);
	close_fdp(&p->intake);
	free(p);
}

int package_proxy_socket(const struct package_proxy *p)
{
	return p->intake;
}

int package_proxy_trouble(
	struct package_proxy *p, struct package_proxy_trouble *t, struct error *err)
{
	struct proxy_answer a;
	int found = ask(p, PROXY_TROUBLE, &a, err);
	if (found <= 0)
		return found;
	*t = a.trouble;
	t->url[sizeof(t->url) - 1] = t->text[sizeof(t->text) - 1] = '\0';
	text_flatten(t->url);
	text_flatten(t->text);
	if (t->failure >= DATA_FAILURES)
		t->failure = DATA_FAILED;
	return 1;
}

int package_proxy_counts(struct package_proxy *p, struct package_proxy_counts *c, struct error *err)
{
	struct proxy_answer a;
	if (ask(p, PROXY_COUNTS, &a, err) < 0)
		return -1;
	*c = a.counts;
	return 0;
}
