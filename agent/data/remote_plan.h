// SPDX-License-Identifier: Apache-2.0
//
// The options of an NFS or CIFS mount, computed as data and given to fsconfig(2) one by one: so a
// password stands in no command line and no value can begin an option of its own.
//
// Inputs are read with "softerr": what a server does not answer in time is an error for the script.
// What is written is "hard": the kernel goes on trying, and an error comes when the flush's limit
// is over, which says so.
#pragma once

#include "agent/data/source.h"

struct remote_option {
	const char *key, *value; // NULL: it has none
};

struct remote_plan {
	const char *type;   // of the file system
	const char *host;   // without the brackets of an IPv6 address
	const char *source; // "server:/export", "//server/share"
	struct remote_option *options;
	size_t count;
};

// `address`: what `host` was resolved to; `password`: NULL where there is none. In the arena.
void remote_plan(const struct data_source *s, const char *address, const char *password,
	struct arena *a, struct remote_plan *plan);
// May a job have these options? Not those that take a ticket which somebody of this node holds.
int remote_check(const struct data_source *s, struct error *err);
const char *remote_host(const struct data_source *s, struct arena *a);
