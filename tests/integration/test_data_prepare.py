# SPDX-License-Identifier: Apache-2.0
"""Inputs before the sandbox (data_prepare() of agent/data/data.h): files and archives of servers that
misbehave, folders of this node, what stands in the job, images and artifacts of registries."""

import contextlib
import hashlib
import io
import json
import os
import pathlib
import random
import signal
import stat
import subprocess
import tarfile
import time
import zipfile

import faulty_http
import node
import pytest
import registries

DRIVER = pathlib.Path(node.BINARY).parent / "tests/data_driver"
BIND, HTTP, OCI, FSIMAGE, INLINE = 0, 1, 2, 6, 7
RO_MOUNT, DOWNLOAD = 0, 2
NONE, AUTO, TAR, ZIP = 0, 1, 2, 3
REVALIDATE, PINNED, OFF = 0, 1, 2
DATA = random.Random(3).randbytes(700_000)


@pytest.fixture
def server():
    server = faulty_http.FaultyHttp()
    yield server
    server.stop()


@pytest.fixture
def prepare(tmp, server):
    """prepare({"kind": HTTP, …}, …) runs the driver; returns what it says."""

    def run(*sources, state="state", timeout=60, start_only=False, **orders):
        orders.setdefault("local_hosts", [server.host])
        named = [{"name": f"input{i}", **s} for i, s in enumerate(sources)]
        path = tmp / f"orders-{time.monotonic_ns()}.json"
        path.write_text(json.dumps({"sources": named, **orders}))
        command = [DRIVER, tmp / state, path]
        if start_only:
            return subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
            )
        start = time.monotonic()
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout, check=False
        )
        assert done.returncode == 0 and done.stderr == b"", done.stderr
        said = json.loads(done.stdout)
        said["seconds"] = time.monotonic() - start
        assert "\n" not in said["text"]
        return said

    return run


def one(said):
    assert said["failure"] == "DataOk", said["text"]
    assert len(said["ready"]) == 1
    return said["ready"][0]


