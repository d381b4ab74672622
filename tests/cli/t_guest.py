# SPDX-License-Identifier: Apache-2.0
"""Verbs on a guest that runs, on every engine and as a component: signals, pause and resume, limits that change, statistics,
further processes of both kinds. What the same verbs do to native containers is in t_verbs and t_cgroups."""

import json
import os
import re
import subprocess
import time

from tests.cli.t_engines import annotated, engines
from tests.support import lab as L
from tests.support.command import Cli
from tests.support.components import spec_with
from tests.support.runner import check, contains, equal, eventually

SIGNALS = {"TERM": 15, "INT": 2, "QUIT": 3, "HUP": 1}


def guests():
    """(name, words before the command, change of the spec) of each kind of guest."""
    found = [(engine, "/app.wasm", annotated(engine)) for engine in engines()]
    if os.path.exists(f"{L.GUESTS}/command.wasm"):
        found.append(("component", "/command.wasm", spec_with()))
    return found


def handles_term(pid):
    if pid == 0:
        return False  # it is being made
    with open(f"/proc/{pid}/status", encoding="utf-8") as f:
        caught = next(line.split()[1] for line in f if line.startswith("SigCgt:"))
    return int(caught, 16) >> 14 & 1 == 1


def foreground(cli, *args, change):
    """A `run` that waits for its container, which is up."""
    id, path = cli.bundle(*args, change=change)
    process = subprocess.Popen([cli.name, "--root", cli.root, "run", "-b", path, id], env=cli.lab.env, stdin=subprocess.PIPE,
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    eventually(lambda: cli("state", id).code == 0 and handles_term(cli.state(id)["pid"]), 5, f"{id} runs")
    return id, process


def cpu_usage(cli, id):
    return json.loads(cli("events", "--stats", id).ok().out)["data"]["cpu"]["usage"]["total"]


def test_signals_end_a_guest_whatever_it_does(lab):
    cli = Cli(lab)
    for name, program, change in guests():
        for words in (["spin"], ["sleep", "100"], ["cat"]):
            for signal, number in SIGNALS.items():
                if words == ["cat"] and name == "component":
                    continue  # it has no such command
                id, process = foreground(cli, program, *words, change=change)
                begun = time.monotonic()
                cli("kill", id, signal).ok()
                equal(process.wait(10), 128 + number, f"{name} {words[0]} by {signal}")
                check(time.monotonic() - begun < 1, f"{name} {words[0]} by {signal}: took {time.monotonic() - begun:.2f} s")
                process.stdin.close()


def test_a_signal_right_after_start_is_not_lost(lab):
    cli = Cli(lab)
    for name, program, change in guests():
        for _ in range(10):
            id = cli.create(program, "sleep", "100", change=change)
            cli("start", id).ok()
            os.kill(cli.state(id)["pid"], 15)
            cli.until(id, "stopped")
            cli("delete", id).ok()


def test_a_paused_guest_does_nothing_and_keeps_its_signals(lab):
    cli = Cli(lab)
    for name, program, change in guests():
        id, process = foreground(cli, program, "spin", change=change)
        eventually(lambda id=id: cpu_usage(cli, id) > 20_000_000, 10, f"{name} is busy")
        cli("pause", id).ok()
        equal(cli.status(id), "paused", name)
        before = cpu_usage(cli, id)
        time.sleep(0.3)
        equal(cpu_usage(cli, id), before, f"{name}: CPU time while paused")
        cli("kill", id, "TERM").ok()
        time.sleep(0.1)
        equal(cli.status(id), "paused", f"{name}: a signal waits")
        cli("resume", id).ok()
        equal(process.wait(10), 143, name)
        process.stdin.close()


def test_a_resumed_guest_goes_on(lab):
    cli = Cli(lab)
    for name, program, change in guests():
        id = cli.running(program, "spin", change=change)
        cli("pause", id).ok()
        before = cpu_usage(cli, id)
        cli("resume", id).ok()
        eventually(lambda id=id, before=before: cpu_usage(cli, id) > before + 20_000_000, 10, f"{name} goes on")
        cli.end(id)


def test_limits_of_a_running_guest_change(lab):
    cli = Cli(lab)
    cli.needs_controller("memory")
    for name, program, change in guests():
        id = cli.running(program, "sleep", "100", change=change)
        equal(cli("exec", id, "/app.wasm", "eat", "40").code, 0, f"{name}: without a limit")
        cli("update", "--memory", str(24 << 20), id).ok()
        data = json.loads(cli("events", "--stats", id).ok().out)["data"]
        equal(data["memory"]["usage"]["limit"], 24 << 20, name)
        check(data["memory"]["usage"]["usage"] > 0 and data["pids"]["current"] >= 1, f"{name}: {data['pids']}")
        check(cli("exec", id, "/app.wasm", "eat", "40").code != 0, f"{name}: 40 MiB under a limit of 24")
        equal(cli.status(id), "running", f"{name}: the guest itself")
        cli("update", "--cpu-quota", "20000", "--cpu-period", "100000", id).ok()
        cli.end(id)


def test_further_processes_of_both_kinds(lab):
    cli = Cli(lab)
    for name, program, change in guests():
        id = cli.running(program, "sleep", "100", change=change)
        r = cli("exec", id, "sh", "-c", "echo native; exit 4")
        equal((r.code, r.out), (4, "native\n"), name)
        r = cli("exec", "--cwd", "/etc", "--env", "A=b", id, "/app.wasm", "env")
        check(r.code == 0 and "A=b" in r.out.splitlines(), f"{name}: {r!r}")
        equal(cli("exec", id, "/app.wasm#named").ok().out, "named export\n", name)
        r = cli("exec", id, "/app.wasm", "trap")
        equal(r.code, 134, f"{name}: {r!r}")
        listed = json.loads(cli("ps", "-f", "json", id).ok().out)
        equal(listed, [cli.state(id)["pid"]], f"{name}: processes")
        contains(cli("ps", id).ok().out, program, name)
        cli.end(id)


def mappings(pid):
    """[(inode, writable, kB private and dirty)] of what is mapped of an artifact."""
    found = []
    with open(f"/proc/{pid}/smaps", encoding="utf-8") as f:
        for line in f:
            words = line.split()
            if re.fullmatch(r"[0-9a-f]+-[0-9a-f]+", words[0]):
                ours = words[-1].endswith(".art")
                inode, writable = words[4], words[1][1] == "w"
            elif ours and words[0] == "Private_Dirty:":
                found.append((inode, writable, int(words[1])))
    return found


def test_code_is_mapped_from_one_file_by_all_its_guests(lab):
    """runwasi.md, point 15."""
    cli = Cli(lab)
    ids = [cli.running("/app.wasm", "spin") for _ in range(3)]
    maps = [mappings(cli.state(id)["pid"]) for id in ids]
    check(all(maps), f"nothing of the cache is mapped: {maps}")
    equal(len({inode for guest in maps for inode, _, _ in guest}), 1, "one file")
    for guest in maps:
        equal([m for m in guest if m[2] != 0 and not m[1]], [], "code of its own")
        check(sum(m[2] for m in guest) <= 192, f"its own pages are those of the memory that it wrote: {guest}")
    cli.end(*ids)
