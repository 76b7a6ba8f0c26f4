# SPDX-License-Identifier: Apache-2.0
"""Devices by CDI files: who gets which, and what comes back. The GPUs are nodes in a temporary folder;
where one is opened it has the number of /dev/full, which nobody else here uses. Jobs are
drivers/device_driver.c, which does with devices what a supervisor does."""

import contextlib
import json
import os
import pathlib
import random
import stat
import subprocess
import time

import node
import pytest

DRIVER = os.environ.get(
    "STOKER_DEVICE_DRIVER", str(pathlib.Path(node.BINARY).parent / "tests/device_driver")
)
FULL = os.makedev(1, 7)


class Job:
    """A process that acquires devices: `.said` is its first answer."""

    def __init__(self, machine, run, gpus, *names, options=(), wait=None):
        options = [*options, *(("--wait", str(wait)) if wait else ())]
        folders = (machine.cdi, machine.run_dir, machine.state)
        self.process = subprocess.Popen(
            [DRIVER, *options, *map(str, folders), run, str(gpus), *names],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        machine.jobs.append(self)
        self.said = self.line()

    def line(self):
        return self.process.stdout.readline().rstrip("\n")

    def end(self):
        """Release; the answer."""
        self.process.stdin.close()
        answer = self.line()
        assert self.process.wait(20) == 0
        self.process.stdout.close()
        return answer

    def kill(self):
        """Also after end()."""
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


class Machine:
    """CDI files and nodes of devices in a folder, and the jobs that use them."""

    def __init__(self, folder, run_dir, state):
        self.folder, self.run_dir, self.state = folder, run_dir, state
        self.cdi = folder / "cdi"
        self.cdi.mkdir()
        self.jobs = []

    def node(self, name, number):
        path = self.folder / name
        os.mknod(path, stat.S_IFCHR | 0o666, number)
        return path

    def describe(self, devices, kind="v.com/gpu", name="gpus.json"):
        """devices: {name: [paths of nodes]}."""
        entries = [
            {"name": key, "containerEdits": {"deviceNodes": [{"path": str(p)} for p in paths]}}
            for key, paths in devices.items()
        ]
        document = {"cdiVersion": "0.6.0", "kind": kind, "devices": entries}
        (self.cdi / name).write_text(json.dumps(document))

    def job(self, *args, **options):
        return Job(self, *args, **options)


@pytest.fixture
def machine(tmp, stoker):
    stoker.configure(devices={"cdi_folders": [str(tmp / "cdi")]})
    m = Machine(tmp, stoker.run_dir, stoker.state)
    yield m
    for job in m.jobs:
        job.kill()


@pytest.fixture
def one(machine):
    """A machine with one GPU, v.com/gpu=GPU-x, also called 0. Returns it and its node."""
    path = machine.node("gpu0", FULL)
    machine.describe({"0": [path], "GPU-x": [path]})
    return machine, path


@contextlib.contextmanager
def keeps_open(path):
    """A process of somebody else's that has the node open."""
    with open(path) as f:
        process = subprocess.Popen(["sleep", "1000"], stdin=f)
    try:
        yield process.pid
    finally:
        process.kill()
        process.wait()


def test_list(stoker, machine):
    zero, one = machine.node("a", os.makedev(240, 0)), machine.node("b", os.makedev(240, 1))
    machine.describe({"0": [zero], "GPU-x": [zero], "1": [one], "all": [zero, one]})
    machine.describe({"gone": [machine.folder / "gone"]}, kind="v.com/odd", name="odd.json")
    (machine.cdi / "bad.yaml").write_text("cdiVersion: 0.6.0\nkind: v.com/c\ndevice: []\n")
    job = machine.job("run-1", 1)
    assert job.said == "got v.com/gpu=GPU-x"

    listed = stoker.json("devices", "--json")
    devices = {d["name"]: d for d in listed["devices"]}
    assert set(devices) == {"v.com/gpu=GPU-x", "v.com/gpu=1", "v.com/gpu=all", "v.com/odd=gone"}
    held = devices["v.com/gpu=GPU-x"]
    assert held["names"] == ["v.com/gpu=0", "v.com/gpu=GPU-x"]
    assert held["nodes"] == [str(zero)]
    assert (held["state"], held["run"], held["gpu"]) == ("held", "run-1", True)
    assert devices["v.com/gpu=1"]["state"] == "free"
    assert devices["v.com/gpu=all"]["state"] == "held"
    assert devices["v.com/gpu=all"]["gpu"] is False
    assert devices["v.com/odd=gone"]["state"] == "missing"
    (warning,) = listed["warnings"]
    assert warning.startswith(f"{machine.cdi}/bad.yaml:3:1: ") and "did you mean" in warning

    result = stoker("devices")
    assert result.stderr.count("\n") == 1 and "bad.yaml" in result.stderr
    rows = result.stdout.splitlines()
    assert len(rows) == 5 and any("held       by run run-1" in row for row in rows)
    assert job.end() == "released"
    assert "held" not in stoker("devices").stdout


def test_list_of_nothing(stoker, machine):
    assert f"no CDI file describes a device; files are looked for in {machine.cdi}" in (
        stoker("devices").stdout
    )
    assert stoker.json("devices", "--json") == {"devices": [], "warnings": []}
    stoker.fails("devices", "give", "x", status=2, needles=["devices release NAME"])
    stoker.fails("devices", "release", "x", needles=["is not the name of a device"])
    stoker.fails("devices", "release", "v.com/gpu=0", needles=["is not set aside"])


def test_second_job_is_refused_third_waits(one):
    machine, _ = one
    first = machine.job("run-1", 1)
    assert first.said == "got v.com/gpu=GPU-x"
    # Under its other name, too.
    second = machine.job("run-2", 0, "v.com/gpu=0")
    assert second.said == (
        "refused unavailable: not free now: v.com/gpu=GPU-x is held by run run-1"
    )
    third = machine.job("run-3", 1, wait=20000)
    assert third.said == "waiting: 1 GPU is not free now: v.com/gpu=GPU-x is held by run run-1"
    began = time.monotonic()
    assert first.end() == "released"
    assert third.line() == "got v.com/gpu=GPU-x"
    assert time.monotonic() - began < 1.5  # woken, not by the look every 2 s
    assert machine.job("run-4", 2).said.startswith("refused invalid: 2 GPUs are asked for")


def test_killed_holder_frees_its_device(one):
    machine, _ = one
    first = machine.job("run-1", 1)
    second = machine.job("run-2", 1, wait=20000)
    assert "held by run run-1" in second.said
    first.kill()
    assert second.line() == "got v.com/gpu=GPU-x"
    second.kill()
    assert machine.job("run-3", 1).said == "got v.com/gpu=GPU-x"


def test_leaked_descriptor_sets_aside(stoker, one):
    machine, path = one
    job = machine.job("run-1", 1, options=["--timeout", "100"])
    with keeps_open(path) as pid:
        reason = f"still open in process {pid} (sleep)"
        assert job.end() == f"aside v.com/gpu=GPU-x is set aside: {reason}"
        (device,) = stoker.json("devices", "--json")["devices"]
        assert (device["state"], device["run"], device["reason"]) == ("set aside", "run-1", reason)
        assert f"set aside  after run run-1: {reason}" in stoker("devices").stdout
        refused = machine.job("run-2", 1).said
        assert f"v.com/gpu=GPU-x is set aside after run run-1: {reason}" in refused
        waiting = machine.job("run-3", 1, wait=20000)
        assert reason in waiting.said
    # The process is gone: what waits finds the device free.
    assert waiting.line() == "got v.com/gpu=GPU-x"
    assert waiting.end() == "released"
    assert stoker.json("devices", "--json")["devices"][0]["state"] == "free"


def test_node_of_another_name_counts(one):
    """In a container the node has another path, and may be removed while it is open."""
    machine, _ = one
    other = machine.node("other", FULL)
    job = machine.job("run-1", 1)
    with keeps_open(other) as pid:
        other.unlink()
        assert f"still open in process {pid} " in job.end()


def test_release_waits_for_a_process_that_ends(one):
    machine, path = one
    job = machine.job("run-1", 1, options=["--timeout", "10000"])
    with open(path) as f:
        process = subprocess.Popen(["sleep", "0.3"], stdin=f)
    assert job.end() == "released"
    process.wait()


def test_set_aside_survives_and_is_readmitted(stoker, one):
    machine, path = one
    job = machine.job("run-1", 1)
    with keeps_open(path):
        assert job.end().startswith("aside ")
        for file in (machine.run_dir / "devices").iterdir():  # as a boot does
            file.unlink()
        assert "is set aside after run run-1" in machine.job("run-2", 1).said
        stoker("devices", "release", "v.com/gpu=0")
        assert stoker.json("devices", "--json")["devices"][0]["state"] == "free"
        # What has it open now was there before, as nvidia-persistenced is.
        job = machine.job("run-3", 1)
        assert job.said == "got v.com/gpu=GPU-x"
        assert job.end() == "released"


def test_killed_holder_that_left_something(one):
    """Nobody proved the device free after run-1: whoever wants it next looks."""
    machine, path = one
    job = machine.job("run-1", 1)
    with keeps_open(path) as pid:
        job.kill()
        refused = machine.job("run-2", 1).said
        assert f"is set aside after run run-1: still open in process {pid} (sleep)" in refused
    assert machine.job("run-3", 1).said == "got v.com/gpu=GPU-x"


def test_many_at_once_never_share(machine):
    gpus, jobs, rounds = 4, 6, 200
    paths = [machine.node(f"gpu{i}", os.makedev(240, i)) for i in range(gpus)]
    machine.describe(
        {str(i): [p] for i, p in enumerate(paths)}
        | {f"GPU-{i}": [p] for i, p in enumerate(paths)}
        | {"all": paths}
    )
    chance = random.Random(3)
    workers = [machine.job(f"run-{i}", 0) for i in range(jobs)]
    assert {w.said for w in workers} == {"got"}
    given = refused = 0
    for _ in range(rounds):
        for w in workers:
            w.process.stdin.write(f"{chance.randint(1, gpus)}\n")
            w.process.stdin.flush()
        names = []
        for w in workers:
            # What it had is released first; of a round that was refused there was nothing.
            answer = w.line()
            if answer == "released":
                answer = w.line()
            if answer.startswith("got"):
                names += answer.split()[1:]
                given += 1
            else:
                assert answer.startswith("refused unavailable: "), answer
                assert "is held by run run-" in answer or "is being released" in answer
                refused += 1
        assert len(names) == len(set(names)) <= gpus, f"given twice: {sorted(names)}"
    assert given > rounds / 2 and refused > rounds / 2  # there was something to quarrel about
    for w in workers:
        w.end()
    assert machine.job("last", gpus).said.count("GPU-") == gpus
