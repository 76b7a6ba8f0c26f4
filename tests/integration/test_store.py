# SPDX-License-Identifier: Apache-2.0
"""What a node keeps and what it gives up: prune, eviction, disks that are full or read-only, and images
mounted to look inside."""

import contextlib
import json
import os
import random
import signal
import subprocess
import time

import pytest
from node import loop_devices_of, mounts_below
from ociimage import Layout, Tar

MIB = 1024 * 1024


def noise(size, seed):
    """Bytes that no compression makes smaller, the same each time."""
    return random.Random(seed).randbytes(size)


@contextlib.contextmanager
def disk(stoker, *mount_options, size=None):
    """The node's state directory on a file system of its own: a tmpfs, or with `size` an ext4."""
    stoker.state.mkdir()
    if size:
        image = stoker.folder / "disk"
        with open(image, "wb") as f:
            f.truncate(size)
        subprocess.run(["mkfs.ext4", "-q", "-m", "0", image], check=True)
        command = ["mount", "-o", ",".join(["loop", *mount_options]), image, stoker.state]
    else:
        command = ["mount", "-t", "tmpfs", "-o", ",".join(mount_options), "none", stoker.state]
    subprocess.run(command, check=True)
    try:
        yield
        assert stoker.temporary_files() == []
    finally:
        subprocess.run(["umount", stoker.state], check=True)


def references(stoker):
    return {image["reference"] for image in stoker.json("images", "--json")}


@pytest.fixture
def two_images(tmp, registry, request):
    """Two images over one base: references by name."""
    layout = Layout(tmp / "two")
    base = layout.layer(Tar().file("base", "base\n"))
    found = {}
    for name in ("a", "b"):
        layer = layout.layer(Tar().dir("dir").file(f"dir/{name}", name * 3000))
        layout.image([base, layer], name)
        repository = f"store/{request.node.name.replace('_', '-').split('[')[0]}"
        found[name] = registry.push(layout, repository, name)
    return found


def test_rmi_keeps_what_others_need(stoker, two_images):
    for reference in two_images.values():
        stoker.pull(reference)
    assert len(stoker.layers()) == 3
    stoker("rmi", two_images["a"])
    assert len(stoker.layers()) == 2
    assert references(stoker) == {two_images["b"]}
    stoker.fails("rmi", two_images["a"], needles=[two_images["a"], "is not here"])
    with stoker.mounted(two_images["b"]) as root:
        assert (root / "dir/b").read_text() == "b" * 3000
        assert (root / "base").exists() and not (root / "dir/a").exists()
    stoker("rmi", two_images["b"])
    stoker.assert_store_empty()


def test_prune(stoker, two_images):
    for reference in two_images.values():
        stoker.pull(reference)
    stoker("prune")
    assert len(stoker.layers()) == 3
    stoker("prune", "--all", "--unused-for", "1h")
    assert len(stoker.layers()) == 3
    assert "would remove 2 images, 3 layers" in stoker("prune", "--all", "--dry-run").stdout
    assert len(stoker.layers()) == 3
    assert "removed 2 images, 3 layers" in stoker("prune", "--all").stdout
    stoker.assert_store_empty()


@pytest.mark.parametrize("form", ["erofs", "directory"])
def test_mounted_image_stays(stoker, two_images, form):
    for reference in two_images.values():
        stoker.pull(reference, "--layer-format", form)
    with stoker.mounted(two_images["a"]) as root:
        stoker("prune", "--all")
        assert references(stoker) == {two_images["a"]}
        assert len(stoker.layers()) == 2
        assert (root / "dir/a").read_text() == "a" * 3000
        stoker.fails("image", "mount", two_images["a"], root, needles=["shows image", "unmount"])
    stoker("prune", "--all")
    stoker.assert_store_empty()


