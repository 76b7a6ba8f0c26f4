# SPDX-License-Identifier: Apache-2.0
"""Servers for test_network.py, on addresses of the network namespace they run in:
    network_servers.py ANSWER PORT [DNS-ADDRESS …]
TCP and UDP on every address at PORT answer ANSWER; on each DNS-ADDRESS port 53 (UDP and TCP), every
question of type A is answered 10.99.0.77. Prints "ready"."""

import socket
import socketserver
import struct
import sys
import threading

answer, port = sys.argv[1].encode(), int(sys.argv[2])


def dns_answer(query):
    end = query.index(b"\0", 12) + 5
    header = query[:2] + struct.pack("!HHHHH", 0x8180, 1, 1, 0, 0)
    record = b"\xc0\x0c" + struct.pack("!HHIH", 1, 1, 60, 4) + bytes([10, 99, 0, 77])
    return header + query[12:end] + record


class Tcp(socketserver.BaseRequestHandler):
    def handle(self):
        self.request.sendall(answer)


class Udp(socketserver.BaseRequestHandler):
    def handle(self):
        data, sock = self.request
        # From the address that was asked: the sender's socket is connected to it.
        sock.sendto(dns_answer(data) if self.server.dns else answer, self.client_address)


def serve(kind, handler, address, at, dns=False):
    class Server(kind):
        address_family = socket.AF_INET6 if ":" in address else socket.AF_INET
        allow_reuse_address = True
        daemon_threads = True
        request_queue_size = 128

        def server_bind(self):
            if self.address_family == socket.AF_INET6:
                self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            super().server_bind()

    server = Server((address, at), handler)
    server.dns = dns
    threading.Thread(target=server.serve_forever, daemon=True).start()


def addresses():
    """All of this namespace; one socket for each, so that UDP answers come from where they went."""
    import subprocess

    text = subprocess.run(
        ["ip", "-o", "addr"], check=True, stdout=subprocess.PIPE, text=True
    ).stdout
    found = [line.split()[3].split("/")[0] for line in text.splitlines()]
    return [a for a in found if not a.startswith("fe80")]


for own in addresses():
    serve(socketserver.ThreadingTCPServer, Tcp, own, port)
    serve(socketserver.ThreadingUDPServer, Udp, own, port)
for resolver in sys.argv[3:]:
    serve(socketserver.ThreadingUDPServer, Udp, resolver, 53, dns=True)
print("ready", flush=True)
threading.Event().wait()
