# SPDX-License-Identifier: Apache-2.0
"""Limits of a container on cgroup v1 and hybrid hosts, by the command (acceptance cases 16, 17, 19, 21, 23 of
docs/conformance.md). What only a pure cgroup v2 can show is tested in a guest (./dev vm)."""

import json
import os
import subprocess
import time

from tests.support.command import Cli
from tests.support.runner import Skip, check, contains, equal, eventually

MIB = 1 << 20


def v1(lab):
    if not os.path.isdir("/sys/fs/cgroup/memory"):
        raise Skip("cgroup v1 is not mounted here")
    return Cli(lab)


def value(lab, controller, id, file):
    with open(f"/sys/fs/cgroup/{controller}/{lab.namespace}/{id}/{file}", encoding="utf-8") as f:
        return f.read().strip()


def limits(**resources):
    return lambda spec: spec["linux"]["resources"].update(resources)


def test_limits_are_in_the_files(lab):  # acceptance case 16
    cli = v1(lab)
    id = cli.running("sleep", "1000", change=limits(
        cpu={"shares": 512, "quota": 20000, "period": 50000, "cpus": "0", "mems": "0"},
        memory={"limit": 64 * MIB, "reservation": 32 * MIB}, pids={"limit": 77}))
    want = {("cpu", "cpu.shares"): "512", ("cpu", "cpu.cfs_quota_us"): "20000", ("cpu", "cpu.cfs_period_us"): "50000",
            ("cpuset", "cpuset.cpus"): "0", ("cpuset", "cpuset.mems"): "0", ("memory", "memory.limit_in_bytes"): str(64 * MIB),
            ("memory", "memory.soft_limit_in_bytes"): str(32 * MIB), ("pids", "pids.max"): "77"}
    for (controller, file), text in want.items():
        equal(value(lab, controller, id, file), text, file)
    for limit in (128 * MIB, 32 * MIB):  # raised, then lowered
        cli("update", "--memory", str(limit), id).ok()
        equal(value(lab, "memory", id, "memory.limit_in_bytes"), str(limit))
    # A frozen container dies of SIGKILL.
    cli("pause", id).ok()
    cli("kill", id, "KILL").ok()
    cli.until(id, "stopped")
    cli("delete", id).ok()


def test_hugepages_on_the_hybrid_side(lab):  # acceptance case 17
    cli = v1(lab)
    side = "/sys/fs/cgroup/unified"
    if not os.path.exists(side) or "hugetlb" not in open(side + "/cgroup.controllers", encoding="utf-8").read():
        raise Skip("hugetlb is not on a unified side here")
    id = cli.running("sleep", "1000", change=limits(hugepageLimits=[{"pageSize": "2MB", "limit": 4 * MIB}]))
    for file in ("hugetlb.2MB.max", "hugetlb.2MB.rsvd.max"):
        equal(value(lab, "unified", id, file), str(4 * MIB), file)
    cli.end(id)


def test_update(lab):  # acceptance case 19
    cli = v1(lab)
    id = cli.running("sh", "-c", "while head -c 1 /dev/zero > /dev/null; do :; done; echo failed", change=limits(
        cpu={"quota": 90000, "period": 100000}, memory={"limit": 64 * MIB}, pids={"limit": 50}))
    cli("update", "--cpu-quota", "50000", id).ok()
    equal((value(lab, "cpu", id, "cpu.cfs_quota_us"), value(lab, "cpu", id, "cpu.cfs_period_us")), ("50000", "100000"))
    before = value(lab, "devices", id, "devices.list")
    for n in range(30):
        cli("update", "--pids-limit", str(50 + n), id).ok()
    equal(value(lab, "devices", id, "devices.list"), before, "device rules after updates")
    equal(cli.status(id), "running", "a reader of a device")
    # One value that cannot be leaves all as they were.
    r = cli("update", "-r", "-", id, stdin=json.dumps({"pids": {"limit": 99}, "memory": {"limit": 4096}, "cpu": {"cpus": "4095"}}))
    check(r.code == 1, f"an impossible update: {r!r}")
    equal((value(lab, "pids", id, "pids.max"), value(lab, "memory", id, "memory.limit_in_bytes")), ("79", str(64 * MIB)))
    cli("update", "--memory", "-1", id).ok()
    check(int(value(lab, "memory", id, "memory.limit_in_bytes")) > 1 << 60, "memory -1 is no limit")
    cli.end(id)


