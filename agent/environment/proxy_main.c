// SPDX-License-Identifier: Apache-2.0
//
// The process: takes its settings and the cache's folder, gives up all else, then takes listening
// sockets and connections until its starter is gone.
#include "agent/data/download_part.h"
#include "agent/environment/proxy_internal.h"
#include "base/file.h"
#include "base/message.h"
#include "base/sha256.h"
#include "base/text.h"
#include "oci/registry/confine.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { STACK_SIZE = 1024 * 1024 };

struct listeners {
	int fds[PROXY_LISTENERS_MAX]; // the oldest first
	size_t count;
};

struct visitor {
	struct proxy *proxy;
	int fd;
};

static void *serve_visitor(void *data)
{
	cleanup_free struct visitor *v = data;
	struct proxy *p = v->proxy;
	uint64_t one = 1;
	proxy_connection_serve(p, v->fd);
	pthread_mutex_lock(&p->mutex);
	p->connections--;
	pthread_mutex_unlock(&p->mutex);
	// So that the next may come; a full counter wakes as well.
	if (write(p->wake_fd, &one, sizeof(one)) < 0)
		return NULL;
	return NULL;
}

static void accept_one(struct proxy *p, int listener)
{
	int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	if (fd < 0)
		return;
	struct visitor *v = xcalloc(1, sizeof(*v));
	*v = (struct visitor){p, fd};
	pthread_attr_t attributes;
	pthread_t thread;
	pthread_attr_init(&attributes);
	pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
	pthread_attr_setstacksize(&attributes, STACK_SIZE);
	pthread_mutex_lock(&p->mutex);
	p->connections++;
	pthread_mutex_unlock(&p->mutex);
	if (pthread_create(&thread, &attributes, serve_visitor, v) != 0) {
		pthread_mutex_lock(&p->mutex);
		p->connections--;
		pthread_mutex_unlock(&p->mutex);
		close(fd);
		free(v);
	}
	pthread_attr_destroy(&attributes);
}

// A socket keeps its network namespace, and nothing tells when the step in there has ended. Steps
// come one after the other: the oldest goes.
static void take_listener(struct listeners *l)
{
	char text[64];
	int fd = -1, on = 0;
	socklen_t n = sizeof(on);
	struct error ignored;
	ssize_t size = message_receive(PROXY_INTAKE, text, sizeof(text), &fd, 1, true, &ignored);
	cleanup_fd int socket = size < 0 ? -1 : fd;
	if (size < 0 || socket < 0 || getsockopt(socket, SOL_SOCKET, SO_ACCEPTCONN, &on, &n) < 0 ||
		!on || fcntl(socket, F_SETFL, O_NONBLOCK) < 0)
		return;
	if (l->count == PROXY_LISTENERS_MAX) {
		close_fdp(&l->fds[0]);
		memmove(l->fds, l->fds + 1, (l->count - 1) * sizeof(l->fds[0]));
		l->count--;
	}
	l->fds[l->count++] = steal_fd(&socket);
}

// False: the starter is gone.
static bool answer_starter(struct proxy *p)
{
	enum proxy_verb verb;
	struct proxy_answer a = {0};
	struct error ignored;
	if (message_receive(PROXY_CONTROL, &verb, sizeof(verb), NULL, 0, false, &ignored) !=
		sizeof(verb))
		return false;
	pthread_mutex_lock(&p->mutex);
	if (verb == PROXY_TROUBLE) {
		a.trouble = p->trouble;
		a.found = p->trouble.failure != DATA_OK;
		p->trouble = (struct package_proxy_trouble){0};
	} else if (verb == PROXY_COUNTS) {
		a.counts = p->counts;
	}
	pthread_mutex_unlock(&p->mutex);
	return message_send(PROXY_CONTROL, &a, sizeof(a), NULL, 0, &ignored) == 0;
}

static bool has_room(struct proxy *p)
{
	pthread_mutex_lock(&p->mutex);
	bool room = p->connections < PROXY_CONNECTIONS_MAX;
	pthread_mutex_unlock(&p->mutex);
	return room;
}

static void serve(struct proxy *p)
{
	struct listeners l = {0};
	for (bool intake = true;;) {
		struct pollfd fds[3 + PROXY_LISTENERS_MAX] = {{PROXY_CONTROL, POLLIN, 0},
			{intake ? PROXY_INTAKE : -1, POLLIN, 0}, {p->wake_fd, POLLIN, 0}};
		bool room = has_room(p);
		size_t count = l.count;
		for (size_t i = 0; i < count; i++)
			fds[3 + i] = (struct pollfd){room ? l.fds[i] : -1, POLLIN, 0};
		if (poll(fds, 3 + count, -1) < 0)
			continue;
		uint64_t woken;
		if (fds[2].revents && read(p->wake_fd, &woken, sizeof(woken)) < 0)
			continue;
		for (size_t i = 0; i < count; i++)
			if (fds[3 + i].revents && has_room(p))
				accept_one(p, l.fds[i]);
		if (fds[1].revents & POLLIN)
			take_listener(&l);
		else if (fds[1].revents) // all senders are gone
			intake = false;
		if (fds[0].revents && !answer_starter(p))
			return;
	}
}

static int configure(struct proxy *p, struct error *err)
{
	enum proxy_verb verb;
	int fds[2] = {-1, -1};
	ssize_t n = message_receive(PROXY_CONTROL, &verb, sizeof(verb), fds, 2, false, err);
	if (n < 0)
		return -1;
	cleanup_fd int settings = fds[0];
	p->folder_fd = fds[1];
	if (n != sizeof(verb) || verb != PROXY_CONFIGURE || settings < 0 || p->folder_fd < 0)
		return error_set(err, ERROR_INVALID,
			"this is a helper process of stoker; it is not started by hand");
	cleanup_buffer struct buffer text = {0};
	if (file_read_fd(settings, "settings", PROXY_SETTINGS_MAX, &text, err) < 0)
		return -1;
	return proxy_settings_read(
		&p->arena, text.data ? text.data : "", text.size, &p->settings, err);
}

// What needs files of the system comes before the confinement; what makes files in the cache, which
// belongs to the user that we become, behind it.
static int start(struct proxy *p, struct error *err)
{
	if (configure(p, err) < 0)
		return -1;
	p->curl = curl_load(err);
	if (!p->curl)
		return -1;
	sha256_prepare();
	download_part_prepare();
	if (fetcher_confine_writing(&p->folder_fd, 1, err) < 0 || proxy_init(p, err) < 0)
		return -1;
	p->cache = download_cache_open(p->folder_fd, ".", &p->settings.limits, err);
	return p->cache ? 0 : -1;
}

int package_proxy_main(void)
{
	static struct proxy p;
	struct error err = {0}, ignored;
	signal(SIGPIPE, SIG_IGN);
	int status = start(&p, &err);
	struct proxy_answer a = {.found = status};
	if (status < 0)
		a.error = err;
	if (message_send(PROXY_CONTROL, &a, sizeof(a), NULL, 0, &ignored) < 0) {
		fprintf(stderr, "stoker packages: %s\n",
			status < 0 ? err.text : "nobody is there to serve");
		fflush(stderr);
		_exit(1);
	}
	if (status == 0)
		serve(&p);
	// Not exit(): threads are at work, and what they have half done is meant to be left.
	_exit(status < 0);
}
