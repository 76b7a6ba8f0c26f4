# SPDX-License-Identifier: Apache-2.0
"""Machines that are network namespaces: a node in one has a loopback of its own, on which ports of ours
are served by relays; these are its only way out, and can be cut."""

import contextlib
import ctypes
import os
import select
import socket
import subprocess
import threading
import time

import node

CLONE_NEWNET = 0x40000000
libc = ctypes.CDLL(None, use_errno=True)


def enter(fd):
    if libc.setns(fd, CLONE_NEWNET) < 0:
        raise OSError(ctypes.get_errno(), "setns")


class Machine(node.Stoker):
    """A node in a network namespace; relay(port) makes 127.0.0.1:port of ours one of its own."""

    def __init__(self, folder, **kw):
        super().__init__(folder, **kw)
        self.holder = subprocess.Popen(["unshare", "--net", "sleep", "3600"])
        own, path = os.readlink("/proc/self/ns/net"), f"/proc/{self.holder.pid}/ns/net"
        while os.readlink(path) == own:
            time.sleep(0.005)
        self.namespace = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        words = ["nsenter", f"--net={path}", "ip", "link", "set", "lo", "up"]
        subprocess.run(words, check=True)
        self.cut, self.closing = threading.Event(), threading.Event()
        self.threads = []

    def popen(self, *args, **options):
        return super().popen(*args, preexec_fn=lambda: enter(self.namespace), **options)

    def _spawn(self, target, *args):
        thread = threading.Thread(target=target, args=args, daemon=True)
        thread.start()
        self.threads.append(thread)
        return thread

    def relay(self, *ports):
        for port in ports:
            listeners = []

            def listen(port=port, listeners=listeners):
                enter(self.namespace)  # of this thread alone, which ends here
                listeners.append(socket.create_server(("127.0.0.1", port)))

            self._spawn(listen).join()
            self._spawn(self._accept, listeners[0], port)

    def _accept(self, listener, port):
        with listener:
            while not self.closing.is_set():
                if select.select([listener], [], [], 0.1)[0]:
                    self._spawn(self._carry, listener.accept()[0], port)

    def _carry(self, client, port):
        """Both ways until both have ended. While the link is cut nothing moves, and nobody is told."""
        with client, contextlib.suppress(OSError):
            while self.cut.is_set() and not self.closing.is_set():
                time.sleep(0.05)
            with socket.create_connection(("127.0.0.1", port)) as server:
                peers = {client: server, server: client}
                while peers and not self.closing.is_set():
                    if self.cut.is_set():
                        time.sleep(0.05)
                        continue
                    for ready in select.select(list(peers), [], [], 0.1)[0]:
                        if data := ready.recv(1 << 16):
                            peers[ready].sendall(data)
                        else:
                            peers.pop(ready).shutdown(socket.SHUT_WR)

    def destroy(self):
        self.closing.set()
        super().destroy()
        for thread in self.threads:
            thread.join(10)
        os.close(self.namespace)
        self.holder.kill()
        self.holder.wait()
