# SPDX-License-Identifier: Apache-2.0
"""An attempt that has lost its lease: each of its writes is refused, also when its node is back;
what the next attempt writes stays. Leases and models, on SQLite and PostgreSQL."""

import hashlib
import time

import load
import pytest

LOG, MODEL = "user_logs/std_log.txt", "outputs/model.bin"


@pytest.fixture(params=["sqlite", "postgres"])
def site(request, make_controller):
    """A controller whose leases are short."""
    if request.param == "postgres":
        return request.getfixturevalue("make_shared")(lease="2s")
    c = make_controller(start=False)
    (c.folder / "controller.yaml").write_text(load.limits(lease="2s"))
    return c.start()


class Node:
    def __init__(self, c, name):
        self.c, self.client = c, load.join([c], c.join, name)
        self.said, self.tokens = {}, {}
        self.poll()

    def poll(self, wait_ms=0):
        body = {"boot": "b", "instance": "i", "wait_ms": wait_ms, "version": "1",
                "resources": {"cpus": 2, "memory": 2**34},
                "attempts": list(self.said.values())}  # fmt: skip
        answer = self.client.request("POST", "/v1/node/poll", body).json
        for start in answer["starts"]:
            run = start["run"]
            self.tokens[run] = start["token"]
            self.say(run, start["attempt"], "accepted")
        return answer

    def say(self, run, attempt, state, **more):
        self.said[run] = {"run": run, "attempt": attempt, "state": state, **more}
        self.said[run]["sequence"] = time.time_ns() // 1000

    def wait_for_start(self, run):
        end = time.monotonic() + 10
        while run not in self.tokens:
            assert time.monotonic() < end
            self.poll(200)
        self.poll()
        return self.tokens[run]


def append(c, run, path, token, offset, data, part=False):
    where = {"Content-Range": f"bytes {offset}-{offset + len(data) - 1}/*"}
    path = f"/v1/runs/{run}/files/{path}" + ("?part=1" if part else "")
    return c.patch(path, data, token=token, headers=where)


def finish(c, run, path, token, data, part=False):
    body = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest(), "part": part,
            "mode": 0o644, "mtime_ns": 1}  # fmt: skip
    return c.post(f"/v1/runs/{run}/files/{path}?finish=1", body, token=token)


def write_all(c, run, token, data):
    """What a writer may do, each in turn."""
    base = f"/v1/runs/{run}"
    digest = {"Stoker-Sha256": hashlib.sha256(data).hexdigest()}
    yield append(c, run, LOG, token, 0, data)
    yield append(c, run, MODEL, token, 0, data)
    yield finish(c, run, MODEL, token, data)
    yield append(c, run, MODEL, token, 0, data, part=True)
    yield finish(c, run, MODEL, token, data, part=True)
    yield c.put(
        f"{base}/files/outputs/small?mode=420&mtime_ns=1", data, token=token, headers=digest
    )
    change = {"do": "folder", "path": "outputs/folder", "mode": 493}
    yield c.post(f"{base}/changes", {"changes": [change]}, token=token)
    yield c.post(f"{base}/metrics", {"metrics": [{"name": "x", "value": 1}]}, token=token)
    yield finish(c, run, LOG, token, data)
    yield c.put(f"{base}/manifest", b'{"files": 3, "bytes": 3}', token=token)
    yield c.get(base, token=token)
    yield c.get(f"{base}/files", token=token)


def refused(replies):
    return all((r.status, r.code) == (409, "stale") for r in replies)


