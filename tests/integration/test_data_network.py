# SPDX-License-Identifier: Apache-2.0
"""NFS and CIFS, mounted for real from servers on this machine: the kernel's nfsd, and samba. Needs modules
that the build machine's kernel may lack, so it runs in the virtual machine."""

import contextlib
import pathlib
import subprocess
import time

import node
import pytest
from test_run import (  # noqa: F401
    _busybox,
    busybox,
    record,
    write_job,
)

pytestmark = pytest.mark.vm
EXPORT = pathlib.Path("/srv/stoker-export")
NFSD = pathlib.Path("/proc/fs/nfsd")


def call(*command, **options):
    done = subprocess.run(command, capture_output=True, check=False, **options)
    assert done.returncode == 0, (command, done.stdout, done.stderr)


@pytest.fixture(scope="module")
def export():
    EXPORT.mkdir(parents=True)
    (EXPORT / "a.txt").write_text("from the server\n")
    EXPORT.chmod(0o777)
    return EXPORT


def start_nfsd():
    if not (NFSD / "portlist").read_text().strip():
        (NFSD / "portlist").write_text("tcp 2049\n")
    (NFSD / "threads").write_text("2\n")
    (NFSD / "v4_end_grace").write_text("1\n")


@contextlib.contextmanager
def away():
    """The server does not answer in here."""
    (NFSD / "threads").write_text("0\n")
    try:
        yield
    finally:
        start_nfsd()


@pytest.fixture(scope="module")
def nfs(export):
    call("modprobe", "nfsd")
    call("mount", "-t", "nfsd", "nfsd", "/proc/fs/nfsd")
    pathlib.Path("/etc/exports").write_text(f"{export} 127.0.0.1(rw,all_squash,insecure,fsid=1)\n")
    call("exportfs", "-a")
    call("rpc.mountd", "-N", "2", "-N", "3")
    # By hand: rpc.nfsd asks for a portmapper, which version 4 needs none of.
    known = (NFSD / "versions").read_text().split()
    (NFSD / "versions").write_text(" ".join(f"-{v[1:]}" for v in known if v[1:] in "23") + "\n")
    for name in ("nfsv4leasetime", "nfsv4gracetime"):
        (NFSD / name).write_text("10\n")
    start_nfsd()
    yield f"127.0.0.1:{export}"
    (NFSD / "threads").write_text("0\n")


