# SPDX-License-Identifier: Apache-2.0
"""Load on shims: what tests/soak does for minutes and tests/shim/t_load.py for seconds. Shims are asked directly,
over ttrpc; a Pod is one shim with as many containers as wanted, all on one root file system. Here: the means (pods,
cycles, sizes of a process, a file system that hangs, a large module); not here: what must hold."""

import contextlib
import ctypes
import json
import os
import struct
import subprocess
import threading
import time

from tests.support import bundle, ttrpc
from tests.support import lab as L
from tests.support.runner import Failed, Skip, equal, eventually

SHIM = "containerd-shim-amphora-v1"
NATIVE, WASM = "native", "wasm"
PROGRAM = {NATIVE: "/bin/demo", WASM: "/app.wasm"}
PROCESS = "types.containerd.io/opencontainers/runtime-spec/1/Process"


def shared_root():
    return bundle.make_bundle(f"{L.LAB}/bundles/shared", L.GUESTS, ["true"]) + "/rootfs"


class Pod:
    """One shim, made as containerd does it for `id`; its containers are made over any number of connections."""

    def __init__(self, lab, id=None, env=None):
        self.lab, self.id = lab, id or lab.new_id("load")
        self.env = dict(lab.env, **(env or {}))
        self.root = shared_root()
        self.paths = {}
        self.bundle(self.id, ["/bin/demo", "pause"])
        self.socket = ttrpc.start_shim(SHIM, self.paths[self.id], self.id, lab.namespace, L.SOCKET, self.env)
        self.client = ttrpc.Client(self.socket)
        self.shim = self.client.call("Connect", (1, self.id))[1][0]

    def bundle(self, id, args, change=None, terminal=False):
        path = f"{L.LAB}/bundles/{id}"
        os.makedirs(path, exist_ok=True)
        spec = bundle.default_spec(args, terminal)
        spec["root"]["path"] = self.root
        spec["linux"]["cgroupsPath"] = f"/{self.lab.namespace}/{id}"
        if change:
            change(spec)
        bundle.write_config(path, spec)
        self.paths[id] = path
        return path

    def run(self, id, args, out="", change=None, terminal=False, client=None):
        """Create and Start; init's pid."""
        path = self.bundle(id, args, change, terminal)
        client = client or self.client
        client.call("Create", (1, id), (2, path), (4, terminal), (6, out))
        return client.call("Start", (1, id))[1][0]

    def exec(self, id, exec_id, args, out="", client=None):
        spec = json.dumps({"args": args, "cwd": "/", "user": {"uid": 0, "gid": 0}})
        client = client or self.client
        client.call("Exec", (1, id), (2, exec_id), (5, out), (7, [(1, PROCESS), (2, spec)]))
        client.call("Start", (1, id), (2, exec_id))

    def end(self, id, client=None):
        client = client or self.client
        client.code_of("Kill", (1, id), (3, 9), (4, True))
        eventually(lambda: client.code_of("Delete", (1, id))[0] in (ttrpc.OK, ttrpc.NOT_FOUND), 10, f"delete of {id}")

    def fifo(self, name):
        path = f"{L.LAB}/bundles/{self.id}/{name}"
        os.mkfifo(path)
        return path

    def close(self):
        for id in self.paths:
            with contextlib.suppress(OSError):
                self.end(id)
        with contextlib.suppress(OSError):
            self.client.call("Shutdown", (1, self.id))
        self.client.close()
        eventually(lambda: not os.path.exists(f"/proc/{self.shim}"), 15, "the shim leaves")


def sizes(pid):
    """Descriptors, threads and private anonymous memory (kB) of a process."""
    with open(f"/proc/{pid}/status", encoding="utf-8") as f:
        lines = dict(line.split(":", 1) for line in f)
    return {"fds": len(os.listdir(f"/proc/{pid}/fd")), "threads": int(lines["Threads"]), "kB": int(lines["RssAnon"].split()[0])}


def settled(pid):
    """The same when nothing changes any more: workers go and memory is trimmed a moment after the last call."""
    last = sizes(pid)
    for _ in range(20):
        time.sleep(0.25)
        now = sizes(pid)
        if now == last and now["threads"] == 1:
            return now
        last = now
    return last


