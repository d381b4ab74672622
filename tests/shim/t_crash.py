# SPDX-License-Identifier: Apache-2.0
"""The shim or containerd dies (docs/testing.md, list 9)."""

import json
import os
import shutil
import signal
import socket
import subprocess
import time

from tests.shim.t_lifecycle import KINDS as KINDS_OF_STATE
from tests.shim.t_lifecycle import Direct, events_of, sig, state
from tests.support import inventory, ttrpc
from tests.support import lab as L
from tests.support.runner import check, equal, eventually

KINDS = ((L.NATIVE, ["demo", "pause"]), (L.WASM, ["/app.wasm", "daemon"]))


def forget_fifos():
    """The FIFOs of a detached task are its client's, which is gone: with containerd's word about the task
    lost, nobody removes them, under any shim."""
    for name in os.listdir("/run/containerd/fifo"):
        shutil.rmtree("/run/containerd/fifo/" + name)


def processes_of(name):
    return [line for line in inventory.processes().values() if name in line and "[zombie]" not in line]


def test_a_killed_shim_leaves_nothing_and_its_id_is_free(lab):
    for image, cmd in KINDS:
        id = lab.detached(L.AMPHORA, image, *cmd)
        pid = lab.pid(id)
        shim = lab.shims()[0]
        events = events_of(lab, lambda: (os.kill(shim, signal.SIGKILL), time.sleep(1.5)), "/tasks/exit")
        exits = [e for t, e in events if t == "/tasks/exit" and e.get("container_id") == id]
        equal([e.get("exit_status") for e in exits], [137], f"{image}: exit events")
        check(not os.path.exists(f"/proc/{pid}") or "[zombie]" in inventory.processes().get(pid, "[zombie]"),
              f"{image}: init {pid} still runs")
        equal([p for p in inventory.cgroups([lab.namespace]) if p.endswith("/" + id)], [], f"{image}: cgroups")
        equal([m for m in inventory.mounts() if f"/{id}/" in m], [], f"{image}: mounts")
        equal(processes_of("amphora-wasm"), [], f"{image}: the wasm host")
        lab.ctr("task", "delete", id)
        lab.ctr("container", "delete", id).ok()
        r = lab.run(L.AMPHORA, image, cmd[0], "echo", "again", id=id)
        equal((r.code, r.out), (0, "again\n"), f"{image}: the same id again: {r.err}")
    forget_fifos()


def test_the_delete_command_cleans_up_by_itself(lab):
    # As containerd calls it after a shim's death; here while nobody else cleans.
    for image, cmd in KINDS:
        id = lab.detached(L.AMPHORA, image, *cmd)
        pid, bundle = lab.pid(id), lab.bundle(id)
        lab.daemon.send_signal(signal.SIGSTOP)
        try:
            os.kill(lab.shims()[0], signal.SIGKILL)
            r = subprocess.run(["containerd-shim-amphora-v1", "-namespace", lab.namespace, "-address", L.SOCKET,
                                "-publish-binary", "/bin/true", "-id", id, "-bundle", bundle, "delete"],
                               env=lab.env, cwd=bundle, capture_output=True, timeout=10, check=False)
            equal(r.returncode, 0, r.stderr.decode())
            answer = ttrpc.decode(r.stdout)
            equal((answer[1][0], answer[2][0]), (pid, 137), f"{image}: pid and status of delete")
            equal([p for p in inventory.cgroups([lab.namespace]) if p.endswith("/" + id)], [], f"{image}: cgroups")
            eventually(lambda: not os.path.exists(f"/proc/{pid}"), 2, f"{image}: init is gone")
        finally:
            lab.daemon.send_signal(signal.SIGCONT)
        eventually(lambda: lab.task_status(id) in (None, "UNKNOWN", "STOPPED"), 5, "containerd notices")
        lab.ctr("task", "delete", id)
        lab.ctr("container", "delete", id).ok()
    forget_fifos()


