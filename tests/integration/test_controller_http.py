# SPDX-License-Identifier: Apache-2.0
"""The controller's HTTP server: what it answers, and what it survives."""

import contextlib
import hashlib
import http.client
import json
import os
import pathlib
import signal
import socket
import sqlite3
import ssl
import subprocess
import threading
import time

import pytest

import controller as lab

MIB = 1024 * 1024


def raw(c, data, timeout=30):
    """What comes back on one connection until the server closes it."""
    with c.connect(timeout) as s:
        with contextlib.suppress(OSError):  # it may close before it has read all
            s.sendall(data)
            s.shutdown(socket.SHUT_WR)
        return drain(s)


def drain(s):
    reply = b""
    with contextlib.suppress(ConnectionResetError):
        while piece := s.recv(65536):
            reply += piece
    return reply


def status_of(reply):
    return int(reply.split(b" ", 2)[1]) if reply.startswith(b"HTTP/") else None


# ----- what it answers


def test_health_and_metrics_need_no_token(controller):
    assert controller.get("/healthz", token="").json == {"status": "ok"}
    before = controller.metrics()
    assert controller.get("/v1/").status == 200
    assert controller.get("/nothing").status == 404
    after = controller.metrics()
    for name in ('stoker_http_requests_total{class="2xx"}', "stoker_http_sent_bytes_total"):
        assert after[name] > before[name]
    assert after['stoker_http_requests_total{class="4xx"}'] == 1
    assert after["stoker_http_request_seconds_count"] >= 4


def test_routes(controller):
    get = controller.get
    assert get("/v1/").json == {"version": "0.1.0", "user": "admin", "role": "admin"}
    assert get("/v1").json["role"] == "admin"
    assert get("/v1/nonsense").code == "not_found"
    reply = controller.put("/v1/tokens", b"")
    assert (reply.status, reply.code, reply.headers["Allow"]) == (405, "invalid", "GET, POST")
    head = controller.request("HEAD", "/v1/tokens")
    assert (head.status, head.body) == (200, b"")
    assert int(head.headers["Content-Length"]) > 100
    assert get("/v1/").headers["X-Content-Type-Options"] == "nosniff"


def test_keep_alive(controller):
    connection = http.client.HTTPConnection("127.0.0.1", controller.port)
    with contextlib.closing(connection):
        connection.connect()
        socket_ = connection.sock
        for method, path, size, status in [
            ("GET", "/healthz", 0, 200),
            ("POST", "/no", 100_000, 404),
            ("POST", "/v1/tokens", 50_000, 401),
            ("GET", "/v1/", 0, 401),
            ("GET", "/healthz", 0, 200),
        ]:
            connection.request(method, path, b"x" * size if size else None)
            reply = connection.getresponse()
            reply.read()
            assert reply.status == status
            assert connection.sock is socket_, "a refusal of a small body keeps the connection"


@pytest.mark.parametrize(
    "path",
    ["/v1/runs/%00/files", "/v1/runs/%ff/files", "/v1/runs/%c0%ae/files", "/v1/runs/../tokens",
     "/v1/runs/%2e%2e/files", "/v1/runs/a/files/outputs/..%2f..%2fx", "/v1//tokens", "/v1/%zz",
     "/v1/runs/a/files/outputs//x", "/v1/tokens?a=%00", "/v1/tokens?a=1&a=2", "/v1/%", "/v1/%4"],
)  # fmt: skip
def test_targets_that_are_refused(controller, path):
    reply = controller.get(path)
    assert (reply.status, reply.code) == (400, "invalid"), reply


