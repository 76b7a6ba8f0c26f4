# SPDX-License-Identifier: Apache-2.0
"""The supervisor of a job, and the commands that find it again: run -d, ps, wait, stop, kill, rm."""

import contextlib
import fcntl
import json
import os
import pathlib
import pty
import random
import re
import select
import shutil
import signal
import socket
import struct
import subprocess
import termios
import time

import node
import pytest
from test_run import (  # noqa: F401
    _busybox,
    busybox,
    command,
    image,
    record,
    run_directory,
    runs,
    wait_for,
    write_job,
)

LOG = "user_logs/std_log.txt"


class Run:
    """A run that was started with -d, or found by its id."""

    def __init__(self, stoker, run_id):
        self.stoker, self.id = stoker, run_id
        self.folder = stoker.state / "runs" / run_id / "1"
        self.log = self.folder / LOG

    def record(self):
        return json.loads((self.folder / "run.json").read_text())

    @property
    def supervisor(self):
        return self.record()["supervisor"]["pid"]

    @property
    def container(self):
        return self.record()["supervisor"]["container"]

    def text(self):
        return self.log.read_text() if self.log.exists() else ""

    def wait_for_text(self, text, seconds=10):
        wait_for(lambda: text in self.text(), f"{text!r} in the log", seconds)


def is_alive(pid):
    try:
        return (
            pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
        )
    except OSError:
        return False


def sleepers(mark):
    return [c for _, s, c, _ in node.processes().values() if mark in c and s != "Z"]


@pytest.fixture
def detached(stoker, busybox):  # noqa: F811
    """detached("sh", "-c", "…", options=["--timeout", 1]): a run in the background. Killed at the end."""
    started = []

    def start(*args, options=(), **more):
        result = stoker("run", "-d", "--image", busybox, *options, "--", *args, **more)
        assert re.fullmatch(r"run_\d+_[0-9a-f]{8}\n", result.stdout)
        started.append(Run(stoker, result.stdout.strip()))
        return started[-1]

    yield start
    for run in started:
        if run.folder.exists():
            stoker("kill", run.id, check=False)


def foreground(stoker, path, **options):
    """A run in the foreground, once it has printed `ready`. Returns the process and the Run."""
    process = stoker.popen("run", path, **options)
    assert process.stdout.readline() == "ready\n", process.communicate()
    (folder,) = runs(stoker)
    return process, Run(stoker, folder.name)


# ---- in the background


def test_detached_run(detached, stoker):
    """The command returns at once with the id; the job goes on, and `wait` gives its exit status."""
    start = time.monotonic()
    run = detached("sh", "-c", "echo one; sleep 3; echo two; exit 7")
    assert time.monotonic() - start < 2.9
    (row,) = stoker.json("ps", "--json")
    assert (row["run_id"], row["state"]) == (run.id, "Running")
    assert is_alive(row["pid"]) and is_alive(row["supervisor"])
    assert row["ended"] is None and row["code"] is None
    result = stoker("wait", run.id, check=False)
    assert result.returncode == 7
    assert run.text() == "one\ntwo\n"
    document = run.record()
    assert document["state"] == "Failed" and document["exit_status"] == 7
    assert stoker.json("ps", "--json") == []
    (row,) = stoker.json("ps", "-a", "--json")
    assert row["exit_status"] == 7 and row["code"] == "ScriptExited"
    assert stoker("wait", run.id, check=False).returncode == 7, "again, long after the end"


def test_detached_run_has_no_terminal_and_no_input(detached):
    run = detached("sh", "-c", "cat; readlink /proc/self/fd/0; echo x > /dev/tty")
    run.stoker("wait", run.id, check=False)
    assert "/dev/null" in run.text() and "/dev/tty" in run.text()


def test_detached_start_that_fails(stoker, busybox):  # noqa: F811
    stoker.fails("run", "-d", "--image", busybox, "--", "nope", needles=["nope", "not found"])
    assert record(stoker)["cause"]["code"] == "ProgramNotFound"


def test_detached_job_file(stoker, busybox, tmp):  # noqa: F811
    path = write_job(tmp / "job", busybox, "echo result > outputs/x; sleep 0.3; exit 2")
    run = Run(stoker, stoker("run", "-d", path).stdout.strip())
    assert stoker("wait", run.id[:-2], check=False).returncode == 2, "a unique beginning is enough"
    assert (run.folder / "outputs/x").read_text() == "result\n"


def test_wait_for_several(detached, stoker):
    ids = [detached("sh", "-c", f"sleep 0.{i}; exit {i}").id for i in (0, 3, 4)]
    assert stoker("wait", *ids, check=False).returncode == 3
    stoker.fails("wait", "run_", needles=["run_ may be run_"])
    stoker.fails("wait", "nope", needles=["there is no run nope"])


