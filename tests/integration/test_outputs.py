# SPDX-License-Identifier: Apache-2.0
"""The synchroniser of outputs, by drivers/outputs_driver.c and `stoker outputs`: runs are folders
made here, and what plays the job writes to them meanwhile."""

import contextlib
import ctypes
import hashlib
import json
import mmap
import os
import pathlib
import random
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import threading
import time

import attack
import node
import pytest

DRIVER = os.environ.get(
    "STOKER_OUTPUTS_DRIVER", str(pathlib.Path(node.BINARY).parent / "tests/outputs_driver")
)
TOPS = ("outputs", "logs", "user_logs")
CHUNK = 4 << 20
ID = "job_1764000000_0a1b2c3d"


class Sync:
    """A synchroniser under way; statuses are collected as they come."""

    def __init__(self, run, interval_ms, *limits):
        self.process = subprocess.Popen(
            [DRIVER, "sync", run.folder, ID, run.target, str(interval_ms), *map(str, limits)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, errors="replace",
        )  # fmt: skip
        self.pid = int(self.process.stdout.readline().split()[1])
        self.statuses = []
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        for line in self.process.stdout:
            state, files, size, left, sent, message = line.rstrip("\n").split(" ", 5)
            self.statuses.append(
                {"state": state, "files": int(files), "bytes": int(size), "left": int(left),
                 "sent": int(sent), "message": message}
            )  # fmt: skip

    def wait_for(self, condition, seconds=20):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for status in list(self.statuses):
                if condition(status):
                    return status
            time.sleep(0.01)
        raise AssertionError(f"never happened; statuses: {self.statuses[-3:]}")

    def settled(self):
        """A round has been done since now, and nothing is left."""
        seen = len(self.statuses)
        end = time.monotonic() + 20
        while time.monotonic() < end:
            if any(not s["left"] for s in self.statuses[seen + 1 :]):
                return
            time.sleep(0.01)
        raise AssertionError("no round")

    def finish(self):
        self.process.stdin.write("finish\n")
        self.process.stdin.flush()
        self.process.wait(60)
        self.reader.join()
        self.process.stdin.close()
        self.process.stdout.close()
        return self.statuses[-1]

    def kill(self):
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        self.process.wait(10)
        self.reader.join()
        self.process.stdin.close()
        self.process.stdout.close()
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, 0)  # an orphan: its end is waited for


class Run:
    def __init__(self, base):
        self.state, self.target = base / "state", base / "target"
        self.folder = self.state / "runs" / ID / "1"
        self.copy = self.target / ID
        for name in TOPS:
            (self.folder / name).mkdir(parents=True)
        self.target.mkdir(exist_ok=True)
        self.outputs = self.folder / "outputs"
        self.running = []

    def sync(self, interval_ms=100, *limits):
        self.running.append(Sync(self, interval_ms, *limits))
        return self.running[-1]

    def stoker(self, *args, weak=()):
        binary = attack.WEAK_BINARY if weak else node.BINARY
        return subprocess.run(
            [binary, "--state-dir", self.state, "--run-dir", self.state / "run", "outputs", *args],
            check=False, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=300,
            env={**os.environ, "STOKER_WEAKEN": ",".join(weak)},
        )  # fmt: skip

    def push(self):
        done = self.stoker("push", ID, "--to", self.target)
        assert done.returncode == 0, done.stderr
        return json.loads((self.folder / "upload.json").read_text())

    def manifest(self):
        return json.loads((self.copy / "manifest.json").read_text())

    def assert_equal(self):
        """Every byte, name and mode; and what the manifest says of them."""
        expected, found = {}, {}
        for root, tree in ((self.folder, expected), (self.copy, found)):
            for top in TOPS:
                tree.update(tree_of(root, os.fsencode(top)))
        assert expected == found
        listed = self.manifest()
        files = {e["path"]: e for e in listed["files"]}
        assert len(files) == sum(e[0] == "file" for e in found.values())
        for name, entry in found.items():
            if entry[0] == "file":
                said = files[escape(name)]
                assert (said["size"], said["sha256"], said["mode"]) == (
                    entry[2],
                    entry[3],
                    entry[1],
                )
        assert {e["path"] for e in listed["links"]} == {
            escape(n) for n, e in found.items() if e[0] == "link"
        }
        assert set(os.listdir(self.copy)) - {"attempts"} == {*TOPS, "manifest.json"}


