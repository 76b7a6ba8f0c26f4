# SPDX-License-Identifier: Apache-2.0
"""A job that wants out. Each test runs one attempt of the probe as root in a container; it must be denied,
and nothing may have happened on the node."""

import pathlib
import subprocess
import sys

import attack
import listening
import ociimage
import pytest


@pytest.fixture
def probe(stoker, probe_image, canary):
    """probe("mount", "/ro", options=["--bind", …]): the attempt in a container."""

    def run(name, *args, options=(), **more):
        return stoker(
            "run", "--image", probe_image, *options, "--", "/probe", name, *args,
            check=False, **more,
        )  # fmt: skip

    return run


# ---- the job


def test_programs_of_other_processes(probe):
    """The agent's program, process 1's, cannot be read or written, nor its memory."""
    attack.assert_denied(probe("exe"), "exe", 7)


def test_descriptors(probe):
    """None is inherited but 0, 1 and 2, and those lead to no file or folder of the node."""
    attack.assert_denied(probe("descriptors"), "descriptors", 4)


def test_paths_through_processes(probe, canary):
    attack.assert_denied(probe("walk", canary.secret), "walk", 50)


def test_file_handles(probe):
    attack.assert_denied(probe("handles"), "handles", 9)


def test_chroot_escape(probe, canary):
    attack.assert_denied(probe("chroot", canary.secret), "chroot")


def test_mounts(probe, canary):
    options = ["--bind", f"{canary.folder}:/ro:ro"]
    attack.assert_denied(probe("mount", "/ro", options=options), "mount", 20)


def test_masked_paths_stay(probe):
    attack.assert_denied(probe("unmask"), "unmask", 22)


def test_namespaces(probe):
    attack.assert_denied(probe("namespaces"), "namespaces", 25)


def test_modules_and_other_privileges(probe):
    attack.assert_denied(probe("modules"), "modules", 14)


def test_bpf_and_what_else_programs_the_kernel(probe):
    attack.assert_denied(probe("bpf"), "bpf", 5)


def test_kernel_log(probe):
    attack.assert_denied(probe("log"), "log", 5)


def test_keyrings(probe):
    attack.assert_denied(probe("keys"), "keys", 8)


def test_kernel_settings(probe):
    """No file of /proc/sys, /sys and the rest of the kernel's can be opened for writing."""
    attack.assert_denied(probe("settings"), "settings", 20)


def test_kernel_secrets(probe):
    attack.assert_denied(probe("secrets"), "secrets", 12)


def test_devices(probe, stoker):
    attack.assert_denied(probe("devices", attack.root_disk()), "devices", 12)
    for path in (stoker.state / "runs").rglob("*"):
        assert not path.is_block_device() and not path.is_char_device(), path


def test_typing_into_terminals(probe):
    attack.assert_denied(probe("typing"), "typing", 4)


def test_set_user_id_programs(probe):
    result = probe("suid", "/bin/suid-probe", options=["--user", "ada"])
    assert "before 1000 1000" in result.stdout
    attack.assert_denied(result, "identity")


def test_signals(probe, canary):
    """Not even to everything that can be seen."""
    attack.assert_denied(probe("signals", canary.process.pid), "signals", 4)


def test_trace(probe, canary):
    attack.assert_denied(probe("trace", canary.process.pid), "trace", 5)


def test_cgroup_release_agent(probe):
    attack.assert_denied(probe("cgroup"), "cgroup")


def test_groups_of_the_node(probe):
    """Also in hierarchies of version 1 where the job has no group of its own."""
    attack.assert_denied(probe("groups"), "groups")


def test_too_many_processes(probe):
    """The default limit is far below what the node has, and reached by EAGAIN."""
    result = probe("forks", "8000", timeout=300)
    attack.assert_denied(result, "forks")
    assert "EAGAIN" in result.stdout


def test_more_processes_than_asked_for(probe):
    result = probe("forks", "200", options=["--pids-limit", "40"])
    attack.assert_denied(result, "forks")
    forked = int(result.stdout.split("forked ")[1].split()[0])
    assert 20 <= forked < 40, result.stdout


def test_too_much_memory(probe, stoker):
    """The job is killed, alone."""
    result = probe("memory", "400", options=["--memory", "100m"])
    assert result.returncode == 137 and "ESCAPED" not in result.stdout, result.stdout
    assert "memory" in result.stderr.lower(), result.stderr


