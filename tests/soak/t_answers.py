# SPDX-License-Identifier: Apache-2.0
"""One container keeps nobody waiting: State and Kill of another of the same pod are answered while it compiles,
runs a slow hook, or has a root file system that hangs; and a reader that has stopped keeps only its own writer."""

import contextlib
import hashlib
import os
import string
import threading
import time

from tests.support import load, ttrpc
from tests.support import lab as L
from tests.support.runner import check, equal


def while_creating(pod, id, path, at_least, what, end=None):
    """Questions to the pod's first container while the Create of another is under way, which must take `at_least`
    seconds by itself, or until `end` is called after them."""
    other = ttrpc.Client(pod.socket)
    other.socket.settimeout(120)
    begun, answer = time.monotonic(), []
    with load.Questions(pod, pod.id) as questions:
        other.send("Create", [(1, id), (2, path)])

        def wait():
            text = ""
            try:
                other.receive()
            except ttrpc.RpcError as error:
                text = str(error)
            answer.append(f"after {time.monotonic() - begun:.1f} s: {text or 'done'}")
        waiter = threading.Thread(target=wait)
        waiter.start()
        time.sleep(at_least)
        check(not answer, f"{what}: Create was to take {at_least} s, and was answered {answer}")
        equal(pod.client.code_of("State", (1, id))[0], ttrpc.NOT_FOUND, f"{what}: State of what is being created")
        if end:
            end()
        waiter.join()
    other.close()
    questions.check(what)


def begun_pod(lab):
    pod = load.Pod(lab)
    pod.client.call("Create", (1, pod.id), (2, pod.paths[pod.id]))
    pod.client.call("Start", (1, pod.id))
    return pod


def a_slow_hook(lab, seconds):
    pod = begun_pod(lab)
    try:
        def hook(spec):
            spec["hooks"] = {"createRuntime": [{"path": "/bin/sleep", "args": ["sleep", str(seconds + 0.5)]}]}
        path = pod.bundle(pod.id + "-slow", ["/bin/demo", "pause"], hook)
        while_creating(pod, pod.id + "-slow", path, seconds, "a slow hook")
    finally:
        pod.close()


def a_long_compile(lab, seconds, functions):
    """In the container's own cgroup, which may use a tenth of a processor."""
    pod = begun_pod(lab)
    module = pod.root + "/large.wasm"
    try:
        with open(module, "wb") as f:
            f.write(load.large_module(functions, 2500, seed=time.time_ns()))

        def slow(spec):
            spec["annotations"] = {"amphora.dev/compile-floor": "off"}
            spec["linux"]["resources"]["cpu"] = {"quota": 10000, "period": 100000}
        path = pod.bundle(pod.id + "-wasm", ["/large.wasm"], slow)
        while_creating(pod, pod.id + "-wasm", path, seconds, "a long compile")
        equal(pod.client.code_of("Start", (1, pod.id + "-wasm")), (0, ""))
        equal(pod.client.call("Wait", (1, pod.id + "-wasm")).get(1, [0])[0], 0, "the large module runs")
    finally:
        pod.close()
        os.unlink(module)


def a_hung_root(lab, seconds):
    """As of a create: a root that hangs. As of an exec: a mount that hangs, below which the program is said to be."""
    hung = load.HungMount(f"{L.LAB}/hung-{lab.new_id('fuse')}")
    pod = begun_pod(lab)
    second = None
    try:
        path = pod.bundle(pod.id + "-hung", ["/bin/demo", "pause"], lambda spec: spec["root"].update(path=hung.target))
        while_creating(pod, pod.id + "-hung", path, seconds, "a hung root file system", hung.close)
        second = load.HungMount(f"{L.LAB}/hung-{lab.new_id('fuse')}")

        def volume(spec):
            spec["mounts"].append({"destination": "/data", "type": "bind", "source": second.target, "options": ["rbind"]})
        pod.run(pod.id + "-c", ["/bin/demo", "pause"], change=volume)
        other = ttrpc.Client(pod.socket)
        with load.Questions(pod, pod.id + "-c") as questions:
            other.send("Exec", [(1, pod.id + "-c"), (2, "e"), (7, [(1, load.PROCESS), (2, '{"cwd":"/","args":["/data/x"],"user":{"uid":0,"gid":0}}')])])
            other.receive()
            other.send("Start", [(1, pod.id + "-c"), (2, "e")])
            time.sleep(seconds)
        questions.check("an exec whose program hangs")
        # The container itself can be ended all the same.
        equal(pod.client.code_of("Kill", (1, pod.id + "-c"), (3, 9)), (0, ""))
        second.close()
        equal(pod.client.call("Wait", (1, pod.id + "-c"))[1][0], 137, "status")
        other.close()
    finally:
        for mount in (hung, second):
            if mount:
                mount.close()
        pod.close()


