# SPDX-License-Identifier: Apache-2.0
"""checkpoint and restore by the command, through a real CRIU where this machine has one that works (its own
`criu check` is the probe): the processes go on where they were, with what the new bundle gives them and no more."""

import os
import re
import shutil
import socket
import subprocess
import threading
import time

from tests.support import inventory
from tests.support import lab as L
from tests.support.command import Cli
from tests.support.runner import Skip, check, contains, equal, eventually

# Without a fork: criu waits in vain for who waits for a vfork's child that was stopped before its exec.
COUNT = "i=0; while :; do i=$((i+1)); [ $((i % 2000)) = 0 ] && echo $((i / 2000)) >> /data/count; done"


def needs_criu():
    if shutil.which("criu") is None:
        raise Skip("criu is not installed here")
    r = subprocess.run(["criu", "check"], capture_output=True, text=True, check=False)
    if r.returncode != 0:
        # Early failures go to its log only, which is standard error with -v.
        r = subprocess.run(["criu", "-v1", "check"], capture_output=True, text=True, check=False)
        lines = [line for line in (r.stdout + r.stderr).splitlines() if "Error" in line]
        raise Skip(f"criu check: exit {r.returncode}, {lines[0] if lines else 'without a word'}")


def detached(cli, *words):
    """As a shell's redirection has it: CRIU opens such files anew with the flags that they were opened with, and
    temporary files of Python's have O_NOFOLLOW among them."""
    with open(f"{L.LAB}/detached.out", "wb") as out, open(f"{L.LAB}/detached.err", "w+b") as err:
        code = subprocess.run([cli.name, "--root", cli.root, *words], env=cli.lab.env, stdin=subprocess.DEVNULL, stdout=out, stderr=err,
                              timeout=60, check=False).returncode
        err.seek(0)
        return L.Result(code, "", err.read().decode(errors="replace"), 0)


class Counting:
    """A container that counts into a bind mount, and the directory of its images."""

    def __init__(self, lab, change=None, script=COUNT):
        needs_criu()
        self.lab, self.cli = lab, Cli(lab)
        self.data, self.images = (f"{L.LAB}/{lab.new_id(w)}" for w in ("data", "images"))
        os.makedirs(self.data)
        self.script, self.change = script, change
        self.id = self.new()
        r = detached(self.cli, "run", "-d", "-b", self.path, self.id)
        equal(r.code, 0, r.err)

    def new(self, change=None):
        def edit(spec):
            spec["mounts"].append({"destination": "/data", "type": "bind", "source": self.data, "options": ["bind", "rw"]})
            for more in (self.change, change):
                if more:
                    more(spec)
        id, self.path = self.cli.bundle("sh", "-c", self.script, change=edit)
        return id

    def count(self):
        """The last whole line: it may be stopped in the middle of one."""
        with open(self.data + "/count", encoding="ascii") as f:
            lines = f.read().split("\n")[:-1]
        return int(lines[-1]) if lines else 0

    def counted(self, more):
        eventually(lambda: os.path.exists(self.data + "/count"), 5, "it counts")
        first = self.count()
        eventually(lambda: self.count() >= first + more, 10, "it counts on")

    def checkpoint(self, *options):
        return self.cli("checkpoint", "--image-path", self.images, *options, self.id)

    def log(self, name):
        try:
            with open(f"{self.images}/{name}", encoding="utf-8", errors="replace") as f:
                return "".join(line for line in f if "Error" in line)[-1500:]
        except OSError:
            return ""

    def restore(self, id):
        r = detached(self.cli, "restore", "-d", "--image-path", self.images, "-b", self.path, id)
        check(r.code == 0, f"restore: {r!r}\n{self.log('restore.log')}")


