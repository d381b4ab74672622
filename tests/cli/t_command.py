# SPDX-License-Identifier: Apache-2.0
"""What drives the command relies on: log formats, pid files, console sockets, inherited descriptors,
the service manager's socket, sub-cgroups. Beside runc where this Debian's runc has it."""

import array
import json
import os
import socket
import subprocess
import threading

from tests.support import lab as L
from tests.support.command import NATIVE, Cli, kind_args
from tests.support.runner import Skip, check, contains, equal, eventually


def clis(lab):
    return [Cli(lab, name) for name in L.COMMANDS]


def test_log_json_and_stderr_plain(lab):
    for cli in clis(lab):
        id, path = cli.bundle("/nothing/here")
        log = f"{path}/log"
        r = cli("--log", log, "--log-format", "json", "create", "-b", path, id)
        equal(r.code, 1, cli.name)
        with open(log, encoding="utf-8") as f:
            last = [json.loads(line) for line in f][-1]
        equal(last["level"], "error", cli.name)
        contains(last["msg"], "no such file or directory", cli.name)
        contains(r.err, last["msg"], cli.name)
        equal(sorted(last), ["level", "msg", "time"], cli.name)


def test_missing_programs(lab):
    """Section 9, case 2: 1 at create, 255 at exec, with the words that engines look for."""
    for cli in clis(lab):
        id, path = cli.bundle("no-such-program")
        r = cli.detached("create", "-b", path, id)
        equal(r.code, 1, cli.name)
        contains(r.err, "executable file not found in $PATH", cli.name)
        equal(cli.run("sh", "-c", "exit 7").code, 7, cli.name)
        equal(cli.run("sh", "-c", "kill -9 $$; true", change=lambda s: None).code in (0, 137), True, cli.name)
        id = cli.running(*kind_args(NATIVE, "pause"))
        r = cli("exec", id, "no-such-program")
        equal(r.code, 255, cli.name)
        contains(r.err, "executable file not found in $PATH", cli.name)
        cli.end(id)


