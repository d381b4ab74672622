# SPDX-License-Identifier: Apache-2.0
"""Attacks on processes: prying into one that joins, overwriting the runtime's executable, rights that
come by odd numbers or by inheritance, texts without end. Named by CVE (docs/security-tests.md)."""

import hashlib
import json
import os
import shutil
import subprocess

from tests.support import lab as L
from tests.support.attack import ATTACK, Command, Image, commands
from tests.support.command import NATIVE, WASM, kind_args
from tests.support.runner import Skip, check, contains, equal, eventually

KINDS = (NATIVE, WASM)
ALL_CAPS = ["CAP_SYS_PTRACE", "CAP_DAC_READ_SEARCH", "CAP_DAC_OVERRIDE", "CAP_SYS_ADMIN", "CAP_KILL"]


def with_caps(spec, *caps):
    spec["process"]["capabilities"] = {k: list(caps) for k in ("bounding", "effective", "permitted")}


def test_2016_9962_who_may_trace_reaches_nothing_by_a_joining_exec(lab):
    # The marker lies in the host's root of this lab and in no image.
    marker = "mnt/lab/guests"
    amphora = Command(lab)
    image = Image(lab, "pry")
    output = image.root + "/data/seen"

    def change(spec):
        with_caps(spec, *ALL_CAPS)
        spec["root"]["readonly"] = False
    amphora.start(image, "sh", "-c", f"exec attack pry 3 {marker} > /data/seen 2>&1", change=change)
    eventually(lambda: os.path.exists(output) and "prying" in open(output, encoding="utf-8").read(), 5, "it pries")
    execs = 0
    while amphora.status(image.id) == "running":
        r = amphora("exec", image.id, *(["/bin/true"] if execs % 4 else ["/app.wasm", "true"]))
        if r.code != 0:
            eventually(lambda: amphora.status(image.id) == "stopped", 2, f"the attacker has ended, or why not: {r!r}")
            break
        execs += 1
    with open(output, encoding="utf-8") as f:
        seen = f.read()
    reached = sorted({line for line in seen.splitlines() if "reached" in line})
    check(execs > 20, f"only {execs} execs ran")
    check("saw" in seen, f"the attacker did not end well: {seen[-300:]}")
    equal(reached[:6], [], f"{len(reached)} ways in {execs} execs")
    amphora.end(image.id)
    image.remove()


def test_2016_9962_who_may_trace_reaches_nothing_by_a_container_that_joins(lab):
    # A pod that shares its processes: the second container is made while the first one pries.
    marker = "mnt/lab/guests"
    amphora = Command(lab)
    first, second = Image(lab, "pry"), Image(lab, "member")
    output = first.root + "/data/seen"

    def change(spec):
        with_caps(spec, *ALL_CAPS)
        spec["root"]["readonly"] = False
    amphora.start(first, "sh", "-c", f"exec attack pry 3 {marker} > /data/seen 2>&1", change=change)
    pid = amphora.state(first.id)["pid"]
    eventually(lambda: os.path.exists(output) and "prying" in open(output, encoding="utf-8").read(), 5, "it pries")

    def join(spec):
        for ns in spec["linux"]["namespaces"]:
            if ns["type"] == "pid":
                ns["path"] = f"/proc/{pid}/ns/pid"
    made = 0
    while amphora.status(first.id) == "running":
        kind = KINDS[made % 2]
        r = amphora.of(second, *kind_args(kind, "true"), change=join)
        if r.code != 0:
            eventually(lambda: amphora.status(first.id) == "stopped", 2, f"the attacker has ended, or why not: {r!r}")
            break
        made += 1
    amphora("delete", "--force", second.id)
    with open(output, encoding="utf-8") as f:
        seen = f.read()
    reached = sorted({line for line in seen.splitlines() if "reached" in line})
    check(made > 10, f"only {made} members ran")
    equal(reached[:6], [], f"{len(reached)} ways in {made} members")
    amphora.end(first.id)
    first.remove()
    second.remove()


def digest(path):
    with open(path, "rb") as f:
        return hashlib.sha256(f.read()).hexdigest(), os.stat(path).st_mtime_ns, os.stat(path).st_ino


