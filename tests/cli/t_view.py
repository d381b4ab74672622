# SPDX-License-Identifier: Apache-2.0
"""What a guest sees of its container's root: all mounts, and of the kernel's own files nothing unless it is asked for
(docs/wasm.md, decision 0020). Narrowed preopens are in t_options, the working directory's names in t_components."""

import os
import subprocess

from tests.cli.t_engines import engines
from tests.cli.t_options import TMP
from tests.cli.t_rootless import user
from tests.support import inventory
from tests.support import lab as L
from tests.support.command import WASM, Cli, kind_args
from tests.support.components import spec_with
from tests.support.runner import check, contains, equal, eventually
from tests.support.wasm import bind

EMPTY = [".", ".."]


def guest(lab, *args, cwd=None, also=None, mounts=(), **options):
    annotations = {key.replace("_", "-"): value for key, value in options.items() if key != "engine"}
    if "engine" in options:
        annotations["amphora.dev/engine"] = options["engine"]

    def change(spec):
        spec_with(annotations=annotations, mounts=mounts)(spec)
        spec["process"]["cwd"] = cwd or "/"
        if also:
            also(spec)
    return Cli(lab).run("/app.wasm", *args, change=change)


def listed(r):
    return sorted(r.ok().out.split())


def test_the_kernels_files_are_not_there_by_default(lab):
    for engine in engines():
        check({"etc", "proc", "sys", "dev"} <= set(listed(guest(lab, "ls", "/", engine=engine))), f"{engine}: ls /")
        for path in ("/proc", "/sys", "/proc/../sys", "/etc/../proc"):
            equal(listed(guest(lab, "ls", path, engine=engine)), EMPTY, f"{engine}: {path}")
        for path in ("/proc/self/status", "/proc/1/root/etc/passwd", "/sys/fs/cgroup/cgroup.procs", "/proc/sys/kernel/hostname"):
            equal(guest(lab, "read", path, engine=engine).code, 1, f"{engine}: {path}")
        equal(guest(lab, "write", "/proc/x", "y", engine=engine).code, 1, f"{engine}: what covers them is read-only")
        contains(guest(lab, "read", "/etc/passwd", engine=engine).ok().out, "root:")


def test_the_kernels_files_are_there_when_asked_for(lab):
    for engine in engines():
        contains(guest(lab, "read", "/proc/1/status", engine=engine, kernel_files="on").ok().out, "Name:\tapp.wasm", engine)
        check("kernel" in listed(guest(lab, "ls", "/sys", engine=engine, kernel_files="on")), f"{engine}: ls /sys")
        equal(listed(guest(lab, "ls", "/proc", engine=engine, kernel_files="off")), EMPTY, engine)
        # By name they are asked for as well; a directory above them is none of them.
        contains(guest(lab, "read", "/proc/1/status", engine=engine, preopen="/proc, /etc").ok().out, "Name:", engine)
        equal(listed(guest(lab, "ls", "/host/proc", engine=engine, preopen="/=/host")), EMPTY, engine)
    r = guest(lab, "ls", "/", kernel_files="yes")
    check(r.code != 0, f"{r!r}")
    contains(r.err, "is not on or off")


def test_with_a_working_directory(lab):
    def as_user(spec):
        spec["process"]["user"] = {"uid": 1000, "gid": 1000}
    share = bind("closed", None, "/closed", f"{L.LAB}/closed")
    os.makedirs(f"{L.LAB}/closed/open", exist_ok=True)
    os.chmod(f"{L.LAB}/closed/open", 0o777)
    os.chmod(f"{L.LAB}/closed", 0o700)
    for engine in engines():
        contains(guest(lab, "read", "passwd", engine=engine, cwd="/etc").ok().out, "root:", engine)
        equal(listed(guest(lab, "ls", "/proc", engine=engine, cwd="/etc")), EMPTY, engine)
        equal(guest(lab, "read", "self/status", engine=engine, cwd="/proc").code, 1, f"{engine}: an image's working directory asks for nothing")
        # Only root may go there; the process is there before its user changes.
        name = f"by-{engine}"
        equal(guest(lab, "write", name, "x", engine=engine, cwd="/closed/open", also=as_user, mounts=[share]).code, 0, engine)
        check(os.path.exists(f"{L.LAB}/closed/open/{name}"), f"{engine}: a relative path")
        r = guest(lab, "write", "made", "x", engine=engine, cwd=f"/tmp/new-{engine}", mounts=[TMP])
        equal((r.code, r.err), (0, ""), f"{engine}: a directory that is made")


