# SPDX-License-Identifier: Apache-2.0
"""Components that serve HTTP (wasi:http/incoming-handler) as containers: where they listen, what they get
beside requests, how they end. Loopback of the lab's own network namespace only."""

import http.client
import socket
import subprocess
import threading
import time

from tests.support import lab as L
from tests.support.command import Cli
from tests.support.components import Client, need, spec_with
from tests.support.runner import Skip, check, contains, equal, eventually


class Server:
    """The handler as a container in the lab's network, on a free port."""

    def __init__(self, lab, *words, env=(), annotations=None, listen=None, **more):
        need("http.wasm")
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = probe.getsockname()[1]
        self.amphora = Cli(lab)
        env = list(env) + [f"WASMTIME_HTTP_PROXY_SOCKET_ADDR={listen or '127.0.0.1'}:{self.port}"]
        self.out = f"/mnt/lab/http-{self.port}.out"
        id, path = self.amphora.bundle("/http.wasm", *words, change=spec_with(
            annotations=annotations, env=env, host_network=True, **more))
        self.id, self.ended = id, None
        with open(self.out, "wb") as out:
            self.process = subprocess.Popen(
                ["amphora", "--root", self.amphora.root, "run", "-b", path, id], env=lab.env,
                stdin=subprocess.DEVNULL, stdout=out, stderr=out)
        self.get = Client(self.port)
        try:
            self.get.until_up()
        except BaseException as error:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"{error}; {self.text()}") from None

    def text(self):
        with open(self.out, encoding="utf-8", errors="replace") as f:
            return f.read()

    def signal(self, name):
        self.amphora("kill", self.id, name).ok()

    def end(self, signal="TERM", seconds=10):
        self.signal(signal)
        return self.process.wait(seconds)


def test_requests_are_answered(lab):
    server = Server(lab)
    equal(server.get("/hello"), (200, "hello from a component\n"))
    equal(server.get("/nothing")[0], 404)
    equal(server.get("/echo", "body " * 20000), (200, "body " * 20000))
    equal(server.end(), 0)


def test_the_guest_has_arguments_environment_files_and_streams(lab):
    tmp = {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["mode=1777"]}
    server = Server(lab, "one", "two", env=["A=b"], mounts=[tmp])
    equal(server.get("/args")[1], "/http.wasm\none\ntwo\n")
    env = server.get("/env")[1]
    contains(env, "A=b\n")
    check("WASMTIME_HTTP" not in env, f"the address is the guest's: {env}")
    contains(server.get("/read?/etc/passwd")[1], "root:x:0:0")
    equal(server.get("/write?/tmp/kept", "kept")[0], 200)
    equal(server.get("/read?/tmp/kept"), (200, "kept"))
    server.get("/err?words")
    equal(server.end(), 0)
    contains(server.text(), "words\n")
    contains(server.text(), "out words\n")


def test_every_request_has_a_number_and_an_instance(lab):
    server = Server(lab)
    numbers = [line for _ in range(3) for line in server.get("/env")[1].splitlines() if line.startswith("REQUEST_ID=")]
    equal(numbers, ["REQUEST_ID=0", "REQUEST_ID=1", "REQUEST_ID=2"])
    equal(server.end(), 0)


def test_http2_without_tls(lab):
    if subprocess.run(["curl", "--version"], capture_output=True, check=False).returncode != 0:
        raise Skip("no curl to speak HTTP/2 with")
    server = Server(lab)
    r = L.command(["curl", "-s", "--http2-prior-knowledge", "-w", " %{http_version}", f"http://127.0.0.1:{server.port}/hello"])
    equal(r.out, "hello from a component\n 2")
    equal(server.end(), 0)


