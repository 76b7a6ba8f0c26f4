// SPDX-License-Identifier: Apache-2.0
#include "base/log.h"
#include "base/notify.h"
#include "base/text.h"
#include "base/time.h"
#include "controller/api/api.h"
#include "controller/command/command.h"
#include "controller/state/housekeeping.h"

#include <arpa/inet.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>

// Requests under way get so long when the controller is asked to end; systemd gives 90 s.
enum { STOP_MS = 15 * 1000, ADDRESS_MAX = 64, HOUSE_MS = 1000 };

static const struct options_usage usage = {
	.program = "stoker-controller",
	.verb = "serve",
	.arguments = "",
	.summary = "Run the controller in the foreground until SIGTERM or SIGINT.",
};

static const struct route *const routes[] = {
	api_status,
	api_tokens,
	api_runs,
	api_events,
	api_snapshots,
	api_nodes,
	api_poll,
	api_files,
	api_metrics,
	api_models,
	NULL,
};

struct place {
	char address[ADDRESS_MAX];
	uint16_t port;
	bool loopback, v6;
};

// "127.0.0.1:8443", "[::1]:8443".
static int parse_place(const char *text, struct place *p, struct error *err)
{
	const char *colon = strrchr(text, ':');
	size_t size = colon ? (size_t)(colon - text) : 0;
	uint64_t port;
	struct in_addr v4;
	struct in6_addr v6;
	if (size > 2 && text[0] == '[' && text[size - 1] == ']') {
		text++;
		size -= 2;
	}
	if (size == 0 || size >= sizeof(p->address) || !parse_u64(colon + 1, &port) ||
		port > UINT16_MAX)
		return error_set(err, ERROR_INVALID,
			"--listen: must be ADDRESS:PORT, such as 127.0.0.1:8443 or [::]:8443");
	memcpy(p->address, text, size);
	p->address[size] = '\0';
	p->port = (uint16_t)port;
	p->v6 = inet_pton(AF_INET6, p->address, &v6) == 1;
	if (p->v6)
		p->loopback = IN6_IS_ADDR_LOOPBACK(&v6);
	else if (inet_pton(AF_INET, p->address, &v4) == 1)
		p->loopback = ntohl(v4.s_addr) >> 24 == 127;
	else
		return error_set(
			err, ERROR_INVALID, "--listen: %s is not an IP address", p->address);
	return 0;
}

// Tokens go over it.
static int check_tls(const struct settings *s, const struct place *p, struct error *err)
{
	if (!s->certificate != !s->key)
		return error_set(err, ERROR_INVALID, "certificate and key belong together");
	if (!s->certificate && !p->loopback && !s->allow_plain_http)
		return error_set(err, ERROR_INVALID,
			"%s is not on loopback: give --tls-certificate and --tls-key, or "
			"--allow-plain-http where a proxy in front speaks TLS",
			p->address);
	return 0;
}

// Each connection has a descriptor; the usual soft limit is 1024.
static void raise_descriptor_limit(void)
{
	struct rlimit r;
	if (getrlimit(RLIMIT_NOFILE, &r) == 0) {
		r.rlim_cur = r.rlim_max;
		setrlimit(RLIMIT_NOFILE, &r);
	}
}

static void tell_hub(void *hub, const char *topic)
{
	hub_notify(hub, topic);
}

static struct server *start(struct command *c, const struct place *p, struct error *err)
{
	const struct settings *s = &c->settings;
	const struct server_options o = {
		.address = p->address,
		.port = p->port,
		.certificate = s->certificate,
		.key = s->key,
		.connections = (unsigned)s->connections,
		.connections_per_address = (unsigned)s->connections_per_address,
		.idle_ms = (unsigned)s->idle_ms,
		.user_rate = (double)s->user_rate,
		.node_rate = (double)s->node_rate,
		.routes = routes,
		.controller = &c->controller,
	};
	return server_start(&o, err);
}

static void announce(const struct settings *s, const struct place *p, uint16_t port)
{
	printf("listening on http%s://%s%s%s:%u\n", s->certificate ? "s" : "", p->v6 ? "[" : "",
		p->address, p->v6 ? "]" : "", port);
	fflush(stdout);
	notify_send("READY=1");
}

