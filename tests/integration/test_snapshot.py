# SPDX-License-Identifier: Apache-2.0
"""The copy of source_directory: git itself says which files the rules leave out."""

import os
import pathlib
import random
import shutil
import subprocess

import node
import pytest

DRIVER = pathlib.Path(node.BINARY).parent / "tests/snapshot_driver"
GIT_ENV = {
    "PATH": os.environ["PATH"],
    "HOME": "/nonexistent",
    "GIT_CONFIG_NOSYSTEM": "1",
    "LC_ALL": "C.UTF-8",
}

NAMES = [
    "a",
    "b",
    "ab",
    "abc",
    "foo",
    "bar",
    "foo.o",
    "x.c",
    "[a]",
    "a b",
    "#c",
    "!d",
    "e ",
    "ä",
    "-",
]
NAMES += ["a*", "b?", "c]", "d\\", "A", ".h", "z.tar.gz", "foobar", "f-o"]
WORDS = [
    *NAMES, "*", "**", "?", "[ab]", "[!a]", "[^a]", "[a-c]", "[]a]", "[[:alpha:]]", "[[:digit:]x]", "[a-",
    "[", "[[:nope:]]", "[\\]]", "[a\\-c]", "\\a", "\\*", "\\", "*.o", "f*", "*r", "a**b", "foo**", "**bar",
    "f*o*", "*a*b*", "[[:x]", "[z-a]", "[--a]", "[!]a]", "\\#c", "\\!d", "e\\ ",
]  # fmt: skip


def make_tree(rng, folder, depth=0):
    for name in rng.sample(NAMES, rng.randint(1, 7)):
        path = folder / name
        kind = rng.random()
        if kind < 0.45 and depth < 4:
            path.mkdir()
            make_tree(rng, path, depth + 1)
        elif kind < 0.52:
            path.symlink_to(rng.choice([".", "a", "/"]))
        else:
            path.write_text(name)
    if depth == 0 or rng.random() < 0.2:
        (folder / ".gitignore").write_bytes(make_rules(rng))


def make_rules(rng):
    lines = []
    for _ in range(rng.randint(1, 6)):
        rule = "/".join(rng.choice(WORDS) for _ in range(rng.choice([1, 1, 1, 2, 2, 3, 4])))
        rule = rng.choice(["", "", "", "/", "!", "!/", "!", "#"]) + rule
        rule += rng.choice(["", "", "", "/", "/**", "/*", " ", "  ", "\\ ", "\t", "\r"])
        lines.append(rule)
    start = rng.choice(["", "", "", "\ufeff", "\n"])
    return (start + "\n".join(lines) + rng.choice(["", "\n"])).encode()


def listed_by_git(folder):
    subprocess.run(["git", "init", "-q", folder], check=True, env=GIT_ENV)
    out = subprocess.run(
        ["git", "-C", folder, "ls-files", "-o", "--exclude-standard", "-z"],
        check=True,
        env=GIT_ENV,
        stdout=subprocess.PIPE,
    ).stdout
    return {os.fsdecode(name) for name in out.split(b"\0") if name}


def files_of(folder):
    found = set()
    for at, folders, files in os.walk(folder):
        links = [name for name in folders if os.path.islink(os.path.join(at, name))]
        found |= {os.path.relpath(os.path.join(at, name), folder) for name in files + links}
    return found


def copy(source, target, *limits):
    target.mkdir()
    command = [DRIVER, source, target, *map(str, limits)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def compare(tmp, seed):
    rng = random.Random(seed)
    source, target = tmp / f"s{seed}", tmp / f"t{seed}"
    source.mkdir()
    make_tree(rng, source)
    expected = listed_by_git(source)
    done = copy(source, target)
    assert done.returncode == 0, done.stderr
    assert files_of(target) == expected, f"seed {seed} in {source}"
    assert int(done.stdout.split()[0]) == len(expected)
    shutil.rmtree(source)
    shutil.rmtree(target)


def test_rules_are_those_of_git(tmp):
    for seed in range(100):
        compare(tmp, seed)


@pytest.mark.full
def test_rules_are_those_of_git_again_and_again(tmp):
    for seed in range(100, 20000):
        compare(tmp, seed)


def test_amlignore_goes_before_gitignore(tmp):
    source = tmp / "s"
    (source / "sub").mkdir(parents=True)
    for name in ("a", "b", "c", "sub/a", "sub/b"):
        (source / name).write_text(name)
    (source / ".amlignore").write_text("a\n")
    (source / ".gitignore").write_text("b\n")
    (source / "sub/.gitignore").write_text("*\n")
    (source / "sub/.amlignore").write_text("*\n")
    assert copy(source, tmp / "t").returncode == 0
    assert files_of(tmp / "t") == {
        ".amlignore", ".gitignore", "b", "c", "sub/.gitignore", "sub/.amlignore", "sub/b"
    }  # fmt: skip


def test_git_folders_stay_behind(tmp):
    source = tmp / "s"
    source.mkdir()
    subprocess.run(["git", "init", "-q", source], check=True, env=GIT_ENV)
    (source / "sub").mkdir()
    (source / "sub/.git").write_text("gitdir: ../.git\n")
    (source / "a").write_text("a")
    assert copy(source, tmp / "t").returncode == 0
    assert files_of(tmp / "t") == {"a"}


def test_limits(tmp):
    source = tmp / "s"
    (source / "data/raw").mkdir(parents=True)
    (source / "few").mkdir()
    (source / "train.py").write_text("x")
    (source / "few/big").write_bytes(bytes(70000))
    for i in range(20):
        (source / f"data/raw/{i}").write_bytes(bytes(1000))
    over_files = copy(source, tmp / "t1", 1000000, 10)
    assert over_files.returncode == 1
    assert over_files.stderr.startswith("22 files with 90.0 kB, at most 10 with 1.00 MB are copied")
    assert "the largest folder is data (20 files, 20.0 kB)" in over_files.stderr
    assert ".amlignore" in over_files.stderr
    over_bytes = copy(source, tmp / "t2", 50000, 100)
    assert "the largest folder is few (1 files, 70.0 kB)" in over_bytes.stderr
    assert not files_of(tmp / "t1") and not files_of(tmp / "t2")
    (source / ".amlignore").write_text("data/\nbig\n")
    assert copy(source, tmp / "t3", 50000, 10).returncode == 0
    assert files_of(tmp / "t3") == {"train.py", ".amlignore"}


@pytest.mark.parametrize(
    "rules",
    ["*a" * 2000 + "b\n", "**/" * 1300 + "b\n", ("a*" * 40 + "b\n") * 3000],
    ids=["stars", "folders", "many"],
)
def test_rules_made_to_be_slow(tmp, rules):
    source = tmp / "s"
    source.mkdir()
    (source / ".gitignore").write_text(rules)
    deep = source
    for _ in range(20):
        deep = deep / ("a" * 100)
        deep.mkdir()
    for i in range(100):
        (deep / f"{'a' * 200}{i}").write_text("")
    (tmp / "t").mkdir()
    done = subprocess.run(
        [DRIVER, source, tmp / "t"], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0 or "take too long to match" in done.stderr, done.stderr
