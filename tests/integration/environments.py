# SPDX-License-Identifier: Apache-2.0
"""Images in which environments are built: the node's own Python with all its modules, and pip."""

import os
import pathlib
import re
import subprocess

import ociimage

LEFT_OUT = {"test", "tests", "idlelib", "tkinter", "lib2to3", "turtledemo", "__pycache__"}


def linked(paths):
    """The libraries that programs and libraries load, by their names in the file system."""
    listing = subprocess.run(
        ["ldd", *map(str, paths)], check=False, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ).stdout.decode()
    return sorted(set(re.findall(r"(/\S+?)(?: \(0x|:$)", listing)) - set(map(str, paths)))


def add_tree(tar, folder, inside=None):
    for path in sorted(folder.rglob("*")):
        name = (inside or str(folder).lstrip("/")) + "/" + str(path.relative_to(folder))
        if LEFT_OUT & set(path.parts):
            continue
        if path.is_symlink():
            tar.symlink(name, os.readlink(path))
        elif path.is_dir():
            tar.dir(name)
        elif path.suffix in (".py", ".so", ".pem", ".txt", ".exe", ".toml") or "dist-info" in name:
            tar.file(name, path.read_bytes(), mode=0o755 if path.suffix == ".so" else 0o644)


def python_tar(pip=True):
    """`pip`: Debian's, among the modules of the image."""
    tar = ociimage.Tar()
    for folder in ("usr", "usr/bin", "usr/lib", "etc", "root"):
        tar.dir(folder)
    tar.dir("tmp", mode=0o1777)
    tar.file("etc/passwd", "root:x:0:0::/root:/bin/sh\nada:x:1000:100::/home/ada:/bin/sh\n")
    tar.file("etc/group", "root:x:0:\nusers:x:100:\n")
    binary = os.path.realpath("/usr/bin/python3")
    tar.file(binary.lstrip("/"), pathlib.Path(binary).read_bytes(), mode=0o755)
    tar.symlink("usr/bin/python3", os.path.basename(binary))
    (library,) = pathlib.Path("/usr/lib").glob("python3.*[0-9]")
    modules = list(library.glob("lib-dynload/*.so"))
    for path in linked([binary, *modules]):
        tar.file(path.lstrip("/"), pathlib.Path(path).read_bytes(), mode=0o755)
    tar.dir(str(library).lstrip("/"))
    add_tree(tar, library)
    packages = pathlib.Path("/usr/lib/python3/dist-packages")
    tar.dir("usr/lib/python3").dir("usr/lib/python3/dist-packages")
    for name in ("pip", *[p.name for p in packages.glob("pip-*")]) if pip else ():
        tar.dir(f"usr/lib/python3/dist-packages/{name}")
        add_tree(tar, packages / name)
    return tar
