# SPDX-License-Identifier: Apache-2.0
"""An image of everything that layers may hold, pulled, mounted, and compared entry by entry with what
umoci unpacks: type, mode, owner, time, attributes, links, content."""

import filecmp
import random
import subprocess

import ociimage
import pytest
import registries
import treecompare
from ociimage import BLK, CHR, EPOCH, Tar

MANY = 70_000  # more than 16 bits count
GIB = 1 << 30
LONG = "n" * 255
DEEP = "/".join(["deep"] + ["component-%02d-%s" % (i, "x" * 40) for i in range(30)])

# What umoci itself decides: parents that no tar entry names get the time of unpacking, and so does the
# root, into which every layer unpacks.
UMOCI_TIMES = {
    (name, "mtime_ns") for name in (b".", b"implicit", b"implicit/deep", b"longs", b"longs-gnu")
} | {("/".join(DEEP.split("/")[: i + 1]).encode(), "mtime_ns") for i in range(31)}


def noise(size, seed=0):
    return random.Random(seed).randbytes(size)


def add_files(t):
    t.dir("files", mtime_ns=123_456_789)
    for size in (0, 1, 4095, 4096, 4097, 8191, 12_288, 100_000, 1 << 20):
        t.file(f"files/{size}", noise(size, size), uid=1000, gid=100)
    t.file("files/zeros", bytes(300_000))
    t.file("files/setuid", "x", mode=0o4755).file("files/setgid", "x", mode=0o2755, gid=7)
    t.file("files/none", "x", mode=0).file("files/all", "x", mode=0o7777)
    t.file("files/large-ids", "x", uid=4_000_000_000, gid=65_534)
    t.dir("tmp", mode=0o1777).dir("setgid-dir", mode=0o2775, gid=50)


def add_special(t):
    t.dir("dev")
    t.device("dev/null", CHR, 1, 3, mode=0o666).device("dev/loop0", BLK, 7, 0, gid=6)
    t.device("dev/large", CHR, 500, 300_000)
    t.fifo("dev/pipe", mode=0o600, mtime_ns=5)
    t.symlink("relative", "files/1").symlink("absolute", "/etc/passwd").symlink(
        "dangling", "no/where"
    )
    t.symlink("long-target", "t" * 200).symlink("long-target-gnu", "g" * 300, long_names="gnu")
    t.symlink("up", "../../../../etc").symlink("owned", "x", uid=5, gid=6, mtime_ns=999_999_999)


def add_names(t):
    t.dir("names")
    t.file(b"names/\xff\xfe\x80", "bytes").file(b"names/caf\xe9-" + b"l" * 100, "long, not UTF-8")
    t.dir(b"names/\xc3\x28")
    t.file(b"names/\xc3\x28/inside", "x")
    t.file("names/\u00e4\u00f6\u00fc \u65e5\u672c", "UTF-8").file("names/a\nb\tc\\d \"e'", "odd")
    t.file("names/" + LONG, "255 bytes, PAX").file("names/G" + LONG[1:], "GNU", long_names="gnu")
    t.file("longs/" + "p" * 150, "PAX").file("longs-gnu/" + "g" * 150, "GNU", long_names="gnu")
    t.file(DEEP + "/leaf", "far down")
    t.file("./names/dotted", "x").file("names//doubled", "x").dir("names/slash/")
    t.file("implicit/deep/file", "its parents have no entry")
    t.file("names/ending-in.wh.", "no whiteout").file("names/wh.x", "no whiteout either")


def add_attributes(t):
    t.dir("xattrs", xattrs={"user.folder": b"yes", "trusted.folder": b"\0\1"})
    t.file("xattrs/cap", "x", mode=0o755,
           xattrs={"security.capability": ociimage.file_capability(1 << 10)})  # fmt: skip
    t.file("xattrs/user", noise(5000), xattrs={"user.a": b"text", "user.b": bytes(range(256))})
    t.file("xattrs/several", "", xattrs={f"user.number{i}": b"%d" % i * i for i in range(30)})
    t.file("xattrs/long", "x", xattrs={"user.long": noise(3000)})
    for i in range(20):  # the same attributes on many files: shared in EROFS
        t.file(f"xattrs/shared{i}", "x", xattrs={"user.same": b"everywhere", "user.and": b"this"})
    t.symlink("xattrs/link", "cap", xattrs={"trusted.onlink": b"1"})
    t.device("xattrs/device", CHR, 1, 5, xattrs={"trusted.ondevice": b"1"})


def add_links(t):
    t.dir("a").dir("b").dir("b/c")
    t.file("a/one", noise(10_000, 1), xattrs={"user.linked": b"1"})
    t.hardlink("b/two", "a/one").hardlink("b/c/three", "b/two").hardlink("a/four", "./a/one")
    t.symlink("a/sym", "one").hardlink("b/sym-too", "a/sym")
    t.fifo("a/fifo").hardlink("b/fifo-too", "a/fifo")
    # The first name is replaced: the second keeps the file.
    t.file("a/replaced", "old").hardlink("a/keeps", "a/replaced").file("a/replaced", "new")
    t.file("a/lower-link", "linked").hardlink("b/lower-link", "a/lower-link")


