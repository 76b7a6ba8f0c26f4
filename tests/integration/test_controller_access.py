# SPDX-License-Identifier: Apache-2.0
"""Who may what: every request of the API by everybody, the status stated for each. All runs, files and
models that are asked for are ada's, the run is held by the node `one`."""

import contextlib
import hashlib
import http.client
import json
import re
import string
from random import Random

import controller_cast
import pytest
from controller_cast import attempt
from test_controller_openapi import operations
from test_database import server, where  # noqa: F401

import controller

# ada_run, ada_job: tokens of the run that is asked for (role run: the writer; role metrics: the job).
# bob_*: of another's run. past_*: of an attempt of ada's that is over. one holds the run, two does not.
WHO = "admin ada bob one two ada_run ada_job bob_run bob_job past_run join none garbage revoked".split()

# The tokens of an attempt that is over are told so (409), whatever they ask for, once they are known.
TABLE = """
                                              adm ada bob one two run job b_r b_j pst joi non gar rev
GET /healthz                                  200 200 200 200 200 200 200 200 200 200 200 200 200 200
GET /metrics                                  200 200 200 200 200 200 200 200 200 200 200 200 200 200
GET /v1/                                      200 200 200 200 200 200 200 200 200 409 200 401 401 401

GET /v1/tokens                                200 403 403 403 403 403 403 403 403 409 403 401 401 401
POST /v1/tokens                               201 403 403 403 403 403 403 403 403 409 403 401 401 401
DELETE /v1/tokens/{id}                        204 403 403 403 403 403 403 403 403 409 403 401 401 401

POST /v1/runs                                 201 201 201 403 403 403 403 403 403 409 403 401 401 401
GET /v1/runs                                  200 200 200 403 403 403 403 403 403 409 403 401 401 401
GET /v1/experiments                           200 200 200 403 403 403 403 403 403 409 403 401 401 401
GET /v1/runs/{run}                            200 200 404 200 404 200 200 404 404 409 403 401 401 401
GET /v1/runs/{run}/events                     200 200 404 403 403 200 200 404 404 409 403 401 401 401
POST /v1/runs/{run}/cancel                    200 200 404 403 403 403 403 403 403 409 403 401 401 401
DELETE /v1/runs/{run}                         204 204 404 403 403 403 403 403 403 409 403 401 401 401

GET /v1/snapshots/{sha256}                    200 200 200 403 403 200 403 404 403 409 403 401 401 401
PUT /v1/snapshots/{sha256}                    200 200 200 403 403 403 403 403 403 409 403 401 401 401

GET /v1/runs/{run}/files                      200 200 404 403 403 200 200 404 404 409 403 401 401 401
GET /v1/runs/{run}/files/{path}               200 200 404 403 403 200 200 404 404 409 403 401 401 401
PATCH /v1/runs/{run}/files/{path}             403 403 403 403 403 200 403 404 403 409 403 401 401 401
PUT /v1/runs/{run}/files/{path}               403 403 403 403 403 204 403 404 403 409 403 401 401 401
POST /v1/runs/{run}/files/{path}              403 403 403 403 403 204 403 404 403 409 403 401 401 401
POST /v1/runs/{run}/changes                   403 403 403 403 403 204 403 404 403 409 403 401 401 401
PUT /v1/runs/{run}/manifest                   403 403 403 403 403 204 403 404 403 409 403 401 401 401
GET /v1/runs/{run}/metrics                    200 200 404 403 403 200 200 404 404 409 403 401 401 401
POST /v1/runs/{run}/metrics                   204 204 404 403 403 204 204 404 404 409 403 401 401 401

GET /v1/models                                200 200 200 403 403 403 403 403 403 409 403 401 401 401
POST /v1/models                               201 201 404 403 403 403 403 403 403 409 403 401 401 401
GET /v1/models/{name}                         200 200 200 403 403 403 403 403 403 409 403 401 401 401
GET /v1/models/{name}/{version}               200 200 200 403 403 403 403 403 403 409 403 401 401 401
GET /v1/models/{name}/{version}/files         200 200 200 403 403 403 403 403 403 409 403 401 401 401
GET /v1/models/{name}/{version}/files/{path}  200 200 200 403 403 403 403 403 403 409 403 401 401 401

GET /v1/nodes                                 200 200 200 403 403 403 403 403 403 409 403 401 401 401
GET /v1/nodes/{node}                          200 200 200 403 403 403 403 403 403 409 403 401 401 401
POST /v1/nodes                                201 403 403 403 403 403 403 403 403 409 201 401 401 401
POST /v1/nodes/{node}/drain                   200 403 403 403 403 403 403 403 403 409 403 401 401 401
POST /v1/nodes/{node}/undrain                 200 403 403 403 403 403 403 403 403 409 403 401 401 401
DELETE /v1/nodes/{node}                       204 403 403 403 403 403 403 403 403 409 403 401 401 401
POST /v1/node/poll                            403 403 403 200 200 403 403 403 403 409 403 401 401 401
POST /v1/node/report                          403 403 403 204 204 403 403 403 403 409 403 401 401 401
DELETE /v1/node                               403 403 403 204 204 403 403 403 403 409 403 401 401 401
"""


