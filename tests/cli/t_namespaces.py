# SPDX-License-Identifier: Apache-2.0
"""The linux object of runtime-spec row by row: namespaces by path, sysctls, devices and links of /dev, keyrings,
annotations, what hooks are told. What the other t_ files show already is not here; docs/spec.md has the rows."""

import json
import os
import re

from tests.cli.t_hooks import hook
from tests.cli.t_spec import capable, namespace, user_namespace, without
from tests.support import lab as L
from tests.support.command import NATIVE, WASM, Cli, kind_args
from tests.support.runner import Skip, check, contains, equal

KINDS = (NATIVE, WASM)
# The spec's word, and the kernel's.
FILES = {"pid": "pid", "network": "net", "mount": "mnt", "ipc": "ipc", "uts": "uts", "user": "user", "cgroup": "cgroup", "time": "time"}


def clis(lab):
    return [Cli(lab, name) for name in L.COMMANDS]


def at(spec, kind, path):
    without(spec, kind)
    namespace(spec, kind, path=path)


# ---- namespaces

def test_namespaces_are_joined_by_path(lab):
    cli = Cli(lab)
    first = cli.running("sleep", "1000", change=lambda spec: (namespace(spec, "cgroup"), namespace(spec, "time")))
    pid = cli.state(first)["pid"]
    for kind, file in FILES.items():
        if kind in ("user", "mount"):
            continue
        there = f"/proc/{pid}/ns/{file}"

        def change(spec):
            at(spec, kind, there)  # noqa: B023
            if kind in ("uts",):  # noqa: B023
                spec.pop("hostname")
        id = cli.running("sleep", "1000", change=change)
        own = cli.state(id)["pid"]
        check(os.path.samefile(f"/proc/{own}/ns/{file}", there), f"{kind} was not joined")
        for other in ("net", "mnt", "ipc", "uts"):
            if other != file:
                check(not os.path.samefile(f"/proc/{own}/ns/{other}", f"/proc/{pid}/ns/{other}"), f"{kind}: {other} was joined as well")
        r = cli.run("true", change=lambda spec: at(spec, kind, f"/proc/{pid}/ns/{'ipc' if kind != 'ipc' else 'net'}"))  # noqa: B023
        check(r.code == 1 and "another type" in r.err, f"{kind} by the path of another: {r!r}")
        r = cli.run("true", change=lambda spec: at(spec, kind, "/proc/1/comm"))  # noqa: B023
        check(r.code == 1 and "is not a namespace" in r.err, f"{kind} by a file: {r!r}")
        cli.end(id)
    r = cli.run("true", change=lambda spec: (at(spec, "time", f"/proc/{pid}/ns/time"), spec["linux"].update(timeOffsets={"monotonic": {"secs": 1}})))
    check(r.code == 1 and "linux.timeOffsets need a new time namespace" in r.err, f"offsets of a joined one: {r!r}")
    cli.end(first)


def test_mappings_beside_the_path_of_a_user_namespace(lab):
    """The same as the namespace's: a warning. Others would be ignored in silence: an error."""
    cli = Cli(lab)
    first = cli.running("sleep", "1000", change=user_namespace)
    pid = cli.state(first)["pid"]

    def join(size, swap=False):
        def change(spec):
            user_namespace(spec)
            spec["linux"]["uidMappings"][0]["size"] = size
            at(spec, "user", f"/proc/{pid}/ns/user")
        return change
    for kind in KINDS:
        r = cli.run(*kind_args(kind, "echo", "there"), change=join(65536))
        equal((r.code, r.out), (0, "there\n"), f"{kind}: {r.err}")
        contains(r.err, "are not needed", kind)
    r = cli.run("true", change=join(65535))
    check(r.code == 1 and "are not those of the user namespace" in r.err, repr(r))
    r = cli.run("true", change=lambda spec: (join(65536)(spec), without(spec, "user")))
    check(r.code == 1 and "need a user namespace" in r.err, repr(r))
    cli.end(first)


# ---- sysctls

def test_sysctls(lab):
    """Each in a namespace of the container's own, dots or slashes between the names."""
    for cli in clis(lab):
        r = cli.run("cat", "/proc/sys/net/ipv4/ip_forward", "/proc/sys/kernel/shmmax", "/proc/sys/net/ipv4/conf/lo/accept_local", "/proc/sys/fs/mqueue/msg_max",
                    change=lambda spec: spec["linux"].update(sysctl={"net.ipv4.ip_forward": "1", "kernel.shmmax": "123456",
                                                                     "net/ipv4/conf/lo/accept_local": "1", "fs.mqueue.msg_max": "7"}))
        equal((r.code, r.out.split()), (0, ["1", "123456", "1", "7"]), f"{cli.name}: {r.err}")
    r = Cli(lab).run("cat", "/proc/sys/kernel/domainname", change=lambda spec: spec["linux"].update(sysctl={"kernel.domainname": "by.sysctl"}))
    equal((r.code, r.out), (0, "by.sysctl\n"), r.err)
    r = Cli(lab).run("true", change=lambda spec: spec["linux"].update(sysctl={"net.ipv4.no_such_thing": "1"}))
    check(r.code == 1 and "set sysctl net.ipv4.no_such_thing" in r.err, repr(r))


