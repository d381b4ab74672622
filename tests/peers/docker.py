# SPDX-License-Identifier: Apache-2.0
"""Inside inroot.sh with a sid tree: a private dockerd, the engine's cases under runc, under the command by path
and under our shim, and what only docker has.
usage: docker.py [WORD...]"""

import json
import os
import signal
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
sys.dont_write_bytecode = True

from tests.peers import common, docker_images, engine, engine_cases, engine_life  # noqa: E402
from tests.support import lab as L  # noqa: E402
from tests.support.runner import Failed, eventually  # noqa: E402

SOCKET = "/run/docker-lab.sock"
RUNTIMES = {"amphora-command": {"path": L.LAB + "/prefix/bin/amphora"},
            "amphora-shim": {"runtimeType": L.LAB + "/prefix/bin/containerd-shim-amphora-v1"}}


class Daemon:
    address = "unix://" + SOCKET

    def __init__(self, *options, containerd_store=False):
        self.root = f"{L.LAB}/docker{'-store' if containerd_store else ''}"
        os.makedirs(self.root, exist_ok=True)
        if not os.path.ismount(self.root):
            L.command(["mount", "--bind", self.root, self.root]).ok()
        with open("/run/daemon.json", "w", encoding="utf-8") as f:
            json.dump({"runtimes": RUNTIMES, "data-root": self.root, "exec-root": "/run/docker-lab",
                       "hosts": ["unix://" + SOCKET], "pidfile": "/run/docker-lab.pid", "bridge": "none",
                       "iptables": False, "ip6tables": False, "cgroup-parent": "/amphora-docker",
                       "storage-driver": "overlayfs" if containerd_store else "overlay2",
                       "features": {"containerd-snapshotter": containerd_store}}, f)
        self.log = open(L.LAB + "/dockerd.log", "ab")
        env = dict(os.environ, PATH=L.LAB + "/prefix/bin:" + os.environ["PATH"])
        self.process = subprocess.Popen(["dockerd", "--config-file", "/run/daemon.json", *options],
                                        stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, env=env)
        eventually(lambda: self.process.poll() is not None or self("version").code == 0, 60, "dockerd answers", 0.2)
        if self.process.poll() is not None:
            with open(L.LAB + "/dockerd.log", encoding="utf-8", errors="replace") as f:
                raise Failed("dockerd ended: " + f.read()[-1500:])

    def __call__(self, *args):
        return L.command(["docker", "-H", "unix://" + SOCKET, *args])

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def docker(runtime):
    e = engine.Engine("docker", ["docker", "-H", "unix://" + SOCKET], {"label": runtime, "options": ["--runtime", runtime]},
                      ["--pull", "never", "--network", "none"], L.LAB)
    e.health_options = ["--health-interval", "500ms"]
    return e


# ---- what only docker has

def runtime_is_recorded(e):
    name = e.started("sleep", "1000")
    return e.inspect(name, "{{.HostConfig.Runtime}}") == e.runtime["label"]


def network_host(e):
    r = L.command([*e.command, "run", "--rm", "--pull", "never", *e.runtime["options"], "--network", "host", engine.NATIVE,
                   "readlink", "/proc/self/ns/net"], env=e.env)
    return r.code, r.out.strip() == os.readlink("/proc/self/ns/net")


def network_of_another(e):
    first = e.started("sleep", "1000")
    r = L.command([*e.command, "run", "--rm", "--pull", "never", *e.runtime["options"], "--network", f"container:{first}",
                   engine.NATIVE, "readlink", "/proc/self/ns/net"], env=e.env)
    return r.code, r.out == e("exec", first, "readlink", "/proc/self/ns/net").ok().out


def restart_policy(e):
    name = e.started("sh", "-c", "echo begun; sleep 0.3; exit 1", options=["--restart", "on-failure:2"])
    eventually(lambda: e("logs", name).out.count("begun") == 3, 30, "three runs", 0.2)
    e.until(name, "exited")
    return e.inspect(name, "{{.RestartCount}} {{.State.ExitCode}}")


def events(e):
    """What the engine heard of a container's life."""
    name = e.new_name()
    since = L.command(["date", "+%s.%N"]).out.strip()
    e.run("true", name=name).ok()
    until = L.command(["date", "+%s.%N"]).out.strip()
    return e("events", "--since", since, "--until", until, "--filter", f"container={name}", "--format",
             "{{.Action}}").ok().out.split()


def userns_mapped(e):
    return engine_cases.both(e.run("sh", "-c", "tr -s ' ' < /proc/self/uid_map; id -u; stat -c %u /bin/busybox; "
                                   "echo x > /data/f && stat -c %u /data/f"))


def userns_exec(e):
    name = e.started("sleep", "1000")
    return engine_cases.both(e("exec", name, "sh", "-c", "id -u; tr -s ' ' < /proc/self/uid_map"))


def userns_host(e):
    return engine_cases.both(e.run("sh", "-c", "tr -s ' ' < /proc/self/uid_map", options=["--userns", "host"]))


def userns_user(e):
    return engine_cases.both(e.run("id", options=["--user", "1000:1000"]))


OWN = [(f.__name__, f) for f in (runtime_is_recorded, network_host, network_of_another, restart_policy, events)]
USERNS = [("remap_" + f.__name__, f) for f in (userns_mapped, userns_exec, userns_host, userns_user)]


def main():
    words = sys.argv[1:]
    rows = common.Rows("docker", L.LAB + "/results")
    daemon = Daemon()
    runc = docker("runc")
    ours = {".command": docker("amphora-command"), ".shim": docker("amphora-shim")}
    runc.load_images()
    print(daemon("version", "--format", "docker {{.Server.Version}}, client {{.Client.Version}}").out.strip(), flush=True)
    engine.compare(rows, engine_cases.CASES + engine_life.CASES + OWN, runc, ours, words)
    engine.check_wasm(rows, engine_life.WASM_CASES, ours, words)
    left = daemon("ps", "-a", "-q").out
    rows.add("nothing_left", "failed" if left else "passed", left)
    daemon.stop()

    if not words or any("remap" in w for w in words):
        # The tree's own files stay as they are.
        for name in ("subuid", "subgid"):
            with open(f"/tmp/{name}", "w", encoding="utf-8") as f:
                f.write("remapped:100000:65536\n")
            open(f"/etc/{name}", "a", encoding="utf-8").close()
            L.command(["mount", "--bind", f"/tmp/{name}", f"/etc/{name}"]).ok()
        for name, line in (("passwd", "remapped:x:5000:5000::/:/bin/false\n"), ("group", "remapped:x:5000:\n")):
            with open(f"/etc/{name}", encoding="utf-8") as f:
                text = f.read()
            with open(f"/tmp/{name}", "w", encoding="utf-8") as f:
                f.write(text + line)
            L.command(["mount", "--bind", f"/tmp/{name}", f"/etc/{name}"]).ok()
        daemon = Daemon("--userns-remap", "remapped")
        runc.load_images()
        engine.compare(rows, USERNS, runc, ours, words)
        daemon.stop()
    if not words or any("image" in w for w in words):
        daemon = Daemon(containerd_store=True)
        docker_images.run(rows, daemon)
        daemon.stop()
    common.end_all()
    common.drop_cgroups(r"^(amphora-)?docker$")
    return 0 if rows.good else 1


if __name__ == "__main__":
    common.as_pid1(main)
