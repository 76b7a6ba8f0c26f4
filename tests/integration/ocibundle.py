# SPDX-License-Identifier: Apache-2.0
"""OCI bundles of busybox, and `stoker runtime` on them as an engine calls it: by a link of the name
stoker-oci, with a root of its own."""

import contextlib
import copy
import json
import os
import pathlib
import shutil
import subprocess
import time

import node

APPLETS = (
    "sh cat ls env id pwd sleep kill mount umount echo head touch rm mkdir seq dd stat grep readlink ln "
    "test true false hostname wc mknod chmod tty stty trap cut sort ulimit"
).split()

CAPABILITIES = "CAP_CHOWN CAP_DAC_OVERRIDE CAP_KILL CAP_SETGID CAP_SETUID".split()

CONFIG = {
    "ociVersion": "1.2.0",
    "process": {
        "user": {"uid": 0, "gid": 0},
        "args": ["true"],
        "env": ["PATH=/bin"],
        "cwd": "/",
        "capabilities": {s: CAPABILITIES for s in ("bounding", "effective", "permitted")},
        "noNewPrivileges": True,
    },
    "root": {"path": "rootfs"},
    "hostname": "bundle",
    "mounts": [
        {"destination": "/proc", "type": "proc", "source": "proc"},
        {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["mode=755"]},
        {
            "destination": "/dev/pts",
            "type": "devpts",
            "source": "devpts",
            "options": ["newinstance", "ptmxmode=0666", "mode=0620"],
        },
    ],
    "linux": {
        "namespaces": [{"type": t} for t in ("pid", "mount", "ipc", "uts", "network", "cgroup")],
    },
}


def cgroups_of(name):
    """Folders of control groups, in any hierarchy, that end in `name`."""
    found = []
    for folder, subfolders, _ in os.walk("/sys/fs/cgroup"):
        found += [pathlib.Path(folder) / s for s in subfolders if s == name]
    return found


def wait_for(condition, what, seconds=10):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.01)


class Bundle:
    """A folder with rootfs/ and config.json. `config` is what will be written by save()."""

    def __init__(self, folder, *args):
        self.folder = pathlib.Path(folder)
        self.rootfs = self.folder / "rootfs"
        for name in ("bin", "proc", "dev", "sys", "tmp", "etc", "work"):
            (self.rootfs / name).mkdir(parents=True)
        (self.rootfs / "tmp").chmod(0o1777)
        shutil.copy(os.environ.get("BUSYBOX", "/bin/busybox"), self.rootfs / "bin/busybox")
        for name in APPLETS:
            (self.rootfs / "bin" / name).symlink_to("busybox")
        (self.rootfs / "etc/passwd").write_text("root:x:0:0::/:/bin/sh\n")
        self.config = copy.deepcopy(CONFIG)
        if args:
            self.args(*args)

    @property
    def process(self):
        return self.config["process"]

    @property
    def linux(self):
        return self.config["linux"]

    def args(self, *args):
        self.process["args"] = list(args)
        return self

    def shell(self, script):
        return self.args("sh", "-c", script)

    def save(self):
        (self.folder / "config.json").write_text(json.dumps(self.config))
        return self


class Runtime:
    """runtime("state", "x") runs to the end and must succeed; runtime.fails(…) must not."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.folder.mkdir()
        self.program = self.folder / "stoker-oci"
        self.program.symlink_to(pathlib.Path(node.BINARY).resolve())
        self.root = self.folder / "root"
        self.begun = set()

    def command(self, *args):
        return [str(self.program), "--root", str(self.root), *map(str, args)]

    def __call__(self, *args, check=True, timeout=60, **options):
        options = {
            "stdin": subprocess.DEVNULL,
            "stdout": subprocess.PIPE,
            "stderr": subprocess.PIPE,
            "text": True,
            **options,
        }
        result = subprocess.run(self.command(*args), timeout=timeout, check=False, **options)
        error = result.stderr or ""
        assert "Sanitizer" not in error and "runtime error:" not in error, error
        if check:
            assert result.returncode == 0, f"{args}: {result.returncode}: {error}"
        return result

    def fails(self, *args, needle="", status=1, **options):
        result = self(*args, check=False, **options)
        lines = result.stderr.splitlines()
        assert result.returncode == status, f"{args}: {result.returncode}: {result.stderr}"
        assert len(lines) == 1 and lines[0].startswith("stoker: "), result.stderr
        assert needle in lines[0], lines[0]
        return lines[0]

    def create(self, bundle, name, *options, check=True, **more):
        """What it prints goes to a file: the container keeps the descriptors. Returns the file."""
        bundle.save()
        output = self.folder / f"{name}.out"
        self.begun.add(name)
        with output.open("w") as file, (self.folder / f"{name}.err").open("w") as errors:
            result = self(
                "create",
                "--bundle",
                bundle.folder,
                *options,
                name,
                check=False,
                stdout=file,
                stderr=errors,
                **more,
            )
        if check:
            assert result.returncode == 0, self.errors(name)
        return output

    def errors(self, name):
        return (self.folder / f"{name}.err").read_text()

    def run(self, bundle, name, *options, **more):
        bundle.save()
        self.begun.add(name)
        return self("run", "--bundle", bundle.folder, *options, name, **more)

    def state(self, name):
        return json.loads(self("state", name).stdout)

    def status(self, name):
        return self.state(name)["status"]

    def wait(self, name, status="stopped"):
        wait_for(lambda: self.status(name) == status, f"{name} {status}")

    def names(self):
        return self("list", "-q").stdout.split()

    def assert_nothing_left(self):
        """No record, control group or process of any container that was begun."""
        assert self.names() == []
        for name in self.begun:
            assert cgroups_of(name) == [], name
        reap()

    def destroy(self):
        for name in self.names():
            self("delete", "--force", name, check=False)
        reap()


def reap():
    """Containers whose runtime has ended are children of ours (conftest.py: subreaper)."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
