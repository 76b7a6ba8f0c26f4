# SPDX-License-Identifier: Apache-2.0
"""`stoker logs`: of runs that go on, have ended and were killed, and of logs with an index made here."""

import contextlib
import fcntl
import itertools
import json
import os
import signal
import struct
import time

import pytest
from test_run import (  # noqa: F401
    _busybox,
    busybox,
    command,
    record,
    run_directory,
    runs,
    wait_for,
)

START = 1795428000  # 2026-11-23T10:00:00Z


@pytest.fixture
def follow(stoker):
    """follow("-f", run): `stoker logs` with its output as a pipe; ended after the test."""
    started = []

    def start(*args):
        started.append(stoker.popen("logs", *args))
        return started[-1]

    yield start
    for process in started:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        process.communicate()


@pytest.fixture
def background(stoker, busybox):  # noqa: F811
    """background(script): a run that goes on; returns it when it has its directory."""
    started = []

    def start(script):
        before = set(runs(stoker)) if (stoker.state / "runs").exists() else set()
        started.append(stoker.popen("run", "--image", busybox, "--", "sh", "-c", script))
        wait_for(lambda: (stoker.state / "runs").exists() and set(runs(stoker)) - before, "the run")
        (folder,) = set(runs(stoker)) - before
        started[-1].run_id = folder.name
        return started[-1]

    yield start
    for process in started:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        process.communicate()


def make_run(stoker, name, log=b"", records=None, state="Completed"):
    """A run's directory as a supervisor leaves it. records: [(offset, unix time)]."""
    folder = stoker.state / "runs" / name / "1"
    (folder / "user_logs").mkdir(parents=True)
    (folder / "user_logs/std_log.txt").write_bytes(log)
    if records is not None:
        index = struct.pack("<8sIIQ", b"STKINDEX", 1, 24, 0)
        for offset, seconds in records:
            index += struct.pack("<QqQ", offset, int(seconds * 1_000_000), 0)
        (folder / "std_log.index").write_bytes(index)
    (folder / "run.json").write_text(json.dumps({"run_id": name, "state": state}))
    return folder


def read_line(process, seconds=10):
    """The next line, and when it came."""
    line = process.stdout.readline()
    assert line, f"no line: {process.stderr.read()}"
    return line, time.time()


# ---- runs that really run


def test_log_of_an_ended_run(stoker, command):  # noqa: F811
    command("sh", "-c", "echo one; echo two >&2; printf three")
    run = run_directory(stoker).parent.name
    assert stoker("logs", run).stdout == "one\ntwo\nthree"
    assert stoker("logs", "-f", run).stdout == "one\ntwo\nthree"
    assert stoker("logs", "--tail", "2", run[:8]).stdout == "two\nthree"
    assert stoker("logs", "--tail=0", run).stdout == ""


def test_bytes_are_what_was_printed(stoker, command):  # noqa: F811
    command(
        "sh", "-c", "printf 'a\\000b\\r\\377\\n'; dd if=/dev/zero bs=1000 count=1000", text=False
    )
    folder = run_directory(stoker)
    shown = stoker.popen("logs", folder.parent.name, text=False, errors=None)
    out, _ = shown.communicate(timeout=30)
    assert out == (folder / "user_logs/std_log.txt").read_bytes()
    assert out.startswith(b"a\0b\r\xff\n") and len(out) > 1_000_000


def test_follow_shows_lines_at_once(stoker, background, follow):
    """Each within 100 ms, and ends with the run."""
    run = background("for i in 1 2 3 4 5 6; do echo line $i; sleep 0.3; done; printf end; exit 3")
    reader = follow("-f", run.run_id)
    times = [read_line(reader) for _ in range(6)]
    assert [line for line, _ in times] == [f"line {i}\n" for i in range(1, 7)]
    steps = [b[1] - a[1] for a, b in itertools.pairwise(times[1:])]
    assert max(steps) < 0.3 + 0.1, steps
    assert reader.stdout.read() == "end"
    assert reader.wait(timeout=5) == 0
    assert run.wait(timeout=10) == 3
    assert record(stoker)["state"] == "Failed"


