# SPDX-License-Identifier: Apache-2.0
"""Servers that break HTTP itself, where registries.ScriptedRegistry only breaks promises: a socket, and a
function that gets each connection. And rules for ScriptedRegistry that several tests share."""

import contextlib
import socket
import threading
import time

import registries


class RawServer:
    """Accepts connections on loopback and calls `talk(connection, request)` for each request head read
    from them, in a thread per connection, until it returns False. `requests` holds the heads."""

    def __init__(self, talk):
        self.talk, self.requests, self.connections = talk, [], []
        self.socket = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = self.socket.getsockname()[1]
        self.address = f"localhost:{self.port}"
        threading.Thread(target=self._accept, daemon=True).start()

    def reference(self, name="image", tag="latest"):
        return f"{self.address}/{name}:{tag}"

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self.socket.accept()
                self.connections.append(connection)
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        with contextlib.suppress(OSError), connection:
            going_on = True
            while going_on:
                head = b""
                while b"\r\n\r\n" not in head:
                    more = connection.recv(65536)
                    if not more:
                        return
                    head += more
                self.requests.append(head.decode("latin-1"))
                going_on = self.talk(connection, self.requests[-1])

    def stop(self):
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()
        for connection in self.connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()


def endless_head(connection, _):
    """Header lines without an end."""
    connection.sendall(b"HTTP/1.1 200 OK\r\n")
    while True:
        connection.sendall(b"X-More: and more\r\n" * 100)


def dripping_head(connection, _):
    """Header lines without an end, one now and then."""
    connection.sendall(b"HTTP/1.1 200 OK\r\n")
    for _line in range(100):
        connection.sendall(b"X-More: and more\r\n")
        time.sleep(0.3)
    return False


def endless_line(connection, _):
    """One header line without an end."""
    connection.sendall(b"HTTP/1.1 200 OK\r\nX-Long: ")
    while True:
        connection.sendall(b"x" * 65536)


def endless_interim(connection, _):
    """100 Continue, again and again."""
    while True:
        connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n" * 100)


def no_http(connection, _):
    connection.sendall(b"220 mail.example ESMTP ready\r\n")
    return False


def hang_up(connection, _):
    """Not a byte of an answer."""
    return False


def half_a_head(connection, _):
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Le")
    return False


def silence(connection, _):
    """Takes the request and says nothing."""
    time.sleep(60)
    return False


def unbounded_body(connection, _):
    """A body without Content-Length that ends when the client has enough."""
    connection.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
    while True:
        connection.sendall(b" " * 65536)


def is_manifest(exchange):
    return "/manifests/" in exchange.path


def is_layer(layer):
    """A predicate: a GET of this layer's blob."""
    return lambda e: e.method == "GET" and e.path.endswith(layer.digest)


def first(times, predicate, answer):
    """A rule: `answer` to the first so many requests that the predicate is true of."""
    left = [times]
    lock = threading.Lock()

    def rule(exchange):
        with lock:
            if not predicate(exchange) or left[0] == 0:
                return None
            left[0] -= 1
        return answer

    return rule


def always(predicate, answer):
    return lambda exchange: answer if predicate(exchange) else None


def status(code, **headers):
    return registries.Answer(
        code, b"{}", {name.replace("_", "-"): str(value) for name, value in headers.items()}
    )
