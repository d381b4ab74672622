# SPDX-License-Identifier: Apache-2.0
"""OCI hooks: order, namespaces, status, environment, failures and timeouts (acceptance cases 6 and 7)."""

import os
import time

from tests.support import lab as L
from tests.support.command import Cli
from tests.support.runner import check, contains, equal


def hook(script, **more):
    return {"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/usr/bin:/bin"], **more}


def test_hooks_in_order(lab):  # acceptance case 6
    """Order, namespaces, status and what each of the six kinds sees."""
    for cli in [Cli(lab)]:  # runc 1.1 runs poststart hooks at create
        out = f"{L.LAB}/{lab.new_id('hooks')}"
        note = ('read -r state; echo "$0 $(readlink /proc/self/ns/mnt) $(echo "$state" | tr -d " " | grep -o \'"status":"[a-z]*"\' | cut -d\\" -f4)'
                ' $([ -d /hooked ] && echo in || echo out)" >> %s')
        outer, inner = note % out, note % "/hooked/log"

        def one(kind, script):
            return {"path": "/bin/sh", "args": ["sh", "-c", script, kind], "env": ["PATH=/usr/bin:/bin"]}

        def change(spec):
            os.makedirs(out + ".d", exist_ok=True)
            spec["mounts"].append({"destination": "/tmp", "type": "tmpfs", "source": "tmpfs"})
            spec["mounts"].append({"destination": "/hooked", "type": "bind", "source": out + ".d", "options": ["bind"]})
            spec["hooks"] = {k: [one(k, outer)] for k in ("prestart", "createRuntime", "createContainer", "poststart", "poststop")}
            spec["hooks"]["startContainer"] = [one("startContainer", inner)]
        id = cli.create("sleep", "1000", change=change)
        lines = open(out, encoding="utf-8").read().splitlines()
        own = os.readlink("/proc/self/ns/mnt")
        equal([line.split()[0] for line in lines], ["prestart", "createRuntime", "createContainer"], cli.name)
        for line in lines:
            kind, mnt, status, _ = line.split()
            equal(status, "creating", f"{cli.name} {kind}")
            equal(mnt == own, kind != "createContainer", f"{cli.name} {kind} in the runtime's mount namespace")
        inside = os.readlink(f"/proc/{cli.state(id)['pid']}/ns/mnt")
        equal(lines[2].split()[1], inside, f"{cli.name}: createContainer's namespace")
        cli("start", id).ok()
        started = open(out + ".d/log", encoding="utf-8").read().split()
        equal((started[0], started[1], started[3]), ("startContainer", inside, "in"), cli.name)
        check(started[2] in ("created", "creating"), f"{cli.name}: startContainer sees {started[2]}")
        poststart = open(out, encoding="utf-8").read().splitlines()[3].split()
        equal((poststart[0], poststart[1], poststart[2]), ("poststart", own, "running"), cli.name)
        cli.end(id)
        poststop = open(out, encoding="utf-8").read().splitlines()[4].split()
        equal((poststop[0], poststop[1], poststop[2]), ("poststop", own, "stopped"), cli.name)


def test_mounts_stand_before_the_hooks(lab):  # acceptance case 6
    """createRuntime sees the container's mounts through its pid, and no pivoted root yet."""
    out = f"{L.LAB}/{lab.new_id('seen')}"
    script = ("pid=$(tr -d ' ' | grep -o '\"pid\":[0-9]*' | cut -d: -f2); grep -c mqueue /proc/$pid/mountinfo > " + out +
              "; [ -d /proc/$pid/root/mnt/lab ] && echo host >> " + out)
    r = Cli(lab).run("true", change=lambda spec: spec.update(hooks={"createRuntime": [hook(script)]}))
    equal(r.code, 0, r.err)
    with open(out, encoding="utf-8") as f:
        seen = f.read().split()
    check(int(seen[0]) >= 1 and seen[1:] == ["host"], f"createRuntime saw {seen}")


def test_failing_hooks(lab):  # acceptance case 7
    marks = f"{L.LAB}/{lab.new_id('marks')}"
    stop = [hook(f"echo stopped >> {marks}")]
    cli = Cli(lab)
    for kind in ("prestart", "createRuntime", "createContainer", "startContainer", "poststart"):
        if os.path.exists(marks):
            os.unlink(marks)
        bad = {"path": "/bin/sh", "args": ["sh", "-c", "echo the reason >&2; exit 3"], "env": ["PATH=/bin"]}
        r = cli.run("sleep", "1000", change=lambda spec: spec.update(hooks={kind: [bad], "poststop": stop}))  # noqa: B023
        check(r.code != 0, f"a failing {kind} hook was no error")
        contains(r.err, f"error running {kind} hook #0:", kind)
        contains(r.err, "exit status 3", kind)
        contains(r.err, "the reason", kind)
        check(os.path.exists(marks), f"{kind}: poststop did not run")
    # poststart's failure stops a started container; poststop's is a warning.
    id = cli.create("sleep", "1000", change=lambda spec: spec.update(
        hooks={"poststart": [hook("exit 1")], "poststop": [hook("exit 1")]}))
    r = cli("start", id)
    check(r.code != 0 and "error running poststart hook #0" in r.err, f"start: {r!r}")
    cli.until(id, "stopped")
    r = cli("delete", id)
    equal(r.code, 0, f"delete with a failing poststop hook: {r.err}")
    contains(r.err, "poststop")