def test_image_mount(stoker, two_images, kernel_log):
    reference = two_images["a"]
    stoker.pull(reference)
    other = stoker.folder / "other"
    other.mkdir()
    stoker.fails("image", "unmount", other, needles=[str(other), "is not a mount of"])
    stoker.fails("image", "mount", reference, stoker.folder / "none", needles=["No such file"])
    with stoker.mounted(reference) as first, stoker.mounted(reference) as second:
        assert (first / "base").read_text() == (second / "base").read_text() == "base\n"
        with pytest.raises(OSError, match="Read-only"):
            (first / "new").touch()
        # Layers of both are mounted once each; the mounts keep no setuid and no devices.
        layers = [m for m in mounts_below(stoker.run_dir) if "/layers/" in m]
        assert len(layers) == 2
        options = subprocess.run(
            ["findmnt", "-no", "OPTIONS", first], check=True, capture_output=True, text=True
        ).stdout.split(",")
        assert {"ro", "nosuid", "nodev"} <= set(options)
        # A name with links is the same folder.
        link = stoker.folder / "link"
        link.symlink_to(second)
        stoker.fails("image", "mount", reference, link, needles=["shows image"])
        with open(first / "base"):
            stoker.fails("image", "unmount", first, needles=["is in use"])
    assert mounts_below(stoker.folder) == []
    assert list((stoker.run_dir / "mounts").iterdir()) == []


def test_mounts_at_once(stoker, two_images):
    """Of several mounts on one folder at the same time one succeeds, and its layers are kept."""
    stoker.pull(two_images["a"])
    folder = stoker.folder / "m"
    folder.mkdir()
    for _ in range(10):
        mounters = [stoker.popen("image", "mount", two_images["a"], folder) for _ in range(4)]
        said = [p.communicate()[1] for p in mounters]
        assert sorted(p.returncode == 0 for p in mounters) == [False] * 3 + [True], said
        assert mounts_below(folder) == [str(folder)]
        assert len(list((stoker.run_dir / "mounts").iterdir())) == 1
        stoker("image", "unmount", folder)
    assert mounts_below(stoker.folder) == []


def test_image_unmounted_by_other_means(stoker, two_images):
    stoker.pull(two_images["a"])
    folder = stoker.folder / "m"
    folder.mkdir()
    stoker("image", "mount", two_images["a"], folder)
    subprocess.run(["umount", folder], check=True)
    assert mounts_below(stoker.run_dir)  # layers, for a mount that is gone
    stoker("images")
    assert mounts_below(stoker.folder) == []
    # Its record does not keep us from something else that is mounted there now.
    stoker("image", "mount", two_images["a"], folder)
    subprocess.run(["umount", folder], check=True)
    subprocess.run(["mount", "-t", "tmpfs", "none", folder], check=True)
    stoker.fails("image", "unmount", folder, needles=["is not a mount of"])
    assert mounts_below(stoker.folder) == [str(folder)]
    subprocess.run(["umount", folder], check=True)


def test_loop_devices(stoker, two_images):
    stoker.configure(layers={"backing": "loop"})
    stoker.pull(two_images["a"], "--layer-format", "erofs")
    with stoker.mounted(two_images["a"]) as root:
        assert len(loop_devices_of(stoker.folder)) == 2
        assert (root / "dir/a").read_text() == "a" * 3000
    for _ in range(50):  # the kernel lets go of a device when its last user has gone
        if not loop_devices_of(stoker.folder):
            break
        time.sleep(0.02)
    assert loop_devices_of(stoker.folder) == []


@pytest.mark.parametrize("form", ["erofs", "directory"])
def test_one_layer_with_whiteouts(stoker, registry, image_builder, form):
    """A single layer is shown as an image too: whiteouts in it hide nothing and are not seen, not even in
    a folder that only this layer has, which overlayfs would list as it stands on the disk."""
    tar = Tar().dir("d").file("d/x", "x").whiteout("d/gone").whiteout("gone").file("y", "y")
    tar.dir("d", mode=0o750).whiteout("implicit/gone")
    reference = registry.push(image_builder(tar), f"store/one-layer-{form}")
    stoker.pull(reference, "--layer-format", form)
    with stoker.mounted(reference) as root:
        assert sorted(os.listdir(root)) == ["d", "implicit", "y"]
        assert os.listdir(root / "d") == ["x"]
        assert os.listdir(root / "implicit") == []


@pytest.mark.parametrize("form", ["erofs", "directory"])
def test_layer_that_stands_twice(stoker, registry, layout, form):
    """Builders repeat layers, empty ones above all; overlayfs refuses to take one folder twice."""
    again = layout.layer(Tar().file("x", "x").file("again", "again"))
    other = layout.layer(Tar().whiteout("x").file("again", "hidden").file("y", "y"))
    layout.image([again, other, again])
    reference = registry.push(layout, "store/layer-twice")
    stoker.pull(reference, "--layer-format", form)
    with stoker.mounted(reference) as root:
        assert sorted(os.listdir(root)) == ["again", "x", "y"]
        assert (root / "again").read_text() == "again"


