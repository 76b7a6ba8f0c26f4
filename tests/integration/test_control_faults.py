# SPDX-License-Identifier: Apache-2.0
"""Logs and outputs at the controller are what the job wrote, byte for byte, whatever is killed or cut:
the agent, the controller, the link between them. No run is lost and none is started twice in one attempt.
--campaign N: the agent is killed N times, the others N / 5 times."""

import contextlib
import hashlib
import json
import pathlib
import queue
import random
import signal
import socket
import struct
import threading
import time

import node
import pytest
from test_run import _busybox, busybox, wait_for, write_job  # noqa: F401

import controller as controllers
from controller import quote

LINES, BATCHES = 100_000, 50
LEASE = 4

# Prints its lines and appends the same to a file in batches, and replaces a checkpoint by renaming. What
# an earlier attempt has left is taken up where its file of lines ends, which must be whole batches.
JOB = """
echo start >> logs/starts
echo $STOKER_RUN_ID >> outputs/attempts
size=%(size)d b=0
if [ -e outputs/lines ]; then
  n=$(wc -l < outputs/lines); b=$((n / size))
  seq 0 $((n - 1)) | cmp - outputs/lines || exit 9
  [ $n = $((b * size)) ] || { seq 0 $((b * size - 1)) > outputs/lines; echo cut at $n; }
fi
if [ -e outputs/checkpoint ]; then
  c=$(head -n 1 outputs/checkpoint); echo restored $c
  [ "$(tail -n 1 outputs/checkpoint)" = "end $c" ] || exit 8
fi
while [ $b -lt %(batches)d ]; do
  seq $((b * size)) $((b * size + size - 1)) | tee -a outputs/lines
  b=$((b + 1))
  { echo $b; seq 1 $((b * 997)); echo end $b; } > outputs/checkpoint.new
  mv outputs/checkpoint.new outputs/checkpoint
  [ $((b %% 10)) != 0 ] || { mkdir -p outputs/d$b; cp outputs/checkpoint outputs/d$b/kept; }
  sleep %(pause)s
done
exit %(status)d
"""


def script(seconds, status=0, lines=LINES):
    size, pause = lines // BATCHES, f"{seconds / BATCHES:.3f}"
    return JOB % {"size": size, "batches": BATCHES, "pause": pause, "status": status}


# ---- a link that can be blocked


class Proxy:
    """Forwards to a port of this machine. block(): nothing passes, as with a cable pulled; cut(): what is
    connected is reset, and nobody gets in; open()."""

    def __init__(self, port):
        self.port, self.passing, self.refusing = port, threading.Event(), False
        self.passing.set()
        self.server = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.url = f"http://127.0.0.1:{self.server.getsockname()[1]}"
        self.pairs, self.lock = set(), threading.Lock()
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                client, _ = self.server.accept()
            except OSError:
                return
            if self.refusing:
                reset(client)
            else:
                threading.Thread(target=self.connect, args=(client,), daemon=True).start()

    def connect(self, client):
        self.passing.wait()
        try:
            server = socket.create_connection(("127.0.0.1", self.port), 5)
        except OSError:
            reset(client)
            return
        server.settimeout(None)
        pair = (client, server)
        with self.lock:
            self.pairs.add(pair)
        for a, b in (pair, pair[::-1]):
            threading.Thread(target=self.forward, args=(a, b, pair), daemon=True).start()

    def forward(self, source, target, pair):
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                self.passing.wait()
                target.sendall(data)
        with self.lock:
            mine = pair in self.pairs
            self.pairs.discard(pair)
        if mine:
            for s in pair:
                with contextlib.suppress(OSError):
                    s.shutdown(socket.SHUT_RDWR)
                s.close()

    def block(self):
        self.passing.clear()

    def cut(self):
        self.refusing = True
        with self.lock:
            pairs, self.pairs = self.pairs, set()
        for pair in pairs:
            for s in pair:
                reset(s)

    def open(self):
        self.refusing = False
        self.passing.set()

    def close(self):
        self.open()
        self.server.close()
        self.cut()


def reset(s):
    with contextlib.suppress(OSError):
        s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        s.shutdown(socket.SHUT_RDWR)
    s.close()


# ---- the parts


