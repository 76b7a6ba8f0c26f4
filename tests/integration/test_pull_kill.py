# SPDX-License-Identifier: Apache-2.0
"""kill -9 of any process of a pull at any moment: the store stays usable, nothing half-made is visible,
the next pull goes on where this one was, and nothing stays behind. --campaign N sets how often."""

import gzip
import os
import pathlib
import random
import signal
import socket
import struct
import subprocess
import time

import node
import ociimage
import pytest
import registries
import treecompare

LAYERS = 4
# What may be fetched again: bytes that were in sockets when the reader died, on each connection. The
# kernel lets a receive buffer grow with the rate; on a loaded machine a reader is further behind.
IN_FLIGHT = 6 * (1 << 20)
MANIFESTS = 64 << 10


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    """A layout of four layers, about 6 MB each, and what is in it."""
    folder = tmp_path_factory.mktemp("kill")
    layout = ociimage.Layout(folder / "layout")
    chance = random.Random(1)
    layers = []
    for i in range(LAYERS):
        tar = ociimage.Tar().dir(f"layer{i}")
        for j in range(40):
            tar.file(f"layer{i}/{j}", chance.randbytes(150_000) + bytes(20_000), uid=j)
        tar.file("which", f"{i}")
        layers.append(layout.layer(tar, "zstd" if i == 2 else "gzip"))
    layout.image(layers)
    yield layout, layers
    registries.remove(folder)


@pytest.fixture
def server(image):
    server = registries.ScriptedRegistry(image[0])
    # What is sent shall be what is read, or nearly.
    server.server.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 64 << 10)
    yield server
    server.stop()


def role_of(command):
    for role in ("fetcher", "layer"):
        if role in command.split()[1:2]:
            return role
    return "coordinator"


def kill_something(chance, victim_role):
    """Kill one process of the pull, of the role if it has one now, or all of them. Returns the role
    killed; None when the pull was over."""
    found = node.stoker_processes()
    roles = {role_of(command) for command in found.values()}
    if roles and victim_role != "all" and victim_role not in roles:
        victim_role = chance.choice(sorted(roles))
    chosen = [pid for pid, command in found.items() if role_of(command) == victim_role]
    victims = list(found) if victim_role == "all" else [chance.choice(chosen)] if chosen else []
    for pid in victims:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            return None
    return victim_role if victims else None


def assert_visible_is_whole(stoker, layers):
    names = {layer.diff_id.removeprefix("sha256:") + ".erofs" for layer in layers}
    for file in stoker.layers():
        assert file.name in names
        checked = subprocess.run(["fsck.erofs", str(file)], capture_output=True, text=True)
        assert checked.returncode == 0, f"{file.name} is half-made: {checked.stderr}"


def broken_pull(stoker, reference, delay, role, chance):
    """Start a pull, kill after `delay`, wait for the end. Returns whether something was killed."""
    process = stoker.popen("pull", reference)
    time.sleep(delay)
    killed = kill_something(chance, role)
    try:
        out, err = process.communicate(timeout=60)
    except subprocess.TimeoutExpired:
        process.kill()
        raise AssertionError(f"the pull hangs after a kill of {role}") from None
    node.Stoker.own_children.discard(process.pid)
    if process.returncode > 0:  # a helper was killed, and the coordinator says so
        stoker.assert_error(subprocess.CompletedProcess([], process.returncode, out, err))
    deadline = time.monotonic() + 10
    while (left := node.stoker_processes()) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not left, f"helpers outlive a kill of {role}: {left}"
    return killed


def undisturbed(tmp, server, name):
    """Seconds that a pull takes, and the tree that it gives."""
    stoker = node.Stoker(tmp / name)
    try:
        start = time.monotonic()
        stoker.pull(server.reference())
        taken = time.monotonic() - start
        with stoker.mounted(server.reference()) as root:
            return taken, treecompare.snapshot(root)
    finally:
        stoker.destroy()


def one_round(stoker, server, layers, expected, delay, role, chance):
    total = sum(layer.size for layer in layers)
    server.forget()
    killed = broken_pull(stoker, server.reference(), delay, role, chance)
    stoker.killed = True
    assert_visible_is_whole(stoker, layers)
    stoker("images")
    stoker.pull(server.reference())
    assert_visible_is_whole(stoker, layers)
    assert len(stoker.layers()) == LAYERS and stoker.parts() == []
    again = server.blob_bytes() - total
    assert again <= IN_FLIGHT + MANIFESTS, f"{again} bytes fetched twice"
    with stoker.mounted(server.reference()) as root:
        wrong = treecompare.differences(expected, treecompare.snapshot(root))
    assert not wrong, wrong[:5]
    stoker.assert_nothing_left()
    return killed, again


