# SPDX-License-Identifier: Apache-2.0
"""Environments, from a job's packages to the script that runs in them: pip and venv as they are, conda by
its stand-in, a package index and channels on loopback (condalab.py)."""

import concurrent.futures
import json
import os
import pathlib
import shutil
import signal
import subprocess
import time
import zipfile

import condalab
import faulty_registry
import node
import ociimage
import pytest
from test_rootless import one_at_a_time, place, ranges, single, user  # noqa: F401

UV = "0.13.9"
LAYERS = {}  # of environments that several tests build: the same, whoever does it

SCRIPT = """
import importlib, json, os, sys
found = {"prefix": sys.prefix, "env": dict(os.environ)}
for name in sys.argv[1:]:
    found[name] = getattr(importlib.import_module(name), "__version__", "?")
print(json.dumps(found))
"""


class Lab:
    """A node that takes packages from the tests' servers only."""

    def __init__(self, stoker, folder, index, channels):
        self.stoker, self.folder, self.index, self.channels = stoker, folder, index, channels
        self.numbers = iter(range(1000))
        self.configure()

    def configure(self, **more):
        hosts = [self.index.address, self.channels.address]
        self.stoker.configure(
            registries={"retries": 1},
            environments={
                "index_url": f"{self.index.url}/simple",
                "channels": [f"{self.channels.url}/main"],
                "local_hosts": hosts,
                "network": False,
                **more,
            },
        )

    def job(self, image, imports=(), script=SCRIPT, **keys):
        folder = self.folder / f"job{next(self.numbers)}"
        (folder / "src").mkdir(parents=True)
        (folder / "src/main.py").write_text(script)
        document = {
            "source_directory": "src",
            "entry_script": "main.py",
            "custom_docker_image": image,
            "script_params": {name: "" for name in imports},
            **keys,
        }
        (folder / "job.yaml").write_text(json.dumps(document))
        return folder / "job.yaml"

    def run(self, image, imports=(), **keys):
        """What the script found, and what was said meanwhile."""
        result = self.stoker("run", self.job(image, imports, **keys))
        return json.loads(result.stdout), result.stderr

    def fails(self, image, *needles, **keys):
        """The error's line, and all that was said."""
        result = self.stoker("run", self.job(image, **keys), check=False, timeout=120)
        return self.stoker.assert_error(result, *needles), result.stderr

    def cause(self):
        """Of the last run."""
        runs = (self.stoker.state / "runs").glob("*_*")
        last = max(runs, key=lambda p: p.stat().st_mtime_ns)
        return json.loads((last / "1/run.json").read_text())["cause"]

    def records(self):
        return [
            json.loads(p.read_text()) for p in (self.stoker.state / "environments").glob("*.json")
        ]

    def assert_same_layer(self, name):
        (record,) = self.records()
        assert LAYERS.setdefault(name, record["layer"]) == record["layer"]

    def assert_clean(self):
        """Nothing is left of builds: no folder, no run of a step."""
        build = self.stoker.state / "environments/build"
        assert not build.exists() or not list(build.iterdir())
        assert not list((self.stoker.state / "runs").glob("environment_*"))


@pytest.fixture(scope="module")
def _node(tmp_path_factory):
    """One for all tests: images are pulled once."""
    made = node.Stoker(tmp_path_factory.mktemp("environments") / "node")
    yield made
    made.destroy()


@pytest.fixture
def lab(_node, tmp, package_index, channels):
    """A node that knows no environment and no package; what images offer it may know."""
    state = _node.state
    for folder in [state / "packages", *(state / "environments").glob("*")]:
        if folder.name == "tools":
            continue
        if folder.is_dir():
            shutil.rmtree(folder)
        else:
            folder.unlink(missing_ok=True)
    for line in _node("images").stdout.splitlines():
        if line.startswith("stoker.local/"):
            _node("rmi", line.split()[0])
    yield Lab(_node, tmp, package_index, channels)
    _node.assert_nothing_left()


# ---- pip


