# SPDX-License-Identifier: Apache-2.0
"""`sandbox: {runtime: runc}` in agent.yaml: the same jobs in another runtime's containers."""

import json
import os
import pathlib
import signal
import subprocess
import time

import node
import pytest
from test_run import (  # noqa: F401
    _busybox,
    busybox,
    image,
    record,
    run_directory,
    runs,
    wait_for,
    write_job,
)  # fmt: skip
from test_supervise import Run, is_alive, sleepers


def containers(stoker):
    state = stoker.run_dir / "runtime"
    if not state.exists():
        return []
    listed = subprocess.run(
        ["runc", "--root", state, "list", "-q"], check=True, stdout=subprocess.PIPE, text=True
    )
    return listed.stdout.split()


def groups(run_id):
    # os.walk() passes over what others remove meanwhile.
    walk = os.walk("/sys/fs/cgroup")
    return [pathlib.Path(folder, n) for folder, names, _ in walk for n in names if run_id in n]


def assert_nothing_left(stoker):
    assert containers(stoker) == []
    state = stoker.run_dir / "runtime"
    assert not state.exists() or list(state.iterdir()) == []
    for folder in runs(stoker) if (stoker.state / "runs").exists() else []:
        assert groups(folder.name) == []
        assert not (folder / "1/upper").exists() and not (folder / "1/work").exists()


@pytest.fixture
def runc(stoker):
    """A node whose jobs run in runc's containers. Nothing is left of them at the end."""
    stoker.configure(sandbox={"runtime": "runc"})
    yield stoker
    assert_nothing_left(stoker)


@pytest.fixture
def detached(runc, busybox):  # noqa: F811
    started = []

    def start(*args, options=()):
        result = runc("run", "-d", "--image", busybox, *options, "--", *args)
        started.append(Run(runc, result.stdout.strip()))
        return started[-1]

    yield start
    for run in started:
        runc("kill", run.id, check=False)


def command(stoker, image, *args, options=(), **more):  # noqa: F811
    return stoker("run", "--image", image, *options, "--", *args, **more)


@pytest.mark.parametrize(
    ("script", "status", "code"),
    [
        ("exit 0", 0, "ScriptExited"),
        ("exit 3", 3, "ScriptExited"),
        ("sh -c 'kill -9 $$'; exit $?", 137, "ScriptExited"),  # process 1 is its own
    ],
)
def test_exit_status(runc, busybox, script, status, code):  # noqa: F811
    result = command(runc, busybox, "sh", "-c", f"echo said; {script}", check=False)
    assert result.returncode == status and result.stdout.startswith("said\n"), result.stderr
    document = record(runc)
    assert document["cause"]["code"] == code
    assert document["resources"]["memory_peak_bytes"] > 0
    assert document["resources"]["cpu_usec"] > 0


def test_job(runc, busybox, tmp):  # noqa: F811
    """Output, outputs, inputs, secrets, links of the run's folder."""
    script = (
        "cat data; echo result > outputs/file; echo log > logs/file\n"
        "stat -c %u /etc/hosts /stoker; cat $IN/x\n"
        "cat /proc/self/uid_map; readlink /proc/self/ns/user; pwd; cat /stoker/secrets/*; echo\n"
        "grep -E 'NoNewPrivs|Seccomp:|CapEff' /proc/self/status; echo x > /proc/sys/kernel/hostname\n"
        "hostname; true\n"
    )
    (tmp / "in").mkdir()
    (tmp / "in/x").write_text("input\n")
    (tmp / "secret").write_text("hidden-word")
    path = write_job(
        tmp / "job", busybox, script, inputs=[{"name": "in", "kind": "bind", "path": str(tmp / "in")}],
        secrets={"S": {"file": str(tmp / "secret")}},
        environment_variables={"IN": "/stoker/inputs/in"},
    )  # fmt: skip
    (tmp / "job/src/data").write_text("data\n")
    out = runc("run", path).stdout
    folder = run_directory(runc)
    assert (folder / "outputs/file").read_text() == "result\n"
    assert (folder / "logs/file").read_text() == "log\n"
    assert out.startswith("data\n0\n0\ninput\n"), out
    assert os.readlink("/proc/self/ns/user") not in out, "a user namespace of its own"
    assert "4294967295" not in out, "the node's ids are not the job's"
    assert "hidden-word" not in out and "***" in out
    assert "NoNewPrivs:\t1" in out and "Seccomp:\t2" in out and "00000000800405fb" in out
    assert "Read-only file system" in out