def test_both_spellings_of_the_backlog_and_wrong_values(lab):
    need("http.wasm")
    for name in ("WASMTIME_HTTP_PROXY_BACKLOG", "WASMTIME_HTTP_BACKLOG"):
        server = Server(lab, env=[name + "=7"])
        queue = L.command(["ss", "-Hltn", f"sport = :{server.port}"]).out.split()
        equal(queue[2], "7", f"{name}: {queue}")
        check(name not in server.get("/env")[1], f"{name} is the guest's")
        server.end()
        r = Cli(lab).run("/http.wasm", change=spec_with(env=[name + "=many"]))
        check(r.code != 0, f"{r!r}")
        contains(r.err, f"{name}=\"many\" is not a number from 1 to 65535")
    both = ["WASMTIME_HTTP_PROXY_BACKLOG=7", "WASMTIME_HTTP_BACKLOG=8"]
    contains(Cli(lab).run("/http.wasm", change=spec_with(env=both)).err, "the other spelling")


def test_a_bad_address_is_an_error_of_create(lab):
    need("http.wasm")
    amphora = Cli(lab)
    for address, words in (("nonsense", "not ADDRESS:PORT"), ("127.0.0.1", "not ADDRESS:PORT"),
                           ("127.0.0.1:0", "not ADDRESS:PORT"), ("192.0.2.1:80", "bind: Cannot assign requested address")):
        id, path = amphora.bundle("/http.wasm", change=spec_with(env=["WASMTIME_HTTP_PROXY_SOCKET_ADDR=" + address]))
        r = amphora.detached("create", "-b", path, id)
        check(r.code != 0, f"{address}: {r!r}")
        contains(r.err, words, address)
        contains(r.err, address)


def test_an_address_in_use_is_an_error_that_names_it(lab):
    server = Server(lab)
    address = f"127.0.0.1:{server.port}"
    r = Cli(lab).run("/http.wasm", change=spec_with(env=["WASMTIME_HTTP_PROXY_SOCKET_ADDR=" + address], host_network=True))
    check(r.code != 0, f"{r!r}")
    contains(r.err, f"listen on {address}: bind: Address already in use")
    equal(server.end(), 0)


def test_the_annotation_wins_over_the_environment(lab):
    with socket.create_server(("127.0.0.1", 0)) as probe:
        other = probe.getsockname()[1]
    need("http.wasm")
    amphora = Cli(lab)
    id = amphora.running("/http.wasm", change=spec_with(
        annotations={"http-listen": f"127.0.0.1:{other}"}, env=["WASMTIME_HTTP_PROXY_SOCKET_ADDR=nonsense"], host_network=True))
    client = Client(other)
    client.until_up()
    equal(client("/hello")[0], 200)
    amphora.end(id)


def test_term_drains_and_ends(lab):
    server = Server(lab)
    answers = []
    thread = threading.Thread(target=lambda: answers.append(server.get("/sleep?1500")))
    thread.start()
    time.sleep(0.5)
    begun = time.monotonic()
    equal(server.end("TERM"), 0)
    seconds = time.monotonic() - begun
    thread.join()
    equal(answers, [(200, "slept\n")])
    check(0.3 < seconds < 5, f"the drain took {seconds:.2f} s")


def test_idle_connections_do_not_hold_up_the_end(lab):
    server = Server(lab)
    kept = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    kept.request("GET", "/hello")
    kept.getresponse().read()
    silent = socket.create_connection(("127.0.0.1", server.port))
    begun = time.monotonic()
    equal(server.end("INT"), 0)
    check(time.monotonic() - begun < 3, "an idle connection held it up")
    kept.close()
    silent.close()


def test_requests_that_do_not_end_are_cut_off(lab):
    server = Server(lab, annotations={"http-drain": "1"})
    thread = threading.Thread(target=lambda: _ignore(lambda: server.get("/sleep?20000")))
    thread.start()
    time.sleep(0.3)
    begun = time.monotonic()
    equal(server.end("TERM"), 143)
    check(time.monotonic() - begun < 4, "the drain had no end")
    contains(server.text(), "requests still run after 1 s")
    thread.join()


