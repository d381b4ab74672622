# SPDX-License-Identifier: Apache-2.0
"""Side by side: what init sees of itself under runc's shim and ours, for many options, as the kernel
tells it; and what the kernel says of a native and a wasm container of the same spec."""

import os
import re

from tests.support import lab as L
from tests.support.runner import check, contains, equal, eventually

# Fields of /proc/self/status that differ from run to run, whoever runs.
VOLATILE = re.compile(r"^(Pid|Tgid|PPid|Ngid|Vm\w+|Rss\w+|Hugetlb\w+|\w*ctxt_switches|NSpid|NStgid|NSpgid|"
                      r"NSsid|SigQ|Threads|FDSize|CoreDumping|x86_\w+|untag_mask|\w+_time):")
FILES = ("status mountinfo cgroup limits oom_score_adj loginuid sessionid setgroups uid_map timens_offsets "
         "personality").split()


# Paths that the default spec masks; how is the runtime's own affair, that they are is not.
MASKED = re.compile(r"(/null|/) (/proc/(?:acpi|asound|interrupts|kcore|keys|latency_stats|timer_list|timer_stats|sched_debug|scsi)|"
                    r"/sys/firmware|/sys/devices/\S+) (\S+) ")


def masked(line):
    """A masked path as what matters: a file that is a null device, or a directory that is empty and
    cannot be written. Which tmpfs or which node's mount it is differs."""
    m = MASKED.search(line)
    if not m:
        return None
    return f"masked {m[2]} " + ("by null" if m[1] == "/null" else "read-only" if m[3].startswith("ro") else line)


def cgroup_mount(line):
    """A cgroup mount without its propagation: runc binds them from the host as slaves, ours are private
    (nothing is ever mounted there). The tmpfs above them is read-only with us. On v2 without a cgroup
    namespace runc shows the whole hierarchy, we the container's own part, as both do on v1."""
    if " /sys/fs/cgroup " in line and " - cgroup2 " in line:
        line = line[line.index(" /sys/fs/cgroup "):]
    if " /sys/fs/cgroup" in line and (" - cgroup" in line or " - tmpfs" in line):
        return re.sub(r"(/sys/fs/cgroup) (rw|ro),", r"\1 ", re.sub(r" (master|shared):N", "", line))
    return line


def normal(text, id):
    """Takes out ids, numbers of mounts, snapshots and peers; the table of mounts is sorted (its
    order is that of making, and ours makes bind mounts first)."""
    out, unordered = [], []
    for line in text.replace(id, "ID").splitlines():
        if VOLATILE.match(line):
            continue
        line = re.sub(r"^\d+ \d+ \d+:\d+ ", "", line)                 # mountinfo's own numbers
        line = re.sub(r"\b(master|shared|propagate_from):\d+", r"\1:N", line)
        line = re.sub(r"snapshots/\d+/", "snapshots/N/", line)
        line = re.sub(r"^HOSTNAME=.*", "HOSTNAME=X", line)
        line = cgroup_mount(line.rstrip())
        # runc 1.1 leaves the root a slave of the host's, as we do; from 1.2 on it makes it private.
        line = re.sub(r"^(/ / \S+) master:N -", r"\1 -", line)
        (unordered if " - " in line else out).append(masked(line) or line)
    return out + sorted(unordered)


def differences(one, other):
    """The lines that only one side has, short."""
    import difflib
    return [line for line in difflib.unified_diff(one, other, lineterm="", n=0)
            if not line.startswith(("---", "+++", "@@"))]


def same(lab, what, *cmd, options=(), image=L.NATIVE, filter=lambda line: True):
    seen = {}
    for runtime in L.RUNTIMES:
        id = lab.new_id()
        r = lab.run(runtime, image, *cmd, options=options, id=id).ok()
        seen[runtime] = [line for line in normal(r.out, id) if filter(line)]
        check(len(seen[runtime]) > 0, f"{what}: {runtime} printed nothing")
    first = L.RUNTIMES[0]
    for runtime, lines in seen.items():
        different = differences(seen[first], lines)
        check(not different, f"{what}: {first} (-) and {runtime} (+) differ:\n      " + "\n      ".join(different[:40]))


