# SPDX-License-Identifier: Apache-2.0
"""The laboratory itself: that the channels can be solved and installed, that the stand-ins of conda and
micromamba speak as these do, and that the servers misbehave as told. Without Stoker, in a chroot."""

import http.client
import json
import os
import pathlib
import subprocess
import sys
import tarfile
import time
import urllib.error
import urllib.request

import condachannel
import condalab
import ociimage
import pytest

PREFIX = "/opt/stoker/env"

# Its own mounts and processes; what it starts goes with it.
UNSHARE = ["unshare", "--mount", "--pid", "--fork", "--kill-child"]
CHROOT = (
    'mount --bind /dev "$1/dev" && mount -t proc proc "$1/proc" && root=$1 && shift && '
    'exec /usr/sbin/chroot "$root" "$@"'
)


@pytest.fixture(scope="module")
def root(_channels, tmp_path_factory):
    """The files of an image with pip, conda and micromamba."""
    folder = tmp_path_factory.mktemp("root")
    for blob, _ in (condalab.base_layer(), condalab.pip_layer(), condalab.rattler_layer()):
        with tarfile.open(blob) as tar:
            tar.extractall(folder)
    for tool, version in (("conda", "23.3.1"), ("micromamba", "1.5.8")):
        path = folder / f"{tool}.tar"
        path.write_bytes(condalab.tool_tar(tool, version, _channels.url).bytes())
        with tarfile.open(path) as tar:
            tar.extractall(folder)
    return folder


@pytest.fixture
def run(root):
    """run("conda", …, CONDA_X="1"): in the image, with empty caches and no prefix; the process."""
    subprocess.run(["rm", "-rf", root / "opt/stoker"], check=True)
    (root / "opt/stoker").mkdir(parents=True)

    def call(*args, check=0, seconds=30, **variables):
        env = {
            "PATH": "/opt/conda/bin:/usr/bin:/bin", "HOME": "/tmp", "LANG": "C.UTF-8",
            "CONDA_PKGS_DIRS": "/opt/stoker/pkgs", "CONDA_OVERRIDE_CUDA": "",
            "CONDA_CHANNEL_PRIORITY": "strict", "SOURCE_DATE_EPOCH": "315532800", **variables,
        }  # fmt: skip
        done = subprocess.run(
            [*UNSHARE, "sh", "-c", CHROOT, "sh", root, *args],
            env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False,
            timeout=seconds,
        )  # fmt: skip
        assert check is None or done.returncode == check, done.stdout + done.stderr
        return done

    return call


@pytest.fixture
def create(run, channels):
    """create("labapp", "--dry-run", tool="micromamba", channels=["other"])."""

    def call(*args, tool="conda", names=("main",), **more):
        sources = [a for n in names for a in ("-c", f"{channels.url}/{n}")]
        command = [tool, "create", "-p", PREFIX, "-y", "--json", "--override-channels"]
        return run(*command, *sources, *args, **more)

    return call


def last_document(text):
    """The result behind conda's progress: what follows the last NUL."""
    return json.loads(text.rpartition("\0")[2])


def tree(folder):
    """What lies there, but for the record of the command."""
    found = {}
    for path in pathlib.Path(folder).rglob("*"):
        name = str(path.relative_to(folder))
        if path.is_symlink():
            found[name] = os.readlink(path)
        elif path.is_file() and name != "conda-meta/history":
            found[name] = (path.stat().st_mode, path.read_bytes())
    return found


def names_of(records):
    return {f"{r['name']}-{r['version']}" for r in records}


# ---- solving and installing


def test_says_what_it_is(run):
    for tool, version in (("conda", "conda 23.3.1"), ("micromamba", "1.5.8")):
        said = run(tool, "--version").stdout
        assert said.startswith(f"{version} (stand-in of Stoker's tests: py-rattler "), said


@pytest.mark.parametrize("tool", ["conda", "micromamba"])
def test_solves(create, tool, channels):
    actions = last_document(create("labapp", "in-both", "--dry-run", tool=tool).stdout)["actions"]
    solved = names_of(actions["LINK"])
    assert solved == {
        f"python-{condalab.PYTHON_VERSION}",
        "labmath-1.2.0",
        "labapp-0.3",
        "in-both-1.0",
    }
    assert names_of(actions["FETCH"]) == solved
    for record in actions["LINK"]:
        assert record["url"].startswith(channels.url)
        file = channels.folder / record["url"].removeprefix(channels.url + "/")
        assert record["sha256"] == condachannel.digest(file, "sha256")
        assert record["md5"] and record["size"] == file.stat().st_size
    assert not channels.downloads()