class Machine:
    """A node that has joined through a link of its own, and its agent."""

    def __init__(self, stoker, controller, name):
        self.stoker, self.name = stoker, name
        self.proxy = Proxy(controller.port)
        stoker("join", self.proxy.url, "--name", name, input=controller.join + "\n")
        self.agent, self.log = None, (stoker.folder / "agent.log").open("ab")

    def start(self, binary=None):
        before, self.stoker.binary = self.stoker.binary, binary or self.stoker.binary
        self.agent = self.stoker.popen("agent", stderr=self.log)
        self.stoker.binary = before
        return self

    def end(self, signo=signal.SIGTERM):
        self.agent.send_signal(signo)
        status = self.agent.wait(30)
        node.Stoker.own_children.discard(self.agent.pid)
        self.agent.stdout.close()
        self.agent = None
        return status

    def kill(self):
        assert self.end(signal.SIGKILL) == -signal.SIGKILL, self.said()

    def said(self):
        return pathlib.Path(self.log.name).read_text(errors="replace")[-4000:]

    def folder(self, run, attempt):
        return self.stoker.state / f"runs/{run}.{attempt}/1"

    def close(self):
        self.proxy.open()
        if self.agent:
            status = self.end()
            assert status == 0, self.said()
        self.proxy.close()
        self.log.close()


@pytest.fixture
def controller(make_controller):
    made = make_controller(start=False)
    limits = {"lease": f"{LEASE}s", "max_node_losses": 1000, "user_rate": 5000, "node_rate": 5000}
    (made.folder / "controller.yaml").write_text(json.dumps({"limits": limits}))
    return made.start()


make_controller = controllers.make_controller


@pytest.fixture
def make_machine(make_stoker, controller):
    made = []

    def make(name):
        made.append(Machine(make_stoker(), controller, name))
        return made[-1]

    yield make
    for machine in made:
        machine.close()


@pytest.fixture
def user(make_stoker, controller, tmp):
    stoker = make_stoker()
    stoker.environment["XDG_CONFIG_HOME"] = str(tmp / "config")
    token = controller.make_token("user", user="ada")
    stoker("login", controller.url, input=token + "\n")
    return stoker


class Jobs:
    """What was submitted, and what must become of it."""

    def __init__(self, user, controller, image, folder):
        self.user, self.controller, self.image, self.folder = user, controller, image, folder
        self.status, self.lines = {}, {}

    def submit(self, seconds, status=0, lines=LINES):
        text = script(seconds, status, lines)
        job = write_job(
            self.folder / f"job{len(self.status)}", self.image, text, experiment="fault"
        )
        run = self.user("submit", job).stdout.strip()
        self.status[run], self.lines[run] = status, lines
        return run

    def get(self, run):
        return self.controller.get(f"/v1/runs/{run}").json

    def unfinished(self):
        """How many have not ended, by the controller's list."""
        listed = self.controller.get("/v1/runs?limit=1000").json["runs"]
        assert {r["id"] for r in listed} == set(self.status), "a run is lost"
        return sum(r["ended"] is None for r in listed)

    def wait(self, seconds=180):
        wait_for(lambda: self.unfinished() == 0, "all runs to end", seconds)


def files_of(controller, run):
    """path -> (kind, size, sha256), all pages."""
    found, after = {}, ""
    while after is not None:
        page = controller.get(f"/v1/runs/{run}/files?limit=1000&after={quote(after)}").json
        found.update({f["path"]: f for f in page["files"]})
        after = page["next"]
    return found


def digest(data):
    return hashlib.sha256(data).hexdigest()


def check_tree(files, local, top):
    here = {f"{top}/{p.relative_to(local / top)}": p for p in (local / top).rglob("*")}
    there = {name: f for name, f in files.items() if name.startswith(f"{top}/")}
    assert set(here) == set(there)
    for name, path in here.items():
        f = there[name]
        assert (f["kind"] == "folder") == path.is_dir(), name
        if path.is_file():
            data = path.read_bytes()
            assert f["complete"] and (f["size"], f["sha256"]) == (len(data), digest(data)), name


