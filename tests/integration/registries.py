# SPDX-License-Identifier: Apache-2.0
"""Registries on loopback: Debian's docker-registry as it is, with htpasswd over TLS, and behind a Bearer
token service; and `ScriptedRegistry`, which serves a layout itself and misbehaves as told."""

import base64
import contextlib
import dataclasses
import http.client
import http.server
import json
import os
import pathlib
import re
import shutil
import socket
import ssl
import subprocess
import threading
import time
import urllib.parse

import ociimage

# Seconds between two looks of a server whether to stop: by default it is half a second, at each test's end.
STOP_LOOKS = 0.02


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait_for_port(port, process, log):
    for _ in range(400):
        if process.poll() is not None:
            raise RuntimeError(f"the registry ended at once: {pathlib.Path(log).read_text()}")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.025)
    raise RuntimeError("the registry does not listen after 10 s")


def openssl(*args, **options):
    return subprocess.run(
        ["openssl", *map(str, args)], check=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        **options,
    ).stdout  # fmt: skip


class Authority:
    """A certificate authority of our own and certificates for localhost and 127.0.0.1."""

    def __init__(self, folder, name="stoker tests"):
        self.folder = pathlib.Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.key, self.certificate = self.folder / "ca.key", self.folder / "ca.pem"
        openssl(
            "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", self.key,
            "-out", self.certificate, "-days", 2, "-subj", f"/CN={name}",
        )  # fmt: skip

    def issue(self, name="localhost", subject_alt="DNS:localhost,IP:127.0.0.1", days=2):
        """Returns (certificate, key) paths."""
        key, request = self.folder / f"{name}.key", self.folder / f"{name}.csr"
        certificate, extensions = self.folder / f"{name}.pem", self.folder / f"{name}.ext"
        extensions.write_text(f"subjectAltName={subject_alt}\n")
        openssl(
            "req", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", request,
            "-subj", f"/CN={name}",
        )  # fmt: skip
        openssl(
            "x509", "-req", "-in", request, "-CA", self.certificate, "-CAkey", self.key,
            "-CAcreateserial", "-out", certificate, "-days", days, "-extfile", extensions,
        )  # fmt: skip
        return certificate, key


@dataclasses.dataclass
class Request:
    """One line of a registry's log. `sent`: bytes of the body that left the registry."""

    method: str
    path: str
    status: int
    sent: int

    @property
    def is_blob(self):
        return self.method == "GET" and "/blobs/" in self.path


class DockerRegistry:
    """docker-registry with its storage and log in `folder`. `address` is "localhost:<port>"."""

    def __init__(self, folder, auth=None, tls=None):
        self.folder = pathlib.Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.address = f"localhost:{self.port}"
        self.tls = tls
        self.authority = None  # the one to trust, when there is TLS
        self.headers = {}  # what push() must send to be let in
        self.log_path = self.folder / "log"
        configuration = {
            "version": 0.1,
            "log": {"level": "info", "formatter": "json", "accesslog": {"disabled": True}},
            "storage": {
                "filesystem": {"rootdirectory": str(self.folder / "storage")},
                "cache": {"blobdescriptor": "inmemory"},
            },
            "http": {"addr": f"127.0.0.1:{self.port}", "secret": "loopback"},
        }
        if auth:
            configuration["auth"] = auth
        if tls:
            configuration["http"]["tls"] = {"certificate": str(tls[0]), "key": str(tls[1])}
        (self.folder / "config.yml").write_text(json.dumps(configuration))  # JSON is YAML
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen(
                ["docker-registry", "serve", str(self.folder / "config.yml")],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                env={**os.environ, "OTEL_TRACES_EXPORTER": "none"},
            )  # fmt: skip
        wait_for_port(self.port, self.process, self.log_path)

    def reference(self, name, tag="latest"):
        return f"{self.address}/{name}:{tag}"

    def requests(self):
        """What was asked so far. Written by the registry when a response ends, hence a moment late."""
        lines = []
        for line in self.log_path.read_text(errors="replace").splitlines():
            if not line.startswith("{"):
                continue
            entry = json.loads(line)
            if "http.response.status" not in entry:
                continue
            lines.append(
                Request(
                    entry["http.request.method"],
                    entry["http.request.uri"],
                    entry["http.response.status"],
                    entry.get("http.response.written", 0),
                )
            )
        return lines

    def blob_bytes(self):
        return sum(r.sent for r in self.requests() if r.is_blob)

    def forget(self):
        """Start counting anew."""
        os.truncate(self.log_path, 0)

    def push(self, layout, name, tag="latest", layout_tag=None):
        return push(self, layout, name, tag, layout_tag or tag)

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Client:
    """Just enough of HTTP to push: one connection."""

    def __init__(self, registry):
        self.headers = registry.headers
        if registry.tls:
            context = ssl.create_default_context(cafile=registry.authority.certificate)
            self.connection = http.client.HTTPSConnection(
                "localhost", registry.port, context=context
            )
        else:
            self.connection = http.client.HTTPConnection("localhost", registry.port)
        self.close = self.connection.close

    def request(self, method, path, body=None, headers=None, expect=(200, 201, 202)):
        self.connection.request(method, path, body, {**self.headers, **(headers or {})})
        with self.connection.getresponse() as answer:
            data = answer.read()
        if expect and answer.status not in expect:
            raise RuntimeError(f"{method} {path}: {answer.status} {data[:300]!r}")
        return answer, data