def test_order_of_channels_counts(create):
    for names, version in ((["main", "other"], "1.0"), (["other", "main"], "2.0")):
        document = last_document(create("in-both", "--dry-run", names=names).stdout)
        assert names_of(document["actions"]["LINK"]) == {f"in-both-{version}"}


def test_overridden_machine(create):
    create("needs-cuda", "needs-glibc", "--dry-run", CONDA_OVERRIDE_CUDA="12.4")
    for absent in ("CUDA", "GLIBC"):
        out = create(
            f"needs-{absent.lower()}", "--dry-run", check=1, **{f"CONDA_OVERRIDE_{absent}": ""}
        )
        assert f"__{absent.lower()} >=" in last_document(out.stdout)["message"]


def test_installs(create, run, root, channels):
    out = create("labapp", "labnative", "script-works", "pip", "labmath=1.2").stdout
    records = [json.loads(r) for r in out.split("\0")[:-1]]
    assert {"fetch", "finished", "maxval", "progress"} == set(records[0])
    assert any(r["finished"] for r in records)
    assert last_document(out)["success"]
    assert run(f"{PREFIX}/bin/labapp").stdout.split() == ["labapp", "1.2.0", "5", PREFIX]
    assert run(f"{PREFIX}/bin/labnative").stdout == f"labnative {PREFIX}\n"
    assert f"from {PREFIX}/lib/" in run(f"{PREFIX}/bin/pip", "--version").stdout
    env = pathlib.Path(f"{root}{PREFIX}")
    assert (env / "share/script-works.linked").read_text() == "linked script-works\n"
    binary = (env / "lib/labnative.bin").read_bytes()
    text = f"{PREFIX}/share/labnative\0".encode()
    before = condachannel.BINARY_PREFIX.encode() + b"/share/labnative\0the rest\0"
    assert (
        binary == b"\x7fELF\0" + text.ljust(len(before) - len(b"the rest\0"), b"\0") + b"the rest\0"
    )
    assert len(channels.downloads()) == len(set(channels.downloads())) == 6
    assert (env / "conda-meta/history").is_file()


def test_installs_a_list_without_a_solver(create, run, root, channels):
    create("labapp", "script-works")
    for command in (
        ["conda", "list", "-p", PREFIX, "--explicit", "--md5"],
        ["micromamba", "env", "export", "-p", PREFIX, "--explicit", "--md5"],
    ):
        text = run(*command).stdout
        assert text.splitlines()[1] == "@EXPLICIT"
        assert text.count(channels.url) == text.count("#") - 1 == 4
    (root / "lock.txt").write_text(text)
    meta = pathlib.Path(f"{root}{PREFIX}/conda-meta")
    before = {p.name: json.loads(p.read_text())["url"] for p in meta.glob("*.json")}
    subprocess.run(["rm", "-rf", root / "opt/stoker"], check=True)
    options = ["--no-deps", "--no-rc", "--always-copy", "--file", "/lock.txt"]
    create("--offline", *options, tool="micromamba", check=1)
    channels.heal()
    create(*options, tool="micromamba")
    once = tree(f"{root}{PREFIX}")
    assert not [p for p in channels.paths() if "repodata" in p]
    assert {p.name: json.loads(p.read_text())["url"] for p in meta.glob("*.json")} == before
    assert run(f"{PREFIX}/bin/labapp").stdout.split()[1] == "1.2.0"
    # A second time the same, byte for byte; conda says nothing then.
    subprocess.run(["rm", "-rf", f"{root}{PREFIX}"], check=True)
    create("--offline", *options, tool="micromamba")
    assert tree(f"{root}{PREFIX}") == once
    subprocess.run(["rm", "-rf", f"{root}{PREFIX}"], check=True)
    assert "{" not in create("--offline", "-q", "--file", "/lock.txt").stdout


