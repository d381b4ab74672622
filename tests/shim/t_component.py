# SPDX-License-Identifier: Apache-2.0
"""Components, HTTP servers and the choice of an engine through ctr. What needs no containerd is in
tests/cli/t_components.py, t_http.py and t_options.py."""

import os
import socket

from tests.support import lab as L
from tests.support.components import Client, need
from tests.support.runner import check, contains, equal, eventually

WASMTIME, WAMR = "io.containerd.wasmtime.v1", "io.containerd.wamr.v1"


def component(lab, *words, options=(), **more):
    need("command.wasm")
    return lab.run(L.AMPHORA, L.WASM, "/command.wasm", *words, options=list(options), **more)


def test_command_component(lab):
    equal(component(lab, "echo", "some", "words").ok().out, "some words\n")
    equal(component(lab, "exit", "42").code, 42)
    # Long enough for ctr to have a task: one that reads the end before that never closes it.
    text = "".join(f"line {i}\n" for i in range(20000))
    equal(component(lab, "cat", stdin=text).ok().out, text)
    contains(component(lab, "env", options=["--env", "A=b c"]).ok().out, "A=b c\n")
    r = component(lab, "abort")
    equal(r.code, 134, f"{r!r}")
    contains(r.err, "unreachable")


def test_command_of_wasi_0_3(lab):
    need("command3.wasm")
    equal(lab.run(L.AMPHORA, L.WASM, "/command3.wasm", "x").ok().out, "/command3.wasm x\n")


def test_export_by_name(lab):
    equal(lab.run(L.AMPHORA, L.WASM, "/calls.wat#greet", "you").ok().out, "hello you\n")
    r = lab.run(L.AMPHORA, L.WASM, "/calls.wat#thunk-trap")
    equal(r.code, 134, f"{r!r}")


def test_a_busy_component_ends_on_term(lab):
    need("command.wasm")
    task = lab.attached(L.AMPHORA, L.WASM, "/command.wasm", "spin")
    lab.ctr("task", "kill", "-s", "SIGTERM", task.id).ok()
    equal(task.wait(5).code, 143)


def test_a_component_is_measured_paused_and_joined(lab):
    need("command.wasm")
    id = lab.detached(L.AMPHORA, L.WASM, "/command.wasm", "sleep", "100")
    lab.ctr("task", "pause", id).ok()
    equal(lab.task_status(id), "PAUSED")
    lab.ctr("task", "resume", id).ok()
    contains(lab.ctr("task", "metrics", id).ok().out, "memory")
    r = lab.ctr("task", "exec", "--exec-id", "e1", id, "/calls.wat#add", "40", "2")
    equal((r.code, r.out), (0, "42\n"), f"an export in a running container: {r!r}")
    r = lab.ctr("task", "exec", "--exec-id", "e2", id, "/app.wasm", "exit", "7")
    equal(r.code, 7, "another module in a running container")
    lab.end(id)


def test_http_server(lab):
    need("http.wasm")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    id = lab.detached(L.AMPHORA, L.WASM, "/http.wasm", "word", options=[
        "--net-host", "--env", f"WASMTIME_HTTP_PROXY_SOCKET_ADDR=127.0.0.1:{port}"])
    get = Client(port)
    get.until_up()
    equal(get("/hello"), (200, "hello from a component\n"))
    equal(get("/args")[1], "/http.wasm\nword\n")
    lab.ctr("task", "kill", "-s", "SIGTERM", id).ok()
    eventually(lambda: lab.task_status(id) == "STOPPED", 5, "the server ends")
    r = lab.ctr("task", "delete", id)
    equal(r.code, 0, f"{r!r}")
    lab.ctr("container", "delete", id).ok()


def test_http_server_with_a_bad_address_fails_create(lab):
    need("http.wasm")
    r = lab.run(L.AMPHORA, L.WASM, "/http.wasm", options=["--env", "WASMTIME_HTTP_PROXY_SOCKET_ADDR=here"])
    check(r.code != 0, f"{r!r}")
    contains(r.err, "listen on \"here\": not ADDRESS:PORT")


def test_names_of_other_shims_choose_the_engine(lab):
    for runtime in (WASMTIME, WAMR):
        equal(lab.run(runtime, L.WASM, "/app.wasm", "echo", runtime).ok().out, runtime + "\n")
        equal(lab.run(runtime, L.MIXED, "/bin/demo", "echo", "native").ok().out, "native\n", "a native container")
    # Only wasmtime knows components: the other name has really chosen the other engine.
    r = lab.run(WAMR, L.WASM, "/calls.wat#add", "1", "2")
    check(r.code != 0, f"{r!r}")
    contains(r.err, "engine wamr")


def test_annotation_wins_over_the_name(lab):
    r = lab.run(WAMR, L.WASM, "/calls.wat#add", "1", "2", options=["--annotation", "amphora.dev/engine=wasmtime"])
    equal((r.code, r.out), (0, "3\n"), f"{r!r}")


def test_an_engine_that_is_not_there_is_named_with_its_file(lab):
    link = f"{L.LAB}/prefix/bin/containerd-shim-wasmedge-v1"
    os.symlink("containerd-shim-amphora-v1", link)
    try:
        r = lab.run("io.containerd.wasmedge.v1", L.WASM, "/app.wasm", "echo")
        check(r.code != 0, f"{r!r}")
        contains(r.err, "libamphora-")
        contains(r.err, "wasmedge.so")
        equal(lab.run("io.containerd.wasmedge.v1", L.MIXED, "/bin/demo", "echo", "x").ok().out, "x\n")
    finally:
        os.unlink(link)


def test_runtime_options_choose_the_engine(lab):
    path = f"{L.LAB}/engine.toml"
    with open(path, "w", encoding="utf-8") as f:
        f.write('engine = "wamr"\n')
    r = lab.run(L.AMPHORA, L.WASM, "/calls.wat#add", "1", "2", options=["--runtime-config-path", path])
    check(r.code != 0, f"{r!r}")
    contains(r.err, "engine wamr")
    r = lab.run(L.AMPHORA, L.WASM, "/app.wasm", "echo", "x", options=["--runtime-config-path", path])
    equal((r.code, r.out), (0, "x\n"), f"{r!r}")
