# SPDX-License-Identifier: Apache-2.0
"""Control groups, for real: by drivers/cgroup_driver.c, which calls oci/runtime/cgroup.h. The machine says
which version it has, and the tests expect of it what that version can do. A hybrid machine also looks like
one of version 1 alone, and like one of version 2 with few controllers, where the rest is unmounted."""

import contextlib
import itertools
import os
import pathlib
import re
import subprocess
import time

import node
import pytest

DRIVERS = pathlib.Path(
    os.environ.get("STOKER_DRIVERS") or pathlib.Path(node.BINARY).parent / "tests"
)
DRIVER = str(DRIVERS / "cgroup_driver")
MIB = 1024 * 1024
NUMBERS = itertools.count()


def lines_of_mode(prefix=()):
    out = subprocess.run(
        [*prefix, DRIVER, "mode"], capture_output=True, text=True, check=True
    ).stdout
    return dict(line.rsplit("=", 1) for line in out.splitlines())


def machine():
    """The mode by our own eyes, for test ids and for comparison."""
    types = {}
    for line in pathlib.Path("/proc/self/mountinfo").read_text().splitlines():
        kind, _, options = line.split(" - ")[1].split(" ", 2)
        if kind == "cgroup2" or (kind == "cgroup" and "name=" not in options):
            types.setdefault(kind, line.split()[4])
    if "cgroup2" not in types:
        return "v1" if types else "none"
    controllers = pathlib.Path(types["cgroup2"], "cgroup.controllers").read_text().split()
    full = {"cpu", "memory", "pids"} & set(controllers)
    return "v2" if full or "cgroup" not in types else "hybrid"


MACHINE = machine()
VIEWS = ["hybrid", "v1", "v2"] if MACHINE == "hybrid" else [MACHINE]


