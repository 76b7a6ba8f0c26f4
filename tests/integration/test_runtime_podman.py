# SPDX-License-Identifier: Apache-2.0
"""Podman with our runtime: `podman --runtime …/stoker-oci` runs, execs into, stops and removes containers
of an image made here."""

import json
import os
import pathlib
import shutil
import subprocess
import tempfile
import time

import node
import ocibundle
import pytest
import test_runtime_cli
from ocibundle import cgroups_of, wait_for

# This machine may not raise its limits, and podman's own are high.
LIMITS = ["--ulimit", "nofile=1000:1000", "--ulimit", "nproc=2000:2000"]


class Podman:
    """podman("run", …) with storage of its own. What it prints on stderr is an error of the test."""

    def __init__(self, folder):
        self.folder = folder
        folder.mkdir()
        (folder / "stoker-oci").symlink_to(pathlib.Path(node.BINARY).resolve())
        self.parent = f"stoker-podman-{os.urandom(4).hex()}"

    def command(self, *args):
        options = {
            "--root": self.folder / "storage",
            "--runroot": self.folder / "run",
            "--tmpdir": self.folder / "tmp",
            "--runtime": self.folder / "stoker-oci",
            "--storage-driver": "vfs",
            "--cgroup-manager": "cgroupfs",
            "--events-backend": "file",
        }
        words = [str(w) for pair in options.items() for w in pair]
        if args[0] in ("run", "create"):
            group = ["--cgroup-parent", f"/{self.parent}"]
            args = (args[0], *LIMITS, "--network", "none", *group, *args[1:])
        return ["podman", *words, *map(str, args)]

    def __call__(self, *args, status=0, timeout=60, **options):
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **options}
        result = subprocess.run(self.command(*args), timeout=timeout, check=False, **options)
        assert result.returncode == status, f"{args}: {result.returncode}: {result.stderr}"
        return result

    def inspect(self, name):
        return json.loads(self("inspect", name).stdout)[0]

    def assert_nothing_left(self):
        assert self("ps", "-aq").stdout == ""
        for group in cgroups_of(self.parent):
            assert not list(group.glob("libpod-*")), group
        # What podman makes for its monitor is podman's; our containers' mounts are gone with them.
        assert "libpod-" not in "".join(node.mounts_below(self.folder))

    def destroy(self):
        self("rm", "--all", "--force", "--time", "0")
        for group in cgroups_of(self.parent):
            for folder, _, _ in os.walk(group, topdown=False):
                wait_for(lambda f=folder: remove_group(f), f"the end of {folder}")
        node.unmount_below(self.folder)


def remove_group(folder):
    ocibundle.reap()
    try:
        os.rmdir(folder)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


@pytest.fixture(scope="module")
def _podman():
    # Of its own folder's names it takes 50 characters at most.
    folder = pathlib.Path(tempfile.mkdtemp(prefix="stoker-podman-", dir="/var/tmp"))
    p = Podman(folder / "p")
    bundle = ocibundle.Bundle(folder / "image")
    (bundle.rootfs / "run").mkdir()
    archive = folder / "image.tar"
    subprocess.run(["tar", "-C", bundle.rootfs, "-cf", archive, "."], check=True)
    p("import", "--change", "ENV PATH=/bin", archive, "busybox", stderr=subprocess.DEVNULL)
    yield p
    p.destroy()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def podman(_podman):
    yield _podman
    try:
        _podman.assert_nothing_left()
    finally:
        _podman("rm", "--all", "--force", "--time", "0")


@pytest.fixture
def name():
    return f"p{os.urandom(5).hex()}"


def test_run(podman):
    result = podman("run", "--rm", "busybox", "sh", "-c", "echo $$; echo err >&2; exit 7", status=7)
    assert (result.stdout, result.stderr) == ("1\n", "err\n")
    assert podman("run", "--rm", "-i", "busybox", "cat", input="through").stdout == "through"


def test_exit_status_of_what_cannot_run(podman):
    assert "nosuch: not found" in podman("run", "--rm", "busybox", "nosuch", status=127).stderr
    assert "not found" in podman("run", "--rm", "busybox", "/nosuch", status=127).stderr
    assert "not be executed" in podman("run", "--rm", "busybox", "/etc/passwd", status=126).stderr