def test_pip(lab, pip_image):
    """Built, then reused: at once, without a server; in another spelling too."""
    found, said = lab.run(pip_image, ["wheelmath", "wheel_app"], pip_packages=["wheel-app"])
    assert found["prefix"] == "/opt/stoker/env"
    assert found["wheelmath"] == "1.1"
    assert found["env"]["VIRTUAL_ENV"] == "/opt/stoker/env"
    assert found["env"]["PATH"].startswith("/opt/stoker/env/bin:")
    assert found["env"]["PYTHONNOUSERSITE"] == "1"
    for phase in ("resolving", "installing", "verifying", "sealing"):
        assert f"environment: {phase}" in said, said
    (record,) = lab.records()
    lock = json.loads(record["lock"])
    assert [(p["name"], p["version"]) for p in lock["pip"]] == [
        ("wheel-app", "0.2"), ("wheelmath", "1.1"),
    ]  # fmt: skip
    assert all(p["url"].startswith(lab.index.url) and len(p["sha256"]) == 64 for p in lock["pip"])
    assert "1041" not in record["lock"]
    lab.assert_same_layer("wheel-app")
    lab.assert_clean()
    lab.index.heal()
    found, said = lab.run(pip_image, ["wheelmath"], pip_packages=["Wheel_App"])
    assert "environment reused" in said
    assert lab.index.paths() == []


def test_image_without_pip(lab, python_image):
    """The node lends one, which leaves nothing behind."""
    found, _ = lab.run(python_image, ["wheelmath"], pip_packages=["wheelmath==2.0"])
    assert found["wheelmath"] == "2.0"
    script = "import importlib.util, json; print(json.dumps(bool(importlib.util.find_spec('pip'))))"
    found, _ = lab.run(python_image, pip_packages=["wheelmath==2.0"], script=script)
    assert found is False


COMPILED = """
import compiled, glob, importlib.util, json, os
folder = os.path.dirname(compiled.__file__)
made = {}
for source in glob.glob(folder + "/*.py"):
    try:
        data = open(importlib.util.cache_from_source(source), "rb").read()
    except FileNotFoundError:
        continue
    fits = data[8:16] == importlib.util.source_hash(open(source, "rb").read())
    made[os.path.basename(source)] = fits and data[:4] == importlib.util.MAGIC_NUMBER
print(json.dumps(made))
"""


@pytest.mark.parametrize("with_conda", [False, True])
def test_bytecode(lab, pip_image, conda_image, with_conda):
    """Everything that pip has installed is compiled, and what cannot be is no failure. It is the same
    whatever the number of processes; conda's packages are left alone."""
    keys = {"pip_packages": ["compiled"], "script": COMPILED}
    image = pip_image
    if with_conda:
        keys["conda_packages"], image = ["python", "labmath"], conda_image
    layers = set()
    for cpus in (1, 4):
        lab.configure(cpus=cpus)
        made, _ = lab.run(image, **keys)
        expected = ["__init__.py", *(f"part{i}.py" for i in range(70))]
        assert made == dict.fromkeys(expected, True)
        (record,) = lab.records()
        layers.add(record["layer"])
        lab.stoker("rmi", record["reference"])
        (lab.stoker.state / "environments" / f"{record['key']}.json").unlink()
    assert len(layers) == 1


def test_build_of_sdist(lab, pip_image):
    found, said = lab.run(
        pip_image,
        ["builds"],
        pip_packages=["builds"],
        environment={"as_of": "2030-01-01T00:00:00Z"},
    )
    assert found["builds"] == "?"
    assert "this pip cannot keep to environment.as_of" in said


FORGED = """
import json, os, sys
print(json.dumps([hasattr(sys, "forged"), os.path.exists("/opt/stoker/left")]))
"""


def test_forged_lock(lab, pip_image, tmp):
    """The code of one job's packages can make its lock say anything, but not what another's job gets."""
    honest, forging = ["wheelmath==2.0"], ["wheelmath==2.0", "forges"]
    locked = {"reuse": "locked", "lock_file": str(tmp / "lock.json")}
    for _ in range(2):  # before anybody has asked honestly, and after
        found, said = lab.run(
            pip_image, pip_packages=forging, script=FORGED, environment={"reuse": "refresh"}
        )
        assert found == [True, False], said
        (record,) = lab.records()
        assert [p["name"] for p in json.loads(record["lock"])["pip"]] == ["wheelmath"]
        (tmp / "lock.json").write_text(record["lock"])
        found, said = lab.run(pip_image, script=FORGED, environment=locked)
        assert found == [False, False], said
        found, said = lab.run(pip_image, pip_packages=honest, script=FORGED)
        assert found == [False, False], said
    for asked in ({"pip_packages": honest}, {"environment": locked}):
        found, said = lab.run(pip_image, script=FORGED, **asked)
        assert found == [False, False]
        assert "environment reused" in said


