# SPDX-License-Identifier: Apache-2.0
"""The validation programs of github.com/opencontainers/runtime-tools with `stoker runtime`. They speak
TAP; all must pass but for what EXCEPTIONS says, and what it says must be so. docs/runtime.md has the same
table for people. The programs are built once, into build/runtime-tools."""

import concurrent.futures
import dataclasses
import os
import pathlib
import re
import shutil
import subprocess

import node
import ocibundle
import pytest

PROGRAMS = """
    config_updates_without_affect create default delete delete_only_create_resources
    delete_resources hooks hooks_stdin hostname kill kill_no_effect killsig linux_cgroups_blkio
    linux_cgroups_cpus linux_cgroups_devices linux_cgroups_hugetlb linux_cgroups_memory
    linux_cgroups_network linux_cgroups_pids linux_cgroups_relative_blkio
    linux_cgroups_relative_cpus linux_cgroups_relative_devices linux_cgroups_relative_hugetlb
    linux_cgroups_relative_memory linux_cgroups_relative_network linux_cgroups_relative_pids
    linux_devices linux_masked_paths linux_mount_label linux_ns_itype linux_ns_nopath linux_ns_path
    linux_ns_path_type linux_process_apparmor_profile linux_readonly_paths linux_rootfs_propagation
    linux_seccomp linux_sysctl linux_uid_mappings misc_props mounts pidfile poststart poststart_fail
    poststop poststop_fail prestart prestart_fail process process_capabilities
    process_capabilities_fail process_oom_score_adj process_rlimits process_rlimits_fail
    process_user root_readonly_true start state
""".split()
# They wait for what does not happen, and run beside the others. (Not those that share a control group.)
SLOW = ["delete", "kill", "pidfile", "start", "linux_masked_paths", "linux_readonly_paths"]


@dataclasses.dataclass
class Allowed:
    """Why a program may fail. Each "not ok" line must match one of `lines`, and each of `says` something
    in the output."""

    reason: str
    lines: list
    says: list
    sometimes: bool = False  # it depends on who is faster; else it must fail


def refused(member):
    return Allowed(
        f"{member} is refused by name, as it is not supported",
        [r"exit status 1$"],
        [f"{re.escape(member)}: not supported"],
    )


EXCEPTIONS = {
    "hooks": Allowed(
        "the program looks for words that its own hooks do not print (runc fails too)",
        [],
        ["Hooks MUST be called in the listed order"],
    ),
    "hooks_stdin": Allowed(
        'the program wants the state "created" in prestart; since version 1.0.2 of the specification it is '
        '"creating". And it asks for the process when that may have ended (runc fails too)',
        [r'to "prestart" hook over stdin$', r'to "poststart" hook over stdin$'],
        [r'wrong status \\"creating\\" in the stdin of prestart hook'],
    ),
    "linux_cgroups_blkio": refused("linux.resources.blockIO.leafWeight"),
    "linux_cgroups_relative_blkio": refused("linux.resources.blockIO.leafWeight"),
    "linux_cgroups_network": refused("linux.resources.network"),
    "linux_cgroups_relative_network": refused("linux.resources.network"),
    "linux_cgroups_memory": refused("linux.resources.memory.kernel"),
    "linux_cgroups_relative_memory": refused("linux.resources.memory.kernel"),
    "linux_mount_label": refused("linux.mountLabel"),
    "linux_process_apparmor_profile": refused("process.apparmorProfile"),
    "linux_ns_itype": Allowed(
        "a container without a mount namespace would work on the node's own mounts: refused",
        [r"cannot run validation tests: exit status 1$"],
        ["a new mount namespace is needed"],
    ),
    "linux_ns_path": Allowed(
        "a container in the mount namespace of another is refused; all other namespaces can be joined",
        [r"set mnt namespace by path$"],
        ["a new mount namespace is needed"],
    ),
    "misc_props": Allowed(
        "the program forgets to copy runtimetest, which it runs (runc fails too)",
        [r"if they encounter an unknown annotation key$"],
        ["/runtimetest: not found in the image"],
    ),
    "pidfile": Allowed(
        "the program sends a signal to a container that has ended, and wants that to work (runc fails too)",
        [r"create with '--pid-file' option works$"],
        ["kill: the container"],
        sometimes=True,
    ),
    "poststart": Allowed(
        "the program wants what the container prints to come before what the hook prints, and both run",
        [],
        ["post-start hooks MUST be called after the user-specified process is executed"],
        sometimes=True,
    ),
    "prestart": Allowed(
        "the program wants the prestart hooks at `start`; since version 1.0.0 they are at `create` (runc "
        "fails too)",
        [],
        ["Pre-start hooks MUST be called after the `start` operation is called"],
    ),
    "process_capabilities_fail": Allowed(
        "the program wants unknown capabilities to be errors; since version 1.1 of the specification they "
        "are warnings (runc fails too)",
        [],
        ["Any value which cannot be mapped to a relevant kernel interface MUST cause an error"],
    ),
    "process_rlimits": Allowed(
        "runtimetest is a Go program, whose runtime raises the soft limit of open files (runc fails too)",
        [r"has expected soft RLIMIT_NOFILE$"],
        ['"type": "RLIMIT_NOFILE"'],
    ),
    "start": Allowed(
        "the program wants `start` without a process to be an error, and takes an error for a failure",
        [r"MUST generate an error if `process` was not set$", r"timeout in waiting"],
        ["has no process"],
    ),
}


