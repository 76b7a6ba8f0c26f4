# SPDX-License-Identifier: Apache-2.0
"""A real S3 server on loopback (`rclone serve s3` on a folder), and a proxy before it that does wrong.

It checks signatures and Content-MD5. What it knows of uploads of parts under way is lost with it."""

import contextlib
import http.client
import http.server
import os
import pathlib
import signal
import socket
import subprocess
import threading
import time

import node

KEY, SECRET, BUCKET = "AKIDEXAMPLE", "s3cret/key+with=signs", "stoker-files"
RCLONE = (
    node.ROOT / "build/tools/bin/rclone"
)  # scripts/install-deps --test; Debian's has no `serve s3`
ENVIRONMENT = {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET}


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class S3Server:
    def __init__(self, folder):
        assert RCLONE.is_file(), f"{RCLONE} is missing: scripts/install-deps --test"
        self.folder = pathlib.Path(folder)
        self.bucket = self.folder / BUCKET
        self.bucket.mkdir(parents=True)
        self.port, self.process = free_port(), None
        self.start()

    @property
    def endpoint(self):
        return f"http://127.0.0.1:{self.port}"

    def address(self, prefix="runs", endpoint=None):
        """For --files."""
        return f"s3://{BUCKET}/{prefix}?endpoint={endpoint or self.endpoint}"

    def start(self):
        # The key is no argument here either: rclone takes it from its environment.
        environment = {
            **os.environ,
            "RCLONE_CONFIG": os.devnull,
            "RCLONE_AUTH_KEY": f'"{KEY},{SECRET}"',
        }
        with open(f"{self.folder}.log", "ab") as log:
            self.process = subprocess.Popen(
                [RCLONE, "serve", "s3", "--addr", f"127.0.0.1:{self.port}",
                 self.folder],
                stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=environment,
            )  # fmt: skip
        for _ in range(400):
            if self.process.poll() is not None:
                break
            with (
                contextlib.suppress(OSError),
                socket.create_connection(("127.0.0.1", self.port), 1),
            ):
                return self
            time.sleep(0.05)
        raise AssertionError(pathlib.Path(f"{self.folder}.log").read_text())

    def stop(self, how=signal.SIGTERM):
        if self.process:
            self.process.send_signal(how)
            self.process.wait(60)
            self.process = None

    def objects(self):
        """Names below the prefix and sizes, without the mark that the store was used."""
        found = {}
        for folder, _, names in os.walk(self.bucket):  # while they go
            for name in set(names) - {"stoker-controller"}:
                with contextlib.suppress(FileNotFoundError):
                    found[name] = (pathlib.Path(folder) / name).stat().st_size
        return found


class Faults:
    """Passes requests on to a server, save where `fault(method, target, body)` says what to do instead: a
    function that gets the handler and returns whether it has answered, or bytes that replace the answer's
    body, or a dictionary of headers that replace the answer's."""

    def __init__(self, server):
        self.server, self.fault, self.seen = server, None, []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *args):
                pass

            def relay(self):
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                outer.seen.append((self.command, self.path))
                wrong = outer.fault(self.command, self.path, body) if outer.fault else None
                if callable(wrong) and wrong(self):
                    return
                if isinstance(wrong, tuple):  # what the server is sent
                    body, wrong = wrong[0], None
                self.pass_on(body, wrong)

            def pass_on(self, body, wrong):
                connection = http.client.HTTPConnection("127.0.0.1", outer.server.port, timeout=60)
                with contextlib.closing(connection):
                    connection.putrequest(self.command, self.path, True, True)
                    for name, value in self.headers.items():
                        # The signature is of the name that the client knows.
                        connection.putheader(name, value) if name != "Expect" else None
                    connection.endheaders(body)
                    reply = connection.getresponse()
                    data = reply.read()
                self.send_response(reply.status)
                headers = {k: v for k, v in reply.getheaders() if k.lower() != "date"}
                if isinstance(wrong, dict):
                    headers.update(wrong)
                if isinstance(wrong, bytes):
                    data = wrong
                    headers["Content-Length"] = str(len(data))
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = relay

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self.http.server_address[1]}"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def close(self):
        self.http.shutdown()
        self.http.server_close()


def answer(status, body=b"", headers=()):
    """A fault: this answer, and nothing reaches the server."""

    def send(handler):
        handler.send_response(status)
        for name, value in dict(headers).items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        if handler.command != "HEAD":
            handler.wfile.write(body)
        return True

    return send