@pytest.mark.parametrize(
    ("packages", "code", "line", "evidence"),
    [
        (["no-such"], "PackageNotFound", "No matching distribution found for no-such", ""),
        (["wheelmath==7"], "PackageNotFound", "wheelmath==7", "1.0, 1.1, 2.0"),
        (["asks-for-both"], "Unsatisfiable", "", "wheel-app 0.2 depends on wheelmath<2"),
        (["nocompile"], "BuildFailed", "nocompile", "fatal error: nosuchheader.h"),
        (["nometadata"], "BuildFailed", "nometadata", "compilation terminated."),
    ],
)
def test_bad_pip_packages(lab, pip_image, packages, code, line, evidence):
    """One clear line, the tool's own explanation beside it; the second time without asking anybody."""
    _, said = lab.fails(pip_image, line, pip_packages=packages)
    assert evidence in said
    assert lab.cause()["code"] == f"Environment{code}"
    assert lab.cause()["class"] == "user"
    lab.index.heal()
    _, said = lab.fails(pip_image, line, pip_packages=packages)
    assert evidence in said
    assert lab.index.paths() == []
    lab.assert_clean()


@pytest.mark.parametrize(
    ("fault", "code"),
    [(500, "Network"), ("cut", "Network"), ("garble", "Integrity"), (401, "Authentication")],
)  # fmt: skip
def test_faulty_index(lab, pip_image, fault, code):
    """The server's fault is not taken for the package's, and is not remembered."""
    prefix = "/files/" if fault in ("cut", "garble") else "/simple/"
    lab.index.fault(prefix, fault)
    lab.fails(pip_image, pip_packages=["wheelmath"])
    assert lab.cause()["code"] == f"Environment{code}"
    lab.index.heal()
    if code != "Integrity":
        found, _ = lab.run(pip_image, ["wheelmath"], pip_packages=["wheelmath"])
        assert found["wheelmath"] == "2.0"


def test_hanging_index_and_time_limit(lab, pip_image):
    lab.index.fault("/simple/", "hang")
    begin = time.monotonic()
    lab.fails(pip_image, pip_packages=["wheelmath"], environment={"max_seconds": 3})
    assert lab.cause()["code"] == "EnvironmentTimeLimit"
    assert time.monotonic() - begin < 15
    lab.assert_clean()


@pytest.mark.parametrize("who", ["user", "single"])
def test_ordinary_user(request, who, place, package_index, channels, pip_image):  # noqa: F811
    """With ids of his own and without: built and used like root's."""
    made = request.getfixturevalue(who)
    lab = Lab(made, place, package_index, channels)
    os.chmod(place, 0o755)
    found, _ = lab.run(pip_image, ["wheelmath"], pip_packages=["wheel-app"])
    assert found["wheelmath"] == "1.1"
    _, said = lab.run(pip_image, pip_packages=["wheel-app"])
    assert "environment reused" in said
    lab.assert_same_layer("wheel-app")
    lab.assert_clean()


@pytest.fixture(scope="session")
def uv():
    """The static program, from the package index that this machine knows."""
    machine = os.uname().machine
    with condalab.kept("uv", UV, machine) as (folder, work):
        if work:
            (pip,) = pathlib.Path("/usr/share/python-wheels").glob("pip-*.whl")
            subprocess.run(
                ["/usr/bin/python3", f"{pip}/pip", "download", "-q", "--no-deps", "-d", work,
                 "--platform", f"musllinux_1_1_{machine}", "--only-binary=:all:", f"uv=={UV}"],
                check=True,
            )  # fmt: skip
            (wheel,) = work.glob("uv-*.whl")
            with zipfile.ZipFile(wheel) as z:
                (name,) = [n for n in z.namelist() if n.endswith("/scripts/uv")]
                (work / "uv").write_bytes(z.read(name))
            (work / "uv").chmod(0o755)
            wheel.unlink()
    return folder / "uv"


