# SPDX-License-Identifier: Apache-2.0
"""The node of a controller: stoker join and what the agent's engine is given."""

import http.server
import json
import threading

import pytest
from test_run import (  # noqa: F401
    _busybox,
    busybox,
    runs,
    write_job,
)

JOIN = "stk_j_0123456789_" + "s" * 43
NODE = "stk_n_9876543210_" + "n" * 43


class Controller(http.server.ThreadingHTTPServer):
    """The part of the protocol by which a node joins; `refusals` are answered first."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.asked, self.refusals, self.names = [], [], set()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def join(self, token, document):
        if self.refusals:
            return self.refusals.pop(0), {"error": {"code": "unavailable", "message": "later"}}
        if token != f"Bearer {JOIN}":
            return 401, {"error": {"code": "unauthenticated", "message": "the token is unknown"}}
        if document["name"] in self.names and not document.get("replace"):
            return 409, {"error": {"code": "conflict", "message": "there is a node of that name"}}
        self.names.add(document["name"])
        return 201, {"node": "node_1", "token": NODE}


class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        document = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append((self.path, document))
        status, answer = self.server.join(self.headers["Authorization"], document)
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def controller():
    server = Controller()
    yield server
    server.shutdown()
    server.server_close()


def credential(stoker):
    return stoker.state / "node/credential.json"


def test_join(stoker, controller):
    """The credential is the owner's alone, and the join token is kept nowhere."""
    result = stoker("join", controller.url, "--name", "alpha", input=JOIN + "\n")
    assert "alpha is node node_1" in result.stdout
    assert NODE not in result.stdout + result.stderr
    ((path, document),) = controller.asked
    assert path == "/v1/nodes" and document["name"] == "alpha" and document["version"]
    kept = json.loads(credential(stoker).read_text())
    assert kept == {"url": controller.url, "node": "node_1", "name": "alpha", "token": NODE}
    assert credential(stoker).stat().st_mode & 0o777 == 0o600
    assert credential(stoker).parent.stat().st_mode & 0o777 == 0o700


def test_join_again(stoker, controller, tmp):
    """A name that is taken needs --replace; a refusal leaves the credential that is there."""
    (tmp / "token").write_text(JOIN)
    join = ("join", controller.url, "--name", "alpha", "--token-file", tmp / "token")
    stoker(*join)
    before = credential(stoker).read_bytes()
    stoker.fails(*join, needles=["there is a node of that name"])
    assert credential(stoker).read_bytes() == before
    stoker(*join, "--replace")


def test_join_refused(stoker, controller):
    stoker.fails("join", controller.url, "--token", "stk_j_no", needles=["token is unknown"])
    stoker.fails("join", controller.url, input="\n", needles=["no token in standard input"])
    assert not credential(stoker).exists()


def test_join_waits(stoker, controller):
    """One that cannot answer now is asked again."""
    controller.refusals = [503, 503]
    stoker("join", controller.url, "--token", JOIN)
    assert len(controller.asked) == 3


def test_run_id(stoker, busybox, tmp):  # noqa: F811
    """A run's name can be given; the same one twice is refused, and the first is left as it was."""
    path = write_job(tmp / "job", busybox, "echo $STOKER_RUN_ID\n")
    assert stoker("run", "--id", "digits_1764000000_0a1b2c3d.1", path).stdout == (
        "digits_1764000000_0a1b2c3d.1\n"
    )
    (run,) = runs(stoker)
    before = (run / "1/run.json").read_bytes()
    stoker.fails("run", "--id", run.name, path, needles=[f"make runs/{run.name}", "exists"])
    assert (run / "1/run.json").read_bytes() == before
    for name in ("../x", "", ".x", "a b", "x" * 160):
        stoker.fails("run", "--id", name, path, needles=["--id"], status=2)