def one_life(client, id, path, code, rootfs=()):
    """Create, Wait (before Start, as clients do), Start, exit, Delete."""
    client.call("Create", (1, id), (2, path), *((3, mount) for mount in rootfs))
    wait = client.send("Wait", [(1, id)])
    start = client.send("Start", [(1, id)])
    answers = dict(client.receive() for _ in range(2))
    if start not in answers or answers[wait].get(1, [0])[0] != code:
        raise Failed(f"{id}: Wait answered {answers[wait]}, want status {code}")
    equal(client.call("Delete", (1, id)).get(2, [0])[0], code, f"{id}: Delete's status")


class Cycles:
    """`total` lives, `parallel` at a time: in one pod, or each in a shim of its own that is started, shut down and
    cleaned up after by `delete`, as containerd does it. Every fourth is a wasm guest."""

    def __init__(self, lab, total, parallel, one_pod):
        self.lab, self.total, self.parallel = lab, total, parallel
        self.pod = Pod(lab) if one_pod else None
        self.root = shared_root()
        self.next, self.lock, self.errors = 0, threading.Lock(), []
        self.upper = f"{L.LAB}/upper"

    def _take(self):
        with self.lock:
            if self.errors or self.next >= self.total:
                return None
            self.next += 1
            return self.next

    def _in_the_pod(self, worker):
        client = ttrpc.Client(self.pod.socket)
        while (number := self._take()) is not None:
            id, code = f"{self.pod.id}-{worker}-{number}", number % 100
            path = self.pod.bundle(id, [PROGRAM[WASM if number % 4 == 0 else NATIVE], "exit", str(code)])
            one_life(client, id, path, code)
            os.unlink(path + "/config.json")
            os.rmdir(path)
            del self.pod.paths[id]
        client.close()

    def _overlay(self, id, path):
        """A root of its own, as containerd's overlay snapshotter asks for it."""
        for name in ("upper", "work"):
            os.makedirs(f"{self.upper}/{id}/{name}")
        os.makedirs(path + "/rootfs", exist_ok=True)
        options = (f"lowerdir={self.root}", f"upperdir={self.upper}/{id}/upper", f"workdir={self.upper}/{id}/work")
        return [[(1, "overlay"), (2, "overlay"), *((4, option) for option in options)]]

    def _in_pods(self, worker):
        while (number := self._take()) is not None:
            id, code = f"{self.lab.new_id('many')}-{worker}", number % 100
            pod = Pod(self.lab, id)
            pod.bundle(id, [PROGRAM[WASM if number % 4 == 0 else NATIVE], "exit", str(code)],
                       lambda spec: spec["root"].update(path="rootfs", readonly=False))
            one_life(pod.client, id, pod.paths[id], code, self._overlay(id, pod.paths[id]))
            pod.close()
            r = subprocess.run([SHIM, "-namespace", self.lab.namespace, "-address", L.SOCKET, "-publish-binary", "/bin/true", "-id", id,
                                "-bundle", pod.paths[id], "delete"], env=self.lab.env, capture_output=True, check=False)
            equal((r.returncode, r.stderr), (0, b""), "delete")

    def _work(self, worker):
        try:
            (self._in_the_pod if self.pod else self._in_pods)(worker)
        except Exception as error:  # told by run()
            with self.lock:
                self.errors.append(f"{type(error).__name__}: {error}")

    def run(self):
        threads = [threading.Thread(target=self._work, args=(i,)) for i in range(self.parallel)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if self.errors:
            raise Failed(f"after {self.next} of {self.total}: {self.errors[0]}")

    def close(self):
        if self.pod:
            self.pod.close()
        subprocess.run(["rm", "-rf", self.upper], check=True)


class Questions:
    """State and Kill (of signal 0) of one container, asked again and again while the block runs."""

    def __init__(self, pod, id):
        self.pod, self.id, self.seconds, self.error = pod, id, [], None
        self.client = ttrpc.Client(pod.socket)
        self.stop = threading.Event()

    def _ask(self):
        try:
            while not self.stop.wait(0.02):
                for method, more in (("State", ()), ("Kill", ((3, 0),))):
                    begun = time.monotonic()
                    self.client.call(method, (1, self.id), *more)
                    self.seconds.append(time.monotonic() - begun)
        except Exception as error:
            self.error = error

    def __enter__(self):
        self.thread = threading.Thread(target=self._ask)
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        self.thread.join()
        self.client.close()

    def check(self, what):
        """Nine of ten within 100 ms, none above 2 s: this process, too, waits for its turn on a busy machine."""
        if self.error:
            raise Failed(f"{what}: {self.error}")
        took = sorted(self.seconds)
        if len(took) < 20 or took[len(took) * 9 // 10] > 0.1 or took[-1] > 2:
            raise Failed(f"{what}: {len(took)} answers, nine of ten within {took[len(took) * 9 // 10]:.3f} s, the last in {took[-1]:.3f} s")


class HungMount:
    """A FUSE file system of ours that takes the mount and answers nothing: who looks into it waits until close()."""

    def __init__(self, target):
        if not os.path.exists("/dev/fuse"):
            raise Skip("/dev/fuse is not here")
        os.makedirs(target, exist_ok=True)
        self.target = target
        self.fd = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
        libc = ctypes.CDLL(None, use_errno=True)
        options = f"fd={self.fd},rootmode=40000,user_id=0,group_id=0,allow_other".encode()
        if libc.mount(b"hung", target.encode(), b"fuse", 0, options) != 0:
            error = ctypes.get_errno()
            os.close(self.fd)
            raise Skip(f"FUSE cannot be mounted here: {os.strerror(error)}")
        request = os.read(self.fd, 1 << 17)
        unique, = struct.unpack_from("=Q", request, 8)
        # fuse_init_out of protocol 7.31
        body = struct.pack("=IIIIHHIIHHI7I", 7, 31, 65536, 0, 12, 9, 65536, 1, 0, 0, 0, *[0] * 7)
        os.write(self.fd, struct.pack("=IiQ", 16 + len(body), 0, unique) + body)

    def close(self):
        """Every waiter gets an error. Once more does nothing."""
        if self.fd < 0:
            return
        os.close(self.fd)
        self.fd = -1
        subprocess.run(["umount", "-l", self.target], check=False, stderr=subprocess.DEVNULL)


def leb(n):
    out = bytearray()
    while True:
        byte, n = n & 0x7F, n >> 7
        out.append(byte | (0x80 if n else 0))
        if not n:
            return bytes(out)


def large_module(functions, statements, seed=1):
    """A module whose compilation takes a while: functions of long chains of arithmetic; its _start does nothing."""
    def section(id, body):
        return bytes([id]) + leb(len(body)) + body

    def vector(items):
        return leb(len(items)) + b"".join(items)
    body = bytearray(b"\x01\x08\x7e")  # eight i64 locals, from memory and back to it: nothing is known or unused
    for local in range(8):
        body += bytes([0x41, 8 * local, 0x29, 3, 0, 0x21, local])
    state = seed
    for _ in range(statements):
        state = (state * 6364136223846793005 + 1442695040888963407) & (1 << 64) - 1
        a, b, c = state >> 33 & 7, state >> 40 & 7, state >> 47 & 7
        op = (0x7C, 0x7D, 0x7E, 0x85)[state >> 50 & 3]
        # local c = (a op b) rotl (b or 1)
        body += bytes([0x20, a, 0x20, b, op, 0x20, b, 0x42, 1, 0x84, 0x89, 0x21, c])
    for local in range(8):
        body += bytes([0x41, 8 * local, 0x20, local, 0x37, 3, 0])
    body.append(0x0B)
    start = b"\x00\x0b"
    code = [leb(len(start)) + start] + [leb(len(body)) + bytes(body)] * functions
    return (b"\0asm\x01\0\0\0" + section(1, vector([b"\x60\0\0"])) + section(3, vector([b"\0"] * (functions + 1)))
            + section(5, vector([b"\0\1"])) + section(7, vector([b"\x06_start\0\0", b"\x06memory\2\0"])) + section(10, vector(code)))
