# SPDX-License-Identifier: Apache-2.0
"""NFS and CIFS, mounted for real from servers on this machine: the kernel's nfsd, and samba. Needs modules
that the build machine's kernel may lack, so it runs in the virtual machine."""

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


def call(*command, **options):
    done = subprocess.run(command, capture_output=True, check=False, **options)
    assert done.returncode == 0, (command, done.stdout, done.stderr)


@pytest.fixture(scope="module")
def export():
    EXPORT.mkdir(parents=True)
    (EXPORT / "a.txt").write_text("from the server\n")
    EXPORT.chmod(0o777)
    return EXPORT


@pytest.fixture(scope="module")
def nfs(export):
    call("modprobe", "nfsd")
    call("mount", "-t", "nfsd", "nfsd", "/proc/fs/nfsd")
    pathlib.Path("/etc/exports").write_text(f"{export} 127.0.0.1(rw,all_squash,insecure,fsid=1)\n")
    call("exportfs", "-a")
    call("rpc.mountd", "-N", "2", "-N", "3")
    # By hand: rpc.nfsd asks for a portmapper, which version 4 needs none of.
    control = pathlib.Path("/proc/fs/nfsd")
    known = (control / "versions").read_text().split()
    (control / "versions").write_text(" ".join(f"-{v[1:]}" for v in known if v[1:] in "23") + "\n")
    for name in ("nfsv4leasetime", "nfsv4gracetime"):
        (control / name).write_text("10\n")
    (control / "portlist").write_text("tcp 2049\n")
    (control / "threads").write_text("2\n")
    (control / "v4_end_grace").write_text("1\n")
    yield f"127.0.0.1:{export}"
    (control / "threads").write_text("0\n")


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


def test_nfs_server_stops_in_the_middle(stoker, busybox, tmp, nfs):  # noqa: F811
    """The reader may get an error (softerr) or wait for the server's state to come back (which has no
    limit in the kernel): the job can be ended, and no mount stays."""
    script = """
cat /stoker/inputs/d/a.txt
echo ready > outputs/ready
while [ ! -e outputs/go ]; do sleep 0.1; done
cat /stoker/inputs/d/a.txt /stoker/inputs/d/later || echo "an error"
"""
    stoker.configure(data={"probe_seconds": 2})
    (tmp / "job").mkdir(exist_ok=True)
    inputs = [{"name": "d", "kind": "nfs", "remote": nfs,
               "options": {"timeo": 10, "retrans": 1, "actimeo": 0}}]  # fmt: skip
    path = write_job(tmp / "job", busybox, script, inputs=inputs)
    with stoker.popen("run", path) as process:
        deadline = time.monotonic() + 30
        while not (found := list(stoker.state.glob("runs/*/1/outputs/ready"))):
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.1)
        pathlib.Path("/proc/fs/nfsd/threads").write_text("0\n")
        (found[0].parent / "go").touch()
        time.sleep(2)
        stoker("kill", found[0].parents[2].name, check=False)
        try:
            out, err = process.communicate(timeout=30)
        finally:
            process.kill()
    assert out.startswith("from the server\n"), (out, err)
    assert node.mounts_below(stoker.folder) == []
