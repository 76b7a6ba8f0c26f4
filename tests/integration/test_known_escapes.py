# SPDX-License-Identifier: Apache-2.0
"""Known escapes from runtimes, by their numbers. Each attack is denied, and goes further when its defence
is taken out (base/weaken.h), which proves that the test can fail."""

import contextlib
import os
import pty
import signal
import time

import attack
import ociimage
import pytest

# ---- known escapes: each attack is denied, and goes further when its defence is taken out


def run_racing(stoker, reference, volume, seconds, attempt):
    """Call attempt() until it is true or the time is over, while a job exchanges two entries of a volume
    as fast as it can."""
    command = ["run", "--image", reference, "--bind", f"{volume}:/vol", "--"]
    with stoker.popen(*command, "/probe", "swap", "/vol/a", "/vol/b") as racer:
        try:
            assert racer.stdout.readline() == "swapping\n", racer.communicate()
            deadline = time.monotonic() + seconds
            while time.monotonic() < deadline:
                if attempt():
                    return True
            return False
        finally:
            racer.send_signal(signal.SIGTERM)
            racer.communicate()


@pytest.mark.parametrize("weak", [(), ("sealed-copy",)], ids=["held", "weak"])
def test_cve_2019_5736(stoker, registry, tmp, weak):
    """The entry point is a script for /proc/self/exe: the agent's program becomes itself again, linked by
    the image's own loader, which has its file open. That file must not be the node's."""
    reference = attack.push_probe(registry, tmp, attack.self_starter(), Entrypoint=["/entry"])
    program = attack.own_copy(stoker, tmp, *weak)
    before = program.stat()
    result = stoker("run", "--image", reference, check=False)
    assert attack.reached_program(result, before) == bool(weak), result.stdout + result.stderr
    if not weak:
        assert not attack.escapes(result)
        assert program.stat().st_mtime_ns == before.st_mtime_ns


@pytest.mark.parametrize("weak", [(), ("proc-plain",)], ids=["held", "weak"])
def test_cve_2019_19921(stoker, make_probe_image, canary, weak):
    """/proc is a link to a folder that the attacker has too: what is mounted there, with all its masks, can
    be exchanged."""
    reference = make_probe_image(
        ociimage.Tar().dir("own").dir("own/proc").symlink("proc", "own/proc")
    )
    command = ["run", "--image", reference, "--", "/probe", "where", "/proc", "/own/proc"]
    if weak:
        result = attack.weaken(stoker, *weak)(*command)
        assert "mount /own/proc proc" in result.stdout
    else:
        assert "link" in stoker.fails(*command, needles=["/proc"])
    shared = canary.folder / "run"
    stoker.fails(
        "run", "--image", reference, "--bind", f"{shared}:/proc", "--", "/probe", "where", "/",
        needles=["/proc"],
    )  # fmt: skip


@pytest.mark.parametrize("weak", [(), ("beneath",)], ids=["held", "weak"])
def test_cve_2021_30465(make_stoker, probe_image, canary, tmp, weak):
    """A mount's target lies in a volume where another job exchanges a folder for a link to the node."""
    stoker, other = make_stoker(), make_stoker()
    volume = tmp / "volume"
    (volume / "a").mkdir(parents=True)
    (volume / "b").symlink_to(canary.folder)
    for n in (stoker, other):
        n.pull(probe_image)
    for path in (volume, volume / "a"):
        path.chmod(0o777)
    if weak:
        attack.weaken(stoker, *weak)

    def attempt():
        result = stoker(
            "run", "--image", probe_image, "--bind", f"{volume}:/vol",
            "--bind", f"{tmp}:/vol/a/made", "--", "/probe", "where", "/vol/a/made", check=False,
        )  # fmt: skip
        with contextlib.suppress(FileNotFoundError):
            (volume / "a/made").rmdir()
        if result.returncode != 0:
            stoker.assert_error(result)
        return canary.state() != canary.before

    assert run_racing(other, probe_image, volume, 20 if weak else 6, attempt) == bool(weak)
    if weak:
        (canary.folder / "made").rmdir()


@pytest.mark.parametrize("weak", [(), ("seccomp",)], ids=["held", "weak"])
def test_cve_2022_0492(stoker, probe_image, weak):
    """A control group's release agent through a user namespace of the job's own. Kernels that are mended
    refuse the last step."""
    command = ["run", "--image", probe_image, "--", "/probe", "cgroup"]
    if weak:
        result = attack.weaken(stoker, *weak)(*command)
        assert "stage unshare" in result.stdout, result.stdout
    else:
        result = stoker(*command)
        attack.assert_denied(result, "cgroup")
        assert "stage" not in result.stdout


@pytest.mark.parametrize("weak", [(), ("close-fds", "beneath")], ids=["held", "weak"])
def test_cve_2024_21626(stoker, probe_image, make_probe_image, canary, weak):
    """The working folder is a descriptor that the runtime has open, which leads to the node: as the image
    says, or the user."""
    if weak:
        attack.weaken(stoker, *weak)
    reached = []
    for fd in range(3, 31):
        command = ["--image", probe_image, "--workdir", f"/proc/self/fd/{fd}"]
        if fd == 8:
            command = ["--image", make_probe_image(WorkingDir=f"/proc/self/fd/{fd}")]
        result = stoker("run", *command, "--", "/probe", "open", canary.secret, check=False)
        if result.returncode != 0:
            stoker.assert_error(result)
        if attack.escapes(result) or "cwd (unreachable)" in result.stdout:
            reached.append((fd, result.stdout))
    assert bool(reached) == bool(weak), reached