def own_capabilities():
    text = pathlib.Path("/proc/self/status").read_text()
    return int(re.search(r"CapBnd:\s*(\w+)", text)[1], 16)


CAP_SYS_RESOURCE = 24
if not own_capabilities() & 1 << CAP_SYS_RESOURCE:
    EXCEPTIONS["process_capabilities"] = Allowed(
        "on a machine without CAP_SYS_RESOURCE nobody can give it (runc then fails to start)",
        [r"expected \w+ capability CAP_SYS_RESOURCE set$"],
        ["expected bounding capability CAP_SYS_RESOURCE set"],
    )
    EXCEPTIONS["linux_rootfs_propagation"] = Allowed(
        "as process_capabilities; what it tests besides passes",
        [r"check root propagation$"],
        [
            r"\\nok \d+ - shared root propagation exposes",
            r"\\nok \d+ - slave root propagation does not expose",
            r"\\nok \d+ - private root propagation does not expose",
            r"\\nok \d+ - root propagation is unbindable",
            r"expected bounding capability CAP_SYS_RESOURCE set",
        ],
    )

# Since Linux 6.8 mountinfo is in the order in which mounts were made, not of that in which they were put
# in their places. The parent makes binds, and with a user namespace /dev, before.
if tuple(int(n) for n in os.uname().release.split(".")[:2]) >= (6, 8):
    order = (
        "mountinfo shows when mounts were made, and ours are made before they are placed, in order"
    )
    places = [r"mounts\[\d+\] \((/dev|/mnt/etc-\w+)\) found in order$"]
    EXCEPTIONS["mounts"] = Allowed(order, places, [r"\(/mnt/etc-shared\) found in order"])
    EXCEPTIONS["linux_uid_mappings"] = Allowed(order, places, [r"\(/dev\) found in order"])

# The controllers that this machine has in groups of version 1.
VERSION_1 = {
    option
    for line in pathlib.Path("/proc/self/mounts").read_text().splitlines()
    if line.split()[2] == "cgroup"
    for option in line.split()[3].split(",")
}
if "hugetlb" not in VERSION_1:
    for name in ("linux_cgroups_hugetlb", "linux_cgroups_relative_hugetlb"):
        EXCEPTIONS[name] = Allowed(
            "this machine has no hugetlb controller",
            [r"get hugetlb cgroup data$"],
            ["subsystem hugetlb not found|In the case of an absolute path"],
        )
if pathlib.Path("/sys/fs/cgroup/unified").exists():
    for name in ("linux_cgroups_devices", "linux_cgroups_relative_devices"):
        EXCEPTIONS[name] = Allowed(
            "on a hybrid machine a program of ours on the version 2 group decides about devices; the "
            "validation program reads the version 1 hierarchy (runc fails too, on the order of the list)",
            [r"get devices data$"],
            ["devices.list: no such file|devices is not mounted as expected"],
        )


@pytest.fixture(scope="session")
def tools():
    """The folder of the programs, with what they want beside them."""
    source = pathlib.Path(__file__).parent / "runtime-tools"
    folder = node.ROOT / "build/runtime-tools"
    stamp = folder / "stamp"
    wanted = "".join((source / n).read_text() for n in ("go.mod", "go.sum", "tools.go"))
    if not stamp.exists() or stamp.read_text() != wanted:
        build(source, folder)
        stamp.write_text(wanted)
    return folder


