# SPDX-License-Identifier: Apache-2.0
"""Images made by hand: tar streams with any header, layers in any compression, OCI layouts.

`Tar` writes headers itself, since Python's tarfile neither makes names that are not UTF-8 in PAX
records, nor sparse files, nor anything broken. A `Layout` is a folder in the OCI image layout, which
umoci and skopeo read and which registries.push() uploads as it stands.
"""

import base64
import dataclasses
import gzip
import hashlib
import io
import json
import pathlib
import shutil
import struct
import subprocess
import zlib

BLOCK = 512
EPOCH = 1_700_000_000

REG, LINK, SYM, CHR, BLK, DIR, FIFO = "0", "1", "2", "3", "4", "5", "6"

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar"


def as_bytes(text):
    return text if isinstance(text, bytes) else text.encode("utf-8", "surrogateescape")


def sha256(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def pax_record(key, value):
    """`<length> key=value\\n`, where the length counts its own digits."""
    body = b" " + as_bytes(key) + b"=" + as_bytes(value) + b"\n"
    length = len(body)
    while len(str(length)) + len(body) != length:
        length = len(str(length)) + len(body)
    return str(length).encode() + body


def number_field(value, width):
    """Octal, or GNU base-256 where octal cannot hold the number (too large, or negative)."""
    if 0 <= value < 8 ** (width - 1):
        return b"%0*o\0" % (width - 1, value)
    return bytes([0x80 if value >= 0 else 0xFF]) + (value % 256 ** (width - 1)).to_bytes(
        width - 1, "big"
    )


def header(
    name,
    kind=REG,
    size=0,
    mode=0o644,
    uid=0,
    gid=0,
    mtime=EPOCH,
    link=b"",
    dev=(0, 0),
    gnu=False,
    prefix=b"",
):
    """One 512-byte header as given; nothing is checked, names are cut to their field."""
    fields = [
        as_bytes(name)[:100].ljust(100, b"\0"),
        number_field(mode, 8),
        number_field(uid, 8),
        number_field(gid, 8),
        number_field(size, 12),
        number_field(mtime, 12),
        b" " * 8,
        kind.encode(),
        as_bytes(link)[:100].ljust(100, b"\0"),
        b"ustar  \0" if gnu else b"ustar\x0000",
        b"\0" * 64,  # user and group names
        number_field(dev[0], 8),
        number_field(dev[1], 8),
        prefix.ljust(155, b"\0"),
        b"\0" * 12,
    ]
    block = b"".join(fields)
    assert len(block) == BLOCK
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def padded(data):
    return data + b"\0" * (-len(data) % BLOCK)


class Tar:
    """Writes a tar stream to a binary file object (default: memory; see bytes())."""

    def __init__(self, out=None):
        self.out = out if out is not None else io.BytesIO()

    def raw(self, data):
        self.out.write(data)
        return self

    def add(
        self,
        name,
        data=b"",
        kind=REG,
        mode=None,
        uid=0,
        gid=0,
        mtime=EPOCH,
        mtime_ns=None,
        link=b"",
        dev=(0, 0),
        xattrs=None,
        pax=None,
        long_names="pax",
        size=None,
    ):
        """One entry. `data`: bytes, or an iterable of bytes when `size` is given. `mtime_ns` adds a
        PAX mtime; `long_names`: how a name over 100 bytes is written, "pax" or "gnu"; `size` alone
        overrides what the header says (to lie)."""
        name, link = as_bytes(name), as_bytes(link)
        if mode is None:
            mode = 0o755 if kind == DIR else 0o777 if kind == SYM else 0o644
        records = dict(pax or {})
        for key, value in (xattrs or {}).items():
            records["SCHILY.xattr." + key] = value
        if mtime_ns is not None:
            records["mtime"] = "%d.%09d" % (mtime, mtime_ns)
        if long_names == "pax":
            if len(name) > 100:
                records["path"] = name
            if len(link) > 100:
                records["linkpath"] = link
        else:
            for long_kind, text in (("K", link), ("L", name)):
                if len(text) > 100:
                    self.raw(header(b"././@LongLink", long_kind, len(text) + 1, mtime=0, gnu=True))
                    self.raw(padded(text + b"\0"))
        if records:
            self.pax(records)
        if size is None:
            size = len(data)
        self.raw(
            header(name, kind, size, mode, uid, gid, mtime, link, dev, gnu=long_names == "gnu")
        )
        if isinstance(data, bytes):
            return self.raw(padded(data))
        for chunk in data:
            self.raw(chunk)
        return self.raw(b"\0" * (-size % BLOCK))

    def pax(self, records, kind="x"):
        body = b"".join(pax_record(k, v) for k, v in records.items())
        self.raw(header(b"PaxHeaders/0", kind, len(body), mtime=0))
        return self.raw(padded(body))

    def file(self, name, data=b"", **attributes):
        return self.add(name, as_bytes(data), REG, **attributes)

    def dir(self, name, **attributes):
        return self.add(name, kind=DIR, **attributes)

    def symlink(self, name, target, **attributes):
        return self.add(name, kind=SYM, link=target, **attributes)

    def hardlink(self, name, target, **attributes):
        return self.add(name, kind=LINK, link=target, **attributes)

    def device(self, name, kind, major, minor, **attributes):
        return self.add(name, kind=kind, dev=(major, minor), **attributes)

    def fifo(self, name, **attributes):
        return self.add(name, kind=FIFO, **attributes)

    def whiteout(self, name):
        folder, _, last = as_bytes(name).rpartition(b"/")
        return self.add(folder + b"/.wh." + last if folder else b".wh." + last)

    def opaque(self, folder):
        return self.add(as_bytes(folder) + b"/.wh..wh..opq")

    def pax_sparse(self, name, real_size, pieces, mode=0o644, mtime=EPOCH):
        """GNU sparse format 1.0 in PAX records: the map stands before the data."""
        name = as_bytes(name)
        pieces = sorted(pieces.items())
        numbers = [len(pieces) + 1]
        for offset, data in pieces:
            numbers += [offset, len(data)]
        numbers += [real_size, 0]
        body = padded(b"".join(b"%d\n" % n for n in numbers))
        body += b"".join(data for _, data in pieces)
        self.pax(
            {
                "GNU.sparse.major": "1",
                "GNU.sparse.minor": "0",
                "GNU.sparse.name": name,
                "GNU.sparse.realsize": str(real_size),
            }
        )
        self.raw(header(b"GNUSparseFile.0/x", REG, len(body), mode, mtime=mtime))
        return self.raw(padded(body))

    def gnu_sparse(self, name, real_size, pieces, mode=0o644, mtime=EPOCH):
        """The old GNU form: type 'S', up to four pieces in the header."""
        pieces = sorted(pieces.items())
        assert len(pieces) < 4
        data = b"".join(d for _, d in pieces)
        sparse = b""
        for offset, size in [(o, len(d)) for o, d in pieces] + [(real_size, 0)]:
            sparse += number_field(offset, 12) + number_field(size, 12)
        block = header(name, "S", len(data), mode, mtime=mtime, gnu=True)
        # Old GNU header: atime[12] ctime[12] offset[12] longnames[4] unused[1] sparse[4*24]
        # isextended[1] realsize[12], from byte 345 on.
        tail = b"\0" * 41 + sparse.ljust(96, b"\0") + b"\0" + number_field(real_size, 12)
        block = block[:345] + tail.ljust(BLOCK - 345, b"\0")
        block = block[:148] + b" " * 8 + block[156:]
        block = block[:148] + b"%06o\0 " % sum(block) + block[156:]
        return self.raw(block).raw(padded(data))

    def end(self):
        self.raw(b"\0" * 2 * BLOCK)
        return self

    def bytes(self):
        return self.end().out.getvalue()


def file_capability(permitted):
    """The value of security.capability (VFS_CAP_REVISION_2), effective bit set."""
    return struct.pack("<IIIII", 0x02000001, permitted, 0, 0, 0)


def compress(data, how="gzip", level=6):
    if how == "gzip":
        return gzip.compress(data, level, mtime=0)
    if how == "gzip-members":  # several members, as pigz and bgzip make them
        step = max(1, len(data) // 3)
        return b"".join(
            gzip.compress(data[i : i + step], level, mtime=0)
            for i in range(0, len(data) or 1, step)
        )
    if how == "zstd":
        return subprocess.run(
            ["zstd", "-q", "-c", "-3"], input=data, stdout=subprocess.PIPE, check=True
        ).stdout
    assert how == "none", how
    return data


SUFFIX = {"gzip": "+gzip", "gzip-members": "+gzip", "zstd": "+zstd", "none": ""}


def gzip_of_zeros(prefix, zeros, suffix, out):
    """gzip of prefix + zeros * b"\\0" + suffix to the file `out`, cheaply: one compressed mebibyte of
    zeros is repeated. Returns the digest of the uncompressed bytes."""
    mib = bytes(1 << 20)
    engine = zlib.compressobj(9, zlib.DEFLATED, -15)
    once = engine.compress(mib) + engine.flush(zlib.Z_FULL_FLUSH)
    digest, crc, size = hashlib.sha256(), 0, 0

    def feed(data):
        nonlocal crc, size
        digest.update(data)
        crc = zlib.crc32(data, crc)
        size += len(data)
        return data

    def deflate(data, flush):
        e = zlib.compressobj(6, zlib.DEFLATED, -15)
        return e.compress(feed(data)) + e.flush(flush)

    out.write(b"\x1f\x8b\x08\0\0\0\0\0\0\xff")
    out.write(deflate(prefix, zlib.Z_FULL_FLUSH))
    for _ in range(zeros // len(mib)):
        feed(mib)
        out.write(once)
    out.write(deflate(bytes(zeros % len(mib)) + suffix, zlib.Z_FINISH))
    out.write(struct.pack("<II", crc, size & 0xFFFFFFFF))
    return "sha256:" + digest.hexdigest()


@dataclasses.dataclass
class Layer:
    """A layer in a layout: its descriptor's parts and the digest of its tar stream."""

    digest: str
    size: int
    media_type: str
    diff_id: str

    def descriptor(self):
        return {"mediaType": self.media_type, "digest": self.digest, "size": self.size}


class Layout:
    """An OCI image layout on disk. Images are added with image(); several may share layers."""

    def __init__(self, path):
        self.path = pathlib.Path(path)
        (self.path / "blobs/sha256").mkdir(parents=True, exist_ok=True)
        (self.path / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
        self.manifests = []
        self._write_index()

    def _write_index(self):
        (self.path / "index.json").write_text(
            json.dumps({"schemaVersion": 2, "manifests": self.manifests})
        )

    def blob_path(self, digest):
        return self.path / "blobs" / digest.replace(":", "/")

    def blob(self, data):
        """Store bytes (or a document, as JSON) and return (digest, size)."""
        if not isinstance(data, bytes):
            data = json.dumps(data, separators=(",", ":")).encode()
        digest = sha256(data)
        self.blob_path(digest).write_bytes(data)
        return digest, len(data)

    def blob_file(self, path, move=False):
        with open(path, "rb") as f:
            digest = "sha256:" + hashlib.file_digest(f, "sha256").hexdigest()
        target = self.blob_path(digest)
        (shutil.move if move else shutil.copyfile)(path, target)
        return digest, target.stat().st_size

    def layer(self, tar, compression="gzip", media_type=None, diff_id=None):
        """`tar`: a Tar, or the bytes of one. media_type and diff_id only to lie."""
        data = tar.bytes() if isinstance(tar, Tar) else tar
        digest, size = self.blob(compress(data, compression))
        return Layer(
            digest, size, media_type or OCI_LAYER + SUFFIX[compression], diff_id or sha256(data)
        )

    def config(self, layers, architecture="amd64", os="linux", config=None, **more):
        document = {
            "architecture": architecture,
            "os": os,
            "config": config or {},
            "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in layers]},
            **more,
        }
        return self.blob(document)

    def manifest(self, layers, docker=False, config=None, mutate=None, config_options=None):
        """Returns the manifest's descriptor. `config`: a ready (digest, size); `mutate`: called with
        the manifest document before it is stored, and may return another."""
        config_digest, config_size = config or self.config(layers, **(config_options or {}))
        descriptors = [layer.descriptor() for layer in layers]
        if docker:
            for d in descriptors:
                d["mediaType"] = DOCKER_LAYER + (".gzip" if "+gzip" in d["mediaType"] else "")
        document = {
            "schemaVersion": 2,
            "mediaType": DOCKER_MANIFEST if docker else OCI_MANIFEST,
            "config": {
                "mediaType": DOCKER_CONFIG if docker else OCI_CONFIG,
                "digest": config_digest,
                "size": config_size,
            },
            "layers": descriptors,
        }
        if mutate:
            changed = mutate(document)
            document = document if changed is None else changed
        digest, size = self.blob(document)
        return {
            "mediaType": DOCKER_MANIFEST if docker else OCI_MANIFEST,
            "digest": digest,
            "size": size,
        }

    def index(self, manifests, docker=False):
        """`manifests`: [(descriptor, platform dict)]. Returns the index's descriptor."""
        media_type = DOCKER_LIST if docker else OCI_INDEX
        digest, size = self.blob(
            {
                "schemaVersion": 2,
                "mediaType": media_type,
                "manifests": [{**d, "platform": p} for d, p in manifests],
            }
        )
        return {"mediaType": media_type, "digest": digest, "size": size}

    def tag(self, descriptor, tag="latest"):
        self.manifests = [
            m
            for m in self.manifests
            if m["annotations"]["org.opencontainers.image.ref.name"] != tag
        ]
        annotated = {**descriptor, "annotations": {"org.opencontainers.image.ref.name": tag}}
        self.manifests.append(annotated)
        self._write_index()
        return descriptor

    def image(self, layers, tag="latest", **options):
        """Manifest, configuration and tag in one go; returns the manifest's descriptor."""
        return self.tag(self.manifest(layers, **options), tag)

    def tagged(self, tag="latest"):
        for m in self.manifests:
            if m["annotations"]["org.opencontainers.image.ref.name"] == tag:
                return m
        raise KeyError(tag)


def basic_authorization(user, password):
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