def files_of(folder):
    """{name: bytes} of a folder; links as their targets."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            found[name] = str(path.readlink())
        elif path.is_file():
            found[name] = path.read_bytes()
    return found


def nothing_half_made(state):
    for folder in ("tmp", "building", "locks"):
        assert list((state / "datasets").glob(f"{folder}/*")) == []


def digest(data):
    return hashlib.sha256(data).hexdigest()


def test_files(tmp, server, prepare):
    """Several files, named and not; the second time without any question; read-only."""
    files = [
        {"url": server.add("/d/a.bin", DATA), "sha256": digest(DATA)},
        {"url": server.add("/x", b"b"), "name": "deep/er/b", "sha256": digest(b"b")},
        {"url": server.add("/empty", b""), "sha256": digest(b"")},
    ]
    source = {"kind": HTTP, "files": files}
    first = one(prepare(source))
    assert first["kept"] == f"datasets/trees/{first['digest']}" and not first["is_file"]
    assert not first["reused"] and first["fetched"] == first["bytes"] == len(DATA) + 1
    assert first["progress"] == len(DATA) + 1
    tree = tmp / "state" / first["kept"]
    assert files_of(tree) == {"a.bin": DATA, "deep/er/b": b"b", "empty": b""}
    assert (tree / "a.bin").stat().st_mode & 0o777 == 0o444
    assert (tree / "deep").stat().st_mode & 0o777 == 0o755
    asked = len(server.log)
    server.stop()  # no network is needed
    again = one(prepare(source))
    assert again["reused"] and again["digest"] == first["digest"] and len(server.log) == asked
    nothing_half_made(tmp / "state")


def test_without_a_checksum(tmp, server, prepare):
    """Asked for by default, taken as it is when pinned, fetched anew when off."""
    url = server.add("/a", b"old")
    source = {"kind": HTTP, "files": [{"url": url}]}
    first = one(prepare(source))
    assert one(prepare(source))["reused"] and server.log[-1]["status"] == 304
    server.add("/a", b"new!", etag='"2"')
    assert one(prepare({**source, "cache": PINNED}))["digest"] == first["digest"]
    changed = one(prepare(source))
    assert files_of(tmp / "state" / changed["kept"]) == {"a": b"new!"}
    server.forget()
    assert one(prepare({**source, "cache": OFF}))["fetched"] == 4 and len(server.log) == 1


def test_signatures_are_not_kept(tmp, server, prepare):
    """The query of an address may be a credential: it is in no file, and still tells addresses apart."""
    url = server.add("/a", b"old") + "?sig=hunter2"
    ready = one(prepare({"kind": HTTP, "files": [{"url": url, "name": "a"}]}))
    assert one(prepare({"kind": HTTP, "files": [{"url": url, "name": "a"}]}))["reused"]
    for path in (tmp / "state").rglob("*"):
        assert "hunter2" not in path.name
        assert not path.is_file() or b"hunter2" not in path.read_bytes(), path
    assert files_of(tmp / "state" / ready["kept"]) == {"a": b"old"}


def test_many_at_once(tmp, server, prepare):
    """Four connections, several inputs."""
    sources = [
        {
            "kind": HTTP,
            "files": [{"url": server.add(f"/{i}/{k}", DATA[k:], rate=2_000_000)} for k in range(4)],
        }
        for i in range(2)
    ]
    said = prepare(*sources)
    assert said["failure"] == "DataOk"
    # 8 files of 0.35 s each, four at a time.
    assert said["seconds"] < 2.2
    for ready in said["ready"]:
        assert files_of(tmp / "state" / ready["kept"]) == {str(k): DATA[k:] for k in range(4)}
        assert ready["progress"] == sum(len(DATA) - k for k in range(4))


def test_failures_name_input_and_address(tmp, server, prepare):
    url = server.add("/a", b"a")
    fine = {"kind": HTTP, "files": [{"url": url}]}
    said = prepare(fine, {"kind": HTTP, "files": [{"url": server.url("/none") + "?sig=geheim"}]})
    assert (said["failure"], said["failed"]) == ("DataNotFound", 1)
    assert said["text"].startswith(
        f"input input1: {server.url('/none')}?sig=…: the server answered 404"
    )
    said = prepare({"kind": HTTP, "files": [{"url": url, "sha256": "0" * 64}]})
    assert said["failure"] == "DataChecksum"
    said = prepare({"kind": HTTP, "files": [{"url": url}, {"url": url}]})
    assert said["failure"] == "DataFailed" and 'would be named "a"' in said["text"]
    said = prepare({"kind": HTTP, "files": [{"url": server.url("/")}]})
    assert "is no name for its file" in said["text"]
    for name in ("../x", "/x", "a/../../x", "a//b", "."):
        said = prepare({"kind": HTTP, "files": [{"url": url, "name": name}]})
        assert "is no name for its file" in said["text"], name
    said = prepare({"kind": HTTP, "files": [{"url": url}], "max_bytes": 0}, max_bytes=1)
    assert said["failure"] == "DataOk"
    big = {"kind": HTTP, "files": [{"url": server.add("/b", DATA)}]}
    for limits in ({"max_bytes": 100}, {}):
        said = prepare({**big, **limits}, **({} if limits else {"max_bytes": 100}))
        assert said["failure"] == "DataTooLarge"
    two = [{"url": server.add("/c", DATA)}, {"url": server.add("/d", DATA[1:])}]
    said = prepare({"kind": HTTP, "files": two, "max_bytes": 1_000_000})
    assert said["failure"] == "DataTooLarge" and "in all, over the limit" in said["text"]
    slow = {
        "kind": HTTP,
        "files": [{"url": server.add("/e", DATA, rate=100_000)}],
        "max_seconds": 1,
    }
    said = prepare(slow)
    assert said["failure"] == "DataTimeout" and said["seconds"] < 3
    nothing_half_made(tmp / "state")


def test_optional(server, prepare):
    missing = {"kind": HTTP, "files": [{"url": server.url("/none")}], "optional": True}
    present = {"kind": HTTP, "files": [{"url": server.add("/a", b"a")}]}
    said = prepare(missing, present)
    assert said["failure"] == "DataOk", said["text"]
    assert said["ready"][0]["absent"] and not said["ready"][1]["absent"]
    forbidden = {
        "kind": HTTP,
        "files": [{"url": server.add("/f", b"", statuses=[403])}],
        "optional": True,
    }
    assert prepare(forbidden)["failure"] == "DataForbidden"


def test_hashed_while_others_come(tmp, server, prepare):
    """Root takes over what is complete without waiting for the rest."""
    files = [{"url": server.add("/quick", b"quick")}]
    files += [{"url": server.add("/slow", DATA, rate=200_000)}]
    process = prepare({"kind": HTTP, "files": files}, start_only=True)
    kept = tmp / f"state/datasets/objects/sha256/{digest(b'quick')[:2]}/{digest(b'quick')}"
    while not (kept.exists() and kept.stat().st_uid == 0 and kept.stat().st_mode & 0o777 == 0o444):
        assert server.sent() < len(DATA) and process.poll() is None
        time.sleep(0.01)
    assert server.sent() < len(DATA)
    said = json.loads(process.communicate(timeout=20)[0])
    assert one(said)["fetched"] == len(DATA) + 5


def test_what_is_missing_does_not_disturb_others(server, prepare):
    """Of a missing optional input nothing more is fetched; the others are asked for once."""
    late = {"statuses": [404], "before": lambda _: time.sleep(0.4)}
    missing = [{"url": server.add("/none", b"", **late)}]
    missing += [{"url": server.add("/slow", DATA, rate=100_000)}]
    missing += [{"url": server.add(f"/later{i}", b"later")} for i in range(2)]
    present = [{"url": server.add(f"/{i}", DATA, rate=500_000)} for i in range(2)]
    said = prepare(
        {"kind": HTTP, "files": present}, {"kind": HTTP, "files": missing, "optional": True}
    )
    assert said["failure"] == "DataOk", said["text"]
    ready, absent = said["ready"]
    assert absent["absent"] and not ready["absent"]
    assert ready["fetched"] == ready["bytes"] == 2 * len(DATA) and not ready["reused"]
    asked = [entry["path"] for entry in server.log]
    assert asked.count("/0") == asked.count("/1") == 1 and "/later1" not in asked, asked
    assert said["seconds"] < 5  # the slow one takes 7 s


def test_canceled(server, prepare):
    """A signal ends it at once, and no helper stays."""
    source = {"kind": HTTP, "files": [{"url": server.add("/a", DATA, rate=50_000)}]}
    process = prepare(source, start_only=True)
    while not server.sent():
        time.sleep(0.01)
    start = time.monotonic()
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=10)
    assert time.monotonic() - start < 2
    said = json.loads(out)
    assert said["canceled"] == signal.SIGTERM and "canceled by signal 15" in said["text"]
    assert node.stoker_processes() == {}


def test_killed_as_it_was_put_in_its_place(tmp, server, prepare):
    """Complete and read-only, but still a part: the helper, who is not root, takes it up."""
    url = server.add("/a", DATA, cuts=[len(DATA) - 1], statuses=[None, 404])
    source = {"kind": HTTP, "files": [{"url": url, "sha256": digest(DATA)}]}
    assert prepare(source)["failure"] == "DataNotFound"
    part = next((tmp / "state/datasets/parts").glob("*.json")).with_suffix("")
    part.write_bytes(DATA)
    part.chmod(0o444)
    assert one(prepare(source))["fetched"] == 0


def test_a_killed_one_leaves_nothing_that_counts(pytestconfig, tmp, server, prepare):
    """kill -9 of whoever prepares, or of its helper; then it works, and the tree is whole."""
    chance = random.Random(os.urandom(8))
    archive = make_tar([("a", DATA), ("b/c", DATA[::-1])])
    url = server.add("/x.tar", archive, rate=8_000_000)
    for i in range(pytestconfig.getoption("--campaign")):
        source = {"kind": HTTP, "unpack": AUTO, "files": [{"url": url, "sha256": digest(archive)}]}
        state = f"kill{i}"
        process = prepare(source, state=state, start_only=True)
        time.sleep(chance.uniform(0, 0.35))
        victims = [process.pid]
        if i % 2:
            children = pathlib.Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
            victims = [int(pid) for pid in children.split()] or victims
        for pid in victims:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        out, _ = process.communicate(timeout=30)
        assert not out or json.loads(out)["failure"] in ("DataOk", "DataFailed", "DataArchive"), out
        ready = one(prepare(source, state=state))
        tree = tmp / state / ready["kept"]
        assert files_of(tree) == {"a": DATA, "b/c": DATA[::-1]}
        nothing_half_made(tmp / state)


def test_the_helper_is_confined(server, prepare):
    """No capabilities, nobody's user, no new privileges, a filter; and it cannot read files of root."""
    source = {"kind": HTTP, "files": [{"url": server.add("/a", DATA, rate=200_000)}]}
    process = prepare(source, start_only=True)
    while not server.sent():
        time.sleep(0.01)
    children = pathlib.Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    (helper,) = children
    status = pathlib.Path(f"/proc/{helper}/status").read_text()
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert set(fields["Uid"].split()) == set(fields["Gid"].split()) == {"65534"}
    assert {fields[f"Cap{s}"] for s in ("Prm", "Eff", "Bnd", "Amb")} == {"0" * 16}
    assert fields["NoNewPrivs"] == "1" and fields["Seccomp"] == "2" and not fields["Groups"].strip()
    process.kill()
    process.communicate()