def test_a_container_goes_on_where_it_was(lab):
    c = Counting(lab)
    c.counted(5)
    old = c.cli.state(c.id)
    r = c.checkpoint()
    check(r.code == 0, f"checkpoint: {r!r}\n{c.log('dump.log')}")
    check(not os.path.exists(f"{c.cli.root}/{c.id}"), "the record is still there")
    eventually(lambda: not os.path.exists(f"/proc/{old['pid']}"), 5, "its init has ended")
    before = c.count()
    time.sleep(0.2)
    equal(c.count(), before, "it counts without being there")
    id = c.new()
    c.restore(id)
    c.counted(5)
    check(c.count() > before, f"it began anew: {c.count()} after {before}")
    state = c.cli.state(id)
    equal(state["status"], "running")
    equal(c.cli("exec", id, "sh", "-c", "cat /proc/1/comm; ls /data").ok().out, "sh\ncount\n")
    with open(f"/proc/{state['pid']}/cgroup", encoding="ascii") as f:
        check(f"/{lab.namespace}/{id}" in f.read(), "the restored container's own cgroup")
    c.cli("kill", id, "KILL").ok()
    c.cli.until(id, "stopped")
    c.cli("delete", id).ok()


def test_left_running_and_restored_twice(lab):
    c = Counting(lab)
    c.counted(3)
    r = c.checkpoint("--leave-running")
    check(r.code == 0, f"checkpoint: {r!r}\n{c.log('dump.log')}")
    equal(c.cli.status(c.id), "running")
    c.counted(3)
    c.cli.end(c.id)
    for _ in range(2):
        id = c.new()
        c.restore(id)
        c.counted(3)
        c.cli.end(id)


def test_a_pre_dump_goes_before(lab):
    c = Counting(lab)
    c.counted(3)
    first, c.images = c.images, c.images + "-2"
    r = c.cli("checkpoint", "--pre-dump", "--image-path", first, c.id)
    if r.code != 0 and "Tracking memory is not available" in r.err:
        c.cli.end(c.id)
        raise Skip(f"no memory tracking in this kernel: {r.err.strip()}")
    check(r.code == 0, f"pre-dump: {r!r}")
    equal(c.cli.status(c.id), "running")
    r = c.checkpoint("--parent-path", "../" + os.path.basename(first))
    check(r.code == 0, f"checkpoint: {r!r}\n{c.log('dump.log')}")
    id = c.new()
    c.restore(id)
    c.counted(3)
    c.cli.end(id)