def test_latency_of_following(stoker, follow):
    """From the write to the reader's line, without a container in between: 30 lines, the median and
    the slowest."""
    folder = make_run(stoker, "slow_1_00000000", state="Running")
    lock = stoker.state / "runs/.active/slow_1_00000000"
    lock.parent.mkdir()
    with open(lock, "w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        reader = follow("-f", "slow_1")
        delays = []
        with open(folder / "user_logs/std_log.txt", "ab", buffering=0) as log:
            for i in range(30):
                begin = time.time()
                log.write(f"{i}\n".encode())
                line, at = read_line(reader)
                assert line == f"{i}\n"
                delays.append(at - begin)
        delays = sorted(delays[1:])  # the first one waits for the program to start
        assert delays[-1] < 0.1, delays
        assert reader.poll() is None
    assert reader.wait(timeout=5) == 0  # nobody holds the lock: the run's process is gone


def test_follow_before_there_is_a_log(stoker, follow):
    folder = make_run(stoker, "early_1_00000000", state="Preparing")
    (folder / "user_logs/std_log.txt").unlink()
    (folder / "user_logs").rmdir()
    lock = stoker.state / "runs/.active/early_1_00000000"
    lock.parent.mkdir()
    with open(lock, "w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        reader = follow("-f", "early")
        time.sleep(0.2)
        assert reader.poll() is None
        (folder / "user_logs").mkdir()
        (folder / "user_logs/std_log.txt").write_text("at last\n")
        assert read_line(reader)[0] == "at last\n"
        (folder / ".run.json.tmp").write_text(json.dumps({"state": "Completed"}))
        (folder / ".run.json.tmp").rename(folder / "run.json")
        assert reader.wait(timeout=5) == 0


def test_follow_ends_when_the_run_is_killed(stoker, background, follow):
    """kill -9 of who runs the job: no end state is written, and a follower must not wait for it."""
    run = background("echo begun; sleep 60")
    reader = follow("-f", run.run_id)
    assert read_line(reader)[0] == "begun\n"
    stoker.killed = True
    wait_for(lambda: record(stoker)["supervisor"]["container"], "the start")
    os.kill(record(stoker)["supervisor"]["pid"], signal.SIGKILL)
    assert reader.wait(timeout=5) == 0


def test_follower_sleeps(stoker, background, follow):
    """No polling: it is not woken while nothing is printed."""
    run = background("echo begun; sleep 2; echo ended")
    reader = follow("-f", run.run_id)
    assert read_line(reader)[0] == "begun\n"
    time.sleep(1.2)  # over the looks after a change
    with open(f"/proc/{reader.pid}/status") as status:
        before = [line for line in status if line.startswith("voluntary")]
    time.sleep(0.5)
    with open(f"/proc/{reader.pid}/status") as status:
        assert [line for line in status if line.startswith("voluntary")] == before
    assert read_line(reader)[0] == "ended\n"


def test_follow_ends_without_a_reader(stoker, background):
    run = background("echo begun; sleep 60")
    reader = stoker.popen("logs", "-f", run.run_id)
    assert reader.stdout.readline() == "begun\n"
    reader.stdout.close()
    assert reader.wait(timeout=5) == 0
    reader.stderr.close()


# ---- times


def test_since_and_timestamps(stoker):
    lines = [b"line %d\n" % i for i in range(20)]
    offsets = [sum(map(len, lines[:i])) for i in range(20)]
    make_run(
        stoker,
        "timed_1_00000000",
        b"".join(lines),
        [(offset, START + i) for i, offset in enumerate(offsets)],
    )

    def show(*args):
        return stoker("logs", *args, "timed").stdout.splitlines()

    assert show("--since", "2026-11-23T10:00:18Z") == ["line 18", "line 19"]
    assert show("--since", "2026-11-23T12:00:18+02:00") == ["line 18", "line 19"]
    assert show("--since", "2026-11-23") == [f"line {i}" for i in range(20)]
    assert show("--since", "2026-11-24") == []
    assert show("--timestamps", "--tail", "2") == [
        "2026-11-23T10:00:18.000Z line 18",
        "2026-11-23T10:00:19.000Z line 19",
    ]


def test_since_a_duration(stoker):
    now = time.time()
    log = b"old\nyounger\nnew\n"
    make_run(stoker, "r_1_00000000", log, [(0, now - 7200), (4, now - 3000), (12, now - 5)])
    assert stoker("logs", "--since", "1h", "r").stdout == "younger\nnew\n"
    assert stoker("logs", "--since", "2h30m", "r").stdout == "old\nyounger\nnew\n"
    assert stoker("logs", "--since", "30", "r").stdout == "new\n"
    assert stoker("logs", "--since", "1s", "r").stdout == ""


def test_times_need_an_index(stoker):
    make_run(stoker, "old_1_00000000", b"line\n")
    for option in ("--timestamps", "--since=1h"):
        stoker.fails("logs", option, "old", needles=["old_1_00000000", "times", "not known"])


# ---- finding the run


def test_name_of_the_run(stoker):
    for name in ("digits_17_aaaaaaaa", "digits_17_aaaabbbb", "digits_18_cccccccc", "other"):
        make_run(stoker, name, name.encode())
    make_run(stoker, "other_1", b"longer")
    assert stoker("logs", "digits_18").stdout == "digits_18_cccccccc"
    assert stoker("logs", "digits_17_aaaab").stdout == "digits_17_aaaabbbb"
    assert stoker("logs", "other").stdout == "other"  # an id is itself before it is a beginning
    line = stoker.fails("logs", "digits_17", needles=["digits_17_aaaaaaaa", "digits_17_aaaabbbb"])
    assert "digits_18" not in line
    stoker.fails("logs", "digits", needles=["may be", "digits_18_cccccccc"])
    stoker.fails("logs", "none", needles=["there is no run none"])
    stoker.fails("logs", "../runs/other", needles=["there is no run"])
    stoker.fails("logs", ".active", needles=["there is no run"])
    for i in range(7):
        make_run(stoker, f"many_{i}")
    stoker.fails("logs", "many", needles=["many_0, many_1, many_2, many_3 and 3 more"])


def test_no_runs_at_all(stoker):
    stoker.fails("logs", "x", needles=["there is no run x"])


@pytest.mark.parametrize(
    ("args", "needle"),
    [
        (["--since", "yesterday", "x"], "--since yesterday: must be a time"),
        (["--tail", "-1", "x"], "--tail -1: must be a number of lines"),
        ([], "missing: RUN"),
        (["a", "b"], "unexpected argument"),
    ],
)
def test_wrong_command_lines(stoker, args, needle):
    stoker.fails("logs", *args, status=2, needles=[needle])


def test_full_output(stoker):
    make_run(stoker, "full", b"line\n")
    with open("/dev/full", "w") as full:
        process = stoker.popen("logs", "full", stdout=full)
        _, err = process.communicate(timeout=10)
    assert process.returncode == 1
    assert "No space left" in err
