# SPDX-License-Identifier: Apache-2.0
"""docs/job.schema.json and the program agree: the same keys, the same words, and the same answer to
documents that are right and documents that are wrong. The pages about jobs and about agent.yaml name every
key, and what they and examples/ show is a valid job.

    check_schema.py PROGRAM SCHEMA
"""

import copy
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile

import jsonschema

HEX = "0123456789abcdef" * 4
URL = "https://data.example/a/b.bin"
BASE = {"entry_script": "train.py", "custom_docker_image": "python:3.12"}


def one_input(**keys):
    return {"inputs": [{"name": "data", **keys}]}


def http(**keys):
    return one_input(kind="http", url=URL, **keys)


def nfs(**keys):
    return one_input(kind="nfs", remote="server:/export", **keys)


def cifs(**keys):
    return {"secrets": {"pw": {"env": "HOME"}}} | one_input(kind="cifs", remote="//s/share", **keys)


def rclone(**keys):
    return one_input(kind="fuse", profile="rclone", remote="r:b", **keys)


def custom(**keys):
    return one_input(kind="fuse", profile="custom", **keys)


def environment(**keys):
    return {"environment": keys}


def resources(**keys):
    return {"resources": keys}


GOOD = [
    {}, {"experiment": "a.b-c_1"}, {"display_name": "x" * 255}, {"display_name": "ä" * 255},
    {"description": ""}, {"tags": {"a": 1, "b": None, "c": True, "d": 1.5}}, {"tags": {}},
    {"inputs": []}, {"inputs": None}, {"script_params": {"--a": 1, "--b": None, "": "x"}},
    {"script_params": ["a", 1, True]},
    one_input(kind="inline", content="x") | {"script_params": {"--d": {"input": "data"}}},
    one_input(kind="inline", content="x") | {"script_params": [{"input": "data"}, "${{inputs.data}}/x"]},
    {"user_managed": True}, {"user_managed": True, "pip_packages": None},
    {"conda_packages": ["numpy=2"]},
    {"user_managed": False, "pip_packages": ["numpy==2"], "conda_packages": []},
    {"conda_dependencies_file": "environment.yml"}, {"pip_requirements_file": "requirements.txt"},
    {"conda_dependencies_file": "environment.yml", "pip_requirements_file": "requirements.txt"},
    {"pip_packages": ["a"], "pip_requirements_file": "requirements.txt"}, {"environment": {}},
    environment(channels=["conda-forge", URL, "a/label/b"], channel_priority="flexible"),
    environment(python="3.11"),
    environment(tool="uv", index_url=URL, extra_index_urls=[URL], only_binary=[":all:", "numpy"], pre=True),
    environment(inherit_image_packages=True, cuda="12.4", as_of="2026-01-01", reuse="reuse", max_age="7d"),
    environment(max_age=0), environment(max_age=60),
    environment(activation="shell", max_seconds=10),
    environment(as_of="2026-01-01T10:00:00Z", reuse="refresh", max_age=0),
    environment(lock_file="lock.json"), environment(lock_file="lock.json", reuse="locked"),
    environment(tool=None, reuse=None, python=None),
    {"environment_variables": {"A": 1, "B": None}}, {"shm_size": "2g"}, {"shm_size": "1GiB"},
    {"shm_size": 1}, {"max_run_duration_seconds": 1}, {"max_retries": 0}, {"max_retries": 100},
    {"output_destination": "/srv/x"}, {"network": "none"}, {"network": None}, {"node_count": 1},
    {"process_count_per_node": 1}, {"node_count": None},
    resources(cpus=0.5, memory="8g", memory_swap=1, disk="1t", pids=10, gpus=0, devices=[]),
    resources(), {"secrets": {"a": {"file": "secret"}}},
    {"secrets": {"a": {"env": "HOME", "variable": "T"}}}, {"secrets": {}},
    one_input(kind="bind", path="d"),
    one_input(kind="bind", path="d", mode="rw_mount", no_exec=True),
    one_input(kind="bind", path="d", read_only=False),
    one_input(kind="bind", path="d", mode="download", writable=True),
    one_input(kind="bind", path="none", optional=True),
    one_input(kind="bind", path="d", target="/mnt/x"), http(),
    http(mode="download", unpack="auto", cache="pinned", sha256=HEX, size="1g"),
    http(mode="direct"), http(sha256="sha256:" + HEX, writable=True, max_bytes=1, max_seconds=5),
    http(mode=None, unpack="tar"),
    one_input(kind="http", files=[URL, {"url": URL, "name": "x/y", "sha256": HEX, "size": 1}]),
    one_input(kind="http", files=[{"url": "http://[::1]:80/x", "name": None}]),
    one_input(kind="oci", reference="ghcr.io/a/b:1"),
    one_input(kind="oci", reference="a", mode="direct"), rclone(),
    rclone(options={"cache": "full", "n": 1, "b": True, "c": None}, variables={"A": "b"}),
    rclone(mode="rw_mount"),
    rclone(mode="direct"), custom(command=["x", "{mountpoint}"]),
    custom(command=["x", "{fd}"], remote="r"), nfs(),
    nfs(mode="rw_mount", options={"vers": "4.2"}), nfs(mode="download", cache="off"), cifs(),
    cifs(user="ada", password_secret="pw"), one_input(kind="fsimage", path="train.py"),
    one_input(kind="fsimage", url=URL, sha256=HEX), one_input(kind="inline", content=""),
    one_input(kind="inline", content="x", read_only=True),
]  # fmt: skip

