# SPDX-License-Identifier: Apache-2.0
"""One Stoker node in a temporary folder, and what it must not leave behind."""

import contextlib
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
BINARY = os.environ.get("STOKER_BINARY", str(ROOT / "build/release/stoker"))


def mounts_below(folder):
    """Mount points at or below `folder`, deepest first."""
    found = []
    for line in (
        pathlib.Path("/proc/self/mountinfo").read_text(errors="surrogateescape").splitlines()
    ):
        point = re.sub(r"\\(\d{3})", lambda m: chr(int(m[1], 8)), line.split()[4])
        if point == str(folder) or point.startswith(f"{folder}/"):
            found.append(point)
    return found[::-1]


def unmount_below(folder):
    for point in mounts_below(folder):
        subprocess.run(["umount", "-l", point], check=False, stderr=subprocess.DEVNULL)


def loop_devices_of(folder):
    """Loop devices whose backing file is below `folder`."""
    found = []
    for backing in pathlib.Path("/sys/block").glob("loop*/loop/backing_file"):
        with contextlib.suppress(OSError):
            if backing.read_text().startswith(f"{folder}/"):
                found.append(backing.parts[3])
    return found


def processes():
    """pid -> (parent, state, command line, executable) of everything that runs."""
    table = {}
    for entry in pathlib.Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            stat = (entry / "stat").read_text()
            fields = stat[stat.rindex(")") + 2 :].split()
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            executable = ""
            with contextlib.suppress(OSError):
                executable = os.readlink(entry / "exe")
            table[int(entry.name)] = (int(fields[1]), fields[0], command.strip(), executable)
    return table


def descendants(root, table=None):
    table = table or processes()
    children = {}
    for pid, (parent, *_) in table.items():
        children.setdefault(parent, []).append(pid)
    found, queue = [], [root]
    while queue:
        for child in children.get(queue.pop(), []):
            found.append(child)
            queue.append(child)
    return found


def stoker_processes(root=None):
    """Descendants of this process (which is their subreaper: conftest.py) that are stoker: started by
    name, or helpers, which run from a sealed copy in memory. Zombies that came to us are reaped."""
    table = processes()
    found = {}
    for pid in descendants(root or os.getpid(), table):
        parent, state, command, executable = table[pid]
        if state == "Z":
            if parent == os.getpid():
                orphan_names = ("stoker",)
                with contextlib.suppress(OSError):
                    name = pathlib.Path(f"/proc/{pid}/comm").read_text().strip()
                    # Only orphans: what Popen started is Popen's to wait for.
                    if name.startswith(orphan_names) and pid not in Stoker.own_children:
                        os.waitpid(pid, os.WNOHANG)
            continue
        if "stoker" in os.path.basename(executable) or executable.startswith("/memfd:"):
            found[pid] = command or executable
    return found


