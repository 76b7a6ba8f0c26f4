# SPDX-License-Identifier: Apache-2.0
"""Inputs that are mounted: FUSE helpers (rclone and s3fs as Debian has them, and one of our own that is
handed /dev/fuse), file-system images, NFS and CIFS. Helpers are killed and frozen while a job reads."""

import contextlib
import hashlib
import http.server
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time

import node
import pytest
import s3stub
from test_run import (  # noqa: F401
    _busybox,
    busybox,
    record,
    run_directory,
    runs,
    wait_for,
    write_job,
)

HELPER = pathlib.Path(__file__).parent / "fuse_helper.py"
KEYS = {"AWSACCESSKEYID": "AKIATEST", "AWSSECRETACCESSKEY": "${{secrets.key}}"}


def job(tmp, busybox, script, *inputs, **keys):  # noqa: F811
    return write_job(tmp / "job", busybox, script, inputs=list(inputs), **keys)


def helpers(stoker, program):
    """Processes of that name whose home is this node's."""
    found = []
    for entry in pathlib.Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            words = (entry / "cmdline").read_bytes() if entry.name.isdigit() else b""
            if (
                program.encode() in words
                and str(stoker.folder).encode() in (entry / "environ").read_bytes()
            ):
                found.append(int(entry.name))
    return found


def nothing_stays(stoker):
    assert node.mounts_below(stoker.folder) == []
    assert helpers(stoker, "rclone") == helpers(stoker, "s3fs") == []
    assert list((stoker.state / "datasets/private").iterdir()) == []


def said(stoker):
    return (run_directory(stoker) / "system_logs/inputs.log").read_text()


@contextlib.contextmanager
def server(program, folder, *options):
    """rclone as a server of a folder; yields its address."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    process = subprocess.Popen(
        ["rclone", "serve", program, "--config=", f"--addr=127.0.0.1:{port}", *options, folder],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )

    def answers():
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return True

    try:
        wait_for(answers, f"rclone serve {program}")
        yield f"127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def rclone(kind, address, mode="ro_mount", remote="data:", **keys):
    variables = {
        "http": {"RCLONE_CONFIG_DATA_URL": f"http://{address}"},
        "webdav": {
            "RCLONE_CONFIG_DATA_URL": f"http://{address}",
            "RCLONE_CONFIG_DATA_VENDOR": "other",
        },
        "sftp": {
            "RCLONE_CONFIG_DATA_HOST": "127.0.0.1",
            "RCLONE_CONFIG_DATA_PORT": address.split(":")[-1],
            "RCLONE_CONFIG_DATA_USER": "ada",
            "RCLONE_CONFIG_DATA_PASS": keys.pop("password", ""),
        },
    }[kind]
    return {
        "name": "d",
        "kind": "fuse",
        "profile": "rclone",
        "remote": remote,
        "mode": mode,
        "variables": {"RCLONE_CONFIG_DATA_TYPE": kind, **variables},
        **keys,
    }


PROFILES = ["rclone", "s3fs", "mount-s3", "blobfuse2"]


@pytest.fixture(autouse=True)
def _profiles(stoker):
    """Programs that mount are for nodes that say so."""
    stoker.configure(data={"profiles": PROFILES})


@pytest.fixture
def data(tmp):
    folder = tmp / "data"
    (folder / "sub").mkdir(parents=True)
    (folder / "a.txt").write_text("hello\n")
    (folder / "sub/b.bin").write_bytes(os.urandom(300_000))
    return folder


@pytest.fixture
def own():
    """A helper of our own, where nobody can read it; own(...) is an input."""
    with tempfile.TemporaryDirectory(prefix="stoker-helper-") as name:
        folder = pathlib.Path(name)
        folder.chmod(0o777)
        shutil.copy(HELPER, folder / "mount-s3")
        (folder / "mount-s3").chmod(0o755)

        def make(*options, **keys):
            return {
                "name": "d",
                "kind": "fuse",
                "profile": "custom",
                "command": [str(folder / "mount-s3"), *options, "/dev/fd/{fd}"],
                **keys,
            }

        make.folder = folder
        yield make


LOOK = (
    "ls -R /stoker/inputs/d; cat /stoker/inputs/d/a.txt; sha256sum < /stoker/inputs/d/sub/b.bin\n"
)
WRITE = "touch /stoker/inputs/d/new 2>&1\n"


@pytest.mark.parametrize("kind", ["http", "webdav", "sftp"])
def test_rclone_read_only(stoker, busybox, tmp, data, kind):  # noqa: F811
    """Mounted for real; the job reads, cannot write, and nothing is left."""
    options = []
    password = "secret-of-ada"
    if kind == "sftp":
        options = ["--user=ada", f"--pass={password}"]
        hidden = subprocess.run(
            ["rclone", "obscure", password], capture_output=True, text=True, check=True
        ).stdout.strip()
    (tmp / "job").mkdir()
    (tmp / "job/pass").write_text(f"{hidden if kind == 'sftp' else 'unused'}\n")
    with server(kind, data, *options) as address:
        source = rclone(kind, address, password="${{secrets.pass}}")
        path = job(tmp, busybox, LOOK + WRITE, source, secrets={"pass": {"file": "pass"}})
        result = stoker("run", path, check=False)
    digest = hashlib.sha256((data / "sub/b.bin").read_bytes()).hexdigest()
    assert "hello\n" in result.stdout and digest in result.stdout, result
    assert "Read-only file system" in result.stdout and result.returncode == 1
    assert not (data / "new").exists() and not record(stoker).get("warnings")
    nothing_stays(stoker)


def test_rclone_written_is_uploaded(stoker, busybox, tmp, data):  # noqa: F811
    """rw_mount: the job has ended only when the server has it all."""
    script = """
