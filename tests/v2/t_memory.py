# SPDX-License-Identifier: Apache-2.0
"""What happens at a limit: OOM kills of native and wasm programs and of the compiler, counted and reported
once each; the pids limit; the cpu quota."""

import json
import re
import subprocess
import time

from tests.support import groups
from tests.support import lab as L
from tests.support.command import NATIVE, WASM, Cli, kind_args
from tests.support.runner import check, contains, equal, eventually
from tests.v2.t_limits import MIB, update, with_resources


def limited(limit, swap=None):
    # No swap: else a greedy program would fill that first.
    return with_resources({"memory": {"limit": limit, "swap": swap or limit}})


class Events:
    """`events` in the background: its JSON lines."""

    def __init__(self, cli, id):
        self.process = subprocess.Popen([cli.name, "--root", cli.root, "events", "--interval", "100s", id], env=cli.lab.env,
                                        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def end(self):
        out, err = self.process.communicate(timeout=20)
        equal((self.process.returncode, err), (0, ""), "events")
        return [json.loads(line)["type"] for line in out.splitlines()]


def test_a_greedy_program_ends_with_137_and_one_event(lab):
    cli = Cli(lab)
    cli.run(*kind_args(WASM, "true")).ok()  # compiled before
    for kind in (NATIVE, WASM):
        id, path = cli.bundle(*kind_args(kind, "eat", "512"), change=limited(64 * MIB))
        cli.detached("create", "-b", path, id).ok()
        pid = cli.state(id)["pid"]
        events = Events(cli, id)
        time.sleep(1)
        group = groups.of(lab, id)
        cli("start", id).ok()
        cli.until(id, "stopped", 30)
        counts = group.keyed("memory.events")
        equal(counts["oom_kill"], 1, f"{kind}: {counts}")
        check(group.keyed("memory.events")["max"] > 0, kind)
        cli("delete", id).ok()
        equal([t for t in events.end() if t == "oom"], ["oom"], f"{kind}: oom events of {pid}")
        r = cli.run(*kind_args(kind, "eat", "512"), change=limited(64 * MIB))
        equal(r.code, 137, f"{kind}: {r!r}")
        contains(r.out, "16 MiB\n", kind)
        equal(cli.run(*kind_args(kind, "eat", "24"), change=limited(96 * MIB)).code, 0, kind)


def test_no_oom_event_without_a_kill(lab):
    cli = Cli(lab)
    id = cli.running(*kind_args(NATIVE, "pause"), change=limited(64 * MIB))
    events = Events(cli, id)
    time.sleep(1)
    update(cli, id, {"unified": {"memory.high": str(32 * MIB)}}).ok()
    cli.end(id)
    equal([t for t in events.end() if t == "oom"], [])


def test_swap_is_what_the_spec_leaves_of_it(lab):
    # The guest has no swap device, so its limit changes nothing; the file proves the conversion.
    cli = Cli(lab)
    r = cli.run(*kind_args(NATIVE, "eat", "512"), change=limited(32 * MIB, 64 * MIB))
    equal(r.code, 137, repr(r))


def test_a_compile_that_does_not_fit_names_the_limit(lab):
    cli = Cli(lab)
    with open(L.GUESTS + "/demo.wasm", "rb") as f:
        module = f.read() + bytes([0, 6, 4]) + b"note" + b"2"
    path = L.LAB + "/fresh.wasm"
    with open(path, "wb") as f:
        f.write(module)

    def change(spec):
        limited(4 * MIB)(spec)
        spec["annotations"] = {"amphora.dev/compile-floor": "off"}
        spec["mounts"].append({"destination": "/fresh.wasm", "type": "bind", "source": path, "options": ["bind", "ro"]})
    r = cli.run("/fresh.wasm", "true", change=change)
    check(r.code != 0, f"it ran within 4 MiB: {r!r}")
    contains(r.err, "memory")
    check(re.search(r"4194304|4 MiB|4\.0 MiB", r.err), f"the limit is not named: {r.err}")


def test_a_small_limit_starts_and_a_tiny_one_is_said(lab):
    cli = Cli(lab)
    r = cli.run("/bin/true0", change=limited(1 * MIB))
    equal(r.code, 0, f"1 MiB: {r!r}")
    begun = time.monotonic()
    r = cli.run("/bin/true0", change=limited(64 * 1024))
    check(r.code != 0, f"64 KiB: {r!r}")
    check("memory" in r.err or "OOM" in r.err, f"64 KiB: {r!r}")
    check(time.monotonic() - begun < 20, "it took long")


def test_memory_check_before_update(lab):
    cli = Cli(lab)
    id = cli.running(*kind_args(NATIVE, "pause"), change=limited(64 * MIB))
    for more, word in (({}, "memory"), ({"swap": 8192}, "memory+swap")):
        r = update(cli, id, {"memory": {"limit": 4096, "checkBeforeUpdate": True, **more}})
        check(r.code != 0 and f"rejecting {word} limit" in r.err, repr(r))
    equal(groups.of(lab, id).read("memory.max"), str(64 * MIB))
    equal(cli.status(id), "running")
    cli.end(id)


def test_pids_limit_holds(lab):
    cli = Cli(lab)
    # One for sh; with four, the fourth sleep cannot be forked.
    r = cli.run("sh", "-c", "for i in 1 2 3 4 5 6; do sleep 5 & done; echo made", change=with_resources({"pids": {"limit": 4}}))
    check("an't fork" in r.err, repr(r))
    r = cli.run("sh", "-c", "sleep 0 & wait; echo done", change=with_resources({"pids": {"limit": 0}}))
    check("an't fork" in r.err, f"0 is a limit of one: {r!r}")


def test_cpu_quota_throttles(lab):
    cli = Cli(lab)
    id = cli.running("sh", "-c", "while :; do :; done", change=with_resources({"cpu": {"quota": 5000, "period": 50000}}))
    group = groups.of(lab, id)
    eventually(lambda: group.keyed("cpu.stat")["nr_throttled"] > 2, 20, "it is throttled")
    cli.end(id)


def test_a_fork_bomb_dies_at_once(lab):
    cli = Cli(lab)
    id = cli.running("sh", "-c", "f() { f | f & }; f; while :; do sleep 1; done", change=with_resources({"pids": {"limit": 100}}))
    group = groups.of(lab, id)
    eventually(lambda: group.keyed("pids.events")["max"] > 0, 30, "the bomb meets the limit")
    cli("pause", id).ok()
    equal(cli.status(id), "paused")
    cli("kill", id, "KILL").ok()
    cli.until(id, "stopped", 10)
    cli("delete", id).ok()
