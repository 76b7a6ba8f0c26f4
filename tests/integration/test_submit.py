# SPDX-License-Identifier: Apache-2.0
"""A user, a controller and a node: from `stoker submit` to the files that come back."""

import json
import os
import pathlib
import subprocess

import pytest
from test_agent import agent
from test_run import _busybox, busybox, runs, wait_for, write_job  # noqa: F401

from controller import BOTH_STORES, controller, make_controller  # noqa: F401


@pytest.fixture
def machine(make_stoker, controller):  # noqa: F811
    """A node that has joined."""
    stoker = make_stoker()
    stoker("join", controller.url, "--name", "alpha", input=controller.join + "\n")
    return stoker


@pytest.fixture
def user(make_stoker, controller, tmp):  # noqa: F811
    """Somebody elsewhere, who has logged in."""
    stoker = make_stoker()
    stoker.environment["XDG_CONFIG_HOME"] = str(tmp / "config")
    token = controller.make_token("user", user="ada")
    login = stoker("login", controller.url, input=token + "\n")
    assert "ada" in login.stdout and token not in login.stdout
    assert os.stat(tmp / "config/stoker/controller.json").st_mode & 0o777 == 0o600
    return stoker


@BOTH_STORES
def test_follow(user, machine, busybox, tmp):  # noqa: F811
    """The log comes as the script prints it, the status is the script's."""
    lines = "i=0; while [ $i -lt 500 ]; do echo line $i; i=$((i+1)); done; exit 3\n"
    job = write_job(tmp / "job", busybox, lines, experiment="count")
    with agent(machine):
        result = user("submit", "--follow", job, check=False, timeout=120)
    assert result.returncode == 3, result.stderr
    assert result.stdout == "".join(f"line {i}\n" for i in range(500))
    (run,) = json.loads(user("runs", "--json").stdout)["runs"]
    assert (run["state"], run["user"], run["node"]) == ("Failed", "ada", "alpha")
    assert run["cause"]["exit_code"] == 3 and run["attempt"] == 1
    assert run["id"].startswith("count_") and "Failed" in user("show", run["id"]).stdout
    assert user("logs", run["id"]).stdout == result.stdout
    assert user("logs", "--tail", "2", "count_").stdout == "line 498\nline 499\n"
    shown = json.loads(user("show", "--json", run["id"]).stdout)
    assert shown["attempts"][0]["node"] == "alpha" and shown["job"]["entry_script"] == "main.sh"


@BOTH_STORES
def test_download(user, machine, busybox, controller, tmp):  # noqa: F811
    """Results of all shapes come back as they were, also what was changed in between."""
    script = """
echo hello
mkdir outputs/d outputs/empty; ln -s d/a outputs/link
head -c 20000000 /dev/urandom > outputs/large
echo one > outputs/d/a; : > outputs/nothing; echo x > "outputs/100% $(printf '\\377')"
echo gone > outputs/gone; echo tb > logs/events
echo old > outputs/old; touch -d '1960-01-02 03:04:05' outputs/old
sleep 11; rm outputs/gone; echo two >> outputs/d/a; head -c 100 /dev/urandom >> outputs/large
"""
    with agent(machine):
        job = write_job(tmp / "job", busybox, script)
        user("submit", "--follow", job, timeout=120)
        run = user("runs").stdout.splitlines()[1].split()[0]
        user("download", run, "-o", tmp / "got")
    assert (tmp / "got/user_logs/std_log.txt").read_text() == "hello\n"
    (local,) = runs(machine)
    for top in ("outputs", "logs"):
        subprocess.run(["diff", "-r", local / "1" / top, tmp / "got" / top], check=True)
    assert (tmp / "got/outputs/link").readlink() == pathlib.Path("d/a")
    upload = json.loads(user("show", "--json", run).stdout)["upload"]
    assert (upload["state"], upload["files"]) == ("Done", 6)
    times = [path.stat().st_mtime for path in (local / "1/outputs/old", tmp / "got/outputs/old")]
    assert times[0] == times[1] < 0
    before = (tmp / "got/outputs/large").stat().st_ino
    user("download", run, "-o", tmp / "got")
    assert (tmp / "got/outputs/large").stat().st_ino == before  # not fetched again
    user.fails("download", run, "nothing", "-o", tmp / "got", needles=["has no nothing"])
    # One that was broken off is gone on with; what is not its beginning is found out.
    whole = (tmp / "got/outputs/large").read_bytes()
    for part, wrong in ((whole[:7_000_000], False), (whole[1:7_000_000], True), (whole, False)):
        (tmp / "got/outputs/large").unlink()
        (tmp / "got/outputs/.large.part").write_bytes(part)
        sent = controller.metrics()["stoker_http_sent_bytes_total"]
        said = json.loads(
            user("download", "--json", run, "outputs/large", "-o", tmp / "got").stdout
        )
        sent = controller.metrics()["stoker_http_sent_bytes_total"] - sent
        (file,) = said["files"]
        assert (file["path"], file["size"], file["fetched"]) == ("outputs/large", len(whole), True)
        assert (tmp / "got/outputs/large").read_bytes() == whole
        expected = len(whole) - len(part) + (len(whole) if wrong else 0)
        assert expected <= sent < expected + 1_000_000, (expected, sent)
        assert not (tmp / "got/outputs/.large.part").exists()
    (file,) = json.loads(
        user("download", "--json", run, "outputs/large", "-o", tmp / "got").stdout
    )["files"]
    assert not file["fetched"]


@BOTH_STORES
def test_cancel(user, machine, busybox, tmp):  # noqa: F811
    """One that runs is asked to end; one that waits is gone at once."""
    job = write_job(tmp / "job", busybox, "echo go; exec sleep 300\n")
    with agent(machine):
        run = user("submit", job).stdout.strip()
        wait_for(lambda: user("logs", run).stdout == "go\n", "the log", 60)
        user("cancel", run)
        wait_for(lambda: "Canceled" in user("show", run).stdout, "the end", 60)
    large = write_job(tmp / "large", busybox, resources={"cpus": 9999})
    waits = user("submit", large).stdout.strip()
    assert user("cancel", waits).stdout == f"{waits}: Canceled\n"


@BOTH_STORES
def test_others_do_not_see_it(user, busybox, controller, tmp):  # noqa: F811
    run = user("submit", write_job(tmp / "job", busybox)).stdout.strip()
    eve = controller.make_token("user", user="eve")
    user.environment.update(STOKER_URL=controller.url, STOKER_TOKEN=eve)
    assert len(user("runs").stdout.splitlines()) == 1
    for verb in (["cancel", run], ["download", run], ["logs", run]):
        user.fails(*verb, needles=[f"there is no run {run}"])


@BOTH_STORES
def test_bad_jobs(user, busybox, tmp):  # noqa: F811
    """What cannot run anywhere is refused here, with the line and the key."""
    job = write_job(tmp / "job", busybox, inputs=[{"name": "d", "kind": "bind", "path": "data"}])
    user.fails("submit", job, needles=["inputs[0].path", "absolute"])
    (tmp / "job/job.yaml").write_text("entry_scrpt: x\n")
    user.fails("submit", job, needles=["entry_scrpt"])
    assert len(user("runs").stdout.splitlines()) == 1


def test_no_controller(stoker, tmp):
    stoker.environment["XDG_CONFIG_HOME"] = str(tmp / "config")
    stoker.fails("runs", needles=["stoker login"])
    stoker.fails("login", "ftp://x", "--token", "t", needles=["https://host:port"])