def test_kills_at_random(pytestconfig, tmp, server, image):
    """Half of the pulls at full speed, half at 3 MB/s a connection, so that all phases are hit."""
    _, layers = image
    seed = random.randrange(1 << 32)
    chance = random.Random(seed)
    slow = [lambda e: registries.slowly(3 << 20) if e.is_blob else None]
    times = {}
    for rate, rules in (("full", []), ("slow", slow)):
        server.rules[:] = rules
        times[rate], expected = undisturbed(tmp, server, f"undisturbed-{rate}")
    hit, worst = {}, 0
    for i in range(pytestconfig.getoption("--campaign")):
        rate = ("full", "slow")[i % 2]
        server.rules[:] = slow if rate == "slow" else []
        role = ("coordinator", "fetcher", "layer", "all")[i // 2 % 4]
        delay = chance.uniform(0, times[rate])
        stoker = node.Stoker(tmp / f"round{i}")
        try:
            killed, again = one_round(stoker, server, layers, expected, delay, role, chance)
        except AssertionError as e:
            raise AssertionError(
                f"seed {seed}, round {i}: {role} killed after {delay:.3f} s, {rate} speed: {e}"
            ) from e
        finally:
            stoker.destroy()
        hit[killed] = hit.get(killed, 0) + 1
        worst = max(worst, again)
    print(f"killed: {hit}, fetched again at most: {worst} bytes, pulls took {times}")
    # Moments at which the role had no process hit nothing; most must hit.
    assert sum(n for role, n in hit.items() if role) * 2 >= sum(hit.values()), hit


def test_killed_again_and_again(tmp, server, image):
    """One store through many broken pulls: progress adds up, and so do no leftovers."""
    _, layers = image
    server.rules.append(lambda e: registries.slowly(3 << 20) if e.is_blob else None)
    chance = random.Random(7)
    stoker = node.Stoker(tmp / "again")
    stoker.killed = True
    rounds = 6
    try:
        for _ in range(rounds):
            broken_pull(stoker, server.reference(), chance.uniform(0.1, 0.6), "all", chance)
            assert_visible_is_whole(stoker, layers)
        stoker.pull(server.reference())
        total = sum(layer.size for layer in layers)
        assert server.blob_bytes() - total <= (rounds + 1) * IN_FLIGHT
        assert stoker.parts() == []
        stoker.assert_nothing_left()
    finally:
        stoker.destroy()


def keep_part(stoker, layer, data):
    """What a pull that was broken off at the end of the blob leaves, with `data` for its bytes."""
    chunk = 4 << 20
    assert len(data) == layer.size <= chunk
    stoker("images")  # makes the folders
    part = stoker.state / "parts" / layer.digest.removeprefix("sha256:")
    part.write_bytes(data)
    header = b"STKPART1" + struct.pack("=QIII", layer.size, chunk, 1, layer.size)
    pathlib.Path(f"{part}.map").write_bytes(header)


@pytest.fixture
def noise(layout):
    """A layout with one layer of noise; returns the layer and its bytes."""
    layer = layout.layer(ociimage.Tar().file("noise", random.Random(3).randbytes(600_000)))
    layout.image([layer])
    return layer, layout.blob_path(layer.digest).read_bytes()


def test_part_of_a_layer_that_is_here(stoker, scripted, layout, noise):
    """Its maker was killed between making the layer visible and removing the bytes."""
    layer, blob = noise
    stoker.pull(scripted.reference())
    keep_part(stoker, layer, blob)
    layout.image([layer], "second")
    stoker.pull(scripted.reference(tag="second"))
    assert stoker.parts() == []


def test_torn_part_over_a_limit(stoker, scripted, noise):
    """What a power cut left is larger than any layer may be: noticed before the digest is known."""
    layer, blob = noise
    stoker.configure(layers={"max_size": "1M"})
    torn = gzip.compress(ociimage.Tar().file("big", bytes(4 << 20)).bytes())
    keep_part(stoker, layer, torn + bytes(len(blob) - len(torn)))
    assert "may be damaged; fetching them again" in stoker.pull(scripted.reference()).stderr
    assert len(stoker.layers()) == 1 and stoker.parts() == []


def test_worker_that_dies_of_kept_bytes(stoker, scripted, noise):
    layer, blob = noise
    keep_part(stoker, layer, blob)
    part = stoker.state / "parts" / layer.digest.removeprefix("sha256:")
    with open(f"{part}.map", "r+b") as f:  # the last bytes are missing, and do not come
        f.seek(24)
        f.write(struct.pack("=I", layer.size - 1000))
    scripted.rules.append(lambda e: registries.slowly(200) if e.is_blob else None)
    process = stoker.popen("pull", scripted.reference())
    deadline = time.monotonic() + 10
    workers = []
    while not workers and time.monotonic() < deadline:
        found = node.stoker_processes()
        workers = [pid for pid, command in found.items() if role_of(command) == "layer"]
    time.sleep(0.1)
    scripted.rules.clear()
    os.kill(workers[0], signal.SIGKILL)
    _, err = process.communicate(timeout=60)
    node.Stoker.own_children.discard(process.pid)
    assert process.returncode == 0 and "may be damaged" in err, err
    assert len(stoker.layers()) == 1 and stoker.parts() == []