def test_a_second_signal_does_not_wait(lab):
    server = Server(lab)
    thread = threading.Thread(target=lambda: _ignore(lambda: server.get("/sleep?20000")))
    thread.start()
    time.sleep(0.3)
    server.signal("TERM")
    time.sleep(0.3)
    equal(server.end("TERM", 3), 143)
    thread.join()


def test_a_busy_request_ends_on_signals(lab):
    server = Server(lab, annotations={"http-drain": "1", "http-threads": "1"})
    thread = threading.Thread(target=lambda: _ignore(lambda: server.get("/spin")))
    thread.start()
    time.sleep(0.3)
    server.signal("TERM")
    time.sleep(0.3)
    equal(server.end("TERM", 3), 143)
    thread.join()


def test_a_trap_is_one_requests_own(lab):
    server = Server(lab)
    equal(server.get("/trap")[0], 500)
    equal(server.get("/hello")[0], 200)
    equal(server.end(), 0)
    contains(server.text(), "wasm trap: wasm `unreachable` instruction executed")


def test_timeouts_and_ticks(lab):
    server = Server(lab, annotations={"http-timeout": "1", "tick": "20", "http-threads": "1"})
    begun = time.monotonic()
    thread = threading.Thread(target=lambda: _ignore(lambda: server.get("/spin")))
    thread.start()
    time.sleep(0.2)
    equal(server.get("/hello")[0], 200, "beside a busy request")
    check(time.monotonic() - begun < 2.5, "a busy request kept its thread")
    equal(server.get("/sleep?5000")[0], 504)
    thread.join()
    equal(server.end(), 0)
    contains(server.text(), "no response within 1 s")


def test_instances_are_bounded(lab):
    server = Server(lab, annotations={"http-instances": "2"})
    begun = time.monotonic()
    threads = [threading.Thread(target=lambda: server.get("/sleep?500")) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    check(time.monotonic() - begun >= 1.4, "six requests of half a second ran three at a time or more")
    equal(server.end(), 0)


def test_memory_is_bounded_for_all_requests(lab):
    server = Server(lab, annotations={"memory-max": "64M"})
    equal(server.get("/alloc?1000000"), (200, "1000000\n"))
    equal(server.get("/alloc?100000000")[0], 500)
    equal(server.get("/hello")[0], 200)
    equal(server.end(), 0)


def test_many_requests_at_once(lab):
    server = Server(lab)
    bad = []

    def client():
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
        for _ in range(50):
            connection.request("GET", "/hello")
            response = connection.getresponse()
            if (response.status, response.read()) != (200, b"hello from a component\n"):
                bad.append(response.status)
        connection.close()
    threads = [threading.Thread(target=client) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    equal(bad, [])
    equal(server.end(), 0)


def test_outgoing_requests_and_sockets(lab):
    server = Server(lab)
    other = Server(lab)
    equal(server.get(f"/fetch?127.0.0.1:{other.port}/hello"), (200, "200 hello from a component\n"))
    listener = socket.create_server(("127.0.0.1", 0))

    def answer():
        peer, _ = listener.accept()
        peer.sendall(b"said\n")
        peer.close()
    threading.Thread(target=answer, daemon=True).start()
    equal(server.get(f"/tcp?127.0.0.1:{listener.getsockname()[1]}"), (200, "said\n"))
    listener.close()
    status, text = server.get("/fetch?127.0.0.1:1/")
    check(status == 500 and "ConnectionRefused" in text, f"{status} {text}")
    equal(other.end(), 0)
    equal(server.end(), 0)


def test_slow_clients_do_not_keep_others_away(lab):
    server = Server(lab)
    slow = []
    for _ in range(50):
        one = socket.create_connection(("127.0.0.1", server.port))
        one.sendall(b"GET /hello HTTP/1.1\r\nHos")
        slow.append(one)
    equal(server.get("/hello")[0], 200)
    for one in slow:
        one.close()
    eventually(lambda: server.get("/hello")[0] == 200, 5, "it answers")
    equal(server.end(), 0)


def _ignore(call):
    try:
        call()
    except OSError:
        pass
    except http.client.HTTPException:
        pass