def test_2019_5736_nothing_of_ours_can_be_overwritten(lab):
    programs = [f"{L.LAB}/prefix/bin/amphora", f"{L.LAB}/prefix/libexec/amphora/amphora-wasm"]
    before = [digest(p) for p in programs]
    amphora = Command(lab)
    image = Image(lab, "exe")
    # The entrypoint is the runtime itself, by a script and by name.
    image.file("/bin/evil", "#!/proc/self/exe\n", 0o755)
    for args in (["/bin/evil"], ["/proc/self/exe", "--version"]):
        amphora.of(image, *args, change=lambda spec: with_caps(spec, *ALL_CAPS))
    # Containers of both kinds and execs in one of them are looked at by one that may trace them all.
    output = image.root + "/data/seen"

    def change(spec):
        with_caps(spec, *ALL_CAPS)
        spec["root"]["readonly"] = False
    amphora.start(image, "sh", "-c", "exec attack overwrite 3 > /data/seen 2>&1", change=change)
    pid = amphora.state(image.id)["pid"]
    eventually(lambda: os.path.exists(output) and "prying" in open(output, encoding="utf-8").read(), 5, "it pries")
    member = Image(lab, "member")

    def join(spec):
        for ns in spec["linux"]["namespaces"]:
            if ns["type"] == "pid":
                ns["path"] = f"/proc/{pid}/ns/pid"
    rounds = 0
    while amphora.status(image.id) == "running":
        amphora("exec", image.id, "/bin/true")
        amphora("exec", image.id, "/app.wasm", "true")
        amphora.of(member, *kind_args(KINDS[rounds % 2], "true"), change=join)
        rounds += 1
    amphora("delete", "--force", member.id)
    with open(output, encoding="utf-8") as f:
        seen = f.read()
    equal(sorted({line for line in seen.splitlines() if line.startswith("opened")}), [], "opened for writing")
    tried = [int(line.split()[1]) for line in seen.splitlines() if line.startswith("tried")]
    check(tried and tried[0] > 0, f"none of our executables was met in {rounds} rounds: {seen}")
    equal([digest(p) for p in programs], before, "our programs")
    amphora.end(image.id)
    image.remove()
    member.remove()


def test_2019_5736_a_running_guest_cannot_be_written_through_its_exe(lab):
    amphora = Command(lab)
    image = Image(lab, "exe")
    id = amphora.start(image, *kind_args(WASM, "sleep", "1000"), change=lambda spec: with_caps(spec, *ALL_CAPS))
    for target in ("/proc/1/exe", "/proc/1/map_files"):
        r = amphora("exec", id, "sh", "-c",
                    # Opened, not written: were it possible, the host's own files would be hit.
                    f"for f in {target} {target}/*; do [ ! -f $f ] || ! (: >> $f) || echo opened $f $(readlink $f); done 2>&1")
        opened = [line for line in r.out.splitlines() if line.startswith("opened") and "memfd:" not in line]
        equal(opened, [], r.out[:300])
    r = amphora("exec", id, "sh", "-c", "(: >> /proc/1/exe) 2>&1")
    check("Read-only" in r.out or "busy" in r.out, f"why it failed: {r!r}")
    amphora.end(id)
    image.remove()


def test_2022_24769_inheritable_capabilities_stay_empty(lab):
    amphora = Command(lab)
    image = Image(lab, "inh")
    shutil.copy(image.root + "/bin/busybox", image.root + "/bin/busybox-caps")
    os.chmod(image.root + "/bin/busybox-caps", 0o755)
    r = subprocess.run(["setcap", "cap_net_raw+i", image.root + "/bin/busybox-caps"], capture_output=True, text=True, check=False)
    if r.returncode != 0:
        raise Skip(f"setcap: {r.stderr.strip()}")
    status = ["/bin/busybox-caps", "grep", "^Cap[IE]", "/proc/self/status"]
    r = amphora.of(image, *status, change=lambda spec: spec["process"].update(user={"uid": 1000, "gid": 1000}))
    equal((r.code, r.out.split()), (0, ["CapInh:", "0" * 16, "CapEff:", "0" * 16]), r.err)
    id = amphora.start(image, "sleep", "1000")
    r = amphora("exec", "--cap", "CAP_NET_RAW", "--user", "1000:1000", id, *status)
    equal((r.code, r.out.split()[:2]), (0, ["CapInh:", "0" * 16]), r.err)
    with open(image.path + "/process.json", "w", encoding="utf-8") as f:
        json.dump({"args": status, "cwd": "/", "user": {"uid": 1000, "gid": 1000}, "env": []}, f)
    r = amphora("exec", "--process", image.path + "/process.json", id)
    equal((r.code, r.out.split()), (0, ["CapInh:", "0" * 16, "CapEff:", "0" * 16]), r.err)
    amphora.end(id)
    image.remove()


