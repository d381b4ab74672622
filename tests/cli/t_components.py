# SPDX-License-Identifier: Apache-2.0
"""Components as containers: commands of WASI 0.2 and 0.3, sockets, exports by name. What serves HTTP is
in t_http.py; options of the engine in t_options.py."""

import socket
import threading

from tests.support.command import Cli
from tests.support.components import need, spec_with
from tests.support.runner import check, contains, equal, eventually


def run(lab, *words, program="/command.wasm", **more):
    need(program.split("#")[0][1:])
    stdin = more.pop("stdin", "")
    return Cli(lab).run(program, *words, stdin=stdin, change=spec_with(**more))


def test_arguments_environment_and_streams(lab):
    equal(run(lab, "args", "a b", "").ok().out, "/command.wasm\nargs\na b\n\n")
    contains(run(lab, "env", env=["A=b=c"]).ok().out, "A=b=c\n")
    equal(run(lab, "cat", stdin="through\n").ok().out, "through\n")


def test_exit_codes(lab):
    equal(run(lab, "echo", "x").code, 0)
    equal(run(lab, "exit", "42").code, 42, "exit-with-code")
    equal(run(lab, "std-exit", "42").code, 1, "WASI 0.2 before exit-with-code knows ok and failed")
    equal(run(lab, "fail").code, 1)


def test_trap_is_told_and_is_134(lab):
    r = run(lab, "abort")
    equal(r.code, 134, f"{r!r}")
    contains(r.err, "wasm trap: wasm `unreachable` instruction executed")


def test_files_and_working_directory(lab):
    contains(run(lab, "ls", "/").ok().out, "command.wasm\n")
    contains(run(lab, "read", "/etc/passwd").ok().out, "root:x:0:0")
    r = run(lab, "write", "/etc/new", "x")
    check(r.code == 1 and "/etc/new" in r.err, f"a read-only root was written: {r!r}")
    mount = {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["mode=1777"]}
    equal(run(lab, "write", "/tmp/new", "x", mounts=[mount]).code, 0)


def test_a_busy_command_ends_on_term(lab):
    need("command.wasm")
    amphora = Cli(lab)
    id = amphora.running("/command.wasm", "spin", change=spec_with())
    amphora("kill", id, "TERM").ok()
    eventually(lambda: amphora.state(id)["status"] == "stopped", 5, "a busy component ends on TERM")
    amphora("delete", id).ok()


def test_a_sleeping_command_ends_on_quit(lab):
    need("command.wasm")
    amphora = Cli(lab)
    id = amphora.running("/command.wasm", "sleep", "100", change=spec_with())
    amphora("kill", id, "QUIT").ok()
    eventually(lambda: amphora.state(id)["status"] == "stopped", 5, "a sleeping component ends on QUIT")
    amphora("delete", id).ok()


def test_command_of_wasi_0_3(lab):
    equal(run(lab, "a", "b", program="/command3.wasm").ok().out, "/command3.wasm a b\n")
    equal(run(lab, "fail", program="/command3.wasm").code, 1)
    r = run(lab, "trap", program="/command3.wasm")
    equal(r.code, 134, f"{r!r}")


def test_tcp_client_in_the_containers_network(lab):
    listener = socket.create_server(("127.0.0.1", 0))

    def answer():
        peer, _ = listener.accept()
        peer.recv(100)
        peer.sendall(b"from the host\n")
        peer.close()
    thread = threading.Thread(target=answer, daemon=True)
    thread.start()
    address = f"127.0.0.1:{listener.getsockname()[1]}"
    equal(run(lab, "connect", address, host_network=True).ok().out, "from the host\n")
    # In a network of its own there is nobody.
    r = run(lab, "connect", address)
    check(r.code == 1 and address in r.err, f"{r!r}")
    listener.close()
    thread.join(5)