class Groups:
    """The driver, in one view of this machine, and groups that are gone at the end."""

    def __init__(self, view):
        self.prefix = []
        if view != MACHINE:
            seen = lines_of_mode()
            hidden = [seen["unified"]] if view == "v1" else []
            if view == "v2":
                hidden = [m for n, m in seen.items() if n not in ("mode", "unified")]
                hidden = sorted(set(hidden) - {seen["unified"]})
            script = (
                'while [ "$1" != -- ]; do umount -l "$1" || exit 9; shift; done; shift; exec "$@"'
            )
            self.prefix = ["unshare", "-m", "sh", "-c", script, "sh", *hidden, "--"]
        self.where = lines_of_mode(self.prefix)
        self.mode = self.where.pop("mode")
        self.top = f"/stoker-test-{os.getpid()}-{next(NUMBERS)}"
        self.warnings = []

    def call(self, *args, status=0, before=(), timeout=60):
        done = subprocess.run(
            [*self.prefix, *before, DRIVER, *map(str, args)],
            capture_output=True, text=True, check=False, timeout=timeout,
        )  # fmt: skip
        assert done.returncode == status, (args, done.returncode, done.stdout, done.stderr)
        lines = done.stdout.splitlines()
        self.warnings = [x.removeprefix("warning: ") for x in lines if x.startswith("warning: ")]
        return done.stderr if status else "\n".join(x for x in lines if x not in self.warnings)

    def create(self, name="a", **resources):
        path = f"{self.top}/{name}"
        self.call("create", path, *(f"{k}={v}" for k, v in resources.items()))
        return path

    def run(self, path, *command, how="clone", **kw):
        return self.call("run", path, how, *command, **kw).splitlines()

    def job(self, path, *job, **kw):
        return self.run(path, DRIVER, "job", *job, **kw)[-1]

    @contextlib.contextmanager
    def started(self, path, *command):
        """One that goes on. Its last line, once it has ended, is how."""
        job = subprocess.Popen(
            [*self.prefix, DRIVER, "run", path, "join", *command],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        with job:
            try:
                yield job
            finally:
                if self.folders(path):  # after a failure
                    self.call("destroy", path, 5000)

    def stats(self, path):
        lines = self.call("stats", path).splitlines()
        return {k: int(v) for k, v in (x.split("=") for x in lines)}

    def processes(self, path):
        return [int(x) for x in self.call("processes", path).splitlines()]

    def destroy(self, path, timeout_ms=5000):
        self.call("destroy", path, timeout_ms)
        assert not self.folders(path), "the group is still there"

    def folders(self, path):
        """Where the group is, in all that is mounted (also what this view does not show)."""
        places = {m for n, m in lines_of_mode().items() if n != "mode"}
        return [pathlib.Path(p + path) for p in sorted(places) if os.path.isdir(p + path)]

    def file(self, controller, path, name):
        """The text of a controller's file; None where there is no such controller in this view."""
        if controller not in self.where:
            return None
        with contextlib.suppress(FileNotFoundError):
            return pathlib.Path(self.where[controller] + path, name).read_text().strip()
        return None

    def remove_all(self):
        """After a failure there may be anything in it; the whole is a group like any other."""
        if self.folders(self.top):
            subprocess.run([DRIVER, "destroy", self.top, "5000"], check=True)


@pytest.fixture(params=VIEWS)
def groups(request):
    g = Groups(request.param)
    yield g
    g.remove_all()


def wait_for(condition, what, seconds=10):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"waited in vain for {what}"
        time.sleep(0.01)


def test_the_mode_is_told(groups, request):
    assert groups.mode == request.node.callspec.params["groups"]
    assert Groups(MACHINE).mode == MACHINE


def limits_of(groups):
    """resource -> (controller, file, value there, as written)"""
    v2 = groups.mode == "v2"
    return {
        f"memory={64 * MIB}": ("memory", "memory.max" if v2 else "memory.limit_in_bytes", str(64 * MIB)),
        "pids=30": ("pids", "pids.max", "30"),
        "quota=50000": ("cpu", *(("cpu.max", "50000 100000") if v2 else ("cpu.cfs_quota_us", "50000"))),
        "shares=2048": ("cpu", *(("cpu.weight", "79") if v2 else ("cpu.shares", "2048"))),
        "cpus=0": ("cpuset", "cpuset.cpus", "0"),
    }  # fmt: skip


def test_limits_are_written_or_warned_of(groups):
    path = f"{groups.top}/a"
    limits = limits_of(groups)
    groups.call("create", path, *limits)
    for controller, file, value in limits.values():
        there = groups.file(controller, path, file)
        assert (there == value) == (controller in groups.where), (file, there)
        warned = [w for w in groups.warnings if f" {file} " in w]
        assert bool(warned) == (controller not in groups.where), groups.warnings

    groups.call("update", path, f"memory={128 * MIB}", f"swap={128 * MIB}", "pids=max")
    if "memory" in groups.where:
        memory = limits[f"memory={64 * MIB}"][1]
        assert groups.file("memory", path, memory) == str(128 * MIB)
        groups.call("update", path, f"memory={32 * MIB}", f"swap={32 * MIB}")
        assert groups.file("memory", path, memory) == str(32 * MIB)
    if "pids" in groups.where:
        assert groups.file("pids", path, "pids.max") == "max"
    groups.destroy(path)


def test_swap_less_than_memory_is_refused(groups):
    said = groups.call("create", f"{groups.top}/a", "memory=2000000", "swap=1000000", status=1)
    assert said.startswith("invalid: memory.swap (1000000) is memory and swap together")
    assert not groups.folders(groups.top)


def test_too_much_memory_is_the_end(groups):
    path = groups.create(memory=64 * MIB, swap=64 * MIB)
    bounded = "memory" in groups.where
    ended = groups.job(path, "eat", 200 * MIB)
    assert ended == ("was killed by signal 9 (Killed)" if bounded else "exited with status 0")
    s = groups.stats(path)
    assert (s["has_memory"], s["oom_kills"] >= 1) == (bounded, bounded)
    if bounded and s["has_memory_peak"]:
        assert 50 * MIB < s["memory_peak_bytes"] <= 64 * MIB
    if groups.mode == "v2" and bounded:
        # Not the one process alone: a job that has lost a part hangs.
        script = f"{DRIVER} job eat {200 * MIB} & wait; echo survived"
        assert groups.run(path, "sh", "-c", script) == ["was killed by signal 9 (Killed)"]
    groups.destroy(path)


def test_forks_are_counted(groups):
    path = groups.create(pids=20)
    bounded = "pids" in groups.where
    lines = groups.run(path, DRIVER, "job", "fork", 100)
    assert lines[-1] == f"exited with status {3 if bounded else 0}"
    assert lines[0] == f"forked={19 if bounded else 100}"
    left = 19 if bounded else 100  # their parent has ended; they sleep
    assert len(groups.processes(path)) == left
    if bounded:
        assert groups.stats(path)["pids"] == left
    pids = groups.processes(path)
    groups.destroy(path)
    assert all_gone(pids)


def all_gone(pids):
    """None of them runs. Orphans are ours (conftest.py), and are waited for here."""
    for pid in pids:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)
    return not [p for p in pids if node.processes().get(p, (0, "Z"))[1] not in "ZX"]