BAD = [
    {"entry_script": None}, {"entry_script": "/train.py"}, {"entry_script": ""},
    {"entry_script": 1}, {"experiment": "-a"}, {"experiment": "a/b"}, {"experiment": "a" * 101},
    {"display_name": "x" * 256}, {"display_name": 1}, {"description": "x" * 10001},
    {"tags": {"": 1}}, {"tags": {"a=b": 1}}, {"tags": {"a": []}},
    {"tags": {str(i): 1 for i in range(101)}}, {"inputs": {}}, {"inputs": [1]}, {"inputs": [{}]},
    {"unknown": 1}, {"script_params": "x"}, {"script_params": [None]}, {"script_params": [["x"]]},
    {"script_params": [{"input": "1"}]}, {"script_params": [{"inputs": "x"}]},
    {"custom_docker_image": ""}, {"user_managed": "yes"},
    {"user_managed": True, "pip_packages": []}, {"user_managed": True, "environment": {}},
    {"conda_packages": "numpy"}, {"conda_packages": [1]}, {"conda_packages": [""]},
    {"pip_packages": ["a"] * 2001}, {"conda_dependencies_file": "/x"},
    {"pip_requirements_file": ""}, {"environment": []},
    {"conda_dependencies_file": "environment.yml", "pip_packages": []}, environment(channel="x"),
    environment(channels=["file:///x"]), environment(channels=["-x"]),
    environment(channels=["https://a:b@c/d"]), environment(channel_priority="high"),
    environment(python=3.11), environment(python="3.x"), environment(python="3."),
    environment(tool="pip"), environment(tool="venv") | {"conda_packages": ["x"]},
    environment(index_url="ftp://x/y"), environment(index_url="https://a@b/"),
    environment(extra_index_urls=["x"]), environment(only_binary=["-x"]),
    environment(inherit_image_packages=True) | {"conda_packages": ["x"]}, environment(pre=1),
    environment(cuda=12), environment(as_of="yesterday"), environment(reuse="always"),
    environment(reuse="locked"), environment(max_age=-1), environment(max_age="soon"),
    environment(lock_file="lock.json", reuse="refresh"), environment(lock_file=""),
    environment(lock_file="lock.json", max_age=5), environment(reuse="refresh", max_age=5),
    environment(activation="x"), environment(max_seconds=0), {"environment_variables": ["A=1"]},
    {"environment_variables": {"A=B": 1}}, {"shm_size": 0}, {"shm_size": "1.5g"},
    {"shm_size": "0"}, {"max_run_duration_seconds": 0}, {"max_retries": -1}, {"max_retries": 101},
    {"max_retries": "1"}, {"output_destination": ""}, {"network": "bridge"}, {"node_count": 2},
    {"node_count": 0}, {"process_count_per_node": 4}, {"distributed_training": {}},
    {"use_gpu": True}, {"vm_size": "x"}, {"conda_dependencies_file_path": "x"},
    {"distributed_backend": "mpi"}, {"compute_target": "x"}, resources(cpus=0), resources(cpu=1),
    resources(memory="x"), resources(pids=0), resources(gpus=-1), resources(gpus=101),
    resources(devices=["nvidia0"]), {"secrets": {"a": "x"}}, {"secrets": {"1a": {"env": "HOME"}}},
    {"secrets": {"a": {"value": "x"}}}, {"secrets": {"a": {}}},
    {"secrets": {"a": {"env": "HOME", "file": "secret"}}}, {"secrets": {"a": {"env": None}}},
    one_input(kind="ftp"), one_input(kind="bind"), one_input(kind="bind", path=""),
    one_input(kind="bind", path="d", mode="direct"), one_input(kind="bind", path="d", url=URL),
    one_input(kind="bind", path="d", mode="ro_mount", read_only=True),
    one_input(kind="bind", path="d", writable=True), one_input(kind="bind", path="d", target="x"),
    one_input(kind="bind", path="d", cache="off"), one_input(kind="bind", path="d", unpack="tar"),
    one_input(kind="bind", path="d", max_seconds=0), one_input(kind="bind", path="d\x01"),
    {"inputs": [{"name": "a b", "kind": "inline", "content": ""}]},
    {"inputs": [{"name": "a" * 65, "kind": "inline", "content": ""}]}, http(mode="ro_mount"),
    http(path="x"), http(files=[URL]), http(sha256="abc"), http(size=0), http(read_only=True),
    http(mode="direct", target="/x"), http(mode="direct", no_exec=True),
    http(mode="direct", unpack="tar"), http(unpack="rar"), http(cache="yes"),
    one_input(kind="http"), one_input(kind="http", files=[]),
    one_input(kind="http", files=[{"name": "x"}]), one_input(kind="http", url="x"),
    one_input(kind="http", url="https://u:p@h/x"), one_input(kind="http", url="http:///x"),
    one_input(kind="http", url="https://h/a b"), one_input(kind="http", files=[URL], sha256=HEX),
    one_input(kind="http", files=[{"url": URL, "extra": 1}]), one_input(kind="oci"),
    one_input(kind="oci", reference="a", mode="rw_mount"),
    one_input(kind="oci", reference="a", read_only=False), one_input(kind="fuse"),
    one_input(kind="fuse", profile="goofys", remote="x"), one_input(kind="fuse", profile="s3fs"),
    rclone(command=["{fd}"]), rclone(options={"a=b": 1}), rclone(options={"a": 1.5}),
    rclone(options=[]), rclone(options={str(i): 1 for i in range(65)}), rclone(variables={"": 1}),
    rclone(user="x"), custom(remote="x"), one_input(kind="nfs"), nfs(path="/x"),
    nfs(mode="direct"), nfs(variables={}), cifs(password_secret="pw"), cifs(content="x"),
    one_input(kind="fsimage"), one_input(kind="fsimage", url=URL), http(content=""),
    one_input(kind="fsimage", url=URL, sha256=HEX, path="x"),
    one_input(kind="fsimage", path="x", mode="download"),
    one_input(kind="fsimage", path="x", sha256=HEX), one_input(kind="inline"),
    one_input(kind="inline", content=1), one_input(kind="inline", content="x", mode="rw_mount"),
    one_input(kind="inline", content="x", cache="off"),
]  # fmt: skip