def cells():
    for line in TABLE.splitlines()[2:]:
        if line:
            method, path, *statuses = line.split()
            assert len(statuses) == len(WHO)
            yield (method, path), dict(zip(WHO, map(int, statuses), strict=True))


DATA = b"what ada's run has written"
HASH = hashlib.sha256(DATA).hexdigest()


class Asking:
    """A request of each kind that the right one would be granted, on objects of its own where it ends
    them."""

    def __init__(self, cast):
        self.cast = cast

    def values(self, key, granted):
        """Of the path. What ends something is done to another thing each time."""
        cast, found = self.cast, {"path": "outputs/model/weights", "name": "m", "version": 1}
        found |= {
            "run": cast.ada_run,
            "sha256": cast.snapshot,
            "node": cast.nodes["one"],
            "id": "0" * 10,
        }
        if key == ("DELETE", "/v1/runs/{run}") and granted:
            found["run"] = cast.ended_run()
        if key == ("POST", "/v1/runs/{run}/cancel") and granted:
            found["run"] = cast.submit("ada", controller_cast.LARGE)
        if "{node}" in key[1] and granted:
            found["node"] = cast.spare_node()
        if key == ("DELETE", "/v1/tokens/{id}") and granted:
            found["id"] = cast.spare_token()
        if key[0] in ("PATCH", "PUT", "POST"):
            found["path"] = "outputs/written"
        return found

    def content(self, key):
        """Body and headers."""
        name = f"{key[0]} {key[1].rpartition('/')[2]}"
        if key[1].endswith("/files/{path}"):
            return {
                "PATCH": (DATA, {"Content-Range": f"bytes 0-{len(DATA) - 1}/*"}),
                "PUT": (DATA, {"Stoker-Sha256": HASH}),
                "POST": ({"size": len(DATA), "sha256": HASH}, {}),
            }.get(key[0], (None, {}))
        cpus = {"resources": {"cpus": controller_cast.LARGE}}
        documents = {
            "POST tokens": {"role": "join"},
            "POST runs": {"job": cpus},
            "POST changes": {"changes": [{"do": "folder", "path": "outputs/folder"}]},
            "PUT manifest": {"files": 1, "bytes": 1},
            "POST metrics": {"metrics": [{"name": "loss", "value": 0.5}]},
            "POST models": {"name": "m", "run": self.cast.ada_run, "path": "outputs/model"},
            "POST nodes": {"name": f"joined{next(self.cast.numbers)}"},
            "POST poll": {"wait_ms": 0, "attempts": []},
            "POST report": {"attempts": []},
            "PUT {sha256}": controller_cast.SNAPSHOT,
        }
        return documents.get(name), {}

    def begin(self, path, who):
        """The status of an answer that goes on as long as the run."""
        c = self.cast.controller
        connection = http.client.HTTPConnection("127.0.0.1", c.port, timeout=30)
        with contextlib.closing(connection):
            token = self.cast[who]
            connection.request(
                "GET", path, headers={"Authorization": f"Bearer {token}"} if token else {}
            )
            reply = connection.getresponse()
            body = reply.read1(65536)
            return controller.Reply(reply.status, reply.headers, body)

    def ask(self, key, who, granted):
        method, pattern = key
        values = self.values(key, granted)
        path = re.sub(r"\{(\w+)\}", lambda m: str(values[m[1]]), pattern)
        if key == ("POST", "/v1/runs/{run}/files/{path}"):
            path += "?finish=1"
        if key == ("PATCH", "/v1/runs/{run}/files/{path}") and granted:
            drop = {"changes": [{"do": "remove", "path": "outputs/written"}]}
            self.cast.controller.post(
                f"/v1/runs/{self.cast.ada_run}/changes", drop, token=self.cast["ada_run"]
            )
        if path.endswith("/events"):
            return self.begin(path, who)
        body, headers = self.content(key)
        return self.cast.controller.request(
            method, path, body, token=self.cast[who], headers=headers
        )


