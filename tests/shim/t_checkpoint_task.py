# SPDX-License-Identifier: Apache-2.0
"""Checkpoint by the task service, and Create from one: asked of the shim directly, and as a user does it by
`ctr containers checkpoint` and `restore`. The command's own is in t_checkpoint.py."""

import contextlib
import glob
import os
import re
import shutil
import time

from tests.shim.t_checkpoint import needs_criu
from tests.shim.t_lifecycle import KINDS, Direct, events_of
from tests.support import inventory, ttrpc
from tests.support import lab as L
from tests.support.runner import check, contains, equal, eventually

# Without a fork: criu waits in vain for who was paused while waiting for a vfork, and clients pause first.
COUNT = "i=0; while :; do i=$((i+1)); [ $((i % 2000)) = 0 ] && echo $i >> /data/count && echo line $i; done"
OPTIONS = "containerd.runc.v1.CheckpointOptions"


class Counting(Direct):
    """A container that counts into a bind mount and to its standard output, a FIFO."""

    def __init__(self, lab, script=COUNT, terminal=False):
        needs_criu()
        self.script, self.terminal = script, terminal
        self.data, self.images = (f"{L.LAB}/{lab.new_id(w)}" for w in ("data", "images"))
        os.makedirs(self.data)
        super().__init__(lab, ["sh", "-c", script])
        self.path_of = {self.id: self.bundle}

    def make(self, id, args, change=None):
        def edit(spec):
            spec["mounts"].append({"destination": "/data", "type": "bind", "source": self.data, "options": ["bind", "rw"]})
            spec["process"]["terminal"] = self.terminal
            if change:
                change(spec)
        return super().make(id, args, edit)

    def fifo(self, id):
        """Standard output of a container, with a reader that never blocks."""
        path = f"{L.LAB}/{id}-out"
        os.mkfifo(path)
        return path, os.open(path, os.O_RDONLY | os.O_NONBLOCK)

    def begin(self):
        self.out, self.reader = self.fifo(self.id)
        equal(self.client.code_of("Create", (1, self.id), (2, self.bundle), (4, self.terminal), (6, self.out)), (0, ""))
        self.client.call("Start", (1, self.id))
        self.counted(3)

    def count(self):
        with contextlib.suppress(FileNotFoundError):
            with open(self.data + "/count", encoding="ascii") as f:
                lines = f.read().split("\n")[:-1]
            return int(lines[-1]) if lines else 0
        return 0

    def counted(self, more):
        first = self.count()
        eventually(lambda: self.count() >= first + more, 10, f"it counts on from {first}")

    def checkpoint(self, *options, path=None):
        fields = [(1, self.id), (2, path or self.images)]
        if options:
            fields.append((3, [(1, OPTIONS), (2, ttrpc.encode(list(options)))]))
        code, text = self.client.code_of("Checkpoint", *fields)
        return code, text + (self.log() if code else "")

    def log(self):
        with contextlib.suppress(OSError):
            with open(f"{self.bundle}/criu-work/dump.log", encoding="utf-8", errors="replace") as f:
                return "\n" + "".join(line for line in f if "Error" in line)[-1500:]
        return ""

    def restored(self, id, images=None):
        """Create and Start of another container from the images; its output's reader."""
        path = self.make(id, ["sh", "-c", self.script])
        out, reader = self.fifo(id)
        answer = self.client.call("Create", (1, id), (2, path), (4, self.terminal), (6, out), (8, images or self.images))
        equal(answer.get(1, [0])[0], 0, "no process before the start")
        equal(self.client.call("State", (1, id))[4][0], 1, "status (created)")
        code, text = self.client.code_of("Start", (1, id))
        if code:
            with open(f"{path}/criu-work/restore.log", encoding="utf-8", errors="replace") as f:
                text += "\n" + f.read()[-1500:]
        equal((code, text), (0, ""), "start of a checkpoint")
        return reader

    def end_of(self, id, status=137):
        self.client.code_of("Kill", (1, id), (3, 9))
        equal(self.client.call("Wait", (1, id))[1][0], status, f"{id}: status")
        equal(self.client.code_of("Delete", (1, id)), (0, ""))


