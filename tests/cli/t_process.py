# SPDX-License-Identifier: Apache-2.0
"""The process object of runtime-spec as the program feels it: names, working directory, environment, ids, limits,
labels. What the other t_ files show already is not here; docs/spec.md has the rows."""

import json
import os
import re

from tests.cli.t_spec import capable, user_namespace, without
from tests.support import lab as L
from tests.support.command import NATIVE, WASM, Cli, kind_args
from tests.support.runner import check, contains, equal


def clis(lab):
    return [Cli(lab, name) for name in L.COMMANDS]


def process(**members):
    return lambda spec: spec["process"].update(**members)


def env(*entries):
    def change(spec):
        spec["process"]["env"] += entries
    return change


# ---- names

def test_hostname_and_domainname(lab):
    def names(spec):
        spec.update(ociVersion="1.1.0", hostname="one", domainname="two.example")
    r = Cli(lab).run("sh", "-c", "hostname; cat /proc/sys/kernel/domainname", change=names)
    equal((r.code, r.out.split()), (0, ["one", "two.example"]), r.err)
    # Set before the privileges go: these have none.
    r = Cli(lab).run("hostname", change=lambda spec: (names(spec), spec["process"].update(capabilities={}, user={"uid": 7, "gid": 7})))
    equal((r.code, r.out), (0, "one\n"), r.err)
    r = Cli(lab).run("true", change=lambda spec: (without(spec, "uts"), spec.pop("hostname"), spec.update(domainname="two")))
    check(r.code == 1 and "domainname needs a uts namespace" in r.err, repr(r))


# ---- terminal, working directory

def test_a_console_size_without_a_terminal_is_ignored(lab):
    r = Cli(lab).run("echo", "there", change=process(consoleSize={"height": 10, "width": 20}))
    equal((r.code, r.out), (0, "there\n"), r.err)


def test_a_directory_that_only_the_user_may_enter(lab):
    """Root of a user namespace has no rights over an inode whose group it does not map: entered after the change of user."""
    tree = f"{L.LAB}/{lab.new_id('own')}"
    os.makedirs(tree)
    os.chown(tree, 101000, 0)
    os.chmod(tree, 0o700)

    def change(uid):
        def apply(spec):
            user_namespace(spec)
            spec["mounts"].append({"destination": "/tmp", "type": "bind", "source": tree, "options": ["bind"]})
            spec["process"].update(cwd="/tmp", user={"uid": uid, "gid": uid})
        return apply
    r = Cli(lab).run("pwd", change=change(1000))
    equal((r.code, r.out), (0, "/tmp\n"), r.err)
    r = Cli(lab).run("pwd", change=change(1001))
    check(r.code == 1 and "chdir to cwd /tmp" in r.err and "permission denied" in r.err, repr(r))


# ---- environment and arguments

def test_the_last_of_a_variable_wins(lab):
    for cli in clis(lab):
        r = cli.run("env", change=env("A=first", "B=b", "A=last"))
        equal([line for line in r.out.splitlines() if line.startswith("A=")], ["A=last"], f"{cli.name}: {r.err}")
    r = Cli(lab).run("true", change=env("=value"))
    check(r.code == 1 and "process.env[2]" in r.err, repr(r))


def test_home(lab):
    """Of the container's passwd where process.env has none or an empty one; a guest gets exactly process.env."""
    for cli in clis(lab):
        for uid, given, want in ((0, (), "/root"), (1000, (), "/"), (4242, (), "/"), (0, ("HOME=",), "/root"), (0, ("HOME=/own",), "/own")):
            r = cli.run("sh", "-c", "echo $HOME", change=lambda spec: (env(*given)(spec), spec["process"].update(user={"uid": uid, "gid": 0})))  # noqa: B023
            equal(r.out.strip(), want, f"{cli.name}: uid {uid}, {given}: {r.err}")
    cli = Cli(lab)
    id = cli.running("sleep", "1000")
    with open(f"{L.LAB}/{id}.json", "w", encoding="utf-8") as f:
        json.dump({"args": ["/bin/sh", "-c", "echo $HOME"], "cwd": "/", "user": {"uid": 0, "gid": 0}}, f)
    equal(cli("exec", "-p", f.name, id).ok().out, "/root\n", "a process without env")
    cli.end(id)


def test_the_program_is_looked_up_in_the_containers_path(lab):
    for cli in clis(lab):
        def change(spec):
            spec["process"]["env"] = ["PATH=/nowhere:/bin"]
        equal(cli.run("echo", "found", change=change).out, "found\n", cli.name)
        r = cli.run("echo", change=process(env=["PATH=/nowhere"]))
        check(r.code == 1 and "executable file not found in $PATH" in r.err, f"{cli.name}: {r!r}")


# ---- ids, umask, privileges

def test_user_and_groups(lab):
    for cli in clis(lab):
        r = cli.run("id", change=process(user={"uid": 1000, "gid": 1001, "additionalGids": [5, 77]}))
        equal((r.code, re.findall(r"\d+", re.sub(r"\(\w+\)", "", r.out))), (0, ["1000", "1001", "5", "77"]), f"{cli.name}: {r.out}{r.err}")


