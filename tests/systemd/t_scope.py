# SPDX-License-Identifier: Apache-2.0
"""Containers in systemd's scopes and slices: names and places, properties, what outlives a daemon-reload, what
a failed unit leaves, forms that are refused."""

import json
import os
import subprocess

from tests.support import groups
from tests.support.bare import CGROUPS
from tests.support.command import NATIVE, WASM, Cli, kind_args
from tests.support.runner import Skip, check, contains, equal, eventually

MIB = 1 << 20


class SystemdCli(Cli):
    """The command with --systemd-cgroup, containers named slice:prefix:name."""

    def __init__(self, lab, name="amphora"):
        super().__init__(lab, name, ("--systemd-cgroup",))

    def cgroups_path(self, id):
        return f"system.slice:amph:{id}"


def show(unit, *names):
    out = subprocess.run(["systemctl", "show", unit, *(f"-p{n}" for n in names)], capture_output=True, text=True, check=True).stdout
    return dict(line.split("=", 1) for line in out.splitlines() if line)


def systemctl(*args):
    r = subprocess.run(["systemctl", *args], capture_output=True, text=True, check=False)
    equal(r.returncode, 0, f"systemctl {' '.join(args)}: {r.stderr}")


def controllers():
    path = CGROUPS + "/cgroup.controllers"
    if not os.path.exists(path):
        return set()
    with open(path, encoding="utf-8") as f:
        return set(f.read().split())


def resources(values):
    def change(spec):
        spec["linux"]["resources"].update(values)
    return change


def place(path):
    def change(spec):
        spec["linux"]["cgroupsPath"] = path
    return change


def of_unit(pid):
    """The path in the hierarchy that systemd keeps its units in."""
    with open(f"/proc/{pid}/cgroup", encoding="utf-8") as f:
        lines = [line.strip().split(":", 2) for line in f]
    return next(path for number, names, path in lines if number == "0" and not names)


def test_a_scope_has_the_name_and_place_that_was_asked(lab):
    for name in ("runc", "amphora"):
        cli = SystemdCli(lab, name)
        for kind in (NATIVE, WASM) if name == "amphora" else (NATIVE,):
            id = cli.running(*kind_args(kind, "sleep", "1000"))
            pid = cli.state(id)["pid"]
            equal(of_unit(pid), f"/system.slice/amph-{id}.scope", f"{name} {kind}")
            properties = show(f"amph-{id}.scope", "ActiveState", "Slice", "Delegate", "DefaultDependencies", "ControlGroup", "Transient")
            equal(properties, {"ActiveState": "active", "Slice": "system.slice", "Delegate": "yes", "DefaultDependencies": "no",
                               "ControlGroup": f"/system.slice/amph-{id}.scope", "Transient": "yes"}, f"{name} {kind}")
            cli.end(id)
            equal(show(f"amph-{id}.scope", "LoadState"), {"LoadState": "not-found"}, f"{name} {kind}")


def test_properties_by_annotation(lab):
    """org.systemd.property.NAME, values as GVariant's text, seconds as microseconds; beside runc."""
    asked = {"org.systemd.property.CollectMode": "'inactive-or-failed'", "org.systemd.property.TimeoutStopSec": "uint64 123",
             "org.systemd.property.Documentation": "['man:one(1)', 'man:two(1)']", "org.systemd.property.SendSIGHUP": "true"}
    for name in ("runc", "amphora"):
        cli = SystemdCli(lab, name)
        id = cli.running("sleep", "1000", change=lambda spec: spec.update(annotations=asked))
        equal(show(f"amph-{id}.scope", "CollectMode", "TimeoutStopUSec", "Documentation", "SendSIGHUP"),
              {"CollectMode": "inactive-or-failed", "TimeoutStopUSec": "2min 3s", "Documentation": '"man:one(1)" "man:two(1)"', "SendSIGHUP": "yes"}, name)
        cli.end(id)
    cli = SystemdCli(lab)
    for value, text in (("nonsense", "is no number"), ("'yes'", "systemd"), ("uint64 -1", "is no such number")):
        r = cli.run("true", change=lambda spec, v=value: spec.update(annotations={"org.systemd.property.SendSIGHUP": v}))
        check(r.code == 1 and text in r.err, f"{value}: {r!r}")
        if text != "systemd":
            contains(r.err, "annotation org.systemd.property.SendSIGHUP")


def test_run_exec_and_the_verbs(lab):
    cli = SystemdCli(lab)
    for kind in (NATIVE, WASM):
        equal(cli.run(*kind_args(kind, "exit", "42")).code, 42, kind)
        id = cli.running(*kind_args(kind, "sleep", "1000"))
        contains(cli("exec", id, "cat", "/proc/self/cgroup").ok().out, f"/system.slice/amph-{id}.scope\n", kind)
        cli("pause", id).ok()
        equal(cli.status(id), "paused", kind)
        cli("resume", id).ok()
        equal(len(json.loads(cli("ps", "-f", "json", id).ok().out)), 1, kind)
        cli("kill", id, "KILL").ok()
        cli.until(id, "stopped")
        cli("delete", id).ok()


