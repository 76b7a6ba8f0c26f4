# SPDX-License-Identifier: Apache-2.0
"""Files of runs in a real S3 server: which objects they become, and what they survive. That files are the
same as in a folder is for test_controller_http.py and test_submit.py, which run with both."""

import contextlib
import hashlib
import http.client
import io
import json
import os
import pathlib
import signal
import sqlite3
import subprocess
import threading
import time

import postgres
import pytest
import s3server
from test_controller_http import wait_for

import controller as lab

MIB = 1024 * 1024
TOKEN = "stk_r_" + "R" * 10 + "_" + "x" * 43
BEGIN = """
insert into run (id, experiment, owner, state, created, attempt, job)
  values ('run1', 'e', 'ada', 'Running', {now}, 1, '{{}}');
insert into attempt (run, attempt, node, state, created, lease_until)
  values ('run1', 1, 'node1', 'running', {now}, {now} + 100000000);
insert into token (id, role, owner, hash, run, attempt, created)
  values ('RRRRRRRRRR', 'run', 'ada', '{hash}', 'run1', 1, {now});
"""


def execute(c, text):
    with contextlib.closing(sqlite3.connect(c.folder / "controller.db", timeout=20)) as db:
        cursor = db.executescript(text) if ";" in text else db.execute(text)
        rows = cursor.fetchall()
        db.commit()
        return rows


def begin_sql():
    return BEGIN.format(
        now=int(time.time() * 1000), hash=hashlib.sha256(TOKEN.encode()).hexdigest()
    )


def url(path, query=""):
    return f"/v1/runs/run1/files/{path}{query}"


def append(c, path, offset, data, part=False):
    where = {"Content-Range": f"bytes {offset}-{offset + len(data) - 1}/*"}
    return c.patch(url(path, "?part=1" if part else ""), data, token=TOKEN, headers=where)


def finish(c, path, data, part=False):
    body = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest(), "part": part}
    return c.post(url(path, "?finish=1"), body, token=TOKEN)


def put(c, path, data):
    headers = {"Stoker-Sha256": hashlib.sha256(data).hexdigest()}
    return c.put(url(path), data, token=TOKEN, headers=headers)


@pytest.fixture
def s3(tmp):
    server = s3server.S3Server(tmp / "s3")
    yield server
    server.stop()


@pytest.fixture
def faults(s3):
    proxy = s3server.Faults(s3)
    yield proxy
    proxy.close()


@pytest.fixture
def make(make_controller):
    """A controller whose run1 is under way."""

    def make_one(address, env=s3server.ENVIRONMENT, **kw):
        c = make_controller(options=["--files", address], env=env, **kw)
        execute(c, begin_sql())
        return c

    return make_one


# ----- which objects


def test_small_appends_are_no_objects(s3, make):
    """A log of a line a second: rows of the database, then one object when it ends."""
    c, text = make(s3.address()), b""
    for i in range(300):
        line = b"line %d\n" % i
        assert append(c, "user_logs/std_log.txt", len(text), line).status == 200
        text += line
    assert s3.objects() == {}
    assert execute(c, "select count(*) from piece")[0][0] < 100
    assert c.get(url("user_logs/std_log.txt")).body == text
    assert c.get(url("user_logs/std_log.txt"), headers={"Range": "bytes=100-"}).body == text[100:]
    assert append(c, "user_logs/std_log.txt", 0, b"again").headers["Upload-Offset"] == str(
        len(text)
    )
    more = os.urandom(20_000)
    assert append(c, "user_logs/std_log.txt", len(text), more).status == 200
    assert finish(c, "user_logs/std_log.txt", text + more).status == 204
    assert list(s3.objects().values()) == [len(text + more)]
    assert c.get(url("user_logs/std_log.txt")).body == text + more
    # One that goes on after its end.
    assert append(c, "user_logs/std_log.txt", len(text + more), b"end").status == 200
    assert c.get(url("user_logs/std_log.txt")).body == text + more + b"end"


