# SPDX-License-Identifier: Apache-2.0
"""Codes and events (docs/testing.md, list 8): the shim is asked directly over ttrpc, and containerd's
events are read as a client sees them."""

import contextlib
import functools
import json
import os
import re
import subprocess
import threading
import time

from tests.support import bundle, ttrpc
from tests.support import lab as L
from tests.support.runner import Failed, check, contains, equal, eventually

KINDS = {"native": ["/bin/demo", "sleep", "1000"], "wasm": ["/app.wasm", "sleep", "1000"]}


class Direct:
    """A shim of our own, without containerd's task service in between."""

    def __init__(self, lab, args):
        self.lab, self.id = lab, lab.new_id("direct")
        self.bundle = self.make(self.id, args)
        self.path = ttrpc.start_shim("containerd-shim-amphora-v1", self.bundle, self.id, lab.namespace,
                                     L.SOCKET, lab.env)
        self.client = ttrpc.Client(self.path)

    def make(self, id, args, change=None):
        return bundle.make_bundle(f"{L.LAB}/bundles/{id}", L.GUESTS, args,
                                  cgroup=f"/{self.lab.namespace}/{id}", change=change)

    def create(self, id=None, path=None):
        return self.client.code_of("Create", (1, id or self.id), (2, path or self.bundle))

    def close(self):
        self.client.code_of("Kill", (1, self.id), (3, 9), (4, True))
        eventually(lambda: self.client.code_of("Delete", (1, self.id))[0] in (0, 5), 5, "delete works")
        try:
            self.client.call("Shutdown", (1, self.id), (2, True))
        except ConnectionError:
            pass
        self.client.close()


def sig(direct, id=None):
    return direct.client.code_of("Kill", (1, id or direct.id), (3, 9))[0]


def state(direct, id=None):
    return direct.client.call("State", (1, id or direct.id)).get(4, [0])[0]


def all_codes(lab, args):
    d = Direct(lab, args)
    try:
        equal(d.client.code_of("State", (1, "nobody"))[0], ttrpc.NOT_FOUND, "State of an unknown id")
        for method in ("Start", "Delete", "Kill", "Pids", "Pause", "Resume", "Wait", "Stats", "CloseIO", "ResizePty"):
            equal(d.client.code_of(method, (1, "nobody"))[0], ttrpc.NOT_FOUND, f"{method} of an unknown id")
        equal(d.client.code_of("NoSuchMethod", (1, d.id))[0], ttrpc.UNIMPLEMENTED, "an unknown method")
        answer = d.client.call("Create", (1, d.id), (2, d.bundle))
        pid = answer[1][0]
        with open(f"/proc/{pid}/cgroup", encoding="utf-8") as f:
            contains(f.read(), f"/{lab.namespace}/{d.id}", "the pid that Create answers is init's, seen from here")
        equal(state(d), 1, "status after Create (created)")
        code, text = d.create()
        equal(code, ttrpc.EXISTS, f"a second Create ({text})")
        equal(d.client.call("Start", (1, d.id))[1][0], pid, "Start answers the same pid")
        equal(state(d), 2, "status after Start (running)")
        equal(d.client.code_of("Start", (1, d.id))[0], ttrpc.PRECONDITION, "a second Start")
        equal(d.client.code_of("Delete", (1, d.id))[0], ttrpc.PRECONDITION, "Delete of a running task")
        equal(d.client.code_of("State", (1, d.id), (2, "no-exec"))[0], ttrpc.NOT_FOUND, "an unknown exec id")
        equal(d.client.code_of("Kill", (1, d.id), (3, 999))[0], ttrpc.INVALID, "a signal that is none")
        equal(sig(d), ttrpc.OK, "Kill")
        waited = d.client.call("Wait", (1, d.id))
        equal(waited[1][0], 137, "Wait's exit status")
        equal(state(d), 3, "status after the end (stopped)")
        equal(sig(d), ttrpc.NOT_FOUND, "Kill after the end")
        deleted = d.client.call("Delete", (1, d.id))
        equal((deleted[1][0], deleted[2][0]), (pid, 137), "Delete's pid and status")
        equal(d.client.code_of("Delete", (1, d.id))[0], ttrpc.NOT_FOUND, "a second Delete")
    finally:
        d.close()