class Flood:
    """A writer of `size` bytes of lines, and its reader, which stops for a while in the middle."""

    LINE = (string.ascii_letters + string.digits + "_\n").encode()

    def __init__(self, path, size):
        self.path, self.size = path, size
        self.words = ["sh", "-c", f"stty -opost 2>/dev/null; yes {self.LINE[:-1].decode()} | head -c {size}"]

    def want(self):
        digest = hashlib.sha256()
        block = self.LINE * 16384
        left = self.size
        while left:
            part = block[:min(left, len(block))]
            digest.update(part)
            left -= len(part)
        return self.size, digest.hexdigest()

    def read(self, stop_at, meanwhile):
        """All of it; `meanwhile` is called when `stop_at` bytes have been read, and nothing is read until it returns."""
        digest, size = hashlib.sha256(), 0
        with open(self.path, "rb", buffering=0) as f:
            while part := f.read(1 << 20):
                digest.update(part)
                size += len(part)
                if meanwhile and size >= stop_at:
                    meanwhile()
                    meanwhile = None
        return size, digest.hexdigest()


def a_flood_with_a_stopped_reader(lab, size):
    """Passed on (a container's), copied by splice (an exec's), copied from a terminal; each with its own size."""
    pod = begun_pod(lab)
    chatty = Flood(pod.fifo("chatty"), 0)
    try:
        pod.run(pod.id + "-chatty", ["sh", "-c", "while :; do echo still here; sleep 0.05; done"], out=chatty.path)
        heard = os.open(chatty.path, os.O_RDONLY | os.O_NONBLOCK)
        for what, part in (("passed", size), ("copied", size // 4), ("terminal", size // 16)):
            flood = Flood(pod.fifo(what), part)
            id = f"{pod.id}-{what}"
            if what == "copied":
                pod.run(id, ["/bin/demo", "pause"])
                pod.exec(id, "e", flood.words, out=flood.path)
            else:
                pod.run(id, flood.words, out=flood.path, terminal=what == "terminal")
            before = load.sizes(pod.shim)["kB"]

            def stopped():
                with contextlib.suppress(BlockingIOError):
                    while os.read(heard, 1 << 16):
                        pass
                with load.Questions(pod, pod.id + "-chatty") as questions:
                    time.sleep(2)
                questions.check(f"{what}: while a reader has stopped")
                check(os.read(heard, 1 << 16).count(b"still here") > 10, f"{what}: another container's output has stopped too")
                grown = load.sizes(pod.shim)["kB"] - before
                check(grown < 1024, f"{what}: the shim has grown by {grown} kB")
            equal(flood.read(part // 2, stopped), flood.want(), f"{what}: bytes")
            exec_id = [(2, "e")] if what == "copied" else []
            equal(pod.client.call("Wait", (1, id), *exec_id).get(1, [0])[0], 0, f"{what}: exit status")
            grown = load.sizes(pod.shim)["kB"] - before
            check(grown < 1024, f"{what}: the shim has grown by {grown} kB after it")
            if exec_id:
                equal(pod.client.code_of("Delete", (1, id), *exec_id), (0, ""))
            pod.end(id)
        os.close(heard)
    finally:
        pod.close()


def test_a_slow_hook(lab):
    a_slow_hook(lab, 10)


def test_a_compile_of_ten_seconds(lab):
    a_long_compile(lab, 10, 800)


def test_a_root_file_system_that_hangs(lab):
    a_hung_root(lab, 10)


def test_a_log_of_1_gib_with_a_stopped_reader(lab):
    a_flood_with_a_stopped_reader(lab, 1 << 30)
