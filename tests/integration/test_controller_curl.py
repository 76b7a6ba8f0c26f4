# SPDX-License-Identifier: Apache-2.0
"""A run can be followed with curl alone: the lines of docs/protocol.md, exactly as they stand there."""

import json
import os
import re
import subprocess
import threading
import time

import controller_cast
from node import ROOT


def example():
    """The indented block below the heading."""
    text = (ROOT / "docs/protocol.md").read_text().partition("### With curl alone\n")[2]
    lines = re.search(r"\n\n((?:    .*\n)+)", text)[1].splitlines()
    return [line.removeprefix("    ") for line in lines]


def test_the_example_follows_a_run(controller, tmp):
    cast = controller_cast.Cast(controller)
    lines = b"".join(b"step %d of 200\n" % i for i in range(200))
    log = f"/v1/runs/{cast.ada_run}/files/user_logs/std_log.txt"

    def run():
        """Prints for two seconds, leaves a result and ends."""
        for start in range(0, len(lines), 100):
            piece = lines[start : start + 100]
            where = {"Content-Range": f"bytes {start}-{start + len(piece) - 1}/*"}
            controller.patch(log, piece, token=cast["ada_run"], headers=where)
            time.sleep(0.06)
        cast.put("ada", "outputs/model.txt", b"0.97\n")
        metrics = {"metrics": [{"name": "accuracy", "value": 0.97}]}
        controller.post(f"/v1/runs/{cast.ada_run}/metrics", metrics, token=cast["ada_job"])
        cast.end(cast.ada_run, "one")

    job = threading.Thread(target=run)
    job.start()
    start = time.monotonic()
    environment = {"PATH": os.environ["PATH"], "URL": controller.url, "TOKEN": cast["ada"]}
    done = subprocess.run(
        ["bash", "-eu", "-o", "pipefail", "-c", "\n".join(example())],
        cwd=tmp, env={**environment, "RUN": cast.ada_run},
        stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False,
    )  # fmt: skip
    job.join()
    assert done.returncode == 0 and done.stderr == b"", done.stderr
    assert time.monotonic() - start > 1.5, "it followed"
    assert (tmp / "log").read_bytes() == lines and done.stdout.startswith(lines)
    assert (tmp / "model.txt").read_bytes() == b"0.97\n"
    assert (tmp / "auth").stat().st_mode & 0o777 == 0o600
    told = done.stdout[len(lines) :].decode()
    events, _, rest = told.partition("event: end\ndata: {}\n\n")
    assert [json.loads(d)["state"] for d in re.findall(r"event: state\ndata: (.*)", events)] == [
        "NotStarted", "Starting", "Running", "Completed",
    ]  # fmt: skip
    run, files = map(json.loads, rest.strip().splitlines())
    assert (run["id"], run["state"]) == (cast.ada_run, "Completed")
    assert [f["path"] for f in files["files"]] == ["outputs/model.txt"]
