# SPDX-License-Identifier: Apache-2.0
"""The private network (oci/runtime/network.h) of containers on a node made of network namespaces:

    container --pasta/slirp4netns-- node --veth-- peer

The peer is an ordinary machine, and has the metadata addresses of a cloud, which the node reaches. What
the container must not reach is tried from the node first: there it answers, else the test would show
nothing."""

import atexit
import contextlib
import functools
import json
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile
import time

import node
import pytest

HERE = pathlib.Path(__file__).resolve().parent
DRIVER = os.environ.get(
    "STOKER_NETWORK_DRIVER", str(pathlib.Path(node.BINARY).parent / "tests/network_driver")
)
PYTHON = "/usr/bin/python3"
METADATA = ["169.254.169.254", "169.254.170.2", "fd00:ec2::254", "100.100.100.200", "168.63.129.16"]
PORT = 8080


class Space:
    """A process that holds a network and a mount namespace; run() enters them."""

    def __init__(self):
        # A slave, so that what other tests unmount meanwhile does not live on in here.
        words = ["unshare", "-n", "-m", "--propagation", "slave", "sleep", "600"]
        self.holder = subprocess.Popen(words)
        self.servers = []
        own = os.readlink("/proc/self/ns/mnt")
        while os.readlink(f"/proc/{self.holder.pid}/ns/mnt") == own:
            time.sleep(0.005)
        self.run("ip", "link", "set", "lo", "up")
        self.run("ip", "addr", "add", "127.0.0.53/8", "dev", "lo")

    def command(self, *words):
        return ["nsenter", "-t", str(self.holder.pid), "-n", "-m", "--", *map(str, words)]

    def run(self, *words, check=True, **options):
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
        done = subprocess.run(self.command(*words), text=True, timeout=120, **options)
        assert not check or done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
        return done

    def popen(self, *words, **options):
        return subprocess.Popen(self.command(*words), text=True, **options)

    @contextlib.contextmanager
    def running(self, *words, **options):
        """Killed at the end, if need be."""
        with self.popen(*words, **options) as process:
            try:
                yield process
            except BaseException:
                process.kill()
                raise

    def serve(self, answer, *resolvers):
        server = self.popen(
            PYTHON, HERE / "network_servers.py", answer, PORT, *resolvers, stdout=subprocess.PIPE
        )
        self.servers.append(server)
        assert server.stdout.readline() == "ready\n"

    def probe(self, *probes):
        """Probes that should be answered."""
        patient = [f"+{p}" for p in probes]
        text = self.run(PYTHON, HERE / "network_probe.py", *patient).stdout
        return dict(zip(probes, json.loads(text), strict=True))

    def close(self):
        for p in [*self.servers, self.holder]:
            p.kill()
            p.wait()
            if p.stdout:
                p.stdout.close()


class Node(Space):
    def __init__(self, folder):
        super().__init__()
        self.folder = folder
        self.resolv_conf("nameserver 10.99.0.1\n")

    def resolv_conf(self, text):
        (self.folder / "node-resolv.conf").write_text(text)
        real = os.path.realpath("/etc/resolv.conf")
        self.run("mount", "--bind", self.folder / "node-resolv.conf", real)

    def container(self, *words, options=(), **others):
        return self.run(
            DRIVER,
            "--report",
            self.folder / "report",
            "--resolv",
            self.folder / "resolv.conf",
            *options,
            *words,
            **others,
        )

    def inside(self, *probes, options=()):
        """Probes from a container: {probe: answer}."""
        done = self.container(PYTHON, HERE / "network_probe.py", *probes, options=options)
        return dict(zip(probes, json.loads(done.stdout), strict=True))

    @property
    def report(self):
        program, pid, start, ready = (self.folder / "report").read_text().split()
        return program, int(pid), int(start), int(ready)

    @property
    def resolv(self):
        return (self.folder / "resolv.conf").read_text()


@pytest.fixture
def lone_node():
    """A node with a loopback interface and nothing else. Its folder can be entered by everybody."""
    with tempfile.TemporaryDirectory(prefix="stoker-network-") as folder:
        os.chmod(folder, 0o777)
        n = Node(pathlib.Path(folder))
        yield n
        n.close()


