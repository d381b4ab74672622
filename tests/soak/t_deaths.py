# SPDX-License-Identifier: Apache-2.0
"""Deaths at any moment: the shim's, after which containerd's view converges and nothing stays; containerd's, which
loses no task and no event."""

import os
import random
import re
import signal
import threading
import time

from tests.shim.t_crash import forget_fifos
from tests.support import events, inventory, load
from tests.support import lab as L
from tests.support.runner import check, equal, eventually

LIVES = {load.NATIVE: (L.NATIVE, ["demo", "pause"], ["demo", "true"]), load.WASM: (L.WASM, ["/app.wasm", "sleep", "1000"], ["/app.wasm", "true"])}


def servers():
    return [pid for pid, line in inventory.processes().items()
            if line.split() and line.split()[0].endswith("containerd-shim-amphora-v1") and line.endswith("serve")]


def a_life(lab, kind, id, said):
    """What a client does with a container, as far as it gets; what its `run` says goes to `said`."""
    image, words, more = LIVES[kind]
    for args in (("run", "-d", "--runtime", L.AMPHORA, image, id, *words), ("task", "exec", "--exec-id", "e", id, *more),
                 ("task", "pause", id), ("task", "resume", id), ("task", "kill", "-s", "SIGKILL", id), ("task", "delete", id)):
        r = lab.ctr(*args)
        if args[0] == "run":
            said[:] = [r.err]


def traces_of(lab, id):
    """Of a container that should be gone."""
    found = [f"cgroup {p}" for p in inventory.cgroups([lab.namespace]) if p.endswith("/" + id)]
    found += [f"mount {m}" for m in inventory.mounts() if f"/{id}/" in m]
    found += [f"process {pid} {line}" for pid, line in inventory.processes().items()
              if f"/{id}" in line or ("amphora-wasm" in line or line.startswith("demo pause")) and "[zombie]" not in line]
    for path in (f"/run/containerd/amphora/{lab.namespace}/{id}", lab.bundle(id)):
        found += [path] if os.path.exists(path) else []
    return found + [f"socket {name}" for name in os.listdir("/run/containerd/s")]