def test_hook_timeout(lab):  # acceptance case 7
    for kind in ("createRuntime", "createContainer"):
        begun = time.monotonic()
        r = Cli(lab).run("true", change=lambda spec: spec.update(hooks={kind: [hook("exec sleep 5", timeout=1)]}))  # noqa: B023
        took = time.monotonic() - begun
        check(r.code != 0 and "past" in r.err and "timeout" in r.err, f"{kind}: {r!r}")
        check(0.9 < took < 4.5, f"{kind}: killed after {took:.1f} s")


def test_hooks_environment(lab):
    """startContainer hooks without env get the process's (runc's rule); with one, exactly that."""
    out = f"{L.LAB}/{lab.new_id('env')}"
    os.makedirs(out)

    def change(spec):
        spec["mounts"].append({"destination": "/tmp", "type": "bind", "source": out, "options": ["bind"]})
        spec["process"]["env"] += ["ONE=two"]
        spec["hooks"] = {"startContainer": [{"path": "/bin/sh", "args": ["sh", "-c", "env > /tmp/none"]},
                                            {"path": "/bin/sh", "args": ["sh", "-c", "env > /tmp/own"], "env": ["A=b"]}]}
    r = Cli(lab).run("true", change=change)
    equal(r.code, 0, r.err)
    contains(open(out + "/none", encoding="utf-8").read(), "ONE=two\n")
    own = open(out + "/own", encoding="utf-8").read()
    check("A=b\n" in own and "ONE" not in own, f"the hook's own environment: {own!r}")


def test_runtime_hooks_join_before_the_pivot(lab):
    """A hook that enters the mount namespace by pid finds the host at "/" and the root at its path, where what it
    mounts is the container's and not the host's; a createContainer hook stands in the root already."""
    out = f"{L.LAB}/{lab.new_id('joined')}"
    os.makedirs(out)
    with open(out + "/gift", "w", encoding="ascii") as f:
        f.write("from the host")
    script = (f"pid=$(tr -d ' ' | grep -o '\"pid\":[0-9]*' | cut -d: -f2); touch $ROOT/etc/gift; "
              f"nsenter --mount --target $pid mount --bind {out}/gift $ROOT/etc/gift")

    roots = set()

    def change(propagation):
        def apply(spec):
            root = spec["root"]["path"]
            roots.add(root)
            spec["linux"]["rootfsPropagation"] = propagation
            spec["hooks"] = {
                "createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/usr/bin:/bin", f"ROOT={root}"]}],
                "createContainer": [hook(f"touch ./etc/second; mount --bind {out}/gift ./etc/second")]}
        return apply
    for propagation in ("rprivate", "rslave", "rshared"):
        r = Cli(lab).run("cat", "/etc/gift", "/etc/second", change=change(propagation))
        equal((r.code, r.out), (0, "from the host" * 2), f"{propagation}: {r.err}")
        with open("/proc/self/mountinfo", encoding="utf-8") as f:
            check("/etc/gift" not in f.read(), f"{propagation}: the hook's mount is the host's too")
    for root in roots:
        os.unlink(root + "/etc/gift")
        os.unlink(root + "/etc/second")


def test_startcontainer_hooks_are_filtered(lab):
    """With no_new_privs the profile holds for what the image runs first as well."""
    def change(spec):
        spec["process"]["noNewPrivileges"] = True
        spec["mounts"].append({"destination": "/tmp", "type": "tmpfs", "source": "tmpfs"})
        spec["linux"]["seccomp"] = {"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_AARCH64"],
                                    "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_KILL_PROCESS"}]}
        spec["hooks"] = {"startContainer": [{"path": "/bin/sh", "args": ["sh", "-c", "exec mkdir /tmp/x"], "env": ["PATH=/bin"]}]}
    r = Cli(lab).run("true", change=change)
    check(r.code != 0, "a call that the profile kills was made by a startContainer hook")
    contains(r.err, "error running startContainer hook #0")
    contains(r.err, "bad system call")