def reads(fd, part, seconds=5):
    """Waits for `part` in what comes from a non-blocking descriptor."""
    seen = b""

    def more():
        nonlocal seen
        with contextlib.suppress(BlockingIOError):
            seen += os.read(fd, 1 << 16)
        return part in seen
    eventually(more, seconds, f"{part!r} in {seen[-200:]!r}")


def test_a_task_goes_on_from_its_checkpoint(lab):
    c = Counting(lab)
    try:
        c.begin()
        equal(c.checkpoint(), (0, ""), "checkpoint")
        equal(c.client.call("State", (1, c.id))[4][0], 2, "it runs on (running)")
        c.counted(3)
        check(not any("log" in name for name in os.listdir(c.images)), "criu's logs are among the images")
        # As a client does it: paused before, and it is to end.
        c.client.call("Pause", (1, c.id))
        equal(c.checkpoint((1, True), path=c.images + "-2"), (0, ""), "checkpoint of a paused task, with exit")
        equal(c.client.call("Wait", (1, c.id))[1][0], 137, "it has ended")
        before = c.count()
        equal(c.client.code_of("Delete", (1, c.id)), (0, ""))
        for images in (c.images, c.images + "-2"):
            id = lab.new_id("restored")
            reader = c.restored(id, images)
            reads(reader, b"line ")
            c.counted(3)
            pid = c.client.call("State", (1, id))[3][0]
            with open(f"/proc/{pid}/cgroup", encoding="utf-8") as f:
                contains(f.read(), f"/{lab.namespace}/{id}", "its own cgroup")
            check(len(c.client.call("Pids", (1, id))[1]) >= 1, "Pids")
            c.client.call("Pause", (1, id))
            c.client.call("Resume", (1, id))
            c.end_of(id)
            os.close(reader)
        check(c.count() > before, f"it began anew: {c.count()} after {before}")
    finally:
        c.close()


def test_a_terminal_goes_on(lab):
    c = Counting(lab, "stty -echo; n=0; while :; do n=$((n+1)); [ $((n % 2000)) = 0 ] && echo line $n && echo $n >> /data/count; done", terminal=True)
    try:
        c.begin()
        reads(c.reader, b"line 2000")
        equal(c.checkpoint((1, True)), (0, ""), "checkpoint")
        equal(c.client.call("Wait", (1, c.id))[1][0], 137, "it has ended")
        equal(c.client.code_of("Delete", (1, c.id)), (0, ""))
        id = lab.new_id("restored")
        reader = c.restored(id)
        c.counted(3)
        reads(reader, b"line ")
        equal(c.client.code_of("ResizePty", (1, id), (3, 100), (4, 30)), (0, ""))
        c.end_of(id)
    finally:
        c.close()


def test_events_of_a_checkpoint(lab):
    c = Counting(lab)
    try:
        c.begin()
        id = lab.new_id("restored")

        def all_of_it():
            equal(c.checkpoint((1, True)), (0, ""))
            c.client.call("Wait", (1, c.id))
            c.restored(id)
            c.end_of(id)
        told = [(topic, event) for topic, event in events_of(lab, all_of_it) if topic.startswith("/tasks/")]
        equal([topic for topic, _ in told],
              ["/tasks/" + word for word in ("checkpointed", "exit", "create", "start", "exit", "delete")]
              if told[0][0] == "/tasks/checkpointed" else
              ["/tasks/" + word for word in ("exit", "checkpointed", "create", "start", "exit", "delete")], "topics")
        by_topic = dict(told)
        equal(by_topic["/tasks/checkpointed"], {"container_id": c.id, "checkpoint": c.images})
        equal(by_topic["/tasks/create"]["checkpoint"], c.images)
    finally:
        c.close()


