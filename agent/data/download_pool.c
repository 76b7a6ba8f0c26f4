// SPDX-License-Identifier: Apache-2.0
#include "agent/data/download_pool.h"

struct download_connections {
	struct download_connections *next;
	struct http http;
};

// curl_load() is made for one thread.
static pthread_mutex_t loading = PTHREAD_MUTEX_INITIALIZER;

void download_pool_release(struct download_pool *p)
{
	while (p->idle) {
		struct download_connections *c = p->idle;
		p->idle = c->next;
		http_close(&c->http);
		free(c);
	}
	pthread_mutex_destroy(&p->mutex);
}

static struct download_connections *take(struct download_pool *p, struct error *err)
{
	pthread_mutex_lock(&p->mutex);
	struct download_connections *c = p->idle;
	if (c)
		p->idle = c->next;
	pthread_mutex_unlock(&p->mutex);
	if (c)
		return c;
	c = xcalloc(1, sizeof(*c));
	pthread_mutex_lock(&loading);
	int status = http_open(&c->http, err);
	pthread_mutex_unlock(&loading);
	if (status == 0)
		return c;
	free(c);
	return NULL;
}

static void give(struct download_pool *p, struct download_connections *c)
{
	pthread_mutex_lock(&p->mutex);
	c->next = p->idle;
	p->idle = c;
	pthread_mutex_unlock(&p->mutex);
}

int download_pool_prepare(struct download_pool *p, struct error *err)
{
	struct download_connections *c = take(p, err);
	if (!c)
		return -1;
	give(p, c);
	return 0;
}

int download_pool_exchange(struct download_pool *p, struct download_exchange *x, struct error *err)
{
	struct download_connections *c = take(p, err);
	if (!c) {
		x->failure = DATA_FAILED;
		return -1;
	}
	int status = download_exchange_run(&c->http, x, err);
	if (status == 0) {
		give(p, c);
		return 0;
	}
	// With an exchange under way.
	http_close(&c->http);
	free(c);
	return -1;
}