def test_who_owns_the_downloads(tmp, server, prepare):
    """Root, all of them and their folders: the helper has no file to write, and none open to read."""
    url = server.add("/a", DATA)
    process = prepare(
        {"kind": HTTP, "files": [{"url": server.add("/slow", DATA, rate=200_000)}]}, start_only=True
    )
    while not server.sent():
        time.sleep(0.01)
    children = pathlib.Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    (helper,) = children
    opened = [os.readlink(fd) for fd in pathlib.Path(f"/proc/{helper}/fd").iterdir()]
    assert not [name for name in opened if str(tmp) in name]
    process.kill()
    process.communicate()
    said = {"url": url, "sha256": digest(DATA)}
    tree = tmp / "state" / one(prepare({"kind": HTTP, "files": [said]}))["kept"]
    (kept,) = (tmp / "state/datasets/objects/sha256").glob("*/*")
    assert (kept.stat().st_uid, kept.stat().st_mode & 0o777) == (0, 0o444)
    assert kept.stat().st_ino == (tree / "a").stat().st_ino
    owned = [path for path in (tmp / "state/datasets").rglob("*") if path.stat().st_uid != 0]
    assert not owned


def make_tar(entries, form=tarfile.PAX_FORMAT, mode="w"):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode, format=form) as tar:
        for entry in entries:
            info, data = (
                (tarfile.TarInfo(entry[0]), entry[1]) if isinstance(entry, tuple) else (entry, b"")
            )
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def special(name, kind, **more):
    info = tarfile.TarInfo(name)
    info.type = kind
    for key, value in more.items():
        setattr(info, key, value)
    return info