def blobs_of(layout, descriptor):
    """Digests that a manifest or index needs, manifests themselves last and children first."""
    document = json.loads(layout.blob_path(descriptor["digest"]).read_bytes())
    blobs, manifests = [], []
    for child in document.get("manifests", []):
        below = blobs_of(layout, child)
        blobs += below[0]
        manifests += below[1]
    for part in [document["config"]] * ("config" in document) + document.get("layers", []):
        blobs.append(part["digest"])
    manifests.append(descriptor)
    return blobs, manifests


def push(registry, layout, name, tag="latest", layout_tag="latest"):
    """Upload a tagged image (or index) as it stands. Returns the reference. skopeo would convert or
    refuse some of what we make; the registry itself checks only that all blobs are there."""
    with contextlib.closing(Client(registry)) as client:
        return push_with(client, registry, layout, name, tag, layout_tag)


def push_with(client, registry, layout, name, tag, layout_tag):
    blobs, manifests = blobs_of(layout, layout.tagged(layout_tag))
    for digest in dict.fromkeys(blobs):
        answer, _ = client.request("HEAD", f"/v2/{name}/blobs/{digest}", expect=None)
        if answer.status == 200:
            continue
        answer, _ = client.request("POST", f"/v2/{name}/blobs/uploads/")
        url = urllib.parse.urlsplit(answer.headers["Location"])
        query = f"{url.query}&digest={urllib.parse.quote(digest)}"
        path = layout.blob_path(digest)
        with open(path, "rb") as f:
            headers = {
                "Content-Type": "application/octet-stream",
                "Content-Length": str(path.stat().st_size),
            }
            client.request("PUT", f"{url.path}?{query}", f, headers)
    for descriptor in manifests:
        target = tag if descriptor is manifests[-1] else descriptor["digest"]
        client.request(
            "PUT", f"/v2/{name}/manifests/{target}",
            layout.blob_path(descriptor["digest"]).read_bytes(),
            {"Content-Type": descriptor["mediaType"]},
        )  # fmt: skip
    return registry.reference(name, tag)


def htpasswd_registry(folder, user="alice", password="s3cret-p:ssw0rd"):
    """TLS with an authority of its own, Basic authentication."""
    folder = pathlib.Path(folder)
    authority = Authority(folder / "ca")
    table = subprocess.run(
        ["htpasswd", "-Bbn", user, password], check=True, stdout=subprocess.PIPE
    ).stdout
    (folder / "htpasswd").write_bytes(table)
    registry = DockerRegistry(
        folder,
        auth={"htpasswd": {"realm": "tests", "path": str(folder / "htpasswd")}},
        tls=authority.issue(),
    )
    registry.authority = authority
    registry.user, registry.password = user, password
    registry.headers = {"Authorization": ociimage.basic_authorization(user, password)}
    return registry


