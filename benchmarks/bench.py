# SPDX-License-Identifier: Apache-2.0
"""The figures of docs/performance.md, each ratio from one interleaved run. Runs inside inroot.sh in the
v1-only view (crun refuses hybrid), as pid 1: bench.py [SECTION...], sections: run, exec, mounts, limit, rss,
syscalls, ctr, rpc, shim, memory, and those of guests.py."""

import json
import os
import re
import subprocess
import sys
import threading
import time
import traceback

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.dont_write_bytecode = True

from benchmarks import guests  # noqa: E402
from tests.support import bundle, ttrpc  # noqa: E402
from tests.support import lab as L  # noqa: E402
from tests.support.inventory import processes  # noqa: E402

BENCH = L.LAB + "/bench"
ROUNDS = int(os.environ.get("ROUNDS", "40"))
bars = []


def median(values):
    values = sorted(values)
    return values[len(values) // 2]


def row(name, values, unit="ms"):
    low, mid = min(values), median(values)
    print(f"  {name:<44} median {mid:8.2f} {unit}   min {low:8.2f} {unit}", flush=True)
    return mid


def bar(text, value, limit):
    """A ratio beside what it should be at most."""
    good = value <= limit
    bars.append((text, value, limit, good))
    print(f"  {'met ' if good else 'MISS'} {text}: {value:.2f} (at most {limit})", flush=True)


def timed(commands, rounds):
    """{name: [milliseconds]} of commands run in turn."""
    text = "".join("\t".join([name, *argv]) + "\n" for name, argv in commands.items())
    r = subprocess.run([BENCH + "/bench_times", str(rounds)], input=text, capture_output=True, text=True,
                       env=lab.env, check=False)
    if r.returncode != 0:
        print("  some runs failed: " + r.stderr[-600:])
    return {line.split("\t")[0]: [float(t) / 1000 for t in line.split("\t")[1:]]
            for line in r.stdout.splitlines()}


def made_bundle(name, args, cgroup):
    """One root for all, so that all find the same pages in the cache."""
    shared = bundle.make_bundle(L.LAB + "/bundles/shared", L.GUESTS, args)
    path = f"{L.LAB}/bundles/{name}"
    os.makedirs(path, exist_ok=True)
    spec = bundle.default_spec(args)
    spec["root"]["path"] = shared + "/rootfs"
    spec["linux"]["cgroupsPath"] = f"/{lab.namespace}/{cgroup}"
    bundle.write_config(path, spec)
    return path


def tools():
    """Debian's runc and crun, runc's newest if it could be built, and ours."""
    newest = ["runc-new"] if os.path.exists(BENCH + "/runc-new") else []
    return ["runc", *newest, "crun", "amphora"]


def binary(tool):
    return BENCH + "/runc-new" if tool == "runc-new" else tool


def version(tool):
    r = subprocess.run([binary(tool), "--version"], capture_output=True, text=True, env=lab.env, check=False)
    return r.stdout.splitlines()[0] if r.stdout else "?"


def section_run():
    print("\nrun: one container from start to end, by the command")
    commands = {}
    for tool in tools():
        path = made_bundle(tool, ["/bin/true0"], tool)
        commands[tool] = [binary(tool), "--root", f"/run/cli-{tool}", "run", "-b", path, f"b-{tool}"]
    path = made_bundle("amphora-wasm", ["/app.wasm", "true"], "amphora-wasm")
    commands["amphora, wasm"] = ["amphora", "--root", "/run/cli-amphora", "run", "-b", path, "b-wasm"]
    root = L.LAB + "/bundles/shared/rootfs"
    commands["floor"] = [BENCH + "/bench_floor", root, "/bin/true0"]
    commands["floor with nodes and masks"] = [BENCH + "/bench_floor", "--all", root, "/bin/true0"]
    commands["static true by itself"] = [root + "/bin/true0"]
    times = timed(commands, ROUNDS)
    middle = {name: row(name, values) for name, values in times.items() if values}
    bar("amphora run / crun run", middle["amphora"] / middle["crun"], 0.6)
    bar("amphora run / floor", middle["amphora"] / middle["floor"], 1.6)
    print(f"       amphora run / floor with nodes and masks: "
          f"{middle['amphora'] / middle['floor with nodes and masks']:.2f};  / runc run: "
          f"{middle['amphora'] / middle['runc']:.2f};  wasm / native: {middle['amphora, wasm'] / middle['amphora']:.2f}")


def section_exec():
    print("\nexec: one more process in a running container, from start to end")
    commands = {}
    for tool in tools():
        path = made_bundle("exec-" + tool, ["/bin/demo", "pause"], "exec-" + tool)
        root = ["--root", f"/run/cli-{tool}"]
        subprocess.run([binary(tool), *root, "run", "-d", "-b", path, "x-" + tool], env=lab.env, check=True,
                       stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        commands[tool] = [binary(tool), *root, "exec", "x-" + tool, "/bin/true0"]
    try:
        times = timed(commands, ROUNDS)
    finally:
        for tool in tools():
            subprocess.run([binary(tool), "--root", f"/run/cli-{tool}", "delete", "-f", "x-" + tool], env=lab.env, check=False)
    middle = {name: row(name, values) for name, values in times.items() if values}
    bar("amphora exec / crun exec", middle["amphora"] / middle["crun"], 0.4)
    print(f"       amphora exec / runc exec: {middle['amphora'] / middle['runc']:.2f}")


def section_mounts(count=1000):
    """Time to start beside many mounts of the host. Each tool twice in one interleaved run is not possible, as
    the mounts are there for all; so three runs: without, with, without."""
    print(f"\nmounts: run with {count} more mounts on the host")
    commands = {}
    for tool in ("crun", "amphora"):
        path = made_bundle("mounts-" + tool, ["/bin/true0"], "mounts-" + tool)
        commands[tool] = [tool, "--root", f"/run/cli-{tool}", "run", "-b", path, "m-" + tool]
    top = "/run/many-mounts"
    os.makedirs(top, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "many", top], check=True)
    rounds = max(10, ROUNDS // 2)
    before = timed(commands, rounds)
    for i in range(count):
        os.mkdir(f"{top}/{i}")
    script = "".join(f"mount --bind {top}/{i} {top}/{i}\n" for i in range(count))
    subprocess.run(["sh", "-e"], input=script, text=True, check=True)
    during = timed(commands, rounds)
    subprocess.run(["umount", "-l", top], check=True)
    after = timed(commands, rounds)
    grown = {}
    for tool in commands:
        without = median(before[tool] + after[tool])
        grown[tool] = row(f"{tool}, with them", during[tool]) - without
        print(f"  {tool + ', without':<44} median {without:8.2f} ms")
    bar("growth by 1000 mounts, amphora / crun", grown["amphora"] / max(grown["crun"], 0.01), 1.0)


def section_limit():
    print("\nlimit: the smallest memory limits (KiB) under which static true starts")
    for tool in tools():
        good = []
        for kib in (256, 512, 768, 1024, 2048, 4096, 8192):
            path = made_bundle("limit-" + tool, ["/bin/true0"], "limit-" + tool)
            with open(path + "/config.json", encoding="utf-8") as f:
                spec = json.load(f)
            spec["linux"]["resources"]["memory"] = {"limit": kib << 10}
            bundle.write_config(path, spec)
            ran = [subprocess.run([binary(tool), "--root", f"/run/cli-{tool}", "run", "-b", path, "l-" + tool], env=lab.env,
                                  stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=60).returncode
                   for _ in range(3)]
            subprocess.run([binary(tool), "--root", f"/run/cli-{tool}", "delete", "-f", "l-" + tool], env=lab.env,
                           capture_output=True, check=False)
            if not any(ran):
                good.append(kib)
        print(f"  {tool:<44} from {min(good) if good else 'none of these'}")
        if tool == "amphora":
            bar("smallest limit of amphora run in KiB", min(good, default=1 << 20), 1024)


def section_rss():
    print("\nrss: peak of the process that runs a container (VmHWM)")
    for tool in tools():
        path = made_bundle("rss-" + tool, ["/bin/demo", "pause"], "rss-" + tool)
        process = subprocess.Popen([binary(tool), "--root", f"/run/cli-{tool}", "run", "-b", path, "r-" + tool], env=lab.env,
                                   stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        time.sleep(1)
        with open(f"/proc/{process.pid}/status", encoding="utf-8") as f:
            peak = next(int(line.split()[1]) for line in f if line.startswith("VmHWM:"))
        subprocess.run([binary(tool), "--root", f"/run/cli-{tool}", "kill", "r-" + tool, "KILL"], env=lab.env, check=False)
        process.wait(20)
        print(f"  {tool:<44} {peak} kB")
        if tool == "amphora":
            bar("peak RSS of amphora run in MB", peak / 1000, 2.5)


def section_ctr():
    print("\nctr run --rm, from typing to the prompt")
    base = ["ctr", "run", "--rm", "--runtime"]
    commands = {
        "runc.v2, native true": [*base, L.RUNC, L.NATIVE, "bench1", "/bin/true0"],
        "amphora, native true": [*base, L.AMPHORA, L.NATIVE, "bench2", "/bin/true0"],
        "amphora, wasm true": [*base, L.AMPHORA, L.WASM, "bench3", "/app.wasm", "true"],
        "ctr version (ctr's own cost)": ["ctr", "version"],
    }
    if os.path.exists(L.GUESTS + "/hello-go.wasm"):
        commands["amphora, wasm Go hello (2.6 MB)"] = [*base, L.AMPHORA, L.WASM, "bench4", "/hello-go.wasm"]
    times = timed(commands, ROUNDS // 2)
    middle = {name: row(name, values) for name, values in times.items() if values}
    runc = middle["runc.v2, native true"]
    bar("ctr run, native / runc.v2", middle["amphora, native true"] / runc, 0.5)
    bar("ctr run, wasm / runc.v2 native", middle["amphora, wasm true"] / runc, 0.4)
    if "amphora, wasm Go hello (2.6 MB)" in middle:
        bar("ctr run, wasm Go / runc.v2 native", middle["amphora, wasm Go hello (2.6 MB)"] / runc, 0.5)


def open_shims(variants):
    """{name: (client, key, args)} of shims that each serve one container, as a pod's sandbox does."""
    shims, logs = {}, []
    for name, (binary, args) in variants.items():
        key = re.sub(r"\W+", "-", name)
        keeper = made_bundle("keeper-" + key, ["/bin/demo", "pause"], "keeper-" + key)
        # A shim wants the log FIFO that containerd makes, and somebody at its other end.
        log = keeper + "/log"
        if not os.path.exists(log):
            os.mkfifo(log)
        logs.append(os.open(log, os.O_RDWR | os.O_NONBLOCK))
        client = ttrpc.Client(ttrpc.start_shim(binary, keeper, "keeper-" + key, lab.namespace, L.SOCKET, lab.env))
        client.call("Create", (1, "keeper-" + key), (2, keeper))
        client.call("Start", (1, "keeper-" + key))
        shims[name] = (client, key, args)
    return shims


def close_shims(shims):
    for client, key, _ in shims.values():
        client.call("Kill", (1, "keeper-" + key), (3, 9))
        client.call("Wait", (1, "keeper-" + key))
        client.call("Delete", (1, "keeper-" + key))
        try:
            client.call("Shutdown", (1, "keeper-" + key))
        except (ConnectionError, ttrpc.RpcError):
            pass


def section_rpc():
    print("\nthe shim's RPCs, without ctr and containerd (one shim, one container after another)")
    variants = {"runc.v2, native": ("containerd-shim-runc-v2", ["/bin/true0"]),
                "amphora, native": ("containerd-shim-amphora-v1", ["/bin/true0"]),
                "amphora, wasm": ("containerd-shim-amphora-v1", ["/app.wasm", "true"])}
    shims = open_shims(variants)
    times = {name: {"Create": [], "Start": [], "Delete": []} for name in shims}
    for i in range(-2, ROUNDS):
        for name, (client, key, args) in shims.items():
            id = f"rpc-{key}-{i + 2}"
            path = made_bundle(id, args, id)

            def call(method, *fields):
                begun = time.perf_counter()
                client.call(method, *fields)
                if i >= 0 and method in times[name]:
                    times[name][method].append((time.perf_counter() - begun) * 1000)
            call("Create", (1, id), (2, path))
            call("Start", (1, id))
            call("Wait", (1, id))
            call("Delete", (1, id))
    middle = {}
    for name, by_method in times.items():
        for method, values in by_method.items():
            middle[name, method] = row(f"{name}: {method}", values)
    close_shims(shims)
    def both(name):
        return middle[name, "Create"] + middle[name, "Start"]
    bar("Create + Start, native / runc.v2", both("amphora, native") / both("runc.v2, native"), 0.3)
    print(f"       Create + Start, wasm / runc.v2 native: {both('amphora, wasm') / both('runc.v2, native'):.2f}")


PROBE = json.dumps({"args": ["/bin/true0"], "cwd": "/", "user": {"uid": 0, "gid": 0}, "env": ["PATH=/bin"]})


def one_task(client, id, path):
    """A container from Create to Delete; the seconds of the three RPCs, without the program's own."""
    begun = time.perf_counter()
    client.call("Create", (1, id), (2, path))
    client.call("Start", (1, id))
    running = time.perf_counter()
    client.call("Wait", (1, id))
    ended = time.perf_counter()
    client.call("Delete", (1, id))
    return running - begun + time.perf_counter() - ended


def one_exec(client, id, exec_id):
    begun = time.perf_counter()
    client.call("Exec", (1, id), (2, exec_id),
                (7, [(1, "types.containerd.io/opencontainers/runtime-spec/1/Process"), (2, PROBE)]))
    client.call("Start", (1, id), (2, exec_id))
    client.call("Wait", (1, id), (2, exec_id))
    client.call("Delete", (1, id), (2, exec_id))
    return time.perf_counter() - begun


def cpu_group(name):
    for hierarchy in ("cpuacct", "cpu,cpuacct"):
        if os.path.exists(f"/sys/fs/cgroup/{hierarchy}/cpuacct.usage"):
            return f"/sys/fs/cgroup/{hierarchy}/{lab.namespace}/{name}"
    raise RuntimeError("no cpuacct hierarchy")


def cpu_ms(*names):
    """What the groups have used; a shim's and what it runs, and the container's, where an exec ends up."""
    total = 0
    for name in names:
        with open(cpu_group(name) + "/cpuacct.usage", encoding="utf-8") as f:
            total += int(f.read())
    return total / 1e6


def tasks_per_second(socket_path, key, each):
    clients = [ttrpc.Client(socket_path) for _ in range(4)]
    paths = [made_bundle(f"par-{key}-{i}", ["/bin/true0"], f"par-{key}-{i}") for i in range(4)]

    def line(i):
        for _ in range(each):
            one_task(clients[i], f"par-{key}-{i}", paths[i])
    lines = [threading.Thread(target=line, args=(i,)) for i in range(4)]
    begun = time.perf_counter()
    for thread in lines:
        thread.start()
    for thread in lines:
        thread.join()
    seconds = time.perf_counter() - begun
    for client in clients:
        client.close()
    return 4 * each / seconds


def section_shim():
    print("\na shim at work, without ctr and containerd (native true; runc.v2 and ours in turn)")
    shims = open_shims({"runc.v2": ("containerd-shim-runc-v2", []), "amphora": ("containerd-shim-amphora-v1", [])})
    tasks = {name: [] for name in shims}
    execs = {name: [] for name in shims}
    cpu = {name: [] for name in shims}
    rates = {name: [] for name in shims}
    pids = {}
    for name, (client, key, _) in shims.items():
        pids[name] = client.call("Connect", (1, "keeper-" + key))[1][0]
        os.makedirs(cpu_group("shim-" + key), exist_ok=True)
        with open(cpu_group("shim-" + key) + "/cgroup.procs", "w", encoding="utf-8") as f:
            f.write(str(pids[name]))
    for i in range(-2, ROUNDS):
        for name, (client, key, _) in shims.items():
            id = f"cycle-{key}"
            seconds = one_task(client, id, made_bundle(id, ["/bin/true0"], id))
            groups = ("shim-" + key, "keeper-" + key)
            before = cpu_ms(*groups)
            taken = one_exec(client, "keeper-" + key, f"probe{i + 2}")
            if i >= 0:
                tasks[name].append(seconds * 1000)
                execs[name].append(taken * 1000)
                cpu[name].append(cpu_ms(*groups) - before)
    for _ in range(3):
        for name, (client, key, _) in shims.items():
            rates[name].append(tasks_per_second(client.socket.getpeername(), key, max(2, ROUNDS // 8)))
    time.sleep(3)
    threads = {}
    for name, pid in pids.items():
        with open(f"/proc/{pid}/status", encoding="utf-8") as f:
            threads[name] = next(int(line.split()[1]) for line in f if line.startswith("Threads"))
    middle = {}
    for what, values, unit in (("Create + Start + Delete", tasks, "ms"), ("exec, from Exec to Delete", execs, "ms"),
                               ("CPU of an exec", cpu, "ms"), ("tasks a second, 4 in parallel", rates, "/s")):
        for name in shims:
            middle[what, name] = row(f"{name}: {what}", values[name], unit)
        print(f"       {what}, amphora / runc.v2: {middle[what, 'amphora'] / middle[what, 'runc.v2']:.2f}")
    print(f"  threads when idle: {threads}")

    def ratio(what):
        return middle[what, "amphora"] / middle[what, "runc.v2"]
    bar("Create + Start + Delete / runc.v2", ratio("Create + Start + Delete"), 0.2)
    bar("exec / runc.v2", ratio("exec, from Exec to Delete"), 0.15)
    bar("CPU of an exec / runc.v2", ratio("CPU of an exec"), 0.15)
    bar("runc.v2's tasks a second at 4 in parallel / ours", 1 / ratio("tasks a second, 4 in parallel"), 0.25)
    bar("threads of an idle shim", threads["amphora"], 4)
    close_shims(shims)


def memory_of(pids):
    """(PSS, Private_Dirty) of the processes together, kB."""
    total = [0, 0]
    for pid in pids:
        try:
            with open(f"/proc/{pid}/smaps_rollup", encoding="utf-8") as f:
                for line in f:
                    for i, field in enumerate(("Pss:", "Private_Dirty:")):
                        if line.startswith(field):
                            total[i] += int(line.split()[1])
        except OSError:
            pass
    return total


def section_memory():
    print("\nmemory of everything that belongs to a pod (kB per pod; shim, host of wasm and init)")
    for count in (1, 20):
        for name, runtime, image, cmd in (
                ("runc.v2, native", L.RUNC, L.NATIVE, ["/bin/demo", "pause"]),
                ("amphora, native", L.AMPHORA, L.NATIVE, ["/bin/demo", "pause"]),
                ("amphora, wasm", L.AMPHORA, L.WASM, ["/app.wasm", "daemon"])):
            before = set(processes())
            ids = [f"mem{count}-{i}" for i in range(count)]
            for id in ids:
                lab.detached(runtime, image, *cmd, id=id)
            time.sleep(1.0)
            now = processes()
            mine = [pid for pid in now if pid not in before]
            shims = [pid for pid in mine if "shim" in now[pid].split()[0]]
            zygotes = [pid for pid in mine if "amphora-wasm" in now[pid].split()[0]]
            rest = [pid for pid in mine if pid not in shims and pid not in zygotes]
            print(f"  {name}, {count} pod{'s' if count > 1 else ''}:")
            for part, pids in (("shim", shims), ("wasm host (zygote)", zygotes), ("init", rest), ("all", mine)):
                if pids:
                    pss, dirty = (v / count for v in memory_of(pids))
                    print(f"    {part:<42} PSS {pss:8.0f}   Private_Dirty {dirty:8.0f}", flush=True)
                    if part == "shim" and name == "amphora, native" and count == 20:
                        bar("a pod's shim, Private_Dirty in MB at 20 pods", dirty / 1000, 0.7)
                        bar("a pod's shim, PSS in MB at 20 pods", pss / 1000, 1.5)
            lab.end(*ids)


def counted(command, out):
    subprocess.run(["strace", "-f", "-c", "-U", "calls,name", "-o", out, *command], env=lab.env, stdin=subprocess.DEVNULL,
                   stdout=subprocess.DEVNULL, check=False)
    with open(out, encoding="utf-8") as f:
        return next(int(line.split()[0]) for line in f if line.rstrip().endswith("total"))


def section_syscalls():
    print("\nsystem calls of one run and one exec, parent and children (strace -f -c)")
    for tool, args in (("runc", ["/bin/true0"]), ("crun", ["/bin/true0"]), ("amphora", ["/bin/true0"]),
                       ("amphora wasm", ["/app.wasm", "true"])):
        binary = tool.split()[0]
        path = made_bundle("strace", args, "strace")
        out = L.LAB + "/strace.out"
        run = [binary, "--root", f"/run/cli-{binary}", "run", "-b", path, "strace"]
        # Once before, so that a wasm module is compiled.
        subprocess.run(run, env=lab.env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=False)
        calls = counted(run, out)
        print(f"  {tool + ' run':<44} {calls} calls")
        if tool == "amphora":
            bar("system calls of amphora run", calls, 300)
        if "wasm" in tool:
            continue
        path = made_bundle("strace", ["/bin/demo", "pause"], "strace")
        subprocess.run([binary, "--root", f"/run/cli-{binary}", "run", "-d", "-b", path, "strace"], env=lab.env, check=True,
                       stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        calls = counted([binary, "--root", f"/run/cli-{binary}", "exec", "strace", "/bin/true0"], out)
        subprocess.run([binary, "--root", f"/run/cli-{binary}", "delete", "-f", "strace"], env=lab.env, check=False)
        print(f"  {tool + ' exec':<44} {calls} calls")
        if tool == "amphora":
            bar("system calls of amphora exec", calls, 120)


def main():
    sections = sys.argv[1:] or ["run", "exec", "mounts", "limit", "rss", "syscalls", "ctr", "rpc", "shim", "memory", *guests.SECTIONS]
    lab.start()
    lab.load_images()
    print("versions: " + "; ".join(version(tool) for tool in tools()))
    failed = False
    try:
        for name in sections:
            try:
                if name in guests.SECTIONS:
                    guests.SECTIONS[name](sys.modules[__name__])
                else:
                    globals()["section_" + name]()
            except Exception as error:  # a section that cannot run is told, the others still run
                failed = True
                print(f"  section {name} failed: {type(error).__name__}: {error}")
                traceback.print_exc()
    finally:
        lab.stop()
    print("\n| what | figure | bar | |\n| --- | --- | --- | --- |")
    for text, value, limit, good in bars:
        print(f"| {text} | {value:.2f} | {limit} | {'met' if good else 'missed'} |")
    with open(L.LAB + "/bars.json", "w", encoding="utf-8") as f:
        json.dump(bars, f)
    return 1 if failed else 0


lab = L.Lab(os.environ.get("LAB_NAME", "bench"))
if __name__ == "__main__":
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = main()
        finally:
            sys.stdout.flush()
            os._exit(code)
    from tests.support.main import reap_for
    sys.exit(reap_for(child))
