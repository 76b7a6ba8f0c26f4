# SPDX-License-Identifier: Apache-2.0
"""A file tree as data, and what differs between two."""

import collections
import hashlib
import os
import stat


def digest_of(path):
    with open(path, "rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def entry_of(path, status):
    kind = stat.S_IFMT(status.st_mode)
    entry = {
        "type": kind,
        "mode": stat.S_IMODE(status.st_mode),
        "owner": (status.st_uid, status.st_gid),
        "mtime_ns": status.st_mtime_ns,
        "xattrs": {
            name: os.getxattr(path, name, follow_symlinks=False)
            for name in sorted(os.listxattr(path, follow_symlinks=False))
        },
    }
    if kind == stat.S_IFREG:
        entry["size"] = status.st_size
        # Most files of a test are empty, and to open each costs more than all the rest.
        entry["content"] = digest_of(path) if status.st_size else None
    elif kind == stat.S_IFLNK:
        entry["target"] = os.readlink(path)
    elif kind in (stat.S_IFCHR, stat.S_IFBLK):
        entry["device"] = (os.major(status.st_rdev), os.minor(status.st_rdev))
    return entry


def snapshot(root):
    """{path as bytes: entry} of everything below root, itself as b"."; hard links as "links": all paths
    of the same file."""
    root = os.fsencode(root)
    entries, inodes = {}, collections.defaultdict(list)

    def visit(path, name):
        status = os.lstat(path)
        entries[name] = entry_of(path, status)
        if stat.S_ISDIR(status.st_mode):
            for child in sorted(os.listdir(path)):
                visit(path + b"/" + child, child if name == b"." else name + b"/" + child)
        elif status.st_nlink > 1:
            inodes[status.st_dev, status.st_ino].append(name)

    visit(root, b".")
    for names in inodes.values():
        if len(names) > 1:
            for name in names:
                entries[name]["links"] = names
    return entries


def differences(expected, found, ignore=()):
    """Lines that say what differs; `ignore`: (path, property) pairs not compared."""
    lines = []
    for name in sorted(expected.keys() | found.keys()):
        if name not in found:
            lines.append(f"{name!r} is missing")
        elif name not in expected:
            lines.append(f"{name!r} should not be there")
        else:
            a, b = expected[name], found[name]
            for key in sorted(a.keys() | b.keys()):
                if a.get(key) != b.get(key) and (name, key) not in ignore:
                    lines.append(f"{name!r} {key}: {b.get(key)!r}, expected {a.get(key)!r}")
    return lines