def build(source, folder):
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name in ("go.mod", "go.sum", "tools.go"):
        shutil.copy(source / name, folder)
    module = "github.com/opencontainers/runtime-tools"
    environment = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly", "GOWORK": "off"}
    options = {"cwd": folder, "env": environment, "check": True}
    targets = [f"{module}/validation/...", f"{module}/cmd/runtimetest"]
    subprocess.run(["go", "build", "-o", "programs/", *targets], **options)
    where = subprocess.run(
        ["go", "list", "-m", "-f", "{{.Dir}}", module], stdout=subprocess.PIPE, text=True, **options
    ).stdout.strip()
    for archive in pathlib.Path(where).glob("rootfs-*.tar.gz"):
        shutil.copyfile(archive, folder / "programs" / archive.name)


class Runner:
    """Runs programs, each in a folder and with a root for the runtime's records of its own."""

    def __init__(self, tools, folder):
        self.tools, self.folder = tools, folder
        self.program = folder / "stoker-oci"
        self.program.symlink_to(pathlib.Path(node.BINARY).resolve())
        self.pool = concurrent.futures.ThreadPoolExecutor(len(SLOW))
        self.slow = {}

    def begin_slow(self):
        if not self.slow:
            self.slow = {name: self.pool.submit(self.run, name) for name in SLOW}

    def result(self, name):
        return self.slow[name].result() if name in self.slow else self.run(name)

    def run(self, name):
        work = self.folder / name
        (work / "tmp").mkdir(parents=True)
        for file in (self.tools / "programs").glob("r*t*fs-*.tar.gz"):
            (work / file.name).symlink_to(file)
        shutil.copy(self.tools / "programs/runtimetest", work)
        environment = {
            "PATH": os.environ["PATH"],
            "RUNTIME": str(self.program),
            "STOKER_RUN_DIR": str(work / "run"),
            "TMPDIR": str(work / "tmp"),
        }
        result = subprocess.run(
            [self.tools / "programs" / name],
            cwd=work,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
            check=False,
        )
        self.remove_containers(work)
        return result

    def remove_containers(self, work):
        """Some programs leave theirs."""
        root = work / "run/runtime"
        for container in root.iterdir() if root.exists() else []:
            command = [self.program, "--root", root, "delete", "--force", container.name]
            subprocess.run(command, check=True)
        assert not root.exists() or not list(root.iterdir())
        assert node.mounts_below(work) == [], "mounts left behind"


@pytest.fixture(scope="module")
def runner(tools, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runtime-tools")
    r = Runner(tools, folder)
    yield r
    r.pool.shutdown()
    # The parents of a container's group stay, as with other runtimes.
    for name in ("cgrouptest", "testdir"):
        for group in ocibundle.cgroups_of(name):
            group.rmdir()
    node.unmount_below(folder)
    shutil.rmtree(folder, ignore_errors=True)


def shortened(text):
    """Without the hundreds of tests that passed, and their notes."""
    kept, keep = [], True
    for line in text.splitlines():
        if not line.startswith(" "):
            keep = not line.startswith("ok ")
        if keep:
            kept.append(line)
    return "\n".join(kept)


def failures(text):
    return [
        line.split(" - ", 1)[1]
        for line in text.splitlines()
        if line.startswith("not ok") and "# TODO" not in line
    ]


def test_programs_are_all(tools):
    found = {p.name for p in (tools / "programs").iterdir() if "." not in p.name}
    assert found == {*PROGRAMS, "runtimetest"}
    assert set(EXCEPTIONS) <= set(PROGRAMS) and set(SLOW) <= set(PROGRAMS)


def passed(result):
    if result.returncode != 0 or failures(result.stdout):
        return False
    # Those that print no test say what is wrong in a note.
    tests = re.search(r"^ok \d", result.stdout, re.MULTILINE)
    return bool(tests or not re.search(r'"error": ".', result.stdout))


@pytest.mark.parametrize("program", PROGRAMS)
def test_program(runner, program):
    if program.startswith("linux_cgroups") and not VERSION_1:
        return  # they know version 1 only
    runner.begin_slow()
    result = runner.result(program)
    allowed = EXCEPTIONS.get(program)
    if not allowed or (allowed.sometimes and passed(result)):
        assert passed(result), shortened(result.stdout)
        return
    for text in allowed.says:
        assert re.search(
            text, result.stdout
        ), f"no longer so: {allowed.reason}\n{shortened(result.stdout)}"
    for line in failures(result.stdout):
        assert any(re.search(p, line) for p in allowed.lines), f"{line}\n{shortened(result.stdout)}"
