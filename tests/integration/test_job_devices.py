# SPDX-License-Identifier: Apache-2.0
"""Devices of jobs, from CDI files to the script: nodes, variables, hooks, and that nobody shares one."""

import json
import os
import pathlib
import stat

import pytest
from test_run import (  # noqa: F401
    _busybox,
    busybox,
    command,
    record,
    runs,
)
from test_supervise import detached  # noqa: F401

# The two stand for GPUs: harmless devices that no job has by itself.
GPUS = {"a": ("/dev/test-gpu-a", "/dev/loop-control"), "b": ("/dev/test-gpu-b", "/dev/hwrng")}


@pytest.fixture
def gpus(stoker, tmp):
    """Two devices of class gpu in a CDI file of the node's; returns the folder."""
    folder = tmp / "cdi"
    folder.mkdir()
    devices = [
        {
            "name": name,
            "containerEdits": {
                "deviceNodes": [{"path": path, "hostPath": host, "permissions": "rw"}],
                "env": [f"GPU_{name.upper()}=yes"],
            },
        }
        for name, (path, host) in GPUS.items()
        if pathlib.Path(host).exists()
    ]
    assert len(devices) == 2
    document = {"cdiVersion": "0.6.0", "kind": "example.com/gpu", "devices": devices}
    (folder / "gpus.json").write_text(json.dumps(document))
    stoker.configure(devices={"cdi_folders": [str(folder)]})
    return folder


def test_device_in_the_job(command, gpus):  # noqa: F811
    """The node and its variable are there, and it can be opened; those of the other one are not."""
    script = "ls /dev; env; (: < /dev/test-gpu-a) && echo opened"
    result = command("sh", "-c", script, options=["--device", "example.com/gpu=a"])
    assert "test-gpu-a" in result.stdout and "test-gpu-b" not in result.stdout
    assert "GPU_A=yes" in result.stdout and "GPU_B" not in result.stdout
    assert "opened" in result.stdout, result.stdout
    assert "test-gpu" not in command("ls", "/dev").stdout


def test_two_jobs_never_share(detached, stoker, busybox, gpus):  # noqa: F811
    """Each gets one of two; the third is refused with who has them, and gets one when that is free."""
    script = "ls /dev | grep test-gpu; sleep 100"
    jobs = [detached("sh", "-c", script, options=["--gpus", "1"]) for _ in range(2)]
    for job in jobs:
        job.wait_for_text("gpu")
    assert {job.text().strip() for job in jobs} == {"test-gpu-a", "test-gpu-b"}
    line = stoker.fails("run", "--image", busybox, "--gpus", "1", "--", "true", needles=["gpu"])
    assert jobs[0].id in line or jobs[1].id in line, line
    held = {d["name"]: d for d in json.loads(stoker("devices", "--json").stdout)["devices"]}
    assert {d["state"] for d in held.values()} == {"held"}
    freed = jobs[0].text().strip()
    stoker("stop", "--time", "0", jobs[0].id)
    after = stoker("run", "--image", busybox, "--gpus", "1", "--", "ls", "/dev").stdout
    assert freed in after


def test_never_met(stoker, busybox, gpus):  # noqa: F811
    stoker.fails("run", "--image", busybox, "--gpus", "3", "--", "true", needles=["3", "2"])
    options = ["--device", "example.com/gpu=c"]
    stoker.fails("run", "--image", busybox, *options, "--", "true", needles=["example.com/gpu=c"])


def test_killed_supervisor_frees_the_device(detached, stoker, command, gpus):  # noqa: F811
    job = detached("sleep", "100", options=["--device", "example.com/gpu=a"])
    stoker.killed = True
    os.kill(job.supervisor, 9)
    result = command("ls", "/dev", options=["--device", "example.com/gpu=a"])
    assert "test-gpu-a" in result.stdout


def test_device_that_stays_in_use(command, detached, stoker, gpus):  # noqa: F811
    """Somebody else has it open when the job ends: it is set aside, with the reason in the record."""
    options = ["--device", "example.com/gpu=a"]
    run = detached("sh", "-c", "echo up; sleep 1", options=options)
    run.wait_for_text("up\n")
    with open(GPUS["a"][1], "rb"):
        stoker("wait", run.id)
        assert any("example.com/gpu=a" in w for w in run.record()["warnings"]), run.record()
        result = command("true", options=options, check=False)
        assert result.returncode == 1 and str(os.getpid()) in result.stderr, result.stderr
    assert command("true", options=options).returncode == 0  # it is proved free again


def test_hook(command, stoker, gpus, tmp):  # noqa: F811
    """As NVIDIA's hooks do: from the state to the bundle to the root, and a file in there."""
    seen = tmp / "seen"
    seen.mkdir()
    seen.chmod(0o777)
    for folder in [tmp, *tmp.parents]:
        folder.chmod(folder.stat().st_mode | stat.S_IXOTH)
    hook = tmp / "hook"
    hook.write_text(
        "#!/usr/bin/python3\n"
        "import json, pathlib, sys\n"
        "state = json.load(sys.stdin)\n"
        "config = json.loads((pathlib.Path(state['bundle']) / 'config.json').read_text())\n"
        "root = pathlib.Path(config['root']['path'])\n"
        "(root / 'etc/by-hook').write_text(state['id'])\n"
        f"pathlib.Path('{seen}/status').write_text(state['status'])\n"
    )
    hook.chmod(0o755)
    document = json.loads((gpus / "gpus.json").read_text())
    document["devices"][0]["containerEdits"]["hooks"] = [
        {"hookName": "createContainer", "path": str(hook)}
    ]
    (gpus / "gpus.json").write_text(json.dumps(document))
    options = ["--device", "example.com/gpu=a"]
    assert command("cat", "/etc/by-hook", options=options).stdout == record(stoker)["run_id"]
    assert (seen / "status").read_text() == "creating"


def test_hook_that_fails(stoker, busybox, gpus):  # noqa: F811
    document = json.loads((gpus / "gpus.json").read_text())
    document["containerEdits"] = {"hooks": [{"hookName": "prestart", "path": "/bin/false"}]}
    (gpus / "gpus.json").write_text(json.dumps(document))
    options = ["--device", "example.com/gpu=a"]
    stoker.fails(
        "run", "--image", busybox, *options, "--", "true", needles=["prestart hook 1: false"]
    )
    (folder,) = runs(stoker)
    assert json.loads((folder / "1/run.json").read_text())["state"] == "Failed"
