# SPDX-License-Identifier: Apache-2.0
"""Options of guests by annotation (docs/wasm.md): one spelling for all engines, wrong ones refused."""

from tests.support import lab as L
from tests.support.command import Cli
from tests.support.components import spec_with
from tests.support.runner import check, contains, equal
from tests.support.wasm import bind, threads_module

TMP = {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["mode=1777"]}


def run(lab, *args, engine=None, mounts=(), **options):
    annotations = {key.replace("_", "-"): value for key, value in options.items()}
    if engine:
        annotations["amphora.dev/engine"] = engine
    return Cli(lab).run(*args, change=spec_with(annotations=annotations, mounts=[TMP, *mounts]))


def test_unknown_options_list_the_known_ones(lab):
    r = run(lab, "/app.wasm", "echo", colour="red")
    check(r.code != 0, f"{r!r}")
    contains(r.err, "unknown option colour; known options: backtrace (on, off)")
    contains(r.err, "for every engine: cache (on, off)")


def test_wrong_values_say_what_is_right(lab):
    for name, value, words in (("memory_max", "much", "a number of bytes"), ("cache", "maybe", "on or off"),
                               ("preopen", "data", "/PATH=NAME:ro"), ("preopen", "/a/../b", "/PATH=NAME:ro"),
                               ("http_backlog", "0", "a number from 1 to 65535"), ("fuel", "x", "a number"),
                               ("stack", "1", "65536 to 268435456"), ("features", "+colour", "known features: custom-page-sizes"),
                               ("coredump", "core", "an absolute path"), ("tick", "0", "milliseconds")):
        r = run(lab, "/app.wasm", "echo", **{name: value})
        check(r.code != 0, f"{name}={value}: {r!r}")
        contains(r.err, words, f"{name}={value}")


def test_preopens_narrow_what_the_guest_sees(lab):
    for engine in ("wasmtime", "wamr"):
        r = run(lab, "/app.wasm", "read", "/etc/passwd", engine=engine, preopen="/etc=/config")
        check(r.code == 1, f"{engine}: {r!r}")
        contains(run(lab, "/app.wasm", "read", "/config/passwd", engine=engine, preopen="/etc=/config").ok().out, "root:", engine)
        equal(run(lab, "/app.wasm", "ls", "/", engine=engine, preopen="none").code, 1, engine)
        equal(run(lab, "/app.wasm", "write", "/tmp/x", "y", engine=engine, preopen="/tmp, /etc").code, 0, engine)
    r = run(lab, "/app.wasm", "write", "/tmp/x", "y", preopen="/tmp:ro")
    check(r.code == 1, f"a read-only directory was written: {r!r}")
    r = run(lab, "/app.wasm", "ls", "/", preopen="/nowhere")
    check(r.code != 0, f"{r!r}")
    contains(r.err, "preopen /nowhere: No such file or directory")


def test_memory_is_bounded(lab):
    for engine in ("wasmtime", "wamr"):
        r = run(lab, "/app.wasm", "echo", "fits", engine=engine, memory_max="16M")
        equal(r.out, "fits\n", f"{engine}: {r!r}")
        r = run(lab, "/app.wasm", "echo", "x", engine=engine, memory_max="64K")
        check(r.code != 0, f"{engine}: a guest of two pages and more got one: {r!r}")


def test_memory_is_bounded_by_the_containers_limit(lab):
    reserve = bind("reserve.wat", '(module (memory (export "memory") 1) (func (export "_start") (result i32)\n'
                   '(i32.eq (memory.grow (i32.const 1599)) (i32.const -1))))')

    def grown(limit):
        r = Cli(lab).run("/reserve.wat", change=spec_with(mounts=[reserve], memory=limit))
        return r.code
    Cli(lab).needs_controller("memory")
    equal(grown(64 << 20), 1, "100 MiB reserved with a limit of 64")
    equal(grown(96 << 20), 0, "100 MiB reserved with a limit of 96")


def test_fuel_ends_a_guest(lab):
    equal(run(lab, "/app.wasm", "echo", "cheap", fuel="1000000").out, "cheap\n")
    r = run(lab, "/app.wasm", "busy", fuel="1000000")
    equal(r.code, 134, f"{r!r}")
    contains(r.err, "all fuel consumed by WebAssembly")


def test_stack_is_bounded(lab):
    deep = bind("deep.wat", '(module (func $f (param i32) (result i32) (if (result i32) (local.get 0) (then (i32.add (i32.const 1)\n'
                '(call $f (i32.sub (local.get 0) (i32.const 1))))) (else (i32.const 0))))\n'
                '(func (export "_start") (drop (call $f (i32.const 20000)))))')
    equal(run(lab, "/deep.wat", mounts=[deep]).code, 0)
    r = run(lab, "/deep.wat", mounts=[deep], stack="65536")
    equal(r.code, 134, f"{r!r}")
    contains(r.err, "call stack exhausted")


def test_features_are_switched(lab):
    simd = bind("simd.wat", '(module (func (export "_start") (drop (i32x4.splat (i32.const 1)))))')
    equal(run(lab, "/simd.wat", mounts=[simd]).code, 0)
    r = run(lab, "/simd.wat", mounts=[simd], features="-simd -relaxed-simd")
    check(r.code != 0, f"{r!r}")
    contains(r.err, "SIMD support is not enabled")
    wide = bind("wide.wat", '(module (func (export "_start") (i64.mul_wide_u (i64.const 1) (i64.const 2)) (drop) (drop)))')
    check(run(lab, "/wide.wat", mounts=[wide], features="-wide-arithmetic").code != 0, "a switched-off feature was used")
    r = run(lab, "/wide.wat", mounts=[wide], features="wide-arithmetic")
    equal(r.code, 0, f"{r!r}")


def test_a_trap_leaves_a_core_dump_if_asked(lab):
    share = f"{L.LAB}/cores"
    mount = bind("cores", None, "/cores", share)
    r = run(lab, "/app.wasm", "trap", mounts=[mount], coredump="/cores/core")
    equal(r.code, 134, f"{r!r}")
    contains(r.err, "coredump written to /cores/core")
    with open(share + "/core", "rb") as f:
        equal(f.read(4), b"\0asm")
    r = run(lab, "/app.wasm", "trap", mounts=[mount], coredump="/cores/core")
    equal(r.code, 134)
    contains(r.err, "coredump /cores/core: File exists")


def test_threads_run_on_the_engine_that_has_them(lab):
    module = bind("threads.wasm", threads_module())
    r = run(lab, "/threads.wasm", mounts=[module])
    equal(r.code, 5, f"nobody chose: WAMR: {r!r}")
    equal(run(lab, "/threads.wasm", mounts=[module]).code, 5, "the second time")
    equal(run(lab, "/threads.wasm", mounts=[module], engine="wamr").code, 5, "chosen")
    r = run(lab, "/threads.wasm", mounts=[module], engine="wasmtime")
    check(r.code != 0, f"{r!r}")
    contains(r.err, "wants wasi-threads, which wasmtime does not have; engine wamr has them")
