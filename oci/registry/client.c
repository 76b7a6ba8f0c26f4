// SPDX-License-Identifier: Apache-2.0
#include "oci/registry/client.h"

#include "base/time.h"
#include "oci/registry/request.h"

int registry_client_open(
	struct registry_client *c, const struct registry_settings *settings, struct error *err)
{
	*c = (struct registry_client){.settings = settings};
	if (http_open(&c->http, err) < 0)
		return -1;
	c->http.now = now_ms();
	c->http.stall_ms = (int64_t)settings->stall_ms;
	c->http.https_proxy = settings->https_proxy;
	c->http.http_proxy = settings->http_proxy;
	c->http.no_proxy = settings->no_proxy;
	for (size_t i = 0; i < settings->endpoint_count; i++) {
		c->states[i].endpoint = &settings->endpoints[i];
		c->states[i].auth = (struct registry_auth){
			.http = &c->http,
			.endpoint = &settings->endpoints[i],
			.subject = settings->subject,
			.path = settings->path,
			.settled = requests_settled,
			.data = c,
		};
	}
	return 0;
}

void registry_client_close(struct registry_client *c)
{
	requests_release(c);
	for (size_t i = 0; c->settings && i < c->settings->endpoint_count; i++)
		registry_auth_release(&c->states[i].auth);
	if (c->http.curl)
		http_close(&c->http);
}

int registry_client_turn(struct registry_client *c, struct error *err)
{
	c->http.now = now_ms();
	requests_wake(c);
	if (http_turn(&c->http, err) < 0)
		return -1;
	requests_sweep(c);
	return 0;
}

int64_t registry_client_deadline(const struct registry_client *c)
{
	int64_t http = http_deadline(&c->http), requests = requests_deadline(c);
	return http < requests ? http : requests;
}
