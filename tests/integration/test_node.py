# SPDX-License-Identifier: Apache-2.0
"""A node and its controller: what the node has, several jobs at once, draining, signing off, the local
socket, progress."""

import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import time

import ociimage
import pytest
import registries
from test_agent import agent
from test_job_devices import gpus  # noqa: F401
from test_run import _busybox, busybox, busybox_tar, runs, wait_for, write_job  # noqa: F401

from controller import controller, make_controller  # noqa: F401


class User:
    """Somebody elsewhere who has logged in: a stoker with an address and a token."""

    def __init__(self, stoker, controller, role="user"):  # noqa: F811
        self.stoker = stoker
        token = controller.admin if role == "admin" else controller.make_token(role, user="ada")
        self.environment = {"STOKER_URL": controller.url, "STOKER_TOKEN": token}

    def __call__(self, *args, **options):
        return self.stoker(*args, env=self.environment, **options)

    def fails(self, *args, **options):
        return self.stoker.fails(*args, env=self.environment, **options)

    def node(self, name="alpha"):
        """As `stoker nodes` has it."""
        nodes = json.loads(self("nodes", "--json").stdout)["nodes"]
        (found,) = (n for n in nodes if n["name"] == name)
        return found

    def run(self, name):
        return json.loads(self("show", "--json", name).stdout)

    def submit(self, job):
        return self("submit", job).stdout.strip()

    def wait_for_state(self, name, *states, seconds=60):
        wait_for(lambda: self.run(name)["state"] in states, f"{name}: {states}", seconds)


@pytest.fixture
def machine(stoker, controller):  # noqa: F811
    """A node that has joined."""
    stoker("join", controller.url, "--name", "alpha", input=controller.join + "\n")
    return stoker


@pytest.fixture
def user(make_stoker, controller):  # noqa: F811
    return User(make_stoker(), controller)


@pytest.fixture
def admin(user, controller):  # noqa: F811
    return User(user.stoker, controller, "admin")


def ask(stoker, request, receive=True):
    """Bytes to the agent's socket, and what comes back."""
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(20)
        folder = os.open(stoker.run_dir, os.O_PATH)
        try:
            s.connect(f"/proc/self/fd/{folder}/agent.sock")
        finally:
            os.close(folder)
        s.sendall(request)
        return b"".join(iter(lambda: s.recv(65536), b"")) if receive else b""


def curl(stoker, path, *options):
    done = subprocess.run(
        ["curl", "-sS", *options, "--unix-socket", stoker.run_dir / "agent.sock"]
        + [f"http://agent{path}"],
        capture_output=True,
        text=True,
        timeout=20,
        check=True,
    )
    return done.stdout


def metrics(stoker):
    lines = curl(stoker, "/metrics").splitlines()
    return {k: float(v) for k, v in (x.rsplit(" ", 1) for x in lines if x[:1] != "#")}


def in_touch(stoker):
    wait_for(lambda: (stoker.run_dir / "agent.sock").exists(), "the socket")
    wait_for(lambda: metrics(stoker)["stoker_agent_link_up"] == 1, "the controller", 20)


# ---- what a node has


def test_resources(machine, user, controller, gpus):  # noqa: F811
    """CPUs, memory, disk, GPUs and labels, as users see them."""
    labels = ["--label", "zone=north", "--label", "rack=7"]
    machine("join", controller.url, "--name", "alpha", "--replace", *labels, input=controller.join)
    config = json.loads(machine.config_path.read_text())
    machine.configure(config, labels={"rack": "8", "gpu.type": "none at all"})
    with agent(machine):
        wait_for(lambda: user.node()["state"] == "Ready", "the node")
        node = user.node()
        table = user("nodes").stdout.splitlines()
    has = node["resources"]
    memory = int(re.search(r"MemTotal: *(\d+)", pathlib.Path("/proc/meminfo").read_text())[1])
    assert 0 < has["cpus"] <= len(os.sched_getaffinity(0))
    assert 0 < has["memory"] <= memory * 1024
    disk = os.statvfs(machine.state)
    assert has["disk_total"] == disk.f_blocks * disk.f_frsize
    assert 0 < has["disk"] <= has["disk_total"]
    assert [g["name"] for g in has["gpus"]] == ["example.com/gpu=a", "example.com/gpu=b"]
    assert all(g["ready"] and g["kind"] == "example.com/gpu" for g in has["gpus"])
    assert has["labels"] == {"zone": "north", "rack": "8", "gpu.type": "none at all"}
    assert has["used"] == {"cpus": 0, "memory": 0, "gpus": 0, "runs": 0}
    assert "LABELS" in table[0] and "zone=north" in table[1] and " 0/2 " in table[1]