def test_two_creates_of_one_id(lab):
    """Section 9, case 5: exactly one wins."""
    cli = Cli(lab)
    id, path = cli.bundle("/bin/demo", "pause")
    results = []

    def create():
        results.append(cli.detached("create", "-b", path, id))
    for _ in range(5):
        results.clear()
        threads = [threading.Thread(target=create) for _ in range(2)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        equal(sorted(r.code for r in results), [0, 1], "exit codes")
        contains(next(r.err for r in results if r.code), "container with given ID already exists")
        cli.end(id)


def test_pid_file_is_from_the_callers_directory(lab):
    cli = Cli(lab)
    id, path = cli.bundle("/bin/demo", "pause")
    elsewhere = f"{path}/elsewhere"
    os.makedirs(elsewhere)
    done = subprocess.run([cli.name, "--root", cli.root, "create", "-b", path, "--pid-file", "pid", id],
                          cwd=elsewhere, env=lab.env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                          stderr=subprocess.DEVNULL, timeout=30, check=False)
    equal(done.returncode, 0)
    with open(f"{elsewhere}/pid", encoding="ascii") as f:
        equal(f.read(), str(cli.state(id)["pid"]), "pid file")
    cli.end(id)


def receive_master(server):
    connection, _ = server.accept()
    fds = array.array("i")
    data, control, _, _ = connection.recvmsg(4096, socket.CMSG_SPACE(fds.itemsize))
    for level, kind, payload in control:
        check((level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS), "no descriptor in the message")
        fds.frombytes(payload)
    return data, fds[0]


def test_console_socket(lab):
    """Section 9, case 10: the master arrives, its size is there before the program's first look."""
    cli = Cli(lab)

    def wants_terminal(spec):
        spec["process"]["terminal"] = True
        spec["process"]["consoleSize"] = {"height": 31, "width": 97}
    id, path = cli.bundle("sh", "-c", "stty size; stty size < /dev/console; sleep 1000", change=wants_terminal)
    r = cli.detached("run", "-d", "-b", path, id)
    equal(r.code, 1, "a terminal without a socket")
    contains(r.err, "without setting console socket")
    where = f"{path}/console"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(where)
        server.listen()
        equal(cli.detached("run", "-d", "-b", path, "--console-socket", where, id).code, 0)
        data, master = receive_master(server)
    contains(data.decode(), "ptmx")
    seen = b""

    def read_on():
        nonlocal seen
        seen += os.read(master, 4096)
        return seen.count(b"\n") >= 2
    eventually(read_on, 5, "the program's two lines")
    equal(seen.replace(b"\r", b"").split(b"\n")[:2], [b"31 97", b"31 97"])
    os.close(master)
    cli.end(id)
    id, path = cli.bundle("/bin/demo", "pause")
    r = cli.detached("create", "-b", path, "--console-socket", where, id)
    check(r.code == 1 and "console socket" in r.err, f"a socket without a terminal: {r!r}")


def test_pidfd_socket(lab):
    """A pidfd of init, and of what exec starts, each with the word that runc sends."""
    cli = Cli(lab)
    id, path = cli.bundle(*kind_args(NATIVE, "pause"))
    where = f"{path}/pidfd"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(where)
        server.listen()
        equal(cli.detached("create", "-b", path, "--pidfd-socket", where, id).code, 0)
        for word in (b"standard", b"setns"):
            data, pidfd = receive_master(server)
            equal(data, word)
            with open(f"/proc/self/fdinfo/{pidfd}", encoding="ascii") as f:
                pid = next(int(line.split()[1]) for line in f if line.startswith("Pid:"))
            os.close(pidfd)
            if word == b"standard":
                equal(pid, cli.state(id)["pid"])
                cli("start", id).ok()
                equal(cli.detached("exec", "-d", "--pidfd-socket", where, "--pid-file", path + "/pid", id, "sleep", "1000").code, 0)
            else:
                with open(path + "/pid", encoding="ascii") as f:
                    equal(pid, int(f.read()))
    cli.end(id)
    r = cli("run", "-b", path, "--pidfd-socket", path + "/none", id)
    check(r.code == 1 and "pidfd socket" in r.err, repr(r))


def test_preserved_descriptors(lab):
    """Section 9, case 11: exactly those asked for arrive; a missing one is said before anything is made."""
    cli = Cli(lab)
    id, path = cli.bundle("sh", "-c", "ls /proc/self/fd | tr '\\n' ' '; echo; echo $LISTEN_FDS $LISTEN_PID")

    def run(fds, env, *options):
        words = [cli.name, "--root", cli.root, "run", *options, "-b", path, id]
        shell = "".join(f"exec {fd}</dev/null; " for fd in fds) + env + "exec " + " ".join(words)
        return subprocess.run(["bash", "-c", shell], capture_output=True, text=True, timeout=30, env=lab.env,
                              check=False)
    done = run((3, 4), "", "--preserve-fds", "2")
    equal(done.returncode, 0, done.stderr)
    equal(done.stdout.split("\n")[0].split(), ["0", "1", "2", "3", "4", "5"], "5 is ls's own directory")
    done = run((3,), "exec 4<&-; ", "--preserve-fds", "2")
    check(done.returncode == 1 and "preserved-fd" in done.stderr, done.stderr)
    done = run((3,), "export LISTEN_FDS=1 LISTEN_PID=$$; ")
    equal(done.returncode, 0, done.stderr)
    equal(done.stdout.split("\n")[:2], ["0 1 2 3 4 ", "1 1"])


class Manager:
    """A service manager's notify socket: collects lines, answers barriers by closing them."""

    def __init__(self, path):
        self.path, self.lines = path, []
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(path)
        self.socket.settimeout(10)
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def serve(self):
        while True:
            try:
                data, control, _, _ = self.socket.recvmsg(4096, 1024)
            except OSError:
                return
            for _, _, payload in control:
                fds = array.array("i")
                fds.frombytes(payload)
                for fd in fds:
                    os.close(fd)
            self.lines += data.decode().split()

    def close(self):
        self.socket.close()


def sender(lab):
    """A program in the shared root that sends one datagram; busybox has none that can."""
    target = f"{L.LAB}/bundles/shared/rootfs/bin/say"
    if not os.path.exists(target):
        source = target + ".c"
        with open(source, "w", encoding="ascii") as f:
            f.write("#include <stdlib.h>\n#include <string.h>\n#include <sys/socket.h>\n#include <sys/un.h>\n"
                    "int main(int n,char**v){struct sockaddr_un a={AF_UNIX};strcpy(a.sun_path,getenv(\"NOTIFY_SOCKET\"));"
                    "int s=socket(AF_UNIX,SOCK_DGRAM,0);return sendto(s,v[1],strlen(v[1]),0,(void*)&a,sizeof a)<0;}\n")
        if subprocess.run(["gcc", "-static", "-o", target, source], capture_output=True, check=False).returncode:
            raise Skip("no C compiler for a static program here")
        os.unlink(source)


def test_notify_socket(lab):
    """Section 9, case 12: READY in any line, MAINPID as the host knows it, the barrier answered."""
    cli = Cli(lab)
    first, path = cli.bundle("/bin/demo", "pause")
    sender(lab)
    manager = Manager(f"{path}/notify")
    lab.env["NOTIFY_SOCKET"] = manager.path
    try:
        say = ("sh", "-c", "say 'STATUS=x\nMAINPID=1\nREADY=1'; touch $NOTIFY_SOCKET.x 2>/dev/null; sleep 1000")
        id, path = cli.bundle(*say)
        equal(cli.detached("run", "-d", "-b", path, id).code, 0)
        eventually(lambda: "BARRIER=1" in manager.lines, 5, "the barrier")
        equal(manager.lines, ["STATUS=x", "READY=1", f"MAINPID={cli.state(id)['pid']}", "BARRIER=1"], "run -d")
        check(not os.path.exists(f"{cli.root}/{id}/notify/notify.sock.x"), "/run/notify could be written")
        cli.end(id)
        manager.lines.clear()
        id = cli.create(*say)
        equal(manager.lines, [], "before start")
        equal(cli.detached("start", id).code, 0)
        eventually(lambda: "BARRIER=1" in manager.lines, 5, "the barrier")
        equal(manager.lines, ["STATUS=x", "READY=1", f"MAINPID={cli.state(id)['pid']}", "BARRIER=1"], "start")
        cli.end(id)
    finally:
        del lab.env["NOTIFY_SOCKET"]
        manager.close()


def test_exec_in_a_sub_cgroup(lab):
    """By component: a sibling whose name begins like ours is not below us (runc #5351)."""
    cli = Cli(lab)
    id = cli.running(*kind_args(NATIVE, "pause"))
    own = f"/{lab.namespace}/{id}"
    base = next((p for p in ("/sys/fs/cgroup/pids", "/sys/fs/cgroup") if os.path.isdir(p + own)), None)
    if base is None:
        raise Skip("neither a pids hierarchy nor cgroup v2 here")
    only = "pids:" if base.endswith("pids") else ""
    sibling = f"{base}{own}-sibling"
    os.mkdir(sibling)
    os.mkdir(f"{base}{own}/below")
    try:
        for words in ("..", f"../{id}-sibling", f"{only}../{id}-sibling", "below/../.."):
            r = cli("exec", "--cgroup", words, id, "true")
            equal(r.code, 255, words)
            contains(r.err, "bad sub cgroup path", words)
            contains(r.err, "is not a sub cgroup path", words)
        r = cli("exec", "--cgroup", f"{only}missing", id, "true")
        check(r.code == 255 and "/missing/cgroup.procs: no such file or directory" in r.err, repr(r))
        r = cli("exec", "--cgroup", "nothing:/", id, "true")
        check(r.code == 255 and "unknown controller" in r.err, repr(r))
        r = cli("exec", "--cgroup", f"{only}below", id, "cat", "/proc/self/cgroup")
        equal(r.code, 0, r.err)
        contains(r.out, f"{own}/below\n")
        cli("exec", "--cgroup", "/", id, "true").ok()
    finally:
        cli.end(id)
        os.rmdir(sibling)


def test_kill_ends_everybody_without_a_pid_namespace(lab):
    """Also when init has gone already (runc #4047)."""
    cli = Cli(lab)

    def host_pids(spec):
        spec["linux"]["namespaces"] = [n for n in spec["linux"]["namespaces"] if n["type"] != "pid"]
    for end_init in (False, True):
        id = cli.running(*kind_args(NATIVE, "pause"), change=host_pids)
        init = cli.state(id)["pid"]
        equal(cli.detached("exec", "-d", "--pid-file", f"{L.LAB}/other", id, "sleep", "1000").code, 0)
        with open(f"{L.LAB}/other", encoding="ascii") as f:
            other = int(f.read())
        if end_init:
            os.kill(init, 9)
            cli.until(id, "stopped")
        cli("kill", id, "KILL").ok()
        eventually(lambda: not os.path.exists(f"/proc/{other}"), 5, "the other process's end")
        cli("delete", id).ok()


def test_a_created_container_ends_by_terminate(lab):
    """Its init is pid 1 and has no handlers yet, so that the signal itself would be lost."""
    for cli in clis(lab):
        id = cli.create(*kind_args(NATIVE, "pause"))
        cli("kill", id, "TERM").ok()
        cli.until(id, "stopped")
        cli("delete", id).ok()


def test_events_have_what_runc_has(lab):
    seen = {}
    for cli in clis(lab):
        id = cli.running(*kind_args(NATIVE, "pause"))
        event = json.loads(cli("events", "--stats", id).ok().out)
        equal((event["type"], event["id"]), ("stats", id), cli.name)
        seen[cli.name] = event["data"]
        cli.end(id)
    runc, ours = (seen[name] for name in L.COMMANDS)
    equal(sorted(set(runc) - set(ours)), [], "members")
    for part in ("cpuset", "pids"):
        equal(sorted(set(runc[part]) - set(ours[part])), [], part)
    equal(ours["cpuset"], runc["cpuset"], "cpuset")
    for member in ("percpu", "percpu_kernel", "percpu_user"):
        usage = [len(data["cpu"]["usage"].get(member, ())) for data in (runc, ours)]
        equal(usage[1], usage[0], member)


def test_checkpoint_checks_its_parent_path(lab):
    for parent in ("/absolute", "./missing"):
        r = Cli(lab)("checkpoint", "--parent-path", parent, "--image-path", L.LAB, "nobody")
        check(r.code != 0 and "--parent-path" in r.err and parent in r.err, f"{parent}: {r!r}")
