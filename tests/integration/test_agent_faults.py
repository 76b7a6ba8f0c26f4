# SPDX-License-Identifier: Apache-2.0
"""What an agent meets that is damaged, refused or late, against a controller that is a script."""

import hashlib
import io
import json
import os
import tarfile
import time
import urllib.parse

import pytest
import test_agent
from test_agent import JOIN, agent, ended, forgotten
from test_run import _busybox, busybox, runs, wait_for  # noqa: F401

RUN = f"fault_1764000000_{os.getpid():08x}"  # control groups are the machine's


class Controller(test_agent.Controller):
    """With refusals: {part of "METHOD /path": [(status, code), …]}; the last one is repeated."""

    def __init__(self):
        super().__init__()
        self.RequestHandlerClass = Handler
        self.refused, self.requests, self.old = {}, [], {}

    def refusal(self, request):
        self.requests.append(request)
        for part, answers in self.refused.items():
            if part in request and answers:
                return answers.pop(0) if len(answers) > 1 else answers[0]
        return None

    def submit(self, image, script, **job):
        super().submit(image, script, **job)
        (start,) = self.say["starts"]
        start["run"] = RUN
        return start


class Handler(test_agent.Handler):
    def parse_request(self):
        if not super().parse_request():
            return False
        refusal = self.server.refusal(f"{self.command} {self.path}")
        if refusal and refusal[0]:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            error = {"code": refusal[1], "message": f"refused with {refusal[0]}"}
            self.answer(refusal[0], {"error": error})
            return False
        return True

    def do_POST(self):
        """Of changes only a log's move counts."""
        if not self.path.endswith("/changes"):
            super().do_POST()
            return
        document = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        for change in document["changes"]:
            if change["do"] == "move":
                self.server.files[change["to"]] = self.server.files.pop(change["from"])
        self.answer(200, {})

    def do_GET(self):
        """Of what an earlier attempt has left: the list in pages of two, and ranges."""
        url = urllib.parse.urlsplit(self.path)
        query = urllib.parse.parse_qs(url.query)
        old = self.server.old
        if url.path.endswith("/files") and query.get("prefix") == ["outputs/"]:
            after = query.get("after", [""])[0]
            names = [name for name in sorted(old) if name > after][:2]
            files = [{"path": name, **old[name][0]} for name in names]
            self.answer(200, {"files": files, "next": names[1] if len(names) == 2 else None})
        elif "/files/" in url.path and urllib.parse.unquote(self.name()) in old:
            data = old[urllib.parse.unquote(self.name())][1]
            first, last = self.headers["Range"].removeprefix("bytes=").split("-")
            self.answer(206, data[int(first) : int(last) + 1])
        else:
            super().do_GET()


@pytest.fixture
def controller():
    server = Controller()
    server.handle_error = lambda *_: None  # the agent is gone
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def joined(stoker, controller):
    stoker("join", controller.url, "--token", JOIN)
    return stoker


def attempts(stoker):
    return stoker.state / "node/attempts"


# ---- the start


@pytest.mark.parametrize("text", ["", "{", '{"run": "x"}', "\0" * 300])
def test_unreadable_start(joined, busybox, controller, text):  # noqa: F811
    """Set aside with one line; its job is ended, and the agent serves others."""
    controller.submit(busybox, "echo a; exec sleep 300\n")
    with agent(joined, kill=True):
        wait_for(lambda: controller.files.get("user_logs/std_log.txt"), "the log", 60)
    (attempts(joined) / f"{RUN}.1/start.json").write_text(text)
    controller.say = {}
    controller.polled.clear()
    process = joined.popen("agent")
    assert controller.polled.wait(20), "the agent did not start"
    assert controller.attempts == {}
    process.terminate()
    _, err = process.communicate(timeout=20)
    (line,) = [x for x in err.splitlines() if "start.json" in x]
    assert f"node/attempts/{RUN}.1" in line and f".unreadable.{RUN}.1" in line
    assert [p.name for p in attempts(joined).iterdir()] == [f".unreadable.{RUN}.1"]
    (run,) = runs(joined)
    wait_for(lambda: json.loads((run / "1/run.json").read_text())["state"] == "Canceled", "end")


def test_start_again_after_set_aside(joined, busybox, controller):  # noqa: F811
    """One whose acceptance the controller never heard is said again: it goes on, not anew."""
    start = controller.submit(busybox, "echo started >> outputs/marks; sleep 3; echo end\n")
    with agent(joined, kill=True):
        marks = joined.state / f"runs/{RUN}.1/1/outputs/marks"
        wait_for(marks.exists, "the start", 60)
    folder = attempts(joined) / f"{RUN}.1"
    (folder / "start.json").write_text("")
    with agent(joined):
        controller.say = {"starts": [start]}
        end = ended(controller)
        forgotten_but(joined, f".unreadable.{RUN}.1")
    assert end["result"] in ("Canceled", "Completed")
    assert len(runs(joined)) == 1 and marks.read_text() == "started\n"


def forgotten_but(stoker, name):
    wait_for(lambda: [p.name for p in attempts(stoker).iterdir()] == [name], "the end to be known")


