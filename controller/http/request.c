// SPDX-License-Identifier: Apache-2.0
#include "base/text.h"
#include "controller/http/internal.h"

#include <sys/socket.h>

const char *request_parameter(const struct request *r, const char *name)
{
	const struct parameters *p = &r->internal->parameters;
	for (size_t i = 0; i < p->count; i++)
		if (streq(p->items[i].name, name))
			return p->items[i].value;
	abort(); // a route that asks for what is not in its pattern
}

const char *request_query(const struct request *r, const char *name)
{
	const struct target *t = &r->internal->target;
	for (size_t i = 0; i < t->query_count; i++)
		if (streq(t->query[i].name, name))
			return t->query[i].value;
	return NULL;
}

const char *request_header(const struct request *r, const char *name)
{
	return MHD_lookup_connection_value(r->internal->mhd, MHD_HEADER_KIND, name);
}

int request_query_number(const struct request *r, const char *name, uint64_t min, uint64_t max,
	uint64_t *value, struct error *err)
{
	const char *text = request_query(r, name);
	uint64_t number;
	if (!text)
		return 0;
	if (!parse_u64(text, &number) || number < min || number > max)
		return error_set(err, ERROR_INVALID, "%s: must be a number from %llu to %llu", name,
			(unsigned long long)min, (unsigned long long)max);
	*value = number;
	return 0;
}

int request_query_integer(
	const struct request *r, const char *name, int64_t *value, struct error *err)
{
	const char *text = request_query(r, name);
	if (!text || parse_i64(text, value))
		return 0;
	return error_set(err, ERROR_INVALID, "%s: must be a number of 64 bits", name);
}

int request_query_flag(const struct request *r, const char *name, bool *value, struct error *err)
{
	const char *text = request_query(r, name);
	*value = text && (streq(text, "1") || streq(text, "true"));
	if (!text || *value || streq(text, "0") || streq(text, "false"))
		return 0;
	return error_set(err, ERROR_INVALID, "%s: must be 0 or 1", name);
}

int request_json(struct request *r, const struct json **document, struct error *err)
{
	struct json_limits limits = json_limits_default;
	limits.bytes = r->internal->route->body_max;
	limits.unsigned_integers = false;
	const struct json *j = json_parse(
		&r->arena, r->body.data ? r->body.data : "", r->body.size, "body", &limits, err);
	if (!j)
		return -1;
	if (j->type != JSON_OBJECT)
		return error_set(err, ERROR_INVALID, "body: must be an object");
	*document = j;
	return 0;
}

// A client that has shut its sending half down is taken for gone: none that we know does so and
// waits.
bool request_is_alive(struct request *r)
{
	char byte;
	ssize_t n = recv(r->internal->connection->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
	return n > 0 || (n < 0 && (errno == EAGAIN || errno == EINTR));
}

void request_metrics(struct request *r, struct buffer *out)
{
	metrics_print(r->internal->server->metrics, out);
}

// MHD looks at the clock after each step, also after one that took as long as it should: a long
// poll. Setting a limit where there was none begins its time anew.
void request_patience(struct request_internal *q, bool patient)
{
	unsigned seconds = patient ? 0 : (q->server->options.idle_ms + 999) / 1000;
	MHD_set_connection_option(q->mhd, MHD_CONNECTION_OPTION_TIMEOUT, seconds);
}
