# SPDX-License-Identifier: Apache-2.0
"""Controllers that end, and a database that goes away, under load: what was acknowledged is there,
nothing is done twice, and whoever waits moves over."""

import random
import signal
import threading
import time

import load


def wait_for(what, seconds=20):
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_sqlite_controller_killed_under_load(make_controller, pytestconfig):
    c = make_controller(start=False)
    (c.folder / "controller.yaml").write_text(load.limits())
    c.start()
    work = load.Load([c])
    rounds = pytestconfig.getoption("--campaign")
    checked = 0
    try:
        for _ in range(rounds):
            time.sleep(random.uniform(0.05, 0.6))
            with work.lock:
                before = set(list(work.runs)[-30:])
            c.kill()
            c.start()
            checked += work.check(before)
    finally:
        count = work.stop()
    print(f"{rounds} rounds, {count} runs, {checked} checks")
    assert count >= rounds and sum(n.failures for n in work.nodes + work.users) >= rounds


def test_postgres_restarts_under_load(make_shared, shared_server):
    c = make_shared()
    work = load.Load([c], pause=0.02)
    try:
        for how in (signal.SIGINT, signal.SIGKILL, signal.SIGINT):
            time.sleep(random.uniform(1, 2))
            shared_server.restart(how)
            work.check()
    finally:
        count = work.stop()
    assert count > 20


def test_postgres_away_for_longer_than_a_lease(make_shared, shared_server):
    """No run is taken from its node: it could not renew its lease."""
    c = make_shared(lease="5s")
    work = load.Load([c], pause=0.05)
    try:
        time.sleep(1)
        shared_server.stop()
        time.sleep(14)
        shared_server.start()
        time.sleep(2)
    finally:
        count = work.stop()
    assert count


def test_two_controllers_under_load_and_one_killed(make_shared):
    a, b = make_shared(), make_shared()
    work = load.Load([a, b], pause=0.02)
    for client in work.nodes[1:] + work.users[1:]:
        client.at = 1
    try:
        for c in (a, b, a):
            time.sleep(random.uniform(1, 2))
            c.kill()
            time.sleep(1)
            work.check()
            c.start()
    finally:
        count = work.stop()
    assert count > 20
    for client in work.nodes + work.users:
        assert client.failures and set(client.answers) == {0, 1}


def test_followers_and_nodes_move_over(make_shared):
    """A node at one, its follower at the other; each is killed once."""
    a, b = make_shared(), make_shared()
    node = load.join([b, a], a.join, "node")
    user = load.Client([a, b], a.make_token("user", "ada"))
    polled = {}

    def poll(attempts, wait_ms=20000):
        body = {"boot": "b", "instance": "i", "wait_ms": wait_ms, "attempts": attempts,
                "resources": {"cpus": 1, "memory": 2**34}}  # fmt: skip
        polled["answer"] = node.request("POST", "/v1/node/poll", body, timeout=60).json
        return polled["answer"]

    poll([], 0)
    waiting = threading.Thread(target=poll, args=([],))
    waiting.start()
    time.sleep(0.5)
    begun = time.monotonic()
    run = user.request("POST", "/v1/runs", {"job": {"experiment": "e"}}).json["id"]
    waiting.join()
    assert time.monotonic() - begun < 1, "the other controller's poll was not woken"
    [start] = polled["answer"]["starts"]
    said = {"run": run, "attempt": 1, "sequence": 1, "state": "running"}
    poll([said], 0)
    follower = load.Follower(user, run)
    path, token = f"/v1/runs/{run}/files/user_logs/std_log.txt", start["token"]
    sent = b""

    def print_line(text):
        nonlocal sent
        where = {"Content-Range": f"bytes {len(sent)}-{len(sent) + len(text) - 1}/*"}
        reply = node.request("PATCH", path, text, token=token, headers=where)
        assert reply.status == 200, reply
        sent += text
        begun = time.monotonic()
        wait_for(lambda: follower.log == sent)
        return time.monotonic() - begun

    assert print_line(b"first\n") < 1
    for c in (a, b):
        before, failures = follower.breaks, node.failures
        waiting = threading.Thread(target=poll, args=([said], 3000))
        waiting.start()
        time.sleep(0.5)
        c.kill()
        print_line(f"{c.port} is gone\n".encode())
        waiting.join()
        assert follower.breaks > before or node.failures > failures
        c.start()
        print_line(f"{c.port} is back\n".encode())
    metric = {"metrics": [{"name": "loss", "value": 0.5}]}
    assert node.request("POST", f"/v1/runs/{run}/metrics", metric, token=token).status == 204
    wait_for(lambda: "metric" in [kind for _, kind, _ in follower.events])
    said.update(sequence=2, state="ended", result="Completed")
    begun = time.monotonic()
    [known] = poll([said], 0)["known"]
    follower.wait()
    assert known["sequence"] == 2
    assert follower.log == sent
    assert max(follower.ends.values()) - begun < 0.5, "told late of the end"
    states = [data["state"] for _, kind, data in follower.events if kind == "state"]
    assert states == ["NotStarted", "Starting", "Running", "Completed"]
    [told] = [data["metrics"] for _, kind, data in follower.events if kind == "metric"]
    assert (told[0]["name"], told[0]["value"]) == ("loss", 0.5)


def test_requests_at_once_at_both(make_shared):
    """The same key, the same name, the same metric: one wins, and nobody gets an error."""
    a, b = make_shared(), make_shared()
    user = a.make_token("user", "ada")
    replies = []

    def together(count, *request, **options):
        replies.clear()
        threads = [
            threading.Thread(
                target=lambda c=(a, b)[i % 2]: replies.append(c.request(*request, **options))
            )
            for i in range(count)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return [reply.status for reply in replies]

    for i in range(10):
        body, key = {"job": {"experiment": "e"}}, {"Idempotency-Key": f"k{i}"}
        statuses = together(8, "POST", "/v1/runs", body, token=user, headers=key)
        assert sorted(statuses) == [200] * 7 + [201], replies
        assert len({reply.json["id"] for reply in replies}) == 1
        body = {"name": f"node{i}"}
        statuses = together(8, "POST", "/v1/nodes", body, token=a.join)
        assert sorted(statuses) == [201] + [409] * 7, replies
    run = a.get("/v1/runs").json["runs"][0]["id"]
    body = {"metrics": [{"name": "loss", "value": i} for i in range(10)]}
    assert together(16, "POST", f"/v1/runs/{run}/metrics", body, token=user) == [204] * 16
    assert len(b.get(f"/v1/runs/{run}/metrics").json["metrics"]) == 160
    node = load.join([a], a.join, "does")
    [start] = load.starts_of(node)
    path, token = f"/v1/runs/{start['run']}/files/outputs/m", start["token"]
    where = {"Content-Range": "bytes 0-0/*"}
    assert set(together(8, "PATCH", path, b"x", token=token, headers=where)) == {200, 416}
    body = {"name": "m", "run": start["run"], "path": "outputs/m"}
    assert together(16, "POST", "/v1/models", body, token=user) == [201] * 16
    assert sorted(reply.json["version"] for reply in replies) == list(range(1, 17))
