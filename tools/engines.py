#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""engines.py [--check|--write] DIRECTORY: what the engines in it (libamphora-{engine,compiler}-NAME.so) say of
themselves, as the tables of docs/engines.md between its two marks. Prints them, or compares the document with
them, or writes them there. Each engine is loaded in a process of its own, as in the wasm host."""

import ctypes
import json
import os
import re
import subprocess
import sys

PAGE = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "docs", "engines.md")
MARKS = ("<!-- made by tools/engines.py -->\n", "<!-- end -->\n")
HEADER = os.path.join(os.path.dirname(PAGE), "..", "wasm", "include", "amphora", "engine.h")
ORDER = ["wasmtime", "wamr"]  # others follow by name
ROWS = [("modules, WASI preview 1", "MODULES"), ("components, WASI 0.2", "COMPONENTS"), ("text (wat)", "WAT"),
        ("wasi:http/incoming-handler", "HTTP"), ("wasi-threads", "THREADS"), ("sockets", "SOCKETS"),
        ("neural networks", "NN"), ("libraries (images.md)", "LINK")]


class Error(ctypes.Structure):
    _fields_ = [("text", ctypes.c_char_p), ("capacity", ctypes.c_size_t)]


class Config(ctypes.Structure):
    _fields_ = [("size", ctypes.c_size_t), ("options", ctypes.POINTER(ctypes.c_char_p)), ("directory", ctypes.c_char_p)]


class Engine(ctypes.Structure):
    """The beginning of amphora_engine."""
    _fields_ = [("size", ctypes.c_size_t), ("abi_version", ctypes.c_uint32), ("name", ctypes.c_char_p),
                ("version", ctypes.c_char_p), ("capabilities", ctypes.CFUNCTYPE(ctypes.c_uint32)),
                ("layer_types", ctypes.c_void_p),
                ("prepare", ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(Config), ctypes.POINTER(Error)))]


def constants():
    with open(HEADER, encoding="utf-8") as f:
        return {name: int(value, 16) for name, value in re.findall(r"#define AMPHORA_CAP_(\w+) (0x[0-9a-f]+)u", f.read())}


def ask(directory, name):
    """Capabilities of both objects, and the options that the running one knows: the error about another lists them."""
    capabilities = 0
    for role in ("compiler", "engine"):
        library = ctypes.CDLL(f"{directory}/libamphora-{role}-{name}.so", mode=os.RTLD_NOW | os.RTLD_LOCAL)
        library.amphora_engine_entry.restype = ctypes.POINTER(Engine)
        engine = library.amphora_engine_entry().contents
        capabilities |= engine.capabilities()
    buffer = ctypes.create_string_buffer(4096)
    error = Error(ctypes.cast(buffer, ctypes.c_char_p), len(buffer))
    options = (ctypes.c_char_p * 3)(b"nonesuch", b"", None)
    if engine.prepare(Config(ctypes.sizeof(Config), options, None), error) == 0:
        raise SystemExit(f"engine {name} takes an option that there is none of")
    known = buffer.value.decode().partition("known options: ")[2]
    return {"version": engine.version.decode(), "capabilities": capabilities,
            "options": re.findall(r"([a-z][a-z-]*) \(", known)}


def tables(directory):
    names = [f[len("libamphora-engine-"):-len(".so")] for f in os.listdir(directory) if re.fullmatch(r"libamphora-engine-[\w-]+\.so", f)]
    names.sort(key=lambda name: (ORDER.index(name) if name in ORDER else len(ORDER), name))
    if not names:
        raise SystemExit(f"there are no engines in {directory}")
    said = {}
    for name in names:
        r = subprocess.run([sys.executable, __file__, "--ask", directory, name], capture_output=True, text=True, check=False)
        if r.returncode != 0:
            raise SystemExit(f"engine {name}: {r.stderr}")
        said[name] = json.loads(r.stdout)
    bits = constants()
    options = sorted({option for engine in said.values() for option in engine["options"]})

    def table(head, rows):
        yield f"| {head} | " + " | ".join(f"{name} {said[name]['version']}" for name in names) + " |"
        yield "| --- |" + " --- |" * len(names)
        for label, has in rows:
            yield f"| {label} | " + " | ".join("yes" if has(said[name]) else "no" for name in names) + " |"
    lines = ["", *table("what it can do", [(label, lambda e, bit=bits[bit]: e["capabilities"] & bit) for label, bit in ROWS]), "",
             *table("option", [(f"`{option}`", lambda e, option=option: option in e["options"]) for option in options])]
    return "\n".join(lines) + "\n\n"


def main():
    words = sys.argv[1:]
    if words[:1] == ["--ask"]:
        print(json.dumps(ask(*words[1:3])))
        return 0
    action = words.pop(0) if words[:1] in (["--check"], ["--write"]) else None
    if len(words) != 1:
        raise SystemExit(__doc__)
    made = tables(words[0])
    if action is None:
        print(made, end="")
        return 0
    with open(PAGE, encoding="utf-8") as f:
        page = f.read()
    before, rest = page.split(MARKS[0])
    now, after = rest.split(MARKS[1])
    if action == "--write":
        with open(PAGE, "w", encoding="utf-8") as f:
            f.write(before + MARKS[0] + made + MARKS[1] + after)
        return 0
    if now == made:
        return 0
    print(f"docs/engines.md is not what the engines say (tools/engines.py --write {words[0]}):\n{made}")
    return 1


if __name__ == "__main__":
    sys.exit(main())