def test_table_of_runs(detached, stoker):
    run = detached("sleep", "100")
    header, line = stoker("ps").stdout.splitlines()
    assert header.split() == ["RUN", "STATE", "IMAGE", "STARTED", "DURATION", "PID", "CAUSE"]
    assert line.split()[:2] == [run.id, "Running"]
    assert "run/busybox:latest" in line and str(run.container) in line
    stoker("kill", run.id)
    assert len(stoker("ps").stdout.splitlines()) == 1
    assert "canceled by stoker kill" in stoker("ps", "-a").stdout


# ---- how it is ended

STUBBORN = """
trap '' TERM INT HUP
(trap '' TERM; setsid sleep {n} &) &
(trap '' TERM; (trap '' TERM; setsid sleep {n} & exit) & exit) &
sleep {n} &
echo ready
while true; do sleep 0.1; done
"""


def test_stop_of_a_stubborn_job(detached, stoker):
    """One that double-forks, ignores SIGTERM and leaves its session is gone, and nothing is left."""
    mark = f"sleep 30{os.getpid()}"
    run = detached("sh", "-c", STUBBORN.format(n=mark.split()[1]))
    run.wait_for_text("ready")
    wait_for(lambda: len(sleepers(mark)) >= 3, "its processes")
    namespace = os.readlink(f"/proc/{run.container}/ns/pid")
    start = time.monotonic()
    stoker("stop", "--time", "1", run.id)
    assert 0.9 < time.monotonic() - start < 20
    assert sleepers(mark) == []
    wait_for(lambda: not is_alive(run.supervisor), "the supervisor's end")
    for pid in node.processes():
        try:
            assert os.readlink(f"/proc/{pid}/ns/pid") != namespace
        except OSError:
            pass
    document = run.record()
    assert document["state"] == "Canceled" and document["exit_status"] == 137
    assert document["cause"]["code"] == "Canceled" and document["cause"]["signal"] == 9
    assert not (run.folder / "upper").exists()
    assert not list((stoker.run_dir / "runs").iterdir())


def test_stop_gives_time(detached, stoker):
    run = detached("sh", "-c", "trap 'echo saving; sleep 0.5; echo saved; exit 0' TERM; echo ready; "
                   "while true; do sleep 0.05; done")  # fmt: skip
    run.wait_for_text("ready")
    stoker("stop", run.id)
    assert run.text() == "ready\nsaving\nsaved\n"
    assert run.record()["state"] == "Canceled"
    assert run.record()["exit_status"] == 143, "it was stopped, whatever it says"
    stoker("stop", run.id)  # one that has ended: nothing to do


def test_grace_period_of_the_node(detached, stoker):
    stoker.configure(stop_grace_seconds=1)
    run = detached("sh", "-c", "trap '' TERM; echo ready; while true; do sleep 0.1; done")
    run.wait_for_text("ready")
    start = time.monotonic()
    stoker("stop", run.id)
    assert 0.9 < time.monotonic() - start < 20


def test_state_while_it_is_stopped(detached, stoker):
    run = detached("sh", "-c", "trap '' TERM; echo ready; while true; do sleep 0.1; done")
    run.wait_for_text("ready")
    with stoker.popen("stop", "--time", "100", run.id) as process:
        wait_for(lambda: run.record()["state"] == "CancelRequested", "the state")
        stoker("stop", "--time", "0", run.id)
        process.communicate(timeout=10)
    assert run.record()["state"] == "Canceled"


def test_stop_signal_of_the_image(stoker, image):  # noqa: F811
    reference = image(StopSignal="SIGUSR1")
    script = "trap 'echo usr1; exit 4' USR1; echo ready; while true; do sleep 0.05; done"
    run = Run(stoker, stoker("run", "-d", "--image", reference, "sh", "-c", script).stdout.strip())
    run.wait_for_text("ready")
    stoker("stop", run.id)
    assert run.text() == "ready\nusr1\n" and run.record()["exit_status"] == 4


def test_kill(detached, stoker):
    script = "trap 'echo usr1' USR1; echo ready; while true; do sleep 0.05; done"
    run = detached("sh", "-c", script)
    run.wait_for_text("ready")
    stoker("kill", "--signal", "USR1", run.id)
    run.wait_for_text("usr1")
    assert run.record()["state"] == "Running"
    stoker("kill", run.id)
    assert run.record()["exit_status"] == 137
    stoker.fails("kill", "--signal", "USR1", run.id, needles=["has ended"])
    stoker.fails("kill", "--signal", "NOPE", run.id, status=2, needles=["NOPE"])


def test_deadline(stoker, busybox, tmp):  # noqa: F811
    """Asked first, then killed; the cause says so."""
    stoker.configure(stop_grace_seconds=1)
    script = "trap 'echo asked' TERM; echo ready; while true; do sleep 0.05; done"
    path = write_job(tmp / "job", busybox, script, max_run_duration_seconds=1)
    start = time.monotonic()
    result = stoker("run", path, check=False)
    assert 1.9 < time.monotonic() - start < 6
    assert result.stdout == "ready\nasked\n" and result.returncode == 137
    document = record(stoker)
    assert document["state"] == "Failed"
    assert document["cause"]["class"] == "user"
    assert document["cause"]["code"] == "DeadlineExceeded"
    assert "more than 1 s" in document["cause"]["message"]


