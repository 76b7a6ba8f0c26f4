# SPDX-License-Identifier: Apache-2.0
"""Jobs of an ordinary user, with ids of his own in /etc/subuid and without."""

import fcntl
import json
import os
import pathlib
import pwd
import re
import shutil
import signal
import subprocess
import time

import node
import ociimage
import pytest
from test_data_mounts import rclone, server
from test_run import _busybox, busybox, image, runs, wait_for, write_job  # noqa: F401
from test_supervise import Run, is_alive, sleepers

FIRST, COUNT = 1_900_000_000, 65536
UID = 54321


class Users(node.Stoker):
    """A node of an ordinary user: the same program, started with his ids and nothing else of root's."""

    def __init__(self, folder, uid):
        super().__init__(folder)
        self.uid = uid
        program = self.folder / "stoker"  # the build may be where he cannot go
        shutil.copy(self.binary, program)
        self.program = program
        self.binary = shutil.which("setpriv")
        for path in (self.folder, self.home, self.config_path):
            os.chown(path, uid, uid)

    def popen(self, *args, **options):
        words = [f"--reuid={self.uid}", f"--regid={self.uid}", "--clear-groups", self.program]
        return super().popen(*words, *args, **options)


@pytest.fixture
def place(tmp):
    """A folder that anybody may enter."""
    folder = pathlib.Path("/var/tmp") / f"stoker-test-{os.urandom(4).hex()}"
    folder.mkdir(mode=0o755)
    yield folder
    node.unmount_below(folder)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def one_at_a_time():
    """/etc/subuid and the ids are the machine's; tests of other files want them too."""
    with open("/var/tmp/stoker-test-users.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def without_login():
    with open("/etc/passwd") as f:
        assert f":{UID}:" not in f.read()
    return UID


@pytest.fixture
def ranges(one_at_a_time):
    """A user with a name and ranges of ids, as a distribution makes them; he goes with the test."""
    name = f"stoker-{os.urandom(3).hex()}"
    files = [pathlib.Path("/etc/subuid"), pathlib.Path("/etc/subgid")]
    before = [f.read_text() if f.exists() else None for f in files]
    subprocess.run(
        ["useradd", "--no-create-home", "--user-group", "--shell", "/bin/false", name], check=True
    )
    try:
        for f in files:
            lines = [x for x in (f.read_text() if f.exists() else "").splitlines()
                     if not x.startswith(f"{name}:")]  # fmt: skip
            f.write_text("".join(f"{x}\n" for x in [*lines, f"{name}:{FIRST}:{COUNT}"]))
        yield pwd.getpwnam(name).pw_uid
    finally:
        subprocess.run(["userdel", name], check=True)
        for f, text in zip(files, before, strict=True):
            if text is None:
                f.unlink(missing_ok=True)
            else:
                f.write_text(text)


def closing(user):
    try:
        yield user
        user.assert_nothing_left()
        own = [p for p in node.processes() if owner(p) in (user.uid, *range(FIRST, FIRST + 2))]
        assert own == []
    finally:
        user.destroy()


def owner(pid):
    try:
        return pathlib.Path(f"/proc/{pid}").stat().st_uid
    except OSError:
        return None


@pytest.fixture
def user(place, ranges):
    """With ranges."""
    yield from closing(Users(place / "node", ranges))


@pytest.fixture
def single(place, one_at_a_time):
    """Without: he has his own id and no other."""
    yield from closing(Users(place / "node", without_login()))


@pytest.fixture(params=["ranges", "single"])
def either(request):
    return request.getfixturevalue("user" if request.param == "ranges" else "single")


def command(user, image, *args, options=(), **more):  # noqa: F811
    return user("run", "--image", image, *options, "--", *args, **more)


def last_record(user):
    folder = max(runs(user), key=lambda p: (p / "1/run.json").stat().st_mtime)
    return folder / "1", json.loads((folder / "1/run.json").read_text())


def start(user, image, *args, options=()):  # noqa: F811
    result = user("run", "-d", "--image", image, *options, "--", *args)
    return Run(user, result.stdout.strip())


def assert_own(user, folder):
    """All files are the user's."""
    for path in [folder, *folder.rglob("*")]:
        assert path.lstat().st_uid == user.uid, path


# ---- jobs


@pytest.mark.parametrize(("script", "status", "code"), [
    ("exit 0", 0, "ScriptExited"), ("exit 3", 3, "ScriptExited"), ("kill -9 $$", 137, "ScriptKilled"),
])  # fmt: skip
def test_exit_status(either, busybox, script, status, code):  # noqa: F811
    result = command(either, busybox, "sh", "-c", f"echo said; {script}", check=False)
    assert (result.returncode, result.stdout) == (status, "said\n"), result.stderr
    folder, document = last_record(either)
    assert document["cause"]["code"] == code and document["exit_status"] == status
    assert document["state"] == ("Completed" if status == 0 else "Failed")
    assert not (folder / "upper").exists() and not (folder / "work").exists()
    assert_own(either, either.state)


def test_what_cannot_be_had_is_said(either, busybox):  # noqa: F811
    out = command(either, busybox, "cat", "/proc/net/dev").stdout
    warnings = "\n".join(last_record(either)[1]["warnings"])
    assert "limits" in warnings
    if not os.stat("/dev/net/tun").st_mode & 0o002:
        assert "no network" in warnings
        assert [x for x in out.splitlines() if ":" in x and "lo:" not in x] == []
    either.fails(
        "run", "--image", busybox, "--network", "host", "true", needles=["host is not allowed"]
    )


def test_limits_that_were_asked_for(either, busybox, tmp):  # noqa: F811
    command(either, busybox, "true", options=["--memory", "64M", "--cpus", "1"])
    warnings = "\n".join(last_record(either)[1]["warnings"])
    assert "limits" in warnings


def test_job(either, busybox, place):  # noqa: F811
    """The results, and what the job has written, are his; so is everything to remove."""
    script = """
cat data; echo result > outputs/file; mkdir -m 700 outputs/deep; echo x > outputs/deep/file
touch /etc/new; rm /etc/passwd; id -u; cat in/x 2>/dev/null; exit 4
"""
    path = write_job(place / "job", busybox, script)
    (place / "job/src/data").write_text("data\n")
    result = either("run", path, check=False)
    assert result.returncode == 4, result.stderr
    assert result.stdout == "data\n0\n"
    folder, document = last_record(either)
    assert (folder / "outputs/file").read_text() == "result\n"
    assert_own(either, folder)
    either("rm", document["run_id"])
    assert runs(either) == []


def test_users_of_the_container(user, image):  # noqa: F811
    """Another user's files, shut to all others, are the node's user's afterwards."""
    reference = image(User="ada")
    script = (
        "id -u; id -g; id -G; cd /stoker/run/outputs && mkdir shut && echo secret > shut/f && "
        "chmod 600 shut/f && chmod 700 shut && mkdir /tmp/mine && echo x > /tmp/mine/f && "
        "chmod 700 /tmp/mine; grep -E 'Uid|CapEff|NoNewPrivs|Seccomp:' /proc/self/status"
    )
    out = command(user, reference, "sh", "-c", script).stdout
    assert out.split()[:4] == ["1000", "100", "100", "44"]
    assert "CapEff:\t0000000000000000" in out and "NoNewPrivs:\t1" in out and "Seccomp:\t2" in out
    folder, document = last_record(user)
    assert_own(user, folder)
    assert (folder / "outputs/shut/f").read_text() == "secret\n"
    user("rm", document["run_id"])
    assert runs(user) == []


def test_users_that_cannot_be_had(single, image):  # noqa: F811
    assert command(single, image(User="ada"), "id", "-u").stdout == "0\n"
    assert "not as user ada" in "\n".join(last_record(single)[1]["warnings"])


def test_layers_with_other_owners(either, image):  # noqa: F811
    """Files of the image's users, and what the image removes of a lower layer."""
    tar = ociimage.Tar().file("bin/.wh.yes", "").file("etc/kept", "above\n", uid=1000, gid=100)
    out = command(either, image(tar), "sh", "-c", "cat /etc/kept; ls /bin/yes 2>&1; true").stdout
    assert out.startswith("above\n") and "No such file" in out


def test_sandbox(either, busybox):  # noqa: F811
    status = command(either, busybox, "cat", "/proc/self/status").stdout
    values = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert values["CapBnd"] == values["CapPrm"] == values["CapEff"] == "00000000800405fb"
    assert values["NoNewPrivs"] == "1" and values["Seccomp"] == "2"
    masked = "cat /proc/interrupts /proc/keys /proc/timer_list /proc/kcore 2>/dev/null | wc -c"
    assert command(either, busybox, "sh", "-c", masked).stdout == "0\n"
    script = (
        "echo x > /proc/sys/kernel/hostname; mount -t tmpfs x /tmp; mknod /tmp/n c 1 3; "
        "cat /proc/1/maps; echo x > /proc/sysrq-trigger; ls /root/..; readlink /proc/1/exe; true"
    )
    out = command(either, busybox, "sh", "-c", script).stdout
    assert "Read-only file system" in out and "Permission denied" in out, out
    assert "Operation not permitted" in out or "permission denied" in out, out
    assert "stoker" not in re.sub("/stoker|^stoker$", "", out, flags=re.M)
    names = command(either, busybox, "ls", "/dev").stdout.split()
    assert "null" in names and "kmsg" not in names and "mem" not in names


# ---- in the background


def test_detached(either, busybox):  # noqa: F811
    run = start(either, busybox, "sh", "-c", "echo one; sleep 1; echo two; exit 7")
    (row,) = either.json("ps", "--json")
    assert (row["run_id"], row["state"]) == (run.id, "Running")
    assert either("wait", run.id, check=False).returncode == 7
    assert either("logs", run.id).stdout == "one\ntwo\n"
    assert either.json("ps", "--json") == []


def test_stop(either, busybox):  # noqa: F811
    run = start(either, busybox, "sh", "-c",
                "trap 'echo asked; exit 0' TERM; echo ready; while true; do sleep 0.05; done")  # fmt: skip
    run.wait_for_text("ready")
    either("stop", run.id)
    assert run.text() == "ready\nasked\n"
    assert run.record()["state"] == "Canceled"
    mark = f"sleep 61{os.getpid()}"
    stubborn = start(
        either, busybox, "sh", "-c", f"trap '' TERM; (setsid {mark} &); echo r; {mark}"
    )
    stubborn.wait_for_text("r")
    either("kill", stubborn.id)
    assert either("wait", stubborn.id, check=False).returncode == 137
    assert not sleepers(mark)


def test_exec(either, image):  # noqa: F811
    run = start(either, image(User="ada"), "sh", "-c",
                "grep -E 'Uid|Cap|NoNew|Seccomp:' /proc/self/status; echo ready; sleep 1000")  # fmt: skip
    run.wait_for_text("ready")
    shown = ["grep", "-E", "Uid|Cap|NoNew|Seccomp:", "/proc/self/status"]
    assert either("exec", run.id, *shown).stdout + "ready\n" == run.text()
    assert either("exec", run.id, "sh", "-c", "exit 5", check=False).returncode == 5
    assert either("exec", "-u", "root", run.id, "id", "-u").stdout == "0\n"
    either("kill", run.id)


def test_kill_of_the_supervisor(user, image):  # noqa: F811
    """What the dead one could not give back goes with the next command, the container's users' too."""
    mark = f"sleep 62{os.getpid()}"
    script = f"mkdir -m 700 /tmp/d outputs/d; echo x > /tmp/d/f; echo ready; {mark}"
    run = start(user, image(User="ada", WorkingDir="/stoker/run"), "sh", "-c", script)
    run.wait_for_text("ready")
    assert (run.folder / "upper/tmp/d/f").stat().st_uid != user.uid
    os.kill(run.supervisor, signal.SIGKILL)
    wait_for(lambda: not is_alive(run.supervisor), "the supervisor's end")
    wait_for(lambda: not sleepers(mark), "the end of the job", 5)
    # Its lock goes with its last thread, a moment later on a busy machine.
    wait_for(lambda: user.json("ps", "--json") == [], "the sweep", 10)
    assert run.record()["cause"]["code"] == "supervisor_lost"
    assert not (run.folder / "upper").exists() and not (run.folder / "work").exists()
    assert_own(user, run.folder)
    user("rm", run.id)
    assert runs(user) == []
    user.killed = True


def test_cached_start_is_quick(either, busybox):  # noqa: F811
    command(either, busybox, "true")
    begin = time.monotonic()
    command(either, busybox, "true")
    assert time.monotonic() - begin < 2


def test_mounted_input(user, busybox, place):  # noqa: F811
    """By fusermount3, where /dev/fuse is everybody's, as distributions have it; else one clear line."""
    (place / "data").mkdir()
    (place / "data/a.txt").write_text("hello\n")
    device, inner, outer = place / "fuse", place / "inner", place / "outer"
    os.mknod(device, 0o20666, os.makedev(10, 229))
    setpriv = shutil.which("setpriv")
    for path, text in (
        (inner, f'mount --bind {device} /dev/fuse && exec {setpriv} "$@"'),
        (outer, f'exec unshare --mount {inner} "$@"'),
    ):
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
    user.binary = str(outer)
    script = "cat /stoker/inputs/d/a.txt; touch /stoker/inputs/d/new 2>&1\n"
    with server("http", place / "data") as address:
        user.configure(data={"profiles": ["rclone"]})
        path = write_job(place / "job", busybox, script, inputs=[rclone("http", address)])
        device.chmod(0o600)
        user.fails("run", path, needles=["input d", "/dev/fuse is not yours to open"])
        device.chmod(0o666)
        result = user("run", path, check=False)
        assert result.stdout.startswith("hello\n"), result
        assert "Read-only file system" in result.stdout
        copied = rclone("http", address, mode="download")
        path = write_job(place / "job", busybox, script, inputs=[copied])
        user.fails("run", path, needles=["input d", "only root can download from kind fuse"])
