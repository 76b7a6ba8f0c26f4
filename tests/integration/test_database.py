# SPDX-License-Identifier: Apache-2.0
"""The controller's tables in SQLite and PostgreSQL: what was acknowledged is there, once."""

import collections
import os
import pathlib
import random
import signal
import subprocess
import tempfile
import threading
import time

import node
import postgres
import pytest

TESTS = pathlib.Path(node.BINARY).parent / "tests"
DRIVER = str(TESTS / "database_driver")


@pytest.fixture(scope="module")
def server():
    server = postgres.Postgres()
    yield server
    server.destroy()


@pytest.fixture
def where(server):
    server.wait()
    server.clear()
    return server.url


def driver(*args, **options):
    return subprocess.run(
        [DRIVER, *map(str, args)], capture_output=True, text=True, timeout=120, **options
    )


def shown(where):
    result = driver("show", where)
    assert result.returncode == 0, result.stderr
    return {name: int(number) for name, number in map(str.split, result.stdout.splitlines())}


class Load:
    """Increments that are under way."""

    def __init__(self, where, threads, seconds):
        self.output = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(
            [DRIVER, "increment", where, str(threads), str(seconds)],
            stdout=self.output,
            stderr=subprocess.PIPE,
            text=True,
        )
        while os.fstat(self.output.fileno()).st_size == 0 and self.process.poll() is None:
            time.sleep(0.01)

    def end(self):
        """The last number of each thread. If not one after the other, one was lost or done twice."""
        _, errors = self.process.communicate(timeout=120)
        assert self.process.returncode == 0, errors
        numbers = collections.defaultdict(int)
        self.output.seek(0)
        for line in self.output:
            name, number = line.split()
            assert int(number) == numbers[name] + 1, f"thread {name}: {numbers[name]}, {number}"
            numbers[name] = int(number)
        self.output.close()
        return numbers


class Listening:
    def __init__(self, where):
        self.process = subprocess.Popen(
            [DRIVER, "listen", where], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout.readline() == "ready\n"
        self.heard = []
        self.thread = threading.Thread(target=self.read, daemon=True)
        self.thread.start()

    def read(self):
        for line in self.process.stdout:
            self.heard.append(line.strip())

    def until(self, topic, seconds=20):
        end = time.monotonic() + seconds
        while topic not in self.heard and time.monotonic() < end:
            time.sleep(0.02)
        assert topic in self.heard, self.heard

    def stop(self):
        self.process.stdin.close()
        assert self.process.wait(20) == 0
        self.thread.join()
        self.process.stdout.close()


def test_unit_tests_on_postgres(server):
    result = subprocess.run(
        [TESTS / "test_database"],
        env={**os.environ, "STOKER_TEST_DATABASE": server.url},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_server_restarts_under_load(server, where, how):
    """Nothing acknowledged is lost, nothing applied twice, and no thread sees a failure."""
    load = Load(where, threads=8, seconds=10)
    for _ in range(3):
        time.sleep(random.uniform(1, 2))
        server.restart(how)
    numbers = load.end()
    assert len(numbers) == 8
    table = shown(where)
    assert table.pop("all") == sum(numbers.values())
    assert table == numbers


def test_connections_cut_in_commits(server, where):
    """Each cut leaves some commits without an answer: the marks tell which were done."""
    load = Load(where, threads=8, seconds=6)
    while load.process.poll() is None:
        subprocess.run(
            ["psql", "-qAt", "-d", server.url, "-c",
             "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
             " WHERE application_name = 'stoker-controller'"],
            check=True, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        time.sleep(random.uniform(0, 0.1))
    numbers = load.end()
    table = shown(where)
    assert table.pop("all") == sum(numbers.values())
    assert table == numbers


def test_two_open_at_once(where):
    """Both find no tables, and one makes them."""
    both = [
        subprocess.Popen([DRIVER, "notify", where, "queue"], stderr=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    for process in both:
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors


@pytest.mark.parametrize("way", [[], ["now"]])
def test_notify_between_processes(where, way):
    a, b = Listening(where), Listening(where)
    assert driver("notify", where, "run/x'y", *way).returncode == 0
    assert driver("notify", where, "queue", *way).returncode == 0
    for listening in (a, b):
        listening.until("queue")
        listening.stop()
        assert listening.heard == ["run/x'y", "queue"]


def test_listeners_hear_of_a_restart(server, where):
    listening = Listening(where)
    server.restart(signal.SIGINT)
    listening.until("*")
    assert driver("notify", where, "queue").returncode == 0
    listening.until("queue")
    listening.stop()


def test_server_that_is_starting_is_waited_for(server, where):
    server.stop()
    process = subprocess.Popen([DRIVER, "notify", where, "queue"])
    time.sleep(1)
    assert process.poll() is None
    server.start()
    assert process.wait(40) == 0


@pytest.mark.parametrize(
    "change, needle",
    [
        (("s3cret%3Aword", "wr0ng-word"), "password authentication failed"),
        (("s3cret%3Aword", "s3cret%zzword"), "not a valid URL"),
        (("/postgres", "/postgres?s3cret=x"), "not a valid URL"),
    ],
)
def test_errors_do_not_show_the_password(server, change, needle):
    where = server.url.replace(*change)
    result = driver("show", where)
    assert result.returncode == 1
    assert needle in result.stderr
    assert "s3cret" not in result.stderr and "wr0ng" not in result.stderr


def test_sqlite_killed_under_load(tmp, pytestconfig):
    """What was printed is in the file, and at most the one more that each thread was at."""
    where = tmp / "stoker.db"
    before = {}
    for _ in range(pytestconfig.getoption("--campaign")):
        process = subprocess.Popen(
            [DRIVER, "increment", where, "8", "60"], stdout=subprocess.PIPE, text=True
        )
        time.sleep(random.uniform(0.05, 0.4))
        process.kill()
        output, _ = process.communicate(timeout=20)
        last = {name: int(number) for name, number in map(str.split, output.splitlines())}
        table = shown(where) if where.exists() and last else {}
        for name, number in last.items():
            assert number <= table[name] <= number + 1
        assert all(table.get(name, 0) >= number for name, number in before.items() if table)
        if table:
            assert table["all"] == sum(n for name, n in table.items() if name != "all")
        before = table or before
    assert before


def test_sqlite_has_one_controller(tmp):
    where = tmp / "stoker.db"
    first = subprocess.Popen(
        [DRIVER, "claim", where], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert first.stdout.readline() == "claimed\n"
    second = driver("claim", where, stdin=subprocess.DEVNULL)
    assert second.returncode == 1
    assert second.stderr == (
        f"database_driver: {where}: another stoker-controller serves this database\n"
    )
    assert driver("notify", where, "queue").returncode == 0  # a command beside it
    first.kill()
    first.communicate()
    assert driver("claim", where, stdin=subprocess.DEVNULL).returncode == 0
