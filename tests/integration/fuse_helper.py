#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A FUSE file system on a descriptor that is /dev/fuse: one folder with the files "hello" and "slow".

fuse_helper.py [options] /dev/fd/N. It speaks as much of the kernel's protocol (linux/fuse.h, 7.31) as
cat and ls need, and writes its arguments, ids and environment to the file that FUSE_HELPER_REPORT or the
option --report=FILE names. "slow" is never answered: its reader waits until the connection ends."""

import errno
import json
import os
import stat
import struct
import sys

LOOKUP, FORGET, GETATTR, OPEN, READ, STATFS, RELEASE, FLUSH, INIT = 1, 2, 3, 14, 15, 17, 18, 25, 26
OPENDIR, READDIR, RELEASEDIR, ACCESS, INTERRUPT, BATCH_FORGET = 27, 28, 29, 34, 36, 42
FILES = {2: (b"hello", b"hello from the helper\n"), 3: (b"slow", b"never seen\n")}


def attributes(node):
    mode = stat.S_IFDIR | 0o555 if node == 1 else stat.S_IFREG | 0o444
    size = 0 if node == 1 else len(FILES[node][1])
    return struct.pack("<6Q10I", node, size, 0, 0, 0, 0, 0, 0, 0, mode, 1, 0, 0, 0, 4096, 0)


def entries():
    data = b""
    for number, (node, name, kind) in enumerate(
        [(1, b".", 4), (1, b"..", 4), *((n, f[0], 8) for n, f in FILES.items())], 1
    ):
        data += struct.pack("<QQII", node, number, len(name), kind) + name
        data += b"\0" * (-len(data) % 8)
    return data


def answer(opcode, node, body):
    """The reply's body, an errno, or None: nothing is to be said."""
    if opcode == INIT:
        return struct.pack("<IIIIHHIIHHI7I", 7, 31, 65536, 0, 16, 12, 65536, 1, 0, 0, 0, *[0] * 7)
    if opcode == LOOKUP:
        for found, (name, _) in FILES.items():
            if name == body.rstrip(b"\0"):
                return struct.pack("<4QII", found, 0, 60, 60, 0, 0) + attributes(found)
        return errno.ENOENT
    if opcode == GETATTR:
        return struct.pack("<QII", 60, 0, 0) + attributes(node)
    if opcode in (OPEN, OPENDIR):
        return struct.pack("<QII", 0, 0, 0)
    if opcode in (READ, READDIR):
        offset, size = struct.unpack_from("<8xQI", body)
        if opcode == READDIR:
            return entries() if offset == 0 else b""
        return None if node == 3 else FILES[node][1][offset : offset + size]
    if opcode == STATFS:
        return struct.pack("<5Q4I6I", 0, 0, 0, 0, 0, 512, 255, 512, 0, *[0] * 6)
    if opcode in (FORGET, BATCH_FORGET, INTERRUPT):
        return None
    if opcode in (RELEASE, RELEASEDIR, FLUSH, ACCESS):
        return b""
    return errno.ENOSYS


def main():
    options = dict(a[2:].split("=", 1) for a in sys.argv if a.startswith("--") and "=" in a)
    print("the helper has begun", file=sys.stderr, flush=True)
    if "die" in options:
        print(options["die"], file=sys.stderr, flush=True)
        sys.exit(3)
    if "report" in options:
        with open("/proc/self/status") as status:
            lines = dict(line.rstrip("\n").split(":\t", 1) for line in status if ":\t" in line)
        with open(options["report"], "w") as report:
            json.dump({"argv": sys.argv, "environ": dict(os.environ), "status": lines,
                       "fds": sorted(map(int, os.listdir("/proc/self/fd")))}, report)  # fmt: skip
    device = int(sys.argv[-1].removeprefix("/dev/fd/"))
    while True:
        try:
            request = os.read(device, 1 << 17)
        except OSError as e:
            if e.errno == errno.ENODEV:  # unmounted
                return
            if e.errno in (errno.ENOENT, errno.EINTR):
                continue
            raise
        _, opcode, unique, node = struct.unpack_from("<IIQQ", request)
        reply = answer(opcode, node, request[40:])
        if reply is None:
            continue
        code, body = (-reply, b"") if isinstance(reply, int) else (0, reply)
        os.write(device, struct.pack("<IiQ", 16 + len(body), code, unique) + body)


if __name__ == "__main__":
    main()
