# SPDX-License-Identifier: Apache-2.0
"""A module is compiled once (docs/testing.md, list 7). Proof is the absence of the compile process:
the runtime is traced, and every exec of `amphora-wasm compile` counted."""

import concurrent.futures
import json
import os
import re
import shutil
import subprocess
import tempfile
import time

from tests.support import engines, inventory
from tests.support import lab as L
from tests.support.command import Cli
from tests.support.runner import Skip, check, contains, equal, eventually

DEMO = L.GUESTS + "/demo.wasm"


def module_variant(number):
    """demo.wasm with a custom section of its own: other bytes, same behaviour."""
    with open(DEMO, "rb") as f:
        return f.read() + bytes([0, 6, 4]) + b"note" + bytes([number])


def bundle_with(cli, module, *words, annotations=None):
    """A bundle whose /app.wasm is `module`, bound over the shared root's."""
    path = f"{L.LAB}/modules/{cli.lab.new_id('m')}.wasm"
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as f:
        f.write(module)

    def change(spec):
        spec["mounts"].append({"destination": "/module.wasm", "type": "bind", "source": path, "options": ["bind", "ro"]})
        spec.setdefault("annotations", {}).update(annotations or {})
    return cli.bundle("/module.wasm", *words, change=change)


def traced(cli, *argv):
    """Runs argv under strace; (result, number of compile processes)."""
    with tempfile.NamedTemporaryFile("r", dir=L.LAB, suffix=".strace") as log:
        r = L.command(["strace", "-f", "-qq", "-s", "256", "-e", "trace=execve,execveat", "-e", "signal=none", "-o", log.name, *argv],
                      timeout=90, env=cli.lab.env)
        # By process: a call may be split over two lines, and a program may execute itself again.
        compilers = {line.split()[0] for line in log.read().splitlines()
                     if re.search(r'exec(ve|veat)\(.*"compile"', line) and not re.search(r'"--(check|identify)"', line)}
    return r, len(compilers)


def run(cli, id, path):
    return traced(cli, cli.name, "--root", cli.root, "run", "-b", path, id)


def artifacts():
    """Files of the cache."""
    found = []
    for top in ("/var/lib/amphora", "/var/cache/amphora"):
        for root, _, files in os.walk(top):
            found += [os.path.join(root, name) for name in files if os.path.getsize(os.path.join(root, name)) > 4096]
    return set(found)


def test_a_second_start_compiles_nothing(lab):
    if not shutil.which("strace"):
        raise Skip("strace is not here")
    cli = Cli(lab)
    id, path = bundle_with(cli, module_variant(1), "exit", "3")
    r, compiles = run(cli, id, path)
    equal((r.code, compiles), (3, 1), f"first start: {r.err}")
    r, compiles = run(cli, id, path)
    equal((r.code, compiles), (3, 0), f"second start: {r.err}")


def test_a_changed_byte_is_another_module(lab):
    cli = Cli(lab)
    for number in (2, 3):
        id, path = bundle_with(cli, module_variant(number), "true")
        r, compiles = run(cli, id, path)
        equal((r.code, compiles), (0, 1), f"variant {number}: {r.err}")


def test_a_tampered_artifact_is_refused_and_compiled_anew(lab):
    for annotations in engines.kinds().values():
        tampered(lab, annotations)


