# SPDX-License-Identifier: Apache-2.0
"""The spec's values, which are cgroup v1's, as the files of v2: every conversion, every refusal, and what an
update changes, keeps or puts back."""

import json
import os

from tests.support import groups
from tests.support.bare import CGROUPS
from tests.support.command import NATIVE, Cli, kind_args
from tests.support.runner import Skip, check, contains, equal

MIB = 1 << 20
# (resources of the spec, file -> what it must say)
CREATED = [
    ({"cpu": {"shares": 1024}}, {"cpu.weight": "100"}),
    ({"cpu": {"quota": 50000, "period": 200000}}, {"cpu.max": "50000 200000"}),
    ({"cpu": {"quota": 50000}}, {"cpu.max": "50000 100000"}),
    ({"cpu": {"period": 50000}}, {"cpu.max": "max 50000"}),
    ({"cpu": {"quota": -1, "period": 50000}}, {"cpu.max": "max 50000"}),
    ({"cpu": {"quota": 50000, "period": 100000, "burst": 40000}}, {"cpu.max": "50000 100000", "cpu.max.burst": "40000"}),
    ({"cpu": {"idle": 1, "shares": 512}}, {"cpu.idle": "1"}),
    ({"cpu": {"cpus": "0", "mems": "0"}}, {"cpuset.cpus": "0", "cpuset.mems": "0", "cpuset.cpus.effective": "0"}),
    ({"memory": {"limit": 100 * MIB, "swap": 200 * MIB, "reservation": 50 * MIB}},
     {"memory.max": str(100 * MIB), "memory.swap.max": str(100 * MIB), "memory.low": str(50 * MIB)}),
    ({"memory": {"limit": 100 * MIB, "swap": 100 * MIB}}, {"memory.max": str(100 * MIB), "memory.swap.max": "0"}),
    ({"memory": {"limit": 100 * MIB, "swap": -1}}, {"memory.swap.max": "max"}),
    ({"memory": {"limit": 100 * MIB}}, {"memory.max": str(100 * MIB), "memory.swap.max": "max"}),
    ({"memory": {"limit": -1}}, {"memory.max": "max", "memory.swap.max": "max"}),
    ({"memory": {"limit": 100 * MIB, "swappiness": 10, "disableOOMKiller": True, "kernel": 5 * MIB}},
     {"memory.max": str(100 * MIB)}),
    ({"pids": {"limit": 20}}, {"pids.max": "20"}),
    ({"pids": {"limit": 0}}, {"pids.max": "1"}),
    ({"pids": {"limit": -1}}, {"pids.max": "max"}),
    ({"hugepageLimits": [{"pageSize": "2MB", "limit": 4 * MIB}]},
     {"hugetlb.2MB.max": str(4 * MIB), "hugetlb.2MB.rsvd.max": str(4 * MIB)}),
    ({"unified": {"memory.high": "50331648", "cpu.weight": "77", "misc.max": ""}}, {"memory.high": "50331648", "cpu.weight": "77"}),
    # What is given in v2's own words comes last.
    ({"memory": {"limit": 100 * MIB}, "unified": {"memory.max": str(80 * MIB)}}, {"memory.max": str(80 * MIB)}),
]
# (resources, words of the error)
REFUSED = [
    ({"memory": {"limit": 100 * MIB, "swap": 50 * MIB}}, ["memory+swap limit 52428800 is below the memory limit 104857600"]),
    ({"memory": {"swap": 50 * MIB}}, ["memory swap 52428800 needs a memory limit"]),
    ({"cpu": {"cpus": "99"}}, ["cpuset.cpus", "99"]),
    ({"cpu": {"quota": 50000, "burst": 90000}}, ["cpu.max = 50000", "not below cpu.max.burst"]),
    ({"cpu": {"quota": 10}}, ["cpu.max", "10"]),
    ({"unified": {"foo/bar": "1"}}, ["foo/bar", "not a file of a cgroup"]),
    ({"unified": {"nosuch.max": "1"}}, ['"nosuch.max" can\'t be set', 'controller "nosuch" not available']),
    ({"unified": {"memory.nosuch": "1"}}, ["memory.nosuch", "no such file"]),
    ({"unified": {"memory.max": "many"}}, ["memory.max", "many"]),
    ({"hugepageLimits": [{"pageSize": "3MB", "limit": 1}]}, ["hugepage size 3MB: this kernel has", "2MB"]),
    ({"rdma": {"mlx9_9": {"hcaHandles": 3}}}, ["rdma.max", "mlx9_9"]),
    ({"network": {"classID": 5}}, ["network class id", "net_cls"]),
    ({"blockIO": {"throttleReadBpsDevice": [{"major": 250, "minor": 250, "rate": 1000}]}}, ["io.max", "250:250"]),
]
WEIGHTS = {2: 1, 100: 17, 512: 59, 1024: 100, 2048: 174, 10240: 639, 262144: 10000}


def with_resources(resources):
    def change(spec):
        spec["linux"]["resources"].update(json.loads(json.dumps(resources)))
    return change


