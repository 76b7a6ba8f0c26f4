# SPDX-License-Identifier: Apache-2.0
"""Directories that a layer's tar leaves out: they keep what a lower layer said of them, as umoci has it."""

import os
import pathlib
import signal
import subprocess
import time

import pytest
import treecompare
from ociimage import EPOCH, Tar

FORMS = ["erofs", "directory"]


def base():
    t = Tar().dir("./", mode=0o755).dir("tmp", mode=0o1777, mtime=EPOCH + 1)
    t.dir("home", mode=0o711, mtime=EPOCH + 2)
    t.dir("home/user", uid=1000, gid=1000, mode=0o700, mtime=EPOCH + 3, mtime_ns=7,
          xattrs={"user.a": b"1", "trusted.b": b"\0\2"})  # fmt: skip
    t.file("home/user/.profile", "x", uid=1000, gid=1000)
    t.dir("opt", mode=0o750, gid=5).dir("opt/sub", mode=0o770, gid=6).file("opt/sub/f", "x")
    return t


CASES = {
    "implicit in the upper layer": [
        base(),
        Tar().file("tmp/x", "x").file("home/user/.cache/y", "y").file("opt/sub/new/deep/f", "z"),
    ],
    "implicit in two layers": [
        base(), Tar().file("home/user/a", "a"), Tar().file("home/user/b", "b").file("tmp/c", "c"),
    ],
    "explicit again above": [
        base(),
        Tar().file("home/user/a", "a").file("tmp/a", "a"),
        Tar().dir("home/user", uid=7, mode=0o500, xattrs={"user.c": b"3"}).file("tmp/b", ""),
    ],
    "explicit in between": [
        base(),
        Tar().dir("home").dir("home/user", uid=8, mode=0o501, mtime=EPOCH + 9),
        Tar().file("home/user/a", "a"),
    ],
    "whiteout in between": [
        base(), Tar().whiteout("home/user").whiteout("opt"),
        Tar().file("home/user/a", "a").file("opt/sub/b", ""),
    ],
    "whiteout in the same layer, implicit again": [
        base(), Tar().whiteout("opt").file("opt/sub/b", ""),
    ],
    "whiteout behind what it means": [base(), Tar().file("opt/b", "").whiteout("opt")],
    "opaque in between": [
        base(), Tar().dir("opt", mode=0o705).opaque("opt").file("opt/g", ""),
        Tar().file("opt/sub/b", ""),
    ],
    "opaque and implicit": [
        base(), Tar().opaque("opt").file("opt/g", ""), Tar().file("opt/sub/b", ""),
    ],
    "a file in between": [
        base(), Tar().whiteout("opt").file("opt", "a file"),
        Tar().whiteout("opt").file("opt/sub/b", ""),
    ],
    "the root": [
        Tar().dir("./", mode=0o555, gid=3, xattrs={"user.root": b"1"}).dir("etc", mode=0o700),
        Tar().dir("usr").file("usr/x", "x"),
    ],
    "nothing to do": [base(), Tar().dir("tmp", mode=0o1777).file("tmp/x", "x").file("a/b/c", "c")],
    "the children stand before the parent": [
        base(), Tar().file("home/user/a", "a").dir("home/user", uid=9, mode=0o710).dir("home"),
    ],
}  # fmt: skip


def expected_of(layout, folder):
    subprocess.run(["umoci", "unpack", "--image", f"{layout.path}:latest", str(folder)], check=True)
    return treecompare.snapshot(folder / "rootfs")


def times_of_unpacking(tree):
    """Of what umoci made or changed just now."""
    recent = (time.time() - 3600) * 1e9
    return {(name, "mtime_ns") for name, e in tree.items() if e["mtime_ns"] > recent}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("case", CASES)
def test_tree_equals_umoci(registry, image_builder, stoker, tmp, case, form):
    layout = image_builder(*CASES[case])
    expected = expected_of(layout, tmp / "bundle")
    reference = registry.push(layout, f"parents/{abs(hash(case))}")
    stoker.pull(reference, "--layer-format", form)
    for _ in range(2):  # made, then found
        with stoker.mounted(reference) as root:
            found = treecompare.snapshot(root)
        ignore = times_of_unpacking(expected) | {(b".", "mtime_ns")}
        wrong = treecompare.differences(expected, found, ignore)
        assert not wrong, "\n".join(wrong)


def test_times_are_the_lower_layers(registry, image_builder, stoker):
    reference = registry.push(image_builder(*CASES["implicit in the upper layer"]), "parents/times")
    stoker.pull(reference)
    with stoker.mounted(reference) as root:
        assert os.stat(root / "home/user").st_mtime_ns == (EPOCH + 3) * 10**9 + 7
        assert os.stat(root / "tmp").st_mtime == EPOCH + 1


