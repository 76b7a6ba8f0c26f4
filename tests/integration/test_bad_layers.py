# SPDX-License-Identifier: Apache-2.0
"""Layers that are broken or hostile. Each ends a pull with one line that names the reason, in both layer
forms, and leaves nothing: no layer, no temporary file, no process, nothing outside the store."""

import os
import pathlib
import random
import struct
import subprocess
import zlib

import ociimage
import pytest
from ociimage import BLOCK, LINK, REG, SYM, Layer, Tar, header, padded, sha256

FORMS = ("erofs", "directory")
MIB = 1 << 20
NOISE = random.Random(7).randbytes(300_000)
END = bytes(2 * BLOCK)


def good_tar():
    return Tar().dir("d").file("d/f", NOISE).bytes()


@pytest.fixture
def refuses(stoker, scripted, layout):
    """refuses(blob, needles…, diff_id=…): pulls an image of that one layer blob, in both forms, and
    expects one error line with the needles and an empty store. Returns the line of the last."""

    def check(blob, *needles, diff_id=None, media_type=ociimage.OCI_LAYER + "+gzip", forms=FORMS):
        digest, size = layout.blob(blob)
        layout.image([Layer(digest, size, media_type, diff_id or sha256(b"unknown"))])
        return check_image(*needles, forms=forms)

    def check_image(*needles, forms=FORMS):
        line = ""
        for form in forms:
            line = stoker.fails(
                "pull", scripted.reference(), "--layer-format", form, needles=needles
            )
            assert stoker.layers() == [] and stoker.temporary_files() == []
            images = stoker.state / "images"
            assert not images.exists() or not any(p.is_file() for p in images.rglob("*"))
            assert "signal" not in line, line
        return line

    check.image = check_image
    return check


# ---- the compressed stream


def gzip_member(data, **change):
    """A member whose trailer may lie."""
    engine = zlib.compressobj(6, zlib.DEFLATED, -15)
    body = engine.compress(data) + engine.flush()
    crc, size = change.get("crc", zlib.crc32(data)), change.get("size", len(data))
    return (
        b"\x1f\x8b\x08\0\0\0\0\0\0\xff"
        + body
        + struct.pack("<II", crc & 0xFFFFFFFF, size & 0xFFFFFFFF)
    )


def flipped(data, at):
    return data[:at] + bytes([data[at] ^ 0x55]) + data[at + 1 :]


STREAMS = {
    "gzip cut in the middle": (lambda t: gzip_member(t)[:-20_000], "gzip stream is truncated"),
    "gzip without its last byte": (lambda t: gzip_member(t)[:-1], "gzip stream is truncated"),
    "gzip CRC": (lambda t: gzip_member(t, crc=1), "checksum or length"),
    "gzip length": (lambda t: gzip_member(t, size=1), "checksum or length"),
    "gzip with an invalid block": (
        lambda t: b"\x1f\x8b\x08\0\0\0\0\0\0\xff\x07" + bytes(100),
        "gzip stream is corrupt",
    ),
    "gzip with garbage behind": (
        lambda t: gzip_member(t) + b"garbage",
        "followed by foreign bytes",
    ),
    "gzip, a second member that is none": (
        lambda t: gzip_member(t) + b"\x1f\x8b" + bytes(100),
        "gzip stream is corrupt",
    ),
    "gzip of no tar": (lambda t: gzip_member(b"not a tar archive " * 100), "tar"),
    "no compression, no tar": (lambda t: b"not a tar archive " * 100, "tar"),
    "zstd cut in the middle": (
        lambda t: ociimage.compress(t, "zstd")[:-5_000],
        "zstd stream is truncated",
    ),
    "zstd with garbage behind": (
        lambda t: ociimage.compress(t, "zstd") + b"garbage",
        "zstd stream is followed by foreign bytes",
    ),
    "zstd overwritten": (
        lambda t: flipped(ociimage.compress(t, "zstd"), 1000),
        "zstd stream is corrupt",
    ),
    "zstd frame that declares 4 EiB": (
        lambda t: b"\x28\xb5\x2f\xfd\xe0" + struct.pack("<Q", 1 << 62) + b"\x01\0\0",
        "zstd frame asks for a window over 128 MiB",
    ),
    "zstd window of terabytes": (
        lambda t: b"\x28\xb5\x2f\xfd\x00\xff\x01\0\0",
        "zstd frame asks for a window over 128 MiB",
    ),
    "an empty gzip header": (lambda t: b"\x1f\x8b", "gzip stream is truncated"),
}