def base64url(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class TokenService:
    """Docker's token protocol: GET /token?service=…&scope=repository:<name>:pull, Basic authentication
    for those who have it. JWTs are signed RS256 by openssl with the key of `certificate`.

    `anonymous`: whether pulls without credentials are allowed. `lifetime`: seconds a token is good for.
    `asked`: the (user, scopes) of every request so far. `answer`: when set, called with the query and
    the handler, instead of all this."""

    def __init__(self, certificate, key, user="alice", password="s3cret-p:ssw0rd"):
        self.key, self.certificate = key, certificate
        self.user, self.password = user, password
        self.anonymous, self.lifetime, self.asked, self.answer = True, 300, [], None
        service = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                service.serve(self)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.realm = f"http://localhost:{self.server.server_port}/token"
        threading.Thread(target=self.server.serve_forever, args=[STOP_LOOKS], daemon=True).start()

    def sign(self, scopes, pull_only=True):
        now = int(time.time())
        access = []
        for scope in scopes:
            kind, name, actions = re.fullmatch(r"([^:]+):(.+):([^:]+)", scope).groups()
            wanted = actions.split(",")
            access.append(
                {
                    "type": kind,
                    "name": name,
                    "actions": [a for a in wanted if a == "pull" or not pull_only],
                }
            )
        der = openssl("x509", "-in", self.certificate, "-outform", "DER")
        parts = [
            {"typ": "JWT", "alg": "RS256", "x5c": [base64.b64encode(der).decode()]},
            {
                "iss": "stoker tests", "sub": "", "aud": "registry", "exp": now + self.lifetime,
                "nbf": now - 10, "iat": now, "jti": os.urandom(8).hex(), "access": access,
            },
        ]  # fmt: skip
        text = ".".join(base64url(json.dumps(p).encode()) for p in parts)
        signature = openssl("dgst", "-sha256", "-sign", self.key, input=text.encode())
        return text + "." + base64url(signature)

    def serve(self, handler):
        query = urllib.parse.parse_qs(urllib.parse.urlsplit(handler.path).query)
        scopes = [s for value in query.get("scope", []) for s in value.split(" ")]
        sent = handler.headers.get("Authorization")
        known = sent == ociimage.basic_authorization(self.user, self.password)
        self.asked.append((self.user if known else sent and "unknown", scopes))
        if self.answer:
            self.answer(query, handler)
        elif sent and not known or not sent and not self.anonymous:
            reply(handler, 401, {"errors": [{"code": "UNAUTHORIZED", "message": "who are you?"}]})
        else:
            token = self.sign(scopes, pull_only=not known)
            reply(handler, 200, {"token": token, "expires_in": self.lifetime})

    def stop(self):
        self.server.shutdown()
        self.server.server_close()


def reply(handler, status, body, headers=None):
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    handler.send_response(status)
    for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
        handler.send_header(name, value)
    handler.send_header("Content-Length", str(len(data)))
    handler.end_headers()
    if handler.command != "HEAD":
        handler.wfile.write(data)


def token_registry(folder):
    """Plain HTTP, tokens by a TokenService of ours (`.service`)."""
    folder = pathlib.Path(folder)
    authority = Authority(folder / "ca")
    certificate, key = authority.issue("token")
    service = TokenService(certificate, key)
    registry = DockerRegistry(
        folder,
        auth={
            "token": {
                "realm": service.realm,
                "service": "registry",
                "issuer": "stoker tests",
                "rootcertbundle": str(authority.certificate),
            }
        },
    )
    registry.service = service
    registry.user, registry.password = service.user, service.password

    def push_with_token(layout, name, tag="latest", layout_tag=None):
        token = service.sign([f"repository:{name}:pull,push"], pull_only=False)
        registry.headers = {"Authorization": f"Bearer {token}"}
        return push(registry, layout, name, tag, layout_tag or tag)

    registry.push = push_with_token
    return registry


@dataclasses.dataclass
class Exchange:
    """One request to a ScriptedRegistry, as its rules see it and its log keeps it."""

    method: str
    path: str
    headers: dict
    count: int  # how often this method and path came before
    status: int = 0
    sent: int = 0  # body bytes handed to the socket

    @property
    def is_blob(self):
        return self.method == "GET" and "/blobs/" in self.path

    @property
    def range(self):
        """(first, last or None) of the Range header, or None."""
        match = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("range", ""))
        return (int(match[1]), int(match[2]) if match[2] else None) if match else None


@dataclasses.dataclass
class Answer:
    """What a rule lets the ScriptedRegistry say. `claim`: a Content-Length other than the body's;
    `cut`: close the connection after so many bytes; `rate`: bytes a second; `stall`: seconds of silence
    before the body; `hang`: seconds of silence after `cut` instead of closing."""

    status: int = 200
    body: bytes = b""
    headers: dict = dataclasses.field(default_factory=dict)
    claim: int | None = None
    cut: int | None = None
    rate: int | None = None
    stall: float = 0
    hang: float = 0