def test_bodies(controller):
    post = controller.post
    for body in (b"", b"[]", b"nonsense", b'{"role":"user"', b'{"role":"user","user":"a","x":1}',
                 b'{"role":"user","role":"admin"}', b'"\xff"', b"[" * 100_000):  # fmt: skip
        reply = post("/v1/tokens", body)
        assert reply.code in ("invalid", "too_large"), (body[:20], reply)
    assert post("/v1/tokens", {"role": "user", "user": "ada"}).status == 201
    assert post("/v1/tokens", {"role": "node"}).code == "invalid"
    assert post("/v1/tokens", {"role": "user"}).code == "invalid"
    assert post("/v1/tokens", {"role": "user", "user": "a/b"}).code == "invalid"
    assert post("/v1/tokens", {"role": "user", "user": "a", "expires": 5}).code == "invalid"


def head_of(c, path, *lines):
    return "\r\n".join(
        [f"POST {path} HTTP/1.1", "Host: x", f"Authorization: Bearer {c.admin}", *lines, "", ""]
    ).encode()


def test_oversized_body_is_refused_before_it_is_read(controller):
    with controller.connect() as s:
        s.sendall(head_of(controller, "/v1/tokens", "Content-Length: 100000000"))
        assert status_of(s.recv(65536)) == 413
    with controller.connect() as s:
        s.sendall(
            head_of(controller, "/v1/tokens", "Content-Length: 70000", "Expect: 100-continue")
        )
        assert status_of(s.recv(65536)) == 413
    # A client that writes on gets the answer nevertheless.
    reply = raw(
        controller,
        head_of(controller, "/v1/tokens", "Content-Length: 8000000") + b"x" * 8_000_000,
    )
    assert status_of(reply) == 413


def test_oversized_chunked_body(controller):
    head = head_of(controller, "/v1/tokens", "Transfer-Encoding: chunked", "Connection: close")
    chunk = b"10000\r\n" + b"x" * 65536 + b"\r\n"
    assert status_of(raw(controller, head + 3 * chunk + b"0\r\n\r\n")) == 413
    # One without an end is cut off.
    start = time.monotonic()
    with controller.connect() as s:
        s.sendall(head)
        with pytest.raises(OSError):
            for _ in range(200):
                s.sendall(chunk)
                time.sleep(0.002)
    assert time.monotonic() - start < 20
    assert controller.get("/healthz").status == 200


def test_expect_100_continue(controller):
    body = json.dumps({"role": "user", "user": "ada"}).encode()
    with controller.connect() as s:
        s.sendall(
            head_of(
                controller, "/v1/tokens", f"Content-Length: {len(body)}", "Expect: 100-continue"
            )
        )
        assert s.recv(65536).startswith(b"HTTP/1.1 100 ")
        s.sendall(body)
        assert status_of(s.recv(65536)) == 201


def test_oversized_head(controller):
    for lines in (
        ["X: " + "x" * 14_000],
        ["X: " + "x" * 40_000],
        [f"X-{i}: {'x' * 100}" for i in range(1000)],
    ):
        assert status_of(raw(controller, head_of(controller, "/v1/", *lines))) in (413, 431)
    reply = raw(controller, b"GET /v1/" + b"x" * 20_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 5)
    assert status_of(reply) in (413, 414)
    reply = raw(controller, b"GET /" + b"x" * 500_000, 5)
    assert status_of(reply) == 414


@pytest.mark.parametrize(
    "text",
    [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"\r\n" * 100 + b"\0" * 100, b"GET\r\n\r\n",
     b"GET / HTTP/9.9\r\nHost: x\r\n\r\n", b"GET http://x HTTP/1.1\r\nHost: x\r\n\r\n",
     b"GET /healthz HTTP/1.1\r\nHost x\r\n\r\n", b"GET * HTTP/1.1\r\nHost: x\r\n\r\n",
     b"GET /healthz HTTP/1.1\r\n\r\n", b"\xff\xfe /healthz HTTP/1.1\r\nHost: x\r\n\r\n",
     b"POST /v1/tokens HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
     b"POST /v1/tokens HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\n",
     b"POST /v1/tokens HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
     b"POST /v1/tokens HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n"
     b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
     b"POST /v1/no HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n\r\n"],
)  # fmt: skip
def test_malformed_requests(controller, text):
    reply = b""
    with controller.connect(5) as s:
        s.sendall(text)
        s.shutdown(socket.SHUT_WR)
        reply = drain(s)
    assert status_of(reply) in (None, 400, 404, 405, 413, 501, 505), reply
    assert controller.get("/healthz").status == 200