def escape(name):
    try:
        return name.decode()
    except UnicodeDecodeError:
        out = []
        for c in name.decode(errors="surrogateescape"):
            out.append(
                "%25" if c == "%" else f"%{ord(c) - 0xDC00:02X}" if "\udc80" <= c <= "\udcff" else c
            )
        return "".join(out)


def tree_of(root, name):
    path = os.fsencode(root) + b"/" + name
    status = os.lstat(path)
    if os.path.islink(path):
        return {name: ("link", os.readlink(path))}
    if os.path.isdir(path):
        entries = {name: ("folder",)}
        for child in os.listdir(path):
            entries.update(tree_of(root, name + b"/" + child))
        return entries
    if not os.path.isfile(path):
        return {}
    with open(path, "rb") as f:
        digest = hashlib.file_digest(f, "sha256").hexdigest()
    return {
        name: (
            "file",
            f"{status.st_mode & 0o755 | 0o600:04o}",
            status.st_size,
            digest,
            status.st_mtime_ns,
        )
    }


@pytest.fixture
def run(tmp):
    made = Run(tmp)
    yield made
    for sync in made.running:
        if sync.process.poll() is None:
            sync.kill()


def test_everything_a_folder_can_hold(run):
    out = run.outputs
    (out / "empty").write_bytes(b"")
    (out / "exact").write_bytes(os.urandom(CHUNK))
    (out / "large").write_bytes(os.urandom(2 * CHUNK + 17))
    with open(out / "sparse", "wb") as f:
        f.write(b"a")
        f.truncate(64 << 20)
    (out / "program").write_bytes(b"#!/bin/sh\n")
    os.chmod(out / "program", 0o6755)
    os.chmod(out / "empty", 0o400)
    pathlib.Path(os.fsdecode(os.fsencode(out) + b"/n\xff\n%")).write_bytes(b"x")
    (out / ("long" * 63)).write_text("a name of 252 bytes")
    (out / "a/b/c").mkdir(parents=True)
    (out / "a/hollow").mkdir()
    (out / "a/b/c/d").write_text("deep")
    deep = out / "/".join(["d"] * 150)
    deep.mkdir(parents=True)
    (deep / "f").write_text("deeper")
    os.link(out / "large", out / "a/again")
    os.symlink("../large", out / "a/inside")
    os.symlink("nowhere", out / "dangling")
    left_out = ["fifo", "socket", "absolute", "up", "down-up", "null"]
    os.mkfifo(out / "fifo")
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(out / "socket"))
    os.symlink("/etc/passwd", out / "absolute")
    os.symlink("../logs", out / "up")
    os.symlink("a/../../logs", out / "down-up")
    os.mknod(out / "null", 0o666 | 0o020000, os.makedev(1, 3))
    (run.folder / "user_logs/std_log.txt").write_text("hello\n")

    status = run.push()
    listening.close()
    for name in left_out:
        (out / name).unlink()
    run.assert_equal()
    assert status["state"] == "Done" and run.manifest()["complete"] is True
    assert {e["path"] for e in status["skipped"]} == {f"outputs/{n}" for n in left_out}
    assert os.stat(run.copy / "outputs/program").st_mode & 0o7777 == 0o755
    assert os.stat(run.copy / "outputs/sparse").st_blocks < 1000, "holes were filled"
    shown = run.stoker("show", ID)
    assert "Done" in shown.stdout and "outputs/fifo: a FIFO" in shown.stdout
    assert json.loads(run.stoker("show", ID, "--json").stdout)["files"] == status["files"]
    # Nothing is left to do.
    assert run.push()["sent"] == 0