def compressed(data, program):
    return subprocess.run([program, "-c"], input=data, stdout=subprocess.PIPE, check=True).stdout


def make_zip(entries):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as z:
        for name, data in entries:
            z.writestr(name, data)
    return out.getvalue()


CONTENT = [("top/a.txt", b"a"), ("top/ünï/b.bin", DATA), ("top/z", b"")]


@pytest.mark.parametrize(
    ("name", "make", "how"),
    [
        ("a.tar", lambda: make_tar(CONTENT), AUTO),
        ("a.tar", lambda: make_tar(CONTENT, tarfile.GNU_FORMAT), TAR),
        ("a.tar.gz", lambda: make_tar(CONTENT, mode="w:gz"), AUTO),
        ("a.tgz", lambda: make_tar(CONTENT, mode="w:gz"), TAR),
        ("a.tar.xz", lambda: make_tar(CONTENT, mode="w:xz"), AUTO),
        ("a.tar.bz2", lambda: make_tar(CONTENT, mode="w:bz2"), AUTO),
        ("a.tar.zst", lambda: compressed(make_tar(CONTENT), "zstd"), AUTO),
        ("a.zip", lambda: make_zip(CONTENT), AUTO),
        ("whatever", lambda: make_zip(CONTENT), ZIP),
    ],
)
def test_unpack(tmp, server, prepare, name, make, how):
    archive = make()
    url = server.add(f"/{name}", archive)
    ready = one(prepare({"kind": HTTP, "unpack": how, "files": [{"url": url}]}))
    tree = tmp / "state" / ready["kept"]
    assert files_of(tree) == dict(CONTENT)
    assert all(p.stat().st_mode & 0o222 == 0 for p in tree.rglob("*") if p.is_file())
    again = one(
        prepare({"kind": HTTP, "unpack": how, "files": [{"url": url, "sha256": digest(archive)}]})
    )
    assert again["reused"] and again["digest"] == ready["digest"]
    kept = one(prepare({"kind": HTTP, "files": [{"url": url}]}))
    assert files_of(tmp / "state" / kept["kept"]) == {name: archive}
    nothing_half_made(tmp / "state")