@pytest.fixture(params=["sqlite", "postgres"])
def cast(make_controller, request):
    options = []
    if request.param == "postgres":
        options = ["--database", request.getfixturevalue("where")]
    c = make_controller(start=False, options=options)
    (c.folder / "controller.yaml").write_text(
        "limits: {user_rate: 100000, node_rate: 100000, lease: 1h}\n"
    )
    cast = controller_cast.Cast(c.start())
    cast.put("ada", "outputs/model/weights", DATA)
    cast.put("ada", "outputs/model-of-nobody", DATA)
    model = {"name": "m", "run": cast.ada_run, "path": "outputs/model"}
    assert c.post("/v1/models", model, token=cast["ada"]).status == 201
    return cast


def test_the_table_is_whole():
    assert sorted(key for key, _ in cells()) == sorted(operations())


def test_everybody_asks_for_everything(cast):
    asking, wrong = Asking(cast), []
    for key, row in cells():
        for who, status in row.items():
            reply = asking.ask(key, who, status < 300)
            if reply.status != status:
                wrong.append(f"{' '.join(key)} as {who}: {reply.status}, not {status}: {reply}")
            text = reply.body.decode()
            if status == 404 and who != "ada":
                assert "ada" not in text.replace(cast.ada_run, ""), (key, who, text)
    assert not wrong, "\n".join(wrong)


def state(cast):
    """What is told of ada's run to ada."""
    get = cast.controller.get
    parts = ("", "/files", "/metrics", "/files/outputs/model/weights")
    return [get(f"/v1/runs/{cast.ada_run}{p}", token=cast["ada"]).body for p in parts]


def test_what_was_refused_was_not_done(cast):
    """None of the refused requests of the table has changed ada's run."""
    asking, before = Asking(cast), state(cast)
    for key, row in cells():
        for who, status in row.items():
            if status >= 400:
                asking.ask(key, who, granted=False)
    assert state(cast) == before
    assert [r["id"] for r in cast.controller.get("/v1/runs", token=cast["bob"]).json["runs"]] == [
        cast.bob_run
    ]


def test_lists_are_of_ones_own(cast):
    def names(what, who):
        rows = cast.controller.get(f"/v1/{what}", token=cast[who]).json[what]
        return {row.get("id", row.get("name")) for row in rows}

    assert names("runs", "ada") == {cast.ada_run, cast.past}
    assert names("runs", "bob") == {cast.bob_run}
    assert names("runs", "admin") == {cast.ada_run, cast.past, cast.bob_run}
    assert names("experiments", "bob") == {"of_bob"}
    asked = "/v1/runs?after=9999999999999:&experiment=of_ada&state=Running"
    assert cast.controller.get(asked, token=cast["bob"]).json["runs"] == []


def test_a_node_speaks_for_what_it_holds_only(cast):
    """Whatever a node says of a run that another holds is passed over, and it is told to forget it."""
    before = state(cast)
    lies = [
        attempt(cast.ada_run, 10**9, "ended", result="Failed", cause={"class": "user"}),
        attempt(cast.ada_run, 10**9, "running", phase="stolen"),
        attempt(cast.ada_run, 10**9, "ended", number=2, result="Completed"),
        attempt("of_nobody_1", 10**9, "ended", result="Completed"),
    ]
    for lie in lies:
        answer = cast.poll("two", lie)
        named = {k: lie[k] for k in ("run", "attempt")}
        assert answer["stale"] == [named] and answer["known"] == [] and answer["starts"] == []
        report = {"attempts": [lie]}
        assert cast.controller.post("/v1/node/report", report, token=cast["two"]).status == 204
    assert state(cast) == before
    # A start is said to its node alone, with its secrets and tokens.
    run = cast.submit("ada", secrets={"password": "hidden"})
    assert run not in json.dumps(cast.poll("two"))
    cast.poll("one", attempt(cast.ada_run, 10, "ended", result="Completed"))
    assert "hidden" not in json.dumps(cast.poll("two"))
    (start,) = cast.poll("one")["starts"]
    assert (start["run"], start["secrets"]) == (run, {"password": "hidden"})
    assert "hidden" not in str(state(cast))
    for who in ("admin", "ada", "one"):
        assert "hidden" not in cast.controller.get(f"/v1/runs/{run}", token=cast[who]).body.decode()


