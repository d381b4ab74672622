# SPDX-License-Identifier: Apache-2.0
"""The sandbox service, asked directly as containerd's controller "shim" asks it: a pod without an image of its
own, its namespaces and files, native and wasm containers in it, and what is left when it or its shim ends.
Pods through CRI with this controller are in tests/cri (area sandboxer)."""

import json
import os
import signal
import subprocess
import time

from tests.shim.t_lifecycle import KINDS
from tests.support import bundle, inventory, ttrpc
from tests.support import lab as L
from tests.support.runner import check, contains, equal, eventually

ALL_BUT_CREATE = ("StartSandbox", "StopSandbox", "WaitSandbox", "SandboxStatus", "PingSandbox", "SandboxMetrics")
POD, CONTAINER, NODE = 0, 1, 2


def namespace(pid, name):
    return os.readlink(f"/proc/{pid}/ns/{name}")


class Network:
    """A network namespace by path, and with `users` a user namespace that owns it, as containerd makes them."""

    def __init__(self, users=None):
        self.process = subprocess.Popen(["unshare", "-n", *(["-U"] if users else []), "sleep", "1000"])
        self.path = f"/proc/{self.process.pid}/ns/net"
        eventually(lambda: namespace(self.process.pid, "net") != namespace("self", "net"), 5, "a network namespace")
        if users:
            for kind in ("uid", "gid"):
                with open(f"/proc/{self.process.pid}/{kind}_map", "w", encoding="utf-8") as f:
                    f.write(f"0 {users} 65536")

    def close(self):
        self.process.kill()
        self.process.wait()


class Sandbox:
    """A shim with a bundle as containerd makes it for a sandbox: without config.json."""

    def __init__(self, lab, create=True, **wishes):
        self.lab, self.id = lab, lab.new_id("sandbox")
        self.bundle = f"{L.LAB}/bundles/{self.id}"
        os.makedirs(self.bundle + "/rootfs")
        self.network = Network(wishes.get("users"))
        self.path = ttrpc.start_shim("containerd-shim-amphora-v1", self.bundle, self.id, lab.namespace, L.SOCKET, lab.env)
        self.client = ttrpc.Client(self.path)
        self.shim = self.client.call("Connect", (1, self.id))[1][0]
        self.pid = 0
        if create:
            code, text = self.create(**wishes)
            equal(code, 0, text)
            self.pid = self.call("StartSandbox")[1][0]

    def config(self, users=None, pids=CONTAINER, sysctls=(), host="pod-host"):
        own = []
        if users:
            mapping = [(1, users), (3, 65536)]
            own = [(5, [(2, mapping), (3, mapping)])]
        return [(2, host), (4, [(1, "10.9.8.7"), (2, "a.test"), (3, "ndots:8")]), (8, [
            (1, f"/{self.lab.namespace}"), (2, [(1, [(2, pids), *own])]),
            *((3, [(1, key), (2, value)]) for key, value in sysctls)])]

    def create(self, **wishes):
        config = self.config(**wishes)
        return self.client.code_of("CreateSandbox", (1, self.id), (2, self.bundle),
                                   (4, [(1, "runtime.v1.PodSandboxConfig"), (2, ttrpc.encode(config))]),
                                   (5, self.network.path), service=ttrpc.SANDBOX)

    def give_spec(self, args, **members):
        """What a client of containerd's own gives a sandbox: a spec and a root."""
        path = bundle.make_bundle(f"{L.LAB}/bundles/{self.id}-spec", L.GUESTS, args, cgroup=f"/{self.lab.namespace}/{self.id}")
        with open(path + "/config.json", encoding="utf-8") as f:
            spec = json.load(f)
        spec["root"]["path"] = path + "/rootfs"
        spec.update(members)
        bundle.write_config(self.bundle, spec)

    def call(self, method, *more, id=None):
        return self.client.call(method, (1, id or self.id), *more, service=ttrpc.SANDBOX)

    def code(self, method, id=None):
        return self.client.code_of(method, (1, id or self.id), service=ttrpc.SANDBOX)[0]

    def status(self):
        return self.call("SandboxStatus", (2, True))

    def join(self, kinds):
        """A change of a spec, as CRI has it: the container joins the pod's namespaces."""
        def change(spec):
            del spec["hostname"]
            for ns in spec["linux"]["namespaces"]:
                if ns["type"] in kinds:
                    ns["path"] = f"/proc/{self.pid}/ns/{'net' if ns['type'] == 'network' else ns['type']}"
        return change

    def container(self, name, args, kinds=("network", "ipc", "uts"), out=""):
        id = f"{self.id}-{name}"
        path = bundle.make_bundle(f"{L.LAB}/bundles/{id}", L.GUESTS, args, cgroup=f"/{self.lab.namespace}/{id}",
                                  change=self.join(kinds))
        self.client.call("Create", (1, id), (2, path), *([(6, out)] if out else []))
        self.client.call("Start", (1, id))
        return id

    def end(self, id):
        self.client.code_of("Kill", (1, id), (3, 9), (4, True))
        eventually(lambda: self.client.code_of("Delete", (1, id))[0] in (0, ttrpc.NOT_FOUND), 5, "delete works")

    def close(self):
        try:
            self.call("ShutdownSandbox")
        except OSError:  # it has left already
            pass
        self.client.close()
        self.network.close()
        eventually(lambda: not os.path.exists(f"/proc/{self.shim}"), 5, "the shim leaves")
        equal([m for m in inventory.mounts() if self.id in m], [], "mounts that are left")
        equal(os.listdir(self.bundle + "/rootfs"), [], "containerd wants to remove this directory")