def self_files(lab, options=(), image=L.NATIVE):
    # head is init itself, and titles each file.
    same(lab, f"/proc/self of {options or 'defaults'}", "head", "-n", "400",
         *[f"/proc/self/{name}" for name in FILES], options=options, image=image)


def test_self_by_default(lab):
    self_files(lab)


def test_self_privileged(lab):
    self_files(lab, ["--privileged"])


def test_self_read_only(lab):
    self_files(lab, ["--read-only"])


def test_self_with_capabilities_and_new_privileges(lab):
    self_files(lab, ["--allow-new-privs", "--cap-add", "CAP_SYS_ADMIN", "--cap-drop", "CAP_CHOWN"])


def test_self_with_seccomp(lab):
    self_files(lab, ["--seccomp"])


def test_self_with_limits(lab):
    self_files(lab, ["--memory-limit", str(128 << 20), "--cpus", "0.7"])


def test_self_with_mounts(lab):
    os.makedirs(L.LAB + "/mount-source/inner", exist_ok=True)
    self_files(lab, ["--mount", f"type=bind,src={L.LAB}/mount-source,dst=/m/a,options=rbind:ro:nosuid:nodev",
                     "--mount", f"type=bind,src={L.LAB}/mount-source,dst=/m/b,options=bind:rw:rslave",
                     "--mount", "type=tmpfs,src=tmpfs,dst=/m/t,options=size=2m:mode=0700:noexec"])


def test_self_as_user(lab):
    for user in ("1000:1000", "someone"):
        self_files(lab, image=lab.native_as(user))


def test_self_with_host_network(lab):
    self_files(lab, ["--net-host"])


def test_self_with_another_cgroup_path(lab):
    try:
        self_files(lab, ["--cgroup", f"/{lab.namespace}/deeper/place"])
    finally:
        for h in os.listdir("/sys/fs/cgroup"):
            if os.path.isdir(f"/sys/fs/cgroup/{h}/{lab.namespace}/deeper"):
                os.rmdir(f"/sys/fs/cgroup/{h}/{lab.namespace}/deeper")


def test_devices(lab):
    script = ("cd /dev; find . | sort | while read f; do [ -L $f ] && echo \"$f -> $(readlink $f)\" || "
              "stat -c '%n %F %a %u:%g %t:%T' $f; done")
    for options in ((), ("--privileged",), ("--device", "/dev/fuse") if os.path.exists("/dev/fuse") else ()):
        same(lab, f"/dev of {options}", "sh", "-c", script, options=list(options))


def test_device_rules(lab):
    # Which nodes may be opened, made and written is the devices cgroup's say.
    script = ("for n in 'a 1 3' 'b 1 11' 'd 10 229' 'e 5 1' 'f 1 1'; do set -- $n; mknod /tmp/$1 c $2 $3 2>&1; "
              "head -c 0 /tmp/$1 2>&1 && echo opened $n; done; cat /sys/fs/cgroup/devices/devices.list 2>/dev/null; true")
    same(lab, "device rules", "sh", "-c", script)


def test_environment_of_init(lab):
    same(lab, "environ", "cat", "/proc/self/environ", options=["--env", "A=1", "--env", "B=2 3"])


def test_descriptors_of_init(lab):
    # What an fd points to differs (a pipe there, the client's FIFO here); which are open must not.
    same(lab, "descriptors", "ls", "/proc/self/fd")


def test_namespaces_of_init(lab):
    # init's namespaces by name: the host's or its own.
    for options in ((), ("--net-host",)):
        seen = {}
        for runtime in L.RUNTIMES:
            id = lab.detached(runtime, L.NATIVE, "demo", "pause", options=list(options))
            pid = lab.pid(id)
            seen[runtime] = {n: os.readlink(f"/proc/{pid}/ns/{n}") == os.readlink(f"/proc/self/ns/{n}")
                             for n in os.listdir(f"/proc/{pid}/ns")}
            lab.end(id)
        for runtime in L.RUNTIMES:
            equal(seen[runtime], seen[L.RUNTIMES[0]], f"namespaces shared with the host, {options}")