def test_delete_waits_for_a_socket_to_die(lab):
    """Of a shim that is killed containerd may see the end before its listening socket is closed: on a busy machine a
    socket that nobody listens on was left, once in some fifty kills."""
    d = Direct(lab, KINDS_OF_STATE["native"])
    os.kill(d.client.call("Connect", (1, d.id))[1][0], signal.SIGKILL)
    d.client.close()
    for lives in (True, False):
        if os.path.exists(d.path):
            os.unlink(d.path)
        with socket.socket(socket.AF_UNIX) as dying:
            dying.bind(d.path)
            dying.listen()
            delete = subprocess.Popen(["containerd-shim-amphora-v1", "-namespace", lab.namespace, "-address", L.SOCKET, "-publish-binary",
                                       "/bin/true", "-id", d.id, "-bundle", d.bundle, "delete"], env=lab.env, cwd=d.bundle,
                                      stdout=subprocess.DEVNULL)
            time.sleep(0.1)
            check(delete.poll() is None, "it does not wait")
            if lives:
                equal(delete.wait(5), 0, "delete")
        equal((delete.wait(5), os.path.exists(d.path)), (0, lives), f"delete's code and the socket, lives {lives}")


def test_delete_finds_the_socket_without_the_bundles_help(lab):
    """containerd 1.7 removes a bundle beside the `delete` that it calls for it when a shim dies in a Create."""
    d = Direct(lab, KINDS_OF_STATE["native"])
    os.kill(d.client.call("Connect", (1, d.id))[1][0], signal.SIGKILL)
    d.client.close()
    check(os.path.exists(d.path), "the dead shim's socket")
    shutil.rmtree(d.bundle)
    r = subprocess.run(["containerd-shim-amphora-v1", "-namespace", lab.namespace, "-address", L.SOCKET, "-publish-binary",
                        "/bin/true", "-id", d.id, "-bundle", d.bundle, "delete"], env=lab.env, cwd="/", capture_output=True,
                       timeout=10, check=False)
    equal((r.returncode, r.stderr), (0, b""), "delete")
    check(not os.path.exists(d.path), "the socket is left")


def test_containers_outlive_containerd(lab):
    ids = [lab.detached(L.AMPHORA, image, *cmd) for image, cmd in KINDS]
    pids = [lab.pid(id) for id in ids]
    lab.kill_daemon()
    time.sleep(0.2)
    for pid in pids:
        check(os.path.exists(f"/proc/{pid}"), f"{pid} died with containerd")
    lab.start()
    for id, pid in zip(ids, pids):
        equal((lab.task_status(id), lab.pid(id)), ("RUNNING", pid), id)
    for (image, cmd), id, pid in zip(KINDS, ids, pids):
        events = events_of(lab, lambda: (lab.ctr("task", "kill", "-s", "SIGKILL", id).ok(), time.sleep(0.5)), "/tasks/exit")
        exits = [e.get("exit_status") for t, e in events if t == "/tasks/exit" and e.get("container_id") == id]
        equal(exits, [137], f"{image}: exit event after the restart")
        equal(lab.task_status(id), "STOPPED", id)
        lab.end(id)


def test_an_exit_while_containerd_is_down_is_told_afterwards(lab):
    for image, cmd in ((L.NATIVE, ["demo", "sleep", "1"]), (L.WASM, ["/app.wasm", "sleep", "1"])):
        id = lab.detached(L.AMPHORA, image, *cmd)
        lab.kill_daemon()
        time.sleep(1.3)
        lab.start()
        eventually(lambda: lab.task_status(id) == "STOPPED", 5, f"{image}: stopped")
        lab.end(id)


def test_a_running_shim_survives_the_replacement_of_its_binary(lab):
    path = L.LAB + "/prefix/bin/containerd-shim-amphora-v1"
    ids = [lab.detached(L.AMPHORA, image, *cmd) for image, cmd in KINDS]
    with open(path, "rb") as f:
        body = f.read()
    os.rename(path, path + ".old")
    with open(path, "wb") as f:
        f.write(body)
    os.chmod(path, 0o755)
    try:
        for id in ids:
            lab.ctr("task", "pause", id).ok()
            lab.ctr("task", "resume", id).ok()
            equal(lab.task_status(id), "RUNNING", id)
        lab.end(*ids)
    finally:
        os.rename(path + ".old", path)


