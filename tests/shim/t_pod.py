# SPDX-License-Identifier: Apache-2.0
"""Pods: containers that share a sandbox id share one shim, and namespaces where the spec says so; and
what 200 of them leave behind (docs/testing.md, lists 5 and 11)."""

import os
import time

from tests.support import inventory
from tests.support import lab as L
from tests.support.runner import check, contains, equal, eventually

SANDBOX = "io.kubernetes.cri.sandbox-id"


class Pod:
    """A pause-like sandbox, and options by which others join it."""

    def __init__(self, lab, runtime=L.AMPHORA):
        self.lab, self.runtime = lab, runtime
        self.id = lab.new_id("pod")
        self.label = ["--annotation", f"{SANDBOX}={self.id}"]
        self.run("sandbox", L.NATIVE, "demo", "pause", id=self.id, join=(),
                 more=["--annotation", "io.kubernetes.cri.container-type=sandbox"])
        self.pid = lab.pid(self.id)

    def options(self, join=("network", "ipc", "uts"), more=()):
        kind = {"network": "net"}
        return [*self.label, *more,
                *[w for n in join for w in ("--with-ns", f"{n}:/proc/{self.pid}/ns/{kind.get(n, n)}")]]

    def run(self, name, image, *cmd, id=None, join=("network", "ipc", "uts"), more=()):
        id = id or f"{self.id}-{name}"
        self.lab.detached(self.runtime, image, *cmd, id=id, options=self.options(join, more))
        return id

    def end(self, *ids):
        self.lab.end(*ids, self.id)


def namespace(pid, name):
    return os.readlink(f"/proc/{pid}/ns/{name}")


def test_three_containers_share_one_shim_and_a_volume(lab):
    volume = L.LAB + "/volume"
    os.makedirs(volume, exist_ok=True)
    mount = ["--mount", f"type=bind,src={volume},dst=/v,options=rbind:rw"]
    pod = Pod(lab)
    sidecar = pod.run("sidecar", L.NATIVE, "sh", "-c",
                      "while ! [ -s /v/from-wasm ]; do sleep 0.05; done; cp /v/from-wasm /v/seen; sleep 1000", more=mount)
    equal(len(lab.shims()), 1, "shims after two containers")
    r = lab.run(L.AMPHORA, L.WASM, "/app.wasm", "write", "/v/from-wasm", "hello", "sidecar",
                options=pod.options(more=mount), id=pod.id + "-app")
    equal((r.code, r.err), (0, ""))
    eventually(lambda: os.path.exists(volume + "/seen"), 5, "the sidecar reads what the wasm app wrote")
    with open(volume + "/seen", encoding="utf-8") as f:
        equal(f.read(), "hello sidecar\n")
    app = pod.run("app2", L.WASM, "/app.wasm", "daemon", more=mount)
    equal(len(lab.shims()), 1, "shims of the pod")
    for name in ("net", "ipc", "uts"):
        for id in (sidecar, app):
            equal(namespace(lab.pid(id), name), namespace(pod.pid, name), f"{name} namespace of {id}")
    for name in ("mnt", "pid"):
        check(namespace(lab.pid(app), name) != namespace(pod.pid, name), f"{name} namespace is its own")
    lab.end(app)
    equal(lab.task_status(sidecar), "RUNNING", "the sidecar, after the app ended")
    lab.end(sidecar)
    equal(len(lab.shims()), 1, "shims while the sandbox lives")
    lab.end(pod.id)
    eventually(lambda: not lab.shims(), 3, "the shim leaves with the last container")


def test_a_pod_may_share_its_pid_namespace(lab):
    pod = Pod(lab)
    for image, cmd in ((L.NATIVE, ["demo", "pause"]), (L.WASM, ["/app.wasm", "daemon"])):
        id = pod.run("pidshared", image, *cmd, join=("network", "pid"))
        equal(namespace(lab.pid(id), "pid"), namespace(pod.pid, "pid"), f"{image}: pid namespace")
        lab.end(id)
    pod.end()


def test_orphans_of_a_shared_pid_namespace_end_with_their_container(lab):
    pod = Pod(lab)
    id = pod.run("parent", L.NATIVE, "sh", "-c", "sleep 1000 & sleep 1000 & sleep 0.3; exit 0", join=("pid",))
    eventually(lambda: lab.task_status(id) == "STOPPED", 5, "init ends")
    eventually(lambda: not [p for p in inventory.processes().values() if p.startswith("sleep 1000")], 3,
               "its children are killed")
    lab.ctr("task", "delete", id).ok()
    lab.ctr("container", "delete", id).ok()
    pod.end()


def test_native_and_wasm_in_one_pod_under_2_kinds_of_load(lab):
    pod = Pod(lab)
    ids = [pod.run(f"w{i}", L.WASM, "/app.wasm", "daemon") for i in range(5)]
    ids += [pod.run(f"n{i}", L.NATIVE, "demo", "pause") for i in range(5)]
    for id in ids:
        equal(lab.task_status(id), "RUNNING", id)
    equal(len(lab.shims()), 1)
    pod.end(*ids)


def test_descriptors_of_a_shim_after_200_runs(lab):
    pod = Pod(lab)
    # One of each first: what is made once per shim (the zygote, a pool's threads) counts as before.
    def one(i):
        image, cmd = ((L.NATIVE, ["demo", "echo", "x"]), (L.WASM, ["/app.wasm", "echo", "x"]))[i % 2]
        r = lab.run(L.AMPHORA, image, *cmd, options=pod.options(), id=f"{pod.id}-{i}")
        equal((r.code, r.out), (0, "x\n"), r.err)
    for i in range(4):
        one(i)
    shim = lab.shims()[0]
    time.sleep(0.2)
    before, children = inventory.descriptors(shim), len(inventory.processes())
    with open(f"/proc/{shim}/status", encoding="utf-8") as f:
        rss = next(int(line.split()[1]) for line in f if line.startswith("VmRSS"))
    for i in range(4, 204):
        one(i)
    eventually(lambda: len(inventory.descriptors(shim)) <= len(before), 3,
               f"as many descriptors as before; before {before}, after {inventory.descriptors(shim)}")
    equal(lab.shims(), [shim], "the shim is the same process")
    eventually(lambda: len(inventory.processes()) <= children, 3, "as many processes as before")
    with open(f"/proc/{shim}/status", encoding="utf-8") as f:
        grown = next(int(line.split()[1]) for line in f if line.startswith("VmRSS")) - rss
    check(grown < 1024, f"the shim grew by {grown} kB in 200 runs")
    pod.end()


def test_starts_in_parallel(lab):
    import concurrent.futures
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        jobs = [pool.submit(lab.run, L.AMPHORA, *((L.NATIVE, "demo", "echo", str(i)) if i % 2 else
                                                  (L.WASM, "/app.wasm", "echo", str(i))), id=lab.new_id("par"))
                for i in range(24)]
        for i, job in enumerate(jobs):
            r = job.result()
            equal((r.code, r.out), (0, f"{i}\n"), r.err)
