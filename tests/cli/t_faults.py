# SPDX-License-Identifier: Apache-2.0
"""A full disk and a lack of descriptors at every step of run, create, start and exec: the N-th call that can fail so is made to
fail (tests/guests/inject.c), in the command, in the container's init and in the wasm host. Each time the verb either
succeeds or ends with one error line, and nothing is left. By default a part of the calls, spread over all;
AMPHORA_FAULTS=all fails every one."""

import os
import shutil
import subprocess

from tests.support import inventory
from tests.support import lab as L
from tests.support.command import NATIVE, WASM, Cli, kind_args
from tests.support.runner import check, equal, eventually

ALL = os.environ.get("AMPHORA_FAULTS") == "all"
ERRORS = ("ENOSPC", "EMFILE")
REPORT = L.LAB + "/faults"
PLACES = ("/run", "/tmp", "/var/cache/amphora")


class Faults:
    """One verb of the command, run again and again with another call failing."""

    def __init__(self, lab, verb, kind, command):
        self.lab, self.cli, self.verb, self.kind = lab, Cli(lab), verb, kind
        self.command = command  # (id, path) -> arguments
        self.cache = None       # a directory for compiled modules that is emptied before each run
        self.outcomes = {"succeeded": 0, "failed": 0}

    def inject(self, error, process, number, *args):
        env = self.lab.env
        if self.cache:
            shutil.rmtree(self.cache, ignore_errors=True)
            env = dict(env, AMPHORA_CACHE_DIR=self.cache)
        with open(f"{L.LAB}/faults.out", "w+b") as out, open(f"{L.LAB}/faults.err", "w+b") as err:
            code = subprocess.run([L.GUESTS + "/inject", error, str(process), str(number), REPORT, self.cli.name, "--root", self.cli.root,
                                   *args], env=env, stdin=subprocess.DEVNULL, stdout=out, stderr=err, timeout=60, check=False).returncode
            texts = []
            for f in (out, err):
                f.seek(0)
                texts.append(f.read().decode(errors="replace"))
        return L.Result(code, *texts, 0)

    def counts(self, error, *args):
        """Calls that can fail so, by process, of a whole run."""
        self.inject(error, 0, 0, *args).ok()
        with open(REPORT, encoding="utf-8") as f:
            return {int(process): int(calls) for process, calls in (line.split() for line in f)}

    def state(self):
        return {"processes": {f"{pid} {line}" for pid, line in inventory.processes().items() if "[zombie]" not in line},
                "mounts": inventory.mounts(), "cgroups": inventory.cgroups([self.lab.namespace]),
                "files": inventory.run_entries(PLACES, r"^/run/lab|^/run/containerd|\.lock$")}

    def left(self, before):
        now = self.state()
        return {kind: now[kind] - before[kind] for kind in now if now[kind] - before[kind]}

    def judge(self, before, r, what):
        """One clear line, or success; then nothing is left."""
        with open(REPORT, encoding="utf-8") as f:
            what += ", call " + f.read().rsplit("failed", 1)[-1].strip()
        lines = [line for line in r.err.strip().splitlines() if "level=warning" not in line]
        if r.code == 0:
            self.outcomes["succeeded"] += 1
        else:
            self.outcomes["failed"] += 1
            check(len(lines) <= 1, f"{what}: more than one line: {r.err!r}")
            check(r.code in (1, 255), f"{what}: {r!r}")
        return what

    def clean(self, before, what):
        eventually(lambda: not self.left(before), 5, f"{what}: nothing is left; {self.left(before)}")

    def each(self):
        """Every (error, process, number) to fail, by default one in seven, or in 21 where each compiles."""
        for error in ERRORS:
            id, path = self.prepare()
            counts = self.counts(error, *self.command(id, path))
            self.finish(id)
            at = 0
            for process, calls in sorted(counts.items()):
                for number in range(1, calls + 1):
                    at += 1
                    if ALL or at % (21 if self.cache else 7) == 1:
                        yield error, process, number

    def prepare(self):
        return self.cli.bundle(*kind_args(self.kind, *(["sleep", "100"] if self.verb in ("create", "start", "exec") else ["exit", "0"])))

    def finish(self, id):
        self.cli("delete", "--force", id).ok()


def walk(lab, verb, kind, cache=None):
    """create and run: the container's id is free again whatever happened."""
    faults = Faults(lab, verb, kind, lambda id, path: (verb, "-b", path, id))
    faults.cache = cache
    faults.cli(*faults.command(*faults.prepare())).ok() if verb == "run" else None  # the module is compiled
    before = faults.state()
    for error, process, number in faults.each():
        id, path = faults.prepare()
        r = faults.inject(error, process, number, verb, "-b", path, id)
        what = faults.judge(before, r, f"{verb} of {kind}, {error} in process {process}, number {number}")
        # What says that it failed has taken itself back; delete finds what succeeded.
        if r.code == 0 and verb == "create":
            faults.finish(id)
        try:
            faults.clean(before, what)
        except Exception:
            faults.finish(id)
            raise
        if cache:
            equal([name for name in os.listdir(cache) if "tmp" in name] if os.path.isdir(cache) else [], [], f"{what}: half a file in the cache")
    check(faults.outcomes["failed"] > (0 if cache else 4), f"{verb} of {kind}: hardly any failure: {faults.outcomes}")
    print(f"     {verb} of {kind}{', nothing compiled' if cache else ''}: {faults.outcomes}", flush=True)


def test_run_of_native(lab):
    walk(lab, "run", NATIVE)


def test_run_of_wasm(lab):
    walk(lab, "run", WASM)


def test_run_of_wasm_with_nothing_compiled(lab):
    walk(lab, "run", WASM, cache=L.LAB + "/cold-cache")


def test_create_of_native(lab):
    walk(lab, "create", NATIVE)


def test_create_of_wasm(lab):
    walk(lab, "create", WASM)


def test_start_and_exec(lab):
    """A start that fails leaves a container that can be started, or is stopped, and can be deleted; an exec none of its own."""
    for kind in (NATIVE, WASM):
        faults = Faults(lab, "start", kind, lambda id, path: ("start", id))
        cli = faults.cli
        before = faults.state()

        def created(faults=faults, bundle=faults.prepare):
            id, path = bundle()
            r = faults.cli.detached("create", "-b", path, id)
            equal(r.code, 0, f"create: {r!r}")
            return id, path
        faults.prepare = created
        for error, process, number in faults.each():
            id, _ = created()
            r = faults.inject(error, process, number, "start", id)
            what = faults.judge(before, r, f"start of {kind}, {error} in process {process}, number {number}")
            status = cli.status(id)
            check(status in ("running", "stopped") if r.code == 0 else status in ("created", "running", "stopped"), f"{what}: {status}")
            faults.finish(id)
            faults.clean(before, what)
        id, _ = created()
        cli("start", id).ok()
        exec_faults = Faults(lab, "exec", kind, lambda id, path: ("exec", id, *kind_args(kind, "exit", "0")))
        exec_faults.prepare, exec_faults.finish = lambda id=id: (id, ""), lambda id: None
        running = exec_faults.state()
        for error, process, number in exec_faults.each():
            r = exec_faults.inject(error, process, number, "exec", id, *kind_args(kind, "exit", "0"))
            what = exec_faults.judge(running, r, f"exec in {kind}, {error} in process {process}, number {number}")
            exec_faults.clean(running, what)
            equal(cli.status(id), "running", what)
        cli("delete", "--force", id).ok()
        faults.clean(before, "the end")
