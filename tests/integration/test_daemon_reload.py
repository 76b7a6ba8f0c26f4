# SPDX-License-Identifier: Apache-2.0
"""systemd sets up the groups of its units anew when it reads its configuration again. Under other runtimes
that has taken GPUs away from containers that ran. A job keeps what it was given."""

import contextlib
import json
import pathlib
import re
import subprocess

import pytest
from test_cgroup import MACHINE, Groups
from test_run import _busybox, busybox, wait_for  # noqa: F401
from test_supervise import detached  # noqa: F401

pytestmark = pytest.mark.vm

# Stands for a GPU: a device that no job has by itself.
DEVICE = "/dev/loop-control"
LIMITS = ("memory.max", "pids.max", "cpu.max", "memory.limit_in_bytes", "cpu.cfs_quota_us")
SCRIPT = """
while :; do
	if (: </dev/test-gpu) 2>/dev/null; then echo open; else echo taken; fi
	sleep 0.1
done
"""


@pytest.fixture
def job(stoker, detached, tmp):  # noqa: F811
    """A job that opens its device again and again, and says how that went."""
    devices = [
        {
            "name": "a",
            "containerEdits": {
                "deviceNodes": [{"path": "/dev/test-gpu", "hostPath": DEVICE, "permissions": "rw"}]
            },
        }
    ]
    (tmp / "cdi").mkdir()
    document = {"cdiVersion": "0.6.0", "kind": "example.com/gpu", "devices": devices}
    (tmp / "cdi/gpu.json").write_text(json.dumps(document))
    stoker.configure(devices={"cdi_folders": [str(tmp / "cdi")]})
    run = detached("sh", "-c", SCRIPT, options=["--device", "example.com/gpu=a"])
    run.wait_for_text("open\n", 30)
    return run


def folders(run):
    """Of the job's groups: one, or on version 1 one in each hierarchy."""
    lines = pathlib.Path(f"/proc/{run.container}/cgroup").read_text().splitlines()
    groups = Groups(MACHINE)
    (path,) = {x.split(":", 2)[2] for x in lines if run.id in x}
    return path, groups, groups.folders(path)


def limits(places):
    found = {}
    for place in places:
        for name in LIMITS:
            with contextlib.suppress(FileNotFoundError):
                found[name] = (place / name).read_text()
    return found


def goes_on(run, word="open"):
    """Three more lines of what the job says, which tell of after now."""
    before = run.text().count(f"{word}\n")
    wait_for(lambda: run.text().count(f"{word}\n") > before + 3, f"{word} in the log", 30)


@pytest.mark.parametrize("verb", ["daemon-reload", "daemon-reexec"])
def test_a_job_keeps_its_device_and_limits(job, verb):
    path, groups, places = folders(job)
    before = limits(places)
    assert {"memory.max", "pids.max"} <= set(before) or "memory.limit_in_bytes" in before
    for _ in range(3):
        subprocess.run(["systemctl", verb], check=True, timeout=60)
        # Units that come and go make systemd decide anew which controllers it needs where.
        subprocess.run(
            ["systemd-run", "--quiet", "--wait", "-p", "DevicePolicy=closed", "true"],
            check=True, timeout=60,
        )  # fmt: skip
        goes_on(job)
    assert set(re.findall("[a-z]+", job.text())) == {"open"}
    assert limits(places) == before
    # That the job would have told: now we take the device away.
    groups.call("update", path, "deny=a:*:*:rwm", "allow=c:1:3:rwm", "allow=c:136:*:rwm")
    goes_on(job, "taken")
