# SPDX-License-Identifier: Apache-2.0
"""Everybody who talks to a controller: users, nodes and the runs that these hold, each with a token, made
through the API alone. `ada` and the node `one` have `ada_run`; `bob` and `two` have `bob_run`."""

import hashlib
import itertools

LARGE = 90_000  # CPUs that no node has
SNAPSHOT = b"ada's source".ljust(512, b"\0")


class Cast:
    def __init__(self, controller):
        self.controller, self.numbers = controller, itertools.count()
        c = controller
        self.tokens = {"admin": c.admin, "join": c.join, "none": "", "garbage": "stk_u_nonsense"}
        for user in ("ada", "bob", "revoked"):
            made = c.post("/v1/tokens", {"role": "user", "user": user}).json
            self.tokens[user] = made["token"]
        c.delete(f"/v1/tokens/{made['id']}")
        self.nodes = {}
        self.snapshot = hashlib.sha256(SNAPSHOT).hexdigest()
        assert c.put(f"/v1/snapshots/{self.snapshot}", SNAPSHOT, token=self["ada"]).status == 201
        # Each run fills the node that there is, so the next one goes to the other.
        self.add_node("one")
        self.past = self.hold("ada", "one", "past")
        self.end(self.past, "one")
        self.ada_run = self.hold("ada", "one", "ada", snapshot=self.snapshot)
        self.add_node("two")
        self.bob_run = self.hold("bob", "two", "bob")

    def __getitem__(self, who):
        return self.tokens[who]

    # ---- nodes

    def add_node(self, name):
        made = self.controller.post("/v1/nodes", {"name": name}, token=self["join"])
        assert made.status == 201, made
        self.tokens[name], self.nodes[name] = made.json["token"], made.json["node"]
        self.poll(name)
        return made.json["node"]

    def poll(self, name, *attempts):
        resources = {"cpus": 1, "memory": 1 << 30, "disk": 1 << 30}
        said = {"wait_ms": 0, "instance": name, "resources": resources, "attempts": attempts}
        reply = self.controller.post("/v1/node/poll", said, token=self[name])
        assert reply.status == 200, reply
        return reply.json

    def spare_node(self):
        """One that has nothing; the token is `spare`'s."""
        self.tokens["spare"] = ""
        name = f"spare{next(self.numbers)}"
        made = self.controller.post("/v1/nodes", {"name": name}, token=self["join"]).json
        self.tokens["spare"] = made["token"]
        return made["node"]

    def spare_token(self):
        """The id of one that nobody uses."""
        return self.controller.post("/v1/tokens", {"role": "join"}).json["id"]

    # ---- runs

    def submit(self, user, cpus=1, **more):
        job = {"experiment": f"of_{user}", "resources": {"cpus": cpus, "memory": "1m"}}
        reply = self.controller.post("/v1/runs", {"job": job, **more}, token=self[user])
        assert reply.status == 201, reply
        return reply.json["id"]

    def hold(self, user, node, name, **more):
        """A run of `user` that `node` has accepted; its tokens are NAME_run and NAME_job."""
        run = self.submit(user, **more)
        (start,) = self.poll(node)["starts"]
        assert start["run"] == run
        self.tokens[f"{name}_run"], self.tokens[f"{name}_job"] = start["token"], start["job_token"]
        self.poll(node, attempt(run, 1, "running"))
        return run

    def end(self, run, node):
        self.poll(node, attempt(run, 2, "ended", result="Completed"))

    def ended_run(self, user="ada"):
        run = self.submit(user, LARGE)
        self.controller.post(f"/v1/runs/{run}/cancel", token=self[user])
        return run

    def put(self, name, path, data, run=None):
        """A finished file, by the run token of `name`."""
        run = run or getattr(self, f"{name}_run")
        headers = {"Stoker-Sha256": hashlib.sha256(data).hexdigest()}
        reply = self.controller.put(
            f"/v1/runs/{run}/files/{path}", data, token=self[f"{name}_run"], headers=headers
        )
        assert reply.status == 204, reply


def attempt(run, sequence, state, number=1, **more):
    return {"run": run, "attempt": number, "sequence": sequence, "state": state, **more}