class Stoker:
    """Runs the program named by STOKER_BINARY with directories of its own below `folder`."""

    own_children = set()

    def __init__(self, folder, binary=BINARY):
        self.folder = pathlib.Path(folder)
        self.binary = binary
        self.state, self.run_dir = self.folder / "state", self.folder / "run"
        self.home, self.config_path = self.folder / "home", self.folder / "agent.yaml"
        self.home.mkdir(parents=True)
        self.config_path.write_text("{}\n")
        self.killed = False  # set by tests that kill: leftovers are then swept by the next start
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "LANG": "C.UTF-8",
            "DOCKER_CONFIG": str(self.home / ".docker"),
            "STOKER_STATE_DIR": str(self.state),
            "STOKER_RUN_DIR": str(self.run_dir),
            "STOKER_CONFIG": str(self.config_path),
        }
        for name in ("ASAN_OPTIONS", "UBSAN_OPTIONS", "LSAN_OPTIONS"):
            if name in os.environ:
                self.environment[name] = os.environ[name]

    # ---- configuration

    def configure(self, document=None, **sections):
        """Write agent.yaml. JSON is YAML: configure(registries={"stall_timeout": 2})."""
        self.config_path.write_text(json.dumps({**(document or {}), **sections}))

    def docker_login(self, address, user, password):
        from ociimage import basic_authorization

        folder = self.home / ".docker"
        folder.mkdir(exist_ok=True)
        path = folder / "config.json"
        document = json.loads(path.read_text()) if path.exists() else {"auths": {}}
        auth = basic_authorization(user, password).split()[1]
        document["auths"][address] = {"auth": auth}
        path.write_text(json.dumps(document))

    # ---- running

    def popen(self, *args, env=None, **options):
        options = {
            "stdin": subprocess.DEVNULL,
            "stdout": subprocess.PIPE,
            "stderr": subprocess.PIPE,
            "text": True,
            "errors": "surrogateescape",
            **options,
        }
        process = subprocess.Popen(
            [self.binary, *map(str, args)], env={**self.environment, **(env or {})}, **options
        )
        Stoker.own_children.add(process.pid)
        return process

    def __call__(self, *args, check=True, timeout=120, input=None, **options):
        """Run to the end; a CompletedProcess. Fails on another exit status than 0 unless check=False,
        and always on a sanitizer's report or a death by signal."""
        if input is not None:
            options["stdin"] = subprocess.PIPE
        with self.popen(*args, **options) as process:
            try:
                out, err = process.communicate(input, timeout=timeout)
            except subprocess.TimeoutExpired:
                process.kill()
                out, err = process.communicate()
                raise AssertionError(
                    f"stoker {' '.join(map(str, args))}: no end after {timeout} s\n{out}\n{err}"
                ) from None
        Stoker.own_children.discard(process.pid)
        result = subprocess.CompletedProcess(args, process.returncode, out, err)
        assert "Sanitizer" not in (err or "") and "runtime error:" not in (err or ""), err
        assert result.returncode >= 0, f"killed by signal {-result.returncode}: {err}"
        if check:
            assert result.returncode == 0, f"exit status {result.returncode}: {out}{err}"
        return result

    def fails(self, *args, needles=(), status=1, **options):
        """Run, and expect exit status `status` and one clear line on stderr: the last one, beginning
        with "stoker: ", holding every needle. Returns that line."""
        result = self(*args, check=False, **options)
        return self.assert_error(result, *needles, status=status)

    @staticmethod
    def assert_error(result, *needles, status=1):
        assert (
            result.returncode == status
        ), f"exit status {result.returncode}, expected {status}: {result.stdout}{result.stderr}"
        lines = result.stderr.splitlines()
        errors = [line for line in lines if line.startswith("stoker: ")]
        assert errors and lines[-1] == errors[-1], f"no error line at the end: {result.stderr!r}"
        assert len(errors) == 1, f"more than one error line: {errors}"
        assert errors[0].isprintable(), f"control characters: {errors[0]!r}"
        for needle in needles:
            assert needle in errors[0], f"no {needle!r} in {errors[0]!r}"
        return errors[0]

    def json(self, *args, **options):
        return json.loads(self(*args, **options).stdout)

    def pull(self, reference, *args, **options):
        return self("pull", reference, *args, **options)

    @contextlib.contextmanager
    def mounted(self, reference):
        """The image's tree, read-only."""
        directory = self.folder / f"mnt-{os.urandom(4).hex()}"
        directory.mkdir()
        self("image", "mount", reference, directory)
        try:
            yield directory
        finally:
            self("image", "unmount", directory)
            directory.rmdir()

    # ---- what is in the store

    def layers(self):
        folder = self.state / "layers/sha256"
        return sorted(folder.iterdir()) if folder.exists() else []

    def temporary_files(self):
        folder = self.state / "tmp"
        return sorted(folder.iterdir()) if folder.exists() else []

    def parts(self):
        folder = self.state / "parts"
        return sorted(folder.iterdir()) if folder.exists() else []

    def assert_store_empty(self):
        """Nothing is left over of a pull that failed: no layer, image, temporary or partial file."""
        assert self.layers() == []
        assert self.temporary_files() == []
        assert self.parts() == []
        for name in ("images", "blobs/sha256"):
            folder = self.state / name
            assert not folder.exists() or list(folder.iterdir()) == [], name

    def assert_nothing_left(self, wait=3.0):
        """No process, mount, loop device or temporary file of this node. Run by the fixture at the end
        of every test."""
        deadline = time.monotonic() + wait
        while (left := stoker_processes()) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert not left, f"processes left behind: {left}"
        if self.killed and self.state.exists():
            self("images")  # opening the store sweeps what the dead left
        assert mounts_below(self.folder) == [], "mounts left behind"
        # One goes when the last mount namespace has let go of it, a new one of another test's perhaps.
        while loop_devices_of(self.folder) and time.monotonic() < deadline + 7:
            time.sleep(0.02)
        assert loop_devices_of(self.folder) == [], "loop devices left behind"
        assert self.temporary_files() == [], "temporary files left behind"

    def destroy(self):
        for pid in stoker_processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for _ in range(100):
            if not stoker_processes():
                break
            time.sleep(0.02)
        unmount_below(self.folder)
        for device in loop_devices_of(self.folder):
            subprocess.run(["losetup", "-d", f"/dev/{device}"], check=False)
        shutil.rmtree(self.folder, ignore_errors=True)