def tampered(lab, annotations):
    cli = Cli(lab)
    before = artifacts()
    id, path = bundle_with(cli, module_variant(4), "exit", "5", annotations=annotations)
    equal(run(cli, id, path)[1], 1, "first start")
    mine = artifacts() - before
    equal(len(mine), 1, f"one new artifact: {mine}")
    artifact = mine.pop()
    equal(os.stat(artifact).st_uid, 0, "its owner")
    check(os.stat(artifact).st_mode & 0o077 == 0 or os.stat(os.path.dirname(artifact)).st_mode & 0o077 == 0,
          "others may reach the artifact")
    with open(artifact, "r+b") as f:
        f.seek(os.path.getsize(artifact) // 2)
        byte = f.read(1)
        f.seek(-1, 1)
        f.write(bytes([byte[0] ^ 0xFF]))
    r, compiles = run(cli, id, path)
    equal((r.code, compiles), (5, 1), f"after tampering: {r.err}")
    r, compiles = run(cli, id, path)
    equal((r.code, compiles), (5, 0), f"after the repair: {r.err}")


def test_many_first_starts_compile_once(lab):
    cli = Cli(lab)
    module = module_variant(6)
    made = [bundle_with(cli, module, "true") for _ in range(32)]
    script = " & ".join(f"{cli.name} --root {cli.root} run -b {path} {id} || echo failed {id}" for id, path in made) + " & wait"
    r, compiles = traced(cli, "sh", "-c", script)
    equal((r.code, r.out), (0, ""), r.err[-600:])
    equal(compiles, 1, "compile processes of 32 parallel first starts")


def test_a_module_that_is_none_fails_with_the_compilers_words(lab):
    cli = Cli(lab)
    with open(DEMO, "rb") as f:
        body = f.read()
    id, path = bundle_with(cli, body[:-2000], "true")
    r, _ = run(cli, id, path)
    check(r.code != 0, "a cut module ran")
    contains(r.err, "/module.wasm")


def test_a_killed_compile_does_not_poison_the_cache(lab):
    go = L.GUESTS + "/hello-go.wasm"
    if not os.path.exists(go):
        raise Skip("no Go on this machine, so no module that compiles long enough to be killed")
    cli = Cli(lab)
    with open(go, "rb") as f:
        id, path = bundle_with(cli, f.read() + bytes([0, 5, 4]) + b"kill")
    first = subprocess.Popen([cli.name, "--root", cli.root, "run", "-b", path, id], env=lab.env, stdin=subprocess.DEVNULL,
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    victim = eventually(lambda: [pid for pid, line in inventory.processes().items() if " compile" in line and "amphora" in line],
                        10, "a compile process runs", every=0.002)
    for pid in victim:
        try:
            os.kill(pid, 9)
        except ProcessLookupError:
            pass
    _, err = first.communicate(timeout=30)
    check(first.returncode != 0, f"create went on without its artifact: {err!r}")
    cli("delete", "--force", id)
    r, compiles = run(cli, id, path)
    equal((r.code, compiles), (0, 1), f"the next start: {r.err}")


class _Directory:
    """A cache of its own on a small tmpfs; `lab.env` points there until the end."""

    def __init__(self, lab, size="64m", mode="rw", **env):
        self.lab, self.path = lab, f"{L.LAB}/{lab.new_id('cache')}"
        os.makedirs(self.path)
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size},mode=0700", "tmpfs", self.path], check=True)
        self.kept = dict(lab.env)
        lab.env.update(AMPHORA_CACHE_DIR=self.path, **env)
        if mode == "ro":
            self.read_only()

    def read_only(self):
        subprocess.run(["mount", "-o", "remount,ro", self.path], check=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.lab.env.clear()
        self.lab.env.update(self.kept)
        subprocess.run(["umount", "-l", self.path], check=True)
        os.rmdir(self.path)

    def names(self, end):
        return sorted(name for name in os.listdir(self.path) if name.endswith(end))


def test_the_cache_verb_lists_warms_and_removes(lab):
    cli = Cli(lab)
    with _Directory(lab) as cache:
        equal(cli("cache", "ls").ok().out.split()[:2], ["KEY", "SIZE"])
        path = f"{L.LAB}/warm.wasm"
        with open(path, "wb") as f:
            f.write(module_variant(40))
        cli("cache", "warm", path).ok()
        entries = json.loads(cli("cache", "ls", "--json").ok().out)
        equal(len(entries), 1, f"{entries}")
        contains(entries[0]["label"], "/warm.wasm")
        contains(entries[0]["label"], "wasmtime")
        id, bundle = bundle_with(cli, module_variant(40), "exit", "3")
        r, compiles = run(cli, id, bundle)
        equal((r.code, compiles), (3, 0), f"a warmed module is compiled no more: {r.err}")
        cli("cache", "warm", path).ok()
        equal(len(json.loads(cli("cache", "ls", "--json").ok().out)), 1)
        cli("cache", "rm", entries[0]["key"][:10]).ok()
        equal(json.loads(cli("cache", "ls", "--json").ok().out or "[]"), [])
        equal(cache.names(".art"), [])
        r = cli("cache", "rm", "0123")
        check(r.code != 0, f"{r!r}")
        contains(r.err, "no compiled module has the key \\\"0123\\\"")
        contains(cli("cache", "rm").err, "wants keys")
        contains(cli("cache", "sweep").err, "ls, rm or warm")
        contains(cli("cache", "warm", "/bin/sh").err, "/bin/sh: neither a WebAssembly module, a component nor a text")
        cli("cache", "warm", path).ok()
        cli("cache", "rm", "--all").ok()
        equal(cache.names(".art"), [])
        cli("cache", "warm", "--option", "backtrace=off", path).ok()
        contains(cli("cache", "ls").ok().out, "/warm.wasm backtrace=off")
        contains(cli("cache", "warm", "--option", "colour=red", path).err, "unknown option colour; known options: ")
        contains(cli("cache", "warm", "--option", "colour", path).err, "--option \\\"colour\\\" is not KEY=VALUE")


def test_a_full_cache_removes_what_was_not_used_for_longest(lab):
    cli = Cli(lab)
    with _Directory(lab, AMPHORA_CACHE_SIZE="600000") as cache:
        for number in range(50, 56):
            path = f"{L.LAB}/lru.wasm"
            with open(path, "wb") as f:
                f.write(module_variant(number))
            cli("cache", "warm", path).ok()
            sizes = [os.path.getsize(f"{cache.path}/{name}") for name in cache.names(".art")]
            check(sum(sizes) <= 600000, f"{number}: {sizes}")
        check(0 < len(cache.names(".art")) < 6, f"{cache.names('.art')}")


def test_a_read_only_or_full_directory_costs_time_only(lab):
    cli = Cli(lab)
    for size, mode in (("64m", "ro"), ("16k", "rw")):
        with _Directory(lab, size=size, mode=mode) as cache:
            for _ in range(2):
                id, path = bundle_with(cli, module_variant(60), "exit", "3")
                r, compiles = run(cli, id, path)
                equal((r.code, compiles), (3, 1), f"{size} {mode}: {r.err}")
            equal([n for n in cache.names("") if n.startswith("tmp.")], [], f"{size} {mode}")


def test_a_runtime_killed_while_it_compiles_leaves_nothing_half_written(lab):
    cli = Cli(lab)
    if not os.path.exists(L.GUESTS + "/hello-go.wasm"):
        raise Skip("no Go on this machine, so no module that compiles long enough to be killed")
    with open(L.GUESTS + "/hello-go.wasm", "rb") as f:
        big = f.read()
    with _Directory(lab) as cache:
        for delay in (0.05, 0.2, 0.5, 1.0, 1.6):
            id, path = bundle_with(cli, big, "true")
            process = subprocess.Popen([cli.name, "--root", cli.root, "run", "-b", path, id], env=lab.env,
                                       stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            time.sleep(delay)
            process.kill()
            process.wait()
            cli("delete", "--force", id)
            eventually(lambda: not [line for line in inventory.processes().values() if "amphora-wasm compile" in line], 10,
                       "the compile ends with who wanted it")
            for name in cache.names(".art"):
                check(os.path.exists(f"{cache.path}/{name[:-4]}.rec"), f"{name} without a record is used")
        id, path = bundle_with(cli, big, "true")
        r, _ = run(cli, id, path)
        equal(r.code, 0, f"{r!r}")
        r, compiles = run(cli, id, path)
        equal((r.code, compiles), (0, 0), f"{r!r}")


def test_the_cache_can_be_switched_off(lab):
    cli = Cli(lab)
    id, path = bundle_with(cli, module_variant(70), "exit", "3")
    with open(path + "/config.json", encoding="utf-8") as f:
        spec = json.load(f)
    spec.setdefault("annotations", {})["amphora.dev/engine.cache"] = "off"
    with open(path + "/config.json", "w", encoding="utf-8") as f:
        json.dump(spec, f)
    for _ in range(2):
        r, compiles = run(cli, id, path)
        equal((r.code, compiles), (3, 1), f"{r!r}")
