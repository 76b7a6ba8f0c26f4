# SPDX-License-Identifier: Apache-2.0
"""The journal where the disk is full, and where its writer is killed: nothing is missing silently."""

import contextlib
import os
import pathlib
import re
import signal
import subprocess
import time

import node
import pytest

WRITER = pathlib.Path(node.BINARY).parent / "tests/journal_writer"
BEGIN = rb"\[stoker: the (?:disk has no more room for it|log reached its limit of \d+ bytes): "
BEGIN += rb"what follows is dropped\]\n"
END = rb"\[stoker: (at least )?(\d+) bytes dropped: [^\n]*\]\n"


@pytest.fixture
def small_disk(tmp):
    """small_disk("ext4"): the folder of a file system with 4 MiB or a little more."""
    mounted = []

    def make(form):
        folder = tmp / form
        folder.mkdir()
        if form == "tmpfs":
            subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "none", folder], check=True)
        else:
            image = tmp / "image"
            image.write_bytes(b"\0" * (8 << 20))
            options = ["-q", "-m", "0", "-O", "^has_journal"]
            subprocess.run(["mkfs.ext4", *options, image], check=True)
            subprocess.run(["mount", "-o", "loop", image, folder], check=True)
        mounted.append(folder)
        return folder

    yield make
    for folder in mounted:
        subprocess.run(["umount", folder], check=True)


def write(folder, data, *options, check=True):
    result = subprocess.run(
        [WRITER, folder, *options], input=data, capture_output=True, timeout=60, check=False
    )
    if check:
        assert result.returncode == 0, result.stderr
    return result


def numbered(count):
    return b"".join(b"%09d\n" % i for i in range(count))


def log_of(folder):
    return (folder / "user_logs/std_log.txt").read_bytes()


@pytest.mark.parametrize("form", ["tmpfs", "ext4"])
def test_full_disk(small_disk, form):
    folder = small_disk(form) / "attempt"
    data = numbered(1_600_000)  # 16 MB
    write(folder, data)
    log = log_of(folder)
    found = re.search(BEGIN + END + rb"\Z", log)
    assert found, log[-300:]
    kept = log[: found.start()]
    missing = 0 if data.startswith(kept) else 1  # a line break of ours before the line
    kept = kept[: len(kept) - missing]
    assert data.startswith(kept)
    assert len(kept) > 2_000_000
    assert len(kept) + int(found[2]) == len(data)


@pytest.mark.parametrize("form", ["tmpfs", "ext4"])
def test_another_fills_the_disk(small_disk, form):
    """The room for the line is taken beforehand: whoever takes the rest cannot take that."""
    disk = small_disk(form)
    writer = subprocess.Popen([WRITER, disk / "attempt"], stdin=subprocess.PIPE)
    log = disk / "attempt/user_logs/std_log.txt"
    writer.stdin.write(b"first\n")
    writer.stdin.flush()
    deadline = time.monotonic() + 10
    while not (log.exists() and log.stat().st_size):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    with (disk / "filler").open("wb", buffering=0) as filler, contextlib.suppress(OSError):
        for size in (65536, 4096, 512, 1):
            with contextlib.suppress(OSError):
                while True:
                    filler.write(b"\0" * size)
    writer.stdin.write(b"x" * 3_000_000)
    writer.stdin.close()
    assert writer.wait(timeout=30) == 0
    assert re.search(rb"x\n" + BEGIN + END + rb"\Z", log.read_bytes()), log.read_bytes()[-300:]


def test_goes_on_after_the_disk_was_full(small_disk):
    disk = small_disk("ext4")
    (disk / "filler").write_bytes(b"\0" * 2_000_000)
    writer = subprocess.Popen(
        [WRITER, disk / "attempt", "--limit", "100m"], stdin=subprocess.PIPE, bufsize=0
    )
    writer.stdin.write(b"x" * 8_000_000)
    time.sleep(0.2)
    writer.stdin.close()
    assert writer.wait(timeout=30) == 0
    (disk / "filler").unlink()
    write(disk / "attempt", b"after\n")
    log = log_of(disk / "attempt")
    assert re.search(rb"x\n" + BEGIN + END + rb"after\n\Z", log), log[-300:]


def test_killed_at_any_moment(tmp):
    """kill -9 while much is written and dropped, many times: the log is the beginning of the output,
    and where it is not all, it says so."""
    data, announced = numbered(300_000), 0
    for i in range(30):
        folder = tmp / f"attempt{i}"
        limit = 1_000_000 if i % 2 else 10_000_000
        writer = subprocess.Popen(
            [WRITER, folder, "--limit", str(limit)], stdin=subprocess.PIPE, bufsize=0
        )
        with contextlib.suppress(BrokenPipeError):
            for at in range(0, len(data) * (i + 1) // 30, 10_000):
                writer.stdin.write(data[at : at + 10_000])
        os.kill(writer.pid, signal.SIGKILL)
        writer.wait()
        with contextlib.suppress(BrokenPipeError):
            writer.stdin.close()
        with contextlib.suppress(FileNotFoundError):
            log = log_of(folder)
            kept = min(len(log), limit)
            assert data.startswith(log[:kept])
            assert len(log) <= limit or re.fullmatch(BEGIN, log[limit:]), log[limit:]
            announced += len(log) > limit
            write(folder, b"", "--limit", str(limit))
            if len(log) > limit:
                found = re.fullmatch(BEGIN + END, log_of(folder)[limit:])
                assert found and found[1] == b"at least "
            else:
                assert log_of(folder) == log
    assert announced >= 5  # or the test compares little


def test_secrets_reach_no_disk(tmp):
    secret = "correct horse battery"
    text = b"the password is correct horse battery\n" * 5000
    write(tmp / "attempt", text, "--secret", secret)
    assert log_of(tmp / "attempt") == b"the password is ***\n" * 5000
    assert write(tmp / "other", b"", "--secret", "abc", check=False).returncode == 1
