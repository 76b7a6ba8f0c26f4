// SPDX-License-Identifier: Apache-2.0
//
// Lets test_package_proxy.py start a package proxy and speak to it over the loopback interface:
//
//   package_proxy_driver AGENT.YAML SOURCE…
//
// Lines on stdin: "listen" (answers with a port), "trouble", "counts". Ends with its stdin.
#include "agent/environment/proxy.h"
#include "base/file.h"
#include "base/message.h"
#include "base/text.h"

#include <arpa/inet.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/socket.h>

static int fail(const struct error *err)
{
	fprintf(stderr, "%s: %s\n", error_kind_name(err->kind), err->text);
	return 1;
}

static int send_listener(struct package_proxy *p, struct error *err)
{
	struct sockaddr_in here = {
		.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t n = sizeof(here);
	cleanup_fd int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || bind(fd, (struct sockaddr *)&here, n) < 0 || listen(fd, 128) < 0 ||
		getsockname(fd, (struct sockaddr *)&here, &n) < 0)
		return error_set_errno(err, errno, "listen");
	if (message_send(package_proxy_socket(p), "listen", 6, &fd, 1, err) < 0)
		return -1;
	printf("%u\n", ntohs(here.sin_port));
	return 0;
}

static int tell_trouble(struct package_proxy *p, struct error *err)
{
	struct package_proxy_trouble t;
	int found = package_proxy_trouble(p, &t, err);
	if (found > 0)
		printf("%s %ld %s %s\n", data_failure_name(t.failure), t.status, t.url, t.text);
	else if (found == 0)
		printf("none\n");
	return found;
}

static int tell_counts(struct package_proxy *p, struct error *err)
{
	struct package_proxy_counts c;
	if (package_proxy_counts(p, &c, err) < 0)
		return -1;
	printf("%" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 "\n", c.fetched_bytes, c.served_bytes,
		c.requests, c.hits);
	return 0;
}

static int obey(struct package_proxy *p, const char *line, struct error *err)
{
	if (streq(line, "listen\n"))
		return send_listener(p, err);
	if (streq(line, "trouble\n"))
		return tell_trouble(p, err);
	return tell_counts(p, err);
}

int main(int argc, char **argv)
{
	cleanup_config struct config config = {0};
	struct error err = {0};
	// process_start() runs this program again.
	if (argc == 2 && streq(argv[1], "packages"))
		return package_proxy_main();
	if (argc < 2 ||
		config_load(&config, &(struct config_overrides){.config = argv[1]}, &err) < 0)
		return fail(&err);
	struct store *store =
		store_open(config.state_dir, config.run_dir, &config.store_limits, &err);
	const struct json_strings sources = {(const char **)argv + 2, (size_t)argc - 2};
	struct package_proxy *p =
		store ? package_proxy_start(store, &config, &sources, &err) : NULL;
	if (!p)
		return fail(&err);
	int status = 0;
	char line[64];
	while (status >= 0 && fgets(line, sizeof(line), stdin)) {
		status = obey(p, line, &err);
		fflush(stdout);
	}
	package_proxy_free(p);
	store_free(store);
	return status < 0 ? fail(&err) : 0;
}