def test_without_the_option_the_state_knows_the_unit(lab):
    cli, plain = SystemdCli(lab), Cli(lab)
    id = cli.running(*kind_args(NATIVE, "pause"))
    equal(plain.status(id), "running")
    plain("delete", "--force", id).ok()
    equal(show(f"amph-{id}.scope", "LoadState"), {"LoadState": "not-found"})


def test_default_and_nested_slices(lab):
    cli = SystemdCli(lab)
    for path, want in (("", "/system.slice/amphora-{id}.scope"), ("amph-deep.slice:p:{id}", "/amph.slice/amph-deep.slice/p-{id}.scope"),
                       ("-.slice:amph:{id}", "/amph-{id}.scope"), ("::amph-{id}", "/system.slice/amph-{id}.scope")):
        id = lab.new_id("s")
        cli.bundle(*kind_args(NATIVE, "pause"), change=place(path.replace("{id}", id)), id=id)
        cli.detached("create", "-b", f"/mnt/lab/bundles/{id}", id).ok()
        equal(of_unit(cli.state(id)["pid"]), want.replace("{id}", id), repr(path))
        cli.end(id)
    systemctl("stop", "amph-deep.slice", "amph.slice")


def test_wrong_forms_are_one_clear_error(lab):
    cli = SystemdCli(lab)
    for path, words in (("/system.slice/x", "slice:prefix:name"), ("a:b", "slice:prefix:name"), ("a:b:c:d", "slice:prefix:name"),
                        ("a--b.slice:p:n", 'invalid slice name'), ("noslice:p:n", 'invalid slice name'),
                        ("system.slice:p:", "the name is empty")):
        id, bundle = cli.bundle(*kind_args(NATIVE, "true"), change=place(path))
        r = cli.detached("create", "-b", bundle, id)
        check(r.code == 1 and words in r.err and len(r.err.splitlines()) == 1, f"{path}: {r!r}")
        check(cli("state", id).code != 0, f"{path}: a state is left")


def test_leftovers_of_a_failed_scope_are_reset(lab):
    cli = SystemdCli(lab)
    id = lab.new_id("left")
    unit = f"amph-{id}.scope"
    # A scope whose stop times out with a process that will not go ends as failed, and keeps its name.
    subprocess.run(["systemd-run", "--scope", "--unit", unit, "--property=RuntimeMaxSec=1s", "--quiet", "sleep", "1000"],
                   capture_output=True, timeout=60, check=False)
    eventually(lambda: show(unit, "ActiveState") == {"ActiveState": "failed"}, 10, "the scope is failed")
    cli.bundle(*kind_args(NATIVE, "exit", "5"), id=id)
    r = cli("run", "-b", f"/mnt/lab/bundles/{id}", id)
    equal(r.code, 5, repr(r))
    equal(show(unit, "LoadState"), {"LoadState": "not-found"})


def test_a_scope_in_use_is_an_error_that_names_it(lab):
    cli = SystemdCli(lab)
    id = cli.running(*kind_args(NATIVE, "pause"))
    other, bundle = cli.bundle(*kind_args(NATIVE, "pause"), change=place(f"system.slice:amph:{id}"))
    r = cli.detached("create", "-b", bundle, other)
    check(r.code == 1 and f"amph-{id}.scope" in r.err, repr(r))
    equal(cli.status(id), "running")
    cli.end(id)


def test_limits_are_properties_and_files(lab):
    if "memory" not in controllers():
        raise Skip("controller memory is not on this machine's cgroup2 (see ./dev vm)")
    cli = SystemdCli(lab)
    id = cli.running(*kind_args(NATIVE, "pause"), change=resources(
        {"cpu": {"shares": 1024, "quota": 12345, "period": 100000, "cpus": "0", "mems": "0"}, "pids": {"limit": 20},
         "memory": {"limit": 100 * MIB, "swap": 150 * MIB, "reservation": 50 * MIB}, "unified": {"memory.oom.group": "1"}}))
    unit = f"amph-{id}.scope"
    want = {"CPUWeight": "100", "CPUQuotaPerSecUSec": "130ms", "CPUQuotaPeriodUSec": "100ms", "AllowedCPUs": "0", "AllowedMemoryNodes": "0",
            "TasksMax": "20", "MemoryMax": str(100 * MIB), "MemorySwapMax": str(50 * MIB), "MemoryLow": str(50 * MIB), "OOMPolicy": "kill",
            "CPUAccounting": "yes", "MemoryAccounting": "yes", "TasksAccounting": "yes", "IOAccounting": "yes"}
    equal(show(unit, *want), want)
    group = groups.of_process(cli.state(id)["pid"])
    names = ("cpu.weight", "cpu.max", "cpuset.cpus", "pids.max", "memory.max", "memory.swap.max", "memory.low", "memory.oom.group")
    files = {"cpu.weight": "100", "cpu.max": "12345 100000", "cpuset.cpus": "0", "pids.max": "20", "memory.max": str(100 * MIB),
             "memory.swap.max": str(50 * MIB), "memory.low": str(50 * MIB), "memory.oom.group": "1"}
    equal(group.snapshot(names), files)
    systemctl("daemon-reload")
    after = group.snapshot(names)
    # What systemd counts in is 10 ms a second; all else is as it was.
    equal({**after, "cpu.max": ""}, {**files, "cpu.max": ""}, "after daemon-reload")
    r = cli("update", "--memory", "120M", "--memory-swap", "140M", "--pids-limit", "30", "--cpu-share", "512", id)
    r.ok()
    equal(show(unit, "MemoryMax", "MemorySwapMax", "TasksMax", "CPUWeight"),
          {"MemoryMax": str(120 * MIB), "MemorySwapMax": str(20 * MIB), "TasksMax": "30", "CPUWeight": "59"})
    systemctl("daemon-reload")
    equal((group.read("memory.max"), group.read("pids.max"), group.read("cpu.weight")), (str(120 * MIB), "30", "59"))
    before = (show(unit, "MemoryMax", "TasksMax"), group.snapshot(names))
    r = cli("update", "-r", "-", id, stdin=json.dumps({"pids": {"limit": 5}, "cpu": {"cpus": "77"}}))
    check(r.code != 0 and "77" in r.err, repr(r))
    equal((show(unit, "MemoryMax", "TasksMax"), group.snapshot(names)), before, "after a failed update")
    cli.end(id)