def test_freezer(lab):  # acceptance case 21
    cli = v1(lab)
    id = cli.running("sh", "-c", "f() { while :; do sleep 0.01 & wait; done; }; for n in 1 2 3 4 5 6 7 8; do f & done; wait",
                     change=limits(pids={"limit": 40}))
    cli("pause", id).ok()
    equal(cli.status(id), "paused")
    pids = json.loads(cli("ps", "-f", "json", id).ok().out)
    time.sleep(0.2)
    equal(json.loads(cli("ps", "-f", "json", id).ok().out), pids, "processes of a frozen container")
    cli("resume", id).ok()
    equal(cli.status(id), "running")
    cli.end(id)
    # Without a pid namespace of its own, kill --all reaches every process.

    def shared(spec):
        spec["linux"]["namespaces"] = [n for n in spec["linux"]["namespaces"] if n["type"] != "pid"]
        spec["mounts"] = [m for m in spec["mounts"] if m["type"] != "proc"]
        spec["linux"].update(maskedPaths=[], readonlyPaths=[])
    id = cli.running("sh", "-c", "sleep 999 & sleep 998 & setsid sleep 997 & wait", change=shared)
    eventually(lambda: len(json.loads(cli("ps", "-f", "json", id).ok().out)) == 4, 3, "four processes")
    pids = json.loads(cli("ps", "-f", "json", id).ok().out)
    cli("kill", "--all", id, "KILL").ok()
    eventually(lambda: not any(os.path.exists(f"/proc/{p}/exe") for p in pids), 3, "all are gone")
    cli.until(id, "stopped")
    cli("delete", id).ok()


def test_stats_are_the_files(lab):  # acceptance case 23
    cli = v1(lab)
    id = cli.running("sleep", "1000", change=limits(memory={"limit": 48 * MIB}, pids={"limit": 30}))
    data = json.loads(cli("events", "--stats", id).ok().out)["data"]
    equal(data["pids"]["limit"], 30)
    equal(data["pids"]["current"], 1)
    equal(data["memory"]["usage"]["limit"], 48 * MIB)
    usage = int(value(lab, "memory", id, "memory.usage_in_bytes"))
    check(abs(data["memory"]["usage"]["usage"] - usage) < MIB, f"usage {data['memory']['usage']} against {usage}")
    cli.end(id)


def test_one_event_for_each_oom_kill(lab):  # acceptance case 22
    cli = v1(lab)
    cli.needs_controller("memory")
    small = limits(memory={"limit": 24 * MIB, "swap": 24 * MIB})
    hogs = "for i in 1 2 3 4 5; do demo eat 200; done; exit 0"
    for args, kills in ((["sh", "-c", hogs], 5), (["demo", "hog"], 1), (["sh", "-c", "demo hog & wait; demo hog"], 2),
                        (["sleep", "1000"], 0)):
        id = cli.create(*args, change=small)
        events = subprocess.Popen([cli.name, "--root", cli.root, "events", "--interval", "1h", id], env=lab.env,
                                  stdout=subprocess.PIPE, text=True)
        # It watches once the cgroup has a listener; until then a quick kill would be counted as an old one.
        eventually(lambda: any("eventfd" in os.readlink(f"/proc/{events.pid}/fd/{fd}")
                               for fd in os.listdir(f"/proc/{events.pid}/fd")), 5, "events watches")
        cli("start", id).ok()
        if kills == 0:
            cli("kill", id, "KILL").ok()
        cli.until(id, "stopped", 20)
        counted = int(value(lab, "memory", id, "memory.oom_control").split("oom_kill ")[1])
        cli("delete", id).ok()  # the removal fires the watch once more
        out, _ = events.communicate(timeout=10)
        told = [json.loads(line)["type"] for line in out.splitlines()]
        equal((told, counted), (["oom"] * kills, kills), f"{args}: events, and the kernel's count")


def test_what_this_host_lacks_is_named(lab):
    cli = v1(lab)
    for resources, words in (({"network": {"classID": 1}}, "net_cls"), ({"unified": {"memory.high": "1"}}, "cgroup v1"),
                             ({"rdma": {"mlx5_1": {"hcaHandles": 1}}}, "rdma")):
        r = cli.run("true", change=limits(**resources))
        check(r.code == 1, f"{resources}: {r!r}")
        contains(r.err, words)