@pytest.fixture(scope="module")
def cifs(export, tmp_path_factory):
    folder = tmp_path_factory.mktemp("samba")
    config = folder / "smb.conf"
    config.write_text(
        f"""[global]
interfaces = lo
bind interfaces only = yes
smb ports = 445
disable netbios = yes
server role = standalone server
private dir = {folder}
lock directory = {folder}
state directory = {folder}
cache directory = {folder}
pid directory = {folder}
ncalrpc dir = {folder}
log file = {folder}/log
[share]
path = {export}
read only = no
force user = root
"""
    )
    call("smbpasswd", "-c", config, "-a", "-s", "ada", input=b"open sesame\nopen sesame\n")
    server = subprocess.Popen(
        ["smbd", "--foreground", "--no-process-group", "-s", config],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 20
    while subprocess.run(["ss", "-Hltn", "sport = :445"], capture_output=True).stdout == b"":
        assert time.monotonic() < deadline, "samba does not listen"
        time.sleep(0.1)
    yield "//127.0.0.1/share"
    server.kill()
    server.wait()


def run(stoker, tmp, busybox, script, check=True, **source):  # noqa: F811
    (tmp / "job").mkdir(exist_ok=True)
    (tmp / "job/pass").write_text("open sesame\n")
    secrets = {"pass": {"file": "pass"}}
    path = write_job(
        tmp / "job", busybox, script, inputs=[{"name": "d", **source}], secrets=secrets
    )
    return stoker("run", path, check=check)


READ = "cat /stoker/inputs/d/a.txt; touch /stoker/inputs/d/no 2>&1 || echo refused\n"


def test_nfs(stoker, busybox, tmp, nfs):  # noqa: F811
    result = run(stoker, tmp, busybox, READ, kind="nfs", remote=nfs)
    assert result.stdout.startswith("from the server\n"), result
    assert "Read-only file system" in result.stdout and result.stdout.endswith("refused\n")
    script = "echo written > /stoker/inputs/d/by-nfs\n"
    run(stoker, tmp, busybox, script, kind="nfs", remote=nfs, mode="rw_mount")
    assert (EXPORT / "by-nfs").read_text() == "written\n"
    line = run(stoker, tmp, busybox, READ, False, kind="nfs", remote="127.0.0.1:/nosuch").stderr
    assert "input d" in line and "127.0.0.1:/nosuch" in line
    assert node.mounts_below(stoker.folder) == []


def test_cifs(stoker, busybox, tmp, cifs):  # noqa: F811
    access = {"kind": "cifs", "remote": cifs, "user": "ada", "password_secret": "pass"}
    result = run(stoker, tmp, busybox, READ, **access)
    assert result.stdout.startswith("from the server\n"), result
    assert "Read-only file system" in result.stdout
    script = "echo written > /stoker/inputs/d/by-cifs\n"
    run(stoker, tmp, busybox, script, mode="rw_mount", **access)
    assert (EXPORT / "by-cifs").read_text() == "written\n"
    line = run(stoker, tmp, busybox, READ, False, **{**access, "user": "eve"}).stderr
    assert "input d" in line and "open sesame" not in line
    assert node.mounts_below(stoker.folder) == []


# A file is open all the time, so that there is a state which the kernel wants to recover.
STEPS = """
exec 3< /stoker/inputs/d/a.txt
echo ready > outputs/ready
while [ ! -e outputs/go ]; do sleep 0.1; done
cat /stoker/inputs/d/a.txt /stoker/inputs/d/later || exit 3
"""


@contextlib.contextmanager
def started(stoker, tmp, busybox, remote):  # noqa: F811
    """A job that is ready, and the folder of its results."""
    (EXPORT / "later").write_text("later\n")
    (tmp / "job").mkdir(exist_ok=True)
    source = {"name": "d", "kind": "nfs", "remote": remote, "options": {"actimeo": 0}}
    path = write_job(tmp / "job", busybox, STEPS, inputs=[source])
    with stoker.popen("run", path) as process:
        deadline = time.monotonic() + 60
        while not (found := list(stoker.state.glob("runs/*/1/outputs/ready"))):
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.1)
        try:
            yield process, found[0].parent
        finally:
            process.kill()


@pytest.mark.parametrize("seconds", [0, 15], ids=["at once", "recovering"])
def test_nfs_server_goes(stoker, busybox, tmp, nfs, seconds):  # noqa: F811
    """The job that wants a file has an error, or is ended where the kernel would let it wait for ever (NFS
    while it recovers its state, which the server's lease of 10 s decides)."""
    stoker.configure(data={"probe_seconds": 2})
    with started(stoker, tmp, busybox, nfs) as (process, outputs), away():
        time.sleep(seconds)
        (outputs / "go").touch()
        start = time.monotonic()
        out, err = process.communicate(timeout=60)
        assert time.monotonic() - start < 40
        assert process.returncode != 0
        cause = record(stoker)["cause"]
        assert cause["code"] == "DataStalled" and cause["class"] == "infrastructure", (out, err)
        assert f"input d: the server of {nfs} did not answer for" in cause["message"]
        assert "input d" in err
        assert node.mounts_below(stoker.folder) == []


def test_nfs_server_comes_back(stoker, busybox, tmp, nfs):  # noqa: F811
    """Before the limit (twice probe_seconds): no error."""
    stoker.configure(data={"probe_seconds": 15})
    with started(stoker, tmp, busybox, nfs) as (process, outputs):
        with away():
            (outputs / "go").touch()
            time.sleep(12)
            assert process.poll() is None
        out, err = process.communicate(timeout=60)
    assert process.returncode == 0 and out == "from the server\nlater\n", (out, err)
    assert not any("input d" in line for line in record(stoker)["warnings"])
