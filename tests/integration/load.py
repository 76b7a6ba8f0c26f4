# SPDX-License-Identifier: Apache-2.0
"""Users and nodes that speak the protocol with raw requests, and remember what was acknowledged to
them. A request is made again until it is answered, at the next controller of the list each time."""

import collections
import contextlib
import hashlib
import http.client
import itertools
import json
import random
import threading
import time

PATIENCE_S = 60


def limits(**more):
    """For clients that ask as fast as they can."""
    values = {"user_rate": 10000, "node_rate": 10000, **more}
    return "limits: {" + ", ".join(f"{k}: {v}" for k, v in values.items()) + "}\n"


class Client:
    """`answers` counts what was answered by which controller."""

    def __init__(self, controllers, token):
        self.controllers, self.token, self.at = list(controllers), token, 0
        self.failures, self.answers = 0, collections.Counter()

    def request(self, method, path, body=None, *, token=None, headers=None, timeout=20):
        end = time.monotonic() + PATIENCE_S
        while True:
            try:
                c = self.controllers[self.at]
                reply = c.request(
                    method, path, body, token=token or self.token, headers=headers, timeout=timeout
                )
                if reply.status not in (429, 503):
                    assert reply.status < 500, (method, path, reply)
                    self.answers[self.at] += 1
                    return reply
                why = reply
            except (OSError, http.client.HTTPException) as error:
                why = error
                self.failures += 1
                self.at = (self.at + 1) % len(self.controllers)
            assert time.monotonic() < end, (method, path, why)
            time.sleep(random.uniform(0.01, 0.1))


def join(controllers, token, name):
    """A node's client."""
    body = {"name": name, "version": "1", "replace": True}
    made = Client(controllers, token).request("POST", "/v1/nodes", body)
    assert made.status == 201, made
    return Client(controllers, made.json["token"])


def starts_of(node):
    """What a node with one CPU is told to start."""
    body = {"wait_ms": 5000, "attempts": [], "resources": {"cpus": 1, "memory": 2**34}}
    return node.request("POST", "/v1/node/poll", body).json["starts"]


def line_of(run, number):
    return f"{run} line {number}\n".encode()


class Record:
    """What was acknowledged of one run."""

    def __init__(self, key):
        self.key, self.log, self.metrics, self.finished, self.ended = key, 0, 0, False, False


class Load:
    """`users` threads submit runs, `nodes` threads do them: lines to a log, metrics, a file, the
    end. No run is to be done twice, none to be lost. stop() waits until all of them have ended."""

    LINES, QUEUE = 6, 12

    def __init__(self, controllers, *, users=2, nodes=3, name="n", pause=0.0):
        self.controllers, self.pause = controllers, pause
        first = controllers[0]
        self.admin = Client(controllers, first.admin)
        self.runs, self.lock, self.errors = {}, threading.Lock(), []
        self.submitting, self.working, self.keys = True, True, itertools.count()
        self.nodes = [join(controllers, first.join, f"{name}{i}") for i in range(nodes)]
        owners = [first.make_token("user", f"{name}{i}") for i in range(users)]
        self.users = [Client(controllers, token) for token in owners]
        self.threads = [
            threading.Thread(target=self._run, args=(self._submit, u)) for u in self.users
        ]
        self.threads += [
            threading.Thread(target=self._run, args=(self._work, n)) for n in self.nodes
        ]
        for thread in self.threads:
            thread.start()

    def _run(self, work, client):
        try:
            work(client)
        except BaseException as error:
            self.errors.append(error)
            self.submitting = self.working = False

    def _submit(self, client):
        while self.submitting:
            key = f"key-{next(self.keys)}"
            body = {"job": {"experiment": "load", "resources": {"cpus": 1}}}
            made = client.request("POST", "/v1/runs", body, headers={"Idempotency-Key": key})
            assert made.status in (200, 201), made
            with self.lock:
                record = self.runs.setdefault(made.json["id"], Record(key))
                assert record.key in (None, key), "two submissions made one run"
                record.key = key
            while self.submitting and self._waiting() > self.QUEUE:
                time.sleep(0.01)

    def _waiting(self):
        with self.lock:
            return sum(not record.ended for record in self.runs.values())

    def _work(self, client):
        held, says = {}, {}  # run -> token; run -> its last words
        document = {"boot": "b", "instance": "i", "wait_ms": 100, "version": "1",
                    "resources": {"cpus": 4, "memory": 2**34}}  # fmt: skip
        while self.working:
            answer = client.request(
                "POST", "/v1/node/poll", {**document, "attempts": list(says.values())}
            )
            assert answer.status == 200, answer
            answer = answer.json
            assert not answer["stale"], (answer["stale"], says)
            for known in answer["known"]:
                if says[known["run"]]["state"] == "ended":
                    del says[known["run"]], held[known["run"]]
                    self._record(known["run"]).ended = True
            for start in answer["starts"]:
                run = start["run"]
                assert start["attempt"] == 1 and not start["restore"], start
                if run not in held:
                    held[run] = start["token"]
                    says[run] = {"run": run, "attempt": 1, "sequence": 1, "state": "accepted"}
            for run in [r for r, s in says.items() if s["state"] == "running"]:
                self._do(client, run, held[run])
                says[run].update(sequence=3, state="ended", result="Completed")
            for said in says.values():
                if said["state"] == "accepted":
                    said.update(sequence=2, state="running")

    def _record(self, run):
        with self.lock:
            return self.runs.setdefault(run, Record(None))  # its submission is not answered yet

    def _do(self, client, run, token):
        record = self._record(run)
        path = f"/v1/runs/{run}/files/user_logs/std_log.txt"
        for number in range(self.LINES):
            self._append(client, path, token, record.log, line_of(run, number))
            record.log += len(line_of(run, number))
            time.sleep(random.uniform(0, self.pause))
        body = {"metrics": [{"name": "loss", "value": 0.5, "step": 1}]}
        assert client.request("POST", f"/v1/runs/{run}/metrics", body, token=token).status == 204
        record.metrics += 1
        digest = hashlib.sha256(log_of(run, self.LINES)).hexdigest()
        body = {"size": record.log, "sha256": digest, "part": False, "mode": 0o644, "mtime_ns": 1}
        done = client.request("POST", path + "?finish=1", body, token=token)
        assert done.status in (200, 204), done
        record.finished = True

    def _append(self, client, path, token, offset, data):
        """As the protocol says: the server tells where to go on."""
        end = offset + len(data)
        while offset < end:
            where = {"Content-Range": f"bytes {offset}-{end - 1}/*"}
            piece = data[len(data) - (end - offset) :]
            reply = client.request("PATCH", path, piece, token=token, headers=where)
            if reply.status == 416:
                there = int(reply.headers["Upload-Offset"])
                assert end - len(data) <= there <= end, (there, offset, end)
                offset = there
            else:
                assert reply.status == 200, reply
                offset = end

    def check(self, runs=None):
        """What was acknowledged is there. Returns how many runs were looked at."""
        with self.lock:
            facts = {r: dict(vars(s)) for r, s in self.runs.items() if runs is None or r in runs}
        for run, fact in facts.items():
            shown = self.admin.request("GET", f"/v1/runs/{run}")
            assert shown.status == 200, (run, fact, shown)
            assert len(shown.json["attempts"]) <= 1, shown.json["attempts"]
            if fact["ended"]:
                assert shown.json["state"] == "Completed", shown.json
            if fact["log"]:
                path = f"/v1/runs/{run}/files/user_logs/std_log.txt"
                got = self.admin.request("GET", path)
                assert got.body == log_of(run, self.LINES)[: len(got.body)]
                assert len(got.body) >= fact["log"], (run, fact, len(got.body))
                if fact["finished"]:
                    assert got.headers["ETag"], fact
            if fact["metrics"]:
                got = self.admin.request("GET", f"/v1/runs/{run}/metrics").json["metrics"]
                assert len(got) >= fact["metrics"]
        return len(facts)

    def stop(self):
        self.submitting = False
        end = time.monotonic() + PATIENCE_S
        while not self.errors and not all(r.ended for r in list(self.runs.values())):
            assert time.monotonic() < end, [vars(r) for r in self.runs.values() if not r.ended]
            time.sleep(0.05)
        self.working = False
        for thread in self.threads:
            thread.join()
        if self.errors:
            raise self.errors[0]
        keys = [r.key for r in self.runs.values()]
        assert None not in keys and len(set(keys)) == len(keys)
        # Each submission made one run, also where the answer was lost.
        assert sorted(run["id"] for run in self.all_runs()) == sorted(self.runs)
        return self.check()

    def all_runs(self):
        after = ""
        while after is not None:
            path = "/v1/runs?experiment=load&limit=1000" + (f"&after={after}" if after else "")
            page = self.admin.request("GET", path).json
            yield from page["runs"]
            after = page["next"]