def test_sysctls_of_the_host_are_not_reached_by_a_path(lab):
    """A namespace by path may be the runtime's own: its settings are the host's."""
    before = open("/proc/sys/net/ipv4/ip_forward", encoding="ascii").read()
    for kind, file, name, value in (("network", "net", "net.ipv4.ip_forward", "1"), ("ipc", "ipc", "kernel.shmmax", "123456"),
                                    ("uts", "uts", "kernel.domainname", "host")):
        def change(spec):
            at(spec, kind, f"/proc/{os.getpid()}/ns/{file}")  # noqa: B023
            spec.pop("hostname")
            spec["linux"]["sysctl"] = {name: value}  # noqa: B023
        r = Cli(lab).run("true", change=change)
        check(r.code == 1 and f"linux.sysctl {name}" in r.err and "is the host's own" in r.err, f"{kind}: {r!r}")

        def joined(spec):
            at(spec, kind, f"/proc/{os.getpid()}/ns/{file}")  # noqa: B023
            spec.pop("hostname")
        equal(Cli(lab).run("true", change=joined).code, 0, f"{kind}: the host's own is joined where nothing is written")
    equal(open("/proc/sys/net/ipv4/ip_forward", encoding="ascii").read(), before, "the host's setting")


# ---- /dev

def test_default_devices_and_links(lab):
    want = {"null": "1:3", "zero": "1:5", "full": "1:7", "random": "1:8", "urandom": "1:9", "tty": "5:0"}
    links = {"fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2", "ptmx": "pts/ptmx"}
    if os.path.exists("/proc/kcore"):
        links["core"] = "/proc/kcore"
    for cli in clis(lab):
        r = cli.run("sh", "-c", "cd /dev; for f in *; do [ -L $f ] && echo $f $(readlink $f); [ -c $f ] && [ ! -L $f ] && echo $f $(stat -c '%t:%T %a' $f); done; true")
        seen = dict(line.split(" ", 1) for line in r.out.splitlines())
        for name, number in want.items():
            equal(seen.pop(name), f"{number} 666", f"{cli.name}: /dev/{name}: {r.err}")
        equal(seen, links, f"{cli.name}: links, and nothing else")