# What only the program can know.
BAD_FOR_PROGRAM = [
    {"script_params": ["${{inputs.nope}}"]}, {"script_params": [{"input": "nope"}]},
    {"pip_packages": ["-e ."]}, {"pip_packages": ["./x"]},
    {"conda_packages": ["https://h/x.conda"]}, custom(command=["x"]),
    cifs(user="a", password_secret="other"), one_input(kind="http", files=[URL, URL]),
    nfs(options={"a": "b,c"}), one_input(kind="nfs", remote="server"),
    one_input(kind="http", files=[{"url": URL, "name": "../x"}]),
    one_input(kind="http", files=[URL, "http://h/x"], mode="direct"),
    environment(as_of="2026-13-01"), one_input(kind="fuse", profile="rclone", remote="/etc"),
    one_input(kind="oci", reference="A B"),
]  # fmt: skip


def part(schema, name):
    """The schema of the object that the program calls by this name."""
    for step in name.replace("[]", ".[]").split("."):
        if step == "*":
            schema = schema["additionalProperties"]
        elif step == "[]":
            schema = schema["items"]
        elif step:
            schema = schema["properties"][step]
        schema = next((s for s in schema.get("anyOf", []) if s.get("type") == "object"), schema)
    return schema


def takes_null(schema):
    return "null" in schema.get("type", []) or any(map(takes_null, schema.get("anyOf", [])))