def test_rubbish_among_attempts(joined, busybox, controller):  # noqa: F811
    """What was left halfway, or by nobody known, keeps no agent from starting."""
    folder = attempts(joined)
    for name in ("x.1", ".gone.y.2"):
        (folder / name / "source").mkdir(parents=True)
    (folder / ".gone.y.2/start.json").write_text("{}")
    (folder / "file").write_text("")
    controller.submit(busybox, "echo a\n")
    with agent(joined):
        assert ended(controller)["result"] == "Completed"
        wait_for(lambda: {p.name for p in folder.iterdir()} <= {"file"}, "all to be removed")


# ---- the snapshot


@pytest.mark.parametrize(
    ("answers", "code", "needle"),
    [
        ([(404, "not_found")], "StartFailed", "snapshot"),
        ([(403, "denied")], "StartFailed", "snapshot"),
        (None, "StartFailed", "the snapshot is not"),
    ],
)
def test_snapshot_that_never_comes(joined, busybox, controller, answers, code, needle):  # noqa: F811
    controller.submit(busybox, "echo a\n")
    if answers:
        controller.refused["GET /v1/snapshots/"] = answers
    else:
        controller.snapshot += b"more"
    with agent(joined):
        end = ended(controller)
        forgotten(joined)
    assert (end["result"], end["cause"]["code"]) == ("Failed", code), end
    assert needle in end["cause"]["message"]
    asked = [r for r in controller.requests if "GET /v1/snapshots/" in r]
    assert len(asked) == (1 if answers else 3)
    assert not (joined.state / "runs").exists() or runs(joined) == []


def test_snapshot_that_comes_late(joined, busybox, controller):  # noqa: F811
    controller.submit(busybox, "echo a\n")
    controller.refused["GET /v1/snapshots/"] = [(503, "unavailable")] * 3 + [(0, "")]
    with agent(joined):
        assert ended(controller)["result"] == "Completed"
        forgotten(joined)


@pytest.mark.full
def test_snapshot_refused_for_long(joined, busybox, controller):  # noqa: F811
    """Five minutes, with what a try takes."""
    controller.submit(busybox, "echo a\n")
    controller.refused["GET /v1/snapshots/"] = [(503, "unavailable")]
    began = time.monotonic()
    with agent(joined):
        wait_for(lambda: controller.ended, "the end", 480)
        forgotten(joined)
    assert time.monotonic() - began > 290
    end = controller.ended[0]
    assert (end["result"], end["cause"]["class"]) == ("Failed", "infrastructure")


@pytest.mark.parametrize("word", ["cancels", "stale"])
def test_ended_before_the_engine(joined, busybox, controller, word):  # noqa: F811
    controller.submit(busybox, "echo a\n")
    controller.refused["GET /v1/snapshots/"] = [(503, "unavailable")]
    with agent(joined):
        wait_for(lambda: [r for r in controller.requests if "snapshots" in r], "the start", 20)
        controller.say = {word: [{"run": RUN, "attempt": 1}]}
        wait_for(lambda: not list(attempts(joined).iterdir()), "the end", 60)
    if word == "cancels":
        end = controller.ended[0]
        assert (end["result"], end["cause"]["class"]) == ("Canceled", "user"), end
        assert end["cause"]["code"] == "Canceled"
    else:
        assert controller.ended == []
    assert not (joined.state / "runs").exists() or runs(joined) == []


# ---- the log


def test_log_end_refused_for_a_while(joined, busybox, controller):  # noqa: F811
    controller.submit(busybox, "echo a\n")
    finish = "POST /v1/runs/" + RUN + "/files/user_logs/std_log.txt?finish=1"
    controller.refused[finish] = [(409, "digest_mismatch"), (400, "invalid"), (0, "")]
    with agent(joined):
        end = ended(controller)
        forgotten(joined)
    assert end["upload"]["state"] == "Done", end
    assert [r for r in controller.requests if r == finish] == [finish] * 3


@pytest.mark.parametrize("answer", [(400, "invalid"), (409, "digest_mismatch")])
def test_log_end_refused_for_good(joined, busybox, controller, answer):  # noqa: F811
    """The job's result stays its own; that its log is not all there is told with it."""
    controller.submit(busybox, "echo a; echo b > outputs/b; exit 3\n")
    controller.refused["std_log.txt?finish=1"] = [answer]
    with agent(joined):
        end = ended(controller)
        forgotten(joined)
    assert (end["result"], end["cause"]["exit_code"]) == ("Failed", 3)
    assert end["upload"]["state"] == "Incomplete", end
    assert "log" in end["upload"]["message"] and "refused with" in end["upload"]["message"]
    assert controller.files["outputs/b"] == b"b\n"


# ---- what an earlier attempt has left


def old_file(data, complete=True, **more):
    row = {"kind": "file", "size": len(data), "mode": 0o640, "complete": complete}
    row["mtime_ns"] = 1_700_000_000_123_456_789
    row["sha256"] = hashlib.sha256(data).hexdigest() if complete else None
    return {**row, **more}, data