def test_affinity(machine, user):
    """What the agent may not use, its jobs may not either."""
    one = min(os.sched_getaffinity(0))
    with agent(machine, preexec_fn=lambda: os.sched_setaffinity(0, {one})):
        wait_for(lambda: user.node()["resources"], "the node")
        assert user.node()["resources"]["cpus"] <= 1


def test_bad_labels(stoker, controller):  # noqa: F811
    for label, needle in (("zone", "NAME=VALUE"), ("-a=b", "letter or digit first")):
        stoker.fails("join", controller.url, "--label", label, needles=[needle], status=2, input="")
    stoker.configure(labels={"a b": "c"})
    stoker.fails("agent", needles=["labels", "letter or digit first"])


@pytest.fixture
def recorder():
    """A controller that is a script, which keeps all polls."""
    import test_agent

    server = test_agent.Controller()
    server.polls = []
    poll = server.poll

    def record(document):
        server.polls.append(document)
        return poll(document)

    server.poll = record
    yield server
    server.shutdown()
    server.server_close()


def test_said_once(stoker, recorder, busybox):  # noqa: F811
    """What has not changed is not said again; a new image is, alone."""
    stoker("join", recorder.url, "--token", "stk_j_0123456789_" + "s" * 43)
    keys = ("resources", "images", "environments")
    with agent(stoker):
        wait_for(lambda: len(recorder.polls) > 5, "polls")
        assert all(k in recorder.polls[0] for k in keys)
        assert not any(k in p for p in recorder.polls[1:] for k in ("images", "environments"))
        stoker("pull", busybox)
        before = len(recorder.polls)
        wait_for(lambda: any("images" in p for p in recorder.polls[before:]), "the image", 30)
        heard = len(recorder.polls)
        wait_for(lambda: len(recorder.polls) > heard + 2, "polls")
    (news,) = [p for p in recorder.polls[1:] if "images" in p]
    assert news["images"] == [busybox] and "environments" not in news
    assert sum("resources" in p for p in recorder.polls) < 5  # the disk's free space may change


# ---- several at once


def test_gpus_are_exclusive(machine, user, busybox, gpus, tmp):  # noqa: F811
    """Two runs with a GPU each at once, on one node; the third waits, says why, and has its turn."""
    script = (
        "ls /dev | grep test-gpu; env | grep ^GPU_; while ! test -e outputs/go; do sleep 0.1; done"
    )
    job = write_job(tmp / "job", busybox, script, resources={"cpus": 0.1, "gpus": 1})
    with agent(machine):
        names = [user.submit(job) for _ in range(2)]
        for name in names:
            wait_for(lambda n=name: "GPU_" in user("logs", n).stdout, "the log", 60)
        third = user.submit(job)
        seen = sorted(user("logs", n).stdout for n in names)
        assert seen == ["test-gpu-a\nGPU_A=yes\n", "test-gpu-b\nGPU_B=yes\n"]
        waits = user("show", third).stdout
        assert "waits for room on one of 1 nodes" in waits and "NotStarted" in waits
        node = user.node()
        assert (node["used"]["gpus"], node["runs"]) == (2, 2)
        wait_for(lambda: user.node()["resources"]["used"]["gpus"] == 2, "the node's own word", 20)
        (machine.state / f"runs/{names[0]}.1/1/outputs/go").touch()
        wait_for(lambda: "GPU_" in user("logs", third).stdout, "the third", 60)
        assert user("logs", third).stdout == user("logs", names[0]).stdout
        for name in (names[1], third):
            (machine.state / f"runs/{name}.1/1/outputs/go").touch()
            user.wait_for_state(name, "Completed")
        wait_for(lambda: user.node()["used"]["gpus"] == 0, "all to be free")
    assert [user.run(n)["attempt"] for n in (*names, third)] == [1, 1, 1]