@pytest.fixture
def outer(lone_node):
    """A node with a peer."""
    n, peer = lone_node, Space()
    n.run(
        "ip",
        "link",
        "add",
        "veth0",
        "type",
        "veth",
        "peer",
        "name",
        "veth1",
        "netns",
        str(peer.holder.pid),
    )
    for space, link, host in ((n, "veth0", 2), (peer, "veth1", 1)):
        # No second's wait for the link-local address, which pasta's older versions ask for.
        space.run("sh", "-c", f"echo 0 > /proc/sys/net/ipv6/conf/{link}/accept_dad")
        space.run("ip", "addr", "add", f"10.99.0.{host}/24", "dev", link)
        space.run("ip", "-6", "addr", "add", f"fd99::{host}/64", "dev", link, "nodad")
        space.run("ip", "link", "set", link, "up")
    n.run("ip", "route", "add", "default", "via", "10.99.0.1")
    n.run("ip", "-6", "route", "add", "default", "via", "fd99::1")
    for address in METADATA:
        peer.run(
            "ip", "addr", "add", address, "dev", "veth1", *(["nodad"] if ":" in address else [])
        )
    peer.serve("peer", "10.99.0.1")
    n.serve("node", "127.0.0.53", "::1")
    yield n
    peer.close()


PROGRAMS = ["pasta", "slirp4netns"]


@pytest.fixture(params=PROGRAMS)
def program(request):
    return request.param


def using(program, *more):
    """The driver's options: what is first in its PATH is used."""
    if program == "pasta":
        return list(more)
    return ["--path", str(only_slirp()), *more]


@functools.cache
def only_slirp():
    folder = pathlib.Path(tempfile.mkdtemp(prefix="stoker-network-bin-"))
    atexit.register(shutil.rmtree, folder)
    folder.chmod(0o755)
    (folder / "slirp4netns").symlink_to("/usr/bin/slirp4netns")
    return folder


def test_reaches_ordinary_addresses(outer, program):
    probes = [f"+{kind} 10.99.0.1 {PORT}" for kind in ("tcp", "udp")]
    six = [f"+{kind} fd99::1 {PORT}" for kind in ("tcp", "udp")] if program == "pasta" else []
    answers = outer.inside(*probes, *six, options=using(program))
    assert answers == {p: "ok peer" for p in probes + six}
    assert outer.report[0] == program


def test_metadata_and_loopback_are_out_of_reach(outer, program):
    """And refused at once, rather than after a timeout, where it is the kernel that is asked."""
    metadata = [f"tcp {address} {PORT}" for address in METADATA]
    loopback = [
        f"tcp {address} {PORT}" for address in ("127.0.0.1", "::1", "127.0.0.53", "0.0.0.0")
    ]
    node_answers = outer.probe(*metadata, *loopback)
    assert node_answers == {p: "ok peer" for p in metadata} | {p: "ok node" for p in loopback}
    tried = [
        *metadata,
        *loopback,
        f"tcp ::ffff:127.0.0.1 {PORT}",
        f"tcp 198.18.0.2 {PORT}",
        f"tcp fd6c:8a1e:93d5::2 {PORT}",
        f"udp 169.254.169.254 {PORT}",
        f"udp 127.0.0.1 {PORT}",
        "tcp 127.0.0.53 53",
    ]
    answers = outer.inside(*tried, options=using(program))
    assert {a.split()[0] for a in answers.values()} == {"refused"}, answers


def test_bound_sockets_do_not_pass_by(outer):
    """A socket bound to the interface passes by an unreachable route, without any capability."""
    control = f"+bound 10.99.0.1 {PORT}"
    tried = [f"bound {address} {PORT}" for address in METADATA]
    answers = outer.inside(control, *tried)
    assert answers.pop(control) == "ok peer"
    assert not [a for a in answers.values() if a.startswith("ok")], answers


def test_raw_frames_do_not_pass_by(outer, program):
    """With CAP_NET_RAW a job writes frames to any address, the loopback's too."""
    control = [f"+frame 10.99.0.1 {PORT}"]
    tried = [f"frame {a} {PORT}" for a in ("169.254.169.254", "127.0.0.1", "127.0.0.53", "0.0.0.0")]
    if program == "pasta":
        control += [f"+frame fd99::1 {PORT}"]
        tried += [
            f"frame {a} {PORT}"
            for a in ("fd00:ec2::254", "::1", "::ffff:127.0.0.1", "::ffff:169.254.169.254")
        ]
    tried += [f"frame 198.18.0.2 {PORT}"]
    answers = outer.inside(*control, *tried, options=using(program, "--raw"))
    assert [answers.pop(c) for c in control] == ["ok SA"] * len(control), answers
    assert not [a for a in answers.values() if a.startswith("ok")], answers


