# SPDX-License-Identifier: Apache-2.0
"""Servers that break HTTP itself, where registries.ScriptedRegistry only breaks promises: a socket, and a
function that gets each connection. And rules for ScriptedRegistry that several tests share."""

import contextlib
import hashlib
import http.server
import socket
import threading
import time
import urllib.parse

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


class UploadRegistry:
    """A registry to push to that keeps everything in memory, resumes uploads as the specification says,
    and fails as told: `fault(method, path, count)` is asked before each request that way (`count`: how
    often the method came before) and returns None, a status, ("cut", bytes): read so much of the body
    and hang up, or "hang". `authorizations`: what was sent to whom."""

    def __init__(self):
        self.blobs, self.manifests, self.uploads = {}, {}, {}
        self.log, self.received, self.counts = [], 0, {}
        self.fault = lambda method, path, count: None
        self.forgets = False  # what a PATCH brings
        self.challenge = None  # of answers 401
        self.upload_host = None  # another host for uploads, "localhost:port"
        self.stopping = threading.Event()
        registry = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                with contextlib.suppress(ConnectionError):
                    registry.serve(self)

            do_HEAD = do_POST = do_PUT = do_PATCH = do_GET

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.address = f"localhost:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def serve(self, handler):
        method, count = handler.command, self.counts.get(handler.command, 0)
        self.counts[method] = count + 1
        self.log.append((method, handler.path, handler.headers.get("Authorization")))
        fault = self.fault(method, handler.path, count)
        limit = fault[1] if isinstance(fault, tuple) else None
        if fault == "hang":
            handler.close_connection = True
            self.stopping.wait(30)
            return
        body = self.read_body(handler, limit)
        if limit is not None:
            self.keep(handler.path, body)
            handler.close_connection = True
            handler.connection.shutdown(socket.SHUT_RDWR)
        elif fault:
            headers = (
                {"WWW_Authenticate": self.challenge} if fault == 401 and self.challenge else {}
            )
            self.answer(handler, fault, **headers)
        else:
            self.act(handler, method, urllib.parse.urlsplit(handler.path), body)

    def read_body(self, handler, limit):
        size = int(handler.headers.get("Content-Length", 0))
        left = size if limit is None else min(limit, size)
        parts = []
        while left and (part := handler.rfile.read(min(left, 1 << 20))):
            parts.append(part)
            left -= len(part)
            self.received += len(part)
        return b"".join(parts)

    def keep(self, path, body):
        upload = path.split("?")[0].rsplit("/", 1)[-1]
        if upload in self.uploads:
            self.uploads[upload] += body

    def answer(self, handler, status, body=b"", **headers):
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        if handler.command != "HEAD":
            handler.wfile.write(body)

    def act(self, handler, method, url, body):
        *_, kind, target = url.path.rstrip("/").split("/")
        query = dict(urllib.parse.parse_qsl(url.query))
        if kind == "manifests" and method == "PUT":
            self.manifests[target] = body
            self.answer(handler, 201)
        elif method == "HEAD":
            self.answer(handler, 200 if target in self.blobs else 404)
        elif method == "POST":
            name = f"u{len(self.uploads)}"
            self.uploads[name] = b""
            host = f"http://{self.upload_host}" if self.upload_host else ""
            self.answer(handler, 202, Location=f"{host}/v2/x/blobs/uploads/{name}?state=1")
        elif target not in self.uploads:
            self.answer(handler, 404)
        else:
            self.upload(handler, method, target, query, body)

    def upload(self, handler, method, name, query, body):
        there = len(self.uploads[name])
        if method == "PATCH" and int(handler.headers["Content-Range"].split("-")[0]) != there:
            self.answer(handler, 416)
            return
        if not (self.forgets and method == "PATCH"):
            self.uploads[name] += body
        if method == "PUT":
            data = self.uploads.pop(name)
            digest = "sha256:" + hashlib.sha256(data).hexdigest()
            self.blobs[digest] = data
            self.answer(handler, 201 if query["digest"] == digest else 400)
            return
        last = max(0, len(self.uploads[name]) - 1)
        self.answer(
            handler, 204 if method == "GET" else 202,
            Location=f"/v2/x/blobs/uploads/{name}?state={last}", Range=f"0-{last}",
        )  # fmt: skip

    def stop(self):
        self.stopping.set()
        self.server.shutdown()
        self.server.server_close()