def test_output_goes_to_who_restores_and_the_code_comes_back(lab):
    c = Counting(lab, script="trap 'echo ended; exit 7' TERM; echo 1 > /data/count; while :; do :; done")
    eventually(lambda: os.path.exists(c.data + "/count"), 5, "it runs")
    c.cli.end(c.id)
    os.unlink(c.data + "/count")
    id = c.new()
    with open(f"{L.LAB}/first.out", "wb") as sink:
        cat = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=sink)
        run = subprocess.Popen([c.cli.name, "--root", c.cli.root, "run", "-b", c.path, id], env=lab.env, stdin=subprocess.PIPE,
                               stdout=cat.stdin, stderr=cat.stdin)
        eventually(lambda: os.path.exists(c.data + "/count"), 5, "it runs")
        c.id = id
        r = c.checkpoint()
        check(r.code == 0, f"checkpoint: {r!r}\n{c.log('dump.log')}")
        run.stdin.close()
        run.wait()
        cat.stdin.close()
        cat.wait()
    id = c.new()
    restored = subprocess.Popen([c.cli.name, "--root", c.cli.root, "restore", "--image-path", c.images, "-b", c.path, id],
                                env=lab.env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    eventually(lambda: c.cli("state", id).code == 0 and c.cli.status(id) == "running", 10,
               f"it runs again; {c.log('restore.log')}")
    restored.terminate()
    out, err = restored.communicate(timeout=10)
    equal((restored.returncode, out), (7, "ended\n"), err)
    check(not os.path.exists(f"{c.cli.root}/{id}"), "the record is still there")


def test_more_rights_than_the_spec_are_not_restored(lab):
    def rich(spec):
        for kind in ("bounding", "effective", "permitted"):
            spec["process"]["capabilities"][kind] = ["CAP_SYS_ADMIN", "CAP_CHOWN"]
        spec["process"]["noNewPrivileges"] = False
    c = Counting(lab, change=rich)
    c.counted(2)
    r = c.checkpoint()
    check(r.code == 0, f"checkpoint: {r!r}\n{c.log('dump.log')}")
    before = c.count()

    def poor(spec):
        for kind in ("bounding", "effective", "permitted"):
            spec["process"]["capabilities"][kind] = ["CAP_CHOWN"]
    for change, word in ((poor, "CapBnd|CapPrm|CapEff"), (lambda spec: spec["process"].update(noNewPrivileges=True), "no_new_privs")):
        id = c.new(change)
        r = detached(c.cli, "restore", "-d", "--image-path", c.images, "-b", c.path, id)
        check(r.code != 0 and re.search(word, r.err) and "not restored" in r.err, f"{r!r}")
        equal([p for p in inventory.cgroups([lab.namespace]) if p.endswith("/" + id)], [], "cgroups")
        check(not os.path.exists(f"{c.cli.root}/{id}"), "the record is still there")
        equal(c.count(), before, "it ran")


def test_mounts_are_the_new_specs(lab):
    """CVE-2026-115520, CVE-2026-119101: what an image shows of the host is what config.json has, by index."""
    c = Counting(lab)
    c.counted(2)
    r = c.checkpoint()
    check(r.code == 0, f"checkpoint: {r!r}\n{c.log('dump.log')}")
    elsewhere = c.data + "-2"
    os.makedirs(elsewhere)
    shutil.copy(c.data + "/count", elsewhere)
    c.data, before = elsewhere, c.count()
    id = c.new()
    c.restore(id)
    c.counted(3)
    check(c.count() > before, "it counts into the new source")
    c.cli.end(id)
    # A record that names what this config.json has not.
    with open(c.images + "/amphora.record", encoding="utf-8") as f:
        record = f.read()
    for forged, word in ((record.replace("mount-", "mount-9"), "no bind mount"), (record + "mount host-/ /x\n", "unknown part"),
                         (record + "mount null-7 /etc\n", "maskedPaths"), ("something else\n", "cannot be read")):
        with open(c.images + "/amphora.record", "w", encoding="utf-8") as f:
            f.write(forged)
        id = c.new()
        r = detached(c.cli, "restore", "-d", "--image-path", c.images, "-b", c.path, id)
        check(r.code != 0 and word in r.err, f"{word}: {r!r}")
        check(not os.path.exists(f"{c.cli.root}/{id}"), "the record is still there")


class Namespaces:
    """Of a pod, held by a process of its own: what CRI's containers join."""

    def __init__(self, host):
        self.process = subprocess.Popen(["unshare", "-i", "-u", "-n", "sh", "-c", f"hostname {host}; exec sleep 1000"])
        eventually(lambda: self.read("comm") == "sleep\n", 5, "a pod")

    def read(self, name):
        with open(f"/proc/{self.process.pid}/{name}", encoding="utf-8") as f:
            return f.read()

    def hostname(self):
        return subprocess.run(["nsenter", "-u", "-t", str(self.process.pid), "hostname"], capture_output=True, text=True, check=True).stdout

    def join(self, spec, kinds=("network", "ipc", "uts")):
        spec.pop("hostname", None)
        for ns in spec["linux"]["namespaces"]:
            if ns["type"] in kinds:
                ns["path"] = f"/proc/{self.process.pid}/ns/{'net' if ns['type'] == 'network' else ns['type']}"

    def of(self, pid):
        return [os.path.samefile(f"/proc/{pid}/ns/{n}", f"/proc/{self.process.pid}/ns/{n}") for n in ("net", "ipc", "uts")]

    def close(self):
        self.process.kill()
        self.process.wait()


def test_namespaces_of_a_pod(lab):
    """A pod's container could not be checkpointed through CRI: it has joined ipc and uts namespaces, too."""
    one, two = Namespaces("pod-one"), Namespaces("pod-two")
    try:
        c = Counting(lab, one.join)
        c.counted(3)
        r = c.checkpoint()
        check(r.code == 0, f"checkpoint: {r!r}\n{c.log('dump.log')}")
        before = c.count()
        c.change = two.join
        r = detached(c.cli, "restore", "-d", "--image-path", c.images, "-b", c.path, c.new())
        check(r.code != 0 and "joins the ipc namespace" in r.err, repr(r))
        equal(two.hostname(), "pod-two\n", "the other pod's host name")
        c.change = lambda spec: two.join(spec, ("network",))
        id = c.new()
        c.restore(id)
        c.counted(3)
        check(c.count() > before, f"it began anew: {c.count()} after {before}")
        equal(two.of(c.cli.state(id)["pid"]), [True, False, False], "network: the other pod's; ipc and uts: its own")
        equal((c.cli("exec", id, "hostname").ok().out, two.hostname()), ("pod-one\n", "pod-two\n"), "host names")
        c.cli.end(id)
    finally:
        one.close()
        two.close()


def test_a_terminal_goes_to_the_console_socket(lab):
    def terminal(spec):
        spec["process"]["terminal"] = True
    needs_criu()
    masters = []

    def serve(server):
        connection, _ = server.accept()
        _, fds, _, _ = socket.recv_fds(connection, 4096, 1)
        masters.append(fds[0])

    def with_socket(*words):
        where = f"{L.LAB}/{lab.new_id('console')}.sock"
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(where)
            server.listen()
            thread = threading.Thread(target=serve, args=(server,))
            thread.start()
            r = detached(cli, *words[:1], "--console-socket", where, *words[1:])
            if r.code == 0:
                thread.join()
            else:
                with socket.socket(socket.AF_UNIX) as own:  # lets the thread end
                    own.connect(where)
                    socket.send_fds(own, [b"x"], [0])
                thread.join()
        return r
    cli = Cli(lab)
    id, path = cli.bundle("sh", "-c", "stty -echo; while read line; do echo got $line; done", change=terminal)
    equal(with_socket("run", "-d", "-b", path, id).code, 0)
    images = f"{L.LAB}/{lab.new_id('images')}"
    time.sleep(0.2)
    r = cli("checkpoint", "--image-path", images, id)
    check(r.code == 0, f"checkpoint: {r!r}")
    id, path = cli.bundle("sh", "-c", "exit 9", change=terminal)
    r = with_socket("restore", "-d", "--image-path", images, "-b", path, id)
    check(r.code == 0, f"restore: {r!r}")
    os.set_blocking(masters[-1], False)
    os.write(masters[-1], b"something\n")
    seen = b""

    def read_on():
        nonlocal seen
        try:
            seen += os.read(masters[-1], 4096)
        except BlockingIOError:
            pass
        return b"got something" in seen
    eventually(read_on, 5, f"the answer on the new terminal; {seen!r}")
    cli.end(id)
    for master in masters:
        os.close(master)


def test_what_cannot_be_checkpointed_is_said(lab):
    cli = Cli(lab)
    images = f"{L.LAB}/{lab.new_id('images')}"
    id = cli.create("sleep", "100")
    r = cli("checkpoint", "--image-path", images, id)
    check(r.code != 0 and "created state" in r.err, repr(r))
    cli.end(id)
    id = cli.running("/app.wasm", "sleep", "100")
    r = cli("checkpoint", "--image-path", images, id)
    check(r.code != 0 and "wasm guest" in r.err, repr(r))
    cli.end(id)
    id = cli.running("sleep", "100")
    r = L.command([shutil.which("amphora", path=lab.env["PATH"]), "--root", cli.root, "checkpoint", "--image-path", images, id],
                  env={**lab.env, "PATH": "/nowhere"})
    check(r.code != 0 and "criu is not installed" in r.err, repr(r))
    equal(cli.status(id), "running")
    cli.end(id)
    id, path = cli.bundle("true")
    r = cli("restore", "--image-path", L.GUESTS, "-b", path, id)
    check(r.code != 0 and "no checkpoint" in r.err, repr(r))
    check(not os.path.exists(f"{cli.root}/{id}"), "a record was left")