def test_codes_for_native(lab):
    all_codes(lab, KINDS["native"])


def test_codes_for_wasm(lab):
    all_codes(lab, KINDS["wasm"])


def test_delete_of_a_created_task_works(lab):
    for kind, args in KINDS.items():
        d = Direct(lab, args)
        equal(d.create()[0], 0, f"{kind}: create")
        equal(sig(d), 0, f"{kind}: kill of a created task")
        equal(d.client.call("Wait", (1, d.id))[1][0], 137, f"{kind}: status")
        equal(d.client.code_of("Delete", (1, d.id))[0], 0, f"{kind}: delete")
        # And without the kill: the shim ends what never ran.
        equal(d.create()[0], 0, f"{kind}: create again")
        code, text = d.client.code_of("Delete", (1, d.id))
        equal(code, 0, f"{kind}: delete of a created, never killed task: {text}")
        d.close()


def test_failed_create_leaves_the_id_free(lab):
    d = Direct(lab, ["/no/such/program"])
    code, text = d.create()
    check(code != 0, "create of a missing program succeeded")
    contains(text, "/no/such/program")
    bundle.make_bundle(d.bundle, L.GUESTS, KINDS["native"], cgroup=f"/{lab.namespace}/{d.id}")
    equal(d.create()[0], 0, "create with the same id afterwards")
    d.close()


def test_broken_spec_is_invalid_and_says_where(lab):
    d = Direct(lab, KINDS["native"])
    with open(d.bundle + "/config.json", "w", encoding="utf-8") as f:
        f.write('{"ociVersion": "1.0.2", "process": {"args": 7}}')
    code, text = d.create()
    equal(code, ttrpc.INVALID, text)
    contains(text, "args")
    d.close()


def test_exec_codes(lab):
    d = Direct(lab, KINDS["native"])
    try:
        d.create()
        d.client.call("Start", (1, d.id))
        process = json.dumps({"args": ["/bin/demo", "sleep", "100"], "cwd": "/", "user": {"uid": 0, "gid": 0}})
        spec = [(1, "types.containerd.io/opencontainers/runtime-spec/1/Process"), (2, process)]
        exec_fields = ((1, d.id), (2, "e1"), (7, spec))
        d.client.call("Exec", *exec_fields)
        equal(d.client.code_of("Exec", *exec_fields)[0], ttrpc.EXISTS, "a second Exec of one id")
        equal(d.client.code_of("Kill", (1, d.id), (2, "e1"), (3, 9))[0], ttrpc.PRECONDITION, "Kill of an exec not started")
        pid = d.client.call("Start", (1, d.id), (2, "e1"))[1][0]
        equal(d.client.code_of("Delete", (1, d.id), (2, "e1"))[0], ttrpc.PRECONDITION, "Delete of a running exec")
        os.kill(pid, 15)
        equal(d.client.call("Wait", (1, d.id), (2, "e1"))[1][0], 143, "the exec's status")
        equal(d.client.call("Delete", (1, d.id), (2, "e1"))[2][0], 143, "Delete's status")
        missing = json.dumps({"args": ["/nope"], "cwd": "/", "user": {"uid": 0, "gid": 0}})
        d.client.call("Exec", (1, d.id), (2, "e2"), (7, [(1, spec[0][1]), (2, missing)]))
        code, text = d.client.code_of("Start", (1, d.id), (2, "e2"))
        check(code != 0 and "/nope" in text, f"exec of a missing program: {code} {text}")
        equal(d.client.code_of("Delete", (1, d.id), (2, "e2"))[0], 0, "Delete of an exec that never started")
    finally:
        d.close()


