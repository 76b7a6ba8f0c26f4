# SPDX-License-Identifier: Apache-2.0
"""A controller and two nodes with nothing in common but the way to it, and what a data scientist hands
over: a folder with a script, conda and pip packages, and a dataset."""

import contextlib
import json
import subprocess
import time

import faulty_http
import namespaces
import pytest
from test_agent import agent
from test_run import wait_for, write_job
from test_submit import user  # noqa: F401

from controller import controller, make_controller  # noqa: F401

DATA = "".join(f"{i},{i * i}\n" for i in range(1000))
SCRIPT = """
import os, pathlib, sys, time
import labmath, wheelmath
rows = pathlib.Path(sys.argv[2], "rows.csv").read_text().splitlines()
print("labmath", labmath.__version__, "wheelmath", wheelmath.__version__, flush=True)
print(len(rows), "rows", flush=True)
pathlib.Path("outputs/first").write_text(rows[-1])
for step in range(int(sys.argv[4])):
    print("step", step, flush=True)
    with open("logs/events", "a") as f:
        f.write(f"{step}\\n")
    time.sleep(2)
pathlib.Path("outputs/model").write_bytes(b"weights" * 100000)
"""


@pytest.fixture
def machines(tmp):
    made = {name: namespaces.Machine(tmp / name) for name in ("alpha", "beta")}
    yield made
    for machine in made.values():
        machine.destroy()


@pytest.fixture
def data():
    made = faulty_http.FaultyHttp()
    yield made
    made.stop()


@pytest.fixture
def lab(user, machines, controller, data, registry, package_index, channels):  # noqa: F811
    """Both have joined, and may use the lab's servers."""
    registry_port = int(registry.address.rpartition(":")[2])
    for name, machine in machines.items():
        machine.configure(
            data={"local_hosts": [data.host]},
            environments={
                "index_url": f"{package_index.url}/simple",
                "channels": [f"{channels.url}/main"],
                "local_hosts": [package_index.address, channels.address],
            },
        )
        machine.relay(controller.port, registry_port, data.port, package_index.port, channels.port)
        machine("join", controller.url, "--name", name, input=controller.join + "\n")
    return machines


def states(user):  # noqa: F811
    return {n["name"]: n["state"] for n in json.loads(user("nodes", "--json").stdout)["nodes"]}


def test_from_folder_to_files(lab, user, data, conda_image, tmp):  # noqa: F811
    job = write_job(
        tmp / "job", conda_image, SCRIPT, "train.py",
        conda_packages=["labmath=1.2", "python"], pip_packages=["wheelmath<2"],
        inputs=[{"name": "rows", "kind": "http", "url": data.add("/rows.csv", DATA.encode())}],
        script_params={"--data": "${{inputs.rows}}", "--steps": 6},
    )  # fmt: skip
    with contextlib.ExitStack() as stack:
        stack.enter_context(agent(lab["beta"]))
        follower = stack.enter_context(user.popen("submit", "--follow", job))
        lines = [follower.stdout.readline() for _ in range(3)]
        assert lines == ["labmath 1.2.0 wheelmath 1.1\n", "1000 rows\n", "step 0\n"], (
            lines,
            follower.communicate(timeout=60),
        )
        (run,) = json.loads(user("runs", "--json").stdout)["runs"]
        assert (run["state"], run["node"]) == ("Running", "beta")

        def first_is_here():
            user("download", run["id"], "outputs", "-o", tmp / "early", check=False)
            return (tmp / "early/outputs/first").exists()

        wait_for(first_is_here, "the first result", 20)
        assert follower.poll() is None
        assert (tmp / "early/outputs/first").read_text() == "999,998001"
        out, err = follower.communicate(timeout=60)
        assert follower.returncode == 0, err
        assert out == "".join(f"step {i}\n" for i in range(1, 6))
        user("download", run["id"], "-o", tmp / "got")
        assert (tmp / "got/user_logs/std_log.txt").read_text() == "".join(lines) + out
        assert (tmp / "got/logs/events").read_text() == "0\n1\n2\n3\n4\n5\n"
        (local,) = (lab["beta"].state / "runs").glob(f"{run['id']}.1")
        subprocess.run(["diff", "-r", local / "1/outputs", tmp / "got/outputs"], check=True)

        # The other one has nothing to do, and nothing of this: it comes where the environment is.
        stack.enter_context(agent(lab["alpha"]))
        wait_for(lambda: set(states(user).values()) == {"Ready"}, "both nodes", 30)
        document = json.loads(job.read_text())
        document["script_params"]["--steps"] = 1
        job.write_text(json.dumps(document))
        begin = time.monotonic()
        again = user("submit", "--follow", job, timeout=120)
        print(f"the second run: {time.monotonic() - begin:.1f} s, of which 2 s sleep")
        assert again.stdout == "".join(lines)
        second = json.loads(user("runs", "--json").stdout)["runs"]
        assert [r["node"] for r in second] == ["beta", "beta"]