@pytest.mark.parametrize("bound", [[], ["pids=40"]], ids=["unbounded", "bounded"])
def test_who_forks_without_pause_does_not_get_away(groups, bound):
    path = f"{groups.top}/a"
    said = dict(x.split("=") for x in groups.call("evade", path, 10000, *bound).splitlines())
    assert int(said["running"]) > 0
    assert int(said["took"]) < 5000
    assert not groups.folders(path)


def test_a_daemon_ends_with_the_group(groups, tmp):
    path = groups.create()
    file = tmp / "pid"
    assert groups.job(path, "daemon", file, how="join") == "exited with status 0"
    wait_for(lambda: file.exists() and file.read_text().endswith("\n"), "the daemon")
    pid = int(file.read_text())
    os.kill(pid, 15)
    time.sleep(0.1)
    assert groups.processes(path) == [pid]  # in a session of its own, and deaf
    assert node.processes()[pid][1] == "S"
    groups.destroy(path)
    assert all_gone([pid])


def test_devices_by_rules(groups):
    nothing = "deny=a:*:*:rwm"
    path = f"{groups.top}/a"
    denied, fine = "exited with status 1", "exited with status 0"
    groups.call("create", path, nothing, "allow=c:1:8:r", "allow=c:1:3:rw")
    assert not groups.warnings
    assert groups.job(path, "open", "/dev/random", "r") == fine
    assert groups.job(path, "open", "/dev/random", "w") == denied
    assert groups.job(path, "open", "/dev/random", "rw") == denied
    assert groups.job(path, "open", "/dev/full", "r") == denied
    # An update replaces: what was denied before is no longer.
    groups.call("update", path, nothing, "allow=c:1:7:rw", "allow=c:1:3:rw")
    assert groups.job(path, "open", "/dev/full", "rw") == fine
    assert groups.job(path, "open", "/dev/random", "r") == denied
    # One without rules leaves them as they are.
    groups.call("update", path, "pids=100")
    assert groups.job(path, "open", "/dev/random", "r") == denied
    groups.destroy(path)


def test_devices_of_every_job(groups, tmp):
    path = groups.create(devices="default")
    for name in ("null", "zero", "full", "random", "urandom", "ptmx"):
        assert groups.job(path, "open", f"/dev/{name}", "rw") == "exited with status 0", name
    os.mknod(tmp / "kmsg", 0o020666, os.makedev(1, 11))
    assert groups.job(path, "open", tmp / "kmsg", "r") == "exited with status 1"
    assert groups.run(path, "mknod", tmp / "null", "c", "1", "3")[-1] == "exited with status 1"
    assert not (tmp / "null").exists()
    groups.destroy(path)


def counts_io(groups):
    """Some kernels count nothing on version 1, not even for the whole machine."""
    if "blkio" not in groups.where:
        return "io" in groups.where
    file = pathlib.Path(groups.where["blkio"], "blkio.throttle.io_service_bytes_recursive")
    return any(int(x.split()[-1]) for x in file.read_text().splitlines())


def test_statistics_are_plausible(groups, tmp):
    path = groups.create(pids=100)
    start = time.monotonic()
    assert groups.job(path, "spin", 400) == "exited with status 0"
    assert groups.job(path, "eat", 48 * MIB) == "exited with status 0"
    wall = (time.monotonic() - start) * 1e6
    block_device = os.major(os.stat(tmp).st_dev) != 0  # what lies elsewhere is not counted
    dd = ["dd", "if=/dev/zero", f"of={tmp}/x", "bs=1M", "count=4"]
    dd += ["oflag=direct"] if block_device else []
    assert groups.run(path, *dd)[-1] == "exited with status 0"
    s = groups.stats(path)
    assert s["has_cpu"]
    assert 10_000 < s["cpu_usec"] < 2 * wall + 1e6  # of 400 ms, less what a busy machine took
    assert abs(s["cpu_user_usec"] + s["cpu_system_usec"] - s["cpu_usec"]) < 60_000
    assert s["has_memory"] == ("memory" in groups.where)
    if s["has_memory_peak"]:
        assert 48 * MIB <= s["memory_peak_bytes"] < 300 * MIB
    assert s["has_io"] == counts_io(groups)
    if s["has_io"] and block_device:
        assert 4 * MIB <= s["write_bytes"] < 16 * MIB
        assert s["write_operations"] > 0
    assert s["has_pids"] == ("pids" in groups.where)
    assert s["pids"] == 0
    groups.destroy(path)
    assert "not_found: " in groups.call("stats", path, status=1)


