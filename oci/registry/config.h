// SPDX-License-Identifier: Apache-2.0
//
// What the administrator says about registries (the `registries:` part of agent.yaml):
//
//   registries:
//     connections: 6            # at once, per pull
//     stall_timeout: 30         # seconds with hardly a byte before a request is tried again
//     retries: 6
//     docker_config: /etc/stoker/docker   # folder of config.json; default $DOCKER_CONFIG or
//     ~/.docker hosts:
//       docker.io:
//         mirrors: [https://mirror.example:5000, http://10.0.0.1:5000]   # tried in order, then the
//         host ca: /etc/stoker/ca.pem http: true            # speak plain HTTP to this host;
//         loopback may always do so proxy: http://proxy:3128      # else the usual environment
//         variables username: u           # where no docker config is wanted password_file:
//         /etc/stoker/password
#pragma once

#include "base/arena.h"
#include "base/error.h"
#include "base/json_decode.h"

#include <stdbool.h>
#include <stdint.h>

struct registry_host {
	const char *name; // "docker.io", "localhost:5000"
	struct json_strings mirrors;
	const char *ca, *proxy, *username, *password_file; // NULL if not given
	bool http;
};

struct registry_config {
	uint64_t connections, stall_timeout, retries; // defaults 6, 30 s, 6
	const char *docker_config;		      // NULL: the default places
	struct registry_host *hosts;
	size_t host_count;
};

// A json_decode_fn: target is struct registry_config, already holding defaults.
json_decode_fn registry_config_decode;
extern const struct registry_config registry_config_default;
// The entry for a domain, or NULL.
const struct registry_host *registry_config_host(
	const struct registry_config *c, const char *domain);
