// SPDX-License-Identifier: Apache-2.0
//
// This node, by its agent's socket or, where none runs, by what is on the disk; and, where one is
// named, a node of the controller that the user has logged in to.
#include "agent/command/remote.h"
#include "agent/link/credential.h"
#include "agent/link/drain.h"
#include "base/exchange.h"
#include "base/text.h"
#include "base/time.h"

#include <stdio.h>

static const struct options_usage usage = {
	.verb = "node",
	.arguments = "drain|undrain|status [NODE]",
	.summary = "drain: this node takes no new runs from its controller, and those that run\n"
		   "finish; also after a restart, until undrain. status: what the node has, what "
		   "of it\n"
		   "is taken, whether the controller answers. With NODE, a node of the controller "
		   "that\n"
		   "stoker login named, for which drain and undrain need an administrator's token.",
	.more = "Examples:\n"
		"  stoker node drain && stoker node status\n"
		"  stoker node undrain gpu-node-7",
	.least = 1,
	.most = 2,
};

enum { STALL_MS = 5000 };

// ---- this one

static int ask(struct exchange *x, const char *method, const char *path, struct arena *a,
	const struct json **status, struct error *err)
{
	cleanup_exchange_reply struct exchange_reply reply = {0};
	const struct exchange_request q = {
		.method = method, .url = arena_printf(a, "http://agent/%s", path), .fd = -1};
	if (exchange_do(x, &q, &reply, err) < 0)
		return -1;
	if (reply.status != 200)
		return error_set(
			err, ERROR_SYSTEM, "the agent answers %d to %s", reply.status, path);
	*status = json_parse(a, reply.body.data ? reply.body.data : "", reply.body.size,
		"the agent's answer", NULL, err);
	return *status ? 0 : -1;
}

// ERROR_UNAVAILABLE: no agent.
static int ask_agent(const struct store *s, const char *verb, struct arena *a,
	const struct json **status, struct error *err)
{
	const struct exchange_settings settings = {.stall_ms = STALL_MS,
		.cancel_fd = -1,
		.unix_socket = arena_printf(a, "/proc/self/fd/%d/agent.sock", s->run_fd)};
	cleanup_exchange struct exchange *x = exchange_new(&settings, err);
	if (!x)
		return -1;
	return ask(x, streq(verb, "status") ? "GET" : "POST", verb, a, status, err);
}

// What there is to say of a node whose agent does not run.
static int describe(
	const struct store *s, struct arena *a, const struct json **status, struct error *err)
{
	struct credential c;
	cleanup_buffer struct buffer b = {0};
	cleanup_json_writer struct json_writer *w = json_writer_new(false);
	if (credential_load(s->state_fd, a, &c, err) < 0)
		return -1;
	json_write_open_object(w);
	json_write_member_bool(w, "agent", false);
	json_write_member(w, "name", c.name);
	json_write_member(w, "node", c.node);
	json_write_member(w, "controller", c.url);
	json_write_member_bool(w, "draining", drain_is_set(s->state_fd));
	json_write_close_object(w);
	if (json_writer_finish(w, &b, err) < 0)
		return -1;
	*status = json_parse(a, b.data, b.size, "status", NULL, err);
	return *status ? 0 : -1;
}

static void print_status(const struct json *status)
{
	const struct json *held = json_get(status, "attempts");
	char since[TIME_TEXT_SIZE];
	int64_t changed = json_get_integer(status, "in_touch_changed", 0);
	printf("%-11s %s (%s)\n", "node", remote_text(status, "name"), remote_text(status, "node"));
	printf("%-11s %s\n", "controller", remote_text(status, "controller"));
	if (!json_get_bool(status, "agent", false))
		printf("%-11s does not run; start it: stoker agent\n", "agent");
	else if (changed)
		printf("%-11s %s since %s\n", "link",
			json_get_bool(status, "in_touch", false) ? "answers" : "does not answer",
			format_time(changed, since));
	printf("%-11s %s\n", "runs",
		json_get_bool(status, "draining", false) ? "draining: no new ones are taken"
		: json_get_bool(status, "drain", false)
			? "draining by the controller: no new ones are taken"
			: "are taken");
	remote_print_resources(json_get(status, "resources"));
	if (!held || held->type != JSON_ARRAY)
		return;
	json_array_each (item, held)
		printf("%-11s %s, attempt %lld: %s\n", "run", remote_text(&item->value, "run"),
			(long long)json_get_integer(&item->value, "attempt", 0),
			remote_text(&item->value, "state"));
}

static int do_here(struct command *c, const char *verb, bool json, struct error *err)
{
	cleanup_arena struct arena a = {0};
	const struct json *status;
	struct error none;
	if (command_open(c, err) < 0)
		return -1;
	int rc = ask_agent(c->store, verb, &a, &status, &none);
	if (rc < 0 && none.kind != ERROR_UNAVAILABLE) {
		*err = none;
		return -1;
	}
	if (rc < 0 && !streq(verb, "status") &&
		drain_set(c->store->state_fd, streq(verb, "drain"), err) < 0)
		return -1;
	if (rc < 0 && describe(c->store, &a, &status, err) < 0)
		return -1;
	if (json)
		return remote_print_json(status, err);
	print_status(status);
	return 0;
}

// ---- another

static int do_there(const char *verb, const char *name, bool json, struct error *err)
{
	cleanup_arena struct arena a = {0};
	cleanup_service struct service *s = NULL;
	const struct json *node;
	const char *path = arena_printf(&a, "/v1/nodes/%s", service_escape(&a, name, false));
	if (remote_open(&s, err) < 0 || service_call(s, "GET", path, NULL, &a, &node, err) < 0)
		return -1;
	if (!streq(verb, "status")) { // by its id; a name may have gone to another
		cleanup_json_writer struct json_writer *w = json_writer_new(false);
		json_write_open_object(w);
		json_write_close_object(w);
		path = arena_printf(&a, "/v1/nodes/%s/%s", remote_text(node, "id"), verb);
		if (service_call(s, "POST", path, w, &a, &node, err) < 0)
			return -1;
	}
	if (json)
		return remote_print_json(node, err);
	printf("%-11s %s (%s)\n%-11s %s\n", "node", remote_text(node, "name"),
		remote_text(node, "id"), "state", remote_text(node, "state"));
	remote_print_resources(json_get(node, "resources"));
	return 0;
}

int command_node(struct command *c, int argc, char **argv, struct error *err)
{
	bool json = false;
	const struct option options[] = {
		{OPTION_FLAG, 0, "json", NULL, "for programs", &json},
		{OPTION_END},
	};
	char **rest;
	int count;
	int rc = command_options(c, options, &usage, false, argc, argv, &rest, &count, err);
	if (rc != OPTIONS_OK)
		return rc == OPTIONS_HELP ? 0 : -1;
	const char *verb = rest[0];
	if (!streq(verb, "drain") && !streq(verb, "undrain") && !streq(verb, "status")) {
		c->usage_error = true;
		return error_set(
			err, ERROR_INVALID, "node %.40s: must be drain, undrain or status", verb);
	}
	return count == 2 ? do_there(verb, rest[1], json, err) : do_here(c, verb, json, err);
}