def created(cli, resources):
    return cli.create(*kind_args(NATIVE, "pause"), change=with_resources(resources))


def update(cli, id, resources):
    return cli("update", "-r", "-", id, stdin=json.dumps(resources))


def disk():
    """major:minor of a disk that has an I/O scheduler's queue."""
    for name in sorted(os.listdir("/sys/block")):
        if os.path.exists(f"/sys/block/{name}/device"):
            with open(f"/sys/block/{name}/dev", encoding="utf-8") as f:
                return tuple(int(n) for n in f.read().strip().split(":"))
    raise Skip("there is no disk here")


def test_every_conversion_at_create(lab):
    cli, wrong = Cli(lab), []
    for resources, want in CREATED:
        resources = {**resources, "unified": {k: v for k, v in resources.get("unified", {}).items() if v}}
        id = created(cli, resources)
        got = groups.of(lab, id).snapshot(want)
        if got != want:
            wrong.append(f"{resources}: got {got}, want {want}")
        cli.end(id)
    check(not wrong, "\n      ".join(wrong))


def test_the_same_values_as_runc(lab):
    # Weights are left out: runc before 1.3 has an older formula.
    combined = {"cpu": {"quota": 30000, "period": 60000, "cpus": "0-1", "mems": "0"}, "pids": {"limit": 33},
                "memory": {"limit": 90 * MIB, "swap": 120 * MIB, "reservation": 40 * MIB},
                "hugepageLimits": [{"pageSize": "2MB", "limit": 4 * MIB}], "unified": {"memory.high": str(80 * MIB)}}
    seen = {}
    for name in ("runc", "amphora"):
        cli = Cli(lab, name)
        id = created(cli, combined)
        group = groups.of(lab, id)
        names = [n for n in sorted(os.listdir(group.directory)) if n.endswith((".max", ".low", ".high", ".min", ".cpus", ".mems", ".type",
                                                                              ".subtree_control", ".controllers", ".freeze"))]
        seen[name] = group.snapshot(names)
        cli.end(id)
    check(len(seen["amphora"]) > 15, f"few files: {seen['amphora']}")
    equal(seen["amphora"], seen["runc"])


def test_shares_become_weights(lab):
    cli = Cli(lab)
    id = created(cli, {})
    for shares, weight in WEIGHTS.items():
        cli("update", "--cpu-share", str(shares), id).ok()
        equal(groups.of(lab, id).read("cpu.weight"), str(weight), f"{shares} shares")
    cli.end(id)


def test_io_limits(lab):
    major, minor = disk()
    cli = Cli(lab)
    device = {"major": major, "minor": minor}
    id = created(cli, {"blockIO": {"throttleReadBpsDevice": [{**device, "rate": 1048576}],
                                   "throttleWriteBpsDevice": [{**device, "rate": 2097152}],
                                   "throttleReadIOPSDevice": [{**device, "rate": 100}],
                                   "throttleWriteIOPSDevice": [{**device, "rate": 200}]}})
    group = groups.of(lab, id)
    equal(group.read("io.max"), f"{major}:{minor} rbps=1048576 wbps=2097152 riops=100 wiops=200")
    update(cli, id, {"blockIO": {"throttleReadBpsDevice": [{**device, "rate": 4194304}]}}).ok()
    equal(group.read("io.max"), f"{major}:{minor} rbps=4194304 wbps=2097152 riops=100 wiops=200")
    # A rate of 0 is no limit.
    update(cli, id, {"blockIO": {"throttleReadBpsDevice": [{**device, "rate": 0}]}}).ok()
    equal(group.read("io.max"), f"{major}:{minor} rbps=max wbps=2097152 riops=100 wiops=200")
    cli.end(id)


