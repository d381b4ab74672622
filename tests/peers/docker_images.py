# SPDX-License-Identifier: Apache-2.0
"""Docker with containerd's image store: images of WebAssembly by our shim under its runtime name, which needs no
configuration (docs/images.md)."""

import os

from tests.support import images
from tests.support import lab as L
from tests.support.runner import Failed, check, contains, equal

RUN = ["run", "--rm", "--pull", "never", "--network", "none", "--runtime", "io.containerd.amphora.v1"]
LAYER = "application/vnd.bytecodealliance.wasm.component.layer.v0+wasm"


def module():
    with open(L.GUESTS + "/demo.wasm", "rb") as f:
        return f.read()


def load(daemon, word, write, **more):
    name = f"docker.io/library/amphora-{word}:1"
    tar = f"{L.LAB}/docker-{word}.tar"
    write(tar, name, **more)
    r = daemon("load", "-i", tar)
    check(r.code == 0, f"docker load: {r!r}")
    return name


def a_wasm_layer(daemon):
    name = load(daemon, "layer", lambda *args: images.write_wasm(*args, [(LAYER, module(), "app.wasm")], platforms=("wasi/wasm",)))
    run = [*RUN, "--platform", "wasi/wasm"]
    equal(daemon(*run, name, "echo", "of", "a", "layer").ok().out, "of a layer\n")
    equal(daemon(*run, name, "exit", "42").code, 42)
    contains(daemon(*run, "-e", "WORD=x y", name, "env").ok().out, "WORD=x y\n")


def one_manifest_without_an_index(daemon):
    name = load(daemon, "single", lambda *args: images.write_wasm(*args, [("application/wasm", module(), "app.wasm")], os_name="wasi"))
    equal(daemon(*RUN, "--platform", "wasi/wasm", name, "echo", "single").ok().out, "single\n")


def a_module_in_an_ordinary_layer(daemon):
    def write(tar, name):
        layer = images.Layer().base()
        layer.file("app.wasm", module())
        images.write_image(tar, name, layer, entrypoint=["/app.wasm"])
    name = load(daemon, "file", write)
    equal(daemon(*RUN, name, "echo", "a", "file").ok().out, "a file\n")


def detached_logs_exec_and_stop(daemon):
    name = load(daemon, "daemon", lambda *args: images.write_wasm(*args, [(LAYER, module(), "app.wasm")], platforms=("wasi/wasm",)))
    run = ["run", "-d", "--name", "ticking", *RUN[2:], "--platform", "wasi/wasm"]
    daemon(*run, name, "daemon").ok()
    equal(daemon("exec", "ticking", "/app.wasm", "echo", "again").ok().out, "again\n")
    contains(daemon("logs", "ticking").ok().out, "tick 1\n")
    daemon("stop", "-t", "5", "ticking").ok()
    equal(daemon("inspect", "-f", "{{.State.ExitCode}}", "ticking").ok().out.strip(), "143", "exit code after docker stop")
    daemon("rm", "ticking").ok()


def compose(daemon):
    """examples/compose: what wasm writes, the native service reads."""
    def native(tar, name):
        images.write_image(tar, name, images.Layer().base().busybox(), cmd=["sh"])
    writer = load(daemon, "writer", lambda *args: images.write_wasm(*args, [(LAYER, module(), "app.wasm")], platforms=("wasi/wasm",)))
    env = dict(os.environ, WRITER=writer, READER=load(daemon, "reader", native), DOCKER_HOST=daemon.address, HOME="/tmp")
    words = ["docker", "compose", "-f", "/mnt/src/examples/compose/compose.yaml"]
    try:
        r = L.command([*words, "up", "--pull", "never", "--no-color"], env=env).ok()
        contains(r.out, "from WebAssembly")
    finally:
        L.command([*words, "down", "-v"], env=env)


CASES = (a_wasm_layer, one_manifest_without_an_index, a_module_in_an_ordinary_layer, detached_logs_exec_and_stop, compose)


def run(rows, daemon):
    for case in CASES:
        try:
            case(daemon)
            rows.add("store." + case.__name__, "passed")
        except (Failed, OSError) as e:
            rows.add("store." + case.__name__, "failed", str(e))
    left = daemon("ps", "-a", "-q").out
    rows.add("store.nothing_left", "failed" if left else "passed", left)