def test_only_what_changed_is_sent(run):
    log, model = run.folder / "logs/log", run.outputs / "model"
    log.write_bytes(os.urandom(5 * CHUNK + 1000))
    model.write_bytes(os.urandom(6 * CHUNK))
    first = run.push()
    assert first["sent"] == 11 * CHUNK + 1000

    inode = os.stat(run.copy / "logs/log").st_ino
    with open(log, "ab") as f:
        f.write(b"x" * 5000)
    assert run.push()["sent"] == 5000
    assert os.stat(run.copy / "logs/log").st_ino == inode, "a log is appended to in place"
    run.assert_equal()

    inode = os.stat(run.copy / "outputs/model").st_ino
    with open(model, "r+b") as f:
        f.seek(3 * CHUNK + 5)
        f.write(b"changed")
    assert run.push()["sent"] == CHUNK
    assert os.stat(run.copy / "outputs/model").st_ino != inode, "a file is replaced as a whole"
    run.assert_equal()

    # Names are exchanged, and moved into a folder that is new.
    (run.outputs / "new").mkdir()
    os.rename(model, run.outputs / "new/model")
    os.rename(log, model)
    os.rename(run.outputs / "new/model", log)
    (run.outputs / "other").write_bytes(b"1234")
    os.rename(run.folder / "user_logs", run.outputs / "new/logs")
    (run.folder / "user_logs").mkdir()
    assert run.push()["sent"] == 4
    run.assert_equal()

    os.truncate(log, CHUNK + 7)
    shutil.rmtree(run.outputs / "new")
    (run.outputs / "new").write_text("a file now")
    (run.outputs / "other").unlink()
    (run.outputs / "other").mkdir()
    os.symlink("../new", run.outputs / "other/link")
    assert run.push()["sent"] == len("a file now") + 7, "and the end of what was cut off"
    run.assert_equal()

    # What somebody does to the copy is found out and made good, and nothing else is sent.
    (run.copy / "outputs/new").write_text("tampered")
    (run.copy / "outputs/stray").mkdir()
    (run.copy / "outputs/stray/file").write_text("not ours")
    assert run.push()["sent"] == len("a file now")
    run.assert_equal()


# What TensorBoard reads: length, its masked CRC, the record, its masked CRC.
def crc32c(data, table=[]):  # noqa: B006 (made once)
    if not table:
        for i in range(256):
            for _ in range(8):
                i = i >> 1 ^ 0x82F63B78 if i & 1 else i >> 1
            table.append(i)
    crc = 0xFFFFFFFF
    for byte in data:
        crc = table[(crc ^ byte) & 255] ^ crc >> 8
    return crc ^ 0xFFFFFFFF