echo one > /stoker/inputs/d/new
dd if=/dev/zero of=/stoker/inputs/d/sub/large bs=65536 count=40 2>/dev/null
"""
    with server("webdav", data) as address:
        source = rclone("webdav", address, mode="rw_mount", options={"vfs-write-back": "1s"})
        stoker("run", job(tmp, busybox, script, source))
        assert (data / "new").read_text() == "one\n"
        assert (data / "sub/large").read_bytes() == bytes(65536 * 40)
    nothing_stays(stoker)


class Refusing(http.server.BaseHTTPRequestHandler):
    """WebDAV with an empty folder that takes no file."""

    def do_PROPFIND(self):
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        root = self.path.rstrip("/") == ""
        body = b"""<?xml version="1.0"?><D:multistatus xmlns:D="DAV:"><D:response><D:href>/</D:href>
<D:propstat><D:prop><D:resourcetype><D:collection/></D:resourcetype></D:prop>
<D:status>HTTP/1.1 200 OK</D:status></D:propstat></D:response></D:multistatus>"""
        self.send_response(207 if root else 404)
        self.send_header("Content-Length", str(len(body) if root else 0))
        self.end_headers()
        self.wfile.write(body if root else b"")

    def do_PUT(self):
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.send_response(507)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_MKCOL = do_DELETE = do_MOVE = do_PUT

    def log_message(self, *_):
        pass


def test_what_is_not_uploaded_fails_the_job(stoker, busybox, tmp):  # noqa: F811
    dav = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Refusing)
    threading.Thread(target=dav.serve_forever, daemon=True).start()
    stoker.configure(data={"profiles": PROFILES, "flush_seconds": 3})
    source = rclone("webdav", f"127.0.0.1:{dav.server_port}", mode="rw_mount")
    try:
        path = job(tmp, busybox, "echo one > /stoker/inputs/d/new\n", source)
        result = stoker("run", path, check=False)
    finally:
        dav.shutdown()
        dav.server_close()
    assert result.returncode == 1
    assert "input d: 1 files that the job wrote were not uploaded in time" in result.stderr
    assert record(stoker)["state"] == "Failed"
    assert record(stoker)["cause"]["code"] == "DataTimeout"
    nothing_stays(stoker)


def test_rclone_download(stoker, busybox, tmp, data):  # noqa: F811
    """Copied before the script starts; the server is gone by then."""
    with server("http", data) as address:
        script = LOOK + "echo x >> /stoker/inputs/d/a.txt; cat /stoker/inputs/d/a.txt\n"
        source = rclone("http", address, mode="download", writable=True)
        result = stoker("run", job(tmp, busybox, script, source))
    digest = hashlib.sha256((data / "sub/b.bin").read_bytes()).hexdigest()
    assert digest in result.stdout and result.stdout.endswith("hello\nx\n")
    assert (data / "a.txt").read_text() == "hello\n"
    with server("http", data) as address:
        source = rclone("http", address, mode="download", max_bytes=1000)
        path = job(tmp, busybox, "echo no\n", source)
        stoker.fails("run", path, needles=["input d", "limit"])
    stoker("images")
    assert helpers(stoker, "rclone") == [] and node.mounts_below(stoker.folder) == []


def test_s3fs(stoker, busybox, tmp):  # noqa: F811
    """Read, written, signed with the job's key, and errors that say what S3 said."""
    s3 = s3stub.S3Stub()
    s3.objects.update({"set/a.txt": b"from s3\n", "set/b": b"x" * 100_000, "other": b"no"})
    options = {"url": s3.url, "use_path_request_style": True, "retries": 1}
    source = {"name": "d", "kind": "fuse", "profile": "s3fs", "remote": "data/set",
              "variables": KEYS, "options": options}  # fmt: skip
    (tmp / "job").mkdir()
    (tmp / "job/key").write_text("a-very-secret-key\n")
    secrets = {"key": {"file": "key"}}
    try:
        script = "ls /stoker/inputs/d; cat /stoker/inputs/d/a.txt; wc -c < /stoker/inputs/d/b\n"
        result = stoker("run", job(tmp, busybox, script, source, secrets=secrets))
        assert result.stdout == "a.txt\nb\nfrom s3\n100000\n"
        script = "echo new > /stoker/inputs/d/new\n"
        stoker("run", job(tmp, busybox, script, {**source, "mode": "rw_mount"}, secrets=secrets))
        assert s3.objects["set/new"] == b"new\n"
        missing = {**source, "remote": "nosuch"}
        path = job(tmp, busybox, "echo no\n", missing, secrets=secrets)
        stoker.fails("run", path, needles=["input d", "s3fs exited", "before anything was mounted"])
        s3.key = "another"
        path = job(tmp, busybox, "echo no\n", source, secrets=secrets)
        stoker.fails("run", path, needles=["input d", "s3fs exited"])
    finally:
        s3.stop()
    for run in runs(stoker):
        for path in run.rglob("*"):
            if path.is_file() and not path.is_symlink():
                assert b"a-very-secret-key" not in path.read_bytes(), path
    nothing_stays(stoker)


