# SPDX-License-Identifier: Apache-2.0
"""Controllers on one PostgreSQL and one folder of files."""

import load
import postgres
import pytest


@pytest.fixture(scope="module")
def shared_server():
    server = postgres.Postgres()
    yield server
    server.destroy()


@pytest.fixture
def make_shared(make_controller, shared_server, tmp):
    """A function that makes controllers on one PostgreSQL and one folder."""
    shared_server.wait()
    shared_server.clear()
    made = []

    def make(**more):
        options = ["--database", shared_server.url, "--files", tmp / "files"]
        c = make_controller(options=options, initialise=not made, start=False)
        if made:
            c.admin, c.join = made[0].admin, made[0].join
            c.folder.mkdir()
        (c.folder / "controller.yaml").write_text(load.limits(**more))
        made.append(c)
        return c.start()

    return make