def test_channels_with_a_name_only(run, channels):
    said = json.loads(run("conda", "config", "--show", "channel_alias", "--json").stdout)
    assert said["channel_alias"]["scheme"] == "http"
    assert said["channel_alias"]["location"] == channels.address
    text = run("micromamba", "config", "list", "--all", "--no-rc", "channel_alias").stdout
    assert text == f"channel_alias: {channels.url}\n"
    run("conda", "create", "-p", PREFIX, "-y", "-q", "--dry-run", "-c", "other", "only-in-other")


# ---- what goes wrong


@pytest.mark.parametrize(
    ("specs", "kind", "needle"),
    [
        (["labmath>=7"], "PackagesNotFoundError", "- labmath>=7"),
        (["labapp", "wants-old-labmath"], "UnsatisfiableError", "labmath >=1.1,<2"),
        (["needs-nothing-there"], "UnsatisfiableError", "no-such-package >=1"),
        (["labmath=>1"], "InvalidSpec", ""),
        (["script-fails"], "LinkError", "post-link"),
    ],
)
def test_errors_of_conda(create, specs, kind, needle):
    document = last_document(create(*specs, check=1).stdout)
    assert document["exception_name"] == kind
    assert needle in document["message"]
    assert document["exception_type"].endswith(f"{kind}'>")


def test_errors_of_micromamba(create, run):
    done = create("labapp", "wants-old-labmath", tool="micromamba", check=1)
    assert not json.loads(done.stdout)["success"]
    assert "labmath <1.1" in "".join(json.loads(done.stdout)["solver_problems"])
    assert done.stderr.startswith("error    libmamba Could not solve for environment specs")
    run("micromamba", "frobnicate", check=109)
    run("conda", "frobnicate", check=2)


@pytest.mark.parametrize(
    ("prefix", "fault", "kind"),
    [
        ("/main/", 404, "UnavailableInvalidChannel"),
        ("/main/", 401, "AuthenticationError"),
        ("/main/", "hang", "CondaHTTPError"),
        ("/main/noarch/labmath-", "garble", "CondaMultiError"),
        ("/main/noarch/labmath-", "cut", "CondaHTTPError"),
    ],
)
def test_servers_that_misbehave(create, channels, prefix, fault, kind):
    channels.fault(prefix, fault)
    done = create("labmath", check=1, CONDA_REMOTE_READ_TIMEOUT_SECS="1")
    document = last_document(done.stdout)
    assert document["exception_name"] == kind, done.stdout
    if kind == "CondaMultiError":
        assert document["errors"][0]["exception_name"] == "ChecksumMismatchError"


def test_conda_dislikes_a_device_as_condarc(create):
    assert "KeyError: 8192" in create("python", check=1, CONDARC="/dev/null").stderr


# ---- the package index


def fetch(url, **headers):
    return urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=10)


def pip(run, index, *args, **more):
    options = ["--disable-pip-version-check", "--no-input"]
    source = ["--index-url", f"{index.url}/simple", "--retries=0", "--timeout=2"]
    python = [f"{PREFIX}/bin/python"] if more.pop("inside", True) else ["/usr/bin/python3"]
    return run(
        *python,
        "-m",
        "pip",
        *options,
        "install",
        "--root-user-action=ignore",
        *source,
        *args,
        **more,
    )


@pytest.fixture
def venv(run):
    """A virtual environment with the image's pip in reach."""
    run("/usr/bin/python3", "-m", "venv", "--without-pip", "--system-site-packages", PREFIX)


def test_pip_installs_from_the_index(run, venv, package_index):
    report = "/opt/stoker/report.json"
    pip(run, package_index, "--report", report, "wheel-app[more]")
    assert run(f"{PREFIX}/bin/wheel-app").stdout == "wheel-app 1.1\n"
    assert len(package_index.downloads()) == 3
    installed = json.loads(run("/usr/bin/cat", report).stdout)["install"]
    for item in installed:
        file = item["download_info"]["url"].rpartition("/")[2]
        expected = condachannel.digest(package_index.folder / "files" / file, "sha256")
        assert item["download_info"]["archive_info"]["hashes"]["sha256"] == expected


def test_pip_builds_from_source(run, venv, package_index):
    pip(run, package_index, "builds")
    assert (
        run(f"{PREFIX}/bin/python", "-c", "import builds; print(builds.built)").stdout == "True\n"
    )


