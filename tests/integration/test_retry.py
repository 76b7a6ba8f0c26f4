# SPDX-License-Identifier: Apache-2.0
"""max_retries: further attempts, what they find, what is not tried again; and `stoker show`."""

import json
import os
import signal
import time

from test_run import (  # noqa: F401
    _busybox,
    busybox,
    record,
    runs,
    wait_for,
    write_job,
)

# Counts its attempts in outputs/, and soils its own folder.
COUNTING = """
n=$(cat outputs/count 2>/dev/null || echo 0)
n=$((n + 1))
echo $n > outputs/count
echo "attempt $n of $STOKER_ATTEMPT, soiled: $(ls soil 2>/dev/null)"
touch soil
[ $n -ge 3 ] || exit 5
"""


def attempts(stoker):
    (run,) = runs(stoker)
    return sorted(p for p in run.iterdir() if p.name.isdigit())


def document(folder):
    return json.loads((folder / "run.json").read_text())


def test_attempts_until_it_works(stoker, busybox, tmp):  # noqa: F811
    """Outputs are there again, the working directory is as it was submitted, the records are each one's."""
    path = write_job(tmp / "job", busybox, COUNTING, max_retries=4)
    result = stoker("run", path)
    first, second, third = attempts(stoker)
    assert [document(a)["attempt"] for a in (first, second, third)] == [1, 2, 3]
    assert [document(a)["state"] for a in (first, second, third)] == [
        "Failed",
        "Failed",
        "Completed",
    ]
    assert [document(a).get("retried", False) for a in (first, second, third)] == [
        True,
        True,
        False,
    ]
    assert result.stdout == "".join(f"attempt {n} of {n}, soiled: \n" for n in (1, 2, 3))
    assert (third / "outputs/count").read_text() == "3\n"
    assert (first / "outputs/count").read_text() == "1\n"
    assert not (first.parent / "source").exists()
    assert "attempt 2" in result.stderr and "status 5" in result.stderr
    # Everything else sees the last one, and the others when asked.
    assert stoker("logs", first.parent.name).stdout == "attempt 3 of 3, soiled: \n"
    assert stoker("logs", "--attempt", "1", first.parent.name).stdout == (
        "attempt 1 of 1, soiled: \n"
    )
    stoker.fails("logs", "--attempt", "4", first.parent.name, needles=["has 3 attempts"])
    assert "Completed, attempt 3" in stoker("show", first.parent.name).stdout


def test_attempts_run_out(stoker, busybox, tmp):  # noqa: F811
    path = write_job(tmp / "job", busybox, "exit 9\n", max_retries=1)
    assert stoker("run", path, check=False).returncode == 9
    assert len(attempts(stoker)) == 2
    assert stoker("wait", attempts(stoker)[0].parent.name, check=False).returncode == 9


def test_what_would_fail_again_is_not_tried_again(stoker, busybox, tmp):  # noqa: F811
    """A program that is not there, and a limit of the job's own."""
    path = write_job(tmp / "job", busybox, "nosuchprogram\n", max_retries=3)
    assert stoker("run", path, check=False).returncode == 127
    assert len(attempts(stoker)) == 1
    path = write_job(
        tmp / "long", busybox, "sleep 100\n", max_retries=3, max_run_duration_seconds=1
    )
    before = time.monotonic()
    stoker("run", path, check=False)
    assert time.monotonic() - before < 30
    assert max(len(list(r.glob("[0-9]*"))) for r in runs(stoker)) == 1


def test_follow_and_stop_between_attempts(stoker, busybox, tmp):  # noqa: F811
    """`logs -f` goes on with the next attempt; a stop that comes while none runs ends the run."""
    path = write_job(
        tmp / "job", busybox, 'echo "this is $STOKER_ATTEMPT"; exit 3\n', max_retries=9
    )
    run = stoker("run", "-d", path).stdout.strip()
    follower = stoker.popen("logs", "-f", run)
    folder = stoker.state / "runs" / run
    wait_for(lambda: (folder / "3").exists(), "the third attempt", 20)
    stoker("stop", run)
    out, _ = follower.communicate(timeout=20)
    lines = out.splitlines()
    assert lines[:2] == ["this is 1", "this is 2"]
    last = document(max(folder.glob("[0-9]*"), key=lambda p: int(p.name)))
    assert last["state"] == "Canceled" and last["cause"]["code"] == "Canceled"


def test_results_of_a_run_that_ends_between_attempts(stoker, busybox, tmp):  # noqa: F811
    """The next attempt exists, and has not begun: what the one before has left is the run's result."""
    path = write_job(
        tmp / "job", busybox, "echo $STOKER_ATTEMPT > outputs/model; exit 3\n", max_retries=9
    )
    run = stoker("run", "-d", path).stdout.strip()
    folder = stoker.state / "runs" / run
    wait_for(lambda: (folder / "3").exists(), "the third attempt", 20)
    assert (folder / "3/outputs/model").read_text() == "2\n"
    stoker("stop", run)
    (tmp / "target").mkdir()
    stoker("outputs", "push", run, "--to", tmp / "target")
    assert (tmp / "target" / run / "outputs/model").read_text() == "2\n"


def test_supervisor_killed_in_a_further_attempt(stoker, busybox, tmp):  # noqa: F811
    path = write_job(
        tmp / "job",
        busybox,
        "[ $STOKER_ATTEMPT = 2 ] || exit 1; echo up; sleep 100\n",
        max_retries=1,
    )
    run = stoker("run", "-d", path).stdout.strip()
    second = stoker.state / "runs" / run / "2"
    wait_for(lambda: second.exists() and document(second)["state"] == "Running", "attempt 2", 20)
    os.kill(document(second)["supervisor"]["pid"], signal.SIGKILL)
    wait_for(lambda: stoker("ps", "--json").stdout.strip() == "[]", "the sweep", 10)
    assert document(second)["cause"]["code"] == "supervisor_lost"
    assert not (second.parent / "source").exists()


def test_show(stoker, busybox, tmp):  # noqa: F811
    path = write_job(tmp / "job", busybox, "for i in $(seq 30); do echo line $i; done; exit 4\n")
    stoker("run", path, check=False)
    (run,) = runs(stoker)
    text = stoker("show", run.name).stdout
    assert text.startswith(f"{run.name}: Failed\n")
    assert "cause: the script exited with status 4 (ScriptExited, user)" in text
    for phase in ("pulling", "preparing", "running", "finalizing", "in all"):
        assert f"  {phase}" in text
    assert text.endswith("".join(f"  | line {n}\n" for n in range(21, 31)))
    assert json.loads(stoker("show", "--json", run.name).stdout) == record(stoker)
    stoker.fails("show", "nosuch", needles=["there is no run nosuch"])
    (stoker.state / "runs" / run.name / "1/user_logs/std_log.txt").write_bytes(b"\x1b[31mred\x07\n")
    assert "  | ?[31mred?\n" in stoker("show", run.name).stdout