@pytest.mark.parametrize("weak", [(), ("close-fds", "beneath")], ids=["held", "weak"])
def test_cve_2024_21626_exec_in_a_job(stoker, probe_image, canary, weak):
    if weak:
        attack.weaken(stoker, *weak)
    run = stoker("run", "-d", "--image", probe_image, "--", "/probe", "sleep", "60").stdout.strip()
    reached = []
    for fd in range(3, 31):
        result = stoker(
            "exec", "--workdir", f"/proc/self/fd/{fd}", run, "--", "/probe", "open",
            canary.secret, check=False,
        )  # fmt: skip
        if attack.escapes(result) or "cwd (unreachable)" in result.stdout:
            reached.append((fd, result.stdout))
    stoker("kill", run)
    stoker("wait", run, check=False)
    assert bool(reached) == bool(weak), reached


# ---- with bundles: what no job can ask for, but another engine can


@pytest.fixture
def bundle(stoker, tmp):
    made = attack.Bundle(stoker, tmp)
    yield made
    made.delete()


@pytest.mark.parametrize("weak", [(), ("close-fds", "beneath")], ids=["held", "weak"])
def test_cve_2024_21626_exec(stoker, bundle, canary, weak):
    if weak:
        attack.weaken(stoker, *weak)
    reached = []
    with bundle.running("/probe", "sleep", "60"):
        for fd in range(3, 21):
            result = bundle.runtime(
                "exec", "--cwd", f"/proc/self/fd/{fd}", bundle.id, "/probe", "open",
                canary.secret, check=False,
            )  # fmt: skip
            if attack.escapes(result) or "cwd (unreachable)" in result.stdout:
                reached.append((fd, result.stdout))
    assert bool(reached) == bool(weak), reached


@pytest.mark.parametrize("weak", [(), ("sealed-copy",)], ids=["held", "weak"])
def test_cve_2019_5736_exec(stoker, bundle, tmp, weak):
    """The attacker waits in the container for `exec`: what is started there is /proc/self/exe again."""
    attack.add_self_starter(bundle.rootfs)
    program = attack.own_copy(stoker, tmp, *weak)
    before = program.stat()
    with bundle.running("/probe", "sleep", "60"):
        result = bundle.runtime("exec", bundle.id, "/entry", check=False)
    assert attack.reached_program(result, before) == bool(weak), result.stdout + result.stderr
    if not weak:
        assert program.stat().st_mtime_ns == before.st_mtime_ns


@pytest.mark.parametrize("weak", [(), ("mask-null",)], ids=["held", "weak"])
def test_cve_2025_31133(stoker, bundle, canary, weak):
    """The image's /dev/null is a link: what should be masked becomes what it points at, writable."""
    (bundle.rootfs / "dev/null").symlink_to("/proc/sys/kernel/core_pattern")
    bundle.drop_mounts("/dev", "/dev/pts", "/dev/shm")
    bundle.config["linux"]["maskedPaths"] = ["/proc/uptime"]
    if weak:
        attack.weaken(stoker, *weak)
    result = bundle.run("/probe", "content", "/proc/uptime")
    if weak:
        assert "content core" in result.stdout and attack.escapes(result), result.stdout
    elif result.returncode == 0:
        assert "content \n" in result.stdout and not attack.escapes(result), result.stdout
    else:
        assert "/dev/null" in result.stderr


@pytest.mark.parametrize("weak", [(), ("console",)], ids=["held", "weak"])
def test_cve_2025_52565(stoker, bundle, canary, weak):
    """/dev/console of the image is a link: the terminal would be mounted over what it leads to, such as a
    masked file of /proc. (To the node it cannot lead: the root has changed by then.)"""
    (bundle.rootfs / "dev/pts").mkdir()
    (bundle.rootfs / "covered").write_text("not yet\n")
    (bundle.rootfs / "dev/console").symlink_to("/covered")
    bundle.drop_mounts("/dev", "/dev/shm")
    bundle.config["process"]["terminal"] = True
    if weak:
        attack.weaken(stoker, *weak)
    master, slave = pty.openpty()  # so that the node has a /dev/pts/0
    try:
        with attack.ConsoleSocket(bundle.folder / "console") as console:
            result = bundle.run("/probe", "where", "/", options=["--detach", *console.options])
        if weak:
            assert result.returncode == 0, result.stderr
        else:
            assert result.returncode != 0 and "/dev/console" in result.stderr, result.stderr
    finally:
        os.close(master)
        os.close(slave)


@pytest.mark.parametrize("weak", [(), ("proc-check",)], ids=["held", "weak"])
def test_cve_2025_52881(stoker, bundle, canary, weak):
    """/proc is the image's, with a link in the place of the setting that is written."""
    setting = bundle.rootfs / "proc/sys/net/ipv4/ip_forward"
    setting.parent.mkdir(parents=True)
    setting.symlink_to("/volume/secret")
    bundle.drop_mounts("/proc")
    bundle.bind(canary.folder, "/volume")
    bundle.config["linux"]["sysctl"] = {"net.ipv4.ip_forward": "1"}
    bundle.config["linux"]["maskedPaths"] = bundle.config["linux"]["readonlyPaths"] = []
    if weak:
        attack.weaken(stoker, *weak)
    result = bundle.run("/probe", "where", "/proc")
    if weak:
        assert canary.secret.read_text().startswith("1"), result.stderr
        canary.secret.write_text("secret\n")
    else:
        assert result.returncode != 0 and "sysctl" in result.stderr, result.stdout + result.stderr
