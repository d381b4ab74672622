# SPDX-License-Identifier: Apache-2.0
"""What is refused (acceptance case 37), and the features document, tried word by word (case 38)."""

import json
import os
import re
import subprocess

from tests.cli.t_spec import agent, namespace, profile, user_namespace, without
from tests.support import lab as L
from tests.support.command import Cli
from tests.support.runner import check, equal


def test_validation(lab):  # acceptance case 37
    """Each a single line that names the member, and nothing made."""
    def put(**members):
        return lambda spec: spec.update(**members)

    def linux(**members):
        return lambda spec: spec["linux"].update(**members)

    def process(**members):
        return lambda spec: spec["process"].update(**members)
    limit = {"type": "RLIMIT_NOFILE", "soft": 1, "hard": 1}
    cli = Cli(lab)
    for change, words in (
            (lambda spec: namespace(spec, "pid"), "linux.namespaces"),
            (process(rlimits=[limit, limit]), "process.rlimits"),
            (process(rlimits=[{"type": "RLIMIT_NONE", "soft": 1, "hard": 1}]), "process.rlimits[0].type"),
            (linux(sysctl={"kernel.shmmax": "1"}, namespaces=[{"type": "mount"}, {"type": "uts"}, {"type": "pid"}]), "linux.sysctl kernel.shmmax"),
            (linux(sysctl={"vm.swappiness": "1"}), "linux.sysctl vm.swappiness"),
            (linux(sysctl={"kernel.hostname": "x"}), "linux.sysctl kernel.hostname"),
            (lambda spec: without(spec, "uts"), "hostname"),
            (put(ociVersion="2.0.0"), "ociVersion"),
            (process(env=["A=b\0c"]), "process.env[0]"),
            (process(env=["noequals"]), "process.env[0]"),
            (process(cwd="relative"), "process.cwd"),
            (process(args=[]), "process.args"),
            (process(oomScoreAdj=1001), "process.oomScoreAdj"),
            (process(scheduler={"policy": "SCHED_NONE"}), "process.scheduler.policy"),
            (process(ioPriority={"class": "IOPRIO_CLASS_NONE", "priority": 1}), "process.ioPriority.class"),
            (process(apparmorProfile="profile") if not os.path.exists("/sys/module/apparmor/parameters/enabled") else None, "AppArmor is not enabled"),
            (process(selinuxLabel="a:b:c:d") if not os.path.exists("/sys/fs/selinux/enforce") else None, "SELinux is not enabled"),
            (linux(mountLabel="a:b:c:d") if not os.path.exists("/sys/fs/selinux/enforce") else None, "linux.mountLabel"),
            (linux(intelRdt={"closID": "x/y"}), "linux.intelRdt.closID"),
            (linux(intelRdt={"memBwSchema": "MB:0=10\nMB:1=10"}), "linux.intelRdt.memBwSchema"),
            (linux(intelRdt={"closID": "x"}) if " - resctrl " not in open("/proc/self/mountinfo", encoding="utf-8").read() else None,
             "linux.intelRdt: resctrl is not mounted on this host"),
            (linux(rootfsPropagation="odd"), "linux.rootfsPropagation"),
            (linux(personality={"domain": "ODD"}), "linux.personality.domain"),
            (linux(netDevices={"no/name": {}}), "linux.netDevices"),
            (put(hooks={"prestart": [{"path": "/bin/true", "timeout": 0}]}), "hooks.prestart[0].timeout"),
            (put(hooks={"prestart": [{"path": "true"}]}), "hooks.prestart[0].path"),
            (linux(devices=[{"path": "/dev/x", "type": "q"}]), "linux.devices[0].type")):
        if change is None:
            continue
        r = cli.run("true", change=change)
        check(r.code == 1 and words in r.err, f"{words}: {r!r}")
        equal(len(r.err.strip().splitlines()), 1, f"{words}: lines of {r.err!r}")
    equal(json.loads(cli("list", "-f", "json").ok().out or "null") or [], [], "containers after refusals")
    r = cli.run("true", change=lambda spec: (spec.update(unknown={"a": 1}), spec["linux"].update(unheard=[1]), spec["process"].update(of=None)))
    equal(r.code, 0, f"unknown members: {r.err}")