def test_helper_without_rights(stoker, busybox, tmp, own):  # noqa: F811
    """mount-s3's way (a stand-in of that name): we mount, the helper has /dev/fuse and nothing else."""
    report = own.folder / "report"
    stoker.configure(data={"profiles": ["custom"]})
    source = own(f"--report={report}")
    script = "cat /stoker/inputs/d/hello; ls -l /stoker/inputs/d\n"
    result = stoker("run", job(tmp, busybox, script + WRITE, source), check=False)
    assert result.stdout.startswith("hello from the helper\n")
    assert "Read-only file system" in result.stdout
    helper = json.loads(report.read_text())
    status = helper["status"]
    assert status["Uid"].split() == ["65534"] * 4 and status["Gid"].split() == ["65534"] * 4
    assert int(status["CapEff"], 16) == int(status["CapBnd"], 16) == 0
    assert status["NoNewPrivs"] == "1" and not status["Groups"].split()
    assert set(helper["fds"]) <= {0, 1, 2, 3, 4, 5}  # the last are the list and the report
    assert set(helper["environ"]) <= {"PATH", "HOME", "TMPDIR", "LC_ALL"}
    assert "the helper has begun" in said(stoker)
    # The profile of that name, from PATH.
    stoker.configure(data={"profiles": PROFILES})
    stoker.environment["PATH"] = f"{own.folder}:{stoker.environment['PATH']}"
    source = {"name": "d", "kind": "fuse", "profile": "mount-s3", "remote": "bucket/p",
              "options": {"region": "x", "force-path-style": True}}  # fmt: skip
    result = stoker("run", job(tmp, busybox, "cat /stoker/inputs/d/hello\n", source))
    assert result.stdout == "hello from the helper\n"
    nothing_stays(stoker)


def test_helper_fails(stoker, busybox, tmp, own):  # noqa: F811
    stoker.configure(data={"profiles": ["custom"]})
    path = job(tmp, busybox, "echo no\n", own("--die=no such bucket, it said"))
    needles = ["input d", "exited with status 3", "no such bucket, it said"]
    stoker.fails("run", path, needles=needles)
    assert record(stoker)["cause"]["code"] == "DataHelperDied"
    assert record(stoker)["cause"]["class"] == "infrastructure"
    assert "no such bucket, it said" in said(stoker)
    nothing_stays(stoker)


READ_SLOW = """
echo reading
dd if=/stoker/inputs/d/slow of=/dev/null bs=100 2>/dev/null
echo "status $?"
cat /stoker/inputs/d/hello || echo gone
"""


