# SPDX-License-Identifier: Apache-2.0
"""All that environments need, on loopback: conda channels, a package index, and images of Debian's Python
with and without pip, conda, mamba or micromamba. The tools are stand-ins on py-rattler, which really solves
and installs (conda_standin.py). What takes time is made once and kept below build/condalab.

Fixtures: `channels`, `package_index` (packageserver.PackageServer), `python_image`, `pip_image`,
`conda_image`, `micromamba_image` (references in `registry`); make_tool_image(tool, version) makes further
ones."""

import contextlib
import fcntl
import hashlib
import os
import pathlib
import re
import shutil
import subprocess
import tempfile
import zipfile

import condachannel
import node
import ociimage
import packageindex
import packageserver
import pytest

RATTLER = "0.28.0"
HERE = pathlib.Path(__file__).resolve().parent
CACHE = node.ROOT / "build/condalab"
PYTHON_VERSION = subprocess.run(
    ["/usr/bin/python3", "-c", "import platform; print(platform.python_version())"],
    check=True, stdout=subprocess.PIPE, text=True,
).stdout.strip()  # fmt: skip
TAG = f"cpython-{''.join(PYTHON_VERSION.split('.')[:2])}"
STANDIN = "opt/conda/lib/standin"

# Debian's packages of which the image is made, with all they depend on; from this machine's own files.
PACKAGES = (
    "base-files base-passwd bash dash coreutils libc-bin libgcc-s1 python3 netbase media-types"
).split()
LEFT_OUT = re.compile(
    r"/usr/share/(doc|man|locale|lintian|info|bash-completion|zsh|perl5|pixmaps|icons|applications)/"
    r"|/usr/share/(binfmts|menu|debconf)/|/usr/lib/(systemd|tmpfiles.d)/|/etc/(init|cron)"
    r"|/(idlelib|tkinter|lib2to3|pydoc_data|turtledemo)/|/usr/lib/.*/gconv/|/usr/sbin/|\.pyc$"
)


@contextlib.contextmanager
def kept(name, *recipe):
    """Folder build/condalab/<name>-<hash of the recipe>: (folder, must it be filled). One fills it, whoever
    comes meanwhile waits; it appears whole or not at all."""
    CACHE.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    for part in recipe:
        digest.update(part.read_bytes() if isinstance(part, pathlib.Path) else str(part).encode())
    folder = CACHE / f"{name}-{digest.hexdigest()[:12]}"
    with open(CACHE / f"{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if folder.is_dir():
            yield folder, None
            return
        work = pathlib.Path(tempfile.mkdtemp(prefix=f"{name}.", dir=CACHE))
        try:
            yield folder, work
            for old in CACHE.glob(f"{name}-*"):
                shutil.rmtree(old)
            work.rename(folder)
        finally:
            shutil.rmtree(work, ignore_errors=True)


# ---- files for images


def dpkg(*args):
    return subprocess.run(
        ["dpkg-query", *args], check=True, stdout=subprocess.PIPE, text=True
    ).stdout


def with_dependencies(packages):
    """Names of installed packages that these need, themselves included."""
    table = {}
    for line in dpkg(
        "-W", "-f", "${Package}\t${Provides}\t${Pre-Depends}, ${Depends}\n"
    ).splitlines():
        name, provides, depends = line.split("\t")
        table[name] = depends
        for provided in re.findall(r"[\w.+-]+", re.sub(r"\(.*?\)", "", provides)):
            table.setdefault(provided, name)
    found, waiting = set(), list(packages)
    while waiting:
        name = waiting.pop()
        if name in found or name not in table:
            continue
        found.add(name)
        for group in re.sub(r"\(.*?\)|:\w+", "", table[name]).split(","):
            # Of alternatives the first that is here, as dpkg would have it.
            waiting += [a.strip() for a in group.split("|") if a.strip() in table][:1]
    installed = set(dpkg("-W", "-f", "${Package}\n").split())
    return sorted(found & installed)


def add_file(tar, name, path):
    st = os.stat(path)
    data = pathlib.Path(path).read_bytes()
    tar.file(name, data, mode=st.st_mode & 0o777, mtime=int(st.st_mtime))


def add_compiled(tar, folder, place):
    """All files below a folder, and what Python makes of them once they lie in `place`."""
    subprocess.run(
        [
            "/usr/bin/python3", "-m", "compileall", "-q", "-j0", "-s", folder, "-p", f"/{place}",
            "--invalidation-mode", "unchecked-hash", folder,
        ],
        check=True,
    )  # fmt: skip
    for path in sorted(pathlib.Path(folder).rglob("*")):
        if path.is_file():
            tar.file(f"{place}/{path.relative_to(folder)}", path.read_bytes())


def base_tar():
    """Debian's Python from the packages of this machine, merged /usr included."""
    tar = ociimage.Tar()
    # Where "/bin" is a link, the image has it as well, and its files lie behind it.
    for link in ("bin", "sbin", "lib", "lib32", "lib64", "libx32"):
        if os.path.islink(f"/{link}"):
            tar.symlink(link, os.readlink(f"/{link}"))
    tar.dir("tmp", mode=0o1777).dir("root", mode=0o700).dir("proc").dir("sys").dir("dev")
    paths = set()
    for package in with_dependencies(PACKAGES):
        for path in dpkg("-L", package).splitlines():
            if path.startswith("/") and not LEFT_OUT.search(path):
                paths.add(
                    os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))
                )
    for path in sorted(paths):
        name = path.lstrip("/")
        if os.path.islink(path):
            if not LEFT_OUT.search(os.path.realpath(path)):
                tar.symlink(name, os.readlink(path))
        elif os.path.isfile(path):
            add_file(tar, name, path)
            # Compiled when Debian's package was installed: as in every image with its Python.
            compiled = f"{os.path.dirname(path)}/__pycache__/{pathlib.Path(path).stem}.{TAG}.pyc"
            if path.endswith(".py") and os.path.isfile(compiled):
                add_file(tar, compiled.lstrip("/"), compiled)
    tar.file("etc/passwd", "root:x:0:0:root:/root:/bin/sh\nada:x:1000:1000::/home/ada:/bin/sh\n")
    tar.file("etc/group", "root:x:0:\nada:x:1000:\n")
    return tar


