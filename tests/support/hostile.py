# SPDX-License-Identifier: Apache-2.0
"""Modules that mean harm: to a compiler, to a parser, to whoever runs them. Made when asked for, since
some are large; seeds are fixed, so every run has the same bytes."""

import random

from tests.support.wasm import function, leb, module, name, section, vector

FUNC = b"\x60\0\0"  # () -> ()
START = (7, vector([name("_start") + b"\0\0"]))


def with_body(code, local_types=b"\0"):
    return module((1, vector([FUNC])), (3, vector([b"\0"])), START, (10, vector([function(code, local_types)])))


def many_functions(count):
    one = function(b"")
    return module((1, vector([FUNC])), (3, leb(count) + b"\0" * count), START, (10, leb(count) + one * count))


def memory(limits, code=b""):
    return module((1, vector([FUNC])), (3, vector([b"\0"])), (5, vector([limits])), START, (10, vector([function(code)])))


def table(minimum):
    return module((1, vector([FUNC])), (3, vector([b"\0"])), (4, vector([b"\x70\0" + leb(minimum)])), START,
                  (10, vector([function(b"")])))


def stack_of(op, count):
    """Values pushed and taken off again: long code without a loop."""
    return b"\x41\1" * count + op * (count - 1) + b"\x1a"


def cases(demo):
    """name -> bytes."""
    many = {
        "a-million-functions": many_functions(1_000_000),
        "deep-blocks": with_body(b"\x02\x40" * 100_000 + b"\x0b" * 100_000),
        "deep-ifs": with_body((b"\x41\0\x04\x40" * 20_000) + b"\x0b" * 20_000),
        "long-expression": with_body(stack_of(b"\x6a", 300_000)),
        "huge-br-table": with_body(b"\x02\x40\x41\0\x0e" + leb(1_000_000) + b"\0" * 1_000_001 + b"\x0b"),
        "nested-br-tables": with_body(b"\x02\x40" * 500 + b"".join(
            b"\x41\0\x0e" + leb(500) + b"".join(leb(i) for i in range(500)) + b"\0" for _ in range(200)) + b"\x0b" * 500),
        "fifty-thousand-locals": with_body(b"", vector([leb(50_000) + b"\x7e"])),
        "a-billion-locals": with_body(b"", vector([leb(1_000_000_000) + b"\x7e"])),
        "memory-of-4-gib": memory(b"\0" + leb(65536)),
        "memory-of-4-gib-touched": memory(b"\0" + leb(65536), b"\x03\x40\x41\0\x41\0\x41\xff\xff\xff\xff\x07\xfc\x0b\0\x0c\0\x0b"),
        "memory-past-4-gib": memory(b"\0" + leb(65537)),
        "memory-that-grows": memory(b"\0\1", b"\x03\x40\x41\x10\x40\0\x1a\x0c\0\x0b"),
        "table-of-ten-million": table(10_000_000),
        "table-of-four-billion": table(0xFFFFFFFF),
        "endless-start": module((1, vector([FUNC])), (3, vector([b"\0"])), START, (8, b"\0"),
                                (10, vector([function(b"\x03\x40\x0c\0\x0b")]))),
        "endless-recursion": with_body(b"\x10\0"),
        "a-million-exports": module((1, vector([FUNC])), (3, vector([b"\0"])),
                                    (7, leb(1_000_000) + b"".join(name(f"e{i}") + b"\0\0" for i in range(1_000_000))),
                                    (10, vector([function(b"")]))),
        "a-million-types": module((1, leb(1_000_000) + FUNC * 1_000_000)),
        "count-without-content": module((1, leb(0xFFFFFFFF))),
        "overlong-leb": b"\0asm\1\0\0\0\1" + b"\x80" * 200 + b"\0",
        "sections-out-of-order": module((10, vector([function(b"")])), (1, vector([FUNC]))),
        "section-past-the-end": b"\0asm\1\0\0\0\x0a\xff\xff\xff\x07",
        "name-with-control-characters": module((2, vector([name("\x1b[2J\nenv") + name("\r\n\0x") + b"\0\0"])), (1, vector([FUNC]))),
        "import-with-control-characters": module((1, vector([FUNC])), (2, vector([name("\x1b[31mred") + name("a\nb") + b"\0\0"])),
                                                 (7, vector([name("_start") + b"\0\0"]))),
        "huge-custom-section": module((0, name("x") + b"\0" * (64 << 20)), (1, vector([FUNC])), (3, vector([b"\0"])), START,
                                      (10, vector([function(b"")]))),
        "version-of-the-future": b"\0asm\2\0\0\0",
        "header-only": b"\0asm\1\0\0\0",
        "component-header-only": b"\0asm\x0d\0\1\0",
        "component-in-component": nested_components(2000),
        "parentheses": b"(module " + b"(func " * 100_000 + b")" * 100_001,
        "text-of-blocks": b"(module (func (export \"_start\") " + b"(block " * 50_000 + b")" * 50_000 + b"))",
    }
    numbers = random.Random(6)
    for i in range(24):
        broken = bytearray(demo)
        for _ in range(numbers.choice((1, 4, 64))):
            broken[numbers.randrange(8, len(broken))] = numbers.randrange(256)
        many[f"mutation-{i}"] = bytes(broken)
    for i in range(8):
        many[f"cut-{i}"] = demo[:numbers.randrange(9, len(demo))]
    return many


def nested_components(depth):
    inner = b"\0asm\x0d\0\1\0"
    for _ in range(depth):
        inner = b"\0asm\x0d\0\1\0" + section(4, inner)
    return inner