def leave(controller):
    """What was finished comes back; of what was not, what was at its last end, or nothing."""
    folder = {"kind": "folder", "mode": 0o750, "size": 0, "complete": True}
    link = {"kind": "link", "target": "../../etc/passwd", "complete": True}
    controller.old = {
        "outputs/d": (folder, b""),
        "outputs/d/large": old_file(bytes(range(256)) * 40_000),
        "outputs/e/f/x": old_file(b"before its folders"),
        "outputs/empty": old_file(b""),
        "outputs/grown": old_file(b"finished more", complete=False, finished=8),
        "outputs/half": old_file(b"half of a checkpoint", complete=False, finished=0),
        "outputs/l": (link, b""),
        "outputs/100%25 %FF": old_file(b"odd"),
    }


SHOW = """
(cd outputs; find . | sort; cat grown; echo; cat d/large | sha256sum; readlink l; cat 100*
 stat -c '%a %Y' grown; stat -c %a d; echo more >> grown; rm half 2>&1)
"""


def test_restore(joined, busybox, controller):  # noqa: F811
    start = controller.submit(busybox, SHOW)
    start.update(attempt=2, restore=True)
    leave(controller)
    large = [(503, "unavailable"), (0, "")]
    controller.refused["files/outputs/d/large"] = large
    with agent(joined):
        assert ended(controller)["result"] == "Failed"
        forgotten(joined)
    log = controller.files["user_logs/std_log.txt"].decode("utf-8", "surrogateescape").splitlines()
    names = [".", "./100% \udcff", "./d", "./d/large", "./e", "./e/f", "./e/f/x", "./empty"]
    assert log[:10] == [*names, "./grown", "./l"]
    assert log[10:12] == [
        "finished",
        hashlib.sha256(bytes(range(256)) * 40_000).hexdigest() + "  -",
    ]
    assert log[12:15] == ["../../etc/passwd", "odd640 1700000000", "750"]
    assert "No such file" in log[15]
    (run,) = runs(joined)
    assert run.name == f"{RUN}.2"
    assert (run / "1/outputs/grown").read_bytes() == b"finishedmore\n"


def test_restore_for_another_user(joined, layout, registry, controller):
    """They are the job's, whoever it runs as."""
    from test_run import busybox_tar

    tar = busybox_tar().file("etc/passwd", "ada:x:1234:1234::/:/bin/sh\n")
    config = {"config": {"Env": ["PATH=/bin"], "User": "ada"}}
    layout.image([layout.layer(tar)], config_options=config)
    image = registry.push(layout, "faults/ada")
    start = controller.submit(image, "echo x >> outputs/grown && cat outputs/grown; id -u\n")
    start.update(attempt=2, restore=True)
    leave(controller)
    with agent(joined):
        assert ended(controller)["result"] == "Completed"
        forgotten(joined)
    assert controller.files["user_logs/std_log.txt"] == b"finishedx\n1234\n"


@pytest.mark.parametrize(
    ("path", "row"),
    [
        ("outputs/../../x", old_file(b"x")),
        ("outputs/l/x", old_file(b"x")),
        ("outputs/%00", old_file(b"x")),
        ("outputs/wrong", old_file(b"x", sha256="0" * 64)),
        ("outputs/short", old_file(b"x", size=2)),
    ],
)
def test_restore_of_what_cannot_be(joined, busybox, controller, path, row):  # noqa: F811
    """Without its outputs it is not started: it would begin from nothing."""
    start = controller.submit(busybox, "echo a\n")
    start.update(attempt=2, restore=True)
    controller.old = {
        "outputs/l": ({"kind": "link", "target": "/tmp", "complete": True}, b""),
        path: row,
    }
    with agent(joined):
        end = ended(controller)
        forgotten(joined)
    assert (end["result"], end["cause"]["code"]) == ("Failed", "StartFailed"), end
    assert path in end["cause"]["message"]
    assert not (joined.state / "runs").exists() or runs(joined) == []


def test_restore_option(stoker, busybox, tmp):  # noqa: F811
    from test_run import write_job

    (tmp / "old/outputs").mkdir(parents=True)
    (tmp / "old/outputs/a").write_text("a\n")
    job = write_job(tmp / "job", busybox, "cat outputs/a\n")
    assert stoker("run", "--restore", tmp / "old", job).stdout == "a\n"
    stoker.fails("run", "--restore", tmp / "none", job, needles=["--restore", "none"])
    assert len(runs(stoker)) == 2


def tar_of(files):
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return archive.getvalue()


def test_snapshot_that_is_no_archive(joined, busybox, controller):  # noqa: F811
    start = controller.submit(busybox, "echo a\n")
    controller.snapshot = tar_of({"main.sh": b"echo a\n"})[:700]
    start["snapshot"] = hashlib.sha256(controller.snapshot).hexdigest()
    with agent(joined):
        end = ended(controller)
        forgotten(joined)
    assert (end["result"], end["cause"]["code"]) == ("Failed", "StartFailed"), end
    assert "snapshot" in end["cause"]["message"]
