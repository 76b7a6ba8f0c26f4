# SPDX-License-Identifier: Apache-2.0
"""A controller on loopback with a folder of its own, and requests to it."""

import contextlib
import http.client
import json
import os
import pathlib
import select
import signal
import socket
import subprocess
import urllib.parse

import node
import pytest
import s3server

BINARY = os.environ.get(
    "STOKER_CONTROLLER_BINARY", str(pathlib.Path(node.BINARY).with_name("stoker-controller"))
)


class Reply:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def code(self):
        """Of an error."""
        return self.json["error"]["code"]

    def __repr__(self):
        return f"<{self.status} {self.body[:300]!r}>"


def command(*args, check=True, env=None):
    done = subprocess.run(
        [BINARY, *map(str, args)],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **(env or {})},
        check=False,
    )
    if check:
        assert done.returncode == 0, done.stderr
    return done


class Controller:
    """init is run at once, serve by start(). `options` go to both (`--database`, `--files`)."""

    def __init__(self, folder, options=(), serve_options=(), env=None, initialise=True, tls=False):
        self.folder = pathlib.Path(folder)
        self.options, self.serve_options = list(options), list(serve_options)
        self.env = {**os.environ, **(env or {})}
        self.process, self.port, self.tls = None, 0, tls
        self.log_path = self.folder.with_name(self.folder.name + ".log")
        self.admin = self.join = None
        if initialise:
            made = json.loads(self.command("init", "--json").stdout)
            self.admin, self.join = made["admin_token"], made["join_token"]

    def command(self, *verb, check=True):
        return command(*verb, "--data", self.folder, *self.options, check=check, env=self.env)

    def make_token(self, role, user=None, expires=None):
        args = ["token", "create", "--role", role]
        args += ["--user", user] if user else []
        args += ["--expires", expires] if expires else []
        return self.command(*args).stdout.strip()

    def start(self):
        """On the port it had before, so that clients find it again."""
        args = [BINARY, "serve", "--data", self.folder, "--listen", f"127.0.0.1:{self.port}"]
        args += self.options + self.serve_options
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                list(map(str, args)), stdout=subprocess.PIPE, stderr=log, env=self.env
            )
        ready, _, _ = select.select([self.process.stdout], [], [], 30)
        line = self.process.stdout.readline().decode() if ready else ""
        assert line.startswith("listening on "), self.log()
        self.url = line.split()[-1]
        self.port = int(self.url.rpartition(":")[2])
        return self

    def stop(self):
        """By SIGTERM; the exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self._wait()

    def kill(self):
        self.process.kill()
        self._wait()

    def _wait(self):
        status = self.process.wait(60)
        self.process.stdout.close()
        self.process = None
        return status

    def restart(self):
        self.stop()
        return self.start()

    def log(self):
        return self.log_path.read_text(errors="replace")

    def connect(self, timeout=30):
        """A plain socket."""
        return socket.create_connection(("127.0.0.1", self.port), timeout)

    def request(self, method, path, body=None, token=None, headers=None, timeout=60):
        """`body`: bytes, or what becomes JSON. token: the administrator's if None, none at all if ""."""
        headers = dict(headers or {})
        token = self.admin if token is None else token
        if token:
            headers["Authorization"] = f"Bearer {token}"
        if body is not None and not isinstance(body, bytes | bytearray):
            body = json.dumps(body).encode()
            headers.setdefault("Content-Type", "application/json")
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        with contextlib.closing(connection):
            connection.request(method, path, body, headers)
            reply = connection.getresponse()
            return Reply(reply.status, reply.headers, reply.read())

    def get(self, path, **kw):
        return self.request("GET", path, **kw)

    def post(self, path, body=None, **kw):
        return self.request("POST", path, {} if body is None else body, **kw)

    def put(self, path, body, **kw):
        return self.request("PUT", path, body, **kw)

    def patch(self, path, body, **kw):
        return self.request("PATCH", path, body, **kw)

    def delete(self, path, **kw):
        return self.request("DELETE", path, **kw)

    def metrics(self):
        """name -> number."""
        lines = self.get("/metrics", token="").body.decode().splitlines()
        return {k: float(v) for k, v in (x.rsplit(" ", 1) for x in lines if x[:1] != "#")}

    def memory(self):
        """Resident bytes."""
        text = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(text.split("VmRSS:")[1].split()[0]) * 1024


def quote(path):
    return urllib.parse.quote(path, safe="/")


@pytest.fixture
def file_store(request, tmp):
    """Where controllers keep files: BOTH_STORES makes a test of it for each. None, or the server."""
    if getattr(request, "param", "folder") == "folder":
        yield None
        return
    server = s3server.S3Server(tmp / "s3")
    yield server
    server.stop()


BOTH_STORES = pytest.mark.parametrize("file_store", ["folder", "s3"], indirect=True)


@pytest.fixture
def make_controller(tmp, file_store):
    """A function that makes controllers, started; ended at the end, which must go well."""
    made = []

    def make(*, start=True, options=(), env=None, **kw):
        if file_store:
            options = [*options, "--files", file_store.address()]
            env = {**s3server.ENVIRONMENT, **(env or {})}
        made.append(Controller(tmp / f"controller{len(made)}", options, env=env, **kw))
        return made[-1].start() if start else made[-1]

    yield make
    running = [c for c in made if c.process]
    statuses = [c.stop() for c in running]
    assert statuses == [0] * len(running), [c.log()[-2000:] for c in running]


@pytest.fixture
def controller(make_controller):
    return make_controller()
