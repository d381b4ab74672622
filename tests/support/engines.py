# SPDX-License-Identifier: Apache-2.0
"""The engines that are installed beside the programs, and the kinds of code that each runs a module by."""

import ctypes
import os

from tests.support.runner import Skip

DIRECTORY = os.environ.get("AMPHORA_ENGINE_DIR", "/mnt/lab/prefix/lib/amphora")
ENGINES = ("wasmtime", "wamr")
AOT = "wamr, code: aot"
KINDS = {"wasmtime": {"amphora.dev/engine": "wasmtime"}, "wamr": {"amphora.dev/engine": "wamr"},
         AOT: {"amphora.dev/engine": "wamr", "amphora.dev/engine.code": "aot"}}


def installed():
    return [e for e in ENGINES if os.path.exists(f"{DIRECTORY}/libamphora-engine-{e}.so")]


def engines():
    if "wamr" not in installed():
        raise Skip("this build has no WAMR engine")
    return installed()


def needs_aot():
    """WAMR's machine code wants an object of this build, and LLVM on this machine."""
    path = f"{DIRECTORY}/libamphora-aot-wamr.so"
    if not os.path.exists(path):
        raise Skip("this build has no code: aot (llvm-19-dev was not there)")
    try:
        ctypes.CDLL(path)
    except OSError as e:
        raise Skip(f"no code: aot on this machine: {e}") from e


def kinds():
    """Their names and annotations: of each engine, and of WAMR's machine code where that can be had."""
    found = installed()
    try:
        needs_aot()
    except Skip:
        return {name: KINDS[name] for name in found}
    return {name: annotations for name, annotations in KINDS.items() if annotations["amphora.dev/engine"] in found}