def check_run(jobs, run, machines, attempts=1):
    """`attempts`: how many there may be."""
    c, shown, lines = jobs.controller, jobs.get(run), jobs.lines[run]
    status, last = jobs.status[run], shown["attempt"]
    assert shown["state"] == ("Failed" if status else "Completed"), shown
    assert shown["cause"].get("exit_code", 0) == status and last <= attempts, shown
    assert shown["upload"]["state"] == "Done", shown
    files = files_of(c, run)
    held = {
        n: m.folder(run, n)
        for n in range(1, last + 1)
        for m in machines
        if m.folder(run, n).exists()
    }
    for local in held.values():
        assert (local / "logs/starts").read_text() == "start\n" or not (
            local / "logs/starts"
        ).exists()
    local = held[last]
    assert (local / "logs/starts").read_text() == "start\n"
    log = c.get(f"/v1/runs/{run}/files/user_logs/std_log.txt").body
    assert log == (local / "user_logs/std_log.txt").read_bytes(), run
    check_tree(files, local, "outputs")
    check_tree(files, local, "logs")
    assert (local / "outputs/lines").read_text().split() == [str(i) for i in range(lines)]
    printed = [x for x in log.decode().splitlines() if x.isdigit()]
    assert printed == [str(i) for i in range(lines - len(printed), lines)]
    assert last > 1 or len(printed) == lines
    for n in range(1, last):
        check_lost(c, run, n, files, held.get(n))
    return last


def check_lost(c, run, n, files, local):
    """Of an attempt that was lost the controller has what it had."""
    name = f"attempts/{n}/user_logs/std_log.txt"
    if name not in files:
        return
    kept = c.get(f"/v1/runs/{run}/files/{name}").body
    assert not kept or (local / "user_logs/std_log.txt").read_bytes().startswith(kept)


@pytest.fixture
def jobs(user, controller, busybox, tmp):  # noqa: F811
    return Jobs(user, controller, busybox, tmp)


class Feeder:
    """Submits while something else goes on, so that some job is always in each of its phases."""

    def __init__(self, jobs, seconds, at_once=3):
        self.jobs, self.seconds, self.at_once = jobs, seconds, at_once
        self.chance, self.stopped, self.trouble = random.Random(1), threading.Event(), queue.Queue()
        self.thread = threading.Thread(target=self.run, daemon=True)

    def run(self):
        try:
            while not self.stopped.wait(0.2):
                with contextlib.suppress(OSError):
                    if self.jobs.unfinished() < self.at_once:
                        self.feed()
        except BaseException as e:
            self.trouble.put(e)

    def feed(self):
        """Every third is short: there the start and the end are hit."""
        short = len(self.jobs.status) % 3 == 2
        status = len(self.jobs.status) % 4
        self.jobs.submit(0.2 if short else self.seconds, status, 1000 if short else LINES)

    def __enter__(self):
        self.feed()
        self.feed()
        self.thread.start()
        return self

    def __exit__(self, *failure):
        self.stopped.set()
        self.thread.join(60)
        if not failure[0] and not self.trouble.empty():
            raise self.trouble.get()


def seeded():
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    return random.Random(seed)


# ---- the campaigns


def test_agent_killed(pytestconfig, jobs, make_machine):
    """At any moment, and started again."""
    chance, machine = seeded(), make_machine("alpha")
    rounds = pytestconfig.getoption("--campaign")
    with Feeder(jobs, 4):
        for _ in range(rounds):
            machine.start()
            time.sleep(chance.choice([0.03, 0.2, 0.6, 1.5]) * chance.random())
            machine.kill()
        machine.start()
    jobs.wait()
    for run in jobs.status:
        check_run(jobs, run, [machine])
    print(f"{rounds} kills, {len(jobs.status)} runs")


