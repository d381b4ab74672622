# SPDX-License-Identifier: Apache-2.0
"""runtime-spec as a container feels it: namespaces, devices, capabilities, seccomp, scheduling, network devices. The
numbers are the acceptance cases of docs/conformance.md."""

import ctypes
import json
import os
import re
import socket
import struct
import subprocess
import threading

from tests.support import lab as L
from tests.support.command import NATIVE, WASM, Cli
from tests.support.runner import Skip, check, contains, equal, eventually


def clis(lab):
    return [Cli(lab, name) for name in L.COMMANDS]


def host(*words, **options):
    return subprocess.run(words, check=True, capture_output=True, text=True, **options).stdout


def namespace(spec, kind, **more):
    spec["linux"]["namespaces"].append({"type": kind, **more})


def without(spec, kind):
    spec["linux"]["namespaces"] = [n for n in spec["linux"]["namespaces"] if n["type"] != kind]


def capable(spec, *names):
    for kind in ("bounding", "effective", "permitted"):
        spec["process"]["capabilities"][kind] += names


def user_namespace(spec, first=100000):
    namespace(spec, "user")
    for kind in ("uidMappings", "gidMappings"):
        spec["linux"][kind] = [{"containerID": 0, "hostID": first, "size": 65536}]


# ---- devices

def test_devices(lab):  # acceptance case 24
    def change(spec):
        capable(spec, "CAP_MKNOD", "CAP_DAC_OVERRIDE")
        spec["linux"]["devices"] = [{"path": "/dev/mem0", "type": "c", "major": 1, "minor": 1, "fileMode": 0o640, "uid": 5, "gid": 6},
                                    {"path": "/dev/net/tun", "type": "c", "major": 10, "minor": 200}]
        spec["mounts"].append({"destination": "/tmp", "type": "tmpfs", "source": "tmpfs"})
    script = ("stat -c '%a %u:%g %t:%T' /dev/mem0; cat /dev/mem0 2>&1; mknod /tmp/n c 1 1 && echo made; cat /tmp/n 2>&1;"
              "head -c 1 /dev/zero | wc -c; exec 3<> /dev/net/tun && echo tun")
    for cli in clis(lab):
        r = cli.run("sh", "-c", script, change=change)
        lines = r.out.splitlines()
        equal(lines[0], "640 5:6 1:1", f"{cli.name}: {r.err}")
        contains(lines[1], "Operation not permitted", cli.name)
        equal(lines[2], "made", f"{cli.name}: mknod of any device is allowed")
        contains(lines[3], "Operation not permitted", cli.name)
        equal(lines[4], "1", cli.name)
        if cli.name == "amphora":  # runc took 10:200 back in 1.2.1 only
            equal(lines[5:], ["tun"], r.err)


def test_device_over_a_file_of_another_type(lab):  # acceptance case 24
    def change(spec):
        there = f"{L.LAB}/{lab.new_id('dev')}"
        os.makedirs(there)
        with open(there + "/null", "w", encoding="utf-8"):
            pass
        spec["mounts"].append({"destination": "/dev/own", "type": "bind", "source": there, "options": ["bind"]})
        spec["linux"]["devices"] = [{"path": "/dev/own/null", "type": "c", "major": 1, "minor": 3}]
    r = Cli(lab).run("true", change=change)
    check(r.code != 0 and "/dev/own/null" in r.err and "file exists" in r.err, f"a file in a device's place: {r!r}")


# ---- this machine's limits

def test_without_cap_sys_resource(lab):  # acceptance case 25
    bounding = int(re.search(r"CapBnd:\s*(\w+)", open("/proc/self/status", encoding="utf-8").read())[1], 16)
    equal(Cli(lab).run("true").code, 0, "the default bundle")
    if bounding >> 24 & 1:
        raise Skip("this root has CAP_SYS_RESOURCE")
    own = int(open("/proc/self/oom_score_adj", encoding="utf-8").read())
    r = Cli(lab).run("true", change=lambda spec: spec["process"].update(oomScoreAdj=max(own - 1, -1000)))
    check(r.code != 0 and "process.oomScoreAdj" in r.err and "CAP_SYS_RESOURCE" in r.err, f"{r!r}")
    equal(len(r.err.strip().splitlines()), 1, "lines of the error")
    high = {"type": "RLIMIT_NOFILE", "soft": 1 << 40, "hard": 1 << 40}
    r = Cli(lab).run("true", change=lambda spec: spec["process"].update(rlimits=[high]))
    check(r.code != 0 and "RLIMIT_NOFILE" in r.err and "operation not permitted" in r.err, f"{r!r}")
    equal(len(r.err.strip().splitlines()), 1, "lines of the error")