def test_too_much_disk(probe, stoker):
    """Wherever it writes: its root, its folder, what it is given for results."""
    for folder in ("/tmp", "/stoker/run/outputs", "/stoker/run/logs"):
        result = probe("disk", folder, "4000", options=["--disk", "60m"])
        lines = result.stdout.splitlines()
        assert not attack.escapes(result), result.stdout
        assert result.returncode != 0 or "denied" in lines[-3], result.stdout + result.stderr


def test_small_file_systems(probe):
    """What lies in memory has a size: /dev, /dev/shm, /sys/fs/cgroup."""
    attack.assert_denied(probe("disk", "/dev/shm", "80"), "disk")
    attack.assert_denied(probe("disk", "/dev", "8"), "disk")


@pytest.mark.parametrize("where", ["inside", "outside"])
def test_node_and_metadata_addresses(probe, stoker, probe_image, where):
    """Neither the node's loopback, nor the metadata service, nor abstract sockets; outside, to prove the
    listeners and the probe, all of them."""
    stoker.pull(probe_image)
    addresses = ["127.0.0.1", "::1", listening.METADATA, "127.0.0.53", listening.ABSTRACT]
    attempt = ["connect", "8089", *addresses]
    command = [attack.PROBE, *attempt]
    if where == "inside":
        command = [stoker.binary, "run", "--image", probe_image, "--", "/probe", *attempt]
    server = pathlib.Path(listening.__file__)
    result = subprocess.run(
        ["unshare", "--net", sys.executable, server, "8089", "--", *command],
        env=stoker.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        check=False, timeout=120,
    )  # fmt: skip
    if where == "inside":
        attack.assert_denied(result, "connect", 7)
        assert result.stderr.splitlines()[-1] == "reached:", result.stderr
    else:
        reached = {"127.0.0.1", "::1", listening.METADATA, listening.ABSTRACT}
        assert set(result.stderr.splitlines()[-1].split()[1:]) == reached, result.stderr
        assert len(attack.escapes(result)) >= len(reached)


# ---- the image


def entry(path, target):
    """A layer with one symbolic link, and the folders above it."""
    tar = ociimage.Tar()
    parts = pathlib.PurePosixPath(path).parts
    for i in range(1, len(parts)):
        tar.dir("/".join(parts[:i]))
    return tar.symlink(path, target)


def link_targets(canary):
    return [f"{canary.folder}", f"../../../../../../..{canary.folder}"]


@pytest.mark.parametrize("form", [0, 1], ids=["absolute", "relative"])
@pytest.mark.parametrize("path", ["proc", "sys", "dev"])
def test_kernel_folders_that_are_links(stoker, make_probe_image, canary, path, form):
    """Refused: what is mounted there would stand elsewhere, and its masks with it."""
    reference = make_probe_image(entry(path, link_targets(canary)[form]))
    line = stoker.fails("run", "--image", reference, "--", "/probe", "where", "/proc")
    assert f"/{path}" in line and "link" in line, line
    canary.assert_alive()


@pytest.mark.parametrize("form", [0, 1], ids=["absolute", "relative"])
@pytest.mark.parametrize(
    "path",
    [
        "etc", "etc/hosts", "etc/resolv.conf", "etc/hostname", "dev/shm", "dev/pts", "dev/mqueue",
        "dev/null", "dev/console", "proc/sys", "sys/fs", "stoker", "stoker/run",
        "stoker/run/outputs", "stoker/run/logs", "mnt", "mnt/data", "work", "work/here",
    ],
)  # fmt: skip
def test_targets_that_are_links(stoker, make_probe_image, canary, tmp, path, form):
    """The link counts from the container's root, where its target is made, or the job is refused; on the
    node nothing changes."""
    target = link_targets(canary)[form]
    if path.startswith("etc/") or path == "dev/null":
        target += "/secret"
    (tmp / "data").mkdir()
    reference = make_probe_image(entry(path, target), WorkingDir="/work/here")
    result = stoker(
        "run", "--image", reference, "--bind", f"{tmp}/data:/mnt/data", "--",
        "/probe", "where", "/proc", "/dev/shm", check=False,
    )  # fmt: skip
    if result.returncode == 0:
        assert "mount /proc proc\nmount /dev/shm tmpfs\n" in result.stdout
    else:
        stoker.assert_error(result)
    canary.assert_alive()
