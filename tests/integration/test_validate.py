# SPDX-License-Identifier: Apache-2.0
"""`stoker validate`, and what `stoker run` says before it pulls: the node's decisions, the snapshot's
limits, the properties of the repository. No network: there is none in the namespace of these calls."""

import json
import os
import subprocess
import time

import pytest

ENV = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "LC_ALL": "C.UTF-8"}


def write_job(folder, **keys):
    job = {"entry_script": "train.py", "custom_docker_image": "localhost:1/none:1"} | keys
    (folder / "job.json").write_text(json.dumps({k: v for k, v in job.items() if v is not None}))
    return folder / "job.json"


@pytest.fixture
def folder(tmp):
    (tmp / "src").mkdir()
    (tmp / "src/train.py").write_text("print(1)\n")
    return tmp / "src"


def validate(stoker, job, config=None):
    """As `stoker validate --json`, in a network namespace that has nothing, not even loopback."""
    command = ["unshare", "-n", stoker.binary, "--config", write_config(stoker, config)]
    done = subprocess.run(
        [*command, "validate", "--json", job],
        capture_output=True, text=True, check=False, env=ENV, timeout=30,
    )  # fmt: skip
    answer = json.loads(done.stdout)
    assert done.returncode == (0 if answer["valid"] else 1)
    assert not done.stderr
    return answer


def write_config(stoker, config):
    path = stoker.folder / "validate.json"
    folders = {"state_dir": str(stoker.state), "run_dir": str(stoker.run_dir)}
    path.write_text(json.dumps(folders | (config or {})))
    return path


def git(folder, *words):
    identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run(
        ["git", "-C", folder, *identity, *words], check=True, env=ENV, capture_output=True
    )


def make_repository(folder, remote=None):
    git(folder, "init", "-q", "-b", "main")
    if remote:
        git(folder, "remote", "add", "origin", remote)
    git(folder, "add", "train.py")
    git(folder, "commit", "-q", "-m", "first")


def test_summary(stoker, folder, tmp):
    (tmp / "data").mkdir()
    (folder / "requirements.txt").write_text("scikit-learn\n-r more.txt\n")
    (folder / "more.txt").write_text("pandas==2.2\n")
    (folder / "junk").mkdir()
    (folder / "junk/x").write_text("x")
    (folder / ".gitignore").write_text("junk/\n")
    job = write_job(
        folder,
        pip_requirements_file="requirements.txt",
        inputs=[{"name": "data", "kind": "bind", "path": str(tmp / "data")}],
        script_params={"--data": "${{inputs.data}}"},
    )
    answer = validate(stoker, job)
    assert answer["image"] == "localhost:1/none:1"
    assert answer["arguments"] == ["--data", "/stoker/inputs/data"]
    assert answer["environment"]["pip"] == ["scikit-learn", "pandas==2.2"]
    assert answer["snapshot"]["files"] == 5 and answer["snapshot"]["rules"] == ".gitignore"
    assert answer["properties"] == {}
    done = stoker("validate", job)
    assert "is a valid job" in done.stdout and "scikit-learn, pandas==2.2" in done.stdout


@pytest.mark.parametrize(
    "keys,message",
    [
        ({"entry_script": "none.py"}, "entry_script none.py is not in "),
        ({"entry_script": "left.py"}, "entry_script left.py is left out by .amlignore"),
        ({"source_directory": "nope"}, "source_directory: "),
        ({"inputs": [{"name": "d", "kind": "bind", "path": "nope"}]}, "input d: "),
        ({"secrets": {"s": {"env": "NOT_SET"}}}, "secret s: the variable NOT_SET is not set"),
        ({"pip_requirements_file": "none.txt"}, "pip_requirements_file: none.txt is not in"),
        ({"environment": {"lock_file": "none"}}, "environment.lock_file: "),
        ({"custom_docker_image": None}, "no image: "),
        ({"custom_docker_image": "a b"}, "a b"),
        ({"network": "host"}, "sandbox.allow_host_network"),
        ({"inputs": [{"name": "d", "kind": "fsimage", "path": "train.py"}]}, "data.allow_fsimage"),
        ({"node_count": 2}, "more than 1 is not supported"),
    ],
    ids=lambda v: next(iter(v)) if isinstance(v, dict) else "",
)
def test_refusals(stoker, folder, keys, message):
    (folder / "left.py").write_text("")
    (folder / ".amlignore").write_text("left.py\n")
    answer = validate(stoker, write_job(folder, **keys))
    assert not answer["valid"] and message in answer["message"]


def test_what_the_node_decides(stoker, folder, tmp):
    (tmp / "in/x").mkdir(parents=True)
    (tmp / "secret").mkdir()
    (tmp / "in/out").symlink_to(tmp / "secret")
    config = {
        "data": {"bind_roots": [str(tmp / "in")], "profiles": ["rclone"]},
        "outputs": {"destination_roots": [str(tmp / "in")]},
    }

    def message(**keys):
        return validate(stoker, write_job(folder, **keys), config=config).get("message")

    def bind(path):
        return {"inputs": [{"name": "d", "kind": "bind", "path": str(path)}]}

    assert message(**bind(tmp / "in/x")) is None
    assert "data.bind_roots" in message(**bind(tmp / "secret"))
    assert "data.bind_roots" in message(**bind(tmp / "in/out"))
    assert "data.bind_roots" in message(**bind(tmp / "in/../secret"))
    s3fs = {"name": "d", "kind": "fuse", "profile": "s3fs", "remote": "b"}
    assert "data.profiles" in message(inputs=[s3fs])
    assert message(output_destination=str(tmp / "in/new")) is None
    assert "outputs.destination_roots" in message(output_destination=str(tmp / "new"))