def test_gpu_of_a_local_run(machine, user, busybox, gpus, tmp):  # noqa: F811
    """A GPU that `stoker run` has is not the controller's to give."""
    with agent(machine):
        wait_for(lambda: user.node()["resources"], "the node")
        local = machine.popen("run", "--gpus", "2", "--image", busybox, "--", "sleep", "60")
        wait_for(lambda: "held" in machine("devices").stdout, "the local run", 30)

        def ready():
            return [g["ready"] for g in user.node()["resources"]["gpus"]]

        wait_for(lambda: ready() == [False, False], "the GPUs to be missing", 60)
        name = user.submit(write_job(tmp / "job", busybox, resources={"gpus": 1}))
        assert user.run(name)["state"] == "NotStarted"
        local.terminate()
        local.communicate(timeout=30)
        user.wait_for_state(name, "Completed")


def test_too_large(machine, user, busybox, tmp):  # noqa: F811
    """It stays in the queue, and says what is missing."""
    job = write_job(tmp / "job", busybox, resources={"cpus": 9999, "memory": "4g"})
    name = user.submit(job)
    assert "no node has joined" not in user("show", name).stdout
    with agent(machine):
        wait_for(lambda: user.node()["resources"], "the node")
        assert "no node can hold it: it asks for 9999 CPUs" in user.run(name)["reason"]
        assert "waits       no node can hold it" in user("show", name).stdout
    user("cancel", name)
    assert user.run(name)["reason"] is None


def test_node_returns_what_it_cannot_hold(stoker, recorder, busybox):  # noqa: F811
    """Nothing of it is kept, and it is said until it was heard."""
    stoker("join", recorder.url, "--token", "stk_j_0123456789_" + "s" * 43)
    recorder.submit(busybox, "echo no\n", resources={"cpus": 9999})
    recorder.lost = 1
    with agent(stoker):
        wait_for(lambda: sum("returns" in p for p in recorder.polls) > 2, "what comes back")
        assert list((stoker.state / "node/attempts").iterdir()) == []
        assert metrics(stoker)["stoker_agent_starts_returned_total"] > 0
    back = next(p for p in recorder.polls if "returns" in p)["returns"]
    assert [(r["run"], r["attempt"]) for r in back] == [(recorder.say["starts"][0]["run"], 1)]
    assert "9999 CPUs are asked for" in back[0]["reason"]


class Node:
    """The protocol by hand."""

    def __init__(self, controller, name, cpus=4):  # noqa: F811
        self.controller = controller
        made = controller.post("/v1/nodes", {"name": name}, token=controller.join).json
        self.id, self.token = made["node"], made["token"]
        self.resources = {"cpus": cpus, "memory": 1 << 30}

    def poll(self, **more):
        document = {"boot": "b", "instance": "i", "wait_ms": 0, "version": "0", "attempts": []}
        document.update(resources=self.resources, **more)
        reply = self.controller.post("/v1/node/poll", document, token=self.token)
        assert reply.status == 200, reply
        return reply.json


def submit(controller, **resources):  # noqa: F811
    job = {"entry_script": "a.py", "custom_docker_image": "x", "resources": resources}
    return controller.post("/v1/runs", {"job": job, "snapshot": None}).json["id"]