def test_pipelined_requests_and_garbage(controller):
    one = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    with controller.connect(5) as s:
        s.sendall(one * 5 + os.urandom(5000).replace(b"\n", b"") + b"\r\n\r\n")
        s.shutdown(socket.SHUT_WR)
        assert drain(s).count(b'{"status":"ok"}') == 5
    assert controller.get("/healthz").status == 200


# ----- tokens


def test_tokens(controller):
    def ask(token):
        return controller.get("/v1/", token=token)

    ada = controller.make_token("user", "ada")
    assert ask(ada).json == {"version": "0.1.0", "user": "ada", "role": "user"}
    assert ask(controller.join).json["role"] == "join"
    wrong = ada[:-1] + ("a" if ada[-1] != "a" else "b")
    other_id = ada[:6] + "x" * 10 + ada[16:]
    for token in (
        "nonsense",
        "",
        wrong,
        other_id,
        ada + "a",
        ada[:-1],
        ada * 10,
        "stk_a_" + ada[6:],
    ):
        reply = controller.get("/v1/", token="", headers={"Authorization": f"Bearer {token}"})
        assert (reply.status, reply.code) == (401, "unauthenticated"), token
        assert reply.headers["WWW-Authenticate"] == "Bearer"
    assert controller.get("/v1/", token="", headers={"Authorization": f"Basic {ada}"}).status == 401
    assert controller.get("/v1/tokens", token=ada).code == "denied"
    assert controller.get("/v1/tokens", token=controller.join).code == "denied"
    # Revoked by the other program, and by the API: at once.
    controller.command("token", "revoke", ada[6:16])
    assert ask(ada).status == 401
    bob = controller.post("/v1/tokens", {"role": "user", "user": "bob"}).json["token"]
    assert ask(bob).status == 200
    assert controller.delete(f"/v1/tokens/{bob[6:16]}").status == 204
    assert ask(bob).status == 401
    assert controller.delete(f"/v1/tokens/{bob[6:16]}").code == "not_found"


def test_token_expires(controller):
    token = controller.make_token("user", "ada", "1s")
    assert controller.get("/v1/", token=token).status == 200
    time.sleep(1.1)
    assert controller.get("/v1/", token=token).status == 401
    listed = controller.command("token", "list").stdout
    assert "expired" in listed and token not in listed and token[17:] not in listed


def test_tokens_are_kept_as_hashes_only(make_controller):
    c = make_controller()
    for _ in range(3):
        c.get("/v1/")
        c.get("/v1/", token=c.admin[:-1] + "!")
        c.get("/v1/nothing?x=1")
    raw(
        c, b"GET /v1/ HTTP/1.1\r\nAuthorization: Bearer " + c.admin.encode() + b"\r\nbroken\r\n\r\n"
    )
    pathlib_files = [p for p in c.folder.rglob("*") if p.is_file()] + [c.log_path]
    secret = c.admin[17:].encode()
    assert pathlib_files and all(secret not in p.read_bytes() for p in pathlib_files)
    arguments = pathlib.Path(f"/proc/{c.process.pid}/cmdline").read_bytes()
    assert b"stk_" not in arguments


def test_last_use_is_told(controller):
    [row] = [t for t in controller.get("/v1/tokens").json["tokens"] if t["role"] == "admin"]
    assert abs(row["last_used"] / 1000 - time.time()) < 60 and row["revoked"] is None