def test_auto_leaves_what_is_no_archive(tmp, server, prepare):
    """A model that happens to be a zip file, and an error page that is named as one."""
    files = {"model.pt": make_zip(CONTENT), "data.zip": b"<html>", "plain.tar": b"no"}
    source = {
        "kind": HTTP,
        "unpack": AUTO,
        "files": [{"url": server.add(f"/{n}", d)} for n, d in files.items()],
    }
    assert files_of(tmp / "state" / one(prepare(source))["kept"]) == files


def test_unpacked_links_and_modes(tmp, server, prepare):
    suid = special("suid", tarfile.REGTYPE, mode=0o6755)
    archive = make_tar(
        [
            ("d/file", b"x"),
            special("link", tarfile.SYMTYPE, linkname="d/file"),
            special("d/up", tarfile.SYMTYPE, linkname="../link"),
            special("hard", tarfile.LNKTYPE, linkname="d/file"),
            suid,
            special("closed", tarfile.DIRTYPE, mode=0),
            ("closed/in", b"y"),
            ("d/file", b"the later one"),
            special("./", tarfile.DIRTYPE),
        ]
    )
    source = {"kind": HTTP, "unpack": AUTO, "files": [{"url": server.add("/a.tar", archive)}]}
    tree = tmp / "state" / one(prepare(source))["kept"]
    assert files_of(tree) == {
        "d/file": b"the later one",
        "d/up": "../link",
        "link": "d/file",
        "hard": b"x",
        "suid": b"",
        "closed/in": b"y",
    }
    assert stat.S_IMODE((tree / "suid").stat().st_mode) == 0o555


def bomb(size=600_000_000):
    """Zeros: 1000 times as large as it is here."""
    process = subprocess.run(
        f"head -c {size} /dev/zero | zstd -q -3 -c", shell=True, stdout=subprocess.PIPE, check=True
    )
    info = tarfile.TarInfo("zeros")
    info.size = size
    header = info.tobuf(tarfile.GNU_FORMAT)
    return compressed(header, "zstd") + process.stdout


BAD = [
    ("a.tar", lambda: make_tar([("ok", b""), ("../out", b"x")]), '"../out" has ".." in its path'),
    ("a.tar", lambda: make_tar([("/out", b"x")]), '"/out" has an absolute path'),
    ("a.tar", lambda: make_tar([("a/../../out", b"x")]), 'has ".." in its path'),
    (
        "a.tar",
        lambda: make_tar([special("l", tarfile.SYMTYPE, linkname="/etc"), ("l/out", b"x")]),
        '"l" is a link that leads out',
    ),
    (
        "a.tar",
        lambda: make_tar([special("d/l", tarfile.SYMTYPE, linkname="../../x")]),
        '"d/l" is a link that leads out',
    ),
    (
        "a.tar",
        lambda: make_tar(
            [
                special("d", tarfile.DIRTYPE),
                special("l", tarfile.SYMTYPE, linkname="d"),
                ("l/x", b"x"),
            ]
        ),
        '"l/x" lies below a link',
    ),
    (
        "a.tar",
        lambda: make_tar([special("h", tarfile.LNKTYPE, linkname="../../etc/passwd")]),
        '".."',
    ),
    (
        "a.tar",
        lambda: make_tar([special("h", tarfile.LNKTYPE, linkname="none")]),
        "hard link to what is no",
    ),
    ("a.tar", lambda: make_tar([special("c", tarfile.CHRTYPE)]), '"c" is a device'),
    (
        "a.tar",
        lambda: make_tar([special("p", tarfile.FIFOTYPE)]),
        '"p" is a device, a socket or a FIFO',
    ),
    ("a.tar", lambda: make_tar([("f", b""), ("f/x", b"")]), '"f/x" lies below a link or a file'),
    ("a.tar.gz", lambda: make_tar(CONTENT, mode="w:gz")[:-2000], "damaged"),
    ("a.zip", lambda: make_zip([("../out", b"x")]), '"../out" has ".." in its path'),
    ("a.tar.zst", bomb, '"zeros" makes the archive grow more than a thousandfold'),
]