def test_controller_killed(pytestconfig, jobs, controller, make_machine):
    chance, machine = seeded(), make_machine("alpha").start()
    rounds = max(3, pytestconfig.getoption("--campaign") // 5)
    for _ in range(3):
        jobs.submit(4, status=len(jobs.status))
    for _ in range(rounds):
        time.sleep(chance.uniform(0.05, 1))
        controller.kill()
        time.sleep(chance.choice([0, 0.5]))
        controller.start()
        if jobs.unfinished() < 3:
            jobs.submit(chance.choice([0.2, 4]), status=len(jobs.status) % 3)
    jobs.wait()
    for run in jobs.status:
        check_run(jobs, run, [machine])
    print(f"{rounds} kills, {len(jobs.status)} runs")


def test_link_blocked(pytestconfig, jobs, make_machine):
    """For moments, for seconds, and for longer than the lease."""
    chance, machine = seeded(), make_machine("alpha").start()
    rounds = max(3, pytestconfig.getoption("--campaign") // 5)
    requeued = 0
    with Feeder(jobs, 6):
        for i in range(rounds):
            time.sleep(chance.uniform(0.1, 1.5))
            machine.proxy.block() if chance.random() < 0.6 else machine.proxy.cut()
            time.sleep(LEASE * 1.8 if i % 8 == 1 else chance.choice([0.3, 3]) * chance.random())
            machine.proxy.open()
    jobs.wait()
    for run in jobs.status:
        requeued += check_run(jobs, run, [machine], attempts=1 + rounds) > 1
    print(f"{rounds} times blocked, {len(jobs.status)} runs, {requeued} of them requeued")
    assert requeued > 0


@pytest.mark.full
@pytest.mark.parametrize("how", ["block", "cut"])
def test_link_gone_for_minutes(jobs, make_machine, how):
    """Connections and leases are long gone, jobs have ended meanwhile or go on."""
    machine = make_machine("alpha").start()
    for seconds in (2, 8, 150):
        jobs.submit(seconds, status=1)
    time.sleep(3)
    getattr(machine.proxy, how)()
    time.sleep(130)
    machine.proxy.open()
    jobs.wait()
    attempts = [check_run(jobs, run, [machine], attempts=2) for run in jobs.status]
    assert attempts[1:] == [2, 2]


def disturb(chance, kind, machine, controller):
    if kind == "agent":
        machine.kill()
        time.sleep(chance.choice([0, 0.5, LEASE * 1.5]) * chance.random())
        machine.start()
    elif kind == "controller":
        controller.kill()
        time.sleep(chance.random())
        controller.start()
    else:
        machine.proxy.block() if chance.random() < 0.5 else machine.proxy.cut()
        time.sleep(chance.choice([0.3, LEASE * 1.5]) * chance.random())
        machine.proxy.open()


def test_all_at_once(pytestconfig, jobs, controller, make_machine):
    """Two nodes, and everything in any order."""
    chance = seeded()
    machines = [make_machine(name).start() for name in ("alpha", "beta")]
    rounds = max(3, pytestconfig.getoption("--campaign") // 5)
    requeued = 0
    for _ in range(rounds):
        if jobs.unfinished() < 3:
            jobs.submit(chance.choice([0.2, 4]), status=len(jobs.status) % 3)
        kind = chance.choice(["agent", "agent", "controller", "link"])
        disturb(chance, kind, chance.choice(machines), controller)
        time.sleep(chance.choice([0.1, 1]) * chance.random())
    jobs.wait()
    for run in jobs.status:
        requeued += check_run(jobs, run, machines, attempts=1 + rounds) > 1
    print(f"{rounds} disturbances, {len(jobs.status)} runs, {requeued} of them requeued")


# ---- a node that does not return, or is another


def assert_stale(controller, run, folder):
    """Whatever the token of an attempt that was lost would write."""
    token = json.loads((folder / "start.json").read_text())["token"]
    files = f"/v1/runs/{run}/files/outputs/lines"
    append = {"Content-Range": "bytes 0-0/*"}
    change = {"changes": [{"do": "remove", "path": "outputs/lines"}]}
    for reply in (
        controller.patch(files, b"x", token=token, headers=append),
        controller.put(files, b"x", token=token, headers={"Stoker-Sha256": digest(b"x")}),
        controller.post(f"/v1/runs/{run}/changes", change, token=token),
        controller.put(f"/v1/runs/{run}/manifest", {"files": 0, "bytes": 0}, token=token),
    ):
        assert (reply.status, reply.code) == (409, "stale"), reply


def test_requeued_elsewhere(jobs, controller, make_machine):
    """Its outputs are restored there; when the node returns its writes are refused and its job is ended."""
    alpha, beta = make_machine("alpha").start(), make_machine("beta")
    run = jobs.submit(15)
    wait_for(lambda: len(checkpoint(controller, run)) > 1, "a checkpoint", 60)
    had = int(checkpoint(controller, run).split()[0])
    alpha.proxy.block()
    beta.start()
    wait_for(lambda: jobs.get(run)["attempt"] == 2, "the second attempt", 60)
    wait_for((beta.folder(run, 2) / "outputs/checkpoint").exists, "the second start", 60)
    wait_for(lambda: b"restored" in log_of(controller, run), "its log", 60)
    said = log_of(controller, run).decode().split("restored ")[1]
    assert int(said.split()[0]) >= had
    assert_stale(controller, run, alpha.stoker.state / f"node/attempts/{run}.1")
    record = alpha.folder(run, 1) / "run.json"
    assert json.loads(record.read_text())["state"] == "Running"
    alpha.proxy.open()
    wait_for(
        lambda: json.loads(record.read_text())["state"] == "Canceled", "the stale job's end", 60
    )
    wait_for(
        lambda: not list((alpha.stoker.state / "node/attempts").iterdir()), "it to be forgotten"
    )
    jobs.wait()
    assert check_run(jobs, run, [alpha, beta], attempts=2) == 2
    assert [a["state"] for a in jobs.get(run)["attempts"]] == ["lost", "ended"]
    assert (beta.folder(run, 2) / "outputs/attempts").read_text() == f"{run}\n" * 2


def checkpoint(controller, run):
    files = files_of(controller, run)
    done = files.get("outputs/checkpoint", {}).get("complete")
    return controller.get(f"/v1/runs/{run}/files/outputs/checkpoint").body if done else b""


def log_of(controller, run):
    reply = controller.get(f"/v1/runs/{run}/files/user_logs/std_log.txt")
    return reply.body if reply.status == 200 else b""


def test_agent_replaced(jobs, controller, make_machine, tmp):
    """By another build, with jobs running: they are not touched."""
    machine = make_machine("alpha").start()
    running = [jobs.submit(4, status=i) for i in range(2)]
    records = [machine.folder(run, 1) / "run.json" for run in running]
    wait_for(lambda: all(log_of(controller, run) for run in running), "the logs", 60)
    before = [supervisor(record) for record in records]
    old = pathlib.Path(machine.stoker.binary).read_bytes()
    now = f"{version(controller)}\0".encode()
    binary = tmp / "stoker-next"
    binary.write_bytes(old.replace(now, now[:-2] + b"x\0"))
    binary.chmod(0o755)
    assert machine.end() == 0
    machine.start(binary)
    wait_for(lambda: version(controller).endswith("x"), "the new agent")
    assert [supervisor(record) for record in records] == before
    jobs.wait()
    for run in running:
        check_run(jobs, run, [machine])


def supervisor(record):
    """Of a run that goes on: process and its start."""
    document = json.loads(record.read_text())
    assert document["state"] == "Running", document["state"]
    return document["supervisor"]


def version(controller):
    (shown,) = controller.get("/v1/nodes").json["nodes"]
    return shown["version"]


def test_start_said_twice(controller):
    """The second answer may be the one that nobody hears: the tokens of the first are good as well."""
    node_token = controller.post(
        "/v1/nodes", {"name": "hand", "version": "1"}, token=controller.join
    ).json["token"]
    job = {"custom_docker_image": "x", "entry_script": "main.sh"}
    run = controller.post("/v1/runs", {"job": job, "snapshot": None}).json["id"]
    poll = {"boot": "b", "instance": "i", "wait_ms": 0, "version": "1", "draining": False}
    poll["resources"] = {"cpus": 8, "memory": 1 << 40, "disk": 1 << 40}
    poll.update(images=[], environments=[], attempts=[])
    controller.post("/v1/node/poll", poll, token=node_token)  # it has room: the run is its
    tokens = []
    for _ in range(3):
        (start,) = controller.post("/v1/node/poll", poll, token=node_token).json["starts"]
        assert (start["run"], start["restore"]) == (run, False)
        tokens += [start["token"], start["job_token"]]
    assert len(set(tokens)) == 6
    for token in tokens:
        assert controller.get(f"/v1/runs/{run}", token=token).status == 200
