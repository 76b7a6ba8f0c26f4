// SPDX-License-Identifier: Apache-2.0
//
// download_driver [options] STATE URL…: fetches into the cache STATE/cache, each URL in a thread of
// its own, and prints one line of JSON for each: failure, text, sha256, size, fetched, reused,
// content_type, final_url, status, notices.
#include "agent/data/download.h"
#include "base/file.h"
#include "base/json_write.h"
#include "base/text.h"

#include <getopt.h>
#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

static struct download_cache *cache;
static struct download_options options;
static struct cache_limits limits;
static uint64_t cancel_at;
static const char *output, *strings[2][16];
static bool quiet;
static pthread_mutex_t printing = PTHREAD_MUTEX_INITIALIZER;

struct flight {
	pthread_t thread;
	const char *url;
	struct buffer notices;
	uint64_t most;
};

static int on_progress(void *data, uint64_t done, uint64_t total)
{
	struct flight *f = data;
	(void)total;
	f->most = done > f->most ? done : f->most;
	return cancel_at && done >= cancel_at;
}

static void on_notice(void *data, const char *text)
{
	struct flight *f = data;
	buffer_printf(&f->notices, "%s\n", text);
}

static int copy_out(int fd, struct error *err)
{
	char buffer[65536];
	cleanup_fd int out = open(output, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	if (out < 0)
		return error_set_errno(err, errno, "open %s", output);
	for (ssize_t n; (n = read(fd, buffer, sizeof(buffer))) > 0;)
		if (write_all(out, buffer, (size_t)n, output, err) < 0)
			return -1;
	return 0;
}

static void print_result(const struct flight *f, const struct download_result *r,
	enum data_failure failure, const struct error *err)
{
	cleanup_json_writer struct json_writer *w = json_writer_new(false);
	cleanup_buffer struct buffer text = {0};
	struct error ignored;
	json_write_open_object(w);
	json_write_member(w, "url", f->url);
	json_write_member(w, "failure", data_failure_name(failure));
	json_write_member(w, "text", err->text);
	json_write_member(w, "sha256", r->sha256);
	json_write_member_unsigned(w, "size", r->size);
	json_write_member_unsigned(w, "fetched", r->fetched);
	json_write_member_bool(w, "reused", r->reused);
	json_write_member(w, "content_type", r->content_type);
	json_write_member(w, "final_url", r->final_url);
	json_write_member_int(w, "status", r->status);
	json_write_member(w, "notices", f->notices.data ? f->notices.data : "");
	json_write_member_unsigned(w, "progress", f->most);
	json_write_close_object(w);
	json_writer_finish(w, &text, &ignored);
	pthread_mutex_lock(&printing);
	if (!quiet)
		printf("%s\n", text.data);
	fflush(stdout);
	pthread_mutex_unlock(&printing);
}

static void *fetch(void *data)
{
	struct flight *f = data;
	struct download_options o = options;
	cleanup_download_result struct download_result r;
	enum data_failure failure;
	struct error err = {0};
	o.url = f->url;
	o.progress = on_progress;
	o.notice = on_notice;
	o.data = f;
	if (download_get(cache, &o, &r, &failure, &err) == 0 && output && copy_out(r.fd, &err) < 0)
		failure = DATA_FAILED;
	print_result(f, &r, failure, &err);
	buffer_release(&f->notices);
	return NULL;
}

static uint64_t number(const char *text)
{
	uint64_t value;
	if (parse_u64(text, &value))
		return value;
	fprintf(stderr, "not a number: %s\n", text);
	exit(2);
}

static void add(struct json_strings *list, const char **items, const char *text)
{
	if (list->count == 15)
		exit(2);
	list->items = items;
	items[list->count++] = text;
}

static void take_option(int c, const char *value)
{
	switch (c) {
	case 's':
		options.sha256 = value;
		break;
	case 'z':
		options.size = number(value);
		break;
	case 'm':
		options.max_bytes = number(value);
		break;
	case 'r':
		options.revalidate = streq(value, "-1") ? -1 : (int)number(value);
		break;
	case 't':
		options.stall_ms = number(value);
		break;
	case 'l':
		options.limit_ms = number(value);
		break;
	case 'n':
		options.tries = (unsigned)number(value);
		break;
	case 'h':
		limits.high_bytes = number(value);
		break;
	case 'w':
		limits.low_bytes = number(value);
		break;
	case 'k':
		limits.keep_free_bytes = number(value);
		break;
	case 'L':
		add(&options.local_hosts, strings[0], value);
		break;
	case 'H':
		add(&options.headers, strings[1], value);
		break;
	case 'c':
		cancel_at = number(value);
		break;
	case 'p':
		options.proxy = value;
		break;
	case 'o':
		output = value;
		break;
	case 'q':
		quiet = true;
		break;
	default:
		exit(2);
	}
}

int main(int argc, char **argv)
{
	static const struct option table[] = {{"sha256", 1, 0, 's'}, {"size", 1, 0, 'z'},
		{"max-bytes", 1, 0, 'm'}, {"revalidate", 1, 0, 'r'}, {"stall-ms", 1, 0, 't'},
		{"limit-ms", 1, 0, 'l'}, {"tries", 1, 0, 'n'}, {"high", 1, 0, 'h'},
		{"low", 1, 0, 'w'}, {"keep-free", 1, 0, 'k'}, {"local", 1, 0, 'L'},
		{"header", 1, 0, 'H'}, {"cancel-at", 1, 0, 'c'}, {"proxy", 1, 0, 'p'},
		{"output", 1, 0, 'o'}, {"quiet", 0, 0, 'q'}, {0}};
	struct error err = {0};
	for (int c; (c = getopt_long(argc, argv, "", table, NULL)) != -1;)
		take_option(c, optarg);
	if (argc - optind < 2)
		return 2;
	cleanup_fd int state = directory_ensure(AT_FDCWD, argv[optind], 0700, &err);
	cache = state < 0 ? NULL : download_cache_open(state, "cache", &limits, &err);
	if (!cache) {
		fprintf(stderr, "%s\n", err.text);
		return 1;
	}
	size_t count = (size_t)(argc - optind - 1);
	struct flight *flights = xcalloc(count, sizeof(*flights));
	for (size_t i = 0; i < count; i++) {
		flights[i].url = argv[optind + 1 + (int)i];
		if (pthread_create(&flights[i].thread, NULL, fetch, &flights[i]) != 0)
			return 1;
	}
	for (size_t i = 0; i < count; i++)
		pthread_join(flights[i].thread, NULL);
	free(flights);
	download_cache_free(cache);
	return 0;
}