@pytest.mark.parametrize(
    "server, inside",
    [
        ("10.99.0.1", "10.99.0.1"),
        ("127.0.0.53", "198.18.0.3"),
        ("::1", "fd6c:8a1e:93d5::3"),
    ],
)
def test_names_resolve(outer, program, server, inside):
    if program == "slirp4netns" and ":" in server:
        # It forwards to the node's IPv4 servers only.
        outer.resolv_conf(f"search example.test\nnameserver {server}\nnameserver 127.0.0.53\n")
        inside = "198.18.0.3"
    else:
        outer.resolv_conf(f"search example.test\nnameserver {server}\n")
    question = f"+dns {outer.folder / 'resolv.conf'} stoker.example"
    answers = outer.inside(question, options=using(program))
    assert answers[question] == f"ok {inside} 10.99.0.77"
    assert "search example.test\n" in outer.resolv


def test_a_node_without_network(lone_node, program):
    """Jobs start there too; what they ask for is refused."""
    probes = [f"tcp 10.99.0.1 {PORT}", f"tcp 127.0.0.1 {PORT}"]
    answers = lone_node.inside(*probes, options=using(program))
    assert lone_node.report[0] == program
    assert not [a for a in answers.values() if a.startswith("ok")], answers


def test_pasta_that_cannot_start(outer):
    """slirp4netns takes over, before the job starts or after."""
    broken = outer.folder / "pasta"
    broken.write_text("#!/bin/sh\necho no pasta today >&2\nexit 1\n")
    broken.chmod(0o755)
    outer.run("mount", "--bind", broken, "/usr/bin/pasta")
    probe = f"+tcp 10.99.0.1 {PORT}"
    assert outer.inside(probe, f"tcp fd99::1 {PORT}") == {
        probe: "ok peer",
        f"tcp fd99::1 {PORT}": "refused Network is unreachable",
    }
    assert outer.report[0] == "slirp4netns"
    outer.run("mount", "--bind", broken, "/usr/bin/slirp4netns")
    done = outer.container("true", check=False)
    assert done.returncode == 124
    assert done.stderr.count("exited with status 1: no pasta today") == 2, done.stderr


def test_a_program_that_dies_is_replaced(outer):
    script = (
        f"touch {outer.folder}/in; while ! test -e {outer.folder}/go; do sleep 0.01; done;"
        f"exec {PYTHON} {HERE}/network_probe.py '+tcp 10.99.0.1 {PORT}'"
    )
    with outer.running(
        DRIVER, "--report", outer.folder / "report", "sh", "-c", script, stdout=subprocess.PIPE
    ) as driver:
        wait_for(lambda: (outer.folder / "in").exists())
        program, pid, *_ = outer.report
        assert program == "pasta" and alive(pid)
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda: outer.report[0] == "slirp4netns")
        (outer.folder / "go").touch()
        assert json.loads(driver.communicate(timeout=30)[0]) == ["ok peer"]
    wait_for(lambda: not alive(outer.report[1]))


def test_a_first_connection_outlasts_a_stall(outer):
    """Of the program, or of the whole node: longer than a kernel asks for a neighbour by itself (3 s)."""
    probes = [f"+tcp {address} {PORT}" for address in ("10.99.0.1", "fd99::1")]
    report = outer.folder / "report"
    with outer.running(
        DRIVER,
        "--report",
        report,
        PYTHON,
        HERE / "network_probe.py",
        *probes,
        stdout=subprocess.PIPE,
    ) as driver:
        wait_for(report.exists)
        os.kill(outer.report[1], signal.SIGSTOP)
        time.sleep(4)
        with contextlib.suppress(ProcessLookupError):  # the probe has given up already
            os.kill(outer.report[1], signal.SIGCONT)
        assert json.loads(driver.communicate(timeout=30)[0]) == ["ok peer"] * 2


def alive(pid):
    try:
        stat = pathlib.Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat[stat.rindex(")") + 2] != "Z"


def wait_for(condition):
    for _ in range(1000):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("waited in vain")