def test_few_objects_of_many_appends(s3, make):
    c, data = make(s3.address()), os.urandom(100_000) * 250
    for at in range(0, len(data), 100_000):
        assert append(c, "logs/a", at, data[at : at + 100_000]).status == 200
    rows = execute(c, "select count(*) from piece where object is not null")[0][0]
    assert rows < 70
    assert c.get(url("logs/a")).body == data
    assert finish(c, "logs/a", data).status == 204
    assert c.get(url("logs/a")).body == data
    objects = execute(c, "select object, size from piece order by start")
    assert len(objects) <= 2 and sum(size for _, size in objects) == len(data)
    # What they were made of goes, once nobody can be reading it.
    execute(c, "update stray_object set due = 0")
    wait_for(lambda: s3.objects() == dict(objects), 20)
    assert c.get(url("logs/a")).body == data


def test_large_files(s3, make):
    c, data = make(s3.address()), os.urandom(40 * MIB + 17)
    assert append(c, "outputs/large", 0, data, part=True).status == 200
    assert len(s3.objects()) == 1, "a large body is one object, sent in parts"
    assert finish(c, "outputs/large", data, part=True).status == 204
    assert c.get(url("outputs/large")).body == data
    for first, last in [
        (0, 0),
        (MIB - 1, MIB),
        (8 * MIB - 5, 24 * MIB + 5),
        (40 * MIB, 40 * MIB + 16),
    ]:
        got = c.get(url("outputs/large"), headers={"Range": f"bytes={first}-{last}"})
        assert (got.status, got.body) == (206, data[first : last + 1])
    kept = {"offset": MIB + 1, "size": 20 * MIB, "at": 0}
    assert c.post(url("outputs/large", "?keep=1"), kept, token=TOKEN).status == 204
    assert finish(c, "outputs/large", data[MIB + 1 :][: 20 * MIB], part=True).status == 204
    for i, size in enumerate((0, 1, 4096, 4097, 300_000)):
        assert put(c, f"outputs/small{i}", data[:size]).status == 204
        assert c.get(url(f"outputs/small{i}")).body == data[:size]
    c.kill()
    c.start()
    assert c.get(url("outputs/large")).body == data[MIB + 1 :][: 20 * MIB]
    assert c.memory() < 300e6


def test_what_is_removed_goes(s3, make):
    c, data = make(s3.address()), os.urandom(MIB)
    for i in range(5):
        assert put(c, f"outputs/{i}", data).status == 204
    assert append(c, "logs/open", 0, data).status == 200
    assert len(s3.objects()) == 6
    execute(c, "update run set state = 'Completed', ended = 1; update attempt set open = 0;")
    assert c.delete("/v1/runs/run1").status == 204
    execute(c, "update garbage set since = 0")
    wait_for(lambda: execute(c, "select count(*) from stray_object")[0][0] == 6, 20)
    assert execute(c, "select count(*) from piece")[0][0] == 0
    execute(c, "update stray_object set due = 0")
    wait_for(lambda: not s3.objects(), 20)
    wait_for(lambda: not execute(c, "select name from stray_object"))


def test_controller_is_killed_while_it_uploads(s3, faults, make):
    """No object is left behind that nobody knows."""
    c, data = make(s3.address(endpoint=faults.endpoint)), os.urandom(20 * MIB)

    def die(method, target, body):
        if method == "PUT" and "partNumber=2" in target:
            c.process.kill()
            return s3server.answer(500)
        return None

    faults.fault = die
    with pytest.raises((OSError, http.client.HTTPException)):
        append(c, "outputs/a", 0, data)
    faults.fault = None
    c.kill()
    c.start()
    assert c.get(url("outputs/a", "?stat=1")).json["size"] == 0
    assert len(execute(c, "select name from stray_object where upload is not null")) == 1
    execute(c, "update stray_object set due = 0")
    wait_for(lambda: not execute(c, "select name from stray_object"), 20)
    assert any(method == "DELETE" and "uploadId=" in target for method, target in faults.seen)
    assert append(c, "outputs/a", 0, data).status == 200
    assert c.get(url("outputs/a")).body == data


# ----- what goes wrong


def test_server_answers_500_now_and_then(s3, faults, make):
    c, data, count = make(s3.address(endpoint=faults.endpoint)), os.urandom(20 * MIB), [0]

    def every_other(*_):
        count[0] += 1
        error = b"<Error><Code>SlowDown</Code><Message>Reduce your request rate</Message></Error>"
        return s3server.answer(503 if count[0] % 4 else 500, error) if count[0] % 2 else None

    faults.fault = every_other
    assert append(c, "outputs/a", 0, data).status == 200
    assert put(c, "outputs/b", data[:MIB]).status == 204
    assert finish(c, "outputs/a", data).status == 204
    assert c.get(url("outputs/a")).body == data
    assert c.get(url("outputs/b")).body == data[:MIB]