def add_repeated(t):
    t.dir("twice").file("twice/file", "first", mode=0o600).file("twice/file", noise(9000, 2))
    t.dir("twice/dir", mode=0o700).file("twice/dir/kept", "x").dir("twice/dir", mode=0o711, mtime=1)
    t.file("twice/file-then-dir", "x").dir("twice/file-then-dir").file(
        "twice/file-then-dir/in", "y"
    )
    t.dir("twice/dir-then-file").dir("twice/dir-then-file/sub").file(
        "twice/dir-then-file/sub/f", ""
    )
    t.file("twice/dir-then-file", "now a file")
    t.symlink("twice/link-then-dir", "/tmp").dir("twice/link-then-dir")
    t.file("twice/link-then-dir/inside", "not in /tmp")


def add_times(t):
    t.dir("times", mtime_ns=1)
    for name, seconds, nanoseconds in [
        ("zero", 0, None), ("last-nanosecond", EPOCH, 999_999_999), ("one", EPOCH, 1),
        ("after-2038", 1 << 32, 500_000_000), ("whole", EPOCH, 0),
    ]:  # fmt: skip
        t.file(f"times/{name}", name, mtime=seconds, mtime_ns=nanoseconds)
    t.file("times/before-1970", "x", pax={"mtime": "-86400"})


def add_lower(t):
    """What the upper layer changes or hides."""
    t.dir("etc", mode=0o755).file("etc/passwd", "root").file("etc/hosts", "localhost")
    t.dir("gone").dir("gone/sub").file("gone/sub/file", "x")
    t.dir("opaque", mtime_ns=77).file("opaque/below", "x").dir("opaque/sub").file(
        "opaque/sub/f", ""
    )
    t.dir("opaque-late").file("opaque-late/below", "x")
    t.dir("remade").file("remade/old", "x")
    t.dir("dir-to-file").file("dir-to-file/child", "x")
    t.file("file-to-dir", "x")
    t.dir("dir-to-link").file("dir-to-link/child", "x")
    t.symlink("link-to-dir", "/etc")
    t.dir("merged").file("merged/lower", "1").file("merged/both", "lower")
    t.dir("emptied").file("emptied/1", "").file("emptied/2", "")


def lower_layer():
    t = Tar()
    t.dir("./", mode=0o755, mtime=EPOCH, mtime_ns=42)
    add_files(t)
    add_special(t)
    add_names(t)
    add_attributes(t)
    add_links(t)
    add_repeated(t)
    add_times(t)
    add_lower(t)
    pieces = {0: b"start", 1 << 20: noise(70_000), 4 * GIB + 12_345: b"past four gibibytes"}
    t.pax_sparse("files/sparse", 4 * GIB + (1 << 20), pieces)
    t.pax_sparse("files/only-hole", 1 << 20, {})
    return t


def many_layer():
    t = Tar()
    t.dir("many")
    for i in range(MANY):
        t.file(f"many/{i:06}", b"%d" % i if i % 10 == 0 else b"")
    return t


def upper_layer():
    t = Tar()
    t.dir("etc", mode=0o700, mtime=EPOCH + 5, mtime_ns=6).whiteout("etc/passwd")
    t.file("etc/new", "x")
    t.whiteout("gone").whiteout("never-was")
    t.dir("opaque", mtime=EPOCH + 9, xattrs={"user.upper": b"1"}).opaque("opaque")
    t.file("opaque/above", "y").dir("opaque/sub")
    t.dir("opaque-late").file("opaque-late/above", "z").opaque("opaque-late")
    t.whiteout("remade").dir("remade", mode=0o750).file("remade/fresh", "x")
    t.file("dir-to-file", "a file now")
    t.dir("file-to-dir").file("file-to-dir/child", "x")
    t.symlink("dir-to-link", "merged")
    t.dir("link-to-dir").file("link-to-dir/child", "not in /etc")
    t.dir("merged").file("merged/upper", "2").file("merged/both", "upper")
    t.dir("emptied").whiteout("emptied/1").whiteout("emptied/2")
    t.dir("a").file("a/lower-link", "no longer linked")
    t.dir("new").file("new/one", "linked in the upper layer").hardlink("new/two", "new/one")
    return t


def last_layer():
    return Tar().dir("file-to-dir").file("file-to-dir/second", "x").file("never-was", "now it is")


@pytest.fixture(scope="module")
def nasty(tmp_path_factory, _registry):
    """(reference, what umoci makes of it, layers)."""
    folder = tmp_path_factory.mktemp("nasty")
    layout = ociimage.Layout(folder / "layout")
    tars = [lower_layer(), Tar(), many_layer(), upper_layer(), last_layer()]
    compressions = ["gzip", "gzip", "gzip-members", "gzip", "none"]
    layers = [layout.layer(t, c) for t, c in zip(tars, compressions, strict=True)]
    layout.image(layers)
    reference = _registry.push(layout, "nasty/image")
    bundle = folder / "bundle"
    subprocess.run(["umoci", "unpack", "--image", f"{layout.path}:latest", str(bundle)], check=True)
    expected = treecompare.snapshot(bundle / "rootfs")
    subprocess.run(["rm", "-rf", str(bundle)], check=True)
    yield reference, expected, layers
    registries.remove(folder)


