# SPDX-License-Identifier: Apache-2.0
"""The package proxy (agent/environment/proxy.h): real pip through it, an index that misbehaves
behind it, and hostile clients in front of it."""

import base64
import concurrent.futures
import contextlib
import hashlib
import http.client
import io
import json
import os
import pathlib
import random
import select
import signal
import socket
import subprocess
import sys
import time
import zipfile

import faulty_http
import node
import pytest

DRIVER = pathlib.Path(node.BINARY).parent / "tests/package_proxy_driver"
WEAK_DRIVER = node.ROOT / "build/weak/tests/package_proxy_driver"
HTML = {"Content-Type": "text/html; charset=utf-8"}
JSON = {"Content-Type": "application/vnd.pypi.simple.v1+json"}


def wheel(name, version="1.0", requires=(), size=0):
    """The bytes of a wheel with one module, and `size` bytes of ballast."""
    info, out = f"{name}-{version}.dist-info", io.BytesIO()
    meta = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    meta += "".join(f"Requires-Dist: {r}\n" for r in requires)
    files = {
        f"{name}.py": f"VALUE = {name!r}\n".encode(),
        f"{info}/METADATA": meta.encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    if size:
        files[f"{name}_data.bin"] = random.Random(name).randbytes(size)
    record = "".join(f"{path},,\n" for path in [*files, f"{info}/RECORD"])
    files[f"{info}/RECORD"] = record.encode()
    with zipfile.ZipFile(out, "w") as z:
        for path, data in files.items():
            z.writestr(zipfile.ZipInfo(path), data)
    return out.getvalue(), meta.encode()


class Index(faulty_http.FaultyHttp):
    """A package index on loopback: /simple/NAME/ and files under /files."""

    def project(self, name, requires=(), size=0, link=None, hashed=None, page=None, **how):
        data, _ = wheel(name, requires=requires, size=size)
        file = f"{name}-1.0-py3-none-any.whl"
        self.add(f"/files/{file}", data, **how)
        sha = hashed or hashlib.sha256(data).hexdigest()
        link = (link or "{url}#sha256={sha}").format(
            url=self.url(f"/files/{file}"), file=file, sha=sha, host=self.host
        )
        text = f'<!DOCTYPE html><html><body><a href="{link}">{file}</a></body></html>'
        self.add(f"/simple/{name}/", text.encode(), headers=HTML, **(page or {}))
        return data

    def asked(self, prefix=""):
        with self.lock:
            return [e["path"] for e in self.log if e["path"].startswith(prefix)]


class Proxy:
    def __init__(self, folder, *sources, local=(), binary=DRIVER, env=None, config=None):
        folder.mkdir(exist_ok=True)
        settings = {
            "state_dir": str(folder / "state"),
            "run_dir": str(folder / "run"),
            "registries": {"stall_timeout": 1, "retries": 2},
            "environments": {"local_hosts": list(local), **(config or {})},
        }
        (folder / "agent.yaml").write_text(json.dumps(settings))
        self.state = folder / "state"
        self.process = subprocess.Popen(
            [binary, folder / "agent.yaml", *sources],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **(env or {})},
        )
        self.port = int(self.ask("listen"))

    def ask(self, what):
        self.process.stdin.write(what + "\n")
        self.process.stdin.flush()
        ready, _, _ = select.select([self.process.stdout], [], [], 60)
        line = self.process.stdout.readline() if ready else ""
        if not line:
            self.process.kill()
            raise AssertionError(self.process.stderr.read())
        return line.rstrip("\n")

    def counts(self):
        return dict(
            zip(
                ("fetched", "served", "requests", "hits"),
                map(int, self.ask("counts").split()),
                strict=True,
            )
        )

    def helper(self):
        path = f"/proc/{self.process.pid}/task/{self.process.pid}/children"
        (pid,) = pathlib.Path(path).read_text().split()
        return int(pid)

    def url(self, url, port=None):
        scheme, rest = url.split("://")
        return f"http://127.0.0.1:{port or self.port}/{scheme}/{rest}"

    def raw(self, data, timeout=20):
        """Send bytes as they are; all that comes back."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=timeout) as s:
            s.sendall(data)
            return read_all(s)

    def get(self, url, **fields):
        path = url if url.startswith("/") else "/" + url.replace("://", "/", 1)
        head = "".join(f"{k.replace('_', '-')}: {v}\r\n" for k, v in fields.items())
        answer = self.raw(
            f"GET {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n{head}\r\n".encode()
        )
        while answer.startswith(b"HTTP/1.1 100 "):
            answer = answer.split(b"\r\n\r\n", 1)[1]
        head, body = answer.split(b"\r\n\r\n", 1)
        lines = head.decode().split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines[1:])
        return int(lines[0].split()[1]), headers, body

    def stop(self):
        self.process.stdin.close()
        assert self.process.wait(10) == 0, self.process.stderr.read()
        self.close()

    def close(self):
        for file in (self.process.stdin, self.process.stdout, self.process.stderr):
            with contextlib.suppress(BrokenPipeError):
                file.close()


def read_all(s):
    data = b""
    with contextlib.suppress(ConnectionResetError):
        while piece := s.recv(1 << 16):
            data += piece
    return data


@pytest.fixture
def index():
    index = Index()
    yield index
    index.stop()


@pytest.fixture
def make_proxy(tmp, index):
    made = []

    def make(*sources, name="node", local=None, **options):
        local = [index.host] if local is None else local
        made.append(
            Proxy(tmp / name, *(sources or [index.url("/simple/")]), local=local, **options)
        )
        return made[-1]

    yield make
    for proxy in made:
        if proxy.process.returncode is None:
            proxy.stop()
        proxy.close()


@pytest.fixture
def proxy(make_proxy):
    return make_proxy()


@pytest.fixture(scope="session")
def venv(tmp_path_factory):
    """A Python with pip of its own."""
    folder = tmp_path_factory.mktemp("venv") / "v"
    subprocess.run([sys.executable, "-m", "venv", folder], check=True, timeout=120)
    return folder


def pip(venv, index_url, *arguments, timeout=60, verb="download", **variables):
    env = {k: v for k, v in os.environ.items() if not k.startswith(("PIP_", "http", "HTTP"))}
    env |= {
        "PIP_CONFIG_FILE": "/dev/null",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_RETRIES": "1",
    }
    command = [venv / "bin/python", "-m", "pip", verb, "--no-cache-dir", "-i", index_url]
    return subprocess.run(
        [*command, *arguments],
        capture_output=True,
        text=True,
        timeout=timeout,
        env={**env, **variables},
    )


def test_pip_installs_through_it(venv, index, proxy, tmp):
    index.project("alpha", requires=["beta", "gamma"])
    index.project("beta", link="../../files/{file}#sha256={sha}")
    index.project("gamma", link="/files/{file}#sha256={sha}")
    target = ["--target", str(tmp / "site"), "alpha"]
    done = pip(venv, proxy.url(index.url("/simple/")), *target, verb="install")
    assert done.returncode == 0, done.stderr
    assert {p.name for p in (tmp / "site").glob("*.py")} == {"alpha.py", "beta.py", "gamma.py"}
    assert proxy.ask("trouble") == "none"


def test_eight_at_once_fetch_everything_once(venv, index, proxy, tmp):
    names = [f"p{i}" for i in range(8)]
    for name in names:
        index.project(name, requires=["shared"], size=200_000)
    index.project("shared", size=3_000_000, rate=6_000_000)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        runs = pool.map(
            lambda n: pip(venv, proxy.url(index.url("/simple/")), "-d", str(tmp / n), n), names
        )
        for done in runs:
            assert done.returncode == 0, done.stderr
    assert sorted(index.asked()) == sorted(set(index.asked()))
    assert proxy.counts()["fetched"] == index.sent()


def test_another_build_asks_for_pages_only(index, make_proxy):
    data = index.project("alpha")
    file = index.url("/files/alpha-1.0-py3-none-any.whl")
    for _ in range(2):
        proxy = make_proxy()
        page = proxy.get(index.url("/simple/alpha/"))[2].decode()
        assert proxy.url(file) + "#sha256=" in page
        assert proxy.get(file)[2] == data
        assert proxy.get(index.url("/simple/alpha/"))[2].decode() == page
        proxy.stop()
    assert index.asked("/files") == ["/files/alpha-1.0-py3-none-any.whl"]
    assert index.asked("/simple") == ["/simple/alpha/"] * 2
    assert [e["status"] for e in index.log if e["path"] == "/simple/alpha/"] == [200, 304]


def test_answers_do_not_wait_for_acknowledgements(index, proxy):
    """On one connection, as tools have it: without TCP_NODELAY each takes the 40 ms of a delayed one."""
    data = index.project("alpha")
    path = proxy.url(index.url("/files/alpha-1.0-py3-none-any.whl")).split(str(proxy.port), 1)[1]
    connection = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=20)
    proxy.get(index.url("/simple/alpha/"))
    times = []
    with contextlib.closing(connection):
        for _ in range(50):
            begin = time.monotonic()
            connection.request("GET", path)
            assert connection.getresponse().read() == data
            times.append(time.monotonic() - begin)
    assert sorted(times)[len(times) // 2] < 0.03, times


def test_a_page_is_never_stale(index, make_proxy):
    index.project("alpha")
    proxy = make_proxy()
    assert proxy.get(index.url("/simple/alpha/"))[0] == 200
    proxy.stop()
    index.files["/simple/alpha/"].statuses = [503] * 50
    index.files["/simple/alpha/"].count = 0
    proxy = make_proxy()
    assert proxy.get(index.url("/simple/alpha/"))[0] == 502
    assert proxy.ask("trouble").startswith("DataNetwork 503 ")
    assert proxy.ask("trouble") == "none"


@pytest.mark.parametrize(
    ("fault", "status", "failure"),
    [
        ({"hangs": [0] * 9}, 504, "DataStalled"),
        ({"rate": 100}, 504, "DataStalled"),
        ({"cuts": [10] * 9, "ranges": False}, 502, "DataNetwork"),
        ({"statuses": [500] * 9}, 502, "DataNetwork"),
        ({"statuses": [404] * 9}, 404, "DataNotFound"),
        ({"statuses": [401] * 9}, 403, "DataAuthentication"),
        ({"statuses": [403] * 9}, 403, "DataForbidden"),
    ],
    ids=["hang", "drip", "cut", "500", "404", "401", "403"],
)
def test_an_index_that_misbehaves(index, proxy, fault, status, failure):
    index.add("/simple/alpha/", b"<html>" + b" " * 20_000, headers=HTML, **fault)
    start = time.monotonic()
    got, _, body = proxy.get(index.url("/simple/alpha/"))
    assert got == status, body
    assert time.monotonic() - start < 15
    # The tool's own tries again are answered at once.
    before, start = len(index.log), time.monotonic()
    assert proxy.get(index.url("/simple/alpha/"))[0] == status
    assert len(index.log) == before and time.monotonic() - start < 1
    assert proxy.ask("trouble").split()[0] == failure


def test_pip_and_a_wrong_hash(venv, index, proxy, tmp):
    index.project("alpha", hashed="0" * 64)
    done = pip(venv, proxy.url(index.url("/simple/")), "-d", str(tmp), "alpha")
    assert done.returncode != 0
    assert proxy.ask("trouble").startswith("DataChecksum ")


def test_json_pages_and_metadata(index, proxy):
    data, meta = wheel("alpha")
    file = "alpha-1.0-py3-none-any.whl"
    sha, other = (hashlib.sha256(x).hexdigest() for x in (data, meta))
    page = {
        "meta": {"api-version": "1.0"},
        "name": "alpha",
        "files": [
            {
                "filename": file,
                "url": f"//{index.host}/files/{file}",
                "hashes": {"sha256": sha},
                "core-metadata": {"sha256": other},
                "x": {"url": "http://left.as.it.is/"},
            }
        ],
    }
    index.add("/simple/alpha/", json.dumps(page).encode(), headers=JSON)
    index.add(f"/files/{file}", data)
    index.add(f"/files/{file}.metadata", meta)
    accept = "application/vnd.pypi.simple.v1+json, text/html;q=0.1"
    status, headers, body = proxy.get(index.url("/simple/alpha/"), Accept=accept)
    got = json.loads(body)
    assert status == 200 and headers["content-type"] == JSON["Content-Type"]
    assert got["files"][0].pop("url") == proxy.url(index.url(f"/files/{file}"))
    page["files"][0].pop("url")
    assert got == page
    assert "vnd.pypi.simple.v1+json" in index.log[0]["headers"]["Accept"]
    assert proxy.get(index.url(f"/files/{file}.metadata"))[2] == meta
    index.files[f"/files/{file}"].data = data[:-1] + b"?"
    assert proxy.get(index.url(f"/files/{file}"))[0] == 502
    assert proxy.ask("trouble").startswith("DataChecksum ")


def test_conda_channel(index, make_proxy):
    data = random.Random(3).randbytes(5000)
    repodata = {
        "info": {"subdir": "noarch", "base_url": index.url("/elsewhere")},
        "packages.conda": {"a-1-0.conda": {"sha256": hashlib.sha256(data).hexdigest()}},
        "packages": {"b-1-0.tar.bz2": {"sha256": "0" * 64}},
    }
    text = json.dumps(repodata, indent=1).encode()
    index.add("/chan/noarch/repodata.json", text, headers={"Content-Type": "application/json"})
    index.add("/elsewhere/a-1-0.conda", data)
    index.add("/elsewhere/b-1-0.tar.bz2", data)
    proxy = make_proxy(index.url("/chan"))
    got = json.loads(proxy.get(index.url("/chan/noarch/repodata.json"))[2])
    base = got["info"].pop("base_url")
    assert base.rstrip("/") == proxy.url(index.url("/elsewhere"))
    repodata["info"].pop("base_url")
    assert got == repodata
    assert proxy.get(index.url("/elsewhere/a-1-0.conda"))[2] == data
    assert proxy.get(index.url("/elsewhere/b-1-0.tar.bz2"))[0] == 502
    assert proxy.ask("trouble").startswith("DataChecksum ")


def test_ranges_and_tags(index, proxy):
    data = index.project("alpha", size=100_000)
    url = index.url("/files/alpha-1.0-py3-none-any.whl")
    status, headers, body = proxy.get(url)
    assert (status, body) == (200, data)
    tag = headers["etag"]
    assert proxy.get(url, If_None_Match=f'"x", {tag}')[0] == 304
    for text, want in (("0-9", data[:10]), ("99000-", data[99000:]), ("-7", data[-7:])):
        status, headers, body = proxy.get(url, Range=f"bytes={text}")
        assert (status, body) == (206, want)
        assert headers["content-range"].endswith(f"/{len(data)}")
    assert proxy.get(url, Range=f"bytes={len(data)}-")[0] == 416
    assert proxy.get(url, Range="bytes=0-9", If_Range='"other"')[0] == 200
    assert proxy.get(url, Range="bytes=0-1,5-6")[2] == data


def test_credentials_stay_outside(index, make_proxy, tmp):
    (tmp / "netrc").write_text("machine 127.0.0.1 login ada password s3cret\n")
    index.project("alpha")
    other = Index()
    try:
        index.files["/simple/beta/"] = faulty_http.File(b"", redirect=other.url("/simple/beta/"))
        other.add("/simple/beta/", b'<a href="x-1.whl">x</a>', headers=HTML)
        proxy = make_proxy(local=[index.host, other.host], config={"netrc": str(tmp / "netrc")})
        page = proxy.get(index.url("/simple/alpha/"))
        assert page[0] == 200 and b"s3cret" not in str(page).encode()
        sent = base64.b64encode(b"ada:s3cret").decode()
        assert index.log[0]["headers"]["Authorization"] == f"Basic {sent}"
        # Behind a redirect they are not sent; and links are relative to where that led.
        page = proxy.get(index.url("/simple/beta/"))[2].decode()
        assert proxy.url(other.url("/simple/beta/x-1.whl")) in page
        assert "Authorization" not in other.log[0]["headers"]
        for process in (proxy.process.pid, proxy.helper()):
            for name in ("cmdline", "environ"):
                assert b"s3cret" not in pathlib.Path(f"/proc/{process}/{name}").read_bytes()
    finally:
        other.stop()


def test_users_and_tokens_in_addresses(index, make_proxy):
    index.add("/t/tk-9/chan/noarch/repodata.json", b"{}", headers=JSON)
    proxy = make_proxy(f"http://ada:pass%21@{index.host}/t/tk-9/chan")
    assert proxy.get(index.url("/chan/noarch/repodata.json"))[0] == 200
    status, headers, body = proxy.get(index.url("/chan/noarch/no.json"))
    assert status == 404 and b"tk-9" not in body
    assert [e["path"][:7] for e in index.log] == ["/t/tk-9"] * 2
    sent = base64.b64encode(b"ada:pass!").decode()
    assert index.log[0]["headers"]["Authorization"] == f"Basic {sent}"
    assert "tk-9" not in proxy.ask("trouble")


def reaches(proxy, victim, url):
    victim.forget()
    status, _, body = proxy.get(url)
    return status, bool(victim.log), body


@pytest.mark.parametrize("weak", [False, True], ids=["held", "weak"])
def test_what_may_not_be_reached(index, make_proxy, weak):
    """The canary stands for whatever listens on this node: no source, and no local host."""
    canary = Index()
    options = {"binary": WEAK_DRIVER, "env": {"STOKER_WEAKEN": "package_hosts,download_addresses"}}
    try:
        canary.add("/x", b"secret")
        index.add("/simple/go/", b"", redirect=canary.url("/x"))
        index.add("/simple/link/", f'<a href="{canary.url("/x")}">x</a>'.encode(), headers=HTML)
        proxy = make_proxy(**(options if weak else {}))
        assert proxy.get(index.url("/simple/link/"))[0] == 200
        found = [
            reaches(proxy, canary, canary.url("/x")),  # linked to: refused as an address
            reaches(proxy, canary, index.url("/simple/go/")),
            reaches(proxy, canary, f"http://localhost:{canary.port}/x"),
            reaches(proxy, canary, f"http://2130706433:{canary.port}/x"),
        ]
        assert [hit for _, hit, _ in found] == [weak] * 4
        assert weak or all(status == 403 and b"secret" not in b for status, _, b in found)
    finally:
        canary.stop()


def test_metadata_services_and_unknown_hosts(index, make_proxy):
    page = b'<a href="http://169.254.169.254/latest/">a</a><a href="http://[fe80::1]/">b</a>'
    index.add("/simple/link/", page, headers=HTML)
    proxy = make_proxy()
    assert proxy.get("http://169.254.169.254/latest/")[0] == 403
    assert proxy.get("http://elsewhere.example/")[0] == 403
    proxy.get(index.url("/simple/link/"))
    status, _, body = proxy.get("http://169.254.169.254/latest/")
    assert status == 403 and b"link-local" in body
    assert proxy.get("http://[fe80::1]/")[0] == 403


BAD = [
    (b"CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n", 405),
    (b"POST /https/a/ HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc", 405),
    (b"GET http://169.254.169.254/ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    (b"GET /ftp/a/ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    (b"GET /https/ada@a/ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    (b"GET /https/a/../b HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    (b"GET /https/a/%2e%2E/b HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    (b"GET /https/a/.%2e%2fb HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    (b"GET /https/a/b\\c HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    (b"GET /https/a/b\rX: y HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    (b"GET /https/a/b\0 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    (b"GET /https/a/ HTTP/1.1\r\n\r\n", 400),
    (b"GET /https/a/ HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
    (b"GET /https/a/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    (b"GET /https/a/ HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nGET /", 413),
    (b"GET /https/a/ HTTP/1.1\r\nHost: a\r\nContent-Length : 5\r\n\r\nGET /", 400),
    (b"GET /https/a/ HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n", 400),
    (b"GET /https/a/ HTTP/2.0\r\nHost: a\r\n\r\n", 505),
    (b"GET /https/a/ HTTP/1.1\r\nHost: a\r\n" + b"A: b\r\n" * 65 + b"\r\n", 431),
    (b"GET /https/a/" + b"a" * 20000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 431),
    (b"GET /https/a/" + b"a" * 3000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 400),
]


def test_requests_that_are_none(index, proxy):
    for request, status in BAD:
        answer = proxy.raw(request)
        assert answer.startswith(b"HTTP/1.1 %d " % status), (request[:80], answer[:200])
        assert answer.count(b"HTTP/1.1 ") == 1, request[:80]
    index.project("alpha")
    assert proxy.get(index.url("/simple/alpha/"))[0] == 200


def test_an_escaped_line_break_stays_one(index, proxy):
    proxy.get(index.url("/simple/a%0d%0aX-Evil:%20y/"))
    assert index.asked() == ["/simple/a%0d%0aX-Evil:%20y/"]
    assert "X-Evil" not in index.log[0]["headers"]


def test_clients_that_dawdle(index, proxy):
    """64 connections that say nothing, and one that never reads, take neither memory nor the others' turn
    for ever."""
    index.project("big", size=20_000_000)
    url = "/http/" + index.host + "/files/big-1.0-py3-none-any.whl"
    never = socket.create_connection(("127.0.0.1", proxy.port), timeout=20)
    never.sendall(f"GET {url} HTTP/1.1\r\nHost: h\r\n\r\n".encode())
    idle = [socket.create_connection(("127.0.0.1", proxy.port)) for _ in range(60)]
    for s in idle:
        s.sendall(b"GET /")
    assert proxy.get(index.url("/simple/big/"))[0] == 200
    memory = pathlib.Path(f"/proc/{proxy.helper()}/status").read_text()
    assert int(memory.split("VmRSS:")[1].split()[0]) < 64 << 10
    start = time.monotonic()
    idle[0].settimeout(20)
    assert idle[0].recv(100).startswith(b"HTTP/1.1 408 ")
    assert time.monotonic() - start < 15
    for s in [never, *idle]:
        s.close()


def test_a_slow_file_keeps_the_client_awake(venv, index, proxy, tmp):
    """pip gives up after 4 seconds without a byte; the file takes longer to come."""
    index.project("slow", size=700_000, rate=110_000)
    more = ["--timeout", "4", "-d", str(tmp / "slow"), "slow"]
    done = pip(venv, proxy.url(index.url("/simple/")), *more)
    assert done.returncode == 0 and "timed out" not in done.stderr, done.stderr
    assert len(index.asked("/files")) == 1
    # And what is said meanwhile is an interim answer.
    index.project("other", size=700_000, rate=180_000)
    assert proxy.get(index.url("/simple/other/"))[0] == 200
    path = index.url("/files/other-1.0-py3-none-any.whl").replace("://", "/", 1)
    answer = proxy.raw(f"GET /{path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 ")


def test_killed_and_resumed(index, make_proxy):
    data = index.project("big", size=8_000_000, rate=8_000_000)
    url = index.url("/files/big-1.0-py3-none-any.whl")
    proxy = make_proxy()
    assert proxy.get(index.url("/simple/big/"))[0] == 200
    client = socket.create_connection(("127.0.0.1", proxy.port))
    path = url.replace("://", "/", 1)
    client.sendall(f"GET /{path} HTTP/1.1\r\nHost: h\r\n\r\n".encode())
    while index.sent() < 4_000_000:
        time.sleep(0.05)
    os.kill(proxy.helper(), signal.SIGKILL)
    assert read_all(client) == b""
    client.close()
    proxy.process.stdin.close()
    proxy.process.wait(10)
    index.files["/files/big-1.0-py3-none-any.whl"].rate = 0
    before = index.sent()
    proxy = make_proxy()
    proxy.get(index.url("/simple/big/"))
    assert proxy.get(url)[2] == data
    assert index.log[-1]["status"] == 206
    assert index.sent() - before < len(data)


def test_the_process_is_confined(proxy):
    status = pathlib.Path(f"/proc/{proxy.helper()}/status").read_text()
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert int(fields["CapEff"], 16) == int(fields["CapPrm"], 16) == int(fields["CapBnd"], 16) == 0
    assert (fields["NoNewPrivs"], fields["Seccomp"]) == ("1", "2")
    assert set(fields["Uid"].split()) == {"65534"}
    assert proxy.state.joinpath("packages").stat().st_uid == 65534


def test_it_ends_with_its_starter(proxy):
    helper = proxy.helper()
    proxy.process.kill()
    proxy.process.wait()
    for _ in range(100):
        try:
            state = pathlib.Path(f"/proc/{helper}/stat").read_text().rsplit(") ", 1)[1]
        except FileNotFoundError:
            return
        if state.startswith("Z"):  # whoever inherits it may be slow to look
            return
        time.sleep(0.05)
    raise AssertionError("the helper lives on")


def test_listeners_come_and_go(index, proxy):
    index.project("alpha")
    first, ports = proxy.port, [int(proxy.ask("listen")) for _ in range(4)]
    for port in ports:
        proxy.port = port
        assert proxy.url(index.url("/files")).encode() in proxy.get(index.url("/simple/alpha/"))[2]
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", first))