// A failure is the next second's matter: a database that is away comes back, and until then nothing
// can be decided.
static void *keep_house(void *data)
{
	struct controller *k = data;
	struct error err;
	bool failed = false;
	for (uint64_t seen = hub_count(k->hub, "house"); !hub_is_stopped(k->hub);) {
		bool now_failed = housekeeping(k, wall_ms(), &err) < 0;
		if (now_failed && !failed)
			log_error("housekeeping: %s", err.text);
		failed = now_failed;
		hub_wait(k->hub, "house", seen, HOUSE_MS);
	}
	return NULL;
}

static int serve(struct command *c, const struct place *p, const sigset_t *ends, struct error *err)
{
	pthread_t house;
	if (housekeeping_begin(&c->controller, wall_ms(), err) < 0)
		return -1;
	struct server *server = start(c, p, err);
	if (!server)
		return -1;
	int rc = pthread_create(&house, NULL, keep_house, &c->controller);
	if (rc) {
		server_stop(server, 0);
		return error_set_errno(err, rc, "start a thread");
	}
	announce(&c->settings, p, server_port(server));
	int signo;
	do // a debugger, or SIGSTOP and SIGCONT, end the wait as well
		signo = sigwaitinfo(ends, NULL);
	while (signo < 0 && errno == EINTR);
	log_info("%s: ending", strsignal(signo));
	notify_send("STOPPING=1");
	hub_stop(c->controller.hub);
	server_stop(server, STOP_MS);
	pthread_join(house, NULL);
	return 0;
}

// Signals are waited for by this thread alone, so they are blocked before there are others.
static int open_and_serve(struct command *c, const struct place *p, struct error *err)
{
	sigset_t ends;
	bool has;
	sigemptyset(&ends);
	sigaddset(&ends, SIGTERM);
	sigaddset(&ends, SIGINT);
	pthread_sigmask(SIG_BLOCK, &ends, NULL);
	signal(SIGPIPE, SIG_IGN);
	raise_descriptor_limit();
	if (command_open(c, err) < 0)
		return err->kind == ERROR_NOT_FOUND
			       ? error_context(err, "first comes stoker-controller init")
			       : -1;
	struct controller *k = &c->controller;
	if (database_claim(k->db, err) < 0)
		return -1;
	k->hub = hub_new();
	database_on_notify(k->db, tell_hub, k->hub);
	k->blobs = blobs_open(c->settings.files, k->db, err);
	int rc = k->blobs ? command_has_tokens(c, &has, err) : -1;
	if (rc == 0 && !has)
		rc = error_set(err, ERROR_INVALID,
			"%s has no tokens; first: stoker-controller init", c->settings.data);
	if (rc == 0)
		rc = serve(c, p, &ends, err);
	blobs_close(k->blobs);
	database_close(steal(k->db)); // its threads may tell the hub until then
	hub_free(k->hub);
	return rc;
}

int command_serve(struct command *c, int argc, char **argv, struct error *err)
{
	const char *listen = "127.0.0.1:8443";
	struct place p = {0};
	const struct option options[] = {
		{OPTION_STRING, 0, "listen", "ADDRESS:PORT", "127.0.0.1:8443; port 0: a free one",
			&listen},
		{OPTION_STRING, 0, "tls-certificate", "FILE", "PEM, with what it was signed by",
			&c->overrides.certificate},
		{OPTION_STRING, 0, "tls-key", "FILE", "PEM, the certificate's key",
			&c->overrides.key},
		{OPTION_FLAG, 0, "allow-plain-http", NULL, "without TLS on any address",
			&c->overrides.allow_plain_http},
		{OPTION_END},
	};
	char **rest;
	int count;
	int rc = command_options(c, options, &usage, false, argc, argv, &rest, &count, err);
	if (rc != OPTIONS_OK)
		return rc == OPTIONS_HELP ? 0 : -1;
	c->usage_error = true;
	if (parse_place(listen, &p, err) < 0)
		return -1;
	c->usage_error = false;
	if (settings_load(&c->settings, &c->overrides, err) < 0 ||
		check_tls(&c->settings, &p, err) < 0)
		return -1;
	return open_and_serve(c, &p, err);
}