def test_rate_limit(controller):
    ada = controller.make_token("user", "ada")
    connection = http.client.HTTPConnection("127.0.0.1", controller.port)
    statuses = []
    with contextlib.closing(connection):
        for _ in range(400):
            connection.request("GET", "/v1/", headers={"Authorization": f"Bearer {ada}"})
            reply = connection.getresponse()
            reply.read()
            statuses.append(reply.status)
            if reply.status == 429:
                assert int(reply.headers["Retry-After"]) >= 1
                break
    assert 200 <= len(statuses) < 400 and statuses[-1] == 429
    assert controller.get("/v1/").status == 200, "the limit is of one token"
    time.sleep(0.1)
    assert controller.get("/v1/", token=ada).status == 200


# ----- slow clients, many clients


def write_settings(c, text):
    (c.folder / "controller.yaml").write_text(text)


def test_silent_client_is_ended(make_controller):
    c = make_controller(start=False)
    write_settings(c, "limits: {idle: 1s}\n")
    c.start()
    for data in (b"", b"GET /v1/", head_of(c, "/v1/tokens", "Content-Length: 100") + b"{"):
        start = time.monotonic()
        with c.connect() as s:
            s.sendall(data)
            drain(s)
        assert 0.5 < time.monotonic() - start < 6, data


@pytest.mark.full
@pytest.mark.parametrize("kind", ["head", "body"])
def test_slow_loris(make_controller, kind):
    """A byte now and then does not keep a connection for ever."""
    c = make_controller(start=False)
    write_settings(c, "limits: {idle: 5s}\n")
    c.start()
    head = b"GET /v1/ HTTP/1.1\r\n"
    if kind == "body":
        head = head_of(c, "/v1/tokens", "Content-Length: 60000")
    start = time.monotonic()
    with c.connect() as s, pytest.raises(OSError):
        s.sendall(head)
        while time.monotonic() - start < 100:
            s.sendall(b"x")
            time.sleep(1)
    assert 30 < time.monotonic() - start < 75


def test_a_thousand_idle_connections(controller):
    before = controller.memory()
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(controller.connect()) for _ in range(1000)]
        for s in clients:
            s.sendall(head_of(controller, "/v1/tokens", "Content-Length: 0"))
        assert {status_of(s.recv(4096)) for s in clients} == {400, 429}
        assert controller.get("/healthz", timeout=5).status == 200
        assert controller.metrics()["stoker_http_connections"] > 1000
        grown = controller.memory() - before
    maps = pathlib.Path(f"/proc/{controller.process.pid}/maps").read_text()
    most = 500_000 if "libasan" in maps else 80_000  # 53,000 were measured
    assert grown / 1000 < most
    wait_for(lambda: controller.metrics()["stoker_http_connections"] < 10)


def wait_for(what, seconds=10):
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_connections_of_one_address(make_controller):
    c = make_controller(start=False)
    write_settings(c, "limits: {connections_per_address: 5}\n")
    c.start()
    with contextlib.ExitStack() as stack:
        for _ in range(5):
            stack.enter_context(c.connect())
        time.sleep(0.2)
        with c.connect() as s:
            with contextlib.suppress(OSError):
                s.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            assert drain(s) == b""
    wait_for(lambda: healthy(c))


def healthy(c):
    with contextlib.suppress(OSError, http.client.HTTPException):
        return c.get("/healthz").status == 200
    return False


# ----- answers that take their time


RUN_TOKEN = "stk_r_" + "R" * 10 + "_" + "x" * 43
LOG = "/v1/runs/run1/files/user_logs/std_log.txt"