def log_of(run, lines):
    return b"".join(line_of(run, number) for number in range(lines))


class Follower:
    """The bytes of a log and the events of a run, from where it was after each break."""

    def __init__(self, client, run, path="user_logs/std_log.txt"):
        self.client, self.run, self.path = client, run, path
        self.log, self.events, self.errors, self.breaks = b"", [], [], 0
        self.ends = {}  # when each was told of the run's end
        self.threads = [
            threading.Thread(target=self._keep, args=(self._read_log,)),
            threading.Thread(target=self._keep, args=(self._read_events,)),
        ]
        for thread in self.threads:
            thread.start()

    def _keep(self, read):
        end, at = time.monotonic() + PATIENCE_S, self.client.at
        while time.monotonic() < end:
            c = self.client.controllers[at % len(self.client.controllers)]
            connection = http.client.HTTPConnection("127.0.0.1", c.port, timeout=30)
            with contextlib.closing(connection):
                try:
                    read(connection)
                    self.ends[read.__name__] = time.monotonic()
                    return
                except (OSError, http.client.HTTPException):
                    self.breaks += 1
            at += 1
            time.sleep(0.05)
        self.errors.append(f"{read.__name__}: no end")

    def _get(self, connection, path, **headers):
        headers["Authorization"] = f"Bearer {self.client.token}"
        connection.request("GET", path, headers=headers)
        reply = connection.getresponse()
        if reply.status != 200:
            raise http.client.HTTPException(reply.status)
        return reply

    def _read_log(self, connection):
        path = f"/v1/runs/{self.run}/files/{self.path}?follow=1&offset={len(self.log)}"
        reply = self._get(connection, path)
        while piece := reply.read1(65536):
            self.log += piece

    def _read_events(self, connection):
        last = {"Last-Event-ID": str(self.events[-1][0])} if self.events else {}
        reply = self._get(connection, f"/v1/runs/{self.run}/events", **last)
        event = {}
        while line := reply.readline():
            name, _, value = line.decode().rstrip("\n").partition(": ")
            if name:
                event[name] = value
            elif event:
                self.events.append((int(event["id"]), event["event"], json.loads(event["data"])))
                event = {}
        if not self.events or self.events[-1][1] != "end":
            raise http.client.HTTPException("the stream ended before the run")

    def wait(self):
        for thread in self.threads:
            thread.join()
        assert not self.errors, self.errors
        numbers = [number for number, _, _ in self.events]
        assert numbers == sorted(set(numbers))
        return self