def test_returned_run(controller):  # noqa: F811
    """It goes to another node, and to the same one only later; that is no loss."""
    one = Node(controller, "one")
    one.poll()
    run = submit(controller)
    (start,) = one.poll()["starts"]
    assert (start["run"], start["attempt"]) == (run, 1)
    back = {"run": run, "attempt": 1, "reason": "no room after all"}
    assert one.poll(returns=[back])["starts"] == []
    shown = controller.get(f"/v1/runs/{run}").json
    assert shown["state"] == "NotStarted" and shown["attempts"][0]["state"] == "returned"
    assert "node one gave it back: no room after all" in shown["reason"]
    assert one.poll(returns=[back])["starts"] == []  # said again, it means nothing
    assert controller.get("/v1/nodes/one").json["used"]["cpus"] == 0
    two = Node(controller, "two")
    starts = two.poll()["starts"] or two.poll()["starts"]
    assert [(s["run"], s["attempt"]) for s in starts] == [(run, 2)]
    # Another's attempt is not one's to give back.
    one.poll(returns=[{"run": run, "attempt": 2, "reason": "mischief"}])
    assert controller.get(f"/v1/runs/{run}").json["state"] == "Starting"


def test_returned_and_canceled(controller):  # noqa: F811
    node = Node(controller, "one")
    node.poll()
    run = submit(controller)
    assert node.poll()["starts"]
    controller.post(f"/v1/runs/{run}/cancel")
    node.poll(returns=[{"run": run, "attempt": 1, "reason": "full"}])
    assert controller.get(f"/v1/runs/{run}").json["state"] == "Canceled"


def test_bad_returns(controller):  # noqa: F811
    node = Node(controller, "one")
    document = {"attempts": [], "returns": [{"run": "x", "attempt": 1, "reason": "y" * 501}]}
    reply = controller.post("/v1/node/poll", document, token=node.token)
    assert reply.status in (400, 413) and "reason" in reply.json["error"]["message"]


def test_unheard_start_is_not_lost(controller):  # noqa: F811
    """An agent that says good-bye gives back at once what it had not heard of."""
    node = Node(controller, "one")
    node.poll()
    run = submit(controller)
    assert controller.get(f"/v1/runs/{run}").json["state"] in ("NotStarted", "Starting")
    wait_for(lambda: controller.get(f"/v1/runs/{run}").json["state"] == "Starting", "its turn")
    node.poll(leaving=True)
    assert controller.get("/v1/nodes/one").json["state"] == "Away"
    shown = controller.get(f"/v1/runs/{run}").json
    assert shown["state"] == "NotStarted" and "none is heard" in shown["reason"]


# ---- draining


def test_drain(machine, user, busybox, tmp):  # noqa: F811
    """What runs finishes, what is new waits; also after a restart of the agent."""
    wait = write_job(tmp / "wait", busybox, "while ! test -e outputs/go; do sleep 0.1; done")
    with agent(machine):
        in_touch(machine)
        first = user.submit(wait)
        user.wait_for_state(first, "Running")
        assert "no new ones are taken" in machine("node", "drain").stdout
        wait_for(lambda: user.node()["state"] == "Draining", "the controller to know", 2)
        second = user.submit(write_job(tmp / "job", busybox, "echo second"))
        time.sleep(1.5)
        shown = user.run(second)
        assert shown["state"] == "NotStarted" and "draining" in shown["reason"]
        (machine.state / f"runs/{first}.1/1/outputs/go").touch()
        user.wait_for_state(first, "Completed")
    with agent(machine):
        in_touch(machine)
        status = json.loads(machine("node", "status", "--json").stdout)
        assert status["draining"] and status["agent"] and status["in_touch"]
        wait_for(lambda: user.node()["state"] == "Draining", "the controller to know")
        assert user.run(second)["state"] == "NotStarted"
        assert "are taken" in machine("node", "undrain").stdout
        user.wait_for_state(second, "Completed")


def test_drain_without_agent(machine, user):
    assert "stoker agent" in machine("node", "drain").stdout
    assert json.loads(machine("node", "status", "--json").stdout)["draining"] is True
    with agent(machine):
        wait_for(lambda: user.node()["state"] == "Draining", "the controller to know")
    machine("node", "undrain")
    assert json.loads(machine("node", "status", "--json").stdout)["draining"] is False
    machine.fails("node", "drop", needles=["drain, undrain or status"], status=2)


