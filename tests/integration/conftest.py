# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the integration tests: real registries, images made by hand, and nodes that are checked for
what they leave behind. As root; no network but loopback. STOKER_BINARY names the program under test."""

import ctypes
import os
import pathlib
import re
import shutil
import subprocess
import time

import attack
import node
import ociimage
import pytest
import registries

pytest_plugins = ["condalab", "controller", "shared_controllers"]

PR_SET_CHILD_SUBREAPER = 36
# What the kernel says when something is wrong, as a pattern; both file systems also say what is fine.
KERNEL_COMPLAINTS = re.compile(
    r"erofs(?!.*mounted with root inode)|overlayfs(?!.*\"xino)"
    r"|BUG:|WARNING:|Oops|general protection"
)

# Longest first: with several processes none is left alone with one of these at the end.
LONGEST = ["nasty_image", "controller_openapi", "registry", "supervise", "runtime_tools", "control_faults",
           "files_s3", "bad_layers", "sandbox_attacks"]  # fmt: skip


def pytest_addoption(parser):
    parser.addoption("--full", action="store_true", help="also what takes minutes and gigabytes")
    parser.addoption("--vm", action="store_true", help="also what only a machine of its own allows")
    parser.addoption(
        "--campaign", type=int, default=10, metavar="N", help="how often the kill tests kill"
    )


def pytest_configure(config):
    config.addinivalue_line("markers", "full: takes minutes; run with --full only")
    config.addinivalue_line(
        "markers", "vm: changes the machine, or needs its systemd; tests/vm/run"
    )
    # Orphans come to us, so that a helper that outlives its parent is found.
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise pytest.UsageError("prctl(PR_SET_CHILD_SUBREAPER) failed")
    if os.geteuid() != 0:
        raise pytest.UsageError("the integration tests mount file systems: run them as root")
    if not os.access(node.BINARY, os.X_OK):
        raise pytest.UsageError(f"no program at {node.BINARY}: build it, or set STOKER_BINARY")


def pytest_collection_modifyitems(config, items):
    """Without --full, `full` tests are deselected, which is no skip: CI fails on skips. So are `vm`."""
    left_out = {m for m in ("full", "vm") if not config.getoption(f"--{m}")}
    config.hook.pytest_deselected(items=[i for i in items if left_out & set(i.keywords)])
    items[:] = [i for i in items if not left_out & set(i.keywords)]
    if hasattr(config, "workerinput"):  # one of several processes
        items.sort(key=lambda i: place_in_queue(i.path.stem.removeprefix("test_")))


def place_in_queue(name):
    return LONGEST.index(name) if name in LONGEST else len(LONGEST)


@pytest.fixture
def tmp(tmp_path_factory):
    """A short temporary path, removed at the end even when the test fails (images are large)."""
    folder = tmp_path_factory.mktemp("t", numbered=True)
    yield folder
    node.unmount_below(folder)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def make_stoker(tmp):
    """A function that makes nodes, each with its own store. All are checked at the end."""
    nodes = []

    def make():
        nodes.append(node.Stoker(tmp / f"node{len(nodes)}"))
        return nodes[-1]

    yield make
    try:
        for n in nodes:
            n.assert_nothing_left()
    finally:
        for n in nodes:
            n.destroy()


@pytest.fixture
def stoker(make_stoker):
    """A node. stoker("pull", ref) runs to the end; stoker.fails("pull", ref, needles=["404"]) expects
    one error line; see node.Stoker."""
    return make_stoker()


@pytest.fixture
def layout(tmp):
    """An empty OCI layout to fill: layout.image([layout.layer(Tar().file("a", "b"))])."""
    return ociimage.Layout(tmp / "layout")


@pytest.fixture
def image_builder(tmp):
    """A function that makes a layout of one image from tars: image_builder(tar, tar, compression="zstd").
    Names of further layouts: image_builder(..., name="other")."""

    def build(*tars, compression="gzip", name="built", tag="latest", **options):
        built = ociimage.Layout(tmp / name)
        built.image([built.layer(t, compression) for t in tars], tag, **options)
        return built

    return build


@pytest.fixture(scope="session")
def _registry(tmp_path_factory):
    server = registries.DockerRegistry(tmp_path_factory.mktemp("registry"))
    yield server
    server.stop()
    registries.remove(server.folder)


@pytest.fixture
def registry(_registry):
    """docker-registry, plain HTTP, anyone. One for the whole run (take repository names of your own);
    its log begins anew with each test. registry.push(layout, "name") returns the reference."""
    _registry.forget()
    return _registry


@pytest.fixture(scope="session")
def _registry_auth_tls(tmp_path_factory):
    server = registries.htpasswd_registry(tmp_path_factory.mktemp("registry-tls"))
    yield server
    server.stop()
    registries.remove(server.folder)


@pytest.fixture
def registry_auth_tls(_registry_auth_tls):
    """TLS by `.authority.certificate`, Basic authentication as `.user`, `.password`."""
    _registry_auth_tls.forget()
    return _registry_auth_tls


@pytest.fixture
def registry_token(tmp_path_factory):
    """Behind a Bearer token service (`.service`: see registries.TokenService)."""
    server = registries.token_registry(tmp_path_factory.mktemp("registry-token"))
    yield server
    server.stop()
    server.service.stop()
    registries.remove(server.folder)


@pytest.fixture
def scripted(layout):
    """A registry of ours that serves `layout` and misbehaves by `.rules`."""
    server = registries.ScriptedRegistry(layout)
    yield server
    server.stop()


@pytest.fixture
def make_scripted(tmp):
    """make_scripted(layout, tls=True): further ScriptedRegistry servers, with TLS if wanted."""
    servers = []

    def make(layout=None, tls=False):
        authority, pair = None, None
        if tls:
            authority = registries.Authority(tmp / f"ca{len(servers)}")
            pair = authority.issue()
        servers.append(registries.ScriptedRegistry(layout, pair, authority))
        return servers[-1]

    yield make
    for server in servers:
        server.stop()


@pytest.fixture
def small_image(layout):
    """`layout` with one small gzip layer, tagged latest. Returns the layer."""
    tar = ociimage.Tar().dir("etc").file("etc/hostname", "stoker\n").symlink("link", "etc/hostname")
    layer = layout.layer(tar)
    layout.image([layer])
    return layer


@pytest.fixture
def kernel_log():
    """Fails the test when the kernel complains about file systems meanwhile."""
    marker = f"stoker-test-{os.urandom(6).hex()}"
    pathlib.Path("/dev/kmsg").write_text(marker + "\n")
    yield
    time.sleep(0.05)
    text = subprocess.run(["dmesg"], check=True, stdout=subprocess.PIPE).stdout.decode(
        errors="replace"
    )
    assert marker in text, "the kernel's log ran over"
    since = text[text.rindex(marker) :].splitlines()[1:]
    bad = [line for line in since if KERNEL_COMPLAINTS.search(line)]
    assert not bad, "\n".join(bad)


@pytest.fixture
def canary():
    """What nothing may happen to on the node (attack.Canary)."""
    settings = [pathlib.Path("/proc/sys/kernel", n) for n in ("core_pattern", "panic")]
    before = [path.read_text() for path in settings]
    made = attack.Canary()
    try:
        yield made
        made.assert_alive()
        assert before == [path.read_text() for path in settings]
    finally:
        made.remove()


@pytest.fixture(scope="session")
def _probe_image(_registry, tmp_path_factory):
    return attack.push_probe(_registry, tmp_path_factory.mktemp("probe"))


@pytest.fixture
def probe_image(_probe_image, registry):
    """The image of nothing but /probe (tests/integration/probe)."""
    return _probe_image


@pytest.fixture
def make_probe_image(registry, tmp):
    """make_probe_image(tar, WorkingDir="/x"): the same with further layers and configuration."""
    return lambda *tars, **config: attack.push_probe(registry, tmp, *tars, **config)
