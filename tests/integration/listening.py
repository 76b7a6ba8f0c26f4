# SPDX-License-Identifier: Apache-2.0
"""listening.py PORT -- COMMAND: in a network namespace that is ours alone (`unshare --net`), be a node
with a metadata service: listen on loopback, on the node's own address, on 169.254.169.254 and on an
abstract socket, run the command, and say on stderr who was reached."""

import socket
import subprocess
import sys
import threading

METADATA = "169.254.169.254"
OWN = "10.99.0.2"
OWN6 = "fd99::2"
ABSTRACT = "@stoker-canary"

reached = set()


def serve(listener, name):
    while True:
        connection, _ = listener.accept()
        reached.add(name)
        connection.sendall(b"hello\n")
        connection.close()


def listen(family, address, name):
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.bind(address)
    listener.listen()
    threading.Thread(target=serve, args=(listener, name), daemon=True).start()


def main():
    port, command = int(sys.argv[1]), sys.argv[3:]
    for line in (
        "link set lo up",
        "link add eth0 type veth peer name eth1",
        "link set eth0 up",
        "link set eth1 up",
        f"addr add {OWN}/24 dev eth0",
        f"addr add {OWN6}/64 dev eth0 nodad",
        f"addr add {METADATA}/32 dev eth0",
        "route add default via 10.99.0.1",
    ):
        subprocess.run(["ip", *line.split()], check=True)
    for address in ("127.0.0.1", OWN, METADATA):
        listen(socket.AF_INET, (address, port), address)
    for address in ("::1", OWN6):
        listen(socket.AF_INET6, (address, port), address)
    listen(socket.AF_UNIX, b"\0" + ABSTRACT[1:].encode(), ABSTRACT)
    status = subprocess.run(command, check=False).returncode
    print("reached:", *sorted(reached), file=sys.stderr)
    sys.exit(status)


if __name__ == "__main__":
    main()