class ScriptedRegistry:
    """Serves `layout` under any repository name and asks each of `rules` first: a function that gets the
    Exchange and returns an Answer, or a function that changes the ordinary Answer, or None.

        registry.rules.append(lambda e: Answer(503) if e.is_blob and e.count == 0 else None)
        registry.rules.append(lambda e: cut_after(1000) if e.is_blob else None)

    `log` holds every Exchange; blob_bytes() what was sent of blobs."""

    def __init__(self, layout=None, tls=None, authority=None, host="localhost"):
        self.layout, self.rules, self.log = layout, [], []
        self.lock = threading.Lock()
        self.ranges = True  # whether Range is obeyed
        self.headers = {}
        self.tls, self.authority = tls, authority
        self.stopping = threading.Event()
        scripted = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            # A failed write to a client that was killed is no news.
            timeout = 60

            def do_GET(self):
                try:
                    scripted.serve(self)
                except (ConnectionError, ssl.SSLError, TimeoutError):
                    self.close_connection = True

            do_HEAD = do_POST = do_PUT = do_GET

            def log_message(self, *_):
                pass

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 128

            def handle_error(self, *_):
                pass

        self.server = Server(("127.0.0.1", 0), Handler)
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*map(str, tls))
            self.server.socket = context.wrap_socket(
                self.server.socket, server_side=True, do_handshake_on_connect=False
            )
        self.port = self.server.server_port
        self.address = f"{host}:{self.port}"
        self.url = f"{'https' if tls else 'http'}://{self.address}"
        threading.Thread(target=self.server.serve_forever, args=[STOP_LOOKS], daemon=True).start()

    def reference(self, name="image", tag="latest"):
        return f"{self.address}/{name}:{tag}"

    def blob_bytes(self):
        with self.lock:
            return sum(e.sent for e in self.log if e.is_blob)

    def requests(self):
        with self.lock:
            return list(self.log)

    def forget(self):
        with self.lock:
            self.log.clear()

    def ordinary(self, exchange):
        """What an honest registry would say."""
        if exchange.path.rstrip("/") == "/v2":
            return Answer(200, b"{}", {"Content-Type": "application/json"})
        match = re.fullmatch(r"/v2/(.+)/(manifests|blobs)/([^/]+)", exchange.path)
        missing = Answer(404, b'{"errors":[{"code":"NOT_FOUND","message":"unknown"}]}')
        if not match or not self.layout:
            return missing
        name, kind, target = match.groups()
        media_type = "application/octet-stream"
        if kind == "manifests":
            try:
                descriptor = self.layout.tagged(target)
                target, media_type = descriptor["digest"], descriptor["mediaType"]
            except KeyError:
                if not target.startswith("sha256:"):
                    return missing
        path = self.layout.blob_path(target)
        if not path.exists():
            return missing
        body = path.read_bytes()
        if kind == "manifests":
            media_type = json.loads(body).get("mediaType", media_type)
        answer = Answer(200, body, {"Content-Type": media_type, "Docker-Content-Digest": target})
        if kind == "blobs" and self.ranges and exchange.range:
            first, last = exchange.range
            if first >= len(body):
                return Answer(416, b"", {"Content-Range": f"bytes */{len(body)}"})
            last = len(body) - 1 if last is None else min(last, len(body) - 1)
            answer.status, answer.body = 206, body[first : last + 1]
            answer.headers["Content-Range"] = f"bytes {first}-{last}/{len(body)}"
        return answer

    def serve(self, handler):
        path = handler.path
        with self.lock:
            count = sum(e.path == path and e.method == handler.command for e in self.log)
            headers = {k.lower(): v for k, v in handler.headers.items()}
            exchange = Exchange(handler.command, path, headers, count)
            self.log.append(exchange)
        answer = None
        for rule in self.rules:
            ruled = rule(exchange)
            if callable(ruled):
                answer = ruled(answer or self.ordinary(exchange))
            elif ruled is not None:
                answer = ruled
        self.send(handler, exchange, answer or self.ordinary(exchange))

    def send(self, handler, exchange, answer):
        exchange.status = answer.status
        body = b"" if handler.command == "HEAD" else answer.body
        handler.send_response(answer.status)
        for name, value in answer.headers.items():
            handler.send_header(name, value)
        length = len(answer.body) if answer.claim is None else answer.claim
        handler.send_header("Content-Length", str(length))
        handler.end_headers()
        if answer.stall:
            self.stopping.wait(answer.stall)
        if answer.cut is not None:
            body = body[: answer.cut]
        step = 64 << 10
        if answer.rate:
            step = max(1, min(step, answer.rate // 20))
        view, start = memoryview(body), time.monotonic()
        for offset in range(0, len(body), step):
            chunk = view[offset : offset + step]
            exchange.sent += len(chunk)  # before: the client may ask what was sent at once
            handler.wfile.write(chunk)
            if answer.rate:
                ahead = (offset + len(chunk)) / answer.rate - (time.monotonic() - start)
                if ahead > 0 and self.stopping.wait(ahead):
                    break
        if answer.cut is not None or answer.claim is not None:
            if answer.hang:
                self.stopping.wait(answer.hang)
            handler.close_connection = True

    def stop(self):
        self.stopping.set()
        self.server.shutdown()
        self.server.server_close()


def cut_after(size, hang=0):
    """A rule's answer: the ordinary one, cut off after so many bytes of body."""

    def change(answer):
        answer.cut, answer.hang = size, hang
        return answer

    return change


def slowly(rate):
    """A rule's answer: the ordinary one at so many bytes a second."""

    def change(answer):
        answer.rate = rate
        return answer

    return change


def remove(folder):
    shutil.rmtree(folder, ignore_errors=True)