def test_tokens_end_with_their_attempt(cast):
    """At once; until then also those of a start that was said again are good."""
    get = cast.controller.get
    assert get(f"/v1/runs/{cast.ada_run}", token=cast["ada_job"]).status == 200
    cast.end(cast.ada_run, "one")
    for who in ("ada_run", "ada_job"):
        reply = get(f"/v1/runs/{cast.ada_run}", token=cast[who])
        assert (reply.status, reply.code) == (409, "stale")
    run = cast.submit("ada")
    (first,) = cast.poll("one")["starts"]
    (second,) = cast.poll("one")["starts"]
    assert first["token"] != second["token"]
    for start in (first, second):
        assert get(f"/v1/runs/{run}", token=start["token"]).status == 200
    cast.end(run, "one")
    for start in (first, second):
        assert get(f"/v1/runs/{run}", token=start["token"]).code == "stale"


def test_a_removed_node_is_nobody(cast):
    assert cast.controller.delete(f"/v1/nodes/{cast.nodes['one']}").status == 204
    assert cast.controller.get(f"/v1/runs/{cast.ada_run}", token=cast["one"]).status == 401
    joined = {"name": "two", "replace": False}
    assert cast.controller.post("/v1/nodes", joined, token=cast["join"]).code == "conflict"
    assert cast.controller.post("/v1/nodes", {**joined, "replace": True}).status == 201
    assert cast.controller.post("/v1/node/poll", {"attempts": []}, token=cast["two"]).status == 401


def test_a_model_has_its_own_files_only(cast):
    """Everybody sees models; of the run, no more than what lies below the model's path."""
    get, files = cast.controller.get, "/v1/models/m/1/files"
    listed = get(files, token=cast["bob"]).json["files"]
    assert [f["path"] for f in listed] == ["outputs/model/weights"]
    assert get(f"{files}?prefix=-of", token=cast["bob"]).json["files"] == []
    for path in ("outputs/model-of-nobody", "user_logs/std_log.txt", "outputs"):
        assert get(f"{files}/{path}", token=cast["bob"]).code == "not_found"
    assert get(f"{files}/outputs/model/weights", token=cast["bob"]).body == DATA


def test_names_as_long_as_they_may_be(cast):
    """Names are keys, whose length PostgreSQL bounds: what is allowed fits, what does not is refused."""
    c, random = cast.controller, Random(5)  # nothing that could be compressed
    long = "".join(random.choice(string.ascii_letters) for _ in range(2501 - len("outputs/")))
    run = cast.submit("ada", job={"experiment": "e" * 100, "resources": {"memory": "1m"}})
    cast.end(cast.ada_run, "one")
    (start,) = cast.poll("one")["starts"]
    cast.poll("one", attempt(run, 1, "running"))
    url, first = f"/v1/runs/{run}/files/outputs/", {"Content-Range": "bytes 0-0/*"}
    assert c.patch(url + long[1:], b"x", token=start["token"], headers=first).status == 200
    assert c.patch(url + long, b"x", token=start["token"], headers=first).status == 400
    for name, status in ((long[:1000], 200), (long[:1001], 413)):
        said = {"attempts": [attempt(run, 2, "running")], "images": [name], "environments": [name]}
        assert c.post("/v1/node/poll", said, token=cast["one"]).status == status
    metric = {"metrics": [{"name": long[:255], "value": 1}]}
    assert c.post(f"/v1/runs/{run}/metrics", metric, token=start["token"]).status == 204
    model = {"name": long[:255], "run": run, "path": f"outputs/{long[1:]}"}
    assert c.post("/v1/models", model, token=cast["ada"]).status == 201
    assert c.post("/v1/nodes", {"name": long[:128]}, token=cast["join"]).status == 201
    again = {"Idempotency-Key": long[:200]}
    for status in (201, 200):
        assert c.post("/v1/runs", {"job": {}}, token=cast["ada"], headers=again).status == status