# ---- seccomp

def profile(*rules, default="SCMP_ACT_ALLOW", **more):
    return {"defaultAction": default, "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_AARCH64"],
            "syscalls": [{"names": names, "action": action, **extra} for names, action, extra in rules], **more}


def test_seccomp(lab):  # acceptance case 32
    def with_profile(p, nnp=True):
        def change(spec):
            spec["linux"]["seccomp"] = p
            spec["process"]["noNewPrivileges"] = nnp
            spec["mounts"].append({"destination": "/tmp", "type": "tmpfs", "source": "tmpfs"})
        return change
    errno = profile((["mkdir", "mkdirat", "no_such_call"], "SCMP_ACT_ERRNO", {"errnoRet": 95}))
    for cli in clis(lab):
        for nnp in (True, False):
            r = cli.run("sh", "-c", "mkdir /tmp/x; echo $?", change=with_profile(errno, nnp))
            equal((r.code, r.out), (0, "1\n"), f"{cli.name}: {r.err}")
            contains(r.err, "Operation not supported", f"{cli.name}: the errno of the rule")
        # Two conditions on one argument are two rules, as of old.
        both = profile((["kill"], "SCMP_ACT_ERRNO", {"errnoRet": 95, "args": [
            {"index": 1, "value": 10, "op": "SCMP_CMP_EQ"}, {"index": 1, "value": 12, "op": "SCMP_CMP_EQ"}]}))
        r = cli.run("sh", "-c", "trap : USR1 USR2 WINCH; for s in 10 12 28; do kill -$s $$ 2>/dev/null; echo $?; done", change=with_profile(both))
        equal(r.out.split(), ["1", "1", "0"], f"{cli.name}: {r.err}")
    for wrong, words in (
            (profile(listenerMetadata="x"), "listenerMetadata"),
            (profile((["write"], "SCMP_ACT_NOTIFY", {}), listenerPath="/none"), "write"),
            (profile(default="SCMP_ACT_NOTIFY", listenerPath="/none"), "SCMP_ACT_NOTIFY"),
            (profile((["mkdir"], "SCMP_ACT_ALLOW", {"errnoRet": 1}), default="SCMP_ACT_KILL"), "errnoRet"),
            (profile(flags=["SECCOMP_FILTER_FLAG_NONE_SUCH"]), "SECCOMP_FILTER_FLAG_NONE_SUCH"),
            (profile(default="SCMP_ACT_NONE_SUCH"), "SCMP_ACT_NONE_SUCH")):
        r = Cli(lab).run("true", change=with_profile(wrong))
        check(r.code != 0 and words in r.err, f"{words}: {r!r}")


def agent(path, answers):
    """A seccomp agent: takes connections, answers every notification with errno 95."""
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    server.bind(path)
    server.listen(8)

    def serve():
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            text, fds, _, _ = socket.recv_fds(connection, 1 << 16, 8)
            answers.append((json.loads(text.rstrip(b"\0")), len(fds)))
            threading.Thread(target=answer, args=(fds[0],), daemon=True).start()

    def answer(fd):
        libc = ctypes.CDLL(None, use_errno=True)
        while True:
            request = ctypes.create_string_buffer(80)
            if libc.ioctl(fd, ctypes.c_ulong(0xC0502100), request) != 0:
                return
            reply = struct.pack("=Qqii", struct.unpack_from("=Q", request)[0], 0, -95, 0)
            libc.ioctl(fd, ctypes.c_ulong(0xC0182101), ctypes.create_string_buffer(reply, 24))
    threading.Thread(target=serve, daemon=True).start()
    return server