def test_2026_30892_users_are_whole_numbers_in_range(lab):
    amphora = Command(lab)
    image = Image(lab, "uid")
    id = amphora.start(image, "sleep", "1000")
    for user, want in (("1", "1 0"), ("1:2", "1 2"), ("1000:1000", "1000 1000"), ("4294967294", "4294967294 0")):
        r = amphora("exec", "-u", user, id, "sh", "-c", "echo $(id -u) $(id -g)")
        equal((r.code, r.out), (0, want + "\n"), f"-u {user}: {r.err}")
    for user in ("1x", "", "4294967296", "4294967295", "-1", " 1", "1:", ":1", "1:x", "0x10", "1e3", "18446744073709551617"):
        r = amphora("exec", "-u", user, id, "id", "-u")
        check(r.code != 0 and r.out == "", f"-u {user!r} ran: {r!r}")
        check(user.split(":")[-1].strip() in r.err, f"-u {user!r}: the error does not name it: {r.err}")
    for uid in (4294967296, -1, 1.5, "0", 4294967295, True):
        r = amphora.of(image, "id", change=lambda spec: spec["process"].update(user={"uid": uid, "gid": 0}))
        check(r.code != 0 and "uid" in r.err, f"uid {uid!r}: {r!r}")
        amphora("delete", "--force", image.id + "x")
    amphora.end(id)
    image.remove()


def test_2021_43784_mappings_without_end_are_an_error(lab):
    amphora = Command(lab)
    image = Image(lab, "maps")

    def change(spec):
        spec["linux"]["namespaces"].append({"type": "user"})
        maps = [{"containerID": n, "hostID": 100000 + n, "size": 1} for n in range(5000)]
        spec["linux"]["uidMappings"] = maps
        spec["linux"]["gidMappings"] = maps
    r = amphora.of(image, "true", change=change)
    check(r.code == 1 and len(r.err) < 1000, f"{r.code}: {r.err[:300]}")
    contains(r.err, "uid", "the error names the mapping")
    image.remove()


def test_2026_84042_helpers_are_not_looked_up_by_the_containers_path(lab):
    trap = L.LAB + "/trap"
    os.makedirs(trap, exist_ok=True)
    for name in ("amphora-wasm", "newuidmap", "newgidmap", "sh", "true", "passt", "criu"):
        with open(f"{trap}/{name}", "w", encoding="utf-8") as f:
            f.write(f"#!/bin/sh\necho sprung > {trap}/sprung\n")
        os.chmod(f"{trap}/{name}", 0o755)
    for kind in KINDS:
        image = Image(lab, "trap")
        image.spec(*kind_args(kind, "true"), change=lambda spec: spec["process"].update(env=[f"PATH={trap}:/bin"]))
        amphora = Command(lab)
        r = L.command([f"{L.LAB}/prefix/bin/amphora", "--root", amphora.root, "run", "-b", image.path, image.id],
                      env=dict(lab.env, PATH=trap + ":" + lab.env["PATH"]))
        equal(r.code, 0, f"{kind}: {r.err}")
        check(not os.path.exists(trap + "/sprung"), f"{kind}: a helper was taken from PATH")
        image.remove()
    shutil.rmtree(trap)


def test_2026_47262_a_passwd_file_without_end_costs_nothing(lab):
    for kind in KINDS:
        image = Image(lab, "huge")
        for name in ("passwd", "group"):
            with open(f"{image.root}/etc/{name}", "w", encoding="utf-8") as f:
                f.write("root:x:0:0::/huge:/bin/sh\n" if name == "passwd" else "root:x:0:\n")
                f.truncate(1 << 30)
        image.spec(*kind_args(kind, "true"))
        peak = L.command(["sh", "-c", 'ulimit -v 200000; exec "$@"', "sh", "amphora", "--root", "/run/cli-attack", "run",
                          "-b", image.path, image.id], env=lab.env) if kind == NATIVE else \
            Command(lab)("run", "-b", image.path, image.id)
        equal(peak.code, 0, f"{kind}: {peak.err}")
        check(peak.seconds < 5, f"{kind}: it took {peak.seconds:.1f} s")
        image.remove()