def pip_tar():
    """pip as Debian's python3-pip would bring it."""
    tar = ociimage.Tar()
    (wheel,) = condachannel.WHEELS.glob("pip-*.whl")
    with tempfile.TemporaryDirectory() as folder:
        with zipfile.ZipFile(wheel) as z:
            z.extractall(folder)
        add_compiled(tar, folder, "usr/lib/python3/dist-packages")
    program = "#!/usr/bin/python3\nimport sys\nfrom pip._internal.cli.main import main\nsys.exit(main())\n"
    return tar.file("usr/bin/pip3", program, mode=0o755).symlink("usr/bin/pip", "pip3")


def rattler_tar():
    """py-rattler from the package index, without its debugging symbols; certificates, as conda has its
    own."""
    certificates = pathlib.Path("/etc/ssl/certs/ca-certificates.crt").read_bytes()
    tar = ociimage.Tar().file("opt/conda/ssl/cacert.pem", certificates)
    with tempfile.TemporaryDirectory() as folder:
        (pip,) = condachannel.WHEELS.glob("pip-*.whl")
        subprocess.run(
            [
                "/usr/bin/python3", f"{pip}/pip", "--disable-pip-version-check", "install", "--quiet",
                "--root-user-action=ignore", "--no-deps", "--only-binary=:all:", "--no-compile",
                "--target", folder,
                f"py-rattler=={RATTLER}",
            ],
            check=True,
        )  # fmt: skip
        for library in pathlib.Path(folder).rglob("*.so"):
            subprocess.run(["strip", library], check=True)
        add_compiled(tar, folder, STANDIN)
    return tar


def tool_tar(tool, version, channel_alias):
    path = f"{STANDIN}/conda_standin.py"
    tar = ociimage.Tar().file(path, (HERE / "conda_standin.py").read_bytes(), mode=0o755)
    tar.file(f"{STANDIN}/version-{tool}", f"{version}\n")
    tar.file(f"{STANDIN}/channel_alias", f"{channel_alias}\n")
    return tar.symlink(f"opt/conda/bin/{tool}", "../lib/standin/conda_standin.py")