def test_bytes_that_are_harmed_on_their_way(s3, faults, make):
    """To the server: it says so, and they are sent again. From it: their hashes tell."""
    c, data = make(s3.address(endpoint=faults.endpoint)), os.urandom(3 * MIB)
    harmed = []

    def harm_once(method, target, body):
        if len(body) > 1000 and len(harmed) < 1:
            harmed.append(target)
            return (b"X" + body[1:],)
        if method == "GET" and len(harmed) < 2:
            harmed.append(target)
            return data[: MIB - 1] + b"\0" + data[MIB:]
        return None

    faults.fault = harm_once
    assert put(c, "outputs/a", data).status == 204
    assert c.get(url("outputs/a")).body == data
    assert len(harmed) == 2


def test_object_that_is_lost_or_changed(s3, make):
    c, data = make(s3.address()), os.urandom(2 * MIB)
    for name in ("a", "b", "c"):
        assert put(c, f"outputs/{name}", data[: MIB if name == "c" else None]).status == 204
    objects = dict(
        execute(c, "select f.path, p.object from file f join piece p on p.blob = f.blob")
    )
    paths = {p.name: p for p in s3.bucket.rglob("*")}
    paths[objects["outputs/a"]].unlink()
    paths[objects["outputs/b"]].write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    s3.stop()  # what it remembers of the folder
    s3.start()
    for name in ("a", "b"):
        with pytest.raises((http.client.HTTPException, OSError)):
            c.get(url(f"outputs/{name}"))
    assert c.get(url("outputs/c")).body == data[:MIB]
    assert "is gone" in c.log() and "has other bytes" in c.log()


@pytest.mark.parametrize(
    "etag",
    ['"0123456789abcdef0123456789abcdef"', "<x>&", '"' + "a" * 300 + '"'],
    ids=["another", "no etag", "long"],
)
def test_wrong_etags(s3, faults, make, etag):
    """An upload in parts cannot end with them: nothing is acknowledged, and later it goes well."""
    c, data = make(s3.address(endpoint=faults.endpoint)), os.urandom(20 * MIB)
    faults.fault = lambda method, target, _: {"Etag": etag} if "partNumber" in target else None
    reply = append(c, "outputs/a", 0, data)
    assert (reply.status, reply.code) == (503, "unavailable"), reply
    assert int(reply.headers["Retry-After"]) >= 1
    faults.fault = None
    assert c.get(url("outputs/a", "?stat=1")).json["size"] == 0
    assert append(c, "outputs/a", 0, data).status == 200
    assert c.get(url("outputs/a")).body == data


def test_answer_to_the_last_word_is_lost(s3, faults, make):
    """The upload of parts has ended, nobody was told: it is asked for again, and the object is there."""
    c, data, lost = make(s3.address(endpoint=faults.endpoint)), os.urandom(20 * MIB), []

    def lose(method, target, body):
        if method == "POST" and "uploadId=" in target and not lost:
            lost.append(target)

            def forward_and_fail(handler):
                handler.send_response = lambda status: None
                handler.send_header = handler.end_headers = lambda *a: None
                output, handler.wfile = handler.wfile, io.BytesIO()
                handler.pass_on(body, None)
                for name in ("send_response", "send_header", "end_headers"):
                    delattr(handler, name)
                handler.wfile = output
                return s3server.answer(500)(handler)

            return forward_and_fail
        return None

    faults.fault = lose
    assert append(c, "outputs/a", 0, data).status == 200
    assert lost and c.get(url("outputs/a")).body == data


def test_slow_server(s3, faults, make):
    c, data = make(s3.address(endpoint=faults.endpoint)), os.urandom(9 * MIB)

    def slow(*_):
        time.sleep(1)

    faults.fault = slow
    assert append(c, "outputs/a", 0, data).status == 200
    assert c.get(url("outputs/a")).body == data
    start = time.monotonic()
    assert append(c, "logs/a", 0, b"line\n").status == 200
    assert time.monotonic() - start < 0.5, "what is small does not wait for it"


