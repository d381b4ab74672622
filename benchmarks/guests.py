# SPDX-License-Identifier: Apache-2.0
"""Figures of guests against the engine by itself (wasm/engines/wasmtime/bare, which runs the same artifacts): sections clone, cpu, http
and first of bench.py, whose helpers come as `b`."""

import json
import os
import subprocess
import time

from tests.support import bundle
from tests.support import lab as L
from tests.support.components import Client

PREFIX = L.LAB + "/prefix"
ENGINES = PREFIX + "/lib/amphora"
CACHE = "/var/cache/amphora"
COMPUTE = "/mnt/src/benchmarks/compute.wat"


def amphora(b, *words):
    return subprocess.run(["amphora", *words], env=b.lab.env, capture_output=True, text=True, check=True).stdout


def artifact(b, path):
    """The file in the cache that containers of this module run from."""
    amphora(b, "cache", "rm", "--all")
    amphora(b, "cache", "warm", path)
    (name,) = [name for name in os.listdir(CACHE) if name.endswith(".art")]
    copy = f"{L.LAB}/bench/{os.path.basename(path)}.art"
    subprocess.run(["cp", f"{CACHE}/{name}", copy], check=True)
    return copy


def container(b, name, words, files=(), annotations=None, host_network=False):
    """The command line of a `run`."""
    path = b.made_bundle(name, words, name)
    with open(path + "/config.json", encoding="utf-8") as f:
        spec = json.load(f)
    for source in files:
        spec["mounts"].append({"destination": "/" + os.path.basename(source), "type": "bind", "source": source, "options": ["bind", "ro"]})
    spec["annotations"] = annotations or {}
    if host_network:
        spec["linux"]["namespaces"] = [n for n in spec["linux"]["namespaces"] if n["type"] != "network"]
    bundle.write_config(path, spec)
    return ["amphora", "--root", "/run/cli-amphora", "run", "-b", path, "g-" + name]


def section_clone(b):
    print("\nclone: the wasm host's part of a start, from the request to the guest's first byte, nothing set up, artifact cached")
    for what, path, limit in (("module", L.GUESTS + "/hello.wat", 1.5), ("component", L.GUESTS + "/command.wasm", 2.0)):
        r = subprocess.run([b.BENCH + "/bench_clone", PREFIX + "/libexec/amphora/amphora-wasm", ENGINES, "wasmtime", artifact(b, path),
                            str(b.ROUNDS * 5)], capture_output=True, text=True, env=b.lab.env, check=True)
        b.bar(f"clone to the first instruction of a {what}, ms", b.row(what, [float(t) / 1000 for t in r.stdout.split()]), limit)


def section_cpu(b):
    print("\ncpu: a busy guest in a container and on the engine by itself")
    commands = {"container": container(b, "cpu", ["/compute.wat"], [COMPUTE]),
                "bare engine": [b.BENCH + "/amphora-bare", "run", artifact(b, COMPUTE)]}
    times = b.timed(commands, max(5, b.ROUNDS // 4))
    for name, values in times.items():
        b.row(name, values)
    b.bar("busy guest / bare engine, minima", min(times["container"]) / min(times["bare engine"]), 1.05)


def load(b, port):
    """(requests a second, 95th percentile in ms) of a second and a half, eight connections."""
    r = subprocess.run([b.BENCH + "/bench_load", str(port), "1.5", "8"], capture_output=True, text=True, check=True)
    count, seconds, _, high = (float(word) for word in r.stdout.split())
    return count / seconds, high / 1000


def section_http(b):
    print("\nhttp: a component that answers 'GET /', beside a server on the engine's own crates (eight kept connections)")
    guest = L.GUESTS + "/http.wasm"
    copy = artifact(b, guest)

    def server(name, port, **options):
        annotations = {"amphora.dev/engine." + key: value for key, value in {"http-listen": f"127.0.0.1:{port}", **options}.items()}
        return port, container(b, name, ["/http.wasm"], [guest], annotations, host_network=True)
    servers = {"container": server("http", 18080), "container without files": server("http-none", 18082, preopen="none"),
               "bare server": (18081, [b.BENCH + "/amphora-bare", "serve", copy, "127.0.0.1:18081"])}
    processes = [subprocess.Popen(words, env=b.lab.env, stdin=subprocess.DEVNULL) for _, words in servers.values()]
    rates, highs = {name: [] for name in servers}, {name: [] for name in servers}
    try:
        for port, _ in servers.values():
            Client(port).until_up()
            load(b, port)
        for _ in range(max(5, b.ROUNDS // 4)):
            for name, (port, _) in servers.items():
                rate, high = load(b, port)
                rates[name].append(rate)
                highs[name].append(high)
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait(20)
    for name in servers:
        b.row(name + ": requests", rates[name], "/s")
        b.row(name + ": 95th percentile", highs[name])
    middle = b.median
    b.bar("bare server's requests a second / ours", middle(rates["bare server"]) / middle(rates["container"]), 1.1)
    b.bar("95th percentile, ours / bare server's", middle(highs["container"]) / middle(highs["bare server"]), 1.1)


def section_first(b):
    print("\nfirst: the first start of a Go program of 2.6 MB, and the engine's own compile of it")
    module = L.GUESTS + "/hello-go.wasm"
    run = container(b, "first", ["/hello-go.wasm"], [module])
    starts, compiles = [], []
    for _ in range(max(3, b.ROUNDS // 10)):
        amphora(b, "cache", "rm", "--all")
        begun = time.perf_counter()
        subprocess.run(run, env=b.lab.env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=True)
        starts.append((time.perf_counter() - begun) * 1000)
        r = subprocess.run([b.BENCH + "/bench_compile", ENGINES + "/libamphora-compiler-wasmtime.so", module], capture_output=True,
                           text=True, check=True)
        compiles.append(float(r.stdout))
    b.bar("first start / compile by itself", b.row("first start", starts) / b.row("compile by itself", compiles), 1.15)
    print(f"       minima: {min(starts) / min(compiles):.2f}")


SECTIONS = {"clone": section_clone, "cpu": section_cpu, "http": section_http, "first": section_first}