def test_uv(lab, pip_image, uv, tmp):
    """The node's uv, where the job chose it; its lock tells which wheel was taken."""
    lab.configure(uv=str(uv))
    chosen = {"tool": "uv"}
    found, _ = lab.run(pip_image, ["wheelmath"], pip_packages=["wheel-app"], environment=chosen)
    assert found["wheelmath"] == "1.1"
    (record,) = lab.records()
    packages = json.loads(record["lock"])["pip"]
    assert [p["name"] for p in packages] == ["wheel-app", "wheelmath"]
    assert all(p["url"].endswith(".whl") and p["sha256"] for p in packages)
    (tmp / "lock.json").write_text(record["lock"])
    lab.stoker("rmi", record["reference"])
    (lab.stoker.state / "environments" / f"{record['key']}.json").unlink()
    _, said = lab.run(
        pip_image, environment={"reuse": "locked", "lock_file": str(tmp / "lock.json")}
    )
    assert "from its lock" in said
    assert lab.records()[0]["layer"] == record["layer"]
    _, said = lab.fails(pip_image, "no-such", pip_packages=["no-such"], environment=chosen)
    assert lab.cause()["code"] == "EnvironmentPackageNotFound"


# ---- conda


def test_conda(lab, conda_image):
    """Solved, installed with its prefix, activated; pip on top, which cannot replace conda's packages."""
    found, _ = lab.run(
        conda_image, ["labapp", "labmath", "wheelmath"],
        conda_packages=["labapp", "labnative"], pip_packages=["wheelmath"],
    )  # fmt: skip
    assert found["prefix"] == "/opt/stoker/env"
    assert found["labmath"] == "1.2.0"
    env = found["env"]
    assert env["CONDA_PREFIX"] == "/opt/stoker/env"
    assert env["LABNATIVE_MODE"] == "fast"
    assert env["LABNATIVE_HOME"] == "/opt/stoker/env/share/labnative"
    assert env["LABNATIVE_PATHS"] == "/opt/stoker/env/a b:"
    lock = json.loads(lab.records()[0]["lock"])
    assert {p["name"] for p in lock["conda"]} == {"labapp", "labmath", "labnative", "pip", "python"}
    assert all(p["url"].startswith(lab.channels.url) and p["md5"] for p in lock["conda"])
    assert [p["name"] for p in lock["pip"]] == ["wheelmath"]
    # The same in other words; then with the channels in another order.
    _, said = lab.run(
        conda_image, conda_packages=["LabNative", " labapp  "], pip_packages=["WheelMath"]
    )
    assert "environment reused" in said
    _, said = lab.fails(conda_image, conda_packages=["labapp"], pip_packages=["labmath==9.9"])
    assert "labmath==1.2.0" in said.replace(" ", "")
    lab.assert_clean()


def test_activation_by_the_shell(lab, conda_image):
    """The scripts see the node and the variables of the job; arguments arrive as they are."""
    script = "import json, os, sys; print(json.dumps([sys.argv[1:], dict(os.environ)]))"
    arguments, env = lab.run(
        conda_image, script=script, conda_packages=["labnative", "python"],
        environment={"activation": "shell"}, environment_variables={"LABNATIVE_PATHS": "mine"},
        script_params=["$HOME", "a b", ""],
    )[0]  # fmt: skip
    assert arguments == ["$HOME", "a b", ""]
    assert env["LABNATIVE_MODE"] == "fast"
    assert env["LABNATIVE_PATHS"] == "/opt/stoker/env/a b:mine"
    record = lab.records()[0]
    assert not [v for v in record["activation"] if v.startswith("LABNATIVE_HOME")]


