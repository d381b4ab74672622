# SPDX-License-Identifier: Apache-2.0
"""What needs rights that few test machines give: handing a cgroup to a user, raised hard limits, a lower
oom_score_adj, AppArmor."""

import os
import subprocess

from tests.support import groups
from tests.support.command import NATIVE, WASM, Cli, kind_args
from tests.support.runner import Skip, check, contains, equal
from tests.v2.t_life import own_cgroup_namespace

PROFILE = """
profile amphora-test flags=(attach_disconnected,mediate_deleted) {
  file,
  capability,
  network,
  signal,
  deny /tmp/forbidden w,
}
"""


def as_user(uid):
    def change(spec):
        own_cgroup_namespace(spec)
        spec["process"]["user"] = {"uid": uid, "gid": uid}
    return change


def in_user_namespace(spec):
    own_cgroup_namespace(spec)
    spec["linux"]["namespaces"].append({"type": "user"})
    for key in ("uidMappings", "gidMappings"):
        spec["linux"][key] = [{"containerID": 0, "hostID": 100000, "size": 65536}]
    spec["root"]["readonly"] = False


def delegated():
    with open("/sys/kernel/cgroup/delegate", encoding="utf-8") as f:
        return {line for line in f.read().split() if line}


def test_a_cgroup_is_given_to_the_containers_user(lab):
    cli = Cli(lab)
    for change, owner in ((in_user_namespace, 100000), (as_user(1000), 1000)):
        id = cli.create(*kind_args(NATIVE, "pause"), change=change)
        owners = groups.of(lab, id).owners()
        given = {file for file, uid in owners.items() if uid == owner}
        equal(given, {"."} | delegated() & set(owners), f"given to {owner}")
        equal({uid for file, uid in owners.items() if file not in given}, {0})
        cli.end(id)


def test_the_user_can_use_what_was_given(lab):
    script = "mkdir /sys/fs/cgroup/sub && echo $$ > /sys/fs/cgroup/sub/cgroup.procs && cat /proc/self/cgroup"
    r = Cli(lab).run("sh", "-c", script, change=in_user_namespace)
    equal((r.code, r.out), (0, "0::/sub\n"), repr(r))
    r = Cli(lab).run("sh", "-c", script, change=as_user(1000))
    equal((r.code, r.out), (0, "0::/sub\n"), repr(r))
    # Limits stay the runtime's.
    r = Cli(lab).run("sh", "-c", "echo max > /sys/fs/cgroup/pids.max", change=as_user(1000))
    check(r.code != 0 and "Permission denied" in r.err, repr(r))


def test_nothing_is_given_without_an_own_namespace_or_a_writable_mount(lab):
    def read_only(spec):
        as_user(1000)(spec)
        for mount in spec["mounts"]:
            if mount["type"] == "cgroup":
                mount["options"].append("ro")

    def shared(spec):
        as_user(1000)(spec)
        spec["linux"]["namespaces"] = [n for n in spec["linux"]["namespaces"] if n["type"] != "cgroup"]
    for change in (read_only, shared):
        cli = Cli(lab)
        id = cli.create(*kind_args(NATIVE, "pause"), change=change)
        equal(set(groups.of(lab, id).owners().values()), {0}, change.__name__)
        cli.end(id)


def test_oom_score_adj_can_go_below(lab):
    def change(spec):
        spec["process"]["oomScoreAdj"] = -500
    for kind in (NATIVE, WASM):
        cli = Cli(lab)
        id = cli.running(*kind_args(kind, "sleep", "100"), change=change)
        with open(f"/proc/{cli.state(id)['pid']}/oom_score_adj", encoding="utf-8") as f:
            equal(f.read().strip(), "-500", kind)
        equal(cli("exec", id, "cat", "/proc/self/oom_score_adj").ok().out, "-500\n", f"{kind}: exec")
        cli.end(id)


def test_hard_limits_can_be_raised(lab):
    def change(spec):
        spec["process"]["rlimits"] = [{"type": "RLIMIT_NOFILE", "soft": 1048000, "hard": 1048570},
                                      {"type": "RLIMIT_MEMLOCK", "soft": 1 << 30, "hard": 1 << 31}]
    script = f"ulimit -n 4096; exec {Cli(lab).name} --root /run/cli-amphora run -b %s %s"
    cli = Cli(lab)
    id, path = cli.bundle("sh", "-c", "ulimit -n; ulimit -H -n; ulimit -H -l", change=change)
    r = subprocess.run(["bash", "-c", script % (path, id)], env=lab.env, capture_output=True, text=True, check=False)
    equal((r.returncode, r.stdout.split()), (0, ["1048000", "1048570", str((1 << 31) // 1024)]), r.stderr)


def load_profile():
    if not os.path.isdir("/sys/kernel/security/apparmor"):
        subprocess.run(["mount", "-t", "securityfs", "securityfs", "/sys/kernel/security"], check=False, capture_output=True)
    if not os.path.isdir("/sys/kernel/security/apparmor"):
        raise Skip("AppArmor is not active here")
    r = subprocess.run(["apparmor_parser", "-r", "-K"], input=PROFILE, text=True, capture_output=True, check=False)
    equal(r.returncode, 0, f"apparmor_parser: {r.stderr}")


def test_an_apparmor_profile_confines_create_and_exec(lab):
    load_profile()

    def change(spec):
        spec["process"]["apparmorProfile"] = "amphora-test"
        spec["root"]["readonly"] = False
    cli = Cli(lab)
    show = "cat /proc/self/attr/current; echo x > /tmp/allowed && echo written; echo x > /tmp/forbidden"
    for kind in (NATIVE, WASM):
        id = cli.running(*kind_args(kind, "sleep", "100"), change=change)
        with open(f"/proc/{cli.state(id)['pid']}/attr/current", encoding="utf-8") as f:
            equal(f.read().strip(), "amphora-test (enforce)", kind)
        r = cli("exec", id, "sh", "-c", show)
        equal(r.out, "amphora-test (enforce)\nwritten\n", f"{kind}: {r!r}")
        contains(r.err, "Permission denied", kind)
        cli.end(id)
    id = cli.running(*kind_args(NATIVE, "pause"))
    equal(cli("exec", "--apparmor", "amphora-test", id, "cat", "/proc/self/attr/current").ok().out, "amphora-test (enforce)\n")
    cli.end(id)


def test_a_missing_apparmor_profile_is_named(lab):
    load_profile()

    def change(spec):
        spec["process"]["apparmorProfile"] = "no-such-profile"
    cli = Cli(lab)
    for kind in (NATIVE, WASM):
        r = cli.run(*kind_args(kind, "true"), change=change)
        check(r.code == 1 and "no-such-profile" in r.err and "apparmor" in r.err.lower(), f"{kind}: {r!r}")