def test_a_snapshot_that_is_too_large(stoker, folder):
    (folder / "data").mkdir()
    for i in range(30):
        (folder / f"data/{i}").write_text("x")
    job = write_job(folder)
    assert validate(stoker, job)["valid"]
    config = {"job_defaults": {"snapshot_files": 20}}
    message = validate(stoker, job, config=config)["message"]
    assert "at most 20" in message and "data (30 files" in message and ".amlignore" in message
    stoker.configure(config)
    done = stoker("run", "--pull", "never", job, check=False)
    assert done.returncode == 1 and ".amlignore" in done.stderr
    document = next(stoker.state.glob("runs/*/1/run.json"))
    assert json.loads(document.read_text())["cause"]["code"] == "InvalidJob"
    assert not (document.parent / "code").exists()


def test_properties_of_a_repository(stoker, folder):
    make_repository(folder, "https://ada:token@git.example/team/x.git")
    job = write_job(folder)
    properties = validate(stoker, job)["properties"]
    assert properties["azureml.git.repository_uri"] == "https://git.example/team/x.git"
    assert properties["mlflow.source.git.repoURL"] == "https://git.example/team/x.git"
    assert properties["azureml.git.branch"] == properties["mlflow.source.git.branch"] == "main"
    assert len(properties["azureml.git.commit"]) == 40
    assert properties["azureml.git.dirty"] == "True"  # job.json
    git(folder, "add", "job.json")
    git(folder, "commit", "-q", "-m", "second")
    assert validate(stoker, job)["properties"]["azureml.git.dirty"] == "False"
    git(folder, "checkout", "-q", "--detach")
    assert "azureml.git.branch" not in validate(stoker, job)["properties"]
    done = stoker("run", "--pull", "never", job, check=False)
    assert done.returncode == 1
    document = json.loads(next(stoker.state.glob("runs/*/1/run.json")).read_text())
    assert document["properties"] == validate(stoker, job)["properties"]
    assert document["properties"]["azureml.git.commit"] != properties["azureml.git.commit"]
    assert "token" not in json.dumps(document)


def test_a_hostile_repository_starts_nothing(stoker, folder, tmp):
    """Its configuration names programs wherever git knows a place for one."""
    make_repository(folder)
    trap = tmp / "trap"
    trap.write_text(f"#!/bin/sh\necho $0 $* >> {tmp}/sprung\ncat\n")
    trap.chmod(0o755)
    for setting in (
        "core.fsmonitor", "core.sshCommand", "core.pager", "core.gitProxy", "core.askPass", "core.editor",
        "filter.x.clean", "filter.x.smudge", "filter.a.b.process", "diff.external", "diff.x.textconv",
        "credential.helper", "remote.origin.uploadpack", "gpg.program",
    ):  # fmt: skip
        git(folder, "config", setting, str(trap))
    git(folder, "config", "filter.x.required", "true")
    git(folder, "config", "remote.origin.url", f"ext::{trap} %S foo")
    git(folder, "config", "core.hooksPath", str(tmp / "hooks"))
    (tmp / "hooks").mkdir()
    for hook in ("post-index-change", "reference-transaction", "post-checkout"):
        (tmp / "hooks" / hook).symlink_to(trap)
    (folder / ".gitattributes").write_text("*.py filter=x diff=x\n*.sh filter=a.b\n")
    (folder / "train.py").write_text("print(2)\n")
    properties = validate(stoker, write_job(folder))["properties"]
    assert properties["azureml.git.dirty"] == "True"
    assert not (tmp / "sprung").exists(), (tmp / "sprung").read_text()
    # That the trap works at all.
    subprocess.run(["git", "-C", folder, "status"], env=ENV, capture_output=True, check=False)
    assert (tmp / "sprung").exists()


@pytest.mark.parametrize(
    "filters", [["a=b"], [f"f{i}" for i in range(12)], [f"f{i}" for i in range(40)]]
)
def test_filters_that_cannot_be_named(stoker, folder, tmp, filters):
    """git's "-c" takes a '=' in a filter's name for the end of it, and there is room for so many."""
    make_repository(folder)
    for name in filters:
        git(folder, "config", f"filter.{name}.clean", f"touch {tmp}/started; cat")
    (folder / ".gitattributes").write_text(f"*.py filter={filters[-1]}\n")
    script = folder / "train.py"
    text = script.read_bytes()
    time.sleep(1.1)  # else git is in doubt about the time, and looks itself
    script.write_bytes(bytes([text[0] ^ 1]) + text[1:])
    properties = validate(stoker, write_job(folder))["properties"]
    assert not (tmp / "started").exists()
    assert properties.get("azureml.git.dirty") in (None, "True")
    git(folder, "status", "--porcelain")  # of itself it would have
    assert (tmp / "started").exists()


def test_a_repository_of_somebody_else(stoker, folder):
    make_repository(folder)
    for path in [folder, *folder.rglob("*")]:
        os.chown(path, 12345, 12345, follow_symlinks=False)
    answer = validate(stoker, write_job(folder))
    assert answer["valid"] and answer["properties"] == {}