def is_running(stoker):
    for path in stoker.state.glob("runs/run_*/1/run.json"):
        return json.loads(path.read_text())["state"] == "Running"
    return False


def reading(stoker, path):
    process = stoker.popen("run", path)
    assert process.stdout.readline() == "reading\n"
    time.sleep(0.2)  # the kernel has its request
    return process


@pytest.mark.parametrize("how", ["killed", "frozen"])
def test_helper_goes_while_the_job_reads(stoker, busybox, tmp, own, how):  # noqa: F811
    """The reader has an error at once, or when two looks had no answer; the job goes on by itself."""
    stoker.configure(data={"profiles": ["custom"], "probe_seconds": 1})
    with reading(stoker, job(tmp, busybox, READ_SLOW, own())) as process:
        (pid,) = helpers(stoker, "/dev/fd/3")
        os.kill(pid, signal.SIGKILL if how == "killed" else signal.SIGSTOP)
        start = time.monotonic()
        out, err = process.communicate(timeout=20)
        seconds = time.monotonic() - start
    assert "status 1" in out and "gone" in out, (out, err)
    assert seconds < (3 if how == "killed" else 8)
    (warning,) = record(stoker)["warnings"]
    assert "input d" in warning
    assert ("killed by signal 9" if how == "killed" else "did not answer") in warning
    nothing_stays(stoker)


def test_frozen_helper_and_a_job_that_is_stopped(stoker, busybox, tmp, own):  # noqa: F811
    """The job's end waits no longer than its reads."""
    stoker.configure(data={"profiles": ["custom"], "probe_seconds": 2})
    with reading(stoker, job(tmp, busybox, READ_SLOW, own())) as process:
        (pid,) = helpers(stoker, "/dev/fd/3")
        os.kill(pid, signal.SIGSTOP)
        start = time.monotonic()
        stoker("kill", runs(stoker)[0].name)
        process.communicate(timeout=20)
        assert time.monotonic() - start < 10
    nothing_stays(stoker)


# sendfile(2) holds the lock of the job's output as long as it waits for the file.
READ_LOCKED = "cat /stoker/inputs/d/slow\necho status $?\n"


def test_frozen_helper_and_a_supervisor_that_waits(stoker, busybox, tmp, own):  # noqa: F811
    stoker.configure(data={"profiles": ["custom"], "probe_seconds": 1})
    with stoker.popen("run", job(tmp, busybox, READ_LOCKED, own())) as process:
        wait_for(lambda: is_running(stoker), "the script")
        time.sleep(0.5)
        (pid,) = helpers(stoker, "/dev/fd/3")
        os.kill(pid, signal.SIGSTOP)
        out, err = process.communicate(timeout=15)
    assert "status 1" in out, (out, err)
    nothing_stays(stoker)


@pytest.mark.parametrize("command", [["kill"], ["stop", "--time", "1"]], ids=["kill", "stop"])
def test_slow_helper_and_a_job_that_is_stopped(stoker, busybox, tmp, own, command):  # noqa: F811
    """A helper that answers looks and not its reader, who holds the lock of a pipe with bytes in it: the
    supervisor acts, the reader is let go of, and what was printed is in the log."""
    stoker.configure(data={"profiles": ["custom"]})
    script = "(while :; do echo x; done) & sleep 0.3; cat /stoker/inputs/d/slow\n"
    with stoker.popen("run", job(tmp, busybox, script, own())) as process:
        wait_for(lambda: is_running(stoker), "the script")
        time.sleep(1)
        start = time.monotonic()
        stoker(command[0], *command[1:], runs(stoker)[0].name, timeout=30)
        assert time.monotonic() - start < 20
        out, _ = process.communicate(timeout=20)
    assert out.startswith("x\nx\n")
    assert "input d: it held the job up" in record(stoker)["warnings"][0]
    assert record(stoker)["cause"]["code"] == "Canceled"
    nothing_stays(stoker)


