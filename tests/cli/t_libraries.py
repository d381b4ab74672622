# SPDX-License-Identifier: Apache-2.0
"""Libraries that are files of the container, named by the annotation amphora.dev/engine.link. What linking is and which
errors it has: tests/shim/t_libraries.py."""

import os
import shutil

from tests.support import lab as L
from tests.support.command import Cli
from tests.support.components import need
from tests.support.runner import check, contains, equal

FILES = ("linked.wasm", "math.wasm", "square.wat", "words.wasm", "wordsapp.wasm", "letters.wat")


def spec_with(link=None, source=L.GUESTS, **annotations):
    def change(spec):
        for name in FILES:
            if os.path.exists(f"{source}/{name}"):
                spec["mounts"].append({"destination": "/app/" + name, "type": "bind", "source": f"{source}/{name}", "options": ["bind", "ro"]})
        found = {"amphora.dev/engine." + key: value for key, value in annotations.items()}
        if link is not None:
            found["amphora.dev/engine.link"] = link
        spec.setdefault("annotations", {}).update(found)
    return change


def test_files_are_linked(lab):
    amphora = Cli(lab)
    change = spec_with("/app/math.wasm, /app/square.wat")
    equal(amphora.run("/app/linked.wasm", "add", "20", "22", change=change).ok().out, "math: initialized 1 times\n42\n")
    equal(amphora.run("/app/linked.wasm", "hypotenuse2", "3", "4", change=change).ok().out, "25\n")
    need("wordsapp.wasm")
    change = spec_with("/app/letters.wat,/app/words.wasm")
    equal(amphora.run("/app/wordsapp.wasm", "world", change=change).ok().out, "words: greeting, with 2 arguments\nhello WORLD\n42\n")


def test_without_a_cache_too(lab):
    change = spec_with("/app/math.wasm,/app/square.wat", cache="off")
    equal(Cli(lab).run("/app/linked.wasm", "hypotenuse2", "3", "4", change=change).ok().out, "25\n")


def test_what_is_wrong_with_the_annotation(lab):
    amphora = Cli(lab)
    for value, words in (("/app/none.wasm", "/app/none.wasm: no such file"), ("math.wasm", "is not /PATH, /PATH, ..."),
                         ("", "is not /PATH"), ("/app/math.wasm,", "is not /PATH"), ("/app/", "is not /PATH"),
                         (",".join(["/app/math.wasm"] * 65), "at most 64"),
                         ("/app/math.wasm", "there is no library square.wasm (looked at: math.wasm)"),
                         ("/app/math.wasm,/app/square.wat,/app/math.wasm", "two libraries are called math")):
        r = amphora.run("/app/linked.wasm", "add", "1", "2", change=spec_with(value))
        check(r.code not in (0, 64), f"{value}: it ran")
        contains(r.err, words)
        check("looked at" in words or "called" in words or "amphora.dev/engine.link" in r.err, f"{value}: the annotation is not named")
    # Who imports nothing does not care what its libraries are; a native program not even whether they are there.
    equal(amphora.run("/app.wasm", "exit", "42", change=spec_with("/etc/passwd")).code, 42)
    equal(amphora.run("/bin/demo", "exit", "41", change=spec_with("/nowhere")).code, 41)


def test_a_library_that_changes_is_linked_anew(lab):
    amphora = Cli(lab)
    folder = f"{L.LAB}/{lab.new_id('files')}"
    os.makedirs(folder)
    for name in FILES[:3]:
        shutil.copy(f"{L.GUESTS}/{name}", folder)
    change = spec_with("/app/math.wasm,/app/square.wat", source=folder)
    equal(amphora.run("/app/linked.wasm", "hypotenuse2", "3", "4", change=change).ok().out, "25\n")
    with open(folder + "/square.wat", "w", encoding="utf-8") as f:
        f.write('(module (func (export "of") (param i32) (result i32) (i32.const 100)))')
    equal(amphora.run("/app/linked.wasm", "hypotenuse2", "3", "4", change=change).ok().out, "200\n")


def test_an_exec_is_linked_too(lab):
    amphora = Cli(lab)
    id = amphora.running("/bin/demo", "sleep", "100", change=spec_with("/app/math.wasm,/app/square.wat"))
    equal(amphora("exec", id, "/app/linked.wasm", "hypotenuse2", "6", "8").ok().out, "100\n")
    amphora("delete", "--force", id).ok()


def test_cache_warm_with_libraries(lab):
    env = dict(lab.env, AMPHORA_CACHE_DIR=f"{L.LAB}/{lab.new_id('cache')}")
    warm = ["amphora", "cache", "warm", "--link", f"{L.GUESTS}/math.wasm", "--link", f"{L.GUESTS}/square.wat"]
    L.command([*warm, f"{L.GUESTS}/linked.wasm"], env=env).ok()
    listed = L.command(["amphora", "cache", "ls"], env=env).ok().out
    contains(listed, "linked.wasm linked")
    contains(L.command([*warm[:3], f"{L.GUESTS}/linked.wasm"], env=env).err, "unknown import: math::add")
