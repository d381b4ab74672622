# SPDX-License-Identifier: Apache-2.0
"""The images of the tests: native (busybox and our guests), wasm (modules and nothing else), mixed
(both, and entrypoints that are not what they look like)."""

import os

from tests.support import images

# exit(7), written by hand; parsed as text by the engine, so it proves that .wat runs.
EXIT7_WAT = b'''(; a text module: exits with 7 ;)
(module
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  (func (export "_start") (call $exit (i32.const 7))))
'''

# Entrypoints that are not what they look like: name -> (bytes, mode).
ODD_FILES = {
    "script": (b"#!/bin/sh\necho a script\n", 0o755),
    "script.wasm": (b"#!/bin/sh\necho a script with a wasm name\n", 0o755),
    "empty": (b"", 0o755),
    "truncated": (b"\0as", 0o755),
    "header-only": (b"\0asm\x01\0\0\0", 0o755),
    "text": (b"just some words\n", 0o755),
    "parens": (b"(this is not wat)\n", 0o755),
    "not-executable": (b"#!/bin/sh\necho no\n", 0o644),
    "unreadable.wasm": (b"\0asm\x01\0\0\0", 0o000),
}


def _guest(guests, name):
    with open(f"{guests}/{name}", "rb") as f:
        return f.read()


def _native(layer, guests):
    layer.busybox()
    layer.file("bin/demo", _guest(guests, "demo"))
    layer.file("bin/true0", _guest(guests, "true"))
    layer.file("app.wasm", _guest(guests, "demo.wasm"))


def _wasm(layer, guests):
    module = _guest(guests, "demo.wasm")
    for name in ("app.wasm", "usr/local/bin/tool.wasm", "plain-name"):
        layer.file(name, module)
    layer.file("exit7.wat", EXIT7_WAT)
    layer.file("etc/secret", b"for root only\n", 0o600)
    layer.file("etc/shared", b"for all\n", 0o644)
    layer.directory("home/someone", 0o755, uid=1000)
    for name in ("hello-go.wasm", "command.wasm", "command3.wasm", "http.wasm", "http.wat", "calls.wat"):
        if os.path.exists(f"{guests}/{name}"):
            layer.file(name, _guest(guests, name))


def _mixed(layer, guests):
    layer.busybox()
    _wasm(layer, guests)
    layer.file("bin/demo", _guest(guests, "demo"))
    for name, (body, mode) in ODD_FILES.items():
        layer.file("odd/" + name, body, mode)
    layer.file("odd/elf.wasm", _guest(guests, "demo"))
    layer.symlink("odd/link", "../app.wasm")
    layer.symlink("odd/absolute-link", "/app.wasm")
    layer.symlink("odd/dangling", "nowhere")
    layer.directory("odd/directory")


def write(path, name, kind, guests, user=""):
    """Writes the image of a kind to `path`."""
    layer = images.Layer().base()
    {"native": _native, "wasm": _wasm, "mixed": _mixed}[kind](layer, guests)
    images.write_image(path, name, layer, user=user,
                       entrypoint=["/app.wasm"] if kind == "wasm" else [],
                       cmd=[] if kind == "wasm" else ["sh"],
                       env=["FROM_IMAGE=yes"] if kind == "wasm" else [])