def masked(data):
    crc = crc32c(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def event(data):
    length = struct.pack("<Q", len(data))
    return length + masked(length) + data + masked(data)


def events_in(data):
    """How many whole records; what is behind the last must be the beginning of one."""
    count = at = 0
    while len(data) - at >= 12:
        header = data[at : at + 8]
        assert data[at + 8 : at + 12] == masked(header), f"torn record {count}"
        size = struct.unpack("<Q", header)[0]
        if len(data) - at < 16 + size:
            break
        record = data[at + 12 : at + 12 + size]
        assert data[at + 12 + size : at + 16 + size] == masked(record)
        count, at = count + 1, at + 16 + size
    return count


def play_job(run, stop, seed=1):
    """Logs that grow, checkpoints that are renamed into place, files that come and go, rotation."""
    r = random.Random(seed)
    step = 0
    with open(run.folder / "logs/events.out.tfevents.1", "ab", buffering=0) as events:
        log = open(run.folder / "user_logs/std_log.txt", "ab", buffering=0)
        while not stop.is_set():
            step += 1
            events.write(event(b"step %d " % step + r.randbytes(r.randrange(300))))
            log.write(b"line %d\n" % step)
            if step % 7 == 0:
                (run.outputs / "checkpoint.tmp").write_bytes(
                    r.randbytes(r.randrange(3 * CHUNK // 2))
                )
                os.rename(run.outputs / "checkpoint.tmp", run.outputs / "checkpoint")
            folder = run.outputs / f"d{r.randrange(4)}"
            folder.mkdir(exist_ok=True)
            path = folder / f"f{r.randrange(8)}"
            path.write_bytes(r.randbytes(r.randrange(5000)))
            if step % 5 == 0:
                with contextlib.suppress(FileNotFoundError):
                    os.rename(folder / "f0", run.outputs / f"moved{r.randrange(3)}")
            if step % 11 == 0:
                shutil.rmtree(folder)
            if step % 13 == 0:
                log.close()
                os.replace(run.folder / "user_logs/std_log.txt", run.folder / "user_logs/std_log.1")
                log = open(run.folder / "user_logs/std_log.txt", "ab", buffering=0)
            time.sleep(0.004)
        log.close()


@contextlib.contextmanager
def job(run, seed=1):
    stop = threading.Event()
    thread = threading.Thread(target=play_job, args=(run, stop, seed))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def test_while_a_job_writes(run):
    read = []
    sync = run.sync(100)
    with job(run):
        end = time.monotonic() + 3
        while time.monotonic() < end:
            copied = run.copy / "logs/events.out.tfevents.1"
            read.append(events_in(copied.read_bytes()) if copied.exists() else 0)
            assert not (run.copy / "manifest.json").exists(), "the mark of the end"
            time.sleep(0.1)
    status = sync.finish()
    assert status["state"] == "Done", status
    assert read == sorted(read) and len(set(read)) > 3, f"the copy did not follow: {read}"
    run.assert_equal()


def test_a_closed_file_does_not_wait_for_the_interval(run):
    sync = run.sync(3600 * 1000)
    sync.wait_for(lambda s: s["state"] == "Running")
    (run.outputs / "model").write_bytes(b"weights")
    end = time.monotonic() + 10
    while not (run.copy / "outputs/model").exists():
        assert time.monotonic() < end
        time.sleep(0.02)
    assert sync.finish()["state"] == "Done"
    run.assert_equal()


def test_killed_at_random(run, pytestconfig):
    """kill -9 while everything goes on; the last one, and the push after it, find all of it again."""
    r = random.Random(7)
    rounds = pytestconfig.getoption("campaign")
    with job(run, 2):
        for i in range(rounds):
            if i % 4 == 3:
                (run.outputs / "big").write_bytes(os.urandom(3 * CHUNK + i))
            sync = run.sync(20)
            time.sleep(r.random() * 0.4)
            sync.kill()
            assert not (run.copy / "manifest.json").exists()
            assert outputs_state(run) in ("Failed", None)
    assert run.push()["state"] == "Done"
    run.assert_equal()


def outputs_state(run):
    shown = run.stoker("show", ID, "--json")
    return json.loads(shown.stdout)["state"] if shown.returncode == 0 else None


@pytest.mark.parametrize("grown", [False, True])
def test_a_kill_costs_a_chunk(run, grown):
    size = 30 * CHUNK
    if grown:
        (run.outputs / "big").write_bytes(b"begun")
        run.push()
    with open(run.outputs / "big", "ab") as f:
        for _ in range(30):
            f.write(os.urandom(CHUNK))
    sync = run.sync(20)
    there = run.copy / ("outputs/big" if grown else ".partial")

    def written():
        with contextlib.suppress(OSError):
            return there.stat().st_size if grown else sum(p.stat().st_size for p in there.iterdir())
        return 0

    while written() < 5 * CHUNK and sync.process.poll() is None:
        time.sleep(0.002)
    os.kill(sync.pid, signal.SIGSTOP)
    before = written()
    sync.kill()
    assert 5 * CHUNK <= before < size, "killed too late to tell"
    status = run.push()
    assert status["sent"] <= size - before + 2 * CHUNK, "what had been copied was copied again"
    run.assert_equal()


def test_a_torn_copy_is_not_believed(run):
    """As after a power cut: the journal is of an earlier start of the machine, the data never came."""
    (run.outputs / "a").write_bytes(os.urandom(2 * CHUNK))
    (run.outputs / "b").write_bytes(b"b" * 1000)
    run.push()
    journal = run.folder / "upload.journal"
    for damage in (lambda d: d, lambda d: d[: len(d) - 20], lambda d: d[:100], lambda d: b""):
        for name in ("a", "b"):
            copy = run.copy / "outputs" / name
            status = os.stat(copy)
            with open(copy, "r+b") as f:
                f.write(bytes(500))
            os.utime(copy, ns=(status.st_atime_ns, status.st_mtime_ns))
        data = bytearray(damage(journal.read_bytes()))
        if len(data) > 100:
            forge_boot_id(data)
        journal.write_bytes(data)
        assert run.push()["sent"] == CHUNK + 1000
        run.assert_equal()


def forge_boot_id(data):
    import zlib

    data[8:44] = b"0" * 36
    data[4:8] = struct.pack("<I", zlib.crc32(data[8:104]))


def test_mapped_writes_are_not_missed(run):
    """Through a mapping, with times that do not change: the last round looks again."""
    path = run.outputs / "mapped"
    path.write_bytes(bytes(2 * CHUNK))
    with open(path, "r+b") as f, mmap.mmap(f.fileno(), 0) as m:
        m[100] = 1
        sync = run.sync(50)
        sync.wait_for(lambda s: s["sent"] > 0 and not s["left"])
        before = os.stat(path).st_mtime_ns
        m[100] = 2
        m[CHUNK + 100] = 3
        if os.stat(path).st_mtime_ns != before:
            os.utime(path, ns=(before, before))
    assert sync.finish()["state"] == "Done"
    run.assert_equal()


@pytest.mark.parametrize("weak", [(), ("outputs-beneath",)], ids=["held", "weak"])
def test_nothing_from_outside_gets_in(run, tmp, weak):
    """A job that exchanges a folder with a link to a place outside, as fast as it can."""
    secret = tmp / "secret"
    secret.mkdir()
    (secret / "f").write_text("TOP SECRET")
    (run.outputs / "real").mkdir()
    (run.outputs / "real/f").write_text("harmless")
    os.symlink(secret, run.outputs / "link")
    mount("-t", "tmpfs", "tmpfs", run.target)  # quick: each round is made durable
    libc = ctypes.CDLL(None)
    a, b = os.fsencode(run.outputs / "real"), os.fsencode(run.outputs / "link")
    stop = threading.Event()

    def swap():
        while not stop.is_set():
            libc.renameat2(-100, a, -100, b, 2)

    def leaked():
        files = [p for p in run.copy.rglob("*") if p.is_symlink() or p.is_file()]
        return any(p.is_symlink() or "SECRET" in p.read_text() for p in files)

    thread = threading.Thread(target=swap)
    thread.start()
    end, found = time.monotonic() + (60 if weak else 1.5), False
    try:
        while time.monotonic() < end and not found:
            run.stoker("push", ID, "--to", run.target, weak=weak)
            found = leaked()
    finally:
        stop.set()
        thread.join()
    assert found == bool(weak)


def resident(path):
    """Bytes of a file that are in memory, by mincore(2)."""
    with open(path, "r+b") as f, mmap.mmap(f.fileno(), 0) as m:
        pages = (ctypes.c_ubyte * (len(m) // mmap.PAGESIZE))()
        at = ctypes.addressof(first := ctypes.c_char.from_buffer(m))
        failed = ctypes.CDLL(None).mincore(ctypes.c_void_p(at), ctypes.c_size_t(len(m)), pages)
        del first
        assert not failed
    return sum(page & 1 for page in pages) * mmap.PAGESIZE


@pytest.mark.parametrize("begun", [0, 100], ids=["new", "grown"])
def test_a_large_copy_does_not_fill_memory(run, begun):
    def write(mebibytes):
        with open(run.outputs / "large", "ab") as f:
            for _ in range(mebibytes):
                f.write(os.urandom(1 << 20))

    if begun:
        write(begun)
        run.push()
    write(300)
    run.push()
    assert resident(run.copy / "outputs/large") < (begun + 140) << 20
    run.assert_equal()


def test_the_last_look_at_a_large_file_spares_the_copy(run):
    """What was just written is read once more at the end; it is not compared with the copy."""
    with open(run.outputs / "large", "wb") as f:
        for _ in range(300):
            f.write(os.urandom(1 << 20))
    sync = run.sync(50)
    sync.wait_for(lambda s: s["files"] == 1 and not s["left"])
    assert sync.finish()["state"] == "Done"
    assert resident(run.copy / "outputs/large") < 140 << 20
    run.assert_equal()


def test_what_the_process_may(run):
    (run.outputs / "a").write_text("a")
    sync = run.sync(50)
    sync.wait_for(lambda s: s["files"] == 1)
    fields = dict(
        line.split(":\t", 1)
        for line in pathlib.Path(f"/proc/{sync.pid}/status").read_text().splitlines()
        if ":\t" in line
    )
    assert fields["NoNewPrivs"] == "1" and fields["Seccomp"] == "2"
    assert int(fields["CapEff"], 16) == int(fields["CapPrm"], 16) == 1 << 2, "CAP_DAC_READ_SEARCH"
    assert f"stoker: outputs {ID}" in pathlib.Path(f"/proc/{sync.pid}/cmdline").read_text().replace(
        "\0", " "
    )
    # One at a time.
    assert "being copied already" in run.stoker("push", ID, "--to", run.target).stderr
    assert sync.finish()["state"] == "Done"


def test_owners(run):
    """Files of shifted ids, closed to others, become the destination's owner's."""
    path = run.outputs / "private"
    path.write_text("mine")
    (run.outputs / "d").mkdir()
    os.chmod(path, 0o600)
    for p in (path, run.outputs / "d"):
        os.chown(p, 231072, 231072)
    os.chmod(run.outputs / "d", 0o700)
    os.chown(run.target, 1234, 1235)
    os.chmod(run.target, 0o700)
    sync = run.sync(50)
    sync.wait_for(lambda s: s["files"] == 1)
    assert sync.finish()["state"] == "Done"
    run.assert_equal()
    for p in [run.copy, *run.copy.rglob("*")]:
        assert (p.lstat().st_uid, p.lstat().st_gid) == (1234, 1235), p
    assert os.stat(run.folder / "upload.json").st_uid == 0


def mount(*args):
    subprocess.run(["mount", *args], check=True)


def test_a_destination_that_fails(run):
    """Full, read-only, gone: one line each, tried again each round, and good in the end."""
    (run.outputs / "a").write_bytes(os.urandom(2 << 20))
    mount("-t", "tmpfs", "-o", "size=1m", "tmpfs", run.target)
    sync = run.sync(100)
    full = sync.wait_for(lambda s: "No space left" in s["message"])
    assert full["state"] == "Running" and str(run.target) in full["message"]
    mount("-o", "remount,size=1m,ro", run.target)
    sync.wait_for(lambda s: "Read-only" in s["message"])
    mount("-o", "remount,size=100m,rw", run.target)
    sync.settled()
    assert (run.copy / "outputs/a").read_bytes() == (run.outputs / "a").read_bytes()
    # Not mounted: the folder below is not filled. Mounted again, with all of it gone.
    subprocess.run(["umount", "-l", run.target], check=True)
    sync.wait_for(lambda s: "still mounted" in s["message"])
    assert not list(run.target.iterdir())
    subprocess.run(["rmdir", run.target], check=True)
    sync.wait_for(lambda s: "No such file" in s["message"])
    failed = sync.finish()
    assert failed["state"] == "Failed", failed
    assert outputs_state(run) == "Failed"
    run.target.mkdir()
    again = run.stoker("push", ID)
    assert again.returncode == 1 and again.stderr.count("\n") <= 2 and "mounted" in again.stderr
    # It is meant: a destination that is named is a new one.
    (run.folder / "upload.journal").unlink()
    run.push()
    run.assert_equal()


def test_limits(run):
    for i in range(5):
        (run.outputs / f"f{i}").write_bytes(b"x" * 1000)
    (run.folder / "user_logs/std_log.txt").write_bytes(b"y" * 2500)
    status = run.sync(100, 5000, 4).finish()
    assert status["state"] == "Incomplete" and "over the limit" in status["message"], status
    assert status["files"] <= 4 and status["bytes"] <= 5000
    assert run.manifest()["complete"] is False
    assert len(run.manifest()["files"]) == status["files"]
    assert outputs_state(run) == "Incomplete"


def test_a_size_that_is_no_size():
    """A hole of 4 EiB costs a job nothing; 32 bytes for each of its chunks would cost the node 32 TiB."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:  # disks have smaller limits
        run = Run(pathlib.Path(folder))
        with open(run.outputs / "a", "wb") as f:
            f.truncate(1 << 62)
        (run.outputs / "b").write_text("b")
        status = run.sync(100).finish()
        assert status["state"] == "Incomplete" and "16 TiB" in status["message"], status
        assert (run.copy / "outputs/b").read_text() == "b"
        assert not (run.copy / "outputs/a").exists()


def test_what_is_not_copied_takes_the_place_of_what_was(run):
    names = ("fifo", "link", "socket", "folder")
    for name in names:
        (run.outputs / name).write_text("a file")
    os.symlink("fifo", run.outputs / "inside")
    sync = run.sync()
    sync.wait_for(lambda s: s["files"] == 4 and not s["left"])
    for name in (*names, "inside"):
        (run.outputs / name).unlink()
    os.mkfifo(run.outputs / "fifo")
    os.symlink("/etc/passwd", run.outputs / "link")
    os.symlink("/etc/passwd", run.outputs / "inside")
    os.mkfifo(run.outputs / "socket")
    (run.outputs / "folder").mkdir()
    os.mkfifo(run.outputs / "folder/fifo")
    assert sync.finish()["state"] == "Done"
    assert os.listdir(run.copy / "outputs") == ["folder"]
    assert run.manifest()["files"] == [] == run.manifest()["links"]


def test_a_large_file_holds_nothing_up(run):
    with open(run.outputs / "a", "wb") as f:
        f.truncate(500 << 20)
    log = run.folder / "user_logs/std_log.txt"
    log.write_text("it is found after the other")
    sync = run.sync()
    end = time.monotonic() + 20
    while not (run.copy / "user_logs/std_log.txt").exists() and time.monotonic() < end:
        time.sleep(0.002)
    assert (run.copy / "user_logs/std_log.txt").exists() and not (run.copy / "outputs/a").exists()
    assert sync.finish()["state"] == "Done"
    run.assert_equal()


def test_a_new_attempt_begins_without_the_mark(run):
    (run.outputs / "kept").write_bytes(os.urandom(2 * CHUNK))
    (run.outputs / "old").write_text("of the first attempt")
    (run.folder / "user_logs/std_log.txt").write_text("why it failed")
    run.push()
    assert not (run.copy / "attempts").exists()
    second = run.state / "runs" / ID / "2"
    for name in TOPS:
        (second / name).mkdir(parents=True)
    subprocess.run([DRIVER, "restore", run.folder, second], check=True)
    run.folder, run.outputs = second, second / "outputs"
    (run.outputs / "old").unlink()
    sync = run.sync(50)
    sync.wait_for(lambda s: s["files"] == 1 and not s["left"])
    assert not (run.copy / "manifest.json").exists()
    status = sync.finish()
    assert status["sent"] == 0, "what was restored lies there already"
    run.assert_equal()
    kept = run.copy / "attempts/1/user_logs/std_log.txt"
    assert kept.read_text() == "why it failed"
    (run.folder / "user_logs/std_log.txt").write_text("of the second")
    sync = run.sync(50)
    sync.wait_for(lambda s: s["files"] == 2 and not s["left"])
    sync.kill()
    run.push()
    assert (run.copy / "user_logs/std_log.txt").read_text() == "of the second"
    assert kept.read_text() == "why it failed" and len(list((run.copy / "attempts").iterdir())) == 1
    run.assert_equal()


def test_restore_keeps_what_a_job_left(run, tmp):
    out = run.outputs
    (out / "a").write_bytes(os.urandom(100000))
    (out / "d").mkdir(mode=0o1770)
    os.chmod(out / "d", 0o1770)
    (out / "d/s").write_text("s")
    os.chmod(out / "d/s", 0o4711)
    os.symlink("/etc/passwd", out / "link")
    os.mkfifo(out / "fifo")
    with open(out / "sparse", "wb") as f:
        f.truncate(50 << 20)
        f.seek(10 << 20)
        f.write(b"data")
    for i in range(5):
        os.link(out / "a", out / f"d/a{i}")
    for p in [out, *out.rglob("*")]:
        os.chown(p, 231072, 231073, follow_symlinks=False)
    to = tmp / "second"
    (to / "outputs").mkdir(parents=True)
    subprocess.run([DRIVER, "restore", run.folder, to], check=True)
    (out / "fifo").unlink()
    expected, found = tree_of(run.folder, b"outputs"), tree_of(to, b"outputs")
    assert expected == found
    for p in [to / "outputs", *(to / "outputs").rglob("*")]:
        assert (p.lstat().st_uid, p.lstat().st_gid) == (231072, 231073), p
    assert os.stat(to / "outputs/d").st_mode & 0o7777 == 0o1770
    assert os.stat(to / "outputs/d/s").st_mode & 0o7777 == 0o711
    assert os.stat(to / "outputs/sparse").st_blocks < 1000
    assert os.stat(to / "outputs/a").st_nlink == 6, "one file with six names, as it was"


def test_what_the_verb_refuses(run):
    refused = run.stoker("show", ID)
    assert refused.returncode == 1 and "are not copied anywhere" in refused.stderr
    refused = run.stoker("push", ID)
    assert refused.returncode == 1 and "there is no destination" in refused.stderr
    assert run.stoker("push", "nothing", "--to", run.target).returncode == 1
    assert run.stoker("pull", ID).returncode == 2
    assert run.stoker("show", ID, "--to", run.target).returncode == 2
    assert "Usage" in run.stoker("--help").stdout
    missing = run.stoker("push", ID, "--to", run.target / "missing")
    assert missing.returncode == 1 and "No such file" in missing.stderr
    assert missing.stderr.count("\n") == 1


@pytest.mark.full
def test_a_million_files(run):
    for i in range(1000):
        folder = run.outputs / f"d{i}"
        folder.mkdir()
        for k in range(1000):
            (folder / f"f{k}").write_bytes(b"%d" % k)
    begun = time.monotonic()
    status = run.push()
    print(f"a million files: {time.monotonic() - begun:.0f} s")
    assert status["files"] == 1000000
    (run.outputs / "d0/f0").write_bytes(b"changed")
    begun = time.monotonic()
    assert run.push()["sent"] == len("changed")
    print(f"again: {time.monotonic() - begun:.0f} s")
    run.assert_equal()