def begin_run(controller):
    """An attempt of a run is under way, whose token is RUN_TOKEN."""
    now = int(time.time() * 1000)
    with contextlib.closing(sqlite3.connect(controller.folder / "controller.db", timeout=20)) as db:
        db.execute(
            "insert into run (id, experiment, owner, state, created, attempt, job)"
            " values ('run1', 'e', 'ada', 'Running', ?, 1, '{}')",
            (now,),
        )
        db.execute(
            "insert into attempt (run, attempt, node, state, created, lease_until)"
            " values ('run1', 1, 'node1', 'running', ?, ?)",
            (now, now + 10**8),
        )
        db.execute(
            "insert into token (id, role, owner, hash, run, attempt, created)"
            " values (?, 'run', 'ada', ?, 'run1', 1, ?)",
            (RUN_TOKEN[6:16], hashlib.sha256(RUN_TOKEN.encode()).hexdigest(), now),
        )
        db.commit()


@pytest.fixture
def writing(controller):
    begin_run(controller)
    return controller


def append(c, offset, data):
    where = {"Content-Range": f"bytes {offset}-{offset + len(data) - 1}/*"}
    reply = c.patch(LOG, data, token=RUN_TOKEN, headers=where)
    assert reply.status < 300, reply


def follow(c, timeout=30):
    s = c.connect(timeout)
    s.sendall(
        f"GET {LOG}?follow=1 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {c.admin}\r\n\r\n".encode()
    )
    return s


def read_until(s, text):
    got = b""
    while text not in got:
        piece = s.recv(65536)
        assert piece, got[-200:]
        got += piece
    return got


@lab.BOTH_STORES
def test_bytes_come_back(writing):
    data = os.urandom(20 * MIB)
    append(writing, 0, data)
    assert writing.get(LOG).body == data
    part = writing.get(LOG, headers={"Range": "bytes=1000-2999"})
    assert (part.status, part.body) == (206, data[1000:3000])
    head = writing.request("HEAD", LOG)
    assert (head.status, head.body) == (200, b"")
    assert int(head.headers["Content-Length"]) == len(data)
    # One who reads nothing of it does not hold up the others, nor the end.
    with writing.connect() as s:
        s.sendall(head_of(writing, LOG).replace(b"POST", b"GET"))
        assert writing.get(LOG).body == data


@lab.BOTH_STORES
def test_follower(writing):
    append(writing, 0, b"first\n")
    with follow(writing) as s:
        read_until(s, b"first\n")
        time.sleep(1.5)
        append(writing, 6, b"second\n")
        read_until(s, b"second\n")
        start = time.monotonic()
        assert writing.stop() == 0
        assert time.monotonic() - start < 5
        drain(s)
    writing.start()


@lab.BOTH_STORES
def test_followers_are_not_ended_by_silence_of_the_log(make_controller):
    c = make_controller(start=False)
    write_settings(c, "limits: {idle: 1s}\n")
    c.start()
    begin_run(c)
    append(c, 0, b"first\n")
    with follow(c) as s:
        read_until(s, b"first\n")
        time.sleep(4)
        append(c, 6, b"second\n")
        read_until(s, b"second\n")


@lab.BOTH_STORES
def test_follower_that_is_gone_or_does_not_read_is_ended(make_controller):
    c = make_controller(start=False)
    write_settings(c, "limits: {idle: 1s}\n")
    c.start()
    begin_run(c)
    append(c, 0, b"first\n")
    gone = [follow(c) for _ in range(10)]
    for s in gone:
        read_until(s, b"first\n")
        s.close()
    with follow(c) as s:
        read_until(s, b"first\n")
        append(c, 6, b"x" * (32 * MIB))
        wait_for(lambda: c.metrics()["stoker_http_connections"] <= 1, 20)


# ----- start and stop