def test_damaged_layer(stoker, two_images):
    stoker.pull(two_images["a"], "--layer-format", "erofs")
    for layer in stoker.layers():
        os.truncate(layer, 0)
    folder = stoker.folder / "m"
    folder.mkdir()
    stoker.fails("image", "mount", two_images["a"], folder, needles=["does not mount", "damaged"])
    assert mounts_below(stoker.folder) == []
    stoker("prune", "--all")
    stoker.pull(two_images["a"])
    with stoker.mounted(two_images["a"]) as root:
        assert (root / "base").exists()


def test_killed_while_mounting(stoker, two_images):
    """Whatever step the kill hits, the next command finds it: mounted with a record, or nothing."""
    stoker.pull(two_images["a"])
    folder = stoker.folder / "m"
    folder.mkdir()
    started = time.monotonic()
    stoker("image", "mount", two_images["a"], folder)
    took = time.monotonic() - started
    stoker("image", "unmount", folder)
    stoker.killed = True
    seen = set()
    for i in range(40):
        with stoker.popen("image", "mount", two_images["a"], folder) as process:
            time.sleep(took * i / 30)
            process.send_signal(signal.SIGKILL)
            process.wait()
        stoker("images")
        mounted = str(folder) in mounts_below(stoker.folder)
        seen.add(mounted)
        assert bool(list((stoker.run_dir / "mounts").iterdir())) == mounted
        if mounted:
            assert (folder / "base").read_text() == "base\n"
            stoker("image", "unmount", folder)
        assert mounts_below(stoker.folder) == []
        assert loop_devices_of(stoker.folder) == []
    assert seen == {False, True}, "the kills came all too early or all too late"


def test_eviction(stoker, registry, tmp):
    """A third image takes the place of the one used least recently, not of one that is mounted."""
    layout = Layout(tmp / "three")
    name = {}
    for i, tag in enumerate(("mounted", "old", "new", "third")):
        layout.image([layout.layer(Tar().file("data", noise(2 * MIB, i)), "none")], tag)
        name[tag] = registry.push(layout, "store/eviction", tag)
    # A plain layer needs its size twice while it is made.
    stoker.configure(store={"high": "9m", "low": "9m", "keep_free": "0"})
    for tag in ("mounted", "old", "new"):
        stoker.pull(name[tag])
        time.sleep(0.02)
    with stoker.mounted(name["mounted"]):
        stoker("inspect", name["old"])  # to look is not to use
        stoker.pull(name["third"])
        assert references(stoker) == {name["mounted"], name["new"], name["third"]}
        assert len(stoker.layers()) == 3
    # More than all that may go: nothing goes.
    layout.image([layout.layer(Tar().file("data", noise(20 * MIB, 9)), "none")], "large")
    large = registry.push(layout, "store/eviction", "large")
    stoker.fails("pull", large, needles=["needs 41", "layers may take 9.44 MB", "evicting"])
    assert references(stoker) == {name["mounted"], name["new"], name["third"]}
    assert stoker.parts() == []


def test_eviction_keeps_what_the_pull_needs(stoker, registry, tmp):
    """A layer that is here already does not go to make room for the others of its image."""
    layout = Layout(tmp / "shared")
    base, old, new = (layout.layer(Tar().file("data", noise(2 * MIB, i)), "none") for i in range(3))
    layout.image([base, old], "old")
    layout.image([base, new], "new")
    name = {tag: registry.push(layout, "store/eviction-shared", tag) for tag in ("old", "new")}
    stoker.pull(name["old"])
    stoker.configure(store={"high": "7m", "low": "7m", "keep_free": "0"})
    registry.forget()
    stoker.pull(name["new"])
    assert references(stoker) == {name["new"]}
    assert len(stoker.layers()) == 2
    assert registry.blob_bytes() < 3 * MIB


