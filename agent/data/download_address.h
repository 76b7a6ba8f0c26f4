// SPDX-License-Identifier: Apache-2.0
//
// Which addresses may be connected to for a job. The sockets of downloads are this node's own, so
// a URL, or a server that redirects, could otherwise reach what no job can reach: the node's
// services, the services of the cloud that give a machine's credentials away. The check is of the
// address that is connected to and not of the name, whose answer may differ the second time.
#pragma once

#include "base/curl.h"
#include "base/json_decode.h"

#include <sys/socket.h>

// "loopback", "link-local", …; NULL: may be connected to. IPv4 addresses within IPv6 ones are
// looked at as what they are.
const char *download_address_refused(const struct sockaddr *address);

// Is this host and port in the list of "host:port" and "host" (every port)? `host` as URLs have it.
bool download_host_listed(const struct json_strings *hosts, const char *host, const char *port);

// CURLOPT_OPENSOCKETFUNCTION with its data.
struct download_sockets {
	bool any;	   // this host is listed, or a proxy is spoken to: no check
	char refused[160]; // what was refused, "127.0.0.1 is a loopback address"; "": nothing
};
curl_socket_t download_socket_open(
	void *sockets, curlsocktype purpose, struct curl_sockaddr *address);

// Does the value of no_proxy ("a.b, .c.d, *") name the host?
bool download_proxy_excepted(const char *no_proxy, const char *host);
