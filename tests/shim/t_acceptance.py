# SPDX-License-Identifier: Apache-2.0
"""Acceptance cases of the shim's contract that no other file has (docs/conformance.md lists all thirty with their
tests): how the server is started, loggers, storms of execs, what shares pids with the host, large overlays, statistics."""

import contextlib
import json
import os
import random
import re
import signal
import subprocess
import threading
import time

from tests.shim.t_contract import read_to_end
from tests.support import events, inventory, load, ttrpc
from tests.support import lab as L
from tests.support.runner import Failed, check, contains, equal, eventually


def read(path):
    with open(path, encoding="utf-8", errors="replace") as f:
        return f.read()


def test_the_server_stands_alone(lab):
    # Case 3. That `start` ends at all proves that the server holds no end of its pipe.
    pod = load.Pod(lab)
    try:
        proc = f"/proc/{pod.shim}"
        equal(os.readlink(proc + "/cwd"), pod.paths[pod.id], "working directory")
        equal(os.getpgid(pod.shim), pod.shim, "a process group of its own")
        mine = int(read("/proc/self/oom_score_adj"))
        equal(int(read(proc + "/oom_score_adj")), min(mine + 1, 1000), "oom_score_adj, above containerd's")
        fds = inventory.descriptors(pod.shim)
        equal([fds[n] for n in "012"], ["/dev/null"] * 3, "standard streams")
        pipes = [name for name in fds.values() if name.startswith("pipe:")]
        check(all(pipes.count(name) == 2 for name in pipes), f"one end of somebody's pipe: {fds}")  # its own have both here
    finally:
        pod.close()


