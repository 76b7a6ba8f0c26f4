# SPDX-License-Identifier: Apache-2.0
"""`stoker runtime`, the command line of an OCI runtime, on bundles of busybox."""

import array
import fcntl
import json
import os
import pathlib
import pty
import select
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import termios
import time

import node
import ocibundle
import pytest
from ocibundle import Bundle, Runtime, cgroups_of, wait_for


@pytest.fixture
def runtime(tmp):
    r = Runtime(tmp / "runtime")
    yield r
    try:
        r.assert_nothing_left()
        assert node.mounts_below(tmp) == [], "mounts left behind"
    finally:
        r.destroy()


@pytest.fixture
def bundle(tmp):
    return Bundle(tmp / "bundle")


@pytest.fixture
def name():
    return f"t{os.urandom(5).hex()}"


@pytest.fixture
def sleeping(runtime, bundle, name):
    """A container whose program sleeps; deleted at the end."""
    runtime.create(bundle.args("sleep", "1000"), name)
    runtime("start", name)
    yield name
    runtime("delete", "--force", name)


# ---- run, and what the program finds


def test_run(runtime, bundle, name):
    result = runtime.run(bundle.shell("echo out; echo err >&2; exit 7"), name, check=False)
    assert (result.returncode, result.stdout, result.stderr) == (7, "out\n", "err\n")


def test_run_killed(runtime, bundle, name):
    with subprocess.Popen(
        runtime.command("run", "--bundle", bundle.args("sleep", "100").save().folder, name),
        stdin=subprocess.DEVNULL,
    ) as process:
        runtime.begun.add(name)
        runtime_wait(runtime, name, "running")
        runtime("kill", name, "KILL")
        assert process.wait(10) == 128 + signal.SIGKILL


def runtime_wait(runtime, name, status):
    def reached():
        result = runtime("state", name, check=False)
        return result.returncode == 0 and json.loads(result.stdout)["status"] == status

    wait_for(reached, f"{name} {status}")


