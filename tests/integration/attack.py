# SPDX-License-Identifier: Apache-2.0
"""What the attack tests share: images of nothing but the probe (tests/integration/probe), a canary on the
node that nothing may happen to, and programs with a defence taken out (base/weaken.h)."""

import array
import contextlib
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile
import threading

import node
import ociimage

PROBE = pathlib.Path(
    os.environ.get("STOKER_PROBE", pathlib.Path(node.BINARY).parent / "tests/probe")
)
WEAK_BINARY = os.environ.get("STOKER_WEAK_BINARY", str(node.ROOT / "build/weak/stoker"))


def probe_tar():
    """/probe, a set-user-id copy of it, and places to write to."""
    binary = PROBE.read_bytes()
    tar = ociimage.Tar().file("probe", binary, mode=0o755).dir("bin")
    tar.file("bin/suid-probe", binary, mode=0o4755).dir("tmp", mode=0o1777).dir("etc")
    return tar.file("etc/passwd", "root:x:0:0::/root:/bin/sh\nada:x:1000:100::/:/bin/sh\n")


def push_probe(registry, folder, *tars, **config):
    """An image of the probe and of further layers; returns its reference."""
    name = f"attack-{os.urandom(4).hex()}"
    layout = ociimage.Layout(folder / name)
    layers = [layout.layer(t) for t in (probe_tar(), *tars)]
    layout.image(layers, config_options={"config": config})
    return registry.push(layout, f"run/{name}")


class Canary:
    """A folder of the node's that everyone may write to, with a secret, and a process."""

    def __init__(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="stoker-canary-", dir="/var/tmp"))
        self.folder.chmod(0o777)
        self.secret = self.folder / "secret"
        self.secret.write_text("secret\n")
        self.secret.chmod(0o666)
        (self.folder / "run").mkdir()
        (self.folder / "run").chmod(0o777)
        self.process = subprocess.Popen(["sleep", "600"])
        self.before = self.state()

    def state(self):
        found = {}
        for path in sorted(self.folder.rglob("*")):
            info = path.lstat()
            content = path.read_bytes() if path.is_file() and not path.is_symlink() else None
            found[str(path.relative_to(self.folder))] = (info.st_mode, info.st_uid, content)
        return found

    def assert_alive(self):
        assert self.state() == self.before
        assert node.mounts_below(self.folder) == []
        assert self.process.poll() is None

    def remove(self):
        node.unmount_below(self.folder)
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        shutil.rmtree(self.folder)


def root_disk():
    """ "MAJOR:MINOR" of the device below /."""
    number = os.stat("/").st_dev
    return f"{os.major(number)}:{os.minor(number)}"


def assert_denied(result, name, at_least=1):
    """The probe ran to its end, was denied at least so often, and nothing else."""
    lines = result.stdout.splitlines()
    assert result.returncode == 0, result.stdout + result.stderr
    assert lines[-1:] == [f"end of {name}"], result.stdout + result.stderr
    escapes = [line for line in lines if line.startswith("ESCAPED")]
    assert not escapes, "\n".join(escapes)
    denials = [line for line in lines if line.startswith("denied: ")]
    assert len(denials) >= at_least, result.stdout


def escapes(result):
    return [line for line in result.stdout.splitlines() if line.startswith("ESCAPED")]


def weaken(stoker, *defences):
    """The same node with the program that can be told to leave defences out, and without these."""
    assert os.access(WEAK_BINARY, os.X_OK), (
        f"no program at {WEAK_BINARY}: cmake --preset weak && "
        "cmake --build build/weak --target stoker"
    )
    stoker.binary = WEAK_BINARY
    stoker.environment["STOKER_WEAKEN"] = ",".join(defences)
    return stoker


# ---- CVE-2019-5736: a program whose interpreter is /proc/self/exe, and the loader that this then gets


def loader_paths():
    return "lib64/ld-linux-x86-64.so.2", "lib/ld-linux-aarch64.so.1"


def self_starter():
    """A layer with it, as /entry."""
    tar = ociimage.Tar().file("entry", "#!/proc/self/exe\n", mode=0o755).dir("lib64").dir("lib")
    for path in loader_paths():
        tar.file(path, (PROBE.parent / "probe_loader").read_bytes(), mode=0o755)
    return tar


def add_self_starter(rootfs):
    (rootfs / "entry").write_text("#!/proc/self/exe\n")
    (rootfs / "entry").chmod(0o755)
    for path in loader_paths():
        (rootfs / path).parent.mkdir()
        shutil.copy(PROBE.parent / "probe_loader", rootfs / path)


