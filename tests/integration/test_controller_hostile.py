# SPDX-License-Identifier: Apache-2.0
"""Clients that mean harm, or are broken: what they send is refused, the controller stays up and answers
others, its memory is bounded. (test_controller_http.py: what a good client may rely on.)"""

import contextlib
import gzip
import hashlib
import http.server
import json
import os
import pathlib
import re
import socket
import threading
import time
from random import Random

import controller_cast
import pytest
from test_agent import agent
from test_controller_http import (
    MIB,
    drain,
    head_of,
    healthy,
    raw,
    status_of,
    wait_for,
    write_settings,
)
from test_run import _busybox, busybox, write_job  # noqa: F401


@pytest.fixture
def cast(make_controller):
    c = make_controller(start=False)
    write_settings(c, "limits: {user_rate: 100000, node_rate: 100000, lease: 1h}\n")
    return controller_cast.Cast(c.start())


def files_below(folder):
    return sorted(str(p) for p in pathlib.Path(folder).rglob("*"))


# ----- names of files


UP = ["..", "%2e%2e", "%2E.", ".%2e"]
NAMES = [
    *(f"outputs/{up}/x" for up in UP), *(f"outputs/a{slash}{up}{slash}{up}{slash}x"
      for up in UP for slash in ("/", "%2f", "%2F")),
    "outputs/..%2f..%2f..%2f..%2fetc%2fpasswd", "outputs//x", "outputs/%2fetc/passwd", "outputs/./x",
    "outputs/x%2f", "%2foutputs/x", "/etc/passwd", "%2fetc%2fpasswd",
    "..%2foutputs/x",
    "outputs%00/x", "outputs/%00", "outputs/x%00.txt", "outputs/%ff", "outputs/%c0%ae%c0%ae/x",
    "outputs/%e0%80%ae/x", "outputs/%ed%a0%80", "outputs/" + "a" * 2500, "outputs/" + "a/" * 1250 + "b",
    "Outputs/x", "outputsx/x", "output/x", "tmp/x", "controller.db", "outputs\\..\\..\\x",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_names_that_lead_away(cast, name):
    """Refused in every way that writes and reads; nothing appears anywhere."""
    data, c, run = b"mine", cast.controller, cast.ada_run
    url, token = f"/v1/runs/{run}/files/{name}", cast["ada_run"]
    before = files_below(c.folder / "files")
    ranges = {"Content-Range": f"bytes 0-{len(data) - 1}/*"}
    whole = {"Stoker-Sha256": hashlib.sha256(data).hexdigest()}
    end = {"size": len(data), "sha256": whole["Stoker-Sha256"]}
    replies = [
        c.patch(url, data, token=token, headers=ranges),
        c.put(url, data, token=token, headers=whole),
        c.post(f"{url}?finish=1", end, token=token),
        c.get(url),
        c.get(f"{url}?stat=1"),
    ]
    assert {r.status for r in replies} <= {400, 404}, replies
    listed = [f["path"] for f in c.get(f"/v1/runs/{run}/files").json["files"]]
    assert listed == []
    assert [f for f in files_below(c.folder / "files") if f not in before] == []


def test_the_folders_at_the_top_stay_folders(cast):
    """A link in the place of outputs/ would lead all of it away, at whoever fetches it."""
    c, run, token = cast.controller, f"/v1/runs/{cast.ada_run}", cast["ada_run"]
    whole = {"Stoker-Sha256": hashlib.sha256(b"x").hexdigest()}
    assert c.put(f"{run}/files/outputs", b"x", token=token, headers=whole).code == "invalid"
    for change in ({"do": "link", "path": "outputs", "target": "/etc"},
                   {"do": "move", "from": "outputs/l", "to": "outputs"},
                   {"do": "move", "from": "outputs", "to": "logs/x"}):  # fmt: skip
        link = {"do": "link", "path": "outputs/l", "target": "/etc"}
        reply = c.post(f"{run}/changes", {"changes": [link, change]}, token=token)
        assert (reply.status, reply.code) == (400, "invalid"), reply
    assert c.get(f"{run}/files").json["files"] == []


def test_names_in_documents_that_lead_away(cast):
    for name in (
        "../x",
        "outputs/../../x",
        "/etc/passwd",
        "outputs//x",
        "outputs/.",
        "",
        "x",
        "outputs/",
    ):
        for change in ({"do": "folder", "path": name}, {"do": "link", "path": name, "target": "x"},
                       {"do": "remove", "path": name}, {"do": "move", "from": name, "to": "outputs/y"},
                       {"do": "move", "from": "outputs/y", "to": name}):  # fmt: skip
            url = f"/v1/runs/{cast.ada_run}/changes"
            reply = cast.controller.post(url, {"changes": [change]}, token=cast["ada_run"])
            assert (reply.status, reply.code) == (400, "invalid"), (change, reply)
        model = {"name": "m", "run": cast.ada_run, "path": name}
        assert cast.controller.post("/v1/models", model).status == 400
    for name in ("..", ".hidden", "a/b", "", "a b", "x" * 256, "é"):
        model = {"name": name, "run": cast.ada_run, "path": "outputs/x"}
        assert cast.controller.post("/v1/models", model).code == "invalid"
        joined = {"name": name if name != ".." else "a/../b"}
        if name != ".hidden":
            assert cast.controller.post("/v1/nodes", joined).code == "invalid", name


@pytest.mark.parametrize(
    "name", ["../../evil", "/tmp/evil", "outputs/../../evil", "outputs/link/evil"]
)
def test_a_controller_that_lies_about_names(stoker, tmp, name):
    """`stoker download` writes nothing outside its folder, whatever the list of files says."""
    away = tmp / "away"
    away.mkdir()
    files = [
        {"path": "outputs/link", "kind": "link", "target": str(away), "size": 0},
        {"path": name, "kind": "file", "size": 4, "sha256": hashlib.sha256(b"evil").hexdigest()},
    ]
    for f in files:
        f.update({"complete": True, "mode": 0o644, "mtime_ns": 0, **{"sha256": f.get("sha256")}})
    with liar({"files": sorted(files, key=lambda f: f["path"]), "next": None}, b"evil") as url:
        stoker.environment.update(STOKER_URL=url, STOKER_TOKEN="stk_u_x")
        done = stoker("download", "run_1", "-o", tmp / "got/deep", check=False)
    assert (done.returncode == 0) == (
        name == "outputs/link/evil"
    ), "that is a name, the link is not"
    assert not list(away.iterdir()) and not pathlib.Path("/tmp/evil").exists()
    evil = [p for p in files_below(tmp) if "evil" in p]
    assert all(p.startswith(f"{tmp}/got/deep/outputs/link/") for p in evil)


@contextlib.contextmanager
def liar(document, data):
    """An HTTP server that answers every list with that document, everything else with those bytes."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            run = {"id": "run_1", "state": "Completed", "ended": 1}
            listing = "/files?" in self.path or self.path.endswith("/files")
            answer = document if listing else run
            body = data if "/files/" in self.path else json.dumps(answer).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


# ----- bodies


def test_bodies_that_lie_about_their_length(cast):
    c, url = cast.controller, f"/v1/runs/{cast.ada_run}/files/outputs/x"
    hash_of = hashlib.sha256(b"abc").hexdigest()

    def put(length, data, *lines):
        head = [f"PUT {url} HTTP/1.1", "Host: x", f"Authorization: Bearer {cast['ada_run']}",
                f"Stoker-Sha256: {hash_of}", *lines]  # fmt: skip
        head += [f"Content-Length: {length}"] if length is not None else []
        return raw(c, "\r\n".join([*head, "", ""]).encode() + data, 10)

    assert status_of(put(100, b"abc")) is None  # cut off: no answer, and nothing is kept
    assert c.get(url).status == 404
    # What is beyond is the next request, and a bad one.
    replies = put(3, b"abcdefgh\r\n\r\n")
    assert status_of(replies) == 204 and replies.count(b"HTTP/1.1") <= 2
    assert c.get(url).body == b"abc"
    for length in ("-1", "3x", "0x3", "3, 3", "", " ", "18446744073709551616", "1e3", "+3"):
        assert status_of(put(length, b"abc")) in (None, 400, 413), length
    assert status_of(put(3, b"abc", "Content-Length: 4")) in (None, 400)
    assert status_of(put(3, b"3\r\nabc\r\n0\r\n\r\n", "Transfer-Encoding: chunked")) in (None, 400)
    for chunks in (b"3\r\nabc\r\n0\r\n\r\n", b"1\r\na\r\n2;x=y\r\nbc\r\n0\r\nTrailer: x\r\n\r\n"):
        assert (
            status_of(put(None, chunks, "Transfer-Encoding: chunked", "Connection: close")) == 204
        )
    for chunks in (b"zz\r\nabc\r\n0\r\n\r\n", b"ffffffffffffffffff\r\nabc", b"-3\r\nabc\r\n0\r\n\r\n",
                   b"3\r\nabcdef\r\n0\r\n\r\n", b"3" + b";" * 100_000):  # fmt: skip
        reply = put(None, chunks, "Transfer-Encoding: chunked", "Connection: close")
        # 500: libmicrohttpd's own, where the head of a chunk fills its memory.
        refused = (500,) if chunks[1:2] == b";" else (None, 400, 413)
        assert status_of(reply) in refused, (chunks[:20], reply)
    for coding in ("gzip", "gzip, chunked", "identity", "chunked, chunked"):
        reply = put(
            None, b"3\r\nabc\r\n0\r\n\r\n", f"Transfer-Encoding: {coding}", "Connection: close"
        )
        assert status_of(reply) in (None, 204, 400, 409, 501), (coding, reply)
    assert c.get(url).body == b"abc"


def test_an_append_that_is_cut_keeps_what_came(cast):
    """That is its promise (docs/protocol.md): the writer asks, and goes on behind it. No more than that."""
    c, url = cast.controller, f"/v1/runs/{cast.ada_run}/files/user_logs/std_log.txt"
    head = [f"PATCH {url} HTTP/1.1", "Host: x", f"Authorization: Bearer {cast['ada_run']}",
            "Content-Range: bytes 0-99999/*", "Content-Length: 100000", "", ""]  # fmt: skip
    raw(c, "\r\n".join(head).encode() + b"x" * 1000)
    wait_for(lambda: c.get(f"{url}?stat=1").json["size"] == 1000)
    long = c.patch(
        url, b"y" * 10, token=cast["ada_run"], headers={"Content-Range": "bytes 1000-1004/*"}
    )
    short = c.patch(
        url, b"y" * 2, token=cast["ada_run"], headers={"Content-Range": "bytes 1000-1004/*"}
    )
    assert (long.status, short.status) == (400, 400)
    assert c.get(url).body.startswith(b"x" * 1000) and len(c.get(url).body) <= 1005


DEEP, WIDE = b"[" * 50_000, b"[" + b"0," * 400_000 + b"0]"


@pytest.mark.parametrize(
    "body",
    [b"", b" ", b"null", b"true", b"1", b'"x"', b"[]", b"{", b"{}}", b"{}{}", b"{'a':1}", b"{a:1}",
     b'{"role":}', b'{"role":"join",}', b'{"role":"join"} // x', b'/* */{"role":"join"}',
     b'{"role":"join","role":"join"}', b'{"role":"jo\\u0000in"}', b'{"role":"\\ud800"}',
     b'{"role":"\xff"}', b'{"role":"join\x01"}', b'\xef\xbb\xbf{"role":"join"}', b'{"role":NaN}',
     b'{"role":"join","expires":1e999}', b'{"role":"join","expires":99999999999999999999}',
     b'{"role":["join"]}', b'{"role":{"role":"join"}}', b'{"__proto__":{"role":"admin"}}',
     DEEP, b'{"role":' + DEEP, b'{"a":' * 30_000, b"\x1f\x8b\x08\x00", b"\0" * 1000,
     '{"role":"join"}'.encode("utf-16"), b'{"' + b"k" * 60_000 + b'":1}'],
    ids=lambda body: repr(body[:20]),
)  # fmt: skip
def test_documents_that_are_none(cast, body):
    before = len(cast.controller.get("/v1/tokens").json["tokens"])
    reply = cast.controller.post("/v1/tokens", body)
    assert reply.status in (400, 413) and reply.code in ("invalid", "too_large"), reply
    assert len(reply.body) < 1000, "an error does not repeat the request"
    assert len(cast.controller.get("/v1/tokens").json["tokens"]) == before


def test_compressed_bodies_are_not_opened(cast):
    """Nothing decodes: a bomb is a document that is none, or bytes as any others."""
    c, bomb = cast.controller, gzip.compress(b" " * (40 * MIB))
    before = c.memory()
    for coding in ("gzip", "deflate", "zstd", "br"):
        headers = {"Content-Encoding": coding, "Content-Type": "application/json"}
        assert c.post("/v1/runs", bomb, headers=headers).code == "invalid"
    name = hashlib.sha256(b" " * (40 * MIB)).hexdigest()
    reply = c.put(f"/v1/snapshots/{name}", bomb, headers={"Content-Encoding": "gzip"})
    assert reply.code == "digest_mismatch"
    assert c.memory() - before < 16 * MIB


# ----- many, slow and silent ones


def peak(c):
    text = pathlib.Path(f"/proc/{c.process.pid}/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+)", text)[1]) * 1024


def test_memory_of_many_large_bodies_is_bounded(cast):
    """Each may be 4 MiB and need not end: together they get no more than a part of the memory."""
    c = cast.controller
    before, size = c.memory(), 4 * MIB - 1000
    body = b'{"job": {"x": "' + b"x" * (size - 15)
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(c.connect()) for _ in range(80)]
        refused = 0
        for s in clients:
            s.sendall(head_of(c, "/v1/runs", f"Content-Length: {size + 10}") + body)
        assert healthy(c)
        grown = peak(c) - before
        for s in clients:
            with contextlib.suppress(OSError):
                s.sendall(b'"}}'.ljust(10))
        for s in clients:
            status = status_of(s.recv(65536))
            assert status in (201, 400, 503), status
            refused += status == 503
    assert refused > 20
    assert grown < (500 if "libasan" in maps(c) else 300) * MIB, grown / MIB
    wait_for(lambda: c.post("/v1/runs", {"job": {"resources": {"cpus": 80_000}}}).status == 201)


def maps(c):
    return pathlib.Path(f"/proc/{c.process.pid}/maps").read_text()


def test_memory_of_heads_and_refused_bodies_is_bounded(cast):
    """Of those who have no token."""
    c = cast.controller
    before = c.memory()
    with contextlib.ExitStack() as stack:
        for i in range(300):
            s = stack.enter_context(c.connect())
            with contextlib.suppress(OSError):
                if i % 2:
                    s.sendall(b"GET /v1/ HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 11_000)
                else:
                    s.sendall(
                        b"POST /v1/runs HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n"
                        + b"x" * 900_000
                    )
        assert healthy(c)
        assert (peak(c) - before) / 300 < (500_000 if "libasan" in maps(c) else 120_000)
    wait_for(lambda: c.metrics()["stoker_http_connections"] < 10)


def test_readers_that_do_not_read_are_ended(make_controller):
    """Neither a file nor a list of answers is kept for one who takes none of it."""
    c = make_controller(start=False)
    write_settings(c, "limits: {idle: 2s, lease: 1h}\n")
    cast = controller_cast.Cast(c.start())
    cast.put("ada", "outputs/large", os.urandom(48 * MIB))
    ask = f"GET /v1/runs/{cast.ada_run}/files/outputs/large HTTP/1.1\r\nHost: x\r\n" \
          f"Authorization: Bearer {cast['ada']}\r\n\r\n"  # fmt: skip
    with contextlib.ExitStack() as stack:
        silent = [stack.enter_context(c.connect()) for _ in range(20)]
        for s in silent:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            s.sendall(ask.encode())
        many = stack.enter_context(c.connect())
        many.setblocking(False)
        with contextlib.suppress(BlockingIOError, ConnectionError):
            for _ in range(100_000):  # pipelined, and never read
                many.send(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert healthy(c) and c.memory() < 200 * MIB
        wait_for(lambda: c.metrics()["stoker_http_connections"] <= 1, 30)


@pytest.mark.parametrize("kind", ["head", "body", "chunks"])
def test_slow_clients_hold_up_nobody(cast, kind):
    """A hundred that send a byte now and then; the others are answered at once."""
    c = cast.controller
    begin = {
        "head": b"GET /v1/ HTTP/1.1\r\nX: ",
        "body": head_of(c, "/v1/tokens", "Content-Length: 60000"),
        "chunks": head_of(c, "/v1/tokens", "Transfer-Encoding: chunked"),
    }[kind]
    step = b"1\r\nx\r\n" if kind == "chunks" else b"x"
    with contextlib.ExitStack() as stack:
        slow = [stack.enter_context(c.connect()) for _ in range(100)]
        for s in slow:
            s.sendall(begin)
        for _ in range(5):
            for s in slow:
                s.sendall(step)
            start = time.monotonic()
            assert c.get("/v1/").status == 200
            assert time.monotonic() - start < 2
            time.sleep(0.2)


def test_garbage_on_many_connections(cast):
    """Random bytes, and good requests with random bytes in them."""
    c, good = (
        cast.controller,
        head_of(cast.controller, "/v1/runs?limit=5", "Content-Length: 2") + b"{}",
    )
    random = Random(5)
    for i in range(300):
        if i % 3:
            data = bytearray(good)
            for _ in range(random.randrange(1, 8)):
                data[random.randrange(len(data))] = random.randrange(256)
        else:
            data = random.randbytes(random.randrange(1, 3000))
        with c.connect(10) as s:
            with contextlib.suppress(OSError):
                s.sendall(bytes(data))
                s.shutdown(socket.SHUT_WR)
            status = status_of(drain(s))
        assert status is None or 200 <= status < 600 and status != 500, (status, bytes(data))
    assert healthy(c)


# ----- TLS, tokens


@pytest.mark.parametrize(
    "address", ["0.0.0.0", "[::]", "192.0.2.1", "[2001:db8::1]", "[::ffff:127.0.0.1]"]
)
def test_tls_is_needed_off_loopback(make_controller, address):
    c = make_controller(start=False)
    done = c.command("serve", "--listen", f"{address}:0", check=False)
    assert done.returncode == 1 and "--tls-certificate" in done.stderr, done.stderr


@pytest.mark.parametrize("way", ["option", "settings"])
def test_plain_http_where_it_is_allowed(make_controller, way):
    c = make_controller(start=False)
    if way == "settings":
        write_settings(c, "allow_plain_http: true\n")
    else:
        c.serve_options += ["--allow-plain-http"]
    c.serve_options += ["--listen", "0.0.0.0:0"]  # the last one counts
    assert c.start().url.startswith("http://0.0.0.0:") and c.get("/v1/").status == 200


def seen_by_others():
    """What any user may read of processes, and what their own may: (pid, command line, environment)."""
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                yield (
                    int(entry.name),
                    (entry / "cmdline").read_bytes(),
                    (entry / "environ").read_bytes(),
                )


def test_tokens_are_nowhere_to_be_seen(make_stoker, controller, busybox, tmp):  # noqa: F811
    """While a job runs: in no command line, in no environment but the job's own, which has its token and
    none other. Nor in a log."""
    stoker, user = make_stoker(), make_stoker()
    user.environment["XDG_CONFIG_HOME"] = str(tmp / "config")
    ada = controller.make_token("user", "ada")
    user("login", controller.url, input=ada + "\n")
    stoker("join", controller.url, "--name", "one", input=controller.join + "\n")
    mark = f"mark-{os.urandom(8).hex()}"
    script = f"env > outputs/env; echo {mark} secret; exec sleep 300\n"
    job = write_job(tmp / "job", busybox, script, environment_variables={"MARK": mark})
    with agent(stoker):
        run = user("submit", job).stdout.strip()
        wait_for(lambda: mark in user("logs", run).stdout, 60)
        starts = [
            json.loads(p.read_text()) for p in (stoker.state / "node").glob("attempts/*/start.json")
        ]
        tokens = {s[k] for s in starts for k in ("token", "job_token")} | {ada, controller.admin}
        kept = "".join(
            p.read_text() for p in stoker.state.rglob("*.json") if p.stat().st_size < 10**6
        )
        tokens |= {controller.join, *re.findall(r"stk_n_\w{10}_\w{43}", kept)}
        assert len(tokens) == 6, "admin, user, join, node, run, job"
        secrets = {t.rpartition("_")[2].encode(): t for t in tokens}
        found = []
        for pid, line, environment in seen_by_others():
            own = "stk_m_" if mark.encode() in environment else "none"
            found += [(pid, secrets[s], line) for s in secrets if s in line]
            found += [
                (pid, secrets[s], "environment")
                for s in secrets
                if s in environment and not secrets[s].startswith(own)
            ]
        assert found == []
        assert any(s["job_token"].encode() in e for s in starts for _, _, e in seen_by_others())
        user("cancel", run)
        wait_for(lambda: "Canceled" in user("show", run).stdout, 60)
    raw(
        controller, b"GET /v1/ HTTP/1.1\r\nAuthorization: Bearer " + ada.encode() + b"\r\nx\r\n\r\n"
    )
    logs = [controller.log_path, *stoker.state.rglob("*.log"), *stoker.state.rglob("*log.txt")]
    logs += [p for p in controller.folder.rglob("*") if p.is_file()]
    assert len(logs) > 3
    for path in logs:
        text = path.read_bytes()
        left = [secrets[s] for s in secrets if s in text and secrets[s][:6] != "stk_m_"]
        assert left == [], path