def test_output_of_an_exec_waits_for_a_client_that_opens_its_end_late(lab):
    """ctr opens FIFOs on threads of their own: on a busy machine `echo in | ctr task exec ... cat` lost
    what cat wrote, or waited for it, when cat had ended before such a thread had come to run."""
    d = Direct(lab, KINDS["native"])
    try:
        equal(d.create()[0], 0, "create")
        d.client.call("Start", (1, d.id))
        names = [f"{d.bundle}/{name}" for name in ("in", "out", "err")]
        for name in names:
            os.mkfifo(name)
        spec = json.dumps({"cwd": "/", "args": ["/bin/demo", "cat"], "user": {"uid": 0, "gid": 0}, "env": ["A=b"]})
        d.client.call("Exec", (1, d.id), (2, "late"), (4, names[0]), (5, names[1]), (6, names[2]),
                      (7, [(1, "types.containerd.io/opencontainers/runtime-spec/1/Process"), (2, spec)]))
        d.client.call("Start", (1, d.id), (2, "late"))
        with open(names[0], "wb", buffering=0) as stdin:
            stdin.write(b"in\n")
        d.client.call("CloseIO", (1, d.id), (2, "late"), (3, True))
        equal(d.client.call("Wait", (1, d.id), (2, "late")).get(1, [0])[0], 0, "exit status")
        seen = []
        reader = threading.Thread(target=lambda: seen.append(open(names[1], "rb").read()), daemon=True)
        reader.start()
        equal(d.client.code_of("Delete", (1, d.id), (2, "late"))[0], 0, "Delete of the exec")
        reader.join(10)
        equal(seen, [b"in\n"], "all of the output, and its end")
    finally:
        d.close()


def test_state_answers_while_a_create_is_under_way(lab):
    # A createRuntime hook keeps one container's create busy; another's State and Kill must not wait.
    d = Direct(lab, KINDS["native"])
    try:
        slow = d.id + "slow"
        def with_hook(spec):
            spec["hooks"] = {"createRuntime": [{"path": "/bin/sleep", "args": ["sleep", "1.5"]}]}
        path = d.make(slow, KINDS["native"], with_hook)
        equal(d.create()[0], 0)
        other = ttrpc.Client(d.path)
        begun = time.monotonic()
        other.send("Create", [(1, slow), (2, path)])
        time.sleep(0.2)
        d.client.call("Start", (1, d.id))
        equal(state(d), 2)
        check(time.monotonic() - begun < 1.2, f"State of another container waited {time.monotonic() - begun:.1f} s")
        other.receive()
        check(time.monotonic() - begun >= 1.4, "the hook did not run")
        d.client.call("Kill", (1, slow), (3, 9))
        d.client.call("Wait", (1, slow))
        equal(d.client.code_of("Delete", (1, slow))[0], 0)
        other.close()
    finally:
        d.close()


def events_of(lab, action, last="/tasks/delete"):
    """Runs action() while `ctr events` listens, until the topic `last` was told of; [(topic, event)] afterwards."""
    process = subprocess.Popen(["ctr", "events"], env=lab.env, stdout=subprocess.PIPE, text=True)
    lines = []
    reader = threading.Thread(target=lambda: lines.extend(process.stdout), daemon=True)
    reader.start()
    time.sleep(0.25)
    action()
    # containerd 2 tells of the delete after ctr has gone; what comes twice or late would be a moment behind.
    with contextlib.suppress(Failed):
        eventually(lambda: any(f" {last} " in line for line in list(lines)), 20, last)
    time.sleep(0.5)
    process.terminate()
    process.wait()
    reader.join(2)
    found = []
    for line in lines:
        m = re.search(r" (/\S+) (\{.*\})\s*$", line)
        if m:
            found.append((m[1], json.loads(m[2])))
    return found


