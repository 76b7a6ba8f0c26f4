# SPDX-License-Identifier: Apache-2.0
"""Jobs with inputs and results, from job.yaml to what lies at the destination: servers on loopback, one
line for what goes wrong, and nothing left half-made."""

import hashlib
import io
import json
import pathlib
import random
import shutil
import signal
import subprocess
import tarfile
import time

import faulty_http
import node
import pytest
from test_data_prepare import push_artifact
from test_run import _busybox, busybox, record, runs, wait_for, write_job  # noqa: F401

DATA = random.Random(4).randbytes(300_000)
SHA = hashlib.sha256(DATA).hexdigest()


@pytest.fixture(scope="module")
def _node(tmp_path_factory):
    """One for all tests: the image is pulled once."""
    made = node.Stoker(tmp_path_factory.mktemp("jobdata") / "node")
    yield made
    made.destroy()


@pytest.fixture
def server():
    made = faulty_http.FaultyHttp()
    yield made
    made.stop()


@pytest.fixture
def stoker(_node, server):
    """A node without data and runs, which may ask `server`."""
    for name in ("datasets", "runs"):
        shutil.rmtree(_node.state / name, ignore_errors=True)
    _node.configure(data={"local_hosts": [server.host]})
    yield _node
    _node.assert_nothing_left()
    for name in ("tmp", "building"):
        assert list((_node.state / "datasets").glob(f"{name}/*")) == []


@pytest.fixture
def job(stoker, busybox, tmp):  # noqa: F811
    """job(script, inputs=…): what the run printed; with fails=[…], its one line, which holds these."""
    numbers = iter(range(100))

    def run(script="", fails=None, prefix=(), **keys):
        path = write_job(tmp / f"job{next(numbers)}", busybox, script, **keys)
        if fails is None:
            return stoker(*prefix, "run", path).stdout
        return stoker.fails("run", path, needles=fails)

    return run


def last(stoker):
    """The record of the newest run, and its folder."""
    run = max(runs(stoker), key=lambda p: p.stat().st_mtime_ns)
    attempt = max(run.glob("[0-9]*"), key=lambda p: int(p.name))
    return json.loads((attempt / "run.json").read_text()), attempt


def make_tar(files):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as t:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            t.addfile(info, io.BytesIO(data))
    return out.getvalue()


# ---- inputs


def test_every_kind(stoker, job, server, tmp, layout, scripted):
    """What a script finds of each kind; a second run with all servers gone."""
    (tmp / "bound").mkdir()
    (tmp / "bound/a.txt").write_text("bound\n")
    digest = push_artifact(layout, {"model/weights": b"artifact\n"})
    stoker.configure(data={"local_hosts": [server.host, scripted.address]})
    packed = make_tar({"in/side.txt": b"unpacked\n"})
    inputs = [
        {"name": "one", "kind": "http", "url": server.add("/one.bin", DATA), "sha256": SHA},
        {"name": "many", "kind": "http", "files": [
            {"url": server.add("/a?sig=hidden", b"first\n"), "name": "x/a", "sha256": sha(b"first\n")},
            {"url": server.add("/b", b"second\n"), "sha256": sha(b"second\n")}]},
        {"name": "packed", "kind": "http", "url": server.add("/p.tar.gz", packed), "unpack": "auto",
         "sha256": sha(packed)},
        {"name": "words", "kind": "inline", "content": "inline\n"},
        {"name": "artifact", "kind": "oci", "mode": "download",
         "reference": f"{scripted.address}/image@{digest}"},
        {"name": "bound", "kind": "bind", "path": str(tmp / "bound")},
        {"name": "copied", "kind": "bind", "mode": "download", "path": str(tmp / "bound"),
         "writable": True},
        {"name": "absent", "kind": "bind", "path": str(tmp / "absent"), "optional": True},
        {"name": "nothing", "kind": "http", "url": server.url("/nothing"), "optional": True},
    ]  # fmt: skip
    server.files["/a"] = server.files.pop("/a?sig=hidden")
    script = """
cd $STOKER_INPUT_one/.. && wc -c < one/one.bin
cat many/x/a many/b packed/in/side.txt artifact/model/weights bound/a.txt copied/a.txt
[ -f words ] && cat words || cat words/*
ls nothing | wc -l
ls absent | wc -l
echo changed > copied/a.txt && cat copied/a.txt
echo no > bound/a.txt
echo no > one/one.bin
true
"""
    for _ in range(2):
        out = job(script, inputs=inputs, network="none")
        lines = [line for line in out.splitlines() if "Read-only" not in line]
        assert lines == [
            "300000", "first", "second", "unpacked", "artifact", "bound", "bound", "inline", "0",
            "0", "changed",
        ]  # fmt: skip
        assert out.count("Read-only file system") == 2
        assert (tmp / "bound/a.txt").read_text() == "bound\n"
        document, folder = last(stoker)
        (phase,) = [p for p in document["phases"] if p["name"] == "inputs"]
        if server.sent():
            assert 300_000 < phase["bytes"] and "0 of them reused" in phase["detail"], phase
        server.forget()
        scripted.forget()
    asked = [e["path"] for e in server.log]
    assert asked == [] and scripted.log == []
    (phase,) = [p for p in document["phases"] if p["name"] == "inputs"]
    assert "reused" in phase["detail"] and "bytes" not in phase
    assert "hidden" not in (folder / "run.json").read_text()
    server.stop()
    assert "300000" in job(script, inputs=inputs[:-1], network="none")