def test_run_passes_signals_on(runtime, bundle, name):
    bundle.shell("trap 'echo caught; exit 3' TERM; echo ready; while :; do sleep 0.1; done")
    runtime.begun.add(name)
    with subprocess.Popen(
        runtime.command("run", "--bundle", bundle.save().folder, name),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout.readline() == "ready\n"
        process.terminate()
        assert process.wait(10) == 3
        assert process.stdout.read() == "caught\n"


def test_run_dies_with_us(runtime, bundle, name):
    runtime.begun.add(name)
    with subprocess.Popen(
        runtime.command("run", "--bundle", bundle.args("sleep", "100").save().folder, name),
        stdin=subprocess.DEVNULL,
    ) as process:
        runtime_wait(runtime, name, "running")
        process.kill()
    runtime.wait(name)
    runtime("delete", name)


def test_program_is_process_1(runtime, bundle, name):
    result = runtime.run(bundle.shell("echo $$; cat /proc/1/comm; ls /proc/self/fd"), name)
    assert result.stdout.split() == ["1", "sh", "0", "1", "2", "3"]  # 3: ls's own


def test_process_settings(runtime, bundle, name):
    bundle.process.update(
        user={"uid": 1000, "gid": 100, "additionalGids": [4, 24], "umask": 0o77},
        env=["PATH=/bin", "A=b c", "A2="],
        cwd="/work",
        rlimits=[{"type": "RLIMIT_NOFILE", "hard": 64, "soft": 32}],
        oomScoreAdj=700,
    )
    bundle.process["capabilities"]["ambient"] = ["CAP_KILL"]
    bundle.process["capabilities"]["inheritable"] = ["CAP_KILL"]
    bundle.shell(
        "id -u; id -g; id -G; umask; pwd; env | sort | head -3; ulimit -Hn; ulimit -Sn; hostname;"
        "cat /proc/self/oom_score_adj; grep -E 'Cap|NoNew' /proc/self/status"
    )
    out = runtime.run(bundle, name).stdout.splitlines()
    assert out[:4] == ["1000", "100", "100 4 24", "0077"]
    assert out[4:8] == ["/work", "A2=", "A=b c", "HOME=/"]
    assert out[8:12] == ["64", "32", "bundle", "700"]
    status = dict(line.split(":\t") for line in out[12:])
    bounding = 1 << 0 | 1 << 1 | 1 << 5 | 1 << 6 | 1 << 7
    assert int(status["CapBnd"], 16) == bounding
    assert int(status["CapEff"], 16) == int(status["CapAmb"], 16) == 1 << 5
    assert status["NoNewPrivs"] == "1"


def test_user_namespace(runtime, bundle, name):
    os.chmod(bundle.folder, 0o755)
    os.chmod(bundle.folder.parent, 0o755)
    bundle.linux["namespaces"].append({"type": "user"})
    maps = [{"containerID": 0, "hostID": 300000, "size": 65536}]
    bundle.linux.update(uidMappings=maps, gidMappings=maps)
    bundle.shell("id -u; cat /proc/self/uid_map; echo x > /dev/null && echo null")
    out = runtime.run(bundle, name).stdout.split()
    assert out == ["0", "0", "300000", "65536", "null"]


def test_ordinary_user(bundle, name):
    """With the one id that everybody may map; there is no control group for him, which is a warning."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        program = pathlib.Path(folder) / "stoker-oci"
        shutil.copy(node.BINARY, program)
        maps = [{"containerID": 0, "hostID": 1234, "size": 1}]
        bundle.linux.update(uidMappings=maps, gidMappings=maps)
        bundle.linux["namespaces"] = [{"type": t} for t in ("user", "pid", "mount", "ipc", "uts")]
        bundle.shell(
            "id -u; cat /proc/self/uid_map; touch /work/x && echo x > /dev/null && echo $$"
        )
        bundle.save()
        shutil.move(bundle.folder, f"{folder}/bundle")
        subprocess.run(["chown", "-R", "1234:1234", folder], check=True)
        user = ["setpriv", "--reuid", "1234", "--regid", "1234", "--clear-groups"]
        options = ["--root", f"{folder}/root"]
        result = subprocess.run(
            [*user, program, *options, "run", "-b", f"{folder}/bundle", name],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=True,
        )
        assert result.stdout.split() == ["0", "0", "1234", "1", "1"]
        assert result.stderr.startswith("stoker: warning: no control group: ")
        assert result.stderr.count("\n") == 1
        assert os.listdir(f"{folder}/root") == []


def test_mounts(runtime, bundle, name, tmp):
    (tmp / "source").mkdir()
    (tmp / "source/file").write_text("from the node\n")
    bundle.config["root"]["readonly"] = True
    bundle.config["mounts"] += [
        {"destination": "/data", "source": str(tmp / "source"), "options": ["bind", "ro"]},
        {"destination": "/tmp", "type": "tmpfs", "source": "t", "options": ["size=1m", "noexec"]},
    ]
    (bundle.rootfs / "data").mkdir()
    bundle.linux.update(maskedPaths=["/proc/keys", "/etc"], readonlyPaths=["/proc/sys"])
    bundle.shell(
        "cat /data/file; touch /data/x; touch /x; touch /tmp/x && echo fine; ls /etc; wc -c < /proc/keys;"
        "echo 1 > /proc/sys/kernel/randomize_va_space; grep ' /tmp ' /proc/self/mountinfo"
    )
    result = runtime.run(bundle, name, check=False)
    lines = result.stdout.splitlines()
    assert lines[:3] == ["from the node", "fine", "0"]
    assert "- tmpfs t rw,size=1024k" in lines[3]  # some kernels say inode64, too
    assert result.stderr.count("Read-only file system") == 3


def test_tmpfs_with_the_images_files(runtime, bundle, name):
    folder = bundle.rootfs / "work"
    (folder / "sub").mkdir(mode=0o750)
    (folder / "sub/file").write_text("text")
    (folder / "link").symlink_to("/etc/shadow")
    os.chown(folder / "sub/file", 7, 8)
    os.chmod(folder / "sub/file", 0o640)
    os.chmod(folder, 0o711)
    mount = {"destination": "/work", "type": "tmpfs", "source": "t", "options": ["tmpcopyup"]}
    bundle.config["mounts"].append(mount)
    bundle.shell(
        "stat -c '%a %u:%g %F %n' /work /work/sub /work/sub/file; readlink /work/link; cat /work/sub/file;"
        "touch /work/new"
    )
    assert runtime.run(bundle, name).stdout.splitlines() == [
        "711 0:0 directory /work",
        "750 0:0 directory /work/sub",
        "640 7:8 regular file /work/sub/file",
        "/etc/shadow",
        "text",
    ]
    assert not (folder / "new").exists()


def test_seccomp(runtime, bundle, name):
    bundle.linux["seccomp"] = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28}],
    }
    for no_new_privileges in (True, False):
        bundle.process["noNewPrivileges"] = no_new_privileges
        result = runtime.run(bundle.shell("mkdir /tmp/x; grep Seccomp: /proc/self/status"), name)
        assert result.stdout.split() == ["Seccomp:", "2"]
        assert "No space left" in result.stderr


def test_devices(runtime, bundle, name):
    node_of = {"path": "/dev/mine", "type": "c", "major": 1, "minor": 5, "fileMode": 0o600}
    bundle.linux["devices"] = [node_of]
    bundle.shell("stat -c '%a %t:%T %F' /dev/mine; head -c 3 /dev/mine | wc -c; head -c1 /dev/mem")
    bundle.process["capabilities"]["effective"] = bundle.process["capabilities"]["bounding"]
    result = runtime.run(bundle, name, check=False)
    assert result.stdout.splitlines() == ["600 1:5 character special file", "3"]
    # The group allows what the container has, and no more: not even what a node is made for.
    bundle.process["capabilities"] = {
        s: ["CAP_MKNOD"] for s in ("bounding", "effective", "permitted")
    }
    bundle.linux["resources"] = {"devices": [{"allow": False, "access": "rwm"}]}
    bundle.shell("mknod /dev/kmsg2 c 1 11 && head -c1 /dev/kmsg2; echo x > /dev/null && echo null")
    result = runtime.run(bundle, name, check=False)
    assert result.stdout == "null\n"
    assert "not permitted" in result.stderr


def test_limits(runtime, bundle, name):
    bundle.linux["resources"] = {"pids": {"limit": 7}, "memory": {"limit": 33554432}}
    bundle.linux["cgroupsPath"] = f"/stoker-test-{name}/inner"
    runtime.create(bundle.args("sleep", "100"), name)
    group = f"/stoker-test-{name}/inner"
    lines = pathlib.Path(f"/proc/{runtime.state(name)['pid']}/cgroup").read_text()
    assert f":{group}\n" in lines
    values = {
        f.name: f.read_text().strip()
        for g in cgroups_of("inner")
        if g.parent.name == f"stoker-test-{name}"
        for f in g.iterdir()
        if f.name in ("pids.max", "memory.max", "memory.limit_in_bytes")
    }
    assert values.pop("pids.max") == "7"
    assert set(values.values()) == {"33554432"}
    runtime("delete", "--force", name)
    for folder in cgroups_of(f"stoker-test-{name}"):
        assert not (folder / "inner").exists()
        folder.rmdir()


def test_relative_cgroup(runtime, bundle, name):
    bundle.linux["cgroupsPath"] = f"{name}-group"
    runtime.create(bundle, name)
    groups = cgroups_of(f"{name}-group")
    assert groups and all(g.parent.name == "runtime" for g in groups)
    runtime("delete", "--force", name)
    assert cgroups_of(f"{name}-group") == []


# ---- the life of a container


def test_life(runtime, bundle, name, tmp):
    output = runtime.create(bundle.shell("echo began; sleep 1000"), name, "--pid-file", tmp / "pid")
    state = runtime.state(name)
    assert state["ociVersion"].startswith("1.2") and state["id"] == name
    assert state["status"] == "created" and state["bundle"] == str(bundle.folder)
    assert state["annotations"] == {}
    pid = int((tmp / "pid").read_text())
    assert pid == state["pid"]
    assert os.readlink(f"/proc/{pid}/exe").startswith("/memfd:stoker"), "not a sealed copy"
    time.sleep(0.1)
    assert output.read_text() == ""

    runtime.fails("create", "--bundle", bundle.folder, name, needle="already")
    runtime.fails("delete", name, needle="is created")
    runtime("start", name)
    wait_for(lambda: output.read_text() == "began\n", "the program's output")
    assert runtime.status(name) == "running"
    assert runtime.state(name)["pid"] == pid
    runtime.fails("start", name, needle="is running")
    runtime.fails("delete", name, needle="is running")

    runtime("kill", name, "KILL")
    runtime.wait(name)
    assert "pid" not in runtime.state(name)
    for verb in ("start", "kill", "ps"):
        runtime.fails(verb, name, needle="is stopped")
    runtime.fails("exec", name, "true", needle="is stopped")
    runtime("delete", name)
    for verb in ("start", "state", "kill", "delete", "ps"):
        runtime.fails(verb, name, needle="there is no container")
    assert runtime.run(bundle.shell("echo again"), name).stdout == "again\n"


def test_later_changes_do_not_matter(runtime, bundle, name):
    output = runtime.create(bundle.shell("hostname; echo $A"), name)
    bundle.config["hostname"] = "changed"
    bundle.process["env"].append("A=changed")
    bundle.save()
    runtime("start", name)
    runtime.wait(name)
    assert output.read_text() == "bundle\n\n"
    runtime("delete", name)


def test_reused_pid_is_another_process(runtime, bundle, name):
    runtime.create(bundle.args("sleep", "100"), name)
    runtime("start", name)
    path = runtime.root / name / "state.json"
    document = path.read_text()
    record = json.loads(document)
    record["start_time"] -= 1
    path.write_text(json.dumps(record))
    assert runtime.status(name) == "stopped"
    runtime.fails("kill", name, "KILL", needle="is stopped")
    path.write_text(document)
    assert runtime.status(name) == "running"
    runtime("delete", "--force", name)


def test_broken_create_can_be_deleted(runtime, name):
    (runtime.root / name).mkdir(parents=True)
    assert runtime.status(name) == "stopped"
    runtime("delete", name)


def test_two_creates_of_one_name(runtime, bundle, name):
    bundle.args("sleep", "100").save()
    runtime.begun.add(name)
    command = runtime.command("create", "--bundle", bundle.folder, name)
    quiet = {
        "stdin": subprocess.DEVNULL,
        "stdout": subprocess.DEVNULL,
        "stderr": subprocess.DEVNULL,
    }
    both = [subprocess.Popen(command, **quiet) for _ in range(2)]
    assert sorted(p.wait(20) for p in both) == [0, 1]
    assert runtime.status(name) == "created"
    runtime("delete", "--force", name)


def test_without_process(runtime, bundle, name):
    del bundle.config["process"]
    runtime.create(bundle, name)
    assert runtime.status(name) == "created"
    runtime.fails("start", name, needle="has no process")
    runtime("delete", "--force", name)


def test_delete_force(runtime, bundle, name):
    runtime.create(bundle.shell("trap '' TERM; sleep 1000 & sleep 1000"), name)
    runtime("start", name)
    runtime("delete", "--force", name)
    runtime("delete", "--force", name)
    runtime("delete", "--force", "never-was")


def test_hundred_rounds_leave_nothing(runtime, bundle, name):
    seconds = []
    for i in range(100):
        began = time.monotonic()
        runtime.create(bundle, f"{name}-{i % 3}")
        runtime("start", f"{name}-{i % 3}")
        runtime.wait(f"{name}-{i % 3}")
        runtime("delete", f"{name}-{i % 3}")
        seconds.append(time.monotonic() - began)
        ocibundle.reap()
    assert all(cgroups_of(f"{name}-{i}") == [] for i in range(3))
    assert node.mounts_below(bundle.folder.parent) == []
    assert runtime.names() == [] and list(runtime.root.iterdir()) == []
    assert node.stoker_processes() == {}
    first, last = sorted(seconds[:20])[10], sorted(seconds[-20:])[10]
    assert last < first * 3 + 0.05, f"it grows: {first:.3f} s, {last:.3f} s"


# ---- signals


@pytest.mark.parametrize("signo", ["USR1", "SIGUSR1", "10"])
def test_kill(runtime, bundle, name, signo):
    output = runtime.create(
        bundle.shell("trap 'echo usr1; exit 0' USR1; echo ready; while :; do sleep 0.05; done"),
        name,
    )
    runtime("start", name)
    wait_for(lambda: output.read_text() == "ready\n", "the trap")
    runtime("kill", name, signo)
    runtime.wait(name)
    assert output.read_text() == "ready\nusr1\n"
    runtime("delete", name)


def test_kill_what_there_is_not(runtime, sleeping):
    runtime.fails("kill", sleeping, "NONE", needle='no signal "NONE"')
    assert runtime.status(sleeping) == "running"


def test_kill_of_created(runtime, bundle, name):
    runtime.create(bundle, name)
    runtime("kill", name, "KILL")
    runtime.wait(name)
    runtime("delete", name)


def test_kill_all(runtime, bundle, name):
    bundle.shell("sleep 1000 & sleep 1000 & wait")
    # Without a PID namespace of its own the end of the first process ends nothing else.
    bundle.linux["namespaces"] = [n for n in bundle.linux["namespaces"] if n["type"] != "pid"]
    bundle.config["mounts"] = [m for m in bundle.config["mounts"] if m["type"] != "proc"]
    proc = {"destination": "/proc", "type": "bind", "source": "/proc", "options": ["rbind"]}
    bundle.config["mounts"].append(proc)
    runtime.create(bundle, name)
    runtime("start", name)
    wait_for(lambda: len(processes(runtime, name)) == 3, "three processes")
    pids = processes(runtime, name)
    runtime("kill", "--all", name, "KILL")
    ended = all_ended(pids)
    wait_for(ended, "the end of all")
    runtime("delete", name)


def processes(runtime, name):
    return json.loads(runtime("ps", "--format", "json", name).stdout)


def all_ended(pids):
    def ended():
        ocibundle.reap()
        return not any(pathlib.Path(f"/proc/{p}").exists() for p in pids)

    return ended


# ---- exec


def test_exec(runtime, sleeping):
    result = runtime("exec", sleeping, "sh", "-c", "echo out; echo err >&2; exit 5", check=False)
    assert (result.returncode, result.stdout, result.stderr) == (5, "out\n", "err\n")
    result = runtime("exec", sleeping, "cat", stdin=None, input="through\n")
    assert result.stdout == "through\n"


def test_exec_is_inside(runtime, sleeping):
    pid = runtime.state(sleeping)["pid"]
    script = (
        "for n in pid mnt ipc uts net cgroup; do readlink /proc/self/ns/$n; done; cat /proc/1/comm"
    )
    inside = runtime("exec", sleeping, "sh", "-c", script).stdout.split()
    names = ("pid", "mnt", "ipc", "uts", "net", "cgroup")
    assert inside[:-1] == [os.readlink(f"/proc/{pid}/ns/{n}") for n in names]
    assert inside[-1] == "sleep"
    result = runtime(
        "exec", sleeping, "sh", "-c", "ls /proc/self/fd; grep NoNewPrivs /proc/self/status"
    )
    assert result.stdout.split() == ["0", "1", "2", "3", "NoNewPrivs:", "1"]


def test_exec_options(runtime, sleeping):
    result = runtime(
        "exec", "--user", "1000:100", "-g", "4", "--cwd", "/work", "-e", "A=1", "-e", "PATH=/bin:/x",
        sleeping, "sh", "-c", "id -u; id -g; id -G; pwd; echo $A $PATH",
    )  # fmt: skip
    assert result.stdout.splitlines() == ["1000", "100", "100 4", "/work", "1 /bin:/x"]
    result = runtime(
        "exec", "--cap", "CAP_SYS_CHROOT", sleeping, "grep", "CapEff", "/proc/self/status"
    )
    assert int(result.stdout.split()[1], 16) & 1 << 18


def test_exec_process_file(runtime, sleeping, tmp):
    document = {
        "args": ["sh", "-c", "echo $B; id -u; pwd; grep CapEff /proc/self/status; exit 3"],
        "env": ["B=from the file", "PATH=/bin"],
        "cwd": "/tmp",
        "user": {"uid": 5, "gid": 6},
    }
    (tmp / "process.json").write_text(json.dumps(document))
    result = runtime("exec", "--process", tmp / "process.json", sleeping, check=False)
    assert result.returncode == 3
    out = result.stdout.splitlines()
    assert out[:3] == ["from the file", "5", "/tmp"]
    assert int(out[3].split()[1], 16) == 0


def test_exec_detached(runtime, sleeping, tmp):
    with (tmp / "out").open("w") as out:
        runtime(
            "exec", "-d", "--pid-file", tmp / "pid", sleeping, "sh", "-c", "echo $$; sleep 1000",
            stdout=out, stderr=out,
        )  # fmt: skip
    pid = int((tmp / "pid").read_text())
    wait_for(lambda: (tmp / "out").read_text(), "the program's output")
    assert pid in processes(runtime, sleeping)
    assert f"NSpid:\t{pid}\t" in pathlib.Path(f"/proc/{pid}/status").read_text()
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)  # ours now; as long as it is there, its PID namespace does not end


def test_exec_fails(runtime, sleeping, tmp):
    runtime.fails("exec", sleeping, "nosuch", needle="nosuch: not found")
    runtime.fails("exec", sleeping, "/etc", needle="Permission denied")
    runtime.fails("exec", sleeping, needle="either a command or --process", status=2)
    runtime.fails("exec", "--cap", "CAP_NONE", sleeping, "true", needle="CAP_NONE")
    runtime.fails("exec", "-u", "root", sleeping, "true", needle='"root"')
    runtime.fails("exec", "-t", "-d", sleeping, "true", needle="--console-socket is missing")
    for option in ("--apparmor", "--process-label", "--cgroup"):
        runtime.fails("exec", option, "x", sleeping, "true", needle=f"{option}: not supported")
    (tmp / "process.json").write_text('{"args": ["true"], "cwd": "/", "selinuxLabel": "x"}')
    line = runtime.fails("exec", "-p", tmp / "process.json", sleeping)
    assert "selinuxLabel: not supported" in line


# ---- terminals


class Terminal:
    """Our end of a terminal that a command has."""

    def __init__(self, command, rows=33, columns=77):
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.process = subprocess.Popen(
            command, stdin=slave, stdout=slave, stderr=slave, start_new_session=True
        )
        os.close(slave)
        self.text = ""

    def read_until(self, text, seconds=10):
        deadline = time.monotonic() + seconds
        while text not in self.text:
            assert time.monotonic() < deadline, f"no {text!r} in {self.text!r}"
            if select.select([self.master], [], [], 0.1)[0]:
                try:
                    self.text += os.read(self.master, 4096).decode()
                except OSError:  # the other end is closed
                    assert text in self.text, f"no {text!r} in {self.text!r}"

    def type(self, text):
        os.write(self.master, text.encode())

    def resize(self, rows, columns):
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.process.send_signal(signal.SIGWINCH)

    def end(self):
        status = self.process.wait(10)
        os.close(self.master)
        return status


def test_exec_with_terminal(runtime, sleeping):
    script = "tty; stty size; read x; echo got $x; read y; stty size; exit 9"
    terminal = Terminal(runtime.command("exec", "-t", sleeping, "sh", "-c", script))
    terminal.read_until("33 77\r\n")
    assert terminal.text.startswith("/dev/pts/")
    terminal.type("word\n")
    terminal.read_until("word\r\ngot word\r\n")  # echoed once: ours is raw
    terminal.resize(44, 88)
    time.sleep(0.2)
    terminal.type("\n")
    terminal.read_until("44 88\r\n")
    assert terminal.end() == 9


def test_interrupt_by_keyboard(runtime, sleeping):
    script = "trap 'echo interrupted; exit 4' INT; echo ready; while :; do sleep 0.05; done"
    terminal = Terminal(runtime.command("exec", "-t", sleeping, "sh", "-c", script))
    terminal.read_until("ready")
    terminal.type("\x03")
    terminal.read_until("interrupted")
    assert terminal.end() == 4


def test_run_with_terminal(runtime, bundle, name):
    bundle.process["terminal"] = True
    bundle.shell("tty; stty size; echo to the console > /dev/console; exit 6").save()
    runtime.begun.add(name)
    terminal = Terminal(runtime.command("run", "--bundle", bundle.folder, name))
    terminal.read_until("to the console\r\n")
    assert "33 77" in terminal.text
    assert terminal.end() == 6


def receive_terminal(listener):
    connection, _ = listener.accept()
    with connection:
        fds = array.array("i")
        _, ancillary, _, _ = connection.recvmsg(256, socket.CMSG_SPACE(fds.itemsize))
        fds.frombytes(ancillary[0][2][: fds.itemsize])
        return fds[0]


def test_console_socket(runtime, bundle, name, tmp):
    path = tmp / "console"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        bundle.process.update(terminal=True, consoleSize={"height": 20, "width": 30})
        bundle.shell("tty; stty size; read x; echo got $x")
        runtime.create(bundle, name, "--console-socket", path)
        master = receive_terminal(listener)
    runtime("start", name)
    os.write(master, b"it\n")
    text = b""
    while b"got it" not in text:
        assert select.select([master], [], [], 10)[0], text
        text += os.read(master, 4096)
    assert b"/dev/pts/0" in text and b"20 30" in text
    os.close(master)
    runtime.wait(name)
    runtime("delete", name)


def test_terminals_go_with_somebody(runtime, bundle, name, tmp):
    runtime.create(bundle, name, "--console-socket", tmp / "x", check=False)
    assert "process.terminal is not set" in runtime.errors(name)
    bundle.process["terminal"] = True
    runtime.create(bundle, name, check=False)
    assert "--console-socket is missing" in runtime.errors(name)
    runtime.create(bundle, name, "--console-socket", tmp / "nothing", check=False)
    assert "connect to" in runtime.errors(name)


def test_preserve_fds(runtime, bundle, name):
    read_end, write_end = os.pipe()
    bundle.shell("echo through 3 >&3; ls /proc/self/fd").save()
    command = runtime.command("run", "--preserve-fds", "1", "--bundle", bundle.folder, name)
    result = subprocess.run(
        ["bash", "-c", f'exec "$@" 3>&{write_end} {write_end}>&-', "bash", "env", *command],
        pass_fds=[write_end],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    os.close(write_end)
    assert os.read(read_end, 100) == b"through 3\n"
    assert result.stdout.split() == ["0", "1", "2", "3", "4"]
    os.close(read_end)


def test_preserve_fds_that_are_not_there(runtime, bundle, name):
    """Else the numbers would be those of the runtime's own descriptors, of the node."""
    bundle.shell("sleep 100").save()
    runtime.fails(
        "run", "--preserve-fds", "4", "--bundle", bundle.folder, name, needle="descriptor 3"
    )
    runtime.create(bundle, name)
    runtime("start", name)
    runtime.fails("exec", "--preserve-fds", "4", name, "ls", needle="descriptor 3")
    runtime("delete", "--force", name)


# ---- hooks


def record(path, *more):
    """A hook that appends its point, its state and where it is to `path`."""
    words = " ".join(f'"{m}"' for m in more)
    script = f'read -r s; echo "$0 $s $(readlink /proc/self/ns/mnt) {words}" >> {path}'
    args = ["sh", "-c", script, "POINT"]
    return {"path": "/bin/sh", "args": args, "env": ["PATH=/bin:/usr/bin"]}


def named(hook, point):
    return {**hook, "args": [*hook["args"][:-1], point]}


def test_hooks(runtime, bundle, name, tmp):
    path = tmp / "hooks"
    points = ("prestart", "createRuntime", "createContainer", "poststart", "poststop")
    bundle.config["hooks"] = {p: [named(record(path), p)] for p in points}
    inside = named(record("/tmp/hooks"), "startContainer")
    bundle.config["hooks"]["startContainer"] = [inside]
    bundle.config["annotations"] = {"a": "b"}
    runtime.create(bundle.args("sleep", "100"), name)
    before = path.read_text().splitlines()
    assert [line.split()[0] for line in before] == ["prestart", "createRuntime", "createContainer"]
    pid = runtime.state(name)["pid"]
    container, ours = os.readlink(f"/proc/{pid}/ns/mnt"), os.readlink("/proc/self/ns/mnt")
    assert [line.split()[-1] for line in before] == [ours, ours, container]
    for line in before:
        state = json.loads(line[line.index("{") : line.rindex("}") + 1])
        assert state["id"] == name and state["status"] == "creating" and state["pid"] == pid
        assert state["bundle"] == str(bundle.folder) and state["annotations"] == {"a": "b"}
    assert not (bundle.rootfs / "tmp/hooks").exists()
    runtime("start", name)
    started = (bundle.rootfs / "tmp/hooks").read_text()
    assert started.startswith("startContainer") and '"created"' in started and container in started
    assert path.read_text().splitlines()[-1].startswith("poststart")
    runtime("delete", "--force", name)
    last = path.read_text().splitlines()[-1]
    assert (
        last.startswith("poststop")
        and '"stopped"' in last
        and len(before) + 2 == len(path.read_text().splitlines())
    )


@pytest.mark.parametrize("point", ["prestart", "createRuntime", "createContainer"])
def test_failing_hook_ends_create(runtime, bundle, name, tmp, point):
    bundle.config["hooks"] = {
        point: [{"path": "/bin/sh", "args": ["sh", "-c", "echo sorry >&2; exit 3"]}],
        "poststop": [named(record(tmp / "hooks"), "poststop")],
    }
    runtime.create(bundle, name, check=False)
    assert f"{point} hook 1: sh exited with status 3: sorry" in runtime.errors(name)
    assert runtime.names() == []
    assert (tmp / "hooks").read_text().startswith("poststop")


def test_failing_start_container_hook(runtime, bundle, name):
    bundle.config["hooks"] = {"startContainer": [{"path": "/bin/false"}]}
    output = runtime.create(bundle.shell("echo began"), name)
    runtime.fails("start", name, needle="startContainer hook 1: false exited with status 1")
    runtime.wait(name)
    runtime("delete", name)
    assert output.read_text() == ""


@pytest.mark.parametrize("point", ["poststart", "poststop"])
def test_failing_late_hook_is_a_warning(runtime, bundle, name, tmp, point):
    bundle.config["hooks"] = {point: [{"path": "/bin/false"}, named(record(tmp / "hooks"), point)]}
    result = runtime.run(bundle.shell("echo fine"), name)
    assert result.stdout == "fine\n"
    assert f"warning: {point} hook 1: false exited with status 1" in result.stderr
    assert (tmp / "hooks").read_text().startswith(point)


def test_hook_that_takes_too_long(runtime, bundle, name):
    slow = {"path": "/bin/sleep", "args": ["sleep", "100"], "timeout": 1}
    bundle.config["hooks"] = {"createRuntime": [slow]}
    began = time.monotonic()
    runtime.create(bundle, name, check=False)
    assert "sleep: took longer than 1000 ms" in runtime.errors(name)
    assert 1 <= time.monotonic() - began < 10


# ---- what is refused, and how it is said


REFUSED = [
    (lambda b: b.process.update(apparmorProfile="x"), "process.apparmorProfile: not supported"),
    (lambda b: b.process.update(selinuxLabel="x"), "process.selinuxLabel: not supported"),
    (lambda b: b.process.update(ioPriority={"class": "x"}), "process.ioPriority: not supported"),
    (lambda b: b.process.update(scheduler={"policy": "x"}), "process.scheduler: not supported"),
    (lambda b: b.linux.update(mountLabel="x"), "linux.mountLabel: not supported"),
    (lambda b: b.linux.update(intelRdt={"closID": "x"}), "linux.intelRdt: not supported"),
    (lambda b: b.linux.update(personality={"domain": "x"}), "linux.personality: not supported"),
    (lambda b: b.config.update(vm={"kernel": {"path": "x"}}), "vm: not supported"),
    (lambda b: b.config.update(ociVersion="3.0"), "not a version 1.x"),
    (
        lambda b: b.linux["namespaces"].append({"type": "time"}),
        'linux.namespaces: "time" is not supported',
    ),
    (
        lambda b: b.linux.update(namespaces=[{"type": "pid"}]),
        "a new mount namespace is needed",
    ),
    (
        lambda b: b.linux["namespaces"].__setitem__(
            2, {"type": "ipc", "path": "/proc/self/ns/uts"}
        ),
        "/proc/self/ns/uts is no ipc namespace",
    ),
    (
        lambda b: b.linux.update(resources={"network": {"classID": 1}}),
        "linux.resources.network: not supported",
    ),
    (
        lambda b: b.config["mounts"].append(
            {"destination": "/x", "source": "/etc", "options": ["bind", "remount"]}
        ),
        'mount option "remount": not supported',
    ),
]


@pytest.mark.parametrize("number", range(len(REFUSED)))
def test_refused(runtime, bundle, name, number):
    change, text = REFUSED[number]
    change(bundle)
    runtime.create(bundle, name, check=False)
    assert text in runtime.errors(name)
    assert runtime.errors(name).count("\n") == 1
    assert runtime.names() == []


def test_refused_options(runtime, bundle, name):
    bundle.save()
    runtime.fails("--systemd-cgroup", "list", needle="--systemd-cgroup: not supported", status=2)
    runtime.fails(
        "create", "--no-pivot", "-b", bundle.folder, name, needle="--no-pivot: not supported"
    )
    runtime.fails("checkpoint", name, needle='"checkpoint" is not supported', status=2)
    runtime.fails("create", "-b", bundle.folder, "a/b", needle="no id of a container")
    runtime.fails("create", "-b", bundle.folder, needle="missing: ID", status=2)
    runtime.fails("create", "-b", "/nonexistent", name, needle="bundle /nonexistent")
    runtime.fails("run", "--preserve-fds", "x", name, needle="not a number", status=2)
    runtime("create", "--no-new-keyring", "-b", bundle.folder, name, stdout=None, stderr=None)
    runtime("delete", "-f", name)


def test_missing_program_is_told_at_create(runtime, bundle, name):
    for args, words in (
        (["nosuch"], "nosuch: not found in the image's PATH (/bin): no such file or directory"),
        (["/nosuch"], "/nosuch: not found in the image: no such file or directory"),
        (["/etc/passwd"], "may not be executed: permission denied"),
    ):
        runtime.create(bundle.args(*args), name, check=False)
        assert words in runtime.errors(name)
        assert runtime.names() == []
    # What only the kernel finds out, it finds out at start.
    (bundle.rootfs / "bin/script").write_text("#!/nosuch\n")
    (bundle.rootfs / "bin/script").chmod(0o755)
    runtime.create(bundle.args("script"), name)
    runtime.fails(
        "start", name, needle="the interpreter or loader that it names is not in the image"
    )
    runtime.wait(name)
    runtime("delete", name)


def test_log(runtime, bundle, name, tmp):
    bundle.process["capabilities"]["bounding"] = ["CAP_FUTURE"]
    bundle.save()
    log = tmp / "log"
    options = ["--log", log, "--log-format", "json"]
    result = runtime(*options, "run", "-b", bundle.folder, name)
    assert result.stderr == ""
    runtime.fails(*options, "state", name, needle="there is no container")
    entries = [json.loads(line) for line in log.read_text().splitlines()]
    assert [e["level"] for e in entries] == ["warning", "error"]
    assert '"CAP_FUTURE" is unknown' in entries[0]["msg"]
    assert entries[1]["msg"] == f'there is no container with the id "{name}"'
    assert entries[1]["time"].startswith("20") and entries[1]["time"].endswith("Z")
    log.unlink()
    runtime.fails("--log", log, "state", name, needle="there is no container")
    assert log.read_text().startswith('time="20') and "level=error msg=" in log.read_text()
    assert "warning: process.capabilities" in runtime("run", "-b", bundle.folder, name).stderr


# ---- what there is


def test_list_and_ps(runtime, bundle, sleeping, name):
    assert runtime.names() == [sleeping]
    (entry,) = json.loads(runtime("list", "--format", "json").stdout)
    assert (
        entry["id"] == sleeping and entry["status"] == "running" and entry["owner"] == os.getuid()
    )
    assert sleeping in runtime("list").stdout
    pid = runtime.state(sleeping)["pid"]
    assert processes(runtime, sleeping) == [pid]
    assert runtime("ps", sleeping).stdout.splitlines()[1].split() == [str(pid), "sleep"]


def test_features(runtime):
    features = json.loads(runtime("features").stdout)
    assert features["ociVersionMin"] == "1.0.0" and features["ociVersionMax"].startswith("1.2")
    assert len(features["hooks"]) == 6
    assert {"ro", "rro", "rbind", "idmap", "rslave"} <= set(features["mountOptions"])
    linux = features["linux"]
    assert "user" in linux["namespaces"] and "time" not in linux["namespaces"]
    assert "CAP_CHECKPOINT_RESTORE" in linux["capabilities"]
    assert linux["cgroup"] == {
        "v1": True, "v2": True, "systemd": False, "systemdUser": False, "rdma": False,
    }  # fmt: skip
    assert linux["seccomp"]["enabled"] and "SCMP_ACT_NOTIFY" not in linux["seccomp"]["actions"]
    assert linux["apparmor"] == {"enabled": False}


def test_spec(runtime, bundle, name):
    runtime("spec", "--bundle", bundle.folder)
    bundle.config = json.loads((bundle.folder / "config.json").read_text())
    runtime.fails("spec", "--bundle", bundle.folder, needle="already")
    bundle.process["terminal"] = False
    assert runtime.run(bundle.shell("echo $$; hostname"), name).stdout == "1\nstoker\n"


def test_runs_as_a_verb(runtime, bundle, stoker, name):
    """`stoker runtime` is the same, with its records below the node's run_dir."""
    bundle.shell("echo here").save()
    assert stoker("runtime", "run", "-b", bundle.folder, name).stdout == "here\n"
    assert (stoker.run_dir / "runtime").is_dir()
    assert "spec: 1.2" in stoker("runtime", "--version").stdout
    for verb in ("create", "exec", "features"):
        assert "Usage: stoker runtime" in stoker("runtime", verb, "--help").stdout
    stoker.fails("runtime", "state", name, needles=["there is no container"])