@pytest.mark.parametrize(("name", "make", "text"), BAD)
def test_bad_archives(tmp, server, prepare, name, make, text):
    url = server.add(f"/{name}", make())
    said = prepare({"kind": HTTP, "unpack": AUTO, "files": [{"url": url}]})
    assert said["failure"] == "DataArchive", said["text"]
    assert said["text"].startswith(f"input input0: {name}: ") and text in said["text"], said["text"]
    assert list((tmp / "state/datasets/trees").iterdir()) == []
    assert not (tmp / "out").exists() and not (tmp / "state/datasets/out").exists()
    nothing_half_made(tmp / "state")


def test_unpacked_limits(server, prepare):
    archive = make_tar([("zeros", bytes(5_000_000))], mode="w:gz")
    source = {"kind": HTTP, "unpack": AUTO, "files": [{"url": server.add("/a.tar.gz", archive)}]}
    said = prepare({**source, "max_bytes": 1_000_000})
    assert said["failure"] == "DataTooLarge" and 'entry "zeros"' in said["text"]
    assert one(prepare({**source, "max_bytes": 6_000_000}))["bytes"] == len(archive)


def test_an_archive_of_nothing(tmp, server, prepare):
    """Folders without bytes: they take the inodes that everybody on the node needs."""
    state = tmp / "state"
    state.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "nr_inodes=17000", "tmpfs", state], check=True)
    archive = make_tar([special(f"d{i}", tarfile.DIRTYPE) for i in range(17000)], mode="w:gz")
    url = server.add("/a.tar.gz", archive)
    try:
        said = prepare({"kind": HTTP, "unpack": AUTO, "files": [{"url": url}]})
        assert said["failure"] == "DataNoSpace" and "inodes of the disk free" in said["text"], said
        assert os.statvfs(state).f_favail > 16000, "what was unpacked has gone"
    finally:
        subprocess.run(["umount", state], check=True)


def test_inline(tmp, prepare):
    source = {"kind": INLINE, "content": "a: 1\nü\n"}
    ready = one(prepare(source))
    assert ready["is_file"] and (tmp / "state" / ready["kept"]).read_text() == "a: 1\nü\n"
    assert one(prepare(source))["reused"]
    assert one(prepare({**source, "content": "b"}))["digest"] != ready["digest"]


def test_bind_as_a_copy(tmp, prepare):
    folder = tmp / "data"
    (folder / "sub").mkdir(parents=True)
    (folder / "a").write_bytes(DATA)
    (folder / "sub/run").write_text("#!/bin/sh\n")
    (folder / "sub/run").chmod(0o755)
    (folder / "link").symlink_to("/etc/passwd")
    os.mkfifo(folder / "fifo")
    source = {"kind": BIND, "mode": DOWNLOAD, "path": str(folder)}
    ready = one(prepare(source))
    tree = tmp / "state" / ready["kept"]
    assert files_of(tree) == {"a": DATA, "sub/run": b"#!/bin/sh\n", "link": "/etc/passwd"}
    assert (tree / "sub/run").stat().st_mode & 0o777 == 0o555
    assert one(prepare(source))["reused"]
    (folder / "a").write_bytes(b"changed")
    assert files_of(tmp / "state" / one(prepare(source))["kept"])["a"] == b"changed"
    assert files_of(tree)["a"] == DATA
    single = one(prepare({**source, "path": str(folder / "a")}))
    assert single["is_file"] and (tmp / "state" / single["kept"]).read_bytes() == b"changed"
    mounted = one(prepare({"kind": BIND, "path": str(folder)}))
    assert mounted["kept"] is None


def test_bind_policy(tmp, prepare):
    allowed = tmp / "allowed"
    (allowed / "in").mkdir(parents=True)
    (tmp / "allowed2").mkdir()
    (allowed / "out").symlink_to("/etc")
    source = {"kind": BIND, "mode": DOWNLOAD}
    roots = {"bind_roots": [str(allowed)]}
    assert prepare({**source, "path": str(allowed / "in")}, **roots)["failure"] == "DataOk"
    for path, failure in (
        ("/etc", "DataPolicy"),
        (str(tmp / "allowed2"), "DataPolicy"),
        (str(allowed / "out"), "DataPolicy"),
        (str(allowed / "out/passwd"), "DataPolicy"),
        (str(allowed / "none"), "DataNotFound"),
        (str(allowed) + "/../allowed2", "DataFailed"),
    ):
        said = prepare({**source, "path": path}, **roots)
        assert said["failure"] == failure, (path, said)
    said = prepare({**source, "path": str(allowed / "in"), "max_bytes": 1}, **roots)
    assert said["failure"] == "DataOk"