def test_signals_and_priorities_of_init(lab):
    # runc 1.3 was seen to leave signals blocked; ours start with none.
    r = lab.run(L.AMPHORA, L.NATIVE, "grep", "^SigBlk", "/proc/1/status").ok()
    equal(r.out.split()[1].strip("0"), "", "blocked signals")
    same(lab, "stat", "sh", "-c", "grep -E '^Sig|^Shd' /proc/1/status; cut -d' ' -f 18,19,40,41 /proc/1/stat; umask; "
         "cat /proc/1/timerslack_ns /proc/1/coredump_filter; cat /proc/1/sched | head -n 0; ulimit -a",
         filter=lambda line: not line.startswith("SigBlk"))


def test_self_of_exec(lab):
    seen = {}
    for runtime in L.RUNTIMES:
        id = lab.detached(runtime, L.NATIVE, "demo", "pause")
        r = lab.ctr("task", "exec", "--exec-id", "e", id, "head", "-n", "400",
                    *[f"/proc/self/{name}" for name in FILES]).ok()
        seen[runtime] = normal(r.out, id)
        lab.end(id)
    for runtime in L.RUNTIMES:
        different = differences(seen[L.RUNTIMES[0]], seen[runtime])
        check(not different, f"exec under {runtime}:\n      " + "\n      ".join(different[:40]))


# ---- a native and a wasm container of the same spec

def kernel_view(pid, id):
    """What /proc says of `pid` from outside, but for what is a wasm host's by nature: its signal
    handlers (pid 1 has no default actions), its memory, its threads."""
    def read(name):
        with open(f"/proc/{pid}/{name}", "rb") as f:
            return f.read().replace(b"\0", b"\n").decode(errors="replace")
    view = []
    for name in FILES + ["environ", "comm"]:
        view.append(f"== {name}")
        lines = normal(read(name), id)
        if name == "status":
            lines = [line for line in lines if not line.startswith(("SigCgt", "SigIgn", "SigBlk", "State", "Name", "Speculation", "Mems"))]
        if name == "environ":  # HOME is added for native programs; a guest gets process.env and no more
            lines = [line for line in lines if not line.startswith("HOME=")]
        if name == "comm":
            lines = []
        view += lines
    view += [f"ns {n} {os.readlink(f'/proc/{pid}/ns/{n}') == os.readlink(f'/proc/self/ns/{n}')}"
             for n in sorted(os.listdir(f"/proc/{pid}/ns"))]
    return view


def twins(lab, user, options):
    native, wasm = lab.new_id(), lab.new_id()
    image = lab.native_as(user)
    lab.detached(L.AMPHORA, image, "/bin/demo", "sleep", "1000", options=options, id=native)
    lab.detached(L.AMPHORA, image, "/app.wasm", "sleep", "1000", options=options, id=wasm)
    one, other = kernel_view(lab.pid(native), native), kernel_view(lab.pid(wasm), wasm)
    with open(f"/proc/{lab.pid(wasm)}/cmdline", "rb") as f:
        cmdline = f.read().rstrip(b"\0").split(b"\0")
    lab.end(native, wasm)
    different = differences(one, other)
    check(not different, f"native (-) and wasm (+), user {user}, {options}:\n      " + "\n      ".join(different[:40]))
    equal(cmdline, [b"/app.wasm", b"sleep", b"1000"], "the wasm container's command line")


def test_native_and_wasm_agree_for_root(lab):
    twins(lab, "0:0", [])


def test_native_and_wasm_agree_for_a_user(lab):
    # A clone never execs: without care it would keep root's effective capabilities.
    twins(lab, "1000:1000", [])


def test_native_and_wasm_agree_with_options(lab):
    twins(lab, "someone", ["--env", "A=b", "--memory-limit", str(128 << 20), "--cpus", "0.5", "--read-only"])