def test_umask(lab):
    """0022 where the spec has none, also without a mount namespace, whatever the caller's is."""
    def no_mounts(spec):
        without(spec, "mount")
        spec["mounts"], spec["linux"]["maskedPaths"], spec["linux"]["readonlyPaths"] = [], [], []
        spec["process"]["args"][0] = "/bin/sh"
    before = os.umask(0o077)
    try:
        for change in (None, no_mounts):
            r = Cli(lab).run("sh", "-c", "umask", change=change)
            equal((r.code, r.out), (0, "0022\n"), r.err)
        equal(Cli(lab).run("sh", "-c", "umask", change=process(user={"uid": 0, "gid": 0, "umask": 0o7})).out, "0007\n")
    finally:
        os.umask(before)


def test_no_new_privileges(lab):
    for cli in clis(lab):
        for given, want in ((True, "1"), (False, "0"), (None, "0")):
            def change(spec):
                spec["process"].pop("noNewPrivileges")
                if given is not None:  # noqa: B023
                    spec["process"]["noNewPrivileges"] = given  # noqa: B023
            r = cli.run("grep", "NoNewPrivs", "/proc/self/status", change=change)
            equal(r.out.split(), ["NoNewPrivs:", want], f"{cli.name} {given}: {r.err}")


# ---- limits and scores

def test_rlimits(lab):
    limits = [{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200}, {"type": "RLIMIT_CORE", "soft": 0, "hard": 4096},
              {"type": "RLIMIT_NPROC", "soft": 60, "hard": 60}]
    for cli in clis(lab):
        r = cli.run("cat", "/proc/self/limits", change=process(rlimits=limits))
        for name, soft, hard in (("Max open files", 100, 200), ("Max core file size", 0, 4096), ("Max processes", 60, 60)):
            check(re.search(rf"{name}\s+{soft}\s+{hard}\s", r.out), f"{cli.name}: {name} in {r.out}{r.err}")
    r = Cli(lab).run("true", change=process(rlimits=[{"type": "RLIMIT_NOFILE", "soft": 20, "hard": 10}]))
    check(r.code == 1 and "process.rlimits[0].soft" in r.err, f"a soft limit above the hard one: {r!r}")


def test_oom_score_adj(lab):
    """Absent: the caller's stays. A higher one needs no right."""
    with open("/proc/self/oom_score_adj", encoding="ascii") as f:
        own = int(f.read())
    for kind in (NATIVE, WASM):
        for given, want in ((None, own), (min(own + 100, 1000), min(own + 100, 1000))):
            cli = Cli(lab)
            id = cli.running(*kind_args(kind, "sleep", "1000"), change=lambda spec: given is not None and spec["process"].update(oomScoreAdj=given))  # noqa: B023
            with open(f"/proc/{cli.state(id)['pid']}/oom_score_adj", encoding="ascii") as f:
                equal(int(f.read()), want, f"{kind} {given}")
            cli.end(id)


def test_wrong_cpu_masks_are_errors_of_create(lab):
    for member in ("initial", "final"):
        for mask in ("x", "0-", "3-1", "99999999"):
            r = Cli(lab).run("true", change=process(execCPUAffinity={member: mask}))
            check(r.code == 1 and f"process.execCPUAffinity.{member}" in r.err, f"{mask}: {r!r}")


def test_wrong_schedulers_are_refused(lab):
    for members, words in (({"policy": "SCHED_OTHER", "nice": 20}, "process.scheduler.nice"),
                           ({"policy": "SCHED_OTHER", "priority": 1}, "process.scheduler.priority"),
                           ({"policy": "SCHED_BATCH", "runtime": 5}, "process.scheduler"),
                           ({"policy": "SCHED_OTHER", "flags": ["SCHED_FLAG_NONE"]}, "process.scheduler.flags")):
        r = Cli(lab).run("true", change=process(scheduler=members))
        check(r.code == 1 and words in r.err, f"{members}: {r!r}")

    def pinned(spec):
        capable(spec, "CAP_SYS_NICE")
        spec["process"]["scheduler"] = {"policy": "SCHED_DEADLINE", "runtime": 10000000, "deadline": 20000000, "period": 20000000}
        spec["linux"]["resources"]["cpu"] = {"cpus": "0"}
    r = Cli(lab).run("true", change=pinned)
    check(r.code == 1 and "process scheduler can't be used together" in r.err or "cpuset" in r.err, f"a deadline on some CPUs: {r!r}")


def test_personality_flags_are_warned_of(lab):
    r = Cli(lab).run("uname", "-m", change=lambda spec: spec["linux"].update(personality={"domain": "LINUX32", "flags": ["ADDR_NO_RANDOMIZE"]}))
    equal((r.code, r.out), (0, "i686\n"), r.err)
    contains(r.err, "ignoring unsupported personality flags: [ADDR_NO_RANDOMIZE]")