def test_devices_outlive_a_daemon_reload(lab):
    cli = SystemdCli(lab)

    def change(spec):
        spec["linux"]["devices"] = [{"path": "/dev/mine", "type": "c", "major": 10, "minor": 229, "fileMode": 0o600, "uid": 0, "gid": 0}]
        spec["linux"]["resources"]["devices"] = [{"allow": False, "access": "rwm"},
                                                 {"allow": True, "type": "c", "major": 10, "minor": 229, "access": "rw"}]
    id = cli.running(*kind_args(NATIVE, "pause"), change=change)
    unit = f"amph-{id}.scope"
    equal(show(unit, "DevicePolicy"), {"DevicePolicy": "strict"})
    contains(show(unit, "DeviceAllow")["DeviceAllow"], "/dev/char/10:229 rw")
    look = "(: < /dev/mine) && echo open; echo > /dev/null && echo null"
    for when in ("before", "after"):
        r = cli("exec", id, "sh", "-c", look)
        equal(r.out.split()[:2], ["open", "null"], f"{when} a daemon-reload: {r!r}")
        systemctl("daemon-reload")
    r = cli("exec", id, "sh", "-c", look)
    equal(r.out.split()[:2], ["open", "null"], f"after two daemon-reloads: {r!r}")
    cli.end(id)


def test_a_container_that_may_use_every_device(lab):
    cli = SystemdCli(lab)

    def change(spec):
        spec["linux"]["devices"] = [{"path": "/dev/mine", "type": "c", "major": 10, "minor": 229, "fileMode": 0o600, "uid": 0, "gid": 0}]
        spec["linux"]["resources"]["devices"] = [{"allow": True, "access": "rwm"}]
    id = cli.running(*kind_args(NATIVE, "pause"), change=change)
    systemctl("daemon-reload")
    equal(cli("exec", id, "sh", "-c", "(: < /dev/mine) && echo open").ok().out, "open\n")
    cli.end(id)


def test_an_oom_killed_scope_leaves_no_failed_unit(lab):
    if "memory" not in controllers():
        raise Skip("controller memory is not on this machine's cgroup2 (see ./dev vm)")
    cli = SystemdCli(lab)
    r = cli.run(*kind_args(NATIVE, "eat", "512"), change=resources({"memory": {"limit": 32 * MIB, "swap": 32 * MIB}}))
    equal(r.code, 137, repr(r))
    equal(lab.units(), set())


def test_a_failed_create_leaves_no_unit(lab):
    cli = SystemdCli(lab)
    id, bundle = cli.bundle("/no/such")
    r = cli.detached("create", "-b", bundle, id)
    check(r.code != 0 and "/no/such" in r.err, repr(r))
    equal(lab.units(), set())


def test_no_systemd_is_said(lab):
    cli = SystemdCli(lab)
    id, bundle = cli.bundle(*kind_args(NATIVE, "true"))
    r = subprocess.run(["unshare", "--mount", "sh", "-c", f"mount -t tmpfs t /run/systemd && mount -t tmpfs t /run/dbus && exec amphora "
                        f"--root {cli.root} --systemd-cgroup run -b {bundle} {id}"], env=lab.env, capture_output=True, text=True, check=False)
    check(r.returncode == 1 and "connect to systemd" in r.stderr, repr(r))


def test_without_a_bus_the_manager_itself_is_asked(lab):
    cli = SystemdCli(lab)
    id, bundle = cli.bundle(*kind_args(NATIVE, "exit", "6"))
    r = subprocess.run(["unshare", "--mount", "sh", "-c", f"mount -t tmpfs t /run/dbus && exec amphora "
                        f"--root {cli.root} --systemd-cgroup run -b {bundle} {id}"], env=lab.env, capture_output=True, text=True, check=False)
    equal(r.returncode, 6, r.stderr)
