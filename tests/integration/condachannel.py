# SPDX-License-Identifier: Apache-2.0
"""Conda channels made by hand: package trees packed by conda-package-handling, with the metadata
that conda, mamba and rattler read, and their repodata.

make(folder) writes two channels, `main` and `other`. `only` is in both, in other versions, so that the
order of channels shows. The package `python` is a shim over the image's own interpreter: pyvenv.cfg and
a link are enough for a true environment."""

import hashlib
import json
import os
import pathlib
import re
import shutil
import sys
import tempfile
import zipfile

WHEELS = pathlib.Path("/usr/share/python-wheels")  # Debian's python3-pip-whl and -setuptools-whl
SUBDIRS = {"x86_64": "linux-64", "aarch64": "linux-aarch64"}
SUBDIR = SUBDIRS[os.uname().machine]
EPOCH = 1_600_000_000

# What builders of packages put where the prefix will be: conda's classic one in texts, one of 255 bytes
# in binaries, so that no prefix is too long.
TEXT_PREFIX = "/opt/anaconda1anaconda2anaconda3"
BINARY_PREFIX = ("/opt/placehold" + "_placehold" * 30)[:255]


def digest(path, algorithm):
    with open(path, "rb") as f:
        return hashlib.file_digest(f, algorithm).hexdigest()