def test_drain_by_admin(machine, user, admin, busybox, tmp):  # noqa: F811
    """From elsewhere; the node hears it at once, and so it does of the opposite."""
    with agent(machine):
        in_touch(machine)
        user.fails("node", "drain", "alpha", needles=["role"])
        user.fails("node", "status", "beta", needles=["there is no node beta"])
        assert "Draining" in admin("node", "drain", "alpha").stdout

        def drained():
            return json.loads(machine("node", "status", "--json").stdout)["drain"]

        wait_for(drained, "the node to hear", 3)
        assert "by the controller" in machine("node", "status").stdout
        assert "Ready" in admin("node", "undrain", "alpha").stdout
        wait_for(lambda: not drained(), "the node to hear", 3)
        name = user.submit(write_job(tmp / "job", busybox))
        user.wait_for_state(name, "Completed")


# ---- signing off


def test_sign_off(machine, user, busybox, tmp):  # noqa: F811
    """The controller knows at once that the agent has ended; the run goes on, and so does its report."""
    job = write_job(tmp / "job", busybox, "echo a; sleep 3; echo b")
    with agent(machine):
        in_touch(machine)
        name = user.submit(job)
        wait_for(lambda: user("logs", name).stdout == "a\n", "the log", 60)
    assert user.node()["state"] == "Away"
    assert user.run(name)["state"] == "Running"  # its lease has not run out
    late = user.submit(job)
    time.sleep(1.5)
    assert user.run(late)["state"] == "NotStarted"
    with agent(machine):
        wait_for(lambda: user.node()["state"] == "Ready", "the node")
        user.wait_for_state(name, "Completed")
        user.wait_for_state(late, "Completed")
    assert user("logs", name).stdout == "a\nb\n" and user.run(name)["attempt"] == 1


def test_end_without_controller(machine, controller):  # noqa: F811
    """One that does not answer holds up nobody's end."""
    with agent(machine) as process:
        in_touch(machine)
        controller.process.send_signal(signal.SIGSTOP)
        try:
            began = time.monotonic()
            process.terminate()
            assert process.wait(20) == 0
            assert time.monotonic() - began < 6
        finally:
            controller.process.send_signal(signal.SIGCONT)


def test_leave(machine, user, busybox, tmp):  # noqa: F811
    """For ever: refused while there is an agent or a run, then the credential is gone on both sides."""
    with agent(machine):
        in_touch(machine)
        machine.fails("leave", needles=["an agent runs on this node"])
        name = user.submit(write_job(tmp / "job", busybox, "exec sleep 60"))
        user.wait_for_state(name, "Running")
    machine.fails("leave", needles=["1 runs of the controller", "stoker node drain"])
    with agent(machine):
        user("cancel", name)
        user.wait_for_state(name, "Canceled")
        wait_for(lambda: not list((machine.state / "node/attempts").iterdir()), "the end", 30)
    token = json.loads((machine.state / "node/credential.json").read_text())["token"]
    machine("leave")
    assert not (machine.state / "node/credential.json").exists()
    assert json.loads(user("nodes", "--json").stdout)["nodes"] == []
    machine.fails("agent", needles=["belongs to no controller"])
    machine.fails("leave", needles=["belongs to no controller"])
    controller_says = user.stoker.fails(
        "nodes", env={**user.environment, "STOKER_TOKEN": token}, needles=["token"]
    )
    assert token not in controller_says


def test_leave_by_force(machine, controller):  # noqa: F811
    controller.stop()
    machine.fails("leave", needles=["--force"])
    machine("leave", "--force")
    machine.fails("agent", needles=["belongs to no controller"])
    controller.start()


# ---- the socket