def test_tcp_server_and_udp_on_loopback(lab):
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("127.0.0.1", 0))

    def echo():
        data, peer = server.recvfrom(100)
        server.sendto(b"pong " + data, peer)
    threading.Thread(target=echo, daemon=True).start()
    equal(run(lab, "udp", f"127.0.0.1:{server.getsockname()[1]}", host_network=True).ok().out, "pong ping\n")
    server.close()
    amphora = Cli(lab)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    id = amphora.running("/command.wasm", "serve", f"127.0.0.1:{port}", change=spec_with(host_network=True))
    peers = []

    def reached():
        try:
            peers.append(socket.create_connection(("127.0.0.1", port), 1))
            return True
        except OSError:
            return False
    eventually(reached, 5, "the guest listens")
    peers[0].sendall(b"hello")
    equal(peers[0].recv(100), b"hello")
    peers[0].close()
    eventually(lambda: amphora.state(id)["status"] == "stopped", 5, "the server ends after one client")
    amphora("delete", id).ok()


def test_names_are_looked_up(lab):
    equal(run(lab, "resolve", "127.0.0.1", host_network=True).ok().out, "127.0.0.1\n")


def test_exports_by_name_with_numbers_and_strings(lab):
    def call(entry, *words):
        return run(lab, *words, program="/calls.wat#" + entry)
    equal(call("thunk").ok().out, "")
    equal(call("add", "2", "-5").ok().out, "-3\n")
    equal(call("half", "5").ok().out, "2.5\n")
    equal(call("greet", "big world").ok().out, "hello big world\n")
    equal(call("divide", "7", "2").ok().out, "3\n")
    equal(call("amphora:test/math@1.0.0#add", "1", "1").ok().out, "2\n")
    r = call("divide", "7", "0")
    equal((r.code, r.out, r.err), (1, "", "division by zero\n"))
    r = call("thunk-trap")
    equal(r.code, 134, f"{r!r}")


def test_exec_of_a_second_module_or_export(lab):
    need("command.wasm", "calls.wat")
    amphora = Cli(lab)
    id = amphora.running("/command.wasm", "sleep", "100", change=spec_with())
    for _ in range(20):
        r = amphora("exec", id, "/calls.wat#add", "40", "2")
        equal((r.code, r.out), (0, "42\n"), f"an export: {r!r}")
    r = amphora("exec", id, "/app.wasm", "exit", "7")
    equal(r.code, 7, f"another module: {r!r}")
    amphora.end(id)


def test_exports_that_cannot_be_called_say_why(lab):
    def call(entry, *words):
        return run(lab, *words, program="/calls.wat#" + entry)
    r = call("add", "2")
    check(r.code != 0, f"{r!r}")
    contains(r.err, "export add (a: s32, b: s32) wants 2 arguments, 1 were given")
    contains(call("add", "two", "2").err, "export add (a: s32, b: s32): \"two\" is no s32")
    contains(call("all", "1").err, "only numbers, booleans, characters and strings can be given")
    contains(call("nothing").err, "the component exports no function nothing")
    contains(call("amphora:test/math@1.0.0").err, "is not a function")
    r = run(lab, program="/calls.wat")
    contains(r.err, "the component exports neither wasi:cli/run nor wasi:http/incoming-handler")


def test_exports_of_a_module_take_numbers(lab):
    path = "/mnt/lab/sum.wat"
    with open(path, "w", encoding="utf-8") as f:
        f.write('(module (func (export "sum") (param i32 i64 f64) (result f64) (f64.add (local.get 2)\n'
                '  (f64.add (f64.convert_i32_s (local.get 0)) (f64.convert_i64_s (local.get 1)))))\n'
                '  (func (export "code") (result i32) (i32.const 9)))\n')
    mount = {"destination": "/sum.wat", "type": "bind", "source": path, "options": ["bind", "ro"]}

    def call(entry, *words):
        return Cli(lab).run("/sum.wat#" + entry, *words, change=spec_with(mounts=[mount]))
    equal(call("sum", "1", "-2", "0.5").ok().out, "-0.5\n")
    equal(call("code").code, 9)
    r = call("sum", "1")
    check(r.code != 0, f"{r!r}")
    contains(r.err, "wants 3 arguments, 1 were given")