class Channel:
    """A channel that grows by package(); close() writes its repodata."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.records = {SUBDIR: {}, "noarch": {}}
        for subdir in self.records:
            (self.folder / subdir).mkdir(parents=True)

    def package(
        self, name, version, files, depends=(), build="0", noarch=None, entry_points=(),
        prefixes=None, form=".conda", run_constrained=(),
    ):  # fmt: skip
        """`files`: {path: bytes | (bytes, mode) | "link target"}; `noarch`: "python" or "generic";
        `prefixes`: {path: (placeholder, "text" | "binary")}."""
        subdir = "noarch" if noarch else SUBDIR
        index = {
            "name": name, "version": version, "build": build, "subdir": subdir,
            "build_number": int(re.search(r"\d*$", build)[0] or 0), "depends": list(depends),
            "constrains": list(run_constrained), "license": "test", "timestamp": EPOCH * 1000,
            **({"noarch": noarch} if noarch else {}),
        }  # fmt: skip
        with tempfile.TemporaryDirectory() as tree:
            paths = [
                self._file(tree, path, content, (prefixes or {}).get(path))
                for path, content in sorted(files.items())
            ]
            info = {
                "index.json": index,
                "paths.json": {"paths": paths, "paths_version": 1},
                "about.json": {"summary": f"{name} of the tests"},
            }
            if noarch == "python":
                info["link.json"] = {
                    "noarch": {"type": "python", "entry_points": list(entry_points)},
                    "package_metadata_version": 1,
                }
            os.makedirs(f"{tree}/info")
            for file, document in info.items():
                pathlib.Path(tree, "info", file).write_text(json.dumps(document))
            pathlib.Path(tree, "info/files").write_text("".join(p["_path"] + "\n" for p in paths))
            archive = self.folder / subdir / f"{name}-{version}-{build}{form}"
            # Its own level takes a gigabyte of memory and a second for each package.
            level = {"compression_tuple": (".tar.zst", "zstd", "zstd:compression-level=3")}
            import conda_package_handling.api  # which a machine without this laboratory lacks

            conda_package_handling.api.create(
                tree, None, archive.name, str(archive.parent), **(level if form == ".conda" else {})
            )
        record = {
            **index, "md5": digest(archive, "md5"), "sha256": digest(archive, "sha256"),
            "size": archive.stat().st_size,
        }  # fmt: skip
        self.records[subdir][archive.name] = record

    @staticmethod
    def _file(tree, path, content, prefix):
        target = pathlib.Path(tree, path)
        target.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, str):
            target.symlink_to(content)
            empty = hashlib.sha256(b"").hexdigest()
            return {"_path": path, "path_type": "softlink", "sha256": empty, "size_in_bytes": 0}
        data, mode = content if isinstance(content, tuple) else (content, 0o644)
        target.write_bytes(data)
        target.chmod(mode)
        os.utime(target, (EPOCH, EPOCH))
        entry = {
            "_path": path, "path_type": "hardlink", "size_in_bytes": len(data),
            "sha256": hashlib.sha256(data).hexdigest(),
        }  # fmt: skip
        if prefix:
            entry["prefix_placeholder"], entry["file_mode"] = prefix
        return entry

    def close(self):
        for subdir, records in self.records.items():
            document = {
                "info": {"subdir": subdir},
                "packages": {f: r for f, r in records.items() if f.endswith(".tar.bz2")},
                "packages.conda": {f: r for f, r in records.items() if f.endswith(".conda")},
                "removed": [], "repodata_version": 1,
            }  # fmt: skip
            text = json.dumps(document, indent=1, sort_keys=True)
            (self.folder / subdir / "repodata.json").write_text(text)


def python_files(name, version, source):
    """A pure Python package as its wheel would install it."""
    info = f"site-packages/{name}-{version}.dist-info"
    return {
        f"site-packages/{name}/__init__.py": source.encode(),
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n".encode(),
        f"{info}/INSTALLER": b"conda\n",
        f"{info}/RECORD": b"",
    }


def add_python(channel, version):
    minor = ".".join(version.split(".")[:2])
    channel.package(
        "python",
        version,
        {
            "pyvenv.cfg": b"home = /usr/bin\ninclude-system-site-packages = false\n",
            f"lib/python{minor}/site-packages/README.txt": b"packages\n",
            f"bin/python{minor}": f"/usr/bin/python{minor}",
            "bin/python3": f"python{minor}",
            "bin/python": f"python{minor}",
        },
        build="shim_0",
    )
    (wheel,) = WHEELS.glob("pip-*.whl")
    with zipfile.ZipFile(wheel) as z:
        files = {f"site-packages/{n}": z.read(n) for n in z.namelist() if not n.endswith("/")}
    channel.package(
        "pip", wheel.name.split("-")[1], files, build="py_0", noarch="python",
        depends=["python >=3.7"],
        entry_points=[f"{n} = pip._internal.cli.main:main" for n in ("pip", "pip3")],
    )  # fmt: skip


def add_libraries(channel):
    """Versions to choose from, in both forms of archives; a program that needs some of them."""
    for version in ("1.0.0", "1.2.0", "2.0.0"):
        source = f"__version__ = {version!r}\ndef add(a, b): return a + b\n"
        channel.package(
            "labmath", version, python_files("labmath", version, source), build="py_0",
            noarch="python", depends=["python >=3.7"],
            form=".tar.bz2" if version == "1.0.0" else ".conda",
        )  # fmt: skip
    source = (
        "import labmath, sys\ndef main():\n"
        "    print('labapp', labmath.__version__, labmath.add(2, 3), sys.prefix)\n"
    )
    channel.package(
        "labapp", "0.3", python_files("labapp", "0.3", source), build="py_1", noarch="python",
        depends=["python >=3.7", "labmath >=1.1,<2"], entry_points=["labapp = labapp:main"],
    )  # fmt: skip


def add_native(channel):
    """What a compiled package has: the prefix in a script and in a binary, activation."""
    script = f"#!{TEXT_PREFIX}/bin/python\nimport sys\nprint('labnative', sys.prefix)\n"
    binary = b"\x7fELF\0" + BINARY_PREFIX.encode() + b"/share/labnative\0the rest\0"
    activation = (
        'export LABNATIVE_HOME="$CONDA_PREFIX/share/labnative"\n'
        'export LABNATIVE_PATHS="$CONDA_PREFIX/a b:${LABNATIVE_PATHS:-}"\n'
    )
    channel.package(
        "labnative",
        "5.1",
        {
            "bin/labnative": (script.encode(), 0o755),
            "lib/labnative.bin": binary,
            "etc/conda/activate.d/labnative.sh": activation.encode(),
            "etc/conda/deactivate.d/labnative.sh": b"unset LABNATIVE_HOME LABNATIVE_PATHS\n",
            "etc/conda/env_vars.d/labnative.json": b'{"LABNATIVE_MODE": "fast"}\n',
        },
        depends=["python >=3.7"],
        prefixes={
            "bin/labnative": (TEXT_PREFIX, "text"),
            "lib/labnative.bin": (BINARY_PREFIX, "binary"),
        },
    )


def add_conditions(channel):
    """What the machine must have, and what cannot be had."""
    for name, depends in {
        "needs-cuda": "__cuda >=12",
        "needs-glibc": "__glibc >=2.17",
        "needs-new-glibc": "__glibc >=9",
        "needs-linux": "__linux >=4",
        "needs-nothing-there": "no-such-package >=1",
    }.items():
        channel.package(name, "1.0", {f"share/{name}": b"x\n"}, depends=[depends])
    channel.package(
        "wants-old-labmath", "1.0", {"share/wants-old-labmath": b"x\n"}, depends=["labmath <1.1"],
        noarch="generic",
    )  # fmt: skip


# A record whose files are elsewhere, by a link of the prefix.
SCRIPT_LIES = """ln -s /etc "$PREFIX/out"
cat > "$PREFIX/conda-meta/liar-1-0.json" <<'END'
{"name": "liar", "version": "1", "build": "0", "files": ["out/no-such-file", "out/passwd"]}
END
"""

# An activation script that says itself what it has set, a million times.
SCRIPT_MANY_VARIABLES = """mkdir -p "$PREFIX/etc/conda/activate.d"
cat > "$PREFIX/etc/conda/activate.d/many.sh" <<'END'
exec "$CONDA_PREFIX/bin/python" -c "
for name, text in (('before', b'A=1'), ('after', b'B=1')):
    open('/opt/stoker/tmp/' + name, 'wb').write((text + bytes(1)) * 1000000)"
