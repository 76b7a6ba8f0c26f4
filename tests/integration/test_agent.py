# SPDX-License-Identifier: Apache-2.0
"""The node of a controller: stoker join and stoker agent, against a controller that is a script."""

import contextlib
import hashlib
import http.server
import io
import json
import os
import tarfile
import threading
import time
import urllib.parse

import pytest
from test_run import (  # noqa: F401
    _busybox,
    busybox,
    runs,
    wait_for,
    write_job,
)

JOIN = "stk_j_0123456789_" + "s" * 43
RUN = f"x_1764000000_{os.getpid():08x}"  # control groups are the machine's
NODE = "stk_n_9876543210_" + "n" * 43


class Controller(http.server.ThreadingHTTPServer):
    """The part of the protocol by which a node joins; `refusals` are answered first."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.asked, self.refusals, self.names = [], [], set()
        self.files, self.snapshot, self.lost = {}, b"", 0
        self.puts, self.list_seconds = [], 0
        self.hold, self.holds, self.go_on = None, threading.Event(), threading.Event()
        self.ended, self.say, self.attempts, self.polled = [], {}, {}, threading.Event()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def submit(self, image, script, **job):
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w", format=tarfile.PAX_FORMAT) as tar:
            entry = tarfile.TarInfo("main.sh")
            entry.size = len(script)
            tar.addfile(entry, io.BytesIO(script.encode()))
        self.snapshot = archive.getvalue()
        job = {"entry_script": "main.sh", "custom_docker_image": image, **job}
        start = {"run": RUN, "attempt": 1, "experiment": "x", "job": job, "secrets": {}}
        start["snapshot"] = hashlib.sha256(self.snapshot).hexdigest()
        start.update(token="stk_r_x", job_token="stk_m_secret", restore=False)
        self.say = {"starts": [start]}

    def log(self):
        return self.files.get("user_logs/std_log.txt", b"")

    def poll(self, document):
        """Levels: a start is said until it was heard, an end is known once it was said."""
        self.attempts = {a["run"]: a for a in document["attempts"]}
        self.polled.set()
        held = document["attempts"]
        answer = {"time": 0, "lease_ms": 60000, "cancels": [], "stale": [], "drain": False}
        answer["starts"] = [] if held or self.ended else self.say.get("starts", [])
        answer["cancels"] = self.say.get("cancels", [])
        answer["stale"] = self.say.get("stale", [])
        ended = [a for a in held if a["state"] == "ended"]
        self.ended += ended
        names = ("run", "attempt", "sequence")
        answer["known"] = [{k: a[k] for k in names} for a in ended]
        if not any(answer[k] for k in ("starts", "cancels", "stale", "known")):
            time.sleep(0.05)
        return answer

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
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        document = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        url = urllib.parse.urlsplit(self.path)
        if url.path == "/v1/nodes":
            self.server.asked.append((self.path, document))
            self.answer(*self.server.join(self.headers["Authorization"], document))
        elif url.path == "/v1/node/poll":
            answer = self.server.poll(document)
            if self.server.lost:
                self.server.lost -= 1
                self.close_connection = True
                return
            self.answer(200, answer)
        elif url.path.endswith("/changes"):
            for change in document["changes"]:
                self.server.files[change["to"]] = self.server.files.pop(change["from"])
            self.answer(200, {})
        else:
            data = self.server.files.get(self.name(), b"")
            assert hashlib.sha256(data).hexdigest() == document["sha256"]
            assert len(data) == document["size"]
            self.answer(200, {})

    def name(self):
        return urllib.parse.urlsplit(self.path).path.split("/files/")[1]

    def do_GET(self):
        if "/snapshots/" in self.path:
            self.answer(200, self.server.snapshot)
        elif urllib.parse.urlsplit(self.path).path.endswith("/files"):
            time.sleep(self.server.list_seconds)
            self.answer(200, {"files": [], "next": None})
        elif self.name() in self.server.files:
            self.answer(200, {"size": len(self.server.files[self.name()])})
        else:
            self.answer(404, {"error": {"code": "not_found", "message": "there is no such file"}})

    def do_PUT(self):
        data = self.rfile.read(int(self.headers["Content-Length"]))
        if not self.path.endswith("/manifest"):
            assert hashlib.sha256(data).hexdigest() == self.headers["Stoker-Sha256"]
            self.server.files[self.name()] = data
            self.server.puts.append((self.name(), data))
        self.answer(200, {})

    def do_PATCH(self):
        data = self.rfile.read(int(self.headers["Content-Length"]))
        if self.name() == self.server.hold:
            self.server.hold = None
            self.server.holds.set()
            self.server.go_on.wait(60)
        at = int(self.headers["Content-Range"].split()[1].split("-")[0])
        has = self.server.files.setdefault(self.name(), b"")
        if at != len(has):
            offset = {"error": {"code": "offset", "message": "not there", "offset": len(has)}}
            self.answer(416, offset, {"Upload-Offset": str(len(has))})
            return
        self.server.files[self.name()] = has + data
        self.answer(200, {})

    def answer(self, status, answer, headers=None):
        body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_response(status)
        for key, value in (headers or {}).items():
            self.send_header(key, value)
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


@contextlib.contextmanager
def agent(stoker, kill=False, **options):
    process = stoker.popen("agent", **options)
    try:
        yield process
    finally:
        process.kill() if kill else process.terminate()
        out, err = process.communicate(timeout=20)
        assert kill or process.returncode == 0, err


def ended(controller):
    wait_for(lambda: controller.ended, "the end", 60)
    return controller.ended[0]


def forgotten(stoker):
    wait_for(lambda: not list((stoker.state / "node/attempts").iterdir()), "the end to be known")


LINES = "i=0; while [ $i -lt 300 ]; do echo line $i of $STOKER_RUN_ID; i=$((i+1)); done\n"


def test_replaced_since_it_was_listed(stoker, busybox, controller):  # noqa: F811
    """What is sent of a file that is replaced by renaming is one of the files, whole."""
    controller.list_seconds = 0.5
    stoker("join", controller.url, "--token", JOIN)
    script = """n=0; while [ $n -lt 150 ]; do n=$((n + 1))
{ echo $n; seq 1 $((n * 100)); echo end $n; } > outputs/.new; mv outputs/.new outputs/c
sleep 0.08; done
"""
    controller.submit(busybox, script)
    with agent(stoker):
        ended(controller)
    sent = [data.split() for name, data in controller.puts if name == "outputs/c"]
    assert sent and all(lines[-1] == lines[0] for lines in sent), [x[:1] + x[-1:] for x in sent]
    assert sent[-1][0] == b"150"


def test_job(stoker, busybox, controller):  # noqa: F811
    """Started once though the answer was lost, log byte-identical, forgotten once the end is known."""
    stoker("join", controller.url, "--token", JOIN)
    controller.submit(busybox, LINES + "exit 3\n")
    controller.lost = 2
    with agent(stoker):
        end = ended(controller)
        forgotten(stoker)
    assert end["cause"].get("exit_code") == 3, end
    assert (end["result"], end["exit_status"]) == ("Failed", 3)
    expected = "".join(f"line {i} of {RUN}\n" for i in range(300)).encode()
    assert controller.files["user_logs/std_log.txt"] == expected
    (run,) = runs(stoker)
    assert run.name == f"{RUN}.1"
    for path in run.rglob("*"):
        if path.is_file():
            assert b"stk_m_secret" not in path.read_bytes()


def test_log_beside_results(stoker, busybox, controller):  # noqa: F811
    """An upload that does not come to its end holds up neither the log nor the end of the run."""
    stoker("join", controller.url, "--token", JOIN)
    script = "head -c 9000000 /dev/urandom > outputs/large; i=0; while [ $i -lt 75 ]\n"
    controller.submit(busybox, script + "do echo $i; i=$((i+1)); sleep 0.2; done\n")
    controller.hold = "outputs/large"
    with agent(stoker):
        assert controller.holds.wait(60)
        before = len(controller.log())
        wait_for(lambda: len(controller.log()) > before + 8, "the log", 5)
        end = ended(controller)
        controller.go_on.set()
        forgotten(stoker)
    assert end["result"] == "Completed", end
    (run,) = runs(stoker)
    assert controller.files["outputs/large"] == (run / "1/outputs/large").read_bytes()


def test_agent_killed(stoker, busybox, controller):  # noqa: F811
    """A killed agent's job goes on, and the next agent goes on with its log."""
    stoker("join", controller.url, "--token", JOIN)
    controller.submit(busybox, "echo a; sleep 4; echo b\n")
    with agent(stoker, kill=True):
        wait_for(lambda: controller.files.get("user_logs/std_log.txt") == b"a\n", "the log", 60)
    with agent(stoker):
        assert ended(controller)["result"] == "Completed"
        forgotten(stoker)
    assert controller.files["user_logs/std_log.txt"] == b"a\nb\n"
    assert len(runs(stoker)) == 1


@pytest.mark.parametrize("word", ["cancels", "stale"])
def test_ended_by_controller(stoker, busybox, controller, word):  # noqa: F811
    stoker("join", controller.url, "--token", JOIN)
    controller.submit(busybox, "echo a; exec sleep 300\n")
    with agent(stoker):
        wait_for(lambda: controller.files.get("user_logs/std_log.txt"), "the log", 60)
        controller.say = {word: [{"run": RUN, "attempt": 1}]}
        forgotten(stoker)
    (run,) = runs(stoker)
    assert json.loads((run / "1/run.json").read_text())["state"] == "Canceled"
    assert bool(controller.ended) == (word == "cancels")
