# SPDX-License-Identifier: Apache-2.0
"""Modules that mean harm (tests/support/hostile.py) as containers with limits: each ends, costs its own
container and nobody else, and its error is one line without control characters."""

import time

from tests.support import hostile
from tests.support import lab as L
from tests.support.command import Cli
from tests.support.components import spec_with
from tests.support.engines import AOT, KINDS, needs_aot
from tests.support.runner import check, equal, eventually
from tests.support.wasm import bind

# What a container may end with: its own code, ours (125 to 127; the command says 1), a trap, an OOM kill.
CODES = {0, 1, 125, 126, 127, 134, 137, 139}
SECONDS = 40
# Who would go on for ever is ended like any program.
ENDLESS = {"endless-start", "memory-that-grows", "memory-of-4-gib-touched"}


def attempt(lab, which, content, engine):
    amphora = Cli(lab)
    mount = bind("hostile.wasm", content)

    def change(spec):
        spec_with(annotations=KINDS[engine], mounts=[mount], memory=256 << 20)(spec)
        spec["linux"]["resources"]["pids"] = {"limit": 64}
    id, path = amphora.bundle("/hostile.wasm", change=change)
    begun, limit = time.monotonic(), 5 if which in ENDLESS else SECONDS
    r = L.command(["timeout", "-s", "TERM", str(limit), "amphora", "--root", amphora.root, "run", "-b", path, id],
                  timeout=SECONDS + 20, env=lab.env)
    seconds = time.monotonic() - begun
    # A program with a few bytes changed may do anything that a program does.
    codes = set(range(256)) - {124} if which.startswith("mutation") else CODES | ({124, 143} if which in ENDLESS else set())
    check(r.code in codes, f"{engine} {which}: {r.code} after {seconds:.1f} s, {r.err[-300:]!r}")
    bad = [c for c in r.err.replace("\n", "") if ord(c) < 32 and c != "\t"]
    check(not bad, f"{engine} {which}: control characters in {r.err[:300]!r}")
    amphora("delete", "--force", id)


def all_of(lab, engine, part, parts):
    Cli(lab).needs_controller("memory")
    amphora = Cli(lab)
    bystander = amphora.running("/app.wasm", "daemon", change=lambda spec: None)
    with open(L.GUESTS + "/demo.wasm", "rb") as f:
        corpus = sorted(hostile.cases(f.read()).items())
    for which, content in corpus[part::parts]:
        attempt(lab, which, content, engine)
        equal(amphora.status(bystander), "running", f"the neighbour of {which}")
    r = amphora.run("/app.wasm", "echo", "well")
    equal((r.code, r.out), (0, "well\n"), f"after all of them: {r!r}")
    amphora.end(bystander)
    eventually(lambda: not [line for line in L.inventory.processes().values() if "amphora-wasm compile" in line], 10,
               "no compile is left")


def test_wasmtime_and_hostile_modules_one(lab):
    all_of(lab, "wasmtime", 0, 3)


def test_wasmtime_and_hostile_modules_two(lab):
    all_of(lab, "wasmtime", 1, 3)


def test_wasmtime_and_hostile_modules_three(lab):
    all_of(lab, "wasmtime", 2, 3)


def test_wamr_and_hostile_modules(lab):
    all_of(lab, "wamr", 0, 1)


def test_machine_code_of_wamr_and_hostile_modules(lab):
    needs_aot()
    all_of(lab, AOT, 0, 1)