def test_a_newer_shims_delete_reads_older_state(lab):
    """State of version 1 as it was first written: without members that came later, with one that has gone."""
    for kind, args in KINDS_OF_STATE.items():
        d = Direct(lab, args)
        equal(d.create()[0], 0, f"{kind}: create")
        pid = d.client.call("Start", (1, d.id))[1][0]
        path = f"/run/containerd/amphora/{lab.namespace}/{d.id}/state.json"
        with open(path, encoding="utf-8") as f:
            now = json.load(f)
        equal(now["version"], 1, "the version of this build; with a new one, keep what it reads here")
        old = {name: now[name] for name in ("version", "id", "bundle", "created", "ociVersion", "pid", "startTime", "kind",
                                            "cgroupsPath", "cgroupDirs", "ownPidNamespace")}
        old["removedByShim"] = False
        with open(path, "w", encoding="utf-8") as f:
            json.dump(old, f)
        os.kill(d.client.call("Connect", (1, d.id))[1][0], signal.SIGKILL)
        r = subprocess.run(["containerd-shim-amphora-v1", "-namespace", lab.namespace, "-address", L.SOCKET,
                            "-publish-binary", "/bin/true", "-id", d.id, "-bundle", d.bundle, "delete"],
                           env=lab.env, cwd=d.bundle, capture_output=True, timeout=10, check=False)
        equal(r.returncode, 0, r.stderr.decode())
        equal(ttrpc.decode(r.stdout)[1][0], pid, f"{kind}: the pid it answers")
        eventually(lambda: not os.path.exists(f"/proc/{pid}") or "[zombie]" in inventory.processes().get(pid, "[zombie]"),
                   3, f"{kind}: init has ended")
        equal([p for p in inventory.cgroups([lab.namespace]) if p.endswith("/" + d.id)], [], f"{kind}: cgroups")
        check(not os.path.exists(os.path.dirname(path)), f"{kind}: the state directory is still there")
        d.client.close()


def test_state_of_a_newer_version_is_refused_by_name(lab):
    d = Direct(lab, KINDS_OF_STATE["native"])
    equal(d.create()[0], 0, "create")
    path = f"/run/containerd/amphora/{lab.namespace}/{d.id}/state.json"
    with open(path, encoding="utf-8") as f:
        now = f.read()
    with open(path, "w", encoding="utf-8") as f:
        f.write(now.replace('"version":1', '"version":2'))
    code, text = d.client.code_of("Start", (1, d.id))
    check(code != 0 and "version 2 is newer than 1" in text, f"start of a container with newer state: {code} {text}")
    with open(path, "w", encoding="utf-8") as f:
        f.write(now)
    d.close()


def test_a_pod_goes_on_after_the_replacement_of_its_binary(lab):
    """As an installation does it: a new file under the old name. Here one that runs nothing."""
    binary = L.LAB + "/prefix/bin/containerd-shim-amphora-v1"
    d = Direct(lab, KINDS_OF_STATE["native"])
    equal(d.create()[0], 0, "create")
    d.client.call("Start", (1, d.id))
    os.rename(binary, binary + ".kept")
    try:
        with open(binary, "w", encoding="utf-8") as f:
            f.write("#!/bin/false\n")
        os.chmod(binary, 0o755)
        for kind, args in KINDS_OF_STATE.items():
            id = f"{d.id}-{kind}"
            equal(d.create(id, d.make(id, args))[0], 0, f"create of a {kind} one after the replacement")
            d.client.call("Start", (1, id))
            equal(state(d, id), 2, f"{kind}: status (running)")
            equal(sig(d, id), 0, f"{kind}: kill")
            equal(d.client.call("Wait", (1, id))[1][0], 137, f"{kind}: status")
            equal(d.client.code_of("Delete", (1, id))[0], 0, f"{kind}: delete")
        spec = json.dumps({"cwd": "/", "args": ["/bin/demo", "true"], "user": {"uid": 0, "gid": 0}})
        d.client.call("Exec", (1, d.id), (2, "e"),
                      (7, [(1, "types.containerd.io/opencontainers/runtime-spec/1/Process"), (2, spec)]))
        d.client.call("Start", (1, d.id), (2, "e"))
        equal(d.client.call("Wait", (1, d.id), (2, "e")).get(1, [0])[0], 0, "an exec after the replacement")
        d.client.call("Delete", (1, d.id), (2, "e"))
    finally:
        os.rename(binary + ".kept", binary)
    d.close()