def test_server_that_hangs(s3, faults, make):
    """One that takes connections and says nothing: 503 after a while, other requests go on."""
    c, data = make(s3.address(endpoint=faults.endpoint)), os.urandom(MIB)
    over = threading.Event()
    faults.fault = lambda *_: lambda handler: over.wait(60)
    replies = []
    writer = threading.Thread(target=lambda: replies.append(put(c, "outputs/a", data)))
    writer.start()
    for i in range(20):
        assert c.get("/v1/").status == 200
        assert append(c, "logs/a", i, b"x").status == 200
        time.sleep(0.05)
    writer.join(40)
    assert replies and replies[0].status == 503 and replies[0].headers["Retry-After"]
    over.set()
    faults.fault = None
    assert put(c, "outputs/a", data).status == 204


class Writer(threading.Thread):
    """Appends pieces as a node does: from where the server says, until it has them all."""

    def __init__(self, controllers, path, pieces, pause=0):
        super().__init__()
        self.pause = pause
        self.controllers, self.path, self.pieces = controllers, path, pieces
        self.data, self.error, self.refused = b"".join(pieces), None, []

    def run(self):
        try:
            self.send_all()
        except Exception as error:  # noqa: BLE001
            self.error = error

    def reply(self, i, at, piece):
        with contextlib.suppress(OSError, http.client.HTTPException):
            return append(self.controllers[i % len(self.controllers)], self.path, at, piece)
        return None

    def send_all(self):
        at, sent, i, end = 0, 0, 0, time.monotonic() + 150
        ends = [sum(map(len, self.pieces[: n + 1])) for n in range(len(self.pieces))]
        while at < len(self.data):
            assert time.monotonic() < end, (self.path, at, self.refused[-3:])
            piece_end = next(e for e in ends if e > at)
            reply, i = self.reply(i, at, self.data[at:piece_end]), i + 1
            if reply is not None and reply.status == 200:
                at = sent = piece_end
                time.sleep(self.pause)
            elif reply is not None and reply.status == 416:
                at = int(reply.headers["Upload-Offset"])
                assert at >= sent, "what was acknowledged is there"
            else:
                if reply is not None:
                    self.refused.append(reply)
                time.sleep(0.2)


def finish_all(c, writers):
    for w in writers:
        w.join(200)
        assert w.error is None and not w.is_alive(), w.error
        for _ in range(30):
            reply = finish(c, w.path, w.data)
            if reply.status != 503:
                break
            time.sleep(int(reply.headers["Retry-After"]))
        assert reply.status == 204, reply
        assert c.get(url(w.path)).body == w.data, w.path


def test_s3_stopped_and_started_under_load(s3, make):
    """Nothing that was acknowledged is lost; who is refused is told to come again."""
    c = make(s3.address())
    writers = [
        Writer([c], f"user_logs/log{i}", [b"log %d line %d\n" % (i, n) for n in range(1500)], 0.01)
        for i in range(3)
    ] + [
        Writer(
            [c],
            f"outputs/large{i}",
            [os.urandom(size) for size in [MIB, 300_000, 9 * MIB] * 8],
            0.3,
        )
        for i in range(3)
    ]
    for w in writers:
        w.start()
    for how in (signal.SIGKILL, signal.SIGTERM, signal.SIGKILL):
        time.sleep(1.5)
        s3.stop(how)
        time.sleep(1)
        with contextlib.suppress(OSError):
            assert c.get("/healthz").status == 503
        time.sleep(14 if how == signal.SIGTERM else 1)
        s3.start()
    finish_all(c, writers)
    refused = [r for w in writers for r in w.refused]
    assert refused and {r.status for r in refused} == {503}
    assert all(int(r.headers["Retry-After"]) >= 1 for r in refused)
    assert c.get("/healthz").status == 200


# ----- two controllers


@pytest.fixture(scope="module")
def server():
    made = postgres.Postgres()
    yield made
    made.destroy()