def test_life_of_a_sandbox(lab):
    s = Sandbox(lab, create=False)
    try:
        for method in ALL_BUT_CREATE:
            equal(s.code(method), ttrpc.NOT_FOUND, f"{method} before CreateSandbox")
        equal(s.create()[0], 0, "create")
        equal(s.create()[0], ttrpc.EXISTS, "a second one")
        equal(s.status()[3], [b"SANDBOX_NOTREADY"], "state before the start")
        answer = s.call("StartSandbox")
        s.pid = answer[1][0]
        check(abs(ttrpc.decode(answer[2][0])[1][0] - time.time()) < 10, "time of creation")
        spec = json.loads(ttrpc.decode(answer[3][0])[2][0])
        equal(spec["linux"]["cgroupsPath"], f"/{lab.namespace}/{s.id}", "the spec that is told")
        equal(s.code("StartSandbox"), ttrpc.PRECONDITION, "a second start")
        equal(s.code("PingSandbox"), 0, "ping")
        status = s.status()
        equal((status[1], status[2], status[3]), ([s.id.encode()], [s.pid], [b"SANDBOX_READY"]), "status")
        equal(json.loads(ttrpc.decode(status[4][0])[2][0])["pid"], s.pid, "info")
        platform = ttrpc.decode(s.call("Platform")[1][0])
        equal((platform[1], platform[2]), ([b"linux"], [{"x86_64": b"amd64", "aarch64": b"arm64"}[os.uname().machine]]), "platform")
        metric = ttrpc.decode(s.call("SandboxMetrics")[1][0])
        check(metric[2] == [s.id.encode()] and b"Metrics" in metric[3][0], f"metrics: {metric}")
        equal(s.client.code_of("State", (1, s.id))[0], ttrpc.NOT_FOUND, "to the task service it is no task")
        waiting = s.client.send("WaitSandbox", [(1, s.id)], ttrpc.SANDBOX)
        s.client.call_past("PingSandbox", [waiting], (1, s.id), service=ttrpc.SANDBOX)
        stopping = s.client.send("StopSandbox", [(1, s.id), (2, 5)], ttrpc.SANDBOX)
        answers = dict(s.client.receive() for _ in range(2))
        equal((sorted(answers), answers[waiting][1]), ([waiting, stopping], [137]), "Wait's answer comes with Stop's")
        status = s.status()
        equal(status[3], [b"SANDBOX_NOTREADY"], "state after the stop")
        check(abs(ttrpc.decode(status[6][0])[1][0] - time.time()) < 10, "time of the end")
        equal((s.code("StopSandbox"), s.call("WaitSandbox")[1]), (0, [137]), "once more")
        check(not os.path.exists(f"/proc/{s.pid}"), "its process is gone")
    finally:
        s.close()