def test_mounts_are_part_of_it_also_later_ones(lab):
    """As a volume with mountPropagation: HostToContainer gets them."""
    share = f"{L.LAB}/late"
    os.makedirs(share, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "late", share], check=True)
    try:
        subprocess.run(["mount", "--make-shared", share], check=True)
        os.mkdir(share + "/below")
        volume = {"destination": "/late", "type": "bind", "source": share, "options": ["rbind", "rslave"]}
        cli = Cli(lab)
        id = cli.create("/app.wasm", "write", "/late/below/from-the-guest", "x", change=spec_with(mounts=[volume]))
        subprocess.run(["mount", "-t", "tmpfs", "later", share + "/below"], check=True)
        cli("start", id).ok()
        cli.until(id, "stopped")
        check(os.path.exists(share + "/below/from-the-guest"), "a mount of the host's came into the guest's view")
        cli.end(id)
    finally:
        subprocess.run(["umount", "-R", share], check=True)


def test_exec_of_both_kinds(lab):
    cli = Cli(lab)
    for kind in ("/app.wasm", "/bin/demo"):
        id = cli.running(kind, "sleep", "30")
        equal(listed(cli("exec", id, "/app.wasm", "ls", "/proc")), EMPTY, f"a guest in {kind}")
        check("1" in listed(cli("exec", id, "ls", "/proc")), f"a native program in {kind} has its procfs")
        equal(listed(cli("exec", "--cwd", "/etc", id, "/app.wasm", "ls", "/sys")), EMPTY, f"a guest in {kind}")
        cli.end(id)


def test_nothing_of_the_view_leads_elsewhere(lab):
    """Directories that the guest's process holds show no kernel files; it stays in the container's namespace."""
    cli = Cli(lab)
    id = cli.running("/app.wasm", "sleep", "30", change=lambda spec: spec["process"].update(cwd="/etc"))
    pid = cli.state(id)["pid"]

    eventually(lambda: "/etc" in inventory.descriptors(pid).values(), 5, "the guest has its directories")
    for n, path in inventory.descriptors(pid).items():
        if int(n) < 3 or not path.startswith("/") or path.endswith(".art"):
            continue
        check(os.path.isdir(f"/proc/{pid}/fd/{n}"), f"{n} is {path}")
        for name in ("proc", "sys", "../proc", "../sys"):
            there = f"/proc/{pid}/fd/{n}/{name}"
            check(not os.path.isdir(there) or os.listdir(there) == [], f"{n} ({path}) leads to {name}")
    namespaces = [path for path in inventory.descriptors(pid).values() if path.startswith("mnt:")]
    equal(len(namespaces), 1, f"its view is held by one descriptor: {namespaces}")
    own = os.readlink(f"/proc/{pid}/ns/mnt")
    check(own not in (namespaces[0], os.readlink("/proc/self/ns/mnt")), f"the guest is in {own}")
    with open(f"/proc/{pid}/mountinfo", encoding="utf-8") as f:
        check(any(line.split()[4] == "/proc" and " - proc " in line for line in f), "the container's namespace has its procfs")
    cli.end(id)


def test_in_other_namespaces_and_under_a_filter(lab):
    cli = Cli(lab)
    host = cli.running("/bin/demo", "sleep", "30")
    pid = cli.state(host)["pid"]

    def joined(spec):
        for ns in spec["linux"]["namespaces"]:
            if ns["type"] == "pid":
                ns["path"] = f"/proc/{pid}/ns/pid"

    def user_namespace(spec):
        spec["linux"]["namespaces"].append({"type": "user"})
        for key in ("uidMappings", "gidMappings"):
            spec["linux"][key] = [{"containerID": 0, "hostID": 100000, "size": 65536}]

    def without_openat2(spec):
        spec["linux"]["seccomp"] = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
            {"names": ["openat2"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38}]}
    for engine in engines():
        for change in (joined, user_namespace, without_openat2):
            equal(listed(guest(lab, "ls", "/proc", engine=engine, also=change, cwd="/etc")), EMPTY, engine)
            contains(guest(lab, "read", "passwd", engine=engine, also=change, cwd="/etc").ok().out, "root:", engine)
            contains(guest(lab, "ls", "/proc", engine=engine, also=change, kernel_files="on").ok().out, "self", engine)
    cli.end(host)


def test_of_a_user_who_is_not_root(lab):
    with user(lab) as me:
        for ranges in (False, True):
            for options, has in (({}, False), ({"amphora.dev/engine.kernel-files": "on"}, True)):
                id, path = me.bundle(*kind_args(WASM, "ls", "/proc"), ranges=ranges,
                                     change=lambda spec, options=options: spec.setdefault("annotations", {}).update(options))
                r = me("run", "-b", path, id)
                equal(("self" in r.ok().out.split(), r.err), (has, ""), f"ranges {ranges}, {options}")
