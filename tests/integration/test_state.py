# SPDX-License-Identifier: Apache-2.0
"""controller/state on PostgreSQL: the unit tests, which run on SQLite elsewhere, once more."""

import os
import pathlib
import subprocess

import node
import postgres
import pytest

TESTS = pathlib.Path(node.BINARY).parent / "tests"


@pytest.fixture(scope="module")
def server():
    server = postgres.Postgres()
    yield server
    server.destroy()


@pytest.mark.parametrize("name", ["leases", "runs", "schedule", "polls"])
def test_unit_tests_on_postgres(server, name):
    done = subprocess.run(
        [TESTS / f"test_{name}"],
        env={**os.environ, "STOKER_TEST_DATABASE": server.url},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