def test_private_copies(tmp, server, prepare):
    """A copy that the job may change lasts as long as its lease; what it was made of stays as it is."""
    source = {
        "kind": HTTP,
        "mode": DOWNLOAD,
        "writable": True,
        "files": [{"url": server.add("/a", b"a")}],
    }
    process = prepare(source, start_only=True)
    ready = one(json.loads(process.stdout.readline()))
    copy = tmp / "state" / ready["kept"]
    assert ready["kept"].startswith("datasets/private/")
    assert (copy / "a").stat().st_mode & 0o777 == 0o644 and (copy / "a").stat().st_nlink == 1
    (copy / "a").write_text("changed")
    other = one(prepare(source))  # its sweep leaves what is leased
    assert other["kept"] != ready["kept"] and (copy / "a").read_text() == "changed"
    process.communicate()
    one(prepare({**source, "writable": False}))
    assert list((tmp / "state/datasets/private").iterdir()) == []


def test_fsimage_file(tmp, server, prepare):
    source = {
        "kind": FSIMAGE,
        "files": [{"url": server.add("/x.sqfs", DATA), "sha256": digest(DATA)}],
    }
    ready = one(prepare(source))
    assert ready["is_file"] and ready["digest"] == digest(DATA)
    assert (tmp / "state" / ready["kept"]).read_bytes() == DATA
    server.forget()
    assert one(prepare(source))["reused"] and server.log == []


def test_full_disk_evicts_trees(tmp, server, prepare):
    """Folders that nobody uses keep downloads on the disk: they go for what is asked for."""
    state = tmp / "state"
    state.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", state], check=True)
    holder = None
    try:
        chunks = [random.Random(i).randbytes(3_000_000) for i in range(4)]
        sources = [
            {"kind": HTTP, "files": [{"url": server.add(f"/{i}", c), "sha256": digest(c)}]}
            for i, c in enumerate(chunks)
        ]
        first = one(prepare(sources[0]))
        one(prepare(sources[1]))
        holder = prepare(sources[0], start_only=True)
        assert one(json.loads(holder.stdout.readline()))["reused"]
        one(prepare(sources[2]))
        assert (state / first["kept"]).exists()  # in use
        assert len(list((state / "datasets/trees").iterdir())) == 2
        said = prepare(sources[1], sources[3])
        assert said["failure"] == "DataNoSpace" and "needs " in said["text"], said
    finally:
        if holder:
            holder.communicate()
        subprocess.run(["umount", state], check=True)


def test_limits_of_the_cache(tmp, server, prepare):
    """Over the limit the least recently used folders go, and then their downloads."""
    chunks = [random.Random(i).randbytes(1_000_000) for i in range(5)]
    sources = [
        {"kind": HTTP, "files": [{"url": server.add(f"/{i}", c), "sha256": digest(c)}]}
        for i, c in enumerate(chunks)
    ]
    limits = {"high_bytes": 3_500_000, "low_bytes": 2_500_000}
    kept = [one(prepare(source, **limits))["kept"] for source in sources[:4]]
    assert all((tmp / "state" / k).exists() for k in kept)
    one(prepare(sources[4], **limits))
    assert [(tmp / "state" / k).exists() for k in kept] == [False, False, True, True]
    objects = [p for p in (tmp / "state/datasets/objects").rglob("*") if p.is_file()]
    assert len(objects) == 3
    assert one(prepare(sources[0], **limits))["fetched"] == len(chunks[0])


def push_artifact(layout, files):
    """As ORAS writes them."""

    def describe(data, media_type, **more):
        blob, size = layout.blob(data)
        return {"mediaType": media_type, "digest": blob, "size": size, **more}

    layers = [
        describe(
            data, "application/octet-stream", annotations={"org.opencontainers.image.title": name}
        )
        for name, data in files.items()
    ]
    media_type = "application/vnd.oci.image.manifest.v1+json"
    manifest = {
        "schemaVersion": 2,
        "mediaType": media_type,
        "artifactType": "application/vnd.example.data",
        "config": describe(b"{}", "application/vnd.oci.empty.v1+json"),
        "layers": layers,
    }
    described = layout.tag(describe(manifest, media_type))
    return described["digest"]