def test_metrics(machine, user, controller, busybox, tmp):  # noqa: F811
    """Numbers of what was done, in the form that Prometheus reads, by curl."""
    script = "i=0; while [ $i -lt 200 ]; do echo line $i; i=$((i+1)); done; echo x > outputs/x"
    with agent(machine):
        in_touch(machine)
        before = metrics(machine)
        assert before['stoker_agent_attempts{state="running"}'] == 0
        name = user.submit(write_job(tmp / "job", busybox, script, resources={"cpus": 0.5}))
        user.wait_for_state(name, "Completed")
        after = metrics(machine)
        log = user("logs", name).stdout
        assert after["stoker_agent_log_bytes_sent_total"] == len(log)
        assert after["stoker_agent_log_bytes_waiting"] == 0
        assert after["stoker_agent_upload_bytes_total"] >= 2
        assert after["stoker_agent_uploads_total"] >= 1
        assert after["stoker_agent_starts_accepted_total"] == 1
        assert after["stoker_agent_polls_total"] > before["stoker_agent_polls_total"]
        assert after["stoker_agent_cpus_used"] == 0 < after["stoker_agent_cpus"]
        controller.stop()
        wait_for(lambda: metrics(machine)["stoker_agent_link_up"] == 0, "the link to be down", 20)
        down = metrics(machine)
        assert down["stoker_agent_poll_failures_total"] > 0
        assert down["stoker_agent_link_seconds"] < 20
        assert "does not answer" in machine("node", "status").stdout
        controller.start()


def test_log_that_waits(machine, user, controller, busybox, tmp):  # noqa: F811
    """What is printed while the controller is away is counted as waiting, and then no more."""
    script = "echo begin; while ! test -e outputs/go; do sleep 0.1; done; head -c 50000 /dev/zero; sleep 4"
    with agent(machine):
        name = user.submit(write_job(tmp / "job", busybox, script))
        wait_for(lambda: user("logs", name).stdout == "begin\n", "the log", 60)
        controller.stop()
        (machine.state / f"runs/{name}.1/1/outputs/go").touch()
        waiting = "stoker_agent_log_bytes_waiting"
        wait_for(lambda: metrics(machine)[waiting] == 50_000, "the bytes that wait", 60)
        controller.start()
        user.wait_for_state(name, "Completed")
        assert metrics(machine)[waiting] == 0


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET /nothing HTTP/1.0\r\n\r\n", b"404"),
        (b"POST /status HTTP/1.0\r\n\r\n", b"404"),
        (b"PUT /drain HTTP/1.1\r\n\r\n", b"405"),
        (b"\x16\x03\x01\x00\r\n\r\n", b"400"),
        (b"\r\n\r\n", b"400"),
        (b"GET /status HTTP/1.0\r\nX: " + b"y" * 5000, b"400"),
        (b"GET /" + b"a" * 100 + b" HTTP/1.0\r\n\r\n", b"400"),
        (b"GET /status HTTP/1.0\r\n", b"400"),  # and no more: after two seconds
    ],
    ids=["path", "post", "method", "tls", "nothing", "head", "long", "slow"],
)
def test_bad_questions(machine, request_, status):
    with agent(machine):
        in_touch(machine)
        answer = ask(machine, request_)
        assert answer.split(b" ")[1] == status, answer
        assert answer.startswith(b"HTTP/1.0 ")
        assert b'"name": "alpha"' in ask(machine, b"GET /status HTTP/1.0\r\n\r\n")


def test_whose_socket(machine):
    """Nobody else's: neither by its mode nor, were that changed, by who asks."""
    with agent(machine):
        in_touch(machine)
        path = machine.run_dir / "agent.sock"
        assert path.stat().st_mode & 0o777 == 0o600 and path.is_socket()
        os.chmod(path, 0o666)
        folder = os.open(machine.run_dir, os.O_PATH)
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:  # somebody else, who has been handed the folder
            try:
                os.setresuid(65534, 65534, 65534)
                with socket.socket(socket.AF_UNIX) as s:
                    s.settimeout(10)
                    os.fchdir(folder)
                    s.connect("agent.sock")
                    s.sendall(b"POST /drain HTTP/1.0\r\n\r\n")
                    os.write(writer, s.recv(4096))
            except OSError as e:
                os.write(writer, str(e).encode())
            finally:
                os._exit(0)
        os.close(writer)
        os.close(folder)
        os.waitpid(child, 0)
        said = os.read(reader, 4096)
        os.close(reader)
        assert b"403" in said or b"Permission denied" in said, said
        assert json.loads(machine("node", "status", "--json").stdout)["draining"] is False
    assert not path.exists()