def test_two_controllers(s3, server, make_controller):
    """One database, one bucket: a writer may ask now the one, now the other; one is killed."""
    options = ["--files", s3.address(), "--database", server.url]
    a = make_controller(options=options, env=s3server.ENVIRONMENT)
    b = make_controller(options=options, env=s3server.ENVIRONMENT, initialise=False)
    b.admin = a.admin
    subprocess.run(["psql", "-q", "-d", server.url, "-c", begin_sql()], check=True)
    writers = [
        Writer([a, b], f"outputs/{i}", [os.urandom(n % 7 * 150_000 + 1) for n in range(60)])
        for i in range(4)
    ]
    for w in writers:
        w.start()
    time.sleep(2)
    a.kill()
    time.sleep(1)
    a.start()
    finish_all(b, writers)
    for w in writers:
        assert a.get(url(w.path)).body == w.data
    # Both at once, the same bytes: one is taken, nothing is there twice.
    data = os.urandom(3 * MIB)
    replies = []
    threads = [
        threading.Thread(target=lambda c=c: replies.append(append(c, "outputs/race", 0, data)))
        for c in (a, b)
    ]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert sorted(r.status for r in replies)[0] == 200 and len(replies) == 2, replies
    assert {r.status for r in replies} <= {200, 416, 503}
    assert finish(b, "outputs/race", data).status == 204
    assert a.get(url("outputs/race")).body == data


# ----- addresses and keys


def test_keys_of_a_file(s3, make, tmp):
    keys = tmp / "keys"
    text = f"[other]\naws_access_key_id = x\n[default]\naws_access_key_id = {s3server.KEY}\n"
    keys.write_text(text + f"aws_secret_access_key={s3server.SECRET}\n")
    c = make(s3.address() + f"&credentials={keys}", env=None)
    data = os.urandom(MIB)
    assert put(c, "outputs/a", data).status == 204
    keys.write_text(text + "aws_secret_access_key = wrong\n")
    reply = put(c, "outputs/b", data)
    assert reply.status == 503 and "SignatureDoesNotMatch" in c.log()
    keys.write_text(text + f"aws_secret_access_key = {s3server.SECRET}\n")
    assert put(c, "outputs/b", data).status == 204
    arguments = pathlib.Path(f"/proc/{c.process.pid}/cmdline").read_bytes()
    assert s3server.SECRET.encode() not in arguments and s3server.SECRET not in c.log()


def test_session_token_is_signed(s3, faults, make):
    seen = []
    faults.fault = lambda *_: lambda handler: seen.append(dict(handler.headers))
    c = make(
        s3.address(endpoint=faults.endpoint),
        env={**s3server.ENVIRONMENT, "AWS_SESSION_TOKEN": "session/token+x=="},
    )
    assert put(c, "outputs/a", os.urandom(MIB)).status == 204
    for headers in seen:
        lower = {k.lower(): v for k, v in headers.items()}
        assert lower["x-amz-security-token"] == "session/token+x=="
        assert "x-amz-security-token" in lower["authorization"]


def test_what_init_refuses(s3, tmp):
    def init(address, **env):
        done = lab.command(
            "init", "--data", tmp / "data", "--files", address, "--json", check=False,
            env={**s3server.ENVIRONMENT, **env},
        )  # fmt: skip
        return done.returncode, done.stderr

    end = f"?endpoint={s3.endpoint}"
    for address, env, why in [
        ("ftp://x/y", {}, "s3://BUCKET/PREFIX"),
        ("s3://", {}, "s3://BUCKET"),
        (f"s3://{s3server.BUCKET}/a/../b{end}", {}, "prefix"),
        (f"s3://{s3server.BUCKET}{end}&secret=hunter2", {}, "credentials="),
        (f"s3://{s3server.BUCKET}?endpoint=127.0.0.1:1", {}, "endpoint"),
        (f"s3://nothing{end}", {}, "NoSuchBucket"),
        (f"s3://{s3server.BUCKET}{end}", {"AWS_SECRET_ACCESS_KEY": "wrong"}, "answered 403"),
        (f"s3://{s3server.BUCKET}{end}", {"AWS_ACCESS_KEY_ID": ""}, "AWS_ACCESS_KEY_ID"),
        (f"s3://{s3server.BUCKET}{end}&credentials=/nonexistent", {}, "/nonexistent"),
    ]:
        status, said = init(address, **env)
        assert status == 1 and why in said and said.count("\n") == 1, (address, said)
        assert "hunter2" not in said and s3server.SECRET not in said
    status, said = init(s3.address("deep/prefix_1.x"))
    assert status == 0, said
    assert (s3.bucket / "deep/prefix_1.x/stoker-controller").is_file()
    assert json.loads(
        lab.command(
            "token", "list", "--json", "--data", tmp / "data", env={"AWS_ACCESS_KEY_ID": ""}
        ).stdout
    ), "who looks something up needs no key"