def test_user_of_the_image(runc, image):  # noqa: F811
    reference = image(User="ada")
    script = "id -u; echo x > /stoker/run/outputs/mine; grep CapEff /proc/self/status"
    assert "1000" in command(runc, reference, "sh", "-c", script).stdout
    assert (run_directory(runc) / "outputs/mine").read_text() == "x\n"


def test_network_is_private(runc, busybox):  # noqa: F811
    out = command(runc, busybox, "sh", "-c", "cat /proc/net/dev; readlink /proc/self/ns/net").stdout
    assert os.readlink("/proc/self/ns/net") not in out
    assert "lo:" in out and len([x for x in out.splitlines() if ":" in x and "|" not in x]) >= 2


def test_stop_and_kill(detached, runc):
    asked = detached("sh", "-c", "trap 'echo asked; exit 0' TERM; echo ready; "
                     "while true; do sleep 0.05; done")  # fmt: skip
    asked.wait_for_text("ready")
    assert groups(asked.id)
    runc("stop", asked.id)
    assert asked.text() == "ready\nasked\n"
    assert asked.record()["state"] == "Canceled"
    mark = f"sleep 51{os.getpid()}"
    killed = detached("sh", "-c", f"trap '' TERM; ({mark} &) ; echo ready; {mark}")
    killed.wait_for_text("ready")
    runc("kill", killed.id)
    assert runc("wait", killed.id, check=False).returncode == 137
    assert not sleepers(mark)


def test_deadline(runc, busybox):  # noqa: F811
    script = "trap 'exit 0' TERM; while true; do sleep 0.05; done"
    options = ["--timeout", "1"]
    result = command(runc, busybox, "sh", "-c", script, options=options, check=False)
    assert result.returncode != 0
    assert "1 s" in record(runc)["cause"]["message"]


def test_stats_and_exec(detached, runc):
    run = detached("sh", "-c", "grep -E 'Cap|NoNew|Seccomp:' /proc/self/status; echo ready; "
                   "while true; do :; done", options=["-e", "OF_JOB=1"])  # fmt: skip
    run.wait_for_text("ready")
    (row,) = runc.json("stats", "--json", "--no-stream")
    assert row["run_id"] == run.id and row["memory_bytes"] > 4096 and row["pids"] >= 1
    result = runc("exec", run.id, "sh", "-c", "echo $OF_JOB; hostname; exit 5", check=False)
    assert (result.returncode, result.stdout.split()[0]) == (5, "1")
    status = runc("exec", run.id, "grep", "-E", "Cap|NoNew|Seccomp:", "/proc/self/status").stdout
    assert run.text().startswith(status)
    assert runc("exec", "-u", "ada", run.id, "id", "-u").stdout == "1000\n"


def test_runtime_that_does_not_exist(stoker, busybox):  # noqa: F811
    stoker.configure(sandbox={"runtime": "no-such-runtime"})
    stoker.fails("run", "--image", busybox, "true", needles=["no-such-runtime"])
    assert record(stoker)["cause"]["class"] == "system"
    assert_nothing_left(stoker)