def test_the_image_is_as_nasty_as_it_says(nasty):
    """A comparison of two empty trees would pass: these must be in umoci's."""
    _, expected, _ = nasty
    assert sum(name.startswith(b"many/") for name in expected) == MANY
    assert expected[b"files/sparse"]["size"] > 4 * GIB
    assert "security.capability" in expected[b"xattrs/cap"]["xattrs"]
    assert len(expected[b"a/one"]["links"]) == 4
    assert expected[b"times/last-nanosecond"]["mtime_ns"] % 1_000_000_000 == 999_999_999
    assert b"names/\xff\xfe\x80" in expected and b"gone" not in expected
    assert b"opaque/below" not in expected and b"opaque-late/above" in expected


@pytest.mark.parametrize("form", ["erofs", "directory"])
def test_tree_equals_umoci(nasty, stoker, form, kernel_log):
    reference, expected, _ = nasty
    stoker.pull(reference, "--layer-format", form, timeout=600)
    with stoker.mounted(reference) as root:
        found = treecompare.snapshot(root)
    wrong = treecompare.differences(expected, found, UMOCI_TIMES)
    assert not wrong, f"{len(wrong)} differences:\n" + "\n".join(wrong[:40])


def test_two_stores_hold_the_same_bytes_and_fsck_is_content(nasty, make_stoker):
    reference, _, layers = nasty
    first, second = make_stoker(), make_stoker()
    first.pull(reference, timeout=600)
    second.pull(reference, timeout=600)
    names = {layer.diff_id.removeprefix("sha256:") + ".erofs" for layer in layers}
    assert {f.name for f in first.layers()} == {f.name for f in second.layers()} == names
    for a, b in zip(first.layers(), second.layers(), strict=True):
        assert filecmp.cmp(a, b, shallow=False), f"{a.name} differs"
        subprocess.run(["fsck.erofs", str(a)], check=True)


def old_sparse_tar():
    return Tar().gnu_sparse("old", 3 << 20, {0: b"a" * 512, 1 << 20: b"b" * 1024}).dir("after")


@pytest.mark.parametrize("form", ["erofs", "directory"])
def test_old_gnu_sparse(registry, layout, stoker, form):
    """umoci does not know type 'S'; what GNU tar unpacks is in test_fixtures."""
    layout.image([layout.layer(old_sparse_tar())])
    reference = registry.push(layout, "nasty/old-sparse")
    stoker.pull(reference, "--layer-format", form)
    with stoker.mounted(reference) as root:
        data = (root / "old").read_bytes()
    expected = bytearray(3 << 20)
    expected[0:512] = b"a" * 512
    expected[1 << 20 : (1 << 20) + 1024] = b"b" * 1024
    assert data == bytes(expected)


@pytest.mark.parametrize("compression", ["gzip-members", "zstd", "none"])
def test_compression_leaves_no_trace(registry, layout, make_stoker, compression):
    """However the layer was compressed, the file in the store is the same."""
    tar = Tar().dir("d").file("d/f", noise(3_000_000)).symlink("l", "d/f").bytes()
    files = []
    for how in ("gzip", compression):
        stoker = make_stoker()
        layout.image([layout.layer(tar, how)])
        stoker.pull(registry.push(layout, f"nasty/{how}"))
        files.append(stoker.layers()[0])
    assert files[0].name == files[1].name
    assert filecmp.cmp(*files, shallow=False)


@pytest.mark.full
@pytest.mark.parametrize("form", ["erofs", "directory"])
def test_more_than_four_gibibytes_of_zeros(registry, layout, stoker, form, tmp):
    """Not sparse in the tar: every zero passes the decompressor and both hashes."""
    size = 4 * GIB + 5
    prefix = ociimage.Tar().pax({"size": str(size)}).raw(ociimage.header("zeros", size=0)).out
    suffix = bytes(-size % 512 + 1024)
    blob = tmp / "zeros.gz"
    with open(blob, "wb") as out:
        diff_id = ociimage.gzip_of_zeros(prefix.getvalue(), size, suffix, out)
    digest, blob_size = layout.blob_file(blob, move=True)
    media_type = ociimage.OCI_LAYER + "+gzip"
    layout.image([ociimage.Layer(digest, blob_size, media_type, diff_id)])
    reference = registry.push(layout, "nasty/zeros")
    stoker.pull(reference, "--layer-format", form, timeout=600)
    with stoker.mounted(reference) as root:
        assert (root / "zeros").stat().st_size == size
        with open(root / "zeros", "rb") as f:
            while chunk := f.read(1 << 24):
                assert not any(chunk[:: len(chunk) // 64 or 1]) and chunk.count(0) == len(chunk)