def test_pip_shows_why_a_build_fails(run, venv, package_index):
    done = pip(run, package_index, "nometadata", check=1)
    assert "fatal error: nosuchheader.h" in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("what", "needle"),
    [
        ("asks-for-both", "ResolutionImpossible"),
        ("only-future", "Requires-Python"),
    ],
)
def test_pip_cannot(run, venv, package_index, what, needle):
    done = pip(run, package_index, what, check=1)
    assert needle in done.stdout + done.stderr


def test_pip_refuses_what_is_garbled(run, venv, package_index):
    package_index.fault("/files/wheelmath", "garble")
    assert "DO NOT MATCH THE HASHES" in pip(run, package_index, "wheelmath", check=1).stderr


# ---- the server


def test_serves_as_indexes_do(package_index):
    url = f"{package_index.url}/simple/wheelmath/"
    with fetch(url) as page:
        assert page.headers["Content-Type"] == "text/html"
        assert b"wheelmath-1.1-py3-none-any.whl#sha256=" in page.read()
        etag, date = page.headers["ETag"], page.headers["Last-Modified"]
    with fetch(url, Accept="application/vnd.pypi.simple.v1+json") as page:
        assert page.headers["Content-Type"] == "application/vnd.pypi.simple.v1+json"
        assert len(json.load(page)["files"]) == 3
    for header in ({"If-None-Match": etag}, {"If-Modified-Since": date}):
        with pytest.raises(urllib.error.HTTPError, match="304"):
            fetch(url, **header)
    file = f"{package_index.url}/files/wheelmath-1.1-py3-none-any.whl"
    whole = fetch(file).read()
    with fetch(file, Range="bytes=10-") as part:
        assert (part.status, part.read()) == (206, whole[10:])
    with fetch(file, Range="bytes=10-", **{"If-Range": '"other"'}) as part:
        assert (part.status, part.read()) == (200, whole)
    with pytest.raises(urllib.error.HTTPError, match="416"):
        fetch(file, Range="bytes=99999999-")
    for path in ("/../../etc/passwd", "/files/../../../../etc/passwd", "/nothing"):
        with pytest.raises(urllib.error.HTTPError, match="404"):
            fetch(package_index.url + path)
    assert package_index.downloads() == ["wheelmath-1.1-py3-none-any.whl"] * 3


def test_misbehaves_as_told(package_index):
    url = f"{package_index.url}/simple/wheelmath/"
    package_index.fault("/simple/", 503, times=1)
    with pytest.raises(urllib.error.HTTPError, match="503"):
        fetch(url)
    good = fetch(url).read()
    package_index.fault("/simple/", "garble")
    assert len(fetch(url).read()) == len(good) and fetch(url).read() != good
    package_index.fault("/simple/", "no-date")
    assert not {"ETag", "Last-Modified"} & set(fetch(url).headers)
    package_index.fault("/simple/", "no-range")
    assert fetch(url, Range="bytes=1-").status == 200
    package_index.fault("/simple/", "cut")
    with pytest.raises(http.client.IncompleteRead):
        fetch(url).read()
    package_index.fault("/simple/", "drip")
    began = time.monotonic()
    with fetch(url) as page:
        page.read(2)
        assert time.monotonic() - began > 0.4
    package_index.heal()
    package_index.require("ann", "secret")
    with pytest.raises(urllib.error.HTTPError, match="401"):
        fetch(url)
    authorization = ociimage.basic_authorization("ann", "secret")
    assert fetch(url, Authorization=authorization).read() == good
    assert package_index.paths(401) == ["/simple/wheelmath/"]


# ---- the images


def test_images_run(stoker, python_image, pip_image, conda_image, micromamba_image):
    def said(image, *command):
        return stoker("run", "--image", image, "--", *command).stdout

    version = ".".join(map(str, sys.version_info[:3]))
    assert said(python_image, "python3", "--version") == f"Python {version}\n"
    assert said(python_image, "/bin/sh", "-c", "ldd --version | head -n 1").startswith("ldd ")
    assert said(pip_image, "python3", "-m", "pip", "--version").startswith("pip ")
    assert said(conda_image, "conda", "--version").startswith("conda 23.3.1 ")
    assert said(micromamba_image, "micromamba", "--version").startswith("1.5.8 ")
    assert os.uname().machine in condachannel.SUBDIRS
