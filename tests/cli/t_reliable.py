# SPDX-License-Identifier: Apache-2.0
"""What must hold when things go wrong at any moment: a creator that is killed, two creates of one id, many
runs in a row, a fork bomb, a lack of descriptors. Numbers are small here; AMPHORA_RELIABLE_ROUNDS raises them."""

import os
import random
import resource
import signal
import subprocess
import threading
import time

from tests.support import inventory
from tests.support import lab as L
from tests.support.command import NATIVE, WASM, Cli, kind_args
from tests.support.runner import check, contains, equal, eventually

ROUNDS = int(os.environ.get("AMPHORA_RELIABLE_ROUNDS") or 0)


def left(lab, cli, id):
    """What a container of this id left behind."""
    found = [p for p in inventory.cgroups([lab.namespace]) if p.endswith("/" + id)]
    found += [f"{pid} {line}" for pid, line in inventory.processes().items() if id in line and "[zombie]" not in line]
    if os.path.exists(f"{cli.root}/{id}"):
        found.append(f"{cli.root}/{id}")
    return found


def kill_creators(lab, kind):
    cli = Cli(lab)
    seen = set()
    # How long a whole create takes here, to spread the moments over it.
    begun = time.monotonic()
    cli.end(cli.create(*kind_args(kind, "sleep", "100")))
    span = (time.monotonic() - begun) * 0.8
    rounds = ROUNDS or 40
    for n in range(rounds):
        id, path = cli.bundle(*kind_args(kind, "sleep", "100"))
        with open(f"{L.LAB}/creator.err", "wb") as err:
            creator = subprocess.Popen([cli.name, "--root", cli.root, "create", "-b", path, id], env=lab.env,
                                       stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=err)
        time.sleep(span * (n + random.random()) / rounds)
        creator.send_signal(signal.SIGKILL)
        creator.wait()
        seen.add("cgroup" if left(lab, cli, id) else "nothing")
        cli("delete", "--force", id).ok()
        # What was cloned and not yet told of ends by itself when its creator's socket closes.
        eventually(lambda: left(lab, cli, id) == [], 3, f"round {n}: nothing of {id} is left; {left(lab, cli, id)}")
        again = cli.detached("create", "-b", path, id)
        equal(again.code, 0, f"round {n}: the id is free again: {again.err}")
        cli("delete", "--force", id).ok()
    check("cgroup" in seen, "no creator was killed in the middle")


def test_a_killed_creator_leaves_nothing_after_delete(lab):
    kill_creators(lab, NATIVE)


def test_a_killed_creator_of_wasm_leaves_nothing_after_delete(lab):
    kill_creators(lab, WASM)


def test_two_creates_of_one_id_and_one_wins(lab):
    for n in range(ROUNDS or 10):
        cli = Cli(lab)
        id, path = cli.bundle("sleep", "100")
        results = []
        threads = [threading.Thread(target=lambda: results.append(cli.detached("create", "-b", path, id))) for _ in range(2)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        equal(sorted(r.code for r in results), [0, 1], f"{n}: {results!r}")
        contains([r.err for r in results if r.code][0], "container with given ID already exists")
        equal(cli.state(id)["status"], "created")
        cli.end(id)


def bpf_programs():
    """How many eBPF programs the machine holds (bpf(2), BPF_PROG_GET_NEXT_ID)."""
    import ctypes
    attr, count = (ctypes.c_uint32 * 32)(), 0
    while count < 1 << 16 and ctypes.CDLL(None, use_errno=True).syscall(321, 11, ctypes.byref(attr), ctypes.sizeof(attr)) == 0:
        attr[0], count = attr[1], count + 1
    return count


def memfds():
    """Descriptors of memory files that processes here hold."""
    found = 0
    for pid in inventory.processes():
        try:
            found += sum(name.startswith("/memfd:") for name in inventory.descriptors(pid).values())
        except OSError:
            continue
    return found


def test_runs_in_a_row_leave_nothing_growing(lab):
    cli = Cli(lab)
    for kind in (NATIVE, WASM):
        id, path = cli.bundle(*kind_args(kind, "true"))
        counts, programs, memory = [], bpf_programs(), memfds()
        for n in range(ROUNDS * 5 or 60):
            equal(cli("run", "-b", path, id).code, 0)
            if n in (5, (ROUNDS * 5 or 60) - 1):
                counts.append((len(inventory.mounts()), len(inventory.cgroups([lab.namespace])), len(inventory.processes())))
        check(counts[1][0] <= counts[0][0] and counts[1][1] <= counts[0][1], f"{kind}: mounts and cgroups {counts}")
        check(abs(counts[0][2] - counts[1][2]) <= 2, f"{kind}: processes {counts}")
        check(memfds() <= memory, f"{kind}: memfds {memory}, then {memfds()}")
        # Those of the whole machine: others may make some meanwhile, but not one for each of our runs.
        check(bpf_programs() - programs < (ROUNDS * 5 or 60) // 2, f"{kind}: eBPF programs {programs}, then {bpf_programs()}")


def test_a_fork_bomb_under_a_limit_dies_at_once(lab):
    def change(spec):
        spec["linux"].setdefault("resources", {})["pids"] = {"limit": 100}
    cli = Cli(lab)
    cli.needs_controller("pids")
    id = cli.running("sh", "-c", "bomb() { bomb | bomb & }; bomb; while :; do :; done", change=change)
    time.sleep(0.5)
    begun = time.monotonic()
    cli("kill", id, "KILL").ok()
    eventually(lambda: cli.state(id)["status"] == "stopped", 3, "its end")
    check(time.monotonic() - begun < 3, f"killing a fork bomb took {time.monotonic() - begun:.1f} s")
    cli("delete", id).ok()
    equal(left(lab, cli, id), [])


def test_no_descriptors_at_any_step(lab):
    """Create under every small limit of descriptors: it works or fails with one error, and nothing is left."""
    cli = Cli(lab)
    codes = []
    for kind in (NATIVE, WASM):
        for limit in range(4, 70, 1 if ROUNDS else 4):
            id, path = cli.bundle(*kind_args(kind, "true"))
            r = subprocess.run([cli.name, "--root", cli.root, "run", "-b", path, id], env=lab.env, capture_output=True, text=True,
                               stdin=subprocess.DEVNULL, timeout=30, check=False,
                               preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (limit, 4096)))
            codes.append(r.returncode)
            if r.returncode != 0:
                equal(len(r.stderr.strip().splitlines()), 1, f"{kind}, {limit} descriptors: {r.stderr!r}")
                check("too many open files" in r.stderr.lower() or "RLIMIT_NOFILE" in r.stderr or "operation not permitted" in r.stderr,
                      f"{kind}, {limit} descriptors: {r.stderr!r}")
            eventually(lambda: left(lab, cli, id) == [], 3, f"{kind}, {limit} descriptors: nothing is left; {left(lab, cli, id)}")
    check(any(codes) and not all(codes), f"both outcomes: {codes}")
