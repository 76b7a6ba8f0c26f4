# SPDX-License-Identifier: Apache-2.0
"""The download engine (agent/data/download.h) against a server that misbehaves."""

import hashlib
import json
import os
import pathlib
import random
import signal
import subprocess
import threading
import time

import faulty_http
import node
import pytest

DRIVER = pathlib.Path(node.BINARY).parent / "tests/download_driver"
DATA = random.Random(1).randbytes(3_000_000)
SHA256 = hashlib.sha256(DATA).hexdigest()
IN_FLIGHT = 6 << 20  # may be fetched again after a kill: what was in sockets


@pytest.fixture
def server():
    server = faulty_http.FaultyHttp()
    yield server
    server.stop()


@pytest.fixture
def fetch(tmp, server):
    """fetch(url, …, sha256=…) runs the driver to its end. Returns what it says, of one or of several."""

    def run(*urls, local=True, state="state", timeout=60, binary=DRIVER, env=None, **options):
        start = time.monotonic()
        done = subprocess.run(
            command(tmp / state, urls, server.host if local is True else local, options, binary),
            capture_output=True,
            timeout=timeout,
            env={**os.environ, **(env or {})},
        )
        assert done.returncode == 0, done.stderr
        said = [json.loads(line) for line in done.stdout.splitlines()]
        assert len(said) == len(urls)
        for one in said:
            assert "\n" not in one["text"]
            one["seconds"] = time.monotonic() - start
        return said[0] if len(said) == 1 else said

    return run


def command(state, urls, local, options, binary=DRIVER):
    given = [f"--{key.replace('_', '-')}={value}" for key, value in options.items()]
    return [binary, *given, *([f"--local={local}"] if local else []), state, *urls]


def contents(state):
    """The objects of a cache, each checked against its name."""
    found = {}
    for path in (state / "cache/objects").rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            assert hashlib.sha256(data).hexdigest() == path.name, f"{path} is half-made"
            assert path.stat().st_mode & 0o777 == 0o444
            found[path.name] = data
    return found


def left_behind(state):
    return [p for d in ("parts", "locks") for p in (state / "cache" / d).iterdir()]


def test_once_and_again(tmp, server, fetch):
    url = server.add("/a", DATA, headers={"Content-Type": "text/x-a; charset=utf-8"})
    first = fetch(url)
    assert (first["failure"], first["sha256"], first["size"]) == ("DataOk", SHA256, len(DATA))
    assert first["fetched"] == len(DATA) and not first["reused"]
    assert first["content_type"] == "text/x-a" and first["final_url"] == url
    assert first["progress"] == len(DATA)
    asked = fetch(url, revalidate=1)
    assert asked["reused"] and asked["fetched"] == 0 and asked["status"] == 304
    assert asked["content_type"] == "text/x-a"
    assert len(server.log) == 2
    assert fetch(url, revalidate=0)["reused"] and fetch(url, sha256=SHA256, revalidate=1)["reused"]
    assert len(server.log) == 2, "what needs no question was asked about"
    anew = fetch(url, revalidate=-1)
    assert not anew["reused"] and anew["fetched"] == len(DATA)
    assert contents(tmp / "state") == {SHA256: DATA} and left_behind(tmp / "state") == []


def test_changed_content_is_fetched(tmp, server, fetch):
    url = server.add("/a", DATA)
    fetch(url, revalidate=1)
    server.add("/a", b"new", etag='"2"')
    changed = fetch(url, revalidate=1)
    assert changed["size"] == 3 and not changed["reused"]
    assert len(contents(tmp / "state")) == 2


def test_answers_are_of_who_asked(server, fetch):
    """The cache never gives to one what a server gave to the credentials of another."""
    url = server.add("/a", b"for ada")
    fetch(url, header="Authorization: Bearer ada")
    server.add("/a", b"for bob", etag='"2"')
    assert fetch(url, header="Authorization: Bearer bob", revalidate=0)["size"] == 7
    assert len(server.log) == 2
    assert server.log[0]["headers"]["Authorization"] == "Bearer ada"