# Neither the images nor the channels can be had everywhere: only where somebody names one.
if "STOKER_TEST_CONDA_IMAGE" in os.environ:

    def test_conda_as_it_is(lab):
        """conda, mamba or micromamba of STOKER_TEST_CONDA_IMAGE, with STOKER_TEST_CONDA_CHANNEL."""
        channel = os.environ.get("STOKER_TEST_CONDA_CHANNEL", "conda-forge")
        keys = {
            "conda_packages": ["python=3.11", "numpy"],
            "environment": {"channels": [channel]},
        }
        image = os.environ["STOKER_TEST_CONDA_IMAGE"]
        found, _ = lab.run(image, ["numpy"], **keys)
        assert found["prefix"] == "/opt/stoker/env" and found["env"]["CONDA_PREFIX"]
        _, said = lab.run(image, ["numpy"], **keys)
        assert "environment reused" in said
        lab.assert_clean()


@pytest.mark.parametrize("tool", ["conda", "micromamba"])
def test_channels_with_a_name_only(lab, make_tool_image, tool):
    """They are where the tool says, order and all."""
    image = make_tool_image(tool, {"conda": "23.3.1", "micromamba": "1.5.8"}[tool])
    script = "print(open('/opt/stoker/env/share/in-both').read())"
    packages = {"conda_packages": ["in-both", "python"], "script": script}
    job = lab.job(image, **packages, environment={"channels": ["other", "main"]})
    assert lab.stoker("run", job).stdout.strip() == "other"


@pytest.mark.parametrize(
    ("tool", "version"), [("micromamba", "1.5.8"), ("mamba", "1.5.8"), ("conda", "4.5.4")]
)
def test_other_tools(lab, make_tool_image, tool, version):
    image = make_tool_image(tool, version)
    found, _ = lab.run(image, ["labmath"], conda_packages=["labmath=1.2", "python"])
    assert found["labmath"] == "1.2.0"
    assert json.loads(lab.records()[0]["lock"])["tool"] == {"name": tool, "version": version}


@pytest.mark.parametrize(
    ("package", "code", "evidence"),
    [
        ("no-such-package", "PackageNotFound", "no-such-package"),
        ("needs-nothing-there", "Unsatisfiable", "no-such-package"),
        ("script-fails", "BuildFailed", ""),
    ],
)
def test_bad_conda_packages(lab, conda_image, package, code, evidence):
    _, said = lab.fails(conda_image, conda_packages=[package])
    assert evidence in said
    assert lab.cause()["code"] == f"Environment{code}", said
    lab.assert_clean()


@pytest.mark.parametrize(
    ("package", "policy", "code"),
    [
        ("script-forks", {"pids": 64}, None),
        ("script-never-ends", {}, "TimeLimit"),
        ("script-fills", {"disk": "64m"}, "NoSpace"),
        ("script-sparse", {"disk": "1g"}, "NoSpace"),
        ("script-many-variables", {}, "BuildFailed"),
    ],
)
def test_hostile_scripts(lab, conda_image, package, policy, code):
    """A package's script ends with its build, whatever it does."""
    lab.configure(**policy)
    seconds = 5 if code in (None, "TimeLimit") else 60
    _, said = lab.fails(
        conda_image, conda_packages=["python", package], environment={"max_seconds": seconds}
    )
    assert code is None or lab.cause()["code"] == f"Environment{code}", said
    lab.assert_clean()


def test_order_of_channels(lab, conda_image):
    """It decides which package is meant, so it makes another environment."""
    channels = [f"{lab.channels.url}/{name}" for name in ("main", "other")]
    script = "import json; print(json.dumps(open('/opt/stoker/env/share/in-both').read()))"
    for ordered in (channels, channels[::-1]):
        found, _ = lab.run(
            conda_image,
            conda_packages=["in-both", "python"],
            environment={"channels": ordered},
            script=script,
        )
        assert found.strip() == ordered[0].rpartition("/")[2]
    assert len(lab.records()) == 2


def test_image_packages(lab, make_image_with_package):
    """Seen where the job wants them, and never changed."""
    image = make_image_with_package
    found, _ = lab.run(image, ["of_image", "wheelmath"], pip_packages=["wheelmath==1.0"],
                       environment={"inherit_image_packages": True})  # fmt: skip
    assert found["of_image"] == "7"
    script = (
        "import importlib.util, json; print(json.dumps(bool(importlib.util.find_spec('of_image'))))"
    )
    found, _ = lab.run(image, pip_packages=["wheelmath==1.0"], script=script)
    assert found is False


