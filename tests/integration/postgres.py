# SPDX-License-Identifier: Apache-2.0
"""A PostgreSQL of our own in a folder and on a port of loopback; not the machine's cluster."""

import contextlib
import glob
import os
import pathlib
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time

PASSWORD = "s3cret:word"


def programs():
    found = sorted(glob.glob("/usr/lib/postgresql/*/bin"), key=lambda p: int(p.split("/")[-2]))
    return pathlib.Path(found[-1])


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Postgres:
    """`url` is for user `stoker` with its password. It runs as `postgres`, for it refuses root."""

    def __init__(self):
        # Below /tmp: pytest's folders are closed to other users.
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="stoker-postgres-", dir="/tmp"))
        self.port = free_port()
        self.url = f"postgresql://stoker:s3cret%3Aword@127.0.0.1:{self.port}/postgres"
        self.process = None
        user = pwd.getpwnam("postgres")
        os.chown(self.folder, user.pw_uid, user.pw_gid)
        (self.folder / "password").write_text(PASSWORD)
        os.chmod(self.folder / "password", 0o644)
        self._as_postgres(
            "initdb", "-D", self.data, "-U", "stoker", "-A", "scram-sha-256",
            f"--pwfile={self.folder}/password", "-E", "UTF8", "--no-locale", "--no-sync",
        )  # fmt: skip
        self.start()
        self.wait()

    @property
    def data(self):
        return self.folder / "data"

    def _argv(self, program, *args):
        return ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"] + [
            str(a) for a in (programs() / program, *args)
        ]

    def _as_postgres(self, *argv):
        subprocess.run(self._argv(*argv), check=True, cwd="/", capture_output=True)

    def start(self):
        with open(self.folder / "log", "ab") as log:
            self.process = subprocess.Popen(
                self._argv(
                    "postgres", "-D", self.data, "-p", self.port, "-c", "listen_addresses=127.0.0.1",
                    "-c", f"unix_socket_directories={self.folder}",
                ),
                stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd="/",
            )  # fmt: skip

    def wait(self):
        """Until it answers."""
        for _ in range(600):
            if (
                subprocess.run(
                    ["psql", "-q", "-d", self.url, "-c", ""], stderr=subprocess.DEVNULL
                ).returncode
                == 0
            ):
                return
            time.sleep(0.05)
        raise AssertionError((self.folder / "log").read_text())

    def clear(self):
        """Without any tables."""
        subprocess.run(
            [
                "psql",
                "-q",
                "-d",
                self.url,
                "-c",
                "DROP SCHEMA public CASCADE; CREATE SCHEMA public",
            ],
            check=True,
            stderr=subprocess.DEVNULL,
        )

    def stop(self, how=signal.SIGINT):
        """SIGINT: fast shutdown. SIGKILL: of all of its processes, as when the machine fails."""
        pids = []
        if how == signal.SIGKILL:
            pid = self.process.pid
            os.kill(pid, signal.SIGSTOP)  # no new ones while we look
            pids = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        self.process.send_signal(how)
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), how)
        self.process.wait(60)
        for (
            pid
        ) in pids:  # they have come to us (conftest.py), and keep its memory until they are gone
            with contextlib.suppress(ChildProcessError):
                os.waitpid(int(pid), 0)

    def restart(self, how):
        self.stop(how)
        self.start()

    def destroy(self):
        if self.process.poll() is None:
            self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)