def test_wrong_names(lab):
    s = Sandbox(lab)
    try:
        for method in ALL_BUT_CREATE:
            equal(s.code(method, id="nobody"), ttrpc.NOT_FOUND, f"{method} of an unknown id")
        equal(s.code("NoSuchMethod"), ttrpc.UNIMPLEMENTED, "an unknown method")
        equal(s.code("ShutdownSandbox", id="nobody"), 0, "ShutdownSandbox of an unknown id")
        equal(s.status()[3], [b"SANDBOX_READY"], "the sandbox that is there")
        equal(s.client.code_of("CreateSandbox", (1, "a/b"), (2, s.bundle), service=ttrpc.SANDBOX)[0], ttrpc.INVALID, "a bad id")
    finally:
        s.close()


def test_namespaces_files_and_sysctls(lab):
    s = Sandbox(lab, sysctls=(("kernel.shm_rmid_forced", "1"), ("net.ipv4.ip_unprivileged_port_start", "81")))
    try:
        equal(namespace(s.pid, "net"), namespace(s.network.process.pid, "net"), "network")
        for kind in ("ipc", "uts", "pid", "mnt"):
            check(namespace(s.pid, kind) != namespace("self", kind), f"{kind} namespace is the host's")
        with open(f"/proc/{s.pid}/status", encoding="utf-8") as f:
            status = f.read()
        contains(status, "CapEff:\t0000000000000000", "capabilities")
        contains(status, "NoNewPrivs:\t1", "new privileges")
        for kind, args in KINDS.items():
            fifo = f"{s.bundle}/{kind}-out"
            os.mkfifo(fifo)
            out = os.open(fifo, os.O_RDWR | os.O_NONBLOCK)
            id = s.container(kind, args, out=fifo)
            pid = s.client.call("Connect", (1, id))[2][0]
            for ns in ("net", "ipc", "uts"):
                equal(namespace(pid, ns), namespace(s.pid, ns), f"{kind}: {ns} namespace")
            check(namespace(pid, "pid") != namespace(s.pid, "pid"), f"{kind}: pids are its own")
            root = f"/proc/{pid}/root"
            for file, text in (("hostname", "pod-host\n"),
                               ("resolv.conf", "search a.test\nnameserver 10.9.8.7\noptions ndots:8\n")):
                with open(f"{root}/etc/{file}", encoding="utf-8") as f:
                    equal(f.read(), text, f"{kind}: {file}")
            with open(f"{root}/dev/shm/{kind}", "w", encoding="utf-8") as f:
                f.write("told")
            os.close(out)
        native = s.client.call("Connect", (1, f"{s.id}-native"))[2][0]
        check(os.path.exists(f"/proc/{native}/root/dev/shm/wasm"), "containers share the pod's memory")
        read = subprocess.run(["nsenter", "-t", str(native), "-n", "-i", "-u", "sh", "-c",
                               "hostname; cat /proc/sys/kernel/shm_rmid_forced /proc/sys/net/ipv4/ip_unprivileged_port_start"],
                              capture_output=True, text=True, check=True)
        equal(read.stdout.split(), ["pod-host", "1", "81"], "host name and sysctls")
    finally:
        for kind in KINDS:
            s.end(f"{s.id}-{kind}")
        s.close()


