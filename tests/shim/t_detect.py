# SPDX-License-Identifier: Apache-2.0
"""The decision native or wasm, end to end (docs/detection.md; the table itself is tested without root
in tests/golden/detect): what runs how, and what the message says when nothing can run it."""

import time

from tests.support import lab as L
from tests.support.runner import check, contains, equal


def test_bytes_decide_and_not_names(lab):
    cases = ((["/odd/elf.wasm", "echo", "elf"], "elf\n"),
             (["/odd/script"], "a script\n"),
             (["/odd/script.wasm"], "a script with a wasm name\n"),
             (["/plain-name", "echo", "wasm"], "wasm\n"),
             (["/odd/link", "echo", "link"], "link\n"),
             (["/odd/absolute-link", "echo", "link"], "link\n"))
    for cmd, out in cases:
        r = lab.run(L.AMPHORA, L.MIXED, *cmd)
        equal((r.code, r.out), (0, out), f"{cmd[0]}: {r.err}")


def refused(lab, path, *parts):
    begun = time.monotonic()
    r = lab.run(L.AMPHORA, L.MIXED, path)
    seconds = time.monotonic() - begun
    check(r.code != 0, f"{path} ran: {r!r}")
    contains(r.err, path)
    for part in parts:
        contains(r.err.lower(), part, f"message for {path}")
    check(seconds < 1.5, f"{path}: the refusal took {seconds:.1f} s")


def test_neither_native_nor_wasm_names_the_file_and_both_reasons(lab):
    for name in ("empty", "truncated", "text", "parens"):
        refused(lab, "/odd/" + name, "wasm", "wat")


def test_header_without_a_module_is_refused(lab):
    # A valid empty module: it has nothing to call.
    refused(lab, "/odd/header-only", "_start")


def test_missing_and_dangling(lab):
    refused(lab, "/odd/none", "no such file")
    refused(lab, "/odd/dangling", "no such file")


def test_a_directory_is_refused(lab):
    refused(lab, "/odd/directory")


def test_a_file_that_may_not_be_executed(lab):
    refused(lab, "/odd/not-executable", "permission denied")


def test_a_module_behind_a_mount_is_found(lab):
    # The entrypoint is looked up as the container will see it, through the spec's mounts.
    r = lab.run(L.AMPHORA, L.NATIVE, "/m/demo.wasm", "echo", "mounted", options=[
        "--mount", f"type=bind,src={L.GUESTS},dst=/m,options=rbind:ro"])
    equal((r.code, r.out), (0, "mounted\n"), r.err)


def test_the_log_says_how_it_was_decided(lab):
    for image, cmd, kind in ((L.NATIVE, ["demo", "true"], "native"), (L.WASM, ["/app.wasm", "true"], "wasm-module")):
        before, id = lab.log_size(), lab.new_id()
        lab.run(L.AMPHORA, image, *cmd, id=id).ok()
        time.sleep(0.2)
        lines = [line for line in lab.log_since(before).splitlines() if kind in line and "level=info" in line]
        equal(len(lines), 1, f"one info line names {kind}: {lines}")