def test_features_are_true(lab):  # acceptance case 38
    """Walks the document and tries what it lists."""
    cli = Cli(lab)
    document = json.loads(cli("features").ok().out)
    equal((document["ociVersionMin"], document["ociVersionMax"][:3]), ("1.0.0", "1.3"))
    tree = f"{L.LAB}/{lab.new_id('tree')}"
    os.makedirs(tree)
    os.chmod(tree, 0o755)
    maps = {k: [{"containerID": 0, "hostID": 0, "size": 65536}] for k in ("uidMappings", "gidMappings")}
    refused = []

    def tried(what, change):
        r = cli.run("true", change=change)
        if r.code != 0:
            refused.append(f"{what}: {r.err.strip()[-200:]}")

    def options(option):
        filesystem = option in ("tmpcopyup", "sync", "async", "dirsync", "mand", "nomand", "iversion", "noiversion", "lazytime",
                                "nolazytime", "silent", "loud")
        one = {"destination": "/tmp", "source": tree, "type": "bind", "options": ["rbind", option]}
        if filesystem:
            one = {"destination": "/tmp", "source": "tmpfs", "type": "tmpfs", "options": [option]}
        if option in ("idmap", "ridmap"):
            one.update(maps)
        return lambda spec: spec["mounts"].append(one)
    for option in document["mountOptions"]:
        tried(f"mount option {option}", options(option))
    for kind in document["linux"]["namespaces"]:
        def change(spec, kind=kind):
            without(spec, kind)
            user_namespace(spec) if kind == "user" else namespace(spec, kind)
        tried(f"namespace {kind}", change)
    for kind in document["hooks"]:
        mark = f"{L.LAB}/{lab.new_id('mark')}"

        def change(spec, kind=kind, mark=mark):
            spec["mounts"].append({"destination": L.LAB, "type": "bind", "source": L.LAB, "options": ["rbind"]})
            spec["hooks"] = {kind: [{"path": "/bin/sh", "args": ["sh", "-c", f"echo > {mark}"], "env": ["PATH=/bin"]}]}
        tried(f"hook {kind}", change)
        if not os.path.exists(mark):
            refused.append(f"hook {kind} did not run")
    seccomp = document["linux"]["seccomp"]
    listener = f"{L.LAB}/{lab.new_id('agent')}"
    server = agent(listener, [])
    for action in seccomp["actions"]:
        more = {"listenerPath": listener} if action == "SCMP_ACT_NOTIFY" else {}
        tried(f"seccomp action {action}", lambda spec, a=action, m=more: spec["linux"].update(
            seccomp=profile((["kexec_load"], a, {}), **m)))
    for operator in seccomp["operators"]:
        tried(f"seccomp operator {operator}", lambda spec, o=operator: spec["linux"].update(seccomp=profile(
            (["kexec_load"], "SCMP_ACT_ERRNO", {"args": [{"index": 0, "value": 1, "valueTwo": 1, "op": o}]}))))
    for arch in seccomp["archs"]:
        tried(f"seccomp arch {arch}", lambda spec, a=arch: spec["linux"].update(
            seccomp={"defaultAction": "SCMP_ACT_ALLOW", "architectures": [a], "syscalls": [{"names": ["kexec_load"], "action": "SCMP_ACT_ERRNO"}]}))
    for flag in seccomp["supportedFlags"]:
        # One of the flags is about notifications, and refused without any.
        tried(f"seccomp flag {flag}", lambda spec, f=flag: spec["linux"].update(
            seccomp=profile((["kexec_load"], "SCMP_ACT_NOTIFY", {}), flags=[f], listenerPath=listener)))
    for capability in document["linux"]["capabilities"]:
        r = cli.run("true", change=lambda spec, c=capability: spec["process"]["capabilities"]["bounding"].append(c))
        if r.code != 0 or f"unknown capability: {capability}" in r.err:
            refused.append(f"capability {capability}: {r.err.strip()[-200:]}")
    equal(document["linux"]["intelRdt"], {"enabled": True, "schemata": True, "monitoring": True})
    for mode in document["linux"]["memoryPolicy"]["modes"]:
        nodes = "" if mode in ("MPOL_DEFAULT", "MPOL_LOCAL") else "0"
        tried(f"memory policy {mode}", lambda spec, m=mode, n=nodes: spec["linux"].update(memoryPolicy={"mode": m, "nodes": n}))
    server.close()
    check(not refused, "listed and refused:\n      " + "\n      ".join(refused))


def test_features_are_quick(lab):  # acceptance case 38
    """No child process, and 5 ms at most (the best of ten: the machine may be busy)."""
    best = min(Cli(lab)("features").seconds for _ in range(10))
    trace = f"{L.LAB}/{lab.new_id('trace')}"
    subprocess.run(["strace", "-f", "-e", "trace=process", "-o", trace, "amphora", "features"], env=lab.env, check=True, capture_output=True)
    with open(trace, encoding="utf-8") as f:
        made = [line for line in f if re.search(r"\b(clone3?|v?fork)\(", line)]
    equal(made, [], "children of features")
    check(best < 0.05, f"features took {best * 1000:.1f} ms at best")