def kept_layer(name, make_tar, *recipe):
    """A layer that is kept: (its blob, its description)."""
    with kept(name, HERE / "condalab.py", *recipe) as (folder, work):
        if work:
            ociimage.Layout(work).layer(make_tar(), "none")
    (blob,) = (folder / "blobs/sha256").iterdir()
    digest = f"sha256:{blob.name}"
    return blob, ociimage.Layer(digest, blob.stat().st_size, ociimage.OCI_LAYER, digest)


def base_layer():
    return kept_layer("base", base_tar, dpkg("-W", "-f", "${Package} ${Version}\n"))


def pip_layer():
    return kept_layer("pip", pip_tar, *(w.name for w in condachannel.WHEELS.glob("pip-*.whl")))


def rattler_layer():
    return kept_layer("rattler", rattler_tar, RATTLER)


def push(registry, folder, name, layers, tar=None, env=("PATH=/usr/bin:/bin",)):
    """An image of kept layers (linked, not copied) and perhaps one more; its reference."""
    layout = ociimage.Layout(folder)
    chosen = []
    for blob, layer in layers:
        target = layout.blob_path(layer.digest)
        try:
            os.link(blob, target)
        except OSError:
            shutil.copyfile(blob, target)
        chosen.append(layer)
    if tar:
        chosen.append(layout.layer(tar, "none"))
    layout.image(chosen, config_options={"config": {"Env": list(env), "Cmd": ["python3"]}})
    return registry.push(layout, name)


# ---- fixtures


@pytest.fixture(scope="session")
def _channels():
    with kept("channels", HERE / "condachannel.py", PYTHON_VERSION) as (folder, work):
        if work:
            condachannel.make(work, PYTHON_VERSION)
    server = packageserver.PackageServer(folder)
    yield server
    server.stop()


@pytest.fixture
def channels(_channels):
    """The channels `main` and `other` (condachannel.make): f"{channels.url}/main". Without faults, and with
    an empty log, at the beginning of each test."""
    _channels.heal()
    yield _channels
    _channels.heal()


@pytest.fixture(scope="session")
def _package_index():
    with kept("index", HERE / "packageindex.py") as (folder, work):
        if work:
            packageindex.make(work)
    server = packageserver.PackageServer(folder)
    yield server
    server.stop()


@pytest.fixture
def package_index(_package_index):
    """The index of packageindex.make(): f"{package_index.url}/simple". As `channels`."""
    _package_index.heal()
    yield _package_index
    _package_index.heal()


@pytest.fixture(scope="session")
def _python_image(_registry, tmp_path_factory):
    return push(_registry, tmp_path_factory.mktemp("python"), "condalab/python", [base_layer()])


@pytest.fixture
def python_image(_python_image, registry):
    """Debian's Python and /bin/sh; no pip, no ensurepip, no conda."""
    return _python_image


@pytest.fixture(scope="session")
def _pip_image(_registry, tmp_path_factory):
    layers = [base_layer(), pip_layer()]
    return push(_registry, tmp_path_factory.mktemp("pip"), "condalab/pip", layers)


@pytest.fixture
def pip_image(_pip_image, registry):
    """The same with pip."""
    return _pip_image


@pytest.fixture(scope="session")
def _tool_images(_registry, _channels, tmp_path_factory):
    made = {}

    def make(tool, version):
        if (tool, version) not in made:
            made[tool, version] = push(
                _registry, tmp_path_factory.mktemp(tool), f"condalab/{tool}-{version}",
                [base_layer(), rattler_layer()], tool_tar(tool, version, _channels.url),
                env=("PATH=/opt/conda/bin:/usr/bin:/bin",),
            )  # fmt: skip
        return made[tool, version]

    return make


@pytest.fixture
def make_tool_image(_tool_images, registry):
    """make_tool_image("conda", "4.7.12"): the Python image with that tool, which passes for the version.
    A channel with a name only, such as "other", is for it one of `channels`."""
    return _tool_images


@pytest.fixture
def conda_image(make_tool_image):
    return make_tool_image("conda", "23.3.1")


@pytest.fixture
def micromamba_image(make_tool_image):
    return make_tool_image("micromamba", "1.5.8")