def test_what_the_spec_binds_itself_is_kept(lab):
    s = Sandbox(lab)
    own = f"{s.bundle}/own-hosts"
    with open(own, "w", encoding="utf-8") as f:
        f.write("127.0.0.1 kubelet's\n")
    id = f"{s.id}-c"

    def change(spec):
        s.join(("network", "ipc", "uts"))(spec)
        spec["mounts"].append({"destination": "/etc/hosts", "type": "bind", "source": own, "options": ["rbind", "ro"]})
    path = bundle.make_bundle(f"{L.LAB}/bundles/{id}", L.GUESTS, KINDS["native"], cgroup=f"/{lab.namespace}/{id}", change=change)
    try:
        pid = s.client.call("Create", (1, id), (2, path))[1][0]
        s.client.call("Start", (1, id))
        with open(f"/proc/{pid}/root/etc/hosts", encoding="utf-8") as f:
            equal(f.read(), "127.0.0.1 kubelet's\n", "hosts")
        with open(f"/proc/{pid}/mountinfo", encoding="utf-8") as f:
            lines = [line for line in f if line.split()[4] in ("/etc/hosts", "/etc/hostname", "/dev/shm")]
        equal(sorted(line.split()[4] for line in lines), ["/dev/shm", "/etc/hostname", "/etc/hosts"], "each is mounted once")
        check(all(" ro," in line or "/dev/shm" in line for line in lines), f"files of a read-only container: {lines}")
    finally:
        s.end(id)
        s.close()


def test_orphans_of_a_shared_pid_namespace_are_reaped(lab):
    s = Sandbox(lab, pids=POD)
    kinds = ("network", "ipc", "uts", "pid")
    try:
        id = s.container("c", ["/bin/sh", "-c", "for i in 1 2 3; do sh -c 'sleep 0.2 & :'; done; exec sleep 1000"], kinds)
        pid = s.client.call("Connect", (1, id))[2][0]
        equal(namespace(pid, "pid"), namespace(s.pid, "pid"), "pid namespace")

        def children():
            with open(f"/proc/{s.pid}/task/{s.pid}/children", encoding="utf-8") as f:
                return f.read().split()
        time.sleep(0.5)
        eventually(lambda: not children(), 5, "nothing is left of the orphans")
        s.end(id)
        equal(s.status()[3], [b"SANDBOX_READY"], "the sandbox after its container")
    finally:
        s.end(f"{s.id}-c")
        s.close()


def test_a_user_namespace(lab):
    s = Sandbox(lab, users=200000)
    try:
        with open(f"/proc/{s.pid}/uid_map", encoding="utf-8") as f:
            equal(f.read().split(), ["0", "200000", "65536"], "uid map")
        equal(namespace(s.pid, "user"), namespace(s.network.process.pid, "user"), "it is the one that owns the network")
        equal((os.stat(f"/proc/{s.pid}").st_uid, os.stat(s.bundle + "/resolv.conf").st_uid), (200000, 200000), "owners")
    finally:
        s.close()


def test_the_shim_outlives_neither_sandbox_nor_containers(lab):
    s = Sandbox(lab)
    id = s.container("c", KINDS["native"])
    s.client.call("Shutdown", (1, id))
    equal(s.code("PingSandbox"), 0, "a task's Shutdown does not end a sandbox")
    s.call("ShutdownSandbox")
    equal(s.client.call("State", (1, id))[4], [2], "a container goes on without its sandbox")
    equal(s.code("PingSandbox"), ttrpc.NOT_FOUND, "the sandbox is gone")
    s.end(id)
    s.close()


def test_a_sandbox_that_is_killed(lab):
    s = Sandbox(lab)
    try:
        os.kill(s.pid, signal.SIGKILL)
        equal(s.call("WaitSandbox")[1], [137], "Wait")
        equal(s.status()[3], [b"SANDBOX_NOTREADY"], "state")
    finally:
        s.close()


def test_a_killed_shim(lab):
    s = Sandbox(lab)
    os.kill(s.shim, signal.SIGKILL)
    s.client.close()
    r = subprocess.run(["containerd-shim-amphora-v1", "-namespace", lab.namespace, "-address", L.SOCKET, "-publish-binary",
                        "/bin/true", "-id", s.id, "-bundle", s.bundle, "delete"],
                       env=lab.env, cwd=s.bundle, capture_output=True, timeout=10, check=False)
    equal((r.returncode, r.stderr), (0, b""), "delete")
    equal(ttrpc.decode(r.stdout)[1][0], s.pid, "the pid that delete tells")
    eventually(lambda: not os.path.exists(f"/proc/{s.pid}"), 3, "the sandbox's process is gone")
    equal([m for m in inventory.mounts() if s.id in m], [], "mounts")
    s.network.close()