def test_seccomp_notify(lab):  # acceptance case 32
    for cli in clis(lab):
        path, answers = f"{L.LAB}/{lab.new_id('agent')}", []
        server = agent(path, answers)

        def change(spec):
            spec["linux"]["seccomp"] = profile((["mkdir"], "SCMP_ACT_NOTIFY", {}), listenerPath=path, listenerMetadata="words")  # noqa: B023
            spec["mounts"].append({"destination": "/tmp", "type": "tmpfs", "source": "tmpfs"})
        id = cli.running("sh", "-c", "mkdir /tmp/a; sleep 1000", change=change)
        r = cli("exec", id, "sh", "-c", "mkdir /tmp/b; echo $?")
        equal(r.out, "1\n", f"{cli.name}: {r!r}")
        contains(r.err, "Operation not supported", cli.name)
        equal(len(answers), 2, f"{cli.name}: a connection for init and one for exec")
        for state, fds in answers:
            equal((fds, state["fds"], state["metadata"], state["state"]["id"]), (1, ["seccompFd"], "words", id), cli.name)
        cli.end(id)
        server.close()


# ---- capabilities

def caps_of(text):
    return dict(re.findall(r"Cap(\w+):\s*(\w+)", text))


def test_capabilities(lab):  # acceptance case 33
    sets = {"bounding": ["CAP_CHOWN", "CAP_KILL"], "effective": ["CAP_KILL"], "permitted": ["CAP_CHOWN", "CAP_KILL"],
            "inheritable": ["CAP_KILL"], "ambient": ["CAP_KILL"]}
    want = {"Inh": 1 << 5, "Prm": 1 << 5, "Eff": 1 << 5, "Bnd": 1 | 1 << 5, "Amb": 1 << 5}

    def change(spec):
        spec["process"]["user"] = {"uid": 1000, "gid": 1000}
        spec["process"]["capabilities"] = sets
    for cli in clis(lab):
        r = cli.run("cat", "/proc/self/status", change=change)
        got = {k: int(v, 16) for k, v in caps_of(r.out).items()}
        equal(got, want, f"{cli.name}: {r.err}")
        id = cli.running("sleep", "1000", change=change)
        got = {k: int(v, 16) for k, v in caps_of(cli("exec", id, "cat", "/proc/self/status").ok().out).items()}
        equal(got, want, f"{cli.name} exec")
        cli.end(id)
    r = Cli(lab).run("true", change=lambda spec: spec["process"]["capabilities"]["bounding"].append("CAP_NONE_SUCH"))
    equal(r.code, 0, r.err)
    contains(r.err, "CAP_NONE_SUCH", "the warning")
    r = Cli(lab).run("true", change=lambda spec: spec["process"]["capabilities"].update(ambient=["CAP_CHOWN"], inheritable=[]))
    # runc's contract as of 1.2: a warning.
    check(r.code == 0 and "can't raise ambient capability CAP_CHOWN" in r.err, f"an ambient capability that cannot be: {r!r}")


# ---- namespaces

def test_time_namespace(lab):  # acceptance case 34
    def change(spec):
        namespace(spec, "time")
        spec["linux"]["timeOffsets"] = {"monotonic": {"secs": 86400, "nanosecs": 0}, "boottime": {"secs": 864000, "nanosecs": 5}}
    up = float(open("/proc/uptime", encoding="utf-8").read().split()[0])
    cli = Cli(lab)
    id = cli.running("sleep", "1000", change=change)
    pid = cli.state(id)["pid"]
    offsets = open(f"/proc/{pid}/timens_offsets", encoding="utf-8").read().split()
    equal(offsets, ["monotonic", "86400", "0", "boottime", "864000", "5"])
    inside = float(cli("exec", id, "cat", "/proc/uptime").ok().out.split()[0])
    check(864000 <= inside - up < 864100, f"uptime of exec: {inside} against {up}")
    equal(cli("exec", id, "readlink", "/proc/self/ns/time").ok().out.strip(), os.readlink(f"/proc/{pid}/ns/time"))
    cli.end(id)
    r = cli.run("true", change=lambda spec: spec["linux"].update(timeOffsets={"monotonic": {"secs": 1}}))
    check(r.code != 0 and "timeOffsets" in r.err and "time namespace" in r.err, f"offsets without a namespace: {r!r}")


