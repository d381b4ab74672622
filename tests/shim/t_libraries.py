# SPDX-License-Identifier: Apache-2.0
"""Images whose wasm layers import from each other (docs/images.md, "Libraries"), through ctr: modules with libraries,
components, what is shared, what is an error. Which layer is run and how artifacts are kept is in t_images.py."""

import os

from tests.shim.t_images import BLOBS, COMPONENT_LAYER, CONTENT_LAYER, Image, compiled_of, contents, exits, guest, records
from tests.support import lab as L
from tests.support.runner import Skip, check, contains, equal, eventually

WASM = "application/wasm"


def modules(lab, *more, **options):
    """The program linked.wasm, with math.wasm, which wants square.wat, in layers of every packing."""
    layers = [(WASM, guest("linked.wasm"), "linked.wasm"), (WASM + "+gzip", guest("math.wasm"), "math.wasm"),
              (CONTENT_LAYER, guest("square.wat"), "square.wat")]
    return Image(lab, layers + list(more), entrypoint=("/linked.wasm",), **options)


def variant(name, word):
    """The same module with other bytes."""
    return guest(name) + bytes([0, 5 + len(word), 4]) + b"note" + word.encode()


def components(lab):
    return Image(lab, [(COMPONENT_LAYER, guest("letters.wat"), "letters.wat"), (COMPONENT_LAYER, guest("wordsapp.wasm"), "wordsapp.wasm"),
                       (COMPONENT_LAYER + "+zstd", guest("words.wasm"), "words.wasm")], entrypoint=("/wordsapp.wasm",), os_name="wasip2")


def test_a_module_and_its_libraries(lab):
    """Each has its own memory, constructors run once, and all print to the same stream."""
    image = modules(lab)
    equal(image.run("/linked.wasm", "add", "20", "22").ok().out, "math: initialized 1 times\n42\n")
    equal(image.run("/linked.wasm", "hypotenuse2", "3", "4").ok().out, "25\n", "through a library of the library")
    r = image.run("/linked.wasm", "trap")
    equal(r.code, 134, "a trap in a library")
    contains(r.err, "fail", "the backtrace has the library's function")
    equal(image.run("/linked.wasm").code, 64, "the program's own exit code")


def test_a_library_is_an_entrypoint_too(lab):
    image = modules(lab)
    equal(image.run("/math.wasm#hypotenuse2", "5", "12").ok().out, "169\n")
    equal(image.run("/square.wat#of", "9").ok().out, "81\n")


def test_components_become_one(lab):
    """An interface with a function, a resource and standard output of a library, which has a library in text."""
    image = components(lab)
    equal(image.run("/wordsapp.wasm", "world").ok().out, "words: greeting, with 2 arguments\nhello WORLD\n42\n")
    equal(image.run("/wordsapp.wasm", "again").ok().out, "words: greeting, with 2 arguments\nhello AGAIN\n42\n")
    equal(len(compiled_of(lab, image.layers[1])), 1, "artifacts of the entrypoint's layer")


def test_a_second_start_links_nothing(lab):
    image = modules(lab)
    image.run("/linked.wasm", "hypotenuse2", "1", "1").ok()
    image.run("/linked.wasm", "hypotenuse2", "1", "1").ok()
    settled = records()
    compiled = compiled_of(lab, image.layers[0])
    # Were a layer read or a compiler started, this could not go well.
    for layer in image.layers[1:]:
        path = BLOBS + layer.removeprefix("sha256:")
        os.rename(path, path + ".away")
    try:
        equal(image.run("/linked.wasm", "hypotenuse2", "2", "2").ok().out, "8\n")
    finally:
        for layer in image.layers[1:]:
            path = BLOBS + layer.removeprefix("sha256:")
            os.rename(path + ".away", path)
    equal(records(), settled, "records after a start that links nothing")
    equal(compiled_of(lab, image.layers[0]), compiled)


def test_another_library_is_another_artifact(lab):
    program = variant("linked.wasm", "another library")
    layers = [(WASM, program, "linked.wasm"), (WASM, guest("math.wasm"), "math.wasm")]
    wrong = b'(module (func (export "of") (param i32) (result i32) (i32.const 1)))'
    first = Image(lab, [*layers, (WASM, guest("square.wat"), "square.wat")])
    equal(first.run("/linked.wasm", "hypotenuse2", "3", "4").ok().out, "25\n")
    second = Image(lab, [*layers, (WASM, wrong, "square.wat")])
    equal(second.run("/linked.wasm", "hypotenuse2", "3", "4").ok().out, "2\n")
    equal(len(set(compiled_of(lab, first.layers[0]))), 2, "artifacts of the layer that both have")
    equal(first.run("/linked.wasm", "hypotenuse2", "3", "4").ok().out, "25\n", "the first one again")


def test_artifacts_go_with_the_entrypoints_layer(lab):
    # Code of its own: an artifact that other layers have too is kept for them.
    program = b"""(module (import "square" "of" (func $of (param i32) (result i32))) (memory (export "memory") 1)
        (func (export "_start") (if (i32.ne (call $of (i32.const 77)) (i32.const 5929)) (then unreachable))))"""
    image = Image(lab, [(WASM, program, "goes.wat"), (WASM, guest("square.wat"), "square.wat")])
    image.run("/goes.wat").ok()
    compiled = compiled_of(lab, image.layers[0])
    equal(len(compiled), 1)
    image.remove()
    eventually(lambda: compiled[0] not in contents(lab), 10, "the artifact goes with its image")