def sha(data):
    return hashlib.sha256(data).hexdigest()


def test_references(job, server, tmp):
    """Each way to name an input in script_params, and its variables; `direct` gives the address."""
    url = server.add("/d.bin", b"d")
    out = job(
        'for a in "$@"; do echo "[$a]"; done; echo $AZUREML_DATAREFERENCE_b $AZURE_ML_INPUT_d\n',
        inputs=[
            {"name": "b", "kind": "inline", "content": "x", "target": "/data/b"},
            {"name": "d", "kind": "http", "mode": "direct", "url": url},
        ],
        script_params={
            "--a": "${{inputs.b}}/x", "--b": {"input": "b"}, "--c": "DatasetConsumptionConfig:b",
            "--d": "$AZUREML_DATAREFERENCE_b", "--e": "at ${{inputs.d}}",
        },
    )  # fmt: skip
    assert out.split("\n") == [
        "[--a]", "[/data/b/x]", "[--b]", "[/data/b]", "[--c]", "[/data/b]", "[--d]", "[/data/b]",
        "[--e]", f"[at {url}]", f"/data/b {url}", "",
    ]  # fmt: skip
    assert server.log == []


def test_image_as_input(job, tmp, layout, small_image, scripted, stoker):
    """Its tree, mounted where the node keeps it; its own server is asked once."""
    stoker.configure(data={"local_hosts": [scripted.address]})
    source = {"name": "tree", "kind": "oci", "reference": scripted.reference()}
    script = "cat $STOKER_INPUT_tree/etc/hostname; touch $STOKER_INPUT_tree/x || true\n"
    out = job(script, inputs=[source], network="none")
    assert out.startswith("stoker\n") and "Read-only file system" in out
    scripted.stop()
    assert job(script, inputs=[{**source, "cache": "pinned"}]).startswith("stoker\n")
    (phase,) = [p for p in last(stoker)[0]["phases"] if p["name"] == "inputs"]
    assert phase["detail"].startswith("1 of") and phase["detail"].endswith("1 of them reused")


def test_no_exec(job, tmp):
    (tmp / "bin").mkdir()
    shutil.copy("/bin/busybox", tmp / "bin/busybox")
    script = "/stoker/inputs/bin/busybox echo ran\n"
    source = {"name": "bin", "kind": "bind", "path": str(tmp / "bin")}
    assert job(script, inputs=[source]) == "ran\n"
    out = job(f"{script}true\n", inputs=[{**source, "no_exec": True}])
    assert "ran" not in out and "ermission denied" in out