def test_user_namespace(lab):  # acceptance case 35
    """Root inside is the mapped id; /proc, /dev and mounts are usable; sysfs without a network namespace is read-only."""
    cli = Cli(lab)
    tree = f"{L.LAB}/{lab.new_id('tree')}"
    os.makedirs(tree)
    os.chown(tree, 100000, 100000)

    def change(spec):
        user_namespace(spec)
        spec["mounts"].append({"destination": "/tmp", "type": "bind", "source": tree, "options": ["bind"]})
    id = cli.running("sh", "-c", "id -u; echo x > /tmp/f; echo > /dev/null; sleep 1000", change=change)
    pid = cli.state(id)["pid"]
    equal(open(f"/proc/{pid}/uid_map", encoding="utf-8").read().split(), ["0", "100000", "65536"])
    eventually(lambda: os.path.exists(tree + "/f"), 3, "the file")
    equal((os.stat(f"/proc/{pid}").st_uid, os.stat(tree + "/f").st_uid), (100000, 100000))
    equal(cli("exec", id, "id", "-u").ok().out, "0\n")
    equal(cli("exec", "-u", "5:6", id, "sh", "-c", "id -u; id -g").ok().out, "5\n6\n")
    cli.end(id)

    def shared_network(spec):
        user_namespace(spec)
        without(spec, "network")
        spec["mounts"] = [m for m in spec["mounts"] if m["destination"] != "/sys/fs/cgroup"]
    r = cli.run("sh", "-c", "ls /sys/class > /dev/null && echo seen; awk '$5 == \"/sys\" {print $6}' /proc/self/mountinfo", change=shared_network)
    check(r.code == 0 and r.out.startswith("seen\n") and "ro" in r.out.split()[1].split(","), f"sysfs: {r!r}")


def test_user_namespace_by_path(lab):  # acceptance case 35
    cli = Cli(lab)
    first = cli.running("sleep", "1000", change=user_namespace)
    pid = cli.state(first)["pid"]

    def join(spec):
        without(spec, "pid")
        namespace(spec, "user", path=f"/proc/{pid}/ns/user")
        namespace(spec, "pid", path=f"/proc/{pid}/ns/pid")
    r = cli.run("sh", "-c", "cat /proc/self/uid_map; id -u", change=join)
    equal((r.code, r.out.split()), (0, ["0", "100000", "65536", "0"]), r.err)

    def other(spec):
        namespace(spec, "user", path=f"/proc/{pid}/ns/net")
    r = cli.run("true", change=other)
    check(r.code != 0 and "another type" in r.err, f"a network namespace for a user one: {r!r}")
    cli.end(first)


def in_a_joined_user_namespace(lab, kind):
    cli = Cli(lab)
    first = cli.running("sleep", "1000", change=user_namespace)
    pid = cli.state(first)["pid"]

    def change(spec):
        namespace(spec, "user", path=f"/proc/{pid}/ns/user")
    script = "cat /proc/self/uid_map && echo $$ && echo /proc/[0-9]* && readlink /proc/self/ns/uts"
    if kind == WASM:
        r = cli.run("/app.wasm", "exit", "7", change=change)
        equal(r.code, 7, r.err)
    else:
        r = cli.run("sh", "-c", script, change=change)
        equal((r.code, r.out.split()[:5]), (0, ["0", "100000", "65536", "1", "/proc/1"]), repr(r))
        check(r.out.split()[5] != os.readlink("/proc/self/ns/uts"), repr(r))
        id = cli.running("sleep", "1000", change=change)
        equal(cli("exec", id, "sh", "-c", "echo /proc/[0-9]*; id -u").ok().out.split()[0], "/proc/1")
        equal(os.readlink(f"/proc/{cli.state(id)['pid']}/ns/user"), os.readlink(f"/proc/{pid}/ns/user"))
        cli("kill", id, "KILL").ok()
        eventually(lambda: cli.state(id)["status"] == "stopped", 3, "its end")
        cli("delete", id).ok()
    cli.end(first)