def own_copy(stoker, folder, *weak):
    """Let the node run a copy of the program that may be broken."""
    if weak:
        weaken(stoker, *weak)
    program = folder / "stoker-copy"
    shutil.copy(stoker.binary, program)
    stoker.binary = str(program)
    return program


def reached_program(result, before):
    """Whether the loader had the node's own file open."""
    assert "loader runs" in result.stdout or result.returncode != 0, result.stdout
    seen = dict(line.split(" ", 1) for line in result.stdout.splitlines() if " " in line)
    return (seen.get("device"), seen.get("inode")) == (str(before.st_dev), str(before.st_ino))


# ---- bundles


def default_config():
    """As an engine writes it, but with the node's own user ids: nothing but the defence stands between the
    container's root and the node's."""
    capabilities = ["CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_KILL", "CAP_SETUID"]
    mounts = [("/proc", "proc", []), ("/dev", "tmpfs", ["mode=755", "size=64k"])]
    mounts += [("/dev/pts", "devpts", ["newinstance", "ptmxmode=0666", "mode=0620"])]
    mounts += [("/dev/shm", "tmpfs", ["mode=1777"]), ("/sys", "sysfs", ["ro", "nosuid"])]
    return {
        "ociVersion": "1.0.2",
        "process": {
            "user": {"uid": 0, "gid": 0},
            "cwd": "/",
            "env": ["PATH=/"],
            "capabilities": dict.fromkeys(("bounding", "effective", "permitted"), capabilities),
            "noNewPrivileges": True,
        },
        "root": {"path": "rootfs"},
        "mounts": [{"destination": d, "type": t, "source": t, "options": o} for d, t, o in mounts],
        "linux": {
            "namespaces": [{"type": t} for t in ("pid", "mount", "ipc", "uts", "network")],
            "maskedPaths": ["/proc/kcore", "/proc/keys"],
            "readonlyPaths": ["/proc/sys"],
        },
    }


class Bundle:
    """A folder with the probe as root file system, for `stoker runtime`."""

    def __init__(self, stoker, folder):
        self.stoker, self.folder = stoker, folder / "bundle"
        self.rootfs, self.id = self.folder / "rootfs", f"attack-{os.urandom(4).hex()}"
        self.config = default_config()
        for name in ("proc", "sys", "dev", "tmp"):
            (self.rootfs / name).mkdir(parents=True)
        shutil.copy(PROBE, self.rootfs / "probe")

    def drop_mounts(self, *destinations):
        keep = [m for m in self.config["mounts"] if m["destination"] not in destinations]
        self.config["mounts"] = keep

    def bind(self, source, destination):
        self.config["mounts"].append(
            {"destination": destination, "type": "bind", "source": str(source), "options": ["bind"]}
        )

    def runtime(self, *args, **options):
        return self.stoker("runtime", "--root", self.folder / "state", *args, **options)

    def write(self, *args):
        self.config["process"]["args"] = [str(a) for a in args]
        (self.folder / "config.json").write_text(json.dumps(self.config))

    def run(self, *args, options=()):
        self.write(*args)
        return self.runtime("run", "--bundle", self.folder, *options, self.id, check=False)

    @contextlib.contextmanager
    def running(self, *args):
        """Created and started; killed and deleted at the end."""
        self.write(*args)
        with open(self.folder / "output", "w+") as output:
            self.runtime(
                "run", "--detach", "--bundle", self.folder, self.id, stdout=output, stderr=output
            )
        try:
            yield
        finally:
            self.delete()

    def delete(self):
        if (self.folder / "state").exists():
            self.runtime("delete", "--force", self.id, check=False)


class ConsoleSocket:
    """Takes the terminal that a runtime sends."""

    def __init__(self, path):
        self.options = ["--console-socket", str(path)]
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listener.bind(str(path))
        self.listener.listen()
        self.listener.settimeout(10)
        self.thread = threading.Thread(target=self.take, daemon=True)
        self.fds = array.array("i")

    def take(self):
        with contextlib.suppress(OSError):
            connection, _ = self.listener.accept()
            with connection:
                _, fds, _, _ = socket.recv_fds(connection, 4096, 1)
                self.fds.extend(fds)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.listener.shutdown(socket.SHUT_RDWR)  # ends accept()
        self.thread.join()
        self.listener.close()
        for fd in self.fds:
            os.close(fd)