@pytest.mark.parametrize(
    ("source", "how", "code", "kind", "words"),
    [
        ({}, {"statuses": [404] * 9}, "DataNotFound", "user", "404"),
        ({}, {"statuses": [403] * 9}, "DataForbidden", "user", "403"),
        ({"sha256": "0" * 64}, {}, "DataChecksum", "user", "was expected"),
        ({"max_seconds": 1}, {"hangs": [1000] * 9}, "DataTimeout", "infrastructure", ""),
        ({"max_bytes": 1000}, {}, "DataTooLarge", "user", "over the limit of 1.00 kB"),
        ({"unpack": "tar"}, {}, "DataArchive", "user", ""),
    ],
    ids=["404", "403", "checksum", "hangs", "large", "archive"],
)
def test_failures(stoker, job, server, source, how, code, kind, words):
    url = server.add("/x.bin", DATA, **how)
    begin = time.monotonic()
    line = job(
        fails=["input bad: ", words],
        inputs=[
            {"name": "good", "kind": "inline", "content": "x"},
            {"name": "bad", "kind": "http", "url": f"{url}?sig=hidden", **source},
        ],
    )
    assert time.monotonic() - begin < 10
    document, folder = last(stoker)
    assert document["state"] == "Failed"
    cause = document["cause"]
    assert (cause["code"], cause["class"]) == (code, kind), cause
    assert cause["message"] in line
    assert "hidden" not in line + (folder / "run.json").read_text()
    assert (folder / "user_logs/std_log.txt").exists() is False


def test_not_allowed(stoker, job, server, tmp):
    """What the node does not allow is said before anything is asked for."""
    stoker.configure(
        data={"bind_roots": [str(tmp / "allowed")], "local_hosts": [server.host]},
        outputs={"destination_roots": [str(tmp / "allowed")]},
    )
    (tmp / "allowed").mkdir()
    (tmp / "other").mkdir()
    url = server.add("/a", b"a")
    more = {"name": "a", "kind": "http", "url": url}
    job(fails=["input b", "bind_roots"],
        inputs=[more, {"name": "b", "kind": "bind", "path": str(tmp / "other")}])  # fmt: skip
    assert last(stoker)[0]["cause"]["code"] == "NotAllowed"
    job(fails=["output_destination", "destination_roots"], inputs=[more],
        output_destination=str(tmp / "other"))  # fmt: skip
    assert last(stoker)[0]["cause"]["code"] == "NotAllowed"
    assert server.log == []
    (tmp / "allowed/in").mkdir()
    (tmp / "allowed/in/f").write_text("f\n")
    out = job(
        "cat $STOKER_INPUT_b/f; echo r > outputs/r\n",
        inputs=[{"name": "b", "kind": "bind", "path": str(tmp / "allowed/in")}],
        output_destination=str(tmp / "allowed"),
    )
    assert out == "f\n"
    (result,) = (tmp / "allowed").glob("*/outputs/r")
    assert result.read_text() == "r\n"


def test_retry_of_downloads(stoker, job, server):
    """What failed for want of a server is tried again; what came in the meantime is there."""
    url = server.add("/x.bin", DATA, statuses=[503] * 2)
    said = job("wc -c < $STOKER_INPUT_x/x.bin\n", max_retries=3,
                      inputs=[{"name": "x", "kind": "http", "url": url, "max_seconds": 1}])  # fmt: skip
    assert said == "300000\n"
    document, _ = last(stoker)
    names = [p["name"] for p in document["phases"]]
    assert document["attempt"] == 1
    assert names in (
        ["pulling", "inputs", "preparing", "running", "finalizing"],
        ["failed tries", "pulling", "inputs", "preparing", "running", "finalizing"],
    )