def test_what_cannot_be_done_is_said(lab):
    d = Direct(lab, KINDS["native"])
    try:
        images = f"{L.LAB}/{lab.new_id('images')}"
        equal(d.client.code_of("Checkpoint", (1, "nobody"), (2, images))[0], ttrpc.NOT_FOUND, "an unknown id")
        d.create()
        equal(d.client.code_of("Checkpoint", (1, d.id), (2, images))[0], ttrpc.PRECONDITION, "a created one")
        d.client.call("Start", (1, d.id))
        equal(d.client.code_of("Checkpoint", (1, d.id))[0], ttrpc.INVALID, "no path")
        bad = [(1, OPTIONS), (2, ttrpc.encode([(7, "some")]))]
        code, text = d.client.code_of("Checkpoint", (1, d.id), (2, images), (3, bad))
        equal(code, ttrpc.INVALID, text)
        contains(text, "some: invalid manage-cgroups-mode")
        wasm = d.id + "-wasm"
        path = d.make(wasm, KINDS["wasm"])
        d.client.call("Create", (1, wasm), (2, path))
        d.client.call("Start", (1, wasm))
        code, text = d.client.code_of("Checkpoint", (1, wasm), (2, images))
        equal(code, ttrpc.UNIMPLEMENTED, text)
        contains(text, "a wasm guest cannot be checkpointed")
        d.client.call("Kill", (1, wasm), (3, 9))
        d.client.call("Wait", (1, wasm))
        equal(d.client.code_of("Delete", (1, wasm)), (0, ""))
        # From nothing: told by Start, and deleted like any other.
        other = d.id + "-other"
        path = d.make(other, KINDS["native"])
        equal(d.client.code_of("Create", (1, other), (2, path), (8, "/no/such/checkpoint")), (0, ""))
        equal(d.client.code_of("Kill", (1, other), (3, 9))[0], ttrpc.NOT_FOUND, "Kill of what has no process")
        code, text = d.client.code_of("Start", (1, other))
        check(code != 0 and "/no/such/checkpoint" in text, f"{code} {text}")
        waiting = ttrpc.Client(d.path)
        waiting.send("Wait", [(1, other)])
        time.sleep(0.1)
        equal(d.client.code_of("Delete", (1, other)), (0, ""))
        equal(waiting.receive()[1][1][0], 137, "who waited hears of it")
        waiting.close()
        equal([p for p in inventory.cgroups([lab.namespace]) if p.endswith("/" + other)], [], "cgroups")
    finally:
        d.close()


def criu_errors(text):
    """What criu's log says, by the path in an error message."""
    found = re.search(r"(?:details: |path= )(\S+?\.log)", text)
    if not found:
        return ""
    with open(found[1], encoding="utf-8", errors="replace") as f:
        return "".join(line for line in f if "Error" in line)


def test_by_ctr(lab):
    needs_criu()
    for runtime in (L.AMPHORA,):
        id, new, ref = lab.new_id("cp"), lab.new_id("cp"), f"amphora.test/checkpoint-{lab.new_id('ref')}:1"
        lab.detached(runtime, L.NATIVE, "sh", "-c", COUNT, id=id)

        def count(which):
            r = lab.ctr("task", "exec", "--exec-id", lab.new_id("e"), which, "tail", "-n", "1", "/data/count")
            return int(r.out or 0)
        eventually(lambda: count(id) > 3, 10, "it counts")
        before = count(id)
        r = lab.ctr("c", "checkpoint", "--rw", "--task", "--image", id, ref)
        check(r.code == 0, f"{runtime}: ctr checkpoint: {r!r}\n{r.code and criu_errors(r.err)}")
        eventually(lambda: lab.task_status(id) == "RUNNING", 5, f"{runtime}: it runs on")
        lab.end(id)
        r = lab.ctr("c", "restore", "--rw", "--live", new, ref)
        check(r.code == 0, f"{runtime}: ctr restore: {r!r}\n{r.code and criu_errors(r.err)}")
        equal(lab.task_status(new), "RUNNING", runtime)
        now = count(new)
        check(now >= before, f"{runtime}: it began anew: {now} after {before}")
        eventually(lambda: count(new) > now, 5, f"{runtime}: it counts on")
        lab.end(new)
        lab.ctr("images", "rm", ref).ok()
    for path in glob.glob("/tmp/ctrd-checkpoint*"):  # containerd leaves what it has unpacked for a restore
        shutil.rmtree(path)
