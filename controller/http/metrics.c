// SPDX-License-Identifier: Apache-2.0
#include "controller/http/metrics.h"

#include "base/text.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>

enum { CLASSES = 6, NAMED_MAX = 64, NAME_SIZE = 64 };
static const int64_t bounds_ms[] = {1, 5, 25, 100, 500, 2500, 10000};
enum { BUCKETS = array_size(bounds_ms) + 1 };

struct metrics {
	atomic_ullong classes[CLASSES], buckets[BUCKETS];
	atomic_ullong received, sent, total_ms;
	atomic_int connections;

	pthread_mutex_t lock; // of what follows
	struct {
		char name[NAME_SIZE];
		double value;
	} named[NAMED_MAX];
	size_t named_count;
};

struct metrics *metrics_new(void)
{
	struct metrics *m = xcalloc(1, sizeof(*m));
	pthread_mutex_init(&m->lock, NULL);
	return m;
}

void metrics_free(struct metrics *m)
{
	if (!m)
		return;
	pthread_mutex_destroy(&m->lock);
	free(m);
}

void metrics_request(struct metrics *m, int status, int64_t ms, uint64_t received)
{
	size_t bucket = 0;
	while (bucket < array_size(bounds_ms) && ms > bounds_ms[bucket])
		bucket++;
	m->buckets[bucket]++;
	m->total_ms += (unsigned long long)ms;
	m->classes[status / 100 < CLASSES ? status / 100 : 0]++;
	m->received += received;
}

void metrics_sent(struct metrics *m, uint64_t bytes)
{
	m->sent += bytes;
}

void metrics_connections(struct metrics *m, int change)
{
	m->connections += change;
}

void metrics_count(struct metrics *m, const char *name, double value)
{
	pthread_mutex_lock(&m->lock);
	size_t i = 0;
	while (i < m->named_count && !streq(m->named[i].name, name))
		i++;
	if (i < NAMED_MAX) {
		if (i == m->named_count) {
			snprintf(m->named[i].name, NAME_SIZE, "%s", name);
			m->named_count++;
		}
		m->named[i].value += value;
	}
	pthread_mutex_unlock(&m->lock);
}

static void print_requests(struct metrics *m, struct buffer *out)
{
	buffer_puts(out, "# TYPE stoker_http_requests_total counter\n");
	for (int i = 1; i < CLASSES; i++)
		buffer_printf(out, "stoker_http_requests_total{class=\"%dxx\"} %llu\n", i,
			(unsigned long long)m->classes[i]);
	buffer_puts(out, "# TYPE stoker_http_request_seconds histogram\n");
	unsigned long long count = 0;
	for (size_t i = 0; i < BUCKETS; i++) {
		char bound[32] = "+Inf";
		if (i < array_size(bounds_ms))
			snprintf(bound, sizeof(bound), "%g", (double)bounds_ms[i] / 1000);
		count += m->buckets[i];
		buffer_printf(
			out, "stoker_http_request_seconds_bucket{le=\"%s\"} %llu\n", bound, count);
	}
	buffer_printf(out,
		"stoker_http_request_seconds_sum %.3f\nstoker_http_request_seconds_count %llu\n",
		(double)m->total_ms / 1000, count);
}

void metrics_print(struct metrics *m, struct buffer *out)
{
	print_requests(m, out);
	buffer_printf(out,
		"# TYPE stoker_http_received_bytes_total counter\n"
		"stoker_http_received_bytes_total %llu\n"
		"# TYPE stoker_http_sent_bytes_total counter\n"
		"stoker_http_sent_bytes_total %llu\n"
		"# TYPE stoker_http_connections gauge\nstoker_http_connections %d\n",
		(unsigned long long)m->received, (unsigned long long)m->sent, (int)m->connections);
	pthread_mutex_lock(&m->lock);
	for (size_t i = 0; i < m->named_count; i++)
		buffer_printf(out, "# TYPE %s counter\n%s %.17g\n", m->named[i].name,
			m->named[i].name, m->named[i].value);
	pthread_mutex_unlock(&m->lock);
}