def test_a_helper_that_is_killed_is_tried_again(lab):
    # Case 3: no socket is left bound to a dead process, or it does no harm.
    rng = random.Random(7)
    shims = []
    for _ in range(20):
        id = lab.new_id("helper")
        path = f"{L.LAB}/bundles/{id}"
        os.makedirs(path)
        words = [load.SHIM, "-namespace", lab.namespace, "-address", L.SOCKET, "-publish-binary", "/bin/true", "-id", id, "start"]
        helper = subprocess.Popen(words, cwd=path, env=lab.env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(rng.random() * 0.01)
        helper.kill()
        helper.wait()
        client = ttrpc.Client(ttrpc.start_shim(load.SHIM, path, id, lab.namespace, L.SOCKET, lab.env))
        shims.append(client.call("Connect", (1, id))[1][0])
        client.call("Shutdown", (1, id))
        client.close()
    # One that two helpers have found waits for both containers for a while.
    eventually(lambda: not any(os.path.exists(f"/proc/{shim}") for shim in shims), 20, "the shims leave")


def test_200_execs_and_the_end_of_init(lab):
    # Case 11: every exec's exit is told before init's, and nothing starts afterwards.
    server = events.Server(f"{L.STATE}/{lab.new_id('events')}.ttrpc")
    pod = load.Pod(lab, env={"TTRPC_ADDRESS": server.path})
    refused = []
    try:
        pod.run(pod.id, ["/bin/demo", "pause"])

        def storm(worker):
            client = ttrpc.Client(pod.socket)
            for i in range(25):
                try:
                    pod.exec(pod.id, f"e{worker}-{i}", ["/bin/demo", "true"], client=client)
                except ttrpc.RpcError as error:
                    refused.append(error.code)
            client.close()
        workers = [threading.Thread(target=storm, args=(w,)) for w in range(8)]
        for worker in workers:
            worker.start()
        time.sleep(0.3)
        pod.client.call("Kill", (1, pod.id), (3, 9))
        equal(pod.client.call("Wait", (1, pod.id))[1][0], 137, "status of init")
        for worker in workers:
            worker.join()
        spec = json.dumps({"args": ["/bin/demo"], "cwd": "/", "user": {"uid": 0, "gid": 0}})
        equal(pod.client.code_of("Exec", (1, pod.id), (2, "late"), (7, [(1, load.PROCESS), (2, spec)]))[0], ttrpc.PRECONDITION, "a later Exec")
        eventually(lambda: server.count("/tasks/exit") and server.by_container()[pod.id][-1] == "/tasks/exit", 10, "init's exit is told")
        time.sleep(0.3)
        topics = server.by_container()[pod.id]
        equal(topics[-1], "/tasks/exit", "init's exit comes last")
        equal(topics.count("/tasks/exit"), topics.count("/tasks/exec-started") + 1, "exits for starts")
        check(topics.count("/tasks/exec-started") > 5, f"no storm: {topics.count('/tasks/exec-started')} execs, refused {len(refused)}")
    finally:
        pod.close()
        server.close()


def test_what_shares_the_hosts_pids_ends_with_init(lab):
    # Case 12.
    pod = load.Pod(lab)

    def host_pids(spec):
        spec["linux"]["namespaces"] = [ns for ns in spec["linux"]["namespaces"] if ns["type"] != "pid"]
    try:
        pod.run(pod.id, ["sh", "-c", "sleep 10001 & sleep 10002 & exec sleep 10003"], change=host_pids)
        eventually(lambda: len(pod.client.call("Pids", (1, pod.id))[1]) == 3, 5, "three processes")
        pids = [ttrpc.decode(p)[1][0] for p in pod.client.call("Pids", (1, pod.id))[1]]
        pod.client.call("Kill", (1, pod.id), (3, 9))
        equal(pod.client.call("Wait", (1, pod.id))[1][0], 137, "status")
        eventually(lambda: not any("sleep 1000" in inventory.processes().get(pid, "") for pid in pids), 3, "its children end")
    finally:
        pod.close()


LOGGER = """#!/bin/sh
exec > {out} 2>&1
echo "args $*"
tr '\\0' '\\n' < /proc/$$/environ | grep -v -E '^(PWD|SHLVL|_)=' | sort
trap 'echo got TERM; kill $child; exit' TERM
exec 5>&-
cat <&4 > {out}.err &
cat <&3 > {out}.out
wait
echo ended
sleep 1000 &
child=$!
wait
"""


def test_a_logging_program(lab):
    # Case 20: descriptors 3 to 5, two variables, ready, the end of its streams, and SIGTERM at Delete.
    pod = load.Pod(lab)
    script, out = f"{L.LAB}/{lab.new_id('logger')}", f"{L.LAB}/{lab.new_id('logged')}"
    with open(script, "w", encoding="utf-8") as f:
        f.write(LOGGER.format(out=out))
    os.chmod(script, 0o755)
    try:
        pod.run(pod.id, ["sh", "-c", "echo to out; echo to err >&2; exit 4"], out=f"binary://{script}?key=value%201&key=x&other")
        equal(pod.client.call("Wait", (1, pod.id))[1][0], 4, "status")
        eventually(lambda: "ended" in read(out), 5, "the logger sees the end of its streams")
        equal((read(out + ".out"), read(out + ".err")), ("to out\n", "to err\n"), "streams")
        equal(read(out).splitlines()[:3], ["args key value 1 other ", f"CONTAINER_ID={pod.id}", f"CONTAINER_NAMESPACE={lab.namespace}"],
              "arguments and environment")
        equal(pod.client.code_of("Delete", (1, pod.id)), (0, ""))
        eventually(lambda: "got TERM" in read(out), 5, "SIGTERM at Delete")
        for what, body, word in (("that ends at once", "#!/bin/sh\nexit 3\n", "ended without being ready"), ("that is not there", None, script + "-none")):
            path = script + ("-none" if body is None else "-bad")
            if body:
                with open(path, "w", encoding="utf-8") as f:
                    f.write(body)
                os.chmod(path, 0o755)
            code, text = pod.client.code_of("Create", (1, pod.id), (2, pod.paths[pod.id]), (6, f"binary-v2://{path}"))
            check(code != 0 and word in text, f"a logger {what}: {code} {text}")
        equal(pod.client.code_of("State", (1, pod.id))[0], ttrpc.NOT_FOUND, "nothing was made")
    finally:
        pod.close()


def test_a_log_file(lab):
    # Case 20: made with its directories, both streams in order; with a terminal, too.
    pod = load.Pod(lab)
    try:
        for terminal in (False, True):
            path = f"{L.LAB}/{lab.new_id('logs')}/deep/log"
            id = f"{pod.id}-{terminal}"
            bundle = pod.bundle(id, ["sh", "-c", "echo one; echo two >&2; echo three"], terminal=terminal)
            uri = f"file://{path}?ignored=1"
            pod.client.call("Create", (1, id), (2, bundle), (4, terminal), (6, uri), (7, "" if terminal else uri))
            pod.client.call("Start", (1, id))
            pod.client.call("Wait", (1, id))
            equal(pod.client.code_of("Delete", (1, id)), (0, ""))
            equal(read(path).split(), ["one", "two", "three"], f"terminal {terminal}")
    finally:
        pod.close()


def test_schemes_that_are_none(lab):
    pod = load.Pod(lab)
    try:
        for uri in ("fluentd://127.0.0.1", "ttrpc+unix:///run/x.sock?streaming_id=c-stdout"):
            code, text = pod.client.code_of("Create", (1, pod.id), (2, pod.paths[pod.id]), (6, uri))
            equal(code, ttrpc.INVALID, text)
            contains(text, uri)
    finally:
        pod.close()


def overlay_of_120_layers(lab, name):
    # Case 22: its options are longer than a page; the host's mounts are afterwards what they were.
    before = inventory.mounts()
    pod = load.Pod(lab)
    base = f"{L.LAB}/bundles/{lab.new_id('layers-in-a-directory-of-a-long-name')}"
    layers = [f"{base}/snapshots/{name}{i}/fs" for i in range(119)]
    for i, layer in enumerate(layers):
        os.makedirs(layer)
        with open(f"{layer}/layer-{i}", "w", encoding="utf-8"):
            pass
    os.makedirs(f"{base}/upper")
    os.makedirs(f"{base}/work")
    os.makedirs(f"{base}/snapshots/last")
    os.rename(pod.root, f"{base}/snapshots/last/fs")
    options = [f"lowerdir={':'.join([*layers, f'{base}/snapshots/last/fs'])}", f"upperdir={base}/upper", f"workdir={base}/work"]
    check(len(options[0]) > 5000, f"{len(options[0])} bytes are no test")
    out = pod.fifo("out")
    path = pod.bundle(pod.id, ["sh", "-c", "ls / | grep -c layer-; echo made > /new; cat /new"], lambda spec: spec["root"].update(path="rootfs", readonly=False))
    os.makedirs(path + "/rootfs", exist_ok=True)
    try:
        code, text = pod.client.code_of("Create", (1, pod.id), (2, path), (3, [(1, "overlay"), (2, "overlay"), *((4, o) for o in options)]), (6, out))
        equal(code, 0, text)
        reader = os.open(out, os.O_RDONLY | os.O_NONBLOCK)
        pod.client.call("Start", (1, pod.id))
        equal(read_to_end(reader, 5), b"119\nmade\n", "what it sees")
        pod.client.call("Wait", (1, pod.id))
        equal(pod.client.code_of("Delete", (1, pod.id)), (0, ""))
        equal(inventory.mounts() - before, set(), "mounts of the host")
        check(os.path.exists(f"{base}/upper/new"), "what was written is in the upper directory")
    finally:
        pod.close()
        os.rename(f"{base}/snapshots/last/fs", pod.root)
        subprocess.run(["rm", "-rf", base], check=True)


def test_an_overlay_of_120_layers(lab):
    overlay_of_120_layers(lab, "")


def test_an_overlay_of_120_layers_whose_names_fill_more_than_a_page(lab):
    """Also without the directory that they share: each is given by itself."""
    overlay_of_120_layers(lab, "sha256-" + "0123456789abcdef" * 4 + "-")


def test_a_container_in_the_hosts_network_cannot_reach_the_shim(lab):
    """CVE-2020-15257: root in the host's network namespace, as a hostNetwork pod has it, finds no socket of ours without a path,
    and has no path to the one there is."""
    pod = load.Pod(lab)
    try:
        where = pod.socket
        check(os.path.exists(where), f"the shim's socket is no path: {where}")
        equal(os.stat(os.path.dirname(where)).st_mode & 0o077, 0, "who else may look for it")
        own = {line.split()[-1] for line in read("/proc/net/unix").splitlines() if "@" in line.split()[-1]}
        equal([name for name in own if pod.id in name or lab.namespace in name or "amphora" in name], [], "abstract sockets")
        out = pod.fifo("out")

        def host_network(spec):
            spec["linux"]["namespaces"] = [n for n in spec["linux"]["namespaces"] if n["type"] != "network"]
        pod.run(pod.id, ["sh", "-c", f"grep -c . /proc/net/unix; ls {where} /proc/*/root{where} /proc/*/cwd 2>/dev/null | grep -c {os.path.basename(where)}"],
                out, change=host_network)
        reader = os.open(out, os.O_RDONLY | os.O_NONBLOCK)
        seen = read_to_end(reader, 5).split()
        check(int(seen[0]) > 1 and seen[1] == b"0", f"the host's sockets, and ways to the shim's: {seen}")
    finally:
        pod.close()


def stats(pod):
    any_ = ttrpc.decode(pod.client.call("Stats", (1, pod.id))[1][0])
    return any_[1][0].decode(), ttrpc.decode(any_[2][0])


def test_statistics_have_no_holes_and_outlive_their_process(lab):
    # Cases 23 and 24: containerd's collector reads what is inside without a look, and CRI asks for the reason after the end.
    server = events.Server(f"{L.STATE}/{lab.new_id('events')}.ttrpc")
    pod = load.Pod(lab, env={"TTRPC_ADDRESS": server.path})
    try:
        def limit(spec):
            spec["linux"]["resources"]["memory"] = {"limit": 32 << 20}
        pod.run(pod.id, ["sh", "-c", "sleep 0.3; exec tail /dev/zero"], change=limit)
        kind, now = stats(pod)
        if kind != "io.containerd.cgroups.v1.Metrics":
            raise Failed(f"{kind}: this case is for v1; tests/v2 has the other")
        cpu, memory = ttrpc.decode(now[3][0]), ttrpc.decode(now[4][0])
        check({1, 2} <= set(cpu), f"cpu has no usage or no throttling: {cpu}")
        check(ttrpc.decode(cpu[1][0])[1][0] > 0, "cpu usage")
        check({33, 34, 35, 36} <= set(memory), f"memory lacks one of usage, swap, kernel, kernel_tcp: {sorted(memory)}")
        equal(ttrpc.decode(memory[33][0])[1][0], 32 << 20, "memory limit")
        check(2 in now and ttrpc.decode(now[2][0])[1][0] >= 1, f"pids: {now.get(2)}")
        equal(pod.client.call("Wait", (1, pod.id))[1][0], 137, "status")
        _, after = stats(pod)
        equal(ttrpc.decode(after[9][0]).get(3), [1], "oom_kill of the stopped task")
        eventually(lambda: server.count("/tasks/exit") == 1, 5, "the exit is told")
        equal(server.by_container()[pod.id], ["/tasks/create", "/tasks/start", "/tasks/oom", "/tasks/exit"], "one OOM event, before the exit")
    finally:
        pod.close()
        server.close()


def last_lines(lab, rounds):
    """The last line before the exit, on a terminal."""
    pod = load.Pod(lab)
    try:
        for number in range(rounds):
            id = f"{pod.id}-{number}"
            out = pod.fifo(f"out-{number}")
            bundle = pod.bundle(id, ["sh", "-c", f"echo first; echo last line {number}"], terminal=True)
            pod.client.call("Create", (1, id), (2, bundle), (4, True), (6, out))
            reader = os.open(out, os.O_RDONLY | os.O_NONBLOCK)
            pod.client.call("Start", (1, id))
            pod.client.call("Wait", (1, id))
            equal(read_to_end(reader, 5), f"first\r\nlast line {number}\r\n".encode(), f"round {number}")
            equal(pod.client.code_of("Delete", (1, id)), (0, ""))
            os.unlink(out)
            del pod.paths[id]
    finally:
        pod.close()


def test_the_last_line_on_a_terminal(lab):
    last_lines(lab, 50)  # case 19; a thousand in tests/soak


def test_the_end_of_output_comes_at_once(lab):
    # Case 16: with a reader that waits for it, for both ways of output.
    for how in ("pass", "copy"):
        pod = load.Pod(lab, env={"AMPHORA_STDIO": how})
        try:
            out = pod.fifo("out")
            bundle = pod.bundle(pod.id, ["sh", "-c", "echo x; sleep 0.3"])
            pod.client.call("Create", (1, pod.id), (2, bundle), (6, out))
            reader = os.open(out, os.O_RDONLY | os.O_NONBLOCK)
            pod.client.call("Start", (1, pod.id))
            ended = []
            thread = threading.Thread(target=lambda: (read_to_end(reader, 10), ended.append(time.monotonic())))
            thread.start()
            pod.client.call("Wait", (1, pod.id))
            told = time.monotonic()
            thread.join()
            check(ended[0] - told < 0.5, f"{how}: the end of output came {ended[0] - told:.2f} s after the exit")
        finally:
            pod.close()


def test_options_that_are_not_used_are_told(lab):
    # Section 6 of the contract: known types and unknown ones never fail a create, and the log says what was ignored.
    path = f"{L.LAB}/{lab.new_id('options')}.toml"
    with open(path, "w", encoding="utf-8") as f:
        f.write("[x]\ny = 1\n")
    at = lab.log_size()
    r = lab.run(L.AMPHORA, L.NATIVE, "true", options=["--runtime-config-path", path])
    equal(r.code, 0, r.err)
    with contextlib.suppress(Failed):
        eventually(lambda: "runtime option x is unknown: ignored" in lab.log_since(at), 3, "the log")
    contains(lab.log_since(at), "runtime option x is unknown: ignored", "containerd's log")


def test_the_state_dump(lab):
    # SIGUSR1: one line a task, in containerd's log.
    id = lab.detached(L.AMPHORA, L.NATIVE, "demo", "pause")
    at = lab.log_size()
    os.kill(lab.shims()[0], signal.SIGUSR1)
    eventually(lambda: re.search(f"container {id} pid [0-9]+ running", lab.log_since(at)), 3, "a line for the container")
    equal(lab.task_status(id), "RUNNING")
    lab.end(id)
