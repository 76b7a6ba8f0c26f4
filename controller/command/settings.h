// SPDX-License-Identifier: Apache-2.0
//
// DIR/controller.yaml: where the controller keeps its things, and its limits (controller.yaml in
// stoker-controller(1)).
#pragma once

#include "controller/state/controller.h"

#include <stdbool.h>

struct settings {
	struct arena arena;
	const char *data; // absolute
	const char *database, *files;
	const char *certificate, *key; // NULL: no TLS
	bool allow_plain_http;
	struct controller_limits limits;
	uint64_t connections, connections_per_address, idle_ms, user_rate, node_rate;
};

// Of the command line; NULL and false: not given. They win.
struct settings_overrides {
	const char *data, *database, *files, *certificate, *key;
	bool allow_plain_http;
};
// Without a file: what is right for one machine.
int settings_load(struct settings *s, const struct settings_overrides *o, struct error *err);
int settings_parse(
	struct settings *s, const char *data, size_t size, const char *name, struct error *err);
// Write a first file, with the overrides that were given. One that is there stays.
int settings_write(const struct settings_overrides *o, struct error *err);
void settings_release(struct settings *s);
