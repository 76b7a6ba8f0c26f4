# SPDX-License-Identifier: Apache-2.0
"""From a folder to a layer and a derived image: the same tree gives the same bytes, whoever made it and
when; what a layer cannot hold is refused by name; the image is like any other in the store."""

import hashlib
import io
import json
import os
import pathlib
import subprocess
import sys
import tarfile

import node
import ociimage
import pytest

DRIVER = pathlib.Path(node.BINARY).parent / "tests" / "seal_driver"
NAME = "stoker.local/environment:" + "ab" * 16
EPOCH = 315532800


def make_tree(root, order=1):
    """A tree with all that an environment may hold; made in another order it is the same tree."""
    env = root / "opt/stoker/env"
    for folder in ["bin", "lib/python", "empty", "lib/ünïcode"][::order]:
        (env / folder).mkdir(parents=True, exist_ok=True)
    files = {
        "bin/python": (b"\x7fELF" + bytes(5000), 0o700),
        "lib/python/a.py": (b"print(1)\n", 0o600),
        "lib/python/" + "d" * 130 + ".py": (b"long", 0o644),
        "lib/ünïcode/x": (b"", 0o444),
        "lib/exactly": (bytes(512), 0o666),
    }
    for name in list(files)[::order]:
        data, mode = files[name]
        (env / name).write_bytes(data)
        (env / name).chmod(mode)
    with open(env / "lib/sparse", "wb") as f:
        f.seek(3_000_000)
        f.write(b"end")
    os.link(env / "lib/python/a.py", env / "lib/python/b.py")
    os.link(env / "lib/python/a.py", env / "lib/python/0.py")
    (env / "bin/python3").symlink_to("python")
    (env / "lib/far").symlink_to("../" * 50 + "x" * 100)
    os.mkdir(os.fsencode(env) + b"/lib/\xff")
    with open(os.fsencode(env) + b"/lib/\xff/" + b"\xfe" * 120, "wb") as f:
        f.write(b"bytes")
    return root


def archive(folder):
    return subprocess.run([DRIVER, "tar", folder], check=True, stdout=subprocess.PIPE).stdout


def refused(folder):
    done = subprocess.run(
        [DRIVER, "tar", folder], stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False
    )
    assert done.returncode == 1
    return done.stderr.decode(errors="replace")