@pytest.fixture
def make_image_with_package(registry, tmp):
    package = ociimage.Tar().file(
        "usr/lib/python3/dist-packages/of_image.py", "__version__ = '7'\n"
    )
    layers = [condalab.base_layer(), condalab.pip_layer()]
    return condalab.push(registry, tmp / "layout", "environment/with-package", layers, package)


def test_refresh_and_age(lab, pip_image):
    """Asked anew, a request may lead to the environment that is here: nothing is built twice."""
    lab.run(pip_image, pip_packages=["wheelmath"])
    lab.index.heal()
    _, said = lab.run(pip_image, pip_packages=["wheelmath"], environment={"reuse": "refresh"})
    assert "/simple/wheelmath/" in lab.index.paths()
    assert lab.index.downloads() == []
    assert len(lab.records()) == 1
    time.sleep(1.1)
    lab.index.heal()
    lab.run(pip_image, pip_packages=["wheelmath"], environment={"max_age": 1})
    assert "/simple/wheelmath/" in lab.index.paths()


def test_shared_by_registry(lab, make_stoker, tmp, registry, pip_image):
    """What one node has built another one pulls: the same layer, no build, no package."""
    repository = f"{registry.address}/environment/shared"
    lab.configure(registry=repository, push=True)
    lab.run(pip_image, pip_packages=["wheel-app"])
    (first,) = lab.records()
    other = Lab(make_stoker(), tmp / "other", lab.index, lab.channels)
    other.configure(registry=repository)
    lab.index.heal()
    found, said = other.run(pip_image, ["wheelmath"], pip_packages=["wheel-app"])
    assert found["wheelmath"] == "1.1"
    assert "pulled from" in said
    assert lab.index.paths() == []
    (record,) = other.records()
    assert (record["key"], record["layer"]) == (first["key"], first["layer"])


def test_no_memory_to_look(make_stoker, tmp, package_index, channels, pip_image):
    """What an image offers is not remembered from a look that was cut short."""
    lab = Lab(make_stoker(), tmp, package_index, channels)
    lab.configure(memory="4m")
    lab.fails(pip_image, "looking into the image: python3", pip_packages=["wheelmath"])
    lab.configure()
    found, _ = lab.run(pip_image, ["wheelmath"], pip_packages=["wheelmath"])
    assert found["wheelmath"] == "2.0"


def test_prefix_that_leads_away(lab, conda_image):
    """A link in its place is followed in the container only, never by the node."""
    lab.fails(
        conda_image, "open env", "symbolic link", conda_packages=["python", "script-leads-away"]
    )
    assert lab.cause()["code"] == "EnvironmentVerification"
    lab.assert_clean()


def test_record_that_lies(lab, conda_image):
    """What a package calls its files is looked for in the prefix only."""
    found, _ = lab.run(
        conda_image, ["wheelmath"],
        conda_packages=["python", "pip", "script-lies"], pip_packages=["wheelmath"],
    )  # fmt: skip
    assert found["wheelmath"] == "2.0"


def test_image_without_tools(lab, python_image, busybox_image):
    lab.fails(python_image, "no micromamba, mamba or conda", conda_packages=["labmath"])
    assert lab.cause()["code"] == "EnvironmentNoTool"
    lab.fails(busybox_image, "no Python", pip_packages=["wheelmath"])


@pytest.fixture
def busybox_image(registry, layout):
    """Nothing but one program."""
    tar = ociimage.Tar().dir("bin").file(
        "bin/busybox", pathlib.Path(os.environ.get("BUSYBOX", "/bin/busybox")).read_bytes(), mode=0o755
    )  # fmt: skip
    layout.image([layout.layer(tar)], config_options={"config": {"Env": ["PATH=/bin"]}})
    return registry.push(layout, "environment/busybox")


# ---- many at once, kills, locks


def test_many_at_once(lab, pip_image):
    """Eight environments from a cold cache: each right, nothing downloaded twice."""
    jobs = [
        lab.job(pip_image, [f"bulk{i}", "wheelmath"], pip_packages=[f"bulk{i}", "wheelmath==1.0"])
        for i in range(8)
    ]
    lab.stoker("pull", pip_image)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda job: lab.stoker("run", job), jobs))
    for result in results:
        assert json.loads(result.stdout)["wheelmath"] == "1.0"
    assert len(lab.records()) == 8
    files = lab.index.downloads()
    assert len(files) == len(set(files)) == 9, files
    lab.assert_clean()