def test_2025_52881_labels_and_sysctls_are_written_to_a_procfs_of_our_own(lab):
    # Another container of the same mount namespace put something over the files that are written.
    amphora = Command(lab)
    image = Image(lab, "sysctl")
    image.file("/fake", "untouched\n")

    def change(spec):
        spec["linux"]["sysctl"] = {"net.ipv4.ip_unprivileged_port_start": "7"}
        spec["mounts"].append({"destination": "/data", "type": "bind", "source": image.root + "/etc", "options": ["bind"]})
    r = amphora.of(image, "cat", "/proc/sys/net/ipv4/ip_unprivileged_port_start", change=change)
    equal((r.code, r.out), (0, "7\n"), r.err)
    # The command's own /proc with a tree over the one to be written: refused, not written.
    os.makedirs(image.root + "/data/ipv4")
    os.rename(image.root + "/fake", image.root + "/data/ipv4/ip_unprivileged_port_start")
    script = "mount --bind $1/data /proc/sys/net && shift && exec \"$@\""
    image.spec("true", change=change)
    for front in ([], [ATTACK, "no-openat2"]):
        r = L.command(["unshare", "--mount", "sh", "-c", script, "sh", image.root, *front, "amphora", "--root", amphora.root,
                       "run", "-b", image.path, image.id], env=lab.env)
        check(r.code != 0, f"{front}: a sysctl was written through a mount")
        contains(r.err, "sysctl net.ipv4.ip_unprivileged_port_start", str(front))
        with open(image.root + "/data/ipv4/ip_unprivileged_port_start", encoding="utf-8") as f:
            equal(f.read(), "untouched\n", str(front))
    image.remove()


def test_2014_8989_groups_are_not_dropped_to_gain_access(lab):
    image = Image(lab, "groups")
    # Members of the caller's group may not read it, everybody else may.
    image.file("/data/not-for-65001", "secret\n", 0o707)
    subprocess.run(["chown", "-R", "65000:65000", image.path], check=True)
    os.chown(image.root + "/data/not-for-65001", 0, 65001)
    for path in (L.LAB, os.path.dirname(image.path), image.path, image.root):
        os.chmod(path, 0o755)

    def change(spec):
        spec["linux"]["namespaces"] = [{"type": t} for t in ("pid", "mount", "ipc", "uts")]
        for name in ("resources", "cgroupsPath", "maskedPaths", "readonlyPaths"):
            spec["linux"].pop(name, None)
        spec["mounts"] = [{"destination": "/proc", "type": "proc", "source": "proc"}]
    image.spec("sh", "-c", "cat /data/not-for-65001; cat /proc/self/setgroups; id -G", change=change)
    root = "/run/cli-rootless"
    os.makedirs(root, exist_ok=True)
    os.chown(root, 65000, 65000)
    # In a user namespace of an unprivileged user, who is a member of 65001 there and stays one.
    r = L.command(["setpriv", "--reuid", "65000", "--regid", "65000", "--groups", "65001", "unshare", "--user",
                   "--map-root-user", "--mount", "amphora", "--root", root, "run", "-b", image.path, image.id],
                  env=dict(lab.env, XDG_RUNTIME_DIR=root), timeout=20)
    shutil.rmtree(root, ignore_errors=True)
    check("secret" not in r.out, f"the file was read: {r!r}")
    contains(r.out, "deny", r.err)
    contains(r.err, "not-for-65001", "the program ran and was refused")
    image.remove()


def test_2023_25809_the_hosts_cgroups_are_not_writable_by_a_bound_sys(lab):
    image = Image(lab, "sys")

    def change(spec):
        with_caps(spec, *ALL_CAPS)
        spec["mounts"] = [m for m in spec["mounts"] if not m["destination"].startswith("/sys")]
        spec["mounts"].append({"destination": "/sys", "type": "none", "source": "/sys",
                               "options": ["rbind", "nosuid", "noexec", "nodev", "ro"]})
    name = "evil-" + lab.namespace
    for amphora in commands(lab):
        r = amphora.of(image, "sh", "-c", f"for d in /sys/fs/cgroup /sys/fs/cgroup/*; do [ -d $d ] && (mkdir $d/{name} && echo made $d) 2>&1; done",
                       change=change)
        for made in [line.split()[1] for line in r.out.splitlines() if line.startswith("made")]:
            os.rmdir(f"{made}/{name}")
        check("made" not in r.out, f"{amphora}: a cgroup of the host was made: {r.out}")
        contains(r.out, "Read-only file system", r.err)
    image.remove()