def seal(stoker, base, tree, *env, form="erofs", name=NAME):
    done = subprocess.run(
        [DRIVER, "seal", stoker.state, stoker.run_dir, base, name, tree, form, "k" * 64, "{}", *env],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()
    diff_id, size = done.stdout.split()
    return diff_id.decode(), int(size)


def test_archive(tmp):
    """Neither order, owner, times nor permissions that do not count change a byte; others can read it."""
    first = archive(make_tree(tmp / "one"))
    other = make_tree(tmp / "two", order=-1)
    os.utime(other / "opt/stoker", (1, 1))
    (other / "opt/stoker/env/lib/python/a.py").chmod(0o464)
    os.chown(other / "opt/stoker/env/lib/exactly", 1000, 1000)
    os.setxattr(other / "opt/stoker/env/lib/exactly", "user.note", b"x")
    assert archive(other) == first
    with tarfile.open(fileobj=io.BytesIO(first)) as tar:
        members = {m.name: m for m in tar.getmembers()}
        assert {(m.uid, m.gid, m.mtime, m.uname) for m in members.values()} == {(0, 0, EPOCH, "")}
        env = "opt/stoker/env/"
        assert [n for n in members if n.startswith(env + "lib/python")] == [
            env + "lib/python", *(env + f"lib/python/{n}" for n in ("0.py", "a.py", "b.py")),
            env + "lib/python/" + "d" * 130 + ".py",
        ]  # fmt: skip
        assert members[env + "lib/python/b.py"].linkname == env + "lib/python/0.py"
        assert members[env + "bin/python"].mode == 0o755
        assert members[env + "lib/ünïcode/x"].mode == 0o644
        assert members[env + "lib/far"].linkname == "../" * 50 + "x" * 100
        assert tar.extractfile(env + "lib/sparse").read() == bytes(3_000_000) + b"end"
        assert env + "lib/\udcff/" + "\udcfe" * 120 in members
    listed = subprocess.run(["tar", "tvf", "-"], input=first, check=True, stdout=subprocess.PIPE)
    assert len(listed.stdout.splitlines()) == len(members)


@pytest.mark.parametrize(
    ("make", "needle"),
    [
        (lambda p: os.mkfifo(p / "x"), "a named pipe"),
        (lambda p: os.mknod(p / "x", 0o20600, os.makedev(1, 3)), "a device"),
        (lambda p: os.mknod(p / "x", 0o140600), "a socket"),
        (lambda p: (p / ".wh.x").write_text(""), '".wh."'),
        (lambda p: subprocess.run(["mount", "-t", "tmpfs", "none", p], check=True), "mount point"),
    ],
)
def test_refused(tmp, make, needle):
    (tmp / "tree/etc").mkdir(parents=True)
    make(tmp / "tree/etc")
    text = refused(tmp / "tree")
    assert needle in text
    assert '"etc/' in text
    subprocess.run(["umount", tmp / "tree/etc"], check=False, stderr=subprocess.DEVNULL)


def test_deep(tmp):
    os.makedirs(tmp / "tree")
    folder = os.open(tmp / "tree", os.O_RDONLY)
    for _ in range(300):
        os.mkdir("d", dir_fd=folder)
        inner = os.open("d", os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = inner
    os.close(folder)
    assert "more than 256" in refused(tmp / "tree")


@pytest.fixture
def base(registry, layout, stoker):
    tar = ociimage.Tar().dir("etc").file("etc/hostname", "stoker\n")
    layout.image(
        [layout.layer(tar)],
        config_options={
            "config": {
                "Env": ["PATH=/bin", "A=1"],
                "Cmd": ["x"],
                "Labels": {"a": "b"},
                "Odd": [1.5],
            },
            "history": [{"created_by": "hand"}],
            "unknown": {"kept": True},
        },
    )
    reference = registry.push(layout, "seal/base")
    stoker("pull", reference)
    return reference


def test_bytecode(stoker, base, tmp):
    """What was compiled for a source's time fits its time in the layer; what did not fit, does not."""
    package = tmp / "tree/opt/stoker/env"
    package.mkdir(parents=True)
    environment = {k: v for k, v in os.environ.items() if k != "SOURCE_DATE_EPOCH"}
    for name in ("timed", "stale", "hashed"):
        (package / f"{name}.py").write_text(f"x = '{name}'\n")
        mode = "CHECKED_HASH" if name == "hashed" else "TIMESTAMP"
        code = f"import py_compile as p; p.compile('{package}/{name}.py'"
        code += f", invalidation_mode=p.PycInvalidationMode.{mode})"
        subprocess.run([sys.executable, "-c", code], check=True, env=environment)
    os.utime(package / "stale.py", (1, 1))
    (package / "__pycache__/link.cpython-311.pyc").symlink_to("/etc/passwd")
    (package / "link.py").write_text("")
    seal(stoker, base, tmp / "tree")
    with stoker.mounted(NAME) as root:
        said = subprocess.run(
            [sys.executable, "-v", "-B", "-c", "import timed, stale, hashed"],
            check=True, stderr=subprocess.PIPE, text=True,
            env={**environment, "PYTHONPATH": str(root / "opt/stoker/env")},
        ).stderr  # fmt: skip
    for name, fits in (("timed", True), ("stale", False), ("hashed", True)):
        assert (f"/{name}.{sys.implementation.cache_tag}.pyc matches" in said) == fits, said


@pytest.mark.parametrize("form", ["erofs", "directory"])
def test_derived_image(stoker, base, tmp, form, kernel_log):
    """The archive of the layer is the archive of the tree; documents keep what they had; the image can be
    listed, mounted, pruned around and removed."""
    if form == "directory":
        stoker("pull", "--layer-format", form, base)
    tree = make_tree(tmp / "tree")
    expected = archive(tree)
    diff_id, size = seal(stoker, base, tree, "PATH=/opt/stoker/env/bin:/bin", "NEW=x=y", form=form)
    assert diff_id == f"sha256:{hashlib.sha256(expected).hexdigest()}"
    assert size == len(expected)
    shown = json.loads(stoker("inspect", NAME).stdout)
    blobs = stoker.state / "blobs/sha256"
    manifest = json.loads((blobs / shown["manifest"].removeprefix("sha256:")).read_bytes())
    config = json.loads((blobs / manifest["config"]["digest"].removeprefix("sha256:")).read_bytes())
    assert manifest["layers"][-1]["digest"] == diff_id == config["rootfs"]["diff_ids"][-1]
    assert config["config"]["Env"] == ["A=1", "PATH=/opt/stoker/env/bin:/bin", "NEW=x=y"]
    assert config["config"]["Labels"] == {
        "a": "b", "io.stoker.environment.key": "k" * 64, "io.stoker.environment.lock": "{}",
    }  # fmt: skip
    assert config["unknown"] == {"kept": True}
    assert config["config"]["Odd"] == [1.5]
    assert [h["created_by"] for h in config["history"]][0] == "hand"
    assert len(config["history"]) == 2
    stoker("prune")
    layer = stoker.state / f"layers/sha256/{diff_id.removeprefix('sha256:')}.{form}"
    before = layer.read_bytes() if form == "erofs" else None
    with stoker.mounted(NAME) as root:
        assert (root / "etc/hostname").read_text() == "stoker\n"
        assert archive_of_mounted(root, tmp) == expected
    seal(stoker, base, make_tree(tmp / "again", -1), "PATH=/opt/stoker/env/bin:/bin", form=form)
    assert before is None or layer.read_bytes() == before
    stoker("rmi", NAME)
    stoker("prune")
    assert not layer.exists()


def archive_of_mounted(root, tmp):
    """The image has etc/ as well; the tree alone, bound to a folder of its own."""
    alone = tmp / "alone"
    (alone / "opt").mkdir(parents=True)
    subprocess.run(["cp", "-a", root / "opt/stoker", alone / "opt/"], check=True)
    return archive(alone)