@pytest.mark.parametrize("how", ["clone", "join", "userns"])
def test_a_process_joins_all_of_it(groups, how):
    path = groups.create(pids=10, quota=50000, cpus="0")
    lines = groups.run(path, "cat", "/proc/self/cgroup", how=how)
    inside = [x for x in lines if x.endswith(f":{path}")]
    assert len(inside) == len(groups.folders(path)), lines
    assert len(inside) > 0
    groups.destroy(path)


def test_another_process_is_moved(groups):
    path = groups.create(pids=10)
    sleeper = subprocess.Popen(["sleep", "60"])
    groups.call("attach", path, sleeper.pid)
    assert groups.processes(path) == [sleeper.pid]
    text = pathlib.Path(f"/proc/{sleeper.pid}/cgroup").read_text()
    assert text.count(f":{path}\n") == len(groups.folders(path))
    groups.destroy(path)
    assert sleeper.wait(5) == -9


def test_frozen_is_still(groups):
    path = groups.create()
    with groups.started(path, DRIVER, "job", "spin", "60000") as spinner:
        wait_for(lambda: groups.stats(path)["cpu_usec"] > 20_000, "the job's first steps")
        groups.call("freeze", path, 1)
        before = groups.stats(path)["cpu_usec"]
        time.sleep(0.3)
        assert groups.stats(path)["cpu_usec"] - before < 10_000
        groups.call("freeze", path, 0)
        wait_for(lambda: groups.stats(path)["cpu_usec"] - before > 50_000, "it to go on")
        groups.call("freeze", path, 1)  # the end comes to the frozen too
        groups.destroy(path)
        assert spinner.wait(5) == 0
        assert spinner.stdout.read() == "was killed by signal 9 (Killed)\n"


def test_groups_that_a_job_made_go_too(groups):
    path = groups.create(pids=100)
    for folder in groups.folders(path):
        (folder / "x" / "y").mkdir(parents=True)
        (folder / "x" / "z").mkdir()
    sleepers = []
    for below in ("", "/x", "/x/y", "/x/z"):
        sleepers.append(subprocess.Popen(["sleep", "60"]))
        for folder in groups.folders(path):
            # cpuset has to be told; and no other is given to groups below here.
            for file in ("cpuset.cpus", "cpuset.mems"):
                if below and (folder / file).exists() and groups.mode != "v2":
                    text = (folder / file).read_text()
                    pathlib.Path(f"{folder}{below}", file).write_text(text)
            pathlib.Path(f"{folder}{below}", "cgroup.procs").write_text(str(sleepers[-1].pid))
    assert sorted(groups.processes(path)) == sorted(s.pid for s in sleepers)
    groups.destroy(path)
    assert [s.wait(5) for s in sleepers] == [-9] * 4


def test_who_is_in_one_hierarchy_alone_is_found(groups):
    path = groups.create(pids=100)
    sleepers = []
    for folder in groups.folders(path):
        sleepers.append(subprocess.Popen(["sleep", "60"]))
        (folder / "cgroup.procs").write_text(str(sleepers[-1].pid))
    groups.destroy(path)
    assert [s.wait(5) for s in sleepers] == [-9] * len(sleepers)


def test_a_group_in_use_is_not_taken(groups):
    path = groups.create(pids=30)
    with groups.started(path, "sleep", "60"):
        wait_for(lambda: groups.processes(path), "the job")
        said = groups.call("create", path, "pids=40", status=1)
        assert re.match(r"system: cgroup \S+ is in use: Device or resource busy", said)
        assert groups.processes(path)
        if "pids" in groups.where:
            assert groups.file("pids", path, "pids.max") == "30"
        for pid in groups.processes(path):
            os.kill(pid, 9)
        wait_for(lambda: not groups.processes(path), "the end of the job")
        groups.call("create", path, f"memory={64 * MIB}")
        now = groups.file("pids", path, "pids.max")
        assert now in (("max", None) if groups.mode == "v2" else ("30", None))
        groups.destroy(path)


def test_who_may_not_is_told(groups):
    nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    said = groups.call("create", f"{groups.top}/a", "pids=3", before=nobody, status=1)
    assert re.match(r"denied: make cgroup \S+: Permission denied", said)
    assert not groups.folders(groups.top)


@pytest.mark.parametrize("path", ["/", "x", "/../x", "/a/../../b", "/a//b"])
def test_paths_that_lead_elsewhere(groups, path):
    assert groups.call("create", path, status=1) == f"invalid: {path}: no path of a cgroup\n"