def test_runtime_that_fails(stoker, busybox, tmp):  # noqa: F811
    """Its last line is the reason that is given."""
    script = tmp / "failing"
    script.write_text(
        '#!/bin/sh\nlog=\nwhile [ $# -gt 0 ]; do [ "$1" = --log ] && log=$2; shift; done\n'
        '[ -n "$log" ] && echo first > "$log" && echo "this is the reason" >> "$log"\nexit 1\n'
    )
    script.chmod(0o755)
    stoker.configure(sandbox={"runtime": str(script)})
    stoker.fails("run", "--image", busybox, "true", needles=[str(script), "this is the reason"])
    assert record(stoker)["state"] == "Failed"
    assert_nothing_left(stoker)


def test_print_config(runc, busybox, tmp):  # noqa: F811
    """A whole document, which the runtime itself takes, and no run."""
    printed = command(runc, busybox, "sh", "-c", "exit 5", options=["--print-config"]).stdout
    document = json.loads(printed)
    assert document["ociVersion"].startswith("1.")
    assert document["process"]["args"] == ["sh", "-c", "exit 5"]
    assert document["process"]["noNewPrivileges"] is True
    kinds = {n["type"] for n in document["linux"]["namespaces"]}
    assert {"user", "pid", "mount", "ipc", "uts", "network", "cgroup"} <= kinds
    assert document["linux"]["uidMappings"][0]["size"] == 65536
    assert document["linux"]["seccomp"]["defaultAction"] == "SCMP_ACT_ERRNO"
    assert "/proc/kcore" in document["linux"]["maskedPaths"]
    assert document["root"]["path"] == "rootfs"
    assert not any("x-idmap" in m.get("options", ()) for m in document["mounts"])
    assert runs(runc) == []


def test_kill_of_the_supervisor(detached, runc):
    """The container goes with the next command, and the runtime's record of it."""
    mark = f"sleep 52{os.getpid()}"
    run = detached("sh", "-c", f"trap '' TERM; echo ready; ({mark} &); {mark}")
    run.wait_for_text("ready")
    assert containers(runc) == [run.id]
    os.kill(run.supervisor, signal.SIGKILL)
    wait_for(lambda: not is_alive(run.supervisor), "the supervisor's end")
    runc("ps")
    wait_for(lambda: not sleepers(mark), "the end of the job", 5)
    assert run.record()["cause"]["code"] == "supervisor_lost"
    assert not (run.folder / "upper").exists()
    assert node.mounts_below(runc.run_dir / "runs") == []
    runc.killed = True


def test_kill_of_the_supervisor_while_it_starts(stoker, busybox, tmp):  # noqa: F811
    """The runtime has made the container and not yet returned: neither is left."""
    script = tmp / "slow"
    script.write_text(
        '#!/bin/sh\nrunc "$@" || exit\n'
        f'case "$*" in *" create "*) echo > {tmp}/made; exec sleep 53{os.getpid()};; esac\n'
    )
    script.chmod(0o755)
    stoker.configure(sandbox={"runtime": str(script)})
    with stoker.popen("run", "--image", busybox, "--", "sleep", "1000") as process:
        wait_for((tmp / "made").exists, "the container")
        (folder,) = runs(stoker)
        run = Run(stoker, folder.name)
        inside = {int(x) for g in groups(run.id) for x in (g / "cgroup.procs").read_text().split()}
        assert len(inside) == 1, "the container waits for its start"
        os.kill(run.record()["supervisor"]["pid"], signal.SIGKILL)
        process.communicate(timeout=10)
    assert process.returncode == 1
    stoker("ps")
    wait_for(lambda: not any(map(is_alive, inside)), "the end of the container")
    wait_for(lambda: not sleepers(f"sleep 53{os.getpid()}"), "the end of the runtime")
    assert run.record()["cause"]["code"] == "supervisor_lost"
    assert_nothing_left(stoker)
    stoker.killed = True


def test_many(runc, busybox):  # noqa: F811
    """One after the other, and nothing adds up."""
    before = len(node.mounts_below(runc.folder))
    start = time.monotonic()
    for _ in range(5):
        command(runc, busybox, "true")
    assert time.monotonic() - start < 20
    assert len(node.mounts_below(runc.folder)) <= before + 2