def check_keys(schema, keys):
    for name, known in keys.items():
        here = part(schema, name)
        properties = here["properties"]
        where = name or "the document"
        assert here["additionalProperties"] is False, where
        assert set(properties) == set(known), (where, set(properties) ^ set(known))
        required = {key for key, facts in known.items() if facts["required"]}
        assert set(here.get("required", [])) == required, where
        for key, facts in known.items():
            assert properties[key].get("description"), f"{where}: {key} has no description"
            assert takes_null(properties[key]) == facts["nullable"], f"{where}: {key}: null"
            words = [w for w in properties[key].get("enum", []) if isinstance(w, str)]
            assert words == facts.get("words", []), f"{where}: {key}: {words}"


def check_pages(docs, keys):
    page = (docs / "job.md").read_text()
    manual = (docs / "man/job.yaml.5").read_text()
    for where, known in keys.items():
        for key in known:
            assert f"`{key}`" in page, f"job.md says nothing of {key} ({where})"
            assert re.search(rf"\b{key}\b", manual), f"job.yaml.5 says nothing of {key} ({where})"


def check_node_pages(root):
    """No verb shows the keys of agent.yaml; they are the names in the tables of the decoders."""
    manual = (root / "docs/man/agent.yaml.5").read_text()
    tables = [*root.glob("agent/config/*.c"), root / "oci/registry/config.c"]
    keys = {
        key
        for table in tables
        for key in re.findall(r'\{"([a-z_]+)",\s*\w*decode', table.read_text())
    }
    assert len(keys) > 60
    for key in keys:
        assert re.search(rf"\b{key}\b", manual), f"agent.yaml.5 says nothing of {key}"


def accepts(program, folder, document):
    (folder / "job.json").write_text(json.dumps(document))
    return validates(program, folder, "job.json")


def validates(program, folder, job):
    command = [program, "--config", "agent.yaml", "validate", "--json", job]
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False,
        env=os.environ | {"HF_TOKEN": "a secret of some length"},
    )  # fmt: skip
    answer = json.loads(done.stdout)
    assert done.returncode == (0 if answer["valid"] else 1), done.stderr
    return answer["valid"], answer.get("message")


def make_folder(folder):
    (folder / "d").mkdir()
    for name in ("train.py", "secret", "requirements.txt", "lock.json"):
        (folder / name).write_text("# word\n")
    (folder / "environment.yml").write_text("dependencies: []\n")
    config = {"data": {"allow_fsimage": True, "profiles": ["rclone", "custom"]}}
    (folder / "agent.yaml").write_text(
        json.dumps(config | {"state_dir": "/nonexistent", "run_dir": "/nonexistent"})
    )


def check_documents(program, validator, folder):
    make_folder(folder)
    for cases, by_schema, by_program in [
        (GOOD, True, True), (BAD, False, False), (BAD_FOR_PROGRAM, True, False)
    ]:  # fmt: skip
        for case in cases:
            document = copy.deepcopy(BASE) | case
            complaints = [e.message for e in validator.iter_errors(document)]
            assert (not complaints) == by_schema, f"schema: {case}: {complaints[:1]}"
            valid, message = accepts(program, folder, document)
            assert valid == by_program, f"program: {case}: {message}"
    return len(GOOD) + len(BAD) + len(BAD_FOR_PROGRAM)


def check_examples(program, docs, folder):
    """Those of examples/, and the first one of docs/job.md, with what it names in this folder."""
    jobs = sorted(docs.parent.glob("examples/*/job.yaml"))
    assert len(jobs) >= 3
    shown = (docs / "job.md").read_text().split("```yaml\n")[1].split("```")[0]
    (folder / "data/labels").mkdir(parents=True)
    (folder / "job.yaml").write_text(shown.replace("/srv/", f"{folder}/"))
    for job in [*jobs, folder / "job.yaml"]:
        valid, message = validates(program, folder, str(job))
        assert valid, f"{job}: {message}"
    return len(jobs) + 1


def main(program, schema_path):
    schema = json.loads(pathlib.Path(schema_path).read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    keys = json.loads(
        subprocess.run([program, "validate", "--keys"], capture_output=True, check=True).stdout
    )
    docs = pathlib.Path(schema_path).resolve().parent
    check_keys(schema, keys)
    check_pages(docs, keys)
    check_node_pages(docs.parent)
    with tempfile.TemporaryDirectory() as folder:
        count = check_documents(program, validator, pathlib.Path(folder))
        count += check_examples(program, docs, pathlib.Path(folder))
    print(f"{sum(map(len, keys.values()))} keys, {count} documents")


if __name__ == "__main__":
    main(str(pathlib.Path(sys.argv[1]).resolve()), sys.argv[2])
