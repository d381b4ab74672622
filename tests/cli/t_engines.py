# SPDX-License-Identifier: Apache-2.0
"""Containers on an engine that the annotation names: the same program, the same observable result,
whichever engine runs it (docs/engines.md). What only the interface shows is in tests/unit/engine."""

from tests.support import images
from tests.support import lab as L
from tests.support.command import Cli
from tests.support.engines import AOT, DIRECTORY, ENGINES, KINDS, engines, kinds, needs_aot
from tests.support.runner import Skip, check, contains, equal, eventually
from tests.support.wasm import bind, function, module, name, threads_module, vector

import os
import shutil


def annotated(kind, **more):
    def change(spec):
        spec.setdefault("annotations", {}).update(KINDS.get(kind, {"amphora.dev/engine": kind}))
        spec["annotations"].update(more.get("annotations", {}))
        spec["mounts"].extend(more.get("mounts", []))
        if "memory" in more:
            spec["linux"]["resources"]["memory"] = {"limit": more["memory"], "swap": more["memory"]}
    return change


def test_every_engine_runs_the_demo(lab):
    amphora = Cli(lab)
    for engine in kinds():
        r = amphora.run("/app.wasm", "echo", "hello", engine, change=annotated(engine))
        equal(r.code, 0, f"{engine}: {r!r}")
        equal(r.out, f"hello {engine}\n", engine)
        equal(amphora.run("/app.wasm", "exit", "42", change=annotated(engine)).code, 42, engine)
        equal(amphora.run("/app.wasm", "cat", stdin="through a pipe", change=annotated(engine)).out, "through a pipe", engine)
        equal(amphora.run("/app.wasm#named", change=annotated(engine)).out, "named export\n", engine)


def test_traps_end_with_134_on_every_engine(lab):
    amphora = Cli(lab)
    for engine in kinds():
        r = amphora.run("/app.wasm", "trap", change=annotated(engine))
        equal(r.code, 134, f"{engine}: {r!r}")
        contains(r.err, "wasm trap: wasm `unreachable` instruction executed", engine)


def start_module(code):
    """A memory of one page, and `code` as _start."""
    return module((1, vector([b"\x60\0\0"])), (3, vector([b"\0"])), (5, vector([b"\0\1"])),
                  (7, vector([name("memory") + b"\2\0", name("_start") + b"\0\0"])), (10, vector([function(code)])))


def test_traps_that_come_by_signals_are_traps_on_every_engine(lab):
    """Or by a check of the stack, for code that uses the process's own; not as 139."""
    mounts = [bind("beyond.wasm", start_module(b"\x41\x7f\x41\1\x36\2\0")), bind("deep.wasm", start_module(b"\x10\0\x10\0"))]
    for engine in kinds():
        r = Cli(lab).run("/beyond.wasm", change=annotated(engine, mounts=mounts))
        equal(r.code, 134, f"{engine}: {r!r}")
        contains(r.err, "wasm trap: out of bounds memory access", engine)
        r = Cli(lab).run("/deep.wasm", change=annotated(engine, mounts=mounts))
        equal(r.code, 134, f"{engine}: {r!r}")
        contains(r.err, "wasm trap: call stack exhausted", engine)


def test_a_busy_guest_ends_on_every_engine(lab):
    amphora = Cli(lab)
    for engine in kinds():
        id = amphora.running("/app.wasm", "busy", change=annotated(engine))
        amphora("kill", id, "TERM").ok()
        eventually(lambda id=id: amphora.state(id)["status"] == "stopped", 5, f"{engine}: a busy guest ends on TERM")
        amphora("delete", id).ok()


def test_the_cgroups_limit_ends_a_greedy_guest_on_every_engine(lab):
    amphora = Cli(lab)
    amphora.needs_controller("memory")
    for engine in kinds():
        r = amphora.run("/app.wasm", "hog", change=annotated(engine, memory=64 << 20))
        equal(r.code, 137, f"{engine}: {r!r}")


def test_machine_code_runs_threads(lab):
    needs_aot()
    r = Cli(lab).run("/threads.wasm", change=annotated(AOT, mounts=[bind("threads.wasm", threads_module())]))
    equal(r.code, 5, f"{r!r}")


def test_machine_code_is_compiled_within_limits(lab):
    needs_aot()
    Cli(lab).needs_controller("memory")
    small, kept = dict(AMPHORA_COMPILE_FLOOR=str(12 << 20), AMPHORA_CACHE_DIR=f"{L.LAB}/{lab.new_id('cache')}"), dict(lab.env)
    lab.env.update(small)
    try:
        r = Cli(lab).run("/app.wasm", "echo", change=annotated(AOT, memory=8 << 20))
        check(r.code != 0, f"{r!r}")
        contains(r.err, "compiling /app.wasm needs more memory than the compile floor of 12582912 bytes (AMPHORA_COMPILE_FLOOR)")
        lab.env["AMPHORA_COMPILE_FLOOR"] = kept.get("AMPHORA_COMPILE_FLOOR", str(256 << 20))
        equal(Cli(lab).run("/app.wasm", "echo", "fits", change=annotated(AOT, memory=16 << 20)).out, "fits\n")
    finally:
        lab.env.clear()
        lab.env.update(kept)
        shutil.rmtree(small["AMPHORA_CACHE_DIR"], ignore_errors=True)