def test_io_weight(lab):
    cli = Cli(lab)
    id = created(cli, {"pids": {"limit": 9}})
    group = groups.of(lab, id)
    name = next((n for n in ("io.bfq.weight", "io.weight") if group.has(n)), None)
    r = update(cli, id, {"blockIO": {"weight": 500}})
    if name is None:
        check(r.code != 0, f"it was taken: {r!r}")
        contains(r.err, "io.weight")
    else:
        r.ok()
        equal(group.read(name).split()[:2], ["default", "500" if "bfq" in name else str(1 + 490 * 9999 // 990)])
    equal(group.read("pids.max"), "9")
    cli.end(id)


def test_impossible_values_are_refused_and_nothing_is_left(lab):
    cli, wrong = Cli(lab), []
    for resources, words in REFUSED:
        id, path = cli.bundle(*kind_args(NATIVE, "pause"), change=with_resources(resources))
        r = cli.detached("create", "-b", path, id)
        lines = [line for line in r.err.splitlines() if line]
        if r.code != 1 or len(lines) != 1 or any(word not in r.err.replace(chr(92), "") for word in words):
            wrong.append(f"{resources}: {r!r}")
        if groups.of(lab, id).has("cgroup.procs"):
            wrong.append(f"{resources}: its cgroup is left")
    check(not wrong, "\n      ".join(wrong))


def test_update_changes_what_is_named_and_keeps_the_rest(lab):
    cli = Cli(lab)
    id = created(cli, {"cpu": {"quota": 20000, "period": 50000}, "memory": {"limit": 100 * MIB, "swap": 150 * MIB}, "pids": {"limit": 10}})
    group = groups.of(lab, id)
    cli("update", "--cpu-quota", "30000", id).ok()
    equal(group.read("cpu.max"), "30000 50000", "quota alone")
    cli("update", "--cpu-period", "60000", id).ok()
    equal(group.read("cpu.max"), "30000 60000", "period alone")
    cli("update", "--cpu-quota", "-1", id).ok()
    equal(group.read("cpu.max"), "max 60000", "no quota")
    cli("update", "--memory", "120M", "--memory-swap", "140M", id).ok()
    equal((group.read("memory.max"), group.read("memory.swap.max")), (str(120 * MIB), str(20 * MIB)))
    cli("update", "--memory", "-1", id).ok()
    equal((group.read("memory.max"), group.read("memory.swap.max")), ("max", "max"), "memory -1 frees swap")
    cli("update", "--pids-limit", "0", id).ok()
    equal(group.read("pids.max"), "1")
    cli("update", "--cpuset-cpus", "1", "--memory-reservation", "10M", id).ok()
    equal((group.read("cpuset.cpus"), group.read("memory.low"), group.read("pids.max")), ("1", str(10 * MIB), "1"))
    cli("update", "--cpu-idle", "1", id).ok()
    equal(group.read("cpu.idle"), "1")
    cli("update", "--cpu-idle", "0", id).ok()
    equal(group.read("cpu.idle"), "0")
    cli.end(id)


def test_a_failed_update_leaves_all_old_values(lab):
    major, minor = disk()
    cli = Cli(lab)
    device = {"major": major, "minor": minor}
    id = created(cli, {"cpu": {"quota": 20000, "period": 50000, "cpus": "0-1", "shares": 512}, "pids": {"limit": 10},
                       "memory": {"limit": 100 * MIB, "swap": 150 * MIB, "reservation": 10 * MIB},
                       "blockIO": {"throttleReadBpsDevice": [{**device, "rate": 1048576}]}})
    group = groups.of(lab, id)
    names = ("cpu.max", "cpu.weight", "cpuset.cpus", "pids.max", "memory.max", "memory.swap.max", "memory.low", "io.max")
    before = group.snapshot(names)
    changed = {"pids": {"limit": 99}, "memory": {"limit": 200 * MIB, "swap": 300 * MIB, "reservation": 20 * MIB},
               "blockIO": {"throttleReadBpsDevice": [{**device, "rate": 9}], "throttleWriteIOPSDevice": [{**device, "rate": 5}]},
               "cpu": {"quota": 40000, "period": 80000, "shares": 2048}}
    for bad in ({"cpu": {**changed["cpu"], "cpus": "77"}}, {"unified": {"memory.max": "nonsense"}}):
        r = update(cli, id, {**changed, **bad})
        check(r.code != 0 and ("77" in r.err or "nonsense" in r.err), f"{bad}: {r!r}")
        equal(group.snapshot(names), before, f"after {bad}")
    # And the same without the bad value is taken.
    update(cli, id, changed).ok()
    after = group.snapshot(names)
    check(all(after[n] != before[n] for n in names if n != "cpuset.cpus"), f"{before} -> {after}")
    cli.end(id)


def test_a_used_cgroup_and_a_frozen_one_are_refused(lab):
    cli = Cli(lab)
    id = created(cli, {})
    other, path = cli.bundle(*kind_args(NATIVE, "pause"), change=lambda spec: spec["linux"].update(cgroupsPath=f"/{lab.namespace}/{id}"))
    r = cli.detached("create", "-b", path, other)
    check(r.code == 1 and "container's cgroup is not empty" in r.err, repr(r))
    cli.end(id)
    group = groups.of(lab, other)
    os.makedirs(group.directory)
    with open(group.directory + "/cgroup.freeze", "w", encoding="utf-8") as f:
        f.write("1")
    other, path = cli.bundle(*kind_args(NATIVE, "pause"), id=other)
    r = cli.detached("create", "-b", path, other)
    check(r.code == 1 and "container's cgroup unexpectedly frozen" in r.err, repr(r))
    os.rmdir(group.directory)


def test_relative_and_empty_paths(lab):
    cli = Cli(lab)
    own = groups.of_process("self").path
    for given in (f"{lab.namespace}/rel", ""):
        id, path = cli.bundle(*kind_args(NATIVE, "pause"), change=lambda spec: spec["linux"].update(cgroupsPath=given))
        cli.detached("create", "-b", path, id).ok()
        place = groups.of_process(cli.state(id)["pid"]).path
        # Below the parent of our own: ours holds processes and can give no controllers away.
        equal(place, os.path.dirname(own).rstrip("/") + "/" + (given or id), repr(given))
        cli.end(id)
        parent = os.path.dirname(CGROUPS + place)
        if os.path.basename(parent) == lab.namespace:
            os.rmdir(parent)