@pytest.mark.parametrize("how", ["signal", "stop"])
def test_cancel_while_inputs_come(stoker, busybox, tmp, server, how):  # noqa: F811
    url = server.add("/x.bin", DATA, hangs=[1000] * 9)
    path = write_job(tmp / "job", busybox, inputs=[{"name": "x", "kind": "http", "url": url}])
    with stoker.popen("run", path) as process:
        wait_for(lambda: server.sent(), "the download")
        begin = time.monotonic()
        assert record(stoker)["state"] == "Preparing"
        if how == "signal":
            process.send_signal(signal.SIGINT)
        else:
            stoker("stop", runs(stoker)[0].name)
        _, said = process.communicate(timeout=10)
    assert time.monotonic() - begin < 3
    assert process.returncode == 128 + (signal.SIGINT if how == "signal" else signal.SIGTERM)
    document = record(stoker)
    assert document["state"] == "Canceled" and document["cause"]["code"] == "Canceled"
    assert said.splitlines()[-1].startswith(f"{document['run_id']}: Canceled: ")


def test_nohup(stoker, busybox, tmp, server):  # noqa: F811
    """Who ignores the end of a terminal goes on: while inputs come, and while the script runs."""
    url = server.add("/x.bin", DATA, rate=300_000)
    script = "echo up; while [ ! -e outputs/go ]; do sleep 0.02; done; echo done\n"
    path = write_job(
        tmp / "job", busybox, script, inputs=[{"name": "x", "kind": "http", "url": url}]
    )
    with stoker.popen("run", path, preexec_fn=ignore_hangup) as process:
        wait_for(lambda: server.sent(), "the download")
        process.send_signal(signal.SIGHUP)
        assert process.stdout.readline() == "up\n"
        process.send_signal(signal.SIGHUP)
        (runs(stoker)[0] / "1/outputs/go").touch()
        out, _ = process.communicate(timeout=10)
    assert (process.returncode, out) == (0, "done\n")


def ignore_hangup():
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


def test_detached_and_described(stoker, busybox, tmp, server):  # noqa: F811
    """-d waits for the inputs and no longer; --print-config shows where they lie."""
    inputs = [
        {"name": "x", "kind": "http", "url": server.add("/x", b"x")},
        {"name": "w", "kind": "inline", "content": "w"},
    ]
    path = write_job(tmp / "job", busybox, "cat $STOKER_INPUT_x/x; sleep 60\n", inputs=inputs)
    document = json.loads(stoker("run", "--print-config", path).stdout)
    sources = {m["destination"]: m["source"] for m in document["mounts"]}
    assert pathlib.Path(sources["/stoker/inputs/x"], "x").read_bytes() == b"x"
    assert "/stoker/inputs/w" in sources
    assert runs(stoker) == []
    run = stoker("run", "-d", path).stdout.strip()
    wait_for(lambda: stoker("logs", run).stdout == "x", "the script")
    stoker("stop", "-t", "0", run)
    assert record(stoker)["state"] == "Canceled"


# ---- results


def manifest(folder):
    return json.loads((folder / "manifest.json").read_text())


def test_results_arrive(stoker, busybox, tmp):  # noqa: F811
    """While the job runs, with the manifest last; the log to the byte."""
    target = tmp / "results"
    target.mkdir()
    stoker.configure(outputs={"destination": str(target), "interval_seconds": 1})
    script = """
echo first > outputs/a; echo event > logs/e; echo hello
while [ ! -e outputs/go ]; do sleep 0.05; done
echo second >> outputs/a; echo bye
"""
    path = write_job(tmp / "job", busybox, script)
    run = stoker("run", "-d", path).stdout.strip()
    copy, folder = target / run, stoker.state / "runs" / run / "1"
    wait_for(lambda: (copy / "outputs/a").exists() and (copy / "logs/e").exists(), "the copy", 5)
    wait_for(lambda: (copy / "user_logs/std_log.txt").exists(), "the log", 5)
    assert (copy / "outputs/a").read_text() == "first\n"
    assert not (copy / "manifest.json").exists()
    wait_for(lambda: "outputs Running" in stoker("show", run).stdout, "the state")
    (folder / "outputs/go").touch()
    stoker("wait", run)
    assert (copy / "outputs/a").read_text() == "first\nsecond\n"
    assert (copy / "user_logs/std_log.txt").read_bytes() == b"hello\nbye\n"
    listed = {f["path"]: f["sha256"] for f in manifest(copy)["files"]}
    assert set(listed) == {"outputs/a", "outputs/go", "logs/e", "user_logs/std_log.txt"}
    assert listed["outputs/a"] == sha(b"first\nsecond\n")
    assert "outputs Done: 4 files" in stoker("show", run).stdout