def test_a_sandbox_that_cannot_be_made_leaves_nothing(lab):
    s = Sandbox(lab, create=False)
    try:
        s.network.path = "/no/such/namespace"
        code, text = s.create()
        check(code != 0 and "/no/such/namespace" in text, f"create: {code} {text}")
        equal([m for m in inventory.mounts() if s.id in m], [], "mounts")
        equal(s.code("SandboxStatus"), ttrpc.NOT_FOUND, "status")
    finally:
        s.close()


def test_a_shutdown_during_the_create(lab):
    # containerd's answer to a CreateSandbox that took too long.
    s = Sandbox(lab, create=False)
    s.give_spec(KINDS["native"], hooks={"createRuntime": [{"path": "/bin/sleep", "args": ["sleep", "1"]}]})
    try:
        creating = s.client.send("CreateSandbox", [(1, s.id), (2, s.bundle)], ttrpc.SANDBOX)
        ending = s.client.send("ShutdownSandbox", [(1, s.id)], ttrpc.SANDBOX)
        equal([s.client.receive()[0] for _ in range(2)], [creating, ending], "answers in this order")
    finally:
        s.close()


def test_a_stop_waits_as_long_as_it_is_told(lab):
    """A program of the client's own is asked first; without a time, or when it does not listen, it is killed."""
    for script, seconds, status, least, most in (("trap 'sleep 0.3; exit 7' TERM; while :; do sleep 0.05; done", 10, 7, 0.2, 5),
                                                 ("trap '' TERM; while :; do sleep 0.05; done", 1, 137, 0.9, 5),
                                                 ("trap 'exit 7' TERM; while :; do sleep 0.05; done", 0, 137, 0, 2)):
        s = Sandbox(lab, create=False)
        s.give_spec(["/bin/sh", "-c", script])
        try:
            equal(s.create()[0], 0, "create")
            s.call("StartSandbox")
            time.sleep(0.3)
            begun = time.monotonic()
            s.call("StopSandbox", (2, seconds))
            took = time.monotonic() - begun
            equal(s.call("WaitSandbox")[1], [status], f"{script}, {seconds} s: status")
            check(least <= took < most, f"{script}, {seconds} s: Stop took {took:.2f} s")
        finally:
            s.close()


def test_a_stop_that_came_in_time_keeps_nothing(lab):
    """The timer of its patience held the sandbox, and the descriptor of its process, until it fired."""
    s = Sandbox(lab, create=False)
    s.give_spec(["/bin/sh", "-c", "trap 'exit 7' TERM; while :; do sleep 0.05; done"])
    other = ttrpc.Client(s.path)  # keeps the shim for a while
    try:
        equal(s.create()[0], 0, "create")
        # It speaks: for one that only connects, as a helper does, the shim waits some seconds more.
        equal(other.code_of("SandboxStatus", (1, s.id), service=ttrpc.SANDBOX)[0], 0, "status")
        s.call("StartSandbox")
        equal(sum("pidfd" in name for name in inventory.descriptors(s.shim).values()), 1, "processes that are held")
        time.sleep(0.3)
        s.call("StopSandbox", (2, 3600))
        s.call("ShutdownSandbox")
        eventually(lambda: not any("pidfd" in name for name in inventory.descriptors(s.shim).values()), 3,
                   f"its process is let go: {inventory.descriptors(s.shim)}")
    finally:
        other.close()
        s.close()


def test_a_spec_of_the_clients_own(lab):
    # containerd's Go client may make a sandbox with a spec; the shim runs what it says.
    s = Sandbox(lab, create=False)
    s.give_spec(KINDS["native"])
    try:
        equal(s.create()[0], 0, "create")
        s.pid = s.call("StartSandbox")[1][0]
        with open(f"/proc/{s.pid}/cmdline", encoding="utf-8") as f:
            equal(f.read().split("\0")[:-1], KINDS["native"], "what runs")
    finally:
        s.close()