def test_new_pid_namespace_in_a_joined_user_namespace(lab):
    in_a_joined_user_namespace(lab, NATIVE)


def test_new_pid_namespace_in_a_joined_user_namespace_of_wasm(lab):
    in_a_joined_user_namespace(lab, WASM)


def proc_of_a_joined_pid_namespace(lab, front):
    """/proc of a member shows the pod's processes and none of the host's."""
    cli = Cli(lab)
    first = cli.running("sleep", "1000")
    pid = cli.state(first)["pid"]

    def join(spec):
        without(spec, "pid")
        namespace(spec, "pid", path=f"/proc/{pid}/ns/pid")
    script = "echo /proc/[0-9]*; cat /proc/1/comm; readlink /proc/self/exe > /dev/null && echo self; : > /proc/sys/kernel/core_pattern"
    id, path = cli.bundle("sh", "-c", script, change=join)
    r = L.command([*front, "amphora", "--root", cli.root, "run", "-b", path, id], env=lab.env)
    words = r.out.split()
    check("/proc/1" in words and len([w for w in words if w.startswith("/proc/")]) == 2, f"processes: {r!r}")
    equal(words[-2:], ["sleep", "self"], repr(r))
    contains(r.err, "Read-only file system", "a read-only path in it")
    r = L.command([*front, "amphora", "--root", cli.root, "run", "-b", cli.bundle("/app.wasm", "exit", "7", change=join)[1], cli.ids[-1]],
                  env=lab.env)
    equal(r.code, 7, r.err)
    cli.end(first)


def test_proc_of_a_joined_pid_namespace(lab):
    proc_of_a_joined_pid_namespace(lab, [])


def test_proc_of_a_joined_pid_namespace_before_its_option(lab):
    proc_of_a_joined_pid_namespace(lab, [L.GUESTS + "/attack", "no-pidns"])


# ---- scheduling, memory policy, network devices