def test_disk_too_small(stoker, registry, image_builder):
    """Known from the manifest: nothing is fetched."""
    reference = registry.push(image_builder(Tar().file("f", noise(24 * MIB, 1))), "store/too-small")
    stoker.configure(store={"keep_free": "1m"})
    with disk(stoker, size=24 * MIB):
        registry.forget()
        needles = [
            "needs 101 MB",
            "free in",
            "1.05 MB are kept free",
            "nothing here can be evicted",
        ]
        stoker.fails("pull", reference, needles=needles)
        stoker.assert_store_empty()
    assert registry.blob_bytes() < MIB


@pytest.mark.parametrize("form", ["erofs", "directory"])
def test_full_disk(stoker, registry, image_builder, form):
    """Known only when it happens: a megabyte that becomes 60."""
    tar = Tar()
    for i in range(30):
        tar.file(f"f{i}", noise(1024, i) * 2048)
    reference = registry.push(image_builder(tar), f"store/full-disk-{form}")
    stoker.configure(store={"keep_free": "0"})
    with disk(stoker, size=24 * MIB):
        stoker.fails("pull", reference, "--layer-format", form, needles=["No space left on device"])
        assert stoker.layers() == []
        assert stoker.temporary_files() == []
        # The node goes on: something smaller fits.
        small = registry.push(
            image_builder(Tar().file("x", "x"), name="small"), f"store/full-disk-small-{form}"
        )
        stoker("prune")
        stoker.pull(small, "--layer-format", form)
        with stoker.mounted(small) as root:
            assert (root / "x").read_text() == "x"


def test_full_inodes(stoker, registry, image_builder):
    tar = Tar()
    for i in range(2000):
        tar.file(f"f{i}", "")
    reference = registry.push(image_builder(tar), "store/full-inodes")
    stoker.configure(store={"keep_free": "0", "keep_free_inodes": 0})
    with disk(stoker, "size=64m", "nr_inodes=500"):
        stoker.fails(
            "pull", reference, "--layer-format", "directory", needles=["No space left on device"]
        )
        assert stoker.layers() == []
        assert stoker.temporary_files() == []
        # One file per layer.
        stoker.pull(reference, "--layer-format", "erofs")
        assert len(stoker.layers()) == 1
    stoker.configure(store={"keep_free": "0", "keep_free_inodes": 100})


def test_too_few_inodes(stoker, registry, image_builder):
    reference = registry.push(image_builder(Tar().file("x", "x")), "store/too-few-inodes")
    stoker.configure(store={"keep_free": "0", "keep_free_inodes": 99})
    with disk(stoker, "size=64m", "nr_inodes=500"):
        stoker.fails("pull", reference, needles=["files", "free in", "99% are kept free"])
        stoker.assert_store_empty()


def test_read_only_store(stoker, two_images):
    with disk(stoker, size=32 * MIB):
        stoker.configure(store={"keep_free": "0"})
        stoker.pull(two_images["a"])
        subprocess.run(["mount", "-o", "remount,ro", stoker.state], check=True)
        assert references(stoker) == {two_images["a"]}
        stoker("inspect", two_images["a"])
        with stoker.mounted(two_images["a"]) as root:
            assert (root / "base").read_text() == "base\n"
        stoker.fails("pull", two_images["b"], needles=["Read-only file system"])
        stoker.fails("rmi", two_images["a"], needles=["Read-only file system"])
        stoker.fails("prune", "--all", needles=["Read-only file system"])
        subprocess.run(["mount", "-o", "remount,rw", stoker.state], check=True)
        assert references(stoker) == {two_images["a"]}
        assert len(stoker.layers()) == 2
    # Read-only from the beginning: there is nothing to show and nowhere to make it.
    empty = stoker.folder / "empty"
    empty.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "none", empty], check=True)
    try:
        stoker.fails("images", "--state-dir", empty, needles=[str(empty), "Read-only file system"])
    finally:
        subprocess.run(["umount", empty], check=True)


def test_state_is_private(stoker, two_images):
    stoker.pull(two_images["a"])
    for folder in (stoker.state, stoker.run_dir, stoker.state / "layers", stoker.state / "images"):
        assert folder.stat().st_mode & 0o777 == 0o700
    for layer in stoker.layers():
        assert layer.stat().st_mode & 0o777 == 0o400
    record = next((stoker.state / "images").iterdir())
    assert json.loads(record.read_text())["reference"] == two_images["a"]