def mount_small(folder, *options):
    folder.mkdir(exist_ok=True)
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", ",".join(["size=1m", *options]), "tmpfs", folder], check=True
    )


@pytest.mark.parametrize("how", ["read-only", "no-room", "missing"])
def test_a_destination_that_fails(stoker, busybox, tmp, how):  # noqa: F811
    """The job is as good as before; the rest can be pushed later."""
    target = tmp / "results"
    if how == "read-only":
        mount_small(target, "ro")
    elif how == "no-room":
        mount_small(target)
    stoker.configure(outputs={"destination": str(target), "interval_seconds": 1})
    script = "dd if=/dev/zero of=outputs/big bs=1024 count=3000 2>/dev/null; echo printed\n"
    result = stoker("run", write_job(tmp / "job", busybox, script))
    document, folder = last(stoker)
    run = document["run_id"]
    assert result.stdout == "printed\n"
    assert document["state"] == "Completed" and document["exit_status"] == 0
    (told,) = [line for line in result.stderr.splitlines() if "outputs push" in line]
    assert str(target) in told
    assert "outputs Failed" in stoker("show", run).stdout
    if how == "missing":
        target.mkdir()
    else:
        subprocess.run(["mount", "-o", "remount,rw,size=50m", target], check=True)
    stoker("outputs", "push", run)
    assert (target / run / "outputs/big").stat().st_size == 3000 * 1024
    assert len(manifest(target / run)["files"]) == 2
    assert "outputs Done" in stoker("show", run).stdout
    assert (folder / "outputs/big").exists()


def test_who_waits_for_results_is_told(stoker, busybox, tmp):  # noqa: F811
    """Why the run does not end; ^C ends the wait, and nothing else. No further attempt after that."""
    target = tmp / "missing"
    stoker.configure(outputs={"destination": str(target), "interval_seconds": 30})
    job = write_job(tmp / "job", busybox, "echo x > outputs/x; exit 3\n", max_retries=5)
    with stoker.popen("run", job) as process:
        for line in process.stderr:
            if "the script has ended; results are still copied to" in line:
                break
        assert str(target) in line and "No such file" in line
        begin = time.monotonic()
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=10)
    assert time.monotonic() - begin < 2
    assert process.returncode == 3
    document, _ = last(stoker)
    assert (document["state"], document["attempt"]) == ("Failed", 1)
    assert document["cause"]["code"] == "ScriptExited"
    (warning,) = document["warnings"]
    assert "stoker outputs push" in warning
    target.mkdir()
    stoker("outputs", "push", document["run_id"])
    assert (target / document["run_id"] / "outputs/x").read_text() == "x\n"


def test_results_of_attempts(stoker, busybox, tmp):  # noqa: F811
    """Outputs of the first are the second's at its start, and stay at the destination; logs do not."""
    target = tmp / "results"
    target.mkdir()
    script = """
echo "of $STOKER_ATTEMPT"; cat outputs/* 2>/dev/null; echo $STOKER_ATTEMPT > logs/$STOKER_ATTEMPT
echo "result $STOKER_ATTEMPT" > outputs/$STOKER_ATTEMPT
[ $STOKER_ATTEMPT = 2 ]
"""
    job = write_job(tmp / "job", busybox, script, max_retries=2, output_destination=str(target))
    assert stoker("run", job).stdout == "of 1\nof 2\nresult 1\n"
    document, folder = last(stoker)
    copy = target / document["run_id"]
    assert document["attempt"] == 2
    assert (copy / "outputs/1").read_text() == "result 1\n"
    assert (copy / "outputs/2").read_text() == "result 2\n"
    assert (copy / "user_logs/std_log.txt").read_text() == "of 2\nresult 1\n"
    assert {f["path"] for f in manifest(copy)["files"]} >= {"outputs/1", "outputs/2", "logs/2"}
    assert "outputs Done" in stoker("show", document["run_id"]).stdout
