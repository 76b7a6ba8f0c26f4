# SPDX-License-Identifier: Apache-2.0
"""The image that `pull` measures with: Debian with Python, scikit-learn and compilers, about 1.06 GB in
42,000 entries, once as four gzip layers and once as one. Made by mmdebstrap from the packages of this
machine's own package sources, and kept, since it takes minutes."""

import hashlib
import pathlib
import subprocess
import sys
import tarfile
import zlib

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "integration"))
import ociimage  # noqa: E402

PACKAGES = (
    "ca-certificates,python3,python3-numpy,python3-scipy,python3-sklearn,python3-pandas,python3-pip,"
    "g++,gfortran,make"
)
# Where the tar stream is cut, as parts of its bytes: sizes as uneven as in images that people build.
CUTS = (0.15, 0.50, 0.80)


def package_sources():
    script = pathlib.Path(__file__).resolve().parents[2] / "scripts/debian-sources"
    return subprocess.run([script], check=True, stdout=subprocess.PIPE, text=True).stdout.split()


def make_root_tar(path):
    temporary = path.with_suffix(".part.tar")
    subprocess.run(
        [
            "mmdebstrap",
            "--quiet",
            "--mode=root",
            "--variant=minbase",
            "--dpkgopt=path-exclude=/usr/share/man/*",
            "--dpkgopt=path-exclude=/usr/share/locale/*",
            f"--include={PACKAGES}",
            "bookworm",
            str(temporary),
            *package_sources(),
        ],
        check=True,
    )
    temporary.rename(path)


class LayerFile:
    """A gzip file being written, and the digest of what goes in."""

    def __init__(self, path):
        self.path = path
        self.file = open(path, "wb")
        self.engine = zlib.compressobj(6, zlib.DEFLATED, 31)
        self.digest = hashlib.sha256()

    def write(self, data):
        self.digest.update(data)
        self.file.write(self.engine.compress(data))
        return len(data)

    def close(self):
        self.file.write(self.engine.flush())
        self.file.close()
        return "sha256:" + self.digest.hexdigest()


def split(tar_path, cuts, layout):
    """Cut the entries of a tar file at parts of its size into layers of `layout`. A hard link goes to
    the layer of its target; parent directories come again, as they would in a real image."""
    total = tar_path.stat().st_size
    limits = [total * c for c in cuts]
    files = [LayerFile(layout.path / f"layer-{i}.tmp") for i in range(len(cuts) + 1)]
    tars = [tarfile.open(fileobj=f, mode="w|", format=tarfile.PAX_FORMAT) for f in files]
    layer_of, folders = {}, {}
    written = [set() for _ in files]
    with tarfile.open(tar_path) as source:
        for entry in source:
            part = sum(entry.offset >= limit for limit in limits)
            if entry.islnk():
                part = layer_of[entry.linkname]
            layer_of[entry.name] = part
            if entry.isdir():
                folders[entry.name] = entry
            parents = []
            parent = entry.name.rpartition("/")[0]
            while parent and parent not in written[part]:
                parents.append(parent)
                parent = parent.rpartition("/")[0]
            for parent in reversed(parents):
                written[part].add(parent)
                if parent in folders:
                    tars[part].addfile(folders[parent])
            written[part].add(entry.name)
            tars[part].addfile(entry, source.extractfile(entry) if entry.isreg() else None)
    layers = []
    for tar, file in zip(tars, files, strict=False):
        tar.close()
        diff_id = file.close()
        digest, size = layout.blob_file(file.path, move=True)
        layers.append(ociimage.Layer(digest, size, ociimage.OCI_LAYER + "+gzip", diff_id))
    return layers


def make(work):
    """The layout folder below `work`, with the tags `four` and `one`; made if it is not there."""
    work = pathlib.Path(work)
    work.mkdir(parents=True, exist_ok=True)
    path, ready = work / "layout", work / "layout.ready"
    if ready.exists():
        return path
    tar_path = work / "rootfs.tar"
    if not tar_path.exists():
        print("pull: building the image, some minutes", file=sys.stderr)
        make_root_tar(tar_path)
    layout = ociimage.Layout(path)
    for tag, cuts in (("four", CUTS), ("one", ())):
        layout.image(split(tar_path, cuts, layout), tag, config_options={"config": {"Cmd": ["sh"]}})
    tar_path.unlink()
    ready.touch()
    return path


if __name__ == "__main__":
    print(make(sys.argv[1]))