def test_many_ask_one_download(tmp, server, fetch):
    """Threads and processes; with a hash, with an ETag and without anything to tell a version by."""
    for name, how, options in (
        ("hash", {"etag": None}, {"sha256": SHA256}),
        ("etag", {}, {"revalidate": 1}),
        ("nothing", {"etag": None}, {"revalidate": 1}),
    ):
        url = server.add(f"/{name}", DATA, rate=6_000_000, **how)
        server.forget()
        results = []

        def ask(url=url, state=name, options=options, results=results):
            results.extend(fetch(url, url, url, state=state, **options))

        threads = [threading.Thread(target=ask) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [r["failure"] for r in results] == ["DataOk"] * 6
        assert {r["sha256"] for r in results} == {SHA256}
        assert sum(not r["reused"] for r in results) == 1, name
        assert server.sent() == len(DATA), name


@pytest.mark.parametrize(
    ("how", "options", "sent"),
    [
        ({"cuts": [1_000_000, 500_000]}, {}, len(DATA)),
        (
            {"cuts": [1_000_000], "etag": None, "modified": "Mon, 23 Nov 2026 10:00:00 GMT"},
            {},
            len(DATA),
        ),
        ({"cuts": [1_000_000], "etag": None}, {"sha256": SHA256}, len(DATA)),
        # No way to tell two versions apart: from the start.
        ({"cuts": [1_000_000], "etag": None}, {}, len(DATA) + 1_000_000),
        ({"cuts": [1_000_000], "etag": 'W/"1"'}, {}, len(DATA) + 1_000_000),
        ({"cuts": [1_000_000], "ranges": False}, {}, len(DATA) + 1_000_000),
        ({"hangs": [1_000_000]}, {"stall_ms": 500}, len(DATA)),
        ({"statuses": [500, 503, 429]}, {}, len(DATA)),
        ({"length": None}, {"sha256": SHA256}, len(DATA)),
    ],
)
def test_recovers(tmp, server, fetch, how, options, sent):
    url = server.add("/a", DATA, **how)
    result = fetch(url, **options)
    assert (result["failure"], result["sha256"]) == ("DataOk", SHA256), result
    assert server.sent() == sent
    assert contents(tmp / "state") == {SHA256: DATA} and left_behind(tmp / "state") == []
    if "length" not in how:
        assert "retrying in" in result["notices"]


def test_wrong_range_is_not_taken(server, fetch):
    """A 206 of other bytes than those that were asked for: never put together."""
    url = server.add("/a", DATA, cuts=[1_000_000], shift=-10)
    result = fetch(url, tries=4)
    assert result["failure"] == "DataOk" and result["sha256"] == SHA256
    assert "not asked for" in result["notices"]


def test_retry_after_is_honoured(server, fetch):
    url = server.add("/a", DATA, statuses=[503], headers={"Retry-After": "2"})
    result = fetch(url)
    assert result["failure"] == "DataOk" and 2 <= result["seconds"] < 6
    assert "retrying in 2.0 s" in result["notices"]


def test_changed_in_flight(server, fetch):
    """The ETag moves while it is broken off: from the start; and the second time it is an error."""
    other = bytes(len(DATA))

    def change(handler):
        file = handler.server.faulty.files["/a"]
        file.etag, file.data = f'"{file.count}"', (DATA, other)[file.count % 2]

    url = server.add("/a", DATA, cuts=[1_000_000], before=change)
    once = fetch(url, state="once")
    assert once["failure"] == "DataOk"
    assert once["sha256"] == hashlib.sha256(other).hexdigest()
    assert "has changed on the server" in once["notices"]
    url = server.add("/a", DATA, cuts=[1_000_000] * 9, before=change)
    always = fetch(url, state="always")
    assert always["failure"] == "DataChanged" and "changes on the server" in always["text"]


FAILURES = [
    ({"statuses": [404]}, {}, "DataNotFound", "404"),
    ({"statuses": [410]}, {}, "DataNotFound", "410"),
    ({"statuses": [401]}, {}, "DataAuthentication", "credentials are needed"),
    ({"statuses": [407]}, {}, "DataAuthentication", "credentials are needed"),
    ({"statuses": [403]}, {}, "DataForbidden", "access is denied"),
    ({"statuses": [400]}, {}, "DataFailed", "400"),
    ({"statuses": [204]}, {}, "DataFailed", "204"),
    ({"statuses": [500] * 9}, {"tries": 2}, "DataNetwork", "gave up after 2 attempts"),
    ({"cuts": [1000] * 9}, {"tries": 2}, "DataNetwork", "gave up after 2 attempts"),
    ({"length": len(DATA) + 9}, {"tries": 1}, "DataNetwork", "cut short"),
    ({"length": len(DATA) + 9}, {"tries": 2}, "DataNetwork", "416"),
    ({"hangs": [1000] * 9}, {"tries": 2, "stall_ms": 300}, "DataStalled", "no byte for"),
    ({"rate": 500}, {"tries": 1, "stall_ms": 1000}, "DataStalled", "fewer than 1000 bytes"),
    ({"rate": 100_000}, {"limit_ms": 1000}, "DataTimeout", "not complete within 1 s"),
    ({"statuses": [503] * 9}, {"limit_ms": 1000}, "DataTimeout", "not complete within 1 s"),
    ({}, {"sha256": "0" * 64}, "DataChecksum", f"has the SHA-256 {SHA256}, and 0"),
    ({}, {"size": 17}, "DataChecksum", "has 3000000 bytes, and 17 were expected"),
    ({}, {"max_bytes": 1_000_000}, "DataTooLarge", "has 3.00 MB, over the limit of 1.00 MB"),
    ({"length": None}, {"max_bytes": 1_000_000}, "DataTooLarge", "over the limit of 1.00 MB"),
    ({}, {"cancel_at": 1}, "DataFailed", "canceled"),
    ({"redirect": "/a"}, {}, "DataFailed", "more than 10 redirects"),
    ({"redirect": "ftp://example.org/x"}, {}, "DataFailed", "not a URL we follow"),
    ({"redirect": "http://user:pw@example.org/x"}, {}, "DataFailed", "not a URL we follow"),
]


@pytest.mark.parametrize(("how", "options", "failure", "text"), FAILURES)
def test_fails(tmp, server, fetch, how, options, failure, text):
    url = server.add("/a", DATA, **({"rate": 3_000_000} if "cancel_at" in options else {}), **how)
    result = fetch(url + "?token=geheim&x=1", **options)
    assert (result["failure"], text in result["text"]) == (failure, True), result["text"]
    assert result["text"].startswith(f"{url}?token=…&x=…: "), result["text"]
    assert "geheim" not in result["text"] + result["notices"]
    assert result["seconds"] < 10
    assert contents(tmp / "state") == {}
    if failure == "DataChecksum":
        assert len(server.log) == 2 and left_behind(tmp / "state") == []


def test_nobody_there(fetch):
    result = fetch("http://127.0.0.1:9/x", local=False, tries=1, proxy="")
    assert result["failure"] == "DataPolicy"
    result = fetch("http://nowhere.invalid/x", local=False, tries=1, proxy="")
    assert result["failure"] == "DataNetwork" and "nowhere.invalid" in result["text"]


HIDDEN = [
    "http://127.0.0.1:{port}/secret",
    "http://localhost:{port}/secret",
    "http://127.1:{port}/secret",
    "http://0x7f000001:{port}/secret",
    "http://2130706433:{port}/secret",
    "http://0.0.0.0:{port}/secret",
    "http://[::ffff:127.0.0.1]:{port}/secret",
    "http://[::ffff:7f00:1]:{port}/secret",
    "http://[64:ff9b::7f00:1]:{port}/secret",
    "http://169.254.169.254/latest/meta-data",
    "http://[fe80::1]/x",
    "http://[fd00:ec2::254]/latest",
    "http://100.100.100.200/latest",
    "http://168.63.129.16/machine",
]


@pytest.mark.parametrize("hidden", HIDDEN)
def test_addresses_of_this_node_are_refused(server, fetch, hidden):
    """Directly and behind a redirect of a server that may be asked."""
    other = faulty_http.FaultyHttp()
    try:
        other.add("/secret", b"secret")
        hidden = hidden.format(port=other.port)
        server.add("/a", b"", redirect=hidden)
        for url in (hidden, server.url("/a")):
            result = fetch(url, tries=1, proxy="", timeout=10)
            assert result["failure"] == "DataPolicy", result
            assert "which inputs may not reach" in result["text"]
        assert other.log == []
    finally:
        other.stop()


def test_own_addresses_are_refused(server, fetch):
    own = subprocess.run(["hostname", "-I"], capture_output=True, text=True).stdout.split()
    for address in [a for a in own if "." in a][:1]:
        result = fetch(f"http://{address}:9/x", tries=1, proxy="")
        assert result["failure"] == "DataPolicy" and "own addresses" in result["text"]


def test_credentials_stay_with_their_host(server, fetch):
    other = faulty_http.FaultyHttp()
    try:
        other.add("/b", b"b")
        url = server.add("/a", b"", redirect=other.url("/b"))
        result = fetch(url, local="127.0.0.1", header="Authorization: Bearer x")
        assert result["failure"] == "DataOk" and result["final_url"] == other.url("/b")
        assert server.log[0]["headers"]["Authorization"] == "Bearer x"
        assert "Authorization" not in other.log[0]["headers"]
    finally:
        other.stop()


@pytest.fixture
def small_disk(tmp):
    """A file system of 8 MB."""
    folder = tmp / "small"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", folder], check=True)
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_larger_than_the_disk(server, fetch, small_disk):
    big = bytes(12_000_000)
    said = server.add("/said", big)
    result = fetch(said, state="small/a")
    assert result["failure"] == "DataNoSpace" and result["fetched"] == 0, result
    assert "needs 12.0 MB, 8." in result["text"] or "needs 12.0 MB, 7." in result["text"]
    unsaid = server.add("/unsaid", big, length=None)
    result = fetch(unsaid, state="small/b")
    assert result["failure"] == "DataNoSpace", result
    kept = fetch(server.add("/kept", DATA), state="small/c", keep_free=7_000_000)
    assert kept["failure"] == "DataNoSpace" and "7.00 MB are kept free" in kept["text"]


def test_eviction(tmp, server, fetch, small_disk):
    """The least recently used goes when the disk or the limit wants it."""
    parts = [random.Random(i).randbytes(3_000_000) for i in range(4)]
    urls = [server.add(f"/{i}", data) for i, data in enumerate(parts)]
    for url in urls[:2]:
        assert fetch(url, state="small")["failure"] == "DataOk"
    assert fetch(urls[0], state="small", revalidate=0)["reused"]  # 1 is now the oldest
    assert fetch(urls[2], state="small")["failure"] == "DataOk"
    kept = contents(small_disk)
    assert kept.keys() == {hashlib.sha256(parts[i]).hexdigest() for i in (0, 2)}
    for url in urls:
        fetch(url, state="limited", high=7_000_000, low=4_000_000)
    assert len(contents(tmp / "limited")) == 2


def kill_rounds(pytestconfig):
    return pytestconfig.getoption("--campaign")


def test_kills_at_random(pytestconfig, tmp, server):
    """kill -9 at any moment: what is visible is whole, the next goes on, and counts its bytes."""
    seed = random.randrange(1 << 32)
    chance = random.Random(seed)
    data = random.Random(2).randbytes(8_000_000)
    digest = hashlib.sha256(data).hexdigest()
    worst = 0
    for i in range(kill_rounds(pytestconfig)):
        known = {"sha256": digest} if i % 2 else {}
        url = server.add(f"/{i}", data, rate=(0, 20_000_000)[i // 2 % 2])
        state = tmp / f"round{i}"
        server.forget()
        for _ in range(2):
            process = subprocess.Popen(command(state, [url], server.host, known))
            time.sleep(chance.uniform(0, (0.05, 0.4)[i // 2 % 2]))
            process.send_signal(signal.SIGKILL)
            process.wait()
            contents(state)
        done = subprocess.run(
            command(state, [url], server.host, known), capture_output=True, timeout=60, check=True
        )
        result = json.loads(done.stdout)
        assert (result["failure"], result["sha256"]) == ("DataOk", digest), f"seed {seed}, {i}"
        assert contents(state) == {digest: data} and left_behind(state) == [], f"seed {seed}, {i}"
        again = server.sent() - len(data)
        # A part below half a megabyte is begun again.
        assert again <= 2 * IN_FLIGHT, f"seed {seed}, round {i}: {again} bytes fetched twice"
        worst = max(worst, again)
    print(f"fetched again at most: {worst} bytes")


def test_a_part_is_resumed(tmp, server, fetch):
    """What a killed process left is gone on with exactly where it ended."""
    url = server.add("/a", DATA, rate=2_000_000)
    process = subprocess.Popen(command(tmp / "state", [url], server.host, {}))
    time.sleep(0.9)
    process.kill()
    process.wait()
    part = next(p for p in (tmp / "state/cache/parts").iterdir() if p.suffix != ".json")
    have = part.stat().st_size
    assert 500_000 < have < len(DATA)
    server.forget()
    assert fetch(url)["fetched"] == len(DATA) - have
    assert server.log[0]["headers"]["Range"] == f"bytes={have}-"
    assert server.log[0]["headers"]["If-Range"] == '"1"'


@pytest.mark.parametrize("damage", ["note", "boot", "url", "longer"])
def test_a_part_that_does_not_fit_is_begun_again(tmp, server, fetch, damage):
    url = server.add("/a", DATA, cuts=[1_000_000])
    fetch(url, tries=1)
    folder = tmp / "state/cache/parts"
    note = next(folder.glob("*.json"))
    part = note.with_suffix("")
    text = json.loads(note.read_text())
    if damage == "note":
        note.write_text("{")
    elif damage == "longer":
        with part.open("ab") as f:
            f.write(bytes(5_000_000))
    else:
        note.write_text(json.dumps({**text, damage: "other"}))
    server.forget()
    result = fetch(url)
    assert result["failure"] == "DataOk" and result["sha256"] == SHA256
    assert "Range" not in server.log[0]["headers"]


def test_complete_but_not_in_its_place(tmp, server, fetch):
    """Killed between the last byte and the rename: with a hash nothing is asked, else one byte is."""
    for known, asked in (({"sha256": SHA256}, 0), ({}, 1)):
        state = f"state{asked}"
        url = server.add(f"/{asked}", DATA, cuts=[2_999_999])
        fetch(url, tries=1, state=state, **known)
        part = next((tmp / state / "cache/parts").glob("*.json")).with_suffix("")
        with part.open("ab") as f:
            f.write(DATA[-1:])
        server.forget()
        result = fetch(url, state=state, **known)
        assert result["failure"] == "DataOk" and result["sha256"] == SHA256
        assert server.sent() == asked