def test_process_attributes(lab):  # acceptance case 36
    def change(spec):
        spec["process"]["ioPriority"] = {"class": "IOPRIO_CLASS_BE", "priority": 6}
        spec["process"]["scheduler"] = {"policy": "SCHED_BATCH", "nice": 7}
        spec["linux"]["memoryPolicy"] = {"mode": "MPOL_PREFERRED", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES"]}
        spec["linux"]["personality"] = {"domain": "LINUX32"}
        spec["process"]["user"]["umask"] = 0o27
    script = "ionice; cut -d' ' -f19,41 /proc/self/stat; head -n 1 /proc/self/numa_maps | cut -d' ' -f2; uname -m; umask; grep Cpus_allowed_list /proc/self/status"
    cli = Cli(lab)
    id = cli.running("sleep", "1000", change=change)
    cpus = re.search(r"Cpus_allowed_list:\s*(\S+)", open("/proc/self/status", encoding="utf-8").read())[1]
    r = cli("exec", id, "sh", "-c", script)
    lines = r.ok().out.splitlines()
    equal(lines, ["best-effort: prio 6", "7 3", "prefer=static:0", "i686", "0027", f"Cpus_allowed_list:\t{cpus}"], r.err)
    cli.end(id)


def test_affinity(lab):
    """A caller that is bound to one CPU binds neither init nor exec; execCPUAffinity does."""
    mine = sorted(os.sched_getaffinity(0))
    if len(mine) < 2:
        raise Skip("one CPU")
    cli = Cli(lab)

    def change(spec):
        spec["process"]["execCPUAffinity"] = {"initial": str(mine[0]), "final": str(mine[1])}
    os.sched_setaffinity(0, {mine[0]})
    try:
        id = cli.running("sleep", "1000", change=change)
        equal(sorted(os.sched_getaffinity(cli.state(id)["pid"])), mine, "init's CPUs")
        out = cli("exec", id, "grep", "Cpus_allowed_list", "/proc/self/status").ok().out
        equal(out.split()[1], str(mine[1]), "the final mask of exec")
    finally:
        os.sched_setaffinity(0, set(mine))
    cli.end(id)


def test_network_devices(lab):  # acceptance case 36
    def make():
        host("ip", "link", "add", "spec0", "type", "veth", "peer", "name", "spec1")
        host("ip", "link", "set", "spec0", "mtu", "1400", "address", "02:00:00:00:00:07", "up")
        host("ip", "addr", "add", "10.77.0.2/24", "brd", "10.77.0.255", "dev", "spec0")
        host("ip", "addr", "add", "fd00:77::2/64", "dev", "spec0", "nodad")
    try:
        make()
    except subprocess.CalledProcessError as error:
        raise Skip(f"no veth here: {error.stderr.strip()}") from error
    cli = Cli(lab)
    try:
        id = cli.running("sleep", "1000", change=lambda spec: spec["linux"].update(netDevices={"spec0": {"name": "eth7"}}))
        shown = host("nsenter", "-t", str(cli.state(id)["pid"]), "-n", "ip", "-o", "addr", "show", "dev", "eth7")
        contains(shown, "inet 10.77.0.2/24 brd 10.77.0.255 scope global")
        contains(shown, "inet6 fd00:77::2/64 scope global")
        link = host("nsenter", "-t", str(cli.state(id)["pid"]), "-n", "ip", "-o", "link", "show", "dev", "eth7")
        check("mtu 1400" in link and "02:00:00:00:00:07" in link and ",UP" in link.replace("<", ","), f"the link: {link}")
        check(subprocess.run(["ip", "link", "show", "spec0"], capture_output=True, check=False).returncode != 0, "spec0 is still outside")
        cli.end(id)
        eventually(lambda: "spec1" not in host("ip", "-o", "link"), 5, "the pair went with the container")
        make()
        r = cli.run("true", change=lambda spec: spec["linux"].update(netDevices={"spec0": {}, "spec9": {}}))
        check(r.code != 0 and "spec9" in r.err and "no such device" in r.err, f"a missing device: {r!r}")
        contains(host("ip", "-o", "addr", "show", "dev", "spec0"), "10.77.0.2/24", "spec0 stayed as it was")

        def no_namespace(spec):
            without(spec, "network")
            spec["linux"]["netDevices"] = {"spec0": {}}
        r = cli.run("true", change=no_namespace)
        check(r.code != 0 and "linux.netDevices needs a network namespace" in r.err, f"{r!r}")
    finally:
        subprocess.run(["ip", "link", "del", "spec1"], capture_output=True, check=False)


def test_few_descriptors_in_a_user_namespace(lab):
    """A limit below what the set-up holds open is the program's, not the set-up's."""
    def change(spec):
        user_namespace(spec)
        spec["process"]["rlimits"] = [{"type": "RLIMIT_NOFILE", "soft": 12, "hard": 12}]
        spec["mounts"] += [{"destination": f"/tmp/{i}", "type": "tmpfs", "source": "tmpfs"} for i in range(12)]
        spec["mounts"].insert(0, {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs"})
    for _ in range(3):
        r = Cli(lab).run("sh", "-c", "ulimit -n; ulimit -Hn", change=change)
        equal((r.code, r.out.split()), (0, ["12", "12"]), r.err)


def test_terminal_without_a_mount_namespace(lab):
    """The terminal is the host's then, and nothing is mounted on its /dev/console."""
    def change(spec):
        without(spec, "mount")
        spec["process"]["terminal"] = True
        spec["mounts"], spec["linux"]["maskedPaths"], spec["linux"]["readonlyPaths"] = [], [], []
        spec["process"]["args"] = ["/bin/sh", "-c", "tty"]
    with open("/proc/self/mountinfo", encoding="utf-8") as f:
        before = f.read()
    id, path = Cli(lab).bundle("true", change=change)
    r = L.command(["script", "-q", "-e", "-c", f"amphora --root /run/cli-tty run -b {path} {id}", "/dev/null"], "", 30, lab.env, None)
    check(r.code == 0 and "/dev/pts/" in r.out, repr(r))
    with open("/proc/self/mountinfo", encoding="utf-8") as f:
        equal(f.read(), before, "the host's mounts")