def test_the_agent_is_protected(groups):
    path = f"{groups.top}/agent"
    lines = groups.call("protect", path, 16 * MIB).splitlines()
    score = int(lines[-1])
    assert (score == -900) != any("oom_score_adj" in w for w in groups.warnings)
    kept = groups.mode == "v2" and "memory" in groups.where
    assert kept != any("no memory is kept" in w for w in groups.warnings), groups.warnings
    assert any(x.endswith(f":{path}") for x in lines) == (groups.mode == "v2")
    if kept:
        for level in (path, groups.top):  # what a parent does not keep, no child has
            assert groups.file("memory", level, "memory.min") == str(16 * MIB)
            assert groups.file("memory", level, "memory.low") == str(16 * MIB)
    for folder in groups.folders(path):
        folder.rmdir()


def given(groups):
    """A controller that version 2 has here, an argument that needs it, and its file."""
    unified = groups.where["unified"]
    names = pathlib.Path(unified, "cgroup.controllers").read_text().split()
    if "pids" in names:
        return "pids", "pids=77", "pids.max", "77"
    size = 4 * MIB
    return "hugetlb", f"huge=2MB:{size}", "hugetlb.2MB.max", str(size)


if MACHINE in ("v2", "hybrid"):

    @pytest.fixture
    def v2():
        g = Groups("v2")
        root = pathlib.Path(g.where["unified"], "cgroup.subtree_control")
        before = root.read_text().split()
        yield g
        g.remove_all()
        for name in set(root.read_text().split()) - set(before):
            with contextlib.suppress(OSError):  # somebody else wants it by now
                root.write_text(f"-{name}")

    def test_v2_controllers_are_passed_down(v2):
        name, argument, file, value = given(v2)
        v2.call("create", f"{v2.top}/a/b/c", argument)
        assert not v2.warnings
        assert v2.file(name, f"{v2.top}/a/b/c", file) == value
        for level in ("", "/a", "/a/b"):
            control = v2.file(name, v2.top + level, "cgroup.subtree_control")
            assert name in control.split()

    def test_v2_a_parent_with_processes_cannot(v2):
        name, argument, file, value = given(v2)
        v2.call("create", f"{v2.top}/a")
        with v2.started(f"{v2.top}/a", "sleep", "60"):
            wait_for(lambda: v2.processes(f"{v2.top}/a"), "the process in the parent")
            v2.call("create", f"{v2.top}/a/b/c", argument)
            assert any("there are processes in it" in w for w in v2.warnings), v2.warnings
            assert any(f" {file} = {value} " in w for w in v2.warnings)
            assert v2.file(name, f"{v2.top}/a/b/c", file) is None
            v2.destroy(f"{v2.top}/a")  # with the groups below

    def test_v2_who_is_in_the_root_of_a_container_makes_room(v2):
        """As in a container that was given a tree of its own, and is in its root with all it runs."""
        name, argument, file, value = given(v2)
        top = f"{v2.top}/container"
        v2.call("create", top, argument)
        mount = v2.where["unified"]
        script = (
            f"umount -l {mount} && mount -t cgroup2 none {mount} && "
            f"{{ sleep 60 & {DRIVER} create /jobs/a {argument}; kill $!; "
            f"cat {mount}/jobs/a/{file}; grep ::/init$ /proc/self/cgroup; }}"
        )
        lines = v2.run(top, "unshare", "-C", "-m", "sh", "-c", script, how="join")
        assert lines == [value, "0::/init", "exited with status 0"]


if MACHINE == "hybrid":

    def test_what_does_not_end_is_named():
        """A process that version 1 holds frozen stays, whatever version 2 says."""
        g = Groups("hybrid")
        path = g.create()
        hold = pathlib.Path(g.where["freezer"], f"stoker-test-{os.getpid()}-hold")
        hold.mkdir()
        try:
            sleeper = subprocess.Popen(["sleep", "60"])
            g.call("attach", path, sleeper.pid)
            (hold / "cgroup.procs").write_text(str(sleeper.pid))
            (hold / "freezer.state").write_text("FROZEN")
            said = g.call("destroy", path, 300, status=1)
            assert re.match(
                rf"limit: cgroup {path}: process {sleeper.pid} \(sleep, state D\) does not end; "
                "1 are left after 300 ms",
                said,
            ), said
        finally:
            (hold / "freezer.state").write_text("THAWED")
            assert sleeper.wait(5) == -9
            hold.rmdir()
        g.destroy(path)
        g.remove_all()
