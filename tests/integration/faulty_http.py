# SPDX-License-Identifier: Apache-2.0
"""An HTTP server of files on loopback that misbehaves as told, and counts what it sends."""

import contextlib
import http.server
import re
import socket
import threading
import time


class File:
    """What a path answers. Lists are taken one request after the other; behind their end all is well."""

    def __init__(self, data, **how):
        self.data = data
        self.etag = how.pop("etag", '"1"')  # None: none
        self.modified = how.pop("modified", None)
        self.ranges = how.pop("ranges", True)
        self.statuses = how.pop("statuses", [])  # instead of the file
        self.headers = how.pop("headers", {})
        self.cuts = how.pop("cuts", [])  # hang up after so many bytes of the body
        self.hangs = how.pop("hangs", [])  # the same, but stay silent
        self.rate = how.pop("rate", 0)  # bytes a second
        self.length = how.pop("length", len(data))  # what the head says; None: nothing
        self.shift = how.pop("shift", 0)  # of ranges, wrongly
        self.redirect = how.pop("redirect", None)
        self.before = how.pop("before", None)  # called with the handler first
        self.count = 0
        assert not how, how

    def next(self, items):
        return items[self.count] if self.count < len(items) else None


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def do_GET(self):
        server = self.server.faulty
        path = self.path.split("?")[0]
        entry = {"path": path, "headers": dict(self.headers.items()), "sent": 0, "status": 0}
        with server.lock:
            server.log.append(entry)
            file = server.files.get(path)
        with contextlib.suppress(OSError):
            self.answer(file, entry)

    def answer(self, file, entry):
        if file is None:
            self.say(entry, 404)
            return
        if file.before:
            file.before(self)
        status, cut, hang = file.next(file.statuses), file.next(file.cuts), file.next(file.hangs)
        file.count += 1
        if file.redirect:
            self.say(entry, 302, {"Location": file.redirect})
        elif status:
            self.say(entry, status, file.headers)
        elif file.etag and self.headers.get("If-None-Match") == file.etag:
            self.say(entry, 304, {"ETag": file.etag})
        else:
            self.send_file(file, entry, cut, hang)

    def say(self, entry, status, headers=None):
        entry["status"] = status
        self.send_response(status)
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        if status != 304:
            self.send_header("Content-Length", "0")
        self.end_headers()

    def send_file(self, file, entry, cut, hang):
        data, start = file.data, 0
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        fits = self.headers.get("If-Range") in (None, file.etag, file.modified)
        if asked and file.ranges and fits:
            start = int(asked[1])
            if start >= len(data):
                self.say(entry, 416)
                return
            start = max(0, start + file.shift)
        entry["status"] = 206 if asked and file.ranges and fits else 200
        self.send_response(entry["status"])
        if entry["status"] == 206:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        for key, value in (("ETag", file.etag), ("Last-Modified", file.modified)):
            if value:
                self.send_header(key, value)
        for key, value in file.headers.items():
            self.send_header(key, value)
        if file.length is None:
            self.send_header("Connection", "close")
            self.close_connection = True
        else:
            self.send_header("Content-Length", str(file.length - start))
        self.end_headers()
        self.send_body(memoryview(data)[start:], file, entry, cut, hang)

    def send_body(self, data, file, entry, cut, hang):
        stop = min(x for x in (cut, hang, len(data)) if x is not None)
        step = max(1, min(65536, file.rate // 20)) if file.rate else 65536
        for at in range(0, stop, step):
            piece = data[at : min(at + step, stop)]
            self.wfile.write(piece)
            entry["sent"] += len(piece)
            if file.rate:
                time.sleep(len(piece) / file.rate)
        if hang is not None:
            self.server.faulty.stopping.wait(60)
        if stop < len(data) or file.length != len(file.data):
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request, client_address):
        pass


class FaultyHttp:
    """`files` maps paths to File; `log` has one entry for each request."""

    def __init__(self, address="127.0.0.1"):
        self.files, self.log = {}, []
        self.lock, self.stopping = threading.Lock(), threading.Event()
        self.server = Server((address, 0), Handler)
        # What is sent shall be what is read, or nearly.
        self.server.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 64 << 10)
        self.server.faulty = self
        self.port = self.server.server_port
        self.host = f"{address}:{self.port}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True)
        self.thread.start()

    def url(self, path):
        return f"http://{self.host}{path}"

    def add(self, path, data, **how):
        self.files[path] = File(data, **how)
        return self.url(path)

    def forget(self):
        with self.lock:
            self.log.clear()

    def sent(self):
        with self.lock:
            return sum(entry["sent"] for entry in self.log)

    def stop(self):
        self.stopping.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()