END
"""


def add_scripts(channel):
    """Packages whose post-link script does what it should not."""
    scripts = {
        "script-works": 'echo "linked $PKG_NAME" > "$PREFIX/share/script-works.linked"\n',
        "script-fails": "echo 'the script says: no licence key found' >&2\nexit 3\n",
        "script-forks": 'while :; do sh "$0" & done\n',
        "script-fills": 'exec dd if=/dev/zero of="$PREFIX/share/full" bs=1M\n',
        "script-never-ends": "exec sleep 100000\n",
        "script-sparse": 'exec truncate -s 4G "$PREFIX/share/sparse"\n',
        "script-leads-away": 'mv "$PREFIX" /opt/stoker/x; ln -s / "$PREFIX"; mkdir -p /conda-meta\n',
        "script-leaves-a-child": "sleep 100000 &\n",
        "script-lies": SCRIPT_LIES,
        "script-many-variables": SCRIPT_MANY_VARIABLES,
    }
    for name, script in scripts.items():
        channel.package(
            name,
            "1.0",
            {
                f"share/{name}": b"x\n",
                f"bin/.{name}-post-link.sh": (f"#!/bin/sh\n{script}".encode(), 0o755),
            },
        )


def make(folder, python_version):
    """Channels `main` and `other` in an empty or missing folder. Returns it."""
    folder = pathlib.Path(folder)
    main, other = Channel(folder / "main"), Channel(folder / "other")
    add_python(main, python_version)
    add_libraries(main)
    add_native(main)
    add_conditions(main)
    add_scripts(main)
    for channel, version in ((main, "1.0"), (other, "2.0")):
        name = channel.folder.name
        channel.package("in-both", version, {"share/in-both": f"{name}\n".encode()})
    other.package("only-in-other", "1.0", {"share/only-in-other": b"other\n"})
    # Packages of some size, for measuring and for breaking downloads in the middle.
    for i in range(8):
        data = hashlib.shake_128(str(i).encode()).digest(256 * 1024)
        main.package(f"heavy{i}", "1.0", {f"share/heavy{i}.bin": data})
    main.close()
    other.close()
    return folder


if __name__ == "__main__":  # by hand: condachannel.py FOLDER
    shutil.rmtree(sys.argv[1], ignore_errors=True)
    make(sys.argv[1], ".".join(map(str, sys.version_info[:3])))