def test_deadline_of_a_command(command, stoker):  # noqa: F811
    result = command("sh", "-c", "sleep 100", options=["--timeout", "1"], check=False)
    assert result.returncode == 143
    assert record(stoker)["cause"]["code"] == "DeadlineExceeded"


def test_stop_of_a_run_that_is_prepared(stoker, scripted, layout, tmp):
    import ociimage
    import registries

    layout.image([layout.layer(ociimage.Tar().file("noise", os.urandom(4 << 20)))])
    scripted.rules.append(lambda e: registries.slowly(100_000) if e.is_blob else None)
    with stoker.popen("run", write_job(tmp / "job", scripted.reference())) as process:
        wait_for(lambda: any(e.is_blob for e in scripted.requests()), "the pull")
        (folder,) = runs(stoker)
        stoker("stop", folder.name)
        process.communicate(timeout=20)
    assert process.returncode == 128 + signal.SIGTERM
    assert record(stoker)["state"] == "Canceled"


# ---- disk

WRITERS = {
    "upper": "dd if=/dev/zero of=/big bs=1M count=300",
    "outputs": "dd if=/dev/zero of=/stoker/run/outputs/big bs=1M count=300",
    "log": "dd if=/dev/zero bs=1M count=300 | tr '\\\\0' x",
    "unlinked": "exec 3>/gone; rm /gone; dd if=/dev/zero bs=1M count=300 >&3",
    "many": "i=0; while true; do i=$((i+1)); seq 1 20000 > /file$i; done",
}


@pytest.mark.parametrize("where", WRITERS)
def test_disk_limit(command, stoker, where):  # noqa: F811
    script = f"{WRITERS[where]}; sleep 100"
    start = time.monotonic()
    result = command("sh", "-c", script, options=["--disk", "20m"], check=False)
    assert time.monotonic() - start < 60
    assert result.returncode in (137, 143), result.stderr
    document = record(stoker)
    assert document["state"] == "Failed"
    assert (document["cause"]["class"], document["cause"]["code"]) == ("user", "DiskLimit")
    assert "21.0 MB are allowed (resources.disk)" in document["cause"]["message"]


def test_disk_limit_of_the_node(command, stoker):  # noqa: F811
    stoker.configure(job_defaults={"disk": "20m"})
    result = command("sh", "-c", WRITERS["upper"] + "; sleep 100", check=False)
    assert result.returncode in (137, 143)
    assert record(stoker)["cause"]["code"] == "DiskLimit"
    assert command("sh", "-c", "dd if=/dev/zero of=/x bs=1M count=10").returncode == 0


