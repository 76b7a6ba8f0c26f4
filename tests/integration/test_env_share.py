# SPDX-License-Identifier: Apache-2.0
"""Environments in a registry: what we push other tools read, another node gets the same layer, and what
breaks off, is refused or lies leaves nothing half-made."""

import hashlib
import json
import os
import pathlib
import subprocess
import time

import faulty_registry
import node
import ociimage
import pytest

DRIVER = pathlib.Path(node.BINARY).parent / "tests" / "seal_driver"
REQUEST = "ab" * 32


def run(*command, **options):
    done = subprocess.run(
        [*map(str, command)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False, **options,
    )  # fmt: skip
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout.strip()


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """Some of Python's own library, and a file of megabytes."""
    root = tmp_path_factory.mktemp("tree")
    library = root / "opt/stoker/env/lib/python3"
    library.mkdir(parents=True)
    source = pathlib.Path(json.__file__).parent.parent
    for name in ("json", "email", "encodings", "asyncio", "ast.py", "os.py"):
        run("cp", "-a", source / name, library)
    (library / "big").write_bytes(os.urandom(5_000_000))
    return root


@pytest.fixture
def base(registry, layout):
    layout.image([layout.layer(ociimage.Tar().dir("etc").file("etc/hostname", "stoker\n"))])
    return registry.push(layout, "share/base")


def lock_file(tmp, version="1.0"):
    package = {
        "name": "six", "version": version,
        "url": f"https://files.example/six-{version}-py3-none-any.whl", "sha256": "ab" * 32,
    }  # fmt: skip
    path = tmp / "lock.json"
    path.write_text(
        json.dumps(
            {
                "stoker_lock": 1,
                "platform": "linux/amd64",
                "image": "sha256:" + "0" * 64,
                "prefix": "/opt/stoker/env",
                "tool": {"name": "venv", "version": "3.11.2"},
                "python": "/usr/bin/python3",
                "inherit_image_packages": False,
                "conda": [],
                "pip": [package],
            }  # fmt: skip
        )
    )
    return path


def make_environment(stoker, base, tree, tmp, form="erofs", version="1.0"):
    stoker("pull", "--layer-format", form, base)
    return run(
        DRIVER, "environment", stoker.state, stoker.run_dir, base, tree, form,
        lock_file(tmp, version), REQUEST, "PATH=/opt/stoker/env/bin:/bin",
    )  # fmt: skip


def fetch(stoker, base):
    stoker("pull", base)
    return run(
        DRIVER, "fetch", stoker.state, stoker.run_dir, base, stoker.config_path, REQUEST,
        env=stoker.environment,
    )  # fmt: skip


def share_in(stoker, repository):
    stoker.configure(environments={"registry": repository})


def top_layer(stoker, key):
    shown = json.loads(stoker("env", "show", "--json", key).stdout)
    return stoker.state / "layers/sha256" / (shown["layer"].removeprefix("sha256:") + ".erofs")


def test_list_show_export(stoker, base, tree, tmp):
    key = make_environment(stoker, base, tree, tmp)
    assert key[:12] in stoker("env", "ls").stdout
    listed = stoker.json("env", "ls", "--json")
    assert [(e["key"], e["packages"], e["here"]) for e in listed] == [(key, 1, True)]
    text = stoker("env", "show", key[:8]).stdout
    assert "six 1.0" in text
    assert REQUEST in text
    assert "PATH=/opt/stoker/env/bin:/bin" in text
    lock = stoker("env", "lock", key[:8]).stdout
    assert hashlib.sha256(b"stoker/env/v1\n" + lock.encode()).hexdigest() == key
    stoker("env", "export", key[:8], "--layer", tmp / "layer.tar")
    digest = "sha256:" + hashlib.sha256((tmp / "layer.tar").read_bytes()).hexdigest()
    assert digest == stoker.json("env", "show", "--json", key)["layer"]
    assert sorted(p.name for p in tmp.glob("layer.tar*")) == ["layer.tar"]
    stoker.fails("env", "show", "ffff", needles=["ffff", "stoker env ls"])
    stoker.fails("env", "wash", needles=["wash"], status=2)
    stoker.fails("env", "push", key[:8], needles=["environments.registry"])
    stoker("rmi", stoker.json("env", "show", "--json", key)["reference"])
    assert [e["here"] for e in stoker.json("env", "ls", "--json")] == [False]
    stoker.fails("env", "push", key, "localhost:1/x", needles=[key[:12], "evicted"])
    stoker("env", "rm", key[:8])
    assert stoker.json("env", "ls", "--json") == []
    assert len(stoker.layers()) == 1


@pytest.mark.parametrize("form", ["erofs", "directory"])
def test_push_pull(make_stoker, registry, base, tree, tmp, form):
    """Base layers are mounted, ours is sent; a second node gets the same layer, to the byte; a second
    push sends nothing."""
    first, second = make_stoker(), make_stoker()
    repository = f"{registry.address}/share/env-{form}"
    for n in (first, second):
        share_in(n, repository)
    key = make_environment(first, base, tree, tmp, form)
    registry.forget()
    pushed = first("env", "push", key[:8])
    assert "1 layers were there, 1 sent" in pushed.stderr
    assert registry.blob_bytes() == 0  # the base's layer was mounted, not fetched
    again = first("env", "push", key[:8])
    assert again.stdout == pushed.stdout
    assert fetch(second, base) == key
    if form == "erofs":
        assert top_layer(second, key).read_bytes() == top_layer(first, key).read_bytes()
    shown = second.json("env", "show", "--json", key)
    assert shown["layer"] == first.json("env", "show", "--json", key)["layer"]
    assert shown["requests"] == [REQUEST]
    with second.mounted(shown["reference"]) as root:
        run("diff", "-r", "--no-dereference", tree / "opt", root / "opt")
    # A node that knows it from the registry can pass it on.
    other = f"{registry.address}/share/other-{form}:v1"
    second("env", "push", key, other)
    third = make_stoker()
    assert third("env", "pull", other).stdout.strip() == key


def test_other_tools(stoker, registry, base, tree, tmp):
    key = make_environment(stoker, base, tree, tmp)
    reference = f"{registry.address}/share/tools:v1"
    digest = stoker("env", "push", key, reference).stdout.strip()
    inspected = json.loads(run("skopeo", "inspect", "--tls-verify=false", f"docker://{reference}"))
    assert inspected["Digest"] == digest
    assert inspected["Labels"]["io.stoker.environment.key"] == key
    assert "PATH=/opt/stoker/env/bin:/bin" in inspected["Env"]
    run(
        "skopeo", "copy", "--src-tls-verify=false", f"docker://{reference}", f"oci:{tmp}/oci:v1",
    )  # fmt: skip
    run("umoci", "unpack", "--image", f"{tmp}/oci:v1", tmp / "bundle")
    stoker("env", "export", key, "--oci", tmp / "exported")
    name = f"{tmp}/exported:env-{key[:32]}"
    run("umoci", "unpack", "--image", name, tmp / "other")
    run("diff", "-r", "--no-dereference", tmp / "bundle/rootfs", tmp / "other/rootfs")
    stoker.fails("env", "export", key, "--oci", tmp / "exported", needles=["not empty"])
    stoker.fails("env", "export", key, needles=["--layer", "--oci"], status=2)
    run("diff", "-r", "--no-dereference", tree / "opt", tmp / "bundle/rootfs/opt")
    assert (tmp / "bundle/rootfs/etc/hostname").read_text() == "stoker\n"


def test_docker_family(make_stoker, registry, layout, tree, tmp):
    """A base in Docker's media types stays in that family."""
    layer = layout.layer(ociimage.Tar().file("a", "b"))
    layout.image([layer], docker=True)
    base = registry.push(layout, "share/docker")
    stoker = make_stoker()
    key = make_environment(stoker, base, tree, tmp)
    reference = f"{registry.address}/share/docker-env:v1"
    stoker("env", "push", key, reference)
    raw = run("skopeo", "inspect", "--raw", "--tls-verify=false", f"docker://{reference}")
    manifest = json.loads(raw)
    docker = "application/vnd.docker."
    assert manifest["mediaType"] == docker + "distribution.manifest.v2+json"
    assert manifest["config"]["mediaType"] == docker + "container.image.v1+json"
    types = [la["mediaType"] for la in manifest["layers"]]
    assert types == [docker + "image.rootfs.diff.tar.gzip"] * 2
    assert make_stoker()("env", "pull", reference).stdout.strip() == key


def test_evicted(make_stoker, registry, base, tree, tmp):
    """An environment's layer makes room like any other, and the lock stays."""
    stoker = make_stoker()
    key = make_environment(stoker, base, tree, tmp)
    layer = top_layer(stoker, key)
    with stoker.mounted(stoker.json("env", "show", "--json", key)["reference"]):
        stoker("prune", "--all")
        assert layer.exists()
    stoker("prune", "--all")
    assert not layer.exists()
    assert [e["here"] for e in stoker.json("env", "ls", "--json")] == [False]
    assert '"six"' in stoker("env", "lock", key).stdout


def test_tokens(make_stoker, registry_token, layout, tree, tmp):
    """Scopes: a token for pulling is not one for pushing, and mounting needs two repositories."""
    layout.image([layout.layer(ociimage.Tar().file("a", "b"))])
    base = registry_token.push(layout, "private/base")
    stoker = make_stoker()
    share_in(stoker, f"{registry_token.address}/private/env")
    key = make_environment(stoker, base, tree, tmp)
    stoker.fails("env", "push", key, needles=["docker login", "private/env"])
    stoker.docker_login(registry_token.address, registry_token.user, registry_token.password)
    assert "1 layers were there, 1 sent" in stoker("env", "push", key).stderr
    assert any("repository:private/env:push,pull" in s or "repository:private/env:pull,push" in s
               for _, scopes in registry_token.service.asked for s in scopes)  # fmt: skip
    other = make_stoker()
    share_in(other, f"{registry_token.address}/private/env")
    assert fetch(other, base) == key


def test_passed_on(make_stoker, registry, registry_auth_tls, layout, tree, tmp):
    """Another registry, with TLS and a password: the base's layers are fetched from theirs and sent."""
    layout.image([layout.layer(ociimage.Tar().file("a", bytes(300_000)))])
    base = registry.push(layout, "share/far")
    stoker = make_stoker()
    stoker.configure(
        registries={
            "hosts": {
                registry_auth_tls.address: {"ca": str(registry_auth_tls.authority.certificate)}
            }
        }
    )
    key = make_environment(stoker, base, tree, tmp)
    to = f"{registry_auth_tls.address}/far/env:v1"
    stoker.fails("env", "push", key, to, needles=["401", "docker login"])
    stoker.docker_login(
        registry_auth_tls.address, registry_auth_tls.user, registry_auth_tls.password
    )
    assert "0 layers were there, 2 sent" in stoker("env", "push", key, to).stderr
    assert stoker.parts() == []
    stoker("rmi", base)
    assert stoker("env", "pull", to).stdout.strip() == key


def test_not_there(stoker, registry, base, tmp):
    share_in(stoker, f"{registry.address}/share/empty")
    assert fetch(stoker, base) == "no"
    share_in(stoker, "localhost:1/nobody/home")
    stoker.configure(
        environments={"registry": "localhost:1/nobody/home"}, registries={"retries": 0}
    )
    assert fetch(stoker, base) == "no"


def test_no_environment(stoker, registry, base):
    stoker.fails("env", "pull", base, needles=[base, "no environment"])
    assert stoker("images").stdout.count("\n") == 1


def test_liar(make_stoker, registry, base, tree, tmp, layout):
    """A lock that was changed gives another key than the label says; an environment of another image is
    not taken for a request."""
    first = make_stoker()
    key = make_environment(first, base, tree, tmp)
    reference = f"{registry.address}/share/liar:v1"
    first("env", "push", key, reference)
    run("skopeo", "copy", "--src-tls-verify=false", f"docker://{reference}", f"oci:{tmp}/oci:v1")
    run(
        "umoci", "config", "--image", f"{tmp}/oci:v1", "--config.label",
        "io.stoker.environment.lock=" + lock_file(tmp, "6.6.6").read_text(),
    )  # fmt: skip
    run(
        "skopeo", "copy", "--dest-tls-verify=false", f"oci:{tmp}/oci:v1", f"docker://{reference}",
    )  # fmt: skip
    second = make_stoker()
    second.fails("env", "pull", reference, needles=["its lock is that of"])
    assert second("images").stdout.count("\n") == 1
    layout.image([layout.layer(ociimage.Tar().file("else", "x"))], "other")
    other = registry.push(layout, "share/else", "other")
    share_in(first, f"{registry.address}/share/wrong")
    first("env", "push", key)
    share_in(second, f"{registry.address}/share/wrong")
    second("pull", other)
    done = subprocess.run(
        [DRIVER, "fetch", second.state, second.run_dir, other, second.config_path, REQUEST],
        env=second.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=True,
    )  # fmt: skip
    assert done.stdout == b"no\n"
    assert b"not made of this image" in done.stderr


def test_killed(stoker, registry, base, tree, tmp, request):
    """kill -9 at some moments: never a tag without its blobs, nothing left in the store, and at last it
    is there."""
    key = make_environment(stoker, base, tree, tmp)
    reference = f"{registry.address}/share/killed:v1"
    start = time.monotonic()
    stoker("env", "push", key, f"{registry.address}/share/whole:v1")
    whole = time.monotonic() - start
    count = 40 if request.config.getoption("--full") else 5
    for i in range(count):
        with stoker.popen("env", "push", key, reference) as process:
            time.sleep(whole * (i + 1) / (count + 1))
            process.kill()
            process.communicate()
        done = subprocess.run(
            ["skopeo", "copy", "--src-tls-verify=false", f"docker://{reference}", f"dir:{tmp}/d{i}"],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0 or "manifest unknown" in done.stderr, done.stderr
    stoker.killed = True
    stoker("env", "push", key, reference)
    assert stoker.temporary_files() == []
    run("skopeo", "copy", "--src-tls-verify=false", f"docker://{reference}", f"dir:{tmp}/whole")


# ---- faults


@pytest.fixture
def target():
    server = faulty_registry.UploadRegistry()
    yield server
    server.stop()


@pytest.fixture
def environment(stoker, base, tree, tmp):
    """Its key, in `stoker`, which does not wait long."""
    stoker.configure(registries={"stall_timeout": 1, "retries": 2})
    return make_environment(stoker, base, tree, tmp)


def complete(target):
    """Does the tag name an image of which everything is there?"""
    manifest = json.loads(target.manifests["v1"])
    return all(d["digest"] in target.blobs for d in [manifest["config"], *manifest["layers"]])


@pytest.mark.parametrize(
    ("method", "fault"),
    [
        ("HEAD", 500), ("HEAD", ("cut", 0)), ("POST", 429), ("POST", "hang"), ("PUT", 500),
        ("PUT", 404), ("PUT", ("cut", 100_000)), ("PUT", "hang"),
    ],
)  # fmt: skip
def test_passing_fault(stoker, environment, target, method, fault):
    target.fault = lambda m, path, count: fault if m == method and count == 0 else None
    pushed = stoker("env", "push", environment, f"{target.address}/x:v1")
    assert "retrying in" in pushed.stderr
    assert complete(target)


@pytest.mark.parametrize(
    ("method", "status", "needles"),
    [
        ("POST", 403, ["denied", "403"]),
        ("PUT", 400, ["400"]),
        ("PUT", 401, ["401", "docker login"]),
        ("PUT", 500, ["500", "x"]),
        ("HEAD", 500, ["500", "gave up"]),
        ("POST", 405, ["takes no uploads"]),
    ],
)
def test_lasting_fault(stoker, environment, target, method, status, needles):
    """One line, in time, and no tag."""
    target.fault = lambda m, path, count: status if m == method else None
    stoker.fails("env", "push", environment, f"{target.address}/x:v1", needles=needles)
    assert target.manifests == {}
    assert stoker.temporary_files() == []


def test_manifest_refused(stoker, environment, target):
    target.fault = lambda m, path, count: 403 if "/manifests/" in path else None
    stoker.fails("env", "push", environment, f"{target.address}/x:v1", needles=["tag v1", "403"])


@pytest.mark.parametrize("remembers", [True, False])
def test_resumed(stoker, base, target, tmp, remembers):
    """A large layer goes in chunks; what has arrived is not sent again where the registry remembers."""
    stoker.configure(registries={"stall_timeout": 1, "retries": 2})
    big = tmp / "tree/opt/stoker/env/big"
    big.parent.mkdir(parents=True)
    big.write_bytes(os.urandom(80_000_000))
    key = make_environment(stoker, base, tmp / "tree", tmp)

    def fault(method, path, count):
        if method == "PATCH" and count == 0:
            return ("cut", 40_000_000)
        return 404 if method == "GET" and not remembers else None

    target.fault = fault
    assert "retrying in" in stoker("env", "push", key, f"{target.address}/x:v1").stderr
    assert complete(target)
    assert (target.received < 90_000_000) == remembers


def test_forgetful(stoker, base, target, tmp):
    """A registry that takes chunks and keeps none does not hold us for ever."""
    stoker.configure(registries={"stall_timeout": 1, "retries": 1})
    big = tmp / "tree/opt/stoker/env/big"
    big.parent.mkdir(parents=True)
    big.write_bytes(os.urandom(70_000_000))
    key = make_environment(stoker, base, tmp / "tree", tmp)
    target.forgets = True
    stoker.fails("env", "push", key, f"{target.address}/x:v1", needles=["keeps nothing"])
    assert target.manifests == {}


def test_upload_elsewhere(stoker, environment, target, tmp):
    """The registry may send us to another host, but our password does not go there."""
    other = faulty_registry.UploadRegistry()
    try:
        target.upload_host = other.address
        other.blobs, other.uploads = target.blobs, target.uploads
        stoker.docker_login(target.address, "alice", "secret")
        asked = []

        def fault(method, path, count):
            if target.log[-1][2] is None:
                asked.append(path)
                return 401
            return None

        target.fault = fault
        target.challenge = 'Basic realm="x"'
        stoker("env", "push", environment, f"{target.address}/x:v1")
        assert complete(target)
        assert asked
        assert {a for m, _, a in other.log} == {None}
        assert {m for m, _, a in other.log} == {"PUT"}
    finally:
        other.stop()