def test_one_build_for_many_jobs(lab, pip_image):
    jobs = [lab.job(pip_image, ["wheelmath"], pip_packages=["wheel-app"]) for _ in range(8)]
    lab.stoker("pull", pip_image)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda job: lab.stoker("run", job), jobs))
    said = [r.stderr for r in results]
    assert sum("environment ready" in s for s in said) == 1
    assert sum("environment reused" in s for s in said) == 7
    assert len(lab.records()) == 1


def test_same_lock_same_layer(lab, make_stoker, tmp, pip_image):
    """Two nodes build from one lock: layer and configuration are the same to the byte, and they are those
    of the build that made the lock."""
    lab.run(pip_image, pip_packages=["wheel-app"])
    (first,) = lab.records()
    lock = tmp / "lock.json"
    lock.write_text(first["lock"])
    for node_number in range(2):
        other = Lab(make_stoker(), tmp / f"other{node_number}", lab.index, lab.channels)
        found, said = other.run(
            pip_image, ["wheelmath"], environment={"reuse": "locked", "lock_file": str(lock)}
        )
        assert found["wheelmath"] == "1.1"
        assert "from its lock" in said
        (record,) = other.records()
        assert record["key"] == first["key"]
        assert record["layer"] == first["layer"]


def test_same_lock_of_conda(lab, make_stoker, tmp, conda_image):
    """Conda's and pip's packages; no channel is named beside the lock."""
    lab.run(conda_image, conda_packages=["labapp", "labnative"], pip_packages=["wheelmath"])
    (first,) = lab.records()
    lock = tmp / "lock.json"
    lock.write_text(first["lock"])
    other = Lab(make_stoker(), tmp / "other", lab.index, lab.channels)
    other.configure(channels=[])
    found, _ = other.run(
        conda_image,
        ["labapp", "wheelmath"],
        environment={"reuse": "locked", "lock_file": str(lock)},
    )
    assert found["env"]["LABNATIVE_MODE"] == "fast"
    (record,) = other.records()
    assert (record["key"], record["layer"]) == (first["key"], first["layer"])


def test_cancel(lab, pip_image):
    lab.index.fault("/simple/", "hang")
    with lab.stoker.popen("run", lab.job(pip_image, pip_packages=["wheelmath"])) as process:
        for line in process.stderr:
            if "resolving" in line:
                break
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=20)
    assert process.returncode == 128 + signal.SIGTERM
    lab.assert_clean()


def test_cancel_while_it_is_shared(lab, pip_image):
    """A registry that hangs holds no job that is to end."""
    registry = faulty_registry.UploadRegistry()
    registry.fault = lambda method, path, count: "hang" if "/blobs/" in path else None
    lab.configure(registry=f"{registry.address}/environments", push=True)
    try:
        with lab.stoker.popen("run", lab.job(pip_image, pip_packages=["extra-part"])) as process:
            until = time.monotonic() + 60
            while not any("/blobs/" in path for _, path, _ in registry.log):
                assert process.poll() is None and time.monotonic() < until
                time.sleep(0.05)
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=10)
    finally:
        registry.stop()
    assert process.returncode == 128 + signal.SIGTERM
    lab.assert_clean()


def test_kill(lab, pip_image, request):
    """kill -9 at any moment: what comes next builds it, and nothing is left of what was under way."""
    times = request.config.getoption("--campaign") // 5 or 1
    for i in range(times):
        job = lab.job(pip_image, ["wheelmath"], pip_packages=["wheel-app", f"bulk{i % 8}"])
        with lab.stoker.popen("run", job) as process:
            time.sleep(0.2 + (i * 37 % 50) / 20)
            process.kill()
            process.communicate()
        found, _ = lab.run(pip_image, ["wheelmath"], pip_packages=["wheel-app", f"bulk{i % 8}"])
        assert found["wheelmath"] == "1.1"
    lab.stoker("run", lab.job(pip_image, pip_packages=["extra-part"]))
    lab.assert_clean()