@pytest.mark.parametrize("name", STREAMS)
def test_bad_stream(refuses, name):
    make, needle = STREAMS[name]
    tar = good_tar()
    blob = make(tar)
    line = refuses(blob, needle, diff_id=sha256(tar))
    assert sha256(blob) in line, "the layer is not named"


def test_zero_padding_behind_gzip_is_fine(stoker, scripted, layout):
    tar = good_tar()
    digest, size = layout.blob(gzip_member(tar) + bytes(1000))
    layout.image([Layer(digest, size, ociimage.OCI_LAYER + "+gzip", sha256(tar))])
    stoker.pull(scripted.reference())
    with stoker.mounted(scripted.reference()) as tree:
        assert (tree / "d/f").read_bytes() == NOISE


def test_media_type_does_not_matter(stoker, scripted, layout):
    """Registries get it wrong; the bytes tell."""
    tar = good_tar()
    for how in ("none", "gzip", "gzip-members", "zstd"):
        digest, size = layout.blob(ociimage.compress(tar + how.encode() * 8, how))
        diff_id = sha256(tar + how.encode() * 8)
        layout.image([Layer(digest, size, ociimage.OCI_LAYER + "+gzip", diff_id)], how)
        stoker.pull(scripted.reference(tag=how))


# ---- promises


def test_wrong_diff_id(refuses):
    blob = gzip_member(good_tar())
    line = refuses(blob, "uncompressed digest is", diff_id=sha256(b"another"))
    assert sha256(good_tar()) in line and sha256(b"another") in line and sha256(blob) in line


def test_wrong_content(refuses, layout):
    """Another good layer under the digest."""
    digest, size = layout.blob(gzip_member(good_tar()))
    other = gzip_member(good_tar().replace(b"d/f", b"d/g"))
    layout.image([Layer(digest, len(other), ociimage.OCI_LAYER + "+gzip", sha256(good_tar()))])
    layout.blob_path(digest).write_bytes(other)
    refuses.image(digest, sha256(other))


def test_one_blob_with_two_diff_ids(refuses, layout):
    digest, size = layout.blob(gzip_member(good_tar()))
    layers = [
        Layer(digest, size, ociimage.OCI_LAYER + "+gzip", diff_id)
        for diff_id in (sha256(good_tar()), sha256(b"another"))
    ]
    layout.image(layers)
    refuses.image("layers 1 and 2 are one blob", digest, "two diff ids")


@pytest.mark.parametrize("at", [2, 50_000, -6])
def test_content_damaged_on_the_way(refuses, layout, at):
    """The digest is the better reason than what the parser makes of it."""
    blob = gzip_member(good_tar())
    digest, size = layout.blob(blob)
    layout.image([Layer(digest, size, ociimage.OCI_LAYER + "+gzip", sha256(good_tar()))])
    damaged = flipped(blob, at % len(blob))
    layout.blob_path(digest).write_bytes(damaged)
    refuses.image(digest, sha256(damaged))


@pytest.mark.parametrize("change", [-100, 100])
def test_wrong_size(refuses, layout, change):
    blob = gzip_member(good_tar())
    digest, size = layout.blob(blob)
    layout.image([Layer(digest, size + change, ociimage.OCI_LAYER + "+gzip", sha256(good_tar()))])
    refuses.image(digest)


# ---- archives


def entry(name, kind=REG, data=b"", **fields):
    return header(name, kind, fields.pop("size", len(data)), **fields) + padded(data)


def with_checksum(block):
    block = block[:148] + b" " * 8 + block[156:]
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def with_size_field(field):
    block = header("f", REG, 0)
    return with_checksum(block[:124] + field + block[136:])


ARCHIVES = {
    "up": (entry("../evil", data=b"x"), ".."),
    "up in the middle": (entry("d/../../evil", data=b"x"), ".."),
    "up at the end": (entry("d/..", "5"), ".."),
    "a link to up": (entry("l", LINK, link="../../etc/passwd"), ".."),
    "a hard link to what is not there": (entry("l", LINK, link="etc/passwd"), "l"),
    "a hard link to an absolute path": (entry("l", LINK, link="/etc/passwd"), "l"),
    "a hard link through a symbolic link": (
        entry("s", SYM, link="/etc") + entry("l", LINK, link="s/passwd"),
        "l",
    ),
    "a hard link to a folder": (entry("d", "5") + entry("l", LINK, link="d"), "l"),
    "a file as a folder": (entry("f", data=b"x") + entry("f/g", data=b"x"), "f"),
    "links in a circle": (
        entry("a", SYM, link="b") + entry("b", SYM, link="a") + entry("a/f", data=b"x"),
        "symbolic links",
    ),
    "a negative size": (with_size_field(b"\xff" * 12), ""),
    "a negative octal size": (with_size_field(b"-0000000001\0"), ""),
    "a size of exabytes": (with_size_field(b"\x80" + b"\x7f" + b"\xff" * 10), ""),
    "a size beyond the end": (with_size_field(b"00777777777\0") + bytes(BLOCK), ""),
    "a negative size in PAX": (Tar().pax({"size": "-5"}).raw(header("f")).out.getvalue(), ""),
    "a name of 256 bytes": (Tar().file("n" * 256, "x").out.getvalue(), "255"),
    "a path of 5000 bytes": (Tar().file("/".join(["n" * 99] * 50), "x").out.getvalue(), "4096"),
    "a broken checksum": (flipped(entry("f", data=b"x"), 0), ""),
    "the root as a file": (entry("./", REG, data=b"x"), ""),
}