def test_requests_from_many_threads(controller):
    failures = []

    def work():
        for _ in range(40):
            if controller.get("/healthz", token="").status != 200:
                failures.append(1)

    threads = [threading.Thread(target=work) for _ in range(16)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not failures


def test_stop_with_idle_connections_is_quick(make_controller):
    c = make_controller()
    with c.connect() as s, c.connect() as half:
        s.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"ok" in s.recv(65536)
        half.sendall(b"GET /healthz HTTP/1.1\r\nX")
        start = time.monotonic()
        assert c.stop() == 0
        assert time.monotonic() - start < 3
    c.start()
    assert c.get("/v1/").status == 200
    for signo in (signal.SIGSTOP, signal.SIGCONT):  # no reason to end
        c.process.send_signal(signo)
        time.sleep(0.1)
    assert c.get("/v1/").status == 200
    c.kill()
    c.start()
    assert c.get("/v1/").status == 200


def test_init_and_command_line(make_controller, tmp):
    c = make_controller()
    again = c.command("init", check=False)
    assert again.returncode == 1 and "in use already" in again.stderr
    away = lab.command("serve", "--data", c.folder, "--listen", "0.0.0.0:0", check=False)
    assert away.returncode == 1 and "--tls-certificate" in away.stderr
    empty = lab.command("serve", "--data", tmp / "empty", check=False)
    assert empty.returncode == 1 and "init" in empty.stderr
    for args in (["serve", "--listen", "x"], ["nonsense"], [], ["token"], ["token", "create"],
                 ["token", "list", "x"], ["serve", "--nonsense"]):  # fmt: skip
        assert lab.command(*args, check=False).returncode == 2, args
    for verb in ("init", "serve", "token"):
        assert "Usage: stoker-controller " + verb in lab.command(verb, "--help").stdout
    modes = {p.name: p.stat().st_mode & 0o777 for p in c.folder.iterdir()}
    assert modes["controller.db"] == modes["controller.yaml"] == 0o600


def test_settings_that_are_wrong(make_controller):
    c = make_controller(start=False)
    for text, why in [
        ("nonsense: 1\n", "controller.yaml:1:1"),
        ("limits: {lease: 5}\n", "lease"),
        ("limits: {connections: 0}\n", "connections"),
        ("tls: {certificate: x}\n", "key"),
        ("tls: {certificate: /nonexistent, key: /nonexistent}\n", "/nonexistent"),
    ]:
        write_settings(c, text)
        done = c.command("serve", "--listen", "127.0.0.1:0", check=False)
        assert done.returncode == 1 and why in done.stderr, done.stderr


def test_tls(make_controller, tmp):
    key, certificate = tmp / "key.pem", tmp / "certificate.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
         "-nodes", "-keyout", key, "-out", certificate, "-days", "2", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=DNS:localhost"],
        check=True, capture_output=True,
    )  # fmt: skip
    c = make_controller(serve_options=["--tls-certificate", certificate, "--tls-key", key])
    assert c.url.startswith("https://")
    context = ssl.create_default_context(cafile=certificate)
    connection = http.client.HTTPSConnection("localhost", c.port, context=context)
    with contextlib.closing(connection):
        for size in (10, 60_000, 70_000):
            body = json.dumps({"role": "user", "user": "ada"}).encode().ljust(size)
            connection.request("POST", "/v1/tokens", body, {"Authorization": f"Bearer {c.admin}"})
            reply = connection.getresponse()
            reply.read()
            assert reply.status == (201 if size < 65536 else 413)
    # Plain HTTP and old versions get nowhere.
    assert status_of(raw(c, b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", 5)) is None
    old = subprocess.run(
        ["openssl", "s_client", "-connect", f"127.0.0.1:{c.port}", "-tls1_1", "-cipher",
         "ALL:@SECLEVEL=0"],
        input=b"", capture_output=True, timeout=20, check=False,
    )  # fmt: skip
    assert old.returncode != 0 and b"Cipher is (NONE)" in old.stdout
    c.stop()  # one controller to a folder
    mismatch = lab.command(
        "serve", "--data", c.folder, "--listen", "127.0.0.1:0", "--tls-certificate", certificate,
        "--tls-key", certificate, check=False,
    )  # fmt: skip
    assert mismatch.returncode == 1 and "certificate" in mismatch.stderr