def test_commands_that_import_nothing_are_not_linked(lab):
    """Such a layer has one artifact, whatever lies beside it."""
    module = exits(33)
    alone = Image(lab, [(WASM, module, "one.wasm")])
    equal(alone.run("/one.wasm").code, 33)
    compiled = compiled_of(lab, alone.layers[0])
    beside = Image(lab, [(WASM, module, "one.wasm"), (WASM, b"no WebAssembly", "two.wasm")])
    equal(beside.run("/one.wasm").code, 33)
    equal(compiled_of(lab, beside.layers[0]), compiled)


def test_what_cannot_be_linked_is_one_line(lab):
    """Each names importer, import and what was looked at."""
    program, math, square = ((WASM, guest(name), name) for name in ("linked.wasm", "math.wasm", "square.wat"))

    def refused(words, *layers, options=()):
        r = Image(lab, [program, *layers]).run("/linked.wasm", "add", "1", "2", options=options)
        check(r.code not in (0, 64), f"it ran: {r!r}")
        contains(r.err, words)
    refused("unknown import: math.wasm imports square::of, and there is no library square.wasm (looked at: math.wasm)", math)
    refused("unknown import: linked.wasm imports math::add, and there is no library math.wasm (looked at: square.wat)", square)
    refused("linked.wasm imports math::add, and two libraries are called math", math, square, (WASM, guest("square.wat"), "math.wat"))
    refused("square.wat imports math::add: modules import from each other in a circle", math,
            (WASM, b'(module (import "math" "add" (func)) (func (export "of") (param i32) (result i32) i32.const 1))', "square.wat"))
    refused("unknown import: linked.wasm imports math::hypotenuse2, which math.wasm does not export",
            (WASM, b'(module (func (export "add") (param i32 i32) (result i32) i32.const 1))', "math.wasm"))
    refused("linked.wasm imports math::add as (type (func (param i32 i32) (result i32))), and math.wasm has (type (func (param i32)))",
            (WASM, b'(module (func (export "add") (param i32)))', "math.wasm"))
    refused("math.wasm is a component", (WASM, guest("letters.wat"), "math.wasm"))
    refused("math.wasm: neither a WebAssembly binary nor text", (WASM, b"text", "math.wasm"))


def test_without_a_library_the_import_is_named(lab):
    r = Image(lab, [(WASM, guest("linked.wasm"), "linked.wasm")]).run("/linked.wasm")
    check(r.code != 0, "it ran")
    contains(r.err, "unknown import: math::add and 2 more; this engine offers wasi_snapshot_preview1 to modules")


def test_components_that_cannot_be_linked(lab):
    app, words, letters = ((COMPONENT_LAYER, guest(name), name) for name in ("wordsapp.wasm", "words.wasm", "letters.wat"))

    def refused(text, *layers):
        r = Image(lab, [app, *layers], os_name="wasip2").run("/wordsapp.wasm", "x")
        check(r.code != 0, f"it ran: {r!r}")
        contains(r.err, text)
    refused("unknown import: words.wasm imports amphora:link/letters@0.1.0, which no library exports (looked at: words.wasm)", words)
    refused("unknown import: wordsapp.wasm imports amphora:link/words@0.1.0, which no library exports (looked at: letters.wat)", letters)
    refused("wordsapp.wasm imports amphora:link/words@0.1.0, which both words.wasm and more.wasm export", words, letters,
            (COMPONENT_LAYER, guest("words.wasm"), "more.wasm"))
    other = b'(component (instance $o) (export "amphora:link/letters@0.1.0" (instance $o)))'
    refused("words.wasm imports amphora:link/letters@0.1.0 from letters.wat", words, (COMPONENT_LAYER, other, "letters.wat"))


def test_an_engine_that_links_nothing_says_so(lab):
    image = modules(lab)
    r = image.run("/linked.wasm", "add", "1", "2", options=["--annotation", "amphora.dev/engine=wamr"])
    if "is not installed" in r.err:
        raise Skip("engine wamr was not built")
    check(r.code != 0, "it ran")
    contains(r.err, "unknown import: math::")
    contains(r.err, "links no libraries, engine wasmtime does")


def test_a_library_that_has_gone_is_named(lab):
    image = Image(lab, [(WASM, variant("linked.wasm", "gone"), "linked.wasm"), (WASM, variant("math.wasm", "gone"), "math.wasm"),
                        (WASM, guest("square.wat"), "square.wat")])
    lab.ctr("content", "rm", image.layers[1]).ok()
    r = image.run("/linked.wasm", "add", "1", "2")
    check(r.code != 0, "it ran")
    contains(r.err, "layer math.wasm")
    contains(r.err, "not found")


def test_a_library_with_other_bytes_is_not_linked(lab):
    image = Image(lab, [(WASM, variant("linked.wasm", "bytes"), "linked.wasm"), (WASM, variant("math.wasm", "bytes"), "math.wasm"),
                        (WASM, guest("square.wat"), "square.wat")])
    path = BLOBS + image.layers[1].removeprefix("sha256:")
    os.chmod(path, 0o644)
    with open(path, "r+b") as f:
        f.seek(-1, os.SEEK_END)
        f.write(b"!")
    r = image.run("/linked.wasm", "add", "1", "2")
    check(r.code != 0, "it ran")
    contains(r.err, "layer math.wasm")


def test_cache_warm_links_too(lab):
    image = Image(lab, [(WASM, variant("linked.wasm", "warm"), "linked.wasm"), (WASM, guest("math.wasm"), "math.wasm"),
                        (WASM, guest("square.wat"), "square.wat")])
    env = dict(lab.env, AMPHORA_BIN_DIR=L.LAB + "/prefix/bin")
    L.command(["amphora", "cache", "warm", "--image", image.name, "linked.wasm"], env=env).ok()
    compiled = compiled_of(lab, image.layers[0])
    equal(len(compiled), 1)
    image.run("/linked.wasm", "hypotenuse2", "1", "1").ok()
    equal(compiled_of(lab, image.layers[0]), compiled)
