# SPDX-License-Identifier: Apache-2.0
"""Limits of a container on cgroup v1 and hybrid hosts, by the command (acceptance cases 16, 17, 19, 21, 23 of
docs/conformance.md). What only a pure cgroup v2 can show is tested in a guest (./dev vm)."""

import json
import os
import subprocess
import time

from tests.support import inventory
from tests.support import lab as L
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


def watches(pid):
    """Waits until `events` listens to the cgroup; until then a quick kill would be counted as an old one."""
    eventually(lambda: any("eventfd" in name for name in inventory.descriptors(pid).values()), 5, "events watches")


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
        watches(events.pid)
        cli("start", id).ok()
        if kills == 0:
            cli("kill", id, "KILL").ok()
        cli.until(id, "stopped", 20)
        counted = int(value(lab, "memory", id, "memory.oom_control").split("oom_kill ")[1])
        cli("delete", id).ok()  # the removal fires the watch once more
        out, _ = events.communicate(timeout=10)
        told = [json.loads(line)["type"] for line in out.splitlines()]
        equal((told, counted), (["oom"] * kills, kills), f"{args}: events, and the kernel's count")


def test_an_oom_kill_just_before_the_removal_is_told(lab):
    """The kill's own call is counted a moment before the cgroup goes: the removal's is still to come, and is waited for."""
    cli = v1(lab)
    cli.needs_controller("memory")
    for _ in range(8):
        id = cli.create("demo", "hog", change=limits(memory={"limit": 24 * MIB, "swap": 24 * MIB}))
        events = subprocess.Popen([cli.name, "--root", cli.root, "events", "--interval", "1h", id], env=lab.env,
                                  stdout=subprocess.PIPE, text=True)
        watches(events.pid)
        subprocess.run(["sh", "-c", f"{cli.name} --root {cli.root} start {id}; until {cli.name} --root {cli.root} delete {id} 2>/dev/null; do :; done"],
                       env=lab.env, check=True, timeout=30, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        out, _ = events.communicate(timeout=10)
        equal([json.loads(line)["type"] for line in out.splitlines()], ["oom"])


# ---- Intel RDT

class Resctrl:
    """A directory that stands in for resctrl, and a container whose record says that its class is there."""

    def __init__(self, cli, id):
        self.root = f"{L.LAB}/rdt-{id}"
        for name, text in (("schemata", "    MB:0=100\n    L3:0=fff\n"), ("own/schemata", "    MB:0=090\n    L3:0=0ff\n"), ("info/L3/cbm_mask", "fff\n"),
                           ("info/L3/min_cbm_bits", "2\n"), ("info/L3/num_closids", "16\n"), ("info/MB/min_bandwidth", "10\n"),
                           ("own/mon_data/mon_L3_00/mbm_total_bytes", "77\n"), ("own/mon_data/mon_L3_00/mbm_local_bytes", "55\n"),
                           ("own/mon_data/mon_L3_00/llc_occupancy", "4096\n"), ("own/tasks", "")):
            os.makedirs(os.path.dirname(f"{self.root}/{name}"), exist_ok=True)
            with open(f"{self.root}/{name}", "w", encoding="ascii") as f:
                f.write(text)
        record = f"{cli.root}/{id}/state.json"
        with open(record, encoding="utf-8") as f:
            state = json.load(f)
        state.update(rdtRoot=self.root, rdtClass=self.root + "/own", rdtMonitor="", rdtOwn=False)
        with open(record, "w", encoding="utf-8") as f:
            json.dump(state, f)

    def schemata(self):
        with open(self.root + "/own/schemata", encoding="ascii") as f:
            return f.read()


def test_intel_rdt_in_update_and_events(lab):
    cli = Cli(lab)
    cli.needs_controller("pids")
    id = cli.running("sleep", "1000", change=limits(pids={"limit": 50}))
    r = cli("update", "--l3-cache-schema", "L3:0=f", "--pids-limit", "60", id)
    check(r.code == 1 and "updating a non-existent Intel RDT configuration" in r.err, f"without a class: {r!r}")
    equal(json.loads(cli("events", "--stats", id).ok().out)["data"]["intel_rdt"], {}, "a container without a class")
    rdt = Resctrl(cli, id)
    seen = json.loads(cli("events", "--stats", id).ok().out)["data"]["intel_rdt"]
    equal(seen, {"l3_cache_info": {"cbm_mask": "fff", "min_cbm_bits": 2, "num_closids": 16}, "l3_cache_schema_root": "L3:0=fff",
                 "l3_cache_schema": "L3:0=0ff", "mem_bw_info": {"min_bandwidth": 10}, "mem_bw_schema_root": "MB:0=100", "mem_bw_schema": "MB:0=090",
                 "mbm_stats": [{"mbm_total_bytes": 77, "mbm_local_bytes": 55}], "cmt_stats": [{"llc_occupancy": 4096}]})
    cli("update", "--l3-cache-schema", "L3:0=00f", "--mem-bw-schema", "MB:0=020", id).ok()
    check(rdt.schemata().startswith("L3:0=00f\nMB:0=020\n"), rdt.schemata())
    cli("update", "-r", "-", "--l3-cache-schema", "L3:0=003", id, stdin=json.dumps({"pids": {"limit": 70}})).ok()
    check(rdt.schemata().startswith("L3:0=003\n"), f"beside --resources: {rdt.schemata()}")
    before = rdt.schemata()
    r = cli("update", "--l3-cache-schema", "L3:0=fff", "--cpuset-cpus", "4095", id)
    check(r.code == 1, f"an impossible update: {r!r}")
    equal(rdt.schemata(), before, "the lines after an update that failed")
    os.rename(rdt.root + "/info/MB", rdt.root + "/info/MBx")
    r = cli("update", "--mem-bw-schema", "MB:0=10", id)
    check(r.code == 1 and "memory bandwidth schema is not enabled" in r.err, repr(r))
    cli.end(id)


# ---- values and what they become

def test_values_become_what_the_kernel_takes(lab):
    """Swappiness, the OOM killer, block I/O, realtime; and what is ignored or refused is said."""
    cli = v1(lab)
    cli.needs_controller("memory")
    id = cli.running("sleep", "1000", change=limits(
        memory={"limit": 64 * MIB, "swap": 128 * MIB, "swappiness": 7, "disableOOMKiller": True, "kernel": 32 * MIB}, pids={"limit": 0}))
    equal(value(lab, "memory", id, "memory.swappiness"), "7")
    contains(value(lab, "memory", id, "memory.oom_control"), "oom_kill_disable 1")
    equal(value(lab, "pids", id, "pids.max"), "1", "0 is a limit")
    if os.path.exists(f"/sys/fs/cgroup/memory/{lab.namespace}/{id}/memory.memsw.limit_in_bytes"):
        equal(value(lab, "memory", id, "memory.memsw.limit_in_bytes"), str(128 * MIB))
    cli.end(id)
    id = cli.running("sleep", "1000", change=limits(pids={"limit": -1}))
    equal(value(lab, "pids", id, "pids.max"), "max")
    # Below what is used already: said before the kernel is asked.
    contains(cli("update", "--memory", str(64 * MIB), "--kernel-memory", str(32 * MIB), id).ok().err, "kernel memory limits are ignored")
    r = cli("update", "-r", "-", id, stdin=json.dumps({"memory": {"limit": 4096, "checkBeforeUpdate": True}}))
    check(r.code == 1 and "rejecting memory limit" in r.err, repr(r))
    equal(value(lab, "memory", id, "memory.limit_in_bytes"), str(64 * MIB))
    cli.end(id)
    r = cli.run("true", change=limits(memory={"limit": 64 * MIB, "kernel": 32 * MIB}))
    check(r.code == 0 and "kernel memory limits are ignored" in r.err, f"what is ignored is said: {r!r}")
    for resources, words in (({"memory": {"swappiness": 101}}, "swappiness"), ({"cpu": {"shares": 1 << 20}}, "shares"),
                             ({"memory": {"limit": 64 * MIB, "swap": 32 * MIB}}, "swap"), ({"hugepageLimits": [{"pageSize": "3MB", "limit": 0}]}, "3MB")):
        r = cli.run("true", change=limits(**resources))
        check(r.code == 1 and words in r.err, f"{resources}: {r!r}")


def test_block_io(lab):
    cli = v1(lab)
    directory = f"/sys/fs/cgroup/blkio/{lab.namespace}"
    if not os.path.isdir("/sys/fs/cgroup/blkio"):
        raise Skip("blkio is not mounted here")
    disks = [open(f"/sys/block/{name}/dev", encoding="ascii").read().split(":") for name in sorted(os.listdir("/sys/block"))]
    if not disks:
        raise Skip("no block device here")
    major, minor = (int(n) for n in disks[0])
    one = {"major": major, "minor": minor, "rate": 1048576}
    id = cli.running("sleep", "1000", change=limits(blockIO={"throttleReadBpsDevice": [one], "throttleWriteIOPSDevice": [{**one, "rate": 100}]}))
    equal(value(lab, "blkio", id, "blkio.throttle.read_bps_device"), f"{major}:{minor} 1048576")
    equal(value(lab, "blkio", id, "blkio.throttle.write_iops_device"), f"{major}:{minor} 100")
    files = os.listdir(f"{directory}/{id}")
    cli.end(id)
    weighted = next((f for f in ("blkio.weight", "blkio.bfq.weight") if f in files), None)
    r = cli.run("true", change=limits(blockIO={"weight": 500}))
    check(r.code == 0 if weighted else "weight" in r.err, f"weight with {weighted}: {r!r}")
    r = cli.run("true", change=limits(blockIO={"leafWeight": 500}))
    check(r.code == 1 and "leaf" in r.err.lower(), f"a leaf weight, gone from kernels: {r!r}")


def test_what_this_host_lacks_is_named(lab):
    cli = v1(lab)
    for resources, words in (({"network": {"classID": 1}}, "net_cls"), ({"unified": {"memory.high": "1"}}, "cgroup v1"),
                             ({"rdma": {"mlx5_1": {"hcaHandles": 1}}}, "rdma")):
        r = cli.run("true", change=limits(**resources))
        check(r.code == 1, f"{resources}: {r!r}")
        contains(r.err, words)