def test_devices_in_a_user_namespace(lab):
    """Nodes cannot be made there: the host's are bound, with their own modes."""
    def change(spec):
        user_namespace(spec)
        spec["linux"]["devices"] = [{"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229}]
        spec["linux"]["resources"]["devices"].append({"allow": True, "type": "c", "major": 10, "minor": 229, "access": "rwm"})
    if not os.path.exists("/dev/fuse"):
        raise Skip("no /dev/fuse here")
    r = Cli(lab).run("sh", "-c", "stat -c %t:%T /dev/fuse /dev/null; echo x > /dev/null && grep -c ' /dev/null ' /proc/self/mountinfo", change=change)
    equal((r.code, r.out.split()), (0, ["a:e5", "1:3", "1"]), r.err)


def test_kinds_of_devices(lab):
    """c and u are characters, b is a block, p a FIFO; modes are decimal; the runtime's own ptmx stays."""
    devices = [{"path": "/dev/one", "type": "u", "major": 1, "minor": 3, "fileMode": 438}, {"path": "/dev/two", "type": "b", "major": 7, "minor": 9, "fileMode": 384},
               {"path": "/dev/dir/three", "type": "p", "fileMode": 416, "uid": 3, "gid": 4}, {"path": "/dev/ptmx", "type": "c", "major": 5, "minor": 2}]

    def change(spec):
        capable(spec, "CAP_DAC_OVERRIDE")
        spec["linux"]["devices"] = devices
    for cli in clis(lab):
        r = cli.run("sh", "-c", "stat -c '%F %a %u:%g %t:%T' /dev/one /dev/two /dev/dir/three; readlink /dev/ptmx", change=change)
        equal(r.out.splitlines(), ["character special file 666 0:0 1:3", "block special file 600 0:0 7:9", "fifo 640 3:4 0:0", "pts/ptmx"], f"{cli.name}: {r.err}")


def test_wrong_device_rules_are_refused(lab):
    for rule, words in (({"allow": True, "access": ""}, "access"), ({"allow": True, "access": "x"}, "access"), ({"allow": True, "type": "q", "access": "r"}, "type")):
        r = Cli(lab).run("true", change=lambda spec: spec["linux"]["resources"]["devices"].append(rule))  # noqa: B023
        check(r.code == 1 and f"linux.resources.devices[1].{words}" in r.err, f"{rule}: {r!r}")


# ---- the session keyring, personality, annotations

def test_session_keyring(lab):
    if not os.path.exists("/proc/keys"):
        raise Skip("this kernel has no keys")
    cli = Cli(lab)

    def shown(spec):
        spec["linux"]["maskedPaths"] = []
    id, path = cli.bundle("cat", "/proc/keys", change=shown)
    contains(cli("run", "-b", path, id).ok().out, f"_ses.{id}")
    id, path = cli.bundle("cat", "/proc/keys", change=shown)
    r = cli("run", "--no-new-keyring", "-b", path, id)
    check(r.code == 0 and f"_ses.{id}" not in r.out, repr(r))


def test_annotations_are_in_the_state(lab):
    """And in what hooks and agents are told, which the spec's cannot change: how it was decided is the runtime's to say."""
    out = f"{L.LAB}/{lab.new_id('state')}"
    given = {"org.example.one": "1", "empty": ""}
    for cli in clis(lab):
        def change(spec):
            spec["annotations"] = given
            spec["hooks"] = {"createRuntime": [hook(f"cat > {out}")]}
        id = cli.create("sleep", "1000", change=change)
        state = cli.state(id)["annotations"]
        equal({k: state[k] for k in given}, given, cli.name)
        with open(out, encoding="utf-8") as f:
            told = json.load(f)["annotations"]
        equal({k: told[k] for k in given}, given, f"{cli.name}: a hook")
        cli.end(id)
    r = Cli(lab).run("true", change=lambda spec: spec.update(annotations={"": "x"}))
    check(r.code == 1 and "annotations" in r.err, repr(r))


# ---- hooks

def test_the_pid_that_hooks_are_told(lab):
    """As the hook's own pid namespace counts: the host's outside, 1 inside."""
    out = f"{L.LAB}/{lab.new_id('pids')}"
    os.makedirs(out)

    def change(spec):
        spec["mounts"].append({"destination": "/told", "type": "bind", "source": out, "options": ["bind"]})
        spec["hooks"] = {kind: [hook(f"cat > {out}/{kind}")] for kind in ("prestart", "createRuntime", "createContainer", "poststart")}
        spec["hooks"]["startContainer"] = [hook("cat > /told/startContainer")]
    for kind in KINDS:
        cli = Cli(lab)
        id = cli.create(*kind_args(kind, "sleep", "1000"), change=change)
        pid = cli.state(id)["pid"]
        cli("start", id).ok()
        for name, want in (("prestart", pid), ("createRuntime", pid), ("createContainer", 1), ("startContainer", 1), ("poststart", pid)):
            with open(f"{out}/{name}", encoding="utf-8") as f:
                state = json.load(f)
            equal((state["pid"], state["id"], state["ociVersion"]), (want, id, "1.0.2"), f"{kind} {name}")
            os.unlink(f"{out}/{name}")
        cli.end(id)


def test_runtime_hooks_find_the_cgroup_with_its_limits(lab):
    out = f"{L.LAB}/{lab.new_id('cgroup')}"
    cli = Cli(lab)
    cli.needs_controller("pids")
    script = (f"pid=$(tr -d ' ' | grep -o '\"pid\":[0-9]*' | cut -d: -f2); p=$(grep pids /proc/$pid/cgroup | cut -d: -f3);"
              f" cat /sys/fs/cgroup/pids$p/pids.max > {out}; grep -c $pid /sys/fs/cgroup/pids$p/cgroup.procs >> {out}")
    if not os.path.isdir("/sys/fs/cgroup/pids"):
        raise Skip("cgroup v1 is not mounted here")

    def change(spec):
        spec["linux"]["resources"]["pids"] = {"limit": 123}
        spec["hooks"] = {"createRuntime": [hook(script)]}
    r = cli.run("true", change=change)
    equal(r.code, 0, r.err)
    with open(out, encoding="utf-8") as f:
        equal(f.read().split(), ["123", "1"])


def test_a_hook_has_its_own_environment_and_nothing_else(lab):
    out = f"{L.LAB}/{lab.new_id('env')}"
    lab.env["OF_THE_CALLER"] = "x"
    try:
        for kind in ("createRuntime", "poststop"):
            r = Cli(lab).run("true", change=lambda spec: spec.update(hooks={kind: [{"path": "/usr/bin/env", "args": ["env"], "env": ["ONE=1"]}]}))  # noqa: B023
            equal(r.code, 0, f"{kind}: {r.err}")
            r = Cli(lab).run("true", change=lambda spec: spec.update(hooks={kind: [{"path": "/bin/sh", "args": ["sh", "-c", f"/usr/bin/env > {out}"],
                                                                                   "env": ["ONE=1"]}]}))  # noqa: B023
            equal(r.code, 0, f"{kind}: {r.err}")
            with open(out, encoding="utf-8") as f:
                names = set(re.findall(r"^(\w+)=", f.read(), re.M)) - {"PWD", "_", "SHLVL", "OLDPWD"}  # the shell's own
            equal(names, {"ONE"}, kind)
    finally:
        del lab.env["OF_THE_CALLER"]
