# SPDX-License-Identifier: Apache-2.0
"""A server of packages on loopback: the files of a folder, as conda channels and package indexes serve
them (ETag, Last-Modified, Range, PEP 691 by Accept), a log of what was asked, and faults as told."""

import contextlib
import dataclasses
import email.utils
import hashlib
import http.server
import os
import pathlib
import re
import socket
import threading
import urllib.parse

import ociimage

JSON_API = "application/vnd.pypi.simple.v1+json"
TYPES = {".html": "text/html", ".json": "application/json", ".zst": "application/zstd"}

# What a rule can do beside answering with a status.
FAULTS = (
    "hang",  # the answer never comes
    "drip",  # a byte now and then
    "cut",  # the connection ends in the middle of the body
    "garble",  # as many bytes as promised, but others
    "no-date",  # neither Last-Modified nor ETag
    "no-range",  # ranges are not known here
)


@dataclasses.dataclass
class Asked:
    """A request and what became of it. `sent`: bytes of the body."""

    method: str
    path: str
    headers: dict
    status: int = 0
    sent: int = 0


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def do_HEAD(self):
        self.answer()

    def do_GET(self):
        self.answer()

    def answer(self):
        owner = self.server.owner
        path = urllib.parse.unquote(urllib.parse.urlsplit(self.path).path)
        self.asked = Asked(self.command, path, dict(self.headers))
        with owner.lock:
            owner.log.append(self.asked)
        fault = owner.fault_of(path)
        if fault == "hang":
            self.close_connection = True
            owner.stopping.wait()
        elif isinstance(fault, int):
            self.say(fault)
        elif not owner.lets_in(self.headers.get("Authorization")):
            self.say(401, {"WWW-Authenticate": 'Basic realm="packages"'})
        else:
            self.file(owner.find(path, JSON_API in self.headers.get("Accept", "")), fault)

    def say(self, status, headers=None, body=None):
        body = f"{status}\n".encode() if body is None else body
        self.asked.status = status
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)
            self.asked.sent = len(body)

    def file(self, path, fault):
        if path is None:
            return self.say(404)
        data = path.read_bytes()
        if fault == "garble":
            data = bytes(b ^ 0x20 for b in data)
        headers = {"Content-Type": TYPES.get(path.suffix, "application/octet-stream")}
        if path.name == "index.v1.json":
            headers["Content-Type"] = JSON_API
        if fault != "no-date":
            headers["ETag"] = f'"{hashlib.sha256(data).hexdigest()[:16]}"'
            headers["Last-Modified"] = email.utils.formatdate(path.stat().st_mtime, usegmt=True)
        if self.unchanged(headers):
            return self.say(304, headers, b"")
        status, body = 200, data
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if asked and fault != "no-range" and self.same_file(headers):
            first, last = int(asked[1]), min(int(asked[2] or len(data) - 1), len(data) - 1)
            if first >= len(data):
                return self.say(416, {"Content-Range": f"bytes */{len(data)}"})
            status, body = 206, data[first : last + 1]
            headers["Content-Range"] = f"bytes {first}-{last}/{len(data)}"
        return self.body(status, headers, body, fault)

    def unchanged(self, headers):
        etag, date = headers.get("ETag"), headers.get("Last-Modified")
        if "If-None-Match" in self.headers:
            return etag and etag in self.headers["If-None-Match"]
        return date and self.headers.get("If-Modified-Since") == date

    def same_file(self, headers):
        return self.headers.get("If-Range") in (
            None,
            headers.get("ETag", ""),
            headers.get("Last-Modified", ""),
        )

    def body(self, status, headers, body, fault):
        if fault not in ("cut", "drip"):
            return self.say(status, headers, body)
        self.asked.status = status
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.close_connection = True
        if fault == "cut":
            self.wfile.write(body[: len(body) // 2])
            self.asked.sent = len(body) // 2
            self.connection.shutdown(socket.SHUT_RDWR)
            return None
        for i in range(len(body)):
            self.wfile.write(body[i : i + 1])
            self.wfile.flush()
            self.asked.sent += 1
            if self.server.owner.stopping.wait(0.5):
                break
        return None


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request, client_address):
        pass  # clients that go away are part of the tests


class PackageServer:
    """Serves `folder` at `.url`. fault("/simple/a/", "hang") makes the paths that begin so misbehave
    (the last rule counts); heal() ends that and begins the log anew."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.lock, self.stopping = threading.Lock(), threading.Event()
        self.log, self.rules, self.authorization = [], [], None
        self.server = Server(("127.0.0.1", 0), Handler)
        self.server.owner = self
        self.port = self.server.server_address[1]
        self.address = f"127.0.0.1:{self.port}"
        self.url = f"http://{self.address}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True)
        self.thread.start()

    def fault(self, prefix, what, times=None):
        """`what`: one of FAULTS, or a status. `times`: only so often."""
        assert isinstance(what, int) or what in FAULTS, what
        with self.lock:
            self.rules.append([prefix, what, times])

    def require(self, user, password):
        """From now on only with these (401 else)."""
        self.authorization = ociimage.basic_authorization(user, password)

    def heal(self):
        self.stopping.set()  # lets go who still hangs
        self.stopping = threading.Event()
        with self.lock:
            self.rules.clear()
            self.log.clear()
        self.authorization = None

    def fault_of(self, path):
        with self.lock:
            for rule in reversed(self.rules):
                if path.startswith(rule[0]) and rule[2] != 0:
                    if rule[2]:
                        rule[2] -= 1
                    return rule[1]
        return None

    def lets_in(self, authorization):
        return self.authorization in (None, authorization)

    def find(self, path, wants_json):
        """The file behind a path, or None."""
        target = pathlib.Path(os.path.normpath(f"{self.folder}/{path}"))
        if target != self.folder and self.folder not in target.parents:
            return None
        if target.is_dir():
            target /= "index.v1.json" if wants_json else "index.html"
        return target if target.is_file() else None

    def paths(self, status=None):
        """What was asked, in order; `status`: only what was answered so."""
        with self.lock:
            return [a.path for a in self.log if status in (None, a.status)]

    def downloads(self):
        """Names of packages that were sent, however much of them."""
        suffixes = (".conda", ".tar.bz2", ".whl", ".tar.gz")
        with self.lock:
            log = list(self.log)
        return [
            a.path.rpartition("/")[2]
            for a in log
            if a.method == "GET" and a.sent and a.status < 300 and a.path.endswith(suffixes)
        ]

    def stop(self):
        self.stopping.set()
        self.server.shutdown()
        with contextlib.suppress(OSError):
            self.server.server_close()