def test_lost_lease(site):
    c = site
    user = c.make_token("user", "ada")
    old = Node(c, "old")
    run = c.post("/v1/runs", {"job": {"experiment": "e"}}, token=user).json["id"]
    stale = old.wait_for_start(run)
    assert append(c, run, LOG, stale, 0, b"of the first\n").status == 200
    assert append(c, run, MODEL, stale, 0, b"half a mod").status == 200
    follower = load.Follower(load.Client([c], user), run)
    # It is silent; the other one gets the run.
    new = Node(c, "new")
    token = new.wait_for_start(run)
    assert new.said[run]["attempt"] == 2
    assert refused(write_all(c, run, stale, b"of the first\n"))
    got = c.get(f"/v1/runs/{run}/files/attempts/1/{LOG}", token=user)
    assert got.body == b"of the first\n"

    # The second one says that it has nothing of the log yet, and begins anew; the model goes on.
    assert append(c, run, LOG, token, 0, b"of the second\n").status == 200
    assert append(c, run, MODEL, token, 0, b"x").code == "offset"
    assert append(c, run, MODEL, token, 10, b"el").status == 200
    assert finish(c, run, MODEL, token, b"half a model").status == 204

    # The first is back: what it says is passed over, and it is told to drop it.
    old.say(run, 1, "ended", result="Failed", cause={"class": "user", "code": "Exit"})
    body = {"attempts": list(old.said.values())}
    assert old.client.request("POST", "/v1/node/report", body).status == 204
    answer = old.poll()
    assert [(s["run"], s["attempt"]) for s in answer["stale"]] == [(run, 1)]
    assert not answer["known"] and not answer["starts"]
    assert refused(write_all(c, run, stale, b"of the first\n"))
    node = old.client.token
    assert c.get(f"/v1/runs/{run}", token=node).status == 404, "it does not hold it any more"

    new.say(run, 2, "running")
    new.poll()
    assert finish(c, run, LOG, token, b"of the second\n").status == 204
    new.say(run, 2, "ended", result="Completed")
    assert [k["run"] for k in new.poll()["known"]] == [run]
    assert refused(write_all(c, run, token, b"after the end\n"))
    follower.wait()
    shown = c.get(f"/v1/runs/{run}", token=user).json
    assert shown["state"] == "Completed" and shown["node"] == "new"
    assert [(a["attempt"], a["node"], a["state"]) for a in shown["attempts"]] == [
        (1, "old", "lost"),
        (2, "new", "ended"),
    ]
    assert shown["attempts"][0]["cause"]["code"] == "NodeLost"
    files = {f["path"]: f for f in c.get(f"/v1/runs/{run}/files", token=user).json["files"]}
    assert sorted(files) == [f"attempts/1/{LOG}", MODEL, LOG]
    assert c.get(f"/v1/runs/{run}/files/{LOG}", token=user).body == b"of the second\n"
    assert c.get(f"/v1/runs/{run}/files/{MODEL}", token=user).body == b"half a model"
    assert c.get(f"/v1/runs/{run}/metrics", token=user).json == {"metrics": []}


def test_a_long_poll_does_not_outlast_the_lease(site):
    """It is answered in time to renew it."""
    c = site
    node = Node(c, "n")
    run = c.post("/v1/runs", {"job": {"experiment": "e"}}).json["id"]
    node.wait_for_start(run)
    node.say(run, 1, "running")
    end = time.monotonic() + 6
    while time.monotonic() < end:
        begun = time.monotonic()
        assert not node.poll(30000)["stale"]
        assert time.monotonic() - begun < 2
    assert c.get(f"/v1/runs/{run}").json["attempt"] == 1


def test_models(site):
    c = site
    user, other = c.make_token("user", "ada"), c.make_token("user", "bob")
    node = Node(c, "n")
    run = c.post("/v1/runs", {"job": {"experiment": "e"}}, token=user).json["id"]
    token = node.wait_for_start(run)
    below = ["outputs/model/a", "outputs/model/b/c"]
    for path in [*below, "outputs/model-1", "outputs/model.txt", "outputs/model2/a", "outputs/n"]:
        data = path.encode()
        assert append(c, run, path, token, 0, data).status == 200
        assert finish(c, run, path, token, data).status == 204

    def register(path, name="m", token=user):
        return c.post("/v1/models", {"name": name, "run": run, "path": path}, token=token)

    assert [register("outputs/model").json["version"] for _ in range(3)] == [1, 2, 3]
    assert register("outputs/model", token=other).status == 404
    assert register("outputs/mode").status == 404
    files = c.get("/v1/models/m/2/files", token=other).json["files"]
    assert [f["path"] for f in files] == below
    page = c.get("/v1/models/m/2/files?limit=1", token=other).json
    assert [f["path"] for f in page["files"]] == below[:1] and page["next"] == below[0]
    page = c.get(f"/v1/models/m/2/files?after={below[0]}", token=other).json
    assert [f["path"] for f in page["files"]] == below[1:] and page["next"] is None
    assert c.get("/v1/models/m/2/files?prefix=/b", token=other).json["files"] == files[1:]
    assert c.get(f"/v1/models/m/2/files/{below[1]}", token=other).body == below[1].encode()
    for path in ("outputs/model2/a", "outputs/model.txt", "outputs/n"):
        assert c.get(f"/v1/models/m/2/files/{path}", token=other).status == 404
    assert register("outputs/n", "one").json["version"] == 1
    files = c.get("/v1/models/one/1/files", token=other).json["files"]
    assert [f["path"] for f in files] == ["outputs/n"]
    node.say(run, 1, "ended", result="Completed")
    node.poll()
    assert c.delete(f"/v1/runs/{run}", token=user).code == "conflict"
