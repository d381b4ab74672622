# SPDX-License-Identifier: Apache-2.0
"""Small modules as bytes, and mounts that bring them into a container."""

import os

from tests.support import lab as L


def bind(name, content, destination=None, source=None):
    """A mount of a file with that content (none: a directory `source`, made if missing)."""
    path = source or f"{L.LAB}/modules/{name}"
    if content is None:
        os.makedirs(path, exist_ok=True)
    else:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as f:
            f.write(content if isinstance(content, bytes) else content.encode())
    return {"destination": destination or "/" + name, "type": "bind", "source": path,
            "options": ["bind", "rw" if content is None else "ro"]}


def leb(number):
    out = bytearray()
    while True:
        out.append(number & 0x7F | (0x80 if number > 0x7F else 0))
        number >>= 7
        if not number:
            return bytes(out)


def vector(parts):
    return leb(len(parts)) + b"".join(parts)


def section(id, body):
    return bytes([id]) + leb(len(body)) + body


def name(text):
    return leb(len(text)) + text.encode()


def module(*sections):
    return b"\0asm\1\0\0\0" + b"".join(section(id, body) for id, body in sections)


def function(code, local_types=b"\0"):
    body = local_types + code + b"\x0b"
    return leb(len(body)) + body


def threads_module():
    """_start makes a thread by wasi-threads, waits for what it writes, and exits with it (5)."""
    i32, i64_forever = b"\x7f", b"\x42\x7f"
    types = [b"\x60" + vector(p) + vector(r) for p, r in (
        ([i32], [i32]), ([i32, i32], []), ([], []), ([i32], []))]
    imports = [name("env") + name("memory") + b"\x02\x03\x01\x02",
               name("wasi") + name("thread-spawn") + b"\0\0",
               name("wasi_snapshot_preview1") + name("proc_exit") + b"\0\3"]
    start = (b"\x41\0\x10\0\x1a"                                      # spawn(0)
             b"\x41\x10\x41\0" + i64_forever + b"\xfe\x01\2\0\x1a"    # wait while [16] is 0
             b"\x41\x10\xfe\x10\2\0\x10\1")                           # proc_exit([16])
    thread = b"\x41\x10\x41\5\xfe\x17\2\0\x41\x10\x41\1\xfe\0\2\0\x1a"  # [16] = 5, wake one
    return module((1, vector(types)), (2, vector(imports)), (3, vector([b"\2", b"\1"])),
                  (7, vector([name("memory") + b"\2\0", name("_start") + b"\0\2", name("wasi_thread_start") + b"\0\3"])),
                  (10, vector([function(start), function(thread)])))