@pytest.mark.parametrize("script", [READ_SLOW, READ_LOCKED], ids=["read", "locked"])
def test_killed_supervisor(stoker, busybox, tmp, own, script):  # noqa: F811
    """kill -9: the helper dies with it, and the next command takes away the mount."""
    stoker.configure(data={"profiles": ["custom"]})
    with stoker.popen("run", job(tmp, busybox, script, own())) as process:
        wait_for(lambda: is_running(stoker), "the script")
        time.sleep(0.5)
        supervisor = record(stoker)["supervisor"]["pid"]
        (pid,) = helpers(stoker, "/dev/fd/3")
        os.kill(supervisor, signal.SIGKILL)
        process.communicate(timeout=20)
        wait_for(lambda: node.processes().get(pid, (0, "Z"))[1] == "Z", "the helper's end")
    stoker.killed = True
    stoker("ps", "-a")
    assert node.mounts_below(stoker.folder) == []


@pytest.mark.parametrize("kind", ["squashfs", "erofs"])
def test_fsimage(stoker, busybox, tmp, data, kind):  # noqa: F811
    image = tmp / "image"
    program = {"squashfs": ["mksquashfs", data, image, "-quiet", "-no-progress"],
               "erofs": ["mkfs.erofs", "--quiet", image, data]}[kind]  # fmt: skip
    subprocess.run(program, check=True, capture_output=True)
    source = {"name": "d", "kind": "fsimage", "path": str(image)}
    path = job(tmp, busybox, LOOK + WRITE, source)
    stoker.fails("run", path, needles=["input d", "data.allow_fsimage"], status=1)
    stoker.configure(data={"allow_fsimage": True})
    result = stoker("run", path, check=False)
    digest = hashlib.sha256((data / "sub/b.bin").read_bytes()).hexdigest()
    assert "hello\n" in result.stdout and digest in result.stdout, result
    assert "Read-only file system" in result.stdout
    with image.open("r+b") as f:
        f.truncate(8192)
    stoker.fails("run", path, needles=["input d", "cut off"])
    image.write_bytes(b"no image" * 1000)
    stoker.fails("run", path, needles=["input d", "neither a squashfs nor an EROFS image"])
    nothing_stays_mounted(stoker)


def nothing_stays_mounted(stoker):
    assert node.mounts_below(stoker.folder) == []
    assert node.loop_devices_of(stoker.folder) == []


@pytest.mark.parametrize(
    ("source", "needles"),
    [
        ({"profile": "rclone", "remote": ":local:/etc"}, ["backend", "local"]),
        (
            {"profile": "rclone", "remote": ":sftp,host=h,ssh='sh -c id':x"},
            ["ssh", "programs or credentials"],
        ),
        (
            {"profile": "rclone", "remote": "a:", "variables": {"RCLONE_PASSWORD_COMMAND": "id"}},
            ["RCLONE_CONFIG_NAME_KEY"],
        ),
        (
            {"profile": "rclone", "remote": "a:", "options": {"config": "/root/x"}},
            ["option config"],
        ),
        ({"profile": "s3fs", "remote": "b", "options": {"passwd_file": "/x"}}, ["passwd_file"]),
        ({"profile": "s3fs", "remote": "b", "variables": {"LD_PRELOAD": "/x"}}, ["LD_PRELOAD"]),
        ({"profile": "custom", "command": ["x", "{fd}"]}, ["data.profiles"]),
    ],
)
def test_what_a_job_may_not_say(stoker, busybox, tmp, source, needles):  # noqa: F811
    path = job(tmp, busybox, "echo no\n", {"name": "d", "kind": "fuse", **source})
    stoker.fails("run", path, needles=["input d", *needles])


def test_programs_that_are_missing(stoker, busybox, tmp):  # noqa: F811
    source = {"name": "d", "kind": "fuse", "profile": "blobfuse2", "remote": "c"}
    path = job(tmp, busybox, "echo no\n", source)
    stoker.fails("run", path, needles=["input d", "blobfuse2 is not on this node"])
    assert record(stoker)["cause"]["code"] == "DataUnsupported"


@pytest.mark.parametrize(("kind", "type"), [("nfs", "nfs4"), ("cifs", "cifs")])
def test_network_file_systems_are_missing(stoker, busybox, tmp, kind, type):  # noqa: F811
    """This kernel has neither; test_data_network.py mounts them in the virtual machine."""
    if f"\t{type}\n" in pathlib.Path("/proc/filesystems").read_text():
        return  # nothing is missing
    remote = {"nfs": "127.0.0.1:/export", "cifs": "//127.0.0.1/share"}[kind]
    source = {"name": "d", "kind": kind, "remote": remote}
    path = job(tmp, busybox, "echo no\n", source)
    stoker.fails("run", path, needles=["input d", f"this kernel has no {type}", "module"])
    assert record(stoker)["cause"]["code"] == "DataUnsupported"