def test_settings(podman, tmp):
    (tmp / "data").mkdir()
    (tmp / "data/file").write_text("of the node")
    script = (
        "id -u; id -g; pwd; hostname; echo $A; cat /data/file; touch /data/x; touch /tmp/x && echo tmp;"
        "touch /x; stat -c %a /tmp; grep -E 'Seccomp:|CapEff' /proc/self/status; cat /proc/self/cgroup"
    )
    result = podman(
        "run", "--rm", "--user", "1000:100", "--workdir", "/work", "--hostname", "named", "-e", "A=b",
        "-v", f"{tmp}/data:/data:ro", "--read-only", "--memory", "64m", "--cpus", "1", "--pids-limit",
        "50", "--cap-drop", "all", "busybox", "sh", "-c", script, status=0,
    )  # fmt: skip
    lines = result.stdout.splitlines()
    assert lines[:6] == ["1000", "100", "/work", "named", "b", "of the nodetmp"]
    assert lines[6:9] == ["1777", "CapEff:\t0000000000000000", "Seccomp:\t2"]
    assert any(f":/{podman.parent}/libpod-" in line for line in lines[9:])
    assert result.stderr.count("Read-only file system") == 2


def test_life(podman, name):
    podman("run", "-d", "--name", name, "busybox", "sh", "-c", "trap 'echo bye; exit 3' TERM; echo ready; "
           "while :; do sleep 0.05; done")  # fmt: skip
    wait_for(lambda: podman("logs", name).stdout == "ready\n", "the first line")
    assert podman.inspect(name)["State"]["Status"] == "running"
    assert podman("exec", name, "sh", "-c", "echo in; exit 5", status=5).stdout == "in\n"
    assert (
        podman("exec", "--user", "7", "-w", "/tmp", name, "sh", "-c", "id -u; pwd").stdout
        == "7\n/tmp\n"
    )
    assert "not found" in podman("exec", name, "nosuch", status=127).stderr
    assert "sleep" in podman("top", name).stdout
    podman("stop", "--time", "10", name)
    state = podman.inspect(name)["State"]
    assert (state["Status"], state["ExitCode"]) == ("exited", 3)
    assert podman("logs", name).stdout == "ready\nbye\n"
    podman("start", name)
    wait_for(lambda: podman("logs", name).stdout.count("ready") == 2, "the second start")
    podman("kill", name)
    assert podman("wait", name).stdout == "137\n"
    podman("rm", name)


def test_stop_of_what_does_not_listen(podman, name):
    podman("run", "-d", "--name", name, "busybox", "sleep", "1000")
    began = time.monotonic()
    podman("stop", "--time", "1", name)
    assert time.monotonic() - began < 8
    assert podman.inspect(name)["State"]["ExitCode"] == 137
    podman("rm", name)


def test_rm_force(podman, name):
    podman("run", "-d", "--name", name, "busybox", "sh", "-c", "sleep 1000 & sleep 1000")
    pid = podman.inspect(name)["State"]["Pid"]
    podman("rm", "--force", "--time", "0", name)
    wait_for(lambda: ocibundle.reap() or not pathlib.Path(f"/proc/{pid}").exists(), "its end")


def test_create_then_start(podman, name):
    podman("create", "--name", name, "busybox", "sh", "-c", "echo started")
    assert podman("start", "--attach", name).stdout == "started\n"
    podman("rm", name)


def test_terminal(podman, name):
    podman("run", "-d", "--name", name, "busybox", "sleep", "1000")
    script = "tty; read x; echo got $x; exit 4"
    terminal = test_runtime_cli.Terminal(podman.command("exec", "-it", name, "sh", "-c", script))
    terminal.read_until("/dev/pts/0\r\n")
    terminal.type("word\n")
    terminal.read_until("got word\r\n")
    assert terminal.end() == 4
    podman("rm", "--force", "--time", "0", name)
    terminal = test_runtime_cli.Terminal(
        podman.command(
            "run", "--rm", "-it", "busybox", "sh", "-c", "tty; echo x > /dev/console; exit 3"
        )
    )
    terminal.read_until("x\r\n")
    assert terminal.end() == 3


def test_init_and_user_namespace(podman):
    """Podman's own ids: --uidmap makes a user namespace, with the image's files given to it."""
    maps = ["--uidmap", "0:200000:65536", "--gidmap", "0:200000:65536"]
    result = podman("run", "--rm", *maps, "busybox", "sh", "-c", "id -u; cat /proc/self/uid_map; "
                    "stat -c %u /bin; touch /new && stat -c %u /new")  # fmt: skip
    assert result.stdout.split() == ["0", "0", "200000", "65536", "0", "0"]


def test_pod(podman, name):
    """Containers that share namespaces: the second joins those of the first by path."""
    podman("run", "-d", "--name", name, "busybox", "sleep", "1000")
    shared = ["--ipc", f"container:{name}", "--pid", f"container:{name}"]
    pid = podman.inspect(name)["State"]["Pid"]
    expected = [os.readlink(f"/proc/{pid}/ns/{n}") for n in ("ipc", "pid")]
    script = "for n in ipc pid; do readlink /proc/self/ns/$n; done; cat /proc/1/comm"
    result = podman("run", "--rm", *shared, "busybox", "sh", "-c", script)
    assert result.stdout.split() == [*expected, "sleep"]
    podman("rm", "--force", "--time", "0", name)