def test_artifact(tmp, layout, scripted, prepare):
    """Blobs by their titles; the second time by digest with nobody asked; what was cut off is resumed."""
    files = {"model/weights.bin": DATA, "config.json": b"{}\n"}
    manifest = push_artifact(layout, files)
    source = {"kind": OCI, "reference": scripted.reference()}
    ready = one(prepare(source))
    assert files_of(tmp / "state" / ready["kept"]) == files and not ready["is_file"]
    assert ready["fetched"] == ready["bytes"] == len(DATA) + 3
    assert all(
        p.stat().st_mode & 0o777 == 0o444 for p in (tmp / "state" / ready["kept"]).rglob("*.*")
    )
    scripted.forget()
    again = one(prepare(source))
    assert again["reused"] and again["digest"] == ready["digest"] and scripted.blob_bytes() == 0
    scripted.stop()
    pinned = {"kind": OCI, "reference": f"{scripted.address}/image@{manifest}"}
    assert one(prepare(pinned))["digest"] == ready["digest"]
    nothing_half_made(tmp / "state")
    assert list((tmp / "state/parts").iterdir()) == []


def test_bad_artifacts(tmp, layout, scripted, prepare):
    source = {"kind": OCI, "reference": scripted.reference()}
    push_artifact(layout, {"../out": b"x"})
    said = prepare(source)
    assert said["failure"] == "DataFailed" and 'the title "../out" is no name' in said["text"]
    push_artifact(layout, {"a": DATA})
    assert prepare({**source, "max_bytes": 10})["failure"] == "DataTooLarge"
    scripted.rules.append(lambda e: registries.Answer(200, bytes(len(DATA))) if e.is_blob else None)
    said = prepare(source)
    assert said["failure"] == "DataChecksum" and "has other bytes" in said["text"], said
    said = prepare({"kind": OCI, "reference": scripted.reference("none", "none")})
    assert said["failure"] == "DataNotFound"
    nothing_half_made(tmp / "state")


def test_image(tmp, layout, small_image, scripted, prepare):
    """An image is pulled, and named by its digest for whoever mounts it."""
    source = {"kind": OCI, "reference": scripted.reference()}
    ready = one(prepare(source))
    assert ready["kept"] == f"{scripted.address}/image@{ready['digest']}" and not ready["reused"]
    assert len(list((tmp / "state/layers/sha256").iterdir())) == 1
    assert one(prepare(source))["reused"]
    scripted.stop()
    assert one(prepare({**source, "cache": PINNED}))["reused"]
    assert one(prepare({"kind": OCI, "reference": ready["kept"]}))["reused"]


def test_an_image_is_shown(tmp, layout, small_image, scripted, prepare):
    """Its merged tree, read-only, as long as it is attached; nothing stays mounted."""
    source = {"kind": OCI, "reference": scripted.reference()}
    process = prepare(source, start_only=True, attach=str(tmp / "inputs"))
    said = json.loads(process.stdout.readline())
    shown = tmp / "inputs/input0"
    assert said["path"] == str(shown), said
    assert (shown / "etc/hostname").read_text() == "stoker\n"
    with pytest.raises(OSError, match="Read-only"):
        (shown / "new").touch()
    process.communicate(timeout=10)
    assert process.returncode == 0 and not shown.is_mount()
    assert str(tmp) not in pathlib.Path("/proc/self/mounts").read_text()


def test_a_file_is_leased_with_its_folder(tmp, server, prepare):
    """What holds a single file holds the tree that it lies in."""
    process = prepare({"kind": INLINE, "content": "a"}, start_only=True, attach=str(tmp / "inputs"))
    said = json.loads(process.stdout.readline())
    data = random.Random(1).randbytes(100_000)
    for i in range(2):
        other = {"kind": HTTP, "files": [{"url": server.add(f"/{i}", data[i:])}]}
        one(prepare(other, high_bytes=1, low_bytes=1))
    assert pathlib.Path(said["path"]).read_text() == "a"
    process.communicate(timeout=10)