def test_nothing_stays_behind(outer, program):
    """The program ends with the container, and with a starter that is killed."""
    outer.container("true", options=using(program))
    assert not alive(outer.report[1])
    (outer.folder / "report").unlink()
    with outer.running(
        DRIVER, "--report", outer.folder / "report", "--stay", *using(program), "true"
    ) as driver:
        wait_for(lambda: (outer.folder / "report").exists())
        pid = outer.report[1]
        time.sleep(0.2)  # until it has confined itself, which could undo the tie
        assert alive(pid)
        driver.kill()
    wait_for(lambda: not alive(pid))


def test_the_program_is_confined(outer, program):
    """Another user, no capability outside, no descriptor of the starter's, no files, system calls filtered,
    out of reach of the terminal."""
    script = f"touch {outer.folder}/in; while ! test -e {outer.folder}/go; do sleep 0.01; done"
    with outer.running(
        DRIVER, "--report", outer.folder / "report", *using(program), "sh", "-c", script
    ) as driver:
        wait_for(lambda: (outer.folder / "in").exists())
        pid = outer.report[1]
        folder = pathlib.Path(f"/proc/{pid}")
        # The interface is up before the program has given up all that it can.
        wait_for(lambda: "Seccomp:\t2" in (folder / "status").read_text())
        status = dict(
            line.split(":\t", 1)
            for line in (folder / "status").read_text().splitlines()
            if ":\t" in line
        )
        assert status["Uid"].split()[0] == "100000" and status["Gid"].split()[0] == "100000"
        assert status["Groups"].strip() == ""
        assert status["Seccomp"] == "2" and status["NoNewPrivs"] == "1"
        assert os.readlink(folder / "ns/user") != os.readlink("/proc/self/ns/user")
        # slirp4netns keeps two for its resolver.
        seen = {"etc", "run"} if program == "slirp4netns" else set()
        assert set(os.listdir(folder / "root")) == seen
        assert os.getsid(pid) != os.getsid(driver.pid)
        files = [os.readlink(p) for p in (folder / "fd").iterdir()]
        mine = (
            "socket:",
            "anon_inode:",
            "/dev/net/tun",
            "pipe:",
            "net:",
            "/null",
            "/tun",
            "/dev/null",
        )
        assert all(f.startswith(mine) for f in files), files
        (outer.folder / "go").touch()
    assert driver.returncode == 0


def open_device(n):
    """As udev has it: everybody may open /dev/net/tun."""
    tun = n.folder / "tun"
    n.run("mknod", tun, "c", "10", "200")
    n.run("chmod", "666", tun)
    n.run("mount", "--bind", tun, "/dev/net/tun")


@pytest.mark.parametrize("mode", ["600", "666"])
def test_the_device_may_be_for_root_only(outer, program, mode):
    open_device(outer)
    outer.run("chmod", mode, "/dev/net/tun")
    probe = f"+tcp 10.99.0.1 {PORT}"
    assert outer.inside(probe, options=using(program)) == {probe: "ok peer"}


def test_rootless(outer, program):
    """An ordinary user, whose namespace maps that user only. No eBPF: the filter at the egress."""
    open_device(outer)
    good = [f"+tcp 10.99.0.1 {PORT}", f"+bound 10.99.0.1 {PORT}"]
    bad = [f"tcp {METADATA[0]} {PORT}", f"bound {METADATA[0]} {PORT}", f"tcp 127.0.0.1 {PORT}"]
    done = outer.run(
        "setpriv",
        "--reuid=1234",
        "--regid=1234",
        "--clear-groups",
        DRIVER,
        *using(program),
        PYTHON,
        HERE / "network_probe.py",
        *good,
        *bad,
    )
    answers = json.loads(done.stdout)
    assert answers[: len(good)] == ["ok peer"] * len(good)
    assert not [a for a in answers[len(good) :] if a.startswith("ok")], answers


def test_starts_in_time(outer):
    """The start costs the caller little, and the interface is there soon; generously, for busy machines."""
    times = []
    for _ in range(10):
        outer.container("true")
        times.append(outer.report[2:])
    start, ready = (sorted(t)[len(t) // 2] for t in zip(*times, strict=True))
    print(f"median: network_start {start} us, up after {ready} us")
    assert start < 10000 and ready < 200000