# ---- the service manager


class Manager:
    """The socket of sd_notify(3)."""

    def __init__(self, folder):
        self.path = folder / "notify"
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(self.path))
        self.socket.settimeout(15)
        self.said = []

    def wait_for(self, *lines, count=1):
        while sum(self.said.count(line) for line in lines) < count:
            self.said += self.socket.recv(4096).decode().splitlines()

    def environment(self, watchdog_ms):
        return {"NOTIFY_SOCKET": str(self.path), "WATCHDOG_USEC": str(watchdog_ms * 1000)}


def test_service_manager(machine, controller, tmp):  # noqa: F811
    """Ready, a sign of life whatever the controller does, and the end."""
    manager = Manager(tmp)
    with agent(machine, env=manager.environment(600)) as process:
        manager.wait_for("READY=1")
        manager.wait_for("STATUS=in touch with the controller")
        began = time.monotonic()
        manager.said.clear()
        manager.wait_for("WATCHDOG=1", count=5)
        assert 0.5 < time.monotonic() - began < 2.5  # a third of what is allowed
        controller.process.send_signal(signal.SIGSTOP)  # takes what is said and does not answer
        try:
            began = time.monotonic()
            manager.said.clear()
            manager.wait_for("WATCHDOG=1", count=10)
            assert time.monotonic() - began < 4
        finally:
            controller.process.send_signal(signal.SIGCONT)
        process.terminate()
        manager.wait_for("STOPPING=1")
    manager.socket.close()


def test_idle(machine):
    """What an agent with nothing to do takes."""
    with agent(machine) as process:
        in_touch(machine)
        proc = pathlib.Path(f"/proc/{process.pid}")
        time.sleep(1)

        def ticks():
            return sum(map(int, (proc / "stat").read_text().rsplit(")", 1)[1].split()[11:13]))

        before = ticks()
        time.sleep(5)
        used = ticks() - before
        resident = int(re.search(r"VmRSS:\s*(\d+)", (proc / "status").read_text())[1])
    assert used <= 1, f"{used} ticks in 5 s"
    if "ASAN_OPTIONS" not in os.environ:
        assert resident < 12 * 1024, f"{resident} KiB resident"


# ---- progress


def test_progress(machine, user, controller, scripted, layout, tmp):  # noqa: F811
    """How far a pull is stands in what the user sees, while it goes on and at a bounded rate."""
    layers = [
        layout.layer(busybox_tar(), compression="none"),
        layout.layer(ociimage.Tar().file("big", os.urandom(4_000_000)), compression="none"),
    ]
    layout.image(layers, config_options={"config": {"Env": ["PATH=/bin"]}})
    scripted.rules.append(lambda e: registries.slowly(1_000_000) if e.is_blob else None)
    job = write_job(tmp / "job", scripted.reference(), "echo done")
    with agent(machine):
        in_touch(machine)
        follower = user.stoker.popen("submit", "--follow", job, env=user.environment)
        shown = set()

        def over():
            for run in json.loads(user("runs", "--json").stdout)["runs"]:
                text = user("show", run["id"]).stdout
                shown.update(re.findall(r"phase +(pulling \d+ % of .*)", text))
            return follower.poll() is not None

        wait_for(over, "the end", 60)
        out, err = follower.communicate(timeout=60)
        (run,) = json.loads(user("runs", "--json").stdout)["runs"]
        events = controller.get(f"/v1/runs/{run['id']}/events").body.decode()
    assert follower.returncode == 0 and out == "done\n", err
    assert any(re.fullmatch(r"pulling \d+ % of \d\.\d+ MB, .*/s", s) for s in shown), shown
    assert re.search(r"pulling \d+ % of \d\.", err), err
    assert "preparing" in err and "waits" not in err
    told = [int(n) for n in re.findall(r'"done":(\d+)', events)]
    assert 2 <= len(told) <= 10 and told == sorted(told), events