@pytest.mark.parametrize("trap", ["", "trap '' TERM; "])
def test_full_disk(stoker, busybox, tmp, trap):  # noqa: F811
    """Stopped before the disk is full, and the record still finds room; ignoring the signal does not
    help."""
    disk = tmp / "disk"
    with open(disk, "wb") as f:
        f.truncate(400 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-m", "0", disk], check=True)
    stoker.state.mkdir()
    subprocess.run(["mount", "-o", "loop", disk, stoker.state], check=True)
    try:
        stoker.configure(store={"keep_free": "100M", "keep_free_inodes": 0})
        script = f"{trap}while true; do dd if=/dev/zero of=/file bs=64k count=20 conv=notrunc "
        script += "oflag=append 2>/dev/null; sleep 0.01; done"
        result = stoker("run", "--image", busybox, "--", "sh", "-c", script, check=False)
        assert result.returncode == (137 if trap else 143)
        document = record(stoker)
        assert (document["cause"]["class"], document["cause"]["code"]) == ("system", "DiskFull")
        assert "keep_free" in document["cause"]["message"]
    finally:
        subprocess.run(["umount", stoker.state], check=True)


# ---- what survives what


def test_kill_of_the_client(stoker, busybox, tmp):  # noqa: F811
    """The job goes on, and the commands find it."""
    script = (
        "echo ready; i=0; while test $i -lt 10; do i=$((i+1)); echo $i; sleep 0.05; done; exit 9"
    )
    process, run = foreground(stoker, write_job(tmp / "job", busybox, script))
    process.kill()
    process.communicate()
    assert [row["run_id"] for row in stoker.json("ps", "--json")] == [run.id]
    assert stoker("wait", run.id, check=False).returncode == 9
    assert run.text() == "ready\n" + "".join(f"{i}\n" for i in range(1, 11))
    assert run.record()["cause"]["code"] == "ScriptExited"


def test_closed_terminal_cancels(stoker, busybox, tmp):  # noqa: F811
    script = "trap 'echo hup; exit 3' HUP; echo ready; while true; do sleep 0.05; done"
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # who runs the tests may ignore it
    process, run = foreground(stoker, write_job(tmp / "job", busybox, script))
    signal.signal(signal.SIGHUP, before)
    process.send_signal(signal.SIGHUP)
    assert process.communicate(timeout=10)[0] == "hup\n"
    assert process.returncode == 3 and run.record()["state"] == "Canceled"


def test_kill_of_the_supervisor(stoker, busybox, tmp):  # noqa: F811
    """The job ends with it, the command that waits says so, and so does the record."""
    mark = f"sleep 40{os.getpid()}"
    path = write_job(tmp / "job", busybox, f"echo ready; ({mark} &); {mark}")
    process, run = foreground(stoker, path)
    os.kill(run.supervisor, signal.SIGKILL)
    said = process.communicate(timeout=10)[1]
    assert process.returncode == 1
    assert "the supervisor of" in said.splitlines()[-1]
    wait_for(lambda: not sleepers(mark), "the end of the job", 5)
    document = run.record()
    assert document["state"] == "Failed"
    assert (document["cause"]["class"], document["cause"]["code"]) == (
        "infrastructure", "supervisor_lost",
    )  # fmt: skip
    stoker.killed = True


def test_another_runtime(stoker, busybox, tmp):  # noqa: F811
    """Its container is killed and deleted with the run."""
    stoker.configure(sandbox={"runtime": "runc"})
    for folder in [tmp, stoker.folder, *list(tmp.parents)[:-2]]:
        folder.chmod(folder.stat().st_mode | 0o011)  # runc goes there as the container's root
    process, run = foreground(stoker, write_job(tmp / "job", busybox, "echo ready; sleep 100"))
    container = run.container
    stoker("kill", run.id)
    process.communicate(timeout=20)
    assert run.record()["state"] == "Canceled"
    assert not is_alive(container)
    assert not list((stoker.run_dir / "runtime").iterdir())


def test_kill_of_the_supervisor_while_it_starts(stoker, busybox, tmp):  # noqa: F811
    """The record says who it was that started the job, and where the job's processes would be."""
    slow = tmp / "runtime"
    slow.write_text(f"#!/bin/sh\nexec sleep 42{os.getpid()}\n")
    slow.chmod(0o755)
    stoker.configure(sandbox={"runtime": str(slow)})
    with stoker.popen("run", str(write_job(tmp / "job", busybox, "true"))) as process:
        wait_for(lambda: sleepers(f"sleep 42{os.getpid()}"), "the runtime")
        run = Run(stoker, next(iter((stoker.state / "runs" / ".active").iterdir())).name)
        assert run.record()["cgroup"].endswith(run.id)
        os.kill(run.supervisor, signal.SIGKILL)
        process.communicate(timeout=10)
    assert run.record()["cause"]["code"] == "supervisor_lost"
    wait_for(lambda: not sleepers(f"sleep 42{os.getpid()}"), "the end of the runtime", 5)
    stoker.killed = True


def test_kill_of_the_supervisor_alone(detached, stoker):
    mark = f"sleep 41{os.getpid()}"
    run = detached("sh", "-c", f"trap '' TERM; {mark}")
    with stoker.popen("wait", run.id) as waiting:
        time.sleep(0.2)
        os.kill(run.supervisor, signal.SIGKILL)
        waiting.communicate(timeout=10)
    assert waiting.returncode == 1
    wait_for(lambda: not sleepers(mark), "the end of the job", 5)
    document = run.record()
    assert document["cause"]["code"] == "supervisor_lost" and document["exit_status"] == 1
    assert not (run.folder / "upper").exists()
    assert not list((stoker.run_dir / "runs").iterdir())
    stoker.killed = True


@pytest.mark.parametrize("how", ["empty", "boot"])
def test_node_restart(detached, stoker, how):
    """All processes are killed and the run directory is empty; or the boot is another one."""
    run = detached("sh", "-c", "echo before; sleep 1000")
    run.wait_for_text("before")
    os.kill(run.supervisor, signal.SIGKILL)
    wait_for(lambda: not is_alive(run.supervisor), "the supervisor's end")
    if how == "empty":
        node.unmount_below(stoker.run_dir)
        shutil.rmtree(stoker.run_dir)
    else:
        document = run.record()
        document["boot_id"] = "00000000-0000-0000-0000-000000000000"
        (run.folder / "run.json").write_text(json.dumps(document))
    assert stoker.json("ps", "--json") == []
    document = run.record()
    assert document["state"] == "Failed"
    assert document["cause"]["class"] == "infrastructure"
    assert document["cause"]["code"] == "node_restarted"
    assert run.text() == "before\n"
    stoker.killed = True


def test_supervisor_asked_to_end(detached, stoker):
    """As a node does that shuts down: the job gets its time, then the record is written."""
    run = detached("sh", "-c", "trap 'echo asked; exit 0' TERM; echo ready; "
                   "while true; do sleep 0.05; done")  # fmt: skip
    run.wait_for_text("ready")
    os.kill(run.supervisor, signal.SIGTERM)
    assert stoker("wait", run.id, check=False).returncode == 143
    assert run.text() == "ready\nasked\n"
    assert "canceled by signal 15" in run.record()["cause"]["message"]


def test_kill_campaign(stoker, busybox, tmp, request):  # noqa: F811
    """Everything but the supervisor and the job is killed, again and again: every byte is there."""
    lines = 400
    script = f"i=0; while test $i -lt {lines}; do i=$((i+1)); echo line $i of {lines}; "
    script += "test $((i % 20)) = 0 && sleep 0.02; done; exit 17"
    path = write_job(tmp / "job", busybox, "echo ready\n" + script)
    expected = "ready\n" + "".join(f"line {i} of {lines}\n" for i in range(1, lines + 1))
    choice = random.Random(1)
    for number in range(request.config.getoption("--campaign")):
        process = stoker.popen("run", path)
        assert process.stdout.readline() == "ready\n", process.communicate()
        (row,) = stoker.json("ps", "--json")
        run = Run(stoker, row["run_id"])
        waiting = stoker.popen("wait", run.id)
        time.sleep(choice.uniform(0, 0.3))
        for victim in (process, waiting):
            victim.kill()
            victim.communicate()
        if number % 10 == 3:
            stoker("stop", "--time", "0", run.id)
            assert expected.startswith(run.text())
            assert run.record()["state"] in ("Canceled", "Failed")
            continue
        assert stoker("wait", run.id, check=False).returncode == 17
        assert run.text() == expected
        assert run.record()["cause"]["exit_code"] == 17
        stoker("rm", run.id)
    assert not list((stoker.state / "runs/.active").iterdir())


# ---- the supervisor itself


def test_supervisor_is_small_and_alone(detached, stoker):
    """Memory, session, descriptors, name."""
    run = detached("sh", "-c", "seq 1 200000; echo done; sleep 100")
    run.wait_for_text("done\n")
    pid = run.supervisor
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert os.getsid(pid) == pid
    stat = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    assert stat[4] == "0", "it has a terminal"
    assert [os.readlink(f"/proc/{pid}/fd/{i}") for i in range(3)] == ["/dev/null"] * 3
    words = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
    assert words[:3] == ["stoker:", "supervisor", run.id]
    if "ASAN_OPTIONS" not in os.environ:
        assert int(fields["VmRSS"].split()[0]) < 3 * 1024, fields["VmRSS"]


def test_control_socket_is_closed_to_others(detached, stoker):
    run = detached("sleep", "100")
    folder = stoker.run_dir / "runs" / run.id
    assert folder.stat().st_mode & 0o777 == 0o700
    assert (folder / "control").stat().st_mode & 0o777 == 0o600


def ask(stoker, run, request):
    """One packet to the supervisor's socket, and its answer."""
    script = """
import os, socket, sys
os.chdir(sys.argv[1])
s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
s.settimeout(5)
s.connect("control")
s.send(sys.argv[2].encode())
print(s.recv(65536).decode())
"""
    folder = stoker.run_dir / "runs" / run.id
    result = subprocess.run(
        ["/usr/bin/python3", "-c", script, folder, request], check=True, stdout=subprocess.PIPE
    )
    return json.loads(result.stdout or b"null") if result.stdout.strip() else None


def test_protocol(detached, stoker):
    run = detached("sleep", "100")
    reply = ask(stoker, run, '{"do": "status", "of a later version": [1, 2]}')
    assert reply["ok"] is True and reply["state"] == "Running" and reply["run"] == run.id
    reply = ask(stoker, run, '{"do": "dance"}')
    assert reply["error"]["kind"] == "invalid" and "dance" in reply["error"]["text"]
    reply = ask(stoker, run, '{"do": "signal", "signal": 4000}')
    assert "no signal" in reply["error"]["text"]
    assert ask(stoker, run, "no json") is None
    assert ask(stoker, run, '{"do": "status"}')["ok"] is True, "it goes on"


# ---- exec and stats


class Terminal:
    """A command with a terminal of 24 lines and 80 columns, and somebody who types."""

    def __init__(self, stoker, *args):
        self.ours, theirs = pty.openpty()
        self.resize(24, 80)
        self.before = termios.tcgetattr(self.ours)
        self.process = stoker.popen(
            *args, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True, text=None,
            errors=None,
        )  # fmt: skip
        os.close(theirs)
        self.seen = b""

    def resize(self, rows, columns):
        fcntl.ioctl(self.ours, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, text):
        os.write(self.ours, text.encode())

    def expect(self, text, seconds=10):
        """Read on until `text` has come; returns what came before it."""
        deadline = time.monotonic() + seconds
        while text.encode() not in self.seen:
            left = deadline - time.monotonic()
            assert left > 0, f"waited for {text!r}, saw {self.seen!r}"
            if select.select([self.ours], [], [], left)[0]:
                try:
                    self.seen += os.read(self.ours, 65536)
                except OSError:  # EIO: nobody has the other end any more
                    assert text.encode() in self.seen, f"no {text!r} in {self.seen!r}"
        before, _, self.seen = self.seen.partition(text.encode())
        return before.decode()

    def close(self):
        os.close(self.ours)
        self.process.kill()
        self.process.wait()


def test_exec(detached, stoker, tmp):
    run = detached("sleep", "100", options=["-e", "OF_JOB=1", "--workdir", "/tmp"])
    script = 'cat; echo "$A $OF_JOB"; pwd; echo err >&2; exit 5'
    result = stoker("exec", "-i", "-e", "A=b", run.id, "sh", "-c", script, input="in", check=False)
    assert result.returncode == 5
    assert result.stdout == "inb 1\n/tmp\n" and result.stderr == "err\n"
    assert stoker("exec", run.id, "--", "cat", input="in").stdout == "", "no input without -i"
    assert stoker("exec", "-u", "ada", run.id, "id", "-u").stdout == "1000\n"
    assert stoker("exec", "-w", "/bin", run.id, "pwd").stdout == "/bin\n"
    assert stoker("exec", run.id, "sh", "-c", "kill -9 $$", check=False).returncode == 137
    with open(tmp / "out", "w") as out:
        stoker("exec", run.id, "echo", "to a file", stdout=out)
    assert (tmp / "out").read_text() == "to a file\n"
    stoker.fails("exec", run.id, "nope", needles=["nope", "not found"])
    stoker.fails("exec", "-u", "nobody-here", run.id, "id", needles=["nobody-here"])
    stoker.fails("exec", "-it", run.id, "sh", needles=["no terminal"])
    stoker.fails("exec", "-w", "x", run.id, "sh", status=2, needles=["--workdir"])
    stoker("kill", run.id)
    stoker.fails("exec", run.id, "true", needles=[run.id, "does not run"])


def test_exec_is_in_the_sandbox(detached, stoker):
    """The same namespaces, rights, filter and group as the job's own process."""
    run = detached("sh", "-c", "grep -E 'Cap|NoNew|Seccomp' /proc/self/status; sleep 100")
    run.wait_for_text("Seccomp_filters")
    wait_for(lambda: run.text().endswith("\n"), "the line")
    status = stoker("exec", run.id, "grep", "-E", "Cap|NoNew|Seccomp", "/proc/self/status").stdout
    assert status == run.text()
    mine = run.container
    for file in ("limits", "oom_score_adj"):
        shown = stoker("exec", run.id, "cat", f"/proc/self/{file}").stdout
        assert shown == pathlib.Path(f"/proc/{mine}/{file}").read_text(), file
    with stoker.popen("exec", run.id, "sleep", "50") as process:
        wait_for(lambda: len(stoker("exec", run.id, "sh", "-c", "ls -d /proc/[0-9]*").stdout.split())
                 >= 4, "the process")  # fmt: skip
        groups = {}
        for pid in node.descendants(run.supervisor):
            command = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()
            if command.startswith(b"sleep"):
                groups[command] = pathlib.Path(f"/proc/{pid}/cgroup").read_text()
        assert len(groups) == 2 and len(set(groups.values())) == 1, groups
        stoker("kill", run.id)
        process.communicate(timeout=10)
    assert process.returncode == 137, "it ends with the job"


def test_exec_passes_signals_on(detached, stoker):
    run = detached("sleep", "100")
    script = "trap 'echo got; exit 4' TERM; echo ready; while true; do sleep 0.05; done"
    with stoker.popen("exec", run.id, "sh", "-c", script) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        assert process.communicate(timeout=10)[0] == "got\n"
    assert process.returncode == 4


def test_exec_that_is_killed(detached, stoker):
    """The process in the container gets SIGHUP; the job goes on."""
    mark = f"60{os.getpid()}"
    run = detached("sleep", "100")
    with stoker.popen("exec", run.id, "sleep", mark) as process:
        wait_for(lambda: sleepers(f"sleep {mark}"), "the process")
        process.kill()
    wait_for(lambda: not sleepers(f"sleep {mark}"), "its end")
    assert run.record()["state"] == "Running"


def test_exec_that_does_not_start(detached, stoker):
    """Who has a lease on a file can keep its start waiting (45 s): the supervisor has more to do."""
    run = detached("sleep", "100")
    program = run.folder / "outputs/program"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    before = signal.signal(signal.SIGIO, signal.SIG_IGN)
    held = os.open(program, os.O_RDWR)
    try:
        fcntl.fcntl(held, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        begin = time.monotonic()
        stoker.fails("exec", run.id, "/stoker/run/outputs/program", needles=["not started"])
        assert time.monotonic() - begin < 20
    finally:
        os.close(held)
        signal.signal(signal.SIGIO, before)
    assert stoker("exec", run.id, "/stoker/run/outputs/program").stdout == ""
    assert run.record()["state"] == "Running"


def test_exec_twice_over_one_connection(detached, stoker):
    """Each connection has one process, which ends with it; a second one is refused."""
    run = detached("sleep", "100")
    request = json.dumps({"do": "exec", "args": ["sleep", f"61{os.getpid()}"]}).encode()
    folder = os.open(stoker.run_dir / "runs" / run.id, os.O_PATH)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as s:
        s.connect(f"/proc/self/fd/{folder}/control")
        s.send(request)
        assert json.loads(s.recv(65536))["ok"]
        s.send(request)
        assert "one process" in json.loads(s.recv(65536))["error"]["text"]
    os.close(folder)
    wait_for(lambda: not sleepers(f"sleep 61{os.getpid()}"), "the end of what was started")
    assert run.record()["state"] == "Running"


def test_exec_terminal(detached, stoker):
    """A terminal of the container's: resized with ours, Ctrl-C for the program inside, ours restored."""
    run = detached("sleep", "100")
    terminal = Terminal(stoker, "exec", "-it", run.id, "sh")
    try:
        terminal.expect("# ")
        terminal.type("readlink /proc/self/fd/0; stty size\r")
        assert "/dev/pts/0" in terminal.expect("24 80")
        terminal.resize(50, 132)
        os.killpg(terminal.process.pid, signal.SIGWINCH)
        terminal.expect("# ")
        terminal.type("stty size\r")
        terminal.expect("50 132")
        terminal.expect("# ")
        mark = f"70{os.getpid()}"
        terminal.type(f"trap 'echo INT' INT; sleep {mark}\r")
        terminal.expect(f"sleep {mark}\r\n")
        # Only then Ctrl-C is for it; the shell alone would take it and wait all the same.
        wait_for(lambda: f"sleep {mark}" in sleepers(f"sleep {mark}"), "the program in front")
        assert termios.tcgetattr(terminal.ours)[3] & termios.ICANON == 0, "ours is raw meanwhile"
        terminal.type("\x03")
        terminal.expect("INT\r\n")
        terminal.expect("# ")
        terminal.type("exit 9\r")
        assert terminal.process.wait(timeout=10) == 9
        assert termios.tcgetattr(terminal.ours) == terminal.before, "ours is as it was"
    finally:
        terminal.close()
    assert run.record()["state"] == "Running"


def test_exec_terminal_is_restored_when_the_job_ends(detached, stoker):
    run = detached("sleep", "100")
    terminal = Terminal(stoker, "exec", "-it", run.id, "sh")
    try:
        terminal.expect("# ")
        stoker("kill", run.id)
        assert terminal.process.wait(timeout=10) == 137
        assert termios.tcgetattr(terminal.ours) == terminal.before
    finally:
        terminal.close()


def test_terminal_is_not_given_to_the_job(stoker, busybox):  # noqa: F811
    """Input from a terminal comes through a pipe: a job could push characters into the terminal itself."""
    terminal = Terminal(
        stoker, "run", "--image", busybox, "--", "sh", "-c", "readlink /proc/self/fd/0; read a; echo <$a>"
        .replace("<$a>", "'<'$a'>'"),
    )  # fmt: skip
    try:
        terminal.expect("pipe:")
        terminal.type("hello\n")
        terminal.expect("<hello>")
        assert terminal.process.wait(timeout=10) == 0
    finally:
        terminal.close()


def test_stats(detached, stoker):
    run = detached("sh", "-c", "echo ready; while true; do :; done")
    run.wait_for_text("ready")
    (row,) = stoker.json("stats", "--no-stream", "--json")
    assert row["run_id"] == run.id
    assert row["cpu_usec"] > 0 and row["cpu_percent"] > 1
    assert row["memory_bytes"] > 4096 and row["pids"] >= 1
    header, line = stoker("stats", "--no-stream", run.id).stdout.splitlines()
    assert header.split()[:3] == ["RUN", "CPU", "MEMORY"] and line.split()[0] == run.id
    stoker("kill", run.id)
    used = run.record()["resources"]
    assert used["cpu_usec"] >= row["cpu_usec"] and used["memory_peak_bytes"] > 4096
    assert used["oom_kills"] == 0
    assert stoker.json("stats", "--no-stream", "--json") == []
    stoker.fails("stats", "--no-stream", run.id, needles=["has ended"])


def test_out_of_memory(command, stoker):  # noqa: F811
    script = "x=aaaaaaaaaaaaaaaa; while true; do x=$x$x; done"
    result = command("sh", "-c", script, options=["--memory", "32m"], check=False)
    assert result.returncode != 0
    document = record(stoker)
    assert document["state"] == "Failed" and document["cause"]["code"] == "OutOfMemory"
    assert "33.6 MB" in document["cause"]["message"]
    assert document["resources"]["oom_kills"] >= 1


# ---- what is printed


def test_log_is_followed_at_once(detached, stoker):
    """A line is there within 100 ms of being printed (the median; other tests run too), by `logs -f` and
    by `run` itself."""
    script = "read a < /proc/uptime; echo $a; sleep 0.2"
    run = detached("sh", "-c", f"i=0; while test $i -lt 15; do i=$((i+1)); {script}; done")
    late = []
    with stoker.popen("logs", "-f", run.id) as process:
        for line in process.stdout:
            now = float(pathlib.Path("/proc/uptime").read_text().split()[0])
            late.append(now - float(line.split()[0]))
    assert len(late) == 15
    assert sorted(late[5:])[5] < 0.1, late


# ---- removing


def test_rm(detached, stoker):
    run = detached("sh", "-c", "echo hello; sleep 100")
    stoker.fails("rm", run.id, needles=[run.id, "has not ended"])
    assert stoker("rm", "--force", run.id).stdout == f"{run.id}\n"
    assert not run.folder.parent.exists()
    stoker.fails("rm", run.id, needles=["there is no run"])
    stoker.fails("rm", status=2, needles=["--older-than"])


def test_rm_by_age(detached, stoker):
    old, new = detached("true"), detached("true")
    running = detached("sleep", "100")
    stoker("wait", old.id, new.id)
    long_ago = time.time() - 3 * 86400
    os.utime(old.folder / "run.json", (long_ago, long_ago))
    assert "removed 1 runs" in stoker("rm", "--older-than", "2d").stderr
    assert not old.folder.parent.exists()
    assert new.folder.exists() and running.folder.exists()


def test_configured_pruning(stoker, command):  # noqa: F811
    for _ in range(3):
        command("true")
    assert len(runs(stoker)) == 3
    stoker.configure(runs={"keep": 1})
    command("true")
    assert len(runs(stoker)) == 2, "the newest of before, and this one"


# ---- secrets


def test_secrets(stoker, busybox, tmp):  # noqa: F811
    (tmp / "token").write_text("hunter2-hunter2\n")
    script = """
cat /stoker/secrets/token
echo "variable $TOKEN and $OTHER"
ls -l /stoker/secrets
echo x > /stoker/secrets/token
stat -f -c %T /stoker/secrets
"""
    path = write_job(
        tmp / "job", busybox, script,
        secrets={"token": {"file": "../token", "variable": "TOKEN"},
                 "other": {"env": "FROM_CLIENT", "variable": "OTHER"},
                 "near": {"file": "src/near"}},
        max_retries=1,
    )  # fmt: skip
    (tmp / "job/src/near").write_text("staple-battery\n")  # in what is copied for the run
    result = stoker("run", path, env={"FROM_CLIENT": "correct-horse"}, check=False)
    assert "hunter2" not in result.stdout and "correct-horse" not in result.stdout
    assert "variable *** and ***" in result.stdout
    assert "Read-only file system" in result.stdout and "tmpfs" in result.stdout
    for path in stoker.state.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            assert b"hunter2" not in data and b"correct-horse" not in data, path
            assert b"staple-battery" not in data, path
    assert node.mounts_below(stoker.run_dir) == []
    stoker.fails("run", tmp / "job/job.yaml", needles=["secret other", "FROM_CLIENT", "not set"])
    (tmp / "token").write_text("")
    stoker.fails("run", tmp / "job/job.yaml", needles=["secret token", "is empty"],
                 env={"FROM_CLIENT": "x"})  # fmt: skip


def test_network_helper_that_is_killed(detached):
    """The program of the job's network is started again, and the job goes on."""
    run = detached("sh", "-c", "echo up; sleep 100")
    run.wait_for_text("up\n")

    def helpers():
        table = node.processes()
        return {
            pid
            for pid in node.descendants(run.supervisor, table)
            if table[pid][2].startswith(("pasta ", "slirp4netns "))
        }

    before = helpers()
    assert before
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    wait_for(lambda: helpers() - before, "another helper")
    assert run.record()["state"] == "Running"


def test_kill_of_the_supervisor_while_it_tidies_up(detached, stoker):
    """What the script came to is recorded before anything is removed, and is not lost."""
    run = detached("sh", "-c", "sleep 0.5; exit 3")
    trap = run.folder / "upper/kept"
    wait_for(lambda: run.record()["state"] == "Running", "the script")
    trap.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "none", trap], check=True)
    try:
        wait_for(lambda: "outcome" in run.record() or run.record()["state"] == "Failed", "the end")
        with contextlib.suppress(ProcessLookupError):
            os.kill(run.supervisor, signal.SIGKILL)
    finally:
        subprocess.run(["umount", trap], check=True)
    stoker.killed = True
    assert stoker("wait", run.id, check=False).returncode == 3
    assert run.record()["cause"]["code"] == "ScriptExited"
