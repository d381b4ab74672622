# SPDX-License-Identifier: Apache-2.0
"""Inside inroot.sh: the engine's cases by podman, under runc and under amphora, and what only podman has.
usage: podman.py [WORD...]"""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
sys.dont_write_bytecode = True

from tests.peers import common, engine, engine_cases, engine_life  # noqa: E402
from tests.support import lab as L  # noqa: E402

# podman 4.3 lowers nproc itself and then asks for more; both limits named keeps it within the machine's.
ULIMITS = ["--ulimit", "nofile=20000:20000", "--ulimit", "nproc=32768:32768"]


def podman(runtime, path, work):
    root = f"{work}/podman"
    command = ["podman", "--root", root, "--runroot", "/run/podman", "--cgroup-manager=cgroupfs",
               "--events-backend=file", "--runtime", path]
    e = engine.Engine("podman", command, {"label": runtime, "options": []}, ["--network", "none", *ULIMITS], work)
    e.health_options = ["--health-interval", "disable"]
    return e


# ---- what only podman has

def userns_maps(e):
    return engine_cases.both(e.run("sh", "-c", "cat /proc/self/uid_map /proc/self/gid_map; id; stat -c %u /bin/busybox",
                                   options=["--uidmap", "0:100000:5000", "--gidmap", "0:200000:5000"]))


def userns_maps_user(e):
    return engine_cases.both(e.run("id", options=["--uidmap", "0:100000:5000", "--user", "1000:1000"]))


def userns_auto(e):
    return engine_cases.both(e.run("sh", "-c", "cat /proc/self/uid_map | tr -s ' ' | cut -d' ' -f 2,4; id -u",
                                   options=["--userns", "auto:size=2000"]))


def userns_host(e):
    return engine_cases.both(e.run("cat", "/proc/self/uid_map", options=["--userns", "host"]))


def userns_exec(e):
    name = e.started("sleep", "1000", options=["--uidmap", "0:100000:5000"])
    return engine_cases.both(e("exec", name, "sh", "-c", "id -u; cat /proc/self/uid_map"))


def userns_volume(e):
    path = f"{e.work}/mapped-{e.runtime['label']}"
    os.makedirs(path, exist_ok=True)
    os.chown(path, 100000, 100000)
    code = e.run("sh", "-c", "echo x > /v/f", options=["--uidmap", "0:100000:5000", "-v", f"{path}:/v"]).code
    return code, os.stat(path + "/f").st_uid


def network_host(e):
    r = L.command([*e.command, "run", "--rm", "--network", "host", *ULIMITS, engine.NATIVE, "readlink", "/proc/self/ns/net"],
                  env=e.env)
    return r.code, r.out.strip() == os.readlink("/proc/self/ns/net")


def cgroup_namespace_host(e):
    r = e.run("cat", "/proc/self/cgroup", options=["--cgroupns", "host"])
    return r.code, sorted({line.split(":")[1] for line in r.out.splitlines()}), "/libpod" in r.out


def pod(e):
    name = "pod-" + e.runtime["label"]
    try:
        r = e("pod", "create", "--name", name, "--network", "none", "--infra=true", "--infra-image", engine.NATIVE,
              "--infra-command", "/bin/sleep 1000")
        if r.code != 0:
            return "no pod", r.code
        first = e.started("sleep", "1000", options=["--pod", name])
        second = L.command([*e.command, "run", "--rm", *ULIMITS, "--pod", name, engine.NATIVE, "readlink",
                            "/proc/self/ns/ipc"], env=e.env).ok().out
        return second == e("exec", first, "readlink", "/proc/self/ns/ipc").ok().out
    finally:
        e("pod", "rm", "-f", name)


def runtime_named_in_info(e):
    return e("info", "--format", "{{.Host.OCIRuntime.Name}}").code


OWN = [(f.__name__, f) for f in (userns_maps, userns_maps_user, userns_auto, userns_host, userns_exec, userns_volume,
                                 network_host, cgroup_namespace_host, pod, runtime_named_in_info)]


def main():
    words = sys.argv[1:]
    rows = common.Rows("podman", L.LAB + "/results")
    os.makedirs("/run/containers", exist_ok=True)
    # --userns=auto takes its ranges from here; the machine's own files stay as they are.
    for name in ("subuid", "subgid"):
        with open(f"/tmp/{name}", "w", encoding="utf-8") as f:
            f.write("containers:300000:65536\nroot:400000:65536\n")
        L.command(["mount", "--bind", f"/tmp/{name}", f"/etc/{name}"]).ok()
    runc = podman("runc", "/usr/sbin/runc", L.LAB)
    ours = podman("amphora", L.LAB + "/prefix/bin/amphora", L.LAB)
    runc.load_images()
    print(runc("--version").out.strip() + "; " + L.command(["runc", "--version"]).out.splitlines()[0], flush=True)
    engine.compare(rows, engine_cases.CASES + engine_life.CASES + OWN, runc, {"": ours}, words)
    engine.check_wasm(rows, engine_life.WASM_CASES, {"": ours}, words)
    left = ours("ps", "-a", "-q").out
    rows.add("nothing_left", "failed" if left else "passed", left)
    common.end_all()
    common.drop_cgroups(r"^libpod")
    L.command(["umount", "-l", f"{L.LAB}/podman/overlay"])
    return 0 if rows.good else 1


if __name__ == "__main__":
    common.as_pid1(main)