def shim_killed(lab, kind, rounds, seed):
    """At moments that are spread over the whole life of a container."""
    rng = random.Random(seed)
    a_life(lab, kind, lab.new_id("alive"), [])  # what is done once (a compile) is no part of the measure
    begun = time.monotonic()
    a_life(lab, kind, lab.new_id("alive"), [])
    whole = time.monotonic() - begun
    for name in list(lab.ctr("container", "ls", "-q").out.split()):
        lab.ctr("container", "delete", name)
    killed = 0
    for number in range(rounds):
        id = lab.new_id("mortal")
        moment = rng.random() * whole
        said = []
        client = threading.Thread(target=a_life, args=(lab, kind, id, said))
        begun = time.monotonic()
        client.start()
        # The moment counts from when there is a shim at all.
        while client.is_alive() and not (pids := servers()):
            time.sleep(0.0005)
        time.sleep(max(0, moment - (time.monotonic() - begun)))
        for pid in servers():
            try:
                os.kill(pid, signal.SIGKILL)
                killed += 1
            except ProcessLookupError:
                pass
        client.join()
        what = f"{kind}, round {number}, seed {seed}, {moment:.3f} of {whole:.3f} s"
        # containerd may have to be told to forget it; then nothing of it is left.
        eventually(lambda: lab.task_status(id) is None or lab.ctr("task", "delete", "-f", id).code == 0, 10, f"{what}: its task goes")
        eventually(lambda: id not in lab.ctr("container", "ls", "-q").out.split() or lab.ctr("container", "delete", id).code == 0,
                   10, f"{what}: its record goes")
        if any("failed to start shim" in text for text in said):
            # Killed before containerd had dialled it: nobody is asked to clean, and a socket that nobody listens on is left.
            for name in os.listdir("/run/containerd/s"):
                os.unlink("/run/containerd/s/" + name)
        eventually(lambda: not traces_of(lab, id), 5, f"{what}: nothing is left; {traces_of(lab, id)}; {said}")
    forget_fifos()
    check(killed >= rounds // 3, f"only {killed} shims of {rounds} were there to be killed")
    print(f"     {kind}: {killed} shims killed in {rounds} rounds over {whole:.2f} s of a container's life")


class Tasks:
    """Containers under a containerd that dies: some end by themselves, some later, some have execs."""

    def __init__(self, lab, count):
        self.lab, self.codes, self.begun = lab, {}, time.monotonic()
        for i in range(count):
            kind = load.WASM if i % 3 == 2 else load.NATIVE
            image, program = (L.WASM, "/app.wasm") if kind == load.WASM else (L.NATIVE, "demo")
            id = lab.new_id("task")
            # Two thirds end while containerd comes and goes, each with a code of its own.
            words = [program, "sleep", "1000"] if i % 3 == 0 else ["sh", "-c", f"sleep {1 + i % 5}; exit {i}"]
            if kind == load.WASM:
                words = [program, "sleep", str(1 + i % 5)]
            lab.detached(L.AMPHORA, image, *words, id=id)
            self.codes[id] = None if i % 3 == 0 else 0 if kind == load.WASM else i

    def check(self):
        rows = {line.split()[0]: line.split() for line in self.lab.ctr("task", "ls").ok().out.splitlines()[1:]}
        for id, code in self.codes.items():
            check(id in rows, f"{id} is lost")
            equal(rows[id][2], "RUNNING" if code is None else "STOPPED", id)

    def end(self):
        for id, code in self.codes.items():
            if code is None:
                self.lab.ctr("task", "kill", "-s", "SIGKILL", id).ok()
                eventually(lambda: self.lab.task_status(id) == "STOPPED", 5, f"{id} stops")
            r = self.lab.ctr("task", "delete", id)
            told = re.search(r"exit code (\d+)", r.err)  # 0 is not told
            equal(int(told[1]) if told else 0, 137 if code is None else code, f"{id}: code after containerd's deaths; {r!r}")
            self.lab.ctr("container", "delete", id).ok()


def containerd_killed(lab, count, times):
    tasks = Tasks(lab, count)
    stop = threading.Event()

    def load_it():
        ids = [id for id, code in tasks.codes.items() if code is None]
        while not stop.is_set():
            for id in ids:
                lab.ctr("task", "exec", "--exec-id", lab.new_id("x"), id, "demo", "true", timeout=30)
    worker = threading.Thread(target=load_it)
    worker.start()
    try:
        for _ in range(times):
            time.sleep(1)
            lab.kill_daemon()
            time.sleep(0.5)
            lab.start()
    finally:
        stop.set()
        worker.join()
    try:
        time.sleep(max(0, tasks.begun + 12 - time.monotonic()))
        tasks.check()
        tasks.end()
    finally:
        forget_fifos()


def no_event_is_lost_or_doubled(lab, count, parallel, every):
    """The shims' events go to a server of ours, which dies every so often: taken, but not answered, is to be sent again."""
    server = events.Server(f"{L.STATE}/{lab.new_id('events')}.ttrpc")
    pod = None
    try:
        pod = load.Pod(lab, env={"TTRPC_ADDRESS": server.path})
        made = load.Cycles(lab, 0, parallel, one_pod=False)
        made.pod, made.total = pod, count
        stop = threading.Event()

        def dies():
            while not stop.wait(every):
                server.die()
                time.sleep(every / 2)
                server.live()
        killer = threading.Thread(target=dies)
        killer.start()
        try:
            made.run()
        finally:
            stop.set()
            killer.join()
            if not server.is_alive:
                server.live()
        eventually(lambda: server.count("/tasks/delete") >= count, 30, f"the last events come: {server.count('/tasks/delete')} of {count}")
        for id, topics in server.by_container().items():
            equal(topics, ["/tasks/create", "/tasks/start", "/tasks/exit", "/tasks/delete"], f"events of {id}")
        equal(len(server.by_container()), count, "containers that were told of")
        print(f"     {4 * count} events, each once and in order, by a server that died {server.deaths} times")
    finally:
        if pod:
            pod.close()
        server.close()


def test_the_shim_killed_100_times_native(lab):
    shim_killed(lab, load.NATIVE, 100, 1)


def test_the_shim_killed_100_times_wasm(lab):
    shim_killed(lab, load.WASM, 100, 2)


def test_containerd_killed_under_30_tasks(lab):
    containerd_killed(lab, 30, 5)


def test_no_event_is_lost_or_doubled(lab):
    no_event_is_lost_or_doubled(lab, 500, 8, 0.2)