@pytest.mark.parametrize("name", ARCHIVES)
def test_bad_archive(refuses, name):
    archive, needle = ARCHIVES[name]
    tar = entry("first", data=b"x") + archive + END
    refuses(gzip_member(tar), needle, diff_id=sha256(tar))


def test_nothing_escapes(stoker, scripted, layout, tmp):
    """What looks like a way out stays inside, in both forms alike: absolute names lose their '/', links
    that stand in the way are followed inside the image."""
    outside = tmp / "outside"
    outside.mkdir()
    tar = Tar().file("/absolute", "x").file("//twice", "x").symlink("out", str(outside))
    tar.file("out/evil", "evil").symlink("up", "../" * 30 + str(outside)[1:]).file("up/bad", "bad")
    tar.symlink("target", "/etc/passwd").hardlink("hard", "target").file("target", "replaced")
    layout.image([layout.layer(tar)])
    for form in FORMS:
        stoker.pull(scripted.reference(), "--layer-format", form)
        with stoker.mounted(scripted.reference()) as tree:
            assert (tree / "absolute").read_text() == (tree / "twice").read_text() == "x"
            inside = pathlib.Path(f"{tree}{outside}")
            assert (inside / "evil").read_text() == "evil" and (inside / "bad").read_text() == "bad"
            assert (
                not (tree / "target").is_symlink() and (tree / "target").read_text() == "replaced"
            )
            assert os.readlink(tree / "hard") == "/etc/passwd"
        stoker("rmi", scripted.reference())
        stoker("prune")
    assert list(outside.iterdir()) == []


# ---- bombs


def test_gzip_bomb(stoker, layout, scripted, tmp):
    """Undeclared: 2 GiB of zeros in 2 MB, as one file. The disk has room for 256 MiB."""
    disk, where = tmp / "disk", stoker.state
    with open(disk, "wb") as f:
        f.truncate(256 * MIB)
    subprocess.run(["mkfs.ext4", "-q", "-m", "0", disk], check=True)
    where.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-o", "loop", disk, where], check=True)
    try:
        size = 2 << 30
        blob = tmp / "bomb"
        with open(blob, "wb") as f:
            diff_id = ociimage.gzip_of_zeros(header("zeros", REG, size), size, END, f)
        digest, compressed = layout.blob_file(blob, move=True)
        layout.image([Layer(digest, compressed, ociimage.OCI_LAYER + "+gzip", diff_id)])
        line = stoker.fails("pull", scripted.reference(), timeout=300)
        assert "signal" not in line and ("No space left" in line or "free" in line), line
        assert stoker.layers() == [] and stoker.temporary_files() == []
    finally:
        subprocess.run(["umount", where], check=True)


def test_zstd_window_of_128_mib(stoker, scripted, layout):
    """The largest window that is allowed."""
    tar = Tar().file("zeros", bytes(64 * MIB)).bytes()
    blob = subprocess.run(
        ["zstd", "-q", "-c", "-19", "--long=27"], input=tar, stdout=subprocess.PIPE, check=True
    ).stdout
    digest, size = layout.blob(blob)
    layout.image([Layer(digest, size, ociimage.OCI_LAYER + "+zstd", sha256(tar))])
    stoker.pull(scripted.reference())


def test_many_entries_of_nothing(stoker, scripted, layout):
    """A bomb of names, 100 MB of headers in a few hundred kilobytes, is an image like any other."""
    block = header("d/f000000", REG, 0)
    names = b"".join(with_checksum(block[:3] + b"f%06d" % i + block[10:]) for i in range(200_000))
    layout.image([layout.layer(names + END)])
    stoker.pull(scripted.reference(), timeout=300)