def image_of(registry, image_builder, name, case="implicit in the upper layer"):
    return registry.push(image_builder(*CASES[case], name=name), f"parents/{name}")


@pytest.mark.parametrize("form", FORMS)
def test_made_once_and_pruned_with_the_image(registry, image_builder, stoker, form):
    reference = image_of(registry, image_builder, f"once-{form}")
    stoker.pull(reference, "--layer-format", form)
    pulled = {f.name for f in stoker.layers()}
    with stoker.mounted(reference):
        made = {f.name: f.stat().st_ino for f in stoker.layers()}
        assert len(made.keys() - pulled) == 1
        stoker("prune", "--all")  # in use, as the image's other layers
        assert made == {f.name: f.stat().st_ino for f in stoker.layers()}
    stoker("prune")  # the image needs it
    with stoker.mounted(reference):
        assert made == {f.name: f.stat().st_ino for f in stoker.layers()}
    stoker("prune", "--all")
    stoker.assert_store_empty()


@pytest.mark.parametrize("form", FORMS)
def test_none_needed_is_remembered(registry, image_builder, stoker, form):
    """Marks, but nothing below them: an empty file says so. Without marks not even that."""
    reference = image_of(registry, image_builder, f"none-{form}", "nothing to do")
    stoker.pull(reference, "--layer-format", form)
    pulled = {f.name for f in stoker.layers()}
    with stoker.mounted(reference):
        (extra,) = [f for f in stoker.layers() if f.name not in pulled]
        assert extra.stat().st_size == 0
    stoker("prune", "--all")
    stoker.assert_store_empty()
    plain = registry.push(image_builder(base(), Tar().dir("a").file("a/b", "c")), "parents/plain")
    stoker.pull(plain, "--layer-format", form)
    pulled = stoker.layers()
    with stoker.mounted(plain):
        assert stoker.layers() == pulled


def test_marks_do_not_show_and_are_not_copied_up(registry, image_builder, stoker):
    reference = image_of(registry, image_builder, "hidden")
    stoker.pull(reference)
    with stoker.mounted(reference) as root:
        for folder in (".", "home", "home/user", "home/user/.cache", "opt/sub/new"):
            names = os.listxattr(root / folder)
            assert not any("overlay" in name for name in names), folder


@pytest.mark.parametrize("form", FORMS)
def test_a_run_sees_it(registry, image_builder, stoker, form):
    busybox = pathlib.Path(os.environ.get("BUSYBOX", "/bin/busybox")).read_bytes()
    lower = base().dir("bin").file("bin/busybox", busybox, mode=0o755)
    built = image_builder(lower, Tar().file("tmp/x", "x").file("home/user/.cache/y", "y"))
    reference = registry.push(built, f"parents/run-{form}")
    stoker.pull(reference, "--layer-format", form)
    command = ["/bin/busybox", "stat", "-c", "%a %u:%g %n", "/home/user", "/home", "/opt"]
    for _ in range(2):
        out = stoker("run", "--image", reference, "--", *command).stdout
        assert "700 1000:1000 /home/user\n711 0:0 /home\n750 0:5 /opt\n" in out


def test_killed_while_making_it(registry, image_builder, stoker, tmp):
    """Whatever the kill leaves, the next mount shows the right tree and prune empties the store."""
    t = Tar()
    for i in range(2000):
        t.dir(f"d{i}", mode=0o700, uid=i)
    upper = Tar()
    for i in range(2000):
        upper.file(f"d{i}/f", "")
    reference = registry.push(image_builder(t, upper), "parents/killed")
    stoker.pull(reference)
    folder, pulled = tmp / "target", len(stoker.layers())
    folder.mkdir()
    stoker.killed = True
    seen = set()
    for i in range(60):
        process = stoker.popen("image", "mount", reference, str(folder))
        time.sleep(0.03 * i)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        made = len(stoker.layers()) - pulled
        seen.add(made)
        if os.path.ismount(folder):
            stoker("image", "unmount", str(folder))
        elif made:
            stoker("images")
        if made:
            stoker("prune")
            break
        assert made in (0, 1)
    assert seen == {0, 1}, "the kills came all too early or all too late"
    with stoker.mounted(reference) as root:
        for i in range(0, 2000, 7):
            status = os.stat(root / f"d{i}")
            assert (status.st_uid, status.st_mode & 0o7777) == (i, 0o700)
    assert not stoker.temporary_files()
    stoker("prune", "--all")
    stoker.assert_store_empty()