def test_event_order(lab):
    for runtime in L.RUNTIMES:
        for image, cmd in ((L.NATIVE, ["demo", "exit", "3"]),) + (
                ((L.WASM, ["/app.wasm", "exit", "3"]),) if runtime == L.AMPHORA else ()):
            want = ["/tasks/create", "/tasks/start", "/tasks/exit", "/tasks/delete"]
            # runc's shim may end before its forwarder has sent the delete: three tries for it, one for ours.
            for _ in range(1 if runtime == L.AMPHORA else 3):
                id = lab.new_id()
                events = events_of(lab, functools.partial(lab.run, runtime, image, *cmd, id=id))
                mine = [(t, e) for t, e in events if t.startswith("/tasks/") and e.get("container_id") == id]
                if [t for t, _ in mine] == want:
                    break
            if runtime != L.AMPHORA and lab.containerd_version() >= (2, 4) and len(mine) == 3:
                want = want[:3]  # there it is gone every time
            equal([t for t, _ in mine], want, f"{runtime} {image}")
            pids = {e.get("pid") for _, e in mine}
            equal(len(pids), 1, f"{runtime} {image}: one pid in all events")
            equal(mine[2][1].get("exit_status"), 3, "status in exit")
            if len(want) == 4:
                equal(mine[3][1].get("exit_status"), 3, "status in delete")


def test_exec_events(lab):
    orders = {}
    for runtime in L.RUNTIMES:
        id = lab.detached(runtime, L.NATIVE, "demo", "pause")
        events = events_of(lab, lambda: lab.ctr("task", "exec", "--exec-id", "e1", id, "sh", "-c", "exit 5"), "/tasks/exit")
        orders[runtime] = [(t, e.get("exit_status")) for t, e in events if t.startswith("/tasks/")]
        lab.end(id)
    equal(orders[L.RUNTIMES[-1]], [("/tasks/exec-added", None), ("/tasks/exec-started", None), ("/tasks/exit", 5)])
    equal(orders[L.RUNTIMES[0]], orders[L.RUNTIMES[-1]])


def test_pause_events(lab):
    for runtime in L.RUNTIMES:
        id = lab.detached(runtime, L.NATIVE, "demo", "pause")
        events = events_of(lab, lambda: (lab.ctr("task", "pause", id).ok(), lab.ctr("task", "resume", id).ok()), "/tasks/resumed")
        equal([t for t, _ in events if t.startswith("/tasks/")], ["/tasks/paused", "/tasks/resumed"], runtime)
        lab.end(id)


def test_kill_reaches_init_only_unless_all_is_asked(lab):
    for runtime in L.RUNTIMES:
        # init of a shared pid namespace would let its child live on; here the child tells.
        script = "trap 'echo init got it' USR1; (trap 'echo child got it' USR1; echo up; while :; do sleep 0.05; done) & while :; do sleep 0.05; done"
        for all_, expected in (((), "init got it\n"), (("--all",), "child got it\n")):
            if all_ and runtime != L.AMPHORA and lab.containerd_version() >= (1, 7):
                continue  # runc's shim leaves `all` out of account there
            task = lab.attached(runtime, L.NATIVE, "sh", "-c", script)
            time.sleep(0.2)
            lab.ctr("task", "kill", *all_, "-s", "SIGUSR1", task.id).ok()
            time.sleep(0.3)
            lab.ctr("task", "kill", "-s", "SIGKILL", task.id).ok()
            out = task.wait().out
            contains(out, expected, f"{runtime} {all_}")
            if not all_:
                check("child got it" not in out, f"{runtime}: a kill without all reached the child")


def test_kill_after_exit_is_not_found(lab):
    for runtime in L.RUNTIMES:
        for image, cmd in ((L.NATIVE, ["demo", "true"]),) + (
                ((L.WASM, ["/app.wasm", "true"]),) if runtime == L.AMPHORA else ()):
            id = lab.detached(runtime, image, *cmd)
            eventually(lambda: lab.task_status(id) == "STOPPED", 5, "it ends")
            r = lab.ctr("task", "kill", "-s", "SIGTERM", id)
            check(r.code != 0 and "not found" in r.err, f"{runtime} {image}: {r!r}")
            lab.end(id)