def test_without_llvm_machine_code_is_an_error_that_says_what_to_do(lab):
    engines()
    amphora, kept, directory = Cli(lab), dict(lab.env), f"{L.LAB}/{lab.new_id('engines')}"
    shutil.copytree(DIRECTORY, directory, ignore=shutil.ignore_patterns("*-aot-*"))
    try:
        lab.env["AMPHORA_ENGINE_DIR"] = directory
        r = amphora.run("/app.wasm", "echo", change=annotated(AOT))
        check(r.code != 0 and len(r.err.strip().splitlines()) == 1, f"{r!r}")
        contains(r.err, "option code: aot wants libamphora-aot-wamr.so and LLVM 19 (Debian: libllvm19), or use code: interpreter")
        equal(amphora.run("/app.wasm", "echo", "well", change=annotated("wamr")).out, "well\n", "the interpreter needs neither")
    finally:
        lab.env.clear()
        lab.env.update(kept)
        shutil.rmtree(directory)


def test_an_option_that_the_engine_lacks_is_named(lab):
    engines()
    r = Cli(lab).run("/app.wasm", "echo", change=annotated("wamr", annotations={"amphora.dev/engine.fuel": "9"}))
    check(r.code != 0, f"{r!r}")
    contains(r.err, "unknown option fuel; known options: backtrace (off), code (interpreter, aot), memory-max (bytes)")


def test_an_engine_that_is_not_installed_is_an_error_that_names_the_file(lab):
    r = Cli(lab).run("/app.wasm", "echo", change=annotated("nonesuch"))
    check(r.code != 0, f"{r!r}")
    contains(r.err, "libamphora-")
    contains(r.err, "nonesuch.so")


def test_a_component_is_refused_by_an_engine_for_modules(lab):
    engines()
    amphora = Cli(lab)

    path = f"{lab.dir if hasattr(lab, 'dir') else '/mnt/lab'}/component.wasm"
    with open(path, "wb") as f:
        f.write(bytes([0, 0x61, 0x73, 0x6D, 0x0D, 0, 1, 0]))

    def change(spec):
        annotated("wamr")(spec)
        spec["mounts"].append({"destination": "/component.wasm", "type": "bind", "source": path, "options": ["bind", "ro"]})
    r = amphora.run("/component.wasm", change=change)
    check(r.code != 0, f"{r!r}")
    contains(r.err, "engine wamr 2.4.3 does not run a")


def test_the_documented_table_is_what_the_engines_say(lab):
    if engines() != list(ENGINES):
        raise Skip("the table has both engines")
    r = L.command(["python3", "/mnt/src/tools/engines.py", "--check", DIRECTORY])
    equal((r.code, r.out), (0, ""), r.err)


def check_declared_layers(lab):
    """A layer type that means nothing to anybody but the example engine, which declares it."""
    Cli(lab).needs_controller("cpu")  # ctr run sets cpu shares
    image, tar, root = "amphora.test/declared:1", f"{L.LAB}/declared.tar", f"{L.LAB}/declared-root"
    with open(L.GUESTS + "/demo.wasm", "rb") as f:
        images.write_wasm(tar, image, [("application/vnd.example.app.v1", f.read(), "app.wasm")])
    lab.ctr("images", "import", "--no-unpack", tar).ok()
    os.makedirs(root)
    options = ["--rootfs", "--annotation", "amphora.dev/image=" + image]
    r = lab.run(L.AMPHORA, root, "/app.wasm", "echo", "declared", options=[*options, "--annotation", "amphora.dev/engine=example"])
    equal((r.code, r.out), (0, "declared\n"), f"{r!r}")
    r = lab.run(L.AMPHORA, root, "/app.wasm", "echo", "declared", options=options)
    check(r.code != 0 and "no such file" in r.err, f"an engine that did not declare it: {r!r}")


def test_an_engine_built_out_of_tree_against_the_installed_header(lab):
    prefix = "/mnt/lab/prefix"
    if not os.path.exists("/usr/bin/cc"):
        raise Skip("no C compiler here")
    made = []
    try:
        for role, flags in (("engine", []), ("compiler", ["-DCOMPILER"])):
            made.append(f"{prefix}/lib/amphora/libamphora-{role}-example.so")
            L.command(["/usr/bin/cc", "-shared", "-fPIC", "-Wall", "-Wextra", "-Werror", f"-I{prefix}/include", *flags,
                       f'-DENGINES="{prefix}/lib/amphora"', "-Wl,-Bsymbolic", "/mnt/src/examples/engine/engine.c", "-ldl", "-o", made[-1]],
                      env=lab.env).ok()
        amphora = Cli(lab)
        r = amphora.run("/app.wasm", "echo", "by somebody else", change=annotated("example"))
        equal((r.code, r.out), (0, "by somebody else\n"), f"{r!r}")
        equal(amphora.run("/app.wasm", "exit", "42", change=annotated("example")).code, 42)
        r = amphora.run("/app.wasm", "trap", change=annotated("example"))
        equal(r.code, 134, f"{r!r}")
        check_declared_layers(lab)
    finally:
        for path in made:
            if os.path.exists(path):
                os.unlink(path)
